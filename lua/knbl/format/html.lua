-- knbl.format.html - one page that holds everything: no script, no network, nothing beside it. It opens from a file or a mail, on a phone, in the
-- dark and on paper. First the question and the verdict, then the tables, then the charts, then what it was measured on.
local chart = require "knbl.format.chart"
local figures = require "knbl.figures"
local ledger = require "knbl.ledger"
local meanwhile = require "knbl.format.meanwhile"
local native = require "knbl.native"
local report = require "knbl.report"
local table_format = require "knbl.format.table"

local M = {}

local escape = chart.escape
local SERIES_MAX = 8
local POINTS_MAX = 600

local style = [[
:root{color-scheme:light dark;--ink:#1c2126;--soft:#5d6873;--line:#d7dde3;--page:#fff;--card:#f6f8fa;--bar:#2f6fb3;--doubt:#946c00;--on:#fff;
--good:#1a7f37;--bad:#c0392b;--s1:#2f6fb3;--s2:#d9822b;--s3:#2e8b57;--s4:#b3395b;--s5:#7a5bb5;--s6:#148a8a;--s7:#8a6d3b;--s8:#59636e}
@media screen and (prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#9aa5b1;--line:#39424c;--page:#14181c;--card:#1c2228;--bar:#5b9bd9;--doubt:#e0b040;--on:#14181c;
--good:#4cc26a;--bad:#ff7b6b;--s1:#5b9bd9;--s2:#f0a050;--s3:#5cc08a;--s4:#e8708f;--s5:#ad93e6;--s6:#4cc4c4;--s7:#c9a66b;--s8:#a0abb6}}
*{box-sizing:border-box}body{margin:0 auto;max-width:84rem;padding:1.2rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page)}
h1{font-size:1.5rem;line-height:1.25;margin:.2rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}h3{font-size:1rem;margin:1.2rem 0 .2rem}
p,ul{margin:.4rem 0}.soft,small{color:var(--soft)}.wide{overflow-x:auto}
.wide{background:linear-gradient(to left,var(--page) 40%,transparent) 100% 0/2.5rem 100% no-repeat local,
linear-gradient(to left,var(--line),transparent) 100% 0/1rem 100% no-repeat scroll}figure .wide{background:none}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{padding:.25rem .7rem .25rem 0;border-bottom:1px solid var(--line);white-space:nowrap;text-align:left}
td.n,th.n{text-align:right;padding-left:.7rem}td.skip{color:var(--soft)}td.doubt{color:var(--doubt)}
.verdict{display:inline-block;padding:.15rem .7rem;border-radius:1rem;font-weight:600;color:var(--on);background:var(--soft)}
.verdict.pass{background:var(--good)}.verdict.fail,.verdict.error{background:var(--bad)}.verdict.inconclusive{background:var(--doubt)}
figure{max-width:66rem;margin:1rem 0;padding:.8rem;background:var(--card);border-radius:.5rem;break-inside:avoid;overflow-x:auto}
figcaption{font-weight:600}figcaption small{font-weight:400}
td.wrap{white-space:normal;min-width:9rem}
.worse{color:var(--bad)}.better{color:var(--good)}
th:first-child,td:first-child{position:sticky;left:0;background:var(--page)}figure th:first-child{background:var(--card)}
svg{width:100%;max-width:64rem;height:auto;display:block;font:12px system-ui,sans-serif}svg text{fill:var(--ink)}.end{text-anchor:end}.mid{text-anchor:middle}
.bars{display:grid;grid-template-columns:fit-content(20rem) 1fr auto;gap:.35rem .8rem;align-items:center;font-size:.85rem;margin:.5rem 0 0;max-width:64rem}
.name{text-align:right;overflow-wrap:anywhere}.value{font-variant-numeric:tabular-nums;text-align:right}.track{position:relative;height:1.15em;min-width:5rem}
.bar{position:absolute;top:0;bottom:0;left:0;min-width:1px;background:var(--bar)}.bar.doubtful{background:var(--doubt)}
.whisker{position:absolute;top:25%;bottom:25%;border:solid var(--ink);border-width:0 1px;background:linear-gradient(var(--ink),var(--ink)) center/100% 1px no-repeat}
.axis{stroke:var(--ink);fill:none}.grid{stroke:var(--line);fill:none}
details{margin:.6rem 0 0}summary{cursor:pointer;font-size:.9rem}.area{opacity:.85}.line{fill:none;stroke-width:2}.legend{font-size:.85rem;margin:.3rem 0 0}
.key{margin-right:1rem;white-space:nowrap}.key:before{content:"";display:inline-block;width:.8em;height:.8em;margin-right:.35em;border-radius:2px;background:currentColor}
.heat td{text-align:center;padding:.4rem .7rem;background:color-mix(in srgb,var(--good) calc(var(--h,0)*55%),transparent)}
@media(max-width:40rem){body{padding:.8rem}.bars{grid-template-columns:1fr auto;gap:.1rem .8rem}.name{grid-column:1/-1;text-align:left;margin-top:.3rem}
svg{font-size:18px}.small{font-size:12px}.alt{display:none}figure{padding:.6rem .4rem}.long{white-space:normal;min-width:8.5rem;max-width:38vw}td.wrap{min-width:4rem}}
@media print{:root{color-scheme:light;--ink:#000;--soft:#444;--line:#bbb;--card:#fff}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}.wide,figure{overflow:visible;background:none}body{max-width:none}figure{border:1px solid var(--line)}
table{font-size:.75rem}th,td{padding:.15rem .4rem .15rem 0}td.n,th.n{padding-left:.2rem}th:first-child,td:first-child{position:static}
.many{font-size:.6rem}.many th,.many td{white-space:normal}.many td:first-child{min-width:6rem}}
]]
for i = 1, 8 do
  style = style .. (".line.s%d{stroke:var(--s%d)}.dot.s%d,.area.s%d{fill:var(--s%d)}.key.s%d{color:var(--s%d)}"):format(i, i, i, i, i, i, i)
end

-- ---- tables ------------------------------------------------------------------------------------------------------------

local function cell_html(options, cell, mark)
  if cell.joined then
    local parts = {}
    for i, part in ipairs(cell.joined) do parts[i] = cell_html(options, part, mark) end
    return table.concat(parts, "<br>")
  end
  return (escape(table_format.cell(options, cell, mark)):gsub(" %[([%d,]+)%]$", "<sup>%1</sup>"))
end

local function grid_html(grid, options)
  local mark, notes = table_format.marker()
  local title = grid.title and ("<h3>%s</h3>"):format(escape(grid.title .. (grid.order and ": " .. grid.order or ""))) or ""
  if grid.empty then return ("%s<p>%s</p>"):format(title, escape(grid.empty)) end
  local out = { title, ('<div class="wide"><table%s><tr>'):format(#grid.heads + #grid.columns > 10 and ' class="many"' or "") } -- smaller on paper
  for _, name in ipairs(grid.heads) do out[#out + 1] = "<th>" .. escape(name) .. "</th>" end
  for _, column in ipairs(grid.columns) do out[#out + 1] = '<th class="n">' .. escape(column.title) .. "</th>" end
  out[#out + 1] = "</tr>"
  for _, row in ipairs(grid.rows) do
    out[#out + 1] = "<tr>"
    for i, value in ipairs(row.values) do
      local shown = report.value_text(options.core, grid.heads[i], value)
      out[#out + 1] = ("<td%s>%s</td>"):format(#shown > 16 and ' class="long"' or "", escape(shown))
    end
    for _, cell in ipairs(row.cells) do out[#out + 1] = '<td class="n">' .. cell_html(options, cell, mark) .. "</td>" end
    out[#out + 1] = "</tr>"
  end
  out[#out + 1] = "</table></div>"
  if grid.remark then out[#out + 1] = ("<p><small>%s</small></p>"):format(escape(grid.remark)) end
  for i, note in ipairs(notes) do out[#out + 1] = ("<p><small>%d. %s</small></p>"):format(i, escape(note)) end
  return table.concat(out)
end

local function expectations_html(data)
  if #data.expectations == 0 then return "" end
  local out = { '<h2>Expectations</h2><div class="wide"><table>' }
  for _, e in ipairs(data.expectations) do
    out[#out + 1] = ('<tr><td><span class="verdict %s">%s</span></td><td class="wrap">%s%s</td><td class="wrap">%s</td></tr>'):format(escape(e.status), escape(e.status),
      escape(table_format.subject(e)), escape(e.expression), escape(e.reason or ""))
  end
  return table.concat(out) .. "</table></div>"
end

-- ---- charts --------------------------------------------------------------------------------------------------------------

local function figure_html(title, note, drawing)
  if not drawing then return "" end
  return ("<figure><figcaption>%s <small>%s</small></figcaption>%s</figure>"):format(escape(title), escape(note), drawing)
end

-- Many charts, or long ones, of one kind: folded, so that what follows is found.
local MANY = 24
local function folded(out, from, summary)
  if #out < from then return end
  out[from] = ("<details><summary>%s</summary>%s</details>"):format(escape(summary), table.concat(out, "", from))
  for i = #out, from + 1, -1 do out[i] = nil end
end

-- How a figure of a test is shown: in the unit that the scenario's own tables have it in. Returns how much of the figure's own unit one of that is too.
local function shower(data, core, test, figure)
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

local function better_note(figure)
  return figure.better == "more" and "more is better" or figure.better == "less" and "less is better" or ""
end

-- Measurements of one test and case, sizes and repeats apart: { test, label, list } in the order of the run.
local function groups_of(data, split)
  local groups, by_key = {}, {}
  for _, m in ipairs(data.measurements) do
    if m.ok and m.metrics then
      local key = m.test .. "\0" .. m.case .. "\0" .. (m.via or "") .. "\0" .. (split and tostring(m.params[split]) or "")
      local g = by_key[key]
      if not g then
        g = { test = m.test, list = {}, first = m }
        by_key[key], groups[#groups + 1] = g, g
      end
      g.list[#g.list + 1] = m
    end
  end
  return groups
end

-- What groups of one test are called: the case, and what else it takes to tell them apart: the way, the size; where there are both, whether the loop
-- is open, and whether it was warmed up.
local function label(groups, core)
  local loads, starts, first = false, false, groups[1].first
  for _, g in ipairs(groups) do
    loads = loads or select(2, ledger.load(g.first)) ~= select(2, ledger.load(first))
    starts = starts or ledger.start(g.first) ~= ledger.start(first)
  end
  local ways, sizes, way_of, size_of = {}, false, {}, nil
  for _, g in ipairs(groups) do
    local case, via, size = g.first.case, g.first.via or "", g.first.params.size
    ways[case] = ways[case] or way_of[case] ~= nil and way_of[case] ~= via
    sizes = sizes or size_of ~= nil and size_of ~= size
    way_of[case], size_of = via, size
  end
  for _, g in ipairs(groups) do
    local parts = { g.first.case }
    if ways[g.first.case] and g.first.via then parts[2] = g.first.via:gsub("_", " ") end
    if sizes and core and tonumber(g.first.params.size) then parts[#parts + 1] = core.format_size(g.first.params.size) end
    if loads then parts[#parts + 1] = report.value_text(core or native, "load", (ledger.load(g.first))) end
    if starts then parts[#parts + 1] = ledger.start(g.first) end
    g.label = table.concat(parts, " · ")
  end
end

-- The tests of groups in their order, and the groups of each by its name; labelled, with sizes where `core` is given.
local function tests_of(groups, core)
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

local function values_of(list, figure)
  local values = {}
  for _, m in ipairs(list) do values[#values + 1] = figures.value(m, figure) end
  return values
end

local function bar_charts(data, core, out)
  local order, by_test = tests_of(groups_of(data, "size"), core)
  for _, test in ipairs(order) do
    local figure, bars, doubtful, intervals = figures.headline(test), {}, false, false
    -- the rate of an open loop is what was asked for
    for _, g in ipairs(figure.name == "rate" and by_test[test] or {}) do
      if g.first.params.rate then figure = figures.get "p50" end
    end
    for _, g in ipairs(by_test[test]) do
      local values = values_of(g.list, figure)
      if #values > 0 then
        local bar = { label = g.label }
        for _, flag in ipairs(g.first.flags or {}) do bar.doubtful = bar.doubtful or figures.concerns(flag, figure) end
        bar.value, bar.low, bar.high = core.median_interval(values, 0.95)
        doubtful, intervals = doubtful or bar.doubtful, intervals or bar.low
        bars[#bars + 1] = bar
      end
    end
    if #bars > 0 then
      local from = #out + 1
      out[from] = figure_html(test .. ": " .. figure.title, better_note(figure) .. (intervals and ", with 95 % intervals" or "")
        .. (doubtful and "; * is doubtful, see the tables" or ""), chart.bars(bars, { show = shower(data, core, test, figure) }))
      if #bars > MANY then folded(out, from, ("%s: %s, all %d of them"):format(test, figure.title, #bars)) end
    end
  end
end

-- Latency by percentile, the tail stretched: x is log(1 / (1 - p)).
local percents = { 0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.999 }
local percent_ticks = { { 1, "0" }, { 2, "50 %" }, { 10, "90 %" }, { 100, "99 %" }, { 1000, "99.9 %" }, { 10000, "99.99 %" }, { 100000, "99.999 %" } }

local function percentile_series(core, g)
  local json = require "knbl.json"
  local texts = {}
  for _, m in ipairs(g.list) do
    if type(m.latency_histogram) == "table" then texts[#texts + 1] = json.encode(m.latency_histogram) end
  end
  if #texts == 0 then return nil end
  local merged = #texts == 1 and texts[1] or core.hist_merge(texts)
  local list, points = merged and core.hist_percentile(merged, percents), {}
  if not list then return nil end
  local count = json.decode(merged).count
  for i, p in ipairs(percents) do
    local odds = 1 / (1 - p / 100)
    if list[i] and odds <= count * 2 then points[#points + 1] = { odds, math.max(list[i], 1) } end
  end
  return #points > 1 and { label = g.label, points = points } or nil
end

-- A chart holds so many series; what is more goes into the next one, evenly and on the same scale. draw(part, of) has what to add to a title.
local function in_charts(series, out, title, draw)
  local charts, from, first = math.ceil(#series / SERIES_MAX), 1, #out + 1
  for k = 1, charts do
    local part = {}
    for i = from, math.floor(#series * k / charts) do part[#part + 1] = series[i] end
    from = from + #part
    out[#out + 1] = draw(part, title .. (charts > 1 and (" (%d of %d)"):format(k, charts) or ""))
  end
  if #series > MANY then folded(out, first, ("%s, %d curves"):format(title, #series)) end
end

local function percentile_charts(data, core, out)
  local order, by_test = tests_of(groups_of(data, "size"), core)
  local function show(v) return core.format_duration(v) end
  for _, test in ipairs(order) do
    local series = {}
    for _, g in ipairs(by_test[test]) do
      series[#series + 1] = percentile_series(core, g)
    end
    in_charts(series, out, test .. ": latency by percentile", function(part, title)
      return figure_html(title, "less is better; of 100 operations, so many took no longer", chart.lines(part, { title = title, log_x = true,
        log_y = true, show_x = tostring, show_y = show, x_ticks = percent_ticks, beside = series }))
    end)
  end
end

local function thinned(points)
  if #points <= POINTS_MAX then return points end
  local out, step = {}, #points / POINTS_MAX
  for i = 1, POINTS_MAX do
    local from, to, sum = math.floor((i - 1) * step) + 1, math.floor(i * step), 0
    for k = from, to do sum = sum + points[k][2] end
    out[i] = { points[from][1], sum / (to - from + 1) }
  end
  return out
end

-- Every curve of a chart has its own, folded; a page with one curve shows it.
local function meanwhile_html(core, part, alone)
  local out = {}
  for i, s in ipairs(part) do out[i] = meanwhile.render(core, s.measurement, s.label, s.seconds) end
  local text = table.concat(out)
  return alone and text:gsub("^<details>", "<details open>") or text
end

local function time_charts(data, core, out)
  local order, by_test = tests_of(groups_of(data, "size"))
  for _, test in ipairs(order) do
    local figure, series, given, repeated = figures.headline(test), {}, true, false
    if figure.name ~= "throughput" then figure = figures.get "rate" end
    local key = figure.name == "throughput" and "bps" or "ops_per_s"
    for _, g in ipairs(by_test[test]) do
      local points = {}
      for _, i in ipairs(g.first.metrics.intervals or {}) do points[#points + 1] = { i.t, i[key] or 0 } end
      if #points > 2 then
        series[#series + 1] = { label = g.label, points = thinned(points), measurement = g.first, seconds = points[#points][1] }
        given, repeated = given and (test == "ping" or g.first.params.rate ~= nil), repeated or #g.list > 1
      end
    end
    in_charts(series, out, ("%s: %s over time"):format(test, figure.title), function(part, title)
      local show, base = shower(data, core, test, figure)
      local note = (given and "as was asked for, unless it falls" or better_note(figure)) .. "; seconds since the window opened" .. (repeated and "; of repeats the first" or "")
      return figure_html(title, note, chart.lines(part, { title = title, show_x = function(v) return ("%g s"):format(v) end,
        show_y = show, base = base, beside = series }) .. meanwhile_html(core, part, #series == 1 and #order == 1))
    end)
  end
end

-- The marks of an axis: of many every other one.
local function marks_of(series)
  local marks, marked = {}, {}
  for _, one in ipairs(series) do
    for _, p in ipairs(one.points) do
      if not marked[p[1]] then marked[p[1]], marks[#marks + 1] = true, p[1] end
    end
  end
  table.sort(marks)
  while #marks > 12 do
    for i = 1, math.ceil(#marks / 2) do marks[i] = marks[2 * i - 1] end
    for i = #marks, math.ceil(#marks / 2) + 1, -1 do marks[i] = nil end
  end
  return marks
end

-- The curves of a sweep; an axis is logarithmic where what it shows is that far apart.
local function sweep_chart(series, out, title, figure, show_x, show_y, base)
  local low, high, y_low, y_high = math.huge, 0, math.huge, 0
  for _, one in ipairs(series) do
    for _, p in ipairs(one.points) do
      low, high, y_low, y_high = math.min(low, p[1]), math.max(high, p[1]), math.min(y_low, p[2]), math.max(y_high, p[2])
    end
  end
  local marks = marks_of(series)
  in_charts(series, out, title, function(part, one)
    return figure_html(one, better_note(figure), chart.lines(part, { title = one, log_x = low > 0 and high > 30 * low, log_y = y_low > 0 and y_high > 30 * y_low,
      x_ticks = marks, show_x = show_x, show_y = show_y, base = base, beside = series }))
  end)
end

-- A table whose columns are the numbers of one key (a list of MSS, of flows) is a set of curves. Returns what keys were drawn.
local function report_charts(data, core, out)
  local drawn = {}
  for _, grid in ipairs(#data.reports > 0 and report.grids(core, data) or {}) do
    local key, whats = grid.declaration.pivot, {}
    for i, column in ipairs(grid.columns) do
      local what = type(column.pivot) == "number" and column.column or nil
      if what and not whats[what] then whats[what], whats[#whats + 1] = {}, what end
      if what then table.insert(whats[what], i) end
    end
    for _, what in ipairs(whats) do
      local series, figure = {}, figures.get(what.show)
      for _, row in ipairs(grid.rows) do
        local points, names = {}, {}
        for _, i in ipairs(whats[what]) do
          if row.cells[i].value then points[#points + 1] = { grid.columns[i].pivot, row.cells[i].value } end
        end
        for i, value in ipairs(row.values) do names[i] = report.value_text(core, grid.heads[i], value) end
        if #points > 2 then series[#series + 1] = { label = table.concat(names, " · "), points = points } end
      end
      if #series > 0 then drawn[key] = true end
      local title = #whats == 1 and grid.title or what.title
      if not title:lower():find("by " .. key:lower(), 1, true) then title = ("%s, by %s"):format(title, key) end
      if not figure.better then series = {} end -- the MSS by the one that was asked for
      sweep_chart(series, out, title, figure,
        function(v) return report.value_text(core, key, v) end, function(v) return figures.show(core, figure, v, false, what.unit) end,
        1 / figures.in_unit(figure, 1, what.unit))
    end
  end
  return drawn
end

-- What a case shows over a parameter that it sweeps: message size, MSS.
local function sweep_charts(data, core, out, key, title)
  local order, by_test = tests_of(groups_of(data))
  for _, test in ipairs(order) do
    local figure, series = figures.headline(test), {}
    for _, g in ipairs(by_test[test]) do
      local at, points = {}, {}
      for _, m in ipairs(g.list) do
        local x, v = tonumber(m.params[key]), figures.value(m, figure)
        if x and v then
          if not at[x] then at[x], points[#points + 1] = {}, { x } end
          table.insert(at[x], v)
        end
      end
      for _, p in ipairs(points) do p[2] = (core.median_interval(at[p[1]], 0.95)) end
      table.sort(points, function(a, b) return a[1] < b[1] end)
      if #points > 2 then series[#series + 1] = { label = g.label, points = points } end
    end
    sweep_chart(series, out, ("%s: %s by %s"):format(test, figure.title, title), figure, core.format_size, shower(data, core, test, figure))
  end
end

-- Who reaches whom: where three or more ends are both clients and servers.
local function heat_maps(data, core, out)
  local order, by_test = tests_of(groups_of(data))
  for _, test in ipairs(order) do
    local figure, names, seen, values = figures.headline(test), {}, {}, {}
    for _, g in ipairs(by_test[test]) do
      for _, m in ipairs(g.list) do
        local from, to = tostring(report.key_of(m, "from")), tostring(report.key_of(m, "to")) -- as the tables call them
        for _, name in ipairs { from, to } do
          if not seen[name] then seen[name], names[#names + 1] = true, name end
        end
        local key, value = from .. "\0" .. to, figures.value(m, figure)
        values[key] = values[key] or {}
        table.insert(values[key], value)
      end
    end
    for key, list in pairs(values) do values[key] = (core.median_interval(list, 0.95)) end
    local filled = 0
    for _ in pairs(values) do filled = filled + 1 end
    table.sort(names)
    if #names > 2 and filled >= #names * (#names - 1) / 2 then
      out[#out + 1] = figure_html(("%s: %s, from (down) to (across)"):format(test, figure.title), better_note(figure) .. "; the darker, the better", chart.heat(names, names,
        function(r, c) return values[names[r] .. "\0" .. names[c]] end,
        { better = figure.better, show = function(v) return figures.show(core, figure, v) end }))
    end
  end
end

-- ---- the page ------------------------------------------------------------------------------------------------------------

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
  local rows = { provider = data.provider, knbl = data.knbl, started = data.started, ended = data.ended, scenario = data.scenario }
  for key, value in pairs(data.environment or {}) do rows[key] = value end
  for key in pairs(rows) do keys[#keys + 1] = key end
  table.sort(keys)
  for _, key in ipairs(keys) do
    out[#out + 1] = ("<tr><th>%s</th><td style=\"white-space:normal\">%s</td></tr>"):format(escape((key:gsub("_", " "))), escape(flat(rows[key])))
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
  for _, flag in ipairs(list) do out[#out + 1] = ("<li><b>%s</b>: %s</li>"):format(escape((flag:gsub("_", " "))), escape(figures.explain(flag))) end
  return table.concat(out) .. "</ul>"
end

-- A page's beginning, down to the verdict.
local function begin(title, above, status, sentence)
  return { '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">',
    "<title>", escape(title), "</title><style>", style, "</style></head><body>",
    ('<p class="soft">%s</p><h1>%s</h1>'):format(escape(above), escape(title)),
    ('<p><span class="verdict %s">%s</span> %s</p>'):format(escape(status or ""), escape(status or "unfinished"), escape(sentence)) }
end

-- What `knbl compare` found.
function M.comparison(result, given)
  local verdict = result.verdict
  local sentence = verdict.message or #result.expectations > 0 and "no limit was broken" or "there was no limit to hold"
  local out = begin("What changed between two sides of ledgers?", ("knbl compare · %d old, %d new"):format(result.files.old, result.files.new), verdict.status,
    sentence)
  out[#out + 1] = expectations_html(result)
  out[#out + 1] = require("knbl.format.comparison").html(result, { core = given.core }, "Figures, old and new")
  out[#out + 1] = "</body></html>\n"
  return table.concat(out)
end

function M.render(data, given)
  local core = given.core
  local options = { core = core }
  local title = data.question or data.scenario or "knbl"
  local out = begin(title, ("knbl · %s · %s"):format(data.provider or "", data.started or ""), (data.verdict or {}).status, table_format.verdict(data))
  out[#out + 1] = expectations_html(data)
  out[#out + 1] = "<h2>Figures</h2>"
  local figures_from = #out
  for _, grid in ipairs(report.grids(core, data)) do
    if #grid.rows > 0 or grid.empty then out[#out + 1] = grid_html(grid, options) end
  end
  local body = table.concat(out, "", figures_from)
  if body:find("±", 1, true) or body:find(" … ", 1, true) then
    out[#out + 1] = "<p><small>± and what stands in brackets with …: within that the median of the repeats lies, with 95 % certainty.</small></p>"
  end
  if data.comparison then out[#out + 1] = require("knbl.format.comparison").html(data.comparison, options) end
  for _, note in ipairs(data.notes or {}) do out[#out + 1] = "<p>Note: " .. escape(table_format.note_text(note)) .. "</p>" end
  out[#out + 1] = "<h2>Charts</h2>"
  local drawn = report_charts(data, core, out)
  bar_charts(data, core, out)
  percentile_charts(data, core, out)
  if not drawn.size then sweep_charts(data, core, out, "size", "message size") end
  if not drawn.mss then sweep_charts(data, core, out, "mss", "MSS") end
  heat_maps(data, core, out)
  time_charts(data, core, out)
  out[#out + 1] = require("knbl.format.functions").html(data, core, escape)
  out[#out + 1] = flags_html(data)
  out[#out + 1] = environment_html(data)
  out[#out + 1] = "</body></html>\n"
  return table.concat(out)
end

return M
