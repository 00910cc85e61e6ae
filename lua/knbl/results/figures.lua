-- knbl.results.figures - what the figures of a measurement are called, where they are, and how they are shown.
--
-- One table: the short names that scripts use (in `show`, in `expect`), the path in `metrics`, the unit, which way is
-- better.
local doubt = require "knbl.results.doubt"
local json = require "knbl.json"
local native = require "knbl.native"
local tests = require "knbl.base.tests"

local M = {}

local list = {
  -- name, path in metrics, unit, better, title
  { "throughput", "throughput_bps", "bits", "more", "throughput" },
  { "rate", "rate_per_s", "rate", "more", "rate" },
  { "mean", "latency_ns.mean", "time", "less", "mean" },
  { "latency", "latency_ns.mean", "time", "less", "latency" },
  { "min", "latency_ns.min", "time", "less", "min" },
  { "max", "latency_ns.max", "time", "less", "max" },
  { "stddev", "latency_ns.stddev", "time", "less", "stddev" },
  { "p50", "latency_ns.p50", "time", "less", "p50" },
  { "p90", "latency_ns.p90", "time", "less", "p90" },
  { "p95", "latency_ns.p95", "time", "less", "p95" },
  { "p99", "latency_ns.p99", "time", "less", "p99" },
  { "p999", "latency_ns.p999", "time", "less", "p99.9" },
  { "p9999", "latency_ns.p9999", "time", "less", "p99.99" },
  { "ops", "ops", "count", nil, "operations" },
  { "loss", "loss_ratio", "ratio", "less", "loss" },
  { "jitter", "jitter_ns", "time", "less", "jitter" },
  { "sent", "sent", "count", nil, "sent" },
  { "received", "received", "count", nil, "received" },
  { "reordered", "reordered", "count", "less", "reordered" },
  { "duplicated", "duplicated", "count", "less", "duplicated" },
  { "errors", { "errors", "connect_errors" }, "count", "less", "errors" },
  { "timeouts", "timeouts", "count", "less", "timeouts" },
  { "retransmits", "retransmits", "count", "less", "retransmits" },
  { "flow_min", "fairness.flow_min", "count", "more", "fewest of a flow" },
  { "flow_max", "fairness.flow_max", "count", nil, "most of a flow" },
  { "jain", "fairness.jain", "ratio", "more", "Jain" },
  { "mtu", "forward.mtu_path", "count", "more", "MTU" },
  { "black_hole", { "forward.black_hole", "backward.black_hole" }, "count", "less", "black holes" },
  { "mtu_back", "backward.mtu_path", "count", "more", "MTU back" },
  { "mss", "mss_effective", "count", nil, "MSS" },
  { "cpu", { "cpu.client_process", "cpu.server_process" }, "cores", "less", "CPU" },
  { "cpu_client", "cpu.client_process", "cores", "less", "CPU client" },
  { "cpu_server", "cpu.server_process", "cores", "less", "CPU server" },
  { "cpu_client_node", "cpu.client_node", "cores", "less", "CPU client node" },
  { "cpu_server_node", "cpu.server_node", "cores", "less", "CPU server node" },
  { "cpu_client_others", "cpu.client_others", "cores", "less", "CPU of others, client node" },
  { "cpu_server_others", "cpu.server_others", "cores", "less", "CPU of others, server node" },
  { "cpu_client_sandbox", "cpu.client_sandbox", "cores", "less", "CPU client, by its host" },
  { "cpu_server_sandbox", "cpu.server_sandbox", "cores", "less", "CPU server, by its host" },
  { "cpu_per_op", "cpu_ns_per_op", "time", "less", "CPU/op" },
  { "cpu_send_per_gb", "cpu_s_per_gb.send", "seconds", "less", "CPU/GB send" },
  { "cpu_recv_per_gb", "cpu_s_per_gb.recv", "seconds", "less", "CPU/GB recv" },
  { "memory", { "memory.client_process", "memory.server_process" }, "bytes", "less", "memory" },
  { "memory_client", "memory.client_process", "bytes", "less", "memory client" },
  { "memory_server", "memory.server_process", "bytes", "less", "memory server" },
  { "memory_client_sandbox", "memory.client_sandbox", "bytes", "less", "memory client, by its host" },
  { "memory_server_sandbox", "memory.server_sandbox", "bytes", "less", "memory server, by its host" },
  { "pod_memory", "path.to.memory_bytes", "bytes", "less", "memory of the pod" },
  { "pod_start", "path.to.started_ms", "milliseconds", "less", "start of the pod" },
  { "connect", "connect_ns.mean", "time", "less", "connect" },
  { "connect_p99", "connect_ns.p99", "time", "less", "connect p99" },
  { "first_byte", "first_byte_ns.mean", "time", "less", "first byte" },
  { "handshake", "handshake_ns.mean", "time", "less", "TLS handshake" },
  { "transfer", "transfer_bps", "bits", "more", "transfer" },
  { "target_asked", "target.asked", "ratio", nil, "asked" },
  { "target_share", "target.share", "ratio", nil, "share" },
  { "target_failed", "target.failed", "count", "less", "failed" },
  { "share", "ceiling", "ratio", "more", "of ceiling" },
  { "value", "value", "free", nil, "value" },
  { "effect", "effect", "ratio", nil, "effect" },
  { "packet", "monitor.interfaces", "count", nil, "bytes/packet" },
  { "duration", "duration_s", "seconds", nil, "duration" },
  { "outage_total", "outage_total", "seconds", "less", "outage" },
  { "outage_longest", "outage_longest", "seconds", "less", "longest" },
  { "outage_count", "outage_count", "count", "less", "outages" },
  { "blind", "blind", "seconds", "less", "blind" },
  { "attempts", "attempts", "count", nil, "attempts" },
  { "refused", "refused", "count", "less", "refused" },
  { "resets", "resets", "count", "less", "resets" },
  { "reconnects", "reconnects", "count", "less", "reconnects" },
  { "ready_first", "ready.first", "seconds", "less", "first after" },
  { "ready_last", "ready.last", "seconds", "less", "all after" },
  { "ready_change", "ready.change", "seconds", "less", "change" },
}

