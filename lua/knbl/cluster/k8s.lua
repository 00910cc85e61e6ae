-- knbl.cluster.k8s - the provider over a real Kubernetes: agents in pods, Services by kube-proxy or whatever stands in for it.
--
-- Control goes through the API server's pod proxy from outside, straight to the pod from inside; the data path is pod to pod. All that a run
-- makes is owned by one ConfigMap and removed at the end; `knbl clean` finds what a killed run left.
local core = require "knbl.core"
local json = require "knbl.json"
local agent = require "knbl.agent"
local image = require "knbl.image"
local kube = require "knbl.kube"
local manifest = require "knbl.kube.manifest"
local namespace = require "knbl.kube.namespace"
local explain = require "knbl.kube.explain"
local pods = require "knbl.kube.pods"
local choice = require "knbl.kube.nodes"
local facts = require "knbl.kube.facts"
local standing = require "knbl.kube.standing"
local wish = require "knbl.kube.wish"

local M = { name = "k8s" }

local AGENT_S = 10
local SERVICE_S = 20
local ENDPOINTS_S = 45 -- a control plane that comes back takes half a minute to hear of its nodes and to write the endpoints anew
local CONTROL_GRACE_S = 30 -- an API server that restarts is no lost agent

local Provider = {}
Provider.__index = Provider

local function skip(message, ...) return nil, { code = "skip", message = message:format(...) } end

-- What an API server answers to the rest of knbl: these codes have a meaning there, all others are "no cluster". Whatever a run that is being ended
-- could not have, is because it is being ended.
local known_codes = { skip = true, usage = true, argument = true, interrupted = true, lost = true, auth = true, version = true }
local function outward(thing, err)
  if not thing and err and core.interrupted() then return nil, { code = "interrupted", message = "interrupted" } end
  if not thing and err and not known_codes[err.code] then err = { code = "unavailable", message = explain.permission(err.message) } end
  return thing, err
end

-- ---- nodes ---------------------------------------------------------------------------------------------------------------

-- Nodes that may not be looked at: those that were named, or where the standing agents are.
local function unseen(self)
  local names = self.settings.node_names or self.standing and self.standing:node_names()
  if not names then return nil end
  local nodes = {}
  for i, name in ipairs(names) do nodes[i] = { name = name, addresses = self.standing and self.standing:address_of(name) or {} } end
  return nodes
end

-- The run's nodes, chosen once. Where nodes may not be listed, they must be named with --nodes.
local function chosen_nodes(self)
  if self.nodes_chosen then return self.nodes_chosen end
  local settings = self.settings
  local list, err = self.api:list "Node"
  local nodes, left_out
  if list then
    local unknown = choice.unknown(list.items, settings.node_names)
    if unknown then return nil, { code = "usage", message = unknown } end
    nodes, left_out = choice.choose(list.items, { nodes = settings.node_names, selector = settings.node_selector, tolerations = settings.tolerations,
      arch = not settings.image and image.machine() or nil, standing = self.standing and self.standing:by_node() })
    if #nodes == 0 then return nil, { code = "unavailable", message = "no node can be used: " .. table.concat(left_out, ", ") } end
  else
    nodes, left_out = err.status == 403 and unseen(self) or nil, {}
    if not nodes then
      if err.status == 403 then err.message = err.message .. "; name the nodes with --nodes a,b, or permit 'list' on nodes" end
      return nil, err
    end
  end
  for i = #nodes, (settings.node_limit or #nodes) + 1, -1 do nodes[i] = nil end
  self.nodes_chosen, self.left_out, self.nodes = nodes, left_out, #nodes
  return nodes
end

