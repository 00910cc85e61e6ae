-- knbl.format.html_charts - the charts of the page (html.lua): pairs, bars, sweeps, heat maps; and all of them in their
-- order. Each is a <figure> with its title and how to read it.
local axes = require "knbl.results.axes"
local chart = require "knbl.format.chart"
local figures = require "knbl.results.figures"
local html_pairs = require "knbl.format.html_pairs"
local html_time = require "knbl.format.html_time"
local parts = require "knbl.format.html_parts"
local report = require "knbl.results.report"

local M = {}

-- The groups of a test that share a chart: metrics of a script's own are of many kinds.
local function alike(groups)
  local kinds, by_name = {}, {}
  for _, g in ipairs(groups) do
    local metric = g.first.metric or {}
    local name = ("%s\31%s"):format(metric.name or "", metric.unit or "")
    if not by_name[name] then
      by_name[name] = {}
      kinds[#kinds + 1] = by_name[name]
    end
    table.insert(by_name[name], g)
  end
  return kinds
end

-- { figure, list, doubtful, intervals } of groups that share a chart.
local function bars_of(core, test, groups)
  local figure = figures.headline(test)
  -- the rate of an open loop is what was asked for
  for _, g in ipairs(figure.name == "rate" and groups or {}) do
    if g.first.params.rate then figure = figures.get "p50" end
  end
  local bars = { figure = figures.of(groups[1].first, figure.name), list = {} }
  for _, g in ipairs(groups) do
    local values = parts.values_of(g.list, figure)
    if #values > 0 then
      local bar = { label = g.label }
      for _, flag in ipairs(g.first.flags or {}) do bar.doubtful = bar.doubtful or figures.concerns(flag, figure) end
      bar.value, bar.low, bar.high = core.median_interval(values, 0.95)
      bars.doubtful, bars.intervals = bars.doubtful or bar.doubtful, bars.intervals or bar.low
      table.insert(bars.list, bar)
    end
  end
  return bars
end

-- `drawn`: by test, how many bars the charts of pairs have of it.
local function bar_charts(data, core, out, drawn)
  local order, by_test = parts.tests_of(parts.groups_of(data, "size"), core)
  for _, test in ipairs(order) do
    local kinds, n = {}, 0
    for i, groups in ipairs(alike(by_test[test])) do
      kinds[i] = bars_of(core, test, groups)
      n = n + #kinds[i].list
    end
    for _, bars in ipairs((drawn[test] or 0) < n and kinds or {}) do
      local from, figure = #out + 1, bars.figure
      if #bars.list > 0 then
        local how = parts.better_note(figure) -- "" of a metric that is neither
        if bars.intervals then how = how .. (how ~= "" and ", " or "") .. "with 95 % intervals" end
        if bars.doubtful then how = how .. (how ~= "" and "; " or "") .. "* is doubtful, see the tables" end
        out[from] = parts.figure(test .. ": " .. figure.title, how,
          chart.bars(bars.list, { show = parts.shower(data, core, test, figure) }))
      end
      if #bars.list > parts.many then
        parts.folded(out, from, ("%s: %s, all %d of them"):format(test, figure.title, #bars.list))
      end
    end
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
      low, high, y_low, y_high = math.min(low, p[1]), math.max(high, p[1]), math.min(y_low, p[2]),
        math.max(y_high, p[2])
    end
  end
  local marks = marks_of(series)
  parts.in_charts(series, out, title, function(part, one)
    return parts.figure(one, parts.better_note(figure), chart.lines(part,
      { title = one, plain = #series > parts.many, log_x = low > 0 and high > 30 * low,
      log_y = y_low > 0 and y_high > 30 * y_low, x_ticks = marks, show_x = show_x, show_y = show_y, base = base,
      beside = series }))
  end)
end

-- A table whose columns are the numbers of one key (a list of MSS, of flows) is a set of curves. Returns what keys were
-- drawn.
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
        for i, value in ipairs(row.values) do names[i] = axes.text(core, grid.heads[i], value) end
        if #points > 2 then series[#series + 1] = { label = table.concat(names, " · "), points = points } end
      end
      if #series > 0 then drawn[key] = true end
      local title = #whats == 1 and grid.title or what.title
      if not title:lower():find("by " .. key:lower(), 1, true) then title = ("%s, by %s"):format(title, key) end
      if not figure.better then series = {} end -- the MSS by the one that was asked for
      sweep_chart(series, out, title, figure,
        function(v) return axes.text(core, key, v) end,
          function(v) return figures.show(core, figure, v, false, what.unit) end,
        1 / figures.in_unit(figure, 1, what.unit))
    end
  end
  return drawn
end

-- What a case shows over a parameter that it sweeps: message size, MSS.
local function sweep_charts(data, core, out, key, title)
  local order, by_test = parts.tests_of(parts.groups_of(data))
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
    sweep_chart(series, out, ("%s: %s by %s"):format(test, figure.title, title), figure, core.format_size,
      parts.shower(data, core, test, figure))
  end
end

-- Who reaches whom: where three or more ends are both clients and servers.
local function heat_maps(data, core, out)
  local order, by_test = parts.tests_of(parts.groups_of(data))
  for _, test in ipairs(order) do
    local figure, names, seen, values = figures.headline(test), {}, {}, {}
    for _, g in ipairs(by_test[test]) do
      for _, m in ipairs(g.list) do
        local from, to = tostring(axes.of(m, "from")), tostring(axes.of(m, "to")) -- as the tables call them
        for _, name in ipairs { from, to } do
          if not seen[name] then seen[name], names[#names + 1] = true, name end
        end
        local key, value = from .. "\0" .. to, figures.value(m, figure)
        if value then
          values[key] = values[key] or {}
          table.insert(values[key], value)
        end
      end
    end
    for key, list in pairs(values) do values[key] = (core.median_interval(list, 0.95)) end
    local filled = 0
    for _ in pairs(values) do filled = filled + 1 end
    table.sort(names)
    if #names > 2 and filled >= #names * (#names - 1) / 2 then
      out[#out + 1] = parts.figure(("%s: %s, from (down) to (across)"):format(test, figure.title),
        parts.better_note(figure) .. "; the darker, the better", chart.heat(names, names,
        function(r, c) return values[names[r] .. "\0" .. names[c]] end,
        { better = figure.better, show = function(v) return figures.show(core, figure, v) end }))
    end
  end
end

-- ---- all of them ----

-- The charts of what the tables compare, by figure; `places` and `drawn` are filled in.
local function pair_charts(core, grids, out, places, drawn)
  local lead, most
  for _, grid in ipairs(grids) do
    local found = html_pairs.of(core, grid)
    local best = found and html_pairs.best(found)
    for _, item in ipairs(found and found.list or {}) do
      local title, note, drawing = html_pairs.chart(core, found, item)
      if #found.list > 1 and grid.title and #grids > 1 then title = ("%s: %s"):format(grid.title, title) end
      if item == best or not html_pairs.is_zero(found, item) then
        out[#out + 1] = parts.figure(title, note, drawing)
      end
      if item == best and (not lead or item.shown > most) then lead, most = #out, item.shown end
      local bars = {}
      for _, row in ipairs(item.rows) do
        for k = 2, #found.sides do
          local test = row[k] and row[k].pair.base.measurements[1].test
          if test then bars[test] = (bars[test] or 0) + (k == 2 and 2 or 1) end
        end
      end
      for test, n in pairs(bars) do drawn[test] = math.max(n, drawn[test] or 0) end
    end
    if found then html_pairs.places(found, places) end
  end
  return lead and table.remove(out, lead) or nil
end

-- All charts of a ledger: the one that shows the answer, nil where none does, and a list of the others.
function M.all(data, core, grids)
  local out, places, drawn = {}, {}, {}
  local lead = pair_charts(core, grids, out, places, drawn)
  local from = #out + 1
  local swept = report_charts(data, core, out)
  heat_maps(data, core, out)
  html_time.by_load(data, core, out)
  local special = #out >= from
  bar_charts(data, core, out, drawn)
  if not lead and (special or #out == from) then lead = table.remove(out, from) end
  html_time.percentiles(data, core, out, places)
  if not swept.size then sweep_charts(data, core, out, "size", "message size") end
  if not swept.mss then sweep_charts(data, core, out, "mss", "MSS") end
  html_time.over_time(data, core, out, places)
  return lead, out
end

return M
