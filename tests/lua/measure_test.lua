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
  refused("knbl.tcp_rr { from = a, to = b, gso = true }", "tcp_rr: gso does not apply; it belongs to udp_stream")
  refused("knbl.udp_stream { from = a, to = b, flows = 4000 }",
    "udp_stream: 4000 flows are too many for server: an agent serves 2048 at once\n")
  refused("knbl.udp_stream { from = a, to = cluster:service { a, b }, flows = 4097 }", "4097 flows are too many",
    "2 of them 4096")
  refused("knbl.tcp_rr { from = a, to = b, duration = '10 parsecs' }", "parsecs")
  refused("knbl.tcp_rr { from = a, to = b, size = -1 }", "size")
  refused("knbl.tcp_bw { from = a, to = b, size = '1:2:*1' }", "size")
  refused("knbl.tcp_bw { from = a, to = b, size = '64:1:*2' }", "size")
  refused("knbl.tcp_bw { from = a, to = b, size = {} }", "the list is empty")
  refused("knbl.tcp_rr { to = b }", "from is required")
  refused("knbl.tcp_rr { from = a }", "to is required")
  refused("knbl.tcp_rr { from = 'a', to = b }", "from must be a pod")
  refused("knbl.tcp_rr { from = a, to = 7 }", "to must be a pod")
  refused("knbl.tcp_rr { from = a, to = 'http://x/' }", "needs an agent")
  refused("knbl.http { from = a, to = 'ftp://x/' }", "the scheme must be http or https, got ftp")
  refused("knbl.dns { from = a, to = 'https://x/', names = 'x' }", "https is for http only")
  refused("knbl.http { from = a, to = b, tls = true }", "the agent's server has no TLS")
  refused("knbl.http { from = a, to = 'http://x/', verify = false }", "verify = false needs tls")
  refused("knbl.http { from = a, to = b, http2 = true }", "the agent's server speaks HTTP/1.1")
  refused("knbl.http { from = a, to = 'http://x/', streams = 2 }", "streams needs http2, got 2")
  refused("knbl.http { from = a, to = 'http://x/', http2 = true, keepalive = false }", "http2 needs keepalive")
  refused("knbl.http { from = a, to = 'https://x/', ca = '/no/such/file' }", "ca: /no/such/file")
  refused("knbl.http { from = a, to = 'https://x/', ca = 'README.md' }", "contains no certificate in PEM form")
  refused("knbl.tcp_rr { from = a, to = b, ca = 'README.md' }", "ca does not apply; it belongs to http")
  refused("knbl.tcp_rr { from = b:service(), to = b }", "from must be a pod or a node, got a Service")
  refused("knbl.ping { from = a, to = b:service() }", "does not answer ICMP")
  refused("knbl.tcp_rr { from = a, to = b, expect = 'p99 < 1parsec' }", "column 7", "^")
  refused("knbl.tcp_rr { from = a, to = b, expect = 5 }", "expect must be a string or a list of strings, got a number")
  refused("knbl.tcp_rr { from = a, to = b, expect = { true } }", "a string or a list of strings, got a boolean")
  refused("knbl.tcp_rr { from = a, to = b, duration = 0 / 0 }", "tcp_rr: duration must be a finite number, got ")
  refused("knbl.tcp_rr { from = a, to = b, flows = 1 / 0 }", "tcp_rr: flows must be a finite number, got inf")
  refused("knbl.ready { from = a, to = b }", "change must be a function, got nil")
  for _, key in ipairs { "before", "settle", "within" } do
    refused(("knbl.ready { from = a, to = b, change = print, %s = 'soon' }"):format(key), "knbl.ready: " .. key
      .. ": \"soon\" is not a number")
  end
  refused("knbl.note()", "takes a string or a table, got nil")
  refused("knbl.tcp_rr { from = a, to = b, case = 5 }", "case must be a non-empty string, got 5")
  refused("knbl.tcp_rr { from = a, to = b, case = ' ' }", 'case must be a non-empty string, got " "')
  refused("knbl.tcp_rr { from = a, to = b, labels = 5 }", "labels must be a table, got 5")
  refused("knbl.tcp_rr { from = a, to = b, labels = { x = { 1 } } }",
    "label x must be a string or a number, or a table with a name")
  refused("knbl.together { knbl.tcp_rr { from = a, to = b, duration = '10ms' } }",
    'measurement 1 is a result; expected { test = "tcp_rr", from = …')
  refused("knbl.tcp_rr(5)", "takes a table")
  refused("knbl.tcp_rr { a, b }", "every value needs a key")
  refused("knbl.tcp_rt { from = a, to = b }", "knbl has no 'tcp_rt'", "tcp_rr")
  refused("local other = knbl.cluster { provider = 'loopback' } knbl.tcp_rr { from = a, to = other:pair() }",
    "belong to different clusters")
  refused("cluster:close() knbl.tcp_rr { from = a, to = b }", "closed")
