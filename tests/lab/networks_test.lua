-- Secondary networks of pods in the lab: the traffic of a measurement to pod:on("net1") crosses that network's link
-- only, and a client at pod:on("net1") sends from its address there.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"

TestNetworks = {}

local start = [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local function bytes(interface)
  for _, link in ipairs(cluster.provider:request { op = "links" }.links) do
    if link.owner == "fabric" and link.name == interface then return link.rx_bytes end
  end
end
local function pod(node, networks) return cluster:pod { node = node, networks = networks } end
]]

local function run(body, code)
  local got, out, err = fake.briefly(start .. body, { "--json", "-", "-q", "--duration", "60ms" }, core)
  fake.need_lab(err)
  lu.assertEquals(got, code or 0, err)
  return json.decode(out)
end

function TestNetworks:test_every_test_takes_the_network_and_nothing_else_does()
  local data = run [[
local a, b = pod(1, { "net1" }), pod(2, { "net1" })
local tests = { "tcp_stream", "tcp_sendfile", "udp_stream", "tcp_rr", "udp_rr", "tcp_crr", "tcp_bw", "tcp_lat", "http",
  "probe", "ping" }
for _, test in ipairs(tests) do
  local uplink, network = bytes "node1", bytes "pod1net1"
  knbl[test] { from = a, to = b:on "net1" }
  knbl.note { test = test, uplink = bytes "node1" - uplink, network = bytes "pod1net1" - network }
end
knbl.pmtu { from = a, to = b:on "net1" }
]]
  lu.assertEquals(#data.measurements, 12)
  for _, m in ipairs(data.measurements) do
    lu.assertTrue(m.ok or m.error.code == "permission", ("%s: %s"):format(m.test, m.error and m.error.message))
    lu.assertEquals({ m.via, m.to, m.path.to.kind }, { "network", "pod-2@net1", "network" })
    lu.assertEquals(m.path.to.address, "172.16.0.12")
    lu.assertNotStrContains(table.concat(m.flags, " "), "wrong_backend")
  end
  for _, note in ipairs(data.notes) do
    lu.assertTrue(note.network > 80, note.test .. " crosses the network")
    lu.assertTrue(note.uplink < 2000, ("%s: %d bytes on the node's uplink"):format(note.test, note.uplink))
  end
end

-- The target is on the network x, and the client sends from its address on y, so the answers come over y.
function TestNetworks:test_a_client_sends_from_its_address_on_the_network()
  local data = run [[
local a, b = pod(1, { "x", "y@fast" }), pod(2, { "x", "y" })
for _, test in ipairs { "tcp_rr", "udp_rr", "tcp_crr", "http", "probe", "udp_stream", "tcp_stream" } do
  local sent, answered = bytes "pod1net1", bytes "pod2net2"
  knbl[test] { from = a:on "fast", to = b:on "x" }
  knbl.note { test = test, sent = bytes "pod1net1" - sent, answered = bytes "pod2net2" - answered }
end
knbl.tcp_rr { from = a:on "y", to = b:on "net1", ip = 6 }
]]
  for _, m in ipairs(data.measurements) do
    lu.assertTrue(m.ok, m.test .. ": " .. (m.error and m.error.message or ""))
  end
  lu.assertEquals(data.measurements[1].from, "pod-1@fast")
  for _, note in ipairs(data.notes) do
    lu.assertTrue(note.sent > 500, note.test .. " sends over x")
    lu.assertTrue(note.answered > 500, note.test .. " is answered over y")
  end
  lu.assertStrContains(data.measurements[8].path.to.address, "fd00:10:17:1::")
end

function TestNetworks:test_interfaces_are_free_again_with_their_pod()
  run [[
for _ = 1, 3 do
  local a, b = pod(1, { "net1", "net2" }), pod(2, { "net2" })
  knbl.tcp_rr { from = a, to = b:on "net2", count = 10 }
  cluster:delete(a)
  cluster:delete(b)
end
]]
end

function TestNetworks:test_what_is_no_network_is_refused_with_the_reason()
  local data = run [[
local function try(f, ...)
  local _, why = pcall(f, ...)
  knbl.note(tostring(why))
end
local a = pod(1, { "net1", "team/blue@b0" })
try(a.on, a, "net7")
try(a.on, a, 1)
try(pod, 1, {})
try(pod, 1, { "Net 1" })
try(pod, 1, { "net1", "net1" })
try(pod, 1, { "net1@eth0" })
try(pod, 1, { "a@x", "b@x" })
try(pod, 1, { ("n"):rep(64) })
try(cluster.pod, cluster, { runtime = "host", networks = { "net1" } })
try(cluster.service, cluster, { a:on "blue" })
knbl.tcp_rr { from = a, to = cluster:pod { runtime = "kata", networks = { "net1" } }:on "net1" }
knbl.tcp_rr { from = a:on "b0", to = a, count = 10 }
]]
  local expected = { "pod-1 has no network 'net7'; its secondary networks are: net1 (net1), b0 (blue)",
    "pod-1:on takes the name of a network or interface, as in \"net1\", got a number",
    "networks must be a non-empty list", "must be [NAMESPACE/]NAME[@INTERFACE] as in \"net1\", got 'Net 1'",
    "networks: 'net1' is listed twice", "the pod has two interfaces 'eth0'", "the pod has two interfaces 'x'",
    "must have at most 63 characters", "networks cannot be combined with runtime = \"host\"",
    "endpoints[1] must be a pod or a node, got a network" }
  for i, text in ipairs(expected) do lu.assertStrContains(data.notes[i].text, text) end
  lu.assertStrMatches(data.measurements[1].skipped, ".*kata.*")
  lu.assertEquals(data.measurements[2].via, "loopback")
end

os.exit(lu.LuaUnit.run())