local by_name, names = {}, {}
for i, row in ipairs(list) do
  local figure = { name = row[1], path = row[2], unit = row[3], better = row[4], title = row[5] }
  list[i] = figure
  by_name[figure.name], names[i] = figure, figure.name
end
M.list, M.names = list, names

local function is_ratio(path)
  return path:find "_ratio$" or path:find "^zones%." or path:find "^targets%..*%.share$" or path:find "%.asked$"
    or path:find "^backends%..*%.share$"
end

-- The figure of a short name, or of a full path below metrics ("latency_ns.p99", "http.status_5xx").
function M.get(name)
  if by_name[name] then return by_name[name] end
  for _, figure in ipairs(list) do
    if figure.path == name then return figure end
  end
  local percent = name:match("^p(%d%d)$")
  if percent then
    return { name = name, percent = tonumber(percent), unit = "time", better = "less", title = name,
      path = "latency_ns." .. name }
  end
  if name:match "^p%d" then return nil end -- "p98.5" is no path
  if name:match "^after_mark%.[^.]+%.%a+_%a+$" then
    return { name = name, path = name, unit = "seconds", better = "less", title = name, free = true }
  end
  local of_one = name:match "^targets%.[%w_-]+%.([%w_]+)$" or name:match "^backends%.[%w_-]+%.([%w_]+)$"
  if of_one == "p50" or of_one == "p99" then
    return { name = name, path = name, unit = "time", better = "less", title = name, free = true }
  end
  if of_one or name:find("[._]") and name:match("^[%w_.]+$") then
    local unit = name:match("_ns%f[%A]") and "time" or name:match("_bps$") and "bits" or name:match("_per_s$")
      and "rate"
      or name:match("_s$") and "seconds" or name:match("_bytes$") and "bytes" or is_ratio(name) and "ratio"
        or name:match("^cpu%.") and "cores" or "free"
    return { name = name, path = name, unit = unit, title = name, free = true }
  end
