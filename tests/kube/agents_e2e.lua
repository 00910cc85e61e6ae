-- Runs that create no pods: printed manifests that kubectl accepts, and runs with existing agents.
package.path = "tests/kube/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.core"
local world = require "world"

TestAgents = {}

local POD_TO_SVC = { "--requests", "300", "--pings", "2" }

local function manifests(words)
  local run = world.run(words, { ledger = false })
  lu.assertEquals(run.code, 0, run.said)
  return world.script(run.out), run.out:match "knbl%.io/run=(%x+)"
end

-- Objects that are left, except those of the test itself.
local function made_by_runs()
  return world.kubectl "get configmaps,services,pods -l knbl.io/run -o name"
end

local function figures(run, least)
  lu.assertEquals(run.code, 0, run.said)
  local measured = 0
  for _, m in ipairs(run.ledger.measurements) do
    if not m.skipped then
      lu.assertTrue(m.ok, m.case .. ": " .. (m.error and m.error.message or "?"))
      for _, flag in ipairs(m.flags) do lu.assertNotEquals(flag, "wrong_backend", m.case) end
      measured = measured + 1
    end
  end
  lu.assertTrue(measured >= least, ("%d of %d measured"):format(measured, #run.ledger.measurements))
end

-- kubectl accepts the manifests, with client-side and server-side checks. After they are applied, the scenario uses
-- them and creates nothing else.
function TestAgents.test_manifests_are_what_a_run_makes()
  local path, id = manifests { "--on", "k8s", "--dry-run", "--manifests", "scenarios/pod_to_svc.lua" }
  for _, kind in ipairs { "client", "server" } do
    local text = world.kubectl(("apply --dry-run=%s -f %s"):format(kind, path))
    local _, n = text:gsub(" created %(" .. (kind == "server" and "server " or "") .. "dry run%)", "")
    lu.assertEquals(n, 10, text)
    lu.assertNotStrContains(text, "rror")
  end
  world.kubectl("apply -f " .. path)
  world.kubectl(("wait --for=condition=Ready pod -l knbl.io/run=%s --timeout=60s"):format(id))
  local before = made_by_runs()
  local run = world.scenario("scenarios/pod_to_svc.lua", { "--agents", "knbl.io/run=" .. id, table.unpack(POD_TO_SVC) })
  local after = made_by_runs()
  world.kubectl(("delete -f %s --wait=false"):format(path))
  os.remove(path)
  figures(run, 48)
  lu.assertEquals(after, before)
  world.run({ "clean" }, { ledger = false })
end

-- The server accepts the objects of every scenario.
function TestAgents.test_manifests_of_all_scenarios()
  for _, name in ipairs { "ci_gate", "combos", "http", "mesh", "netperf_baseline", "node_to_node", "orchestrated",
    "ping" } do
    local path = manifests { "--on", "k8s", "--dry-run", "--manifests", name }
    local text = world.kubectl("apply --dry-run=server -f " .. path)
    os.remove(path)
    lu.assertNotStrContains(text, "rror")
    lu.assertStrContains(text, "created (server dry run)")
  end
end

-- Uses deploy/agents and deploy/agents-host unchanged.
function TestAgents.test_standing_agents()
  world.kubectl "wait --for=delete pod -l app.kubernetes.io/name=knbl-agent --timeout=60s" -- of a run of this before
  world.kubectl "create secret generic knbl-agents --from-literal=token=0123456789abcdef0123456789abcdef"
  world.kubectl "apply -f deploy/agents/agents.yaml -f deploy/agents-host/agents-host.yaml"
  local deadline = core.now() + 60
  repeat
    local ready =
      world.kubectl "get pods -l app.kubernetes.io/name=knbl-agent -o \z
        jsonpath='{.items[*].status.containerStatuses[*].ready}'"
    core.sleep(0.3)
  until ready == "true true true true" or core.now() > deadline
  local all = world.scenario("scenarios/pod_to_svc.lua",
    { "--agents", "app.kubernetes.io/name=knbl-agent", table.unpack(POD_TO_SVC) })
  local mesh = world.scenario("scenarios/mesh.lua", { "--agents", "knbl.io/agents=pods" })
  local nobody = world.scenario("scenarios/ci_gate.lua", { "--agents", "knbl.io/agents=nobody" })
  local labels = world.kubectl "get pods -l app.kubernetes.io/name=knbl-agent --show-labels"
  local killed = world.start { "--on", "k8s", "scenarios/ci_gate.lua", "--agents", "knbl.io/agents=pods", "--duration",
    "20s" }
  killed:says("pod to pod", 30)
  killed:kill "KILL"
  killed:wait(20)
  world.run({ "clean" }, { ledger = false })
  local cleaned = world.kubectl "get pods -l app.kubernetes.io/name=knbl-agent --show-labels"
  world.kubectl "delete -f deploy/agents/agents.yaml -f deploy/agents-host/agents-host.yaml --wait=false"
  world.kubectl "delete secret knbl-agents"
  figures(all, 32)
  figures(mesh, 2)
  lu.assertEquals(nobody.code, 3, nobody.said)
  lu.assertStrContains(nobody.err, "no pod in the namespace default has the labels knbl.io/agents=nobody")
  for _, text in ipairs { labels, cleaned } do lu.assertNotStrContains(text, "knbl.io/service-") end
  lu.assertEquals(world.left(), "")
end

os.exit(lu.LuaUnit.run())
