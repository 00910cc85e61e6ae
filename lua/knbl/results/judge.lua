-- knbl.results.judge - whether a run passed: every expectation over the ledger's figures, and the verdict of the whole.
--
-- What was measured between several ends is judged for each of them; ratios of cases are of all ends together.
--
-- An expectation holds or fails only where the samples carry it: the confidence interval of the figure (95 %) must lie
-- wholly on one side of the limit, and a percentile needs at least ten samples beyond it. Else it is inconclusive. One
-- that matches no measurement is an error, never a silent pass.
local compare_sides = require "knbl.results.compare"
local estimates = require "knbl.results.estimate"
local exit = require "knbl.base.exit"
local expect = require "knbl.results.expect"
local figures = require "knbl.results.figures"
local json = require "knbl.json"
local ledger = require "knbl.results.ledger"
local meshes = require "knbl.results.judge_mesh"
local tests = require "knbl.base.tests"

local M = {}

local show = figures.show

-- ---- comparisons ----

local holds = {
  ["<"] = function(a, b) return a < b end, ["<="] = function(a, b) return a <= b end,
    [">"] = function(a, b) return a > b end,
  [">="] = function(a, b) return a >= b end, ["=="] = function(a, b) return a == b end,
    ["!="] = function(a, b) return a ~= b end,
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

local function subject(group)
  local case = ledger.subject(group[1])
  return { test = group[1].test, case = group.ends and ("%s, %s"):format(case, group.ends) or case }
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
    shown = ("%s, between %s and %s: too uncertain for this limit"):format(shown, show(core, figure, estimate.low),
      show(core, figure, estimate.high))
  elseif what then
    shown = ("%s, %s %s"):format(shown, what, show(core, figure, limit))
  end
  return outcome(about, expectation, status, shown, { value = estimate.value, low = estimate.low, high = estimate.high,
    limit = limit })
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
    shown = ("%s, between %s and %s: too uncertain for this limit"):format(shown, figures.significant(ratio.low),
      figures.significant(ratio.high))
  end
  return outcome(about, expectation, status, shown, { value = ratio.value, low = ratio.low, high = ratio.high,
    limit = limit, p = ratio.p })
end

local function baseline_group(context, group)
  if not context.baseline then return nil, "no --baseline was given" end
  if context.elsewhere[1] then
    return nil, "the baseline is of another environment: " .. table.concat(context.elsewhere, "; ")
  end
  for _, candidate in ipairs(context.baseline.groups) do
    for _, part in ipairs(candidate.key == group.key and ledger.by_ends(candidate) or {}) do
      if part.ends == group.ends then return part end
    end
  end
  return nil, "the baseline has no such measurement"
end

-- Where both sides have repeats enough the ratio and its interval are those of compare.lua, else those of what each
-- measured.
local function ratio_to_baseline(context, old, before, new, now, figure)
  local c = compare_sides.change(context.core, old, new, figure)
  if c and c.change and c.low then return { value = 1 + c.change, low = 1 + c.low, high = 1 + c.high, p = c.p } end
  return ratio_of(now, before)
end

local function judge_baseline(context, group, expectation)
  local core, figure, factor = context.core, expectation.left.figure, expectation.right.factor
  local about = subject(group)
  local old, reason = baseline_group(context, group)
  if not old then return outcome(about, expectation, "inconclusive", reason) end
  local before, why = estimates.of(core, old, figure)
  if not before then return outcome(about, expectation, "inconclusive", "baseline: " .. why) end
  local now, wrong = estimates.of(core, group, figure)
  if not now then return outcome(about, expectation, "inconclusive", wrong) end
  if before.low <= 0 then return judged(core, about, expectation, figure, now, before.value * factor, "the limit") end
  local ratio = ratio_to_baseline(context, old, before, group, now, figure)
  local shown = ("%s is %s, was %s: %sx"):format(figure.title, show(core, figure, now.value),
    show(core, figure, before.value),
    figures.significant(ratio.value))
  return judged_ratio(about, expectation, ratio, factor, shown)
end

-- The extreme sample of repeats: "min" or "max", by math.min or math.max; nil where one does not tell it.
local function extreme(group, name, pick)
  local found
  for _, m in ipairs(group) do
    local value = m.ok and tonumber((m.metrics.latency_ns or {})[name])
    if not value then return nil end
    found = pick(found or value, value)
  end
  return found
end

-- A percentile of few samples: held where there are enough for that and even the greatest of them holds the limit,
-- failed where even the least does not: the chance of that is (1 - share)^n at most. Returns nil where neither is so.
local function judge_by_range(context, about, group, expectation)
  local figure, limit = expectation.left.figure, expectation.right.value
  local needed, share = figures.samples_for(figure)
  local count = figures.samples_of(group)
  local upper = expectation.operator == "<" or expectation.operator == "<="
  if not (needed and upper and count) or count >= needed then return nil end
  local least, most = extreme(group, "min", math.min), extreme(group, "max", math.max)
  local fits = holds[expectation.operator]
  if most and fits(most, limit) and count >= estimates.samples_that_all_hold(share) then
    return outcome(about, expectation, "pass", ("even the maximum of %d samples is %s"):format(count,
      show(context.core, figure, most)), { value = most, limit = limit })
  elseif least and not fits(least, limit) and count >= estimates.samples_that_all_hold(1 - share) then
    return outcome(about, expectation, "fail", ("even the minimum of %d samples is %s"):format(count,
      show(context.core, figure, least)), { value = least, limit = limit })
  end
end

local function judge_figure(context, group, expectation)
  local figure, limit = expectation.left.figure, expectation.right.value
  local about = subject(group)
  local held = judge_by_range(context, about, group, expectation)
  if held then return held end
  local estimate, reason = estimates.of(context.core, group, figure, limit)
  if not estimate then
    local failed = true
    for _, m in ipairs(group) do failed = failed and not m.ok and not m.skipped end
    return outcome(about, expectation, failed and "fail" or "inconclusive", reason)
  end
  return judged(context.core, about, expectation, figure, estimate, limit)
end

local function judge_pair(context, expectation, a, b)
  local test = a[1].test
  -- where the expectation does not say: a request's latency rather than its rate
  local figure = expectation.left.figure or tests.of(test).shape == "rr" and figures.get "mean"
    or figures.headline(test)
  local about = { test = test }
  local load, kind = ledger.load(a[1])
  local other, its = ledger.load(b[1])
  if kind ~= its then
    return outcome(about, expectation, "inconclusive",
      ("no like with like: '%s' is %s, '%s' %s"):format(a[1].case, load, b[1].case, other))
  end
  local x, why = estimates.of(context.core, a, figure)
  local y, wrong = estimates.of(context.core, b, figure)
  if not x or not y then return outcome(about, expectation, "inconclusive", why or wrong) end
  if y.low <= 0 then
    return outcome(about, expectation, "inconclusive", ("%s of '%s' may be 0"):format(figure.title, b[1].case))
  end
  local shown = ("%s: %s / %s = %s"):format(figure.title, show(context.core, figure, x.value),
    show(context.core, figure, y.value),
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
  for _, a in ipairs(context.pooled) do
    for _, b in ipairs(context.pooled) do
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
  if missing and context.left_out[missing] then
    list[#list + 1] = outcome({}, expectation, "inconclusive", ("--only left out '%s'"):format(missing))
    return
  end
  local reason = missing and ("no measurement has the case '%s'"):format(missing)
    or "the two cases have no test in common"
  list[#list + 1] = outcome({}, expectation, "error", reason, { command_line = context.command_line })
end

-- ---- the verdict ----

-- "unreachable", "reachable": whether the path let anything through.
local function judge_reach(group, expectation)
  local about, through, refused, reason = subject(group), 0, 0, nil
  for _, m in ipairs(group) do
    if m.ok then through = through + 1
    elseif expect.is_unreachable(m) then refused = refused + 1 end
    reason = reason or m.skipped and "skipped: " .. m.skipped or not m.ok and m.error and m.error.message or nil
  end
  if through + refused < #group then
    return outcome(about, expectation, "inconclusive", reason or "it was not measured")
  end
  local wrong = expectation.reachable and refused or through
  local told = expectation.reachable and reason or wrong > 0 and "it answered" or reason
  return outcome(about, expectation, wrong == 0 and "pass" or "fail", told)
end

local function judge_one(context, group, expectation)
  if expectation.left.kind == "reach" then return judge_reach(group, expectation) end
  if expectation.right.kind == "baseline" then return judge_baseline(context, group, expectation) end
  return judge_figure(context, group, expectation)
end

-- The groups that an expectation of the command line is about: whatever it names, but of those that ran only what has
-- the figure, if any has. Without a case it is about every test that has the figure; what was skipped or failed is left
-- out only where its test, elsewhere, has none.
local function groups_for(context, expectation)
  local named, having, without = {}, {}, {}
  local function found(group)
    local has, ran = expectation.left.kind == "reach", true
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

-- ---- meshes ----

local function judge_mesh(mesh, test, expectation)
  return outcome({ test = "mesh", case = test or "" }, expectation, meshes.judge(mesh, test))
end

-- An expectation of the command line.
local function judge_meshes(context, expectation, list)
  local any = false
  for _, mesh in ipairs(context.meshes) do
    local named, test = meshes.named(mesh, expectation.case)
    if named then
      any = true
      list[#list + 1] = judge_mesh(mesh, test, expectation)
    end
  end
  if any then return end
  list[#list + 1] = outcome({ case = expectation.case }, expectation, "error", "no mesh matches it",
    { command_line = true })
end

local function from_command_line(context, expectation, list)
  if expectation.left.kind == "outlier" then return judge_meshes(context, expectation, list) end
  if expectation.left.kind == "ratio" then
    return judge_ratio(context, expectation, list)
  end
  local groups = groups_for(context, expectation)
  for _, group in ipairs(groups) do
    list[#list + 1] = judge_one(context, group, expectation)
    if expectation.left.kind == "reach" then
      for _, m in ipairs(group) do m.expect = json.array(m.expect or {}); table.insert(m.expect, expectation.source) end
    end
  end
  if #groups == 0 then
    list[#list + 1] = outcome({ case = expectation.case }, expectation, "error", "no measurement matches it",
      { command_line = true })
  end
end

-- All expectations of a run: those that measurements carry, and those of the command line. `baseline` is a side of
-- compare.lua.
function M.expectations(core, data, extra, baseline, any_environment, left_out)
  local side = compare_sides.side { data }
  local context = { core = core, groups = ledger.all_by_ends(side.groups), pooled = side.groups,
    left_out = left_out or {}, meshes = data.meshes or {}, baseline = baseline,
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
  for _, mesh in ipairs(context.meshes) do
    for _, source in ipairs(mesh.expect or {}) do
      list[#list + 1] = judge_mesh(mesh, nil, assert(expect.parse(core, source)))
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

-- Fills the ledger's expectations and returns the verdict: { status, exit, message?, … }. `err` ended the script early;
-- `left_out` has the cases that --only left out.
function M.run(core, data, extra, baseline, err, any_environment, left_out)
  data.expectations = M.expectations(core, data, err and {} or extra, baseline, any_environment, left_out)
  if baseline then
    data.comparison = compare_sides.run(core, baseline, compare_sides.side { data },
      { any_environment = any_environment })
  end
  local measured, failed, skipped, lost = 0, 0, 0, false
  for _, m in ipairs(ledger.beside_meshes(data).measurements) do
    if m.skipped then skipped = skipped + 1
    elseif m.ok or expect.as_wanted(m) then measured = measured + 1
    else
      failed = failed + 1
      lost = lost or m.error and m.error.code == "lost"
    end
  end
  local more, less, missing, size = meshes.count(data)
  measured, failed = measured + more, failed + less
  local verdict = { measured = measured, failed = failed, skipped = skipped }
  local wrong = { fail = count(data.expectations, "fail"), unsure = count(data.expectations, "inconclusive"), void = 0,
    typed = 0 }
  for _, e in ipairs(data.expectations) do
    if e.status == "error" then
      wrong.void = wrong.void + 1
      if e.command_line then wrong.typed = wrong.typed + 1 end
    end
  end
  local function set(status, code, message)
    verdict.status, verdict.exit, verdict.message = status, code, message
  end
  if err then
    set(err.code == "interrupted" and "interrupted" or "error", exit.of(err), err.message)
  elseif lost then
    set("error", exit.no_cluster, "an agent was lost")
  elseif wrong.void > 0 then
    set("error", wrong.typed > 0 and exit.usage or exit.script,
      ("%d expectation%s matched no measurement"):format(wrong.void, wrong.void == 1 and "" or "s"))
  elseif wrong.fail > 0 then
    set("fail", exit.failed, ("%d of %d expectations failed"):format(wrong.fail, #data.expectations))
  elseif missing > 0 then
    set("error", exit.script, ("%d of %d nodes are missing from the mesh"):format(missing, size))
  elseif failed > 0 then
    set("error", exit.script, ("%d of %d measurements failed"):format(failed, measured + failed + skipped))
  elseif wrong.unsure > 0 then
    set("inconclusive", exit.inconclusive,
      ("%d of %d expectations are inconclusive"):format(wrong.unsure, #data.expectations))
  elseif measured == 0 and skipped > 0 then
    set("inconclusive", exit.inconclusive, ("nothing was measured: all %d were skipped"):format(skipped))
  else
    set("pass", exit.ok)
  end
  return verdict
end

return M
