-- Scenarios with the runtimes of the lab's pods: they are measured in both directions and through a Service, and the
-- results name the runtime and its cost on the host. If a runtime dies, the message contains its last output.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"
local contract = require "knbl.results.contract"
local schema = require "knbl.base.schema"

TestRuntimes = {}

local start = [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local a, b = cluster:nodes(2)
]]

local function run(body, duration)
  local code, out, err = fake.briefly(start .. body, { "--json", "-", "-q", "--duration", duration or "300ms" }, core)
  fake.need_lab(err)
  return json.decode(out), err, code
end

local function unless_skipped(data)
  local reason = data.measurements[1].skipped
  if reason then lu.skip(reason) end
end

local function measured(runtime)
  local data, err, code = run(([[
local pod = cluster:pod { name = "box", node = a, runtime = "%s" }
local svc = pod:service()
for _, to in ipairs { pod, svc } do knbl.tcp_rr { from = b, to = to, labels = { runtime = pod.label } } end
knbl.tcp_crr { from = a, to = svc }
knbl.tcp_stream { from = pod, to = b }
knbl.udp_rr { from = a, to = pod }
knbl.http { from = a, to = pod, connections = 16 } -- requests are on their way when it ends
]]):format(runtime))
  lu.assertNil(schema.validate(contract, data))
  unless_skipped(data)
  lu.assertEquals(code, 0, err)
  for _, m in ipairs(data.measurements) do
    lu.assertTrue(m.ok, m.error and m.error.message)
    lu.assertTrue(m.metrics.cpu.client_sandbox >= 0 and m.metrics.cpu.server_sandbox >= 0)
    local side = m.to == "node-2" and m.path.from or m.path.to
    lu.assertEquals(side.runtime, runtime)
    lu.assertTrue(side.started_ms >= 0 and side.memory_bytes > 0)
  end
  lu.assertEquals(data.measurements[2].servers[1].name, "box")
  return data
end

function TestRuntimes:test_runc_and_host()
  lu.assertEquals(measured("runc").measurements[1].path.to.sandbox.platform, "namespaces")
  measured "host"
end

local function owner_of(path)
  local pipe <close> = io.popen("stat -c %u:%g " .. path)
  return pipe:read "l"
end

-- The same ports of the client by two ways: gVisor drops a SYN whose addresses and ports it has in TIME_WAIT. A starved
-- sandbox may fail one in thousands, now and then; what is wrong fails each time.
function TestRuntimes:test_gvisor_takes_new_connections_by_both_ways()
  local list
  for _ = 1, 3 do
    local data = run([[
local client, server = cluster:pod { node = a }, cluster:pod { node = b, runtime = "gvisor" }
local svc = server:service()
for _, to in ipairs { svc, svc, server } do
  knbl.tcp_crr { from = client, to = to, count = 3000, warmup = 0 }
end
]], "30s")
    unless_skipped(data)
    list = data.measurements
    local failed = 0
    for _, m in ipairs(list) do failed = failed + (m.ok and m.metrics.connect_errors or 1) end
    if failed == 0 then break end
  end
  for _, m in ipairs(list) do
    lu.assertTrue(m.ok, m.error and m.error.message)
    lu.assertEquals({ m.metrics.connect_errors, m.metrics.ops }, { 0, 3000 })
    lu.assertStrContains(m.chosen.reset, "no TIME_WAIT")
  end
end

function TestRuntimes:test_gvisor()
  local null = owner_of "/dev/null" -- runsc makes what it is given its own user's
  local data = measured "gvisor"
  lu.assertEquals(owner_of "/dev/null", null)
  local m = data.measurements[1]
  lu.assertStrContains(m.labels.runtime, "gvisor, ")
  lu.assertStrContains(data.environment.runtimes.gvisor, "runsc")
  lu.assertStrContains(data.environment.runtimes.gvisor, m.path.to.sandbox.platform)
  lu.assertTrue(m.metrics.memory.server_sandbox > 8 * 2 ^ 20, "a kernel of its own takes memory")
end

function TestRuntimes:test_one_that_dies_is_named_with_its_last_words()
  local data, err, code = run [[
local pod = cluster:pod { name = "box", node = a, runtime = "gvisor" }
if not pod.skip then
  cluster.provider:request { op = "exec", argv = { "sh", "-c",
    "for p in /proc/[0-9]*; do grep -q ^runsc-sandbox $p/cmdline && kill -9 ${p#/proc/}; done" }, capture = true }
  repeat until pod.endpoint:ended()
end
knbl.tcp_rr { from = a, to = pod }
]]
  unless_skipped(data)
  lu.assertEquals(code, 3)
  lu.assertStrContains(err, "box has ended: gvisor, killed by signal 9")
end

function TestRuntimes:test_kata_is_measured_or_skipped_with_the_reason()
  local data, err, code = run 'knbl.tcp_rr { from = a, to = cluster:pod { name = "box", node = a, runtime = "kata" } }'
  local m = data.measurements[1]
  if not m.ok then
    lu.assertEquals(code, 98, err)
    lu.assertStrContains(m.skipped, "kata: ")
    return
  end
  lu.assertEquals(code, 0, err)
  lu.assertStrMatches(m.path.to.sandbox.label, "kata %(qemu %d.*, %a+%)")
end

os.exit(lu.LuaUnit.run())
