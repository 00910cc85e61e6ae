-- knbl.path - where a measurement goes: what may be `from`, what may be `to`, and by which way that is.
local cluster = require "knbl.cluster"
local errors = require "knbl.errors"

local M = {}

-- Tests that need an agent on the other side; the others can be aimed at anything.
local needs_agent = {
  tcp_stream = true, tcp_sendfile = true, udp_stream = true, tcp_rr = true, udp_rr = true, tcp_crr = true, tcp_bw = true, tcp_lat = true,
}

-- "http://10.0.0.1:8080/x", "10.0.0.1:80", "host", "2001:db8::1" -> host, port, path
local function parse_url(text)
  if text:match("^[%x:.]*:[%x.]*:[%x:.]*$") then return text, 80 end
  local rest = text:gsub("^http://", "")
  if text:match("^%a+://") and not text:match("^http://") then return nil, "only http:// can be measured" end
  local authority, where = rest:match("^([^/]+)(/?.*)$")
  if not authority then return nil, "no host in it" end
  local host, port = authority:match("^%[([%x:.]+)%]:?(%d*)$")
  if not host then host, port = authority:match("^([%w._-]+):?(%d*)$") end
  if not host then return nil, "no host in it" end
  port = port ~= "" and tonumber(port) or 80
  if port < 1 or port > 65535 then return nil, "no such port" end
  return host, port, where ~= "" and where or nil
end
M.parse_url = parse_url

local function check_from(test, from)
  if from == nil then errors.misuse("%s: from is missing: the pod or node that sends", test) end
  if not cluster.is(from) then errors.misuse("%s: from must be a pod or a node, not a %s", test, type(from)) end
  if from.kind == "service" or from.kind == "node_port" then
    errors.misuse("%s: from is a Service; a Service cannot send: use the pod behind it", test)
  end
  if from.external then errors.misuse("%s: %s runs an image of yours, no agent: it cannot send", test, from.name) end
  if from.cluster.closed then errors.misuse("%s: the cluster of %s is closed", test, from.name) end
end

local function outside(test, to)
  if needs_agent[test] then
    errors.misuse("%s: to must be a pod, a node or a Service: %s needs an agent on the other side", test, test)
  end
  local host, port, where = parse_url(to)
  if not host then errors.misuse("%s: to: '%s': %s", test, to, port) end
  return { to_name = to, via = "external", url_host = host, url_port = port, path = where, external = test == "http" }
end

local function same_thing(a, b)
  return a == b or a.cluster == b.cluster and a.name == b.name and a.kind == b.kind
end

-- The way between two things of a cluster, as results name it.
local function via(from, to)
  local fixed = from.cluster.provider.via
  if fixed and not (to.kind == "service" or to.kind == "node_port") then return fixed end
  if to.kind == "service" then
    if to.headless then return "headless" end
    return #to.endpoints == 1 and same_thing(to.endpoints[1], from) and "hairpin" or "service"
  elseif to.kind == "node_port" then
    return "node_port"
  elseif same_thing(from, to) then
    return "loopback"
  elseif to.kind == "node" then
    return "host"
  end
  return "pod_ip"
end

-- What the agents that may answer call themselves: as the pod or node is named, unless the provider says otherwise.
local function backends_of(to)
  local names = {}
  for _, thing in ipairs(to.endpoints or { to }) do
    names[thing.endpoint and thing.endpoint.agent or thing.name] = true
  end
  return names
end

-- Checks from and to of a test. Returns the route: to_name, via, addresses, port, token, backends, skip.
function M.check(test, from, to)
  check_from(test, from)
  if to == nil then errors.misuse("%s: to is missing: the pod, node or Service that answers", test) end
  if type(to) == "string" then return outside(test, to) end
  if not cluster.is(to) then errors.misuse("%s: to must be a pod, a node or a Service, not a %s", test, type(to)) end
  if to.cluster ~= from.cluster then errors.misuse("%s: %s and %s are of different clusters", test, from.name, to.name) end
  if test == "ping" and (to.kind == "service" or to.kind == "node_port") and not to.headless then
    errors.misuse("ping: the address of a Service answers no ICMP: ping its pod, or measure the Service with udp_rr")
  end
  local server = to.endpoints and to.endpoints[1] or to
  local external = server.external or nil
  if external and needs_agent[test] then
    errors.misuse("%s: %s runs an image of yours, no agent: only http and ping can be aimed at it", test, server.name)
  end
  return {
    to_name = to.name, to = to, via = via(from, to), addresses = to.addresses or to.endpoint and to.endpoint.addresses, port = to.port,
    token = server.endpoint and server.endpoint.token or "", backends = not external and backends_of(to) or nil, skip = to.skip,
    external = external, settled = to.settled,
  }
end

-- What was not known of a target before it was made ready: where it is, and who answers.
function M.renew(route)
  local endpoint = route.to and route.to.endpoint
  if not (endpoint and endpoint.prepare) then return end
  route.to.addresses, route.to.port = endpoint.addresses, endpoint.port
  route.addresses, route.port, route.token, route.backends = endpoint.addresses, endpoint.port, endpoint.token, backends_of(route.to)
end

-- Where a measurement goes: of the family that was asked for, else by IPv4 where there is one.
function M.address(route, ip)
  local addresses, family = route.addresses or {}, tonumber(ip)
  if family then return addresses["v" .. family] end
  return addresses.v4 or addresses.v6
end

local function side(thing)
  local node = thing.kind == "node" and thing.name or thing.node and thing.node.name or thing.endpoint and thing.endpoint.node
  local endpoint = thing.endpoint or {}
  return { kind = thing.kind, node = node, runtime = thing.runtime, handler = endpoint.handler, sandbox = endpoint.sandbox,
    started_ms = endpoint.started_ms, memory_bytes = endpoint.memory_bytes }
end

-- What the ledger keeps of a path, beside the names.
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
