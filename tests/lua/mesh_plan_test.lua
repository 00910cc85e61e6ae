-- The plan of a mesh: who measures whom and when, within the budget; what cannot hold is refused with what would.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local fake = require "fake"
local plans = require "knbl.mesh.plan"
local sim = require "mesh_sim"

TestPlan = {}

-- Every pair of slots is of two nodes; none is in a slot twice; the slots do not overlap. Returns the directed pairs of
-- a test.
local function check(plan, test)
  local met, count, free_at = {}, 0, 0
  for _, slot in ipairs(plan.slots) do
    lu.assertTrue(slot.at >= free_at)
    free_at = slot.at + slot.duration
    local busy = {}
    for _, pair in ipairs(slot.pairs) do
      local i, j = pair[1], pair[2]
      lu.assertTrue(i ~= j and plan.nodes[i] ~= nil and plan.nodes[j] ~= nil)
      lu.assertFalse(busy[i] or busy[j] or false, "a node takes part twice in a slot")
      busy[i], busy[j] = true, true
      if slot.test == test then
        lu.assertNil(met[i * 10000 + j], "a pair is measured twice")
        met[i * 10000 + j], count = true, count + 1
      end
    end
    lu.assertTrue(#slot.pairs > 0 and #slot.pairs <= plan.at_once[slot.test])
  end
  lu.assertTrue(free_at <= plan.seconds)
  return met, count
end

function TestPlan:test_up_to_100_nodes_every_pair_both_ways()
  for _, n in ipairs { 2, 3, 4, 7, 24, 99, 100 } do
    local plan = sim.plan(n)
    lu.assertEquals({ plan.kind, plan.pairs, plan.partners }, { "all", n * (n - 1) })
    for _, test in ipairs { "tcp_lat", "tcp_stream" } do
      lu.assertEquals(select(2, check(plan, test)), n * (n - 1))
    end
    -- as few slots as rounds: both ways of an even number
    if n % 2 == 0 then lu.assertEquals(#plan.slots, 2 * 2 * (n - 1)) end
  end
end

function TestPlan:test_a_sample_has_as_many_partners_for_each_node_in_both_roles()
  local plan = sim.plan(1000)
  lu.assertEquals(plan.kind, "sample")
  local met, count = check(plan, "tcp_stream")
  lu.assertEquals(count, 1000 * plan.partners)
  local sent, received, back = {}, {}, 0
  for key in pairs(met) do
    local i, j = key // 10000, key % 10000
    sent[i], received[j] = (sent[i] or 0) + 1, (received[j] or 0) + 1
    if met[j * 10000 + i] then back = back + 1 end
  end
  for i = 1, 1000 do lu.assertEquals({ sent[i], received[i] }, { plan.partners, plan.partners }) end
  lu.assertEquals(back, 0, "partners that measure one another tell less than others would")
end

function TestPlan:test_so_many_partners_as_the_power_takes()
  lu.assertTrue(plans.partners(1000, 3, 0.2) > plans.partners(100, 3, 0.2))
  lu.assertTrue(plans.partners(1000, 3, 0.1) > 3 * plans.partners(1000, 3, 0.2))
  lu.assertTrue(plans.partners(1000, 3, 0.2, 0.3) > 3 * plans.partners(1000, 3, 0.2, 0.15))
  lu.assertEquals(plans.partners(1000, 3, 0.9), plans.PARTNERS_LEAST)
  lu.assertEquals(sim.plan(1000, { partners = 7 }).partners, 7)
  lu.assertEquals(sim.plan(10, { plan = "sample", partners = 20 }).kind, "all")
end

function TestPlan:test_levels_reach_every_rack_of_a_zone_and_every_zone()
  local members = sim.members(240, 3, 8)
  local plan = sim.plan(240, { members = members })
  lu.assertEquals(plan.kind, "levels")
  local met = check(plan, "tcp_lat")
  local racks, zones, within = {}, {}, {}
  for key in pairs(met) do
    local a, b = members[key // 10000], members[key % 10000]
    local from, to = a.zone .. a.rack, b.zone .. b.rack
    racks[from .. to] = true
    zones[a.zone .. b.zone] = (zones[a.zone .. b.zone] or 0) + 1
    if from == to then within[a.name] = (within[a.name] or 0) + 1 end
  end
  for _, a in ipairs(members) do
    lu.assertTrue((within[a.name] or 0) >= plans.RACK_MOST)
    for _, b in ipairs(members) do
      if a.zone == b.zone then lu.assertTrue(racks[a.zone .. a.rack .. b.zone .. b.rack]) end
      lu.assertTrue(zones[a.zone .. b.zone] >= plans.ZONE_PAIRS)
    end
  end
end

function TestPlan:test_the_same_plan_each_time()
  lu.assertEquals(sim.plan(150).slots, sim.plan(150).slots)
end

function TestPlan:test_bandwidth_stays_within_its_share()
  local plan = sim.plan(100, { plan = "all", budget = { share = 0.2 } })
  lu.assertEquals(plan.at_once, { tcp_lat = 50, tcp_stream = 20 })
  check(plan, "tcp_stream")
  local paced = sim.plan(50, { budget = { bps = 20e9, time = 600 } })
  lu.assertEquals(paced.rates.tcp_stream * paced.at_once.tcp_stream, 20e9)
  check(paced, "tcp_stream")
end

function TestPlan:test_on_one_machine_pairs_share_CPUs_only_where_the_time_demands_it()
  lu.assertEquals(sim.plan(4, { cpus = 1 }).at_once.tcp_lat, 1)
  local crowded = sim.plan(24, { cpus = 2 })
  lu.assertTrue(crowded.at_once.tcp_lat > 2)
  lu.assertStrContains(crowded.notes[1], "share the 2 CPUs of one machine")
end

function TestPlan:test_a_latency_pair_more_where_nodes_have_the_CPUs()
  local one, two = sim.plan(20, { node_cpus = 2 }), sim.plan(20, { node_cpus = 4 })
  lu.assertEquals({ one.at_once.tcp_lat, two.at_once.tcp_lat, two.at_once.tcp_stream }, { 10, 20, 10 })
  lu.assertTrue(#two.slots < #one.slots)
  lu.assertEquals(sim.plan(20, { node_cpus = 64 }).at_once.tcp_lat, 40)
  lu.assertEquals(sim.plan(6, { node_cpus = 64, cpus = 2 }).at_once.tcp_lat, 2)
end

-- budget = { time = "5m", bandwidth = "20 %" } on nodes with 4 CPUs, with the default number of partners
function TestPlan:test_five_minutes_are_enough_for_a_thousand_nodes()
  for _, n in ipairs { 101, 200, 500, 1000 } do
    local plan = sim.plan(n, { node_cpus = 4, budget = { time = 300, share = 0.2 } })
    lu.assertTrue(plan.seconds <= 300)
    lu.assertTrue(plan.partners >= plans.partners(n, 3, 0.2))
  end
end

-- Two pairs at once on a machine with two CPUs disturb each other. If they were always the same two nodes, the mesh
-- would name one for what the other does.
function TestPlan:test_a_node_shares_its_slots_with_changing_others()
  for _, n in ipairs { 10, 24 } do
    local plan = sim.plan(n, { plan = "all", cpus = 2, budget = { time = 100000 } })
    local beside = {}
    for _, slot in ipairs(plan.slots) do
      for k, pair in ipairs(slot.test == "tcp_lat" and #slot.pairs == 2 and slot.pairs or {}) do
        local other = slot.pairs[3 - k]
        beside[pair[1]] = beside[pair[1]] or {}
        for _, node in ipairs(other) do beside[pair[1]][node] = (beside[pair[1]][node] or 0) + 1 end
      end
    end
    for i = 1, n do
      for _, times in pairs(beside[i]) do lu.assertTrue(times <= (n - 1) * 2 / 3) end
    end
  end
end

-- The nodes of a lab share the kernel's table of neighbors: 1,024 entries, which connections hold for a minute.
function TestPlan:test_in_a_minute_a_node_meets_few_others()
  local tests = {}
  for i, test in ipairs(sim.tests) do tests[i] = setmetatable({ seconds = 0.35 }, { __index = test }) end
  local plan = sim.plan(200, { plan = "sample", partners = 8, tests = tests, cpus = 2, budget = { time = 300 } })
  for from = 0, plan.seconds - 60, 5 do
    local entries, count = {}, 0
    for _, slot in ipairs(plan.slots) do
      for _, pair in ipairs(slot.at >= from and slot.at < from + 60 and slot.pairs or {}) do
        for k = 1, 2 do
          local entry = pair[k] * 1000 + pair[3 - k]
          if not entries[entry] then entries[entry], count = true, count + 1 end
        end
      end
    end
    lu.assertTrue(count > 0 and count < 1000, count)
  end
end

function TestPlan:test_time_that_every_pair_would_exceed_takes_a_sample()
  local plan = sim.plan(100, { node_cpus = 4, budget = { time = 300, share = 0.2 } })
  lu.assertEquals(plan.kind, "sample")
  lu.assertTrue(plan.seconds <= 300)
  lu.assertStrContains(plan.notes[1], 'plan = "all" would take 13m53s')
end

function TestPlan:test_partners_of_a_plan_that_takes_all()
  lu.assertStrContains(sim.plan(10, { partners = 3 }).notes[1], 'partners = 3 has no effect: plan = "all"')
  lu.assertEquals(sim.plan(10, { partners = 9 }).notes, {})
  lu.assertEquals(sim.plan(10, { partners = 3, plan = "sample" }).partners, 3)
end

local function refused(n, more)
  local want = { members = sim.members(n), tests = sim.tests, duration = 1 }
  for key, value in pairs(more) do want[key] = value end
  local plan, why = plans.make(want)
  lu.assertNil(plan)
  return why, want
end

function TestPlan:test_a_budget_that_cannot_hold_is_refused_with_what_would()
  local why = refused(100, { plan = "all", budget = { time = 100 } })
  lu.assertStrContains(why, 'plan = "all" takes 9m15s, but budget.time is 1m40s; use ')
  why = refused(100, { plan = "all", budget = { time = 300 } })
  local ms = tonumber(why:match 'duration = "(%d+)ms"')
  local tests = {}
  for i, test in ipairs(sim.tests) do
    tests[i] = setmetatable({ seconds = test.seconds * ms / 1000 }, { __index = test })
  end
  lu.assertTrue(sim.plan(100, { plan = "all", tests = tests, budget = { time = 300 } }).seconds <= 300)
  local time = why:match 'budget.time = "(%w+)"'
  lu.assertEquals(time, "9m15s")
  lu.assertNotNil(sim.plan(100, { plan = "all", budget = { time = 555 } }))
  lu.assertStrContains(refused(4, { budget = { share = 0.2 } }), "one pair of 4 nodes uses 25 % of their links")
  lu.assertStrContains(refused(10, { budget = { bps = 1e6 } }), "a stream needs at least 100 Mbit/s")
end

function TestPlan:test_labels_that_contradict_are_told()
  local members = sim.members(30, 3, 5)
  members[4].rack, members[5].rack = "shared", "shared"
  lu.assertStrContains(table.concat(sim.plan(30, { members = members }).notes),
    "rack shared has nodes in two zones, a and b: it counts as two racks")
  for i, member in ipairs(members) do member.zone = "z" .. i end
  lu.assertStrContains(table.concat(sim.plan(30, { members = members }).notes), "30 zones of 30 nodes")
end

-- docs/mesh.md: | nodes | plan | time | … |
function TestPlan:test_the_costs_are_those_of_the_page()
  local rows = 0
  for line in fake.read("docs/mesh.md"):gmatch "[^\n]+" do
    local n, kind, partners, pairs_told, slots, time, requests = line:match
      "^| ([%d,]+) | (%a+) | (%S+) | ([%d,]+) | (%d+) | (%S+) | ([%d,]+) |"
    if n then
      rows = rows + 1
      local function number(text) return tonumber((text:gsub(",", ""))) end
      local plan = sim.plan(number(n), { node_cpus = 4, budget = { share = 0.2 } })
      lu.assertEquals({ kind, partners, number(pairs_told), tonumber(slots), time, number(requests) },
        { plan.kind, plan.partners and tostring(plan.partners) or "–", plan.pairs, #plan.slots,
          plans.duration_text(plan.seconds), plan.requests })
    end
  end
  lu.assertEquals(rows, 4)
end

os.exit(lu.LuaUnit.run())
