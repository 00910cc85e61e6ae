-- A call of a verb: what is refused, and where; what reaches the engines; what comes back.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local fake = require "fake"
local json = require "knbl.json"

TestMeasure = {}

local function run(body, args, core) return fake.knbl(fake.pair .. body, args, core) end

local function refused(body, ...)
  local code, _, err, core = run(body)
  lu.assertEquals(code, 1, err)
  for _, text in ipairs { ... } do lu.assertStrContains(err, text) end
  lu.assertStrContains(err, "SCRIPT:2: ")
  lu.assertEquals(#core.asked, 0)
  lu.assertEquals(core.agents, 0, "nothing is opened before all is checked")
end

function TestMeasure:test_refused_before_the_first_packet()
  refused("knbl.tcp_rr { from = a, to = b, flws = 4 }", "unknown key 'flws'", "did you mean 'flows'")
  refused("knbl.tcp_rr { from = a, to = b, gso = true }", "tcp_rr has no 'gso'", "udp_stream")
  refused("knbl.http { from = a, to = b, connections = 4000 }", "http: flows: 4000 are too many for server: an agent serves 2048 at once\n")
  refused("knbl.udp_rr { from = a, to = cluster:service { a, b }, flows = 4097 }", "flows: 4097 are too many", "2 of them 4096")
  refused("knbl.tcp_rr { from = a, to = b, duration = '10 parsecs' }", "parsecs")
  refused("knbl.tcp_rr { from = a, to = b, size = -1 }", "size")
  refused("knbl.tcp_bw { from = a, to = b, size = '1:2:*1' }", "size")
  refused("knbl.tcp_bw { from = a, to = b, size = '64:1:*2' }", "size")
  refused("knbl.tcp_bw { from = a, to = b, size = {} }", "empty list")
  refused("knbl.tcp_rr { to = b }", "from is missing")
  refused("knbl.tcp_rr { from = a }", "to is missing")
  refused("knbl.tcp_rr { from = 'a', to = b }", "from must be a pod")
  refused("knbl.tcp_rr { from = a, to = 7 }", "to must be a pod")
  refused("knbl.tcp_rr { from = a, to = 'http://x/' }", "needs an agent")
  refused("knbl.http { from = a, to = 'ftp://x/' }", "only http://")
  refused("knbl.tcp_rr { from = b:service(), to = b }", "a Service cannot send")
  refused("knbl.ping { from = a, to = b:service() }", "answers no ICMP")
  refused("knbl.tcp_rr { from = a, to = b, expect = 'p99 < 1parsec' }", "column 7", "^")
  refused("knbl.tcp_rr { from = a, to = b, expect = 5 }", "expect is a text")
  refused("knbl.tcp_rr { from = a, to = b, case = 5 }", "case is a text")
  refused("knbl.tcp_rr { from = a, to = b, case = ' ' }", "says something")
  refused("knbl.tcp_rr { from = a, to = b, labels = 5 }", "labels")
  refused("knbl.tcp_rr(5)", "takes a table")
  refused("knbl.tcp_rr { a, b }", "every value has a key")
  refused("knbl.tcp_rt { from = a, to = b }", "knbl has no 'tcp_rt'", "tcp_rr")
  refused("local other = knbl.cluster { provider = 'loopback' } knbl.tcp_rr { from = a, to = other:pair() }", "different clusters")
  refused("cluster:close() knbl.tcp_rr { from = a, to = b }", "closed")
end

function TestMeasure:test_where_outside_it_goes()
  local path = require "knbl.path"
  for text, expected in pairs {
    ["2001:db8::1"] = { "2001:db8::1", 80 }, ["::1"] = { "::1", 80 }, ["::ffff:10.0.0.1"] = { "::ffff:10.0.0.1", 80 }, ["[::1]:81"] = { "::1", 81 },
    ["10.0.0.1"] = { "10.0.0.1", 80 }, ["10.0.0.1:81"] = { "10.0.0.1", 81 }, ["http://[::1]:81/x"] = { "::1", 81, "/x" }, ["host:81/y"] = { "host", 81, "/y" },
    ["cafe:81"] = { "cafe", 81 },
  } do
    lu.assertEquals({ path.parse_url(text) }, expected, text)
  end
  lu.assertNil((path.parse_url "10.0.0.1:0"))
end

function TestMeasure:test_more_flows_than_an_agent_holds()
  for _, flows in ipairs { "http { to = 'http://127.0.0.1/'", "http { to = b, keepalive = false", "tcp_crr { to = b", "tcp_rr { to = cluster:service { a, b }" } do
    local code, _, err = run(("knbl.%s, from = a, flows = 4000 }"):format(flows), { "-q" })
    lu.assertEquals(code, flows:find "service" and 98 or 0, err) -- loopback has no Services: skipped, not refused
  end
end

function TestMeasure:test_a_misspelt_method()
  for _, case in ipairs { { "cluster:pairs()", "pair" }, { "a:servise()", "service" }, { "cluster:pod():excec {}", "exec" } } do
    local code, _, err = run(case[1])
    lu.assertEquals(code, 1)
    lu.assertStrContains(err, ("did you mean '%s'?"):format(case[2]))
  end
end

function TestMeasure:test_a_program_runs_where_there_are_programs()
  local code, out, err, core = run("print(b:exec { 'true' }) knbl.tcp_rr { from = a, to = b }")
  lu.assertEquals({ code, #core.asked }, { 0, 1 }, err)
  code, out = run("knbl.tcp_rr { from = a, to = b } b:exec { 'true' }", { "--dry-run" })
  lu.assertEquals(code, 0)
  lu.assertStrContains(out, "the plan ends here")
end

function TestMeasure:test_the_cluster_is_checked()
  refused("cluster:pod { name = 'server' }", "already")
  refused("cluster:pod { name = 'Big_Name' }", "cannot be a name")
  refused("cluster:pod { mtu = 20 }", "mtu")
  refused("cluster:pod { nod = 1 }", "did you mean 'node'")
  refused("cluster:pod { image = 'nginx' }", "needs the port")
  refused("cluster:pod { command = { 'nc' } }", "needs the port")
  refused("cluster:pod { bandwidth = 'wide' }", "bandwidth")
  refused("cluster:pod { node = 1.5 }", "whole number")
  refused("cluster:service { endpoints = {} }", "without endpoints")
  refused("cluster:service { endpoints = { b:service() } }", "an endpoint is a pod or a node")
  refused("cluster:service { pods = { b } }", "unknown key 'pods'; there are: affinity, endpoints")
  refused("cluster:service(b)", "cluster:service takes a table")
  refused("b:service { affinity = 'Sticky' }", "affinity is true or false")
  refused("b:service { port = 80, ports = { 81 } }", "port or ports, not both")
  refused("b:service { ports = { 70000 } }", "port must be a whole number from 1 to 65535")
  refused("b:service { ports = { { prt = 80 } } }", "did you mean 'port'?")
  refused("b:service { ports = { { port = 80, protocol = 'sctp' } } }", "protocol is tcp, udp or both")
  refused("b:service { ports = {} }", "ports is a list")
  refused("b:service { affinity = 'Cookie' }", "affinity is true or false, or ClientIP or None")
  refused("b:service { ports = 5 }", "ports is a list")
  refused("b:service { ports = { { target = 80 } } }", "port 1 of the list has no 'port'")
  refused("b:service { ports = { { port = 80, protocol = 'SCTP' } } }", "protocol is tcp, udp or both, not 'sctp'")
  refused("b:service { port = 80, ports = { 443 } }", "port or ports, not both")
  refused("b:service { port = 70000 }", "from 1 to 65535")
  refused("b:service { type = 'LoadBalancer' }", "neither ClusterIP nor NodePort")
  refused("b:service():on(1)", "NodePort")
  refused("b:service { type = 'NodePort', external_traffic_policy = 'local' }", "is Cluster or Local, not 'local'")
  refused("b:service { external_traffic_policy = 'Local' }", "give it type = \"NodePort\"")
  refused("b:service { externalTrafficPolicy = 'Local' }", "did you mean 'external_traffic_policy'?")
  refused("cluster.pair()", "pair is called with a colon, as in cluster:pair(…)")
  refused("b.exec { 'true' }", "exec is called with a colon")
  refused("knbl.tcp_rr(a, b)", "knbl.tcp_rr takes a table: knbl.tcp_rr { from = a, to = b }")
  refused("knbl.report { columns = { 'latencyy' } }", "'latencyy' is no figure, did you mean 'latency'?")
  refused("knbl.report { columns = { 'latencyy', 'p99' } }", "'latencyy' is no figure, did you mean 'latency'?")
  refused("b:exec 'true'", "takes a program and its arguments")
  refused("b:exec { 'echo', true }", "word 2 is a boolean, not a text")
  refused("knbl.cluster { overlai = 'vxlan', provider = 'loopback' }", "did you mean 'overlay'")
  refused("knbl.cluster(5)", "takes a table")
  refused("knbl.cluster { overlay = 'vxlam', provider = 'lab' }", "overlay is one of none, vxlan", "did you mean 'vxlan'")
  refused("local c = knbl.cluster { provider = 'lab' } for i = 1, 10000 do c:pod {} end", "at most 1000 pods")
  refused("local nodes = cluster:nodes(2) cluster:pod { node = nodes[1] }", "is one node, no list")
end

function TestMeasure:test_what_the_engines_are_asked()
  local code, _, err, core = run("knbl.tcp_rr { from = a, to = b, duration = '2s', request = 64, rate = '20k/s', flows = 4 }", { "-q" })
  lu.assertEquals(code, 0, err)
  lu.assertEquals(#core.asked, 1)
  local spec = core.asked[1].spec
  lu.assertEquals({ spec.test, spec.duration, spec.size, spec.flows }, { "tcp_rr", 2, 64, 4 })
  lu.assertEquals(core.asked[1].target.host, "127.0.0.1")
  lu.assertEquals(core.open, 0, "agents are closed")
end

function TestMeasure:test_one_size_and_a_list_of_sizes()
  local code, out, err, core = run([[
    local one = knbl.tcp_bw { from = a, to = b, size = "4K" }
    local list = knbl.tcp_bw { from = a, to = b, size = "1:256K:*64" }
    assert(one.ok and one.params.size == 4096 and #list == 4 and list.ok and list[3].params.size == 4096)
    assert(list[3].metrics.throughput_bps == 9.41e9)
    assert(#knbl.tcp_lat { from = a, to = b, size = { 1, "1K" } } == 2)]], { "-q", "--json", "-" })
  lu.assertEquals(code, 0, err)
  lu.assertEquals(#core.asked, 7)
  lu.assertEquals(#json.decode(out).measurements, 7)
end

function TestMeasure:test_settings_reach_every_measurement()
  local _, _, _, core = run("knbl.tcp_rr { from = a, to = b, duration = '9s' } knbl.http { from = a, to = b, requests = 500 }",
    { "-q", "--duration", "200ms", "--set", "tcp_rr.flows=3", "--set", "threads=2", at = 1 })
  local rr, http = core.asked[1].spec, core.asked[2].spec
  lu.assertEquals({ rr.duration, rr.warmup, rr.flows, rr.threads }, { 0.2, 0.05, 3, 2 })
  lu.assertEquals({ http.duration, http.count, http.flows }, { 0.2, 500, 100 })
end

function TestMeasure:test_settings_in_vain_are_refused()
  local function refuses(args, text)
    local code, _, err, core = run("knbl.tcp_rr { from = a, to = b }", args)
    lu.assertEquals({ code, #core.asked }, { 2, 0 }, err)
    lu.assertStrContains(err, text)
  end
  refuses({ "--set", "gso=true" }, "--set gso: no measurement of SCRIPT takes it; 'gso' belongs to udp_stream")
  refuses({ "--set", "udp_rr.flows=2" }, "--set udp_rr.flows: no measurement")
  refuses({ "--csv", "/tmp/x", "--json", "/tmp/x" }, "--json and --csv cannot both be /tmp/x")
end

function TestMeasure:test_a_failure_is_a_result_and_the_run_goes_on()
  local core = fake.core(function(spec)
    if spec.test == "tcp_rr" then return nil, { code = "refused", message = "nobody listens" } end
    return fake.result(spec)
  end)
  local code, out, err = run("local r = knbl.tcp_rr { case = 'x', from = a, to = b } assert(not r.ok and r.error.code == 'refused')\n"
    .. "knbl.tcp_crr { from = a, to = b }", { "--json", "-", "-q" }, core)
  lu.assertEquals(code, 1, err)
  lu.assertStrContains(err, "1 of 2 measurements failed")
  local data = json.decode(out)
  lu.assertEquals(data.measurements[1].error.message, "nobody listens")
  lu.assertEquals(data.measurements[2].ok, true)
  lu.assertEquals(data.verdict.exit, 1)
end

function TestMeasure:test_a_lost_agent_ends_the_script_and_the_ledger_is_written()
  local core = fake.core(function(spec)
    if spec.test == "tcp_crr" then return nil, { code = "lost", message = "server does not answer any more" } end
    return fake.result(spec)
  end)
  local code, out, err = run("knbl.tcp_rr { from = a, to = b }\nknbl.tcp_crr { case = 'c', from = a, to = b }\nknbl.tcp_rr { from = a, to = b }",
    { "--json", "-", "-q" }, core)
  lu.assertEquals(code, 3)
  lu.assertStrContains(err, "SCRIPT:3: c: server does not answer any more")
  local data = json.decode(out)
  lu.assertEquals(#data.measurements, 2)
  lu.assertEquals(data.verdict.status, "error")
  lu.assertEquals(core.open, 0)
end

-- A reason that fills lines is not told for each of those that it stands for.
function TestMeasure:test_a_long_reason_is_told_once()
  local name = ("k"):rep(120)
  local _, _, err = run(("local p = cluster:pod { runtime = '%s' }\nfor i = 1, 3 do knbl.tcp_rr { case = 'c' .. i, from = a, to = p } end"):format(name))
  local _, told = err:gsub("%] [^\n]*skipped: loopback has no runtime " .. name, "")
  local _, again = err:gsub("skipped, for the same reason\n", "")
  lu.assertEquals({ told, again }, { 1, 2 }, err)
end

function TestMeasure:test_skipped_with_the_reason()
  local code, out, err, core = run("local r = knbl.tcp_rr { from = a, to = b:service() } assert(r.skipped and not r.ok)\n"
    .. "knbl.tcp_rr { from = a, to = cluster:pod { runtime = 'kata' } }", { "--json", "-" })
  lu.assertEquals(code, 98, err)
  lu.assertStrContains(err, "nothing was measured: all 2 were skipped")
  local data = json.decode(out)
  lu.assertEquals(data.measurements[1].skipped, "loopback has no Services")
  lu.assertEquals(data.measurements[2].skipped, "loopback has no runtime kata")
  lu.assertStrContains(err, "skipped: loopback has no Services")
  lu.assertEquals(#core.asked, 0)
  lu.assertEquals({ data.verdict.status, data.verdict.skipped }, { "inconclusive", 2 })
  lu.assertEquals(run("knbl.tcp_rr { from = a, to = b } knbl.tcp_rr { from = a, to = b:service() }", { "-q" }), 0)
end

function TestMeasure:test_a_shape_that_only_the_lab_can_have_is_skipped_elsewhere()
  local code, out, err, core = fake.knbl("local knbl = require 'knbl' local c <close> = knbl.cluster { provider = 'loopback', mode = 'chains' }\n"
    .. "local a, b = c:pair() knbl.tcp_rr { from = a, to = b:service() }", { "--json", "-", "-q" })
  lu.assertEquals({ code, #core.asked }, { 98, 0 }, err)
  lu.assertEquals(json.decode(out).measurements[1].skipped, "'mode' can be chosen in the lab only; this is loopback")
end

function TestMeasure:test_another_backend_is_flagged()
  local core = fake.core(function(spec)
    local r = fake.result(spec)
    r.servers = { { name = "stranger" } }
    return r
  end)
  local _, out = run("knbl.tcp_rr { from = a, to = b }", { "--json", "-", "-q" }, core)
  lu.assertEquals(json.decode(out).measurements[1].flags, { "wrong_backend" })
end

function TestMeasure:test_only()
  local _, _, _, core = run("for _, name in ipairs { 'pod a', 'pod b', 'svc' } do knbl.tcp_rr { case = name, from = a, to = b } end", { "--only", "POD*b", "-q" })
  lu.assertEquals(#core.asked, 1)
  local code, _, err = run("knbl.tcp_rr { case = 'pod', from = a, to = b }", { "--only", "nosuch" })
  lu.assertEquals(code, 2)
  lu.assertStrContains(err, "--only nosuch selects none of 1 measurements")
end

function TestMeasure:test_a_ratio_to_a_case_that_is_not_there()
  local two = "knbl.tcp_rr { case = 'far', from = a, to = b }\nknbl.tcp_rr { case = 'near', from = a, to = b, expect = 'mean \"near\" / \"%s\" < 2' }"
  local code, _, err, core = run(two:format "fra")
  lu.assertEquals({ code, #core.asked }, { 1, 0 })
  lu.assertStrContains(err, "SCRIPT:3: tcp_rr: expect: no measurement has the case 'fra', did you mean 'far'?")
  lu.assertEquals(run(two:format "far", { "-q" }), 0)
end

function TestMeasure:test_together_is_checked_wholly_first()
  local one = "{ test = 'tcp_rr', from = a, to = b }"
  refused("knbl.together { " .. one .. ", { test = 'tcp_rr', from = a, to = b, flws = 1 } }", "did you mean 'flows'?")
  refused("knbl.together { " .. one .. ", { test = 'udp_tt', from = a, to = b } }", "measurement 2: unknown test 'udp_tt', did you mean 'udp_rr'?")
  refused("knbl.together { " .. one .. ", { from = a, to = b } }", "measurement 2 has no 'test'")
  refused("knbl.together { " .. one .. ", { test = 'tcp_bw', from = a, to = b, size = '1,2' } }", "measurement 2 has several sizes")
end

-- They are asked after in no order; the ledger keeps that of the script, and what is expected of each is judged.
-- A Service that is so fresh that nobody has heard of it: it is asked until it answers, then they all start.
function TestMeasure:test_together_waits_for_a_fresh_service()
  local attempts = 0
  local core = fake.core(function(spec)
    attempts = attempts + 1
    if attempts <= 2 then return nil, { code = "refused", message = "connection refused" } end
    return fake.result(spec)
  end)
  local two = "{ test = 'tcp_rr', from = a, to = b, duration = '2s' }"
  local code, _, err = fake.knbl(fake.pair .. "b.settled = require 'knbl.native'.now() + 20\n"
    .. ("knbl.together { %s, %s }"):format(two, two), { "--no-ceiling" }, core)
  lu.assertEquals(code, 0, err)
  lu.assertEquals(attempts, 6) -- two were refused, two found it out, two counted
  lu.assertEquals(core.asked[6].spec.duration, 2)
end

function TestMeasure:test_together_keeps_the_order_and_what_is_expected()
  local list = {}
  for i = 1, 9 do list[i] = ("{ test = 'tcp_rr', case = 'c%d', from = a, to = b, expect = 'p50 %s 1ms', duration = '%ds' }"):format(i, i == 5 and ">" or "<", i) end
  local body = "knbl.together { " .. table.concat(list, ", ") .. " }"
  local code, out = run(body, { "--json", "-", "-q" })
  local data, cases = json.decode(out), {}
  for i, m in ipairs(data.measurements) do cases[i] = m.case end
  lu.assertEquals(table.concat(cases, " "), "c1 c2 c3 c4 c5 c6 c7 c8 c9")
  lu.assertEquals({ code, data.verdict.exit, #data.expectations }, { 99, 99, 9 })
  local _, planned = run(body, { "--dry-run" })
  lu.assertStrContains(planned, "9 measurements, 10s")
  lu.assertStrContains(planned, "together with 1")
end

function TestMeasure:test_a_script_error_shows_its_own_frames_only()
  local code, _, err = run("local function inner() error('oh no') end\nfunction outer() inner() end\nouter()")
  lu.assertEquals(code, 1)
  lu.assertStrContains(err, "SCRIPT:2: oh no")
  lu.assertStrContains(err, "SCRIPT:4: in main chunk")
  lu.assertNotStrContains(err, "knbl/")
  lu.assertNotStrContains(err, "[C]")
end

function TestMeasure:test_a_deep_stack_is_cut()
  local began = os.clock()
  local code, _, err = run("local function f() return f() + 1 end\nf()")
  lu.assertEquals(code, 1)
  lu.assertStrContains(err, "SCRIPT:2: stack overflow")
  lu.assertStrMatches(err, ".*  SCRIPT:2: in function 'f'\n  %.%.%. %d+ more\n.*")
  lu.assertTrue(os.clock() - began < 5 and #err < 5000)
end

function TestMeasure:test_a_table_that_is_raised_is_shown()
  local code, _, err = run("error({ reason = 'enough' })")
  lu.assertEquals(code, 1)
  lu.assertStrContains(err, 'the script raised {"reason":"enough"}')
end

function TestMeasure:test_a_cluster_left_open_is_closed()
  local _, _, _, core = fake.knbl("local knbl = require 'knbl' local c = knbl.cluster { provider = 'loopback' } c:pair()")
  lu.assertEquals({ core.agents > 0, core.open }, { true, 0 })
end

function TestMeasure:test_a_ceiling_where_it_is_cheap_or_asked_for()
  local ceiling = require "knbl.ceiling"
  for _, case in ipairs { { nil, 10, true }, { nil, 1, false }, { nil, nil, false }, { true, 1, true }, { false, 10, false } } do
    lu.assertEquals(ceiling.wanted({ settings = { ceiling = case[1] } }, { duration = case[2] }), case[3])
  end
end

os.exit(lu.LuaUnit.run())
