-- knbl.results.standing - what `knbl watch` keeps between runs: the last figures of each measurement, its counters and
-- its latency histogram since the watch began, and a short history. All of it is bounded, whatever a scenario does.
--
-- A series is what ledger.groups tells apart: repeats are one. One that was not seen for some runs is dropped.
local expect = require "knbl.results.expect"
local figures = require "knbl.results.figures"
local json = require "knbl.json"
local ledger = require "knbl.results.ledger"
local native = require "knbl.native"
local text = require "knbl.base.text"

local M = { version = 2 }

M.most_series, M.most_history, M.forget_after = 200, 60, 5
local LABELS, LABEL, KEY, BOUNDS, EXPECTATIONS = 12, 120, 4096, 48, 200

-- How a run ended, by its exit code.
local outcomes = { [0] = "pass", [98] = "inconclusive", [99] = "fail", [1] = "error", [2] = "usage", [3] = "no_cluster",
  [130] = "stopped" }
M.outcomes = { "pass", "fail", "inconclusive", "error", "no_cluster", "timeout", "stopped", "usage" }

function M.outcome(run) return run.late and "timeout" or outcomes[run.exit] or "error" end

function M.new()
  return { version = M.version, n = 0, outcomes = {}, series = json.array(), history = json.array(),
    expectations = json.array() }
end

-- What an earlier watch left; a new state where there is none, or another version's.
function M.parse(source)
  local state = source ~= "" and json.decode(source) or nil
  if type(state) ~= "table" or state.version ~= M.version then return M.new() end
  for _, name in ipairs { "series", "history", "expectations" } do state[name] = json.array(state[name] or {}) end
  return state
end

-- ---- histograms ----

local steps = { 1, 1.5, 2, 3, 5, 7 }

