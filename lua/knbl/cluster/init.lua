-- knbl.cluster - nodes, pods and Services as scenarios see them, the same over every provider (knbl.cluster.provider).
-- Everything is checked here before a provider is asked.
local check = require "knbl.base.check"
local checks = require "knbl.cluster.check"
local contract = require "knbl.cluster.provider"
local errors = require "knbl.base.errors"
local opening = require "knbl.cluster.opening"
local session = require "knbl.measure.session"

local M = { keys = checks.keys }

-- ---- things of a cluster ----

local function class(base)
  local made = setmetatable({ __tostring = function(thing) return thing.name end }, base)
  made.__index = made
  return made
end

local Thing = class()       -- a node, a pod, a Service, or a NodePort at a node
local Node, Pod, Service, Policy = class(Thing), class(Thing), class(Thing), class(Thing)
local Cluster = { __name = "knbl.cluster" }
Cluster.__index = Cluster

-- A node that is taken for a list of nodes would give nil, which means "any node" to a pod.
function Node.__index(node, key)
  if type(key) == "number" then
    errors.misuse("%s is one node, not a list; cluster:nodes(n) returns n values: `local a, b = cluster:nodes(2)`",
      node.name)
  end
  return Node[key]
end

function M.is(value)
  local meta = type(value) == "table" and getmetatable(value)
  return meta == Node or meta == Pod or meta == Service or meta == Policy or meta == Thing
end
local is = M.is

local function fresh_name(self, stem)
  if not self.names[stem] then return stem end
  local i = 2
  while self.names[stem .. "-" .. i] do i = i + 1 end
  return stem .. "-" .. i
end

local function check_open(self)
  if self.closed then errors.misuse("the cluster is closed") end
end

-- In place of a thing that is not available: it knows why.
local function stand_in(self, meta, kind, name, reason, more)
  local thing = { kind = kind, name = tostring(name), skip = reason, cluster = self }
  for key, value in pairs(more or {}) do thing[key] = value end
  return setmetatable(thing, meta)
end

local kept = { "addresses", "port", "node_port", "type", "headless", "runtime", "label", "topology",
  "cpus" }

-- What the provider gave, or a stand-in; other errors are raised.
local function thing_of(self, meta, kind, name, given, err)
  if given then
    contract[kind == "service" and "service" or "endpoint"](given, self.module)
    local thing = { kind = kind, name = given.name, endpoint = given, cluster = self }
    for _, key in ipairs(kept) do thing[key] = given[key] end
    return setmetatable(thing, meta)
  end
  if type(err) == "table" and err.code == "skip" then return stand_in(self, meta, kind, name, err.message) end
  errors.raise(err, ("%s %s"):format(kind, tostring(name)))
end

-- ---- nodes and pods ----

-- The node of that number or name.
function Cluster:node(which)
  check_open(self)
  if is(which) then
    if which.kind ~= "node" then errors.misuse("%s is a %s, not a node", which.name, which.kind) end
    if which.cluster ~= self then errors.misuse("node %s belongs to another cluster", which.name) end
    return which
  end
  if type(which) == "number" then check.number("cluster:node", "the index", which, 1, 10000)
  elseif type(which) ~= "string" then
    errors.misuse("a node must be given as an index, a name or a node, got %s", errors.kind(which))
  end
  if not self.node_by[which] then
    local node = thing_of(self, Node, "node", type(which) == "number" and "node-" .. which or which,
      self.provider:node(which))
    node.node = node
    self.node_by[which] = self.node_by[node.name] or node
    if not node.skip then
      self.node_by[node.name] = self.node_by[which]
      self.names[node.name] = "node"
    end
  end
  return self.node_by[which]
end

-- n nodes, one value each: `local a, b = cluster:nodes(2)`. Without n, all that the cluster has; a lab has four.
function Cluster:nodes(n)
  check_open(self)
  check.number("cluster:nodes", "n", n, 1, 10000)
  local nodes = {}
  for i = 1, n or self.provider.nodes or self.options.nodes or 4 do nodes[i] = self:node(i) end
  return (table.unpack or unpack)(nodes)
end

-- Why this provider cannot make such a pod, or nil.
local function pod_refusal(self, t)
  local cannot = self.cannot
  if cannot.pod then return cannot.pod end
  for key in pairs(t) do
    -- a pod with a command needs no image where there are none
    if cannot[key] and not (key == "image" and t.command and not cannot.command) then return cannot[key] end
  end
end

