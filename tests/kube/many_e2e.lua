-- Many nodes: the real API server and scheduler, nodes that a helper plays (fake_nodes.lua), and one real agent that
-- answers for all pods. E2E_NODES: how many nodes (60).
package.path = "tests/kube/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.core"
local world = require "world"

TestMany = {}

local NAMESPACE, TOKEN = "knbl-many", "a-token-for-many-nodes"
local NODES = tonumber(os.getenv "E2E_NODES" or "") or 60

local script = world.script [[
  local core = require "knbl.core"
  local requests, maps = 0, 0
  for _, name in ipairs { "fetch", "fetch_open" } do
    local real = core[name]
    core[name] = function(request)
      requests = requests + 1
      if request.method == "POST" and request.url:find "/configmaps" then maps = maps + 1 end
      return real(request)
    end
  end
  local knbl = require "knbl"
  local cluster = knbl.cluster()
  local list = {}
  for i, node in ipairs { cluster:nodes() } do list[i] = { node = node } end
  local before, began, by_node = requests, core.now(), {}
  for _, pod in ipairs(cluster:pods(list)) do
    assert(not pod.skip, pod.skip)
    by_node[pod.endpoint.node] = true
  end
  local up, ready = requests - before, core.now()
  local placed = 0
  for _ in pairs(by_node) do placed = placed + 1 end
  cluster:close()
  io.stderr:write(("%d pods on %d nodes, %d ConfigMaps: up in %.1f s with %.2f requests a pod, \z
    removed in %.1f s with %.2f\n"):format(#list, placed, maps, ready - began, up / #list, core.now() - ready,
    (requests - before - up) / #list))
]]

local function start_helper(address)
  local out = os.tmpname()
  world.sh(("FAKE_NODES=%d FAKE_ADDRESS=%s %s tests/kube/fake_nodes.lua >%s 2>%s.err </dev/null & echo $! >%s.pid")
    :format(NODES, address, world.knbl, out, out, out))
  return out, tonumber(world.read(out .. ".pid"))
end

local function alive(pid) return world.read(("/proc/%d/stat"):format(pid)):match "^%d+ %b() [^Z]" ~= nil end

local function await(condition, seconds, what)
  local deadline = core.now() + seconds
  while not condition() do
    if core.now() > deadline then error("not within " .. seconds .. " s: " .. what()) end
    core.sleep(0.05)
  end
end

function TestMany.test_many_nodes()
  local _, address = world.addresses()
  lu.skipIf(not address, "the API server has no IPv4 address that this machine can be reached from")
  local token = world.script(TOKEN .. "\n")
  local agent = world.start({ "agent", "--listen", address .. ":7099", "--token-file", token }, { ledger = false })
  local out, pid = start_helper(address)
  await(function() return world.read(out):find "ready" or not alive(pid) end, 120, function()
    return world.read(out .. ".err")
  end)
  local r = world.run({ "--on", "k8s", "--inject", "--namespace", NAMESPACE, "--node-selector", "knbl-test/fake=yes",
    "--token-file", token, script }, { seconds = 300, ledger = false })
  local left = world.left(NAMESPACE)
  world.sh("kill -TERM " .. pid)
  await(function() return not alive(pid) end, 60, function() return "the end of fake_nodes.lua" end)
  agent:kill "TERM"
  agent:wait(10)
  local said = r.said .. world.read(out .. ".err")
  for _, path in ipairs { out, out .. ".err", out .. ".pid", token } do os.remove(path) end
  lu.assertEquals(r.code, 0, said)
  local pods, placed, maps, up, gone = r.err:match
    "(%d+) pods on (%d+) nodes, (%d+) ConfigMaps: up in %S+ s with (%S+) requests a pod, removed in %S+ s with (%S+)"
  io.stderr:write("# " .. r.err:match "%d+ pods on [^\n]*" .. "\n")
  lu.assertEquals({ tonumber(pods), tonumber(placed) }, { NODES, NODES }, said)
  lu.assertEquals(maps, "2") -- the run's own, and one with the agent
  lu.assertTrue(tonumber(up) + tonumber(gone) < 6, said)
  lu.assertEquals(left, "")
end

world.kubectl("create namespace " .. NAMESPACE)
local code = lu.LuaUnit.run()
world.kubectl(("delete namespace %s --wait=false"):format(NAMESPACE))
os.remove(script)
os.exit(code)
