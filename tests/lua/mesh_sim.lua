-- A mesh that is only thought of: the results that the schedule would give for a plan, with noise of real runs
-- (mesh_noise.lua), and nodes that are slow or lose packets.
local json = require "knbl.json"
local noises = require "mesh_noise"
local numbers = require "knbl.mesh.numbers"
local plans = require "knbl.mesh.plan"

local M = {}

-- n nodes in so many zones, of so many racks each.
function M.members(n, zones, racks)
  local list = {}
  for i = 1, n do
    list[i] = { name = "node-" .. i, zone = zones and ("abcdefgh"):sub((i - 1) % zones + 1, (i - 1) % zones + 1),
      rack = racks and ("r%d"):format(((i - 1) // (zones or 1)) % racks + 1) }
  end
  return list
end

M.tests = {
  { name = "tcp_lat", seconds = 1.25, kind = "latency", bytes_per_s = 3e6, figures = 2 },
  { name = "tcp_stream", seconds = 1.25, kind = "bandwidth", bytes_per_s = 1.25e9, figures = 1 },
}

function M.plan(n, more)
  local want = { members = M.members(n), tests = M.tests }
  for key, value in pairs(more or {}) do want[key] = value end
  return assert(plans.make(want))
end

-- A row of the noise at random: what a run of one pair had beyond its usual figures, as logarithms. `deviation`: as if
-- the first figure had had this standard deviation.
function M.noise(random, rows, deviation)
  local first = {}
  for k, row in ipairs(rows) do first[k] = type(row) == "table" and row[1] or row end
  local factor = deviation and deviation / numbers.root_mean_square(first) or 1
  return function()
    local row = rows[random.below(#rows)]
    if type(row) == "table" then return row[1] * factor, row[2] * factor end
    return row * factor
  end
end

-- The mean of half the round trips of one second, of which the share `lost` loses a segment and waits 200 ms for it to
-- be sent again.
local function stalled_mean(random, mean, lost)
  local time, count = 0, 0
  while time < 1e9 do
    local good = math.ceil(math.log(math.max(1e-12, random.share())) / math.log(1 - lost))
    count, time = count + good, time + good * 2 * mean + 200e6
  end
  return time / count / 2
end

-- faults[i] = { send?, receive?: factors of the throughput; latency?: a factor; loss?: a share }. options: seed, noise
-- (a member of mesh_noise.lua), deviation? (of the noise, as in M.noise), across: nanoseconds more between zones.
function M.results(plan, members, options)
  local random, results, draw = numbers.random(options.seed or 1), {}, {}
  for test, rows in pairs(options.noise) do draw[test] = M.noise(random, rows, options.deviation) end
  local faults = options.faults or {}
  for s, slot in ipairs(plan.slots) do
    for _, pair in ipairs(slot.pairs) do
      local i, j = pair[1], pair[2]
      local a, b = faults[i] or {}, faults[j] or {}
      local metrics = {}
      local noise, noise_of_mean = draw[slot.test]()
      local factor = math.exp(noise)
      local lost = 1 - (1 - (a.loss or 0)) * (1 - (b.loss or 0))
      if slot.test == "tcp_stream" then
        local bps = 9.4e9 * (a.send or 1) * (b.receive or 1) * factor
        -- what Reno keeps at a round trip of 100 us: 1.22 segments over the root of the loss
        if lost > 0 then bps = math.min(bps, 1.22 * 1448 * 8 / 100e-6 / math.sqrt(lost) * factor) end
        metrics.throughput_bps = bps
      else
        local p50 = 25e3 * (a.latency or 1) * (b.latency or 1)
        if options.across and members[i].zone ~= members[j].zone then p50 = p50 + options.across end
        if options.pair then p50 = p50 * (options.pair(i, j) or 1) end
        local mean = p50 * 1.05 * math.exp(noise_of_mean)
        p50 = p50 * factor
        -- a request or its answer is lost
        if lost > 0 then mean = stalled_mean(random, mean, 1 - (1 - lost) ^ 2) end
        metrics.latency_ns = { p50 = p50, mean = mean, p99 = p50 * 1.5, count = 10000 }
      end
      results[#results + 1] = { slot = s, from = i, to = j, test = slot.test, ok = true, metrics = metrics }
    end
  end
  return results
end

-- In place of the agents: what a plan would give, with these faults; `gone`: nodes that are lost.
function M.schedule(options)
  local asked = {}
  package.loaded["knbl.mesh.schedule"] = { run = function(agents, plan, specs, hooks)
    asked.agents, asked.plan, asked.specs = agents, plan, specs
    local results = M.results(plan, M.members(#agents), { noise = noises.open, deviation = options.noise or 0.1,
      faults = options.faults, seed = options.seed or 3 })
    local stats = { requests = 3 * #agents, seconds = plan.seconds, clock_error_ns = { 1e6, 2e6 }, missing = {},
      clock_offset_s = { [2] = options.clock or 0 }, histograms = {} }
    for _, r in ipairs(results) do
      for i, reason in pairs(options.gone or {}) do
        stats.missing[i] = reason
        if r.from == i or r.to == i then
          r.ok, r.metrics, r.error = false, nil, { code = "lost", message = reason }
        end
      end
    end
    for i = 1, #agents do
      stats.histograms[i] = { tcp_lat = json.encode { count = 4, min = 200, max = 200, sum = "800", sum_sq = "160000",
        buckets = { { 200, 4 } } } }
    end
    hooks.progress(1, 2)
    return results, stats
  end }
  return asked
end

return M
