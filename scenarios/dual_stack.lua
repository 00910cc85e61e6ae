-- What does IPv6 cost beside IPv4, from pod to pod and to a Service?
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "1s", "time for each measurement" },
  repeats = { 6, "rounds; six or more can show a difference" },
}

local cluster <close> = knbl.cluster()
local client, server = cluster:pair()

local paths = { "path", { "pod", server }, { "Service", server:service() } }
local families = { "family", { "IPv4", 4 }, { "IPv6", 6 } }
for c in knbl.matrix { paths, families, repeats = opt.repeats } do
  for _, test in ipairs { "tcp_rr", "tcp_crr", "tcp_stream" } do
    knbl[test] { from = client, to = c.path[2], ip = c.family[2], duration = opt.duration }
  end
end

knbl.report { rows = { "path", "family" }, baseline = "IPv4", columns = {
  { "p50", test = "tcp_rr" }, { "p99", test = "tcp_rr" }, { "connections/s", test = "tcp_crr", show = "rate" },
  { "throughput", test = "tcp_stream" }, { "CPU/op", test = "tcp_rr", show = "cpu_per_op" } } }
