-- A mesh over lab nodes, of which one has a slow link and one drops packets: both are named, and nobody else.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"

TestMesh = {}

local script = [[
  local knbl = require "knbl"
  local cluster <close> = knbl.cluster { zones = 2, nodes = 10 }
  local pods = {}
  for i = 1, 10 do
    pods[i] = cluster:pod { name = "mesh-" .. i, node = i, bandwidth = i == 3 and "10Mbit/s" or nil }
  end
  local said, status = pods[8]:exec { "sh", "-c", "nft add table ip loss && \
    nft add chain ip loss input '{ type filter hook input priority 0; }' && \
    nft add rule ip loss input meta l4proto '{ tcp, udp }' numgen random mod 100 '<' 3 drop" }
  assert(status == 0, said)
  knbl.mesh { nodes = pods, tests = { "tcp_lat", "tcp_stream" }, duration = "400ms" }
]]

function TestMesh:test_a_slow_node_and_a_lossy_one_are_named_and_nobody_else()
  local _, out, err = fake.knbl(script, { "--json", "-", "-q" }, core)
  fake.need_lab(err)
  local data = json.decode(out)
  lu.assertNotNil(data and data.meshes, err)
  local mesh, named = data.meshes[1], {}
  for _, o in ipairs(mesh.outliers) do named[o.name] = true end
  lu.assertEquals(named, { ["node-3"] = true, ["node-8"] = true }, table.concat(mesh.sentences, "\n"))
  lu.assertEquals({ #mesh.missing, mesh.nodes[4].zone, #data.measurements }, { 0, "b", 180 })
  lu.assertTrue(mesh.cost.most_requests <= 6)
  local text = table.concat(mesh.sentences, "\n")
  lu.assertStrContains(text, "node-3 sends and receives slowly (tcp_stream)")
  lu.assertStrMatches(text, ".*node%-8 [^\n]*(mean latency).*")
end

os.exit(lu.LuaUnit.run())
