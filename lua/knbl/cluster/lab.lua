-- knbl.cluster.lab - nodes, pods and Services made of namespaces, on this machine (src/lab/lab.h). Needs no cluster,
-- and no root where users may make namespaces. `--on lab:KEY=VALUE,…` overrides what the script asked of the lab: mtu,
-- overlay, families, services, mode, zones, racks.
local check = require "knbl.base.check"
local encryption = require "knbl.cluster.encryption"
local errors = require "knbl.base.errors"
local json = require "knbl.json"
local machine = require "knbl.base.machine"

local M = {
  name = "lab", pods_max = 1000, one_machine = true,
  enclosed = "the lab is a network of its own: it does not reach the hosts outside of it, nor they the lab",
  options = check.set "mtu pod_mtu overlay families services mode encryption zones racks",
  costs = { open = 0.3, node = 0.05, pod = 0.05, service = 0.02, gvisor = 0.5, kata = 3 },
  cannot = {
    image = "the lab has no images; name a server of your own with 'command' and 'port'",
    create = "the lab creates no objects: it is not Kubernetes",
    ExternalName = "the lab has no DNS that resolves an ExternalName; measure its name itself: to = \"http://NAME/\"",
  },
}

local shape = { "mtu", "overlay", "families", "services", "mode" }
local topology = { "zones", "racks" } -- of the nodes, which are dealt to the zones in turn
M.words = { "mtu", "overlay", "families", "services", "mode", "zones", "racks" }

local Provider = {}
Provider.__index = Provider
Provider.one_machine = true

-- What this machine does not support is skipped with the reason; other errors are raised.
local function refusal(err)
  if err.code == "unsupported" then return { code = "skip", message = err.message } end
  return err
end

local function ask(self, request)
  local text, err = self.lab:request(json.encode(request))
  if not text then return nil, refusal(err) end
  return json.decode(text)
end

-- {"10.244.0.2", "fd00::2"} as {v4 =, v6 =}; of several of a family (a headless Service), the first.
local function by_family(list)
  local addresses = {}
  for _, ip in ipairs(list) do
    local family = ip:find(":", 1, true) and "v6" or "v4"
    addresses[family] = addresses[family] or ip
  end
  return addresses
end

-- CPU and memory as the host sees them; nil where they are not known.
local function usage(endpoint) return ask(endpoint.lab, { op = "usage", name = endpoint.name }) end

-- Why a pod ended, with its last output; nil while it runs.
local function ended(endpoint)
  local found = ask(endpoint.lab, { op = "find", name = endpoint.name })
  if found then return nil end
  local status = ask(endpoint.lab, { op = "status" })
  for _, pod in ipairs(status and status.pods or {}) do
    if pod.name == endpoint.name and not pod.alive then
      local how = pod.exit > 128 and ("killed by signal %d"):format(pod.exit - 128) or "status " .. pod.exit
      return ("%s, %s%s%s"):format(pod.runtime, how, pod.out_of_memory and ", out of its memory" or "",
        pod.last and "; its last output: " .. pod.last or "")
    end
  end
end

local function endpoint_of(self, made)
  local networks = {}
  for i, network in ipairs(made.networks or {}) do
    networks[i] = { name = network.name, interface = network.interface, addresses = by_family(network.ip) }
  end
  return {
    kind = made.kind, name = made.name, node = made.node, addresses = by_family(made.ip), port = made.port,
    runtime = made.runtime, mtu = made.mtu, interface = made.interface,
    control = { url = "http://" .. made.name, unix = made.control }, token = self.token, lab = self,
    sandbox = made.sandbox, label = made.sandbox and made.sandbox.label, started_ms = made.started_ms,
    memory_bytes = made.memory_bytes, usage = usage, ended = ended, networks = networks,
  }
end

-- ---- nodes ----

