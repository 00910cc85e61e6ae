-- knbl ab and noise: in turn (a b b a …) equals are told apart as seldom as stated, though the machine drifts; one half
-- after the other they are not. How many rounds find a change stands in docs/statistics.md, and is held to it here.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local fake = require "fake"
local study = require "study"

TestAbStudy = {}

-- Values one after the other: noise of its own for each, and a level that drifts (its neighbours know it).
local function machine(seed, noise, drift)
  local random, level = study.random(seed), 0
  return function(factor)
    level = 0.95 * level + drift * random.normal()
    return 50000 * factor * math.exp(noise * random.normal() + level)
  end
end

-- So many comparisons of n rounds; `in_turn`: a b b a …, else all of a first. Returns how many show a difference.
local function shown(next_value, n, change, in_turn)
  local count = 0
  for _ = 1, study.rounds do
    local a, b = {}, {}
    for i = 1, 2 * n do
      local round, k = math.ceil(i / 2), (i - 1) % 2
      local is_a = i <= n
      if in_turn then is_a = (round % 2 == 1) == (k == 0) end
      local list = is_a and a or b
      list[#list + 1] = next_value(is_a and 1 or 1 + change)
    end
    if study.compare(a, b).shown then count = count + 1 end
  end
  return count
end

function TestAbStudy:test_a_and_a_in_200_pairs()
  for _, n in ipairs { 6, 8, 16 } do
    local alarms = shown(machine(n, 0.05, 0.03), n, 0, true)
    lu.assertTrue(alarms <= study.most_alarms, ("%d rounds: %d false alarms of %d"):format(n, alarms, study.rounds))
  end
end

-- Why the arms take turns.
function TestAbStudy:test_one_half_after_the_other_takes_drift_for_a_change()
  local alarms = shown(machine(8, 0.05, 0.03), 8, 0, false)
  lu.assertTrue(alarms > study.most_alarms, tostring(alarms))
end

-- The table of docs/statistics.md: | noise | rounds | 5 % found | 10 % found |
function TestAbStudy:test_a_change_is_found_in_as_many_rounds_as_the_page_says()
  local rows = 0
  for noise, n, five, ten in fake.read "docs/statistics.md":gmatch
    "\n| (%d+) %% | (%d+) | (%d+) %% | (%d+) %% |" do
    rows = rows + 1
    for change, power in pairs { [0.05] = five / 100, [0.1] = ten / 100 } do
      local found = shown(machine(1000 + n, noise / 100, 0), tonumber(n), change, true) / study.rounds
      lu.assertAlmostEquals(found, power, 3 * math.sqrt(math.max(power * (1 - power), 0.01) / study.rounds) + 0.01,
        ("%d %%, %d rounds, %g"):format(noise, n, change))
    end
  end
  lu.assertTrue(rows >= 6)
end

os.exit(lu.LuaUnit.run())
