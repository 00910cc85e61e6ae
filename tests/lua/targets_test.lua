-- Several targets in one measurement: what is refused, what reaches the engines, what the ledger keeps.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local backends = require "knbl.results.backends"
local fake = require "fake"
local json = require "knbl.json"

TestTargets = {}

local pods = fake.pair .. "local c = cluster:pod { name = 'third' } "

local function refused(body, ...)
  local code, _, err, core = fake.knbl(pods .. body)
  lu.assertEquals(code, 1, err)
  for _, text in ipairs { ... } do lu.assertStrContains(err, text) end
  lu.assertEquals({ #core.asked, core.agents }, { 0, 0 }, "nothing is opened before all is checked")
end

function TestTargets:test_what_is_refused()
  refused("knbl.tcp_rr { from = a, to = { b, c, a }, shares = { 1, 2 } }", "shares has 2 numbers, but to has 3 targets")
  refused("knbl.tcp_rr { from = a, to = { b }, shares = { 1, 2 } }", "shares has 2 numbers, but to has 1 target\n")
  refused("knbl.tcp_rr { from = a, to = { b, c }, shares = { 1, -1 } }", "shares must be positive numbers, got -1")
  refused("knbl.tcp_rr { from = a, to = { b, c }, shares = { 1, 1/0 } }", "shares must be positive numbers, got inf")
  refused("knbl.tcp_rr { from = a, to = { b, c }, shares = 5 }", "shares must be a list of numbers", "got 5")
  refused("knbl.tcp_rr { from = a, to = b, shares = { 1 } }", "shares needs a list of targets")
  refused("knbl.tcp_rr { from = a, to = { b, c, a }, flows = 2 }",
    "to has 3 targets, but flows is 2: each target needs a flow")
  refused("knbl.tcp_rr { from = a, to = { b, c, a }, count = 2 }", "3 flows cannot share a count of 2")
  refused("knbl.tcp_rr { from = a, to = { b, c, b } }", "to lists server twice")
  refused("knbl.tcp_rr { from = a, to = { b, 7 } }", "to must be a pod, a node or a Service, got a number")
  refused("knbl.tcp_rr { from = a, to = {} }", "tcp_rr: to: the list is empty")
  for _, test in ipairs { "ping", "pmtu", "probe" } do
    refused(("knbl.%s { from = a, to = { b, c } }"):format(test), test .. ": to must be one target, got 2",
      "knbl.together measures several")
  end
  refused("knbl.http { from = a, to = { b, 'http://x/' } }", "all targets must have agents, or none",
    "http://x/ has none, but server has one")
  refused("knbl.http { from = a, to = { 'https://x/', 'http://y/' } }", "https://x/ is https, but http://y/ is not")
  refused("knbl.http { from = a, to = { 'http://x/1', 'http://y/2' } }",
    "all targets must have one path, got 'http://x/1' and 'http://y/2'")
end

local function measure(body)
  local code, out, err, core = fake.knbl(pods .. body, { "--json", "-" })
  lu.assertEquals(code, 0, err)
  return core.asked, json.decode(out).measurements[1], out
end

function TestTargets:test_what_reaches_the_engines()
  local asked, entry = measure "knbl.tcp_rr { from = a, to = { b, c, a }, shares = { 70, 20, 10 } }"
  lu.assertEquals({ #asked, asked[1].spec.flows }, { 1, 3 }) -- the default is one
  local list = asked[1].target
  for i, name in ipairs { "server", "third", "client" } do
    lu.assertEquals({ list[i].name, list[i].host, list[i].share }, { name, "127.0.0.1", ({ 70, 20, 10 })[i] })
    lu.assertTrue(list[i].port > 0 and #list[i].token > 15)
  end
  lu.assertEquals({ entry.to, entry.via, entry.case },
    { "server, third, client", "loopback", "client > server, third, client" })
  lu.assertEquals(entry.path.to, { kind = "targets", endpoints = { "server", "third", "client" } })
  lu.assertEquals({ entry.path.targets[2].name, entry.path.targets[2].share, entry.path.targets[2].to.kind },
    { "third", 0.2, "pod" })
end

-- Where a server's machine may drop a SYN whose ports it has in TIME_WAIT, connections leave none behind.
function TestTargets:test_who_ends_connections_with_a_reset()
  local module = require "knbl.cluster.loopback"
  local function resets(body)
    local list = {}
    for i, one in ipairs(measure(body)) do list[i] = one.spec.reset end
    return list
  end
  local body = "knbl.tcp_crr { from = a, to = b } knbl.http { from = a, to = { b, c }, keepalive = false } \z
    knbl.tcp_crr { from = a, to = b, reset = RESET }"
  lu.assertTrue(require("knbl.cluster.k8s").time_wait)
  module.time_wait = true
  local there = resets((body:gsub("RESET", "false")))
  module.time_wait = nil
  lu.assertEquals(there, { true, true, false })
  lu.assertEquals(resets((body:gsub("RESET", "true"))), { false, false, true })
end

function TestTargets:test_flows_that_are_enough_stay()
  lu.assertEquals(measure("knbl.tcp_rr { from = a, to = { b, c }, flows = 9 }")[1].spec.flows, 9)
  lu.assertEquals(measure("knbl.http { from = a, to = { b, c } }")[1].spec.flows, 100)
end

function TestTargets:test_a_list_of_one_is_that_one()
  local asked, entry = measure "knbl.tcp_rr { from = a, to = { b }, shares = { 3 } }"
  lu.assertEquals({ asked[1].target.host, asked[1].target.name, asked[1].target.share }, { "127.0.0.1", nil, nil })
  lu.assertEquals({ entry.to, entry.path.targets }, { "server", nil })
end

function TestTargets:test_urls()
  local asked, entry = measure
    "knbl.http { from = a, to = { 'https://x:81/p', 'https://y/p' }, shares = { 1, 3 }, flows = 4 }"
  local spec, list = asked[1].spec, asked[1].target
  lu.assertEquals({ spec.tls, spec.external, spec.path }, { true, true, "/p" })
  lu.assertEquals({ list[1].host, list[1].port, list[2].host, list[2].port }, { "x", 81, "y", 443 })
  lu.assertEquals({ entry.via, entry.to }, { "external", "https://x:81/p, https://y/p" })
end

function TestTargets:test_in_a_plan_no_two_things_have_the_same_address()
  local code, out, err = fake.knbl(pods:gsub("loopback", "lab") .. [[
    local one, two = b:service { type = "NodePort" }, c:service { type = "NodePort" }
    local function ip(s) return ("http://%s:%d/"):format(s.addresses.v4, s.port) end
    local function node(s) return ("http://%s:%d/"):format(cluster:node(1).addresses.v4, s.node_port) end
    knbl.http { from = a, to = { ip(one), ip(two) } }
    local function net(pod) return ("http://%s:%d/"):format(pod:on("net1").addresses.v4, pod.port) end
    knbl.http { from = a, to = { node(one), node(two) } }
    knbl.http { from = a, to = { net(b), net(c) } }
  ]], { "--dry-run" })
  lu.assertEquals({ code, err }, { 0, "" }, out)
end

function TestTargets:test_the_plan_shows_the_shares()
  local code, out = fake.knbl(pods .. "knbl.tcp_rr { from = a, to = { b, c }, shares = { 3, 1 } }", { "--dry-run" })
  lu.assertEquals(code, 0)
  lu.assertStrContains(out, "client -> server 75 %, third 25 % (loopback)")
end

-- A target that is fresh is asked alone until it answers, by its own name; then all are measured.
function TestTargets:test_fresh_services_are_awaited()
  local core = fake.refusing(2)
  local code, _, err = fake.knbl(pods .. "c.settled = require 'knbl.native'.now() + 20\n"
    .. "knbl.tcp_rr { from = a, to = { b, c }, duration = '2s' }", { "--no-ceiling" }, core)
  lu.assertEquals(code, 0, err)
  lu.assertEquals(#core.asked, 4) -- two were refused, one found it out, one counted
  local last, alone = core.asked[4].target, core.asked[3].target
  lu.assertEquals({ #last, alone.host, alone.port, alone.token }, { 2, last[2].host, last[2].port, last[2].token })
end

-- Real engines over this machine's loopback: each agent counts for itself.
function TestTargets:test_what_is_measured()
  local code, out, err = fake.knbl(pods .. [[
knbl.tcp_rr { from = a, to = { b, c }, shares = { 9, 1 }, flows = 10, count = 1000, warmup = 0,
  expect = { "targets.server.share == 0.9", "targets.third.p99 < 10s", "errors == 0" } }
knbl.tcp_crr { from = a, to = { b, c }, shares = { 9, 1 }, flows = 10, count = 1000, warmup = 0 }
]], { "--json", "-" }, require "knbl.native")
  lu.assertEquals(code, 0, err)
  for _, entry in ipairs(json.decode(out).measurements) do
    local metrics = entry.metrics
    lu.assertEquals({ metrics.targets.server.ops, metrics.targets.third.ops }, { 900, 100 })
    lu.assertEquals({ metrics.backends.server.ops, metrics.backends.third.ops }, { 900, 100 })
    lu.assertEquals({ metrics.backends.server.share, metrics.backends.third.share }, { 0.9, 0.1 })
    for _, flag in ipairs(entry.flags) do lu.assertNotEquals(flag, "uneven_backends") end
  end
end

-- ---- tables ----

local function tables(body, third)
  local script = pods .. "knbl.tcp_rr { case = 'x', from = a, to = { b, c }, shares = { 9, 1 } } " .. body
  local core = fake.core(function(spec)
    return fake.result(spec, { targets = {
      server = { address = "1:1", asked = 0.9, flows = 9, ops = 900, share = 0.9, rate_per_s = 900, p50 = 1e6,
        p99 = 2e6, errors = 0, timeouts = 0, connect_errors = 0 },
      third = third or { address = "1:2", asked = 0.1, flows = 1, ops = 100, share = 0.1, rate_per_s = 100, p50 = 3e6,
        p99 = 4e6, errors = 1, timeouts = 2, connect_errors = 4 } } })
  end)
  local code, out, err = fake.knbl(script, {}, core)
  lu.assertEquals(code, 0, err)
  return (out:gsub(" +", " "))
end

function TestTargets:test_a_table_of_the_targets_follows_by_itself()
  local out = tables ""
  lu.assertStrContains(out, "by target\ntest case target asked share rate p50 p99 failed\n")
  lu.assertStrContains(out, "\ntcp_rr x server 90.0 % 90.0 % 900 /s 1.00 ms 2.00 ms 0\n")
  lu.assertStrContains(out, "\ntcp_rr x third 10.0 % 10.0 % 100 /s 3.00 ms 4.00 ms")
  out = tables "knbl.tcp_rr { case = 'y', from = a, to = { b, c }, size = { 1, '1K' } }"
  lu.assertStrContains(out, "by target\ntest case size target asked share rate p50 p99 failed\n")
  lu.assertStrContains(out, "\ntcp_rr y 1 KiB server 90.0 % ")
  lu.assertNotStrContains(out, "not repeats")
end

function TestTargets:test_the_table_says_why_a_target_never_answered()
  local out = tables("", { address = "1:2", asked = 0.1, flows = 1, ops = 0, share = 0, errors = 0, timeouts = 0,
    connect_errors = 1, error = "connect to 1:2: Connection refused" })
  lu.assertStrContains(out, "\ntcp_rr x third failed [1] failed [1] failed [1]")
  lu.assertStrContains(out, "[1] failed: connect to 1:2: Connection refused")
end

function TestTargets:test_a_report_by_target()
  local out = tables "knbl.report { rows = 'target', columns = { 'p99', { 'failed', 'target_failed' } } }"
  lu.assertStrContains(out, "target p99 failed\n")
  lu.assertStrContains(out, "\nserver 2.00 ms 0\n")
  lu.assertStrContains(out, "\nthird 4.00 ms")
  lu.assertStrContains(tables "knbl.report { rows = 'case', columns = 'target', show = 'p50' }", "server third\n")
end

-- ---- balance ----

local function service(name, ...)
  local to, names = { kind = "service", name = name, endpoints = {} }, {}
  for i, pod in ipairs { ... } do
    to.endpoints[i], names[pod] = { name = pod, endpoint = { name = pod } }, true
  end
  return { to = to, backends = names }
end

local function uneven(routes, flows)
  local servers, endpoints, names = {}, {}, {}
  for name, n in pairs(flows) do servers[#servers + 1] = { name = name, node = "n", flows = n, ops = n } end
  for _, route in ipairs(routes) do
    for _, thing in ipairs(route.to.endpoints) do endpoints[#endpoints + 1], names[thing.name] = thing, true end
  end
  local entry = { test = "tcp_rr", params = {}, metrics = {}, servers = servers, ok = true }
  return backends.add(entry, { from = {}, route = { targets = routes, to = { kind = "targets", endpoints = endpoints },
    backends = names } }) or false
end

function TestTargets:test_shares_that_were_asked_for_are_not_uneven()
  local stable, canary = service("stable", "s1", "s2"), service("canary", "c1", "c2")
  lu.assertFalse(uneven({ stable, canary }, { s1 = 450, s2 = 450, c1 = 50, c2 = 50 }))
  lu.assertTrue(uneven({ stable, canary }, { s1 = 700, s2 = 200, c1 = 50, c2 = 50 }))
  lu.assertTrue(uneven({ stable, canary }, { s1 = 450, s2 = 450, c1 = 90, c2 = 10 }))
  -- a pod that two targets have in common: its connections belong to both
  lu.assertFalse(uneven({ stable, service("all", "s1", "c1") }, { s1 = 900, s2 = 300, c1 = 100 }))
end

function TestTargets:test_servers_of_ones_own_are_backends_by_the_targets_names()
  local entry = { test = "http", params = {}, servers = {}, metrics = { targets = {
    x = { address = "1:1", asked = 0.5, flows = 1, ops = 30, share = 0.75, p50 = 1, p99 = 2 },
    y = { address = "1:2", asked = 0.5, flows = 1, ops = 10, share = 0.25, p50 = 3, p99 = 4 } } } }
  lu.assertNil(backends.add(entry, { from = {}, route = { external = true, targets = {} } }))
  lu.assertEquals(entry.metrics.backends, { x = { ops = 30, share = 0.75, p50 = 1, p99 = 2 },
    y = { ops = 10, share = 0.25, p50 = 3, p99 = 4 } })
end

os.exit(lu.LuaUnit.run())
