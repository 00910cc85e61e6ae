-- knbl.format.openmetrics - the figures as OpenMetrics text, for a textfile collector or a push gateway. Base units:
-- seconds, bits, bytes, ratios.
local expect = require "knbl.results.expect"
local figures = require "knbl.results.figures"
local text = require "knbl.base.text"

local M = {}

local families = {
  { "throughput_bits_per_second", "throughput", 1, "Payload bits per second at the receiver." },
  { "rate_per_second", "rate", 1, "Operations per second." },
  { "loss_ratio", "loss", 1, "Datagrams lost on the path." },
  { "jitter_seconds", "jitter", 1e-9, "Jitter as RFC 3550 defines it." },
  { "errors", "errors", 1, "Operations that failed." },
  { "timeouts", "timeouts", 1, "Operations that were not answered in time." },
  { "retransmits", "retransmits", 1, "Segments that TCP sent again." },
  { "mesh_effect_ratio", "effect", 1, "Relative change of a node in a mesh." },
  { "metric", "value", 1, "A figure of the scenario's own, in its own unit." },
  { "client_cpu_cores", "cpu_client", 1, "CPUs used by the client." },
  { "server_cpu_cores", "cpu_server", 1, "CPUs used by the server." },
}
local quantiles = { { "0.5", "p50" }, { "0.9", "p90" }, { "0.99", "p99" }, { "0.999", "p999" } }

function M.escape(s)
  return (text.valid(tostring(s)):gsub("[%z\1-\9\11-\31\127]", " "):gsub("\\", "\\\\"):gsub('"', '\\"'):gsub("\n",
    "\\n"))
end
local escape = M.escape

-- The label names of a script's own labels: "label_" and what a name may have.
function M.own_labels(m, list)
  local names = {}
  for name in pairs(m.labels or {}) do names[#names + 1] = name end
  table.sort(names)
  local taken = {}
  for _, name in ipairs(names) do
    local clean = "label_" .. name:gsub("[^%w_]", "_")
    if not taken[clean] then list[#list + 1] = ('%s="%s"'):format(clean, escape(m.labels[name])) end
    taken[clean] = true
  end
end

local function identity(data, m)
  local list = { ('scenario="%s"'):format(escape(data.scenario or "")), ('test="%s"'):format(escape(m.test)),
    ('case="%s"'):format(escape(m.case)), ('from="%s"'):format(escape(m.from)), ('to="%s"'):format(escape(m.to)),
    ('via="%s"'):format(escape(m.via or "")), ('repeat="%.0f"'):format(tonumber(m.round) or 1) }
  local size = m.params and m.params.size
  if type(size) == "number" then list[#list + 1] = ('size="%.0f"'):format(size) end
  if m.metric then
    list[#list + 1] = ('metric="%s",unit="%s"'):format(escape(m.metric.name), escape(m.metric.unit or ""))
  end
  M.own_labels(m, list)
  return table.concat(list, ",")
end

-- The labels of each measurement. What nothing else tells apart has a number: no series is there twice.
local function all_labels(data)
  local labels, seen = {}, {}
  for i, m in ipairs(data.measurements) do
    local text_of = identity(data, m)
    seen[text_of] = (seen[text_of] or 0) + 1
    labels[i] = seen[text_of] == 1 and text_of or ('%s,again="%d"'):format(text_of, seen[text_of])
  end
  return labels
end

local function labels_of(labels, index, more) return "{" .. labels[index] .. (more and "," .. more or "") .. "}" end

-- The shortest text that reads back as the same number.
function M.number(x)
  local short = ("%.15g"):format(x)
  return tonumber(short) == x and short or ("%.17g"):format(x)
end
local number = M.number

local function family(out, data, row, labels)
  local name, figure, begun = "knbl_" .. row[1], figures.get(row[2]), false
  for i, m in ipairs(data.measurements) do
    local value = m.ok and figures.value(m, figure)
    if value then
      if not begun then
        out[#out + 1] = ("# TYPE %s gauge\n# HELP %s %s"):format(name, name, row[4])
        begun = true
      end
      out[#out + 1] = ("%s%s %s"):format(name, labels_of(labels, i), number(value * row[3]))
    end
  end
end

local function latencies(out, data, labels)
  local begun = false
  for i, m in ipairs(data.measurements) do
    local l = m.ok and m.metrics and m.metrics.latency_ns
    if l and l.count then
      if not begun then
        out[#out + 1] =
          "# TYPE knbl_latency_seconds summary\n# UNIT knbl_latency_seconds seconds\n# HELP knbl_latency_seconds \z
            Time of an operation."
        begun = true
      end
      for _, q in ipairs(quantiles) do
        if l[q[2]] then
          out[#out + 1] = ("knbl_latency_seconds%s %s"):format(labels_of(labels, i, ('quantile="%s"'):format(q[1])),
            number(l[q[2]] / 1e9))
        end
      end
      out[#out + 1] = ("knbl_latency_seconds_count%s %.0f"):format(labels_of(labels, i), l.count)
      if l.mean then
        out[#out + 1] = ("knbl_latency_seconds_sum%s %s"):format(labels_of(labels, i), number(l.mean * l.count / 1e9))
      end
    end
  end
end

function M.render(data)
  local out = {}
  local labels = all_labels(data)
  for _, row in ipairs(families) do family(out, data, row, labels) end
  latencies(out, data, labels)
  local held = 0
  for _, e in ipairs(data.expectations or {}) do held = held + (e.status == "pass" and 1 or 0) end
  out[#out + 1] = "# TYPE knbl_expectations gauge\n# HELP knbl_expectations Expectations, and how many of them held."
  out[#out + 1] = ('knbl_expectations{held="true"} %d'):format(held)
  out[#out + 1] = ('knbl_expectations{held="false"} %d'):format(#(data.expectations or {}) - held)
  local counts = expect.counts(data)
  out[#out + 1] = "# TYPE knbl_measurements gauge\n# HELP knbl_measurements Measurements, by what became of them."
  for _, state in ipairs { "measured", "skipped", "failed" } do
    out[#out + 1] = ('knbl_measurements{state="%s"} %d'):format(state, counts[state])
  end
  local exit = tonumber((data.verdict or {}).exit)
  if exit then
    out[#out + 1] = (
      "# TYPE knbl_exit_code gauge\n# HELP knbl_exit_code The verdict: 0 where all held.\nknbl_exit_code %.0f"):format(
      exit)
  end
  out[#out + 1] = "# EOF"
  return table.concat(out, "\n") .. "\n"
end

return M
