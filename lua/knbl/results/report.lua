-- knbl.results.report - the tables that answer a scenario's question, made from a ledger alone: each declaration
-- (declaration.lua) becomes a grid of titles and cells, which the formats write out.
local cell_of = require("knbl.results.cell").of
local errors = require "knbl.base.errors"
local figures = require "knbl.results.figures"
local axes = require "knbl.results.axes"
local ledger = require "knbl.results.ledger"
local plain = require "knbl.results.plain"
local split = require "knbl.results.split"

local M = {}

-- The columns of a declaration: { title, column, pivot? }.
local function columns_of(core, measurements, declaration)
  local list = {}
  if not declaration.pivot then
    for i, column in ipairs(declaration.columns) do list[i] = { title = column.title, column = column } end
    return list
  end
  for _, value in ipairs(axes.pivot_values(measurements, declaration)) do
    local title = axes.text(core, declaration.pivot, value)
    if declaration.join then
      list[#list + 1] = { title = title, joined = declaration.columns, pivot = value }
    else
      for _, column in ipairs(declaration.columns) do
        -- a bare number, or yes and no, beside a figure's name says little
        local bare = type(value) == "number" or tostring(value) == "true" or tostring(value) == "false"
        local key = bare and declaration.pivot .. " " or ""
        local whole = #declaration.columns > 1 and key .. title .. " " .. column.title or title
        list[#list + 1] = { title = whole, column = column, pivot = value }
      end
    end
  end
  return list
end

local function is_base(value, declaration) return value ~= nil and tostring(value) == tostring(declaration.baseline) end

-- A cell's figure over that of the baseline; of joined figures each over its own.
local function relate(cell, base)
  for k, part in ipairs(cell.joined or {}) do relate(part, base.joined[k]) end
  if cell ~= base and cell.value and base.value and base.value ~= 0 then cell.relative = cell.value / base.value end
end

-- By column: each cell beside that of its row and figure in the column of the baseline.
local function relate_columns(grid, declaration)
  local found
  for i, column in ipairs(grid.columns) do
    for k, other in ipairs(grid.columns) do
      if is_base(other.pivot, declaration) and other.column == column.column then
        found = true
        for _, row in ipairs(grid.rows) do relate(row.cells[i], row.cells[k]) end
      end
    end
  end
  return found
end

-- By row: each beside the one that differs from it in that key alone.
local function relate_rows(grid, declaration)
  local key, bases = nil, {}
  for _, row in ipairs(grid.rows) do
    for k, value in ipairs(row.values) do key = key or is_base(value, declaration) and k or nil end
  end
  if not key then return false end
  local function others(row)
    local parts = {}
    for k, value in ipairs(row.values) do parts[k] = k == key and "" or tostring(value) end
    return table.concat(parts, "\31")
  end
  for _, row in ipairs(grid.rows) do
    if is_base(row.values[key], declaration) then bases[others(row)] = row end
  end
  for _, row in ipairs(grid.rows) do
    local base = bases[others(row)]
    for i, cell in ipairs(base and row.cells or {}) do relate(cell, base.cells[i]) end
  end
  return true
end

-- What a table of a pivot is about, where its title does not say it: "throughput, by mss"; of joined figures, in which
-- order they stand.
local function title_of(declaration)
  if not declaration.pivot then return declaration.title end
  local shown = {}
  for i, column in ipairs(declaration.columns) do shown[i] = column.title end
  if declaration.title then
    return declaration.title, declaration.join and #shown > 1 and table.concat(shown, " · ") or nil
  end
  if not declaration.join and #shown > 1 then return nil end
  return ("%s, by %s"):format(table.concat(shown, " · "), declaration.pivot)
end

-- Why a table is empty though something was measured: a key that no measurement has.
local function emptiness(core, data, declaration)
  local names, known = {}, {}
  local function add(key)
    if type(key) == "string" and not known[key] then known[key], names[#names + 1] = true, key end
  end
  for key in pairs(axes.plain) do add(key) end
  for _, m in ipairs(data.measurements) do
    for key in pairs(m.labels or {}) do add(key) end
    for key in pairs(m.params or {}) do add(key) end
  end
  local wanted = { declaration.pivot }
  for _, key in ipairs(declaration.rows) do wanted[#wanted + 1] = key end
  for key in pairs(declaration.where or {}) do wanted[#wanted + 1] = key end
  table.sort(names)
  for _, key in ipairs(wanted) do
    if not known[key] then
      local advice = core.nearest and errors.hint(core, key, names) or ""
      if key == declaration.pivot and figures.get(key) then
        advice = (": for the figure of that name say columns = { \"%s\" }"):format(key)
      end
      return ("nothing that was measured has '%s'%s"):format(key, advice)
    end
  end
end

-- A row's cells, and whether anything is in them.
local function cells_of(core, row, columns, declaration)
  local cells, any = {}, false
  local function cell(part, pivot)
    local list = axes.select(row.list, part, declaration, pivot)
    any = any or #list > 0
    return cell_of(core, list, part)
  end
  for i, column in ipairs(columns) do
    if column.joined then
      cells[i] = { joined = {} }
      for k, part in ipairs(column.joined) do cells[i].joined[k] = cell(part, column.pivot) end
    else
      cells[i] = cell(column.column, column.pivot)
    end
  end
  return cells, any
end

-- What was measured once and not for each value of the pivot has a last column of its own, "no mss".
local function add_once(core, grid)
  local declaration, any = grid.declaration, false
  for _, row in ipairs(grid.rows) do any = any or row.extra ~= nil end
  if not any or declaration.join or #grid.columns == 0 then return end
  local column = declaration.columns[1]
  grid.columns[#grid.columns + 1] = { title = "no " .. declaration.pivot, column = column, pivot = axes.none }
  for _, row in ipairs(grid.rows) do table.insert(row.cells, row.extra or cell_of(core, {}, column)) end
end

-- Each figure of a grid that has a value: visit(cell, column's number).
local function each_figure(grid, visit)
  for _, row in ipairs(grid.rows) do
    for i, cell in ipairs(row.cells) do
      for _, part in ipairs(cell.joined or { cell }) do
        if part.value then visit(part, i) end
      end
    end
  end
end

local function has(list, item)
  for i, other in ipairs(list) do
    if other == item then return i end
  end
end

-- In which columns a note is on nearly every figure: at least three, and three of four. By note: { [column] = true }.
local function common_notes(grid)
  local total, count, order = {}, {}, {}
  each_figure(grid, function(part, i)
    total[i] = (total[i] or 0) + 1
    for _, note in ipairs(part.notes) do
      if not count[note] then count[note], order[#order + 1] = {}, note end
      count[note][i] = (count[note][i] or 0) + 1
    end
  end)
  for k = #order, 1, -1 do
    local columns = count[order[k]]
    for i, n in pairs(columns) do columns[i] = n >= 3 and n >= 0.75 * total[i] or nil end
    if not next(columns) then table.remove(order, k) end
  end
  return order, count
end

-- What is doubtful about nearly all figures is said once, above the table, and no longer at each of them.
local function hoist_notes(grid)
  local order, columns_of_note = common_notes(grid)
  for _, note in ipairs(order) do
    local columns, n, total, names = columns_of_note[note], 0, 0, {}
    each_figure(grid, function(part, i)
      if not columns[i] then return end
      total = total + 1
      local at = has(part.notes, note)
      if at then
        table.remove(part.notes, at)
        n = n + 1
      end
    end)
    for i, column in ipairs(grid.columns) do
      if columns[i] then names[#names + 1] = column.title end
    end
    local where = (" in column%s %s"):format(#names == 1 and "" or "s", table.concat(names, ", "))
    if #names == #grid.columns then where = ""
    elseif #names > 6 then where = (" in %d of %d columns"):format(#names, #grid.columns) end
    grid.warnings[#grid.warnings + 1] = ("%s figures%s: %s"):format(
      n == total and ("all %d"):format(n) or ("%d of %d"):format(n, total), where, note)
  end
end

-- A declaration over a ledger's data: { title, order?, empty?, remark?, warnings, heads = {…}, columns = {…}, rows = {
-- { values = {…}, cells = {…} }… } }. A cell is { value?, low?, high?, n?, relative?, figure, unit, notes, state?,
-- measurements }, or a list of such (`join`).
function M.grid(core, data, declaration)
  local columns = columns_of(core, data.measurements, declaration)
  local grid = { heads = declaration.rows, columns = columns, rows = {}, declaration = declaration, warnings = {} }
  grid.title, grid.order = title_of(declaration)
  for _, row in ipairs(axes.rows(data, declaration)) do
    local cells, any = cells_of(core, row, columns, declaration)
    local extra
    if declaration.pivot then
      -- what was measured once, and not for each value of the pivot
      local once = axes.select(row.list, declaration.columns[1], declaration, axes.none)
      if #once > 0 then extra, any = cell_of(core, once, declaration.columns[1]), true end
    end
    if any then grid.rows[#grid.rows + 1] = { values = row.values, cells = cells, extra = extra } end
  end
  add_once(core, grid)
  if declaration.baseline ~= nil and #grid.rows > 0 then
    local found = declaration.pivot and relate_columns(grid, declaration) or relate_rows(grid, declaration)
    if not found then
      grid.remark = ("baseline: no %s is '%s'"):format(declaration.pivot and "column or row" or "row",
        tostring(declaration.baseline))
    end
  end
  if #data.measurements > 0 and (#grid.rows == 0 or #columns == 0) then
    grid.empty = emptiness(core, data, declaration)
  end
  hoist_notes(grid)
  return grid
end

-- All tables of a ledger: those that its scenario declared, or plain ones.
function M.grids(core, data)
  local list, declared = {}, data.reports
  if #declared == 0 then
    data = ledger.beside_meshes(data)
    declared = plain.declarations(data)
  end
  local by_target = split.data(data)
  for i, declaration in ipairs(declared) do
    list[i] = M.grid(core, by_target and split.concerns(declaration) and by_target or data, declaration)
  end
  if by_target and #data.reports == 0 then
    list[#list + 1] = M.grid(core, by_target, plain.of_targets(by_target))
  end
  return list
end

return M
