-- The schedule of a mesh: every pair once, no node twice in a round, in the fewest rounds; also for 1,000 nodes.
local lu = require "luaunit"
local mesh = require "knbl.mesh.rounds"

TestMesh = {}

local function check(n)
  local rounds = mesh.of(n)
  lu.assertEquals(#rounds, n % 2 == 0 and n - 1 or n)
  local met, pairs_met = {}, 0
  for _, round in ipairs(rounds) do
    local busy = {}
    for _, pair in ipairs(round) do
      local a, b = math.min(pair[1], pair[2]), math.max(pair[1], pair[2])
      assert(a >= 1 and b <= n and a ~= b, "no pair of nodes")
      assert(not busy[a] and not busy[b], "a node takes part twice in a round")
      busy[a], busy[b] = true, true
      local key = a * (n + 1) + b
      assert(not met[key], "a pair meets twice")
      met[key], pairs_met = true, pairs_met + 1
    end
  end
  lu.assertEquals(pairs_met, n * (n - 1) // 2)
end

function TestMesh.test_small()
  for n = 2, 40 do check(n) end
end
function TestMesh.test_1000() check(1000) end
function TestMesh.test_999() check(999) end

os.exit(lu.LuaUnit.run())
