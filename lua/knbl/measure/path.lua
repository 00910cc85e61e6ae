-- knbl.measure.path - where a measurement goes: what may be `from`, what may be `to`, and by which way that is.
local cluster = require "knbl.cluster"
local errors = require "knbl.base.errors"
local tests = require "knbl.base.tests"

local M = {}

local schemes = { ["http:"] = false, ["https:"] = true } -- whether TLS is spoken

-- "http://10.0.0.1:8080/x", "https://name", "10.0.0.1:80", "2001:db8::1" -> host, port, path, whether it is https
local function parse_url(text, default)
  default = default or 80
  if text:match("^[%x:.]*:[%x.]*:[%x:.]*$") then return text, default end
  local scheme, rest = text:match("^(%a+:)//(.*)$")
  local tls = schemes[scheme]
  if scheme and tls == nil then
    return nil, ("the scheme must be http or https, got %s"):format(scheme:sub(1, -2))
  end
  rest, default = rest or text, tls and 443 or default
  local authority, where = rest:match("^([^/]+)(/?.*)$")
  if not authority then return nil, "the host is missing" end
  local host, port = authority:match("^%[([%x:.]+)%]:?(%d*)$")
  if not host then host, port = authority:match("^([%w._-]+):?(%d*)$") end
  if not host then return nil, "the host is missing" end
  port = port ~= "" and tonumber(port) or default
  if port < 1 or port > 65535 then return nil, ("port must be from 1 to 65535, got %s"):format(port) end
  return host, port, where ~= "" and where or nil, tls or nil
end
M.parse_url = parse_url

local services = { service = true, node_port = true, external_ip = true }
local function is_service(thing) return services[thing.kind] or false end

local function check_from(test, from)
  if from == nil then errors.misuse("%s: from is required: the pod or node that sends", test) end
  if not cluster.is(from) then errors.misuse("%s: from must be a pod or a node, got a %s", test, type(from)) end
  if is_service(from) then
    errors.misuse("%s: from must be a pod or a node, got a Service: use the pod behind it", test)
  end
  if from.external then
    errors.misuse("%s: from must have an agent, but %s runs a server of your own", test, from.name)
  end
  if from.cluster.closed then errors.misuse("%s: the cluster of %s is closed", test, from.name) end
end

-- Of a server that is no agent; nil: the test says nothing.
local function default_port(test)
  local port = tests.of(test).port or 0
  return port > 0 and port or nil
end

local function outside(test, to)
  if tests.of(test).needs_agent then
    errors.misuse("%s: to must be a pod, a node or a Service: %s needs an agent on the other side", test, test)
  end
  local host, port, where, tls = parse_url(to, default_port(test))
  if not host then errors.misuse("%s: to: '%s': %s", test, to, port) end
  return { to_name = to, via = "external", url_host = host, url_port = port, path = where, external = true,
    tls = tls }
end

-- A pod at one of its secondary networks is that pod.
local function same_thing(a, b)
  a, b = a.pod or a, b.pod or b
  return a == b or a.cluster == b.cluster and a.name == b.name and a.kind == b.kind
end

-- Ways that are named for the type of the Service.
local by_type = { LoadBalancer = "load_balancer", ExternalName = "external_name" }

-- The way between two things of a cluster, as results name it.
local function via(from, to)
  local fixed = from.cluster == to.cluster and from.cluster.module.via
  if fixed and not is_service(to) then return fixed end
  if to.kind == "service" then
    if by_type[to.type] then return by_type[to.type] end
    if to.headless then return "headless" end
    return #to.endpoints == 1 and same_thing(to.endpoints[1], from) and "hairpin" or "service"
  elseif is_service(to) then
    return to.kind
  elseif same_thing(from, to) then
    return "loopback"
  elseif to.kind == "node" then
    return "host"
  elseif to.kind == "network" then
    return "network"
  end
  return "pod_ip"
end

-- What the agents that may answer call themselves: the name of the pod or node, unless the provider says otherwise.
local function backends_of(to)
  local names = {}
  for _, thing in ipairs(to.endpoints or { to }) do
    -- a pod that was deleted is no endpoint any more
    if not thing.skip then names[thing.endpoint and thing.endpoint.agent or (thing.pod or thing).name] = true end
  end
  return names
end

