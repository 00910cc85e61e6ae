-- The command line: commands, flags, exit codes, plans, what goes where.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local fake = require "fake"
local json = require "knbl.json"

TestCli = {}

local body =
  "knbl.tcp_rr { case = 'one', from = a, to = b, duration = '3s', expect = 'p99 < 1s' } knbl.tcp_crr { case = 'two', \z
    from = a, to = b }\n"
local script = "-- What is it?\n" .. fake.pair .. body

function TestCli:test_help_version_and_nothing()
  local code, out = fake.knbl(nil, { "--help" })
  lu.assertEquals(code, 0)
  for _, text in ipairs { "--on PROVIDER", "--json FILE", "--dry-run", "doctor", "Exit codes" } do
    lu.assertStrContains(out, text)
  end
  code, out = fake.knbl(nil, { "--version" })
  lu.assertEquals(code, 0)
  lu.assertStrMatches(out, "knbl %d.*\n")
  local err
  code, out, err = fake.knbl(nil, {})
  lu.assertEquals({ code, out }, { 2, "" })
  lu.assertStrContains(err, "a scenario is required")
end

function TestCli:test_version_after_a_scenario_too()
  local code, out, _, core = fake.knbl(script, { "--version" })
  lu.assertEquals({ code, #core.asked }, { 0, 0 })
  lu.assertStrMatches(out, "knbl [%d.]+ .*")
end

function TestCli:test_wrong_command_lines()
  for _, case in ipairs {
    { { "--jsn" }, "did you mean '--json'" }, { { "nosuch" }, "no scenario 'nosuch'" },
    { { "compar" }, "did you mean 'compare'" }, { { "run", "ping_" }, "did you mean 'ping'" },
    { { "run" }, "a scenario is required" }, { { "run", "list" }, "no scenario 'list'" }, { { "/tmp" }, "" },
      { { "show" }, "usage: knbl show NAME" },
    { { "show", "pod_to_sv" }, "did you mean 'pod_to_svc'" },
    { { "--on" }, "--on needs a value" }, { { "list", "--fast" }, "unknown option --fast of knbl list" },
  } do
    local code, _, err = fake.knbl(nil, case[1])
    lu.assertEquals(code, 2, table.concat(case[1], " ") .. err)
    lu.assertStrContains(err, case[2])
  end
  for _, case in ipairs {
    { { "--on", "loopbak" }, "did you mean 'loopback'" }, { { "--set", "flows" }, "KEY=VALUE" },
      { { "--set", "flws=1" }, "did you mean 'flows'" },
    { { "--set", "tcp_rx.flows=1" }, "did you mean 'tcp_rr'" }, { { "--expect", "p99 << 1" }, "column 6" },
      { { "--baseline", "/nonexistent" }, "--baseline: cannot read" },
    { { "--repeats", "0" }, "at least 1" }, { { "--duration", "-1s" }, "--duration" },
      { { "--nodes", "0" }, "--nodes" }, { { "--on", "hosts" }, "--on hosts needs hosts" },
    { { "--on", "hosts:a=1.2.3.4:99999" }, "must be ADDRESS[:PORT]" },
    { { "--on", "hosts:a=1.2.3.4", "--token-file", "/dev/null" }, "token-file" },
    { { "--on", "hosts:a=1.2.3.4", "--nodes", "2" }, "--nodes 2: --on gives 1" },
    { { "--on", "ssh:a,b", "--nodes", "c" }, "--nodes: there is no host 'c'; --on gives: a, b" },
    { { "--namespace", "x" }, "--namespace belongs to --on k8s, and SCRIPT runs on lab" },
  } do
    local code, _, err,
      core = fake.knbl(
      "local knbl = require 'knbl' local cluster <close> = knbl.cluster() local a, b = cluster:nodes(2)\n" .. body,
      case[1])
    lu.assertEquals(code, 2, table.concat(case[1], " ") .. ": " .. err)
    lu.assertStrContains(err, case[2])
    lu.assertEquals(#core.asked, 0)
  end
end

function TestCli:test_a_script_that_is_no_lua()
  local code, _, err = fake.knbl("local x = = 5")
  lu.assertEquals(code, 1)
  lu.assertStrContains(err, "SCRIPT:1: ")
  code, _, err = fake.knbl("\27Lua")
  lu.assertEquals(code, 1)
  lu.assertStrContains(err, "compiled Lua")
end

function TestCli:test_options_before_and_after_the_script()
  for _, at in ipairs { 1, 3, 5 } do
    local code, out, err = fake.knbl(script, { "--duration", "1s", "--json", "-", "-q", at = at })
    lu.assertEquals(code, 0, err)
    lu.assertEquals(json.decode(out).measurements[1].params.duration, 1)
  end
end

function TestCli:test_results_on_stdout_the_rest_on_stderr()
  local code, out, err = fake.knbl(script)
  lu.assertEquals(code, 0)
  lu.assertStrContains(out, "50.0 k/s")
  lu.assertStrContains(out, "p99 < 1s")
  lu.assertStrContains(err, "[1/2] tcp_rr one (loopback): 50.0 k/s")
  code, out, err = fake.knbl(script, { "--json", "-" })
  lu.assertEquals(code, 0)
  lu.assertEquals(json.decode(out).schema, 1)
  lu.assertStrContains(err, "p99")
  code, out, err = fake.knbl(script, { "--quiet" })
  lu.assertEquals({ code, out, err }, { 0, "", "" })
end

function TestCli:test_exit_codes_of_expectations()
  lu.assertEquals(fake.knbl(script, { "-q", "--expect", "one: p99 < 1ns" }), 99)
  lu.assertEquals(fake.knbl(script, { "-q", "--expect", "p99 < 0.5x baseline" }), 98)
  local code, _, err, core = fake.knbl(script, { "-q", "--expect", "three: p99 < 1ms" })
  lu.assertEquals({ code, #core.asked }, { 2, 0 }, err)
  lu.assertEquals(fake.knbl(script, { "-q", "--expect", '"one" / "two" < 1.1' }), 2)
end

function TestCli:test_baseline()
  local path = os.tmpname()
  lu.assertEquals(fake.knbl(script, { "-q", "--json", path }), 0)
  lu.assertEquals(fake.knbl(script, { "-q", "--baseline", path, "--duration", "1s", "--expect",
    "p99 < 1.1x baseline" }), 0)
  lu.assertEquals(fake.knbl(script, { "-q", "--baseline", path, "--expect", "rate > 2x baseline" }), 99)
  os.remove(path)
end

function TestCli:test_dry_run()
  local code, out, err, core = fake.knbl(script, { "--dry-run" })
  lu.assertEquals(code, 0, err)
  lu.assertStrContains(out, "SCRIPT on loopback: 2 measurements, 14s")
  lu.assertStrContains(out, "tcp_rr       one  client -> server (loopback)  3.4s")
  lu.assertStrContains(out, "pod client")
  lu.assertEquals({ #core.asked, core.agents }, { 0, 0 })
  code, out = fake.knbl(script .. "os.remove('/nonexistent') knbl.tcp_rr { from = a, to = b }", { "--dry-run" })
  lu.assertEquals(code, 0)
  lu.assertStrContains(out, "the plan ends here")
end

-- What a run would skip for want of nodes is skipped in its plan too.
function TestCli:test_a_plan_has_no_more_nodes_than_the_run()
  local pair = "local knbl = require 'knbl' local cluster <close> = knbl.cluster() local a, b = cluster:pair()\n"
    .. body
  for words, what in pairs {
    ["--on hosts:a=1.2.3.4,b=1.2.3.5 --nodes b,a"] = "makes node b, node a,",
    ["--on hosts:a=1.2.3.4"] = "skipped: there is 1 node",
    ["--on hosts:a=1.2.3.4,b=1.2.3.5 --nodes b"] = "skipped: there is 1 node",
    ["--on lab --nodes 1"] = "skipped: there is 1 node",
  } do
    local list = { "--dry-run" }
    for word in words:gmatch "%S+" do list[#list + 1] = word end
    local code, out, err = fake.knbl(pair, list)
    lu.assertEquals(code, 0, words .. ": " .. err)
    lu.assertStrContains(out, what)
  end
end

function TestCli:test_run_is_optional()
  for _, words in ipairs { { "run", "ping", "--dry-run" }, { "--dry-run", "run", "ping" } } do
    local code, out, err = fake.knbl(nil, words)
    lu.assertEquals(code, 0, err)
    lu.assertStrContains(out, "scenarios/ping.lua on lab")
  end
  lu.assertStrContains(select(2, fake.knbl(nil, { "run", "--help" })), "Commands:")
end

function TestCli:test_which_kernels_starve()
  local starves = require("knbl.command.doctor").starves
  for release, expected in pairs { ["6.1.0-57-cloud-amd64"] = false, ["6.12.90"] = false, ["6.13.0"] = true,
    ["6.18.44-fc-v669"] = true, ["6.18.45"] = false, ["6.18"] = true, ["7.0.1"] = false, unknown = false } do
    lu.assertEquals(starves(release), expected, release)
  end
end

-- What is made takes its time too, and so does the sender's ceiling, once for each kind of work.
function TestCli:test_a_plan_has_all_that_takes_time()
  local lab =
    "local knbl = require 'knbl'\nlocal c <close> = knbl.cluster { provider = 'lab' }\nlocal a, b = c:pair()\n"
  local twice = "for i = 1, 2 do knbl.tcp_rr { case = 'x' .. i, from = a, to = b, warmup = 0, duration = 9.9 } end"
  local _, out = fake.knbl(lab .. twice, { "--dry-run", "--no-ceiling" })
  lu.assertStrContains(out, "2 measurements, 20s, and about 1s to make what it needs")
  _, out = fake.knbl(lab .. twice, { "--dry-run" })
  lu.assertStrContains(out, "2 measurements, 21s")
  _, out = fake.knbl(lab .. "c:pod { runtime = 'kata' } c:pod { runtime = 'gvisor' }" .. twice, { "--dry-run" })
  lu.assertStrContains(out, "about 4s to make what it needs")
end

function TestCli:test_a_plan_has_no_side_effects()
  local path = os.tmpname()
  local code, out, err = fake.knbl(fake.pair
    .. ("local f = io.open(%q, 'a') f:write('x') f:close() knbl.tcp_rr { from = a, to = b }"):format(path), { "-q" })
  lu.assertEquals({ code, out }, { 0, "" }, err)
  lu.assertEquals(fake.read(path), "x", "written once, by the run, and not by the plan")
  os.remove(path)
end

function TestCli:test_a_plan_of_a_script_that_never_ends()
  require("knbl.program.plan").patience = 0.1
  local code, _, err = fake.knbl(fake.pair
    .. "local r repeat r = knbl.tcp_rr { from = a, to = b } until r.metrics.rate_per_s == 50000", { "-q" })
  lu.assertEquals(code, 0, err)
end

function TestCli:test_a_script_may_compute_with_what_it_plans()
  local code, _, err = fake.knbl(fake.pair .. "local r = knbl.tcp_rr { from = a, to = b }\n"
    .. "knbl.tcp_rr { from = a, to = b, rate = math.floor(r.metrics.rate_per_s * 0.8) .. '/s', case = \z
      ('%d'):format(r.metrics.latency_ns.p99) }", { "-q" })
  lu.assertEquals(code, 0, err)
end

function TestCli:test_an_interrupted_run_keeps_its_ledger()
  local core = fake.core(function(spec)
    if spec.test == "tcp_crr" then return nil, { code = "interrupted", message = "interrupted" } end
    return fake.result(spec)
  end)
  local code, out, err = fake.knbl(script, { "--json", "-", "-q" }, core)
  lu.assertEquals(code, 130)
  lu.assertEquals(err, "knbl: interrupted\n")
  local data = json.decode(out)
  lu.assertEquals({ #data.measurements, data.verdict.status, core.open }, { 2, "interrupted", 0 })
end

function TestCli:test_no_cluster()
  local core = fake.core()
  core.agent = function() return nil, { code = "in_use", message = "no port is free" } end
  local code, _, err = fake.knbl(script, {}, core)
  lu.assertEquals(code, 1)
  lu.assertStrContains(err, "no port is free")
  core = fake.core()
  core.lab = function() return nil, { code = "permission", message = "user namespaces are forbidden here" } end
  code, _, err = fake.knbl("local knbl = require 'knbl'\nlocal c = knbl.cluster()", {}, core)
  lu.assertEquals(code, 3)
  lu.assertStrContains(err, "SCRIPT:2: no cluster (lab): user namespaces are forbidden here")
end

function TestCli:test_list_and_show()
  local code, out = fake.knbl(nil, { "list" })
  lu.assertEquals(code, 0)
  lu.assertStrContains(out, "pod_to_svc")
  lu.assertStrContains(out, "What does each path between a client and a server cost")
  code, out = fake.knbl(nil, { "show", "pod_to_svc" })
  lu.assertEquals({ code, out }, { 0, fake.read "scenarios/pod_to_svc.lua" })
end

-- src/process.h has them for `knbl agent`, which runs without Lua: its numbers are those of the table.
function TestCli:test_c_has_the_same_exit_codes()
  local exit, n = require "knbl.base.exit", 0
  for name, number in fake.read("src/process.h"):match("enum { ?(EXIT_[^}]*)}"):gmatch "EXIT_([%u_]+) = (%d+)" do
    n = n + 1
    lu.assertEquals(exit[name:lower()], tonumber(number), name)
  end
  lu.assertEquals(n, 4)
end

os.exit(lu.LuaUnit.run())