end

function TestMeasure:test_where_outside_it_goes()
  local path = require "knbl.measure.path"
  for text, expected in pairs {
    ["2001:db8::1"] = { "2001:db8::1", 80 }, ["::1"] = { "::1", 80 }, ["::ffff:10.0.0.1"] = { "::ffff:10.0.0.1", 80 },
      ["[::1]:81"] = { "::1", 81 },
    ["10.0.0.1"] = { "10.0.0.1", 80 }, ["10.0.0.1:81"] = { "10.0.0.1", 81 },
      ["http://[::1]:81/x"] = { "::1", 81, "/x" }, ["host:81/y"] = { "host", 81, "/y" },
    ["cafe:81"] = { "cafe", 81 }, ["https://x/y"] = { "x", 443, "/y", true },
    ["https://[::1]:8443"] = { "::1", 8443, nil, true },
  } do
    lu.assertEquals({ path.parse_url(text) }, expected, text)
  end
  lu.assertNil((path.parse_url "10.0.0.1:0"))
end

function TestMeasure:test_more_flows_than_an_agent_holds()
  for _, flows in ipairs { "http { to = 'http://127.0.0.1/'", "http { to = b, keepalive = false", "tcp_crr { to = b",
    "tcp_rr { to = cluster:service { a, b }" } do
    local code, _, err = run(("knbl.%s, from = a, flows = 4000 }"):format(flows), { "-q" })
    lu.assertEquals(code, flows:find "service" and 98 or 0, err) -- loopback has no Services: skipped, not refused
  end
end

function TestMeasure:test_a_misspelt_method()
  for _, case in ipairs { { "cluster:pairs()", "pair" }, { "a:servise()", "service" },
    { "cluster:pod():excec {}", "exec" } } do
    local code, _, err = run(case[1])
    lu.assertEquals(code, 1)
    lu.assertStrContains(err, ("did you mean '%s'?"):format(case[2]))
  end
  local _, _, err = run "b:delete()"
  lu.assertStrContains(err, "(method 'delete'), which a cluster has")
end

