-- mesh_power.lua - how often a mesh finds a bad node, and how often a healthy one names anything: many simulated meshes
-- by the default plan, with the noise that mesh_noise.lua measured. Some minutes.
--   meshes for each kind of noise: POWER_BAD (30) and POWER_HEALTHY (100) of 1,000 nodes, POWER_MIDDLE (500) of 200,
--   POWER_SMALL (3000) of 12; POWER_NOISE=limited takes only that kind; POWER_SHOW=1 prints what healthy meshes name
package.path = "tests/lua/?.lua;" .. package.path
local core = require "knbl.native"
local noises = require "mesh_noise"
local sim = require "mesh_sim"
local verdicts = require "knbl.mesh.verdict"

local function asked(name, default) return tonumber(os.getenv(name)) or default end
local EACH = 10 -- nodes of each fault in one mesh: one in a hundred disturbs no median
local FAULTS = {
  { "receives 20 % slowly", { receive = 0.8 } }, { "sends 20 % slowly", { send = 0.8 } },
  { "loses 1 %", { loss = 0.01 } },
}

local function judge(plan, members, options)
  return verdicts.judge { nodes = members, missing = {}, tests = { "tcp_lat", "tcp_stream" }, core = core,
    results = sim.results(plan, members, options) }
end

-- The upper or lower end of the 95 % interval (one-sided, Clopper and Pearson) of `hits` in `n`.
local function tail(n, p, from, to)
  local sum, term = 0, (1 - p) ^ n
  for k = 0, to do
    if k >= from then sum = sum + term end
    term = term * (n - k) / (k + 1) * p / (1 - p)
  end
  return sum
end
local function at_most(hits, n)
  local low, high = hits / n, 1
  for _ = 1, 60 do
    local p = (low + high) / 2
    if tail(n, p, 0, hits) > 0.05 then low = p else high = p end
  end
  return high
end

local function name_of(kind) return kind[2] and ("%s, scaled to %g"):format(kind[1], kind[2]) or kind[1] end

local function bad(kind, n, meshes)
  if meshes == 0 then return end
  local members, plan, found, wrong = sim.members(n), sim.plan(n), {}, 0
  for seed = 1, meshes do
    local faults, of = {}, {}
    for f, fault in ipairs(FAULTS) do
      for k = 1, EACH do
        local i = ((seed * 7 + f * EACH + k) * 31) % n + 1
        faults[i], of[i] = fault[2], f
      end
    end
    local named = {}
    for _, o in ipairs(judge(plan, members, { seed = seed, noise = noises[kind[1]], deviation = kind[2],
      faults = faults }).outliers) do
      named[o.name] = true
    end
    for i, f in pairs(of) do
      found[f] = found[f] or { 0, 0 }
      found[f][2] = found[f][2] + 1
      if named[members[i].name] then found[f][1], named[members[i].name] = found[f][1] + 1, nil end
    end
    wrong = wrong + (next(named) and 1 or 0)
  end
  for f, fault in ipairs(FAULTS) do
    local hits, all = found[f][1], found[f][2]
    print(("%s noise, %d nodes: a node that %s is named in %d of %d (%.2f %%; at least %.2f %% with 95 %%)"):format(
      name_of(kind), n, fault[1], hits, all, 100 * hits / all, 100 * (1 - at_most(all - hits, all))))
  end
  print(("%s noise, %d nodes: %d of these %d meshes name another node or pair"):format(name_of(kind), n, wrong, meshes))
end

local function healthy(kind, n, meshes)
  local members, plan, wrong = sim.members(n), sim.plan(n), 0
  if meshes == 0 then return end
  for seed = 1, meshes do
    local outliers = judge(plan, members, { seed = seed + 10000, noise = noises[kind[1]],
      deviation = kind[2] }).outliers
    wrong = wrong + (#outliers > 0 and 1 or 0)
    if #outliers > 0 and os.getenv "POWER_SHOW" then print(seed, outliers[1].text) end
  end
  print(("%s noise, %d nodes (%s): %d of %d healthy meshes name something (%.2f %%; at most %.2f %% with 95 %%)")
    :format(name_of(kind), n, plan.kind, wrong, meshes, 100 * wrong / meshes, 100 * at_most(wrong, meshes)))
end

-- As measured; and the noise of links without a limit as if it had the deviation that the default plan assumes.
for _, one in ipairs { { "limited" }, { "open" }, { "open", 0.15 } } do
  if not os.getenv "POWER_NOISE" or os.getenv "POWER_NOISE" == one[1] .. (one[2] or "") then
    healthy(one, 12, asked("POWER_SMALL", 3000))
    healthy(one, 200, asked("POWER_MIDDLE", 500))
    healthy(one, 1000, asked("POWER_HEALTHY", 100))
    bad(one, 1000, asked("POWER_BAD", 30))
  end
end
