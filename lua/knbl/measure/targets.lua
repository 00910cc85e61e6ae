-- knbl.measure.targets - a measurement of several targets, { to = { a, b, c }, shares = { 70, 20, 10 } }: one route
-- made of theirs.
--
-- Such a route has `targets`, the route of each with its `name`, its `weight` (as given) and its `share` (of 1). Its
-- `to` stands for all things behind them (as a Service's for its endpoints), so that what watches the ends of a path
-- finds them; nil for URLs alone.
local cluster = require "knbl.cluster"
local errors = require "knbl.base.errors"
local json = require "knbl.json"
local path = require "knbl.measure.path"

local M = {}

local NAME_MAX = 63 -- bytes; struct kn_target

-- ---- what was asked for ----

local function check_shares(test, shares, n)
  if shares == nil then return end
  if type(shares) ~= "table" then
    errors.misuse("%s: shares must be a list of numbers, one for each target in to, got %s", test, tostring(shares))
  end
  if n == nil then errors.misuse("%s: shares needs a list of targets: to = { a, b }", test) end
  if #shares ~= n then
    errors.misuse("%s: shares has %d number%s, but to has %d target%s", test, #shares, #shares == 1 and "" or "s", n,
      n == 1 and "" or "s")
  end
  for _, share in ipairs(shares) do
    if type(share) ~= "number" or not json.is_finite(share) or share <= 0 then
      errors.misuse("%s: shares must be positive numbers, got %s", test, tostring(share))
    end
  end
end

-- The routes of all targets, with their names and shares.
local function routes_of(test, from, list, shares)
  local routes, seen, sum = {}, {}, 0
  for i, to in ipairs(list) do
    local route = path.check(test, from, to)
    local name = route.to_name
    if #name > NAME_MAX then name = name:sub(1, NAME_MAX - 3) .. "..." end
    if seen[name] then errors.misuse("%s: to lists %s twice", test, route.to_name) end
    seen[name] = true
    routes[i], route.name, route.weight = route, name, shares and shares[i] or 1
    sum = sum + route.weight
  end
  for _, route in ipairs(routes) do route.share = route.weight / sum end
  return routes
end

-- A key of which all targets must have the same value, because the measurement has one of them.
local function common(test, routes, key, words)
  local first = routes[1]
  for _, route in ipairs(routes) do
    if route[key] ~= first[key] then
      local yes, no = first[key] and first or route, first[key] and route or first
      errors.misuse("%s: %s", test, words:format(yes.to_name, no.to_name))
    end
  end
  return first[key]
end

local function common_path(test, routes, given)
  if given then return nil end
  for _, route in ipairs(routes) do
    if (route.path or "/") ~= (routes[1].path or "/") then
      errors.misuse("%s: all targets must have one path, got '%s' and '%s'", test, routes[1].to_name, route.to_name)
    end
  end
  return routes[1].path
end

-- ---- the route ----

-- The ways that lead to them, each once.
local function ways(routes)
  local list, seen = {}, {}
  for _, route in ipairs(routes) do
    if not seen[route.via] then seen[route.via], list[#list + 1] = true, route.via end
  end
  return table.concat(list, ", ")
end

local function names_of(routes)
  local names = {}
  for i, route in ipairs(routes) do names[i] = route.to_name end
  return table.concat(names, ", ")
end

-- What stands for all things behind the targets, each once; nil if there are none.
local function thing_of(routes, name)
  local things, seen = {}, {}
  for _, route in ipairs(routes) do
    for _, thing in ipairs(route.to and (route.to.endpoints or { route.to }) or {}) do
      if not seen[thing] then seen[thing], things[#things + 1] = true, thing end
    end
  end
  return #things > 0 and { kind = "targets", name = name, endpoints = things } or nil
end

local function backends_of(routes)
  local all
  for _, route in ipairs(routes) do
    for name in pairs(route.backends or {}) do
      all = all or {}
      all[name] = true
    end
  end
  return all
end

local function join(test, routes, given_path)
  local name, settled, skip = names_of(routes), nil, nil
  for _, route in ipairs(routes) do
    if route.settled then settled = math.max(settled or 0, route.settled) end
    skip = skip or route.skip
  end
  return {
    targets = routes, to_name = name, to = thing_of(routes, name), via = ways(routes), backends = backends_of(routes),
    external = common(test, routes, "external", "all targets must have agents, or none: %s has none, but %s has one"),
    tls = common(test, routes, "tls", "all targets must be https, or none: %s is https, but %s is not"),
    path = common_path(test, routes, given_path), settled = settled, skip = skip,
  }
end

-- The route of a measurement: that of its target (knbl.measure.path), or one made of several, which takes a test with
-- flows to share.
function M.check(test, t, has_flows)
  local list = type(t.to) == "table" and not cluster.is(t.to) and t.to[1] ~= nil and t.to or nil
  check_shares(test, t.shares, list and #list)
  if not list or #list == 1 then return path.check(test, t.from, list and list[1] or t.to) end
  if not has_flows then
    errors.misuse("%s: to must be one target, got %d: %s has no flows to share; knbl.together measures several at the \z
      same time", test, #list, test)
  end
  return join(test, routes_of(test, t.from, list, t.shares), t.path)
end

-- ---- where they are ----

-- The routes to find out about: the several, or the one.
function M.of(route) return route.targets or { route } end

function M.renew(route)
  for _, one in ipairs(M.of(route)) do path.renew(one) end
  if route.targets then route.backends = backends_of(route.targets) end
end

local function has_family(route, family)
  local addresses = route.addresses
  if not addresses then return true end
  return (addresses["v" .. family] or addresses.name) ~= nil
end

-- The address family for all: that which was asked for, or one that each target has. nil, and why there is none.
function M.family(route, ip)
  if ip or not route.targets then return ip end
  for _, family in ipairs { 4, 6 } do
    local all, named = true, true
    for _, one in ipairs(route.targets) do
      all = all and has_family(one, family)
      named = named and (not one.addresses or one.addresses.v4 == nil and one.addresses.v6 == nil)
    end
    if named then return nil end
    if all then return family end
  end
  local four, six
  for _, one in ipairs(route.targets) do
    if not has_family(one, 6) then four = four or one.to_name end
    if not has_family(one, 4) then six = six or one.to_name end
  end
  return nil, ("all targets must have one address family: %s has only IPv4, %s only IPv6"):format(four, six)
end

-- What the ledger keeps of a path besides the names.
function M.describe(from, route, ip)
  if not route.targets then return path.describe(from, route, ip) end
  local names, list, side = {}, {}, nil
  for i, one in ipairs(route.targets) do
    local described = path.describe(from, one, ip)
    side, names[i] = described.from, one.to_name
    list[i] = { name = one.name, share = one.share, via = one.via, to = described.to }
  end
  return { from = side, to = { kind = "targets", endpoints = names }, targets = list }
end

return M
