-- What does kube-proxy's lookup of a Service cost, with one Service and with thousands?
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "3s", "time for each measurement" },
  services = { "1,100,1000,5000", "numbers of Services" },
  modes = { { "chains", "maps" }, "chains: like kube-proxy with iptables; maps: like kube-proxy with nftables",
    choices = { "chains", "maps" } },
}

for c in knbl.matrix { { "mode", table.unpack(opt.modes) }, { "services", table.unpack(opt.services) } } do
  local cluster <close> = knbl.cluster { mode = c.mode, services = c.services - 1 } -- plus the one that is measured
  local client, server = cluster:pair()
  local service = server:service()
  knbl.tcp_rr { from = client, to = service, duration = opt.duration }
  knbl.tcp_crr { from = client, to = service, duration = opt.duration }
  knbl.tcp_stream { from = client, to = service, duration = opt.duration }
end

knbl.report {
  rows = { "mode", "services" },
  columns = {
    { "requests/s", test = "tcp_rr", show = "rate" }, { "request p99", test = "tcp_rr", show = "p99" },
    { "new connections/s", test = "tcp_crr", show = "rate" }, { "connection p99", test = "tcp_crr", show = "p99" },
    { "CPU/connection", test = "tcp_crr", show = "cpu_per_op" },
      { "throughput", test = "tcp_stream", show = "throughput" },
  },
}
