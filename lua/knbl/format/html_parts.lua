-- knbl.format.html_parts - what the charts of the page (html_charts, html_time) share: a <figure>, groups of
-- measurements and what they are called, and many curves in few charts.
local axes = require "knbl.results.axes"
local chart = require "knbl.format.chart"
local figures = require "knbl.results.figures"
local ledger = require "knbl.results.ledger"
local native = require "knbl.native"

local M = {}

local escape = chart.escape
local SERIES_MAX = 8

function M.figure(title, note, drawing)
  if not drawing then return "" end
  return ("<figure><figcaption>%s <small>%s</small></figcaption>%s</figure>"):format(escape(title), escape(note),
    drawing)
end

-- Many charts, or long ones, of one kind: folded, so that what follows is found.
M.many = 24
function M.folded(out, from, summary)
  if #out < from then return end
  out[from] = ("<details><summary>%s</summary>%s</details>"):format(escape(summary), table.concat(out, "", from))
  for i = #out, from + 1, -1 do out[i] = nil end
end

-- How a figure of a test is shown: in the unit that the scenario's own tables have it in. Returns how much of the
-- figure's own unit one of that is too.
function M.shower(data, core, test, figure)
  local unit
  for _, declaration in ipairs(data.reports) do
    for _, column in ipairs(declaration.columns) do
      local fits = column.show == figure.name and not column.test
      for _, name in ipairs(column.test or {}) do fits = fits or column.show == figure.name and name == test end
      if fits then unit = unit or column.unit end
    end
  end
  return function(v) return figures.show(core, figure, v, false, unit) end, 1 / figures.in_unit(figure, 1, unit)
end

function M.better_note(figure)
  return figure.better == "more" and "more is better" or figure.better == "less" and "less is better" or ""
end

-- Measurements of one test, case and rate, sizes and repeats apart: { test, label, list } in the order of the run.
function M.groups_of(data, split)
  local groups = ledger.groups(data, function(m)
    return m.ok and m.metrics and table.concat({ m.test, m.case, m.via or "", split and tostring(m.params[split]) or "",
      tostring(m.params.rate), m.metric and m.metric.name or "" }, "\0")
  end)
  for _, g in ipairs(groups) do g.test, g.list, g.first = g[1].test, g, g[1] end
  return groups
end

-- What groups of one test are called: the case, and what else it takes to tell them apart: the way, the size; where
-- there are both, whether the loop is open, and whether it was warmed up.
local function label(groups, core)
  local loads, starts, first = false, false, groups[1].first
  for _, g in ipairs(groups) do
    loads = loads or select(2, ledger.load(g.first)) ~= select(2, ledger.load(first))
    starts = starts or ledger.start(g.first) ~= ledger.start(first)
  end
  local ways, sizes, way_of, size_of, rates, rate_of = {}, false, {}, nil, {}, {}
  for _, g in ipairs(groups) do
    local case, via, size = g.first.case, g.first.via or "", g.first.params.size
    ways[case] = ways[case] or way_of[case] ~= nil and way_of[case] ~= via
    sizes = sizes or size_of ~= nil and size_of ~= size
    way_of[case], size_of = via, size
    local one, rate = case .. "\0" .. via .. "\0" .. tostring(size), tostring(g.first.params.rate)
    rates[case] = rates[case] or rate_of[one] ~= nil and rate_of[one] ~= rate
    rate_of[one] = rate
  end
  for _, g in ipairs(groups) do
    local parts = { g.first.case }
    if ways[g.first.case] and g.first.via then parts[2] = g.first.via:gsub("_", " ") end
    if sizes and core and tonumber(g.first.params.size) then
      parts[#parts + 1] = core.format_size(g.first.params.size)
    end
    local open = loads or rates[g.first.case]
    if open then parts[#parts + 1] = axes.text(core or native, "load", (ledger.load(g.first))) end
    if starts then parts[#parts + 1] = ledger.start(g.first) end
    g.label = table.concat(parts, " · ")
  end
end

-- The tests of groups in their order, and the groups of each by its name; labelled, with sizes where `core` is given.
function M.tests_of(groups, core)
  local order, by_test = {}, {}
  for _, g in ipairs(groups) do
    if not by_test[g.test] then
      by_test[g.test] = {}
      order[#order + 1] = g.test
    end
    table.insert(by_test[g.test], g)
  end
  for _, test in ipairs(order) do label(by_test[test], core) end
  return order, by_test
end

function M.values_of(list, figure)
  local values = {}
  for _, m in ipairs(list) do values[#values + 1] = figures.value(m, figure) end
  return values
end

-- ---- many curves ----

-- A chart holds so many series; what is more goes into the next one, evenly and on the same scale. draw(part, of) has
-- what to add to a title.
function M.in_charts(series, out, title, draw)
  local charts, from, first = math.ceil(#series / SERIES_MAX), 1, #out + 1
  for k = 1, charts do
    local part = {}
    for i = from, math.floor(#series * k / charts) do part[#part + 1] = series[i] end
    from = from + #part
    out[#out + 1] = draw(part, title .. (charts > 1 and (" (%d of %d)"):format(k, charts) or ""))
  end
  if #series > M.many then M.folded(out, first, ("%s, %d curves"):format(title, #series)) end
end

-- Series by the row that a table has them in, the sides of each in one small chart: { { name, series… }… }; nil where
-- they have no such rows. `places`: html_pairs.places.
local function panels_of(series, places)
  local panels, by_row = {}, {}
  for _, s in ipairs(series) do
    local place = s.first and places[s.first]
    if not place then return nil end
    local panel = by_row[place.row]
    if not panel then
      panel = { name = place.row, sides = {} }
      by_row[place.row], panels[#panels + 1] = panel, panel
    end
    if panel.sides[place.side] then return nil end
    panel.sides[place.side] = true
    panel[#panel + 1] = { label = place.name, points = s.points, first = s.first, shade = place.side }
  end
  return #panels > 1 and #series > #panels and panels or nil
end

-- Curves: a small chart for each row of the table, where its rows have sides to compare, all on one scale; else up to
-- eight in a chart. options: those of chart.lines; after(part) has what stands below a chart.
function M.curves(series, out, title, note, options, places, after)
  options.beside, options.plain = series, #series > M.many
  local function draw(part, name, mini)
    options.title, options.mini, options.marks = name, mini, options.moments and options.moments(part)
    return chart.lines(part, options)
  end
  local panels = panels_of(series, places)
  if not panels then
    return M.in_charts(series, out, title, function(part, name)
      local drawing = draw(part, name)
      return M.figure(name, note, drawing and drawing .. (after and after(part) or ""))
    end)
  end
  local minis, keys, named = {}, {}, {}
  for i, panel in ipairs(panels) do
    local drawing = draw(panel, ("%s: %s"):format(title, panel.name), true)
    if not drawing then return end
    minis[i] = ("<div><b>%s</b>%s</div>"):format(escape(panel.name), drawing)
    for _, s in ipairs(panel) do
      if not named[s.shade] then named[s.shade], keys[#keys + 1] = true, { label = s.label, shade = s.shade } end
    end
  end
  table.sort(keys, function(a, b) return a.shade < b.shade end)
  out[#out + 1] = M.figure(title, note .. "; one scale for all", ('%s<div class="minis">%s</div>%s'):format(
    chart.legend(keys), table.concat(minis), after and after(series) or ""))
  if #panels > M.many then M.folded(out, #out, ("%s, %d charts"):format(title, #panels)) end
end

return M