function TestMeasure:test_a_program_runs_where_there_are_programs()
  local code, out, err, core = run("print(b:exec { 'true' }) knbl.tcp_rr { from = a, to = b }")
  lu.assertEquals({ code, #core.asked }, { 0, 1 }, err)
  code, out = run("knbl.tcp_rr { from = a, to = b } b:exec { 'true' }", { "--dry-run" })
  lu.assertEquals(code, 0)
  lu.assertStrContains(out, "the plan ends here")
end

function TestMeasure:test_the_cluster_is_checked()
  refused("cluster:pod { name = 'server' }", "the name 'server' is already used by a pod")
  refused("cluster:pod { name = 'Big_Name' }", "invalid name 'Big_Name'")
  refused("cluster:pod { mtu = 20 }", "mtu")
  refused("cluster:pod { nod = 1 }", "did you mean 'node'")
  refused("cluster:pod { image = 'nginx' }", "port is required with image or command")
  refused("cluster:pod { command = { 'nc' } }", "port is required")
  refused("cluster:pod { bandwidth = 'wide' }", "bandwidth must be in bits a second, as in \"1Gbit/s\", got 'wide'")
  refused("cluster:pod { node = 1.5 }", "whole number")
  refused("cluster:service { endpoints = {} }", "endpoints must be a non-empty list")
  refused("cluster:service { endpoints = { b:service() } }", "endpoints[1] must be a pod or a node, got a service")
  refused("cluster:service { pods = { b } }", "unknown key 'pods'; known keys: affinity, endpoints")
  refused("cluster:service(b)", "cluster:service takes a table")
  refused("b:service { affinity = 'Sticky' }", "affinity must be true, false, ClientIP or None, got 'Sticky'")
  refused("b:service { ports = { 70000 } }", "ports[1]: port must be a whole number from 1 to 65535, got 70000")
  refused("b:service { ports = { { prt = 80 } } }", "did you mean 'port'?")
  refused("b:service { ports = { { port = 80, protocol = 'sctp' } } }", "protocol must be tcp, udp or both, got 'sctp'")
  refused("b:service { ports = {} }", "ports must be a non-empty list")
  refused("b:service { ports = 5 }", "ports must be a non-empty list")
  refused("b:service { ports = { { target = 80 } } }", "ports[1]: port is required")
  refused("b:service { port = 80, ports = { 443 } }", "port and ports cannot be combined")
  refused("b:service { port = 70000 }", "from 1 to 65535")
  refused("b:service { type = 'Balancer' }", "type must be ClusterIP, NodePort, LoadBalancer or ExternalName")
  refused("b:service { wait = '3s' }", "wait requires type = \"LoadBalancer\"")
  refused("b:service { type = 'LoadBalancer', wait = '3 parsecs' }", "parsecs")
  refused("b:service { type = 'LoadBalancer', headless = true }", "headless cannot be combined with type")
  refused("b:service { external_ips = { 'here' } }", "external_ips[1] must be an IP address, got 'here'")
  refused("b:service { external_ips = {} }", "external_ips must be a list of 1 to 8 addresses")
  refused("b:service { external_name = 'x.example' }", "external_name requires type = \"ExternalName\"")
  refused("b:service { type = 'ExternalName' }", "endpoints cannot be combined with type = \"ExternalName\"")
  refused("cluster:service { type = 'ExternalName' }", "external_name must be a host name, got 'nil'")
  refused("b:service():on(1)", "NodePort")
  refused("b:service { type = 'NodePort', external_traffic_policy = 'local' }",
    "external_traffic_policy must be Cluster or Local, got 'local'", "did you mean 'Local'?")
  refused("b:service { external_traffic_policy = 'Local' }", "requires type = \"NodePort\"")
  refused("b:service { externalTrafficPolicy = 'Local' }", "did you mean 'external_traffic_policy'?")
  refused("cluster.pair()", "call pair with a colon: cluster:pair(…)")
  refused("b.exec { 'true' }", "call exec with a colon")
  refused("knbl.tcp_rr(a, b)", "knbl.tcp_rr takes a table: knbl.tcp_rr { from = a, to = b }")
  refused("knbl.report { columns = { 'latencyy' } }", "'latencyy' is no figure, did you mean 'latency'?")
  refused("knbl.report { columns = { 'latencyy', 'p99' } }", "'latencyy' is no figure, did you mean 'latency'?")
  refused("knbl.report { columns = { 'p98.5' } }", "'p98.5' is no figure")
  refused("b:exec 'true'", "takes a program and its arguments")
  refused("b:exec { 'echo', true }", "argument 2 must be a string, got a boolean")
  refused("knbl.cluster { overlai = 'vxlan', provider = 'loopback' }", "did you mean 'overlay'")
  refused("knbl.cluster(5)", "takes a table")
  refused("knbl.cluster { overlay = 'vxlam', provider = 'lab' }", "cluster: overlay must be none or vxlan, got 'vxlam'",
    "did you mean 'vxlan'?")
  refused("knbl.cluster { mtu = 600, provider = 'lab' }", "cluster: mtu must be at least 1280", "got 600")
  refused("knbl.cluster { services = 1e6, provider = 'lab' }", "services must be a whole number from 0")
  refused("knbl.cluster { pod_mtu = 20, provider = 'lab' }", "pod_mtu must be a whole number from 68 to 65535, got 20")
  refused("local c = knbl.cluster { provider = 'lab' } for i = 1, 10000 do c:pod {} end", "at most 1000 pods")
  refused("local nodes = cluster:nodes(2) cluster:pod { node = nodes[1] }", "is one node, not a list")
end

function TestMeasure:test_what_the_engines_are_asked()
  local code, _, err,
    core = run("knbl.tcp_rr { from = a, to = b, duration = '2s', request = 64, rate = '20k/s', flows = 4 }", { "-q" })
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

-- In the names of a list its sizes tell measurements apart, whatever the test is.
function TestMeasure:test_names_of_a_list_of_sizes()
  local path = os.tmpname()
  local code, out, err = run("knbl.tcp_rr { case = 'x', from = a, to = b, size = { 64, '1K' }, expect = 'p99 < 1s' }\n"
    .. "knbl.tcp_rr { case = 'y', from = a, to = b, size = 64 }", { "--junit", path })
  lu.assertEquals(code, 0, err)
  local junit = fake.read(path)
  os.remove(path)
  for _, text in ipairs { 'name="tcp_rr x 64 B"', 'name="tcp_rr x 1024 B"', 'name="tcp_rr x 64 B: p99 &lt; 1s"',
    'name="tcp_rr x 1024 B: p99 &lt; 1s"', 'name="tcp_rr y"' } do
    lu.assertStrContains(junit, text)
  end
  lu.assertStrContains(out, "tcp_rr x 1024 B: p99 < 1s")
  lu.assertStrContains(err, "tcp_rr x (loopback) 1024 B")
end

function TestMeasure:test_settings_reach_every_measurement()
  local _, _, _,
    core = run("knbl.tcp_rr { from = a, to = b, duration = '9s' } knbl.http { from = a, to = b, requests = 500 }",
    { "-q", "--duration", "200ms", "--set", "tcp_rr.flows=3", "--set", "threads=2", at = 1 })
  local rr, http = core.asked[1].spec, core.asked[2].spec
  lu.assertEquals({ rr.duration, rr.warmup, rr.flows, rr.threads }, { 0.2, 0.1, 3, 2 })
  lu.assertEquals({ http.duration, http.count, http.flows }, { 0.2, 500, 100 })
end

function TestMeasure:test_settings_in_vain_are_refused()
  local function refuses(args, text)
    local code, _, err, core = run("knbl.tcp_rr { from = a, to = b }", args)
    lu.assertEquals({ code, #core.asked }, { 2, 0 }, err)
    lu.assertStrContains(err, text)
  end
  refuses({ "--set", "gso=true" }, "--set gso: no measurement of SCRIPT takes it; 'gso' belongs to udp_stream")
  refuses({ "--set", "flows=x" }, 'knbl: --set flows=x: tcp_rr: flows: "x" is not a number with a unit')
  refuses({ "--set", "tcp_rr.size=0" }, "knbl: --set tcp_rr.size=0: tcp_rr: size: 0 is too small; tcp_rr takes 1 to")
  refuses({ "--set", "udp_rr.flows=2" }, "--set udp_rr.flows: no measurement")
  local path = os.tmpname()
  refuses({ "--csv", path, "--json", path }, "--json and --csv cannot both be " .. path)
  os.remove(path)
end

function TestMeasure:test_a_failure_is_a_result_and_the_run_goes_on()
  local core = fake.core(function(spec)
    if spec.test == "tcp_rr" then return nil, { code = "refused", message = "nobody listens" } end
    return fake.result(spec)
  end)
  local code, out,
    err = run("local r = knbl.tcp_rr { case = 'x', from = a, to = b } assert(not r.ok and r.error.code == 'refused')\n"
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
    if spec.test == "tcp_crr" then return nil, { code = "lost", message = "server stopped answering" } end
    return fake.result(spec)
  end)
  local code, out,
    err = run(
    "knbl.tcp_rr { from = a, to = b }\nknbl.tcp_crr { case = 'c', from = a, to = b }\nknbl.tcp_rr { from = a, to = b }",
    { "--json", "-", "-q" }, core)
  lu.assertEquals(code, 3)
  lu.assertStrContains(err, "SCRIPT:3: c: server stopped answering")
  local data = json.decode(out)
  lu.assertEquals(#data.measurements, 2)
  lu.assertEquals(data.verdict.status, "error")
  lu.assertEquals(core.open, 0)
end

-- A reason that fills lines is not told for each of those that it stands for.
function TestMeasure:test_a_long_reason_is_told_once()
  local name = ("k"):rep(120)
  local _, _, err = run(("local p = cluster:pod { runtime = '%s' }\n\z
    for i = 1, 3 do knbl.tcp_rr { case = 'c' .. i, from = a, to = p } end"):format(name))
  local _, told = err:gsub("%] [^\n]*skipped: loopback has no runtime " .. name, "")
  local _, again = err:gsub("skipped, for the same reason\n", "")
  lu.assertEquals({ told, again }, { 1, 2 }, err)
end

function TestMeasure:test_skipped_with_the_reason()
  local code, out, err,
    core = run("local r = knbl.tcp_rr { from = a, to = b:service() } assert(r.skipped and not r.ok)\n"
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
  local code, out, err,
    core = fake.knbl(
    "local knbl = require 'knbl' local c <close> = knbl.cluster { provider = 'loopback', mode = 'chains' }\n"
    .. "local a, b = c:pair() knbl.tcp_rr { from = a, to = b:service() }", { "--json", "-", "-q" })
  lu.assertEquals({ code, #core.asked }, { 98, 0 }, err)
  lu.assertEquals(json.decode(out).measurements[1].skipped, "'mode': available in the lab only, not on loopback")
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
  local _, _, _,
    core = run("for _, name in ipairs { 'pod a', 'pod b', 'svc' } do knbl.tcp_rr { case = name, from = a, to = b } end",
    { "--only", "POD*b", "-q" })
  lu.assertEquals(#core.asked, 1)
  local ratio, out = run([[
    knbl.tcp_rr { case = "direct", from = a, to = b }
    knbl.tcp_rr { case = "service", from = a, to = b, expect = 'p50 "service" / "direct" < 2' }]],
    { "--only", "service" })
  lu.assertEquals(ratio, 98)
  lu.assertStrContains(out, [[? p50 "service" / "direct" < 2 (--only left out 'direct')]])
  local code, _, err = run("knbl.tcp_rr { case = 'pod', from = a, to = b }", { "--only", "nosuch" })
  lu.assertEquals(code, 2)
  lu.assertStrContains(err, "--only nosuch selects none of 1 measurements")
end

function TestMeasure:test_a_ratio_to_a_case_that_is_not_there()
  local two =
    "knbl.tcp_rr { case = 'far', from = a, to = b }\nknbl.tcp_rr { case = 'near', from = a, to = b, expect = 'mean \z
      \"near\" / \"%s\" < 2' }"
  local code, _, err, core = run(two:format "fra")
  lu.assertEquals({ code, #core.asked }, { 1, 0 })
  lu.assertStrContains(err, "SCRIPT:3: tcp_rr: expect: no measurement has the case 'fra', did you mean 'far'?")
  lu.assertEquals(run(two:format "far", { "-q" }), 0)
end

function TestMeasure:test_together_is_checked_wholly_first()
  local one = "{ test = 'tcp_rr', from = a, to = b }"
  refused("knbl.together { " .. one .. ", { test = 'tcp_rr', from = a, to = b, flws = 1 } }", "did you mean 'flows'?")
  refused("knbl.together { " .. one .. ", { test = 'udp_tt', from = a, to = b } }",
    "measurement 2: unknown test 'udp_tt', did you mean 'udp_rr'?")
  refused("knbl.together { " .. one .. ", { from = a, to = b } }", "measurement 2: test is required")
  refused("knbl.together { " .. one .. ", { test = 'tcp_bw', from = a, to = b, size = '1,2' } }",
    "measurement 2: takes one size, got 2")
end

-- Connections that a Service refused while it was fresh are not the measurement's; those of a later time are.
function TestMeasure:test_refusals_of_a_fresh_service_do_not_count()
  for settled, expected in pairs { [20] = { 2, 0 }, [0] = { 1, 3 } } do
    local refusals = { 3, 0 }
    local core = fake.core(function(spec)
      local result = fake.result(spec)
      result.metrics.connect_errors = table.remove(refusals, 1)
      return result
    end)
    local code, out, err = fake.knbl(fake.pair .. ("b.settled = require 'knbl.native'.now() + %d\n"):format(settled)
      .. "knbl.tcp_crr { from = a, to = b, duration = '2s' }", { "--no-ceiling", "--json", "-" }, core)
    lu.assertEquals(code, 0, err)
    lu.assertEquals({ #core.asked, json.decode(out).measurements[1].metrics.connect_errors }, expected)
  end
end

-- A flow of UDP that the nodes forgot while the Service was fresh is measured again; a server that is lost is not.
function TestMeasure:test_a_udp_flow_that_a_fresh_service_lost()
  for test, asked in pairs { udp_rr = 2, tcp_rr = 1 } do
    local lost = 1
    local core = fake.core(function(spec)
      lost = lost - 1
      if lost < 0 then return fake.result(spec) end
      return { ok = false, error = { code = "lost", message = "it answered before" }, flags = {}, metrics = {} }
    end)
    local code, _, err = fake.knbl(fake.pair .. "b.settled = require 'knbl.native'.now() + 20\n"
      .. ("knbl.%s { from = a, to = b, duration = '2s' }"):format(test), { "--no-ceiling" }, core)
    lu.assertEquals({ #core.asked, code == 0 }, { asked, asked == 2 }, err)
  end
end

-- They are asked after in no order; the ledger keeps that of the script, and what is expected of each is judged.
-- A Service that is so fresh that nobody has heard of it: it is asked until it answers, then they all start.
function TestMeasure:test_together_waits_for_a_fresh_service()
  local core = fake.refusing(2)
  local two = "{ test = 'tcp_rr', from = a, to = b, duration = '2s' }"
  local code, _, err = fake.knbl(fake.pair .. "b.settled = require 'knbl.native'.now() + 20\n"
    .. ("knbl.together { %s, %s }"):format(two, two), { "--no-ceiling" }, core)
  lu.assertEquals(code, 0, err)
  lu.assertEquals(#core.asked, 6) -- two were refused, two found it out, two counted
  lu.assertEquals(core.asked[6].spec.duration, 2)
end

function TestMeasure:test_together_keeps_the_order_and_what_is_expected()
  local list = {}
  for i = 1, 9 do
    list[i] = ("{ test = 'tcp_rr', case = 'c%d', from = a, to = b, expect = 'p50 %s 1ms', duration = '%ds' }"):format(i,
      i == 5 and ">" or "<", i)
  end
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

-- Several at the same time have what one has: the ceiling of each sender, and what the host sees of the ends.
function TestMeasure:test_together_has_ceilings_and_sandboxes()
  local two = ("{ test = 'tcp_rr', from = %s, to = %s, duration = '5s' }")
  local body = "local ns = 0\nfunction a.endpoint:usage() ns = ns + 1e9 return { cpu_ns = ns, memory_bytes = 7 } end\n"
    .. ("local r = knbl.together { %s, %s }\n"):format(two:format("a", "b"), two:format("b", "a"))
  local core = fake.core()
  local clock = 0
  core.now = function() clock = clock + 0.01 return clock end
  local code, out, err = run(body, { "--json", "-", "-q", "--ceiling" }, core)
  lu.assertEquals(code, 0, err)
  local list = json.decode(out).measurements
  lu.assertEquals({ list[1].metrics.memory.client_sandbox, list[2].metrics.memory.server_sandbox }, { 7, 7 })
  lu.assertTrue(list[1].metrics.cpu.client_sandbox > 0)
  lu.assertNil(list[1].ceiling, "over loopback there is none")
end

function TestMeasure:test_together_measures_the_ceiling_of_each_sender()
  local two = "{ test = 'tcp_rr', from = %s, to = %s, duration = '5s' }"
  local core = fake.core()
  local code, out, err = fake.knbl([[
    local knbl, contract = require "knbl", require "knbl.cluster.provider"
    local cluster <close> = knbl.cluster { provider = "loopback" }
    cluster.module = setmetatable({ via = false }, { __index = cluster.module })
    local a, b = cluster:pair()
    knbl.together { ]] .. two:format("a", "b") .. ", " .. two:format("b", "a") .. ", " .. two:format("a", "b") .. " }",
    { "--json", "-", "-q" }, core)
  lu.assertEquals(code, 0, err)
  lu.assertEquals(#core.asked, 5) -- three of them, and a ceiling for each of two senders
  for _, m in ipairs(json.decode(out).measurements) do lu.assertEquals(m.ceiling, 50000, m.case) end
end

-- The ceiling of a server that waits is not that of one that answers at once.
function TestMeasure:test_other_options_have_another_ceiling()
  local core = fake.core()
  local code, out, err = fake.knbl([[
    local knbl = require "knbl"
    local cluster <close> = knbl.cluster { provider = "loopback" }
    cluster.module = setmetatable({ via = false }, { __index = cluster.module })
    local a, b = cluster:pair()
    for i, delay in ipairs { "20ms", 0, 0 } do
      knbl.tcp_rr { case = "rr " .. i, from = a, to = b, duration = "5s", delay = delay }
      knbl.http { case = "http " .. i, from = a, to = b, duration = "5s", keepalive = i == 1 }
    end]], { "--json", "-", "-q" }, core)
  lu.assertEquals(code, 0, err)
  lu.assertEquals(#core.asked, 6 + 4)
  for _, m in ipairs(json.decode(out).measurements) do lu.assertEquals(m.ceiling, 50000, m.case) end
end

-- A ceiling is short: where the machine was too busy for it, it is tried once more.
function TestMeasure:test_a_starved_ceiling_is_tried_again()
  local durations = {}
  local core = fake.core(function(spec)
    durations[#durations + 1] = spec.duration
    if #durations == 2 then
      return { test = spec.test, ok = false, error = { code = "no_data", message = "nothing was measured" },
        metrics = {}, flags = {} }
    end
    return fake.result(spec)
  end)
  local code, out, err = fake.knbl([[
    local knbl = require "knbl"
    local cluster <close> = knbl.cluster { provider = "loopback" }
    cluster.module = setmetatable({ via = false }, { __index = cluster.module })
    local a, b = cluster:pair()
    knbl.tcp_rr { from = a, to = b, duration = "60ms" }]], { "--json", "-", "-q", "--ceiling" }, core)
  lu.assertEquals(code, 0, err)
  lu.assertEquals({ durations, json.decode(out).measurements[1].ceiling }, { { 0.06, 0.06, 0.5 }, 50000 })
end

-- The host knows why an end became unreachable, also with several at the same time.
function TestMeasure:test_together_says_why_an_end_is_gone()
  local core = fake.core(function(spec)
    if spec.test == "udp_rr" then return nil, { code = "timeout", message = "no answer" } end
    return fake.result(spec)
  end)
  local code, out = run("function b.endpoint:ended() return 'kata, status 137' end\n"
    .. "knbl.together { { test = 'tcp_rr', from = a, to = a }, { test = 'udp_rr', from = a, to = b } }",
    { "--json", "-", "-q" }, core)
  local list = json.decode(out).measurements
  lu.assertEquals({ code, list[1].ok, list[2].error.message }, { 1, true, "server has ended: kata, status 137" })
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
  local _, _, _,
    core = fake.knbl("local knbl = require 'knbl' local c = knbl.cluster { provider = 'loopback' } c:pair()")
  lu.assertEquals({ core.agents > 0, core.open }, { true, 0 })
end

function TestMeasure:test_a_ceiling_where_it_is_cheap_or_asked_for()
  local ceiling = require "knbl.measure.ceiling"
  for _, case in ipairs { { nil, 10, true }, { nil, 1, false }, { nil, nil, false }, { true, 1, true },
    { false, 10, false } } do
    lu.assertEquals(ceiling.wanted({ settings = { ceiling = case[1] } }, { duration = case[2] }), case[3])
  end
end

os.exit(lu.LuaUnit.run())
