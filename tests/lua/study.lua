-- What the studies of comparisons have in common: random numbers from a seed, and a comparison of two lists of figures
-- as ledgers.
local core = require "knbl.native"
local compare = require "knbl.results.compare"
local figures = require "knbl.results.figures"

-- So many comparisons; by the binomial distribution more than `most_alarms` false ones of them come once in 10,000
-- studies at a rate of 5 %.
local M = { rounds = 200, most_alarms = 23 }

function M.random(seed)
  local state = seed
  local r = {}
  local function step() -- the least standard generator of Park and Miller: the same under every Lua
    state = state * 48271 % 2147483647
    return state
  end
  for _ = 1, 10 do step() end
  function r.unit() return step() / 2147483647 end
  function r.normal() return math.sqrt(-2 * math.log(r.unit())) * math.cos(2 * math.pi * r.unit()) end
  return r
end

-- A group of a ledger whose rates are these.
function M.group(values)
  local group = {}
  for i, value in ipairs(values) do
    group[i] = { test = "tcp_rr", case = "c", ok = true, metrics = { rate_per_s = value } }
  end
  return group
end

function M.compare(old, new)
  return compare.change(core, M.group(old), M.group(new), figures.get "rate")
end

return M
