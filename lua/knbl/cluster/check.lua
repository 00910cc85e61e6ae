-- knbl.cluster.check - what a script asks of a cluster: the tables of knbl.cluster{…}, cluster:pod{…} and
-- cluster:service{…}, checked before a provider sees them.
local check = require "knbl.base.check"
local errors = require "knbl.base.errors"

local M = {}

local set = check.set

M.keys = {
  cluster = set [[provider nodes mtu pod_mtu overlay services mode zones racks bandwidth families namespace image cpu
    memory agents encryption]],
  pod = set [[name node runtime image port cpu memory mtu bandwidth hardened vm annotations labels env command
    networks]],
  vm = set "vcpus machine offloads join kernel initramfs boot_timeout",
  pair = set "same_node runtime mtu bandwidth cpu memory",
  service = set [[name type headless affinity external_traffic_policy endpoints port ports external_ips external_name
    wait]],
  port = set "port target protocol node_port name",
  policy = set "name to from copies",
}

-- What gives a cluster its shape: a provider that cannot be told it has one already.
local shape = set "mtu pod_mtu overlay families services mode encryption zones racks"

-- ---- clusters ----

function M.check_cluster(core, module, t)
  local known = {}
  for key in pairs(M.keys.cluster) do known[key] = true end
  for key in pairs(module.options or {}) do known[key] = true end
  check.keys(core, "cluster", t, known)
  check.number("cluster", "nodes", t.nodes, 1, 10000)
  check.number("cluster", "pod_mtu", t.pod_mtu, 68, 65535)
  check.choice(core, "cluster", "encryption", t.encryption, { "none", "wireguard", "wireguard-go", "ipsec" })
end

