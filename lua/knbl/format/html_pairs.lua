-- knbl.format.html_pairs - the two (or more) sides that a table compares, as a chart: for each row the figure of each
-- side with its interval, and beside them how far they are apart. What is compared, and which differences are shown,
-- says answer.lua.
local answer = require "knbl.results.answer"
local axes = require "knbl.results.axes"
local chart = require "knbl.format.chart"
local compare = require "knbl.results.compare"
local figures = require "knbl.results.figures"

local M = {}

local escape = chart.escape
local ROWS_MAX, SIDES_MAX = 24, 4

-- ---- from a grid ----

local function row_name(core, grid, index, pair)
  local parts = {}
  for k, value in ipairs(pair.row.values) do
    if k ~= index then parts[#parts + 1] = axes.text(core, grid.heads[k], value) end
  end
  if index ~= 0 and pair.pivot ~= nil and pair.pivot ~= axes.none then
    parts[#parts + 1] = axes.text(core, grid.declaration.pivot, pair.pivot)
  end
  return table.concat(parts, " · ")
end

-- A grid's figures with a pair: { sides, list of { title, figure, unit, shown, rows = { { name, [k] = change }… } } };
-- nil where nothing is compared.
function M.of(core, grid)
  local found = answer.pairs(core, grid)
  if not found then return nil end
  local out, by_title = { sides = found.sides, list = {}, title = grid.title }, {}
  for k = 2, #found.sides do
    for _, told in ipairs(found.list[k]) do
      local item = by_title[told.title]
      if not item then
        item = { title = told.title, figure = told.figure, unit = told.unit, shown = 0, rows = {}, by_name = {} }
        by_title[told.title], out.list[#out.list + 1] = item, item
      end
      item.shown = item.shown + #told.higher + #told.lower
      for _, c in ipairs(told.changes) do
        local name = row_name(core, grid, found.index, c.pair)
        if not item.by_name[name] then
          item.by_name[name] = { name = name }
          table.insert(item.rows, item.by_name[name])
        end
        item.by_name[name][k] = c
      end
    end
  end
  for i = #out.list, 1, -1 do
    if #out.list[i].rows == 0 then table.remove(out.list, i) end
  end
  return #out.list > 0 and out or nil
end

-- How much a figure says: how many differences are shown; then whether it is of many operations; then how narrow the
-- intervals of the differences are.
local FEW = 100
local function weight(item, sides)
  local widths, few = {}, 0
  for _, row in ipairs(item.rows) do
    for k = 2, sides do
      local c = row[k]
      if c and c.change and c.low and c.high then widths[#widths + 1] = c.high - c.low end
      for _, cell in ipairs(c and { c.pair.base, c.pair.other } or {}) do
        few = few + ((figures.samples_of(cell.measurements) or FEW) < FEW and 1 or 0)
      end
    end
  end
  table.sort(widths)
  return { item.shown, -few, -(widths[math.ceil(#widths / 2)] or math.huge) }
end

-- The figure that answers best; the first of equals.
function M.best(found)
  local best, most
  for _, item in ipairs(found.list) do
    local its, more = weight(item, #found.sides), not best
    for i, w in ipairs(best and its or {}) do
      if w ~= most[i] then more = w > most[i] break end
    end
    if more then best, most = item, its end
  end
  return best
end

-- In which row and on which side of a pair each measurement is: { [measurement] = { row, side, name } }.
function M.places(found, into)
  local function put(cell, row, k)
    for _, m in ipairs(cell.measurements) do
      into[m] = into[m] or { row = row.name, side = k, name = found.sides[k] }
    end
  end
  for _, item in ipairs(found.list) do
    for _, row in ipairs(item.rows) do
      for k = 2, #found.sides do
        if row[k] then
          put(row[k].pair.base, row, 1)
          put(row[k].pair.other, row, k)
        end
      end
    end
  end
  return into
end

-- ---- drawing ----

local function word_of(c, figure)
  local by = c.change or c.difference
  if not c.shown or by == 0 then return nil end
  if not figure.better then return "differs" end
  return (by > 0) == (figure.better == "more") and "better" or "worse"
end

local function by_text(core, c, item)
  if c.change then return compare.percent(c.change) end
  local by = figures.show(core, item.figure, math.abs(c.difference), false, item.unit)
  return (c.difference < 0 and "-" or c.difference > 0 and "+" or "") .. by
end

-- Ratios stand on a logarithmic scale, so that twice and half as much are equally far from the middle.
local function position(change) return math.log(math.max(0.01, 1 + change)) end

local function reach(rows, sides)
  local most = math.log(1.1)
  for _, row in ipairs(rows) do
    for k = 2, sides do
      for _, v in ipairs { row[k] and row[k].change, row[k] and row[k].change and row[k].low,
        row[k] and row[k].change and row[k].high } do
        most = math.max(most, math.abs(position(v)))
      end
    end
  end
  return math.min(most, math.log(10))
end

local function forest(c, most, word)
  if not c.change then return "<span></span>" end
  local function percent(change) return 50 + 50 * math.max(-1, math.min(1, position(change) / most)) end
  local class = word and " " .. word or ""
  local range = c.low and c.high and ('<i class="range%s" style="left:%.1f%%;width:%.1f%%"></i>'):format(class,
    percent(c.low), percent(c.high) - percent(c.low)) or ""
  return ('<span class="forest" title="%s">%s<i class="spot%s" style="left:%.1f%%"></i></span>'):format(
    c.low and c.high and escape(compare.percent(c.low) .. " … " .. compare.percent(c.high)) or "no interval",
    range, class, percent(c.change))
end

local function bar(core, side, k, most, item)
  local function percent(v) return math.min(100, math.max(0, v) / most * 100) end
  local function show(v) return escape(figures.show(core, item.figure, v, false, item.unit)) end
  local whisker = side.low and side.high and (
    '<i class="whisker%s" style="left:%.1f%%;width:%.1f%%" title="%s … %s"></i>'):format(
    side.high > most and " open" or "", percent(side.low), percent(side.high) - percent(side.low), show(side.low),
    show(side.high)) or ""
  return ('<span class="track"><i class="bar s%d" style="width:%.1f%%"></i>%s</span><span class="value">%s</span>')
    :format(k, percent(side.value), whisker, show(side.value))
end

-- The end of the scale: room for the intervals, but no more for them than for the figures.
local function most_of(rows, sides)
  local value, high = 0, 0
  for _, row in ipairs(rows) do
    for k = 2, sides do
      for _, side in ipairs(row[k] and { row[k].old, row[k].new } or {}) do
        value, high = math.max(value, side.value), math.max(high, side.high or 0)
      end
    end
  end
  local most = math.max(value, math.min(high, 2 * value))
  return most > 0 and most or 1
end

-- Of many rows those whose sides are farthest apart, in their own order. Returns them and how many there were.
local function chosen(rows)
  if #rows <= ROWS_MAX then return rows, nil end
  local order, list = {}, {}
  for i, row in ipairs(rows) do
    order[i] = { row = row, at = i, far = 0 }
    for k = 2, SIDES_MAX do
      local change = row[k] and row[k].change
      if change then order[i].far = math.max(order[i].far, math.abs(position(change))) end
    end
  end
  table.sort(order, function(a, b)
    if a.far ~= b.far then return a.far > b.far end
    return a.at < b.at
  end)
  for i = ROWS_MAX + 1, #order do order[i] = nil end
  table.sort(order, function(a, b) return a.at < b.at end)
  for i, item in ipairs(order) do list[i] = item.row end
  return list, #rows
end

local function rows_html(core, item, rows, sides, out)
  local most, far = most_of(rows, sides), reach(rows, sides)
  for i, row in ipairs(rows) do
    local base
    for k = sides, 2, -1 do base = row[k] and row[k].old or base end
    out[#out + 1] = ('%s<span class="name first">%s</span>%s<span></span><span></span>'):format(
      i > 1 and '<i class="rule"></i>' or "", escape(row.name), bar(core, base, 1, most, item))
    for k = 2, sides do
      local c = row[k]
      if c then
        local word = word_of(c, item.figure)
        out[#out + 1] = ('<span class="first name"></span>%s%s<span class="by%s">%s</span>'):format(
          bar(core, c.new, k, most, item), forest(c, far, word), word and " " .. word or "",
          escape(by_text(core, c, item)))
      end
    end
  end
end

-- How to read it: a few words, made of what is there.
local function note_of(item, rows, sides, all)
  local intervals, few, told = false, 0, 0
  for _, row in ipairs(rows) do
    for k = 2, sides do
      if row[k] then
        told, intervals = told + 1, intervals or row[k].low ~= nil
        if row[k].too_few then few = few + 1 end
      end
    end
  end
  local parts = { item.figure.better == "more" and "more is better" or item.figure.better == "less" and "less is better"
    or nil }
  if intervals then parts[#parts + 1] = "with 95 % intervals" end
  if few == told then parts[#parts + 1] = "differences beside them, of too few repeats to tell"
  else parts[#parts + 1] = "differences beside them; those in grey are not shown to be any" end
  if all then parts[#parts + 1] = ("the %d of %d rows that differ most"):format(#rows, all) end
  return table.concat(parts, ", ")
end

-- Whether all that a chart would show is 0: errors that did not occur.
function M.is_zero(found, item)
  for _, row in ipairs(item.rows) do
    for k = 2, #found.sides do
      if row[k] and (row[k].old.value ~= 0 or row[k].new.value ~= 0) then return false end
    end
  end
  return true
end

-- One figure of what of() found: a title, a note, and the drawing.
function M.chart(core, found, item)
  local rows, all = chosen(item.rows)
  local sides = math.min(#found.sides, SIDES_MAX)
  local out, keys, names = { '<div class="pairs">' }, {}, {}
  rows_html(core, item, rows, sides, out)
  for k = 1, sides do keys[k], names[k - 1] = { label = found.sides[k] }, k > 1 and found.sides[k] or nil end
  out[#out + 1] = "</div>" .. chart.legend(keys)
  local title = ("%s: %s against %s"):format(item.title, table.concat(names, ", "), found.sides[1])
  return title, note_of(item, rows, sides, all), table.concat(out)
end

return M
