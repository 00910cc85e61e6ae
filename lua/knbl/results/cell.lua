-- knbl.results.cell - one cell of a table: the figure of its measurements, and what makes that figure doubtful.
local expect = require "knbl.results.expect"
local figures = require "knbl.results.figures"
local ledger = require "knbl.results.ledger"

local M = {}

-- The figure of repeats: the median where there are several, with its interval.
local function summarize(core, list, figure)
  local values = {}
  for _, m in ipairs(list) do
    local value = m.ok and figures.value(m, figure)
    if value then values[#values + 1] = value end
  end
  if #values == 0 then return nil end
  if #values == 1 then return { value = values[1], n = 1 } end
  local median, low, high = core.median_interval(values, 0.95)
  return { value = median, low = low, high = high, n = #values }
end

-- Figures that are shown for any number of operations, and of how many they say next to nothing. Percentiles have a
-- flag of their own.
local of_few, FEW = { mean = true, latency = true, min = true, max = true, stddev = true, rate = true }, 10

-- How many samples a percentile has, where it wants more. Those of repeats count together.
local function few_samples(list, figure)
  local needed, count = figures.samples_for(figure), figures.samples_of(list)
  if needed and (not count or count < needed) then
    return ("too_few_samples: %s samples, %s wants %d"):format(count and ("%.0f"):format(count) or "too few",
      figure.title, needed)
  end
end

-- Why a cell has no figure, and what makes the one it has doubtful: a list of texts. `figure` is nil if there is no
-- value of the one `asked` for.
local function remarks(list, figure, asked)
  local notes, seen = {}, {}
  local function add(note)
    if note and not seen[note] then
      seen[note] = true
      notes[#notes + 1] = note
    end
  end
  local function failed(why)
    local n = 0
    for _, m in ipairs(list) do n = n + (not m.ok and m.error and m.error.message == why and 1 or 0) end
    add(figure and #list > 1 and ("%d of %d repeats failed: %s"):format(n, #list, why) or "failed: " .. why)
  end
  for _, m in ipairs(list) do
    local count = type((m.metrics or {}).latency_ns) == "table" and tonumber(m.metrics.latency_ns.count)
    if m.ok and of_few[(figure or {}).name] and count and count < FEW then
      add(("of %.0f operation%s only"):format(count, count == 1 and "" or "s"))
    end
    if m.skipped then add("skipped: " .. m.skipped)
    elseif expect.as_wanted(m) then add("unreachable, as expected: " .. m.error.message)
    elseif not m.ok then failed(m.error and m.error.message or "no reason given") end
    for _, flag in ipairs(m.flags or {}) do
      if not figure then
        if flag == "no_change" and figures.concerns(flag, asked) then add(flag .. ": " .. figures.explain(flag)) end
      elseif flag == "too_few_samples" then add(few_samples(list, figure))
      elseif figures.concerns(flag, figure) then add(flag .. ": " .. figures.explain(flag)) end
    end
  end
  return notes
end

-- "tcp_lat, udp_rr" where several tests share a cell.
local function tests_among(list)
  local names, seen = {}, {}
  for _, m in ipairs(list) do
    if not seen[m.test] then seen[m.test], names[#names + 1] = true, m.test end
  end
  table.sort(names)
  return #names > 1 and table.concat(names, ", ") or nil
end

-- The first that has the figure, which tells its unit.
local function first_with(list, name)
  local figure = figures.get(name)
  for _, m in ipairs(list) do
    if figures.value(m, figure) then return m end
  end
  return list[1]
end

-- { value?, low?, high?, n?, figure, unit, notes, state?, measurements } of a list of measurements.
function M.of(core, list, column)
  local figure = figures.of(first_with(list, column.show), column.show)
  local cell = summarize(core, list, figure) or {}
  cell.figure, cell.unit, cell.measurements = figure, column.unit, list
  cell.notes = remarks(list, cell.value and figure, figure)
  if figure.name == "share" and cell.value and cell.value > 1.1 then
    table.insert(cell.notes, "more than the ceiling: what was measured over loopback was disturbed, and is no ceiling")
  end
  if cell.n and cell.n > 1 then
    local counted, same, first, most, least = {}, true, nil, -math.huge, math.huge
    for _, m in ipairs(list) do
      local value = m.ok and figures.value(m, figure)
      if value then
        first = first or value
        counted[#counted + 1], same = m, same and value == first
        most, least = math.max(most, value), math.min(least, value)
      end
    end
    local differ = ledger.differing(counted)
    if #differ == 0 and not cell.low and most > 2 * least then
      table.insert(cell.notes,
        "its repeats differ more than twofold, and are too few for an interval: six are the least (--repeats)")
    end
    if #differ > 0 and not same then -- what a pod took to start is told by each of its measurements
      local tests = tests_among(counted)
      if tests then
        cell.value, cell.low, cell.high, cell.state = nil, nil, nil, "ambiguous"
        table.insert(cell.notes, ("ambiguous: measurements of several tests (%s) share this cell; "
          .. "give the column its own 'test'"):format(tests))
      else
        cell.mixed = true
        table.insert(cell.notes, ("not repeats: the median of measurements that differ in %s, "
          .. "which neither rows nor columns name"):format(table.concat(differ, ", ")))
      end
    end
  end
  if not cell.value and not cell.state then
    cell.state = "absent"
    for _, m in ipairs(list) do
      cell.state = m.skipped and "skipped" or expect.as_wanted(m) and "unreachable" or not m.ok and "failed"
        or cell.state
    end
  end
  return cell
end

return M
