-- What does each path between a client and a server cost, directly and through a Service?
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "3s", "time for each measurement of bandwidth or latency" },
  requests = { 100000, "HTTP requests on each path" },
  connections = { 100, "HTTP connections at once" },
  pings = { 20, "echoes on each path" },
}

local cluster <close> = knbl.cluster()
local node_a, node_b = cluster:nodes(2)
local pod_a1 = cluster:pod { name = "pod-a-1", node = node_a }
local pod_b1 = cluster:pod { name = "pod-b-1", node = node_b }
local pod_b2 = cluster:pod { name = "pod-b-2", node = node_b }
local on_node, on_pod1, on_pod2 = node_b:service(), pod_b1:service(), pod_b2:service()

local paths = {
  "path", { "NodeA>NodeB", node_a, node_b, on_node }, { "NodeB>NodeB", node_b, node_b, on_node },
  { "PodB-1>PodB-2", pod_b1, pod_b2, on_pod2 }, { "PodA-1>PodB-2", pod_a1, pod_b2, on_pod2 },
  { "NodeA>PodB-1", node_a, pod_b1, on_pod1 }, { "PodA-1>NodeB", pod_a1, node_b, on_node },
}
for c in knbl.matrix { paths, { "by", "direct", "service" } } do
  local from, to = c.path[2], c.by == "service" and c.path[4] or c.path[3]
  if c.by == "direct" then knbl.ping { from = from, to = to, count = opt.pings, every = "10ms" } end
  knbl.udp_rr { from = from, to = to, size = 56, response = 56, count = opt.pings, rate = "100/s", warmup = 0 }
  knbl.tcp_bw { from = from, to = to, duration = opt.duration }
  knbl.tcp_lat { from = from, to = to, duration = opt.duration }
  knbl.http { from = from, to = to, count = opt.requests, flows = opt.connections }
end

knbl.report {
  rows = { "path", "by" },
  columns = {
    { "ping", test = "ping", show = "mean" }, { "UDP ping", test = "udp_rr", show = "mean" },
    { "bw", test = "tcp_bw", show = "throughput", unit = "B/s" }, { "bw CPU", test = "tcp_bw", show = "cpu" },
    { "lat", test = "tcp_lat", show = "mean" }, { "lat p99", test = "tcp_lat", show = "p99" },
    { "requests/s", test = "http", show = "rate" }, { "http p99", test = "http", show = "p99" },
    { "http CPU", test = "http", show = "cpu" },
  },
}
knbl.note "ping is ICMP, for direct paths: a Service does not answer it. UDP ping: a packet of the same size over UDP"
knbl.note "both pings are whole round trips, 100 a second; lat is half a round trip, back to back, as in qperf"
