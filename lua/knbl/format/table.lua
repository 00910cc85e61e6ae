-- knbl.format.table - tables on a terminal: aligned, in right units, doubtful figures marked and explained below.
--
-- options: { core, columns (width; nil: unlimited), ascii, colour }
local answer = require "knbl.results.answer"
local axes = require "knbl.results.axes"
local columns = require "knbl.format.columns"
local figures = require "knbl.results.figures"
local ledger = require "knbl.results.ledger"
local report = require "knbl.results.report"
local text = require "knbl.base.text"

local M = { longest_name = 100, remark = columns.remark }

local paint = columns.paint

-- Numbers for remarks: the same remark has the same number all over a table.
local function marker()
  local numbers, list = {}, {}
  return function(note)
    if not numbers[note] then
      list[#list + 1] = note
      numbers[note] = #list
    end
    return numbers[note]
  end, list
end
M.marker = marker

local function marks_of(cell, mark)
  local numbers = {}
  for i, note in ipairs(cell.notes) do numbers[i] = mark(note) end
  return #numbers > 0 and " [" .. table.concat(numbers, ",") .. "]" or ""
end

-- How far from the baseline: "+37 %", from the double on "x3.4".
local function relative(ratio)
  if ratio >= 2 then return "x" .. figures.significant(ratio) end
  local percent = (ratio - 1) * 100
  local shown = (math.abs(percent) < 9.95 and "%+.1f %%" or "%+.0f %%"):format(percent)
  return shown:match "^[+-]0%.0 %%$" and "0 %" or shown
end

-- "3.10 … 48.6 µs", with both units where they differ.
local function range(options, cell)
  local function show(value) return figures.show(options.core, cell.figure, value, options.ascii, cell.unit) end
  local low, high = show(cell.low), show(cell.high)
  local unit = high:match "^[%d.]+( .+)$"
  if unit and low:sub(-#unit) == unit then low = low:sub(1, -#unit - 1) end
  return ("%s … %s"):format(low, high)
end

-- A cell's figure with its unit, and how far its interval reaches.
function M.figure(options, cell)
  local shown = figures.show(options.core, cell.figure, cell.value, options.ascii, cell.unit)
  if cell.n and cell.n > 1 and cell.value ~= 0 and cell.low and cell.high then
    local spread = math.max(cell.high - cell.value, cell.value - cell.low) / math.abs(cell.value) * 100
    if cell.high - cell.low >= math.abs(cell.value) then -- its ends tell more than a share
      shown = ("%s (%s)"):format(shown, range(options, cell))
    else
      shown = (spread < 9.95 and "%s ±%.1f %%" or "%s ±%.0f %%"):format(shown, spread)
    end
  end
  if cell.relative then shown = ("%s (%s)"):format(shown, relative(cell.relative)) end
  return shown
end

-- The text of a cell and its colour.
function M.cell(options, cell, mark)
  if cell.joined then
    local parts, colour = {}, nil
    for i, part in ipairs(cell.joined) do
      local shown, painted = M.cell(options, part, mark)
      parts[i], colour = shown, colour or painted
    end
    return table.concat(parts, " · "), colour
  end
  local marks = marks_of(cell, mark)
  if cell.value then return M.figure(options, cell) .. marks, marks ~= "" and "yellow" or nil end
  if cell.state == "failed" then return "failed" .. marks, "red" end
  if cell.state == "unreachable" then return "unreachable" .. marks, "green" end
  if cell.state == "ambiguous" then return "ambiguous" .. marks, "red" end
  return "–" .. marks, "dim"
end

local function lines_of(grid, options, mark)
  local lines = { {} }
  for i, head in ipairs(grid.heads) do lines[1][i] = { text = head, left = true } end
  for _, column in ipairs(grid.columns) do table.insert(lines[1], { text = text.clean(column.title) }) end
  for _, row in ipairs(grid.rows) do
    local line = {}
    for i, value in ipairs(row.values) do
      line[i] = { text = text.short(text.clean(axes.text(options.core, grid.heads[i], value)), M.longest_name),
        left = true }
    end
    for _, cell in ipairs(row.cells) do
      local shown, colour = M.cell(options, cell, mark)
      line[#line + 1] = { text = shown, colour = colour }
    end
    lines[#lines + 1] = line
  end
  return lines
end

-- One grid as text, with its remarks below.
function M.grid(grid, options)
  local mark, notes
  local lines, unit, left_out = columns.fit(grid, options, function(g)
    mark, notes = marker()
    return lines_of(g, options, mark)
  end)
  local out = {}
  local title = grid.title and text.clean(grid.title)
  if title and unit then title = ("%s (%s)"):format(title, unit) end
  if grid.order then title = ("%s: %s"):format(title, text.clean(grid.order)) end
  if title then out[#out + 1] = paint(options, "bold", options.ascii and text.ascii(title) or title) end
  if grid.empty then
    M.remark("empty: ", grid.empty, options, out)
    return table.concat(out, "\n") .. "\n"
  end
  for _, warning in ipairs(grid.warnings) do M.remark("! ", warning, options, out) end
  columns.layout(lines, #grid.heads, options, out)
  for _, sentence in ipairs(answer.sentences(options.core, grid, options.ascii)) do
    M.remark("", sentence, options, out)
  end
  if left_out then M.remark("", left_out, options, out) end
  if grid.remark then M.remark("", grid.remark, options, out) end
  for i, note in ipairs(notes) do M.remark(("[%d] "):format(i), note, options, out) end
  return table.concat(out, "\n") .. "\n"
end

local verdict_colours = { fail = "red", error = "red", inconclusive = "yellow" }
local verdict_words = { pass = "✓", fail = "✗", error = "error", inconclusive = "?" }

-- "tcp_rr service: ", or nothing for an expectation of no one measurement.
function M.subject(e)
  local about = ("%s %s"):format(e.test or "", e.case or ""):gsub("^%s+", ""):gsub("%s+$", "")
  return about ~= "" and about .. ": " or ""
end

-- A line of its own, on a terminal broken at spaces.
local function add_line(options, colour, line, out)
  line = text.clean(line)
  if options.ascii then line = text.ascii(line) end
  if not options.columns or text.width(line) <= options.columns then
    out[#out + 1] = paint(options, colour, line)
    return
  end
  for i, part in ipairs(text.wrap(line, math.max(20, options.columns - 2))) do
    out[#out + 1] = paint(options, colour, (i > 1 and "  " or "") .. part)
  end
end

-- A line for each expectation: whether it held, and what was found.
function M.expectations(list, options, out)
  for _, e in ipairs(list) do
    local line = ("%s %s%s"):format(verdict_words[e.status] or e.status, M.subject(e), e.expression)
    if e.reason then line = line .. " (" .. e.reason .. ")" end
    add_line(options, verdict_colours[e.status], line, out)
  end
end

local function plain(value)
  if type(value) == "number" and value % 1 ~= 0 then return ("%.6g"):format(value) end
  if type(value) ~= "table" then return tostring(value) end
  local keys, parts = {}, {}
  if #value > 0 then
    for i, item in ipairs(value) do parts[i] = plain(item) end
    return "[" .. table.concat(parts, ", ") .. "]"
  end
  for key in pairs(value) do keys[#keys + 1] = tostring(key) end
  table.sort(keys)
  for i, key in ipairs(keys) do parts[i] = ("%s: %s"):format(key, plain(value[key])) end
  return "{" .. table.concat(parts, ", ") .. "}"
end

-- The output of a program has lines.
local function in_a_line(said) return (said:gsub("%s+$", ""):gsub("%s*[\r\n]%s*", "; ")) end

-- What a script noted, in a line: its own text, its keys and values.
function M.note_text(note)
  if type(note) ~= "table" then return in_a_line(plain(note)) end
  local rest = {}
  for key, value in pairs(note) do
    if key ~= "line" and key ~= "text" then rest[key] = value end
  end
  local told = plain(rest):gsub("^[%[{](.*)[%]}]$", "%1")
  if not note.text then return in_a_line(told) end
  return in_a_line(next(rest) and ("%s (%s)"):format(tostring(note.text), told) or tostring(note.text))
end

local verdicts = { fail = "an expectation failed", inconclusive = "too few samples to tell",
  error = "not everything could be measured", interrupted = "interrupted: what was measured until then",
    running = "unfinished: what was measured until then" }

-- The verdict in a sentence: how much was measured, and whether anything was asked of it.
function M.verdict(data)
  local verdict = data.verdict or {}
  if verdict.status ~= "pass" then return verdict.message or verdicts[verdict.status] or "" end
  local skipped = tonumber(verdict.skipped) or 0
  local measured = skipped > 0 and ("%d measured, %d skipped with the reason"):format(tonumber(verdict.measured) or 0,
    skipped) or "everything was measured"
  return measured .. (#data.expectations > 0 and ", every expectation held" or "; there was no expectation to hold")
end

-- What ± and a range are, once below all tables; nil where there is neither.
function M.legend(data, body)
  local most, least = 0, math.huge
  for _, group in ipairs(ledger.all_by_ends(ledger.groups(data))) do
    most, least = math.max(most, #group), math.min(least, #group)
  end
  local plus, range = body:find("±", 1, true) or body:find("+-", 1, true), body:find(" … ", 1, true)
    or body:find(" ... ", 1, true)
  if most < 2 or not (plus or range) then return nil end
  local n = most == least and ("%d"):format(most) or ("up to %d"):format(most)
  return ("Figures are medians of %s repeats; %s: the 95 %% interval of that median."):format(n,
    plus and range and "± and (… to …)" or plus and "±" or "(… to …)")
end

-- A ledger's data as a person reads it: the tables come last, nearest to the prompt.
function M.render(data, options)
  local parts, below = {}, {}
  parts[#parts + 1] = require("knbl.format.functions").text(data, options)
  local tables = {}
  for _, grid in ipairs(report.grids(options.core, data)) do
    if #grid.rows > 0 or grid.empty then
      tables[#tables + 1] = M.grid(grid, options)
      parts[#parts + 1] = tables[#tables]
    end
  end
  for _, part in ipairs(require("knbl.format.mesh").text(data, options)) do parts[#parts + 1] = part end
  local legend = M.legend(data, table.concat(tables))
  if legend then add_line(options, "dim", legend, below) end
  for _, note in ipairs(data.notes) do
    add_line(options, nil, "note: " .. M.note_text(note), below)
  end
  M.expectations(data.expectations, options, below)
  if data.comparison then parts[#parts + 1] = require("knbl.format.comparison").text(data.comparison, options) end
  if #below > 0 then parts[#parts + 1] = table.concat(below, "\n") .. "\n" end
  return table.concat(parts, "\n")
end

return M
