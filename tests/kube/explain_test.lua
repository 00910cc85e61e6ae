-- Why a pod does not come up, and which nodes can be used: from objects as API servers of several versions give them.
local lu = require "luaunit"
local explain = require "knbl.kube.explain"
local nodes = require "knbl.kube.nodes"
local manifest = require "knbl.kube.manifest"
local pods = require "knbl.kube.pods"

TestExplain = {}

local function pod(status) return { metadata = { name = "p" }, spec = {}, status = status } end

function TestExplain.test_pod_security_of_newer_servers()
  local err = { status = 403, message = 'pods "knbl-1-host-node-a" is forbidden: violates PodSecurity "restricted:latest": host namespaces (hostNetwork=true), '
    .. 'hostPort (container "agent" uses hostPorts 20000), runAsNonRoot != true (container "agent" must not set securityContext.runAsNonRoot=false)' }
  lu.assertTrue(explain.is_pod_security(err))
  local text = explain.refusal(err, { name = "host-node-a", host_network = true })
  lu.assertStrContains(text, "pod-security.kubernetes.io/enforce=privileged")
  lu.assertStrContains(text, "hostNetwork=true")
  lu.assertNotStrContains(explain.refusal(err, { name = "pod" }), "enforce=privileged")
end

function TestExplain.test_pod_security_policy_of_older_servers()
  lu.assertTrue(explain.is_pod_security { message = 'pods "p" is forbidden: unable to validate against any pod security policy: [spec.hostNetwork: Invalid value]' })
end

function TestExplain.test_quota()
  for _, text in ipairs { "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0", "failed quota: q: must specify limits.cpu for: agent" } do
    lu.assertStrContains(explain.refusal({ status = 403, message = text }, { name = "p" }), "quota leaves no room")
  end
end

function TestExplain.test_permission()
  local text = explain.refusal({ status = 403, message = 'pods is forbidden: User "u" cannot create resource "pods"' }, { name = "p" })
  lu.assertStrContains(text, "deploy/role.yaml")
end

function TestExplain.test_runtime()
  local err = { status = 403, message = 'pods "p" is forbidden: pod rejected: RuntimeClass "gone" not found' }
  lu.assertTrue(explain.is_runtime(err))
  lu.assertFalse(explain.is_pod_security(err))
end

function TestExplain.test_scheduling_and_images()
  local why, final = explain.pod(pod { phase = "Pending", conditions = { { type = "PodScheduled", status = "False", reason = "Unschedulable",
    message = "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available" } } })
  lu.assertStrContains(why, "3 Insufficient cpu")
  lu.assertTrue(final)
  for _, reason in ipairs { "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName" } do
    why, final = explain.pod(pod { phase = "Pending", containerStatuses = { { image = "knbl:9", state = { waiting = { reason = reason } } } } })
    lu.assertStrContains(why, "image knbl:9 cannot be had")
    lu.assertTrue(final)
  end
end

function TestExplain.test_coming_up_is_no_reason()
  lu.assertNil((explain.pod(pod { phase = "Pending", containerStatuses = { { state = { waiting = { reason = "ContainerCreating" } } } } })))
  lu.assertNil((explain.pod(pod { phase = "Running", containerStatuses = { { state = { running = {} } } } })))
end

function TestExplain.test_evicted_and_ended()
  lu.assertStrContains((explain.pod(pod { phase = "Failed", reason = "Evicted", message = "low on memory" })), "Evicted: low on memory")
  lu.assertStrContains((explain.pod(pod { phase = "Running", containerStatuses = { { state = { terminated = { exitCode = 2, reason = "Error" } } } } })), "code 2")
end

function TestExplain.test_newest_warning_wins()
  local function event(reason, at, kind) return { type = kind or "Warning", reason = reason, message = reason .. "!", lastTimestamp = at, metadata = {} } end
  lu.assertEquals(explain.events { event("FailedScheduling", "2026-01-01T00:00:01Z"), event("FailedCreatePodSandBox", "2026-01-01T00:00:09Z"),
    event("Pulled", "2026-01-01T00:00:10Z", "Normal") }, "FailedCreatePodSandBox: FailedCreatePodSandBox!")
  lu.assertNil(explain.events {})
