-- knbl.cluster.encryption - encrypts what the lab's nodes send each other for their pods: by WireGuard in the kernel or
-- in user space (wireguard-go), or by IPsec (ESP in tunnel mode, AES-GCM with a key of the run's).
local M = {}

local PORT = 51820

-- Runs a line of shell on a node: its output, or nil and its last words.
local function sh(lab, node, line, ...)
  local ended, err = lab:exec(node, { "sh", "-c", (line):format(...) })
  if not ended then return nil, err.message end
  local text = ended.output:gsub("%s+$", "")
  if ended.status ~= 0 then return nil, text:match "[^\n]*$" end
  return text
end

-- The ranges of a node's pods: { family, range }…
local function ranges_of(lab, node)
  local list = {}
  for _, family in ipairs { 4, 6 } do
    local range = sh(lab, node, "ip -%d route show dev pods | grep -m1 -v '^fe80' | cut -d' ' -f1", family)
    if range and range ~= "" then list[#list + 1] = { family, range } end
  end
  return list
end

-- ---- WireGuard ----

-- The links of all nodes have names of their own, since wireguard-go keeps a socket for each in one folder.
local in_kernel = "ip link add %s type wireguard"
local in_user_space = [[
mkdir -p /run/wireguard
command -v wireguard-go >/dev/null || { echo 'wireguard-go is missing: install it'; exit 1; }
LOG_LEVEL=silent setsid wireguard-go -f %s >/dev/null 2>&1 </dev/null &
n=0; while [ $n -lt 100 ]; do [ -S /run/wireguard/%s.sock ] && exit 0; n=$((n + 1)); sleep 0.1; done
echo 'wireguard-go does not start'; exit 1]]
local set_up = [[
command -v wg >/dev/null || { echo 'wg is missing: install wireguard-tools'; exit 1; }
umask 77 && wg genkey >/run/%s.key && wg set %s listen-port %d private-key /run/%s.key; status=$?; rm -f /run/%s.key
[ $status = 0 ] && ip link set %s up && wg show %s public-key]]

local function make_link(lab, node, kind)
  local link = "wg" .. node.index
  local ok, err = sh(lab, node, kind == "wireguard" and in_kernel or in_user_space, link, link)
  if not ok then return nil, err end
  node.public_key, err = sh(lab, node, set_up, link, link, PORT, link, link, link, link)
  return node.public_key, err
end

local function add_peer(lab, here, there)
  local words, ranges = {}, ranges_of(lab, there)
  for i, range in ipairs(ranges) do words[i] = range[2] end
  local ok, err = sh(lab, here, "wg set wg%d peer %s endpoint %s:%d allowed-ips %s", here.index, there.public_key,
    there.addresses.v4 or "[" .. there.addresses.v6 .. "]", PORT, table.concat(words, ","))
  for _, range in ipairs(ok and ranges or {}) do
    -- a rule of its own, which comes before the route that the lab makes with the node's first pod
    if ok then
      ok, err = sh(lab, here, "ip -%d route replace %s dev wg%d table %d && ip -%d rule add to %s table %d", range[1],
        range[2], here.index, PORT, range[1], range[2], PORT)
    end
  end
  return ok, err
end

local function wireguard(lab, node, others, kind)
  node.index = #others + 1
  local ok, err = make_link(lab, node, kind)
  if not ok then return nil, err end
  for _, other in ipairs(others) do
    for _, pair in ipairs { { node, other }, { other, node } } do
      ok, err = add_peer(lab, pair[1], pair[2])
      if not ok then return nil, err end
    end
  end
  return true
end

-- ---- IPsec ----

-- What `a` is told of its tunnel to `b`; `spi`: the numbers of the packets to b and to a follow it. Both ends have the
-- same two states.
function M.ipsec_lines(a, b, ranges_a, ranges_b, key, spi)
  local lines = {}
  local function add(...) lines[#lines + 1] = "ip xfrm " .. (...):format(select(2, ...)) end
  local from, to = a.addresses.v4 or a.addresses.v6, b.addresses.v4 or b.addresses.v6
  for _, pair in ipairs { { from, to }, { to, from } } do
    add("state add src %s dst %s proto esp spi %d reqid %d mode tunnel aead 'rfc4106(gcm(aes))' 0x%s 128", pair[1],
      pair[2], spi + (pair[1] < pair[2] and 1 or 2), spi, key)
  end
  for i, there in ipairs(ranges_b) do
    local here = ranges_a[i][2]
    local template = ("tmpl src %%s dst %%s proto esp reqid %d mode tunnel"):format(spi)
    add("policy add src %s dst %s dir out " .. template, here, there[2], from, to)
    for _, dir in ipairs { "in", "fwd" } do
      add("policy add src %s dst %s dir %s " .. template, there[2], here, dir, to, from)
    end
  end
  return table.concat(lines, " && ")
end

local function ipsec(lab, node, others)
  for _, other in ipairs(others) do
    lab.associations = (lab.associations or 0) + 16
    local key = (lab.core.token() .. lab.core.token()):gsub("%X", ""):sub(1, 40)
    local to_node, to_other = ranges_of(lab, node), ranges_of(lab, other)
    for _, line in ipairs {
      { node, M.ipsec_lines(node, other, to_node, to_other, key, lab.associations) },
      { other, M.ipsec_lines(other, node, to_other, to_node, key, lab.associations) } } do
      local ok, err = sh(lab, line[1], "%s", line[2])
      if not ok then return nil, err end
    end
  end
  return true
end

-- ---- both ----

local makers = { wireguard = wireguard, ["wireguard-go"] = wireguard, ipsec = ipsec }

-- A node that was just made joins those before it. -> true | nil and why it cannot
function M.join(lab, node)
  local make = makers[lab.encryption]
  if not make then return true end
  if lab.unencrypted then return nil, lab.unencrypted end
  local others = {}
  for name, other in pairs(lab.made) do
    if name ~= node.name then others[#others + 1] = other end
  end
  local ok, err = make(lab, node, others, lab.encryption)
  if ok then return true end
  lab.unencrypted = ("encryption %s is not available here: %s"):format(lab.encryption, tostring(err))
  return nil, lab.unencrypted
end

return M
