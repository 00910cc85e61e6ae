-- Existing agents, and printed manifests, with fake API servers.
local lu = require "luaunit"
local core = require "knbl.core"
local standing = require "knbl.kube.standing"
local manifest = require "knbl.kube.manifest"
local wish = require "knbl.kube.wish"

TestStanding = {}

local function pod(name, node, more)
  more = more or {}
  return { metadata = { name = name, labels = more.labels or { app = "agents" } },
    spec = { nodeName = node, hostNetwork = more.host, runtimeClassName = more.runtime,
      containers = { { name = "sidecar" }, { name = "agent", args = { "agent", "--token-file", "/etc/knbl/token" },
        ports = { { name = "knbl-tcp", containerPort = more.port or 7099 } },
          volumeMounts = { { name = "t", mountPath = "/etc/knbl" } } } },
      volumes = { { name = "t", secret = { secretName = "s" } } } },
    status = { phase = "Running", hostIP = "10.0.0." .. #node,
      conditions = { { type = "Ready", status = more.ready or "True" } } } }
end

local function api(pods, services, secret)
  local lists = { Pod = pods, Service = services or {} }
  return { namespace = "n",
    list = function(_, kind, options)
      local items = {}
      for _, o in ipairs(lists[kind]) do
        local fits = true
        for key, value in ((options or {}).selector or ""):gmatch "([^=,]+)=([^=,]+)" do
          fits = fits and (o.metadata.labels or {})[key] == value
        end
        if fits then items[#items + 1] = o end
      end
      return { items = items }
    end,
    get = function() if secret == false then return nil, { message = "secrets is forbidden" } end
      return { data = { token = core.base64 "sesame\n" } } end }
end

local function some()
  return api { pod("b", "n2"), pod("a", "n1"), pod("h", "n1", { host = true, port = 7098 }),
    pod("k", "n2", { runtime = "kata" }) }
end

function TestStanding.test_each_stands_for_one_pod_at_a_time()
  local s = assert(standing.find(some(), "app=agents"))
  local got, want = s:take({ name = "client" }, "n1")
  lu.assertEquals({ got.metadata.name, want.port, want.token }, { "a", 7099, "sesame" })
  local none, _, err = s:take({ name = "server" }, "n1")
  lu.assertNil(none)
  lu.assertEquals(err.code, "skip")
  lu.assertStrContains(err.message, "no free standing agent with the labels app=agents on n1; 1 in use")
  lu.assertTrue(s:give_back "client")
  lu.assertFalse(s:give_back "client")
  lu.assertEquals(s:take({ name = "server" }, "n1").metadata.name, "a")
  lu.assertEquals(s:take({ name = "kata", runtime = "kata" }).metadata.name, "k")
  got, want = s:take_host "n1"
  lu.assertEquals({ got.metadata.name, want.port }, { "h", 7098 })
  lu.assertNil((s:take_host "n2"))
end

function TestStanding.test_what_they_cannot_be_given()
  local s = assert(standing.find(some(), "app=agents"))
  local got, _, err = s:take { name = "x", bandwidth = "1Mbit/s" }
  lu.assertNil(got)
  lu.assertEquals({ err.code, err.message }, { "skip", "a standing agent does not take 'bandwidth'" })
end

function TestStanding.test_nobody_and_nobody_ready()
  local s, err = standing.find(api {}, "app=agents")
  lu.assertNil(s)
  lu.assertStrContains(err.message, "no pod in the namespace n has the labels app=agents")
  s, err = standing.find(api { pod("a", "n1", { ready = "False" }) }, "app=agents")
  lu.assertNil(s)
  lu.assertStrContains(err.message, "none of the agents with the labels app=agents is ready (a: not ready)")
end

function TestStanding.test_a_secret_that_may_not_be_read()
  local s, err = standing.find(api({ pod("a", "n1") }, nil, false), "app=agents")
  lu.assertNil(s)
  lu.assertStrContains(err.message, "--token-file")
  s = assert(standing.find(api({ pod("a", "n1") }, nil, false), "app=agents", "given"))
  local _, want = s:take { name = "x" }
  lu.assertEquals(want.token, "given")
end

-- A Service is used only if it has exactly the requested endpoints, the type, and the agents' port for TCP and UDP.
function TestStanding.test_a_service_that_stands()
  local one, both = { id = "1", app = "agents" }, { app = "agents" }
  local ports = { { port = 80, targetPort = "knbl-tcp", protocol = "TCP" },
    { port = 80, targetPort = "knbl-udp", protocol = "UDP" } }
  local function service(name, selector, p, kind)
    return { metadata = { name = name }, spec = { type = kind or "ClusterIP", selector = selector, ports = p } }
  end
  local list = { service("tcp-only", one, { ports[1] }), service("node-port", one, ports, "NodePort"),
    service("both", both, ports), service("right", one, ports) }
  local s = assert(standing.find(api({ pod("a", "n1", { labels = one }),
    pod("b", "n2", { labels = { app = "agents", id = "2" } }) }, list), "app=agents"))
  local a, b = { object = "a", port = 7099 }, { object = "b", port = 7099 }
  lu.assertEquals(s:service_over({ type = "ClusterIP", endpoints = { a } }).metadata.name, "right")
  lu.assertEquals(s:service_over({ type = "NodePort", endpoints = { a } }).metadata.name, "node-port")
  lu.assertEquals(s:service_over({ type = "ClusterIP", endpoints = { a, b } }).metadata.name, "both")
  lu.assertNil(s:service_over { type = "ClusterIP", endpoints = { b } })
end

TestWish = {}

function TestWish.test_secondary_networks_are_an_annotation()
  local run = { settings = {} }
  local want = assert(wish.pod(run, { name = "x", networks = { "net1", "team/blue@b0" }, annotations = { a = "b" } }))
  lu.assertEquals(want.annotations, { a = "b", ["k8s.v1.cni.cncf.io/networks"] = "net1, team/blue@b0" })
  lu.assertEquals(assert(wish.pod(run, { name = "x", annotations = { a = "b" } })).annotations, { a = "b" })
end

local function a_run(flags, options)
  options = options or {}
  options.settings, options.token = flags or {}, "t"
  return assert(wish.run(assert(wish.settings(options)), options, "n"))
end

function TestWish.test_the_command_line_wins()
  local settings = assert(wish.settings { cpu = 1, image = "script:1", settings = { cpu = "2" } })
  lu.assertEquals({ settings.cpu, settings.image }, { "2", "script:1" })
end

function TestWish.test_mistakes()
  for flag, value in pairs { cpu = "two", memory = "1 Gi", namespace = "No_Such", tolerations = "a=b:Never",
    image = "a b" } do
    local settings, err = wish.settings { settings = { [flag] = value } }
    lu.assertNil(settings, flag)
    lu.assertEquals(err.code, "usage")
    lu.assertStrContains(err.message, "--" .. flag)
  end
end

function TestWish.test_tolerations()
  lu.assertEquals(wish.tolerations "a=b:NoSchedule,c",
    { { key = "a", operator = "Equal", value = "b", effect = "NoSchedule" }, { key = "c", operator = "Exists" } })
  lu.assertEquals(wish.tolerations ":NoExecute", { { operator = "Exists", effect = "NoExecute" } })
  lu.assertNil(wish.tolerations(nil))
end

-- Pods have a deadline, but it is never shorter than the run.
function TestWish.test_a_long_run_keeps_its_pods()
  lu.assertEquals(a_run({}).max_duration, 3600)
  lu.assertEquals(a_run({}, { expected = { seconds = 7200 } }).max_duration, 15000)
  lu.assertEquals(a_run({}, { expected = { seconds = 10, partial = true } }).max_duration, 21600)
end

function TestWish.test_what_a_script_asks_of_a_pod()
  local run = a_run {}
  local want = wish.pod(run, { name = "p", labels = { app = "x" }, env = { A = 1 }, bandwidth = "100Mbit/s",
    annotations = { k = "v" } }, "node")
  local pod = manifest.pod(run, want)
  lu.assertEquals({ pod.metadata.labels.app, pod.metadata.labels["knbl.io/pod"] }, { "x", "p" })
  lu.assertEquals(pod.metadata.annotations, { k = "v", ["kubernetes.io/ingress-bandwidth"] = "100000000",
    ["kubernetes.io/egress-bandwidth"] = "100000000" })
  lu.assertEquals(pod.spec.containers[1].env[1], { name = "A", value = "1" })
  for _, t in ipairs { { name = "p", mtu = 1400 }, { name = "p", command = { "x" }, port = 1 } } do
    local none, err = wish.pod(run, t)
    lu.assertNil(none)
    lu.assertEquals(err.code, "skip")
  end
end

-- The user's image runs as the scenario says, with a readiness probe on its port, and with the required fields in a
-- restricted namespace.
function TestWish.test_an_image_of_ones_own()
  local run = a_run {}
  local pod = manifest.pod(run, wish.pod(run, { name = "web", image = "nginx", port = 80, command = { "serve" } }))
  local c = pod.spec.containers[1]
  lu.assertEquals({ c.image, c.command, c.args, c.readinessProbe.tcpSocket.port, pod.spec.volumes },
    { "nginx", { "serve" }, nil, 80, nil })
  lu.assertNil(c.securityContext.runAsUser)
  lu.assertNil(c.env) -- an empty list would be written as an object, which no API server takes
  run.restricted = true
  c = manifest.pod(run, wish.pod(run, { name = "web", image = "nginx", port = 80 })).spec.containers[1]
  lu.assertEquals({ c.securityContext.runAsNonRoot, c.securityContext.capabilities }, { true, { drop = { "ALL" } } })
end

function TestWish.test_host_pods_share_no_port()
  local run = a_run {}
  local a, b = wish.pod(run, { name = "a", runtime = "host" }), wish.pod(run, { name = "b", runtime = "host" })
  lu.assertNotEquals(a.port, b.port)
  lu.assertNotEquals(a.port, wish.host(run, "n").port)
end

-- Names that are too long or invalid as labels are shortened and stay distinct.
function TestWish.test_names_that_fit()
  local run = { id = "12345678" }
  lu.assertEquals(manifest.object_name(run, "client"), "knbl-12345678-client")
  local long = ("n"):rep(63)
  local a, b = manifest.object_name(run, long .. "1"), manifest.object_name(run, long .. "2")
  lu.assertTrue(#a <= 63 and #b <= 63 and a ~= b)
  lu.assertStrMatches(manifest.object_name(run, "host-ip-10-0-0-1.eu.internal"), "[%l%d-]+")
  lu.assertEquals(#manifest.label(long), 63)
end

function TestWish.test_ports_of_services()
  local ends = { { port = 7099, addresses = {}, labels = {} } }
  local s = manifest.service({ id = "r" }, wish.service({ name = "s", endpoints = ends }, { a = "b" }))
  lu.assertEquals({ #s.spec.ports, s.spec.ports[1].port, s.spec.ports[1].targetPort, s.spec.ports[2].protocol },
    { 2, 7099, 7099, "UDP" })
  lu.assertNil(s.spec.externalTrafficPolicy)
  s = manifest.service({ id = "r" },
    wish.service({ name = "s", endpoints = ends, type = "NodePort", external_traffic_policy = "Local" }, { a = "b" }))
  lu.assertEquals({ s.spec.type, s.spec.externalTrafficPolicy }, { "NodePort", "Local" })
  s = manifest.service({ id = "r" },
    wish.service({ name = "s", endpoints = ends, ports = { { port = 80, protocol = "tcp", target = 1 } } },
    { a = "b" }))
  lu.assertEquals(s.spec.ports, { { name = "knbl-tcp", port = 80, targetPort = 1, protocol = "TCP" } })
end

os.exit(lu.LuaUnit.run())
