-- Permissions on a real cluster: the Role in deploy/role.yaml is sufficient, each part of it is needed, and a missing
-- permission is named. Wrong credentials and servers give one line and exit code 3 within seconds.
package.path = "tests/kube/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.core"
local kube = require "knbl.kube"
local json = require "knbl.json"
local world = require "world"

TestAccess = {}

local NAMESPACE = "knbl-access"
local script = world.script [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local client, server = cluster:pair()
knbl.tcp_rr { from = client, to = server }
knbl.tcp_rr { from = client, to = cluster:service { name = "both", endpoints = { client, server } } }
]]
local script_direct = world.script [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local client, server = cluster:pair()
knbl.tcp_rr { from = client, to = server }
]]

local admin, role, config

-- A kubeconfig for the current server, as text. user: the fields of its user.
local function kubeconfig(user, server, more)
  local own = admin.config
  local cluster = { server = server or own.server, ["certificate-authority-data"] = more and more.ca
    or core.base64(own.ca) }
  return world.script(json.encode { apiVersion = "v1", kind = "Config", ["current-context"] = "it",
    clusters = { { name = "it", cluster = cluster } },
    users = { { name = "it", user = user } },
      contexts = { { name = "it", context = { cluster = "it", user = "it", namespace = NAMESPACE } } } })
end

local function account_token()
  local deadline = core.now() + 20
  local secret = admin:create { apiVersion = "v1", kind = "Secret", type = "kubernetes.io/service-account-token",
    metadata = { name = "knbl-token", annotations = { ["kubernetes.io/service-account.name"] = "knbl" } } }
  assert(secret)
  while core.now() < deadline do
    local now = admin:get("Secret", "knbl-token")
    if now and now.data and now.data.token then return world.sh("echo " .. now.data.token .. " | base64 -d") end
    core.sleep(0.1)
  end
end

function TestAccess.setUpOnce()
  if admin then return end
  world.kubectl("create namespace " .. NAMESPACE)
  admin = assert(kube.connect { namespace = NAMESPACE })
  local text = world.read "deploy/role.yaml"
  for _, object in ipairs(assert(kube.parse_yaml(text))) do
    object.metadata.namespace = object.kind ~= "ClusterRole" and NAMESPACE or nil
    if object.kind == "Role" then role = object end
    if object.subjects then object.subjects[1].namespace = NAMESPACE end
    assert(admin:apply(object))
  end
  config = kubeconfig { token = account_token() }
end
TestAccess.setUp = TestAccess.setUpOnce

local function as_account(which)
  return world.scenario(which or script, { "--kubeconfig", config, "--nodes", "node-a,node-b" })
end

