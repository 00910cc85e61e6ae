-- knbl.format.markdown - the tables for a README or the step summary of a CI system, under 1 MiB.
local answer = require "knbl.results.answer"
local axes = require "knbl.results.axes"
local report = require "knbl.results.report"
local table_format = require "knbl.format.table"
local text = require "knbl.base.text"

local M = { limit = 1000000 }

-- A text inside a table: no markup, no HTML, no line breaks.
local function escaped(s)
  return (text.clean(s):gsub("[\\`*_%[%]|~#]", "\\%0"):gsub("&", "&amp;"):gsub("<", "&lt;"):gsub(">", "&gt;"))
end
M.escaped = escaped

local function cell_text(options, cell, mark)
  if cell.joined then
    local parts = {}
    for i, part in ipairs(cell.joined) do
      local column = options.titles and options.titles[i]
      local shown = cell_text(options, part, mark)
      parts[i] = column and ("%s: %s"):format(escaped(column), shown) or shown
    end
    return table.concat(parts, "<br>")
  end
  local shown = table_format.cell(options, cell, mark)
  return (shown:gsub(" %[([%d,]+)%]$", "<sup>%1</sup>"))
end

local function grid_text(grid, options)
  local mark, notes = table_format.marker()
  local out = {}
  if grid.title then out[#out + 1] = "### " .. escaped(grid.title) .. "\n" end
  if grid.empty then
    out[#out + 1] = escaped(grid.empty)
    return table.concat(out, "\n") .. "\n"
  end
  local head, rule = {}, {}
  for _, name in ipairs(grid.heads) do head[#head + 1], rule[#rule + 1] = escaped(name), ":--" end
  for _, column in ipairs(grid.columns) do head[#head + 1], rule[#rule + 1] = escaped(column.title), "--:" end
  for _, warning in ipairs(grid.warnings) do out[#out + 1] = "> " .. escaped(warning) .. "\n" end
  out[#out + 1] = "| " .. table.concat(head, " | ") .. " |"
  out[#out + 1] = "|" .. table.concat(rule, "|") .. "|"
  for _, row in ipairs(grid.rows) do
    local line = {}
    for i, value in ipairs(row.values) do
      line[i] = escaped(axes.text(options.core, grid.heads[i], value))
    end
    for i, cell in ipairs(row.cells) do
      options.titles = nil
      if grid.columns[i].joined then
        options.titles = {}
        for k, column in ipairs(grid.columns[i].joined) do options.titles[k] = column.title end
      end
      line[#line + 1] = cell_text(options, cell, mark)
    end
    out[#out + 1] = "| " .. table.concat(line, " | ") .. " |"
  end
  if grid.remark then out[#out + 1] = "\n" .. escaped(grid.remark) end
  if #notes > 0 then out[#out + 1] = "" end
  for i, note in ipairs(notes) do out[#out + 1] = ("%d. %s"):format(i, escaped(note)) end
  for _, sentence in ipairs(answer.sentences(options.core, grid)) do out[#out + 1] = "\n" .. escaped(sentence) end
  return table.concat(out, "\n") .. "\n"
end

local signs = { pass = "✅", fail = "❌", error = "❌", interrupted = "❌", inconclusive = "❔" }

local function expectations(list)
  if #list == 0 then return nil end
  local out = { "| | expectation | found |", "|--|:--|:--|" }
  for _, e in ipairs(list) do
    out[#out + 1] = ("| %s | %s%s | %s |"):format(signs[e.status] or "", escaped(table_format.subject(e)),
      escaped(e.expression),
      escaped(e.reason or ""))
  end
  return table.concat(out, "\n") .. "\n"
end

M.expectations = expectations

-- How each runtime ran: { gvisor = "runsc 2022, ptrace, …" } as one text.
local function runtimes_text(runtimes)
  local list = {}
  for name, how in pairs(type(runtimes) == "table" and runtimes or {}) do
    list[#list + 1] = ("%s: %s"):format(name, tostring(how))
  end
  table.sort(list)
  return table.concat(list, "; ")
end

local function environment_line(data)
  local keys, parts = {}, {}
  for key, value in pairs(data.environment or {}) do
    if type(value) ~= "table" then keys[#keys + 1] = key end
  end
  table.sort(keys)
  for i, key in ipairs(keys) do parts[i] = ("%s %s"):format(escaped(key), escaped(data.environment[key])) end
  local runtimes = runtimes_text((data.environment or {}).runtimes)
  if runtimes ~= "" then parts[#parts + 1] = escaped(runtimes) end
  return ("<sub>knbl %s · %s · %s%s%s</sub>\n"):format(escaped(data.knbl or "?"), escaped(data.started or "?"),
    escaped(data.provider or "?"),
    #parts > 0 and " · " or "", table.concat(parts, ", "))
end

-- The head of a page: its title and the verdict.
function M.verdict(verdict, title, sentence)
  return ("## %s\n\n%s **%s** %s\n"):format(escaped(title), signs[verdict.status] or signs.inconclusive,
    escaped(verdict.status or "unfinished"), escaped(sentence))
end

function M.render(data, given)
  local options = { core = given.core }
  local parts = { M.verdict(data.verdict or {}, data.question or data.scenario or "knbl", table_format.verdict(data)) }
  local size = #parts[1]
  local function add(part)
    if not part then return end
    if size + #part > M.limit then
      if not options.cut then
        parts[#parts + 1] = "_The rest is left out: this page may not be longer; the JSON file has it._\n"
      end
      options.cut = true
      return
    end
    size = size + #part
    parts[#parts + 1] = part
  end
  add(expectations(data.expectations))
  for _, grid in ipairs(report.grids(options.core, data)) do
    if #grid.rows > 0 or grid.empty then add(grid_text(grid, options)) end
  end
  local legend = table_format.legend(data, table.concat(parts))
  if legend then add(escaped(legend) .. "\n") end
  if data.comparison then add(require("knbl.format.comparison").markdown(data.comparison, options)) end
  add(require("knbl.format.functions").markdown(data, options, escaped))
  for _, note in ipairs(data.notes) do add("- " .. escaped(table_format.note_text(note)) .. "\n") end
  add(environment_line(data))
  return table.concat(parts, "\n")
end

return M
