-- The rows of the bench: knbl's test, its peers, the path, and the ratios that knbl must reach. `pin` has the CPUs of
-- client and server, the same for all tools, because the placement by the kernel affects a blocking request and
-- response more than the tool does. `rate` is the minimum of knbl's rate divided by the best peer's, `cpu` the maximum
-- of its CPU per unit of work divided by that peer's.
local p = require "tests.bench.peers"
local rows = {}
local function row(t) rows[#rows + 1] = t end

local rr1 = { p.netperf("TCP_RR", "-r 1,1"), p.qperf("tcp_lat", 1) }
for _, path in ipairs { "veth", "lo" } do
  row { "TCP_RR 1 B, blocking", path = path, spec = { test = "tcp_rr", wait = "block" }, pin = { 0, 1 }, peers = rr1,
    rate = 1.00, cpu = 1.00 }
end
row { "TCP_RR 1 B, auto", pin = { 0, 1 }, path = "veth", spec = { test = "tcp_rr", wait = "auto" },
  peers = { p.sockperf(true) }, rate = 0.97, mode = true }
row { "TCP_RR 1 B, auto", pin = { 0, 1 }, path = "veth", spec = { test = "tcp_rr", wait = "auto" },
  peers = { p.netperf("TCP_RR", "-r 1,1") }, rate = 4, mode = true }
row { "UDP_RR 1 B, blocking", pin = { 0, 1 }, path = "veth", spec = { test = "udp_rr", wait = "block" },
  peers = { p.netperf("UDP_RR", "-r 1,1"), p.qperf("udp_lat", 1) }, rate = 1.05, cpu = 0.95 }
row { "UDP_RR 14 B, auto", pin = { 0, 1 }, path = "veth",
  spec = { test = "udp_rr", size = 14, response = 14, wait = "auto" }, peers = { p.sockperf(false) },
  rate = 0.97, mode = true }
row { "TCP_CRR, one CPU", path = "veth", pin = { 0, 0 }, spec = { test = "tcp_crr", wait = "block" },
  peers = { p.netperf("TCP_CRR", "-r 1,1") },
  rate = 1.00, cpu = 1.00 }
row { "TCP_CRR, FIN on data, one CPU", path = "veth", pin = { 0, 0 },
  spec = { test = "tcp_crr", wait = "block", fin = true },
  peers = { p.netperf("TCP_CRR", "-r 1,1") }, rate = 1.2, cpu = 0.85, mode = true }
row { "TCP_CRR for 30 s: last 3 s / first 3 s", path = "veth", spec = { test = "tcp_crr" }, itself = 30, rate = 0.95 }

local function stream(cc, path, peers, rate, cpu)
  row { ("TCP_STREAM, %s"):format(cc), path = path, spec = { test = "tcp_stream", cc = cc }, peers = peers, rate = rate,
    cpu = cpu }
end
local iperf_1m = p.iperf3("-l 1M -C bbr")
stream("bbr", "lo", { iperf_1m }, 1.15, 0.75)
stream("bbr", "veth", { iperf_1m }, 1.00, 0.80)
local cubic = { p.netperf("TCP_STREAM", "-m 131072 -M 131072 -K cubic"), p.iperf3("-l 1M -C cubic") }
stream("cubic", "lo", cubic, 1.05, 0.90)
stream("cubic", "veth", cubic, 1.05, 0.90)
row { "TCP_SENDFILE", path = "lo", spec = { test = "tcp_sendfile" }, peers = { p.iperf3("-Z") }, rate = 1.7, cpu = 0.6 }
row { "TCP_SENDFILE", path = "veth", spec = { test = "tcp_sendfile" }, peers = { p.iperf3("-Z") }, rate = 1.5,
  cpu = 0.6 }

local function udp_peers(size)
  return { p.netperf("UDP_STREAM", ("-R 1 -m %d -s 4194304 -S 4194304"):format(size),
    "THROUGHPUT,REMOTE_RECV_THROUGHPUT"),
    p.qperf("udp_bw", size), p.iperf3(("-u -b 0 -l %d -w 2M"):format(size)) }
end
for _, size in ipairs { 64, 1400 } do
  row { ("UDP_STREAM %d B, goodput"):format(size), path = "veth", spec = { test = "udp_stream", size = size },
    peers = udp_peers(size), rate = 1.15, cpu = 0.85 }
end
row { "UDP_STREAM 1400 B, GSO + GRO", path = "veth", spec = { test = "udp_stream", size = 1400, gso = true },
  peers = udp_peers(1400), rate = 15, cpu = 0.1, mode = true }

for _, size in ipairs { 1, 64, 4096, 65536, 262144 } do
  row { ("tcp_bw %d B"):format(size), path = "veth", spec = { test = "tcp_bw", size = size },
    peers = { p.qperf("tcp_bw", size) }, rate = 1.05, cpu = size == 4096 and 0.9 or 0.8,
    group = "tcp_bw", group_rate = 1.3, group_cpu = true }
end
for _, path in ipairs { "veth", "lo" } do
  row { "tcp_lat 1 B, blocking", pin = { 0, 1 }, path = path, spec = { test = "tcp_lat", wait = "block" },
    peers = { p.qperf("tcp_lat", 1) }, rate = 1.00, cpu = 1.00 }
  row { "tcp_lat 1 B, auto", pin = { 0, 1 }, path = path, spec = { test = "tcp_lat", wait = "auto" },
    peers = { p.qperf("tcp_lat", 1) }, rate = 3, mode = true }
end
for _, peer in ipairs { p.wrk(1), p.ab } do
  row { "HTTP, 100 keep-alive connections", path = "lo",
    spec = { test = "http", external = true, path = "/f", flows = 100, threads = 1 }, peers = { peer },
    rate = peer == p.ab and 1.08 or 1.02, cpu = 0.92, port = 28080, server = "nginx" }
end
-- ---- many flows ----

for _, flows in ipairs { 10, 100, 1000, 10000 } do
  for _, threads in ipairs { 1, 2 } do
    for _, size in ipairs { 1, 4096 } do
      row { ("TCP_RR %d B, %d flows, %d threads"):format(size, flows, threads), path = "veth",
        spec = { test = "tcp_rr", flows = flows, threads = threads, size = size, response = size },
        peers = { p.neper("tcp_rr", flows, threads, size) }, rate = 1.05, cpu = 1.0 }
    end
  end
end
row { "UDP_RR 1 B, 100 flows, 2 threads", path = "veth", spec = { test = "udp_rr", flows = 100, threads = 2 },
  peers = { p.neper("udp_rr", 100, 2) }, rate = 1.05, cpu = 1.0 }
for _, flows in ipairs { 100, 1000 } do
  row { ("TCP_CRR, %d flows, 2 threads"):format(flows), path = "veth",
    spec = { test = "tcp_crr", flows = flows, threads = 2 }, peers = { p.neper("tcp_crr", flows, 2) }, rate = 1.05,
    cpu = 1.0 }
end
for _, flows in ipairs { 4, 16 } do
  row { ("TCP_STREAM, %d flows"):format(flows), path = "veth", spec = { test = "tcp_stream", flows = flows },
    peers = { p.newer_iperf3(("-l 1M -P %d"):format(flows)) }, rate = 1.1, cpu = 0.9 }
end
row { "UDP_STREAM 1400 B, GSO, against --gsro", path = "veth", spec = { test = "udp_stream", size = 1400, gso = true },
  peers = { p.newer_iperf3 "-u -b 0 -l 1400 -w 2M --gsro" }, rate = 1.1, cpu = 0.8 }
-- an open loop at half of what the closed one reaches; neper has no open loop
row { "TCP_RR 1 B, 100 flows, 2 threads, open loop at half the rate: 1/p99", path = "veth", half = true, p99 = true,
  spec = { test = "tcp_rr", flows = 100, threads = 2 }, peers = { p.neper("tcp_rr", 100, 2, 1, true) }, rate = 1.0,
  cpu = 1.0 }
for _, connections in ipairs { 100, 1000 } do
  row { ("HTTP server of the agent, 45 B, %d connections"):format(connections), path = "veth", processes = true,
    spec = { test = "http", body = 45, flows = connections }, peers = { p.nginx(connections) }, rate = 0.95, cpu = 1.0 }
end
for _, connections in ipairs { 100, 1000, 10000 } do
  row { ("HTTP, %d keep-alive connections"):format(connections), path = "lo",
    spec = { test = "http", external = true, path = "/f", flows = connections, threads = 1 },
    peers = { p.wrk(1, connections), p.h2load(connections) }, rate = 1.02, cpu = 0.95, port = 28080, server = "nginx" }
end

for _, v in ipairs { { 28082, 10, 10 }, { 28082, 100, 1 }, { 28443, 10, 10 } } do
  local port, connections, streams = (table.unpack or unpack)(v)
  local tls = port == 28443
  row { ("HTTP/2%s, %d connections of %d streams"):format(tls and " with TLS" or "", connections, streams), path = "lo",
    spec = { test = "http", external = true, path = "/f", flows = connections, streams = streams, http2 = true,
      tls = tls, verify = not tls, threads = 1 },
    peers = { p.h2load_streams(port, connections, streams) }, rate = 1.00, cpu = 1.00, port = port, server = "nginx" }
end

-- one socket, 100 queries outstanding, names that the server has by itself
for _, path in ipairs { "lo", "veth" } do
  row { "DNS over UDP, 100 outstanding", path = path,
    spec = { test = "dns", names = "host-{1..100}.bench.test", burst = 100 }, peers = { p.dnsperf }, rate = 1.05,
    cpu = 0.95, port = 5311, server = "unbound" }
end
-- the second row separates the cost of two CPUs from the cost of knbl
for ends = 1, 2 do
  row { "TCP_RR 1 B, auto, over two CPUs", pin = { 0, 1 }, path = "lo", spec = { test = "tcp_rr", wait = "auto" },
    peers = { p.bare_loop(ends) }, rate = ends == 2 and 0.97 or 0.9, mode = true }
end
return rows
