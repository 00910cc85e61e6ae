-- knbl.report - tables that answer a scenario's question, made from a ledger alone.
--
--   knbl.report { rows = "path", columns = { { "bandwidth", test = "tcp_bw", show = "throughput" }, … } }    columns one by one
--   knbl.report { rows = "path", columns = "mss", show = "throughput" }                       a column for each value of a key
--   knbl.report { rows = { "path", "via" }, columns = "runtime", show = { { "lat", test = "tcp_lat", show = "mean" }, … } }
--
-- rows and columns name labels of measurements, or test, case, from, to, via, or a parameter (size, mss, flows …). A declaration
-- is checked when it is made, kept in the ledger, and rendered into a grid: titles and cells, which the formats write out.
local errors = require "knbl.errors"
local figures = require "knbl.figures"
local ledger = require "knbl.ledger"

local M = {}

-- ---- declarations ----

local keys = {
  rows = true, columns = true, show = true, title = true, baseline = true, layout = true, unit = true, where = true, join = true, test = true,
}
local column_keys = { show = true, test = true, where = true, unit = true, title = true }

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
  for key, value in pairs(where) do kept[key] = type(value) == "table" and (value.name or tostring(value)) or value end
  return kept
end

local function check_title(title)
  if title ~= nil and type(title) ~= "string" then errors.misuse("knbl.report: a title is a text") end
  return title
end

local function tests_of(core, test)
  if test == nil then return nil end
  local names = {}
  for _, field in ipairs(core.fields()) do
    if field.name == "duration" then names = field.tests end
  end
  if type(test) == "string" then test = { test } end
  if type(test) ~= "table" then errors.misuse("knbl.report: test is the name of a test, or a list of such") end
  for _, name in ipairs(test) do
    local known
    for _, one in ipairs(names) do known = known or one == name end
    if not known then errors.misuse("knbl.report: no test is called '%s'%s", tostring(name), errors.hint(core, tostring(name), names)) end
  end
  return test
end

