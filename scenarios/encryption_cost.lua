-- What does encryption between nodes cost: WireGuard and IPsec beside plain packets, in throughput, latency and CPU?
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "1s", "time for each measurement" },
  encryption = { { "none", "wireguard", "ipsec" }, "what to compare; wireguard-go is WireGuard in user space",
    choices = { "none", "wireguard", "wireguard-go", "ipsec" } },
  repeats = { 6, "measurements of each; six or more can show a difference" },
}

-- On Kubernetes it is the cluster's network that encrypts or not: what it does is measured, the rest is skipped.
for _, encryption in ipairs(opt.encryption) do
  local cluster <close> = knbl.cluster { encryption = encryption }
  local client, server = cluster:pair()
  for _ in knbl.matrix { { "encryption", encryption }, repeats = opt.repeats } do
    knbl.tcp_stream { from = client, to = server, flows = 4, duration = opt.duration }
    knbl.tcp_rr { from = client, to = server, duration = opt.duration }
  end
end

-- Encryption is done by the kernel, outside of the processes that send: the nodes' whole CPU time counts.
local function cpu_per_gb(row)
  local m = row.tcp_stream.metrics
  return ((m.cpu.client_node or 0) + (m.cpu.server_node or 0)) / (m.throughput_bps / 8e9)
end
knbl.report { rows = "encryption", baseline = "none", columns = { { "throughput", test = "tcp_stream" },
  { "nodes' CPU per GB", cpu_per_gb, unit = "s", better = "less" }, { "p50", test = "tcp_rr" },
  { "p99", test = "tcp_rr" } } }
