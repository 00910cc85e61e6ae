-- knbl.cluster.loopback - "nodes" and "pods" that are agents in this very process, on 127.0.0.1 and ::1: what a
-- generator reaches without a network. LuaJIT's default provider.
local machine = require "knbl.base.machine"

local M = {
  name = "loopback", one_machine = true, via = "loopback",
  cannot = {
    image = "loopback runs no images", command = "loopback runs no programs of your own",
    service = "loopback has no Services", exec = "loopback runs no programs beside its agents",
    create = "loopback creates no objects: it is not Kubernetes",
  },
}

local Provider = {}
Provider.__index = Provider
Provider.one_machine = true

local function endpoint(self, kind, name, node)
  local agent, err = self.core.agent { listen = "127.0.0.1:0", token = self.token, name = name, node = node }
  if not agent then return nil, err end
  self.agents[name] = agent
  return {
    kind = kind, name = name, node = node, addresses = { v4 = "127.0.0.1" }, port = agent:port(), token = self.token,
    control = { here = true, url = ("http://127.0.0.1:%d"):format(agent:port()) },
  }
end

function Provider:node(which)
  local name = type(which) == "number" and "node-" .. which or which
  return endpoint(self, "node", name, name)
end

function Provider:pod(t)
  if t.runtime and t.runtime ~= "runc" and t.runtime ~= "host" then
    return nil, { code = "skip", message = "loopback has no runtime " .. t.runtime }
  end
  return endpoint(self, "pod", t.name, t.node or "node-1")
end

function Provider:delete(name)
  local agent = self.agents[name]
  if agent then agent:close() end
  self.agents[name] = nil
  return true
end

function Provider:environment()
  local out = machine.environment()
  out.mtu, out.overlay = 65536, "none"
  return out
end

function Provider:close()
  for _, agent in pairs(self.agents) do agent:close() end
  self.agents = {}
end

function M.check(options)
  if not options.on then return true end
  return nil, { code = "usage", message = ("--on loopback takes no '%s'"):format(options.on) }
end

function M.open(options)
  return setmetatable({ core = options.core, token = options.token, agents = {} }, Provider)
end

return M
