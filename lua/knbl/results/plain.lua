-- knbl.results.plain - declarations for a ledger whose scenario made none: a table for all tests that show the same
-- columns.
local figures = require "knbl.results.figures"
local axes = require "knbl.results.axes"
local ledger = require "knbl.results.ledger"
local tests = require "knbl.base.tests"

local M = {}

-- Tests that show the same columns share a table: lists of their names, by the columns.
local function kinds_of(data)
  local kinds, by_columns, seen = {}, {}, {}
  for _, m in ipairs(data.measurements) do seen[m.test] = true end
  local function add(name)
    local columns = tests.of(name).columns
    local key = table.concat(columns, " ")
    if not by_columns[key] then
      by_columns[key] = { tests = {}, show = columns }
      kinds[#kinds + 1] = by_columns[key]
    end
    table.insert(by_columns[key].tests, name)
    seen[name] = nil
  end
  for _, test in ipairs(tests.list) do
    if seen[test.name] then add(test.name) end
  end
  for _, m in ipairs(data.measurements) do
    if seen[m.test] then add(m.test) end
  end
  return kinds
end

-- Whether a measurement has a figure, or says why it has none.
local function tells(m, figure)
  if m.ok and figures.value(m, figure) then return true end
  for _, flag in ipairs(m.flags or {}) do
    if flag == "no_change" and figures.concerns(flag, figure) then return true end
  end
end

local function columns_of_kind(list, kind)
  local columns = {}
  for i, name in ipairs(kind.show) do
    local figure = figures.get(name)
    for _, m in ipairs(list) do
      if i == 1 or tells(m, figure) then
        columns[#columns + 1] = { title = figure.title, show = name, test = kind.tests }
        break
      end
    end
  end
  return columns
end

local function has_sizes(list)
  local sizes = {}
  for _, m in ipairs(list) do
    if m.params and m.params.size then sizes[tostring(m.params.size)] = true end
  end
  local first = next(sizes)
  return first and next(sizes, first) ~= nil
end

-- A row for each measurement, told apart by what differs.
local function rows_of_kind(list)
  local given, starts, armed = false, {}, false
  for _, m in ipairs(list) do
    armed = armed or m.labels and m.labels.arm ~= nil
    given = given or m.params and m.params.rate ~= nil
    starts[ledger.start(m)] = tests.of(m.test).shape ~= "echo" or nil
  end
  local rows = { "test", "case", "via" }
  if has_sizes(list) then rows[#rows + 1] = "size" end
  if given then rows[#rows + 1] = "load" end -- a rate that was asked for should not pass for one that was reached
  if starts.cold and starts.warm then rows[#rows + 1] = "start" end
  for _, key in ipairs { "from", "to" } do
    if ledger.several(list, key) then rows[#rows + 1] = key end
  end
  if armed then rows[#rows + 1] = "arm" end -- of knbl ab and knbl change
  return rows
end

-- The declaration for data whose targets have measurements of their own (knbl.results.split).
function M.of_targets(data)
  local list, names = {}, {}
  for _, m in ipairs(data.measurements) do
    if m.labels and m.labels.target then
      list[#list + 1] = m
      names[m.test] = true
    end
  end
  local tests_of, kind = {}, { show = { "target_asked", "target_share", "throughput", "rate", "p50", "p99",
    "target_failed" } }
  for name in pairs(names) do tests_of[#tests_of + 1] = name end
  kind.tests = tests_of
  local rows = has_sizes(list) and { "test", "case", "size", "target" } or { "test", "case", "target" }
  return { title = "by target", rows = rows, columns = columns_of_kind(list, kind) }
end

-- The declarations for a ledger's data.
function M.declarations(data)
  local declared = {}
  for i, kind in ipairs(kinds_of(data)) do
    local list = {}
    for _, m in ipairs(data.measurements) do
      if axes.matches(m, nil, kind.tests) then list[#list + 1] = m end
    end
    declared[i] = { rows = rows_of_kind(list), columns = columns_of_kind(list, kind), lenient = true }
  end
  return declared
end

return M
