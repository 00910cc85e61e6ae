-- Why a pod does not start, and which nodes are usable, from objects of API servers of several versions.
local lu = require "luaunit"
local explain = require "knbl.kube.explain"
local facts = require "knbl.kube.facts"
local nodes = require "knbl.kube.nodes"
local manifest = require "knbl.kube.manifest"
local pods = require "knbl.kube.pods"

TestExplain = {}

local function pod(status) return { metadata = { name = "p" }, spec = {}, status = status } end

function TestExplain.test_pod_security_of_newer_servers()
  local err = { status = 403,
    message = 'pods "knbl-1-host-node-a" is forbidden: violates PodSecurity "restricted:latest": host namespaces \z
      (hostNetwork=true), hostPort (container "agent" uses hostPorts 20000), runAsNonRoot != true (container "agent" \z
      must not set securityContext.runAsNonRoot=false)' }
  lu.assertTrue(explain.is_pod_security(err))
  local text = explain.refusal(err, { name = "host-node-a", host_network = true })
  lu.assertStrContains(text, "pod-security.kubernetes.io/enforce=privileged")
  lu.assertStrContains(text, "hostNetwork=true")
  lu.assertNotStrContains(explain.refusal(err, { name = "pod" }), "enforce=privileged")
end

function TestExplain.test_pod_security_policy_of_older_servers()
  lu.assertTrue(explain.is_pod_security {
    message =
    'pods "p" is forbidden: unable to validate against any pod security policy: [spec.hostNetwork: Invalid value]' })
end

function TestExplain.test_quota()
  for _, text in ipairs { "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0",
    "failed quota: q: must specify limits.cpu for: agent" } do
    lu.assertStrContains(explain.refusal({ status = 403, message = text }, { name = "p" }), "quota is exceeded")
  end
end

function TestExplain.test_permission()
  for _, text in ipairs {
    'Pod "p" is invalid: [spec.containers[0].resources.requests: Invalid value: "100m": must be less than or \z
      equal to cpu limit]',
    "pods is forbidden: maximum memory usage per Container is 32Mi, but limit is 64Mi",
      "minimum cpu usage per Container is 1, but request is 100m" } do
    lu.assertStrContains(explain.refusal({ status = 403, message = text }, { name = "p" }), "--cpu and --memory")
  end
  local text = explain.refusal({ status = 403, message = 'pods is forbidden: User "u" cannot create resource "pods"' },
    { name = "p" })
  lu.assertStrContains(text, "deploy/role.yaml")
end

function TestExplain.test_runtime()
  local err = { status = 403, message = 'pods "p" is forbidden: pod rejected: RuntimeClass "gone" not found' }
  lu.assertTrue(explain.is_runtime(err))
  lu.assertFalse(explain.is_pod_security(err))
end

function TestExplain.test_scheduling_and_images()
  local why, final = explain.pod(pod { phase = "Pending",
    conditions = { { type = "PodScheduled", status = "False", reason = "Unschedulable",
    message = "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available" } } })
  lu.assertStrContains(why, "3 Insufficient cpu")
  lu.assertTrue(final)
  for _, reason in ipairs { "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName" } do
    why, final = explain.pod(pod { phase = "Pending", containerStatuses = {
      { image = "knbl:9", state = { waiting = { reason = reason } } } } })
    lu.assertStrContains(why, "image knbl:9 cannot be pulled")
    lu.assertTrue(final)
  end
end

function TestExplain.test_why_an_image_was_not_pulled()
  local why = explain.pod(pod { phase = "Pending", containerStatuses = {
    { image = "r/knbl:1", state = { waiting = { reason = "ErrImagePull",
    message = 'rpc error: code = Unknown desc = failed to pull and unpack image "r/knbl:1": 401 Unauthorized' } } } } })
  lu.assertStrContains(why, 'image r/knbl:1 cannot be pulled on the node (failed to pull and unpack image "r/knbl:1": \z
    401 Unauthorized); load it')
end

