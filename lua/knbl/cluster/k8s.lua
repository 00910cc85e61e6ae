-- knbl.cluster.k8s - the provider over a real Kubernetes: agents in pods, Services by kube-proxy or whatever stands in
-- for it.
--
-- Control goes through the API server's pod proxy from outside, straight to the pod from inside; the data path is pod
-- to pod. All that a run makes is owned by one ConfigMap and removed at the end; `knbl clean` finds what a killed run
-- left.
local core = require "knbl.core"
local agent = require "knbl.measure.agent"
local contract = require "knbl.cluster.provider"
local encryption = require "knbl.kube.encryption"
local errors = require "knbl.base.errors"
local explain = require "knbl.kube.explain"
local facts = require "knbl.kube.facts"
local kube = require "knbl.kube"
local namespace = require "knbl.kube.namespace"
local networks = require "knbl.kube.networks"
local owned = require "knbl.kube.owned"
local place = require "knbl.kube.place"
local policies = require "knbl.kube.policies"
local reach = require "knbl.kube.reach"
local roster = require "knbl.kube.roster"
local services = require "knbl.kube.services"
local standing = require "knbl.kube.standing"
local wish = require "knbl.kube.wish"

local M = {
  name = "k8s", options = { kubeconfig = true, context = true, tolerations = true, encryption = true },
  costs = { open = 2, node = 4, pod = 4, service = 2 }, time_wait = true,
  cannot = { exec = "k8s runs no programs beside its agents; the lab does" },
}

local Provider = {}
Provider.__index = Provider

-- What an API server answers to the rest of knbl: these codes have a meaning there, all others are "no cluster".
-- Whatever a run that is being ended could not have, is because it is being ended.
local known_codes = { skip = true, usage = true, argument = true, interrupted = true, lost = true, auth = true,
  version = true }
local function outward(thing, err)
  if not thing and err and core.interrupted() then return nil, { code = "interrupted", message = "interrupted" } end
  if not thing and err and not known_codes[err.code] then
    err = { code = "unavailable", message = explain.permission(err.message) }
  end
  return thing, err
end

-- The agent in a node's own network comes with the first measurement that needs it: scenarios that only place pods need
-- no host network.
local function prepare_node(endpoint)
  if endpoint.ready then return true end
  local self, name = endpoint.provider, endpoint.name
  local made, err
  if self.standing then
    local pod, want
    pod, want, err = self.standing:take_host(name)
    if pod then made, err = reach.agent(self, pod, want, "node") end
  else
    made, err = place.one(self, wish.host(self.run, name), "node")
  end
  if not made then return outward(nil, err) end
  for _, key in ipairs { "addresses", "control", "object", "labels", "port", "token", "agent" } do
    endpoint[key] = made[key]
  end
  endpoint.ready = true
  return true
end

-- A node as an end of a path. Where its own object could not be read, a pod that lands there, or its agent, tells its
-- addresses.
local function node_endpoint(self, which)
  local node, err = roster.named(self, which)
  if not node then return nil, err end
  local endpoint = self.node_agents[node.name]
  if not endpoint then
    endpoint = { kind = "node", name = node.name, node = node.name, addresses = node.addresses,
      port = self.run.host_port, runtime = "runc", topology = node.labels, cpus = tonumber(node.cpus),
      token = self.run.token, prepare = prepare_node, provider = self }
    self.node_agents[node.name] = endpoint
  end
  return endpoint
end

-- The agent in a node's own network, where a measurement has brought it already.
function Provider:standing_node(name)
  local endpoint = self.node_agents[name]
  return endpoint and endpoint.ready and endpoint or nil
end

function Provider:node(which) return outward(node_endpoint(self, which)) end

