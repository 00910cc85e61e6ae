-- knbl.format.trend - series over many runs: a table of their changes, a page with a chart for each, and files for
-- other tools.
local columns = require "knbl.format.columns"
local compare = require "knbl.results.compare"
local csv = require "knbl.format.csv"
local colours = require("knbl.format.comparison").colours
local figures = require "knbl.results.figures"
local json = require "knbl.json"
local table_format = require "knbl.format.table"
local text = require "knbl.base.text"
local trend = require "knbl.results.trend"

local M = {}

local function day(started) return (started:gsub("T", " "):gsub("%.%d+", ""):gsub(":%d%dZ$", "")) end

local function title_of(series) return ("%s %s"):format(series.test, series.case) end

local function shown(options, series, value)
  return figures.show(options.core, series.figure, value, options.ascii)
end

local function by(c) return c.change and compare.percent(c.change) or "" end

-- ---- on a terminal ----

-- All changes, the latest first.
local function changes_of(result)
  local list = {}
  for _, series in ipairs(result.series) do
    for _, c in ipairs(series.changes) do list[#list + 1] = { series = series, c = c } end
  end
  table.sort(list, function(a, b)
    if a.c.after_run.started ~= b.c.after_run.started then return a.c.after_run.started > b.c.after_run.started end
    return title_of(a.series) .. a.series.figure.name < title_of(b.series) .. b.series.figure.name
  end)
  return list
end

local heads = { "since", "test", "case", "figure", "before", "after", "change", "what else changed" }

local function change_row(options, item)
  local series, c = item.series, item.c
  return { day(c.after_run.started), series.test, series.case, series.figure.title,
    shown(options, series, c.before), shown(options, series, c.after),
    by(c) .. (c.verdict ~= "differs" and " " .. c.verdict or ""), text.short(c.between, 60),
    colours = { [7] = colours[c.verdict] } }
end

local function machines_of(result)
  local seen, list = {}, {}
  for _, series in ipairs(result.series) do
    if not seen[series.machine] then seen[series.machine], list[#list + 1] = true, series.machine end
  end
  return list
end

local function remarks(result)
  local list, flat, short, least = {}, 0, 0, nil
  for _, series in ipairs(result.series) do
    if trend.is_short(series) then short, least = short + 1, series.fewest
    elseif #series.changes == 0 then flat = flat + 1 end
  end
  list[1] = ("%d run%s, %d series, %d without a change of their level"):format(#result.runs,
    #result.runs == 1 and "" or "s", #result.series, flat)
  if short > 0 then
    list[2] = ("%d of %d series have too few runs to show a change: %d are the least"):format(short, #result.series,
      least)
  end
  local machines = machines_of(result)
  if #machines > 1 then
    list[#list + 1] = ("%d machines, each with series of its own: %s"):format(#machines, table.concat(machines, "; "))
  end
  local paths = result.no_ledgers or {}
  if #paths > 0 then
    list[#list + 1] = (#paths == 1 and "1 file is no ledger: " or #paths .. " files are no ledgers: ")
      .. text.clean(table.concat(paths, ", ", 1, math.min(#paths, 3))) .. (#paths > 3 and ", …" or "")
  end
  return list
end

function M.text(result, options)
  local out, rows = {}, { heads }
  for _, item in ipairs(changes_of(result)) do rows[#rows + 1] = change_row(options, item) end
  local left = { true, true, true, true, [8] = true }
  if #rows > 1 then columns.layout(columns.lines(rows, left), 4, options, out) end
  for _, remark in ipairs(remarks(result)) do columns.remark("", remark, options, out) end
  table_format.expectations(result.expectations, options, out)
  return table.concat(out, "\n") .. "\n"
end

-- ---- for other tools ----

local function plain_change(c)
  return { at = c.at, since = c.after_run.started, before = c.before, after = c.after, change = c.change, p = c.p,
    verdict = c.verdict, between = c.between, before_file = c.before_run.file, after_file = c.after_run.file }
end

function M.json(result)
  local list = json.array()
  for i, series in ipairs(result.series) do
    local changes, points = json.array(), json.array()
    for k, c in ipairs(series.changes) do changes[k] = plain_change(c) end
    for k, run in ipairs(series.runs) do
      points[k] = { started = run.started, file = run.file, value = series.values[k] }
    end
    list[i] = { test = series.test, case = series.case, figure = series.figure.name, unit = series.figure.unit,
      machine = series.machine, scenario = series.scenario, changes = changes, points = points }
  end
  return json.encode({ verdict = result.verdict, expectations = result.expectations, series = list,
    runs = #result.runs, left_out = result.left_out }, true) .. "\n"
end

local function has_any(rows, runs, column)
  for _, run in ipairs(runs) do
    if rows[run] and rows[run][column] then return true end
  end
  return false
end

-- The number of a series' column: that of the same name on other machines, and one of its own, "NAME (2)", where a run
-- has two of that name, which differ in their parameters.
local function column_of(names, rows, series)
  local name, n = ("%s %s %s"):format(series.test, series.case, series.figure.name), 1
  local one = name
  while names[one] and has_any(rows, series.runs, names[one]) do
    n = n + 1
    one = ("%s (%d)"):format(name, n)
  end
  if not names[one] then
    names[#names + 1] = one
    names[one] = #names
  end
  return names[one]
end

-- Otava's form: the time, attributes, and a column for each metric; a line for each run.
function M.csv(result)
  local names, facts, seen_fact, rows = {}, {}, {}, {}
  for _, series in ipairs(result.series) do
    local i = column_of(names, rows, series)
    for k, run in ipairs(series.runs) do
      rows[run] = rows[run] or {}
      rows[run][i] = series.values[k]
      for fact in pairs(run.facts) do
        if not seen_fact[fact] then seen_fact[fact], facts[#facts + 1] = true, fact end
      end
    end
  end
  table.sort(facts)
  local function line(cells)
    for i, cell in ipairs(cells) do cells[i] = csv.quoted(cell) end
    return table.concat(cells, ",") .. "\r\n"
  end
  local head = { "time", "scenario", "machine" }
  for _, list in ipairs { facts, names } do
    for _, name in ipairs(list) do head[#head + 1] = name end
  end
  local out = { line(head) }
  for _, run in ipairs(result.runs) do
    local cells = { run.started, run.scenario, run.machine }
    for _, fact in ipairs(facts) do cells[#cells + 1] = run.facts[fact] or "" end
    for i = 1, #names do cells[#cells + 1] = rows[run] and rows[run][i] or "" end
    out[#out + 1] = line(cells)
  end
  return table.concat(out)
end

local units = { bits = "bit/s", rate = "1/s", time = "ns", seconds = "s", milliseconds = "ms", ratio = "ratio",
  bytes = "B", cores = "cores", count = "" }

local function unit_of(figure) return figure.suffix or units[figure.unit] or "" end

-- The last run of each scenario as github-action-benchmark takes it: { name, unit, value, extra }; the figures of which
-- `better` ("less", "more") is better, since the action knows one direction for all. It tells them apart by name.
local function benchmark(result, better)
  local list, last, seen, scenarios = json.array(), {}, {}, 0
  for _, run in ipairs(result.runs) do
    scenarios = scenarios + (last[run.scenario] and 0 or 1)
    last[run.scenario] = run
  end
  for _, series in ipairs(result.series) do
    local run = series.runs[#series.runs]
    if run == last[series.scenario] and series.figure.better == better then
      local name = ("%s %s: %s"):format(series.test, series.case, series.figure.title)
      if scenarios > 1 then name = series.scenario .. ": " .. name end
      seen[name] = (seen[name] or 0) + 1
      list[#list + 1] = { name = seen[name] > 1 and ("%s (%d)"):format(name, seen[name]) or name,
        unit = unit_of(series.figure), value = series.values[#series.values],
        extra = ("%s, %s"):format(run.started, series.machine) }
    end
  end
  return json.encode(list, true) .. "\n"
end

function M.benchmark_json(result) return benchmark(result, "less") end
function M.benchmark_json_more(result) return benchmark(result, "more") end

function M.opensearch_bulk(result)
  local out = {}
  for _, series in ipairs(result.series) do
    for k, run in ipairs(series.runs) do
      out[#out + 1] = '{"index":{"_index":"knbl"}}'
      local document = { ["@timestamp"] = run.started, scenario = series.scenario, test = series.test,
        case = series.case, figure = series.figure.name, unit = unit_of(series.figure), value = series.values[k],
        machine = series.machine, facts = run.facts }
      out[#out + 1] = json.encode(document)
    end
  end
  return table.concat(out, "\n") .. "\n"
end

-- ---- the page ----

function M.html(result, options)
  return require("knbl.format.html").trend(result, options, { changes = changes_of(result), remarks = remarks(result),
    title_of = title_of, day = day, by = by })
end

return M
