-- How fast is the network between two machines, without Kubernetes?
local knbl = require "knbl"
local opt = knbl.options { duration = { "5s", "time for each test" } }

local cluster <close> = knbl.cluster() -- with --on hosts:a=ADDR,b=ADDR: two machines that run `knbl agent`
local a, b = cluster:nodes(2)

for c in knbl.matrix { { "direction", { "there", a, b }, { "back", b, a } } } do
  local from, to = c.direction[2], c.direction[3]
  for _, test in ipairs { "tcp_stream", "tcp_sendfile", "udp_stream", "tcp_rr", "tcp_crr", "udp_rr" } do
    knbl[test] { from = from, to = to, duration = opt.duration }
  end
  knbl.ping { from = from, to = to, count = 20, every = "10ms" }
end

knbl.report { title = "Throughput", rows = { "test", "direction" },
  test = { "tcp_stream", "tcp_sendfile", "udp_stream" },
  columns = { "throughput", "loss", "retransmits", "cpu_client", "cpu_server" } }
knbl.report { title = "Requests", rows = { "test", "direction" }, test = { "tcp_rr", "tcp_crr", "udp_rr", "ping" },
  columns = { { "rate", test = { "tcp_rr", "tcp_crr", "udp_rr" } }, "mean", "p50", "p99", "max", "cpu_client",
    "cpu_server" } }
