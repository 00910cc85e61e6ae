-- A schedule through a real API server: a few agents in pods, and many as processes of this machine behind Pods whose
-- status the test sets by hand, so that the API server's pod proxy leads to them. MESH_AGENTS=1000 MESH_PODS=40 make it
-- large: it takes some minutes and 2 GB. A pod requests 0.1 CPU unless MESH_CPU says otherwise.
package.path = "tests/kube/?.lua;" .. package.path
local lu = require "luaunit"
local json = require "knbl.json"
local world = require "world"

local agents_n, pods_n = tonumber(os.getenv "MESH_AGENTS") or 30, tonumber(os.getenv "MESH_PODS") or 4
local namespace = ("knbl-mesh-%d-%d"):format(os.time(), math.random(1 << 30))
local token = "the token of the agents behind pods"

local script = [[
local knbl = require "knbl"
local core = require "knbl.native"
local schedule = require "knbl.mesh.schedule"
local N, HOST, PORT, TOKEN = tonumber(os.getenv "MESH_N"), os.getenv "MESH_HOST", 20000, os.getenv "MESH_TOKEN"
local cluster <close> = knbl.cluster()
local api = cluster.kube
local agents, names, real, wanted = {}, {}, 0, {}
local function add(name, endpoint) agents[#agents + 1], names[#names + 1] = endpoint, name end
for i = 1, tonumber(os.getenv "MESH_PODS") do
  local cpu = tonumber(os.getenv "MESH_CPU")
  wanted[i] = { name = "mesh-" .. i, cpu = cpu, memory = cpu and "100Mi" }
end
for i, pod in ipairs(cluster:pods(wanted)) do
  add(tostring(pod), pod.endpoint)
  real = i
end
for i = 1, N do
  local name = "mesh-agent-" .. i
  assert(api:create { apiVersion = "v1", kind = "Pod", metadata = { name = name },
    spec = { schedulerName = "nobody", containers = { { name = "a", image = "none" } } } })
  assert(api:request("PATCH", api:path("Pod", name) .. "/status", { content_type = "application/merge-patch+json",
    body = { status = { phase = "Running", podIP = HOST, podIPs = { { ip = HOST } } } } }))
  add(name, { name = name, kind = "pod", token = TOKEN, port = PORT + i, addresses = { v4 = HOST },
    control = { url = "", fetch = api:proxy(name, PORT + i), grace = 30 } })
end
local slots = {}
local function slot(test, list) slots[#slots + 1] = { test = test, at = 0.3 * #slots, duration = 5, pairs = list } end
for i = 1, real do slot("tcp_lat", { { i, i % real + 1 } }) slot("tcp_stream", { { i, i % real + 1 } }) end
for i = 1, N, 5 do
  local list = {}
  for k = i, math.min(i + 4, N) do list[#list + 1] = { real + k, real + k % N + 1 } end
  slot("tcp_lat", list)
end
local specs = { tcp_lat = { test = "tcp_lat", duration = 0.1, warmup = 0.02 },
  tcp_stream = { test = "tcp_stream", duration = 0.1, warmup = 0.02 } }
local results, stats = schedule.run(agents, { nodes = names, slots = slots }, specs, {})
assert(results, stats)
local codes, missing = {}, {}
for _, entry in ipairs(results) do
  local code = entry.ok and "ok" or entry.error.code
  codes[code] = (codes[code] or 0) + 1
end
for i, reason in pairs(stats.missing) do missing[tostring(i)] = reason end
local worst = 0
for _, ns in pairs(stats.clock_error_ns) do worst = math.max(worst, ns) end
local f <close> = io.open "/proc/self/status"
local peak = f:read "a":match "VmHWM:%s*(%d+)"
knbl.note { codes = codes, results = #results, missing = missing, requests = stats.requests,
  throttled = stats.throttled,
  most_requests = stats.most_requests, seconds = stats.seconds, bytes = stats.bytes, clock_error_ms = worst / 1e6,
  peak_kb = tonumber(peak) }
]]

-- Agents of this machine, many in one process.
local many = [[
local core = require "knbl.native"
local list = {}
for i = 1, tonumber(os.getenv "MESH_N") do
  list[i] = assert(core.agent { listen = ("%s:%d"):format(os.getenv "MESH_HOST", 20000 + i),
    token = os.getenv "MESH_TOKEN", name = "agent-" .. i })
end
io.stderr:write "ready\n"
while core.sleep(1) do end
]]

local mine = { agents = nil, scripts = {} }

local function start_agents(env)
  mine.scripts[1] = world.script(many)
  mine.agents = world.start({ mine.scripts[1] }, { env = env, ledger = false })
  assert(mine.agents:says("ready", 300), "the agents do not come up")
end

local function clean_up()
  if mine.agents then
    mine.agents:kill "TERM"
    mine.agents:wait(60)
  end
  for _, path in ipairs(mine.scripts) do os.remove(path) end
  world.kubectl(("delete namespace %s --wait=false --grace-period=0"):format(namespace))
end

TestSchedule = {}

function TestSchedule:test_a_mesh_through_the_api_server()
  local _, here = world.addresses()
  if not (here and world.process "kube-apiserver") then lu.skip "the API server cannot reach this machine" end
  local env = ("MESH_N=%d MESH_PODS=%d MESH_HOST=%s MESH_TOKEN=%s"):format(agents_n, pods_n, here, world.quote(token))
  world.kubectl("create namespace " .. namespace)
  local ok, wrong = pcall(function()
    start_agents(env)
    mine.scripts[2] = world.script(script)
    local words = { "--on", "k8s", "--namespace", namespace, mine.scripts[2] }
    if os.getenv "E2E_INJECT" then table.insert(words, 3, "--inject") end
    local run = world.run(words, { env = env, seconds = 900 })
    lu.assertEquals(run.code, 0, run.said)
    local note = run.ledger.notes[1]
    print("# " .. json.encode(note))
    lu.assertEquals(note.missing, {})
    lu.assertEquals(note.results, agents_n + 2 * pods_n)
    local starved = (note.codes.late or 0) + (note.codes.no_data or 0) + (note.codes.timeout or 0)
    lu.assertEquals((note.codes.ok or 0) + starved, note.results, json.encode(note.codes))
    lu.assertTrue(note.codes.ok > 0)
    lu.assertTrue(note.most_requests <= 6)
    lu.assertTrue(note.requests <= 6 * (agents_n + pods_n))
    lu.assertTrue(note.seconds >= note.requests / 50 - 1, "no faster than 50 a second")
    lu.assertTrue(note.peak_kb < 300 * 1024, note.peak_kb)
  end)
  clean_up()
  if not ok then error(wrong, 0) end
end

-- knbl submit: the orchestrator runs in a pod, and reaches the agents of eight others directly.
function TestSchedule:test_a_mesh_from_inside_the_cluster()
  local path = world.script [[
    local knbl = require "knbl"
    local cluster <close> = knbl.cluster()
    local wanted = {}
    for i = 1, 8 do wanted[i] = { name = "mesh-" .. i } end
    knbl.mesh { nodes = cluster:pods(wanted), duration = "100ms", tests = { "tcp_lat", "tcp_stream" } }
  ]]
  local words = { path, "--namespace", namespace .. "-in" }
  if os.getenv "E2E_IMAGE" then words[4], words[5] = "--image", os.getenv "E2E_IMAGE" end
  local run = world.submit(words)
  os.remove(path)
  lu.assertTrue(run.code == 0 or run.code == 1, run.said) -- a busy machine may starve a run
  local mesh = run.ledger.meshes[1]
  lu.assertEquals({ #mesh.nodes, mesh.missing }, { 8, {} }, run.said)
  lu.assertTrue(mesh.cost.most_requests <= 6)
  lu.assertEquals(#mesh.tests[1].pairs + #mesh.tests[1].failed, 56)
  lu.assertTrue(#mesh.tests[1].pairs > 0)
end

os.exit(lu.LuaUnit.run())
