-- Which pairs of nodes are slow? Every node against every other, in rounds in which no node takes part twice.
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "1s", "time for each round of latency, and of bandwidth" },
  slowest = { 3, "how many pairs to name" },
}

local cluster <close> = knbl.cluster()
local nodes = { cluster:nodes() }
local pods = {}
for i, node in ipairs(nodes) do pods[i] = cluster:pod { name = "mesh-" .. i, node = node } end

local pairs_seen = {}
for _, round in ipairs(#pods > 1 and knbl.rounds(#pods) or {}) do
  for _, test in ipairs { "tcp_lat", "tcp_stream" } do
    local list = {}
    for i, pair in ipairs(round) do
      list[i] = { test = test, case = ("%s > %s"):format(nodes[pair[1]], nodes[pair[2]]), from = pods[pair[1]], to = pods[pair[2]], duration = opt.duration,
        labels = { from = tostring(nodes[pair[1]]), to = tostring(nodes[pair[2]]) } }
    end
    for _, r in ipairs(knbl.together(list)) do
      if test == "tcp_lat" and r.ok then pairs_seen[#pairs_seen + 1] = { r.case, r.metrics.latency_ns.p50 } end
    end
  end
end

table.sort(pairs_seen, function(a, b) return a[2] > b[2] end)
for i = 1, math.min(opt.slowest, #pairs_seen) do
  knbl.note { text = ("slow pair %d: %s, half a round trip of %.1f us at the median"):format(i, pairs_seen[i][1], pairs_seen[i][2] / 1000) }
end
knbl.report { title = "Half a round trip, median", rows = { "from" }, columns = "to", show = { { "p50", test = "tcp_lat" } } }
knbl.report { title = "Throughput", rows = { "from" }, columns = "to", show = { { "throughput", test = "tcp_stream" } } }
