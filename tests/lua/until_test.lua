-- --until: repeats until the interval is narrow, or the limit is reached.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local fake = require "fake"
local json = require "knbl.json"

TestUntil = {}

-- Rates whose scatter is wide for the first `wide` measurements, and none afterwards.
local function settling(wide)
  local n = 0
  return fake.core(function(spec)
    n = n + 1
    return fake.result(spec, { rate_per_s = n <= wide and (n % 3 == 0 and 80000 or 20000) or 50000 })
  end)
end

local plain = fake.pair .. "knbl.tcp_rr { case = 'x', from = a, to = b }"
local matrix = fake.pair
  .. "for c in knbl.matrix { { 'flows', 1, 2 } } do knbl.tcp_rr { from = a, to = b, flows = c.flows } end"

local function run(script, words, wide)
  local argv = { "--json", "-", "-q" }
  for _, word in ipairs(words) do argv[#argv + 1] = word end
  local code, out, err = fake.knbl(script, argv, settling(wide))
  return code == 0 and json.decode(out) or nil, err
end

function TestUntil:test_it_stops_where_the_interval_is_narrow()
  lu.assertEquals(#run(plain, { "--until", "±5%" }, 0).measurements, 6, "the least that makes an interval")
  local data = run(plain, { "--until", "5%" }, 4)
  local n = #data.measurements
  lu.assertTrue(n > 6 and n < 50, tostring(n))
  lu.assertEquals({ data.measurements[n].round, #data.notes }, { n, 0 })
end

function TestUntil:test_a_matrix_goes_on_in_whole_rounds()
  local data = run(matrix, { "--until", "5%" }, 6)
  lu.assertTrue(#data.measurements > 12 and #data.measurements % 2 == 0, #data.measurements)
end

function TestUntil:test_the_limit()
  for _, script in ipairs { plain, matrix } do
    local data = run(script, { "--until", "5%", "--repeats", "8" }, 1000)
    lu.assertEquals(#data.measurements, script == plain and 8 or 16)
    lu.assertStrMatches(data.notes[1].text, "%-%-until ±5%%: not reached in 8 repeats; tcp_rr .* is at ±%d.*")
  end
end

function TestUntil:test_the_plan_says_so()
  for _, script in ipairs { plain, matrix } do
    local code, out = fake.knbl(script, { "--dry-run", "--until", "5%" })
    lu.assertEquals(code, 0)
    lu.assertStrMatches(out, "SCRIPT on loopback: %d+ measurements, repeated until ±5%%, at most %d.*")
  end
end

function TestUntil:test_what_is_refused()
  local _, err = run(plain, { "--until", "5" }, 0)
  lu.assertStrContains(err, "--until: '5' is not a share: write it like ±5%")
  _, err = run(plain, { "--until", "5%", "--repeats", "3" }, 0)
  lu.assertStrContains(err, "--until needs at least 6 repeats, got --repeats 3")
end

os.exit(lu.LuaUnit.run())
