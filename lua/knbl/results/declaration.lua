-- knbl.results.declaration - what a scenario asks of a table, checked when it is made, as the ledger keeps it.
--
--   knbl.report { rows = "path", columns = { { "bandwidth", test = "tcp_bw", show = "throughput" }, … } }
--     columns one by one
--   knbl.report { rows = "path", columns = "mss", show = "throughput" }
--     a column for each value of a key
--   knbl.report { rows = { "path", "via" }, columns = "runtime", show = { "mean", "p99" } }
--     both
--
-- rows and columns name labels of measurements, or test, case, from, to, via, or a parameter (size, mss, flows …).
local errors = require "knbl.base.errors"
local figures = require "knbl.results.figures"
local json = require "knbl.json"
local tests = require "knbl.base.tests"

local M = {}

local keys = {
  rows = true, columns = true, show = true, title = true, baseline = true, layout = true, unit = true, where = true,
    join = true, test = true,
}
local column_keys = { show = true, test = true, where = true, unit = true, title = true, better = true }

local function check_show(core, show)
  local figure = type(show) == "string" and figures.get(show)
  if not figure then
    errors.misuse("knbl.report: '%s' is no figure%s", tostring(show), errors.hint(core, tostring(show), figures.names))
  end
  return figure
end

local function check_where(where)
  if where == nil then return nil end
  if type(where) ~= "table" then errors.misuse("knbl.report: where is a table of keys and values") end
  local kept = {}
  for key, value in pairs(where) do
    if type(value) == "number" and not json.is_finite(value) then
      errors.misuse("knbl.report: where: %s must be a finite number, got %s", tostring(key), tostring(value))
    end
    kept[key] = type(value) == "table" and (value.name or tostring(value)) or value
  end
  return kept
end

local function check_title(title)
  if title ~= nil and type(title) ~= "string" then errors.misuse("knbl.report: a title is a text") end
  return title
end

local function tests_of(core, test)
  if test == nil then return nil end
  if type(test) == "string" then test = { test } end
  if type(test) ~= "table" then errors.misuse("knbl.report: test is the name of a test, or a list of such") end
  for _, name in ipairs(test) do
    if name ~= "metric" and not tests.known(name) then
      errors.misuse("knbl.report: no test is called '%s'%s", tostring(name),
        errors.hint(core, tostring(name), tests.names))
    end
  end
  return test
end

