-- What is read of an API server's objects: its version, Deployments, secondary networks.
local lu = require "luaunit"
local played = require "tests.kube.played"

local serve, user_of = played.serve, played.user_of
local api, dir

TestObjects = {}

function TestObjects.setUp() api, dir = played.set_up() end

-- ---- versions and Deployments ----

function TestObjects.test_whether_a_server_is_new_enough()
  for version, is in pairs { ['major = "1", minor = "30"'] = true, ['major = "1", minor = "29+"'] = false,
    ['major = "2", minor = "0"'] = true, ['major = "1", minor = "31+"'] = true, ['major = "", minor = ""'] = false,
    [""] = false } do
    serve("ok { " .. version .. " }")
    lu.assertEquals(api:is_at_least(1, 30), is, version)
  end
end

function TestObjects.test_whether_a_deployment_is_rolled_out()
  local kinds = 'kinds("Deployment"),' -- asked for once
  local function rolled(generation, replicas, updated, available)
    serve(([[%s ok { metadata = { name = "web", generation = 2 }, spec = { replicas = 3 }, status = {
      observedGeneration = %d, replicas = %d, updatedReplicas = %d, availableReplicas = %d } }]]):format(kinds,
      generation, replicas, updated, available))
    kinds = ""
    return api:is_rolled_out "web"
  end
  lu.assertTrue(rolled(2, 3, 3, 3))
  lu.assertFalse(rolled(1, 3, 3, 3)) -- the server has not looked at it yet
  lu.assertFalse(rolled(2, 4, 3, 3))
  lu.assertFalse(rolled(2, 3, 2, 3))
  lu.assertFalse(rolled(2, 3, 3, 2))
end

-- ---- secondary networks ----

-- The provider on the played server, whose pod "a" has this text as the annotation of Multus.
local function networks_of(status)
  user_of { token = "t" }
  serve(([[
function(r)
  if r.method == "POST" then
    r.object.metadata.uid, r.object.metadata.resourceVersion = "u", "1"
    return ok(r.object)
  elseif r.path:find "/pods/a" then
    return ok { metadata = { name = "a", annotations = { ["k8s.v1.cni.cncf.io/network-status"] = %s } },
      spec = { nodeName = "node-a" } }
  elseif r.path:find "/nodes" then
    return list("1", { { metadata = { name = "node-a", labels = {} }, spec = {}, status = { nodeInfo = {
      architecture = "amd64", operatingSystem = "linux" }, conditions = { { type = "Ready", status = "True" } },
      addresses = {} } } })
  elseif r.method == "GET" and r.path:find "/namespaces/default$" then
    return ok { metadata = { name = "default", labels = {} } }
  end
  return list("1", {})
end]]):format(status and ("%q"):format(status) or "nil"))
  local provider = assert(require "knbl.cluster.k8s".open { settings = { kubeconfig = dir:file "config" },
    token = "t" })
  local list, err = provider:networks { object = "a" }
  provider:close()
  return list, err
end

function TestObjects.test_secondary_networks_as_multus_tells_them()
  local list = networks_of [==[ [{"name":"cbr0","interface":"eth0","ips":["10.244.1.7"],"default":true,"dns":{}},
    {"name":"team/storage","interface":"net1","ips":["192.168.7.2","fd00:7::2"],"mac":"0a:58:c0:a8:07:02","dns":{}},
    {"name":"default/bare","interface":"net2","dns":{}}] ]==]
  lu.assertEquals(list, {
    { name = "team/storage", interface = "net1", addresses = { v4 = "192.168.7.2", v6 = "fd00:7::2" } },
    { name = "default/bare", interface = "net2", addresses = {} } })
end

function TestObjects.test_a_cluster_without_multus()
  local list, err = networks_of(nil)
  lu.assertNil(list)
  lu.assertEquals({ err.code, err.message }, { "unavailable", "a has no annotation k8s.v1.cni.cncf.io/network-status: \z
    secondary networks require Multus, which does not seem to run on node node-a" })
end

function TestObjects.test_an_annotation_that_is_no_list()
  for _, text in ipairs { "net1", "7", "\"x\"", "" } do
    local list, err = networks_of(text)
    lu.assertNil(list)
    lu.assertStrContains(err.message, "network-status must be a JSON list, got '" .. text .. "'")
  end
  lu.assertEquals(networks_of "[1, \"x\", {}]", { { name = "nil", addresses = {} } })
end

-- ---- what a run makes ----

-- What was refused need not be removed: to try it would end in another refusal, and a warning that something was left.
function TestObjects.test_what_was_refused_is_not_there()
  local owned = require "knbl.kube.owned"
  for status, left in pairs { [403] = 0, [404] = 0, [422] = 0, [409] = 1, [500] = 1, [504] = 1, none = 1 } do
    local err = { status = tonumber(status), message = "no" }
    local provider = { made = {}, api = { create = function() return nil, err end } }
    local made, why = owned.make(provider, { apiVersion = "v1", kind = "Service", metadata = { name = "a" } })
    lu.assertEquals({ made, why, #provider.made }, { nil, err, left }, tostring(status))
  end
end

local code = lu.LuaUnit.run()
played.close()
os.exit(code)
