-- What docs/mesh.md says of the power of a mesh, in a few simulated meshes with noise of real runs: of 1,000 nodes one
-- that is 20 % slow or loses 1 % is found, and healthy meshes name nobody. The seeds are fixed, so that each run is the
-- same. tests/bench/mesh_power.lua does it with thousands.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local noises = require "mesh_noise"
local numbers = require "knbl.mesh.numbers"
local plans = require "knbl.mesh.plan"
local sim = require "mesh_sim"
local verdicts = require "knbl.mesh.verdict"

TestPower = {}

local function named(plan, members, options)
  local v = verdicts.judge { nodes = members, missing = {}, tests = { "tcp_lat", "tcp_stream" }, core = core,
    results = sim.results(plan, members, options) }
  local set, count = {}, 0
  for _, o in ipairs(v.outliers) do
    if not set[o.name] then set[o.name], count = true, count + 1 end
  end
  return set, count
end

local function found(n, options)
  local members, plan = sim.members(n), sim.plan(n)
  options.faults = { [77] = { receive = 0.8 }, [97] = { send = 0.8 }, [117] = { loss = 0.01 },
    [137] = options.deviation and { latency = 1.25 } or nil }
  local set, count = named(plan, members, options)
  local faults = 0
  for i in pairs(options.faults) do
    lu.assertTrue(set["node-" .. i], "not found: node-" .. i)
    faults = faults + 1
  end
  lu.assertEquals(count, faults)
end

function TestPower:test_1000_nodes_with_the_noise_of_limited_links()
  found(1000, { seed = 1, noise = noises.limited })
end

function TestPower:test_1000_nodes_with_as_much_noise_as_the_plan_assumes()
  found(1000, { seed = 1, noise = noises.open, deviation = plans.NOISE })
end

function TestPower:test_200_nodes_with_as_much_noise_as_the_plan_assumes()
  found(200, { seed = 2, noise = noises.open, deviation = plans.NOISE })
end

-- The plan has partners enough for the noise that was measured.
function TestPower:test_the_noise_of_real_runs_is_within_what_the_plan_assumes()
  lu.assertTrue(#noises.limited.tcp_stream >= 100)
  lu.assertTrue(numbers.root_mean_square(noises.limited.tcp_stream) < plans.NOISE)
end

-- Without scaling, that is also with a deviation of one half.
function TestPower:test_at_most_one_of_100_healthy_meshes_names_anybody()
  for _, n in ipairs { 12, 16 } do
    local members, plan, wrong = sim.members(n), sim.plan(n), 0
    lu.assertEquals(plan.kind, "all")
    for seed = 1, 100 do
      local _, count = named(plan, members, { seed = seed, noise = seed % 2 == 0 and noises.limited or noises.open,
        deviation = n == 16 and plans.NOISE or nil })
      if count > 0 then wrong = wrong + 1 end
    end
    lu.assertTrue(wrong <= 1, wrong .. " of 100 with " .. n)
  end
end

os.exit(lu.LuaUnit.run())
