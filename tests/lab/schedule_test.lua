-- A schedule that travels to the nodes of a lab: all pairs of a few, some of forty, and nodes that go meanwhile.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"

TestMeshes = {}

local start = [[
local knbl = require "knbl"
local schedule = require "knbl.mesh.schedule"
local cluster <close> = knbl.cluster { nodes = NODES }
local agents, names = {}, {}
local function add(thing) agents[#agents + 1], names[#names + 1] = thing.endpoint, tostring(thing) end
local specs = { tcp_lat = { test = "tcp_lat", duration = 0.1, warmup = 0.02 },
  tcp_stream = { test = "tcp_stream", duration = 0.1, warmup = 0.02 } }
local slots = {}
local function slot(test, pairs_of_it)
  slots[#slots + 1] = { test = test, at = 0.25 * #slots, duration = 2, pairs = pairs_of_it }
end
local function run(hooks)
  local results, stats = schedule.run(agents, { nodes = names, slots = slots }, specs, hooks or {})
  assert(results, stats)
  stats.histograms = nil
  for _, entry in ipairs(results) do entry.histogram, entry.metrics = nil, next(entry.metrics) and true end
  local missing = {}
  for i, reason in pairs(stats.missing) do missing[tostring(i)] = reason end
  stats.missing = missing
  knbl.note { results = results, stats = stats }
end
]]

local function run(nodes, body)
  local code, out, err = fake.briefly(start:gsub("NODES", nodes) .. body, { "--json", "-", "-q" }, core)
  fake.need_lab(err)
  lu.assertEquals(code, 0, err)
  local note = json.decode(out).notes[1]
  return note.results, note.stats
end

-- Good, or said to be starved by a machine that is busy.
local function expect_good(entry)
  local code = entry.error and entry.error.code
  lu.assertTrue(entry.ok or code == "late" or code == "no_data" or code == "timeout",
    entry.error and entry.error.message)
end

function TestMeshes:test_all_pairs_of_six()
  local results, stats = run(6, [[
for i = 1, 6 do add(cluster:node(i)) end
for _, test in ipairs { "tcp_lat", "tcp_stream" } do
  for _, round in ipairs(knbl.rounds(6)) do slot(test, round) end
end
run()]])
  lu.assertEquals(#results, 30)
  local good = 0
  for _, entry in ipairs(results) do
    expect_good(entry)
    good = good + (entry.ok and 1 or 0)
  end
  lu.assertTrue(good > 0)
  lu.assertEquals(stats.missing, {})
  lu.assertTrue(stats.most_requests <= 6)
end

-- Every node is client of one and server of another, four pairs at a time.
function TestMeshes:test_forty_nodes()
  local results, stats = run(40, [[
for i = 1, 40 do add(cluster:node(i)) end
for i = 1, 40, 4 do
  slot("tcp_lat", { { i, i % 40 + 1 }, { i + 1, (i + 1) % 40 + 1 }, { i + 2, (i + 2) % 40 + 1 },
    { i + 3, (i + 3) % 40 + 1 } })
end
run()]])
  lu.assertEquals(#results, 40)
  for _, entry in ipairs(results) do expect_good(entry) end
  lu.assertEquals(stats.missing, {})
  lu.assertTrue(stats.most_requests <= 6 and stats.requests <= 240)
end

-- A pod that is deleted in the middle: its own pairs are lost, with the reason; what others asked of it failed.
function TestMeshes:test_one_that_goes_meanwhile()
  local results, stats = run(2, [[
local pods = {}
for i = 1, 4 do
  pods[i] = cluster:pod { name = "mesh-" .. i }
  add(pods[i])
end
for _ = 1, 4 do
  for _, round in ipairs(knbl.rounds(4)) do slot("tcp_lat", round) end
end
local steps = 0
run { progress = function() -- four times a second; the last slot begins after 2.75 s
  steps = steps + 1
  if steps == 4 then cluster:delete(pods[2]) end
end }]])
  lu.assertEquals(#results, 24)
  lu.assertNotNil(stats.missing["2"])
  for k, entry in ipairs(results) do
    if entry.from == 2 then
      lu.assertEquals({ entry.ok, entry.error.code }, { false, "lost" })
      lu.assertStrContains(entry.error.message, "mesh-2: ")
    elseif entry.to ~= 2 then
      expect_good(entry)
    elseif k > 20 then
      lu.assertFalse(entry.ok)
    end
  end
end

os.exit(lu.LuaUnit.run())
