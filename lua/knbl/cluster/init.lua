-- knbl.cluster - nodes, pods and Services as scenarios see them, the same over every provider; everything is checked here
-- before a provider hears of it.
--
-- A provider is a module { name, open = function(options) -> provider | nil, err }. `options` are the keys of knbl.cluster{…}
-- and: `on` (what followed "PROVIDER:" on the command line, as text), `pairs` (the same as a list of {key, value}), `token`
-- (a fresh secret, or the one of --token-file), `settings` (the program's flags). A provider has
--   node(index_or_name) pod{…} service{…} -> endpoint or service | nil, err;  delete(name);
--   exec(name, argv) -> { output, status } | nil, err: runs a program in a pod or on a node (a provider may lack this);
--   standing_node(name) -> the endpoint of an agent in that node's own network, where there is one already (a provider may lack this);
--   one_machine: all of it is on this machine;  environment() -> table;  close()
-- An endpoint may have prepare(self) -> true | nil, err: called before it is measured; does nothing from the second time on.
-- An err with code "skip" says why a thing cannot be had here: what needs it becomes a skipped measurement, and the run goes on.
local errors = require "knbl.errors"
local file = require "knbl.file"
local session = require "knbl.session"

local M = {}

-- ---- things of a cluster ----

local Thing = {}       -- a node, a pod, a Service, or a NodePort at a node
Thing.__index = Thing
Thing.__tostring = function(thing) return thing.name end
local Node = setmetatable({ __tostring = Thing.__tostring }, Thing)
-- The first of several nodes taken for a list of them would give nils, which mean "anywhere" to a pod.
function Node.__index(node, key)
  if type(key) == "number" then
    errors.misuse("%s is one node, no list: cluster:nodes(n) gives a value for each, as in `local a, b = cluster:nodes(2)`", node.name)
  end
  return Node[key]
end
local Pod = setmetatable({ __tostring = Thing.__tostring }, Thing)
Pod.__index = Pod
local Service = setmetatable({ __tostring = Thing.__tostring }, Thing)
Service.__index = Service

local Cluster = {}
Cluster.__index = Cluster
Cluster.__name = "knbl.cluster"

function M.is(value)
  local meta = type(value) == "table" and getmetatable(value)
  return meta == Node or meta == Pod or meta == Service or meta == Thing
end
local is = M.is

local function check_keys(core, what, given, known)
  for key in pairs(given) do
    if not known[key] then
      local list = {}
      for name in pairs(known) do list[#list + 1] = name end
      table.sort(list)
      local near = errors.hint(core, tostring(key), list)
      errors.misuse("%s: unknown key '%s'%s", what, tostring(key), near ~= "" and near or "; there are: " .. table.concat(list, ", "))
    end
  end
end

local function set(text)
  local t = {}
  for word in text:gmatch("%S+") do t[word] = true end
  return t
end

local cluster_keys = set "provider nodes mtu pod_mtu overlay services mode bandwidth families namespace image cpu memory agents"
local pod_keys = set "name node runtime image port cpu memory mtu bandwidth hardened vm annotations labels env command"
local vm_keys = set "vcpus machine offloads join kernel initramfs boot_timeout"
local service_keys = set "name type headless affinity external_traffic_policy endpoints port ports"
local port_keys = set "port target protocol node_port name"

M.keys = { cluster = cluster_keys, pod = pod_keys, service = service_keys }

-- What the lab alone can be told; a real cluster has its own.
local lab_keys = set "mtu pod_mtu overlay families services mode"

local function check_name(self, what, name)
  if type(name) ~= "string" or #name > 63 or not name:match("^[%l%d][%l%d-]*$") or name:sub(-1) == "-" then
    errors.misuse("%s: '%s' cannot be a name: small letters, digits and '-', at most 63", what, tostring(name))
  end
  if self.names[name] then errors.misuse("%s: there is a %s named '%s' already", what, self.names[name], name) end
end

local function fresh_name(self, stem)
  if not self.names[stem] then return stem end
  local i = 2
  while self.names[stem .. "-" .. i] do i = i + 1 end
  return stem .. "-" .. i
end

local function check_number(what, key, value, least, most)
  if value == nil then return end
  if type(value) ~= "number" or value ~= math.floor(value) or value < least or value > most then
    errors.misuse("%s: %s must be a whole number from %d to %d, not %s", what, key, least, most, tostring(value))
  end
end

local function check_open(self)
  if self.closed then errors.misuse("the cluster is closed") end
end

-- What the provider gave, or a stand-in that knows why there is none; other errors are raised.
local function thing_of(self, meta, kind, name, given, err)
  if given then
    local thing = { kind = kind, name = given.name or name, endpoint = given, cluster = self }
    for _, key in ipairs { "addresses", "port", "node_port", "type", "headless", "runtime", "label" } do thing[key] = given[key] end
    return setmetatable(thing, meta)
  end
  if type(err) == "table" and err.code == "skip" then
    return setmetatable({ kind = kind, name = tostring(name), skip = err.message, cluster = self }, meta)
  end
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
  if type(which) == "number" then check_number("cluster:node", "the number", which, 1, 10000)
  elseif type(which) ~= "string" then errors.misuse("a node is a number, a name or a node, not a %s", type(which)) end
  if not self.node_by[which] then
    local node = thing_of(self, Node, "node", type(which) == "number" and "node-" .. which or which, self.provider:node(which))
    node.node = node
    self.node_by[which] = self.node_by[node.name] or node
    if not node.skip then
      self.node_by[node.name] = self.node_by[which]
      self.names[node.name] = "node"
    end
  end
  return self.node_by[which]
end

-- n nodes, one value each: `local a, b = cluster:nodes(2)`. Without n, all that the cluster has.
function Cluster:nodes(n)
  check_open(self)
  check_number("cluster:nodes", "the number", n, 1, 10000)
  local nodes = {}
  for i = 1, n or self.provider.nodes or self.options.nodes or 2 do nodes[i] = self:node(i) end
  return (table.unpack or unpack)(nodes)
end

local function check_pod(self, t)
  local core = self.session.core
  check_keys(core, "pod", t, pod_keys)
  check_number("pod", "mtu", t.mtu, 68, 65535)
  check_number("pod", "port", t.port, 1, 65535)
  if t.runtime ~= nil and (type(t.runtime) ~= "string" or not t.runtime:match("^[%w._-]+$")) then
    errors.misuse("pod: '%s' cannot be a runtime", tostring(t.runtime))
  end
  if t.vm ~= nil and type(t.vm) ~= "table" then errors.misuse("pod: vm is a table of what a guest is made of, not %s", tostring(t.vm)) end
  check_keys(core, "pod: vm", t.vm or {}, vm_keys)
  if t.bandwidth ~= nil then
    local rate, err = core.rate(tostring(t.bandwidth))
    if not rate or not rate.bps then
      errors.misuse("pod: bandwidth: %s", err and tostring(err) or ("'%s' is no rate of bits"):format(t.bandwidth))
    end
  end
  if (t.image or t.command) and t.port == nil then errors.misuse("pod: a server of your own needs the port that it serves") end
end

-- A pod with an agent; with `image` and `port`, a server of your own.
function Cluster:pod(t)
  check_open(self)
  t = t or {}
  if type(t) ~= "table" then errors.misuse("cluster:pod takes a table") end
  local most = self.module.pods_max
  if most and self.pods >= most then errors.misuse("pod: a cluster of this kind (%s) holds at most %d pods", self.name, most) end
  check_pod(self, t)
  local name = t.name or fresh_name(self, "pod-" .. (self.pods + 1))
  check_name(self, "pod", name)
  local node = t.node ~= nil and self:node(t.node) or nil
  self.names[name], self.pods = "pod", self.pods + 1
  if node and node.skip then
    return setmetatable({ kind = "pod", name = name, skip = node.skip, cluster = self, node = node, label = t.runtime }, Pod)
  end
  local request = {}
  for key, value in pairs(t) do request[key] = value end
  request.name, request.node = name, node and node.endpoint.name
  local pod = thing_of(self, Pod, "pod", name, self.provider:pod(request))
  pod.node, pod.runtime, pod.external = node, t.runtime or pod.runtime, (t.image or t.command) ~= nil
  pod.label = pod.label or pod.runtime
  if pod.external then pod.port = t.port end
  return pod
end

-- client and server: pods on two nodes, or on one.
function Cluster:pair(t)
  t = t or {}
  check_keys(self.session.core, "pair", t, set "same_node runtime mtu bandwidth cpu memory")
  local function pod(name, node)
    return self:pod { name = fresh_name(self, name), node = node, runtime = t.runtime, mtu = t.mtu, bandwidth = t.bandwidth, cpu = t.cpu,
      memory = t.memory }
  end
  return pod("client", 1), pod("server", t.same_node and 1 or 2)
end

-- ---- Services ----

local function check_service(self, t)
  check_keys(self.session.core, "service", t, service_keys)
  if type(t.endpoints) ~= "table" or #t.endpoints == 0 then errors.misuse("a Service without endpoints: give it pods or nodes") end
  for _, endpoint in ipairs(t.endpoints) do
    if not is(endpoint) or endpoint.kind ~= "pod" and endpoint.kind ~= "node" then
      errors.misuse("service: an endpoint is a pod or a node, not %s", is(endpoint) and "a " .. endpoint.kind or type(endpoint))
    end
    if endpoint.cluster ~= self then errors.misuse("service: %s belongs to another cluster", endpoint.name) end
  end
  local kinds = { ClusterIP = true, NodePort = true }
  if t.type ~= nil and not kinds[t.type] then
    errors.misuse("service: type '%s' is neither ClusterIP nor NodePort", tostring(t.type))
  end
  if t.headless and t.type == "NodePort" then errors.misuse("service: a headless Service has no NodePort") end
  local policy = t.external_traffic_policy
  if policy ~= nil and policy ~= "Cluster" and policy ~= "Local" then
    errors.misuse("service: external_traffic_policy is Cluster or Local, not '%s'", tostring(policy))
  end
  if policy and t.type ~= "NodePort" then errors.misuse("service: external_traffic_policy is a NodePort's: give it type = \"NodePort\"") end
  if t.port ~= nil and t.ports ~= nil then errors.misuse("service: port or ports, not both: ports = { { port = 80 }, … }") end
  check_number("service", "port", t.port, 1, 65535)
end

-- Whether a client stays with its endpoint: true or false, or as Kubernetes has it.
local affinities = { ClientIP = true, None = false }
local function affinity_of(value)
  if value == nil or type(value) == "boolean" then return value end
  if affinities[value] == nil then errors.misuse("service: affinity is true or false, or ClientIP or None, not '%s'", tostring(value)) end
  return affinities[value]
end

-- The ports of a Service, each checked: { port, target?, protocol?, node_port?, name? }, or a number alone.
local function ports_of(self, ports)
  if ports == nil then return nil end
  if type(ports) ~= "table" or #ports == 0 then errors.misuse("service: ports is a list: { { port = 80 }, { port = 443, protocol = \"tcp\" } }") end
  local list = {}
  for i, given in ipairs(ports) do
    local port = {}
    if type(given) ~= "table" then given = { port = given } end
    check_keys(self.session.core, "service: a port", given, port_keys)
    for key, value in pairs(given) do port[key] = value end
    if port.port == nil then errors.misuse("service: port %d of the list has no 'port'", i) end
    for _, key in ipairs { "port", "target", "node_port" } do check_number("service", key, port[key], 1, 65535) end
    port.protocol = port.protocol and tostring(port.protocol):lower()
    if port.protocol and not ({ tcp = true, udp = true, both = true })[port.protocol] then
      errors.misuse("service: protocol is tcp, udp or both, not '%s'", port.protocol)
    end
    list[i] = port
  end
  return list
end

-- `{ a, b, type = … }` as well as `{ endpoints = { a, b }, type = … }`.
local function with_endpoints(t)
  if t.endpoints ~= nil or t[1] == nil then return t end
  local request = { endpoints = {} }
  for key, value in pairs(t) do
    if type(key) == "number" then request.endpoints[key] = value else request[key] = value end
  end
  return request
end

-- A Service over several pods or nodes: { endpoints = { a, b }, type?, headless?, affinity?, name? }; the list alone will do.
function Cluster:service(t)
  check_open(self)
  if type(t) ~= "table" or is(t) then errors.misuse("cluster:service takes a table: { endpoints = { a, b } }") end
  t = with_endpoints(t)
  check_service(self, t)
  local affinity, ports = affinity_of(t.affinity), ports_of(self, t.ports)
  local first = t.endpoints[1]
  local name = t.name or fresh_name(self, ("svc-" .. first.name):gsub("[^%l%d]", "-"):sub(1, 60):gsub("%-+$", "")) -- a node's name may have dots
  check_name(self, "service", name)
  self.names[name] = "Service"
  local request, endpoints = {}, {}
  for key, value in pairs(t) do request[key] = value end
  for i, endpoint in ipairs(t.endpoints) do
    if endpoint.skip then
      return setmetatable({ kind = "service", name = name, skip = endpoint.skip, cluster = self, endpoints = t.endpoints }, Service)
    end
    endpoints[i] = endpoint.endpoint
  end
  request.name, request.endpoints, request.type = name, endpoints, t.type or "ClusterIP"
  request.affinity, request.ports = affinity, ports
  local service = thing_of(self, Service, "service", name, self.provider:service(request))
  service.endpoints, service.headless, service.type = t.endpoints, t.headless or false, request.type
  local settling = service.endpoint and service.endpoint.settling
  service.settled = settling and self.session.core.now() + settling or nil
  return service
end

-- A Service over this pod alone.
function Thing:service(t)
  local request = {}
  for key, value in pairs(t or {}) do request[key] = value end
  if request.endpoints then errors.misuse("%s:service is over %s alone; use cluster:service for several", self.name, self.name) end
  request.endpoints = { self }
  return self.cluster:service(request)
end

-- ---- programs of one's own ----

-- Its standard output and error, and its status; nil and the reason where no program can be run there.
local function exec(self, argv)
  local cluster, words = self.cluster, {}
  check_open(cluster)
  if type(argv) ~= "table" or is(argv) or #argv == 0 then errors.misuse("%s:exec takes a program and its arguments: { \"iperf3\", \"-v\" }", self.name) end
  for i, word in ipairs(argv) do
    if type(word) ~= "string" and type(word) ~= "number" then errors.misuse("%s:exec: word %d is a %s, not a text", self.name, i, type(word)) end
    words[i] = tostring(word)
  end
  if cluster.session.plan then cluster.session.plan:cut() end
  if self.skip then return nil, self.skip end
  if not cluster.provider.exec then return nil, ("%s runs no programs beside its agents; the lab does"):format(cluster.name) end
  local ended, err = cluster.provider:exec(self.endpoint, words)
  if not ended and err.code == "skip" then return nil, err.message end
  if not ended then errors.raise(err, err.code ~= "interrupted" and "exec in " .. self.name or nil) end
  return ended.output, ended.status
end
Node.exec, Pod.exec = exec, exec

-- A node's addresses, or nil and why they cannot be had. Who may not look at nodes hears of them from an agent there.
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
  if self.type ~= "NodePort" and not self.skip then
    errors.misuse("%s is a ClusterIP and has no port on nodes: make it with type = \"NodePort\"", self.name)
  end
  local skip, addresses = self.skip or node.skip, nil
  if not skip then addresses, skip = addresses_of(node) end
  return setmetatable({
    kind = "node_port", name = self.name .. "@" .. node.name, settled = self.settled, node = node, skip = skip,
    cluster = self.cluster, addresses = addresses, port = self.node_port, endpoints = self.endpoints,
  }, Thing)
end

-- ---- the cluster itself ----

-- An object of Kubernetes that belongs to the run: labelled, owned, and removed with all else. nil and a reason where the cluster is none.
function Cluster:create(object)
  check_open(self)
  if type(object) ~= "table" or type(object.kind) ~= "string" or type(object.apiVersion) ~= "string" then
    errors.misuse("cluster:create takes an object with its apiVersion and kind")
  end
  if not self.provider.create then return nil, ("%s makes no %s: it is no Kubernetes"):format(self.name, object.kind) end
  local made, err = self.provider:create(object)
  if not made then errors.raise(err, "create " .. object.kind) end
  return made
end

-- Removes a pod or Service before the cluster goes.
function Cluster:delete(thing)
  check_open(self)
  if not is(thing) or thing.kind ~= "pod" and thing.kind ~= "service" then errors.misuse("only pods and Services can be deleted") end
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

local function split_on(text)
  local name, rest = text:match("^([^:]+):?(.*)$")
  local list = {}
  for item in (rest or ""):gmatch("[^,]+") do
    local key, value = item:match("^([^=]+)=(.*)$")
    list[#list + 1] = { key or item, value }
  end
  return name, rest ~= "" and rest or nil, list
end

-- What can be called on a cluster and its things: for who misspells it, or takes a dot for the colon.
M.methods = {}
local function with_colon(class, name, method)
  return function(self, ...)
    if getmetatable(self) ~= Cluster and not is(self) then
      errors.misuse("%s is called with a colon, as in %s:%s(…)", name, class == Cluster and "cluster" or "pod", name)
    end
    return method(self, ...)
  end
end
for _, class in ipairs { Cluster, Thing, Node, Pod, Service } do
  for name, value in pairs(class) do
    if type(value) == "function" and not name:find "^__" then
      M.methods[#M.methods + 1] = name
      class[name] = with_colon(class, name, value)
    end
  end
end
table.sort(M.methods)

M.providers = { "lab", "k8s", "hosts", "loopback" }

-- The name of the provider that a run uses, what followed it on the command line, and that as pairs.
function M.provider_of(s, named)
  if s.settings.on then return split_on(s.settings.on) end
  return named or (rawget(_G, "jit") and "loopback" or "lab"), nil, {}
end

local function load_provider(s, name)
  local known
  for _, provider in ipairs(M.providers) do known = known or provider == name end
  if not known then
    errors.usage("unknown provider '%s': it is one of %s%s", name, table.concat(M.providers, ", "),
      errors.hint(s.core, name, M.providers))
  end
  return require("knbl.cluster." .. name)
end

local function token_of(s)
  if s.plan then return "", true end
  local path = s.settings.token_file
  if path then
    local text, err = file.read_token(path)
    if not text then errors.usage("--token-file: %s", err) end
    if #text < 16 then errors.usage("--token-file: %s holds less than 16 characters", path) end
    return text, true
  end
  local env = os.getenv("KNBL_TOKEN")
  if env and env ~= "" then
    if #env < 16 then errors.usage("KNBL_TOKEN holds less than 16 characters") end
    return env, true
  end
  return s.core.token(), false
end

local function check_cluster(s, module, t)
  local known = setmetatable({}, { __index = cluster_keys })
  for key in pairs(cluster_keys) do known[key] = true end
  for key in pairs(module.options or {}) do known[key] = true end
  check_keys(s.core, "cluster", t, known)
  check_number("cluster", "nodes", t.nodes, 1, 10000)
  check_number("cluster", "mtu", t.mtu, 576, 65535)
  check_number("cluster", "services", t.services, 0, 20000)
  for key, words in pairs(module.choices or {}) do
    local fits = t[key] == nil
    for _, word in ipairs(words) do fits = fits or tostring(t[key]) == word end
    if not fits then
      errors.misuse("cluster: %s is one of %s, not '%s'%s", key, table.concat(words, ", "), tostring(t[key]), errors.hint(s.core, tostring(t[key]), words))
    end
  end
end

-- A cluster that cannot be had as it was asked for: all that is measured with it is skipped with the reason.
local function nowhere(reason)
  local function skipped() return nil, { code = "skip", message = reason } end
  return { node = skipped, pod = skipped, service = skipped, environment = function() return {} end, close = function() end, nodes = nil }
end

-- Only the lab can be given a shape; a real cluster has its own.
local function cannot_have(module, t)
  local keys = {}
  for key in pairs(t) do
    if lab_keys[key] and module.name ~= "lab" and not (module.options or {})[key] then keys[#keys + 1] = "'" .. key .. "'" end
  end
  table.sort(keys)
  if #keys > 0 then return ("%s can be chosen in the lab only; this is %s"):format(table.concat(keys, ", "), module.name) end
end

-- Opens a cluster. Raises where none can be had (exit code 3).
function M.open(t)
  local s = session.current()
  t = t or {}
  if type(t) ~= "table" then errors.misuse("knbl.cluster takes a table") end
  local name, on, pairs_of_on = M.provider_of(s, t.provider)
  local module = load_provider(s, name)
  check_cluster(s, module, t)
  s:check_words()
  local options = {}
  for key, value in pairs(t) do options[key] = value end
  options.on, options.pairs, options.settings = on, pairs_of_on, s.settings
  options.token, options.token_given = token_of(s)
  options.nodes = s.settings.nodes or options.nodes
  options.core, options.provider, options.plan, options.expected, options.scenario = s.core, name, s.plan, s.expected, s.script
  local reason = cannot_have(module, t)
  local provider, err
  if reason then
    provider = nowhere(reason)
    if s.plan then s.plan:add_cluster(name) end
  elseif s.plan and s.settings.manifests and module.plan then provider, err = module.plan(options)
  else provider, err = (s.plan and require "knbl.cluster.plan" or module).open(options) end
  if not provider then
    local failure = errors.from(err, "unavailable")
    if failure.code ~= "usage" and failure.code ~= "interrupted" then failure = errors.new("unavailable", failure.message) end
    errors.raise(failure, "no cluster (" .. name .. ")")
  end
  local self = setmetatable({
    provider = provider, module = module, options = options, session = s, name = name, names = {}, node_by = {}, pods = 0,
    token = options.token, closed = false, kube = provider.api,
  }, Cluster)
  s:add_cluster(self)
  if s.ledger then s.ledger:set_environment(name, provider:environment()) end
  return self
end

return M
