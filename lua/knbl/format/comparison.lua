-- knbl.format.comparison - what compare.lua found, as a table on a terminal, as Markdown and as a part of the page.
local columns = require "knbl.format.columns"
local compare = require "knbl.results.compare"
local figures = require "knbl.results.figures"
local table_format = require "knbl.format.table"

local M = {}

local heads = { "test", "case", "figure", "old", "new", "change", "95 % interval", "p", "n" }
local names = 3 -- so many of them say what a line is about

local function side(options, figure, s)
  return table_format.figure(options, { figure = figure, value = s.value, low = s.low, high = s.high, n = s.n })
end

local function by(options, figure, c, value)
  if not value then return "" end
  if c.change then return compare.percent(value) end
  return (value > 0 and "+" or "") .. figures.show(options.core, figure, value, options.ascii)
end

local function interval(options, figure, c)
  if not (c.low and c.high) then return "" end
  return ("%s … %s"):format(by(options, figure, c, c.low), by(options, figure, c, c.high))
end

local words = { better = " better", worse = " worse", differs = "", none = "" }
M.colours = { better = "green", worse = "red", differs = "yellow" }

-- A comparison as texts, in the order of the heads.
local function row(options, c)
  local figure = figures.of({ metric = c.metric }, c.figure) or { name = c.figure, title = c.figure, unit = "count" }
  local change = c.shown and by(options, figure, c, c.change or c.difference) .. (words[c.verdict] or "") or "~"
  return { c.test, c.case, figure.title, side(options, figure, c.old), side(options, figure, c.new), change,
    interval(options, figure, c),
    c.p < 0.0005 and "<0.001" or ("%.3f"):format(c.p), ("%d+%d"):format(c.old.n, c.new.n),
    colours = { [6] = M.colours[c.verdict] } }
end

local function heads_of(result)
  local list = { (table.unpack or unpack)(heads) }
  list[7] = ("%s %% interval"):format(figures.significant(100 * (1 - result.alpha)):gsub("%.0+$", ""))
  return list
end

