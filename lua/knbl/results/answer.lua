-- knbl.results.answer - a table in a few sentences: where its two kinds of rows or columns differ, on how many pairs
-- that is shown, and where nothing can be told. Made from a grid (report.lua) and statistics alone.
--
-- The pairs are those of the report's `baseline`, or of a key of rows or columns that has two values. A pair is
-- compared only where both sides ran the same test with the same load. Each is judged by the rank test; over all pairs
-- and figures of a table Benjamini and Hochberg's rule decides which are shown, so that many pairs bring no more false
-- ones.
local axes = require "knbl.results.axes"
local compare = require "knbl.results.compare"
local figures = require "knbl.results.figures"
local ledger = require "knbl.results.ledger"

local M = { most = 6 }

-- Keys whose values are no alternatives of one another, unless a report names one as its baseline.
local no_choice = { from = true, to = true, round = true, test = true }

-- ---- what is compared ----

local function distinct(list)
  local values, seen = {}, {}
  for _, value in ipairs(list) do
    if value ~= nil and not seen[tostring(value)] then
      seen[tostring(value)], values[#values + 1] = true, value
    end
  end
  return values
end

local function row_values(grid, k)
  local list = {}
  for i, row in ipairs(grid.rows) do list[i] = row.values[k] end
  return distinct(list)
end

local function pivot_values(grid)
  local list = {}
  for _, column in ipairs(grid.columns) do
    if column.pivot ~= axes.none then list[#list + 1] = column.pivot end
  end
  return distinct(list)
end

-- The index of the row key that is compared; 0 for the columns' key; nil where nothing is. And its values, the base
-- first.
local function key_of(grid)
  local declaration = grid.declaration
  local function choose(values, index)
    local base = declaration.baseline
    if base == nil then return #values == 2 and index or nil, values end
    for i, value in ipairs(values) do
      if tostring(value) == tostring(base) then
        table.insert(values, 1, table.remove(values, i))
        return index, values
      end
    end
  end
  local function is_choice(key) return declaration.baseline ~= nil or not no_choice[key] end
  if declaration.pivot and is_choice(declaration.pivot) then
    local found, values = choose(pivot_values(grid), 0)
    if found then return found, values end
  end
  for k = #grid.heads, 1, -1 do
    if is_choice(grid.heads[k]) then
      local found, values = choose(row_values(grid, k), k)
      if found then return found, values end
    end
  end
end

-- The parts of a row's cells with the column that each is of.
local function each_part(grid, row, visit)
  for i, cell in ipairs(row.cells) do
    local column = grid.columns[i]
    for k, part in ipairs(cell.joined or { cell }) do
      visit(part, cell.joined and column.joined[k] or column.column, column.pivot)
    end
  end
end

local function same_work(a, b)
  for _, m in ipairs(b) do
    if m.test ~= a[1].test then return false end
    local _, mine = ledger.load(m)
    local _, its = ledger.load(a[1])
    if mine ~= its then return false end
  end
  return true
end

-- By column title: { figure, pairs = { { base = cell, other = cell }… } }, in the order of the columns.
local function pairs_of(grid, index, base, other)
  local list, by_title, sides = {}, {}, {}
  for _, row in ipairs(grid.rows) do
    local rest = {}
    for k, value in ipairs(row.values) do rest[k] = k == index and "" or tostring(value) end
    each_part(grid, row, function(part, column, pivot)
      local value = tostring(index == 0 and pivot or row.values[index])
      local key = table.concat(rest, "\31") .. "\30" .. column.title .. "\30"
        .. (index ~= 0 and tostring(pivot) or "")
      local side = sides[key] or {}
      sides[key] = side
      side[value] = part
      local a, b = side[tostring(base)], side[tostring(other)]
      if (value == tostring(base) or value == tostring(other)) and a and b and a.value and b.value
        and part.figure.better and same_work(a.measurements, b.measurements) then
        if not by_title[column.title] then
          by_title[column.title] = { title = column.title, figure = part.figure, unit = part.unit, pairs = {} }
          list[#list + 1] = by_title[column.title]
        end
        table.insert(by_title[column.title].pairs, { base = a, other = b, row = row, pivot = pivot })
      end
    end)
  end
  return list
end

-- ---- which differences are shown ----

-- Benjamini and Hochberg: marks those of `list` (each with p) that are shown at a rate of `alpha` false ones.
local function mark_shown(list, alpha)
  local order = {}
  for i, c in ipairs(list) do order[i], c.shown = c, false end
  table.sort(order, function(a, b) return a.p < b.p end)
  local last = 0
  for i, c in ipairs(order) do
    if c.p <= alpha * i / #order then last = i end
  end
  for i = 1, last do order[i].shown = not order[i].too_few end
end

-- What became of each figure: a list of { title, figure, unit, changes, few, higher, lower }.
local function judge(core, items, alpha)
  local told, all = {}, {}
  for i, item in ipairs(items) do
    local out = { title = item.title, figure = item.figure, unit = item.unit, changes = {}, few = 0, higher = {},
      lower = {} }
    for _, pair in ipairs(item.pairs) do
      local given = compare.is_given(pair.base.measurements[1], item.figure.name)
      local c = not given and compare.change(core, pair.base.measurements, pair.other.measurements, item.figure, alpha)
      if c then
        c.pair, out.changes[#out.changes + 1], all[#all + 1] = pair, c, c
        if c.too_few then out.few = out.few + 1 end
      end
    end
    told[i] = out
  end
  mark_shown(all, alpha)
  for _, out in ipairs(told) do
    for _, c in ipairs(out.changes) do
      local by = c.change or c.difference
      if c.shown and by ~= 0 then table.insert(by > 0 and out.higher or out.lower, c) end
    end
  end
  return told
end

-- ---- words ----

local function plural(grid, index, total)
  local rest = {}
  for k, head in ipairs(grid.heads) do
    if k ~= index then rest[#rest + 1] = head end
  end
  local word = #rest == 1 and index ~= 0 and #rest[1] > 2 and rest[1] or index == 0 and #rest == 1 and rest[1] or "row"
  return total == 1 and word or word:match "s$" and word or word .. "s"
end

-- "18 % (1.7 µs)": of several pairs the one in the middle.
local function amount(core, told, list, ascii)
  table.sort(list, function(a, b) return (a.change or a.difference) < (b.change or b.difference) end)
  local c = list[math.ceil(#list / 2)]
  local by = math.abs(c.new.value - c.old.value)
  local absolute = figures.show(core, told.figure, by, ascii, told.unit)
  if not c.change then return absolute end
  return ("%s %% (%s)"):format(figures.significant(math.abs(c.change) * 100), absolute)
end

local function difference(core, grid, index, told, ascii)
  local higher, lower = #told.higher, #told.lower
  local where = plural(grid, index, #told.changes)
  if higher > 0 and lower > 0 then
    return ("%s is higher on %d and lower on %d of %d %s"):format(told.title, higher, lower, #told.changes, where)
  end
  local list, word = higher > 0 and told.higher or told.lower, higher > 0 and "higher" or "lower"
  local text = ("%s is %s %s"):format(told.title, amount(core, told, list, ascii), word)
  if #told.changes > 1 then
    text = ("%s, shown on %d of %d %s"):format(text, #list, #told.changes, where)
  end
  return text
end

local function titles(list)
  local names = {}
  for i, told in ipairs(list) do names[i] = told.title end
  return table.concat(names, ", ")
end

-- How a side of a pair is called.
local function side_name(core, grid, index, value)
  local head = index == 0 and grid.declaration.pivot or grid.heads[index]
  local shown = axes.text(core, head, value)
  return type(value) == "number" and ("%s %s"):format(head, shown) or shown
end

-- One of the values beside the base.
local function beside(core, grid, index, values, k, alpha, ascii)
  local base, other = side_name(core, grid, index, values[1]), side_name(core, grid, index, values[k])
  local shown, none, few = {}, {}, {}
  for _, told in ipairs(judge(core, pairs_of(grid, index, values[1], values[k]), alpha)) do
    local total = #told.changes
    if total > 0 and told.few == total then few[#few + 1] = told
    elseif #told.higher + #told.lower > 0 then shown[#shown + 1] = difference(core, grid, index, told, ascii)
    elseif total > 0 then none[#none + 1] = told end
  end
  if #shown + #none == 0 then return nil, #few > 0 and { base, other } or nil end
  local text = ("%s against %s: "):format(other, base)
  if #shown > 0 then text = text .. table.concat(shown, "; ") end
  if #none > 0 then
    text = text .. (#shown > 0 and "; " or "") .. "no difference shown in " .. titles(none)
  end
  return text .. "."
end

-- The pairs themselves: { sides = { names, the base first }, list = what judge() says of each figure, by side from the
-- second }; each change has `pair` = { base, other, row, pivot }. nil where nothing is compared.
function M.pairs(core, grid, alpha)
  if grid.empty or #grid.rows == 0 then return nil end
  local index, values = key_of(grid)
  local out = { index = index, sides = {}, list = {} }
  for k = 1, index and math.min(#values, M.most + 1) or 0 do
    out.sides[k] = side_name(core, grid, index, values[k])
    if k > 1 then out.list[k] = judge(core, pairs_of(grid, index, values[1], values[k]), alpha or compare.alpha) end
  end
  return #out.sides > 1 and out or nil
end

-- nil: some cells hold what is no repeat, which --repeats cannot change.
local function repeats_of(grid)
  local most, mixed = 0, false
  for _, row in ipairs(grid.rows) do
    each_part(grid, row, function(part) most, mixed = math.max(most, part.n or 0), mixed or part.mixed end)
  end
  return not mixed and most or nil
end

-- ---- the worst row ----

-- The row with the worst latency, where the repeats show it to be worse than the next one.
local function worst(core, grid, alpha, ascii)
  if grid.declaration.pivot or #grid.rows < 3 then return nil end
  local at
  for i, column in ipairs(grid.columns) do
    local figure = figures.get(column.column.show)
    at = at or figure.unit == "time" and figure.better == "less" and i or nil
  end
  local list = {}
  for _, row in ipairs(at and grid.rows or {}) do
    if row.cells[at].value then list[#list + 1] = row end
  end
  table.sort(list, function(a, b) return a.cells[at].value > b.cells[at].value end)
  local first, second = list[1], list[2]
  if not second then return nil end
  local a, b = first.cells[at], second.cells[at]
  if not same_work(a.measurements, b.measurements) then return nil end
  local c = compare.change(core, b.measurements, a.measurements, a.figure, alpha / (#list - 1))
  if not c or not c.shown then return nil end
  local function named(row)
    local parts = {}
    for k, value in ipairs(row.values) do parts[k] = axes.text(core, grid.heads[k], value) end
    return table.concat(parts, " ")
  end
  return ("Highest %s: %s (%s), then %s (%s)."):format(grid.columns[at].title, named(first),
    figures.show(core, a.figure, a.value, ascii, a.unit), named(second),
    figures.show(core, b.figure, b.value, ascii, b.unit))
end

-- The sentences of a grid: a list of texts, empty where there is nothing to compare.
function M.sentences(core, grid, ascii, alpha)
  alpha = alpha or compare.alpha
  local list = {}
  if grid.empty or #grid.rows == 0 then return list end
  local index, values = key_of(grid)
  local untold
  for k = 2, index and math.min(#values, M.most + 1) or 1 do
    local text, names = beside(core, grid, index, values, k, alpha, ascii)
    list[#list + 1] = text
    untold = untold or names
  end
  local n = repeats_of(grid)
  if untold and #list == 0 and n then
    local some = #values > 2 and "the others" or untold[2]
    list[1] = ("%s: whether %s and %s differ cannot be told; --repeats 6 can."):format(
      n == 1 and "Measured once" or ("%d repeats are too few"):format(n), some, untold[1])
  end
  list[#list + 1] = worst(core, grid, alpha, ascii)
  return list
end

return M
