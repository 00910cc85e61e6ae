-- knbl.results.backends - who answered: the share, node and zone of each backend of a path, and whether the shares are
-- further from even than chance explains.
--
-- The engines know who answered each operation where a connection stays and in probes (ops, p50, p99). For the others
-- the backends' own counts are taken (entry.servers). Balancing chooses for each connection, so that the test for
-- evenness counts connections.
local tests = require "knbl.base.tests"

local M = {}

M.P = 0.001        -- of the chi-squared test
local EXPECTED = 5 -- connections for each backend, at least: fewer say nothing

-- ---- the chi-squared distribution ----

-- ln of the gamma function at half-integers and integers from 1/2.
local function log_gamma(a)
  local sum, x = 0, a % 1 == 0 and 1 or 0.5
  if x == 0.5 then sum = math.log(math.pi) / 2 end
  while x < a do
    sum = sum + math.log(x)
    x = x + 1
  end
  return sum
end

-- P(X > x) for n degrees of freedom: the regularized upper incomplete gamma function.
function M.chi_squared(x, n)
  local a, half = n / 2, x / 2
  if half <= 0 then return 1 end
  local scale = math.exp(a * math.log(half) - half - log_gamma(a))
  if half < a + 1 then
    local term, sum = 1 / a, 1 / a
    for i = 1, 1000 do
      term = term * half / (a + i)
      sum = sum + term
      if term < sum * 1e-15 then break end
    end
    return math.max(0, 1 - sum * scale)
  end
  local b, c = half + 1 - a, 1e300
  local d = 1 / b
  local h = d
  for i = 1, 1000 do -- Lentz's continued fraction
    local an = -i * (i - a)
    b = b + 2
    d = 1 / (an * d + b)
    c = b + an / c
    h = h * d * c
    if math.abs(d * c - 1) < 1e-15 then break end
  end
  return math.min(1, scale * h)
end

-- Whether counts are further from even than chance explains; nil where they are too few.
function M.is_uneven(counts)
  local total, sum = 0, 0
  for _, n in ipairs(counts) do total = total + n end
  local expected = total / #counts
  if #counts < 2 or expected < EXPECTED then return nil end
  for _, n in ipairs(counts) do sum = sum + (n - expected) ^ 2 / expected end
  return M.chi_squared(sum, #counts - 1) < M.P
end

-- ---- what a measurement says ----

-- Each operation has a connection of its own.
local function is_short(entry)
  local params = entry.params or {}
  local shape = tests.known(entry.test) and tests.of(entry.test).shape
  if params.kind then return params.kind ~= "session" end
  return shape == "short" and not params.keepalive
end

local function has_operations(backends)
  for _, one in pairs(backends or {}) do
    if (one.ops or 0) > 0 then return true end
  end
  return false
end

-- From the backends' own accounts, where the engine did not tell.
local function of_servers(entry)
  local backends, total = {}, 0
  local by_flows = true
  for _, server in ipairs(entry.servers or {}) do by_flows = by_flows and (server.ops or 0) == 0 end
  for _, server in ipairs(entry.servers or {}) do
    local n = by_flows and server.flows or server.ops or 0
    total = total + n
    backends[server.name] = { ops = not by_flows and n or nil, share = n }
  end
  for _, one in pairs(backends) do one.share = total > 0 and one.share / total or nil end
  return backends
end

local function known(backends, entry)
  for _, server in ipairs(entry.servers or {}) do
    local one = backends[server.name]
    if one then
      one.node = server.node
      if not is_short(entry) then one.connections = server.flows end
    end
  end
end

-- The ends behind a path: those that were never chosen have a share of 0. A pod that was deleted counts if it served.
local function chosen_from(backends, request)
  local to = request.route.to
  for _, thing in ipairs(to and to.endpoints or {}) do
    local endpoint = thing.endpoint or {}
    local name = endpoint.agent or thing.name
    local one = backends[name] or not thing.skip and { share = 0, ops = 0 } or nil
    backends[name] = one
    if one then one.node, one.zone = one.node or endpoint.node, endpoint.zone end
  end
end

local function zones_of(backends)
  local zones
  for _, one in pairs(backends) do
    if one.zone then
      zones = zones or {}
      zones[one.zone] = (zones[one.zone] or 0) + (one.share or 0)
    end
  end
  return zones
end

-- Why shares need not be even: the Service says so.
local function is_free(to)
  return #(to.endpoints or {}) > 1 and not to.headless and not to.sticky
end

-- The connections that each backend served; `names`: of these alone.
local function counts_of(backends, names, entry)
  local counts, short = {}, is_short(entry)
  for name, one in pairs(backends) do
    if not names or names[name] then counts[#counts + 1] = short and one.ops or one.connections or 0 end
  end
  return counts
end

-- Names that belong to one target alone: what a backend of two served is not known of each.
local function own_names(targets, route)
  local names = {}
  for name in pairs(route.backends or {}) do
    local owners = 0
    for _, one in ipairs(targets) do owners = owners + ((one.backends or {})[name] and 1 or 0) end
    if owners > 1 then return nil end
    names[name] = true
  end
  return names
end

-- Between targets the shares are those that were asked for; behind each of them they are as even as chance makes them.
local function is_unbalanced(entry, request, backends)
  local targets = request.route.targets
  if not targets then
    return is_free(request.route.to or {}) and M.is_uneven(counts_of(backends, nil, entry)) or nil
  end
  for _, route in ipairs(targets) do
    local names = is_free(route.to or {}) and own_names(targets, route)
    if names and M.is_uneven(counts_of(backends, names, entry)) then return true end
  end
end

-- Servers without agents, by the names of the targets.
local function of_targets(targets)
  local backends = {}
  for name, one in pairs(targets) do
    backends[name] = { ops = one.ops, share = one.share, p50 = one.p50, p99 = one.p99 }
  end
  return backends
end

-- Completes entry.metrics.backends and .zones; returns whether the balance is uneven.
function M.add(entry, request)
  local metrics = entry.metrics
  if request.route.external then
    metrics.backends = metrics.targets and of_targets(metrics.targets) or metrics.backends
    return nil
  end
  local backends = has_operations(metrics.backends) and metrics.backends or of_servers(entry)
  if not next(backends) then return nil end
  known(backends, entry)
  chosen_from(backends, request)
  metrics.backends, metrics.zones = backends, zones_of(backends)
  return is_unbalanced(entry, request, backends)
end

return M
