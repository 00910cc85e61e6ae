-- Injected agents: their ConfigMaps, how they start, and the images that they run in.
local lu = require "luaunit"
local core = require "knbl.core"
local inject = require "knbl.kube.inject"
local manifest = require "knbl.kube.manifest"
local policies = require "knbl.kube.policies"
local script = require "knbl.base.script"
local way = require "knbl.kube.way"

local ARCH = ({ x86_64 = "amd64", aarch64 = "arm64" })[core.machine()]
local RUN = { id = "0badcafe", namespace = "bench" }

local function sh(command)
  local p = io.popen(command .. " 2>&1")
  local text = p:read "a"
  local _, _, code = p:close()
  return text, code
end

-- ---- the agent in its ConfigMap ----

TestConfigMap = {}

function TestConfigMap.test_the_agents_of_this_knbl()
  for arch in pairs(inject.architectures()) do
    local object = inject.configmap(RUN, arch)
    lu.assertEquals(object.metadata.labels["knbl.io/run"], RUN.id)
    lu.assertTrue(object.immutable)
    local bytes = core.base64_decode(object.binaryData.agent)
    lu.assertTrue(bytes == core.agent_binary(arch))
    lu.assertTrue(#bytes <= 1024 * 1024, "more than a ConfigMap takes")
  end
  lu.assertNotNil(inject.architectures()[ARCH])
end

function TestConfigMap.test_no_agent()
  local none, err = inject.configmap(RUN, "s390x")
  lu.assertNil(none)
  lu.assertStrContains(err.message, "s390x")
end

function TestConfigMap.test_too_large()
  lu.assertNotNil(inject.configmap(RUN, "amd64", ("x"):rep(1048576)))
  local none, err = inject.configmap(RUN, "amd64", ("x"):rep(1048577))
  lu.assertNil(none)
  lu.assertStrContains(err.message, "the agent for amd64 has 1048577 bytes, a ConfigMap holds 1048576 at most")
end

-- ---- how it is started ----

TestStart = {}
local folder

function TestStart.setUp()
  folder = sh "mktemp -d":match "%S+"
  sh(("mkdir %s/knbl %s/run"):format(folder, folder))
  local f = assert(io.open(folder .. "/knbl/agent", "wb"))
  f:write(core.agent_binary(ARCH))
  f:close()
end
function TestStart.tearDown() os.execute("rm -rf " .. folder) end

-- The container's command, with `before` its shell commands, in folders of this test.
local function start(carrier, before)
  local body = inject.body(RUN, ARCH, carrier)
  local words = {}
  for i, word in ipairs(body.command) do
    word = word:gsub("^/run/knbl", folder .. "/run"):gsub("^/knbl", folder .. "/knbl")
    words[i] = script.quote(word)
  end
  local said, code = sh(("unshare -rm sh -c %s"):format(script.quote((before or "") .. "\nexec "
    .. table.concat(words, " ") .. " agent --help")))
  lu.skipIf(said:find "^unshare", "no namespaces here: " .. said)
  return said, code, body
end

local function noexec(name) return ("mount -t tmpfs -o noexec none %s/%s || exit 99\n"):format(folder, name) end

function TestStart.test_as_it_lies()
  sh(("chmod 0555 %s/knbl/agent"):format(folder))
  local said, code, body = start { image = "i", policy = "Never" }
  lu.assertStrContains(said, "usage: knbl agent")
  lu.assertEquals(code, 0)
  lu.assertEquals(#body.volumes, 1)
  lu.assertEquals(body.volumes[1].projected.defaultMode, tonumber("555", 8))
end

-- A file mode without x has the effect of noexec.
function TestStart.test_copied()
  local said, code, body = start { image = "i", policy = "Never", shell = true }
  lu.assertStrContains(said, "usage: knbl agent")
  lu.assertEquals(code, 0)
  lu.assertEquals(body.volumes[2].emptyDir.medium, "Memory")
end

function TestStart.test_from_memory()
  local said, code = start({ image = "i", policy = "Never", shell = true }, noexec "run")
  lu.assertStrContains(said, "usage: knbl agent")
  lu.assertEquals(code, 0)
end

-- PATH has only the programs of the image.
local function only(names)
  local lines = { ("mkdir %s/bin"):format(folder) }
  for _, name in ipairs(names) do lines[#lines + 1] = ("ln -s $(command -v %s) %s/bin/"):format(name, folder) end
  return table.concat(lines, "\n") .. ("\nexport PATH=%s/bin"):format(folder)
end

function TestStart.test_from_memory_by_python()
  local python = sh "python3 -c 'import sys; print(sys.executable)'":match "^(/%S+)\n" -- not what wraps it
  lu.skipIf(not python, "no python3 here")
  local said, code = start({ image = "i", policy = "Never", shell = true },
    noexec "run" .. only { "cat", "chmod", "uname", "ln" } .. ("\nln -s %s %s/bin/python3"):format(python, folder))
  lu.assertStrContains(said, "usage: knbl agent")
  lu.assertEquals(code, 0)
end

function TestStart.test_nothing_can_be_executed()
  local said, code = start({ image = "i", policy = "Never", shell = true },
    noexec "run" .. only { "cat", "chmod", "uname" })
  lu.assertStrContains(said, "no perl or python3")
  lu.assertEquals(code, 126)
end

function TestStart.test_how_it_was_started()
  lu.assertEquals(inject.way_of "/knbl/agent", "mounted")
  lu.assertEquals(inject.way_of "/run/knbl/agent", "copied")
  lu.assertEquals(inject.way_of "/memfd:knbl-agent (deleted)", "memfd")
  lu.assertNil(inject.way_of(nil))
end

-- ---- images ----

TestImages = {}

local node = { name = "a", arch = "amd64", addresses = {}, images = {
  { names = { "registry.k8s.io/big@sha256:1", "registry.k8s.io/big:1" }, sizeBytes = 900 },
  { names = { "<none>@<none>", "<none>:<none>" }, sizeBytes = 1 },
  { names = { "docker.io/library/small:1" }, sizeBytes = 10 },
  { names = { "registry.k8s.io/kube-proxy:v1" }, sizeBytes = 500 },
  { names = { "r/only-digest@sha256:2" }, sizeBytes = 20 },
} }

local function images(list)
  local names = {}
  for i, carrier in ipairs(list) do names[i] = carrier.image end
  return names
end

function TestImages.test_daemons_first_then_the_smallest()
  lu.assertEquals(images(inject.carriers(node, { ["registry.k8s.io/kube-proxy:v1"] = "kube-proxy" })),
    { "registry.k8s.io/kube-proxy:v1", "docker.io/library/small:1", "r/only-digest@sha256:2", "registry.k8s.io/big:1" })
  lu.assertEquals(images(inject.carriers(node))[1], "docker.io/library/small:1")
  lu.assertEquals(inject.carriers(node)[1].policy, "Never")
  lu.assertEquals(inject.carriers { name = "b" }, {})
end

-- An image that runs on the node is used even if the node's list, limited to 50 entries, does not contain it.
function TestImages.test_a_daemon_that_is_not_listed()
  lu.assertEquals(images(inject.carriers({ name = "b" }, { ["r/cni:1"] = "cni", ["r/a:1"] = "a" })),
    { "r/a:1", "r/cni:1" })
end

function TestImages.test_present()
  lu.assertTrue(inject.has(node, "small:1"))
  lu.assertFalse(inject.has(node, "small:2"))
  lu.assertNil(inject.has({}, "small:1"))
end

local function pod(owner, phase, image)
  return { metadata = { ownerReferences = owner and { { kind = owner, name = "kube-proxy" } } },
    spec = { nodeName = "a", containers = { { image = image } } }, status = { phase = phase } }
end

function TestImages.test_daemons()
  lu.assertEquals(inject.daemons { pod("DaemonSet", "Running", "p:1"), pod("DaemonSet", "Pending", "q:1"),
    pod("ReplicaSet", "Running", "r:1"), pod(nil, "Running", "s:1") }, { a = { ["p:1"] = "kube-proxy" } })
end

-- ---- one way after another ----

TestWay = {}

local function provider(more)
  local self = { settings = {}, run = RUN, packed = {}, carrier = {}, made = {}, facts = {}, created = {},
    deleted = {} }
  self.api = {
    list = function() return more.daemons and { items = more.daemons } end,
    create = function(_, object)
      self.created[#self.created + 1] = object
      if more.refuse then return nil, { status = 403, message = more.refuse } end
      return object
    end,
  }
  function self:delete(name) self.deleted[#self.deleted + 1] = name end
  for key, value in pairs(more.settings or {}) do self.settings[key] = value end
  return self
end

-- Places pods whose images fail as `failures` says: image -> message; "sh IMAGE" with its shell; "IMAGE on NODE".
-- Returns what was tried, and the size of each attempt.
local function place_all(self, nodes, failures, items)
  local tried, sizes = {}, {}
  way.place(self, nodes, items, function(list)
    sizes[#sizes + 1] = #list
    for _, item in ipairs(list) do
      local body = item.want.body
      local key = (body and body.command[1] == "/bin/sh" and "sh " or "") .. (body and body.image or "own")
      tried[#tried + 1] = key
      local message = failures[key] or failures[key .. " on " .. tostring(item.want.node)]
      item.endpoint, item.err = nil, nil
      if message then item.err = { code = "pod", pod = true, message = message }
      else item.endpoint = { want = item.want } end
    end
  end)
  return tried, sizes
end

local function place(self, nodes, failures, want)
  local item = { want = want or { name = "client", node = "a" } }
  local tried = place_all(self, nodes, failures, { item })
  return item.endpoint, tried, item.err
end

function TestWay.test_order()
  lu.assertEquals(way.choose({ image = "r/knbl:1" }, { node }), "given")
  lu.assertEquals(way.choose({ inject = true }, {}), "injected")
  lu.assertEquals(way.choose({}, { node }), "injected")
  lu.assertEquals(way.choose({},
    { { name = "a", images = { { names = { "docker.io/library/knbl:" .. core.version } } } } }), "present")
  lu.assertEquals(way.choose({}, { { name = "a" } }), "present") -- which cannot be asked
end

function TestWay.test_the_next_image()
  local self = provider {}
  local endpoint, tried = place(self, { node }, {
    ["docker.io/library/small:1"] = "ErrImageNeverPull: Container image \"small:1\" is not present",
    ["r/only-digest@sha256:2"] = "CreateContainerConfigError: container has runAsNonRoot and image has a user" })
  lu.assertEquals(tried, { "docker.io/library/small:1", "r/only-digest@sha256:2", "registry.k8s.io/kube-proxy:v1" })
  lu.assertEquals(endpoint.want.attempt, 3)
  lu.assertEquals(self.deleted, { "client", "client" })
  lu.assertEquals(self.facts.agent_way, "injected")
  -- the next pod begins with what worked, and the ConfigMap is there already
  local made = #self.created
  local _, again = place(self, { node }, {}, { name = "server", node = "a" })
  lu.assertEquals(again, { "registry.k8s.io/kube-proxy:v1" })
  lu.assertEquals(#self.created, made)
end

-- Many pods are attempted side by side; those whose image fails are attempted again together.
function TestWay.test_many_pods()
  local self, items = provider {}, {}
  local other = { name = "b", arch = "amd64", images = node.images }
  for i = 1, 10 do items[i] = { want = { name = "pod-" .. i, node = i <= 7 and "a" or "b" } } end
  local tried, sizes = place_all(self, { node, other },
    { ["docker.io/library/small:1 on b"] = "ErrImageNeverPull: not there" }, items)
  lu.assertEquals(sizes, { 10, 3 })
  lu.assertEquals(#tried, 13)
  for _, item in ipairs(items) do lu.assertNotNil(item.endpoint) end
  lu.assertEquals(self.deleted, { "pod-8", "pod-9", "pod-10" })
  lu.assertEquals(self.carrier.a.image, "docker.io/library/small:1")
  lu.assertEquals(self.carrier.b.image, "r/only-digest@sha256:2")
  lu.assertEquals(#self.created, 1) -- one ConfigMap
end

function TestWay.test_a_noexec_volume()
  local denied = 'StartError: failed to create containerd task: exec: "/knbl/agent": permission denied'
  local _, tried = place(provider {}, { node }, { ["docker.io/library/small:1"] = denied,
    ["sh docker.io/library/small:1"] = 'StartError: exec: "/bin/sh": stat /bin/sh: no such file or directory' })
  lu.assertEquals(tried, { "docker.io/library/small:1", "sh docker.io/library/small:1", "sh r/only-digest@sha256:2" })
end

function TestWay.test_nothing_works()
  local failures = setmetatable({}, { __index = function() return "ErrImageNeverPull: not there" end })
  local _, tried, err = place(provider {}, { node }, failures)
  lu.assertEquals(#tried, 4)
  lu.assertStrContains(err.message, "no image on a can carry the agent: docker.io/library/small:1: ErrImageNeverPull")
  lu.assertStrContains(err.message, "--inject=IMAGE")
end

-- Errors that do not depend on the image end the attempts.
function TestWay.test_no_room()
  local _, tried, err = place(provider {}, { node },
    { ["docker.io/library/small:1"] = "no node takes it (Unschedulable): Insufficient cpu" })
  lu.assertEquals(#tried, 1)
  lu.assertStrContains(err.message, "Insufficient cpu")
end

function TestWay.test_a_named_image_is_the_only_one()
  local self = provider { settings = { inject = "r/x:1" } }
  local endpoint, tried = place(self, {}, {})
  lu.assertEquals(tried, { "r/x:1" })
  lu.assertEquals(endpoint.want.body.policy, "IfNotPresent")
end

function TestWay.test_nodes_that_may_not_be_listed()
  local _, tried, err = place(provider { settings = { inject = true } }, { { name = "a", addresses = {} } }, {})
  lu.assertEquals(tried, {})
  lu.assertStrContains(err.message, "the images of node a cannot be listed; name one that it has with --inject=IMAGE")
end

function TestWay.test_a_quota_of_configmaps()
  local _, _, err = place(provider { refuse = 'configmaps "x" is forbidden: exceeded quota: q, used: configmaps=1' },
    { node }, {})
  lu.assertStrContains(err.message, "the agent's ConfigMap: the namespace's quota is exceeded")
end

-- A pod without a node can use nodes that have the image and the architecture.
function TestWay.test_nodes_that_are_alike()
  local nodes = { node, { name = "b", arch = "amd64", images = node.images }, { name = "c", arch = "arm64",
    images = node.images }, { name = "d", arch = "amd64", images = {} } }
  local endpoint = place(provider {}, nodes, {}, { name = "pod-1", port = 7099 })
  lu.assertEquals(endpoint.want.nodes, { "a", "b" })
  local terms = manifest.pod(RUN, endpoint.want).spec.affinity.nodeAffinity
    .requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms
  lu.assertEquals(#terms, 2)
end

-- A user is set if the image's user is unknown, but never if the namespace assigns one.
function TestWay.test_users()
  local function context(run, settings)
    local self = provider { settings = settings }
    self.run = run
    local endpoint = place(self, { node }, {}, { name = "x", node = "a", port = 7099 })
    local spec = manifest.pod(run, endpoint.want).spec
    lu.assertNil(spec.securityContext.fsGroup)
    lu.assertTrue(spec.containers[1].securityContext.runAsNonRoot)
    lu.assertEquals(spec.volumes[1].secret.defaultMode, tonumber("444", 8))
    return spec.containers[1].securityContext.runAsUser
  end
  lu.assertEquals(context(RUN), 65532)
  lu.assertNil(context { id = "1", namespace = "n", assigns_user = true })
  lu.assertNil(context(RUN, { image = "r/knbl:1" }))
end

-- ---- policies ----

TestPolicies = {}

function TestPolicies.test_selectors()
  local labels = { app = "web", tier = "front" }
  for _, case in ipairs {
    { {}, true }, { { matchLabels = { app = "web" } }, true }, { { matchLabels = { app = "db" } }, false },
    { { matchExpressions = { { key = "app", operator = "In", values = { "db", "web" } } } }, true },
    { { matchExpressions = { { key = "app", operator = "NotIn", values = { "web" } } } }, false },
    { { matchExpressions = { { key = "x", operator = "NotIn", values = { "web" } } } }, true },
    { { matchExpressions = { { key = "tier", operator = "Exists" } } }, true },
    { { matchExpressions = { { key = "tier", operator = "DoesNotExist" } } }, false },
    { { matchLabels = { app = "web" }, matchExpressions = { { key = "x", operator = "Exists" } } }, false },
  } do
    lu.assertEquals(policies.selects(case[1], labels), case[2])
  end
end

function TestPolicies.test_named()
  local api = { list = function() return { items = {
    { metadata = { name = "deny-all" }, spec = { podSelector = {} } },
    { metadata = { name = "other" }, spec = { podSelector = { matchLabels = { app = "db" } } } } } } end }
  lu.assertStrContains(policies.explain(api, { { labels = { app = "web" } } }),
    "NetworkPolicies select this pod: deny-all; --allow")
  lu.assertEquals(policies.explain({ list = function() return nil, { status = 403 } end }, { { labels = {} } }), "")
end

os.exit(lu.LuaUnit.run())
