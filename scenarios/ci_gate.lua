-- May this change be merged: is the Service path fast enough, and how much slower than the direct one?
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "10s", "time for each measurement" },
  rate = { "5k/s", "requests a second (open loop, so that stalls are visible)" },
}

local cluster <close> = knbl.cluster()
local client, server = cluster:pair()

for c in knbl.matrix { { "to", { "pod", server }, { "service", server:service() } } } do
  knbl.tcp_rr {
    case = "pod to " .. c.to[1], from = client, to = c.to[2], duration = opt.duration, rate = opt.rate,
    expect = { "errors == 0", "timeouts == 0", "p99 < 20ms", 'p50 "pod to service" / "pod to pod" < 2' },
  }
end
