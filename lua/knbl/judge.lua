-- knbl.judge - whether a run passed: every expectation over the ledger's figures, and the verdict of the whole.
--
-- An expectation holds or fails only where the samples carry it: the confidence interval of the figure (95 %) must lie wholly on
-- one side of the limit, and a percentile needs at least ten samples beyond it. Else it is inconclusive. One that matches no
-- measurement is an error, never a silent pass.
local compare_sides = require "knbl.compare"
local expect = require "knbl.expect"
local figures = require "knbl.figures"
local json = require "knbl.json"
local ledger = require "knbl.ledger"

local M = {}

local z = 1.96

-- ---- a figure with what is known of its certainty ----

local percentiles = { p50 = 50, p90 = 90, p95 = 95, p99 = 99, p999 = 99.9, p9999 = 99.99 }

-- The bounds of a percentile by the order statistics around it.
local function percentile_bounds(core, m, percent, count)
  if type(m.latency_histogram) ~= "table" then return nil end
  local p = percent / 100
  local spread = z * math.sqrt(p * (1 - p) / count) * 100
  local list = core.hist_percentile(json.encode(m.latency_histogram), { math.max(0, percent - spread), math.min(100, percent + spread) })
  if list then return list[1], list[2] end
end

local function series_bounds(m, value, key)
  local list = m.metrics.intervals
  if type(list) ~= "table" or #list < 5 then return nil end
  local sum, squares, n = 0, 0, 0
  for _, point in ipairs(list) do
    local x = type(point) == "table" and tonumber(point[key])
    if x then sum, squares, n = sum + x, squares + x * x, n + 1 end
  end
  if n < 5 or sum == 0 then return nil end
  local mean = sum / n
  local relative = z * math.sqrt(math.max(0, squares / n - mean * mean) / (n - 1)) / mean
  return value * (1 - relative), value * (1 + relative)
end

-- Why one measurement's figure cannot be judged, or nil.
local function too_few(m, figure, limit)
  local latency = m.metrics.latency_ns
  local percent = percentiles[figure.name]
  local count = type(latency) == "table" and tonumber(latency.count) or nil
  if percent then
    local needed = math.ceil(10 / (1 - percent / 100) - 1e-6)
    if count and count < needed then return ("%d samples; %s needs %d"):format(count, figure.name, needed) end
  elseif figure.name == "mean" or figure.name == "latency" then
    if count and count < 30 then return ("%d samples; a mean needs 30"):format(count) end
  elseif figure.name == "loss" then
    local sent, needed = tonumber(m.metrics.sent), limit and limit > 0 and math.ceil(3 / limit) or 100
    if sent and sent < needed then return ("%d sent; this loss needs %d"):format(sent, needed) end
  end
end

local function bounds_of(core, m, figure, value)
  local percent = percentiles[figure.name]
  local latency = m.metrics.latency_ns
  local count = type(latency) == "table" and tonumber(latency.count)
  if percent and count and count > 0 then return percentile_bounds(core, m, percent, count) end
  if (figure.name == "mean" or figure.name == "latency") and count and count > 1 and tonumber(latency.stddev) then
    local half = z * latency.stddev / math.sqrt(count)
    return value - half, value + half
  end
  if figure.name == "throughput" or figure.name == "rate" then
    return series_bounds(m, value, figure.name == "throughput" and "bps" or "ops_per_s")
  end
end