-- What a provider is asked for: a request, the node, or a stand-in where it is not available.
local function pod_request(self, t)
  if type(t) ~= "table" then errors.misuse("cluster:pod takes a table") end
  local most = self.module.pods_max
  if most and self.pods_made >= most then
    errors.misuse("pod: a cluster on %s holds at most %d pods", self.name, most)
  end
  checks.check_pod(self.session.core, t)
  local name = t.name or fresh_name(self, "pod-" .. (self.pods_made + 1))
  checks.check_name("pod", name, self.names)
  local node = t.node ~= nil and self:node(t.node) or nil
  self.names[name], self.pods_made = "pod", self.pods_made + 1
  local reason = node and node.skip or pod_refusal(self, t)
  if reason then return nil, node, stand_in(self, Pod, "pod", name, reason, { node = node, label = t.runtime }) end
  local request = {}
  for key, value in pairs(t) do request[key] = value end
  request.name, request.node = name, node and node.endpoint.name
  return request, node
end

local function pod_of(self, t, name, node, given, err)
  local pod = thing_of(self, Pod, "pod", name, given, err)
  pod.node, pod.runtime, pod.external = node, t.runtime or pod.runtime, (t.image or t.command) ~= nil
  pod.label = pod.label or pod.runtime
  if pod.external then pod.port = t.port end
  return pod
end

-- A pod with an agent; with `image` and `port`, a server of your own.
function Cluster:pod(t)
  check_open(self)
  t = t or {}
  local request, node, missing = pod_request(self, t)
  if not request then return missing end
  return pod_of(self, t, request.name, node, self.provider:pod(request))
end

