-- Runtimes of the lab's pods, as a scenario has them: measured both ways and through a Service, named with how they ran, and with their cost
-- on the host; one that dies is named with its last words.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"
local contract = require "knbl.contract"
local schema = require "knbl.schema"

TestRuntimes = {}

local start = [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local a, b = cluster:nodes(2)
]]

local function run(body)
  local code, out, err = fake.briefly(start .. body, { "--json", "-", "-q", "--duration", "300ms" }, core)
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
  cluster.provider:request { op = "exec", argv = { "sh", "-c", "for p in /proc/[0-9]*; do grep -q ^runsc-sandbox $p/cmdline && kill -9 ${p#/proc/}; done" },
    capture = true }
  repeat until pod.endpoint:ended()
end
knbl.tcp_rr { from = a, to = pod }
]]
  unless_skipped(data)
  lu.assertEquals(code, 3)
  lu.assertStrContains(err, "box has ended: gvisor, status 137")
end

function TestRuntimes:test_one_that_is_not_there_is_skipped_with_the_reason()
  local data, err, code = run [[
for i, runtime in ipairs { "kata", "kata-clh", "kata-fc" } do
  knbl.tcp_rr { from = a, to = cluster:pod { name = "box-" .. i, node = a, runtime = runtime } }
end
]]
  local programs, any = { "qemu", "cloud-hypervisor", "firecracker" }, false
  for _, m in ipairs(data.measurements) do any = any or m.ok end
  lu.assertEquals(code, any and 0 or 98, err)
  for i, m in ipairs(data.measurements) do
    if m.ok then lu.assertStrMatches(m.path.to.sandbox.label, "kata %(" .. programs[i] .. " %d.*, %a+%)")
    else lu.assertStrMatches(m.skipped, ".*kata.*" ) end
  end
end

os.exit(lu.LuaUnit.run())
