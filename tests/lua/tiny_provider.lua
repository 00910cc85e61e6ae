-- A provider of the smallest kind: nodes and pods are agents in this process, on 127.0.0.1; a Service is the address of
-- its first endpoint. CONTRIBUTING.md names it; provider_test.lua runs a scenario on it.
local machine = require "knbl.base.machine"

local M = {
  name = "tiny", pods_max = 20,
  cannot = {
    image = "tiny runs no images", command = "tiny runs no programs", runtime = "tiny has no runtimes",
    exec = "tiny runs no programs", create = "tiny creates no objects: it is not Kubernetes",
  },
}

local Cluster = {}
Cluster.__index = Cluster

local function endpoint(self, kind, name, node)
  local agent, err = self.core.agent { listen = "127.0.0.1:0", token = self.token, name = name, node = node }
  if not agent then return nil, err end
  self.agents[name] = agent
  return {
    kind = kind, name = name, node = node, addresses = { v4 = "127.0.0.1" }, port = agent:port(), token = self.token,
    control = { here = true }, runtime = "runc",
  }
end

function Cluster:node(which)
  local name = type(which) == "number" and "node-" .. which or which
  return endpoint(self, "node", name, name)
end

function Cluster:pod(t) return endpoint(self, "pod", t.name, t.node or "node-1") end

function Cluster:service(t)
  local first = t.endpoints[1]
  return { name = t.name, addresses = first.addresses, port = first.port, type = t.type, headless = t.headless }
end

function Cluster:delete(name)
  if self.agents[name] then self.agents[name]:close() end
  self.agents[name] = nil
  return true
end

function Cluster:environment() return machine.environment() end

function Cluster:close()
  for name in pairs(self.agents) do self:delete(name) end
end

function M.open(options)
  return setmetatable({ core = options.core, token = options.token, agents = {} }, Cluster)
end

return M