-- The unit that a column asks for, or the whole report where it fits.
local function unit_of(figure, own, whole)
  local unit = own or whole
  if unit == nil then return nil end
  if not figures.has_unit(unit) then
    errors.misuse("knbl.report: unknown unit '%s'; there are: %s", tostring(unit),
      table.concat(figures.units_of(), ", "))
  end
  if figures.fits(figure, unit) then return unit end
  if not own then return nil end
  local names = figures.units_of(figure)
  errors.misuse("knbl.report: '%s' cannot be shown in %s%s", figure.name, unit,
    #names > 0 and "; it can in " .. table.concat(names, ", ") or "")
end

local function check_column(core, column, whole)
  if type(column) == "string" then column = { show = column } end
  if type(column) ~= "table" then errors.misuse("knbl.report: a column is a figure's name or a table") end
  for key in pairs(column) do
    if type(key) == "string" and not column_keys[key] then errors.misuse("knbl.report: a column has no '%s'", key) end
  end
  local title, show = check_title(column.title or column[1]), column.show or column[2]
  if show == nil and column[1] and figures.get(column[1]) then show = column[1] end
  if type(show) == "function" then
    if not title then errors.misuse("knbl.report: a column that is a function needs a title") end
    return { title = title, show = "value", test = { "metric" }, where = { derived = title } },
      { title = title, compute = show, unit = column.unit, better = column.better }
  end
  local figure = check_show(core, show)
  return {
    title = title or figure.title, show = show, test = tests_of(core, column.test or whole.test),
      where = check_where(column.where),
    unit = unit_of(figure, column.unit, whole.unit),
  }
end

local function list_of(value)
  if type(value) == "string" then return { value } end
  return value
end

-- The key whose values are the columns: a word, or a list of that word alone, beside what to show.
local function pivot_of(t)
  local columns = t.columns
  if type(columns) == "string" then return columns end
  if type(columns) ~= "table" or t.show == nil then return nil end
  if #columns == 1 and type(columns[1]) == "string" then return columns[1] end
  errors.misuse(
    "knbl.report: with show, columns is the name of one key; else a list of figures that each say what they show")
end

-- Whether a list is one column, a title and its figure (or function); a title that is nearly a figure's name is a slip
-- of the pen.
local function is_column(core, list)
  local title, figure = list[1], list[2]
  if type(title) ~= "string" or figures.get(title) then return false end
  if list.show ~= nil or type(figure) == "function" then return true end
  return type(figure) == "string" and not list[3] and figures.get(figure) ~= nil
    and not core.nearest(title, figures.names)
end

local function check_keys(core, t)
  if type(t) ~= "table" then errors.misuse("knbl.report takes a table") end
  for key in pairs(t) do
    if not keys[key] then
      local names = {}
      for name in pairs(keys) do names[#names + 1] = name end
      errors.misuse("knbl.report: unknown key '%s'%s", tostring(key), errors.hint(core, tostring(key), names))
    end
  end
end

local function check_rows(rows)
  rows = list_of(rows or "case")
  if type(rows) ~= "table" or #rows == 0 then errors.misuse("knbl.report: rows names what a row is") end
  for _, key in ipairs(rows) do
    if type(key) ~= "string" then errors.misuse("knbl.report: rows names what a row is") end
  end
  return rows
end

-- One of the values of rows or columns: of a table that a matrix went over, what it shows by.
local function check_baseline(given)
  local base = given
  if type(base) == "table" then base = base.name or base[1] end
  if given ~= nil and type(base) ~= "string" and type(base) ~= "number" then
    errors.misuse(
      "knbl.report: baseline is one of the values of rows or columns: the others show how far they are from it")
  end
  return base
end

-- What is shown, as a list: beside a pivot `show`, else `columns`; the headline of the test where nothing is said.
local function shows_of(core, t, pivot)
  local only = tests_of(core, t.test)
  local usual = only and figures.headline(only[1]).name or "throughput"
  local shows = not pivot and t.columns or t.show or usual
  if type(shows) ~= "string" and (type(shows) ~= "table" or #shows == 0 and not shows.show) then
    errors.misuse("knbl.report: %s is a text or a list", pivot and "show" or "columns")
  end
  if type(shows) == "string" or shows.show or is_column(core, shows) then return { shows } end
  return shows
end

-- A declaration as the ledger keeps it, and its columns that are functions (derive.lua): { title, compute, unit?,
-- better? }. Raises on what makes no sense.
function M.declare(core, t)
  check_keys(core, t)
  local declaration = { rows = check_rows(t.rows), title = check_title(t.title), layout = t.layout, join = t.join,
    where = check_where(t.where),
    line = errors.where(), baseline = check_baseline(t.baseline), pivot = pivot_of(t), columns = {} }
  local shows, functions = shows_of(core, t, declaration.pivot), {}
  local fits = t.unit == nil
  for i, column in ipairs(shows) do
    local derived
    declaration.columns[i], derived = check_column(core, column, t)
    functions[#functions + 1] = derived
    fits = fits or declaration.columns[i].unit ~= nil
  end
  if not fits then unit_of(figures.get(declaration.columns[1].show), t.unit) end
  if t.layout ~= nil and t.layout ~= "sweep" and t.layout ~= "table" then
    errors.misuse("knbl.report: layout is \"table\" or \"sweep\", not '%s'", tostring(t.layout))
  end
  if t.layout == "sweep" and t.join then errors.misuse("knbl.report: a sweep has one figure in a cell: no join") end
  if t.layout == "sweep" and not declaration.pivot then
    errors.misuse("knbl.report: a sweep needs columns = the name of what is swept")
  end
  if declaration.pivot and #functions > 0 then
    errors.misuse("knbl.report: a function is a column of its own: columns must be a list, got the key '%s'",
      declaration.pivot)
  end
  return declaration, functions
end

return M
