-- knbl.cluster.plan - a cluster that exists in a plan only: scripts run over it to be checked, and to find out what
-- they would do.
local errors = require "knbl.base.errors"

local Provider = {}
Provider.__index = Provider

-- Addresses that nothing else of the plan has: a script may build URLs from them, and compare those.
local function addresses(self)
  self.made = self.made + 1
  return { v4 = ("198.18.%d.%d"):format(math.floor(self.made / 250) % 250, self.made % 250 + 1),
    v6 = ("2001:db8::%x"):format(self.made) }
end

local function endpoint(self, kind, name, node)
  return {
    kind = kind, name = name, node = node, addresses = addresses(self),
    port = 7099, token = "", control = { plan = true },
  }
end

local function add(self, kind, name, runtime)
  self.plan:add_thing(kind, name, self.costs[runtime] or self.costs[kind])
end

function Provider:node(which)
  if type(which) == "number" and which > (self.nodes or which) then
    return errors.skip(self.nodes == 1 and "there is %d node" or "there are %d nodes", self.nodes)
  end
  local name = type(which) ~= "number" and which or self.names[which] or "node-" .. which
  if not self.seen[name] then
    self.seen[name] = true
    add(self, "node", name)
  end
  local made = endpoint(self, "node", name, name)
  made.topology = self.labels_of and type(which) == "number" and self.labels_of(which) or nil
  return made
end

function Provider:pod(t)
  local reason = self.refuses and self.refuses(t)
  if reason then errors.misuse("pod: %s", reason) end
  add(self, "pod", t.name, t.runtime)
  return endpoint(self, "pod", t.name, t.node or "node-1")
end

function Provider:service(t)
  add(self, "service", t.name)
  local ips = addresses(self)
  return {
    name = t.name, addresses = ips, port = 7099, type = t.type, headless = t.headless,
    node_port = (t.type == "NodePort" or t.type == "LoadBalancer") and 30000 + self.made % 2768 or nil,
  }
end

-- A pod of a plan is on every network.
function Provider:networks(_, which)
  return { { name = which, interface = which, addresses = addresses(self) } }
end

function Provider:create(object) return object end
function Provider:policy() return true end
function Provider:delete() return true end
function Provider:environment() return {} end
function Provider:close() end

local M = {}

-- The things of a plan, for a provider that adds to them.
function M.of(plan) return setmetatable({ made = 0, seen = {}, names = {}, costs = {}, plan = plan }, Provider) end

-- A cluster as the provider of `module` would open it.
function M.open(options, module)
  local self = M.of(options.plan)
  self.costs, self.names = module.costs or {}, module.names_of and module.names_of(options) or {}
  self.labels_of = module.labels_of and module.labels_of(options)
  self.refuses = module.refuses and function(t) return module.refuses(options, t) end
  self.nodes = #self.names > 0 and #self.names or nil
  self.plan:add_cluster(module.name, self.costs.open)
  return self
end

return M
