-- How do five paths depend on the segment size: same node and remote, by pod IP and by Service, and hairpin?
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "2s", "time for each step" },
  mss = { "96:1460:+64", "segment sizes (TCP), packet sizes (UDP)" },
}

local cluster <close> = knbl.cluster()
local node_a, node_b = cluster:nodes(2)
local worker1 = cluster:pod { name = "worker-1", node = node_a }
local worker2 = cluster:pod { name = "worker-2", node = node_a }
local worker3 = cluster:pod { name = "worker-3", node = node_b }
local vip = worker2:service()

local paths = {
  { "Same VM using Pod IP", worker1, worker2 }, { "Same VM using Virtual IP", worker1, vip },
  { "Remote VM using Pod IP", worker3, worker2 }, { "Remote VM using Virtual IP", worker3, vip },
  { "Hairpin Pod to own Virtual IP", worker2, vip },
}
for _, proto in ipairs { "TCP", "UDP", "RR" } do
  for _, path in ipairs(paths) do
    local row = proto .. ". " .. path[1]
    for c in knbl.matrix { { "row", row }, { "mss", table.unpack(opt.mss) } } do
      local t = { from = path[2], to = path[3], duration = opt.duration }
      if proto == "TCP" then t.mss = c.mss; knbl.tcp_stream(t)
      elseif proto == "UDP" then t.size = c.mss; knbl.udp_stream(t)
      else t.mss, t.request, t.response = c.mss, 1460, 1460; knbl.tcp_rr(t) end
    end
  end
end

knbl.report { rows = "row", columns = "mss", show = "throughput", unit = "Mbit/s", layout = "sweep",
  test = { "tcp_stream", "udp_stream" } }
knbl.report { rows = "row", columns = "mss", test = "tcp_rr", show = "rate", layout = "sweep" }
knbl.report { title = "Effective MSS, by requested MSS", rows = "row", columns = "mss", show = "mss",
  test = { "tcp_stream", "tcp_rr" } }
knbl.report { title = "Bytes in a packet, as the client's machine counted them", rows = "row", columns = "mss",
  show = "packet", test = "tcp_stream" }
knbl.note("veth and other devices that take large packets (GSO) carry many segments as one packet: where the bytes in "
  .. "a packet exceed the MSS, the throughput does not say what small segments cost on a wire")
