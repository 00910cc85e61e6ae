-- knbl.results.metric - figures of a script's own: what it worked out itself, or another tool told it.
--
--   knbl.metric { name = "cost per GB", unit = "ms", value = 3.2, better = "less", labels = { path = "direct" } }
--
-- A metric is in the ledger as a measurement of the test `metric`, its value as the figure `value`: reports,
-- expectations and comparisons take it as any other.
local check_of = require "knbl.base.check"
local errors = require "knbl.base.errors"

local M = {}

local known = { name = true, case = true, unit = true, value = true, better = true, labels = true, expect = true }

local function check_text(t, key, required)
  local value = key == "case" and check_of.case(t) or t[key]
  if value == nil and not required then return end
  if type(value) ~= "string" or not value:find "%S" then
    errors.misuse("knbl.metric: %s must be a non-empty string, got %s", key, tostring(value))
  end
end

-- `selected`: of what --only leaves out scripts read "not a number".
local function check(core, t, selected)
  if type(t) ~= "table" then errors.misuse("knbl.metric takes a table, got %s", type(t)) end
  for key in pairs(t) do
    if not known[key] then
      local names = {}
      for name in pairs(known) do names[#names + 1] = name end
      errors.misuse("knbl.metric: unknown key '%s'%s", tostring(key), errors.hint(core, tostring(key), names))
    end
  end
  check_text(t, "name", true)
  check_text(t, "unit")
  check_text(t, "case")
  if type(t.value) ~= "number" or t.value ~= t.value and not selected or math.abs(t.value) == math.huge then
    errors.misuse("knbl.metric: value must be a finite number, got %s",
      type(t.value) == "number" and tostring(t.value) or errors.kind(t.value))
  end
  if t.better ~= nil and t.better ~= "less" and t.better ~= "more" then
    errors.misuse('knbl.metric: better must be "less" or "more", got %s', tostring(t.better))
  end
  if t.labels ~= nil and type(t.labels) ~= "table" then errors.misuse("knbl.metric: labels must be a table") end
end

local function labels_of(s, own)
  local labels
  for _, list in ipairs { s.labels or {}, own or {} } do
    for key, value in pairs(list) do
      labels = labels or {}
      labels[key] = type(value) == "table" and (value.name or tostring(value)) or value
    end
  end
  return labels
end

-- The measurement that a metric is.
function M.entry(s, t)
  return {
    test = "metric", case = check_of.case(t) or s.labels_case or t.name, from = "", to = "", ok = true,
    labels = labels_of(s, t.labels),
    metric = { name = t.name, unit = t.unit, better = t.better }, metrics = { value = t.value }, params = {},
    round = s.labels_round or (s.settings.repeats or 1) > 1 and s.round or nil, started = s.core.wall(),
    line = errors.where(),
  }
end

-- Enters a metric into the ledger; returns its measurement. One worked out from what --only leaves out is left out too.
function M.add(s, t)
  check(s.core, t, s.settings.only)
  local expect = require "knbl.results.expect"
  local parsed = expect.parse_all(s.core, t.expect, "knbl.metric")
  local entry = M.entry(s, t)
  if #parsed > 0 then
    entry.expect = {}
    for i, e in ipairs(parsed) do entry.expect[i] = e.source end
  end
  if t.value ~= t.value then
    entry.skipped = "not selected by --only"
  elseif s.ledger and not s.plan then
    s.ledger:add(entry)
  end
  return entry
end

return M
