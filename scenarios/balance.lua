-- Does a Service spread its connections evenly over its pods, and is one of them slower?
-- (kubernetes#37932, #126378, enhancements#4931)
local knbl = require "knbl"
local opt = knbl.options {
  backends = { 4, "pods behind the Service, on two nodes in turn" },
  connections = { 2000, "new connections" },
  kept = { 200, "connections that stay" },
  duration = { "1s", "time for the connections that stay" },
}

local cluster <close> = knbl.cluster()
local client, backends = cluster:pod { name = "client", node = 1 }, {}
for i = 1, opt.backends do backends[i] = cluster:pod { name = "backend-" .. i, node = (i - 1) % 2 + 1 } end
local service = cluster:service { name = "balanced", endpoints = backends }

local new = knbl.tcp_crr { case = "new connections", from = client, to = service, count = opt.connections, flows = 4 }
local kept = knbl.tcp_rr { case = "kept connections", from = client, to = service, flows = opt.kept,
  duration = opt.duration }

for _, result in ipairs { new, kept } do
  for _, pod in ipairs(backends) do
    local one, case, name = (result.metrics and result.metrics.backends or {})[pod.name] or {}, result.case, pod.name
    local function show(figure, value, unit)
      knbl.metric { name = figure, case = case, value = value, unit = unit,
        labels = { backend = name, node = one.node or "?", zone = one.zone or "-", figure = figure } }
    end
    show("share", 100 * (one.share or 0), "%")
    if one.connections then show("connections", one.connections) end
    if one.p99 then show("p99", one.p99 / 1e6, "ms") end
  end
end

knbl.report { rows = { "case" }, columns = { { "per second", "rate" }, { "p50", "p50" }, { "p99", "p99" } } }
knbl.report { title = "each backend", rows = { "case", "backend", "node", "zone" }, columns = {
  { "share", "value", where = { figure = "share" } }, { "connections", "value", where = { figure = "connections" } },
  { "p99", "value", where = { figure = "p99" } } } }
