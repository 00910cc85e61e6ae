-- What happens on a real cluster when things go wrong: each run ends in time, with the right words and exit code, and leaves nothing.
package.path = "tests/kube/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.core"
local world = require "world"

TestFaults = {}

local long = world.script [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local client, server = cluster:pair()
knbl.tcp_rr { case = "first", from = client, to = server, duration = "300ms" }
knbl.tcp_rr { case = "long", from = client, to = server, duration = "6s" }
]]
local short = world.script [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local client, server = cluster:pair()
knbl.tcp_rr { from = client, to = server }
]]

local function ends(run, code, words, seconds)
  lu.assertEquals(run.code, code, run.said)
  for _, text in ipairs(type(words) == "table" and words or { words }) do lu.assertStrContains(run.err, text) end
  lu.assertTrue(run.seconds < seconds, run.said)
end

-- An API server that was away has heard nothing of its nodes, and takes them for lost a little later.
local function settle()
  core.sleep(8)
  world.kubectl "wait --for=condition=Ready node --all --timeout=60s"
  local deadline = core.now() + 30
  while world.kubectl "get nodes -o jsonpath='{.items[*].spec.taints}'" ~= "" and core.now() < deadline do core.sleep(0.3) end
end

function TestFaults.tearDown()
  world.kubectl "uncordon node-a node-b"
  world.run({ "clean" }, { ledger = false })
end

-- ---- what the cluster cannot give ----

function TestFaults.test_cordoned_node_is_named()
  world.kubectl "cordon node-b"
  local run = world.scenario(short)
  ends(run, 98, {}, 20) -- all was skipped
  lu.assertEquals(run.ledger.measurements[1].skipped, "the cluster has 1 node to use, this needs 2 (left out: node-b (cordoned))")
end

function TestFaults.test_tainted_node()
  world.kubectl "taint node node-b knbl-test=x:NoSchedule"
  local run, tolerant = world.scenario(short), world.scenario(short, { "--tolerations", "knbl-test=x:NoSchedule" })
  world.kubectl "taint node node-b knbl-test-"
  lu.assertStrContains(run.ledger.measurements[1].skipped, "node-b (tainted knbl-test=x:NoSchedule)")
  lu.assertTrue(tolerant.ledger.measurements[1].ok, tolerant.said)
end

-- Where pods go is what was asked for, in the order that it was asked in.
function TestFaults.test_named_and_selected_nodes()
  local run = world.scenario(short, { "--nodes", "node-b,node-a" })
  local path = run.ledger.measurements[1].path
  lu.assertEquals({ path.from.node, path.to.node }, { "node-b", "node-a" })
  run = world.scenario(short, { "--node-selector", "kubernetes.io/hostname=node-a" })
  lu.assertStrContains(run.ledger.measurements[1].skipped, "left out: node-b (not selected)")
  ends(world.scenario(short, { "--nodes", "node-a,nod-b" }), 2, "--nodes: there is no node 'nod-b'; there are: node-a, node-b", 5)
end

function TestFaults.test_pull_secret()
  local p = world.start { "--on", "k8s", long, "--image-pull-secret", "registry" }
  lu.assertTrue(p:says("first", 30))
  lu.assertEquals(world.kubectl "get pods -l knbl.io/run -o jsonpath='{.items[*].spec.imagePullSecrets[*].name}'", "registry registry")
  lu.assertEquals(p:wait(30).code, 0, p.said)
end

-- IPv6 where the cluster has none: skipped, with the reason.
function TestFaults.test_no_ipv6()
  local run = world.scenario(short, { "--set", "ip=6" })
  lu.skipIf(run.ledger.measurements[1].ok, "this cluster has IPv6")
  lu.assertEquals(run.code, 98, run.said)
  lu.assertEquals(run.ledger.measurements[1].skipped, "server has no IPv6 address")
end

function TestFaults.test_no_node_at_all()
  world.kubectl "cordon node-a node-b"
  ends(world.scenario(short), 3, "no node can be used: node-a (cordoned), node-b (cordoned)", 5)
end

function TestFaults.test_image_that_is_not_there()
  ends(world.scenario(short, { "--image", "localhost:1/none:1" }), 3, { "image localhost:1/none:1 cannot be had there (failed to pull", "kind load image-archive" }, 20)
end

function TestFaults.test_unschedulable()
  ends(world.scenario(short, { "--cpu", "1000" }), 3, { "no node takes it", "Insufficient cpu" }, 15)
end

