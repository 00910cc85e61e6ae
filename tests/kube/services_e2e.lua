-- Services on a real cluster: LoadBalancers, whose address the test sets as a controller would, external IPs, and names
-- outside. Clouds and MetalLB are not needed.
package.path = "tests/kube/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.core"
local world = require "world"

local NAMESPACE = os.getenv "E2E_NAMESPACE" or "default"
local ON = { "--on", "k8s", "--namespace", NAMESPACE }
if os.getenv "E2E_INJECT" then ON[#ON + 1] = "--inject" end

TestServices = {}

local function words(script)
  local all = { table.unpack(ON) }
  all[#all + 1] = script
  return all
end

-- The name of a Service of type LoadBalancer that a run made.
local function balancer()
  local text = world.kubectl(("-n %s get services -l knbl.io/run -o jsonpath='%s'"):format(NAMESPACE,
    '{range .items[?(@.spec.type=="LoadBalancer")]}{.metadata.name}{end}'))
  return text:match "^knbl%-%x+%-%S+$"
end

function TestServices.test_a_load_balancer_is_measured_at_the_address_it_gets()
  local run = world.start(words(world.script [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local client, server = cluster:pair { same_node = true }
local service = server:service { name = "balanced", type = "LoadBalancer", external_ips = { "192.0.2.11" } }
knbl.tcp_rr { case = "status", from = client, to = service, count = 200 }
knbl.tcp_rr { case = "external IP", from = client, to = service:external_ip(), count = 200, timeout = "1s" }
knbl.tcp_rr { case = "node port", from = client, to = service:on(1), count = 200 }
]]))
  local deadline, name = core.now() + 60, nil
  repeat
    name = balancer()
    core.sleep(0.2)
  until name or core.now() > deadline
  lu.assertNotNil(name, "no LoadBalancer was made")
  local said = world.kubectl(("-n %s patch service %s --subresource=status --type=merge -p '%s'"):format(NAMESPACE,
    name, '{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.10"}]}}}'))
  lu.assertStrContains(said, "patched")
  run:wait(120)
  lu.assertNotNil(run.ledger, run.said)
  local by_case = {}
  for _, m in ipairs(run.ledger.measurements) do by_case[m.case] = m end
  for case, expected in pairs { status = { "load_balancer", "192.0.2.10" },
    ["external IP"] = { "external_ip", "192.0.2.11" }, ["node port"] = { "node_port" } } do
    local m = by_case[case]
    -- before 1.22 or so, kube-proxy does not take external IPs from pods behind a bridge
    local may_fail = case == "external IP"
    lu.assertTrue(m.ok or may_fail, case .. ": " .. (m.error and m.error.message or m.skipped or "?"))
    lu.assertEquals(m.via, expected[1])
    if m.ok then lu.assertEquals({ m.metrics.errors, m.metrics.ops }, { 0, 200 }, case) end
    if expected[2] then lu.assertEquals(m.path.to.address, expected[2]) end
  end
  lu.assertEquals(world.left(NAMESPACE), "")
end

function TestServices.test_a_load_balancer_that_never_gets_one_says_who_should_have_given_it()
  local run = world.run(words(world.script [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local client, server = cluster:pair { same_node = true }
knbl.tcp_rr { from = client, to = server:service { type = "LoadBalancer", wait = "1s" }, count = 10 }
]]), { seconds = 120 })
  lu.assertEquals(run.code, 98, run.said) -- nothing was measured
  lu.assertStrMatches(run.ledger.measurements[1].skipped,
    "the LoadBalancer has no address after 1 s: .* should have given it one.*")
end

function TestServices.test_a_name_outside()
  local run = world.run(words(world.script [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local service = cluster:service { name = "outside", type = "ExternalName", external_name = "no-such-name.invalid" }
local made = cluster.kube:list("Service", { selector = "knbl.io/run" }).items
for _, one in ipairs(made) do
  if one.spec.externalName then print(one.spec.type, one.spec.externalName) end
end
knbl.http { from = cluster:pod {}, to = service, count = 1, timeout = "1s" }
]]), { seconds = 120 })
  lu.assertStrContains(run.out, "ExternalName\tno-such-name.invalid", nil, run.said)
  local m = run.ledger.measurements[1]
  lu.assertEquals({ m.via, m.ok }, { "external_name", false })
  lu.assertStrContains(m.error.message, ".svc.cluster.local", nil, m.error.message)
  lu.assertEquals(world.left(NAMESPACE), "")
end

-- The script itself writes what Multus would: each pod's own address as that of net1.
function TestServices.test_a_secondary_network_by_its_annotation()
  local run = world.run(words(world.script [[
local knbl = require "knbl"
local json = require "knbl.json"
local cluster <close> = knbl.cluster()
local client, server = cluster:pod { node = 1, networks = { "team/fast@net1" } }, cluster:pod { node = 2 }
print(select(2, pcall(client.on, client, "net1")))
for _, pod in ipairs(cluster.kube:list("Pod", { selector = "knbl.io/run" }).items) do
  local status = { { name = "cbr0", interface = "eth0", ips = {}, default = true },
    { name = "team/fast", interface = "net1", ips = { pod.status.podIP } } }
  print(pod.metadata.annotations and pod.metadata.annotations["k8s.v1.cni.cncf.io/networks"])
  cluster.kube:patch("Pod", pod.metadata.name, { metadata = { annotations = {
    ["k8s.v1.cni.cncf.io/network-status"] = json.encode(status) } } })
end
for _, test in ipairs { "tcp_rr", "udp_rr", "tcp_crr", "http" } do
  knbl[test] { from = client:on "net1", to = server:on "fast", count = 50 }
end
]]), { seconds = 120 })
  lu.assertEquals(run.code, 0, run.said)
  lu.assertStrContains(run.out, "secondary networks require Multus, which does not seem to run on node ")
  lu.assertStrContains(run.out, "team/fast@net1\n")
  for _, m in ipairs(run.ledger.measurements) do
    lu.assertTrue(m.ok, m.test)
    lu.assertEquals({ m.via, m.from, m.to, m.metrics.ops }, { "network", "pod-1@net1", "pod-2@fast", 50 })
  end
  lu.assertEquals(world.left(NAMESPACE), "")
end

os.exit(lu.LuaUnit.run())
