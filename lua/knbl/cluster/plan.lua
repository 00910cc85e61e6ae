-- knbl.cluster.plan - a cluster that is only thought of: scripts run over it to be checked, and to find out what they would do.
local M = { name = "plan" }

-- About how many seconds it takes to open a cluster and to make each thing: what a plan says, and no promise. A node's own agent comes with its first use.
local costs = {
  lab = { open = 0.3, node = 0.05, pod = 0.05, service = 0.02, gvisor = 0.5, kata = 3, ["kata-clh"] = 1, ["kata-fc"] = 1 },
  k8s = { open = 2, node = 4, pod = 4, service = 2 },
  hosts = { open = 0.2 },
}

local Provider = {}
Provider.__index = Provider

local function cost(self, kind, runtime)
  local list = costs[self.provider] or {}
  return list[runtime] or list[kind] or 0
end

local function endpoint(self, kind, name, node)
  self.made = self.made + 1
  local low = self.made % 250 + 1
  return {
    kind = kind, name = name, node = node, addresses = { v4 = "192.0.2." .. low, v6 = "2001:db8::" .. low }, port = 7099, token = "",
    control = { plan = true },
  }
end

function Provider:node(which)
  local name = type(which) == "number" and self.names[which] or type(which) == "number" and "node-" .. which or which
  if not self.seen[name] then
    self.seen[name] = true
    self.plan:add_thing("node", name, cost(self, "node"))
  end
  return endpoint(self, "node", name, name)
end

function Provider:pod(t)
  self.plan:add_thing("pod", t.name, cost(self, "pod", t.runtime))
  return endpoint(self, "pod", t.name, t.node or "node-1")
end

function Provider:service(t)
  self.plan:add_thing("service", t.name, cost(self, "service"))
  return {
    name = t.name, addresses = { v4 = "198.51.100.1", v6 = "2001:db8::ffff" }, port = 7099,
    node_port = t.type == "NodePort" and 30099 or nil, type = t.type, headless = t.headless,
  }
end

function Provider:create(object) -- luacheck: no self
  return object
end

function Provider:delete() -- luacheck: no self
  return true
end

function Provider:environment() -- luacheck: no self
  return {}
end

function Provider:close() -- luacheck: no self
end

-- The things of a plan alone, for those who put more to them.
function M.of(plan) return setmetatable({ made = 0, seen = {}, names = {}, plan = plan }, Provider) end

-- `--on hosts:a=…,b=…` names the nodes; so does the plan.
function M.open(options)
  local names = {}
  if options.provider == "hosts" then
    for i, pair in ipairs(options.pairs) do names[i] = pair[2] and pair[1] or "host-" .. i end
  end
  options.plan:add_cluster(options.provider, (costs[options.provider] or {}).open)
  return setmetatable({
    provider = options.provider, made = 0, seen = {}, names = names, nodes = #names > 0 and #names or nil, plan = options.plan,
    via = options.provider == "loopback" and "loopback" or nil,
  }, Provider)
end

return M
