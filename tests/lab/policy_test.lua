-- Policies and encryption in the lab: what gets through, and that it goes where it should.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"

TestPolicies = {}

local start = [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local a, b = cluster:nodes(2)
local client, near, far = cluster:pod { name = "client", node = a }, cluster:pod { name = "near", node = a },
  cluster:pod { name = "far", node = b }
local function try(case, from, to, t)
  local ask = { case = case, from = from, to = to, duration = "300ms", timeout = "100ms", rate = "100/s",
    monitor = false }
  for key, value in pairs(t or {}) do ask[key] = value end
  return knbl.probe(ask)
end
-- One operation that succeeds, however long it takes.
local function lets_in(case, from, to, t)
  local test = t and t.kind == "udp" and knbl.udp_rr or knbl.tcp_crr
  test { case = case, from = from, to = to, ip = t and t.ip, count = 1, timeout = "10s", monitor = false }
end
local function denies(case, from, to, t)
  t = t or {}
  t.expect = "unreachable"
  try(case, from, to, t)
end
]]

local function run(body)
  local code, out, err = fake.knbl(start .. body, { "--json", "-", "-q", "--no-ceiling" }, core)
  fake.need_lab(err)
  local data = json.decode(out)
  for _, e in ipairs(data.expectations or {}) do lu.assertEquals(e.status, "pass", json.encode(e)) end
  lu.assertEquals(code, 0, err)
  return data
end

function TestPolicies:test_only_what_a_policy_names_gets_in()
  run [[
lets_in("without a policy", client, far)
local others = cluster:policy { to = far, from = "192.0.2.0/24", copies = 20 }
denies("another's policy", client, far)
denies("by IPv6", client, far, { ip = 6 })
denies("datagrams", client, far, { kind = "udp" })
denies("through a Service", client, far:service())
lets_in("from its own node", b, far)
lets_in("outwards", far, client)
local own = cluster:policy { to = far, from = { client, b } }
lets_in("the client's policy", client, far)
lets_in("the client's policy by IPv6", client, far, { ip = 6 })
lets_in("the client's policy for datagrams", client, far, { kind = "udp" })
denies("another pod", near, far)
lets_in("another server", near, client)
cluster:delete(own)
denies("a policy that is gone", client, far)
cluster:delete(others)
lets_in("no policy any more", near, far)
]]
end

function TestPolicies:test_pods_of_one_node_and_of_several()
  run [[
local policy = cluster:policy { to = { near, far }, from = "10.244.0.0/14" }
lets_in("a range, same node", client, near, { ip = 4 })
lets_in("a range, other node", client, far, { ip = 4 })
denies("outside of it, same node", client, near, { ip = 6 })
denies("outside of it, other node", client, far, { ip = 6 })
cluster:delete(policy)
lets_in("no policy", client, near, { ip = 6 })
]]
end

local function refuses(text, call)
  local code, _, err = fake.knbl(start .. call, { "-q" }, core)
  fake.need_lab(err)
  lu.assertNotEquals(code, 0)
  lu.assertStrContains(err, text)
end

function TestPolicies:test_refusals()
  refuses("policy: to is required: the pods that it selects", "cluster:policy { from = client }")
  refuses("policy: to[1] must be a pod, got a node", "cluster:policy { to = a }")
  refuses("policy: from[1] must be a pod, a node or a range such as \"10.0.0.0/8\", got 'x'",
    "cluster:policy { to = far, from = 'x' }")
  refuses("'300.0.0.0/8' must be a pod, a node or a range", "cluster:policy { to = far, from = '300.0.0.0/8' }")
  refuses("policy: copies must be a whole number from 1 to 10000, got 0", "cluster:policy { to = far, copies = 0 }")
  refuses("policy 'p' selects pod 'far'", "cluster:policy { name = 'p', to = far } cluster:delete(far)")
  refuses("the name 'far' is already used", "cluster:policy { name = 'far', to = far }")
end

TestReady = {}

-- A policy that denies, and its end: seen from another node and from the same one. On a busy machine a server may stand
-- still for more than 100 ms, so attempts have a second.
function TestReady:test_a_policy_is_known_to_both_nodes()
  local data = run [[
local policy
local function change(name, act)
  knbl.ready { case = name, from = { client, cluster:pod { node = b } }, to = far, before = "100ms", settle = "300ms",
    timeout = "1s", rate = "200/s", change = act }
end
change("deny", function() policy = cluster:policy { to = far } end)
change("allow", function() cluster:delete(policy) end)
]]
  for _, m in ipairs(data.measurements) do
    local ready = m.metrics.ready
    lu.assertEquals(ready.state, m.case:find "^deny, from " and "closed" or "open")
    lu.assertTrue(ready.change > 0)
    -- a rule is in force before the call returns, so nothing leaks once it has
    lu.assertTrue(ready.last <= ready.change + 0.002, ("%s: %g, the call took %g"):format(m.case, ready.last,
      ready.change))
  end
