-- How long is the round trip of a packet on each path?
local knbl = require "knbl"
local opt = knbl.options {
  pings = { 20, "echoes on each path" },
  every = { "50ms", "interval between echoes" },
}

local cluster <close> = knbl.cluster()
local node_a, node_b = cluster:nodes(2)
local pod_a1 = cluster:pod { name = "pod-a-1", node = node_a }
local pod_b1 = cluster:pod { name = "pod-b-1", node = node_b }
local pod_b2 = cluster:pod { name = "pod-b-2", node = node_b }

local paths = {
  "path", { "NodeA>NodeB", node_a, node_b }, { "NodeB>NodeB", node_b, node_b }, { "PodB-1>PodB-2", pod_b1, pod_b2 },
  { "PodA-1>PodB-2", pod_a1, pod_b2 }, { "NodeA>PodB-1", node_a, pod_b1 }, { "PodA-1>NodeB", pod_a1, node_b },
  { "PodB-1>PodB-1", pod_b1, pod_b1 },
}
for c in knbl.matrix { paths } do
  knbl.ping { from = c.path[2], to = c.path[3], count = opt.pings, every = opt.every }
end

knbl.report { rows = "path", columns = { "sent", "received", "loss", "min", "mean", "p99", "max" } }
