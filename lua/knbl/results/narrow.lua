-- knbl.results.narrow - --until: whether the intervals of a run are as narrow as was asked for, and what is told where
-- they do not become so.
local figures = require "knbl.results.figures"
local ledger = require "knbl.results.ledger"

-- The least repeats that have an interval of 95 %, and the most where --repeats says nothing.
local M = { least = 6, most = 50 }

-- How wide a figure's interval is, as a share of it to either side; nil where there is none.
local function spread_of(core, group)
  local figure, values = figures.headline(group[1].test), {}
  for _, m in ipairs(group) do
    local value = m.ok and figures.value(m, figure)
    if value then values[#values + 1] = value end
  end
  if #values < M.least then return nil, #values > 0 end
  local median, low, high = core.median_interval(values, 0.95)
  if not low or median == 0 then return nil, true end
  return math.max(high - median, median - low) / math.abs(median), true
end

-- The widest of all groups that measured anything: { spread?, test, case }; nil where nothing did.
local function widest(core, data, since)
  local part, worst = { measurements = {} }, nil
  for i = since + 1, #data.measurements do table.insert(part.measurements, data.measurements[i]) end
  for _, group in ipairs(ledger.all_by_ends(ledger.groups(part))) do
    local spread, any = spread_of(core, group)
    if any and (not worst or (spread or math.huge) > (worst.spread or math.huge)) then
      worst = { spread = spread, test = group[1].test, case = ledger.subject(group[1]) }
    end
  end
  return worst
end

-- Whether another repeat is wanted. At the limit it is not, and the ledger says what stayed wide.
function M.wanted(session, repeats, since)
  local target = session.settings["until"]
  local worst = widest(session.core, session.ledger.data, since)
  if not worst or worst.spread and worst.spread <= target then return false end
  if repeats < (session.settings.repeats or M.most) then return true end
  session.ledger:note { text = ("--until ±%g%%: not reached in %d repeats; %s %s is at %s"):format(target * 100,
    repeats, worst.test, worst.case, worst.spread and ("±%.1f %%"):format(worst.spread * 100) or "no interval yet") }
  return false
end

return M
