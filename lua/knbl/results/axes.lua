-- knbl.results.axes - the rows and columns of a table, by keys: the value of a measurement under a key, its order, its
-- text, and the measurements that have it.
local ledger = require "knbl.results.ledger"

local M = {}

-- Those that every measurement has.
M.plain = { test = true, case = true, from = true, to = true, via = true, round = true }

-- What a measurement has under a key of rows or columns.
function M.of(m, key)
  if m.labels and m.labels[key] ~= nil then return m.labels[key] end
  if M.plain[key] then return m[key] end
  if m.params and m.params[key] ~= nil then return m.params[key] end
  if key == "load" then return (ledger.load(m)) end
  if key == "start" then return ledger.start(m) end
  return nil
end

-- Whether it has the values of `where`, and is one of the tests, a list of names.
function M.matches(m, where, test)
  if test then
    local found
    for _, name in ipairs(test) do found = found or m.test == name end
    if not found then return false end
  end
  for key, value in pairs(where or {}) do
    if tostring(M.of(m, key)) ~= tostring(value) then return false end
  end
  return true
end

-- What has no value under one of the rows' keys is not of this table; `lenient` takes it all the same.
local function row_of(m, rows, lenient)
  local parts, values = {}, {}
  for i, key in ipairs(rows) do
    local value = M.of(m, key)
    if value == nil and lenient then value = "" end
    if value == nil then return nil end
    if type(value) == "boolean" then value = tostring(value) end
    parts[i], values[i] = tostring(value), value
  end
  return table.concat(parts, "\31"), values
end

-- Numbers, and names that differ in the number at their end alone (node-1 … node-12), are in the order of that; all
-- else as it came.
local function in_order(list, name_of)
  local stem
  local numbers = true
  for _, item in ipairs(list) do numbers = numbers and type(name_of(item)) == "number" end
  if numbers then return table.sort(list, function(a, b) return name_of(a) < name_of(b) end) end
  for _, item in ipairs(list) do
    local mine = tostring(name_of(item)):match "^(.*%D)%d+$"
    if not mine or stem and mine ~= stem then return end
    stem = mine
  end
  table.sort(list, function(a, b) return tonumber(tostring(name_of(a)):match "%d+$") < tonumber(
    tostring(name_of(b)):match "%d+$") end)
end

-- The values that become columns.
function M.pivot_values(measurements, declaration)
  local values, seen = {}, {}
  for _, m in ipairs(measurements) do
    local value = M.of(m, declaration.pivot)
    local wanted = value ~= nil and M.matches(m, declaration.where) and row_of(m, declaration.rows, declaration.lenient)
    if wanted and not seen[tostring(value)] then
      local shown
      for _, column in ipairs(declaration.columns) do shown = shown or M.matches(m, column.where, column.test) end
      if shown then
        seen[tostring(value)] = true
        values[#values + 1] = value
      end
    end
  end
  in_order(values, function(value) return value end)
  return values
end

-- The value of a key as tables show it.
function M.text(core, key, value)
  if key == "size" and type(value) == "number" then return core.format_size(value) end
  -- a rate, as the engines have it
  local bits, times = tostring(value):match "^(%d+)bit/s$", tostring(value):match "^(%d+)/s$"
  if key == "rate" and (bits or times) then
    return bits and core.format_bits(tonumber(bits)) or core.format_rate(tonumber(times))
  end
  local at, rate = tostring(value):match "^(.*at) (%d+%a*/s)$" -- a load, as the ledger has it
  if key == "load" and rate then return ("%s %s"):format(at, M.text(core, "rate", rate)) end
  if type(value) == "number" then
    return (value % 1 == 0 and math.abs(value) < 1e15 and "%.0f" or "%.6g"):format(value)
  end
  return tostring(value)
end

-- Stands for "has no value under the pivot's key".
M.none = {}

-- Those of a cell: of the column, and of the value of the pivot.
function M.select(list, column, declaration, pivot)
  local chosen = {}
  for _, m in ipairs(list) do
    local value = pivot ~= nil and M.of(m, declaration.pivot)
    local fits = pivot == nil or pivot == M.none and value == nil or value ~= nil and tostring(value) == tostring(pivot)
    if fits and M.matches(m, column.where, column.test) then
      chosen[#chosen + 1] = m
    end
  end
  return chosen
end

-- Rows with the same first value stand together, in the order in which each value first came.
local function grouped(rows)
  local place, n = {}, 0
  for i, row in ipairs(rows) do
    local first = tostring(row.values[1])
    if not place[first] then n, place[first] = n + 1, n + 1 end
    row.place, row.came = place[first], i
  end
  table.sort(rows, function(a, b)
    if a.place ~= b.place then return a.place < b.place end
    return a.came < b.came
  end)
  return rows
end

-- The measurements that a table is about, by its rows: { { values, list }… }.
function M.rows(data, declaration)
  local rows, by_key = {}, {}
  for _, m in ipairs(data.measurements) do
    local key, values
    if M.matches(m, declaration.where) then key, values = row_of(m, declaration.rows, declaration.lenient) end
    if key then
      if not by_key[key] then
        by_key[key] = { values = values, list = {} }
        rows[#rows + 1] = by_key[key]
      end
      table.insert(by_key[key].list, m)
    end
  end
  if #declaration.rows == 1 and declaration.rows[1] ~= "case" then
    in_order(rows, function(row) return row.values[1] end)
  end
  return grouped(rows)
end

return M
