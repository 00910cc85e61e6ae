-- User scripts: a script behaves the same in the lab and on a real cluster, and can use the API of the cluster.
package.path = "tests/kube/?.lua;" .. package.path
local lu = require "luaunit"
local world = require "world"

TestScripts = {}

local everything = world.script [[
local knbl = require "knbl"
local opt = knbl.options { pings = { 2, "echoes" } }
local cluster <close> = knbl.cluster()
local a, b = cluster:nodes(2)
local near, far = cluster:pair { same_node = true }
local other = cluster:pod { name = "other", node = b }
local node_port = other:service { type = "NodePort" }
local headless = cluster:service { name = "headless", endpoints = { other }, headless = true }
local both = cluster:service { name = "both", endpoints = { far, other } }
local ways = {
  { name = "near", from = near, to = far }, { name = "far", from = near, to = other },
  { name = "node to pod", from = a, to = other },
  { name = "pod to node", from = near, to = b }, { name = "node port here", from = near, to = node_port:on(a) },
  { name = "node port there", from = a, to = node_port:on(b) }, { name = "headless", from = near, to = headless },
  { name = "two behind one", from = near, to = both },
  { name = "hairpin", from = other, to = other:service { name = "own" } },
  { name = "node behind", from = near, to = b:service() },
}
for combo in knbl.matrix { { "way", table.unpack(ways) }, { "test", "tcp_rr", "udp_rr" }, repeats = 1 } do
  knbl[combo.test] { from = combo.way.from, to = combo.way.to }
end
knbl.ping { case = "echo", from = near, to = other, count = opt.pings, every = "10ms" }
knbl.together { { test = "tcp_stream", case = "at once 1", from = near, to = other },
  { test = "tcp_stream", case = "at once 2", from = other, to = far } }
knbl.report { rows = "way", columns = "test", show = "rate" }
]]

-- The paths of all measurements, without addresses, names of nodes and figures.
local function shape(run)
  lu.assertEquals(run.code, 0, run.said)
  local lines = {}
  for i, m in ipairs(run.ledger.measurements) do
    lu.assertTrue(m.ok, m.case .. ": " .. (m.error and m.error.message or m.skipped or "?"))
    for _, flag in ipairs(m.flags) do lu.assertNotEquals(flag, "wrong_backend", m.case) end
    local function place(end_of)
      return end_of.kind .. (m.path.from.node == end_of.node and " here" or end_of.node and " there" or "")
    end
    lines[i] = table.concat({ m.test, m.case:gsub("node%-[%w]+", "NODE"), m.via, place(m.path.from), place(m.path.to),
      m.to:gsub("node%-%w+", "NODE"),
      table.concat(m.path.to.endpoints or {}, "+"):gsub("node%-%w+", "NODE") }, " | ")
  end
  return lines
end

