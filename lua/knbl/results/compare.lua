-- knbl.results.compare - two sides of one or more ledgers each, measurement by measurement: how far the new figure lies
-- from the old one, how sure that is, and whether a difference is shown at all. What --baseline and `knbl compare` have
-- in common; docs/statistics.md says how.
--
-- Only like is compared with like: what differs in test, case, way, parameters, labels, open or closed loop, cold or
-- warm, is set apart and said so; so is what was measured in another environment, unless that was asked for.
local errors = require "knbl.base.errors"
local figures = require "knbl.results.figures"
local json = require "knbl.json"
local ledger = require "knbl.results.ledger"
local tests = require "knbl.base.tests"

local M = { alpha = 0.05 }

-- ---- environments ----

-- What makes figures of two runs a comparison of two environments instead.
local decisive = { "kernel", "cpu_model", "cpus", "mtu", "pod_mtu", "overlay", "proxy_mode", "cni", "server_version" }

-- How the environments of two ledgers differ, as a text; nil where they do not, as far as is known.
function M.differs(old, new)
  local parts = {}
  if old.provider and new.provider and old.provider ~= new.provider then
    parts[1] = ("provider %s, now %s"):format(old.provider, new.provider)
  end
  local a, b = old.environment or {}, new.environment or {}
  for _, key in ipairs(decisive) do
    local x, y = a[key], b[key]
    local known = x ~= nil and y ~= nil and x ~= "unknown" and y ~= "unknown" and type(x) ~= "table"
      and type(y) ~= "table"
    if known and tostring(x) ~= tostring(y) then
      parts[#parts + 1] = ("%s %s, now %s"):format(key, tostring(x), tostring(y))
    end
  end
  return #parts > 0 and table.concat(parts, "; ") or nil
end

local function placement(m)
  local from, to = (m.path or {}).from or {}, (m.path or {}).to or {}
  local together
  if from.node and to.node then together = from.node == to.node and "on one node" or "on two nodes" end
  -- emulated is not with KVM; what another version changes is what one wants to know
  local function runtime(side)
    local label = (side.sandbox or {}).label
    return label and label:gsub(" %d[%w.+~-]*", "") or side.runtime
  end
  return { together = together, ["runtime of the client"] = runtime(from), ["runtime of the server"] = runtime(to) }
end

-- The same of two groups: where client and server stand, and in what.
local function placed_differently(old, new)
  local a, b = placement(old[1]), placement(new[1])
  if a.together and b.together and a.together ~= b.together then
    return ("client and server %s, now %s"):format(a.together, b.together)
  end
  for _, key in ipairs { "runtime of the client", "runtime of the server" } do
    if a[key] and b[key] and a[key] ~= b[key] then return ("%s %s, now %s"):format(key, a[key], b[key]) end
  end
end

-- ---- sides ----

-- One side of a comparison, of the data of its ledgers: { ledgers, groups }. Measurements that are repeats of one
-- another are one group, also across ledgers. A group of the nodes of a mesh has the values of the pairs as `behind`.
function M.side(list)
  local all, behind = { measurements = {} }, {}
  for _, data in ipairs(list) do
    local of = data.meshes and require("knbl.mesh.series").behind(data)
    for _, m in ipairs(data.measurements) do
      table.insert(all.measurements, m)
      behind[m] = of and of(m)
    end
  end
  local groups = ledger.groups(all)
  for _, group in ipairs(groups) do
    for _, m in ipairs(group) do
      group.behind, group.among = group.behind or behind[m] and {}, behind[m] and behind[m].among or group.among
      if behind[m] then table.insert(group.behind, behind[m].values) end
    end
  end
  return { ledgers = list, groups = groups }
end

-- The side that some files hold; a wrong one is refused with the name of what asked for it.
function M.read(whose, paths)
  local list = {}
  for i, path in ipairs(paths) do
    local data, err = ledger.read(path)
    if not data then errors.usage("%s: %s", whose, err.message) end
    data.file = path
    list[i] = data
  end
  return M.side(list)
end

-- Why two sides are not of one environment: a list of texts, empty where they are.
function M.environments(old, new)
  local seen, list = {}, {}
  local function add(prefix, text)
    if text and not seen[text] then
      seen[text] = true
      list[#list + 1] = prefix .. text
    end
  end
  for _, a in ipairs(old.ledgers) do
    for _, b in ipairs(new.ledgers) do add("", M.differs(a, b)) end
  end
  for i = 2, #old.ledgers do add("among the old ledgers: ", M.differs(old.ledgers[1], old.ledgers[i])) end
  for i = 2, #new.ledgers do add("among the new ledgers: ", M.differs(new.ledgers[1], new.ledgers[i])) end
  return list
end

-- ---- one figure ----

function M.values(group, figure)
  local values, positive = {}, true
  local function add(value)
    values[#values + 1] = value
    positive = positive and value > 0
  end
  for _, of in ipairs(group.behind or {}) do
    for _, value in ipairs(of[figure.path] or {}) do add(value) end
  end
  if #values > 0 then return values, positive end
  for _, m in ipairs(group) do
    local value = m.ok and figures.value(m, figure)
    if value then add(value) end
  end
  return values, positive
end

local function summary(core, values)
  local median, low, high = core.median_interval(values, 0.95)
  return { value = median, low = low, high = high, n = #values }
end

local function choose(n, k)
  local ways = 1
  for i = 1, k do ways = ways * (n - k + i) / i end
  return ways
end

-- Where the figures of a side come from: a list of { file?, started?, scenario?, provider?, host? }.
local function sources(side)
  local list = json.array()
  for i, data in ipairs(side.ledgers) do
    local environment = data.environment or {}
    local host, kernel = environment.hostname or environment.cpu_model, environment.kernel
    list[i] = { file = data.file, started = data.started, scenario = data.scenario, provider = data.provider,
      host = host and tostring(host), kernel = kernel and tostring(kernel) }
  end
  return list
end

-- What a figure did between two groups: { old, new, change?, low?, high?, difference?, p, shown, too_few? }; nil where
-- one side has none. `change` is relative (0.1: 10 % more), the median of all ratios of a new to an old value; its
-- interval goes with the rank test. Where a value is 0 there is no ratio, and `difference` stands for it, in the
-- figure's unit. Of the nodes of a mesh `alpha` is for all of them together.
function M.change(core, old, new, figure, alpha)
  alpha = (alpha or M.alpha) / math.max(old.among or 1, new.among or 1)
  local a, a_positive = M.values(old, figure)
  local b, b_positive = M.values(new, figure)
  if #a == 0 or #b == 0 then return nil end
  local c = { old = summary(core, a), new = summary(core, b), p = core.rank_test(a, b) }
  c.too_few = 2 / choose(#a + #b, #a) > alpha or nil
  if a_positive and b_positive then
    local x, y = {}, {}
    for i, v in ipairs(a) do x[i] = math.log(v) end
    for i, v in ipairs(b) do y[i] = math.log(v) end
    local middle, low, high = core.shift_interval(x, y, 1 - alpha)
    c.change, c.low, c.high = math.exp(middle) - 1, low and math.exp(low) - 1, high and math.exp(high) - 1
  else
    c.difference, c.low, c.high = core.shift_interval(a, b, 1 - alpha)
  end
  c.shown = not c.too_few and c.p <= alpha
  return c
end

-- What a difference of a figure is: "better", "worse", or "differs".
function M.direction(by, figure)
  if not figure.better then return "differs" end
  return (by > 0) == (figure.better == "more") and "better" or "worse"
end

-- The same of a change; "none": nothing is shown.
local function verdict_of(c, figure)
  local by = c.change or c.difference
  return c.shown and by ~= 0 and M.direction(by, figure) or "none"
end

-- ---- all of them ----

local subject = ledger.subject

-- Why a group has no partner: the measurement of the other side that is nearest to it, and what sets them apart.
local function apart(group, others, taken)
  local m, best = group[1], nil
  for _, other in ipairs(others) do
    local o = other[1]
    if not taken[other] and o.test == m.test and (o.case or "") == (m.case or "") then
      local list = ledger.set_apart(m, o)
      if not best or #list < #best then best = list end
    end
  end
  return best and table.concat(best, "; ")
end

local function pairs_of(old, new, any_environment, skipped)
  local list, by_key, taken = {}, {}, {}
  for _, group in ipairs(new.groups) do by_key[group.key] = group end
  local function skip(group, reason)
    skipped[#skipped + 1] = { test = group[1].test, case = subject(group[1]), reason = reason }
  end
  for _, group in ipairs(old.groups) do
    local other = by_key[group.key]
    if other then taken[group], taken[other] = true, true end
    local elsewhere = other and not any_environment and placed_differently(group, other)
    if elsewhere then skip(group, elsewhere)
    elseif other then list[#list + 1] = { old = group, new = other } end
  end
  for _, group in ipairs(old.groups) do
    local reason = not taken[group] and (apart(group, new.groups, taken) or "only in the old ledger")
    if reason then skip(group, reason) end
  end
  for _, group in ipairs(new.groups) do
    if not taken[group] and not apart(group, old.groups, taken) then skip(group, "only in the new ledger") end
  end
  return list
end

local function why_none(group)
  for _, m in ipairs(group) do
    if m.skipped then return "skipped: " .. m.skipped end
    if not m.ok then return "failed: " .. ((m.error or {}).message or "no reason given") end
  end
  return "not measured"
end

-- The rate of an open loop is what was asked for.
function M.is_given(m, name) return name == "rate" and m.params and m.params.rate ~= nil end

local function compare_pair(core, pair, names, alpha, list, skipped)
  local m, any = pair.new[1], false
  for _, name in ipairs(names or tests.of(m.test).compare) do
    local figure = figures.of(m, name)
    local c = (names or not M.is_given(m, name)) and M.change(core, pair.old, pair.new, figure, alpha)
    if c then
      any = true
      c.test, c.case, c.via, c.figure, c.verdict = m.test, subject(m), m.via, name, verdict_of(c, figure)
      c.metric, c.among = m.metric, pair.new.among
      list[#list + 1] = c
    end
  end
  if not any and not names then
    local old = M.values(pair.old, figures.headline(m.test))
    skipped[#skipped + 1] = { test = m.test, case = subject(m),
      reason = #old == 0 and "old: " .. why_none(pair.old) or "new: " .. why_none(pair.new) }
  end
end

-- Compares two sides. options: { figures (names), alpha, any_environment }. Returns plain data, as --json writes it: {
-- alpha, environments, comparisons = { { test, case, via, figure, old, new, change, low, high, p, shown, verdict } … },
-- not_compared = { { test, case, reason } … } }, and the pairs of groups that were compared.
function M.run(core, old, new, options)
  local environments = M.environments(old, new)
  local result = { alpha = options.alpha or M.alpha, files = { old = #old.ledgers, new = #new.ledgers },
    environments = json.array(environments),
    comparisons = json.array(), not_compared = json.array() }
  if #old.ledgers > 0 and #new.ledgers > 0 then result.sources = { old = sources(old), new = sources(new) } end
  if #environments > 0 and not options.any_environment then
    result.refused = true
    return result, {}
  end
  local matched = pairs_of(old, new, options.any_environment, result.not_compared)
  for _, pair in ipairs(matched) do
    compare_pair(core, pair, options.figures, result.alpha, result.comparisons, result.not_compared)
  end
  return result, matched
end

-- ---- limits: --fail-if ----

-- Whether a change goes beyond a limit (a relative change with its sign).
function M.beyond(change, limit)
  if limit < 0 then return change <= limit end
  return change >= limit
end

-- Where there is no ratio, since an old or new value is 0: a rise from nothing is beyond every limit, a fall to nothing
-- likewise.
local function judge_difference(c, limit)
  if c.too_few then return "inconclusive" end
  local wrong_way = (c.difference > 0) == (limit > 0) and c.difference ~= 0
  return c.shown and wrong_way and "fail" or "pass"
end

-- It fails where a difference is shown and goes beyond the limit, passes where the interval does not reach it; between
-- is inconclusive.
local function judge_limit(c, limit)
  if not c.change then return judge_difference(c, limit) end
  if c.too_few then return "inconclusive" end
  if c.shown and M.beyond(c.change, limit) then return "fail" end
  return M.beyond(limit < 0 and c.low or c.high, limit) and "inconclusive" or "pass"
end

-- Judges limits (expect.parse_change) over the pairs of M.run: a list of { test, case, expression, status, reason, … }
-- as expectations are. What the old side measured and the new one did not (it failed, or was skipped) is inconclusive,
-- whatever else a limit matches.
function M.judge(core, matched, limits, alpha)
  local list = json.array()
  for _, limit in ipairs(limits) do
    local any, figure = false, limit.figure
    for _, pair in ipairs(matched) do
      local m = pair.new[1]
      local c = ledger.matches(m, limit.case) and M.change(core, pair.old, pair.new, figure, alpha)
      if c then
        any = true
        local status = judge_limit(c, limit.change)
        local reason = ("%s %s, was %s"):format(figure.title, figures.show(core, figure, c.new.value),
          figures.show(core, figure, c.old.value))
        if c.too_few then reason = ("%s: %d and %d repeats are too few to tell"):format(reason, c.old.n, c.new.n)
        elseif c.change then reason = ("%s: %s, between %s and %s"):format(reason, M.percent(c.change),
          M.percent(c.low), M.percent(c.high)) end
        list[#list + 1] = { test = m.test, case = subject(m), expression = limit.source, status = status,
          reason = reason,
          value = c.change, low = c.low, high = c.high, limit = limit.change, p = c.p }
      elseif ledger.matches(m, limit.case) and #M.values(pair.old, figure) > 0 then
        any = true
        list[#list + 1] = { test = m.test, case = subject(m), expression = limit.source, status = "inconclusive",
          reason = "new: " .. why_none(pair.new) }
      end
    end
    if not any then
      list[#list + 1] = { case = limit.case, expression = limit.source, status = "error",
        reason = "it matches nothing that was compared" }
    end
  end
  return list
end

-- A relative change as text: "+7.2 %".
function M.percent(x)
  local shown = ("%+.1f"):format(x * 100)
  if math.abs(x) >= 1 then shown = ("%+.0f"):format(x * 100) end
  return (shown:gsub("^[+-](0%.0)$", "%1")) .. " %"
end

return M