local function node_name(self, which)
  if type(which) == "number" then
    return self.node_names and self.node_names[which] or not self.node_names and "node-" .. which or nil
  end
  for _, name in ipairs(self.node_names or {}) do
    if name == which then return which end
  end
  local number = not self.node_names and tonumber(which:match "^node%-([1-9]%d*)$")
  return number and number <= self.count and which or nil
end

local function no_node(self, which)
  local names = self.node_names or {}
  for i = #names + 1, self.count do names[i] = "node-" .. i end
  if type(which) == "number" then return errors.skip("the lab has %d node%s", #names, #names == 1 and "" or "s") end
  return nil, errors.new("argument", ("the lab has no node '%s'%s"):format(which, errors.hint(self.core, which, names)))
end

-- The node's own agent, if it runs already.
function Provider:standing_node(name) return self.made[name] end

-- The labels of the node of that number: zones a, b, … in turn, and racks a1, a2, … of each zone in turn.
local function labels_of(self, number)
  local zones, racks = self.zones, self.racks
  if not number or not zones and not racks then return nil end
  local labels, place = {}, (number - 1) % (zones or 1) + 1
  local zone = zones and ("abcdefghijklmnopqrstuvwxyz"):sub(place, place) or ""
  if zones then labels["topology.kubernetes.io/zone"] = zone end
  if racks then
    labels["topology.kubernetes.io/rack"] = ("rack-%s%d"):format(zone,
      math.floor((number - 1) / (zones or 1)) % racks + 1)
  end
  return labels
end

local function number_of(self, name)
  for i, known in ipairs(self.node_names or {}) do
    if known == name then return i end
  end
  return tonumber(name:match "^node%-(%d+)$")
end

-- Nodes are made when they are first used: as many as `nodes` says, or as many as are asked for.
function Provider:node(which)
  if type(which) == "number" and not self.node_names and not self.limited then
    self.count = math.max(self.count, which)
  end
  local name = node_name(self, which)
  if not name or type(which) == "number" and which > self.count then return no_node(self, which) end
  if not self.made[name] then
    local made, err = ask(self, { op = "node", name = name })
    if not made then return nil, err end
    self.made[name] = endpoint_of(self, made)
    self.made[name].topology = labels_of(self, number_of(self, name))
    self.load[name] = self.load[name] or 0
    local ok
    ok, err = encryption.join(self, self.made[name])
    if not ok then return nil, { code = "skip", message = err } end
  end
  return self.made[name]
end

-- For a pod without a node of its own: the node with the fewest pods.
local function least_loaded(self)
  local best
  for i = 1, self.count do
    local name = node_name(self, i)
    if not best or (self.load[name] or 0) < (self.load[best] or 0) then best = name end
  end
  return best
end

-- ---- pods and Services ----

-- A lab has no namespaces: NAME[@INTERFACE] of each network.
local function bare(networks)
  if not networks then return nil end
  local names = {}
  for i, name in ipairs(networks) do names[i] = name:gsub("^[^/]*/", "") end
  return names
end

-- The pod's interfaces beside eth0.
function Provider.networks(_, endpoint) return endpoint.networks end

local function pod_request(self, t, node)
  return {
    op = "pod", name = t.name, node = node, runtime = t.runtime, mtu = t.mtu or self.pod_mtu,
    bandwidth = t.bandwidth or self.bandwidth, cpu = t.cpu or self.cpu, memory = t.memory or self.memory, port = t.port,
    command = t.command, hardened = t.hardened, vm = t.vm, networks = bare(t.networks),
  }
end

-- How a runtime runs, for the environment: known after its first pod.
local function describe(sandbox)
  local words = {}
  for _, key in ipairs { "version", "platform", "network" } do words[#words + 1] = sandbox[key] end
  return table.concat(words, ", ")
end

function Provider:pod(t)
  local node, err = self:node(t.node or least_loaded(self))
  if not node then return nil, err end
  local request = pod_request(self, t, node.name)
  if t.runtime == "host" then request.mtu, request.bandwidth = t.mtu, t.bandwidth end
  local made
  made, err = ask(self, request)
  if not made then return nil, err end
  self.load[node.name] = self.load[node.name] + 1
  self.pods[made.name] = node.name
  self.runtimes[made.runtime] = describe(made.sandbox)
  return endpoint_of(self, made)
end

-- The lab gives LoadBalancers their addresses itself: from ranges that are nobody's (RFC 5737, RFC 3849). Each node
-- takes them as an external IP, as kube-proxy does.
local function balance(self, t)
  local ips = {}
  for i, ip in ipairs(t.external_ips or {}) do ips[i] = ip end
  if t.type ~= "LoadBalancer" then return ips, nil end
  self.balanced = (self.balanced or 0) + 1
  if self.balanced > 250 then return nil, { code = "limit", message = "a lab gives addresses to 250 LoadBalancers" } end
  local addresses = { v4 = "203.0.113." .. self.balanced, v6 = ("2001:db8:113::%x"):format(self.balanced) }
  for family, ip in pairs(addresses) do
    if t.endpoints[1].addresses[family] then ips[#ips + 1] = ip else addresses[family] = nil end
  end
  return ips, addresses
end

function Provider:service(t)
  local ips, given = balance(self, t)
  if not ips then return nil, given end
  local names = {}
  for i, endpoint in ipairs(t.endpoints) do names[i] = endpoint.name end
  local made, err = ask(self, {
    op = "service", name = t.name, type = given and "NodePort" or t.type, headless = t.headless,
    affinity = t.affinity, endpoints = names,
    external_traffic_policy = t.external_traffic_policy, external_ips = #ips > 0 and ips or nil,
    ports = t.ports or t.port and { { port = t.port } } or nil,
  })
  if not made then return nil, err end
  return {
    name = made.name, addresses = given or by_family(made.ip),
    port = made.headless and t.endpoints[1].port or made.port,
    node_port = made.node_port, type = t.type, headless = made.headless,
  }
end

local function names_in(list)
  local names = {}
  for i, end_of in ipairs(list) do names[i] = type(end_of) == "table" and end_of.name or end_of end
  return names
end

function Provider:policy(t)
  return ask(self, { op = "policy", name = t.name, to = names_in(t.to), from = json.array(names_in(t.from)),
    copies = t.copies })
end

function Provider:delete(name)
  local gone, err = ask(self, { op = "delete", name = name })
  if not gone then return nil, err end
  local node = self.pods[name]
  if node then self.load[node] = self.load[node] - 1 end
  self.pods[name] = nil
  return true
end

-- In its namespaces; a sandbox has none that could be entered.
function Provider:exec(endpoint, argv)
  local runtime = endpoint.runtime
  if runtime and runtime ~= "runc" and runtime ~= "host" then
    return errors.skip("%s runs in %s: programs can run on nodes, and in pods with the runtime runc or host",
      endpoint.name, runtime)
  end
  return ask(self, { op = "exec", ["in"] = endpoint.name, argv = argv, capture = true })
end

-- Anything else that a lab offers: links, backends, status.
function Provider:request(request)
  return ask(self, request)
end

-- ---- the lab itself ----

function Provider:environment()
  local status = ask(self, { op = "status" })
  local lab = status and status.lab or {}
  local out = machine.environment()
  out.mtu, out.pod_mtu, out.overlay, out.families, out.idle_services = lab.mtu, lab.pod_mtu, lab.overlay, lab.families,
    lab.services
  out.proxy_mode, out.runtimes = lab.mode and "nftables, " .. lab.mode, self.runtimes
  return out
end

function Provider:close()
  self.lab:close()
end

-- ---- its options ----

-- The options that the native side takes and checks: the keys of knbl.cluster{…}, then, unless `of_script`, those of
-- --on lab:KEY=VALUE,… -> options, or nil and an error
local function options_of(options, of_script)
  local wanted, known = {}, {}
  for _, key in ipairs(shape) do wanted[key], known[key] = options[key], true end
  for _, key in ipairs(topology) do known[key] = true end
  for _, pair in ipairs(of_script and {} or options.pairs) do
    local key, value = pair[1], pair[2]
    local hint = key == "nodes" and "; the number of nodes is --nodes N" or errors.hint(options.core, key, M.words)
    local wrong = not known[key] and ("unknown option '%s'%s"):format(key, hint)
      or not value and key .. " needs a value"
    if wrong then return nil, { code = "usage", message = "--on lab: " .. wrong } end
    if not (key == "zones" or key == "racks") then wanted[key] = tonumber(value) or value end
  end
  return wanted
end

-- How many zones (racks of each) the nodes have: of --on lab:zones=N, else of the script. nil, or nil and an error.
local function topology_of(options, key, most)
  local value, given = options[key], false
  for _, pair in ipairs(options.pairs or {}) do
    if pair[1] == key then value, given = tonumber(pair[2]) or pair[2], true end
  end
  if value == nil then return nil end
  if type(value) ~= "number" or value ~= math.floor(value) or value < 1 or value > most then
    return nil, { code = given and "usage" or "argument", message = ("%s%s must be a whole number from 1 to %d, got %s")
      :format(given and "--on lab: " or "", key, most, tostring(value)) }
  end
  return value
end

-- The labels of a lab's nodes before there is one: a function of the node's number.
function M.labels_of(options)
  local shape_of = { zones = topology_of(options, "zones", 26), racks = topology_of(options, "racks", 1000) }
  return function(number) return labels_of(shape_of, number) end
end

-- LuaJIT's library has no lab, and so no check.
function M.check(options)
  for key, most in pairs { zones = 26, racks = 1000 } do
    local _, wrong = topology_of(options, key, most)
    if wrong then return nil, wrong end
  end
  local check_natively = options.core.lab_check or function() return true end
  local ok, err = check_natively(json.encode(options_of(options, true)))
  if not ok and err.code == "argument" then return nil, err end
  local wanted
  wanted, err = options_of(options)
  if not wanted then return nil, err end
  ok, err = check_natively(json.encode(wanted))
  if not ok and err.code == "argument" then return nil, { code = "usage", message = "--on lab: " .. err.message } end
  return true
end

-- Why the lab that `options` describe cannot make a pod, as far as they tell; nil if it can.
function M.refuses(options, t)
  local wanted = options_of(options)
  local least, most = tostring(wanted.families) == "4" and 576 or 1280, tonumber(wanted.mtu) or 1500
  if t.mtu == nil or t.runtime == "host" or t.mtu >= least and t.mtu <= most then return nil end
  return ("mtu must be from %d to %d in this lab, got %d"):format(least, most, t.mtu)
end

-- The names of its nodes, where they are limited.
function M.names_of(options)
  local names = options.settings and options.settings.node_names or {}
  for i = #names + 1, options.nodes or 0 do names[i] = "node-" .. i end
  return names
end

function M.open(options)
  if not options.core.lab then -- libknbl.so, which LuaJIT has, measures alone
    return nil, { code = "unavailable",
      message = "LuaJIT has no lab; run the script with knbl or lua5.4, or use --on hosts:… or --on loopback" }
  end
  local wanted = options_of(options)
  wanted.token = options.token
  local lab, err = options.core.lab(json.encode(wanted))
  if not lab then return nil, err end
  local names = options.settings and options.settings.node_names
  return setmetatable({
    lab = lab, core = options.core, token = options.token, made = {}, load = {}, pods = {}, runtimes = {},
    node_names = names, limited = options.nodes ~= nil, count = names and #names or options.nodes or 2,
    nodes = names and #names or nil, pod_mtu = options.pod_mtu, bandwidth = options.bandwidth, cpu = options.cpu,
    encryption = options.encryption, memory = options.memory, zones = topology_of(options, "zones", 26),
    racks = topology_of(options, "racks", 1000),
  }, Provider)
end

return M