local function node_named(self, which)
  local nodes, err = chosen_nodes(self)
  if not nodes then return nil, err end
  if type(which) == "number" then
    if nodes[which] then return nodes[which] end
    local others = #self.left_out > 0 and " (left out: " .. table.concat(self.left_out, ", ") .. ")" or ""
    return skip("the cluster has %d node%s to use, this needs %d%s", #nodes, #nodes == 1 and "" or "s", which, others)
  end
  local names = {}
  for i, node in ipairs(nodes) do
    if node.name == which then return node end
    names[i] = node.name
  end
  return nil, { code = "argument", message = ("there is no node '%s' to use; there are: %s"):format(which, table.concat(names, ", ")) }
end

-- ---- pods ----------------------------------------------------------------------------------------------------------------

-- What the API server itself answers in an agent's place: that the pod is gone, that we may not, or that it cannot reach it just now.
local function proxy_failure(api, name, response)
  if response.status < 400 or not response.body:find('"kind":"Status"', 1, true) then return nil end
  local text = kube.status_text(response)
  if response.status == 401 or response.status == 403 then return { code = "auth", message = text } end
  local pod, err = api:get("Pod", name, { retry = 0 })
  if pod and pod.status.phase == "Running" and not pod.metadata.deletionTimestamp then return { code = "unreachable", message = text } end
  if not pod and err.status ~= 404 then return { code = "unreachable", message = err.message } end
  return { code = "gone", message = pod and explain.pod(pod) or "its pod was deleted" }
end

-- How the orchestrator reaches an agent: straight from inside the cluster, through the API server's pod proxy from outside.
local function control(self, name, addresses, port)
  if self.api.config.in_cluster then
    local host = addresses.v4 or "[" .. addresses.v6 .. "]"
    return { url = ("http://%s:%d"):format(host, port) }
  end
  local through = self.api:proxy(name, port)
  local function fetch(request)
    local response, err = through(request)
    local failure = response and proxy_failure(self.api, name, response)
    if failure then return nil, failure end
    return response, err
  end
  return { url = "", fetch = fetch, grace = CONTROL_GRACE_S }
end

-- The container runs before its agent listens: asked until it answers.
local function await_agent(endpoint)
  local deadline = core.now() + AGENT_S
  while true do
    local about, err = agent.about(endpoint)
    if about then return about end
    if err.code == "version" or err.code == "auth" or err.code == "gone" or err.code == "interrupted" or core.now() > deadline then return nil, err end
    local ok, interrupted = core.sleep(0.05)
    if not ok then return nil, interrupted end
  end
end

-- Why a pod was refused at the door. What a path asks for beyond the ordinary (the host's network, a runtime) is a path that is not to be
-- had; what would refuse every pod ends the run.
local function refused(err, want)
  if err.status ~= 403 and err.status ~= 422 and err.status ~= 400 then return nil, err end
  local message = explain.refusal(err, want)
  if err.status == 403 and (want.host_network and explain.is_pod_security(err) or want.runtime and explain.is_runtime(err)) then
    return skip("%s", message)
  end
  return nil, { code = "unavailable", message = message }
end

-- The owner of all that the run makes, and the secret of its agents: before the first of them.
local function begin(self)
  if self.run.owner then return true end
  local object = manifest.owner(self.run)
  -- on the list before it is asked for: an answer that is lost, or cut short, may have made it
  self.made[#self.made + 1] = { kind = "ConfigMap", name = object.metadata.name }
  local owner, err = self.api:create(object)
  if not owner then
    if err.status then self.made[#self.made] = nil end
    return nil, err
  end
  self.run.owner = manifest.owner_reference(owner)
  if self.standing then return true end -- they have a secret of their own
  self.made[#self.made + 1] = { kind = "Secret", name = owner.metadata.name }
  local ok
  ok, err = self.api:create(manifest.secret(self.run))
  if not ok then return nil, err end
  return true
end

local function make_pod(self, want, kind)
  local object = manifest.pod(self.run, want)
  local name = object.metadata.name
  self.made[#self.made + 1] = { kind = "Pod", name = name, of = want.name }
  local made, err = self.api:create(object)
  if not made then return refused(err, want) end
  local pod
  pod, err = pods.await(self.api, name)
  if not pod then
    if err.code ~= "pod" then return nil, err end
    if want.runtime then
      self:delete(want.name)
      return skip("runtime %s: %s", want.runtime, err.message)
    end
    return nil, { code = "unavailable", message = ("it does not come up: %s"):format(err.message) }
  end
  if want.node and pod.spec.nodeName ~= want.node then
    return nil, { code = "unavailable", message = ("it landed on %s, not on %s"):format(pod.spec.nodeName, want.node) }
  end
  if want.own then return self:outsider(pod, want, kind) end
  return self:adopt(pod, want, kind)
end

local function endpoint_of(pod, want, kind)
  return { kind = kind, name = want.name, node = pod.spec.nodeName, addresses = pods.addresses(pod), port = want.port, runtime = want.runtime or "runc",
    object = pod.metadata.name, labels = pod.metadata.labels }
end

-- Where a node is, by a pod on it, if the node's own object could not be read.
local function learn_address(self, pod)
  local node = self.node_agents[pod.spec.nodeName]
  if node and not next(node.addresses) then
    for _, ip in ipairs(pod.status.hostIPs or { { ip = pod.status.hostIP } }) do node.addresses[ip.ip:find(":", 1, true) and "v6" or "v4"] = ip.ip end
  end
end

-- A running pod of the user's own image: nothing inside speaks to us.
function Provider:outsider(pod, want, kind)
  local endpoint = endpoint_of(pod, want, kind)
  learn_address(self, pod)
  endpoint.external, endpoint.token = true, ""
  return endpoint
end

-- A running pod as an endpoint, once its agent answers.
function Provider:adopt(pod, want, kind)
  local endpoint = endpoint_of(pod, want, kind)
  learn_address(self, pod)
  endpoint.control, endpoint.token = control(self, endpoint.object, endpoint.addresses, want.port), want.token or self.run.token
  local about, err = await_agent(endpoint)
  if not about then return nil, { code = "lost", message = ("its agent does not answer: %s"):format(err.message) } end
  endpoint.agent = about.name
  facts.learn(self.facts, pod.spec.nodeName, about)
  return endpoint
end

-- The agent in a node's own network comes with the first measurement that needs it: scenarios that only place pods need no host network.
local function prepare_node(endpoint)
  if endpoint.ready then return true end
  local self, name = endpoint.provider, endpoint.name
  local made, err
  if self.standing then
    local pod, want
    pod, want, err = self.standing:take_host(name)
    if pod then made, err = self:adopt(pod, want, "node") end
  else
    made, err = make_pod(self, wish.host(self.run, name), "node")
  end
  if not made then return outward(nil, err) end
  for _, key in ipairs { "addresses", "control", "object", "labels", "port", "token", "agent" } do endpoint[key] = made[key] end
  endpoint.ready = true
  return true
end

-- A node as an end of a path. Where its own object could not be read, a pod that lands there, or its agent, tells its addresses.
local function node_endpoint(self, which)
  local node, err = node_named(self, which)
  if not node then return nil, err end
  local endpoint = self.node_agents[node.name]
  if not endpoint then
    endpoint = { kind = "node", name = node.name, node = node.name, addresses = node.addresses, port = self.run.host_port, runtime = "runc",
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
  if not list then return skip("runtime %s: its RuntimeClass cannot be looked up: %s", name, err.message) end
  local names = {}
  for i, class in ipairs(list.items) do
    if class.metadata.name == name then return class.handler end
    names[i] = class.metadata.name
  end
  return skip("no RuntimeClass named %s; there are: %s", name, #names > 0 and table.concat(names, ", ") or "none")
end

local function pod_endpoint(self, t)
  local node, err = nil, nil
  if t.node then
    node, err = node_named(self, t.node)
    if not node then return nil, err end
  end
  local endpoint, want
  if self.standing then
    local pod
    pod, want, err = self.standing:take(t, node and node.name)
    if not pod then return nil, err end
    endpoint, err = self:adopt(pod, want, "pod")
    if not endpoint then return nil, err end
    endpoint.runtime = want.runtime or "runc"
    return endpoint
  end
  want, err = wish.pod(self.run, t, node and node.name)
  if not want then return nil, err end
  local handler
  if want.runtime then
    handler, err = check_runtime(self, want.runtime)
    if not handler then return nil, err end
  end
  endpoint, err = make_pod(self, want, "pod")
  if not endpoint then return nil, err end
  endpoint.runtime, endpoint.handler = t.runtime or "runc", handler
  endpoint.label = wish.label(want.runtime, handler)
  return endpoint
end

function Provider:pod(t) return outward(pod_endpoint(self, t)) end

-- ---- Services ------------------------------------------------------------------------------------------------------------

-- Labels that all endpoints carry and nobody else: a pod's own where there is one, else a label of the Service's put onto each.
local function selector_for(self, t)
  local selector, key = wish.selector(self.run, t)
  if selector then return selector end
  for _, endpoint in ipairs(t.endpoints) do
    local ok, err = self.api:patch("Pod", endpoint.object, { metadata = { labels = { [key] = "1" } } })
    if not ok then return nil, err end
    if self.standing then self.labelled[#self.labelled + 1] = { endpoint.object, key } end
  end
  return { [key] = "1" }
end

-- How many endpoints are in slices that are of one family each: of each of the Service's families so many.
local function in_slices(service, slices)
  local ready, least = {}, nil
  for _, family in ipairs(service.spec.ipFamilies or {}) do ready[family] = 0 end
  for _, slice in ipairs(slices) do
    local n = 0
    for _, e in ipairs(slice.endpoints or {}) do
      if e.conditions == nil or e.conditions.ready ~= false then n = n + #(e.addresses or {}) end
    end
    ready[slice.addressType] = (ready[slice.addressType] or 0) + n
  end
  for _, n in pairs(ready) do least = math.min(least or n, n) end
  return least or 0
end

-- How many endpoints of a Service are ready: by its EndpointSlices, or where a server has none of that version or they may not be read, by its
-- Endpoints. nil and an error where neither may be read.
local function ready_endpoints(self, service)
  local name = service.metadata.name
  if not self.no_slices then
    local list, err = self.api:list({ api = "discovery.k8s.io/v1", kind = "EndpointSlice" }, { selector = "kubernetes.io/service-name=" .. name })
    if list then return in_slices(service, list.items) end
    if err.status ~= 404 and err.status ~= 403 then return nil, err end
    self.no_slices = true
  end
  local list, err = self.api:get("Endpoints", name)
  if not list then return err.status == 404 and 0 or nil, err end
  local n = 0
  for _, subset in ipairs(list.subsets or {}) do n = n + #(subset.addresses or {}) end
  return n
end

-- Which of the endpoints' pods are not ready, as ": …", and whether one is gone for good; "" where that does not explain it.
local function unready(self, endpoints)
  local list, gone = {}, false
  for _, endpoint in ipairs(endpoints) do
    local pod, err = self.api:get("Pod", endpoint.object, { retry = 0 })
    local is_gone = pod and pod.metadata.deletionTimestamp or not pod and err.status == 404
    gone = gone or is_gone
    if is_gone or pod and not pods.is_ready(pod) then
      list[#list + 1] = ("pod %s on %s is %s"):format(endpoint.object, endpoint.node, is_gone and "gone: somebody deleted it" or "not ready")
    end
  end
  return #list > 0 and ": " .. table.concat(list, ", ") or "", gone
end

-- A Service answers only once every node's proxy has heard of it: waited for, with the API's own word on its endpoints.
local function await_endpoints(self, service, endpoints)
  local began = core.now()
  local look = began + 3 -- the usual takes less
  while true do
    local ready, why = ready_endpoints(self, service)
    if not ready and why.status == 403 then
      why.message = why.message .. "; permit 'list' on endpointslices or 'get' on endpoints"
      return nil, why
    end
    if ready and ready >= #endpoints then return true end
    local late = core.now() > began + ENDPOINTS_S
    if late or core.now() > look then
      local which, gone = unready(self, endpoints)
      if late or gone then
        return nil, { code = "unavailable", message = ("its endpoints are not ready after %.0f s%s"):format(core.now() - began, which) }
      end
      look = core.now() + 3
    end
    local ok, err = core.sleep(0.1)
    if not ok then return nil, err end
  end
end

-- What a Service's object says, as the rest of knbl has it.
local function as_service(t, object)
  local addresses, spec = {}, object.spec
  if t.headless then
    addresses = t.endpoints[1].addresses
  else
    for _, ip in ipairs(spec.clusterIPs or { spec.clusterIP }) do addresses[ip:find(":", 1, true) and "v6" or "v4"] = ip end
  end
  return { name = t.name, addresses = addresses, port = t.headless and t.endpoints[1].port or spec.ports[1].port, node_port = spec.ports[1].nodePort,
    type = t.type, headless = t.headless, settling = SERVICE_S }
end

local function make_service(self, t)
  local ok, err = begin(self)
  local selector
  if ok then selector, err = selector_for(self, t) end
  if not selector then return nil, err end
  local object = manifest.service(self.run, wish.service(t, selector))
  self.made[#self.made + 1] = { kind = "Service", name = object.metadata.name, of = t.name }
  local made
  made, err = self.api:create(object)
  if not made then return nil, err end
  ok, err = await_endpoints(self, made, t.endpoints)
  if not ok then return nil, err end
  return as_service(t, made)
end

local function service_of(self, t)
  for _, endpoint in ipairs(t.endpoints) do
    if endpoint.prepare then
      local ok, why = endpoint:prepare()
      if not ok then return nil, why end
    end
  end
  if self.standing then
    local there = self.standing:service_over(t)
    if there then
      local ok, why = await_endpoints(self, there, t.endpoints)
      if not ok and why.status ~= 403 then return nil, why end
      return as_service(t, there)
    end
  end
  local service, err = make_service(self, t)
  if not service and self.standing and err.status == 403 then
    return skip("there is no such Service over the standing agents, and none may be made: %s", err.message)
  end
  return service, err
end

function Provider:service(t) return outward(service_of(self, t)) end

function Provider:delete(name)
  if self.standing and self.standing:give_back(name) then return true end
  for i, thing in ipairs(self.made) do
    if thing.of == name then
      table.remove(self.made, i)
      return outward(self.api:delete(thing.kind, thing.name))
    end
  end
  return true
end

-- An object that the script brings: one of the run's, labelled, owned and removed with all else.
function Provider:create(object)
  local ok, err = begin(self)
  if not ok then return outward(nil, err) end
  local resource
  resource, err = self.api:resource(object)
  if not resource then return nil, err end
  local own = manifest.adopt(self.run, object)
  if not resource.namespaced then -- nothing in a namespace can own it
    own.metadata.namespace, own.metadata.ownerReferences = nil, nil
    local note = manifest.outside(self.run, resource, own.metadata.name)
    self.made[#self.made + 1] = { kind = "ConfigMap", name = note.metadata.name }
    ok, err = self.api:create(note)
    if not ok then return outward(nil, err) end
  end
  self.made[#self.made + 1] = { kind = { api = resource.api, kind = resource.kind }, name = own.metadata.name }
  local made
  made, err = self.api:create(own)
  if not made and err.status then self.made[#self.made] = nil end
  return outward(made, err)
end

-- ---- the whole -----------------------------------------------------------------------------------------------------------

function Provider:environment() return self.facts end

-- Removes what this run made, and waits until its pods are gone. What cannot be removed is said, with how to finish.
function Provider:close()
  if self.closed then return end
  self.closed = true
  if #self.made == 0 then return end
  local failed
  for _, pair in ipairs(self.labelled) do
    local ok, err = self.api:patch("Pod", pair[1], { metadata = { labels = { [pair[2]] = json.null } } }, { retry = 3 })
    if not ok and err.status ~= 404 then failed = err end
  end
  failed = pods.remove(self.api, self.made, manifest.RUN .. "=" .. self.run.id) or failed
  if not failed and self.namespace_made then
    local ok, err = self.api:delete("Namespace", self.run.namespace)
    if not ok then failed = err end
  end
  if failed then
    io.stderr:write(("knbl: not all of run %s could be removed: %s\nknbl: `knbl clean --namespace %s` finishes it\n"):format(self.run.id,
      failed.message, self.run.namespace))
  end
end

local function enter_namespace(self)
  if self.settings.agents then return true end -- whoever stands there has one
  local entered, err = namespace.ensure(self.api, self.run)
  if not entered then return nil, err end
  self.run.restricted, self.namespace_made = entered.restricted, entered.made
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
    ok, err = begin(self)
    if not ok then return nil, err end
  end
  local nodes
  nodes, err = chosen_nodes(self)
  if err and err.code == "interrupted" then return nil, err end
  self.facts = facts.read(self.api, nodes)
  return true
end

M.options = { kubeconfig = true, context = true, tolerations = true }

-- The plan of a run that prints what it would make.
function M.plan(options) return require("knbl.kube.paper").open(options) end

function M.open(options)
  local settings, err = wish.settings(options)
  if not settings then return nil, err end
  local api
  api, err = kube.connect { kubeconfig = settings.kubeconfig, context = settings.context, namespace = settings.namespace, as = settings.as }
  if not api then return nil, err end
  local self = setmetatable({ api = api, settings = settings, made = {}, labelled = {}, node_agents = {}, left_out = {},
    run = wish.run(settings, options, api.namespace) }, Provider)
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
