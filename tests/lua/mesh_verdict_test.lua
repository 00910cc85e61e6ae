-- The verdict of a mesh: who is bad is named, with an interval that holds the truth, and nobody else.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local noises = require "mesh_noise"
local numbers = require "knbl.mesh.numbers"
local sim = require "mesh_sim"
local verdicts = require "knbl.mesh.verdict"

TestVerdict = {}

local function judge(members, results, missing)
  local tests, seen = {}, {}
  for _, r in ipairs(results) do
    if not seen[r.test] then seen[r.test], tests[#tests + 1] = true, r.test end
  end
  return verdicts.judge { nodes = members, results = results, missing = missing or {}, tests = tests, core = core }
end

local function mesh(n, options)
  options.noise, options.deviation = options.noise or noises.open, options.deviation or 0.1
  local members = options.members or sim.members(n)
  local results = sim.results(sim.plan(n, { members = members, plan = options.plan }), members, options)
  return judge(members, results), results, members
end

local function names(verdict)
  local list, seen = {}, {}
  for _, o in ipairs(verdict.outliers) do
    local name = o.kind .. " " .. o.name
    if not seen[name] then seen[name], list[#list + 1] = true, name end
  end
  table.sort(list)
  return list
end

function TestVerdict:test_student_and_normal_quantiles()
  for _, row in ipairs { { 0.025, 4, 2.7764 }, { 1e-4, 10, 5.6938 }, { 0.025, 150, 1.9759 }, { 0.025, 1e6, 1.95996 },
    { 0.005, 1, 63.657 } } do
    lu.assertAlmostEquals(numbers.student_above(row[1], row[2]), row[3], row[3] * 1e-4)
  end
  lu.assertAlmostEquals(numbers.normal_above(1e-6), 4.7534, 1e-3)
end

function TestVerdict:test_a_healthy_mesh_names_nobody()
  for seed, kind in ipairs { "open", "limited", "open", "limited" } do
    for _, n in ipairs { 4, 5, 8, 24 } do
      local v = mesh(n, { seed = seed * 100 + n, noise = noises[kind], deviation = 0.15 })
      lu.assertEquals(v.outliers, {})
      lu.assertEquals(v.sentences, { "nothing stands out" })
    end
  end
end

-- Twelve pairs are as many as the effects of four nodes in both roles, of two ways between zones, and the middle.
function TestVerdict:test_four_nodes_in_two_zones_are_too_few()
  local v = mesh(4, { members = sim.members(4, 2), faults = { [4] = { receive = 0.3, send = 0.3 } } })
  lu.assertEquals(v.outliers, {})
  lu.assertEquals(v.unsure, "12 pairs of 4 nodes in several zones: too few to compare")
  lu.assertEquals(v.sentences, { v.unsure })
end

function TestVerdict:test_a_slow_receiver()
  local v = mesh(24, { faults = { [17] = { receive = 0.6 } } })
  lu.assertEquals(names(v), { "receiver node-17" })
  local o = v.outliers[1]
  lu.assertEquals({ o.test, o.figure, o.pairs }, { "tcp_stream", "throughput", 23 })
  lu.assertTrue(o.low < -0.4 and o.high > -0.4 and o.low < o.effect and o.effect < o.high)
  lu.assertStrMatches(v.sentences[1],
    "node%-17 receives slowly %(tcp_stream%): %-%d+ %% %(95 %%: %-%d+ to %-%d+%), %d+ .*agree")
end

function TestVerdict:test_a_slow_sender_and_a_late_node_beside()
  local v = mesh(24, { faults = { [3] = { send = 0.5 }, [9] = { latency = 1.6 } } })
  lu.assertEquals(names(v), { "receiver node-9", "sender node-3", "sender node-9" })
  lu.assertStrContains(table.concat(v.sentences, "\n"), "node-9 has a high latency both as client and as server")
end

function TestVerdict:test_a_node_that_loses_one_percent()
  local v = mesh(24, { faults = { [20] = { loss = 0.01 } } })
  lu.assertEquals(names(v), { "receiver node-20", "sender node-20" })
  lu.assertStrContains(table.concat(v.sentences, "\n"), "node-20 stalls both as client and as server")
end

function TestVerdict:test_intervals_hold_the_truth()
  local held, all = 0, 0
  for seed = 1, 30 do
    local v = mesh(16, { seed = seed, faults = { [5] = { receive = 0.5 } } })
    for _, o in ipairs(v.outliers) do
      if o.name == "node-5" and o.figure == "throughput" then
        all = all + 1
        if o.low <= -0.5 and o.high >= -0.5 then held = held + 1 end
      end
    end
  end
  lu.assertEquals(all, 30)
  lu.assertTrue(held >= 27, held .. " of 30")
end

function TestVerdict:test_a_pair_that_its_nodes_do_not_explain()
  local v = mesh(24, { pair = function(i, j) return (i == 4 and j == 11 or i == 11 and j == 4) and 4 end })
  lu.assertEquals(names(v), { "pair node-4 ↔ node-11" })
  lu.assertStrContains(v.sentences[1], "beyond what its two nodes explain")
end

function TestVerdict:test_one_bad_value_is_no_finding()
  local _, results, members = mesh(24, {})
  results[100].metrics.latency_ns.p50 = 1e9
  lu.assertEquals(names(judge(members, results)), {})
end

function TestVerdict:test_zones_that_are_far_apart_are_expected()
  local v = mesh(24, { members = sim.members(24, 3), across = 310e3 })
  lu.assertEquals(v.outliers, {})
  lu.assertEquals(#v.zones, 6)
  for _, zone in ipairs(v.zones) do
    lu.assertTrue(zone.expected and zone.kind == "zone")
    lu.assertStrMatches(zone.text, "zone %a → zone %a %(tcp_lat%): %+3%d%d µs.* %(expected across zones%)")
  end
end

function TestVerdict:test_a_way_between_zones_unlike_the_others()
  local members = sim.members(36, 3)
  local v = mesh(36, { members = members, across = 300e3, pair = function(i, j)
    return members[i].zone == "a" and members[j].zone == "b" and 3 end })
  lu.assertEquals(names(v), { "zone zone a → zone b" })
  lu.assertStrContains(table.concat(v.sentences, "\n"), "unlike the other zones")
end

-- ---- what fails ----

local function fail(results, fits, code)
  for _, r in ipairs(results) do
    if fits(r.from, r.to, r) then
      r.ok, r.metrics, r.error = false, nil, { code = code or "timeout", message = "no answer" }
    end
  end
end

function TestVerdict:test_a_node_that_cannot_be_reached()
  local _, results, members = mesh(12, {})
  fail(results, function(_, to) return to == 5 end)
  local v = judge(members, results)
  lu.assertEquals(names(v), { "receiver node-5" })
  lu.assertEquals(v.sentences[1], "node-5 cannot be reached: 22 of 22 pairs fail (tcp_lat: no answer)")
end

function TestVerdict:test_a_pair_that_fails_in_every_run_and_one_that_fails_once()
  local _, results, members = mesh(12, {})
  fail(results, function(from, to) return from == 2 and to == 7 or from == 7 and to == 2 end)
  fail(results, function(from, to, r) return from == 3 and to == 8 and r.test == "tcp_lat" end)
  lu.assertEquals(#names(judge(members, results)), 1)
  lu.assertStrContains(names(judge(members, results))[1], "pair node-")
end

function TestVerdict:test_where_most_runs_fail_nobody_is_named()
  local _, results, members = mesh(12, {})
  fail(results, function(from, to) return (from + to) % 3 > 0 end)
  local v = judge(members, results)
  lu.assertEquals(v.outliers, {})
  lu.assertStrMatches(v.unsure, "%d+ of 264 runs failed: .*")
end

function TestVerdict:test_half_of_the_agents_gone()
  local _, results, members = mesh(24, { faults = { [3] = { receive = 0.5 } } })
  local missing = {}
  for i = 13, 24 do missing[i] = "its agent does not answer" end
  fail(results, function(from, to) return from > 12 or to > 12 end, "lost")
  lu.assertEquals(names(judge(members, results, missing)), { "receiver node-3" })
end

function TestVerdict:test_too_few_to_compare()
  for n = 2, 3 do
    local v = mesh(n, { faults = { [1] = { receive = 0.1 } } })
    lu.assertEquals({ #v.outliers, v.sentences }, { 0, { v.unsure } })
    lu.assertStrContains(v.unsure, n .. " nodes: too few to compare")
  end
  lu.assertStrContains(judge(sim.members(1), {}).unsure, "1 node: too few")
end

-- ---- path MTU and loss ----

local function mtu_results(n, mtu_of)
  local list = {}
  for i = 1, n do
    for j = i + 1, n do
      local there, black_hole = mtu_of(i, j)
      local back = mtu_of(j, i)
      local function way(mtu) return { mtu_path = mtu, black_hole = black_hole or false, summary = "as told" } end
      list[#list + 1] = { slot = i, from = i, to = j, test = "pmtu", ok = true,
        metrics = { forward = way(there), backward = way(back) } }
    end
  end
  return list
end

function TestVerdict:test_path_mtu()
  local members = sim.members(8)
  lu.assertEquals(judge(members, mtu_results(8, function() return 1500 end)).outliers, {})
  local v = judge(members, mtu_results(8, function(i, j) return (i == 3 or j == 3) and 1400 or 1500 end))
  lu.assertEquals(names(v), { "receiver node-3", "sender node-3" })
  v = judge(members, mtu_results(8, function(i, j) return i + j == 11 and 1400 or 1500, i == 1 and j == 2 end))
  for _, o in ipairs(v.outliers) do lu.assertEquals(o.kind, "pair") end
  lu.assertEquals(#v.outliers, 4) -- 3+8, 4+7, 5+6 and the black hole 1+2
end

function TestVerdict:test_loss_of_udp()
  local random, members, results = numbers.random(5), sim.members(12), {}
  for i = 1, 12 do
    for j = 1, 12 do
      if i ~= j then
        local lost = 0
        for _ = 1, 1250 do
          if random.share() < (j == 6 and 0.01 or 0) then lost = lost + 1 end
        end
        if random.share() < 0.05 then lost = lost + 1 end
        results[#results + 1] = { slot = i, from = i, to = j, test = "udp_stream", ok = true,
          metrics = { loss_ratio = lost / 1250, throughput_bps = 1e7 } }
      end
    end
  end
  local v = judge(members, results)
  lu.assertEquals(names(v), { "receiver node-6" })
  local o = v.outliers[1]
  lu.assertTrue(o.low < 0.01 and o.high > 0.01 and math.abs(o.effect - 0.01) < 0.004, tostring(o.effect))
  lu.assertStrContains(v.sentences[1], "node-6 loses what it should receive (udp_stream): ")
end

os.exit(lu.LuaUnit.run())