-- The bounds of buckets that may be, in ns, from 100 ns to 70 s; the same for all series, so that they can be added up.
local ladder = {}
for exponent = 2, 10 do
  for _, step in ipairs(steps) do ladder[#ladder + 1] = step * 10 ^ exponent end
end

-- The place of the first bound of the ladder that is not below a value.
local function rung(value)
  for i, bound in ipairs(ladder) do
    if bound >= value then return i end
  end
  return #ladder
end

-- The highest value that a bucket of knbl's own histograms counts (src/core/hist.h).
local function top_of(index)
  if index < 256 then return index end
  return (index % 128 + 129) * 2 ^ (math.floor(index / 128) - 1) - 1
end

local function percentile(histogram, percent)
  return native.hist_percentile(json.encode(histogram), { percent })[1]
end

-- The first and the last rung that fit what a run has seen: from its minimum to ten times its p99.
local function fit(histogram)
  local first = math.max(1, rung(histogram.min or 0) - 1)
  local last = math.max(first + 3, rung(10 * percentile(histogram, 99)))
  return first, math.min(last, #ladder, first + BOUNDS - 1)
end

-- Widens the range where a hundredth of a run's values or more lies outside of it. Counts never move, since they only
-- grow for who reads them.
local function widen(kept, histogram)
  local low, high = percentile(histogram, 1), percentile(histogram, 99)
  local first, last = kept.first, kept.first + #kept.counts - 1
  local wanted = math.max(1, rung(low) - 1)
  while first > wanted and last - first + 1 < BOUNDS do
    first = first - 1
    table.insert(kept.counts, 1, 0)
  end
  while last < rung(high) and last < #ladder and last - first + 1 < BOUNDS do
    last = last + 1
    kept.counts[#kept.counts + 1] = 0
  end
  kept.first = first
end

-- Adds what a run has seen to the histogram of a series: { first = rung, counts, over, sum, count }.
function M.add_histogram(kept, histogram)
  if not kept then
    local first, last = fit(histogram)
    kept = { first = first, counts = json.array(), over = 0, sum = 0, count = 0 }
    for i = 1, last - first + 1 do kept.counts[i] = 0 end
  else
    widen(kept, histogram)
  end
  for _, bucket in ipairs(histogram.buckets) do
    local top = top_of(bucket[1])
    local at = math.max(1, rung(top) - kept.first + 1)
    if at > #kept.counts or top > ladder[#ladder] then
      kept.over = kept.over + bucket[2]
    else
      kept.counts[at] = kept.counts[at] + bucket[2]
    end
  end
  kept.sum, kept.count = kept.sum + (tonumber(histogram.sum) or 0), kept.count + histogram.count
  return kept
end

-- The buckets of a series: a list of { bound in seconds, how many values are not above it }.
function M.buckets(kept)
  local list, below = {}, 0
  for i, n in ipairs(kept.counts) do
    below = below + n
    list[i] = { ladder[kept.first + i - 1] / 1e9, below }
  end
  return list
end

-- ---- series ----

-- The figures of the last run that are kept; of repeats, the median.
M.figures = { "throughput", "rate", "p50", "p90", "p99", "p999", "max", "mean", "loss", "jitter", "retransmits",
  "value", "cpu_client", "cpu_server", "outage_total", "outage_longest", "mtu", "connect" }

local function short(s) return text.short(text.clean(tostring(s)), LABEL) end

-- The figure that stands for a series.
function M.headline(series)
  if series.metric then
    return { name = "value", unit = "free", title = series.metric.name, suffix = series.metric.unit,
      better = series.metric.better }
  end
  return figures.headline(series.test)
end

local function labels_of(m)
  local names, kept = {}, {}
  for name in pairs(m.labels or {}) do names[#names + 1] = name end
  table.sort(names)
  for i = 1, math.min(#names, LABELS) do kept[short(names[i])] = short(m.labels[names[i]]) end
  return next(kept) and kept or nil
end

local function series_of(group)
  local m = group[1]
  local size = m.params and m.params.size
  return { key = group.key:sub(1, KEY), recent = json.array(), test = m.test, case = short(m.case),
    from = short(m.from), to = short(m.to), via = m.via, labels = labels_of(m),
    size = type(size) == "number" and size or nil,
    metric = m.metric and { name = short(m.metric.name), unit = m.metric.unit and short(m.metric.unit),
      better = m.metric.better }, totals = { operations = 0, errors = 0, timeouts = 0, failures = 0 } }
end

local function add_totals(totals, m)
  local metrics = m.metrics or {}
  totals.operations = totals.operations + (tonumber(metrics.ops) or 0)
  totals.errors = totals.errors + (tonumber(figures.value(m, figures.get "errors")) or 0)
  totals.timeouts = totals.timeouts + (tonumber(metrics.timeouts) or 0)
end

local function medians(group)
  local found = {}
  for _, name in ipairs(M.figures) do
    local values = {}
    for _, m in ipairs(group) do
      if m.ok then values[#values + 1] = figures.value(m, figures.get(name)) end
    end
    if #values > 0 then found[name] = native.median_interval(values) end
  end
  return found
end

-- Takes the repeats of one run into a series.
local function update(series, group, n)
  series.seen, series.ok, series.skipped, series.code, series.message = n, true, nil, nil, nil
  for _, m in ipairs(group) do
    add_totals(series.totals, m)
    if m.skipped then
      series.ok, series.skipped, series.message = nil, true, short(m.skipped)
    elseif not m.ok and not expect.as_wanted(m) then
      series.ok, series.code = false, m.error and m.error.code or "error"
      series.message = short(m.error and m.error.message or "no reason given")
    end
    if m.ok and m.latency_histogram and m.latency_histogram.count > 0 then
      series.histogram = M.add_histogram(series.histogram, m.latency_histogram)
    end
  end
  if series.ok == false then series.totals.failures = series.totals.failures + 1 end
  series.figures = medians(group)
  table.insert(series.recent, { n = n, value = series.figures[M.headline(series).name], p99 = series.figures.p99 })
  while #series.recent > M.most_history do table.remove(series.recent, 1) end
end

-- Drops what was not seen for some runs, and of too many series those that were not seen for longest.
local function bound(state)
  local kept = json.array()
  for _, series in ipairs(state.series) do
    if state.n - series.seen < M.forget_after then kept[#kept + 1] = series end
  end
  for i, series in ipairs(kept) do series.place = i end
  table.sort(kept, function(a, b) return a.seen > b.seen or a.seen == b.seen and a.place < b.place end)
  for i = #kept, M.most_series + 1, -1 do kept[i] = nil end
  table.sort(kept, function(a, b) return a.place < b.place end)
  for _, series in ipairs(kept) do series.place = nil end
  state.series = kept
end

local function enter_series(state, data)
  local by_key = {}
  for _, series in ipairs(state.series) do by_key[series.key] = series end
  state.dropped = 0
  for i, group in ipairs(ledger.groups(data)) do
    if i > M.most_series then
      state.dropped = state.dropped + 1
    else
      local series = by_key[group.key:sub(1, KEY)]
      if not series then
        series = series_of(group)
        by_key[series.key], state.series[#state.series + 1] = series, series
      end
      update(series, group, state.n)
    end
  end
end

-- ---- runs ----

local states = { pass = "held", fail = "failed" }

local function enter_expectations(state, data)
  state.verdicts = { held = 0, failed = 0, inconclusive = 0 }
  state.expectations = json.array()
  for i, e in ipairs(data.expectations) do
    local word = states[e.status] or "inconclusive"
    state.verdicts[word] = state.verdicts[word] + 1
    if i <= EXPECTATIONS then
      state.expectations[i] = { test = e.test, case = e.case and short(e.case), expression = short(e.expression),
        status = word }
    end
  end
end

-- Enters a run: { started, begun and ended (seconds since 1970), seconds, exit, late, message, file }, and the data of
-- its ledger if it left one.
function M.enter(state, run, data)
  local outcome = M.outcome(run)
  state.n = state.n + 1
  state.outcomes[outcome] = (state.outcomes[outcome] or 0) + 1
  local item = { started = run.started, seconds = run.seconds, outcome = outcome,
    message = run.message and short(run.message) or nil, file = run.file }
  state.last = { begun = run.begun, ended = run.ended, seconds = run.seconds, exit = run.exit, outcome = outcome }
  if run.exit == 0 then state.passed = run.ended end
  if data then
    state.scenario, state.question, state.provider = data.scenario, data.question, data.provider
    state.counts = expect.counts(data)
    item.failed = state.counts.failed
    enter_series(state, data)
    enter_expectations(state, data)
    bound(state)
  end
  table.insert(state.history, item)
  while #state.history > M.most_history do table.remove(state.history, 1) end
end

return M
