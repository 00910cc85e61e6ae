-- dns in the lab: dnsmasq in pods, aimed at a pod, at each backend of a Service, and through the Service.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"

TestDns = {}
function TestDns:test_a_pod_and_a_service()
  local code, out, err = fake.briefly([[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local client, one = cluster:pair()
local two = cluster:pod {}
for i, pod in ipairs { one, two } do
  local said, status = pod:exec { "dnsmasq", "--no-resolv", "--no-hosts", "--user=", "--group=", "--pid-file=",
    ("--address=/name.test/192.0.2.%d"):format(i), "--address=/alone.test/192.0.2.9" }
  assert(status == 0, said)
end
local service = cluster:service { endpoints = { one, two },
  ports = { { port = 53, target = 53, protocol = "udp" }, { port = 53, target = 53, protocol = "tcp" } } }
for _, proto in ipairs { "udp", "tcp" } do
  for _, to in ipairs { one, two, service } do
    knbl.dns { from = client, to = to, names = { "alone.test", "{a,b}.name.test" }, proto = proto, count = 300,
      warmup = 0, flows = 16, expect = { "errors == 0", "timeouts == 0" } }
      -- so many that they do not all meet one backend; over TCP, dnsmasq takes 20 connections at a time
  end
end
]], { "--json", "-", "-q" }, core)
  fake.need_lab(err)
  lu.assertEquals(code, 0, err)
  local list = json.decode(out).measurements
  for i, m in ipairs(list) do
    lu.assertEquals({ m.metrics.ops, m.metrics.lookup.rcodes.NOERROR, m.metrics.lookup.empty }, { 300, 300, 0 })
    lu.assertEquals(m.params.names, "alone.test,{a,b}.name.test")
    lu.assertEquals(m.path.to.port, 53)
    -- the two backends have other answers to the same names
    lu.assertEquals(m.metrics.lookup.differing > 0, i % 3 == 0, m.case)
  end
  lu.assertEquals(list[3].via, "service")
end

os.exit(lu.LuaUnit.run())