-- The Role without one verb of one resource ("*" means all). Endpoints and EndpointSlices can replace each other, so
-- both are removed.
local function without(resource, verb)
  local rules = {}
  for _, rule in ipairs(role.rules) do
    for _, r in ipairs(rule.resources) do
      local verbs = {}
      for _, v in ipairs(rule.verbs) do
        local same = r == resource or resource == "endpoints" and r == "endpointslices"
        if not (same and (v == verb or verb == "*")) then verbs[#verbs + 1] = v end
      end
      if #verbs > 0 then rules[#rules + 1] = { apiGroups = rule.apiGroups, resources = { r }, verbs = verbs } end
    end
  end
  assert(admin:patch({ api = "rbac.authorization.k8s.io/v1", kind = "Role" }, "knbl", { rules = rules }))
  core.sleep(0.3) -- the authorizer has its own watch
end

function TestAccess.test_1_the_role_is_enough()
  local run = as_account()
  lu.assertEquals(run.code, 0, run.said)
  for _, m in ipairs(run.ledger.measurements) do lu.assertTrue(m.ok, m.case) end
  lu.assertEquals(world.left(NAMESPACE), "")
end

-- Without permission to read nodes, pods are placed on them without agents on the host network.
function TestAccess.test_1_no_host_network_where_pods_will_do()
  local run = as_account(script_direct)
  lu.assertEquals(run.code, 0, run.said)
  local kinds = {}
  for i, watched in ipairs(run.ledger.measurements[1].monitor) do kinds[i] = watched.kind end
  lu.assertEquals(kinds, { "pod", "pod" })
end

function TestAccess.test_1_nodes_must_be_named_then()
  local run = world.scenario(script, { "--kubeconfig", config })
  lu.assertEquals(run.code, 3, run.said)
  lu.assertStrContains(run.err, "--nodes a,b")
end

-- Every verb that a run requires.
for _, need in ipairs { { "pods", "create" }, { "pods", "watch" }, { "pods", "patch" },
  { "pods/proxy", "get" }, { "pods/proxy", "create" },
  { "services", "create" }, { "configmaps", "create" }, { "secrets", "create" }, { "endpoints", "*" } } do
  local resource, verb = need[1], need[2]
  TestAccess["test_2_without_" .. verb:gsub("%*", "any") .. "_" .. resource:gsub("/", "_")] = function()
    without(resource, verb)
    local run = as_account()
    lu.assertEquals(run.code, 3, run.said)
    lu.assertStrContains(run.err, "forbidden")
    lu.assertStrContains(run.err, ('"%s"'):format(resource))
    if verb ~= "*" then lu.assertStrContains(run.err, verb) end
    without("", "")
    world.run({ "clean", "--namespace", NAMESPACE }, { ledger = false })
  end
end

-- Without these, the run completes and reports what is left.
for _, verb in ipairs { "delete", "list" } do
  TestAccess["test_3_without_" .. verb] = function()
    without("pods", verb)
    local run = as_account(script_direct)
    lu.assertStrContains(run.err, "could be removed")
    lu.assertStrContains(run.err, "knbl clean --namespace " .. NAMESPACE)
    without("", "")
    world.run({ "clean", "--namespace", NAMESPACE }, { ledger = false })
    lu.assertEquals(world.left(NAMESPACE), "")
  end
end

-- Events and, on servers that have EndpointSlices, Endpoints can be missing.
function TestAccess.test_3_without_events()
  without("events", "*")
  lu.assertEquals(as_account().code, 0)
  without("", "")
end

-- `lines`: how many lines say so, 1 if absent.
local function refused(path, words, seconds, lines)
  local run = world.scenario(script, { "--kubeconfig", path })
  lu.assertEquals(run.code, 3, run.said)
  lu.assertStrContains(run.err, words)
  local _, said = run.err:gsub("\n", "")
  lu.assertEquals(said, lines or 1, run.err)
  lu.assertTrue(run.seconds < (seconds or 5), run.said)
end

function TestAccess.test_4_wrong_token()
  refused(kubeconfig { token = "wrong" }, "the credentials are wrong or expired")
end
function TestAccess.test_4_no_credentials() refused(kubeconfig { ["as"] = nil, username = "" }, "forbidden") end
function TestAccess.test_4_refused()
  refused(kubeconfig({ token = "x" }, "https://127.0.0.1:1"), "https://127.0.0.1:1: ")
end
function TestAccess.test_4_no_such_name()
  refused(kubeconfig({ token = "x" }, "https://nowhere.invalid"), "Could not resolve host")
end
function TestAccess.test_4_silent() -- an address of the server's network that nobody has
  local server = world.addresses()
  lu.skipIf(not server, "the server is known by its name alone")
  local nobody = server:gsub("%d+$", "77")
  refused(kubeconfig({ token = "x" }, ("https://%s:6443"):format(nobody)), nobody, 15)
end
function TestAccess.test_4_plain_http_to_https()
  refused(kubeconfig({ token = "x" }, (admin.config.server:gsub("^https", "http"))),
    "HTTP request to an HTTPS server", nil, 2) -- after a warning that no credentials are sent
end
function TestAccess.test_4_other_authority()
  local ca =
    world.sh "openssl req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -days 1 -subj /CN=other 2>/dev/null | \z
      base64 -w0"
  refused(kubeconfig({ token = "x" }, nil, { ca = ca }), "certificate")
end
function TestAccess.test_4_expired_certificate()
  local pki = world.state .. "/pki"
  lu.skipIf(world.read(pki .. "/ca.key") == "", "no authority of this machine")
  local d = os.tmpname()
  world.sh(("cd $(dirname %s) && openssl req -newkey rsa:2048 -nodes -keyout %s.key -out %s.csr -subj /CN=old \z
    2>/dev/null && openssl x509 -req -in %s.csr -CA %s/ca.crt -CAkey %s/ca.key -CAserial %s.srl -CAcreateserial \z
    -days -1 -out %s.crt -extfile /dev/null"):format(d, d, d, d, pki, pki, d, d))
  refused(kubeconfig { ["client-certificate"] = d .. ".crt", ["client-key"] = d .. ".key" }, "expired")
  os.execute("rm -f " .. d .. "*")
end

function TestAccess.test_5_impersonation_is_refused_by_name()
  local run = world.scenario(script, { "--kubeconfig", config, "--as", "someone" })
  lu.assertEquals(run.code, 3, run.said)
  lu.assertStrContains(run.err, "cannot impersonate") -- since 1.36: "cannot impersonate-on:user-info:get"
end

local code = lu.LuaUnit.run()
world.kubectl("delete namespace " .. NAMESPACE .. " --wait=false")
world.kubectl "delete clusterrole knbl-nodes"
for _, path in ipairs { script, script_direct, config } do os.remove(path) end
os.exit(code)