-- { value, low, high, n } of a group of repeats, or nil and the reason.
function M.estimate(core, group, figure, limit)
  local values, reason = {}, nil
  for _, m in ipairs(group) do
    local value = m.ok and figures.value(m, figure)
    if value then
      values[#values + 1] = value
      reason = reason or too_few(m, figure, limit)
    else
      reason = reason or (m.skipped and "skipped: " .. m.skipped) or (not m.ok and "failed: " .. ((m.error or {}).message or "")) or nil
    end
  end
  if #values == 0 then return nil, reason or ("%s was not measured"):format(figure.title) end
  if reason then return nil, reason end
  if #values == 1 then
    local low, high = bounds_of(core, group[1], figure, values[1])
    return { value = values[1], low = low or values[1], high = high or values[1], n = 1 }
  end
  local median, low, high = core.median_interval(values, 0.95)
  if not low then
    low, high = math.huge, -math.huge
    for _, value in ipairs(values) do low, high = math.min(low, value), math.max(high, value) end
  end
  return { value = median, low = low, high = high, n = #values }
end

-- ---- comparisons ----

local holds = {
  ["<"] = function(a, b) return a < b end, ["<="] = function(a, b) return a <= b end, [">"] = function(a, b) return a > b end,
  [">="] = function(a, b) return a >= b end, ["=="] = function(a, b) return a == b end, ["!="] = function(a, b) return a ~= b end,
}

-- "pass", "fail" or "inconclusive" for an interval against a limit.
local function compare(estimate, operator, limit)
  local test = holds[operator]
  if operator == "==" or operator == "!=" then return test(estimate.value, limit) and "pass" or "fail" end
  local low, high = test(estimate.low, limit), test(estimate.high, limit)
  if low and high then return "pass" end
  if not low and not high then return "fail" end
  return "inconclusive"
end

local function show(core, figure, value)
  return figures.show(core, figure, value)
end

local function subject(m)
  return { test = m.test, case = ledger.subject(m) }
end

local function outcome(about, expectation, status, reason, more)
  local e = { case = about.case, test = about.test, expression = expectation.source, status = status, reason = reason }
  for k, v in pairs(more or {}) do e[k] = v end
  return e
end

local function judged(core, about, expectation, figure, estimate, limit, what)
  local status = compare(estimate, expectation.operator, limit)
  local shown = ("%s is %s"):format(figure.title, show(core, figure, estimate.value))
  if status == "inconclusive" then
    shown = ("%s, between %s and %s: too uncertain for this limit"):format(shown, show(core, figure, estimate.low), show(core, figure, estimate.high))
  elseif what then
    shown = ("%s, %s %s"):format(shown, what, show(core, figure, limit))
  end
  return outcome(about, expectation, status, shown, { value = estimate.value, low = estimate.low, high = estimate.high, limit = limit })
end

-- ---- ratios ----

-- A ratio of two estimates, with the widest interval that theirs allow.
local function ratio_of(x, y)
  return { value = x.value / y.value, low = x.low / y.high, high = x.high / y.low }
end

-- The outcome of a ratio against a limit; `shown` is how the text tells of it.
local function judged_ratio(about, expectation, ratio, limit, shown)
  local status = compare(ratio, expectation.operator, limit)
  if status == "inconclusive" then
    shown = ("%s, between %s and %s: too uncertain for this limit"):format(shown, figures.significant(ratio.low), figures.significant(ratio.high))
  end
  return outcome(about, expectation, status, shown, { value = ratio.value, low = ratio.low, high = ratio.high, limit = limit, p = ratio.p })
end

local function baseline_group(context, group)
  if not context.baseline then return nil, "no --baseline was given" end
  if context.elsewhere[1] then return nil, "the baseline is of another environment: " .. table.concat(context.elsewhere, "; ") end
  for _, candidate in ipairs(context.baseline.groups) do
    if candidate.key == group.key then return candidate end
  end
  return nil, "the baseline has no such measurement"
end

-- Where both sides have repeats enough the ratio and its interval are those of compare.lua, else those of what each measured.
local function ratio_to_baseline(context, old, before, new, now, figure)
  local c = compare_sides.change(context.core, old, new, figure)
  if c and c.change and c.low then return { value = 1 + c.change, low = 1 + c.low, high = 1 + c.high, p = c.p } end
  return ratio_of(now, before)
end

local function judge_baseline(context, group, expectation)
  local core, figure, factor = context.core, expectation.left.figure, expectation.right.factor
  local about = subject(group[1])
  local old, reason = baseline_group(context, group)
  if not old then return outcome(about, expectation, "inconclusive", reason) end
  local before, why = M.estimate(core, old, figure)
  if not before then return outcome(about, expectation, "inconclusive", "baseline: " .. why) end
  local now, wrong = M.estimate(core, group, figure)
  if not now then return outcome(about, expectation, "inconclusive", wrong) end
  if before.low <= 0 then return judged(core, about, expectation, figure, now, before.value * factor, "the limit") end
  local ratio = ratio_to_baseline(context, old, before, group, now, figure)
  local shown = ("%s is %s, was %s: %sx"):format(figure.title, show(core, figure, now.value), show(core, figure, before.value),
    figures.significant(ratio.value))
  return judged_ratio(about, expectation, ratio, factor, shown)
end

local function judge_figure(context, group, expectation)
  local figure, limit = expectation.left.figure, expectation.right.value
  local about = subject(group[1])
  local estimate, reason = M.estimate(context.core, group, figure, limit)
  if not estimate then
    local failed = true
    for _, m in ipairs(group) do failed = failed and not m.ok and not m.skipped end
    return outcome(about, expectation, failed and "fail" or "inconclusive", reason)
  end
  return judged(context.core, about, expectation, figure, estimate, limit)
end

-- By what two cases are compared where the expectation does not say: a request's latency rather than its rate.
local ratio_default = { tcp_rr = "mean", udp_rr = "mean" }

local function judge_pair(context, expectation, a, b)
  local test = a[1].test
  local figure = expectation.left.figure or ratio_default[test] and figures.get(ratio_default[test]) or figures.headline(test)
  local about = { test = test }
  local load, kind = ledger.load(a[1])
  local other, its = ledger.load(b[1])
  if kind ~= its then return outcome(about, expectation, "inconclusive", ("no like with like: '%s' is %s, '%s' %s"):format(a[1].case, load, b[1].case, other)) end
  local x, why = M.estimate(context.core, a, figure)
  local y, wrong = M.estimate(context.core, b, figure)
  if not x or not y then return outcome(about, expectation, "inconclusive", why or wrong) end
  if y.low <= 0 then return outcome(about, expectation, "inconclusive", ("%s of '%s' may be 0"):format(figure.title, b[1].case)) end
  local shown = ("%s: %s / %s = %s"):format(figure.title, show(context.core, figure, x.value), show(context.core, figure, y.value),
    figures.significant(x.value / y.value))
  return judged_ratio(about, expectation, ratio_of(x, y), expectation.right.value, shown)
end

local function same_work(a, b)
  return a.test == b.test and tostring(a.params and a.params.size) == tostring(b.params and b.params.size)
end

-- Every test that both cases have (and, where a figure is named, every one that measured it).
local function judge_ratio(context, expectation, list)
  local left, any = expectation.left, false
  local found = {}
  for _, a in ipairs(context.groups) do
    for _, b in ipairs(context.groups) do
      local fits = a[1].case == left.a and b[1].case == left.b and same_work(a[1], b[1])
      local has = not left.figure or not a[1].ok or figures.value(a[1], left.figure)
      if fits and has then
        any = true
        list[#list + 1] = judge_pair(context, expectation, a, b)
      end
    end
    found[a[1].case or ""] = true
  end
  if any then return end
  local missing = not found[left.a] and left.a or not found[left.b] and left.b
  local reason = missing and ("no measurement has the case '%s'"):format(missing) or "the two cases have no test in common"
  local e = outcome({}, expectation, "error", reason)
  e.command_line = context.command_line
  list[#list + 1] = e
end

-- ---- the verdict ----

local function judge_one(context, group, expectation)
  if expectation.right.kind == "baseline" then return judge_baseline(context, group, expectation) end
  return judge_figure(context, group, expectation)
end

-- The groups that an expectation of the command line is about: whatever it names, but of those that ran only what has the figure, if any has.
-- Without a case it is about every test that has the figure; what was skipped or failed is left out only where its test, elsewhere, has none.
local function groups_for(context, expectation)
  local named, having, without = {}, {}, {}
  local function found(group)
    local has, ran = false, true
    for _, m in ipairs(group) do
      has = has or figures.value(m, expectation.left.figure) ~= nil
      ran = ran and m.ok
    end
    return has, ran
  end
  for _, group in ipairs(context.groups) do
    local has, ran = found(group)
    if ran and not has then without[group[1].test] = true end
  end
  for _, group in ipairs(context.groups) do
    if ledger.matches(group[1], expectation.case) then
      local has, ran = found(group)
      named[#named + 1] = group
      if has or not ran and (expectation.case or not without[group[1].test]) then having[#having + 1] = group end
    end
  end
  return #having > 0 and having or expectation.case and named or {}
end

local function from_command_line(context, expectation, list)
  if expectation.left.kind == "ratio" then
    return judge_ratio(context, expectation, list)
  end
  local groups = groups_for(context, expectation)
  for _, group in ipairs(groups) do list[#list + 1] = judge_one(context, group, expectation) end
  if #groups == 0 then
    local e = outcome({ case = expectation.case }, expectation, "error", "no measurement matches it")
    e.command_line = true
    list[#list + 1] = e
  end
end

-- All expectations of a run: those that measurements carry, and those of the command line. `baseline` is a side of compare.lua.
function M.expectations(core, data, extra, baseline, any_environment)
  local side = compare_sides.side { data }
  local context = { core = core, groups = side.groups, baseline = baseline,
    elsewhere = baseline and not any_environment and compare_sides.environments(baseline, side) or {} }
  local list, seen = json.array(), {}
  for _, group in ipairs(context.groups) do
    for _, source in ipairs(group[1].expect or {}) do
      local parsed = expect.parse(core, source)
      if parsed and parsed.left.kind ~= "ratio" then
        list[#list + 1] = judge_one(context, group, parsed)
      elseif parsed and not seen[source] then
        seen[source] = true
        judge_ratio(context, parsed, list)
      end
    end
  end
  context.command_line = true
  for _, expectation in ipairs(extra) do from_command_line(context, expectation, list) end
  return list
end

local function count(list, status)
  local n = 0
  for _, item in ipairs(list) do
    if item.status == status then n = n + 1 end
  end
  return n
end

-- Fills the ledger's expectations and returns the verdict: { status, exit, message?, … }. `err` ended the script early.
function M.run(core, data, extra, baseline, err, any_environment)
  data.expectations = M.expectations(core, data, err and {} or extra, baseline, any_environment)
  if baseline then data.comparison = compare_sides.run(core, baseline, compare_sides.side { data }, { any_environment = any_environment }) end
  local measured, failed, skipped, lost = 0, 0, 0, false
  for _, m in ipairs(data.measurements) do
    if m.skipped then skipped = skipped + 1
    elseif m.ok then measured = measured + 1
    else
      failed = failed + 1
      lost = lost or m.error and m.error.code == "lost"
    end
  end
  local verdict = { measured = measured, failed = failed, skipped = skipped }
  local wrong = { fail = count(data.expectations, "fail"), unsure = count(data.expectations, "inconclusive"), void = 0, typed = 0 }
  for _, e in ipairs(data.expectations) do
    if e.status == "error" then
      wrong.void = wrong.void + 1
      if e.command_line then wrong.typed = wrong.typed + 1 end
    end
  end
  local function set(status, exit, message)
    verdict.status, verdict.exit, verdict.message = status, exit, message
  end
  if err then
    set(err.code == "interrupted" and "interrupted" or "error", require("knbl.cli").exit_code(err), err.message)
  elseif lost then set("error", 3, "an agent was lost")
  elseif wrong.void > 0 then
    set("error", wrong.typed > 0 and 2 or 1, ("%d expectation%s matched no measurement"):format(wrong.void, wrong.void == 1 and "" or "s"))
  elseif wrong.fail > 0 then set("fail", 99, ("%d of %d expectations failed"):format(wrong.fail, #data.expectations))
  elseif failed > 0 then set("error", 1, ("%d of %d measurements failed"):format(failed, measured + failed + skipped))
  elseif wrong.unsure > 0 then set("inconclusive", 98, ("%d of %d expectations are inconclusive"):format(wrong.unsure, #data.expectations))
  elseif measured == 0 and skipped > 0 then set("inconclusive", 98, ("nothing was measured: all %d were skipped"):format(skipped))
  else set("pass", 0) end
  return verdict
end

return M
