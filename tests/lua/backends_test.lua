-- Who answered: shares, nodes and zones, and when they are further from even than chance explains.
local lu = require "luaunit"
local backends = require "knbl.results.backends"
local doubt = require "knbl.results.doubt"

TestBackends = {}

-- critical values from tables of the distribution
function TestBackends:test_chi_squared()
  for _, row in ipairs { { 10.828, 1, 0.001 }, { 3.841, 1, 0.05 }, { 13.816, 2, 0.001 }, { 16.266, 3, 0.001 },
    { 124.342, 100, 0.05 }, { 149.449, 100, 0.001 }, { 0, 3, 1 } } do
    lu.assertAlmostEquals(backends.chi_squared(row[1], row[2]), row[3], row[3] * 0.001)
  end
end

function TestBackends:test_what_is_uneven()
  lu.assertFalse(backends.is_uneven { 500, 480, 520 })
  lu.assertTrue(backends.is_uneven { 500, 380, 620 })
  lu.assertTrue(backends.is_uneven { 30, 0 })
  lu.assertNil(backends.is_uneven { 9, 0 }) -- too few to say
  lu.assertNil(backends.is_uneven { 900 })
end

local function service(names, more)
  local to = { kind = "service", endpoints = {} }
  for i, name in ipairs(names) do
    to.endpoints[i] = { name = name, endpoint = { name = name, node = "node-" .. i, zone = i == 1 and "a" or "b" } }
  end
  for key, value in pairs(more or {}) do to[key] = value end
  local expected = {}
  for _, name in ipairs(names) do expected[name] = true end
  return { from = {}, route = { to = to, backends = expected } }
end

local function flagged(entry, request)
  entry.flags, entry.ok = {}, true
  doubt.add(entry, request)
  for _, flag in ipairs(entry.flags) do
    if flag == "uneven_backends" then return true end
  end
  return false
end

local function rr(one, two)
  return { test = "tcp_rr", params = {}, metrics = { backends = { x = { ops = 900, share = 0.9, p50 = 1, p99 = 2 },
    y = { ops = 100, share = 0.1, p50 = 1, p99 = 2 } } },
    servers = { { name = "x", node = "n1", flows = one, ops = 900 },
    { name = "y", node = "n2", flows = two, ops = 100 } } }
end

-- a fast backend has more operations; what was balanced are connections
function TestBackends:test_connections_that_are_kept_are_counted_not_operations()
  local entry = rr(50, 50)
  lu.assertFalse(flagged(entry, service { "x", "y" }))
  lu.assertEquals(entry.metrics.backends.x, { ops = 900, share = 0.9, p50 = 1, p99 = 2, connections = 50, node = "n1",
    zone = "a" })
  lu.assertEquals(entry.metrics.zones, { a = 0.9, b = 0.1 })
  lu.assertTrue(flagged(rr(90, 10), service { "x", "y" }))
  local changing = service { "x", "y" }
  changing.during = { change = function() end } -- a backend may have come, or gone
  lu.assertFalse(flagged(rr(90, 10), changing))
  local gone = service { "x", "y", "z" } -- z was deleted before
  gone.route.to.endpoints[3].skip = "z was deleted"
  local of_two = rr(50, 50)
  lu.assertFalse(flagged(of_two, gone))
  lu.assertNil(of_two.metrics.backends.z)
  for _, free in ipairs { { sticky = true }, { headless = true } } do
    lu.assertFalse(flagged(rr(90, 10), service({ "x", "y" }, free)))
  end
end

function TestBackends:test_a_connection_a_request_and_who_never_answered()
  local entry = { test = "tcp_crr", params = {}, metrics = {},
    servers = { { name = "x", node = "n1", flows = 1, ops = 70 } } }
  lu.assertTrue(flagged(entry, service { "x", "y" }))
  lu.assertEquals(entry.metrics.backends, { x = { ops = 70, share = 1, node = "n1", zone = "a" },
    y = { ops = 0, share = 0, node = "node-2", zone = "b" } })
end

function TestBackends:test_streams_have_shares_of_connections()
  local entry = { test = "tcp_stream", params = {}, metrics = {},
    servers = { { name = "x", node = "n1", flows = 3, ops = 0 }, { name = "y", node = "n2", flows = 1, ops = 0 } } }
  lu.assertFalse(flagged(entry, service { "x", "y" }))
  lu.assertEquals({ entry.metrics.backends.x.share, entry.metrics.backends.y.share }, { 0.75, 0.25 })
end

function TestBackends:test_a_server_of_ones_own_has_none()
  local entry = { test = "http", params = {}, metrics = {}, servers = {} }
  lu.assertFalse(flagged(entry, { from = {}, route = { external = true } }))
  lu.assertNil(entry.metrics.backends)
end

os.exit(lu.LuaUnit.run())
