-- knbl.format.openmetrics - the figures as OpenMetrics text, for a textfile collector or a push gateway. Base units: seconds, bits, bytes, ratios.
local figures = require "knbl.figures"
local text = require "knbl.text"

local M = {}

local families = {
  { "throughput_bits_per_second", "throughput", 1, "Payload bits per second at the receiver." },
  { "rate_per_second", "rate", 1, "Operations per second." },
  { "loss_ratio", "loss", 1, "Datagrams lost on the path." },
  { "jitter_seconds", "jitter", 1e-9, "Jitter as RFC 3550 defines it." },
  { "errors", "errors", 1, "Operations that failed." },
  { "timeouts", "timeouts", 1, "Operations that were not answered in time." },
  { "retransmits", "retransmits", 1, "Segments that TCP sent again." },
  { "client_cpu_cores", "cpu_client", 1, "CPUs used by the client." },
  { "server_cpu_cores", "cpu_server", 1, "CPUs used by the server." },
}
local quantiles = { { "0.5", "p50" }, { "0.9", "p90" }, { "0.99", "p99" }, { "0.999", "p999" } }

local function escape(s)
  return (text.valid(tostring(s)):gsub("[%z\1-\9\11-\31\127]", " "):gsub("\\", "\\\\"):gsub('"', '\\"'):gsub("\n", "\\n"))
end

local function labels_of(m, index, more)
  local list = { ('test="%s"'):format(escape(m.test)), ('case="%s"'):format(escape(m.case)), ('from="%s"'):format(escape(m.from)),
    ('to="%s"'):format(escape(m.to)), ('via="%s"'):format(escape(m.via or "")), ('measurement="%d"'):format(index) }
  if more then list[#list + 1] = more end
  return "{" .. table.concat(list, ",") .. "}"
end

local function number(x) return ("%.17g"):format(x) end

local function family(out, data, row)
  local name, figure, begun = "knbl_" .. row[1], figures.get(row[2]), false
  for i, m in ipairs(data.measurements) do
    local value = m.ok and figures.value(m, figure)
    if value then
      if not begun then
        out[#out + 1] = ("# TYPE %s gauge\n# HELP %s %s"):format(name, name, row[4])
        begun = true
      end
      out[#out + 1] = ("%s%s %s"):format(name, labels_of(m, i), number(value * row[3]))
    end
  end
end

local function latencies(out, data)
  local begun = false
  for i, m in ipairs(data.measurements) do
    local l = m.ok and m.metrics and m.metrics.latency_ns
    if l and l.count then
      if not begun then
        out[#out + 1] = "# TYPE knbl_latency_seconds summary\n# UNIT knbl_latency_seconds seconds\n# HELP knbl_latency_seconds Time of an operation."
        begun = true
      end
      for _, q in ipairs(quantiles) do
        if l[q[2]] then
          out[#out + 1] = ("knbl_latency_seconds%s %s"):format(labels_of(m, i, ('quantile="%s"'):format(q[1])), number(l[q[2]] / 1e9))
        end
      end
      out[#out + 1] = ("knbl_latency_seconds_count%s %.0f"):format(labels_of(m, i), l.count)
      if l.mean then out[#out + 1] = ("knbl_latency_seconds_sum%s %s"):format(labels_of(m, i), number(l.mean * l.count / 1e9)) end
    end
  end
end

function M.render(data)
  local out = {}
  for _, row in ipairs(families) do family(out, data, row) end
  latencies(out, data)
  local held = 0
  for _, e in ipairs(data.expectations or {}) do held = held + (e.status == "pass" and 1 or 0) end
  out[#out + 1] = "# TYPE knbl_expectations gauge\n# HELP knbl_expectations Expectations, and how many of them held."
  out[#out + 1] = ('knbl_expectations{held="true"} %d'):format(held)
  out[#out + 1] = ('knbl_expectations{held="false"} %d'):format(#(data.expectations or {}) - held)
  local states = { measured = 0, skipped = 0, failed = 0 }
  for _, m in ipairs(data.measurements) do
    local state = m.skipped and "skipped" or m.ok and "measured" or "failed"
    states[state] = states[state] + 1
  end
  out[#out + 1] = "# TYPE knbl_measurements gauge\n# HELP knbl_measurements Measurements, by what became of them."
  for _, state in ipairs { "measured", "skipped", "failed" } do out[#out + 1] = ('knbl_measurements{state="%s"} %d'):format(state, states[state]) end
  local exit = tonumber((data.verdict or {}).exit)
  if exit then out[#out + 1] = ("# TYPE knbl_exit_code gauge\n# HELP knbl_exit_code The verdict: 0 where all held.\nknbl_exit_code %.0f"):format(exit) end
  out[#out + 1] = "# EOF"
  return table.concat(out, "\n") .. "\n"
end

return M
