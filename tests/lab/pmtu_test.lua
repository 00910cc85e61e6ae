-- pmtu in the lab: pods, nodes and Services, with the MTUs that a lab can have.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"

local function run(body)
  local code, out, err = fake.briefly("local knbl = require 'knbl'\n" .. body, { "--json", "-", "-q" }, core)
  fake.need_lab(err)
  lu.assertEquals(code, 0, err)
  return json.decode(out).measurements
end

local function check(m, path, link)
  lu.assertTrue(m.ok, m.case)
  for _, way in ipairs { "forward", "backward" } do
    local w = m.metrics[way]
    lu.assertEquals({ w.mtu_path, w.mtu_link, w.black_hole, w.mss_works }, { path, link, false, true },
      m.case .. ": " .. w.summary)
  end
end

TestPmtu = {}
function TestPmtu:test_paths_of_every_size()
  for _, options in ipairs { { "mtu = 1500", 1500 }, { "mtu = 1400", 1400 }, { "mtu = 9000", 9000 },
    { "mtu = 1500, overlay = 'vxlan'", 1450 } } do
    local list = run(([[
local cluster <close> = knbl.cluster { %s }
local client, server = cluster:pair()
local near = cluster:pod { node = client.node }
for _, ip in ipairs { 4, 6 } do
  for _, to in ipairs { server, near, server:service() } do knbl.pmtu { from = client, to = to, ip = ip } end
end
]]):format(options[1]))
    lu.assertEquals(#list, 6)
    for _, m in ipairs(list) do check(m, options[2], options[2]) end
    lu.assertEquals(list[3].via, "service")
  end
end

-- Jumbo frames at both ends and a fabric that has none: the router's ICMP is filtered, or not.
function TestPmtu:test_a_fabric_that_is_narrower()
  for _, filtered in ipairs { false, true } do
    local list = run(([[
local cluster <close> = knbl.cluster { mtu = 9000 }
local client, server = cluster:pair()
local service = server:service()
for _, node in ipairs { client.node, server.node } do
  local said, status = node:exec { "sh", "-c", "ip link set eth0 mtu 1500 || ip link" }
  assert(status == 0 and said == "", said)
  if %s then
    said, status = node:exec { "nft", "table inet filtered { chain out { type filter hook output priority 0; \z
      icmp type destination-unreachable drop; }; }" }
    assert(status == 0, said)
  end
end
for _, to in ipairs { server, service } do knbl.pmtu { from = client, to = to, ip = 4 } end
]]):format(filtered))
    for _, m in ipairs(list) do
      for _, way in ipairs { m.metrics.forward, m.metrics.backward } do
        lu.assertEquals({ way.mtu_path, way.mtu_link, way.mtu_reported, way.black_hole, way.mss_works },
          { 1500, 9000, not filtered and 1500 or nil, filtered, not filtered }, way.summary)
      end
    end
  end
end

os.exit(lu.LuaUnit.run())
