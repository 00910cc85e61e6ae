-- What a pod and its sandbox cost as the host sees them: read around a run from endpoints that know, absent where one
-- does not.
local lu = require "luaunit"
local outside = require "knbl.measure.outside"
local figures = require "knbl.results.figures"
local wish = require "knbl.kube.wish"

TestOutside = {}

local now
local core = { now = function() return now end }

local function thing(name, cpu_ns, memory, words)
  return { name = name, endpoint = { cpu_ns = cpu_ns,
    usage = function(self) return self.cpu_ns and { cpu_ns = self.cpu_ns, memory_bytes = memory } end,
    ended = function() return words end } }
end

local function between(request, seconds, used)
  now = 100
  local before = outside.read(core, request)
  for one, ns in pairs(used) do one.endpoint.cpu_ns = ns and one.endpoint.cpu_ns + ns end
  now = 100 + seconds
  local metrics = {}
  outside.add(metrics, before, outside.read(core, request))
  return metrics
end

function TestOutside:test_cores_over_the_whole_run()
  local client, server = thing("c", 5e9, 1000), thing("s", 7e9, 2000)
  local metrics = between({ from = client, route = { to = server } }, 4, { [client] = 2e9, [server] = 6e9 })
  lu.assertEquals(metrics, { cpu = { client_sandbox = 0.5, server_sandbox = 1.5 },
    memory = { client_sandbox = 1000, server_sandbox = 2000 } })
  lu.assertEquals(figures.value({ metrics = metrics }, figures.get "cpu_server_sandbox"), 1.5)
end

function TestOutside:test_all_backends_of_a_service_or_none()
  local client, a, b = thing("c", 0, 0), thing("a", 1e9, 10), thing("b", 2e9, 20)
  local request = { from = client, route = { to = { name = "svc", endpoints = { a, b } } } }
  local metrics = between(request, 2, { [a] = 1e9, [b] = 3e9 })
  lu.assertEquals({ metrics.cpu.server_sandbox, metrics.memory.server_sandbox, metrics.memory.client_sandbox },
    { 2, 30, nil })
  lu.assertNil(between(request, 2, { [a] = 1e9, [b] = false }).cpu.server_sandbox)
end

function TestOutside:test_what_is_not_known_is_absent()
  local elsewhere = { name = "e", endpoint = {} }
  lu.assertEquals(between({ from = elsewhere, route = {} }, 1, {}), {})
  local back = thing("b", 5e9, 0)
  lu.assertNil(between({ from = back, route = { to = elsewhere } }, 1, { [back] = -1e9 }).cpu)
end

function TestOutside:test_the_last_words_of_an_end()
  local client, server = thing("c", 0, 0), thing("s", 0, 0, "gvisor, status 137: no memory")
  lu.assertEquals(outside.obituary { from = client, route = { to = { endpoints = { server } } } },
    "s has ended: gvisor, status 137: no memory")
  lu.assertNil(outside.obituary { from = client, route = { to = "http://192.0.2.1" } })
end

function TestOutside:test_what_a_pod_is_lies_beside_the_metrics()
  local m = { metrics = {}, path = { to = { started_ms = 250, memory_bytes = 1048576 } } }
  lu.assertEquals({ figures.value(m, figures.get "pod_start"), figures.value(m, figures.get "pod_memory") },
    { 250, 1048576 })
  lu.assertNil(figures.value({ metrics = {} }, figures.get "pod_start"))
end

function TestOutside:test_a_runtime_class_with_another_handler_says_so()
  lu.assertEquals(wish.label("kata", "kata-qemu"), "kata (handler kata-qemu)")
  lu.assertNil(wish.label("kata", "kata"))
  lu.assertNil(wish.label(nil, nil))
end

os.exit(lu.LuaUnit.run())
