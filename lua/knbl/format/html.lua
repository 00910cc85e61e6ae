-- knbl.format.html - one page that holds everything: no network, nothing beside it. It opens from a file or a mail, on
-- a phone, in the dark and on paper. First the question, the verdict, the answer and the chart that shows it; then the
-- tables, the other charts, and what it was measured on.
local answer = require "knbl.results.answer"
local chart = require "knbl.format.chart"
local charts = require "knbl.format.html_charts"
local figures = require "knbl.results.figures"
local meshes = require "knbl.format.html_mesh"
local shared = require "knbl.format.html_parts"
local page = require "knbl.format.html_style"
local axes = require "knbl.results.axes"
local ledger = require "knbl.results.ledger"
local report = require "knbl.results.report"
local table_format = require "knbl.format.table"

local M = {}

local escape = chart.escape

-- ---- tables ----

local function cell_html(options, cell, mark)
  if cell.joined then
    local parts = {}
    for i, part in ipairs(cell.joined) do parts[i] = cell_html(options, part, mark) end
    return table.concat(parts, "<br>")
  end
  return (escape(table_format.cell(options, cell, mark)):gsub(" %[([%d,]+)%]$", "<sup>%1</sup>"))
end

-- What a column is sorted by, where it is not what one reads.
local function sort_key(value)
  return type(value) == "number" and (' data-v="%.6g"'):format(value) or ""
end

-- The sentences that a table's figures carry, each a paragraph.
local function answer_html(grid, options)
  local said = {}
  for i, sentence in ipairs(answer.sentences(options.core, grid)) do
    said[i] = "<p class=\"answer\">" .. escape(sentence) .. "</p>"
  end
  return table.concat(said)
end

