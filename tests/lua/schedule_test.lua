-- The orchestrator's side of a schedule: how often it asks, what clocks, throttling and lost agents do to it. The
-- agents and the time are the test's own (mesh_world.lua); the last ones are real.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local World = require "mesh_world"
local core = require "knbl.native"
local mesh = require "knbl.mesh.rounds"
local schedule = require "knbl.mesh.schedule"

TestSchedule = {}

local specs = { tcp_lat = { test = "tcp_lat", duration = 1, warmup = 0.1 } }

local function names_of(n)
  local names = {}
  for i = 1, n do names[i] = "node-" .. i end
  return names
end

-- Every pair of n, or the first `most` rounds of them, in slots of two seconds.
local function plan_of(n, most)
  local slots = {}
  for r, round in ipairs(mesh.of(n)) do
    if r <= (most or n) then slots[r] = { test = "tcp_lat", at = 2 * (r - 1), duration = 2, pairs = round } end
  end
  return { nodes = names_of(n), slots = slots }
end

local function run(world, plan, hooks)
  hooks = hooks or {}
  hooks.core = world.core
  local results, stats = schedule.run(world.agents, plan, specs, hooks)
  if not results then error(stats.message, 2) end
  return results, stats
end

local function failures(results)
  local list = {}
  for _, entry in ipairs(results) do
    if not entry.ok then list[#list + 1] = entry end
  end
  return list
end

local function most_in_a_second(log)
  local most, first = 0, 1
  for k, entry in ipairs(log) do
    while log[first].at <= entry.at - 1 do first = first + 1 end
    most = math.max(most, k - first + 1)
  end
  return most
end

function TestSchedule.test_all_pairs_in_the_plans_order()
  local world, plan = World.new(8), plan_of(8)
  local seen = 0
  local results, stats = run(world, plan, { progress = function(done, total)
    seen = done
    lu.assertEquals(total, 28)
  end })
  local k = 0
  for n, slot in ipairs(plan.slots) do
    for _, pair in ipairs(slot.pairs) do
      k = k + 1
      local e = results[k]
      lu.assertEquals({ e.slot, e.from, e.to, e.test, e.ok }, { n, pair[1], pair[2], "tcp_lat", true })
      lu.assertEquals(e.metrics.latency_ns.p50, pair[1] * 1000)
    end
  end
  lu.assertEquals({ k, #results, seen }, { 28, 28, 28 })
  lu.assertEquals(stats.missing, {})
  lu.assertTrue(stats.most_requests <= 6)
end

-- However long it takes, an agent is asked six times at most, and no more often than the limit says.
function TestSchedule.test_a_thousand_agents()
  local world = World.new(1000)
  local results, stats = run(world, plan_of(1000, 40), { qps = 50 })
  lu.assertEquals({ #results, #failures(results), stats.missing }, { 20000, 0, {} })
  lu.assertTrue(stats.most_requests <= 6, stats.most_requests)
  lu.assertTrue(#world.log <= 6000, #world.log)
  lu.assertEquals(#world.log, stats.requests)
  lu.assertTrue(most_in_a_second(world.log) <= 60 + 1, most_in_a_second(world.log))
  lu.assertTrue(stats.seconds < 80 + 5 * 1000 / 50, stats.seconds)
end

-- A clock that is wrong in any way is no matter: the agents' own clocks are used, and how far the wall clock is off is
-- said.
function TestSchedule.test_clocks_that_differ()
  local world = World.new(4, { offset = function(i) return i * 1e6 end,
    wall = function(i) return i == 2 and 600 or 0 end })
  local results, stats = run(world, plan_of(4))
  lu.assertEquals(#failures(results), 0)
  for i = 1, 4 do
    lu.assertAlmostEquals(world.state[i].at, world.state[1].at, 0.002)
    lu.assertTrue(stats.clock_error_ns[i] <= 1.1e6)
    lu.assertAlmostEquals(stats.clock_offset_s[i], i == 2 and 600 or 0, 2)
  end
end

-- A slow way is asked once more, and its error is said.
function TestSchedule.test_a_clock_that_is_not_known_well()
  local first = true
  local world = World.new(2, { latency = function(i)
    if i == 2 and first then
      first = false
      return 0.2
    end
  end })
  local _, stats = run(world, plan_of(2))
  lu.assertTrue(stats.clock_error_ns[2] <= 5e6, stats.clock_error_ns[2])
  local far = World.new(2, { latency = function(i) return i == 2 and 0.05 end })
  _, stats = run(far, plan_of(2))
  lu.assertAlmostEquals(stats.clock_error_ns[2] / 1e6, 50, 2)
end

function TestSchedule.test_throttled()
  local throttled, early = 0, 0
  local free_at = 0
  local world = World.new(20, { answer = function(i, _, time)
    local underway = time <= free_at - 6.95
    if not underway and time < free_at - 0.01 then early = early + 1 end
    if i % 5 == 0 and throttled < 3 then
      throttled, free_at = throttled + 1, time + 7
      return { status = 429, headers = { ["retry-after"] = "7" }, body = "{}" }
    end
  end })
  local results, stats = run(world, plan_of(20))
  lu.assertEquals({ #failures(results), stats.missing, stats.throttled }, { 0, {}, 3 })
  lu.assertEquals(early, 0, "nothing is sent while the server wants a pause")
end

local function dead_from(which, from)
  return function(i, time) return which(i) and time >= from end
end

-- What is gone from the beginning costs its own pairs, with the reason.
function TestSchedule.test_half_of_the_agents_gone()
  local world = World.new(40, { dead = dead_from(function(i) return i % 2 == 0 end, 0) })
  local plan = plan_of(40, 4)
  local results, stats = run(world, plan)
  for _, entry in ipairs(results) do
    lu.assertEquals(entry.ok, entry.from % 2 == 1)
    if entry.from % 2 == 0 then
      lu.assertEquals(entry.error.code, "lost")
      lu.assertStrContains(entry.error.message, "node-" .. entry.from .. ": ")
    end
  end
  for i = 1, 40 do lu.assertEquals(stats.missing[i] ~= nil, i % 2 == 0) end
  lu.assertTrue(stats.seconds < 8 + 20, "they are waited for side by side, once")
  lu.assertTrue(stats.most_requests <= 6)
end

function TestSchedule.test_some_go_while_it_runs()
  local world = World.new(10, { dead = dead_from(function(i) return i == 3 or i == 7 end, 1010) })
  local results, stats = run(world, plan_of(10))
  for _, entry in ipairs(results) do lu.assertEquals(entry.ok, entry.from ~= 3 and entry.from ~= 7) end
  lu.assertTrue(stats.seconds < 20 + 25, "an agent that is gone is not waited for again and again")
  lu.assertStrContains(stats.missing[3], "no response in time")
  lu.assertStrContains(stats.missing[7], "no response in time")
end

-- One that was away for a while has its results all the same.
function TestSchedule.test_one_that_comes_back()
  local world = World.new(6, { dead = function(i, time) return i == 2 and time > 1005 and time < 1011 end })
  local results, stats = run(world, plan_of(6, 5))
  lu.assertEquals({ #failures(results), stats.missing }, { 0, {} })
end

function TestSchedule.test_an_agent_that_refuses_says_why()
  local world = World.new(3, { answer = function(i)
    if i == 1 then return World.failed(429, "limit", "schedule limit reached (1)") end
  end })
  local results, stats = run(world, plan_of(3))
  lu.assertStrContains(stats.missing[1], "schedule limit reached (1)")
  lu.assertEquals(stats.throttled, 0)
  for _, entry in ipairs(results) do lu.assertEquals(entry.ok, entry.from ~= 1) end
end

function TestSchedule.test_nodes_without_an_agent()
  local world = World.new(3)
  world.agents[2] = false
  world.agents[3].control = { here = true }
  local results, stats = run(world, plan_of(3))
  lu.assertEquals(stats.missing, { [2] = "it has no agent", [3] = "it has no agent of its own" })
  for _, entry in ipairs(results) do
    if entry.from == 1 and entry.to == 2 then
      lu.assertStrContains(entry.error.message, "server's node has no agent")
    end
  end
end

function TestSchedule.test_an_early_end_keeps_what_there_is()
  local world = World.new(6)
  local results, stats = run(world, plan_of(6, 5), { interrupted = function() return world.time > 1005.5 end })
  lu.assertTrue(stats.interrupted)
  local good = 0
  for _, entry in ipairs(results) do
    if entry.ok then good = good + 1 else lu.assertEquals(entry.error.code, "interrupted") end
  end
  lu.assertTrue(good >= 3 and good < #results, good)
end

function TestSchedule.test_agents_that_only_serve_are_kept_alive()
  local world = World.new(3)
  local slots = {}
  for n = 1, 70 do slots[n] = { test = "tcp_lat", at = 2 * n, duration = 2, pairs = { { 1, 2 } } } end
  local _, stats = run(world, { nodes = names_of(3), slots = slots })
  local alive = 0
  for _, entry in ipairs(world.log) do alive = alive + (entry.path == "GET /v1/alive" and 1 or 0) end
  lu.assertEquals(alive, 4)
  lu.assertEquals(stats.agent_requests[2], 2)
end

function TestSchedule.test_a_plan_that_cannot_be()
  local world = World.new(2)
  local function refused(slot, said)
    local results, err = schedule.run(world.agents, { nodes = names_of(2), slots = { slot } }, specs,
      { core = world.core })
    lu.assertNil(results)
    lu.assertEquals(err.code, "argument")
    lu.assertStrContains(err.message, said)
  end
  refused({ test = "tcp_lat", at = 0, duration = 1, pairs = { { 1, 2 } } },
    "slot 1: 1 s is shorter than warmup and duration of tcp_lat, 1.1 s")
  refused({ test = "udp_rr", at = 0, duration = 1, pairs = {} }, "slot 1: the plan has no specification of udp_rr")
  refused({ test = "tcp_lat", at = 0, duration = 2, pairs = { { 1, 3 } } },
    "a pair must be two of 2 nodes, got 1 and 3")
  refused({ test = "tcp_lat", at = 0, duration = 2, pairs = { { 1, 1 } } },
    "a pair must be two of 2 nodes, got 1 and 1")
  lu.assertEquals(world.log, {})
end

-- ---- real agents ----

TestReal = {}

local token = "a token for the schedule's tests"
local function real_agents(n)
  local list, agents = {}, {}
  for i = 1, n do
    list[i] = core.agent { listen = "127.0.0.1:0", token = token, name = "agent-" .. i }
    agents[i] = { name = "agent-" .. i, token = token, port = list[i]:port(), addresses = { v4 = "127.0.0.1" },
      control = { url = ("http://127.0.0.1:%d"):format(list[i]:port()) } }
  end
  return list, agents
end

function TestReal.test_a_schedule_of_real_agents()
  local list, agents = real_agents(4)
  local slots = {}
  for r, round in ipairs(mesh.of(4)) do
    slots[r] = { test = "tcp_lat", at = 0.3 * r, duration = 5, pairs = { round[1] } }
    slots[r + 3] = { test = "tcp_stream", at = 0.3 * (r + 3), duration = 5, pairs = { round[2] } }
  end
  local short = { tcp_lat = { test = "tcp_lat", duration = 0.1, warmup = 0.02 },
    tcp_stream = { test = "tcp_stream", duration = 0.1, warmup = 0.02 } }
  list[5], agents[5] = core.agent { listen = "127.0.0.1:0", token = "another token, of a stranger" }, nil
  agents[5] = { name = "stranger", token = token, port = list[5]:port(), addresses = { v4 = "127.0.0.1" },
    control = { url = ("http://127.0.0.1:%d"):format(list[5]:port()) } }
  slots[7] = { test = "tcp_lat", at = 2.2, duration = 5, pairs = { { 1, 5 }, { 5, 2 } } }
  local results, stats = schedule.run(agents, { nodes = names_of(5), slots = slots }, short, {})
  for k, entry in ipairs(results) do
    local starved = entry.error and (entry.error.code == "late" or entry.error.code == "no_data")
    lu.assertTrue(entry.ok == (k <= 6) or starved, entry.error and entry.error.message)
    if k <= 3 and entry.ok then lu.assertTrue(entry.metrics.latency_ns.p50 > 0 and #entry.histogram > 0) end
  end
  lu.assertStrContains(stats.missing[5], "Knbl-Token")
  lu.assertEquals({ results[7].error.code, results[8].error.code }, { "auth", "lost" })
  lu.assertTrue(stats.most_requests <= 6)
  lu.assertEquals(core.fetch ~= nil and stats.throttled, 0)
  for _, one in pairs(list) do one:close() end
end

os.exit(lu.LuaUnit.run())
