-- Failures on a real cluster: each run ends in time with the right message and exit code, and leaves nothing behind.
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

-- After an outage a node counts as lost once its heartbeats have been missing for 40 seconds. So first each kubelet
-- must have written one.
local function settle()
  local since, deadline = os.date "!%Y-%m-%dT%H:%M:%S", core.now() + 120
  local function beat()
    for at in world.kubectl("get lease --namespace kube-node-lease -o jsonpath='{.items[*].spec.renewTime}'")
      :gmatch "%S+" do
      if at <= since then return false end
    end
    return true
  end
  while not beat() and core.now() < deadline do core.sleep(0.5) end
  world.kubectl "wait --for=condition=Ready node --all --timeout=60s"
  while world.kubectl "get nodes -o jsonpath='{.items[*].spec.taints}'" ~= "" and core.now() < deadline do
    core.sleep(0.3)
  end
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
  lu.assertEquals(run.ledger.measurements[1].skipped,
    "the cluster has 1 node to use, this needs 2 (left out: node-b (cordoned))")
end

function TestFaults.test_tainted_node()
  world.kubectl "taint node node-b knbl-test=x:NoSchedule"
  local run, tolerant = world.scenario(short), world.scenario(short, { "--tolerations", "knbl-test=x:NoSchedule" })
  world.kubectl "taint node node-b knbl-test-"
  lu.assertStrContains(run.ledger.measurements[1].skipped, "node-b (tainted knbl-test=x:NoSchedule)")
  lu.assertTrue(tolerant.ledger.measurements[1].ok, tolerant.said)
end

-- Pods are placed on the requested nodes, in the requested order.
function TestFaults.test_named_and_selected_nodes()
  local run = world.scenario(short, { "--nodes", "node-b,node-a" })
  local path = run.ledger.measurements[1].path
  lu.assertEquals({ path.from.node, path.to.node }, { "node-b", "node-a" })
  run = world.scenario(short, { "--node-selector", "kubernetes.io/hostname=node-a" })
  lu.assertStrContains(run.ledger.measurements[1].skipped, "left out: node-b (not selected)")
  ends(world.scenario(short, { "--nodes", "node-a,nod-b" }), 2,
    "--nodes: there is no node 'nod-b'; there are: node-a, node-b", 5)
end

function TestFaults.test_pull_secret()
  local p = world.start { "--on", "k8s", long, "--image-pull-secret", "registry" }
  lu.assertTrue(p:says("first", 30))
  lu.assertEquals(world.kubectl "get pods -l knbl.io/run -o jsonpath='{.items[*].spec.imagePullSecrets[*].name}'",
    "registry registry")
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
  ends(world.scenario(short, { "--image", "localhost:1/none:1" }), 3,
    { "image localhost:1/none:1 cannot be pulled on the node (failed to pull", "kind load image-archive" }, 20)
end

function TestFaults.test_unschedulable()
  ends(world.scenario(short, { "--cpu", "1000" }), 3, { "no node accepts the pod", "Insufficient cpu" }, 15)
end

function TestFaults.test_quota_of_zero()
  world.kubectl "create namespace knbl-quota"
  world.kubectl "-n knbl-quota create quota none --hard=pods=0"
  local deadline = core.now() + 20
  repeat core.sleep(0.5) -- the API server hears of it a little later than it says so
  until world.kubectl "-n knbl-quota get quota none -o jsonpath={.status.hard.pods}" == "0" or core.now() > deadline
  core.sleep(0.5)
  local run = world.scenario(short, { "--namespace", "knbl-quota" })
  world.kubectl "delete namespace knbl-quota --wait=false"
  ends(run, 3, "the namespace's quota is exceeded", 10)
  -- the same namespace, while it is being deleted
  local again = world.scenario(short, { "--namespace", "knbl-quota" })
  if again.code ~= 0 then ends(again, 3, "knbl-quota is terminating", 5) end
end

function TestFaults.test_namespace_made_and_removed()
  for _ = 1, 2 do -- the second while what the first one made is going
    local run = world.scenario(short, { "--namespace", "knbl-fresh" })
    lu.assertEquals(run.code, 0, run.said)
  end
  local deadline = core.now() + 40
  while world.kubectl "get namespace knbl-fresh -o name" == "namespace/knbl-fresh\n" and core.now() < deadline do
    core.sleep(0.3)
  end
  lu.assertStrContains(world.kubectl "get namespace knbl-fresh", "NotFound")
end