-- The unit that a column asks for, or the whole report where it fits.
local function unit_of(figure, own, whole)
  local unit = own or whole
  if unit == nil then return nil end
  if not figures.has_unit(unit) then
    errors.misuse("knbl.report: unknown unit '%s'; there are: %s", tostring(unit), table.concat(figures.units_of(), ", "))
  end
  if figures.fits(figure, unit) then return unit end
  if not own then return nil end
  local names = figures.units_of(figure)
  errors.misuse("knbl.report: '%s' cannot be shown in %s%s", figure.name, unit, #names > 0 and "; it can in " .. table.concat(names, ", ") or "")
end

local function check_column(core, column, whole)
  if type(column) == "string" then column = { show = column } end
  if type(column) ~= "table" then errors.misuse("knbl.report: a column is a figure's name or a table") end
  for key in pairs(column) do
    if type(key) == "string" and not column_keys[key] then errors.misuse("knbl.report: a column has no '%s'", key) end
  end
  local title, show = check_title(column.title or column[1]), column.show or column[2]
  if show == nil and column[1] and figures.get(column[1]) then show = column[1] end
  local figure = check_show(core, show)
  return {
    title = title or figure.title, show = show, test = tests_of(core, column.test or whole.test), where = check_where(column.where),
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
  errors.misuse("knbl.report: with show, columns is the name of one key; else a list of figures that each say what they show")
end

-- Whether a list is one column, a title and its figure; a title that is nearly a figure's name is a slip of the pen.
local function is_column(core, list)
  local title, figure = list[1], list[2]
  if type(title) ~= "string" or figures.get(title) then return false end
  return list.show ~= nil or type(figure) == "string" and not list[3] and figures.get(figure) ~= nil and not core.nearest(title, figures.names)
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
    errors.misuse("knbl.report: baseline is one of the values of rows or columns: the others show how far they are from it")
  end
  return base
end

-- What is shown, as a list: beside a pivot `show`, else `columns`; the headline of the test where nothing is said.
local function shows_of(core, t, pivot)
  local tests = tests_of(core, t.test)
  local usual = figures.headline(tests and tests[1] or "tcp_stream").name
  local shows = not pivot and t.columns or t.show or usual
  if type(shows) ~= "string" and (type(shows) ~= "table" or #shows == 0 and not shows.show) then
    errors.misuse("knbl.report: %s is a text or a list", pivot and "show" or "columns")
  end
  if type(shows) == "string" or shows.show or is_column(core, shows) then return { shows } end
  return shows
end

-- A declaration as the ledger keeps it; raises on what makes no sense.
function M.declare(core, t)
  check_keys(core, t)
  local declaration = { rows = check_rows(t.rows), title = check_title(t.title), layout = t.layout, join = t.join, where = check_where(t.where),
    line = errors.where(), baseline = check_baseline(t.baseline), pivot = pivot_of(t), columns = {} }
  local shows = shows_of(core, t, declaration.pivot)
  local fits = t.unit == nil
  for i, column in ipairs(shows) do
    declaration.columns[i] = check_column(core, column, t)
    fits = fits or declaration.columns[i].unit ~= nil
  end
  if not fits then unit_of(figures.get(declaration.columns[1].show), t.unit) end
  if t.layout ~= nil and t.layout ~= "sweep" and t.layout ~= "table" then
    errors.misuse("knbl.report: layout is \"table\" or \"sweep\", not '%s'", tostring(t.layout))
  end
  if t.layout == "sweep" and t.join then errors.misuse("knbl.report: a sweep has one figure in a cell: no join") end
  if t.layout == "sweep" and not declaration.pivot then errors.misuse("knbl.report: a sweep needs columns = the name of what is swept") end
  return declaration
end

-- ---- values ----

local plain_keys = { test = true, case = true, from = true, to = true, via = true, round = true }

-- What a measurement has under a key of rows or columns.
local function key_of(m, key)
  if m.labels and m.labels[key] ~= nil then return m.labels[key] end
  if plain_keys[key] then return m[key] end
  if m.params and m.params[key] ~= nil then return m.params[key] end
  if key == "load" then return (ledger.load(m)) end
  if key == "start" then return ledger.start(m) end
  return nil
end
M.key_of = key_of

local function matches(m, where, test)
  if test then
    local found
    for _, name in ipairs(test) do found = found or m.test == name end
    if not found then return false end
  end
  for key, value in pairs(where or {}) do
    if tostring(key_of(m, key)) ~= tostring(value) then return false end
  end
  return true
end

-- The figure of repeats: the median where there are several, with its interval.
function M.summarize(core, list, figure)
  local values = {}
  for _, m in ipairs(list) do
    local value = m.ok and figures.value(m, figure)
    if value then values[#values + 1] = value end
  end
  if #values == 0 then return nil end
  if #values == 1 then return { value = values[1], n = 1 } end
  local median, low, high = core.median_interval(values, 0.95)
  return { value = median, low = low, high = high, n = #values }
end

-- Figures that are shown for any number of operations, and of how many they say next to nothing. Percentiles have a flag of their own.
local of_few, FEW = { mean = true, latency = true, min = true, max = true, stddev = true, rate = true }, 10

-- Why a cell has no figure, and what makes the one it has doubtful: a list of texts.
local function remarks(list, figure)
  local notes, seen = {}, {}
  local function add(note)
    if note and not seen[note] then
      seen[note] = true
      notes[#notes + 1] = note
    end
  end
  for _, m in ipairs(list) do
    local count = type((m.metrics or {}).latency_ns) == "table" and tonumber(m.metrics.latency_ns.count)
    if m.ok and of_few[(figure or {}).name] and count and count < FEW then add(("of %.0f operation%s only"):format(count, count == 1 and "" or "s")) end
    if m.skipped then add("skipped: " .. m.skipped)
    elseif not m.ok then add(("failed: %s"):format(m.error and m.error.message or "no reason given")) end
    for _, flag in ipairs(figure and m.flags or {}) do
      if figures.concerns(flag, figure) then add(flag .. ": " .. figures.explain(flag)) end
    end
  end
  return notes
end

-- ` (tcp_lat, udp_rr: give a column its own 'test')` where several tests share a cell.
local function tests_among(list)
  local names, seen = {}, {}
  for _, m in ipairs(list) do
    if not seen[m.test] then seen[m.test], names[#names + 1] = true, m.test end
  end
  table.sort(names)
  return #names > 1 and (" (%s: a column's own 'test' takes one of them)"):format(table.concat(names, ", ")) or ""
end

local function cell_of(core, list, column)
  local figure = figures.get(column.show)
  local cell = M.summarize(core, list, figure) or {}
  cell.figure, cell.unit, cell.measurements = figure, column.unit, list
  cell.notes = remarks(list, cell.value and figure)
  if figure.name == "share" and cell.value and cell.value > 1.1 then
    table.insert(cell.notes, "more than the ceiling: what was measured over loopback was disturbed, and is no ceiling")
  end
  if cell.n and cell.n > 1 then
    local counted, same, first, most, least = {}, true, nil, -math.huge, math.huge
    for _, m in ipairs(list) do
      local value = m.ok and figures.value(m, figure)
      if value then
        first = first or value
        counted[#counted + 1], same = m, same and value == first
        most, least = math.max(most, value), math.min(least, value)
      end
    end
    local differ = ledger.differing(counted)
    if #differ == 0 and not cell.low and most > 2 * least then
      table.insert(cell.notes, "its repeats differ more than twofold, and are too few for an interval: six are the least (--repeats)")
    end
    if #differ > 0 and not same then -- what a pod took to start is told by each of its measurements
      table.insert(cell.notes, ("no repeats: the median of measurements that differ in %s, which neither rows nor columns name"):format(table.concat(differ, ", ")
        .. tests_among(counted)))
    end
  end
  if not cell.value then
    cell.state = "absent"
    for _, m in ipairs(list) do
      cell.state = m.skipped and "skipped" or not m.ok and "failed" or cell.state
    end
  end
  return cell
end

-- ---- grids ----

-- What has no value under one of the rows' keys is not of this table; `lenient` takes it all the same.
local function row_key(m, rows, lenient)
  local parts, values = {}, {}
  for i, key in ipairs(rows) do
    local value = key_of(m, key)
    if value == nil and lenient then value = "" end
    if value == nil then return nil end
    if type(value) == "boolean" then value = tostring(value) end
    parts[i], values[i] = tostring(value), value
  end
  return table.concat(parts, "\31"), values
end

-- Names that differ in the number at their end alone (node-1 … node-12) are in the order of that; all else as it came.
local function in_order(list, name_of)
  local stem
  for _, item in ipairs(list) do
    local mine = tostring(name_of(item)):match "^(.*%D)%d+$"
    if not mine or stem and mine ~= stem then return end
    stem = mine
  end
  table.sort(list, function(a, b) return tonumber(tostring(name_of(a)):match "%d+$") < tonumber(tostring(name_of(b)):match "%d+$") end)
end

local function pivot_values(measurements, declaration)
  local values, seen, numeric = {}, {}, true
  for _, m in ipairs(measurements) do
    local value = key_of(m, declaration.pivot)
    local wanted = value ~= nil and matches(m, declaration.where) and row_key(m, declaration.rows, declaration.lenient)
    if wanted and not seen[tostring(value)] then
      local shown
      for _, column in ipairs(declaration.columns) do shown = shown or matches(m, column.where, column.test) end
      if shown then
        seen[tostring(value)] = true
        values[#values + 1] = value
        numeric = numeric and type(value) == "number"
      end
    end
  end
  if numeric then table.sort(values) else in_order(values, function(value) return value end) end
  return values
end

-- The value of a key as tables show it.
function M.value_text(core, key, value)
  if key == "size" and type(value) == "number" then return core.format_size(value) end
  local bits, times = tostring(value):match "^(%d+)bit/s$", tostring(value):match "^(%d+)/s$" -- a rate, as the engines have it
  if key == "rate" and (bits or times) then return bits and core.format_bits(tonumber(bits)) or core.format_rate(tonumber(times)) end
  local at, rate = tostring(value):match "^(.*at) (%d+%a*/s)$" -- a load, as the ledger has it
  if key == "load" and rate then return ("%s %s"):format(at, M.value_text(core, "rate", rate)) end
  if type(value) == "number" then return (value % 1 == 0 and math.abs(value) < 1e15 and "%.0f" or "%.6g"):format(value) end
  return tostring(value)
end

-- The columns of a declaration: { title, column, pivot? }.
local function columns_of(core, measurements, declaration)
  local list = {}
  if not declaration.pivot then
    for i, column in ipairs(declaration.columns) do list[i] = { title = column.title, column = column } end
    return list
  end
  for _, value in ipairs(pivot_values(measurements, declaration)) do
    local title = M.value_text(core, declaration.pivot, value)
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

-- Stands for "has no value under the pivot's key".
M.none = {}

local function select_for(list, column, declaration, pivot)
  local chosen = {}
  for _, m in ipairs(list) do
    local value = pivot ~= nil and key_of(m, declaration.pivot)
    local fits = pivot == nil or pivot == M.none and value == nil or value ~= nil and tostring(value) == tostring(pivot)
    if fits and matches(m, column.where, column.test) then
      chosen[#chosen + 1] = m
    end
  end
  return chosen
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

-- What a table of a pivot is about, where its title does not say it: "throughput, by mss"; of joined figures, in which order they stand.
local function title_of(declaration)
  if not declaration.pivot then return declaration.title end
  local shown = {}
  for i, column in ipairs(declaration.columns) do shown[i] = column.title end
  if declaration.title then return declaration.title, declaration.join and #shown > 1 and table.concat(shown, " · ") or nil end
  if not declaration.join and #shown > 1 then return nil end
  return ("%s, by %s"):format(table.concat(shown, " · "), declaration.pivot)
end

-- Why a table is empty though something was measured: a key that no measurement has.
local function emptiness(core, data, declaration)
  local names, known = {}, {}
  local function add(key)
    if type(key) == "string" and not known[key] then known[key], names[#names + 1] = true, key end
  end
  for key in pairs(plain_keys) do add(key) end
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
      if key == declaration.pivot and figures.get(key) then advice = (": for the figure of that name say columns = { \"%s\" }"):format(key) end
      return ("nothing that was measured has '%s'%s"):format(key, advice)
    end
  end
end

-- The measurements that a table is about, by its rows: { { values, list }… }.
local function rows_of(data, declaration)
  local rows, by_key = {}, {}
  for _, m in ipairs(data.measurements) do
    local key, values
    if matches(m, declaration.where) then key, values = row_key(m, declaration.rows, declaration.lenient) end
    if key then
      if not by_key[key] then
        by_key[key] = { values = values, list = {} }
        rows[#rows + 1] = by_key[key]
      end
      table.insert(by_key[key].list, m)
    end
  end
  if #declaration.rows == 1 and declaration.rows[1] ~= "case" then in_order(rows, function(row) return row.values[1] end) end
  return rows
end

-- A row's cells, and whether anything is in them.
local function cells_of(core, row, columns, declaration)
  local cells, any = {}, false
  local function cell(part, pivot)
    local list = select_for(row.list, part, declaration, pivot)
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

-- A declaration over a ledger's data: { title, order?, empty?, remark?, heads = {…}, columns = {…}, rows = { { values = {…}, cells = {…} }… } }.
-- A cell is { value?, low?, high?, n?, relative?, figure, unit, notes, state?, measurements }, or a list of such (`join`).
function M.grid(core, data, declaration)
  local columns = columns_of(core, data.measurements, declaration)
  local grid = { heads = declaration.rows, columns = columns, rows = {}, declaration = declaration }
  grid.title, grid.order = title_of(declaration)
  for _, row in ipairs(rows_of(data, declaration)) do
    local cells, any = cells_of(core, row, columns, declaration)
    local extra
    if declaration.pivot then
      -- what was measured once, and not for each value of the pivot
      local once = select_for(row.list, declaration.columns[1], declaration, M.none)
      if #once > 0 then extra, any = cell_of(core, once, declaration.columns[1]), true end
    end
    if any then grid.rows[#grid.rows + 1] = { values = row.values, cells = cells, extra = extra } end
  end
  if declaration.baseline ~= nil and #grid.rows > 0 then
    local found = declaration.pivot and relate_columns(grid, declaration) or relate_rows(grid, declaration)
    if not found then grid.remark = ("baseline: no %s is '%s'"):format(declaration.pivot and "column or row" or "row", tostring(declaration.baseline)) end
  end
  if #data.measurements > 0 and (#grid.rows == 0 or #columns == 0) then grid.empty = emptiness(core, data, declaration) end
  return grid
end

-- The table of a ledger without a report: one for each kind of test, a row for each measurement.
local kinds = {
  { tests = { "tcp_stream", "tcp_sendfile", "tcp_bw" }, show = { "throughput", "share", "retransmits", "cpu_client", "cpu_server", "cpu_send_per_gb",
    "cpu_recv_per_gb" } },
  { tests = { "udp_stream" }, show = { "throughput", "share", "loss", "jitter", "reordered", "cpu_client", "cpu_server" } },
  { tests = { "tcp_rr", "udp_rr", "tcp_crr", "http" }, show = { "rate", "share", "mean", "p50", "p99", "max", "errors", "timeouts", "cpu" } },
  { tests = { "tcp_lat", "ping" }, show = { "mean", "share", "p50", "p99", "max", "loss", "cpu" } },
}

function M.plain(core, data)
  local list = {}
  for _, kind in ipairs(kinds) do
    local columns, sizes = {}, {}
    for i, name in ipairs(kind.show) do
      local figure = figures.get(name)
      for _, m in ipairs(data.measurements) do
        if matches(m, nil, kind.tests) and (i == 1 or m.ok and figures.value(m, figure)) then
          columns[#columns + 1] = { title = figure.title, show = name, test = kind.tests }
          break
        end
      end
    end
    local any, given, starts = false, false, {}
    for _, m in ipairs(data.measurements) do
      if matches(m, nil, kind.tests) then
        any = true
        given = given or m.params and m.params.rate ~= nil
        starts[ledger.start(m)] = m.test ~= "ping" or nil
        if m.params and m.params.size then sizes[tostring(m.params.size)] = true end
      end
    end
    local rows = { "test", "case", "via" }
    local first = next(sizes)
    if first and next(sizes, first) then rows[#rows + 1] = "size" end
    if given then rows[#rows + 1] = "load" end -- a rate that was asked for should not pass for one that was reached
    if starts.cold and starts.warm then rows[#rows + 1] = "start" end
    if any then list[#list + 1] = M.grid(core, data, { rows = rows, columns = columns, lenient = true }) end
  end
  return list
end

-- All tables of a ledger: those that its scenario declared, or a plain one.
function M.grids(core, data)
  if #data.reports == 0 then return M.plain(core, data) end
  local list = {}
  for i, declaration in ipairs(data.reports) do list[i] = M.grid(core, data, declaration) end
  return list
end

return M
