-- How do bandwidth and latency depend on the message size, on each path?
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "2s", "time for each size" },
  sizes = { "1:256K:*64", "message sizes: FROM:TO:*FACTOR, FROM:TO:+STEP, or A,B,C" },
  paths = { { "node", "pod", "service", "local" }, "node, pod, service: to the other node; local: pods on one node",
    choices = { "node", "pod", "service", "local" } },
}

local cluster <close> = knbl.cluster()
local node_a, node_b = cluster:nodes(2)
local client, server = cluster:pair()
local neighbour = cluster:pod { name = "neighbour", node = node_a }

local ends = {
  node = { "node to node", node_a, node_b }, pod = { "pod to pod", client, server },
  service = { "pod to service", client, server:service() }, ["local"] = { "local pod to pod", client, neighbour },
}
local paths = { "path" }
for _, name in ipairs(opt.paths) do paths[#paths + 1] = ends[name] end

for c in knbl.matrix { paths } do
  knbl.tcp_bw { from = c.path[2], to = c.path[3], size = opt.sizes, duration = opt.duration }
  knbl.tcp_lat { from = c.path[2], to = c.path[3], size = opt.sizes, duration = opt.duration }
end

knbl.report { title = "Bandwidth", rows = "path", columns = "size", test = "tcp_bw", show = "throughput", unit = "B/s" }
knbl.report { title = "Latency", rows = "path", columns = "size", test = "tcp_lat", show = "mean" }
knbl.report { title = "Latency, p99", rows = "path", columns = "size", test = "tcp_lat", show = "p99" }