function TestFaults.test_guaranteed_where_cpu_is_asked_for()
  local p = world.start { "--on", "k8s", long, "--cpu", "200m" }
  lu.assertTrue(p:says("first", 30))
  lu.assertEquals(world.kubectl "get pods -l knbl.io/run -o jsonpath='{.items[*].status.qosClass}'",
    "Guaranteed Guaranteed")
  lu.assertEquals(p:wait(30).code, 0, p.said)
end

-- ---- failures during a run ----

function TestFaults.test_agent_pod_deleted()
  local p = world.start { "--on", "k8s", long }
  lu.assertTrue(p:says("first", 30))
  world.kubectl "delete pod -l knbl.io/pod=client --grace-period=0 --force"
  ends(p:wait(60), 3, "long", 60)
  lu.assertEquals(world.left(), "")
end

-- Eviction, as by `kubectl drain`, is reported by the next request to the agent, and nothing is left.
function TestFaults.test_agent_pod_evicted()
  local p = world.start { "--on", "k8s", long }
  lu.assertTrue(p:says("first", 30))
  local name = world.kubectl "get pods -l knbl.io/pod=client -o jsonpath='{.items[0].metadata.name}'"
  local said
  for _, version in ipairs { "v1", "v1beta1" } do -- the first is 1.22's, the second is gone since 1.25
    local eviction = '{"apiVersion":"policy/%s","kind":"Eviction","metadata":{"name":"%s"}}'
    local body = world.script(eviction:format(version, name))
    said = world.kubectl(("create --raw /api/v1/namespaces/default/pods/%s/eviction -f %s"):format(name, body))
    os.remove(body)
    if said:find '"status":"Success"' then break end
  end
  lu.assertStrContains(said, '"status":"Success"')
  ends(p:wait(60), 3, { "long", "deleted" }, 60)
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

-- The API server is killed while objects are created, and started again.
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

-- The API server is killed during a measurement and started again; the measurement is not lost.
function TestFaults.test_api_server_started_anew_in_a_measurement()
  lu.skipIf(not world.process "kube-apiserver", "no API server of this machine")
  local p = world.start { "--on", "k8s", long }
  lu.assertTrue(p:says("first", 60))
  local start = world.kill "kube-apiserver"
  core.sleep(3)
  start()
  ends(p:wait(120), 0, {}, 120)
  lu.assertTrue(p.ledger.measurements[2].ok)
  lu.assertEquals(world.left(), "")
  settle()
end

-- An interrupt while waiting for a pod ends the run at once, and nothing is left.
function TestFaults.test_interrupted_while_a_pod_is_awaited()
  local p = world.start { "--on", "k8s", "--image", "localhost:1/none:1", short }
  local deadline = core.now() + 20
  repeat until world.left():find "pod/" or core.now() > deadline or not core.sleep(0.1)
  p:kill "INT"
  local from = core.now()
  p:wait(40)
  lu.assertEquals(p.code, 130, p.said)
  lu.assertTrue(core.now() - from < 20, p.said)
  lu.assertStrContains(p.err, "removing what the run made")
  lu.assertEquals(world.left(), "")
end

-- The API server does not come back: the run says so, and how to clean up.
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
  ends(run, 3, "the pod was assigned to node-b, which does not start it; is its kubelet running?", 40)
  lu.assertEquals(world.left(), "")
end

-- Every write to the cluster takes half a second and more: slower, but nothing fails.
function TestFaults.test_etcd_slow()
  local pid = world.process "etcd"
  lu.skipIf(not pid, "no etcd of this machine")
  local loop = world.script(("while kill -STOP %d; do sleep 0.5; kill -CONT %d; sleep 0.05; done"):format(pid, pid))
  local slow = world.sh(("setsid sh %s >/dev/null 2>&1 & echo $!"):format(loop)):match "%d+"
  local run = world.start({ "--on", "k8s", long }):wait(110)
  world.sh(("kill %s; kill -CONT %d"):format(slow, pid))
  os.remove(loop)
  ends(run, 0, {}, 100)
  lu.assertTrue(run.ledger.measurements[2].ok)
  lu.assertEquals(world.left(), "")
end

