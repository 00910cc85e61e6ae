-- knbl.format.columns - lines of cells on a terminal: aligned, and what becomes of them where it is too narrow.
--
-- options: { columns (width; nil: unlimited), ascii, colour }
local text = require "knbl.base.text"

local M = {}

local colours = { red = "\27[31m", yellow = "\27[33m", green = "\27[32m", dim = "\27[2m", bold = "\27[1m" }

function M.paint(options, colour, s)
  if not options.colour or not colour then return s end
  return colours[colour] .. s .. "\27[0m"
end

-- A text of its own below a table, wrapped, with a prefix.
function M.remark(prefix, note, options, out)
  for k, line in ipairs(text.wrap(text.clean(note), math.max(20, (options.columns or 120) - #prefix))) do
    line = (k == 1 and prefix or (" "):rep(#prefix)) .. line
    out[#out + 1] = options.ascii and text.ascii(line) or line
  end
end

-- ---- layout ----

local function widths_of(lines)
  local widths = {}
  for _, line in ipairs(lines) do
    for i, cell in ipairs(line) do widths[i] = math.max(widths[i] or 0, text.width(cell.text)) end
  end
  local total = 2 * (#widths - 1)
  for _, width in ipairs(widths) do total = total + width end
  return widths, total
end

local function aligned(lines, widths, total, options, out)
  for i, line in ipairs(lines) do
    local parts = {}
    for k, cell in ipairs(line) do
      local padded = text.pad(cell.text, widths[k], not cell.left)
      parts[k] = M.paint(options, i == 1 and "bold" or cell.colour, padded)
    end
    out[#out + 1] = (table.concat(parts, "  "):gsub("%s+$", ""))
    if i == 1 then out[#out + 1] = (options.ascii and "-" or "─"):rep(total) end
  end
end

-- A terminal that is too narrow for the columns: a block for each row.
local function stacked(lines, heads, options, out)
  local width = 0
  for i = heads + 1, #lines[1] do width = math.max(width, text.width(lines[1][i].text)) end
  for i = 2, #lines do
    local names = {}
    for k = 1, heads do names[k] = lines[i][k].text end
    out[#out + 1] = M.paint(options, "bold", table.concat(names, "  "))
    for k = heads + 1, #lines[i] do
      out[#out + 1] = "  " .. text.pad(lines[1][k].text, width) .. "  "
        .. M.paint(options, lines[i][k].colour, lines[i][k].text)
    end
  end
end

-- Whether the columns of `names` tell all lines apart.
local function tell_apart(lines, names)
  local seen = {}
  for i = 2, #lines do
    local words = {}
    for n, k in ipairs(names) do words[n] = lines[i][k].text end
    local key = table.concat(words, "\0")
    if seen[key] then return false end
    seen[key] = true
  end
  return true
end

-- The fewest of the columns that name a line which tell all lines apart: one or two, else all.
local function fewest(lines, heads)
  local all = {}
  for k = 1, heads do all[k] = k end
  if #lines < 3 then return all end
  for size = 1, 2 do
    for i = 1, heads do
      for j = size == 1 and i or i + 1, size == 1 and i or heads do
        local names = size == 1 and { i } or { i, j }
        if tell_apart(lines, names) then return names end
      end
    end
  end
  return all
end

-- Those of the columns that name a line in which lines differ, and what the others are, as "test tcp_rr".
local function differing(lines, heads)
  local names, said = {}, {}
  for k = 1, heads do
    local same = #lines > 2
    for i = 3, #lines do same = same and lines[i][k].text == lines[2][k].text end
    if not same then names[#names + 1] = k
    elseif lines[2][k].text ~= "" then said[#said + 1] = lines[1][k].text .. " " .. lines[2][k].text end
  end
  if #names > 0 then return names, table.concat(said, ", ") end
  return fewest(lines, heads), ""
end

local function is_blank(line, from, to)
  for k = from, to do
    if line[k].text ~= "–" and line[k].text ~= "-" then return false end
  end
  return true
end

-- Of each line the columns of `names` and those from `from` to `to`, without lines that have something elsewhere only.
local function part_of(lines, heads, names, from, to)
  local part = {}
  for i, line in ipairs(lines) do
    local elsewhere = i > 1 and is_blank(line, from, to) and not (from == heads + 1 and is_blank(line, from, #line))
    if not elsewhere then
      local kept = {}
      for n, k in ipairs(names) do kept[n] = line[k] end
      for k = from, to do table.insert(kept, line[k]) end
      part[#part + 1] = kept
    end
  end
  return part
end

local function room_beside(names, widths, options)
  local room = options.columns
  for _, k in ipairs(names) do room = room - widths[k] - 2 end
  return room
end

-- Where the columns of as many tables end as it takes; nil where one column has no room beside the names.
local function ends_of(widths, heads, first, rest, options)
  local ends, from = {}, heads + 1
  while from <= #widths do
    local room = room_beside(#ends == 0 and first or rest, widths, options)
    local to, used = from, widths[from]
    if used > room then return nil end
    while to < #widths and used + 2 + widths[to + 1] <= room do
      to = to + 1
      used = used + 2 + widths[to]
    end
    ends[#ends + 1], from = to, to + 1
  end
  return ends
end

-- A terminal that is too narrow for all columns: as many tables as it takes. What all lines have in common stands above
-- them; from the second on, only what tells the lines apart names them. Returns false where not even one column has
-- room beside that.
local function split(lines, heads, widths, options, out)
  local first, common = differing(lines, heads)
  local rest = fewest(lines, heads)
  local ends = ends_of(widths, heads, first, rest, options)
  if not ends then return false end
  if common ~= "" then
    for _, line in ipairs(text.wrap(common, options.columns)) do out[#out + 1] = M.paint(options, "dim", line) end
  end
  for n, to in ipairs(ends) do
    if n > 1 then out[#out + 1] = "" end
    local part = part_of(lines, heads, n == 1 and first or rest, (ends[n - 1] or heads) + 1, to)
    local its_widths, total = widths_of(part)
    aligned(part, its_widths, total, options, out)
  end
  return true
end

-- Rows of texts, of which the first is the head, as lines for layout. `left`: which columns begin at the left, a set; a
-- row may have `colours` by column.
function M.lines(rows, left)
  local lines = {}
  for i, row in ipairs(rows) do
    lines[i] = {}
    for k, cell in ipairs(row) do
      lines[i][k] = { text = text.clean(cell), left = left[k], colour = row.colours and row.colours[k] }
    end
  end
  return lines
end

-- Lines of cells { text, left?, colour? }, of which the first is the head: aligned; where the terminal is too narrow,
-- split by columns, or in blocks. `heads` is how many columns name a line.
function M.layout(lines, heads, options, out)
  for _, line in ipairs(lines) do
    for _, cell in ipairs(line) do
      if options.ascii then cell.text = text.ascii(cell.text) end
    end
  end
  local widths, total = widths_of(lines)
  if not options.columns or total <= options.columns then
    aligned(lines, widths, total, options, out)
  elseif not split(lines, heads, widths, options, out) then
    stacked(lines, heads, options, out)
  end
end

-- ---- less, where a terminal is too narrow ----

-- How many tables these lines take.
local function pieces(lines, heads, options)
  local widths, total = widths_of(lines)
  if total <= options.columns then return 1 end
  local first = differing(lines, heads)
  local ends = ends_of(widths, heads, first, fewest(lines, heads), options)
  return ends and #ends or 1
end

-- A figure, its unit, and what stands behind both; nil of several figures, and of a range, which has its unit twice.
local function parts_of(shown)
  local number, unit, rest = shown:match "^([%d.]+) ([^%s%[%(]+)(.*)$"
  if number and not rest:find("…", 1, true) and not rest:find("·", 1, true) then return number, unit, rest end
end

-- Takes the unit out of all cells, where all figures have the same. Returns the unit.
local function bare(lines, heads)
  local unit
  for i = 2, #lines do
    for k = heads + 1, #lines[i] do
      local shown = lines[i][k].text
      local _, its = parts_of(shown)
      if shown:find "^%d" and (not its or unit and its ~= unit) then return nil end
      unit = its or unit
    end
  end
  for i = 2, unit and #lines or 0 do
    for k = heads + 1, #lines[i] do
      local number, _, rest = parts_of(lines[i][k].text)
      if number then lines[i][k].text = number .. rest end
    end
  end
  return unit
end

local MOST_PIECES, MANY = 2, 8

-- Every so-many-th of the columns behind those that name a line.
local function every(list, heads, step)
  local kept = {}
  for k, item in ipairs(list) do
    if k <= heads or (k - heads - 1) % step == 0 then kept[#kept + 1] = item end
  end
  return kept
end

local function thinned(grid, step)
  local copy = { heads = grid.heads, columns = every(grid.columns, 0, step), rows = {} }
  local failed = 0
  for i, row in ipairs(grid.rows) do
    copy.rows[i] = { values = row.values, cells = every(row.cells, 0, step) }
    for k, cell in ipairs(row.cells) do
      failed = failed + ((k - 1) % step ~= 0 and cell.state == "failed" and 1 or 0)
    end
  end
  copy.left_out = ("%d of %d columns are shown: a wider terminal, a pipe, --html and --csv show all."):format(
    #copy.columns, #grid.columns)
  if failed > 0 then copy.left_out = ("%s %d of the figures left out failed."):format(copy.left_out, failed) end
  return copy
end

-- Of a table with a column for each of many numbers: a copy with every second, third… of them, where all would take
-- more than two tables, else nil. `left_out` says so.
local function thin(lines, grid, options)
  local heads, step = #grid.heads, 1
  if #grid.columns < MANY then return nil end
  for _, column in ipairs(grid.columns) do
    if not column.title:find "^%d" then return nil end
  end
  local fewer = lines
  while pieces(fewer, heads, options) > MOST_PIECES and step < #grid.columns do
    step = step + 1
    fewer = {}
    for i, line in ipairs(lines) do fewer[i] = every(line, heads, step) end
  end
  return step > 1 and thinned(grid, step) or nil
end

-- The lines that `lines_of` makes of a grid, with fewer characters where a terminal is too narrow for a table with a
-- column for each value of a key: a unit that all figures share is left out, and, of many columns, some. Returns the
-- lines, the unit, and a remark on the columns.
function M.fit(grid, options, lines_of)
  local lines, heads = lines_of(grid), #grid.heads
  local wide = options.columns and (grid.declaration or {}).pivot and pieces(lines, heads, options) > 1
  if not wide then return lines end
  local unit = bare(lines, heads)
  local fewer = thin(lines, grid, options)
  if not fewer then return lines, unit end
  lines = lines_of(fewer)
  if unit then bare(lines, heads) end
  return lines, unit, fewer.left_out
end

return M