end

TestNodes = {}

local function node(name, spec, ready, labels)
  return { metadata = { name = name, labels = labels or { ["topology.kubernetes.io/zone"] = "z-" .. name } }, spec = spec or {},
    status = { conditions = { { type = "Ready", status = ready or "True" } }, addresses = { { type = "InternalIP", address = "10.0.0.1" },
      { type = "InternalIP", address = "fd00::1" } }, nodeInfo = { architecture = "amd64" }, capacity = { cpu = "4" } } }
end

function TestNodes.test_which_can_be_used()
  local items = { node "d", node("a", { unschedulable = true }), node("b", {}, "False"), node("c", { taints = { { key = "k", value = "v", effect = "NoSchedule" } } }),
    node("e", { taints = { { key = "soft", effect = "PreferNoSchedule" } } }) }
  local chosen, left_out = nodes.choose(items, {})
  lu.assertEquals({ chosen[1].name, chosen[2].name, #chosen }, { "d", "e", 2 })
  lu.assertEquals(left_out, { "a (cordoned)", "b (not ready)", "c (tainted k=v:NoSchedule)" })
  chosen = nodes.choose(items, { tolerations = { { key = "k", operator = "Exists" } } })
  lu.assertEquals(chosen[1].name, "c")
end

function TestNodes.test_named_selected_described()
  local items = { node("a", nil, nil, { disk = "ssd" }), node "b" }
  lu.assertEquals(nodes.choose(items, { selector = "disk=ssd" })[1].name, "a")
  lu.assertEquals(nodes.choose(items, { nodes = { "b", "a" } })[1].name, "b")
  local b = nodes.describe(items[2])
  lu.assertEquals({ b.zone, b.addresses.v4, b.addresses.v6, b.arch, b.cpus }, { "z-b", "10.0.0.1", "fd00::1", "amd64", "4" })
  lu.assertNil(nodes.unknown(items, { "a" }))
  lu.assertEquals(nodes.unknown(items, { "a", "x" }), "--nodes: there is no node 'x'; there are: a, b")
end

TestManifest = {}

local run = { id = "r1", namespace = "n", token = "t", owner = { name = "o" } }

-- The profile "restricted", point by point; what the host's network needs beyond it is asked for by such pods only.
function TestManifest.test_restricted()
  local p = manifest.pod(run, { name = "p", port = 7099, image = "i", node = "a" })
  local c = p.spec.containers[1].securityContext
  lu.assertTrue(p.spec.securityContext.runAsNonRoot and c.runAsNonRoot)
  lu.assertEquals({ c.allowPrivilegeEscalation, c.capabilities, p.spec.securityContext.seccompProfile.type, p.spec.hostNetwork },
    { false, { drop = { "ALL" } }, "RuntimeDefault", nil })
  lu.assertEquals(p.metadata.ownerReferences, { run.owner })
  lu.assertTrue(manifest.pod(run, { name = "h", port = 1, image = "i", host_network = true }).spec.hostNetwork)
end

function TestManifest.test_guaranteed()
  local r = manifest.pod(run, { name = "p", port = 1, image = "i", cpu = 2 }).spec.containers[1].resources
  lu.assertEquals(r.requests, r.limits)
  lu.assertEquals(r.limits.cpu, "2")
end

function TestManifest.test_addresses_of_both_families()
  lu.assertEquals(pods.addresses { status = { podIPs = { { ip = "10.1.1.1" }, { ip = "fd00::2" } } } }, { v4 = "10.1.1.1", v6 = "fd00::2" })
  lu.assertEquals(pods.addresses { status = { podIP = "10.1.1.1" } }, { v4 = "10.1.1.1" })
end

os.exit(lu.LuaUnit.run())