-- What runs goes on without its container runtime and its kubelet; both are killed during a measurement.
function TestFaults.test_containerd_and_kubelet_killed_in_a_measurement()
  lu.skipIf(not world.process "node-b-containerd", "no containerd of this machine")
  local p = world.start { "--on", "k8s", long }
  lu.assertTrue(p:says("first", 60))
  local kubelet, containerd = world.kill "node-b-kubelet", world.kill "node-b-containerd"
  core.sleep(2)
  containerd()
  kubelet()
  ends(p:wait(100), 0, {}, 100)
  lu.assertTrue(p.ledger.measurements[2].ok)
  lu.assertEquals(world.left(), "")
  settle()
end

-- A node is cut off during a measurement. Its pods are removed when it is back.
function TestFaults.test_network_of_a_node_away()
  local port = world.sh "ip -n kn-control -o link show to-node-b"
  lu.skipIf(not port:find "to%-node%-b", "no network of a node on this machine")
  local p = world.start { "--on", "k8s", long }
  lu.assertTrue(p:says("first", 60))
  world.sh "ip -n kn-control link set to-node-b down"
  p:wait(110)
  world.sh "ip -n kn-control link set to-node-b up"
  -- whichever ends first: the flow between the nodes, or the agent's answers
  lu.assertTrue(p.code == 1 or p.code == 3, p.said)
  ends(p, p.code, "long", 100)
  settle()
  lu.assertEquals(world.run({ "clean" }, { ledger = false }).code, 0)
  lu.assertEquals(world.left(), "")
end

-- The disk of a node's kubelet is a small one, and is filled during a measurement: the kubelet evicts the agent's pod.
function TestFaults.test_disk_of_a_node_full()
  local folder = world.argument("node-b-kubelet", "root-dir")
  lu.skipIf(not folder, "no kubelet of this machine")
  local start = world.kill "node-b-kubelet"
  world.sh("mount -t tmpfs -o size=64m knbl-small-disk " .. folder)
  start()
  settle()
  local endless = world.script(world.read(long):gsub('"6s"', '"100s"'))
  local p = world.start { "--on", "k8s", endless }
  local began = p:says("first", 60)
  world.sh(("dd if=/dev/zero of=%s/full bs=1M"):format(folder))
  p:wait(110)
  local events = world.kubectl "get events --field-selector reason=Evicted -o jsonpath='{.items[*].message}'"
  os.remove(endless)
  start = world.kill "node-b-kubelet"
  world.sh("umount -l " .. folder)
  start()
  settle()
  lu.assertTrue(began, p.said)
  lu.assertStrContains(events, "low on resource")
  ends(p, 3, { "long", "an agent was lost" }, 100)
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

-- ---- killed and interrupted runs ----

-- Ends runs at many moments, five in parallel. An interrupted run cleans up; `knbl clean` removes what a killed run
-- left.
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
  lu.assertStrContains(world.run({ "clean", "--older-than", "1h" }, { ledger = false }).err, "0 objects")
  lu.assertEquals(p:wait(40).code, 0, p.said)
end

-- Cluster-scoped objects of a script are removed too, and no others.
function TestFaults.test_clean_takes_what_is_in_no_namespace()
  local script = world.script [[
    local cluster <close> = require "knbl".cluster()
    assert(cluster:create { apiVersion = "rbac.authorization.k8s.io/v1", kind = "ClusterRole",
      metadata = { name = "knbl-test-killed" } })
    io.stderr:write "made"
    require "knbl.core".sleep(60)
  ]]
  local p = world.start { "--on", "k8s", script }
  lu.assertTrue(p:says("made", 60))
  p:kill "KILL"
  p:wait()
  os.remove(script)
  world.kubectl "create clusterrole knbl-test-other --verb=get --resource=pods"
  world.kubectl "create configmap knbl-test --from-literal=api=rbac.authorization.k8s.io/v1 \z
    --from-literal=kind=ClusterRole --from-literal=outside=knbl-test-other"
  world.kubectl "label configmap knbl-test app.kubernetes.io/managed-by=knbl knbl.io/run=00000000"
  lu.assertStrContains(world.kubectl "get clusterrole knbl-test-killed -o name", "knbl-test-killed\n")
  lu.assertStrContains(world.run({ "clean" }, { ledger = false }).out, "ClusterRole /knbl-test-killed")
  local killed, other = world.kubectl "get clusterrole knbl-test-killed",
    world.kubectl "get clusterrole knbl-test-other -o name"
  world.kubectl "delete clusterrole knbl-test-other"
  lu.assertStrContains(killed, "NotFound")
  lu.assertStrContains(other, "knbl-test-other\n")
  lu.assertEquals(world.left(), "")
end

-- A run does not remove a namespace that another run created.
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