end

-- A program that would run for ever ends with the time that the change has.
function TestReady:test_a_program_in_a_pod_ends_in_time()
  local before = core.now()
  local code, _, err = fake.knbl(start .. [[
knbl.probe { from = client, to = far, duration = "1s", during = function() client:exec { "sleep", "600" } end }
]], { "-q" }, core)
  fake.need_lab(err)
  lu.assertEquals(code, 1)
  lu.assertStrContains(err, "during did not return within the measurement's duration of 1 s")
  lu.assertTrue(core.now() - before < 60)
end

-- What an hour would take: monitor samples and intervals by their measured sizes.
function TestReady:test_the_ledger_of_an_hour_is_below_a_megabyte()
  local data = run [[knbl.probe { from = client, to = far:service(), duration = "1s" }]]
  local m = data.measurements[1]
  local samples = #m.monitor[1].t
  local observe = require "knbl.measure.observe"
  local hour = 3600e9 / observe.interval_ns(3600)
  local size = #json.encode(m.monitor) / samples * hour
    + #json.encode(m.metrics.intervals) / #m.metrics.intervals * 3600
    + #json.encode(m)
  lu.assertTrue(size < 1e6, ("%.0f bytes: %.0f samples of the monitor, %.0f bytes each"):format(size, hour,
    #json.encode(m.monitor) / samples))
end

TestEncryption = {}

local between = [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster { encryption = "%s" }
local client, server = cluster:pair()
for _, ip in ipairs { 4, 6 } do
  local r = knbl.tcp_stream { from = client, to = server, ip = ip, duration = "300ms", warmup = 0 }
  if r.ok then
    local said = client.node:exec { "wg", "show", "all", "transfer" }
    knbl.note { bytes = r.metrics.bytes, sent = tonumber(said and said:match "(%%d+)%%s*$") }
  end
end
]]

-- Every byte that arrives was sent by the encrypted link.
function TestEncryption:test_wireguard_carries_the_traffic()
  local code, out, err = fake.knbl(between:format "wireguard-go", { "--json", "-", "-q", "--no-ceiling" }, core)
  fake.need_lab(err)
  local data = json.decode(out)
  lu.skipIf(data.measurements[1].skipped, data.measurements[1].skipped)
  lu.assertEquals(code, 0, err)
  local sum = 0
  for i, note in ipairs(data.notes) do
    lu.assertTrue(data.measurements[i].ok)
    sum = sum + note.bytes
    lu.assertTrue(note.sent >= sum, ("%d bytes by the link, %d measured"):format(note.sent, sum))
  end
  lu.assertEquals(#data.notes, 2)
end

-- Both ends of a tunnel must have the same two states, and each other's policies the other way round.
function TestEncryption:test_the_ends_of_an_ipsec_tunnel_fit()
  local lines = require("knbl.cluster.encryption").ipsec_lines
  local a, b = { addresses = { v4 = "10.0.0.1" } }, { addresses = { v4 = "10.0.0.2" } }
  local ranges_a, ranges_b = { { 4, "10.1.0.0/24" }, { 6, "fd01::/64" } }, { { 4, "10.2.0.0/24" }, { 6, "fd02::/64" } }
  local function sorted(text, what)
    local list = {}
    for line in (text .. " && "):gmatch "(.-) && " do
      if line:find(what, 1, true) then list[#list + 1] = line end
    end
    table.sort(list)
    return list
  end
  local at_a, at_b = lines(a, b, ranges_a, ranges_b, "ab", 16), lines(b, a, ranges_b, ranges_a, "ab", 16)
  lu.assertEquals(sorted(at_a, "state add"), sorted(at_b, "state add"))
  lu.assertEquals(#sorted(at_a, "state add"), 2)
  local out = sorted(at_a, " dir out ")
  for i, line in ipairs(sorted(at_b, " dir in ")) do lu.assertEquals((line:gsub(" dir in ", " dir out ")), out[i]) end
  lu.assertEquals(#out, 2)
end

-- What the kernel does not have is skipped with the kernel's words; what it has carries traffic.
function TestEncryption:test_what_is_missing_is_a_reason()
  for _, kind in ipairs { "wireguard", "ipsec" } do
    local _, out, err = fake.knbl(between:format(kind), { "--json", "-", "-q", "--no-ceiling" }, core)
    fake.need_lab(err)
    for _, m in ipairs(json.decode(out).measurements) do
      lu.assertTrue(m.ok or m.skipped ~= nil, m.error and m.error.message)
      if m.skipped then lu.assertStrMatches(m.skipped, "encryption " .. kind .. " is not available here: %g.+") end
    end
  end
end

os.exit(lu.LuaUnit.run())
