-- Which node, rack, zone or pair of nodes is slow, or loses packets? Measures a mesh and says who stands out.
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "1s", "time for each pair and test" },
  plan = { "auto", "all (every pair), sample (random partners), levels (racks and zones, and random partners)" },
  time = { "", "maximum time for the mesh, such as 5m" },
  bandwidth = { "", "maximum load: a share of the nodes' links, such as 20%, or a rate, such as 40Gbit/s" },
  pmtu = { false, "also measure the path MTU of each pair, and name black holes" },
  loss = { false, "also measure loss, with 10 Mbit/s of UDP for each pair" },
  factor = { 0, "also note pairs whose latency is at least this many times the median pair's, such as 1.5" },
  slowest = { 3, "how many of those pairs to note" },
}

local cluster <close> = knbl.cluster()
local wanted = {}
for i, node in ipairs { cluster:nodes() } do wanted[i] = { name = "mesh-" .. i, node = node } end
local pods = cluster:pods(wanted)
local tests = { "tcp_lat", "tcp_stream" }
if opt.loss then tests[#tests + 1] = "udp_stream" end
if opt.pmtu then tests[#tests + 1] = "pmtu" end
local function given(text) return text ~= "" and text or nil end

local mesh = knbl.mesh { nodes = pods, duration = opt.duration, tests = tests,
  plan = opt.plan ~= "auto" and opt.plan or nil,
  budget = { time = given(opt.time), bandwidth = given(opt.bandwidth) } }

local seen = {}
for _, pair in ipairs(opt.factor > 0 and mesh.pairs or {}) do
  if pair.test == "tcp_lat" and pair.ok then seen[#seen + 1] = pair end
end
table.sort(seen, function(a, b) return a.metrics.latency_ns.p50 > b.metrics.latency_ns.p50 end)
local middle = seen[1] and seen[math.ceil(#seen / 2)].metrics.latency_ns.p50
for i = 1, math.min(opt.slowest, #seen) do
  local p50, pair = seen[i].metrics.latency_ns.p50, seen[i].from .. " > " .. seen[i].to
  if p50 >= opt.factor * middle then
    local text = "slow pair %d: %s, half a round trip of %.1f us at the median, %.2f times that of the middle pair"
    knbl.note(text:format(i, pair, p50 / 1000, p50 / middle))
  end
end
local function matrix(title, test, show)
  knbl.report { title = title, rows = { "from" }, columns = "to", show = { { show, test = test } } }
end
if #pods <= 8 then
  matrix("Half a round trip, median", "tcp_lat", "p50")
  matrix("Throughput", "tcp_stream", "throughput")
  if opt.pmtu then matrix("Path MTU", "pmtu", "mtu") end
end