local function grid_html(grid, options, said_above)
  local mark, notes = table_format.marker()
  local title = grid.title and ("<h3>%s</h3>"):format(escape(grid.title .. (grid.order and ": " .. grid.order or "")))
    or ""
  if grid.empty then return ("%s<p>%s</p>"):format(title, escape(grid.empty)) end
  local said = { said_above and "" or answer_html(grid, options) }
  for _, warning in ipairs(grid.warnings) do
    said[#said + 1] = "<p class=\"warning\"><small>" .. escape(warning) .. "</small></p>"
  end
  -- smaller on paper
  local class = #grid.heads + #grid.columns > 10 and "data many" or "data"
  local out = { title, table.concat(said), ('<div class="wide"><table class="%s"><thead><tr>'):format(class) }
  for _, name in ipairs(grid.heads) do out[#out + 1] = "<th>" .. escape(name) .. "</th>" end
  for _, column in ipairs(grid.columns) do out[#out + 1] = '<th class="n">' .. escape(column.title) .. "</th>" end
  out[#out + 1] = "</tr></thead><tbody>"
  for _, row in ipairs(grid.rows) do
    out[#out + 1] = "<tr>"
    for i, value in ipairs(row.values) do
      local shown = axes.text(options.core, grid.heads[i], value)
      out[#out + 1] = ("<td%s%s>%s</td>"):format(#shown > 16 and ' class="long"' or "", sort_key(value), escape(shown))
    end
    for _, cell in ipairs(row.cells) do
      local first = cell.joined and cell.joined[1] or cell
      out[#out + 1] = ('<td class="n"%s>%s</td>'):format(sort_key(first.value), cell_html(options, cell, mark))
    end
    out[#out + 1] = "</tr>"
  end
  out[#out + 1] = "</tbody></table></div>"
  if grid.remark then out[#out + 1] = ("<p><small>%s</small></p>"):format(escape(grid.remark)) end
  for i, note in ipairs(notes) do out[#out + 1] = ("<p><small>%d. %s</small></p>"):format(i, escape(note)) end
  return table.concat(out)
end

local function expectations_html(data)
  if #data.expectations == 0 then return "" end
  local out = { '<h2>Expectations</h2><div class="wide"><table>' }
  for _, e in ipairs(data.expectations) do
    out[#out + 1] = (
      '<tr><td><span class="verdict %s">%s</span></td><td class="wrap">%s%s</td><td class="wrap">%s</td></tr>'):format(
      escape(e.status), escape(e.status),
      escape(table_format.subject(e)), escape(e.expression), escape(e.reason or ""))
  end
  return table.concat(out) .. "</table></div>"
end

-- ---- the page ----

local function flat(value)
  if type(value) ~= "table" then return tostring(value) end
  local parts, keys = {}, {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(keys) do
    parts[#parts + 1] = type(key) == "number" and flat(value[key]) or ("%s: %s"):format(key, flat(value[key]))
  end
  return table.concat(parts, ", ")
end

local function environment_html(data)
  local out, keys = { '<h2>Measured on</h2><div class="wide"><table>' }, {}
  local rows = { provider = data.provider, knbl = data.knbl, started = data.started, ended = data.ended,
    scenario = data.scenario }
  for key, value in pairs(data.environment or {}) do rows[key] = value end
  for key in pairs(rows) do keys[#keys + 1] = key end
  table.sort(keys)
  for _, key in ipairs(keys) do
    local value = flat(rows[key])
    if value ~= "" then
      out[#out + 1] = ("<tr><th>%s</th><td style=\"white-space:normal\">%s</td></tr>"):format(
        escape((key:gsub("_", " "))), escape(value))
    end
  end
  return table.concat(out) .. "</table></div>"
end

local function flags_html(data)
  local seen, list = {}, {}
  for _, m in ipairs(data.measurements) do
    for _, flag in ipairs(m.flags or {}) do
      if not seen[flag] then seen[flag], list[#list + 1] = true, flag end
    end
  end
  if #list == 0 then return "" end
  table.sort(list)
  local out = { "<h2>What makes figures doubtful here</h2><ul>" }
  for _, flag in ipairs(list) do
    out[#out + 1] = ("<li><b>%s</b>: %s</li>"):format(escape((flag:gsub("_", " "))), escape(figures.explain(flag)))
  end
  return table.concat(out) .. "</ul>"
end

-- A page's beginning, down to the verdict.
local function begin(title, above, status, sentence)
  return {
    '<!doctype html><html lang="en"><head><meta charset="utf-8">\z
      <meta name="viewport" content="width=device-width,initial-scale=1">',
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src \'unsafe-inline\'; \z
      script-src \'unsafe-inline\'">',
    "<title>", escape(title), "</title><style>", page.style, meshes.style, "</style></head><body>",
    ('<p class="soft">%s</p><h1>%s</h1>'):format(escape(above), escape(title)),
    ('<p><span class="verdict %s">%s</span> %s</p>'):format(escape(status or ""), escape(status or "unfinished"),
      escape(sentence)) }
end

-- The script comes last: the page is read before it runs.
local function finish(out)
  out[#out + 1] = "<script>" .. page.script .. "</script></body></html>\n"
  return table.concat(out)
end

-- What `knbl compare` found.
function M.comparison(result, given)
  local verdict = result.verdict
  local sentence = verdict.message or #result.expectations > 0 and "no limit was broken" or "there was no limit to hold"
  local out = begin("What changed between two sides of ledgers?",
    ("knbl compare · %d old, %d new"):format(result.files.old, result.files.new), verdict.status,
    sentence)
  out[#out + 1] = expectations_html(result)
  out[#out + 1] = require("knbl.format.comparison").html(result, { core = given.core }, "Figures, old and new")
  return finish(out)
end

-- The runs of a series and its levels, as a chart.
local function trend_chart(core, series, tools)
  local points, levels, from = {}, {}, 1
  for i, value in ipairs(series.values) do points[i] = { i, value } end
  local marks = { { 1, tools.day(series.runs[1].started) }, { #points, tools.day(series.runs[#points].started) } }
  for k = 1, #series.changes + 1 do
    local c = series.changes[k]
    local level = c and c.before or k > 1 and series.changes[k - 1].after or nil
    local to = c and c.at - 1 or #points
    if level then
      levels[#levels + 1], levels[#levels + 2] = { from, level }, { to, level }
    end
    if c then table.insert(marks, k + 1, { c.at, tools.day(c.after_run.started) }) end
    from = to + 1
  end
  local lines = { { label = "runs", points = points } }
  if #levels > 0 then lines[2] = { label = "level", points = levels } end
  local figure = series.figure
  local function show(v) return figures.show(core, figure, v) end
  local note, better = ("%d runs, %s"):format(#points, series.machine), shared.better_note(figure)
  if better ~= "" then note = note .. "; " .. better end
  return shared.figure(("%s: %s"):format(tools.title_of(series), figure.title), note,
    chart.lines(lines,
      { title = tools.title_of(series), x_ticks = marks, show_x = tostring, show_y = show }))
end

-- What `knbl trend` found: the changes, then a chart of each series, those with a change first.
function M.trend(result, given, tools)
  local core, verdict, n = given.core, result.verdict, #tools.changes
  local sentence = verdict.message or (n == 0 and "no figure changed its level"
    or ("%d change%s of a level"):format(n, n == 1 and "" or "s"))
  local out = begin("Where did figures change their level?", "knbl trend · " .. table.concat(tools.remarks, " · "),
    verdict.status, sentence)
  out[#out + 1] = expectations_html(result)
  if n > 0 then
    out[#out + 1] = '<h2>Changes</h2><div class="wide"><table><tr><th>since</th><th>series</th><th>figure</th>'
      .. '<th class="n">before</th><th class="n">after</th><th class="n">change</th><th>what else changed</th></tr>'
  end
  for _, item in ipairs(tools.changes) do
    local series, c = item.series, item.c
    local function show(v) return escape(figures.show(core, series.figure, v)) end
    out[#out + 1] = ('<tr><td>%s</td><td class="long">%s</td><td>%s</td><td class="n">%s</td><td class="n">%s</td>'
      .. '<td class="n %s">%s</td><td class="wrap">%s</td></tr>'):format(escape(tools.day(c.after_run.started)),
      escape(tools.title_of(series)), escape(series.figure.title), show(c.before), show(c.after), escape(c.verdict),
      escape(tools.by(c)), escape(c.between))
  end
  if n > 0 then out[#out + 1] = "</table></div>" end
  for _, changed in ipairs { true, false } do
    local from = #out + 1
    for _, series in ipairs(result.series) do
      if (#series.changes > 0) == changed and #series.values > 1 then
        out[#out + 1] = trend_chart(core, series, tools)
      end
    end
    if not changed and #out >= from then shared.folded(out, from, "Series without a change of their level") end
  end
  return finish(out)
end

-- Gives the headings and charts of a page anchors, and returns the links to them.
local function contents(parts)
  local links, drawn, n = {}, {}, 0
  for i, part in ipairs(parts) do
    parts[i] = part:gsub("<h2>(.-)</h2>", function(title)
      n = n + 1
      links[#links + 1] = ('<a href="#s%d">%s</a>'):format(n, title)
      return ('<h2 id="s%d">%s</h2>'):format(n, title)
    end):gsub("<figure><figcaption>(.-) <small>", function(title)
      n = n + 1
      if not title:find(" %(%d+ of %d+%)$") or title:find " %(1 of" then
        drawn[#drawn + 1] = ('<li><a href="#s%d">%s</a></li>'):format(n, title)
      end
      return ('<figure id="s%d"><figcaption>%s <small>'):format(n, title)
    end)
  end
  local list = #drawn > 1 and ("<details><summary>%d charts</summary><ul>%s</ul></details>"):format(#drawn,
    table.concat(drawn)) or ""
  return ("<nav aria-label=\"Contents\">%s%s</nav>"):format(table.concat(links), list)
end

-- The tables, and what belongs to them.
local function tables_html(data, grids, options, said_above)
  local out = { "<h2>Figures</h2>" }
  for _, grid in ipairs(grids) do
    if #grid.rows > 0 or grid.empty then out[#out + 1] = grid_html(grid, options, said_above) end
  end
  local legend = table_format.legend(data, table.concat(out))
  if legend then out[#out + 1] = "<p><small>" .. escape(legend) .. "</small></p>" end
  if data.comparison then out[#out + 1] = require("knbl.format.comparison").html(data.comparison, options,
    data.arms and ("%s beside %s"):format(data.arms[2].name, data.arms[1].name)) end
  for _, note in ipairs(data.notes or {}) do
    out[#out + 1] = "<p>Note: " .. escape(table_format.note_text(note)) .. "</p>"
  end
  if #out == 1 and data.meshes then return "" end
  return table.concat(out)
end

-- All of a ledger's page below its verdict; `before` is what comes first.
local function body(data, given, before)
  local options = { core = given.core }
  local grids = report.grids(given.core, data)
  local one = #grids == 1 and #grids[1].rows > 0
  local lead, drawings = charts.all(ledger.beside_meshes(data), given.core, grids)
  local parts = { before or "",
    ('<div class="lead">%s%s%s</div>'):format(meshes.lead(data), one and answer_html(grids[1], options) or "",
    lead or "") }
  parts[3] = expectations_html(data)
  parts[4] = meshes.html(data, given.core)
  parts[5] = tables_html(data, grids, options, one)
  if #drawings > 0 then parts[#parts + 1] = "<h2>Charts</h2>" .. table.concat(drawings) end
  parts[#parts + 1] = require("knbl.format.functions").html(data, given.core, escape)
  parts[#parts + 1] = flags_html(data)
  parts[#parts + 1] = environment_html(data)
  return contents(parts) .. table.concat(parts)
end

function M.render(data, given)
  local out = begin(data.question or data.scenario or "knbl",
    ("knbl · %s · %s"):format(data.provider or "", data.started or ""), (data.verdict or {}).status,
    table_format.verdict(data))
  out[#out + 1] = body(data, given)
  return finish(out)
end

-- The page of `knbl watch`: its history, then the last report, in two parts, so that the second one can be kept where a
-- run left no ledger.
function M.standing(title, above, status, sentence, history)
  local out = begin(title, above, status, sentence)
  out[#out + 1] = history
  return table.concat(out)
end

function M.standing_report(data, given)
  if not data then return finish {} end
  return finish { ('<h2>The report of %s</h2><p><span class="verdict %s">%s</span> %s</p>'):format(
    escape(data.started or ""), escape((data.verdict or {}).status or ""), escape((data.verdict or {}).status or
    "unfinished"), escape(table_format.verdict(data))), body(data, given) }
end

return M
