-- Admission on a real cluster: a webhook refuses pods with the messages of Pod Security and of policies on newer
-- servers.
package.path = "tests/kube/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.core"
local json = require "knbl.json"
local world = require "world"

TestPolicy = {}

local NAMESPACE, HOOK = "knbl-policy", "knbl-test-policy"
local _, HERE = world.addresses() -- where a cluster made on this machine reaches us
local PORT = 18443

local folder = world.sh("mktemp -d"):gsub("\n", "")

-- The webhook refuses a pod if `verdict`, Lua text that reads the pod's spec, returns a code and a message.
local function refuse(verdict)
  local text = ([[return { function(r)
    local review = r.object
    local spec = review.request.object.spec
    local code, message = (function() %s end)()
    return ok { apiVersion = "admission.k8s.io/v1", kind = "AdmissionReview", response = {
      uid = review.request.uid, allowed = not code, warnings = json.array { "pods are watched here" },
      status = code and { code = code, message = message, reason = "Forbidden" } or nil } }
  end }]]):format(verdict)
  local f = assert(io.open(folder .. "/answers.lua", "w"))
  f:write(text)
  f:close()
end

local function setup()
  world.sh(("B=%s timeout 200 %s tests/kube/faulty.lua %s %s %d >/dev/null 2>&1 &"):format(os.getenv "B" or "build",
    world.knbl, folder, HERE, PORT))
  local deadline = core.now() + 10
  while world.read(folder .. "/port") == "" and core.now() < deadline do core.sleep(0.02) end
  local hook = { apiVersion = "admissionregistration.k8s.io/v1", kind = "ValidatingWebhookConfiguration",
    metadata = { name = HOOK }, webhooks = { {
    name = "pods.knbl.test", sideEffects = "None", admissionReviewVersions = { "v1" }, timeoutSeconds = 5,
      failurePolicy = "Fail",
    clientConfig = { url = ("https://%s:%d/review"):format(HERE, PORT),
      caBundle = core.base64(world.read(folder .. "/ca.pem")) },
    namespaceSelector = { matchLabels = { ["knbl-test"] = "policy" } },
    rules = { { apiGroups = { "" }, apiVersions = { "v1" }, operations = { "CREATE" }, resources = { "pods" } } } } } }
  refuse "return"
  local path = world.script(json.encode(hook))
  world.kubectl("create namespace " .. NAMESPACE)
  world.kubectl("label namespace " .. NAMESPACE .. " knbl-test=policy pod-security.kubernetes.io/enforce=restricted")
  world.kubectl("apply -f " .. path)
  os.remove(path)
  core.sleep(1) -- the API server has its own watch of webhooks
end

local ready
function TestPolicy.setUp()
  lu.skipIf(not world.process "kube-apiserver", "no API server of this machine, which could reach a webhook here")
  if not ready then setup() end
  ready = true
end

local function run(scenario, words)
  local all = { "--namespace", NAMESPACE }
  table.move(words or {}, 1, #(words or {}), #all + 1, all)
  return world.scenario(scenario, all)
end

local function measured_and_skipped(r)
  lu.assertEquals(r.code, 0, r.said)
  local measured, skipped = 0, 0
  for _, m in ipairs(r.ledger.measurements) do
    if m.skipped then
      lu.assertStrContains(m.skipped, "pod-security.kubernetes.io/enforce=privileged")
      skipped = skipped + 1
    else
      lu.assertTrue(m.ok)
      measured = measured + 1
    end
  end
  return { measured, skipped }
end

-- If Pod Security refuses the host network, those paths are skipped with the required label, and the others are
-- measured.
function TestPolicy.test_1_restricted()
  refuse [[if spec.hostNetwork then
      return 403, 'pods "p" is forbidden: violates PodSecurity "restricted:latest": host namespaces (hostNetwork=true)'
    end
    local drops = spec.containers[1].securityContext.capabilities.drop
    if not (spec.securityContext.runAsNonRoot and drops[1] == "ALL") then return 403, "not restricted" end]]
  local r = run("scenarios/ping.lua", { "--pings", "2" })
  lu.assertEquals(measured_and_skipped(r), { 3, 4 })
  local _, n = r.err:gsub("warning from the API server: pods are watched here", "")
  lu.assertEquals(n, 1) -- the server's warning is shown, once
  -- the same from inside the cluster, without permission to read nodes
  r = world.submit { "scenarios/ping.lua", "--namespace", NAMESPACE, "--", "--pings", "2" }
  lu.assertEquals(measured_and_skipped(r), { 3, 4 })
  lu.assertEquals(world.left(NAMESPACE), "")
end

function TestPolicy.test_2_a_policy()
  refuse [[
    return 422, "ValidatingAdmissionPolicy 'images' with binding 'all' denied request: only images of our registry"]]
  local r = run "scenarios/ping.lua"
  lu.assertEquals(r.code, 3, r.said)
  lu.assertStrContains(r.err, "a policy of the cluster denied it: ")
  lu.assertStrContains(r.err, "only images of our registry")
  r = world.run({ "submit", "scenarios/ping.lua", "--namespace", NAMESPACE }, { ledger = false })
  lu.assertEquals(r.code, 3, r.said)
  lu.assertStrContains(r.err, "its Job does not start: a policy of the cluster denied it: ")
  lu.assertStrContains(r.err, "only images of our registry")
  lu.assertTrue(r.seconds < 30, r.said)
  lu.assertEquals(world.left(NAMESPACE), "")
end

-- A ValidatingAdmissionPolicy of the server (since 1.30).
local images = [[
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: knbl-test-images}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}
  validations:
  - {expression: "object.spec.containers.all(c, c.image.startsWith('registry.example/'))",
    message: only images of registry.example}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: knbl-test-images}
spec:
  policyName: knbl-test-images
  validationActions: [Deny]
  matchResources: {namespaceSelector: {matchLabels: {knbl-test: policy}}}
]]

function TestPolicy.test_2_a_policy_of_the_server()
  refuse "return"
  local path = world.script(images)
  local said = world.kubectl("apply -f " .. path)
  core.sleep(2) -- the API server has its own watch of policies
  local r = run "scenarios/ping.lua"
  world.kubectl("delete -f " .. path)
  os.remove(path)
  core.sleep(2) -- by which it forgets them too
  lu.skipIf(not said:find("admissionpolicybinding.admissionregistration.k8s.io/knbl-test-images created", 1, true),
    "this server has no such policies")
  lu.assertEquals(r.code, 3, r.said)
  lu.assertStrContains(r.err, "a policy of the cluster denied it: ")
  lu.assertStrContains(r.err, "only images of registry.example")
  lu.assertEquals(world.left(NAMESPACE), "")
end

-- A webhook that is down refuses everything; knbl reports it within seconds.
function TestPolicy.test_3_a_webhook_that_is_down()
  os.remove(folder .. "/port")
  core.sleep(0.5)
  local r = run "scenarios/ping.lua"
  lu.assertEquals(r.code, 3, r.said)
  lu.assertStrContains(r.err, "failed calling webhook")
  lu.assertTrue(r.seconds < 60, r.said)
  lu.assertEquals(world.left(NAMESPACE), "")
end

local code = lu.LuaUnit.run()
if ready then
  world.kubectl("delete validatingwebhookconfiguration " .. HOOK)
  world.kubectl("delete namespace " .. NAMESPACE .. " --wait=false")
end
os.execute("rm -rf " .. folder)
os.exit(code)