-- Several pods, one table each, as a list; side by side where the provider can.
function Cluster:pods(list)
  check_open(self)
  if type(list) ~= "table" or is(list) then errors.misuse("cluster:pods takes a list, got %s", errors.kind(list)) end
  local requests, at, nodes, pods = {}, {}, {}, {}
  for i, t in ipairs(list) do
    local request
    request, nodes[i], pods[i] = pod_request(self, t)
    if request then requests[#requests + 1], at[#at + 1] = request, i end
  end
  local given = self.provider.make_pods and self.provider:make_pods(requests)
  for k, request in ipairs(requests) do
    local i = at[k]
    local endpoint, err
    if given then endpoint, err = given[k][1], given[k][2] else endpoint, err = self.provider:pod(request) end
    pods[i] = pod_of(self, list[i], request.name, nodes[i], endpoint, err)
  end
  return pods
end

-- client and server: pods on two nodes, or on one.
function Cluster:pair(t)
  t = t or {}
  check.keys(self.session.core, "pair", t, checks.keys.pair)
  local function pod(name, node)
    return { name = fresh_name(self, name), node = node, runtime = t.runtime, mtu = t.mtu, bandwidth = t.bandwidth,
      cpu = t.cpu, memory = t.memory }
  end
  local pods = self:pods { pod("client", 1), pod("server", t.same_node and 1 or 2) }
  return pods[1], pods[2]
end

-- ---- Services ----

-- `{ a, b, type = … }` as well as `{ endpoints = { a, b }, type = … }`.
local function with_endpoints(t)
  if t.endpoints ~= nil or t[1] == nil then return t end
  local request = { endpoints = {} }
  for key, value in pairs(t) do
    if type(key) == "number" then request.endpoints[key] = value else request[key] = value end
  end
  return request
end

-- A Service over several pods or nodes: { endpoints = { a, b }, type?, … }, or the list alone.
function Cluster:service(t)
  check_open(self)
  if type(t) ~= "table" or is(t) then errors.misuse("cluster:service takes a table: { endpoints = { a, b } }") end
  t = with_endpoints(t)
  local request = checks.service(self.session.core, self, t, is)
  -- a node's name may have dots
  local stem = "svc-" .. (request.external_name or t.endpoints[1].name)
  stem = stem:gsub("[^%l%d]", "-"):sub(1, 60):gsub("%-+$", "")
  request.name = t.name or fresh_name(self, stem)
  checks.check_name("service", request.name, self.names)
  self.names[request.name] = "Service"
  local reason, endpoints = self.cannot.service or self.cannot[request.type], {}
  for i, thing in ipairs(t.endpoints or {}) do reason, endpoints[i] = reason or thing.skip, thing.endpoint end
  request.endpoints = endpoints
  local service = reason and stand_in(self, Service, "service", request.name, reason)
    or thing_of(self, Service, "service", request.name, self.provider:service(request))
  service.endpoints, service.headless, service.type = t.endpoints, t.headless or false, request.type
  service.external_ips, service.external = request.external_ips, request.external_name and true or nil
  service.sticky = request.affinity or request.external_traffic_policy == "Local" or nil
  local settling = service.endpoint and service.endpoint.settling
  service.settled = settling and self.session.core.now() + settling or nil
  return service
end

-- A Service over this pod alone.
function Thing:service(t)
  local request = {}
  for key, value in pairs(t or {}) do request[key] = value end
  if request.endpoints then
    errors.misuse("%s:service takes no endpoints; use cluster:service for a Service over several", self.name)
  end
  request.endpoints = { self }
  return self.cluster:service(request)
end

-- A node's addresses, or nil and why they are not available. Where nodes may not be read, the agent there tells them.
local function addresses_of(node)
  local endpoint = node.endpoint
  if endpoint.prepare and not next(endpoint.addresses) then
    local ok, err = endpoint:prepare()
    if not ok and err.code ~= "skip" then errors.raise(err, "node " .. node.name) end
    if not ok then return nil, err.message end
  end
  return endpoint.addresses
end

-- The Service's NodePort at a node's address.
function Service:on(node)
  node = self.cluster:node(node)
  if self.type ~= "NodePort" and self.type ~= "LoadBalancer" then
    errors.misuse("%s is of type %s and has no NodePort; make it with type = \"NodePort\"", self.name, self.type)
  end
  local skip, addresses = self.skip or node.skip, nil
  if not skip then addresses, skip = addresses_of(node) end
  return setmetatable({
    kind = "node_port", name = self.name .. "@" .. node.name, settled = self.settled, node = node, skip = skip,
    cluster = self.cluster, addresses = addresses, port = self.node_port, endpoints = self.endpoints,
    sticky = self.sticky,
  }, Thing)
end

-- The network of that interface or name; raises where the pod has none.
local function network_of(pod, which)
  local list, err = pod.cluster.provider:networks(pod.endpoint, which)
  if not list then errors.raise(err, ("%s:on(\"%s\")"):format(pod.name, which)) end
  local names = {}
  for i, network in ipairs(list) do
    if network.interface == which or network.name == which or network.name:match "[^/]+$" == which then
      return network
    end
    names[i] = ("%s (%s)"):format(network.interface, network.name)
  end
  errors.misuse("%s has no network '%s'; its secondary networks are: %s", pod.name, which,
    #names > 0 and table.concat(names, ", ") or "none")
end

-- The pod at its address on a secondary network, by the name of the interface or of the network.
function Pod:on(which)
  check_open(self.cluster)
  if type(which) ~= "string" or which == "" then
    errors.misuse("%s:on takes the name of a network or interface, as in \"net1\", got %s", self.name,
      errors.kind(which))
  end
  local skip, network = self.skip or self.cluster.cannot.networks, {}
  if not skip then network = network_of(self, which) end
  return setmetatable({
    kind = "network", name = self.name .. "@" .. which, pod = self, node = self.node, skip = skip,
    cluster = self.cluster, endpoint = self.endpoint, addresses = network.addresses, port = self.port,
    runtime = self.runtime, label = self.label, external = self.external,
  }, Thing)
end

-- ---- policies ----

-- What pods let in: { to = pods, from = pods, nodes and ranges, copies? }. nil and a reason where there are none.
function Cluster:policy(t)
  check_open(self)
  if type(t) ~= "table" or is(t) then errors.misuse("cluster:policy takes a table: { to = pod, from = pod }") end
  local request = checks.policy(self.session.core, self, t, is)
  request.name = t.name or fresh_name(self, "policy-" .. request.to[1].name)
  checks.check_name("policy", request.name, self.names)
  local reason = self.cannot.policy
  for key in pairs { to = true, from = true } do
    for i, thing in ipairs(request[key]) do
      reason, request[key][i] = reason or is(thing) and thing.skip or nil, is(thing) and thing.endpoint or thing
    end
  end
  if reason then return nil, reason end
  local ok, err = self.provider:policy(request)
  if not ok and err.code == "skip" then return nil, err.message end
  if not ok then errors.raise(err, "policy " .. request.name) end
  self.names[request.name] = "policy"
  return setmetatable({ kind = "policy", name = request.name, cluster = self, copies = request.copies }, Policy)
end

-- The Service at one of its external IPs, by number or address.
function Service:external_ip(which)
  local list, address = self.external_ips or {}, nil
  for i, ip in ipairs(list) do
    if i == (which or 1) or ip == which then address = ip end
  end
  if not address then
    errors.misuse("%s has no external IP %s; it has: %s", self.name, tostring(which or 1),
      #list > 0 and table.concat(list, ", ") or "none")
  end
  return setmetatable({
    kind = "external_ip", name = self.name .. "@" .. address, settled = self.settled, skip = self.skip,
    cluster = self.cluster, addresses = { [address:find(":", 1, true) and "v6" or "v4"] = address }, port = self.port,
    endpoints = self.endpoints, sticky = self.sticky,
  }, Thing)
end

-- ---- programs of one's own ----

-- Its standard output and error, and its status; nil and the reason where no program can be run there.
local function exec(self, argv)
  local cluster, words = self.cluster, {}
  check_open(cluster)
  if type(argv) ~= "table" or is(argv) or #argv == 0 then
    errors.misuse("%s:exec takes a program and its arguments: { \"iperf3\", \"-v\" }", self.name)
  end
  for i, word in ipairs(argv) do
    if type(word) ~= "string" and type(word) ~= "number" then
      errors.misuse("%s:exec: argument %d must be a string, got a %s", self.name, i, type(word))
    end
    words[i] = tostring(word)
  end
  if cluster.session.plan then cluster.session.plan:cut() end
  local reason = self.skip or cluster.cannot.exec
  if reason then return nil, reason end
  local limit = cluster.session.exec_limit and cluster.session.exec_limit()
  if limit then words = { "timeout", "-k", "1", tostring(limit), (table.unpack or unpack)(words) } end
  local ended, err = cluster.provider:exec(self.endpoint, words)
  if not ended and err.code == "skip" then return nil, err.message end
  if not ended then errors.raise(err, err.code ~= "interrupted" and "exec in " .. self.name or nil) end
  return ended.output, ended.status
end
Node.exec, Pod.exec = exec, exec

-- ---- the cluster itself ----

-- An object of Kubernetes that belongs to the run: labelled, owned, and removed at the end. nil and a reason where the
-- cluster is not Kubernetes.
function Cluster:create(object)
  check_open(self)
  if type(object) ~= "table" or type(object.kind) ~= "string" or type(object.apiVersion) ~= "string" then
    errors.misuse("cluster:create takes an object with apiVersion and kind")
  end
  local reason = self.cannot.create
  if reason then return nil, reason end
  local made, err = self.provider:create(object)
  if not made then errors.raise(err, "create " .. object.kind) end
  return made
end

-- Removes a pod, a Service or a policy before the cluster is closed.
function Cluster:delete(thing)
  check_open(self)
  if not is(thing) or thing.kind ~= "pod" and thing.kind ~= "service" and thing.kind ~= "policy" then
    errors.misuse("cluster:delete takes a pod, a Service or a policy")
  end
  if not thing.skip then
    local ok, err = self.provider:delete(thing.name)
    if ok == nil and err then errors.raise(err, "delete " .. thing.name) end
  end
  thing.skip = thing.name .. " was deleted"
  self.names[thing.name] = nil
end

-- Removes everything that the cluster made. Harmless when repeated.
function Cluster:close()
  if self.closed then return end
  self.closed = true
  self.provider:close()
end
Cluster.__close = Cluster.close
Cluster.__gc = Cluster.close

-- What can be called on a cluster and its things, and on which: for suggestions, and for a dot in place of the colon.
M.methods, M.method_of = {}, {}
local owners = { [Cluster] = "a cluster", [Thing] = "a pod, node or Service", [Node] = "a node", [Pod] = "a pod",
  [Service] = "a Service" }
local function with_colon(of, name, method)
  return function(self, ...)
    if getmetatable(self) ~= Cluster and not is(self) then
      errors.misuse("call %s with a colon: %s:%s(…)", name, of == Cluster and "cluster" or "pod", name)
    end
    return method(self, ...)
  end
end
for _, of in ipairs { Cluster, Thing, Node, Pod, Service } do
  for name, value in pairs(of) do
    if type(value) == "function" and not name:find "^__" then
      M.methods[#M.methods + 1], M.method_of[name] = name, owners[of]
      of[name] = with_colon(of, name, value)
    end
  end
end
table.sort(M.methods)

-- ---- opening one ----

local function open(s, t, where, lone)
  local provider, module, options = opening.open(s, t, where, lone)
  local self = setmetatable({
    provider = provider, cannot = contract.cluster(provider, module), module = module, options = options, session = s,
    name = options.provider, names = {}, node_by = {}, pods_made = 0, token = options.token, closed = false,
    kube = provider.api,
  }, Cluster)
  s:add_cluster(self)
  if s.ledger then s.ledger:set_environment(self.name, provider:environment()) end
  return self
end

-- Opens a cluster. Raises where none is available (exit code 3).
function M.open(t)
  local s = session.current()
  t = t or {}
  if type(t) ~= "table" then errors.misuse("knbl.cluster takes a table") end
  return open(s, t, s.settings.on)
end

-- One machine as an end beside those of a cluster: "ssh:USER@HOST" or "hosts:ADDRESS".
function M.host(text)
  local provider = type(text) == "string" and text:match "^(%l+):."
  if provider ~= "ssh" and provider ~= "hosts" then
    errors.misuse("knbl.host takes \"ssh:USER@HOST\" or \"hosts:ADDRESS\", got %s", tostring(text))
  end
  if text:find(",", 1, true) then errors.misuse("knbl.host takes one host, got '%s'", text) end
  local cluster = open(session.current(), {}, text, true)
  cluster.lone = true
  return cluster:node(1)
end

return M
