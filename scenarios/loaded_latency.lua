-- How much later do requests arrive while bulk traffic fills the same path, in their own direction and against it?
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "1s", "time for each measurement" },
  rate = { "1k/s", "requests a second, over 100 connections (open loop)" },
  streams = { 4, "bulk connections" },
  bandwidth = { "", "limit of each pod's interface, e.g. 100Mbit/s: a queue forms there" },
  repeats = { 6, "rounds; six or more can show a difference" },
}

local cluster <close> = knbl.cluster()
local client, server = cluster:pair { bandwidth = opt.bandwidth ~= "" and opt.bandwidth or nil }

for c in knbl.matrix { { "bulk", "none", "same direction", "other direction" }, repeats = opt.repeats } do
  local list = { { test = "tcp_rr", from = client, to = server, rate = opt.rate, flows = 100,
    duration = opt.duration } }
  if c.bulk ~= "none" then
    list[2] = { test = "tcp_stream", from = client, to = server, flows = opt.streams,
      reverse = c.bulk == "other direction", duration = opt.duration }
  end
  knbl.together(list)
end

knbl.report { title = "Latency of requests", test = "tcp_rr", rows = "bulk", baseline = "none",
  columns = { "p50", "p99", "max" } }
knbl.report { title = "The bulk traffic beside them", test = "tcp_stream", rows = "bulk",
  columns = { "throughput", "retransmits" } }