function TestScripts.test_the_lab_and_the_cluster_mean_the_same()
  local real = shape(world.scenario(everything, {}, { seconds = 120 }))
  local lab = shape(world.run { everything, "--duration", "100ms", "--warmup", "20ms" })
  lu.assertEquals(#real, 23)
  lu.assertEquals(real, lab)
  lu.assertEquals(world.left(), "")
end

-- The API client alone, and objects that belong to the run.
local asking = world.script [[
local knbl = require "knbl"
local kube = require "knbl.kube"
local cluster <close> = knbl.cluster()
local api = assert(kube.connect())
assert(api.namespace == cluster.kube.namespace)
for _, node in ipairs(api:list "Node".items) do
  knbl.note { text = node.metadata.name .. " has "
    .. (next(node.metadata.annotations or {}) and "annotations" or "none") }
end
local server = cluster:pod { name = "server", node = 2, labels = { role = "measured" }, bandwidth = "100Mbit/s",
  annotations = { ["example.com/why"] = "test" } }
local client = cluster:pod { name = "client", node = 1 }
local object = api:get("Pod", cluster.kube:list("Pod", { selector = "role=measured" }).items[1].metadata.name)
assert(object.metadata.annotations["example.com/why"] == "test")
assert(object.metadata.annotations["kubernetes.io/egress-bandwidth"] == "100000000")
knbl.tcp_stream { case = "limited", from = client, to = server, interval = "300ms" }

local policy = assert(cluster:create { apiVersion = "networking.k8s.io/v1", kind = "NetworkPolicy",
  metadata = { name = "knbl-test-deny" },
  spec = { podSelector = { matchLabels = { role = "measured" } }, policyTypes = { "Ingress" } } })
assert(policy.metadata.ownerReferences[1].kind == "ConfigMap")
assert(cluster:create { apiVersion = "rbac.authorization.k8s.io/v1", kind = "ClusterRole",
  metadata = { name = "knbl-test-role" } })

local deployment = { api = "apps/v1", kind = "Deployment" }
assert(cluster:create { apiVersion = "apps/v1", kind = "Deployment", metadata = { name = "knbl-test-web" },
  spec = { replicas = 0,
  selector = { matchLabels = { app = "knbl-test" } }, template = { metadata = { labels = { app = "knbl-test" } },
    spec = { containers = { { name = "c", image = "knbl:0.1.0", args = { "--version" } } } } } } })
assert(api:patch(deployment, "knbl-test-web", { spec = { replicas = 1 } }).spec.replicas == 1)
local w <close> = api:watch(deployment, { field = "metadata.name=knbl-test-web", timeout = 30 })
repeat
  local event = assert(w:next())
until (event.object.status or {}).replicas == 1
knbl.note { text = "scaled" }
local _, err = api:get({ api = "apps/v1", kind = "Deployment" }, "nobody")
assert(err.code == "not_found" and err.status == 404 and err.reason == "NotFound", err.message)
]]

function TestScripts.test_a_script_asks_the_cluster()
  local run = world.scenario(asking, { "--set", "tcp_stream.duration=2s" })
  local left = world.kubectl "get networkpolicies,clusterroles,deployments -l knbl.io/run -o name"
  lu.assertEquals(run.code, 0, run.said)
  lu.assertEquals(left, "")
  lu.assertEquals(world.left(), "")
  local steps = run.ledger.measurements[1].metrics.intervals
  local limited = steps[#steps].bps -- the plugin lets a burst through at first
  lu.assertTrue(limited < 130e6, ("the limit of 100 Mbit/s holds: %.0f Mbit/s"):format(limited / 1e6))
  lu.assertEquals(run.ledger.notes[#run.ledger.notes].text, "scaled")
end

-- The user's image: any server as the target of http and ping.
local own = world.script [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local client = cluster:pod { name = "client", node = 1 }
local web = cluster:pod { name = "web", node = 2, image = "knbl:0.1.0",
  command = { "/usr/bin/knbl", "agent", "--listen", ":8080", "--token-file", "/etc/hostname" }, port = 8080 }
knbl.http { case = "own", from = client, to = web, count = 20, flows = 2 }
knbl.http { case = "own service", from = client, to = web:service(), count = 20, flows = 2 }
knbl.ping { case = "echo", from = client, to = web, count = 2, every = "10ms" }
]]

function TestScripts.test_an_image_of_ones_own()
  local run = world.scenario(own)
  lu.assertNotNil(run.ledger, run.said)
  lu.assertEquals(#run.ledger.measurements, 3, run.said)
  local http = run.ledger.measurements[1].metrics
  lu.assertTrue((http.errors or 0) + (http.received or 0) + (http.rate_per_s or 0) > 0, run.said)
  lu.assertTrue(run.ledger.measurements[3].ok)
  lu.assertEquals(world.left(), "")
end

local code = lu.LuaUnit.run()
for _, path in ipairs { everything, asking, own } do os.remove(path) end
os.exit(code)
