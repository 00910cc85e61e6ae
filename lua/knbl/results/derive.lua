-- knbl.results.derive - columns of a report that are functions: what they make of a row's results enters the ledger as
-- a metric, so that the table comes from the ledger alone, as every other.
local axes = require "knbl.results.axes"
local errors = require "knbl.base.errors"
local metric = require "knbl.results.metric"

local M = {}

-- What a function gets: the measurements of a row that went well, as a list and by test.
local function results_of(list, round)
  local results, whole = {}, true
  for _, m in ipairs(list) do
    if (m.round or 1) == round then
      whole = whole and m.ok
      if m.ok then
        results[#results + 1] = m
        results[m.test] = results[m.test] or m
      end
    end
  end
  return results, whole
end

local function rounds_of(list)
  local rounds, seen = {}, {}
  for _, m in ipairs(list) do
    local round = m.round or 1
    if not seen[round] then seen[round], rounds[#rounds + 1] = true, round end
  end
  return rounds
end

-- The labels that all measurements of a row share, and the values of its keys.
local function labels_of(row, declaration, title)
  local labels = {}
  for key, value in pairs(row.list[1].labels or {}) do
    local shared = true
    for _, m in ipairs(row.list) do shared = shared and (m.labels or {})[key] == value end
    if shared then labels[key] = value end
  end
  for i, key in ipairs(declaration.rows) do labels[key] = row.values[i] end
  labels.derived = title
  return labels
end

local function value_of(s, derived, results, whole)
  local ok, value = pcall(derived.compute, results)
  if not ok then
    if not whole or s.unselected then return nil end -- what it needs was not measured
    errors.misuse("knbl.report: column '%s': %s", derived.title, tostring(value))
  end
  if value ~= nil and type(value) ~= "number" then
    errors.misuse("knbl.report: column '%s' must give a number, got %s", derived.title, type(value))
  end
  if value and (value ~= value or math.abs(value) == math.huge) then return nil end
  return value
end

-- Enters what a report's functions make of each row and round, once.
function M.add(s, declaration, functions)
  s.derived = s.derived or {}
  for _, derived in ipairs(functions) do
    for _, row in ipairs(axes.rows(s.ledger.data, declaration)) do
      local labels = labels_of(row, declaration, derived.title)
      local names = {}
      for i, value in ipairs(row.values) do names[i] = tostring(value) end
      for _, round in ipairs(rounds_of(row.list)) do
        local key = table.concat({ derived.title, table.concat(names, "\31"), round }, "\30")
        local results, whole = results_of(row.list, round)
        local value = not s.derived[key] and #results > 0 and value_of(s, derived, results, whole)
        if value then
          s.derived[key] = true
          local entry = metric.entry(s, { name = derived.title, unit = derived.unit, better = derived.better,
            value = value, case = table.concat(names, " ") })
          entry.labels, entry.round = labels, row.list[1].round and round or nil
          s.ledger:add(entry)
        end
      end
    end
  end
end

return M
