-- What CSV, JUnit, OpenMetrics and `knbl compare` have of a mesh whose pairs are too many to be measurements.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local compare = require "knbl.results.compare"
local contract = require "knbl.results.contract"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"
local ledger = require "knbl.results.ledger"
local schema = require "knbl.base.schema"
local sim = require "mesh_sim"

TestSeries = {}

local script = [[
  local knbl = require "knbl"
  local cluster <close> = knbl.cluster { provider = "loopback" }
  local pods = {}
  for i = 1, 20 do pods[i] = cluster:pod { name = "p" .. i } end
  knbl.mesh { nodes = pods, tests = { "tcp_lat", "tcp_stream" } }
]]

local function run(options, args)
  sim.schedule(options)
  return fake.knbl(script, args or { "--json", "-", "-q" })
end

local function find(data, test, case)
  for _, m in ipairs(data.measurements) do
    if m.test == test and m.case == case then return m end
  end
end

function TestSeries:test_every_node_in_both_roles_and_all_together()
  local code, out, err = run { faults = { [5] = { receive = 0.5 } } }
  lu.assertEquals(code, 0, err)
  local data = json.decode(out)
  lu.assertNil(schema.check(contract, data))
  lu.assertEquals(#data.measurements, 2 * (1 + 2 * 20) + 2)
  local all, slow = find(data, "tcp_stream", "all nodes"), find(data, "tcp_stream", "p5 as server")
  lu.assertAlmostEquals(slow.metrics.throughput_bps / all.metrics.throughput_bps, 0.5, 0.1)
  lu.assertAlmostEquals(slow.metrics.effect, -0.5, 0.1)
  lu.assertEquals({ slow.from, slow.to, slow.labels }, { "", "p5", { node = "p5", role = "server" } })
  local late = find(data, "tcp_lat", "p5 as client")
  lu.assertTrue(late.metrics.latency_ns.p50 > 0 and late.metrics.latency_ns.mean > 0)
  lu.assertEquals(find(data, "metric", "outliers of the mesh").metrics.value, 1)
  lu.assertEquals(find(data, "metric", "outlier: p5 (receiver)").metrics.value, data.meshes[1].outliers[1].effect)
  lu.assertEquals(data.verdict.measured, 760, "a series is no measurement of the verdict")
end

function TestSeries:test_a_node_that_is_gone_is_an_error_with_its_reason()
  local _, out = run { gone = { [7] = "its agent does not answer" } }
  local m = find(json.decode(out), "tcp_lat", "p7 as server")
  lu.assertEquals({ m.ok, m.error.message }, { false, "its agent does not answer" })
end

function TestSeries:test_in_csv_junit_and_openmetrics()
  local _, out = run {}
  local data = assert(ledger.parse(out, "the ledger"))
  local function rendered(format) return (require("knbl.format." .. format).render(data, { core = core })) end
  lu.assertStrContains(rendered "csv", "tcp_stream,p20 as server,,p20,")
  lu.assertStrContains(rendered "junit", 'name="tcp_lat all nodes')
  local metrics = rendered "openmetrics"
  for _, line in ipairs { 'knbl_mesh_effect_ratio{[^\n]*case="p3 as client"',
    'knbl_throughput_bits_per_second{[^\n]*case="p3 as',
    'knbl_latency_seconds{[^\n]*case="p3 as client"[^\n]*quantile="0.5"} ' } do
    lu.assertNotNil(metrics:find(line), line)
  end
end

-- Before and after, of one run each: the node that became slow is shown, and no other.
function TestSeries:test_compare_shows_the_node_that_changed()
  local sides = {}
  for k, faults in ipairs { {}, { [5] = { receive = 0.5 } } } do
    local _, out = run { seed = 20 + k, faults = faults }
    sides[k] = compare.side { assert(ledger.parse(out, "a ledger")) }
  end
  local result = compare.run(core, sides[1], sides[2], {})
  local data = json.decode(select(2, run {}))
  data.comparison = result
  lu.assertNil(schema.check(contract, data))
  local shown = {}
  for _, c in ipairs(result.comparisons) do
    if c.shown then shown[#shown + 1] = ("%s %s"):format(c.case, c.verdict) end
    -- 20 nodes in two roles by three figures: the median and the mean of tcp_lat, the throughput
    if c.case:find " as " then lu.assertEquals(c.among, 120) end
  end
  lu.assertEquals(shown, { "p5 as server worse" })
  local text = require("knbl.format.comparison").text(result,
    { core = core, columns = 160, paint = function(_, s) return s end })
  lu.assertStrContains(text, "p5 as server")
  lu.assertStrMatches(text, ".*not in the table: %d+ figures of mesh nodes where no difference is shown.*")
  lu.assertNil(text:find("p6 as server", 1, true))
end

os.exit(lu.LuaUnit.run())
