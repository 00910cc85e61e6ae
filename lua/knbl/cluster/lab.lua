-- knbl.cluster.lab - nodes, pods and Services made of namespaces, on this machine (src/lab/lab.h). Needs no cluster, and no root where
-- users may make namespaces. `--on lab:KEY=VALUE,…` overrides what the script asked of the lab: mtu, overlay, families, services, mode.
local errors = require "knbl.errors"
local json = require "knbl.json"
local machine = require "knbl.machine"

local M = {
  name = "lab", options = { families = true }, pods_max = 1000,
  choices = { overlay = { "none", "vxlan" }, mode = { "maps", "chains" }, families = { "dual", "4", "6" } },
}

local Provider = {}
Provider.__index = Provider
Provider.one_machine = true

local lab_keys = { "mtu", "overlay", "families", "services", "mode" }
local numbers = { mtu = true, services = true }

-- What cannot be had here is skipped with its reason; the rest is wrong, or broken.
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

-- How the host sees it; nil where that cannot be told.
local function usage(endpoint) return ask(endpoint.lab, { op = "usage", name = endpoint.name }) end

-- Why a pod is no more, with the last that it wrote; nil while it is there.
local function ended(endpoint)
  local found = ask(endpoint.lab, { op = "find", name = endpoint.name })
  if found then return nil end
  local status = ask(endpoint.lab, { op = "status" })
  for _, pod in ipairs(status and status.pods or {}) do
    if pod.name == endpoint.name and not pod.alive then
      return ("%s, status %d%s%s"):format(pod.runtime, pod.exit, pod.out_of_memory and ", out of its memory" or "",
        pod.last and ": " .. pod.last or "")
    end
  end
end

local function endpoint_of(self, made)
  return {
    kind = made.kind, name = made.name, node = made.node, addresses = by_family(made.ip), port = made.port, runtime = made.runtime, mtu = made.mtu,
    interface = made.interface, control = { url = "http://" .. made.name, unix = made.control }, token = self.token, lab = self,
    sandbox = made.sandbox, label = made.sandbox and made.sandbox.label, started_ms = made.started_ms, memory_bytes = made.memory_bytes,
    usage = usage, ended = ended,
  }
end

-- ---- nodes ----

local function node_name(self, which)
  if type(which) == "number" then return self.node_names and self.node_names[which] or not self.node_names and "node-" .. which or nil end
  for _, name in ipairs(self.node_names or {}) do
    if name == which then return which end
  end
  local number = not self.node_names and tonumber(which:match "^node%-([1-9]%d*)$")
  return number and number <= self.count and which or nil
end

