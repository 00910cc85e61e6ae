-- What are the results of netperf's six tests within a node, between nodes, and between pods on one node and on two?
local knbl = require "knbl"
local opt = knbl.options { duration = { "5s", "time for each test" } }

local cluster <close> = knbl.cluster()
local node_a, node_b = cluster:nodes(2)
local pod_a1 = cluster:pod { name = "pod-a-1", node = node_a }
local pod_b1 = cluster:pod { name = "pod-b-1", node = node_b }
local pod_b2 = cluster:pod { name = "pod-b-2", node = node_b }

local paths = {
  "path", { "node to node", node_a, node_b }, { "local pod to pod", pod_b1, pod_b2 },
    { "pod to remote pod", pod_a1, pod_b2 },
  { "local process to process on one node", node_b, node_b },
}
local tests = { "test", "tcp_stream", "tcp_sendfile", "udp_stream", "tcp_rr", "tcp_crr", "udp_rr" }

for c in knbl.matrix { paths, tests } do
  knbl[c.test] { from = c.path[2], to = c.path[3], duration = opt.duration }
end

knbl.report {
  rows = "path",
  columns = {
    { "throughput", test = "tcp_stream", show = "throughput" },
      { "sendfile", test = "tcp_sendfile", show = "throughput" },
    { "UDP", test = "udp_stream", show = "throughput" }, { "requests/s", test = "tcp_rr", show = "rate" },
    { "new connections/s", test = "tcp_crr", show = "rate" }, { "UDP requests/s", test = "udp_rr", show = "rate" },
  },
}
knbl.report { title = "CPU of client and server, cores", rows = "path", columns = "test", join = true,
  show = { "cpu_client", "cpu_server" } }
