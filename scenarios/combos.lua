-- How do TCP and UDP perform from pod to pod and to a Service, on one node and on two, beside hairpin and host network?
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "3s", "time for each measurement" },
  udp_rate = { "1Gbit/s", "rate of the UDP streams; 0: as fast as possible" },
}

local cluster <close> = knbl.cluster()
local node_a, node_b = cluster:nodes(2)
local client = cluster:pod { name = "client", node = node_a }
local near = cluster:pod { name = "near", node = node_a }
local far = cluster:pod { name = "far", node = node_b }

local paths = {
  "path", { "local pod to pod", client, near }, { "local pod to service", client, near:service() },
  { "remote pod to pod", client, far }, { "remote pod to service", client, far:service() },
  { "hairpin", client, client:service() }, { "host network", node_a, node_b },
}
for c in knbl.matrix { paths, { "protocol", "tcp", "udp" } } do
  local from, to = c.path[2], c.path[3]
  if c.protocol == "tcp" then
    knbl.tcp_stream { from = from, to = to, duration = opt.duration }
    knbl.tcp_rr { from = from, to = to, duration = opt.duration }
  else
    knbl.udp_stream { from = from, to = to, duration = opt.duration, rate = opt.udp_rate }
    knbl.udp_rr { from = from, to = to, duration = opt.duration }
  end
end

-- TCP streams go as fast as they can and UDP streams at a rate: each protocol has a table of its own
for _, protocol in ipairs { "tcp", "udp" } do
  local stream, rr = protocol .. "_stream", protocol .. "_rr"
  local columns = {
    { "bandwidth", test = stream, show = "throughput" }, { "mean", test = rr, show = "mean" },
    { "p90", test = rr, show = "p90" }, { "max", test = rr, show = "max" },
    { "CPU client", test = stream, show = "cpu_client" }, { "CPU server", test = stream, show = "cpu_server" },
    { "memory", test = stream, show = "memory" },
  }
  if protocol == "udp" then
    table.insert(columns, 2, { "loss", test = stream, show = "loss" })
    table.insert(columns, 3, { "jitter", test = stream, show = "jitter" })
  end
  knbl.report { title = protocol:upper(), rows = "path", where = { protocol = protocol }, columns = columns }
end