-- Which comparisons the table has: of the nodes of a mesh only those that changed.
local function rows_of(result)
  local list, left = {}, 0
  for _, c in ipairs(result.comparisons) do
    if (c.among or 1) > 1 and c.verdict == "none" then left = left + 1 else list[#list + 1] = c end
  end
  return list, left
end

local function count(result)
  local n = { better = 0, worse = 0, differs = 0, none = 0, too_few = 0 }
  for _, c in ipairs(result.comparisons) do
    n[c.verdict] = (n[c.verdict] or 0) + 1
    if c.too_few then n.too_few = n.too_few + 1 end
  end
  return n
end

-- What was not compared, by its reason; of many only the first ones are named.
local function left_out(result, list)
  local reasons, by_reason = {}, {}
  for _, item in ipairs(result.not_compared) do
    if not by_reason[item.reason] then by_reason[item.reason], reasons[#reasons + 1] = {}, item.reason end
    table.insert(by_reason[item.reason], item.test .. " " .. item.case)
  end
  for _, reason in ipairs(reasons) do
    local these = by_reason[reason]
    local more = #these > 4 and (", and %d more"):format(#these - 3) or ""
    list[#list + 1] = ("not compared (%s): %s%s"):format(reason,
      table.concat(these, ", ", 1, #these > 4 and 3 or #these), more)
  end
end

-- What has to be said beside the table: a list of texts.
local function remarks(result)
  local list, n, all = {}, count(result), #result.comparisons
  if result.refused then
    list[1] = "not compared, for the environments differ: " .. table.concat(result.environments, "; ")
      .. ". --any-environment compares all the same"
    return list
  end
  if all > 0 then
    list[1] = ("%d better, %d worse, %s%d where no difference is shown (~)"):format(n.better, n.worse,
      n.differs > 0 and ("%d that differ, "):format(n.differs) or "", n.none)
  end
  if n.too_few > 0 then
    list[#list + 1] = (
      "%d of %d have too few repeats to show anything: 4 and 4 are the least (--repeats; knbl ab: --rounds)"):format(
      n.too_few, all)
  end
  local _, left = rows_of(result)
  if left > 0 then
    list[#list + 1] = ("not in the table: %d figures of mesh nodes where no difference is shown"):format(left)
  end
  local together = 0 -- of all nodes of a mesh, one in twenty runs shows a difference by chance
  for _, c in ipairs(result.comparisons) do together = together + ((c.among or 1) > 1 and 1 or 0) end
  local chance = result.alpha * (all - n.too_few - together)
  if chance >= 0.5 then
    list[#list + 1] = ("of %d comparisons about %.0f show%s a difference by chance, where there is none"):format(
      all - n.too_few, chance,
      chance < 1.5 and "s" or "")
  end
  if all > n.too_few and (result.files.old < 2 or result.files.new < 2) then
    list[#list + 1] =
      "with one run a side, what changed between the runs for another reason counts too: compare several runs, taken \z
        in turn"
  end
  for _, other in ipairs(result.environments) do list[#list + 1] = "the environments differ: " .. other end
  left_out(result, list)
  return list
end

-- A comparison as a person reads it on a terminal.
function M.text(result, options)
  local out = {}
  if #result.comparisons > 0 then
    local rows = { heads_of(result) }
    for _, c in ipairs((rows_of(result))) do rows[#rows + 1] = row(options, c) end
    columns.layout(columns.lines(rows, { true, true, true }), names, options, out)
  end
  for _, remark in ipairs(remarks(result)) do columns.remark("", remark, options, out) end
  return table.concat(out, "\n") .. "\n"
end

function M.markdown(result, options)
  local escaped = require("knbl.format.markdown").escaped
  local out = {}
  if #result.comparisons > 0 then
    out[1] = "| " .. table.concat(heads_of(result), " | ") .. " |"
    out[2] = "|:--|:--|:--|--:|--:|--:|--:|--:|--:|"
    for _, c in ipairs((rows_of(result))) do
      local cells = row(options, c)
      for i, cell in ipairs(cells) do cells[i] = escaped(cell) end
      if c.verdict == "worse" then cells[6] = "**" .. cells[6] .. "**" end
      out[#out + 1] = "| " .. table.concat(cells, " | ") .. " |"
    end
    out[#out + 1] = ""
  end
  for _, remark in ipairs(remarks(result)) do out[#out + 1] = "- " .. escaped(remark) end
  return table.concat(out, "\n") .. "\n"
end

-- "old: a.json, lab, 2026-11-29T15:00:00Z, x Processor" for each ledger: a list of texts.
local function sources_of(result)
  local list = {}
  for _, side in ipairs { "old", "new" } do
    for _, s in ipairs((result.sources or {})[side] or {}) do
      local parts = {}
      for _, key in ipairs { "file", "scenario", "provider", "started", "host", "kernel" } do
        if s[key] then parts[#parts + 1] = tostring(s[key]) end
      end
      list[#list + 1] = side .. ": " .. table.concat(parts, ", ")
    end
  end
  return list
end

function M.sources_markdown(result)
  local escaped, out = require("knbl.format.markdown").escaped, {}
  for i, line in ipairs(sources_of(result)) do out[i] = "- " .. escaped(line) .. "\n" end
  return table.concat(out)
end

function M.html(result, options, title)
  local escape = require("knbl.format.chart").escape
  local out = { ("<h2>%s</h2>"):format(escape(title or "Beside the baseline")) }
  if #result.comparisons > 0 then
    out[2] = '<div class="wide"><table class="data"><thead><tr>'
    for i, head in ipairs(heads_of(result)) do
      out[#out + 1] = ("<th%s>%s</th>"):format(i > names and ' class="n"' or "", escape(head))
    end
    out[#out + 1] = "</tr></thead><tbody>"
    for _, c in ipairs((rows_of(result))) do
      -- what columns are sorted by: of the change only what is shown
      local keys = { [4] = c.old.value, [5] = c.new.value, [6] = c.shown and (c.change or c.difference) or nil,
        [8] = c.p, [9] = c.old.n + c.new.n }
      out[#out + 1] = "<tr>"
      for i, cell in ipairs(row(options, c)) do
        local class = i == 6 and "n " .. c.verdict or i > names and "n" or nil
        out[#out + 1] = ("<td%s%s>%s</td>"):format(keys[i] and (' data-v="%.6g"'):format(keys[i]) or "",
          class and (' class="%s"'):format(escape(class)) or "",
          escape(cell))
      end
      out[#out + 1] = "</tr>"
    end
    out[#out + 1] = "</tbody></table></div>"
  end
  for _, line in ipairs(sources_of(result)) do out[#out + 1] = "<p><small>" .. escape(line) .. "</small></p>" end
  for _, remark in ipairs(remarks(result)) do out[#out + 1] = "<p><small>" .. escape(remark) .. "</small></p>" end
  return table.concat(out)
end

return M
