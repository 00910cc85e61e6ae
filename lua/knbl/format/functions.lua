-- knbl.format.functions - the kernel functions that each path spent its time in, and why one costs more than another:
-- on a terminal, as Markdown and as a part of the page.
local columns = require "knbl.format.columns"
local profile = require "knbl.results.profile"
local text = require "knbl.base.text"

local M = {}

local heads = { "kernel function", "own time", "with what it calls", "share" }

local function rows_of(core, section, ascii)
  local rows = {}
  for i, f in ipairs(section.functions) do
    rows[i] = { f.name, core.format_duration(f.self, ascii), core.format_duration(f.total, ascii),
      section.total > 0 and ("%.1f %%"):format(100 * f.self / section.total) or "" }
  end
  return rows
end

local function title_of(core, section, ascii)
  return ("%s: %s of CPU for each %s"):format(section.title, core.format_duration(section.total, ascii), section.unit),
    section.note
end

-- The most lines that lists of functions may take on a terminal; more than that becomes a summary of SUMMARY lines.
local MOST, SUMMARY = 30, 10

-- "tcp_lat near: 12.1 µs of CPU for each operation, most of it in nf_conntrack_in (31 %)"
local function costliest(core, section, ascii)
  local title = title_of(core, section, ascii)
  local first = section.functions[1]
  if not first or section.total <= 0 then return title end
  return ("%s, most of it in %s (%.0f %%)"):format(title, first.name, 100 * first.self / section.total)
end

-- Many lists in ten lines: the greatest differences between two paths first, then the costliest.
local function summary(sections, options, out)
  local order, told = {}, 0
  for i, section in ipairs(sections) do order[i] = section end
  table.sort(order, function(a, b)
    if a.weight ~= b.weight then return a.weight > b.weight end
    return a.total > b.total
  end)
  local several = false
  for _, section in ipairs(sections) do several = several or section.test ~= sections[1].test end
  out[#out + 1] = "Where the CPU goes, in short:"
  for _, section in ipairs(order) do
    local lines = {}
    local sentence = several and section.sentence and section.test .. ": " .. section.sentence or section.sentence
    local shown = section.weight > 0 and sentence or costliest(options.core, section, options.ascii)
    columns.remark("- ", shown, options, lines)
    if #out + #lines > SUMMARY - 1 then break end
    for _, line in ipairs(lines) do out[#out + 1] = line end
    told = told + 1
  end
  out[#out + 1] = ("%d of %d measurements; the lists of all: --html, --markdown, --flame, --folded"):format(told,
    #sections)
end

-- As a person reads it on a terminal; nil where nothing was profiled.
function M.text(data, options)
  local sections, remarks = profile.sections(options.core, data, options.ascii)
  local out, lines_of_all = {}, 0
  for _, section in ipairs(sections) do lines_of_all = lines_of_all + #section.functions + 5 end
  if lines_of_all > MOST then
    summary(sections, options, out)
    sections = {}
  end
  for _, section in ipairs(sections) do
    local title, note = title_of(options.core, section, options.ascii)
    if #out > 0 then out[#out + 1] = "" end
    out[#out + 1] = text.clean(("%s (%s)"):format(title, note))
    if options.ascii then out[#out] = text.ascii(out[#out]) end
    local rows = rows_of(options.core, section, options.ascii)
    table.insert(rows, 1, heads)
    if #rows > 1 then columns.layout(columns.lines(rows, { true }), 1, options, out) end
    if section.sentence then columns.remark("", section.sentence, options, out) end
  end
  for _, why in ipairs(remarks) do columns.remark("profile: ", why, options, out) end
  return #out > 0 and table.concat(out, "\n") .. "\n" or nil
end

function M.markdown(data, options, escaped)
  local sections, remarks = profile.sections(options.core, data)
  local out = {}
  for _, section in ipairs(sections) do
    local title, note = title_of(options.core, section)
    out[#out + 1] = ("**%s** (%s)\n"):format(escaped(title), escaped(note))
    out[#out + 1] = "| " .. table.concat(heads, " | ") .. " |\n|:--|--:|--:|--:|"
    for _, row in ipairs(rows_of(options.core, section)) do
      for i, cell in ipairs(row) do row[i] = escaped(cell) end
      out[#out + 1] = "| " .. table.concat(row, " | ") .. " |"
    end
    out[#out + 1] = section.sentence and "\n" .. escaped(section.sentence) .. "\n" or ""
  end
  for _, why in ipairs(remarks) do out[#out + 1] = "- profile: " .. escaped(why) end
  return #out > 0 and table.concat(out, "\n") .. "\n" or nil
end

function M.html(data, core, escape)
  local sections, remarks = profile.sections(core, data)
  if #sections + #remarks == 0 then return "" end
  local out = { "<h2>Where the CPU goes</h2>" }
  for _, why in ipairs(remarks) do out[#out + 1] = ("<p>%s</p>"):format(escape(why)) end
  for _, section in ipairs(sections) do
    local title, note = title_of(core, section)
    out[#out + 1] = ('<h3>%s <small>%s</small></h3><div class="wide"><table><tr>'):format(escape(title), escape(note))
    for i, head in ipairs(heads) do out[#out + 1] = ("<th%s>%s</th>"):format(i > 1 and ' class="n"' or "", head) end
    out[#out + 1] = "</tr>"
    for _, row in ipairs(rows_of(core, section)) do
      out[#out + 1] = "<tr>"
      for i, cell in ipairs(row) do
        out[#out + 1] = ("<td%s>%s</td>"):format(i > 1 and ' class="n"' or "", escape(cell))
      end
      out[#out + 1] = "</tr>"
    end
    out[#out + 1] = "</table></div>"
    if section.sentence then out[#out + 1] = "<p>" .. escape(section.sentence) .. "</p>" end
  end
  return table.concat(out)
end

return M
