-- The sentences under a table: what they say is what the samples show, and where nothing is to be told they say that.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local answer = require "knbl.results.answer"
local ledger = require "knbl.results.ledger"
local declaration = require "knbl.results.declaration"
local report = require "knbl.results.report"
local study = require "study"

TestAnswer = {}

-- A grid over measurements whose mean is `mean(path, by, round)` ns.
local function grid_of(paths, ways, repeats, mean, more)
  local book = ledger.new { core = core, scenario = "x" }
  for round = 1, repeats do
    for _, path in ipairs(paths) do
      for _, by in ipairs(ways) do
        local value, p99, load = mean(path, by, round)
        book:add { test = "tcp_rr", case = path .. by, ok = true, round = round, params = { rate = load },
          labels = { path = path, by = by, to = by }, metrics = { latency_ns = { mean = value, p99 = p99 or 5000 } } }
      end
    end
  end
  local t = { rows = { "path", "by" }, columns = { { "lat", "mean" }, { "lat p99", "p99" } } }
  for key, value in pairs(more or {}) do t[key] = value end
  book:report(declaration.declare(core, t))
  return report.grid(core, book.data, book.data.reports[1])
end

local paths = { "a", "b", "c", "d", "e", "f" }
local both = { "direct", "service" }

function TestAnswer:test_a_difference_on_some_of_the_paths()
  local grid = grid_of(paths, both, 6, function(path, by, round)
    return 10000 + round * 10 + (by == "service" and path ~= "f" and 2000 or 0)
  end)
  lu.assertEquals(answer.sentences(core, grid),
    { "service against direct: lat is 19.9 % (2.00 µs) higher, shown on 5 of 6 paths; \z
      no difference shown in lat p99." })
end

function TestAnswer:test_both_ways()
  local grid = grid_of(paths, both, 6, function(path, by, round)
    return 10000 + round * 10 + (by == "service" and (path < "c" and 2000 or -2000) or 0)
  end)
  lu.assertStrContains(answer.sentences(core, grid)[1], "lat is higher on 2 and lower on 4 of 6 paths")
end

function TestAnswer:test_what_cannot_be_told()
  local function flat() return 10000 end
  lu.assertEquals(answer.sentences(core, grid_of(paths, both, 1, flat)),
    { "Measured once: whether service and direct differ cannot be told; --repeats 6 can." })
  lu.assertEquals(answer.sentences(core, grid_of(paths, both, 3, flat)),
    { "3 repeats are too few: whether service and direct differ cannot be told; --repeats 6 can." })
  lu.assertEquals(answer.sentences(core, grid_of(paths, both, 6, flat)),
    { "service against direct: no difference shown in lat, lat p99." })
end

function TestAnswer:test_only_like_is_compared_with_like()
  local grid = grid_of(paths, both, 6, function(_, by)
    return by == "direct" and 1 or 2, 1, by == "direct" and "5/s" or nil
  end)
  lu.assertEquals(answer.sentences(core, grid), {}, "an open loop and a closed one")
  grid = grid_of(paths, { "x", "y", "z" }, 6, function() return 1 end)
  lu.assertEquals(answer.sentences(core, grid), {}, "three values and no baseline")
end

function TestAnswer:test_a_baseline_and_a_pivot()
  local function mean_of(_, by, round) return (by == "direct" and 1000 or 1100) + round end
  local function mean(_, by, round) return ({ x = 1000, y = 2000, z = 500 })[by] + round end
  local grid = grid_of({ "a" }, { "x", "y", "z" }, 6, mean, { baseline = "x" })
  lu.assertEquals(answer.sentences(core, grid),
    { "y against x: lat is 99.7 % (1.00 µs) higher; no difference shown in lat p99.",
      "z against x: lat is 49.8 % (500 ns) lower; no difference shown in lat p99.",
      "Highest lat: a y (2.00 µs), then a x (1.00 µs)." })
  grid = grid_of(paths, both, 1, mean_of, { rows = { "test", "path", "to" } })
  lu.assertEquals(answer.sentences(core, grid), {}, "ends are no alternatives …")
  grid = grid_of(paths, both, 1, mean_of, { rows = { "test", "path", "to" }, baseline = "direct" })
  lu.assertStrContains(answer.sentences(core, grid)[1] or "", "whether service and direct differ",
    nil, "… unless one is a baseline")
  grid = grid_of(paths, both, 6, mean_of, { rows = "path", columns = "by", show = "mean" })
  lu.assertStrContains(answer.sentences(core, grid)[1], "service against direct: mean is 9.97 % (100 ns) higher, shown "
    .. "on 6 of 6 paths")
end

function TestAnswer:test_the_worst_row_is_named_where_it_is_shown()
  local function mean(path, _, round) return (path == "d" and 3000 or 1000) + round * 20 end
  local grid = grid_of(paths, { "direct" }, 8, mean)
  lu.assertEquals(answer.sentences(core, grid), { "Highest lat: d direct (3.09 µs), then a direct (1.09 µs)." })
  grid = grid_of(paths, { "direct" }, 8, function(_, _, round) return 1000 + round * 20 end)
  lu.assertEquals(answer.sentences(core, grid), {})
end

-- Of tables without any difference at most one in twenty says that there is one, however many figures it has.
function TestAnswer:test_false_alarms()
  local random, alarms = study.random(7), 0
  for _ = 1, study.rounds do
    local grid = grid_of(paths, both, 6, function()
      return 10000 * math.exp(0.1 * random.normal()), 20000 * math.exp(0.2 * random.normal())
    end)
    local said = table.concat(answer.sentences(core, grid), " ")
    if said:find "higher" or said:find "lower" then alarms = alarms + 1 end
  end
  lu.assertTrue(alarms <= study.most_alarms, alarms .. " false alarms of " .. study.rounds)
end

os.exit(lu.LuaUnit.run())