end

-- A path below `metrics`; what a pod is was not measured, and lies beside them.
local function at(measurement, path)
  local value = path:match "^path%." and measurement or measurement.metrics
  for key in path:gmatch("[^.]+") do
    if type(value) ~= "table" then return nil end
    value = value[key]
  end
  if type(value) == "boolean" then return value and 1 or 0 end
  if type(value) == "number" and json.is_finite(value) then return value end
end

local function sum(list)
  local total = 0
  for _, value in ipairs(type(list) == "table" and list or {}) do total = total + (tonumber(value) or 0) end
  return total
end

-- How many bytes a packet had on the client's busiest interface. A device that takes large packets whole (GSO) counts
-- one packet for many segments.
local function packet_size(measurement)
  local most, size = 0, nil
  for _, watched in ipairs(measurement.monitor or {}) do
    for _, interface in pairs(watched.side == "client" and watched.interfaces or {}) do
      for _, way in ipairs { "tx", "rx" } do
        local bytes = sum(interface[way .. "_bytes_per_s"])
        local packets = sum(interface[way .. "_packets_per_s"])
        if bytes > most and packets > 0 then most, size = bytes, bytes / packets end
      end
    end
  end
  return size
end

-- The value of a figure in a measurement, or nil where it was not measured. A figure of several paths is their sum.
function M.value(measurement, figure)
  local metrics = measurement.metrics
  if not metrics then return nil end
  if figure.name == "share" then
    local reached = measurement.ceiling and M.value(measurement, M.headline(measurement.test))
    if not reached or reached == 0 or measurement.ceiling == 0 then return nil end
    local less = M.headline(measurement.test).better == "less"
    return less and measurement.ceiling / reached or reached / measurement.ceiling
  end
  if figure.name == "packet" then return packet_size(measurement) end
  if figure.percent and not at(measurement, figure.path) then
    local histogram = measurement.latency_histogram
    local list = type(histogram) == "table" and native.hist_percentile(json.encode(histogram), { figure.percent })
    return list and list[1] or nil
  end
  if type(figure.path) == "string" then return at(measurement, figure.path) end
  local total
  for _, path in ipairs(figure.path) do
    local value = at(measurement, path)
    if value then total = (total or 0) + value end
  end
  return total
end

-- The figure that stands for a test where only one does.
function M.headline(test)
  return by_name[tests.of(test).headline]
end

local function significant(x)
  local a = math.abs(x)
  if a == 0 then return "0" end
  if a >= 100 then return ("%.0f"):format(x) end
  if a >= 10 then return ("%.1f"):format(x) end
  if a >= 0.1 then return ("%.2f"):format(x) end
  return ("%.3g"):format(x)
end
M.significant = significant

local function scaled(x, unit)
  local steps = { { 1e9, "G" }, { 1e6, "M" }, { 1e3, "k" } }
  for _, step in ipairs(steps) do
    if x >= step[1] * 0.9995 then return ("%s %s%s"):format(significant(x / step[1]), step[2], unit) end
  end
  return ("%s %s"):format(significant(x), unit)
end

local format = {
  time = function(core, x, ascii) return core.format_duration(x, ascii) end,
  seconds = function(core, x, ascii) return x == 0 and "0 s" or core.format_duration(x * 1e9, ascii) end,
  milliseconds = function(core, x, ascii) return x == 0 and "0 s" or core.format_duration(x * 1e6, ascii) end,
  bits = function(core, x) return core.format_bits(x) end,
  rate = function(core, x) return core.format_rate(x) end,
  bytes = function(core, x) return core.format_size(x) end,
  ratio = function(_, x) return x == 0 and "0 %" or significant(x * 100) .. " %" end,
  cores = function(_, x) return ("%.2f"):format(x) end,
  count = function(_, x) return ("%.0f"):format(x) end,
}

-- Of streams these count bytes, of other tests operations.
local moved = { flow_min = true, flow_max = true }