-- Why a cluster of this provider cannot have the shape that is asked for, or nil.
function M.misshapen(module, t)
  local keys = {}
  for key in pairs(t) do
    if shape[key] and not (module.options or {})[key] then keys[#keys + 1] = "'" .. key .. "'" end
  end
  table.sort(keys)
  if #keys == 0 then return nil end
  return ("%s: available in the lab only, not on %s"):format(table.concat(keys, ", "), module.name)
end

-- ---- pods ----

-- Names are DNS labels.
function M.check_name(what, name, taken)
  if type(name) ~= "string" or #name > 63 or not name:match("^[%l%d][%l%d-]*$") or name:sub(-1) == "-" then
    errors.misuse("%s: invalid name '%s': use lower-case letters, digits and '-', at most 63 characters", what,
      tostring(name))
  end
  if taken[name] then errors.misuse("%s: the name '%s' is already used by a %s", what, name, taken[name]) end
end

-- Secondary networks: [NAMESPACE/]NAME[@INTERFACE] each, as in the annotation of Multus.
local function check_networks(t)
  if t.networks == nil then return end
  check.type("pod", "networks", t.networks, "table")
  if #t.networks == 0 then errors.misuse("pod: networks must be a non-empty list of names, as in { \"net1\" }") end
  for i, name in ipairs(t.networks) do
    local plain = type(name) == "string" and name:gsub("^[%l%d.-]+/", ""):gsub("@[%l%d._-]+$", "")
    if not plain or not plain:match "^[%l%d][%l%d.-]*$" then
      errors.misuse("pod: networks[%d] must be [NAMESPACE/]NAME[@INTERFACE] as in \"net1\", got '%s'", i,
        tostring(name))
    end
  end
  if t.runtime == "host" then
    errors.misuse("pod: networks cannot be combined with runtime = \"host\", which uses its node's network")
  end
end

function M.check_pod(core, t)
  check.keys(core, "pod", t, M.keys.pod)
  check.number("pod", "mtu", t.mtu, 68, 65535)
  check.number("pod", "port", t.port, 1, 65535)
  if t.runtime ~= nil and (type(t.runtime) ~= "string" or not t.runtime:match("^[%w._-]+$")) then
    errors.misuse("pod: invalid runtime name '%s'", tostring(t.runtime))
  end
  check_networks(t)
  check.type("pod", "vm", t.vm, "table")
  check.keys(core, "pod: vm", t.vm or {}, M.keys.vm)
  local rate = t.bandwidth ~= nil and core.rate(tostring(t.bandwidth))
  if t.bandwidth ~= nil and not (rate and rate.bps) then
    errors.misuse("pod: bandwidth must be in bits a second, as in \"1Gbit/s\", got '%s'", tostring(t.bandwidth))
  end
  if (t.image or t.command) and t.port == nil then
    errors.misuse("pod: port is required with image or command: the port that your server listens on")
  end
end

-- ---- Services ----

-- Whether a client stays with its endpoint: true or false, or as Kubernetes has it.
local affinities = { ClientIP = true, None = false }

local function affinity_of(core, value)
  check.choice(core, "service", "affinity", value, { true, false, "ClientIP", "None" })
  if type(value) == "string" then return affinities[value] end
  return value
end

-- The ports of a Service, each checked: { port, target?, protocol?, node_port?, name? }, or a number alone.
local function ports_of(core, ports)
  if ports == nil then return nil end
  if type(ports) ~= "table" or #ports == 0 then
    errors.misuse("service: ports must be a non-empty list, as in { { port = 80 }, { port = 53, protocol = \"udp\" } }")
  end
  local list = {}
  for i, given in ipairs(ports) do
    local port, what = {}, ("service: ports[%d]"):format(i)
    if type(given) ~= "table" then given = { port = given } end
    check.keys(core, what, given, M.keys.port)
    for key, value in pairs(given) do port[key] = value end
    if port.port == nil then errors.misuse("%s: port is required", what) end
    for _, key in ipairs { "port", "target", "node_port" } do check.number(what, key, port[key], 1, 65535) end
    port.protocol = port.protocol and tostring(port.protocol):lower()
    check.choice(core, what, "protocol", port.protocol, { "tcp", "udp", "both" })
    list[i] = port
  end
  return list
end

local function check_endpoints(cluster, things, is)
  if type(things) ~= "table" or #things == 0 then
    errors.misuse("service: endpoints must be a non-empty list of pods and nodes")
  end
  for i, thing in ipairs(things) do
    if not is(thing) or thing.kind ~= "pod" and thing.kind ~= "node" then
      errors.misuse("service: endpoints[%d] must be a pod or a node, got a %s", i,
        is(thing) and thing.kind or type(thing))
    end
    if thing.cluster ~= cluster then errors.misuse("service: %s belongs to another cluster", thing.name) end
  end
end

-- ---- policies ----

local function list_of(value, is)
  if value == nil then return {} end
  if type(value) ~= "table" or is(value) then return { value } end
  return value
end

-- Checks a policy, of whose ends `is` says whether they are things of a cluster. Returns a copy in which to and from
-- are lists.
function M.policy(core, cluster, t, is)
  check.keys(core, "policy", t, M.keys.policy)
  check.number("policy", "copies", t.copies, 1, 10000)
  local to, from = list_of(t.to, is), list_of(t.from, is)
  if #to == 0 then errors.misuse("policy: to is required: the pods that it selects") end
  for i, thing in ipairs(to) do
    if not is(thing) or thing.kind ~= "pod" then
      errors.misuse("policy: to[%d] must be a pod, got a %s", i, is(thing) and thing.kind or type(thing))
    end
  end
  for i, thing in ipairs(from) do
    local range = type(thing) == "string" and thing:match "^[%x.:]+/%d+$"
    if not range and (not is(thing) or thing.kind ~= "pod" and thing.kind ~= "node") then
      errors.misuse("policy: from[%d] must be a pod, a node or a range such as \"10.0.0.0/8\", got %s", i,
        is(thing) and "a " .. thing.kind or type(thing) == "string" and "'" .. thing .. "'" or "a " .. type(thing))
    end
  end
  for _, list in ipairs { to, from } do
    for _, thing in ipairs(list) do
      if is(thing) and thing.cluster ~= cluster then
        errors.misuse("policy: %s belongs to another cluster", thing.name)
      end
    end
  end
  return { to = to, from = from, copies = t.copies or 1 }
end

-- ---- Services ----

local EXTERNAL_IPS_MAX = 8

local function check_external_ips(t)
  if t.external_ips == nil then return end
  if type(t.external_ips) ~= "table" or #t.external_ips == 0 or #t.external_ips > EXTERNAL_IPS_MAX then
    errors.misuse("service: external_ips must be a list of 1 to %d addresses, as in { \"192.0.2.10\" }",
      EXTERNAL_IPS_MAX)
  end
  if t.headless then errors.misuse("service: headless cannot be combined with external_ips") end
  for i, ip in ipairs(t.external_ips) do
    if type(ip) ~= "string" or not (ip:match "^%d+%.%d+%.%d+%.%d+$" or ip:match "^[%x:.]*:[%x:.]*$") then
      errors.misuse("service: external_ips[%d] must be an IP address, got '%s'", i, tostring(ip))
    end
  end
end

-- A Service that stands for a name outside of the cluster.
local function external_name(t)
  local name = t.external_name
  for key in pairs(t) do
    if not ({ name = true, type = true, external_name = true, port = true })[key] then
      errors.misuse("service: %s cannot be combined with type = \"ExternalName\"", key)
    end
  end
  if type(name) ~= "string" or not name:match "^[%w][%w.-]*$" or #name > 253 then
    errors.misuse("service: external_name must be a host name, got '%s'", tostring(name))
  end
  check.number("service", "port", t.port, 1, 65535)
  return { name = t.name, type = t.type, external_name = name, port = t.port or 80 }
end

-- Seconds until a LoadBalancer must have its address.
local function wait_of(core, wait)
  if wait == nil then return 60 end
  local seconds, err = core.duration(wait)
  if not seconds then
    errors.misuse("service: wait: %s", tostring(type(err) == "table" and err.message or err))
  end
  return seconds
end

-- Checks a Service, of whose endpoints `is` says whether they are things of a cluster. Returns what to ask a provider
-- for, without the endpoints.
function M.service(core, cluster, t, is)
  check.keys(core, "service", t, M.keys.service)
  check.choice(core, "service", "type", t.type, { "ClusterIP", "NodePort", "LoadBalancer", "ExternalName" })
  if t.type == "ExternalName" then return external_name(t) end
  if t.external_name ~= nil then errors.misuse("service: external_name requires type = \"ExternalName\"") end
  check_endpoints(cluster, t.endpoints, is)
  check_external_ips(t)
  check.choice(core, "service", "external_traffic_policy", t.external_traffic_policy, { "Cluster", "Local" })
  local outside = t.type == "NodePort" or t.type == "LoadBalancer"
  if t.headless and outside then
    errors.misuse("service: headless cannot be combined with type = \"%s\"", t.type)
  end
  if t.external_traffic_policy and not outside then
    errors.misuse("service: external_traffic_policy requires type = \"NodePort\" or \"LoadBalancer\"")
  end
  if t.wait ~= nil and t.type ~= "LoadBalancer" then errors.misuse("service: wait requires type = \"LoadBalancer\"") end
  if t.port ~= nil and t.ports ~= nil then
    errors.misuse("service: port and ports cannot be combined; use ports = { { port = 80 }, … }")
  end
  check.number("service", "port", t.port, 1, 65535)
  local request = {}
  for key, value in pairs(t) do request[key] = value end
  request.type, request.affinity, request.ports = t.type or "ClusterIP", affinity_of(core, t.affinity),
    ports_of(core, t.ports)
  request.wait = wait_of(core, t.wait)
  return request
end

return M
