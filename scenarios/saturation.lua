-- How many requests a second does a path carry before the p99 latency leaves its bound?
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "2s", "time for each rate" },
  bound = { 5, "the bound of p99, in ms" },
  first = { 1000, "the first rate, in requests a second; each next one is twice as high" },
  most = { 1e6, "the highest rate" },
  steps = { 4, "steps between the last good rate and the first bad one" },
  flows = { 50, "connections" },
}

local cluster <close> = knbl.cluster()
local client, server = cluster:pair()

local function holds(rate)
  local r = knbl.tcp_rr { case = "offered", from = client, to = server, rate = rate, flows = opt.flows,
    duration = opt.duration, labels = { offered = rate } }
  local late = r.ok and r.metrics.latency_ns.p99 > opt.bound * 1e6
  local short = r.ok and r.metrics.rate_per_s < 0.98 * rate
  return r.ok and not late and not short
end

local good, bad, rate = nil, nil, opt.first
while rate <= opt.most and not bad do
  if holds(rate) then good, rate = rate, rate * 2 else bad = rate end
end
for _ = 1, good and bad and opt.steps or 0 do
  local middle = math.floor((good + bad) / 2)
  if holds(middle) then good = middle else bad = middle end
end

knbl.note(not good and ("already at %d/s the bound of %g ms is left"):format(bad, opt.bound)
  or not bad and ("the bound of %g ms holds up to the highest rate, %d/s"):format(opt.bound, good)
  or ("the knee: p99 stays within %g ms up to %d/s and leaves it, or the rate is not reached, at %d/s"):format(
    opt.bound, good, bad))
knbl.report { rows = "offered", columns = { { "reached", "rate" }, "p50", "p99", "max", "cpu_client", "cpu_server" } }
