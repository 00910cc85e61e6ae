-- knbl.format.html_time - the page's charts of latency by percentile, of what was measured over time, and of latency
-- by load.
local chart = require "knbl.format.chart"
local figures = require "knbl.results.figures"
local json = require "knbl.json"
local meanwhile = require "knbl.format.meanwhile"
local parts = require "knbl.format.html_parts"
local tests = require "knbl.base.tests"

local M = {}

-- Points of one curve, and of all curves of a kind, and bytes of what was watched meanwhile: a page stays small.
local POINTS_MAX, POINTS_ALL, MEANWHILE_MAX = 600, 20000, 250000

-- Latency by percentile, the tail stretched: x is log(1 / (1 - p)).
local percents = { 0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.999 }
local percent_ticks = { { 1, "0" }, { 2, "50 %" }, { 10, "90 %" }, { 100, "99 %" }, { 1000, "99.9 %" },
  { 10000, "99.99 %" }, { 100000, "99.999 %" } }

local function percentile_series(core, g)
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
  return #points > 1 and { label = g.label, points = points, first = g.first } or nil
end

function M.percentiles(data, core, out, places)
  local order, by_test = parts.tests_of(parts.groups_of(data, "size"), core)
  for _, test in ipairs(order) do
    local series = {}
    for _, g in ipairs(by_test[test]) do
      series[#series + 1] = percentile_series(core, g)
    end
    parts.curves(series, out, test .. ": latency by percentile",
      "less is better; of 100 operations, so many took no longer", { log_x = true, log_y = true, show_x = tostring,
        show_y = function(v) return core.format_duration(v) end, x_ticks = percent_ticks }, places)
  end
end

local function thinned(points, most)
  if #points <= most then return points end
  local out, step = {}, #points / most
  for i = 1, most do
    local from, to, sum = math.floor((i - 1) * step) + 1, math.floor(i * step), 0
    for k = from, to do sum = sum + points[k][2] end
    out[i] = { points[from][1], sum / (to - from + 1) }
  end
  return out
end

-- Every curve of a chart has its own, folded; a page with one curve shows it. What is beyond the page's room is left
-- out, and said to be.
local function meanwhile_html(core, part, alone, room)
  local out, left_out = {}, 0
  for _, s in ipairs(part) do
    local text = room.left > 0 and meanwhile.render(core, s.first, s.name or s.label, s.points[#s.points][1]) or ""
    room.left = room.left - #text
    if room.left <= 0 and text == "" and type(s.first.monitor) == "table" then left_out = left_out + 1 end
    out[#out + 1] = text
  end
  if left_out > 0 then
    out[#out + 1] = ("<p><small>CPU and counters of %d more are in the ledger (--json)</small></p>"):format(left_out)
  end
  local text = table.concat(out)
  return alone and text:gsub("^<details>", "<details open>") or text
end

-- What the measurements of some series marked.
local function moments_of(part)
  local all, seen = {}, {}
  for _, s in ipairs(part) do
    for _, mark in ipairs(s.first.marks or {}) do
      local key = ("%s@%.1f"):format(mark.text, mark.t)
      if not seen[key] then seen[key], all[#all + 1] = true, mark end
    end
  end
  return all
end

-- What is drawn over time: throughput, or the rate; of a closed loop whose headline is a latency, the mean of each
-- interval. In a closed loop as many operations are under way at all times, so that the mean times the rate is
-- constant (Little's law). Returns the figure, the key in an interval, and a function of a measurement that gives that
-- constant where there is one.
local function drawn_over_time(test, list)
  local headline = figures.headline(test)
  if headline.name == "throughput" then return headline, "bps" end
  local function under_way(m)
    local latency = m.metrics.latency_ns
    local mean, rate = type(latency) == "table" and latency.mean, m.metrics.rate_per_s
    return mean and rate and mean * rate > 0 and mean * rate or nil
  end
  local closed = headline.better == "less" and headline.unit == "time" and tests.of(test).shape ~= "echo"
  for _, g in ipairs(list) do closed = closed and not g.first.params.rate and under_way(g.first) ~= nil end
  if closed then return figures.get "mean", "ops_per_s", under_way end
  return figures.get "rate", "ops_per_s"
end

local function time_points(m, key, constant)
  local points = {}
  for _, i in ipairs(m.metrics.intervals or {}) do
    local v = i[key] or 0
    if not constant then points[#points + 1] = { i.t, v }
    elseif v > 0 then points[#points + 1] = { i.t, constant / v } end
  end
  return points
end

-- Whether curves hardly move: then they are worth no room.
local function is_flat(series)
  for _, s in ipairs(series) do
    local low, high = math.huge, 0
    for _, p in ipairs(s.points) do low, high = math.min(low, p[2]), math.max(high, p[2]) end
    if low < 0.95 * high then return false end
  end
  return true
end

function M.over_time(data, core, out, places)
  local order, by_test = parts.tests_of(parts.groups_of(data, "size"))
  local room = { left = MEANWHILE_MAX }
  for _, test in ipairs(order) do
    local figure, key, under_way = drawn_over_time(test, by_test[test])
    local series, given, repeated = {}, true, false
    local most = math.max(24, math.min(POINTS_MAX, math.floor(POINTS_ALL / #by_test[test])))
    for _, g in ipairs(by_test[test]) do
      local points = time_points(g.first, key, under_way and under_way(g.first))
      if #points > 2 then
        series[#series + 1] = { label = g.label, name = g.label, points = thinned(points, most), first = g.first }
        given = given and (tests.of(test).shape == "echo" or g.first.params.rate ~= nil)
        repeated = repeated or #g.list > 1
      end
    end
    local show, base = parts.shower(data, core, test, figure)
    local note = (given and "as was asked for, unless it falls" or parts.better_note(figure))
      .. "; seconds since the window opened" .. (repeated and "; of repeats the first" or "")
    local alone, from = #series == 1 and #order == 1, #out + 1
    parts.curves(series, out, ("%s: %s over time"):format(test, figure.title), note,
      { show_x = function(v) return ("%g s"):format(v) end, show_y = show, base = base, moments = moments_of }, places,
      function(part) return meanwhile_html(core, part, alone, room) end)
    if given and not alone and #out >= from and is_flat(series) then
      parts.folded(out, from, ("%s: %s over time, as was asked for throughout"):format(test, figure.title))
    end
  end
end

-- ---- load and latency ----

-- Who answers: of a Service with one backend that one, since a script may make a new Service for each rate.
local function server_of(m)
  local list = type(m.servers) == "table" and m.servers or {}
  return #list == 1 and list[1].name or tostring(m.to)
end

-- Whether a label is the rate that was asked for, as the script wrote it: 1000 or "1k/s" of "1000/s".
local function is_rate(core, value, rate)
  if tostring(value) == rate then return true end
  if type(value) == "number" then return value == tonumber(rate:match "^[%d.]+") end
  local a, b = type(value) == "string" and core.rate(value) or {}, core.rate(rate) or {}
  return a.per_s ~= nil and a.per_s == b.per_s
end

-- Measurements that differ in the rate that was asked for and in nothing else that tells them apart.
local function rate_groups(data, core)
  local list, by_key = {}, {}
  for _, m in ipairs(data.measurements) do
    local rate = m.ok and m.metrics and m.metrics.rate_per_s and m.params.rate
    if rate then
      local parts = { m.test, tostring(m.from), server_of(m), m.via or "" }
      for _, from in ipairs { m.params, m.labels or {} } do
        local names = {}
        for key, value in pairs(from) do
          if key ~= "rate" and key ~= "load" and key ~= "count" and not is_rate(core, value, tostring(rate)) then
            names[#names + 1] = key .. "=" .. tostring(value)
          end
        end
        table.sort(names)
        parts[#parts + 1] = table.concat(names, "\31")
      end
      local key = table.concat(parts, "\30")
      if not by_key[key] then
        by_key[key] = { first = m, at = {}, loads = {} }
        list[#list + 1] = by_key[key]
      end
      local g = by_key[key]
      if not g.at[rate] then g.at[rate], g.loads[#g.loads + 1] = {}, rate end
      table.insert(g.at[rate], m)
    end
  end
  return list
end

-- Latency over the load that was reached, for sweeps of a rate: a curve for each of some percentiles.
function M.by_load(data, core, out)
  local rate = figures.get "rate"
  for _, g in ipairs(rate_groups(data, core)) do
    local series = {}
    for _, name in ipairs(#g.loads > 2 and { "p50", "p90", "p99", "p999" } or {}) do
      local figure, points = figures.get(name), {}
      for _, asked in ipairs(g.loads) do
        local xs, ys = parts.values_of(g.at[asked], rate), parts.values_of(g.at[asked], figure)
        if #xs > 0 and #ys > 0 then
          points[#points + 1] = { (core.median_interval(xs, 0.95)), (core.median_interval(ys, 0.95)) }
        end
      end
      table.sort(points, function(a, b) return a[1] < b[1] end)
      if #points > 2 then series[#series + 1] = { label = figure.title, points = points } end
    end
    local m = g.first
    local way = ("%s to %s"):format(m.from, server_of(m)) .. (m.via and " (" .. m.via:gsub("_", " ") .. ")" or "")
    local title = ("%s: latency by load, %s"):format(m.test, way)
    local low, high = math.huge, 0
    for _, s in ipairs(series) do
      for _, p in ipairs(s.points) do low, high = math.min(low, p[2]), math.max(high, p[2]) end
    end
    if #series > 0 then
      out[#out + 1] = parts.figure(title, "less is better; across, the rate that was reached", chart.lines(series,
        { title = title, log_y = low > 0 and high > 10 * low, show_x = function(v) return core.format_rate(v) end,
          show_y = function(v) return core.format_duration(v) end }))
    end
  end
end

return M