-- Since 1.31 the back-off message contains the cause, and since 1.34 it has no RPC code before it.
function TestExplain.test_why_an_image_was_not_pulled_by_newer_kubelets()
  local function why(reason, message)
    return (explain.pod(pod { phase = "Pending", containerStatuses = {
      { image = "r/knbl:1", state = { waiting = { reason = reason, message = message } } } } }))
  end
  local cause = 'failed to pull and unpack image "r/knbl:1": failed to resolve image: connection refused'
  for reason, message in pairs { ErrImagePull = cause,
    ImagePullBackOff = 'Back-off pulling image "r/knbl:1": ErrImagePull: ' .. cause } do
    lu.assertStrContains(why(reason, message),
      ("image r/knbl:1 cannot be pulled on the node (%s); load it"):format(cause))
  end
  local bare = why("ImagePullBackOff", 'Back-off pulling image "r/knbl:1"')
  lu.assertStrContains(bare, "image r/knbl:1 cannot be pulled on the node; load it")
  local own = explain.pod(pod { phase = "Pending", containerStatuses = {
    { name = "server", image = "nginx", state = { waiting = { reason = "ErrImagePull",
    message = ("failed to do request "):rep(20) .. "no such host" } } } } })
  -- the cause is kept, knbl's own image is not meant
  lu.assertStrContains(own, "no such host); load it into the nodes, or name one that the cluster can pull")
  lu.assertTrue(explain.says_less(bare, why("ErrImagePull", cause)))
  lu.assertFalse(explain.says_less(why("ImagePullBackOff", 'Back-off pulling image "r/knbl:1": ErrImagePull: '
    .. cause), why("ErrImagePull", cause)))
  lu.assertFalse(explain.says_less(bare, nil))
end

function TestExplain.test_coming_up_is_no_reason()
  lu.assertNil(
    (explain.pod(pod { phase = "Pending", containerStatuses = {
    { state = { waiting = { reason = "ContainerCreating" } } } } })))
  lu.assertNil((explain.pod(pod { phase = "Running", containerStatuses = { { state = { running = {} } } } })))
end

function TestExplain.test_evicted_and_ended()
  lu.assertStrContains((explain.pod(pod { phase = "Failed", reason = "Evicted", message = "low on memory" })),
    "Evicted: low on memory")
  lu.assertEquals(explain.pod(pod { phase = "Failed", containerStatuses = {
    { name = "server", state = { terminated = { exitCode = 2, reason = "Error",
    message = "no such file" } } } } }), "its container server ended with exit code 2 (Error): no such file")
  lu.assertStrContains(
    (explain.pod(pod { phase = "Running", containerStatuses = {
    { state = { terminated = { exitCode = 2, reason = "Error" } } } } })), "code 2")
end

function TestExplain.test_newest_warning_wins()
  local function event(reason, at, kind)
    return { type = kind or "Warning", reason = reason, message = reason .. "!", lastTimestamp = at, metadata = {} }
  end
  local unready = { event("Unhealthy", "2026-01-01T00:00:01Z") }
  lu.assertEquals({ explain.events(unready), explain.events(unready, true) }, { nil, "Unhealthy: Unhealthy!" })
  lu.assertEquals(explain.events { event("FailedScheduling", "2026-01-01T00:00:01Z"),
    event("FailedCreatePodSandBox", "2026-01-01T00:00:09Z"),
    event("Pulled", "2026-01-01T00:00:10Z", "Normal") }, "FailedCreatePodSandBox: FailedCreatePodSandBox!")
  lu.assertNil(explain.events {})
end

-- A kubelet whose API server was started anew: it tries again by itself, so only a pod that is late anyway says so.
function TestExplain.test_a_volume_that_will_come()
  local list = { { type = "Warning", reason = "FailedMount", lastTimestamp = "2026-01-01T00:00:01Z", metadata = {},
    message = 'MountVolume.SetUp failed for volume "token" : failed to sync secret cache: timed out' } }
  lu.assertNil(explain.events(list))
  lu.assertStrContains(explain.events(list, true), "failed to sync secret cache")
end

-- Containers before or beside the agent: a native sidecar, or an init container that a mesh added.
function TestExplain.test_other_containers()
  local why = explain.pod(pod { phase = "Pending", initContainerStatuses = {
    { name = "istio-init", state = { terminated = { exitCode = 1, reason = "Error",
    message = "no NET_ADMIN" } } } } })
  lu.assertEquals(why, "its container istio-init ended with exit code 1 (Error): no NET_ADMIN")
  lu.assertNil(
    (explain.pod(pod { phase = "Pending", initContainerStatuses = {
    { name = "init", state = { terminated = { exitCode = 0, reason = "Completed" } } },
    { name = "proxy", state = { running = {} } } } })))
end

