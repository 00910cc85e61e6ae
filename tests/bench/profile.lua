-- What a profile costs: pairs of the same measurement with and without it, in turn. knbl tests/bench/profile.lua --duration 2s
local knbl = require "knbl"
local core = require "knbl.native"
local opt = knbl.options {
  duration = { "2s", "time for each measurement" }, pairs = { 9, "how often each is measured" }, hz = { 99, "samples a second on each CPU" },
}
local cluster <close> = knbl.cluster()
local client, server = cluster:pair()

for _, test in ipairs { "tcp_rr", "tcp_stream" } do
  local ratios, costs = {}, {}
  for i = 1, opt.pairs do
    local rate, cpu = {}, {}
    for k = 1, 2 do
      local on = (i + k) % 2 == 0
      local m = knbl[test] { case = on and "with" or "without", from = client, to = server, duration = opt.duration, warmup = "300ms", monitor = false,
        profile = on and opt.hz }
      rate[on] = m.metrics.throughput_bps or m.metrics.rate_per_s
      cpu[on] = (m.metrics.cpu.client_process + m.metrics.cpu.server_process) / rate[on]
    end
    ratios[i], costs[i] = rate[true] / rate[false], cpu[true] / cpu[false]
  end
  local r, r_low, r_high = core.median_interval(ratios, 0.95)
  local c, c_low, c_high = core.median_interval(costs, 0.95)
  knbl.note { text = ("%s at %d Hz: rate with a profile / without %.3f (95 %%: %.3f to %.3f), CPU likewise %.3f (%.3f to %.3f), %d pairs of %s"):format(
    test, opt.hz, r, r_low or r, r_high or r, c, c_low or c, c_high or c, opt.pairs, tostring(opt.duration)) }
end
