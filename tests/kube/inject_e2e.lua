-- Injected agents on a real cluster without an image of knbl. KUBECONFIG names the cluster; nothing is loaded onto its
-- nodes.
package.path = "tests/kube/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.core"
local world = require "world"

TestInject = {}

local NAMESPACE = "knbl-injected"

local pair = world.script [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local client, server = cluster:pair()
knbl.tcp_rr { case = "first", from = client, to = server }
]]
local long = world.script [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local client, server = cluster:pair()
knbl.tcp_rr { case = "first", from = client, to = server, duration = "200ms" }
knbl.tcp_rr { case = "long", from = client, to = server, duration = "6s" }
]]

local function run(script, words, options)
  local all = { "--inject", "--namespace", NAMESPACE }
  table.move(words or {}, 1, #(words or {}), #all + 1, all)
  return world.scenario(script, all, options)
end

local function nothing_left()
  lu.assertEquals(world.left(NAMESPACE), "")
  local policies = world.kubectl(("-n %s get networkpolicies -l knbl.io/run -o name"):format(NAMESPACE))
  lu.assertTrue(policies == "" or policies:find "No resources" ~= nil, policies)
end

local function good(r)
  lu.assertEquals(r.code, 0, r.said)
  for _, m in ipairs(r.ledger.measurements) do lu.assertTrue(m.ok, r.said) end
  nothing_left()
end

function TestInject.test_said_in_the_results()
  local r = run(pair)
  good(r)
  local environment = r.ledger.environment
  lu.assertEquals(environment.agent_way, "injected")
  lu.assertEquals(environment.agent_run, "mounted")
  lu.assertStrContains(environment.agent_digest, "sha256:")
  lu.assertTrue(#environment.agent_image > 0)
end

-- The fields that Pod Security "restricted" requires, read from the pods, because servers before 1.22 do not enforce
-- it.
function TestInject.test_pods_are_restricted()
  local p = world.start { "--on", "k8s", "--inject", "--namespace", NAMESPACE, long }
  lu.assertTrue(p:says("first", 60))
  local query = "-o jsonpath='{range .items[*]}{.spec.containers[0].securityContext} {.spec.securityContext} \z
    {.spec.hostNetwork} {.spec.containers[0].imagePullPolicy} {.status.phase}{\"\\n\"}{end}'"
  local said = world.kubectl(("-n %s get pods -l knbl.io/run %s"):format(NAMESPACE, query))
  local maps = world.kubectl(("-n %s get configmaps -l knbl.io/run -o name"):format(NAMESPACE))
  good(p:wait(60))
  local _, pods = said:gsub('"runAsNonRoot":true', "")
  lu.assertTrue(pods >= 2, said)
  for _, word in ipairs { '"allowPrivilegeEscalation":false', '"drop":["ALL"]', '"readOnlyRootFilesystem":true',
    '"type":"RuntimeDefault"', "Never Running" } do
    lu.assertStrContains(said, word)
  end
  lu.assertNotStrContains(said, "fsGroup")
  -- one for the run, one for the agent of this cluster's architecture
  lu.assertEquals(select(2, maps:gsub("configmap/", "")), 2, maps)
end

-- Uses only the named image.
function TestInject.test_a_named_image()
  local r = run(pair)
  local image = r.ledger.environment.agent_image
  local named = world.scenario(pair, { "--inject=" .. image, "--namespace", NAMESPACE })
  good(named)
  lu.assertEquals(named.ledger.environment.agent_image, image)
  local none = world.scenario(pair, { "--inject=localhost:1/none:1", "--namespace", NAMESPACE })
  lu.assertEquals(none.code, 3, none.said)
  lu.assertStrContains(none.err, "can carry the agent: localhost:1/none:1")
  nothing_left()
end

function TestInject.test_host_network_and_services()
  good(run "scenarios/node_to_node.lua")
end

-- Deploys printed manifests, and measures with them.
function TestInject.test_manifests()
  local path = os.tmpname()
  local said, code = world.sh(("%s --on k8s --inject --namespace %s --dry-run --manifests %s >%s"):format(world.knbl,
    NAMESPACE, pair, path))
  lu.assertEquals(code, 0, said)
  local id = world.read(path):match "%-%-agents knbl.io/run=(%x+)"
  said, code = world.kubectl(("apply --server-side -f %s"):format(path))
  os.remove(path)
  lu.assertEquals(code, 0, said)
  world.kubectl(("-n %s wait --for=condition=Ready pod --all --timeout=60s"):format(NAMESPACE))
  local r = world.scenario(pair, { "--agents", "knbl.io/run=" .. id, "--namespace", NAMESPACE })
  world.run({ "clean", "--namespace", NAMESPACE }, { ledger = false })
  lu.assertEquals(r.code, 0, r.said)
  nothing_left()
end

-- Starting and removing a pod takes five requests, for any number of pods.
local counting = world.script [[
  local core = require "knbl.core"
  local n = 0
  for _, name in ipairs { "fetch", "fetch_open" } do
    local real = core[name]
    core[name] = function(request) n = n + 1 return real(request) end
  end
  local knbl = require "knbl"
  local cluster = knbl.cluster()
  cluster:pod { node = 1 }
  local before = n
  for i = 1, 6 do cluster:pod { node = i % 2 + 1 } end
  local up = n - before
  cluster:close()
  io.stderr:write(("requests a pod: %.2f up, %.2f in all\n"):format(up / 6, up / 6 + (n - before - up) / 7))
]]
function TestInject.test_requests_a_pod()
  local r = run(counting, {}, { seconds = 120 })
  local up, all = r.err:match "requests a pod: ([%d.]+) up, ([%d.]+) in all"
  lu.assertNotNil(up, r.said)
  lu.assertTrue(tonumber(up) < 6, r.err)
  io.stderr:write("# " .. r.err:match "requests a pod[^\n]*" .. "\n")
  lu.assertTrue(tonumber(all) < 10, r.err)
  nothing_left()
end

function TestInject.test_a_quota_of_configmaps()
  world.kubectl(("-n %s create quota maps --hard=configmaps=2"):format(NAMESPACE))
  core.sleep(1)
  local r = run(pair)
  world.kubectl(("-n %s delete quota maps"):format(NAMESPACE))
  lu.assertEquals(r.code, 3, r.said)
  lu.assertStrContains(r.err, "quota")
  nothing_left()
end

-- --allow: the policy exists during the run, and a default-deny policy is named if a path fails.
function TestInject.test_policies()
  local p = world.start { "--on", "k8s", "--inject", "--allow", "--namespace", NAMESPACE, long }
  lu.assertTrue(p:says("first", 60))
  local policies = world.kubectl(("-n %s get networkpolicies -l knbl.io/run -o name"):format(NAMESPACE))
  good(p:wait(60))
  lu.assertStrContains(policies, "networkpolicy.networking.k8s.io/knbl-")
end

-- Kills runs at many moments; `knbl clean` leaves nothing.
function TestInject.test_killed()
  local kills, side = tonumber(os.getenv "E2E_KILLS" or "") or 30, 5
  for first = 1, kills, side do
    local group = {}
    for k = 1, math.min(side, kills - first + 1) do
      local i = first + k - 1
      group[k] = { at = core.now() + 0.2 + 6 * ((i * 0.618) % 1),
        p = world.start { "--on", "k8s", "--inject", "--namespace", NAMESPACE, long } }
    end
    table.sort(group, function(a, b) return a.at < b.at end)
    for _, one in ipairs(group) do
      core.sleep(math.max(one.at - core.now(), 0))
      one.p:kill "KILL"
    end
    for _, one in ipairs(group) do lu.assertEquals(one.p:wait(30).code, 137, one.p.said) end
    lu.assertEquals(world.run({ "clean", "--namespace", NAMESPACE }, { ledger = false }).code, 0)
    nothing_left()
  end
end

world.kubectl("create namespace " .. NAMESPACE)
world.kubectl(("label namespace %s pod-security.kubernetes.io/enforce=restricted"):format(NAMESPACE))
local code = lu.LuaUnit.run()
world.kubectl(("delete namespace %s --wait=false"):format(NAMESPACE))
for _, path in ipairs { pair, long, counting } do os.remove(path) end
os.exit(code)
