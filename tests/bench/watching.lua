-- Measures the cost of the monitor, which is on by default, and of a profile: pairs of the same measurement with and
-- without them, alternating. knbl tests/bench/watching.lua --duration 1s --pairs 15 --hz 4999. The cost of 99 Hz is too
-- small to measure; the cost of a sample does not depend on the rate.
local knbl = require "knbl"
local core = require "knbl.native"
local opt = knbl.options {
  duration = { "2s", "time for each measurement" }, pairs = { 9, "how often each is measured" },
    hz = { 99, "samples a second on each CPU" },
}
local cluster <close> = knbl.cluster()
local client, server = cluster:pair()

local watchers = {
  { name = "the monitor", set = function(ask, on) ask.monitor, ask.profile = on, false end },
  { name = ("a profile at %d Hz"):format(opt.hz), set = function(ask, on) ask.monitor, ask.profile = false,
    on and opt.hz end },
}

local function measure(test, watcher, on)
  local ask = { case = watcher.name .. (on and ": on" or ": off"), from = client, to = server, duration = opt.duration,
    warmup = "300ms", tune = "plain", wait = test == "tcp_rr" and "auto" or nil }
  watcher.set(ask, on)
  local m = knbl[test](ask).metrics
  local rate = m.throughput_bps or m.rate_per_s
  return rate, (m.cpu.client_process + m.cpu.server_process) / rate
end

for _, watcher in ipairs(watchers) do
  for _, test in ipairs { "tcp_rr", "tcp_stream" } do
    local rates, costs = {}, {}
    for i = 1, opt.pairs do
      local rate, cost = {}, {}
      for k = 1, 2 do
        local on = (i + k) % 2 == 0
        rate[on], cost[on] = measure(test, watcher, on)
      end
      rates[i], costs[i] = rate[true] / rate[false], cost[true] / cost[false]
    end
    local r, r_low, r_high = core.median_interval(rates, 0.95)
    local c, c_low, c_high = core.median_interval(costs, 0.95)
    knbl.note {
      text = (
      "%s, %s: rate with it / without %.3f (95 %%: %.3f to %.3f), CPU an operation likewise %.3f (%.3f to %.3f), %d \z
        pairs of %s"):format(
      watcher.name, test, r, r_low or r, r_high or r, c, c_low or c, c_high or c, opt.pairs, tostring(opt.duration)) }
  end
end
