-- knbl.kube.standing: agents that stand in a cluster already (deploy/agents, or manifests that were applied by
-- hand), for a run that may or should make no pods of its own. Each stands for one pod of the scenario at a time; those
-- in a node's network stand for the node.
local core = require "knbl.core"
local errors = require "knbl.base.errors"
local explain = require "knbl.kube.explain"
local manifest = require "knbl.kube.manifest"
local pods = require "knbl.kube.pods"

local M = {}
local Standing = {}
Standing.__index = Standing

-- ---- who stands there ----

-- The container that is an agent: by its words, by its port's name, or the first.
local function agent_container(pod)
  for _, container in ipairs(pod.spec.containers) do
    if container.args and container.args[1] == "agent" or container.command and container.command[2] == "agent" then
      return container
    end
    for _, port in ipairs(container.ports or {}) do
      if port.name == "knbl-tcp" then return container end
    end
  end
  return pod.spec.containers[1]
end

local function port_of(container)
  local first
  for _, port in ipairs(container.ports or {}) do
    if port.name == "knbl-tcp" then return port.containerPort end
    first = first or port.containerPort
  end
  return first or manifest.AGENT_PORT
end

-- Where its --token-file comes from: a Secret's name and key, or nil.
local function secret_of(pod, container)
  local path, words = nil, container.args or {}
  for i, word in ipairs(words) do
    path = path or word == "--token-file" and words[i + 1] or word:match "^%-%-token%-file=(.+)$"
  end
  for _, mount in ipairs(path and container.volumeMounts or {}) do
    if path:sub(1, #mount.mountPath) == mount.mountPath then
      for _, volume in ipairs(pod.spec.volumes or {}) do
        if volume.name == mount.name and volume.secret then return volume.secret.secretName, path:match "[^/]+$" end
      end
    end
  end
end

-- What guards an agent: the secret that it was given, read once.
local function token_of(self, pod, container)
  if self.token then return self.token end
  local name, key = secret_of(pod, container)
  local hint = "; give the agents' token with --token-file FILE, or KNBL_TOKEN"
  if not name then
    return nil, { code = "unavailable",
      message = ("the token of agent %s is not in a Secret%s"):format(pod.metadata.name, hint) }
  end
  if not self.secrets[name] then
    local secret, err = self.api:get("Secret", name)
    if not secret then return nil, { code = "unavailable", message = err.message .. hint } end
    self.secrets[name] = secret.data or {}
  end
  local text = self.secrets[name][key] and core.base64_decode(self.secrets[name][key])
  if not text then
    return nil, { code = "unavailable", message = ("the Secret %s has no key '%s'%s"):format(name, key, hint) }
  end
  return (text:gsub("%s+$", ""))
end

-- The ready agents with those labels, in the order of their names. -> standing | nil, err
function M.find(api, selector, token)
  local list, err = api:list("Pod", { selector = selector })
  if not list then return nil, err end
  local self = setmetatable({ api = api, selector = selector, token = token, secrets = {}, agents = {}, taken = {} },
    Standing)
  local why
  for _, pod in ipairs(list.items) do
    if not pod.metadata.deletionTimestamp and pods.is_ready(pod) then
      local container = agent_container(pod)
      local secret
      secret, err = token_of(self, pod, container)
      if not secret then return nil, err end
      self.agents[#self.agents + 1] = { pod = pod, port = port_of(container), token = secret }
    else
      why = why or ("%s: %s"):format(pod.metadata.name, explain.pod(pod) or "not ready")
    end
  end
  if #self.agents == 0 then
    return nil, { code = "unavailable", message = why
      and ("none of the agents with the labels %s is ready (%s)"):format(selector, why)
      or ("no pod in the namespace %s has the labels %s"):format(api.namespace, selector) }
  end
  table.sort(self.agents, function(a, b) return a.pod.metadata.name < b.pod.metadata.name end)
  return self
end

-- How many agents there are on each node that has one.
function Standing:by_node()
  local count = {}
  for _, agent in ipairs(self.agents) do count[agent.pod.spec.nodeName] = (count[agent.pod.spec.nodeName] or 0) + 1 end
  return count
end

function Standing:node_names()
  local names = {}
  for name in pairs(self:by_node()) do names[#names + 1] = name end
  table.sort(names)
  return names
end

-- A node's address, as its pods know it.
function Standing:address_of(node)
  for _, agent in ipairs(self.agents) do
    local ip = agent.pod.spec.nodeName == node and agent.pod.status.hostIP
    if ip then return { [ip:find(":", 1, true) and "v6" or "v4"] = ip } end
  end
  return {}
end

-- ---- who stands for what ----

-- What cannot be had of an agent that stands already: everything that its pod would have been made with.
local fixed = { "image", "command", "port", "cpu", "memory", "mtu", "bandwidth", "annotations", "labels", "env" }

local function want_of(agent, name)
  return { name = name, port = agent.port, token = agent.token, runtime = agent.pod.spec.runtimeClassName }
end

local function skip(message, ...) return nil, errors.skip(message, ...) end

-- The agent for a pod of the scenario: on the node that it asks for, else on the one with the most agents that are
-- free. -> pod, want | nil, nil, err
function Standing:take(t, node)
  for _, key in ipairs(fixed) do
    if t[key] ~= nil then return skip("a standing agent does not take '%s'", key) end
  end
  local runtime = t.runtime ~= "runc" and t.runtime ~= "host" and t.runtime or nil
  local best, fitting = nil, 0
  for _, agent in ipairs(self.agents) do
    local spec = agent.pod.spec
    if (not node or spec.nodeName == node) and spec.runtimeClassName == runtime
      and (spec.hostNetwork or false) == (t.runtime == "host") then
      fitting = fitting + 1
      local named = (agent.pod.metadata.labels or {})[manifest.POD] == t.name
      if not agent.taken and (not best or named) then best = agent end
    end
  end
  if not best then
    return skip("%s standing agent with the labels %s%s%s%s", fitting == 0 and "there is no" or "there is no free",
      self.selector,
      node and " on " .. node or "", t.runtime and " of the runtime " .. t.runtime or "",
        fitting > 0 and ("; %d in use"):format(fitting) or "")
  end
  best.taken, self.taken[t.name] = true, best
  return best.pod, want_of(best, t.name)
end

-- The agent that stands for a node: one in its network.
function Standing:take_host(node)
  for _, agent in ipairs(self.agents) do
    if agent.pod.spec.hostNetwork and agent.pod.spec.nodeName == node and not agent.taken then
      agent.taken = true
      return agent.pod, want_of(agent, node)
    end
  end
  return skip("there is no standing agent in the network of %s (deploy/agents-host)", node)
end

-- Whether `name` was one of ours; it is free again.
function Standing:give_back(name)
  local agent = self.taken[name]
  if agent then agent.taken, self.taken[name] = nil, nil end
  return agent ~= nil
end

-- ---- Services over them ----

local function port_leads_to(port, target)
  local to = port.targetPort or port.port
  return to == target or to == "knbl-tcp" or to == "knbl-udp"
end

-- Both ways to the agents' port, by one number.
local function serves(service, target)
  local first = service.spec.ports and service.spec.ports[1]
  local protocols = {}
  for _, port in ipairs(service.spec.ports or {}) do
    if port.port == first.port and port_leads_to(port, target) then protocols[port.protocol or "TCP"] = true end
  end
  return protocols.TCP and protocols.UDP
end

local function selector_text(selector)
  local words = {}
  for k, v in pairs(selector or {}) do words[#words + 1] = k .. "=" .. v end
  table.sort(words)
  return words[1] and table.concat(words, ",")
end

-- Whether exactly these endpoints are behind the Service.
local function is_over(self, service, endpoints)
  local text = selector_text(service.spec.selector)
  local list = text and self.api:list("Pod", { selector = text })
  if not list or #list.items ~= #endpoints then return false end
  local behind = {}
  for _, pod in ipairs(list.items) do behind[pod.metadata.name] = true end
  for _, endpoint in ipairs(endpoints) do
    if not behind[endpoint.object] then return false end
  end
  return true
end

-- A Service that stands already, is of the asked type, and has just these endpoints; or nil. t: as cluster:service
-- takes it
function Standing:service_over(t)
  if t.ports or t.port or t.affinity or t.external_traffic_policy then return nil end
  self.services = self.services or self.api:list "Service" or { items = {} }
  for _, service in ipairs(self.services.items) do
    local headless = service.spec.clusterIP == "None"
    if service.spec.type == t.type and headless == (t.headless or false) and serves(service, t.endpoints[1].port)
      and is_over(self, service, t.endpoints) then
      return service
    end
  end
end

return M