function TestFaults.test_quota_of_zero()
  world.kubectl "create namespace knbl-quota"
  world.kubectl "-n knbl-quota create quota none --hard=pods=0"
  local run = world.scenario(short, { "--namespace", "knbl-quota" })
  world.kubectl "delete namespace knbl-quota --wait=false"
  ends(run, 3, "the namespace's quota leaves no room for it", 10)
  -- the same namespace, while it goes
  local again = world.scenario(short, { "--namespace", "knbl-quota" })
  if again.code ~= 0 then ends(again, 3, "knbl-quota is terminating", 5) end
end

function TestFaults.test_namespace_made_and_removed()
  for _ = 1, 2 do -- the second while what the first one made is going
    local run = world.scenario(short, { "--namespace", "knbl-fresh" })
    lu.assertEquals(run.code, 0, run.said)
  end
  local deadline = core.now() + 40
  while world.kubectl "get namespace knbl-fresh -o name" == "namespace/knbl-fresh\n" and core.now() < deadline do core.sleep(0.3) end
  lu.assertStrContains(world.kubectl "get namespace knbl-fresh", "NotFound")
end

function TestFaults.test_guaranteed_where_cpu_is_asked_for()
  local p = world.start { "--on", "k8s", long, "--cpu", "200m" }
  lu.assertTrue(p:says("first", 30))
  lu.assertEquals(world.kubectl "get pods -l knbl.io/run -o jsonpath='{.items[*].status.qosClass}'", "Guaranteed Guaranteed")
  lu.assertEquals(p:wait(30).code, 0, p.said)
end

-- ---- what goes away in the middle ----

function TestFaults.test_agent_pod_deleted()
  local p = world.start { "--on", "k8s", long }
  lu.assertTrue(p:says("first", 30))
  world.kubectl "delete pod -l knbl.io/pod=client --grace-period=0 --force"
  ends(p:wait(60), 3, "long", 60)
  lu.assertEquals(world.left(), "")
end

function TestFaults.test_server_pod_deleted()
  local p = world.start { "--on", "k8s", long }
  lu.assertTrue(p:says("first", 30))
  world.kubectl "delete pod -l knbl.io/pod=server --grace-period=0 --force"
  p:wait(60)
  lu.assertTrue(p.code == 1 or p.code == 3, p.said)
  lu.assertEquals(world.left(), "")
end

function TestFaults.test_api_server_away_for_10_s()
  local pid = world.process "kube-apiserver"
  lu.skipIf(not pid, "no API server of this machine")
  local p = world.start { "--on", "k8s", long }
  lu.assertTrue(p:says("first", 30))
  world.sh("kill -STOP " .. pid)
  core.sleep(10)
  world.sh("kill -CONT " .. pid)
  ends(p:wait(60), 0, {}, 60)
  lu.assertTrue(p.ledger.measurements[2].ok)
  lu.assertEquals(world.left(), "")
end

-- Killed in the middle of what is made, and started again.
function TestFaults.test_api_server_started_anew()
  lu.skipIf(not world.process "kube-apiserver", "no API server of this machine")
  local p = world.start { "--on", "k8s", short, "--duration", "300ms" }
  core.sleep(0.5)
  local start = world.kill "kube-apiserver"
  core.sleep(3)
  start()
  ends(p:wait(120), 0, {}, 120)
  lu.assertNil(p.ledger.measurements[1].skipped)
  lu.assertTrue(p.ledger.measurements[1].ok)
  lu.assertEquals(world.left(), "")
  settle()
end

-- For good, as far as the run can tell: it says so, and how to finish.
function TestFaults.test_api_server_away_for_good()
  local pid = world.process "kube-apiserver"
  lu.skipIf(not pid, "no API server of this machine")
  local p = world.start { "--on", "k8s", long }
  lu.assertTrue(p:says("first", 30))
  world.sh("kill -STOP " .. pid)
  p:wait(120)
  world.sh("kill -CONT " .. pid)
  ends(p, 3, { "could be removed", "knbl clean --namespace default" }, 110)
  settle()
  lu.assertEquals(world.run({ "clean" }, { ledger = false }).code, 0)
  lu.assertEquals(world.left(), "")
end

function TestFaults.test_kubelet_stopped()
  local pid = world.process "node-b-kubelet"
  lu.skipIf(not pid, "no kubelet of this machine")
  world.sh("kill -STOP " .. pid)
  local run = world.scenario(short)
  world.sh("kill -CONT " .. pid)
  ends(run, 3, "node-b was given the pod and does not take it up; is its kubelet running?", 40)
  lu.assertEquals(world.left(), "")
end

-- ---- side by side ----

function TestFaults.test_two_runs_at_once()
  local a = world.start { "--on", "k8s", "scenarios/ping.lua", "--pings", "3" }
  local b = world.start { "--on", "k8s", "scenarios/ping.lua", "--pings", "3" }
  for _, p in ipairs { a, b } do
    lu.assertEquals(p:wait(60).code, 0, p.said)
    for _, m in ipairs(p.ledger.measurements) do lu.assertTrue(m.ok, m.case) end
  end
  lu.assertEquals(world.left(), "")
