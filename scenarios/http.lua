-- How many HTTP requests a second does each path carry, and how long do they take, as ab reports it?
local knbl = require "knbl"
local opt = knbl.options {
  requests = { 100000, "requests on each path (ab -n)" },
  connections = { 100, "connections at once (ab -c)" },
  keepalive = { true, "several requests on a connection (ab -k)" },
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
  knbl.http {
    from = c.path[2], to = c.by == "service" and c.path[4] or c.path[3], count = opt.requests, flows = opt.connections,
    keepalive = opt.keepalive,
  }
end

knbl.report { rows = { "path", "by" }, columns = { { "requests/s", "rate" },
  { "time/request", "time_per_request_ns.mean" }, { "across all", "time_per_request_ns.across_all" },
    { "transfer", "transfer", unit = "B/s" },
  { "complete", "ops" }, "errors", { "length", "length_mismatches" }, { "connect", "connect" },
    { "first byte", "first_byte" }, "cpu" } }
knbl.report { title = "Requests served within a certain time", rows = { "path", "by" },
  columns = { "p50", "p66", "p75", "p80", "p90", "p95", "p98", "p99", { "100%", "max" } } }