function TestExplain.test_policies()
  for _, text in ipairs { 'admission webhook "no.example" denied the request: not here',
    'pods "p" is forbidden: ValidatingAdmissionPolicy \'images\' with binding \'b\' denied request: \z
      only registry.example',
    "policy 'sidecars' with binding 'b' denied request: error applying patch" } do
    lu.assertStrContains(explain.refusal({ status = 422, message = text }, { name = "p" }),
      "a policy of the cluster denied it: ")
  end
end

TestFacts = {}

-- A fake API server from a table: "ConfigMap/kube-system/kube-proxy" -> object, "Pod" -> list.
local function server(objects, version)
  return { namespace = "n", request = function() return { gitVersion = version or "v1.33.1" } end,
    get = function(_, kind, name, options) return objects[(kind.kind or kind) .. "/" .. options.namespace .. "/"
      .. name] end,
    list = function(_, kind, options)
      if kind == "Pod" and options.field and objects.old then return nil, { status = 400 } end
      return { items = objects[kind] or {} }
    end }
end

local function proxy(data) return { ["ConfigMap/kube-system/kube-proxy"] = { data = data } } end

-- As kubeadm and kind write it: "detectLocalMode" comes before "mode", and there are other files.
function TestFacts.test_proxy_modes()
  local kubeadm =
    "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nclientConnection:\n  acceptContentTypes: \"\"\ndetectLocalMode: \z
      \"\"\nipvs:\n  minSyncPeriod: 0s\n"
    .. "kind: KubeProxyConfiguration\nmode: %s\nnftables:\n  masqueradeAll: false\n"
  local function mode(objects) return facts.read(server(objects), {}).proxy_mode end
  lu.assertEquals(mode(proxy { ["config.conf"] = kubeadm:format "nftables",
    ["kubeconfig.conf"] = "apiVersion: v1\nkind: Config\n" }), "nftables")
  lu.assertEquals(mode(proxy { ["config.conf"] = kubeadm:format "ipvs" }), "ipvs")
  lu.assertEquals(mode(proxy { ["config.conf"] = kubeadm:format '""' }), "iptables (default)")
  lu.assertEquals(mode { ["ConfigMap/kube-system/kube-proxy-config"] = {
    data = { config = kubeadm:format '"iptables"' } } }, "iptables")
  lu.assertEquals(mode { ["ConfigMap/kube-system/cilium-config"] = { data = { ["kube-proxy-replacement"] = "true" } } },
    "Cilium (eBPF)")
  lu.assertEquals(mode { ["DaemonSet/kube-system/kube-proxy"] = {
    spec = { template = { spec = { containers = { { command = { "kube-proxy",
    "--proxy-mode=nftables" } } } } } } } }, "nftables")
  lu.assertEquals(mode {}, "unknown")
  lu.assertEquals(mode(proxy { ["config.conf"] = "mode: [" }), "unknown")
end

function TestFacts.test_network_plugins()
  local function cni(objects, annotations)
    return facts.read(server(objects), { { name = "a", annotations = annotations } }).cni
  end
  for name, expected in pairs { ["cilium-x7k2p"] = "Cilium", ["calico-node-abc"] = "Calico",
    ["kube-flannel-ds-1"] = "Flannel", ["kindnet-4xkzq"] = "kindnet",
    ["canal-1"] = "Canal", ["aws-node-1"] = "AWS VPC CNI" } do
    lu.assertEquals(cni { Pod = { { metadata = { name = "kube-proxy-1" } }, { metadata = { name = name } } } },
      expected)
    -- whose server has no such field selector
    lu.assertEquals(cni { old = true, Pod = { { metadata = { name = name } } } }, expected)
  end
  lu.assertEquals(cni({}, { ["flannel.alpha.coreos.com/backend-type"] = "vxlan" }), "Flannel (vxlan)")
  lu.assertEquals(cni({}, { ["flannel.alpha.coreos.com/backend-type"] = "vxlan",
    ["projectcalico.org/IPv4Address"] = "10.0.0.1/24" }), "Calico")
  lu.assertEquals(cni { ["ConfigMap/kube-system/cilium-config"] = { data = {} } }, "Cilium")
  lu.assertEquals(cni {}, "unknown")
end

