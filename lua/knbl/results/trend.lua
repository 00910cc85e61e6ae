-- knbl.results.trend - runs (knbl.results.brief) as series in the order of time: one for each case and figure, by
-- machine, and where each changed its level.
local compare = require "knbl.results.compare"
local figures = require "knbl.results.figures"
local json = require "knbl.json"
local ledger = require "knbl.results.ledger"
local steps = require "knbl.results.steps"

local M = {}

-- ---- series ----

local function by_time(a, b)
  if a.started ~= b.started then return a.started < b.started end
  return a.file < b.file
end

-- The series of each kind of figure on one machine and in one scenario, made when they are first asked for: by the kind
-- itself, since runs share it, then by its key.
local function finder(run, list)
  local of_kind, of_key = {}, {}
  return function(kind)
    local series = of_kind[kind] or of_key[kind.key]
    if not series then
      series = { test = kind.test, case = kind.case, figure = figures.of({ metric = kind.metric }, kind.figure),
        machine = run.machine, scenario = run.scenario, runs = {}, values = {} }
      list[#list + 1] = series
    end
    of_kind[kind], of_key[kind.key] = series, series
    return series
  end
end

-- Runs in any order: a list of { test, case, figure, machine, scenario, runs, values, changes }.
function M.series(runs, options)
  options = options or {}
  table.sort(runs, by_time)
  local list, finders = {}, {}
  for _, run in ipairs(runs) do
    local place = run.machine .. "\29" .. run.scenario
    finders[place] = finders[place] or finder(run, list)
    for i, kind in ipairs(run.kinds) do
      local series = finders[place](kind)
      local n = #series.runs + 1
      series.runs[n], series.values[n] = run, run.values[i]
    end
  end
  for _, series in ipairs(list) do M.find(series, options.alpha) end
  return list
end

-- "kernel 6.1, now 6.2" between two runs: what the environments and tags tell.
local function told(before, after)
  local names, list = {}, {}
  for _, facts in ipairs { before.facts, after.facts } do
    for name in pairs(facts) do names[name] = true end
  end
  for name in pairs(names) do
    local a, b = before.facts[name], after.facts[name]
    if a ~= b then list[#list + 1] = ("%s %s, now %s"):format(name, a or "unknown", b or "unknown") end
  end
  table.sort(list)
  return table.concat(list, "; ")
end

function M.find(series, alpha)
  series.changes = steps.find(series.values, alpha)
  series.fewest = #series.values <= 40 and steps.fewest(alpha or steps.alpha) or 0
  for _, c in ipairs(series.changes) do
    c.before_run, c.after_run = series.runs[c.at - 1], series.runs[c.at]
    c.between = told(c.before_run, c.after_run)
    c.verdict = compare.direction(c.after - c.before, series.figure)
  end
end

-- ---- the cache ----

-- A cache has its version, a line for each kind of figure, one for each list of kinds that runs have (numbers), and one
-- for each ledger: stamp (size, time, path), the number of its list, its values, and the rest of the run.
local CACHE = "V\t2\n"

function M.read_cache(text)
  local kinds, lists, cache = {}, {}, {}
  if text:sub(1, #CACHE) ~= CACHE then text = "" end -- another version's
  for word, number, body in text:gmatch "([KLR])\t([^\n\t]*)\t([^\n]*)\n" do
    if word == "K" then
      kinds[#kinds + 1] = json.decode(body) or nil
    elseif word == "L" then
      local list = {}
      for n in body:gmatch "%d+" do list[#list + 1] = kinds[tonumber(n)] end
      lists[number] = list
    else
      cache[number] = body
    end
  end
  return { lists = lists, runs = cache }
end

-- The run of a stamp; nil where the cache has none.
function M.from_cache(cache, stamp)
  local number, values, head = (cache.runs[stamp] or ""):match "^(%d+)\t([^\t]*)\t(.*)$"
  local run = head and json.decode(head)
  if not run or not cache.lists[number] then return nil end
  run.kinds, run.values = cache.lists[number], {}
  for value in values:gmatch "%S+" do run.values[#run.values + 1] = tonumber(value) end
  return #run.values == #run.kinds and run or nil
end

-- Gives equal texts the same number: "K\t1\tTEXT" when it is first seen.
local function numbering(word, out)
  local numbers, n = {}, 0
  return function(text)
    if not numbers[text] then
      n = n + 1
      numbers[text] = n
      out[#out + 1] = ("%s\t%d\t%s\n"):format(word, n, text)
    end
    return numbers[text]
  end
end

-- The text of a cache of runs by stamp, in their order: { { stamp, run }… }.
function M.cache_text(list)
  local out, number_of = { CACHE }, {}
  local kind_number, list_number = numbering("K", out), numbering("L", out)
  for _, item in ipairs(list) do
    local numbers, values, head = {}, {}, {}
    for key, value in pairs(item.run) do
      if key ~= "kinds" and key ~= "values" then head[key] = value end
    end
    for i, kind in ipairs(item.run.kinds or {}) do
      number_of[kind] = number_of[kind] or kind_number(json.encode(kind))
      numbers[i], values[i] = number_of[kind], ("%.17g"):format(item.run.values[i])
    end
    local number = list_number(table.concat(numbers, " ")) -- writes its own line first
    out[#out + 1] = ("R\t%s\t%d\t%s\t%s\n"):format(item.stamp, number, table.concat(values, " "), json.encode(head))
  end
  return table.concat(out)
end

-- ---- limits ----

-- Whether a series has too few runs to show a change.
function M.is_short(series) return #series.values < series.fewest end

local function judged(core, series, limit)
  local status, reason, last = "pass", "no change of its level", series.changes[#series.changes]
  if M.is_short(series) then
    status, reason = "inconclusive", ("too few runs to show a change: %d, and %d are the least"):format(
      #series.values, series.fewest)
  elseif last and last.change then
    status = compare.beyond(last.change, limit.change) and "fail" or "pass"
    reason = ("%s since %s: %s, was %s"):format(compare.percent(last.change), last.after_run.started,
      figures.show(core, series.figure, last.after), figures.show(core, series.figure, last.before))
  end
  return { test = series.test, case = series.case, expression = limit.source, status = status, reason = reason,
    value = last and last.change, limit = limit.change }
end

-- Judges limits (expect.parse_change): a series fails where its last change goes beyond one. A series that is too
-- short, as that of a new case, does not count beside others.
function M.judge(core, list, limits)
  local out = json.array()
  for _, limit in ipairs(limits) do
    local long, short = {}, {}
    for _, series in ipairs(list) do
      if series.figure.name == limit.figure.name and ledger.matches({ test = series.test, case = series.case,
        params = {} }, limit.case) then
        table.insert(M.is_short(series) and short or long, judged(core, series, limit))
      end
    end
    for _, row in ipairs(#long > 0 and long or short) do out[#out + 1] = row end
    if #long + #short == 0 then
      out[#out + 1] = { case = limit.case, expression = limit.source, status = "error",
        reason = "it matches no series" }
    end
  end
  return out
end

return M
