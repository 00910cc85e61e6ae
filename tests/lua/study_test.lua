-- How often a comparison is wrong: false alarms between equals at the stated rate, and a true change found as often as
-- docs/statistics.md says, on ledgers that are thought of (tests/net/study_test.lua does it on real ones). All random
-- numbers come from a fixed seed.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local fake = require "fake"
local study = require "study"

TestStudy = {}

-- Noise of some kinds: a factor whose logarithm has the standard deviation `cv`, roughly.
local noise = {
  ["log-normal"] = function(r, cv) return math.exp(cv * r.normal()) end,
  ["two humps"] = function(r, cv) return 1 + cv * (r.unit() < 0.7 and -0.65 or 1.53) + 0.05 * cv * r.normal() end,
  ["heavy tail"] = function(r, cv) return 1 + cv * 0.6 * (r.unit() ^ -0.4 - 1) end,
}

-- 200 comparisons: the share that shows a difference.
local function shown(kind, cv, n, change, seed)
  local r = study.random(seed)
  local function draw(factor)
    local values = {}
    for i = 1, n do values[i] = 50000 * factor * noise[kind](r, cv) end
    return values
  end
  local count = 0
  for _ = 1, study.rounds do
    if study.compare(draw(1), draw(1 + change)).shown then count = count + 1 end
  end
  return count
end

function TestStudy:test_equals_are_told_apart_as_seldom_as_stated()
  for kind in pairs(noise) do
    for _, n in ipairs { 4, 5, 10, 20 } do
      local alarms = shown(kind, 0.05, n, 0, 100 + n)
      lu.assertTrue(alarms <= study.most_alarms, ("%s, %d repeats: %d false alarms of %d"):format(kind, n, alarms,
        study.rounds))
    end
  end
end

-- The table of docs/statistics.md: | noise | repeats | power |
function TestStudy:test_a_true_change_is_found_as_the_page_says()
  local rows = 0
  for cv, n, power in fake.read "docs/statistics.md":gmatch "\n| (%d+) %% | (%d+) and %d+ | (%d+) %% |" do
    rows = rows + 1
    local found = shown("log-normal", cv / 100, tonumber(n), 0.1, 7 * n + cv) / study.rounds
    local p = power / 100
    -- three standard errors of 200 draws, and that the page has whole numbers
    lu.assertAlmostEquals(found, p, 3 * math.sqrt(math.max(p * (1 - p), 0.01) / study.rounds) + 0.005,
      ("%d %%, %d repeats"):format(cv, n))
  end
  lu.assertTrue(rows >= 9)
end

os.exit(lu.LuaUnit.run())