-- An agent on the host network knows the mode if the ConfigMap cannot be read.
function TestFacts.test_what_agents_say()
  local known = facts.read(server {}, { { name = "a" } })
  facts.learn(known, "a", { environment = { mtu = 1450, proxy_mode = "nftables" } })
  lu.assertEquals({ known.nodes[1].mtu, known.mtu, known.proxy_mode, known.kubernetes },
    { 1450, 1450, "nftables", "v1.33.1" })
end

TestNodes = {}

local function node(name, spec, ready, labels)
  return { metadata = { name = name, labels = labels or { ["topology.kubernetes.io/zone"] = "z-" .. name } },
    spec = spec or {},
    status = { conditions = { { type = "Ready", status = ready or "True" } },
      addresses = { { type = "InternalIP", address = "10.0.0.1" },
      { type = "InternalIP", address = "fd00::1" } }, nodeInfo = { architecture = "amd64" },
        capacity = { cpu = "4" } } }
end

function TestNodes.test_which_can_be_used()
  local items = { node "d", node("a", { unschedulable = true }), node("b", {}, "False"),
    node("c", { taints = { { key = "k", value = "v", effect = "NoSchedule" } } }),
    node("e", { taints = { { key = "soft", effect = "PreferNoSchedule" } } }) }
  local chosen, left_out = nodes.choose(items, {})
  lu.assertEquals({ chosen[1].name, chosen[2].name, #chosen }, { "d", "e", 2 })
  lu.assertEquals(left_out, { "a (cordoned)", "b (not ready)", "c (tainted k=v:NoSchedule)" })
  chosen = nodes.choose(items, { tolerations = { { key = "k", operator = "Exists" } } })
  lu.assertEquals(chosen[1].name, "c")
end

-- Agents run only on Linux and on supported architectures; existing agents run where they are.
function TestNodes.test_foreign_nodes()
  local windows, arm = node "w", node "r"
  windows.status.nodeInfo = { operatingSystem = "windows", architecture = "amd64" }
  arm.status.nodeInfo = { operatingSystem = "linux", architecture = "arm64" }
  local chosen, left_out = nodes.choose({ windows, arm, node "a" }, { archs = { amd64 = true } })
  lu.assertEquals({ #chosen, chosen[1].name }, { 1, "a" })
  lu.assertEquals(left_out, { "r (arm64: this knbl has no agent for it; --image names an image that has)",
    "w (windows: agents run on Linux only)" })
  lu.assertEquals(#nodes.choose({ windows, arm, node "a" }, {}), 2)
  chosen, left_out = nodes.choose({ node "a", node("b", { unschedulable = true }) }, { standing = { b = 1 } })
  lu.assertEquals({ chosen[1].name, left_out[1] }, { "b", "a (no agent stands there)" })
end

function TestNodes.test_named_selected_described()
  local items = { node("a", nil, nil, { disk = "ssd" }), node "b" }
  lu.assertEquals(nodes.choose(items, { selector = "disk=ssd" })[1].name, "a")
  lu.assertEquals(nodes.choose(items, { nodes = { "b", "a" } })[1].name, "b")
  local b = nodes.describe(items[2])
  lu.assertEquals({ b.zone, b.addresses.v4, b.addresses.v6, b.arch, b.cpus },
    { "z-b", "10.0.0.1", "fd00::1", "amd64", "4" })
  lu.assertNil(nodes.unknown(items, { "a" }))
  lu.assertEquals(nodes.unknown(items, { "a", "x" }), "--nodes: there is no node 'x'; there are: a, b")
end

TestManifest = {}

local run = { id = "r1", namespace = "n", token = "t", owner = { name = "o" } }

-- The fields of the profile "restricted". Only pods on the host network ask for more.
function TestManifest.test_restricted()
  local p = manifest.pod(run, { name = "p", port = 7099, image = "i", node = "a" })
  local c = p.spec.containers[1].securityContext
  lu.assertTrue(p.spec.securityContext.runAsNonRoot and c.runAsNonRoot)
  lu.assertEquals({ c.allowPrivilegeEscalation, c.capabilities, p.spec.securityContext.seccompProfile.type,
    p.spec.hostNetwork },
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
  lu.assertEquals(pods.addresses { status = { podIPs = { { ip = "10.1.1.1" }, { ip = "fd00::2" } } } },
    { v4 = "10.1.1.1", v6 = "fd00::2" })
  lu.assertEquals(pods.addresses { status = { podIP = "10.1.1.1" } }, { v4 = "10.1.1.1" })
end

os.exit(lu.LuaUnit.run())