local function no_node(self, which)
  local names = self.node_names or {}
  for i = #names + 1, self.count do names[i] = "node-" .. i end
  if type(which) == "number" then
    return nil, { code = "skip", message = ("the lab has %d node%s"):format(#names, #names == 1 and "" or "s") }
  end
  return nil, errors.new("argument", ("the lab has no node '%s'%s"):format(which, errors.hint(self.core, which, names)))
end

-- The node's own agent, where it is there already.
function Provider:standing_node(name) return self.made[name] end

-- The first two stand ready, as many as were asked for may be had; without a number, as many as one likes.
function Provider:node(which)
  if type(which) == "number" and not self.node_names and not self.limited then self.count = math.max(self.count, which) end
  local name = node_name(self, which)
  if not name or type(which) == "number" and which > self.count then return no_node(self, which) end
  if not self.made[name] then
    local made, err = ask(self, { op = "node", name = name })
    if not made then return nil, err end
    self.made[name] = endpoint_of(self, made)
    self.load[name] = self.load[name] or 0
  end
  return self.made[name]
end

-- For a pod that does not care: the node with the fewest pods.
local function least_loaded(self)
  local best
  for i = 1, self.count do
    local name = node_name(self, i)
    if not best or (self.load[name] or 0) < (self.load[best] or 0) then best = name end
  end
  return best
end

-- ---- pods and Services ----

local function pod_request(self, t, node)
  return {
    op = "pod", name = t.name, node = node, runtime = t.runtime, mtu = t.mtu or self.pod_mtu,
    bandwidth = t.bandwidth or self.bandwidth, cpu = t.cpu or self.cpu, memory = t.memory or self.memory, port = t.port, command = t.command, hardened = t.hardened,
    vm = t.vm,
  }
end

-- How a runtime ran, for the environment: known with its first pod.
local function describe(sandbox)
  local words = {}
  for _, key in ipairs { "version", "platform", "network" } do words[#words + 1] = sandbox[key] end
  return table.concat(words, ", ")
end

function Provider:pod(t)
  if t.image and not t.command then
    return nil, { code = "skip", message = "the lab has no images: name a server of your own with 'command' and 'port'" }
  end
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

function Provider:service(t)
  local names = {}
  for i, endpoint in ipairs(t.endpoints) do names[i] = endpoint.name end
  local made, err = ask(self, {
    op = "service", name = t.name, type = t.type, headless = t.headless, affinity = t.affinity, endpoints = names,
    external_traffic_policy = t.external_traffic_policy,
    ports = t.ports or t.port and { { port = t.port } } or nil,
  })
  if not made then return nil, err end
  return {
    name = made.name, addresses = by_family(made.ip), port = made.headless and t.endpoints[1].port or made.port, node_port = made.node_port,
    type = made.type, headless = made.headless,
  }
end

function Provider:delete(name)
  local gone, err = ask(self, { op = "delete", name = name })
  if not gone then return nil, err end
  local node = self.pods[name]
  if node then self.load[node] = self.load[node] - 1 end
  self.pods[name] = nil
  return true
end

-- In its namespaces; a sandbox has none of its own that could be entered.
function Provider:exec(endpoint, argv)
  local runtime = endpoint.runtime
  if runtime and runtime ~= "runc" and runtime ~= "host" then
    return nil, { code = "skip", message = ("%s is in %s: programs run in pods of runc and host, and on nodes"):format(endpoint.name, runtime) }
  end
  return ask(self, { op = "exec", ["in"] = endpoint.name, argv = argv, capture = true })
end

-- Anything else that a lab can do: links, backends, status.
function Provider:request(request)
  return ask(self, request)
end

-- ---- the lab itself ----

function Provider:environment()
  local status = ask(self, { op = "status" })
  local lab = status and status.lab or {}
  local out = machine.environment()
  out.mtu, out.pod_mtu, out.overlay, out.families, out.idle_services = lab.mtu, lab.pod_mtu, lab.overlay, lab.families, lab.services
  out.proxy_mode, out.runtimes = lab.mode and "nftables, " .. lab.mode, self.runtimes
  return out
end

function Provider:close()
  self.lab:close()
end

-- The keys of knbl.cluster{…}, then those of the command line.
local function options_of(options)
  local wanted = { token = options.token }
  for _, key in ipairs(lab_keys) do wanted[key] = options[key] end
  if options.ip and not wanted.families then wanted.families = tostring(options.ip) end
  for _, pair in ipairs(options.pairs or {}) do
    local key, value = pair[1], pair[2]
    local known = false
    for _, name in ipairs(lab_keys) do known = known or name == key end
    if not known then errors.usage("--on lab: no option '%s'%s", key, errors.hint(options.core, key, lab_keys)) end
    if not value or numbers[key] and not tonumber(value) then errors.usage("--on lab: %s needs a value", key) end
    wanted[key] = numbers[key] and tonumber(value) or value
  end
  return wanted
end

function M.open(options)
  if not options.core.lab then -- libknbl.so, which LuaJIT has, measures alone
    return nil, { code = "unavailable", message = "it takes knbl itself or lua5.4; LuaJIT measures over hosts and loopback (--on hosts:…, --on loopback)" }
  end
  local lab, err = options.core.lab(json.encode(options_of(options)))
  if not lab then return nil, err end
  local names = options.settings and options.settings.node_names
  return setmetatable({
    lab = lab, core = options.core, token = options.token, made = {}, load = {}, pods = {}, runtimes = {}, node_names = names, limited = options.nodes ~= nil,
    count = names and #names or options.nodes or 2, nodes = names and #names or nil, pod_mtu = options.pod_mtu, bandwidth = options.bandwidth,
    cpu = options.cpu, memory = options.memory,
  }, Provider)
end

return M