-- Why a host beside a cluster and that cluster's ends do not reach each other, or nil.
local function apart(from, to)
  if from.cluster == to.cluster then return nil end
  return from.cluster.module.enclosed or to.cluster.module.enclosed
end

-- Checks from and to of a test. Returns the route: to_name, via, addresses, port, token, backends, skip.
function M.check(test, from, to)
  check_from(test, from)
  if to == nil then errors.misuse("%s: to is required: the pod, node or Service that answers", test) end
  if type(to) == "string" then return outside(test, to) end
  if type(to) == "table" and next(to) == nil then errors.misuse("%s: to: the list is empty", test) end
  if not cluster.is(to) then errors.misuse("%s: to must be a pod, a node or a Service, got a %s", test, type(to)) end
  if to.cluster ~= from.cluster and not (to.cluster.lone or from.cluster.lone) then
    errors.misuse("%s: %s and %s belong to different clusters", test, from.name, to.name)
  end
  if tests.of(test).transport == "icmp" and is_service(to) and not to.headless and not to.external then
    errors.misuse("%s: the address of a Service does not answer ICMP: aim at its pod, or measure the Service over UDP",
      test)
  end
  local server = to.endpoints and to.endpoints[1] or to
  local external = server.external or nil
  if external and tests.of(test).needs_agent then
    errors.misuse("%s: %s has no agent: it runs a server of your own, which only %s can measure", test, server.name,
      tests.names_of(function(other) return not other.needs_agent end))
  end
  -- a server that stands beside the agent in its pod
  local own_port = not tests.of(test).agent and not external and not to.endpoints and default_port(test)
  return {
    to_name = to.name, to = to, via = via(from, to), addresses = to.addresses or to.endpoint and to.endpoint.addresses,
    port = own_port or to.port, token = server.endpoint and server.endpoint.token or "",
    backends = not external and backends_of(to) or nil, external = external, settled = to.settled,
    skip = to.skip or apart(from, to),
  }
end

-- The local address of a client that sends from a secondary network, of the family of `host`, a name or an address;
-- nil: the kernel chooses. nil, and why there is none.
function M.source(from, host, ip)
  if from.kind ~= "network" then return nil end
  local addresses = from.addresses
  local family = host:find(":", 1, true) and "v6" or host:match "^[%d.]+$" and "v4" or ip and "v" .. tonumber(ip)
    or addresses.v4 and "v4" or "v6"
  if addresses[family] then return addresses[family] end
  return nil, ("%s has no IP%s address"):format(from.name, family)
end

-- What was not known of a target until its agent was there: where it is, and who answers.
function M.renew(route)
  local endpoint = route.to and route.to.endpoint
  if not (endpoint and endpoint.prepare) then return end
  route.to.addresses, route.to.port = endpoint.addresses, endpoint.port
  route.addresses, route.port, route.token, route.backends = endpoint.addresses, endpoint.port, endpoint.token,
    backends_of(route.to)
end

-- The address that a measurement goes to: of the family that was asked for, else IPv4 where there is one.
function M.address(route, ip)
  local addresses, family = route.addresses or {}, tonumber(ip)
  if family then return addresses["v" .. family] or addresses.name end
  return addresses.v4 or addresses.v6 or addresses.name
end

local function side(thing)
  local endpoint = thing.endpoint or {}
  local node = thing.kind == "node" and thing.name or thing.node and thing.node.name or endpoint.node
  return { kind = thing.kind, node = node, runtime = thing.runtime, handler = endpoint.handler,
    sandbox = endpoint.sandbox, started_ms = endpoint.started_ms, memory_bytes = endpoint.memory_bytes }
end

-- What the ledger keeps of a path besides the names.
function M.describe(from, route, ip)
  local to = route.to and side(route.to) or { kind = "external" }
  to.address, to.port = M.address(route, ip) or route.url_host, route.port or route.url_port
  if route.to and route.to.endpoints then
    local names = {}
    for i, endpoint in ipairs(route.to.endpoints) do names[i] = endpoint.name end
    to.endpoints, to.node = names, nil
    local first = route.to.endpoints[1]
    if #names == 1 then
      for key, value in pairs(side(first)) do
        if key ~= "kind" then to[key] = value end
      end
    end
  end
  return { from = side(from), to = to }
end

return M
