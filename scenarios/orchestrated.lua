-- What are the results of the Kubernetes network benchmark's schedule: three workers, five paths in turn, one table?
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "2s", "time for each step" },
  mss = { "96:1460:+256", "segment sizes of the TCP rows" },
}

local cluster <close> = knbl.cluster()
local node_a, node_b = cluster:nodes(2)
local worker1 = cluster:pod { name = "worker-1", node = node_a }
local worker2 = cluster:pod { name = "worker-2", node = node_a }
local worker3 = cluster:pod { name = "worker-3", node = node_b }
local vip = worker2:service()

local paths = {
  { "Same VM using Pod IP", worker1, worker2 }, { "Same VM using Virtual IP", worker1, vip },
  { "Remote VM using Pod IP", worker3, worker2 }, { "Remote VM using Virtual IP", worker3, vip },
  { "Hairpin Pod to own Virtual IP", worker2, vip },
}
for _, path in ipairs(paths) do
  for c in knbl.matrix { { "row", "iperf TCP. " .. path[1] }, { "mss", table.unpack(opt.mss) } } do
    knbl.tcp_stream { from = path[2], to = path[3], mss = c.mss, duration = opt.duration }
  end
end
for _, work in ipairs { { "iperf UDP. ", "udp_stream" }, { "netperf. ", "tcp_stream" } } do
  for i = 1, 4 do
    local path, test = paths[i], work[2]
    knbl[test] { from = path[2], to = path[3], duration = opt.duration, labels = { row = work[1] .. path[1] },
      case = work[1] .. path[1] }
  end
end

knbl.report { rows = "row", columns = "mss", show = "throughput", unit = "Mbit/s", layout = "sweep" }