-- Whether RuntimeClass `name` is there; "runc" and "host" are every cluster's.
local function check_runtime(self, name)
  local list, err = self.api:list { api = "node.k8s.io/v1", kind = "RuntimeClass" }
  if not list then return errors.skip("runtime %s: its RuntimeClass cannot be looked up: %s", name, err.message) end
  local names = {}
  for i, class in ipairs(list.items) do
    if class.metadata.name == name then return class.handler end
    names[i] = class.metadata.name
  end
  return errors.skip("no RuntimeClass named %s; there are: %s", name,
    #names > 0 and table.concat(names, ", ") or "none")
end

-- One of the standing agents, as a pod of the scenario's.
local function take_standing(self, t, node)
  local pod, want, err = self.standing:take(t, node)
  if not pod then return nil, err end
  local endpoint
  endpoint, err = reach.agent(self, pod, want, "pod")
  if endpoint then endpoint.runtime = want.runtime or "runc" end
  return endpoint, err
end

-- What is to be made of a pod of the scenario's: an item of place.all, or one with its endpoint or error already.
local function pod_item(self, t)
  local item = { kind = "pod", asked = t }
  local node, err = nil, nil
  if t.node then
    node, err = roster.named(self, t.node)
    if not node then item.err = err return item end
  end
  if self.standing then
    item.endpoint, item.err = take_standing(self, t, node and node.name)
    return item
  end
  item.want, item.err = wish.pod(self.run, t, node and node.name)
  if item.want and item.want.runtime then item.handler, item.err = check_runtime(self, item.want.runtime) end
  return item
end

-- Several pods, made side by side. -> a list of { endpoint | nil, err }
function Provider:make_pods(list)
  local items, wanted, results = {}, {}, {}
  for i, t in ipairs(list) do
    items[i] = pod_item(self, t)
    if not items[i].endpoint and not items[i].err then wanted[#wanted + 1] = items[i] end
  end
  if #wanted > 0 then place.all(self, wanted) end
  for i, item in ipairs(items) do
    local endpoint = item.endpoint
    if endpoint and item.want then
      endpoint.runtime, endpoint.handler = item.asked.runtime or "runc", item.handler
      endpoint.label = wish.label(item.want.runtime, item.handler)
    end
    results[i] = { outward(endpoint, item.err) }
  end
  return results
end

function Provider:pod(t)
  local result = self:make_pods({ t })[1]
  return result[1], result[2]
end

function Provider:service(t) return outward(services.of(self, t)) end

-- The pod's secondary networks, as Multus wrote them onto its object.
function Provider:networks(endpoint)
  local pod, err = self.api:get("Pod", endpoint.object)
  if not pod then return outward(nil, err) end
  return networks.of(pod)
end

function Provider:policy(t) return outward(owned.policy(self, t)) end

-- Removes a thing of the scenario.
function Provider:delete(name)
  if self.standing and self.standing:give_back(name) then return true end
  return outward(owned.delete(self, name))
end

-- An object that the script brings.
function Provider:create(object)
  local ok, err = owned.begin(self)
  if not ok then return outward(nil, err) end
  local resource
  resource, err = self.api:resource(object)
  if not resource then return nil, err end
  return outward(owned.create(self, resource, object))
end

function Provider:environment() return self.facts end

-- Policies are named where the run could not have reached its own pods because of them.
function Provider:explain_path(endpoints) return policies.explain(self.api, endpoints) end

-- Removes what this run made.
function Provider:close()
  if self.closed then return end
  self.closed = true
  agent.forget(self)
  if #self.made == 0 then return end
  core.cleanup(true)
  owned.remove(self)
  core.cleanup(false)
end

local function enter_namespace(self)
  if self.settings.agents then return true end -- the standing agents are in a namespace already
  local entered, err = namespace.ensure(self.api, self.run)
  if not entered then return nil, err end
  self.run.restricted, self.run.assigns_user, self.namespace_made = entered.restricted, entered.assigns_user,
    entered.made
  if entered.made then self.made[#self.made + 1] = { kind = "Namespace", name = self.run.namespace, later = true } end
  return true
end

-- All that must be there before the first pod.
local function prepare(self, options)
  local ok, err = enter_namespace(self)
  if not ok then return nil, err end
  if self.settings.agents then
    self.standing, err = standing.find(self.api, self.settings.agents, options.token_given and options.token or nil)
    if not self.standing then return nil, err end
  else
    ok, err = owned.begin(self)
    if not ok then return nil, err end
  end
  local nodes
  nodes, err = roster.chosen(self)
  if err and err.code == "interrupted" then return nil, err end
  self.facts = facts.read(self.api, nodes)
  return true
end

-- The plan of a run that prints what it would make.
function M.plan(options) return require("knbl.kube.paper").open(options) end

function M.open(options)
  local settings, err = wish.settings(options)
  if not settings then return nil, err end
  local api
  api, err = kube.connect { kubeconfig = settings.kubeconfig, context = settings.context,
    namespace = settings.namespace, as = settings.as }
  if not api then return nil, err end
  local reason = options.encryption and encryption.differs(api, options.encryption)
  if reason then return contract.nowhere(reason) end
  local self = setmetatable({ api = api, settings = settings, made = {}, labelled = {}, node_agents = {}, left_out = {},
    packed = {}, carrier = {}, run = wish.run(settings, options, api.namespace) }, Provider)
  local ok
  ok, err = prepare(self, options)
  if not ok then
    self:close()
    err.message = explain.permission(err.message)
    return nil, err
  end
  return self
end

return M
