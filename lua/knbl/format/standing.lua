-- knbl.format.standing - what `knbl watch` serves at /metrics: OpenMetrics text. Base units: seconds, bits, bytes,
-- ratios. Every family has its type and its help, and no series is there twice.
local openmetrics = require "knbl.format.openmetrics"
local standing = require "knbl.results.standing"
local tests = require "knbl.base.tests"

local M = {}

local escape, number = openmetrics.escape, openmetrics.number

local function labels(list)
  local parts = {}
  for i = 1, #list, 2 do
    if list[i + 1] ~= nil then parts[#parts + 1] = ('%s="%s"'):format(list[i], escape(list[i + 1])) end
  end
  return table.concat(parts, ",")
end

-- The labels of each series, in their order.
local function identities(state)
  local list, seen = {}, {}
  for i, s in ipairs(state.series) do
    local metric = s.metric or {}
    local parts = { labels { "scenario", state.scenario or "", "test", s.test, "case", s.case, "from", s.from, "to",
      s.to, "via", s.via or "", "size", s.size and ("%.0f"):format(s.size), "metric", metric.name, "unit",
      metric.unit } }
    openmetrics.own_labels(s, parts)
    local text = table.concat(parts, ",")
    seen[text] = (seen[text] or 0) + 1
    list[i] = seen[text] == 1 and text or ('%s,again="%d"'):format(text, seen[text])
  end
  return list
end

local Family = {}
Family.__index = Family

-- A family's head is written with its first sample, so that none is empty.
local function family(out, name, kind, unit, help)
  return setmetatable({ out = out, name = name, kind = kind, unit = unit, help = help }, Family)
end

function Family:add(of, value, suffix)
  local out = self.out
  if not self.begun then
    out[#out + 1] = ("# TYPE %s %s"):format(self.name, self.kind)
    if self.unit then out[#out + 1] = ("# UNIT %s %s"):format(self.name, self.unit) end
    out[#out + 1] = ("# HELP %s %s"):format(self.name, self.help)
    self.begun = true
  end
  out[#out + 1] = ("%s%s%s %s"):format(self.name, suffix or "", of ~= "" and "{" .. of .. "}" or "", number(value))
end

-- name, unit, figure, factor, help
local gauges = {
  { "knbl_throughput_bits_per_second", nil, "throughput", 1, "Payload bits per second at the receiver, last run." },
  { "knbl_rate_per_second", nil, "rate", 1, "Operations per second, last run." },
  { "knbl_loss_ratio", "ratio", "loss", 1, "Datagrams lost on the path, last run." },
  { "knbl_jitter_seconds", "seconds", "jitter", 1e-9, "Jitter as RFC 3550 defines it, last run." },
  { "knbl_retransmits", nil, "retransmits", 1, "Segments that TCP sent again, last run." },
  { "knbl_connect_seconds", "seconds", "connect", 1e-9, "Mean time of a connection's setup, last run." },
  { "knbl_outage_seconds", "seconds", "outage_total", 1, "Time without an answer, last run." },
  { "knbl_outage_longest_seconds", "seconds", "outage_longest", 1, "The longest outage, last run." },
  { "knbl_mtu_bytes", "bytes", "mtu", 1, "Path MTU, last run." },
  { "knbl_metric", nil, "value", 1, "A figure of the scenario's own, in its own unit, last run." },
  { "knbl_client_cpu_cores", "cores", "cpu_client", 1, "CPUs used by the client, last run." },
  { "knbl_server_cpu_cores", "cores", "cpu_server", 1, "CPUs used by the server, last run." },
}
local quantiles = { { "0.5", "p50" }, { "0.9", "p90" }, { "0.99", "p99" }, { "0.999", "p999" }, { "1", "max" } }
local counters = {
  { "knbl_operations", "operations", "Operations since the watch began." },
  { "knbl_errors", "errors", "Operations that failed since the watch began." },
  { "knbl_timeouts", "timeouts", "Operations that were not answered in time since the watch began." },
  { "knbl_measurement_failures", "failures", "Runs in which this measurement failed, since the watch began." },
}

-- Calls back with each series that the last run measured, and its labels.
local function each(state, ids, call)
  for i, s in ipairs(state.series) do
    if s.seen == state.n then call(s, ids[i]) end
  end
end

local function last_figures(out, state, ids)
  for _, row in ipairs(gauges) do
    local of = family(out, row[1], "gauge", row[2], row[5])
    each(state, ids, function(s, id)
      local value = s.ok and s.figures[row[3]]
      if value then of:add(id, value * row[4]) end
    end)
  end
  local latency = family(out, "knbl_latency_quantile_seconds", "gauge", "seconds", "Time of an operation, last run.")
  each(state, ids, function(s, id)
    for _, q in ipairs(quantiles) do
      local value = s.ok and s.figures[q[2]]
      if value then latency:add(('%s,quantile="%s"'):format(id, q[1]), value / 1e9) end
    end
  end)
end

local function outcomes(out, state, ids)
  local ok = family(out, "knbl_measurement_ok", "gauge", nil,
    "1 if the measurement succeeded in the last run, 0 if it failed; absent if it was skipped.")
  each(state, ids, function(s, id)
    if not s.skipped then ok:add(id, s.ok and 1 or 0) end
  end)
  local why = family(out, "knbl_measurement_failed", "gauge", nil,
    "1 for what failed in the last run, with the code of its error.")
  each(state, ids, function(s, id)
    if s.ok == false then why:add(id .. "," .. labels { "code", s.code }, 1) end
  end)
  -- a stream has no operations, and a metric nothing to count: that is no 0
  local function counts(s, what)
    return s.totals[what] > 0 or not s.metric and (what ~= "operations" or tests.of(s.test).shape ~= "bulk")
  end
  for _, row in ipairs(counters) do
    local of = family(out, row[1], "counter", nil, row[3])
    for i, s in ipairs(state.series) do
      if counts(s, row[2]) then of:add(ids[i], s.totals[row[2]], "_total") end
    end
  end
end

local function histograms(out, state, ids)
  local of = family(out, "knbl_operation_duration_seconds", "histogram", "seconds",
    "Time of an operation, since the watch began.")
  for i, s in ipairs(state.series) do
    local kept = s.histogram
    for _, bucket in ipairs(kept and standing.buckets(kept) or {}) do
      of:add(('%s,le="%s"'):format(ids[i], number(bucket[1])), bucket[2], "_bucket")
    end
    if kept then
      of:add(ids[i] .. ',le="+Inf"', kept.count, "_bucket")
      of:add(ids[i], kept.sum / 1e9, "_sum")
      of:add(ids[i], kept.count, "_count")
    end
  end
end

local function verdicts(out, state)
  local scenario = labels { "scenario", state.scenario or "" }
  local held = family(out, "knbl_expectation_held", "gauge", nil,
    "1 if the expectation held in the last run, 0 if it failed; absent if it could not be told.")
  local seen = {}
  for _, e in ipairs(state.expectations) do
    local id = scenario .. "," .. labels { "test", e.test, "case", e.case, "expectation", e.expression }
    if e.status ~= "inconclusive" and not seen[id] then
      seen[id] = true
      held:add(id, e.status == "held" and 1 or 0)
    end
  end
  local counts = family(out, "knbl_expectations", "gauge", nil, "Expectations of the last run, by what became of them.")
  for _, word in ipairs { "held", "failed", "inconclusive" } do
    if state.verdicts then counts:add(labels { "state", word }, state.verdicts[word]) end
  end
  local all = family(out, "knbl_measurements", "gauge", nil, "Measurements of the last run, by what became of them.")
  for _, word in ipairs { "measured", "failed", "skipped" } do
    if state.counts then all:add(labels { "state", word }, state.counts[word]) end
  end
end

-- What a state has, without the end of the text.
function M.metrics(state)
  local out, ids = {}, identities(state)
  last_figures(out, state, ids)
  outcomes(out, state, ids)
  histograms(out, state, ids)
  verdicts(out, state)
  local runs = family(out, "knbl_watch_runs", "counter", nil, "Runs that ended, by their outcome.")
  for _, word in ipairs(standing.outcomes) do
    runs:add(labels { "outcome", word }, state.outcomes[word] or 0, "_total")
  end
  local function single(name, unit, value, help)
    if value then family(out, name, "gauge", unit, help):add("", value) end
  end
  local last = state.last or {}
  single("knbl_exit_code", nil, last.exit, "The exit code of the last run: 0 if all expectations held.")
  single("knbl_watch_last_run_timestamp_seconds", "seconds", last.ended, "When the last run ended.")
  single("knbl_watch_last_run_duration_seconds", "seconds", last.seconds, "How long the last run took.")
  single("knbl_watch_last_pass_timestamp_seconds", "seconds", state.passed, "When a run last ended with 0.")
  single("knbl_watch_dropped_measurements", nil, state.dropped,
    "Measurements of the last run that are not exported, because a scenario may have too many.")
  return #out > 0 and table.concat(out, "\n") .. "\n" or ""
end

-- What the program knows of itself: { version, running, next_run, write_errors, ledgers?, late_starts }.
function M.own(facts)
  local out = {}
  family(out, "knbl_build", "info", nil, "The version of knbl."):add(labels { "version", facts.version }, 1, "_info")
  family(out, "knbl_watch_running", "gauge", nil, "1 while a run goes on."):add("", facts.running and 1 or 0)
  family(out, "knbl_watch_interval_seconds", "gauge", "seconds", "The time between the starts of runs (--every).")
    :add("", facts.every)
  if facts.next_run then
    family(out, "knbl_watch_next_run_timestamp_seconds", "gauge", "seconds", "When the next run starts."):add("",
      facts.next_run)
  end
  family(out, "knbl_watch_late_starts", "counter", nil, "Runs that began late, because the one before took too long.")
    :add("", facts.late_starts, "_total")
  family(out, "knbl_watch_write_errors", "counter", nil, "Files of --dir that could not be written."):add("",
    facts.write_errors, "_total")
  if facts.ledgers then
    family(out, "knbl_watch_ledgers", "gauge", nil, "Ledgers kept in --dir."):add("", facts.ledgers)
  end
  return table.concat(out, "\n") .. "\n"
end

return M
