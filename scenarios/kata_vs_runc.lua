-- What does a sandbox cost on the network: host, runc, gVisor and kata servers, from the same host and from another?
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "2s", "time for each size" },
  sizes = { "1:256K:*64", "message sizes" },
  runtimes = { { "host", "runc", "gvisor", "kata" },
    "runtimes of the server; a missing one is skipped with the reason" },
}

local cluster <close> = knbl.cluster()
local node_a, node_b = cluster:nodes(2)
local servers = { "runtime" }
for _, runtime in ipairs(opt.runtimes) do
  local pod = cluster:pod { name = "server-" .. runtime:gsub("[^%l%d]", "-"), node = node_a, runtime = runtime }
  servers[#servers + 1] = { pod.label, pod, pod:service() }
end

local clients = { "client", { "from the same host", node_a }, { "from another host", node_b } }
for c in knbl.matrix { { "by", "pod IP", "service" }, clients, servers } do
  local from, to = c.client[2], c.by == "service" and c.runtime[3] or c.runtime[2]
  knbl.tcp_lat { from = from, to = to, size = opt.sizes, duration = opt.duration }
  knbl.tcp_bw { from = from, to = to, size = opt.sizes, duration = opt.duration }
  knbl.tcp_crr { from = from, to = to, duration = opt.duration }
end

local shown = { { "tcp_lat", test = "tcp_lat", show = "mean" },
  { "tcp_bw", test = "tcp_bw", show = "throughput", unit = "B/s" } }
for _, by in ipairs { "pod IP", "service" } do
  knbl.report { title = "By " .. by, where = { by = by }, rows = { "client", "size" }, columns = "runtime",
    show = shown, join = true, baseline = "host" }
end
knbl.report { title = "New connections a second", test = "tcp_crr", rows = { "client", "by" }, columns = "runtime",
  show = "rate", baseline = "host" }
knbl.report { title = "CPU of the server and its sandbox, as the host sees it, cores", test = "tcp_bw",
  rows = { "client", "by", "size" },
  columns = "runtime", show = { "cpu_server_sandbox" }, baseline = "host" }
knbl.report { title = "A pod", test = "tcp_crr", where = { by = "pod IP", client = "from the same host" },
  rows = "runtime",
  columns = { { "ready after", "pod_start" }, { "memory on the host", "pod_memory" } } }
