-- knbl.mesh from the call to the reports, over a schedule that is only thought of; and the ledger of 1,000 nodes.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local contract = require "knbl.results.contract"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"
local noises = require "mesh_noise"
local schema = require "knbl.base.schema"
local sim = require "mesh_sim"
local summary = require "knbl.mesh.summary"
local text = require "knbl.base.text"
local verdicts = require "knbl.mesh.verdict"

TestReport = {}

local schedule = sim.schedule

local function script(n, more)
  return ([[
    local knbl = require "knbl"
    local cluster <close> = knbl.cluster { provider = "loopback" }
    local pods = {}
    for i = 1, %d do pods[i] = cluster:pod { name = "p" .. i } end
    local mesh = knbl.mesh { nodes = pods%s }
    knbl.note("outliers " .. #mesh.outliers .. ", pairs " .. #mesh.pairs)
  ]]):format(n, (more or ""):find "tests =" and more or ', tests = { "tcp_lat", "tcp_stream" }' .. (more or ""))
end

local function run(n, more, args)
  local code, out, err = fake.knbl(script(n, more), args or { "--json", "-", "-q" })
  return code, out, err
end

function TestReport:test_a_slow_node_is_named_in_the_ledger_and_gated()
  schedule { faults = { [5] = { receive = 0.5 } } }
  local code, out, err = run(20, ', duration = "2s"', { "--json", "-", "-q", "--expect", "mesh: no outlier" })
  lu.assertEquals(code, 99, err)
  local data = json.decode(out)
  lu.assertNil(schema.check(contract, data))
  local mesh = data.meshes[1]
  lu.assertEquals({ mesh.outliers[1].kind, mesh.outliers[1].name, #mesh.outliers }, { "receiver", "p5", 1 })
  lu.assertStrContains(data.expectations[1].reason, "p5 receives slowly")
  lu.assertEquals(data.notes[1].text, "outliers 1, pairs 760")
  lu.assertEquals({ #mesh.tests[2].pairs, mesh.tests[2].params.duration, #data.measurements }, { 380, 2, 84 })
  lu.assertEquals(mesh.histograms[1].node, "p5")
  lu.assertEquals({ #mesh.tests[1].figures[1].cells, mesh.tests[1].figures[2].cells }, { 380 }) -- nobody stalls
end

function TestReport:test_one_test_alone_is_measured_alone()
  local asked = schedule {}
  local code, out, err = run(20, ', tests = { "tcp_stream" }')
  lu.assertEquals(code, 0, err)
  for _, slot in ipairs(asked.plan.slots) do lu.assertEquals(slot.test, "tcp_stream") end
  local mesh = json.decode(out).meshes[1]
  lu.assertEquals({ #mesh.tests, mesh.tests[1].test, #mesh.tests[1].pairs }, { 1, "tcp_stream", 380 })
end

function TestReport:test_runs_that_failed_are_runs_too()
  local one = { test = "tcp_lat", pairs = { {}, {}, {} }, failed = { {}, {} } }
  lu.assertStrContains(require("knbl.format.mesh").summary { nodes = { {}, {} }, plan = { kind = "all" }, cost = {},
    tests = { one } }, "tcp_lat; 5 runs, 2 of which failed, ")
end

-- With more noise than the plan assumes, the report says how many partners would be enough.
function TestReport:test_too_much_noise_for_the_partners()
  schedule { noise = 0.15 }
  local code, out, err = run(60, ', plan = "sample", partners = 10', {})
  lu.assertEquals(code, 0, err)
  lu.assertStrMatches(out:gsub("%s+", " "), ".*; %d+ partners of each node would be enough for this noise.*")
end

-- Two digits, and no exponent where there are more before the point: a noise of 290 % was "2.9e+02 %".
function TestReport:test_rough_numbers()
  for x, said in pairs { [0.734] = "0.73", [7.34] = "7.3", [37.2] = "37", [99.6] = "100", [287] = "287" } do
    lu.assertEquals(text.rough(x), said)
  end
end

function TestReport:test_nobody_stands_out()
  schedule {}
  local code, out = run(20, ', expect = "no outlier"')
  lu.assertEquals({ code, json.decode(out).expectations[1].status }, { 0, "pass" })
  lu.assertEquals(json.decode(out).meshes[1].sentences, { "nothing stands out" })
end

function TestReport:test_the_pairs_of_a_small_mesh_are_measurements_too()
  schedule {}
  local code, out, err = run(5)
  lu.assertEquals(code, 0, err)
  local data = json.decode(out)
  lu.assertEquals({ #data.measurements, data.measurements[1].labels.from:sub(1, 1) }, { 40, "p" })
  code = run(5, "", { "-q", "--expect", "tcp_lat p1 > p2: p50 < 1s", "--expect", "tcp_stream: no outlier" })
  lu.assertEquals(code, 0)
end

function TestReport:test_missing_nodes_and_odd_clocks()
  schedule { gone = { [7] = "p7: its agent does not answer", [8] = "its agent does not answer" }, clock = 600 }
  local code, out = run(20)
  local data = json.decode(out)
  lu.assertEquals(code, 1)
  lu.assertEquals(data.verdict.message, "2 of 20 nodes are missing from the mesh")
  lu.assertEquals(data.meshes[1].missing[1], { node = "p7", reason = "its agent does not answer" })
  lu.assertEquals(data.meshes[1].notes[1], "the clock of p2 is 600 s ahead, which the schedule takes into account")
  lu.assertEquals(data.meshes[1].outliers, {})
end

-- The verdict is about the other half, and says what is missing.
function TestReport:test_half_of_the_agents_gone()
  local gone = {}
  for i = 11, 20 do gone[i] = "its agent does not answer" end
  schedule { gone = gone, faults = { [5] = { receive = 0.5 } } }
  local code, out, err = run(20, ', expect = "no outlier"')
  local data = json.decode(out)
  local mesh = data.meshes[1]
  lu.assertEquals({ code, #mesh.missing, #mesh.outliers, mesh.outliers[1].name }, { 99, 10, 1, "p5" }, err)
  lu.assertStrContains(data.expectations[1].reason, "10 of 20 nodes missing")
  for i = 1, 20 do gone[i] = "its agent does not answer" end
  code, out = run(20, ', expect = "no outlier"')
  lu.assertEquals({ code, json.decode(out).meshes[1].unsure }, { 1, "0 nodes: too few to compare, a mesh needs 4" })
end

function TestReport:test_no_nodes_at_all()
  schedule {}
  local code, out = run(0, ', expect = "no outlier"')
  lu.assertEquals({ code, json.decode(out).meshes[1].unsure }, { 98, "0 nodes: too few to compare, a mesh needs 4" })
end

function TestReport:test_one_and_two_nodes()
  schedule {}
  for n = 1, 2 do
    local code, out, err = run(n, ', expect = "no outlier"')
    lu.assertEquals(code, 98, err)
    lu.assertStrContains(json.decode(out).expectations[1].reason, "too few to compare")
  end
end

function TestReport:test_what_is_wrong_is_refused()
  schedule {}
  local wrong = {
    [', test = { "tcp_lat" }'] = "knbl.mesh: unknown key 'test', did you mean 'tests'?",
    [', tests = { "http" }'] = "tests[1] must be one of tcp_stream",
    [', tests = { "tcp_lat", "tcp_lat" }'] = "tests has tcp_lat twice",
    [', tests = { { test = "tcp_stream", flowz = 4 } }'] = "unknown key 'flowz', did you mean 'flows'?",
    [', plan = "some"'] = "plan must be all, sample or levels, got 'some'",
    [', budget = { time = "1s" }'] = "a mesh of 4 nodes with plan = \"all\" takes",
    [', budget = { bandwidth = "ten" }'] = 'budget.bandwidth must be a share like "20 %", got \'ten\'',
    [', budget = { time = "soon" }'] = 'budget.time must be a duration like "5m", got \'soon\'',
    [', expect = "p99 < 1ms"'] = 'expect must be "no outlier"',
    [', expect = "no outlier today"'] = "unexpected 'today'",
  }
  for more, message in pairs(wrong) do
    local code, _, err = run(4, more)
    lu.assertTrue(code ~= 0, more)
    lu.assertStrContains(err, message)
  end
  local code, _, err = fake.knbl("local knbl = require 'knbl' knbl.mesh { nodes = 3 }", { "-q" })
  lu.assertTrue(code ~= 0)
  lu.assertStrContains(err, "nodes must be a list of nodes or pods")
  code, _, err = fake.knbl("local knbl = require 'knbl' knbl.cluster { provider = 'loopback' }",
    { "-q", "--expect", "no outlier" })
  lu.assertEquals(code, 2)
  lu.assertStrContains(err, "--expect: no outlier is about a mesh")
end

function TestReport:test_the_plan_of_the_lab_is_told_beforehand()
  local code, out, err = fake.knbl(fake.read "scenarios/mesh.lua",
    { "--dry-run", "--nodes", "200", "--on", "lab:zones=3,racks=4", "--time", "60m" })
  lu.assertEquals(code, 0, err)
  lu.assertStrMatches(out, '.*mesh of 200 nodes, plan "levels", %d+ random partners of each: %d+ directed pairs.*')
  lu.assertStrMatches(out, ".* slots, .* on the wire, at most 1200 API requests.*")
  lu.assertStrContains(out, "makes 200 nodes, 200 pods")
  local _
  code, _, err = fake.knbl(fake.read "scenarios/mesh.lua", { "--dry-run", "--on", "lab:zones=0" })
  lu.assertEquals(code, 2)
  lu.assertStrContains(err, "--on lab: zones must be a whole number from 1 to 26, got 0")
  code, _, err = fake.knbl(fake.read "scenarios/mesh.lua", { "--dry-run", "--on", "lab:nodes=3" })
  lu.assertStrContains(err, "--on lab: unknown option 'nodes'; the number of nodes is --nodes N")
end

-- ---- the ledger of 1,000 nodes ----

local function thousand(rename)
  local members = sim.members(1000, 4, 10)
  if rename then rename(members) end
  local plan = sim.plan(1000, { members = members, plan = "sample" })
  local results = sim.results(plan, members, { noise = noises.open, deviation = 0.1,
    faults = { [77] = { receive = 0.5 } } })
  local job = { core = core, nodes = members, tests = { "tcp_lat", "tcp_stream" }, plan = plan, results = results,
    missing = {}, stats = { requests = 3000, seconds = 200, histograms = {} } }
  local mesh = summary.of(job, verdicts.judge(job))
  return { schema = 1, knbl = core.version, started = core.wall(), verdict = { status = "pass" }, meshes = { mesh },
    measurements = json.array(), notes = json.array(), reports = json.array(), expectations = json.array(),
    environment = {} }
end

function TestReport:test_the_ledger_of_1000_nodes_is_small_and_its_reports_fit()
  local data = thousand()
  lu.assertNil(schema.check(contract, data))
  local written = require("knbl.format.json").render(data)
  lu.assertTrue(#written < 20e6, #written .. " bytes")
  data = assert(require("knbl.results.ledger").parse(written, "the ledger"))
  for _, columns in ipairs { 80, 160 } do
    local out = require("knbl.format.table").render(data, { core = core, columns = columns })
    for line in out:gmatch "[^\n]+" do lu.assertTrue(text.width(line) <= columns, line) end
    lu.assertStrContains(out, "node-77 receives slowly")
    lu.assertStrContains(out, "zone a")
  end
  local page = require("knbl.format.html").render(data, { core = core })
  lu.assertStrContains(page, "node-77 receives slowly")
  lu.assertStrContains(page, '<table class="map">')
  lu.assertTrue(#page < 2e6, #page .. " bytes")
end

-- Nodes, zones and racks are named by the cluster.
function TestReport:test_hostile_names_stay_in_their_place()
  local bad = [[<script>alert(1)</script>"'&]] .. "\27[31m"
  local data = thousand(function(members)
    for key, value in pairs(members[77]) do if type(value) == "string" then members[77][key] = value .. bad end end
  end)
  local page = require("knbl.format.html").render(data, { core = core })
  lu.assertStrContains(page, "&lt;script&gt;alert(1)")
  local from, to = page:find(require("knbl.format.html_style").script, 1, true)
  page = page:sub(1, from - #"<script>" - 1) .. page:sub(to + #"</script>" + 1)
  for _, what in ipairs { "<script", [["'&]], "\27" } do lu.assertNil(page:find(what, 1, true), what) end
  lu.assertNil(require("knbl.format.table").render(data, { core = core, columns = 160 }):find("\27", 1, true))
end

os.exit(lu.LuaUnit.run())