-- The figure that a name stands for in a measurement: of a metric with its own title, unit and direction.
function M.of(m, name)
  local figure = M.get(name)
  if figure and moved[name] and m and tests.of(m.test).shape == "bulk" then
    return { name = name, path = figure.path, unit = "bytes", title = figure.title, better = figure.better }
  end
  if not figure or figure.name ~= "value" or not m or not m.metric then return figure end
  return { name = "value", path = "value", unit = "free", title = m.metric.name, suffix = m.metric.unit,
    better = m.metric.better }
end

-- Units that a report may ask for in place of a figure's own: of which kind, and how much of its base one is.
local asked = {
  { "B/s", "bits", 8 }, { "bit/s", "bits", 1 }, { "Mbit/s", "bits", 1e6 }, { "Gbit/s", "bits", 1e9 },
  { "ms", "time", 1e6 }, { "us", "time", 1e3 }, { "ns", "time", 1 },
}
local kinds = { bits = "bits", time = "time", seconds = "time", milliseconds = "time" }
local in_ns = { seconds = 1e9, milliseconds = 1e6 }
local by_unit = {}
for _, row in ipairs(asked) do by_unit[row[1]] = { kind = row[2], base = row[3] } end

-- A figure's value in a unit that was asked for.
function M.in_unit(figure, value, unit)
  if not by_unit[unit] then return value end
  return value * (in_ns[figure.unit] or 1) / by_unit[unit].base
end

-- A figure's value as people read it; `unit` overrides the figure's own.
function M.show(core, figure, value, ascii, unit)
  if value == nil then return "" end
  if figure.unit == "free" then
    local suffix, whole = unit or figure.suffix, value == math.floor(value) and math.abs(value) < 1e9
    return (whole and ("%.0f"):format(value) or significant(value)) .. (suffix and " " .. suffix or "")
  end
  if not by_unit[unit] then return (format[figure.unit] or format.count)(core, value, ascii) end
  value = M.in_unit(figure, value, unit)
  if unit == "B/s" then return scaled(value, unit) end
  return ("%s %s"):format(significant(value), unit == "us" and not ascii and "µs" or unit)
end

function M.has_unit(unit) return by_unit[unit] ~= nil end

-- The units that a figure can be asked for in, or, without one, all there are.
function M.units_of(figure)
  local names = {}
  for _, row in ipairs(asked) do
    if not figure or kinds[figure.unit] == row[2] then names[#names + 1] = row[1] end
  end
  return names
end

function M.fits(figure, unit) return by_unit[unit] ~= nil and by_unit[unit].kind == kinds[figure.unit] end

-- What puts a whole measurement in doubt, whatever is shown of it; the rest concerns rates, times and losses.
local whole = { throttled = true, wrong_backend = true, several_backends = true, stopped = true, clock_jump = true,
  paused = true, other_work = true }
local doubtful_units = { bits = true, rate = true, time = true, ratio = true }

-- How many samples a percentile needs to be judged: ten beyond it.
function M.samples_for(figure)
  local digits = figure.name:match "^p(%d+)$" or figure.name:match "_p(%d+)$"
  if not digits then return nil end
  local share = tonumber("0." .. digits)
  return math.ceil(10 / (1 - share) - 1e-6), share
end

-- How many operations several measurements had latencies of.
function M.samples_of(list)
  local count
  for _, m in ipairs(list) do
    local latency = (m.metrics or {}).latency_ns
    local n = m.ok and type(latency) == "table" and tonumber(latency.count)
    if n then count = (count or 0) + n end
  end
  return count
end

-- Whether a flag has to do with a figure at all: few samples spoil percentiles, not means.
function M.concerns(flag, figure)
  if flag == "too_few_samples" then return figure.name:match("^p%d") ~= nil or figure.name:match("_p%d") ~= nil end
  if flag == "no_change" then return figure.name == "ready_first" or figure.name == "ready_last" end
  if figure.name == "mss" then return flag == "mss_differs" end
  return whole[flag] or doubtful_units[figure.unit] or false
end

function M.explain(flag)
  return doubt.meaning[flag] or (flag:gsub("_", " "))
end

return M