end

-- ---- the end that comes too early ----

-- Ended at many moments of a run, five runs side by side: one that could clean up has; what a killed one left, `knbl clean` takes away.
function TestFaults.test_ended_at_any_moment()
  local runs, side = tonumber(os.getenv "E2E_KILLS" or "") or 50, 5
  for k = 1, side do world.kubectl("create namespace knbl-end-" .. k) end
  for first = 1, runs, side do
    local group = {}
    for k = 1, math.min(side, runs - first + 1) do
      local i = first + k - 1
      group[k] = { namespace = "knbl-end-" .. k, signal = ({ "INT", "TERM", "KILL" })[i % 3 + 1], name = i,
        at = core.now() + 0.1 + 6 * ((i * 0.618) % 1), -- spread evenly, the same every time
        p = world.start { "--on", "k8s", "--namespace", "knbl-end-" .. k, long } }
    end
    local order = { table.unpack(group) }
    table.sort(order, function(x, y) return x.at < y.at end)
    for _, run in ipairs(order) do
      core.sleep(math.max(run.at - core.now(), 0))
      run.p:kill(run.signal)
    end
    for _, run in ipairs(group) do
      run.p:wait(60)
      if run.signal == "KILL" then
        lu.assertEquals(run.p.code, 137, run.p.said)
        lu.assertEquals(world.run({ "clean", "--namespace", run.namespace }, { ledger = false }).code, 0)
      else
        lu.assertEquals(run.p.code, 130, run.p.said)
      end
      lu.assertEquals(world.left(run.namespace), "", run.signal .. " " .. run.name)
    end
  end
  for k = 1, side do world.kubectl(("delete namespace knbl-end-%d --wait=false"):format(k)) end
end

function TestFaults.test_clean_leaves_the_young_alone()
  local p = world.start { "--on", "k8s", long }
  lu.assertTrue(p:says("first", 30))
  lu.assertStrContains(world.run({ "clean", "--older-than", "1h" }, { ledger = false }).err, "0 things")
  lu.assertEquals(p:wait(40).code, 0, p.said)
end

-- What a script made outside of namespaces goes too, and only that.
function TestFaults.test_clean_takes_what_is_in_no_namespace()
  local script = world.script [[
    local cluster <close> = require "knbl".cluster()
    assert(cluster:create { apiVersion = "rbac.authorization.k8s.io/v1", kind = "ClusterRole", metadata = { name = "knbl-test-killed" } })
    io.stderr:write "made"
    require "knbl.core".sleep(60)
  ]]
  local p = world.start { "--on", "k8s", script }
  lu.assertTrue(p:says("made", 60))
  p:kill "KILL"
  p:wait()
  os.remove(script)
  world.kubectl "create clusterrole knbl-test-other --verb=get --resource=pods"
  world.kubectl "create configmap knbl-test --from-literal=api=rbac.authorization.k8s.io/v1 --from-literal=kind=ClusterRole --from-literal=outside=knbl-test-other"
  world.kubectl "label configmap knbl-test app.kubernetes.io/managed-by=knbl knbl.io/run=00000000"
  lu.assertStrContains(world.kubectl "get clusterrole knbl-test-killed -o name", "knbl-test-killed\n")
  lu.assertStrContains(world.run({ "clean" }, { ledger = false }).out, "ClusterRole /knbl-test-killed")
  local killed, other = world.kubectl "get clusterrole knbl-test-killed", world.kubectl "get clusterrole knbl-test-other -o name"
  world.kubectl "delete clusterrole knbl-test-other"
  lu.assertStrContains(killed, "NotFound")
  lu.assertStrContains(other, "knbl-test-other\n")
  lu.assertEquals(world.left(), "")
end

-- A namespace that another run made is not this one's to remove.
function TestFaults.test_clean_leaves_other_namespaces_alone()
  world.kubectl "create namespace knbl-other"
  world.kubectl "label namespace knbl-other app.kubernetes.io/managed-by=knbl knbl.io/run=00000000"
  local here = world.run({ "clean" }, { ledger = false })
  local kept = world.kubectl "get namespace knbl-other -o jsonpath={.status.phase}"
  local there = world.run({ "clean", "--namespace", "knbl-other" }, { ledger = false })
  world.kubectl "delete namespace knbl-other --wait=false"
  lu.assertNotStrContains(here.out, "knbl-other")
  lu.assertEquals(kept, "Active")
  lu.assertStrContains(there.out, "Namespace /knbl-other")
end

local code = lu.LuaUnit.run()
os.remove(long)
os.remove(short)
os.exit(code)
