-- Where does the CPU time of a request go, by pod IP and through a Service? (--flame FILE draws it.)
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "3s", "time for each measurement" },
  samples = { 499, "samples a second on each CPU" },
  repeats = { 3, "rounds" },
}

local cluster <close> = knbl.cluster()
local client, server = cluster:pair()

local paths = { "to", { "pod IP", server }, { "Service", server:service() } }
for c in knbl.matrix { paths, { "test", "tcp_rr", "tcp_crr" }, repeats = opt.repeats } do
  knbl[c.test] { from = client, to = c.to[2], duration = opt.duration, profile = opt.samples }
end

knbl.report { rows = { "test", "to" }, baseline = "pod IP", columns = { "rate", "p50", "p99", "cpu_per_op" } }
