-- Combinations, repeats interleaved, labels.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local fake = require "fake"
local json = require "knbl.json"

TestMatrix = {}

local loop = fake.pair .. [[
for c in knbl.matrix { { "path", { "direct", a, b }, { "back", b, a } }, { "flows", 1, 8 } } do
  knbl.tcp_rr { from = c.path[2], to = c.path[3], flows = c.flows }
end
]]

local function measurements(script, args)
  args = args or {}
  args[#args + 1] = "--json"
  args[#args + 1] = "-"
  args[#args + 1] = "-q"
  local code, out, err = fake.knbl(script, args)
  lu.assertEquals(code, 0, err)
  return json.decode(out).measurements
end

function TestMatrix:test_the_last_name_changes_fastest()
  local list = {}
  for i, m in ipairs(measurements(loop)) do list[i] = ("%s %s %d"):format(m.labels.path, m.from, m.params.flows) end
  lu.assertEquals(list, { "direct client 1", "direct client 8", "back server 1", "back server 8" })
end

function TestMatrix:test_cases_are_named_by_the_combination()
  lu.assertEquals(measurements(loop)[2].case, "direct flows 8")
end

function TestMatrix:test_repeats_are_whole_rounds()
  local list = {}
  for i, m in ipairs(measurements(loop, { "--repeats", "3" })) do list[i] = m.round end
  lu.assertEquals(list, { 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3 })
end

function TestMatrix:test_without_a_matrix_the_script_is_repeated()
  local list = measurements(fake.pair
    .. "knbl.tcp_rr { case = 'x', from = a, to = b } knbl.tcp_crr { case = 'y', from = a, to = b }\n"
    .. "knbl.report { rows = 'case', columns = { 'rate' } }", { "--repeats", "2" })
  local seen = {}
  for i, m in ipairs(list) do seen[i] = m.case .. (m.round or 1) end
  lu.assertEquals(seen, { "x1", "y1", "x2", "y2" })
end

function TestMatrix:test_labels_end_with_the_loop()
  local list = measurements(fake.pair
    .. "for _ in knbl.matrix { { 'n', 1, 2 } } do break end knbl.tcp_rr { from = a, to = b }")
  lu.assertNil(list[1].labels)
  list = measurements(fake.pair
    .. "for c in knbl.matrix { { 'x', 1, 2 } } do for d in knbl.matrix { { 'y', 3 } } do knbl.tcp_rr { from = a, to \z
      = b } end end")
  lu.assertEquals(list[2].labels, { x = 2, y = 3 })
end

function TestMatrix:test_of_two_matrices_the_outer_one_is_repeated()
  local body = fake.pair
    .. "for c in knbl.matrix { { 'x', 1, 2 } %s } do for d in knbl.matrix { { 'y', 3 } %s } do knbl.tcp_rr { from = \z
      a, to = b } end end"
  local function rounds(outer, inner, args)
    local list = {}
    for i, m in ipairs(measurements(body:format(outer, inner), args)) do list[i] = m.round end
    return list
  end
  lu.assertEquals(rounds("", "", { "--repeats", "3" }), { 1, 1, 2, 2, 3, 3 })
  lu.assertEquals(rounds(", repeats = 2", ", repeats = 2"), { 1, 2, 1, 2, 3, 4, 3, 4 })
end

-- What stands beside the matrix is measured once, and that is said.
function TestMatrix:test_what_is_not_repeated_is_told()
  local code, _, err = fake.knbl(loop .. "knbl.tcp_rr { case = 'beside', from = a, to = b }", { "--repeats", "2" })
  lu.assertEquals(code, 0, err)
  lu.assertStrContains(err, "knbl: --repeats 2 is for the matrix: what stands outside of it was measured once (beside)")
  lu.assertNotStrContains(select(3, fake.knbl(loop, { "--repeats", "2" })), "--repeats")
end

function TestMatrix:test_refused()
  for body, text in pairs { ["{}"] = "takes a list of rows", ["5"] = "takes a list of rows",
    ["{ { 'a' } }"] = "no values", ["{ { 1, 2 } }"] = "must begin with a name",
    ["{ { 'a', 1 }, { 'a', 2 } }"] = "already used", ["{ { 'a', 1 }, repeats = 0 }"] = "repeats",
      ["{ { 'a', 1 }, repeat_ = 2 }"] = "unknown key",
    ["{ { 'a', {}, 2 } }"] = "value 1 of a has no label",
      ["{ { 'a', 1, { 'x' }, { name = 'x' } } }"] = "two values of a have the label 'x'" } do
    local code, _, err = fake.knbl("local knbl = require 'knbl'\nfor _ in knbl.matrix(" .. body .. ") do end")
    lu.assertEquals(code, 1, body)
    lu.assertStrContains(err, "SCRIPT:2: ")
    lu.assertStrContains(err, text)
  end
end

os.exit(lu.LuaUnit.run())
