-- The path MTU where it is known beforehand: a router between the test and the agent, with links of any size.
local inside = require "tests.net.inside"
local lu = require "luaunit"
local core = require "knbl.core"

local to4, to6 = "10.97.2.2", "fd97:2::2"

-- here a0 - a1 mid b0 - b1 far
inside.sh "ip netns add mid"
for _, where in ipairs { "", "ip netns exec mid ", "ip netns exec far " } do -- no second of waiting for addresses
  inside.sh(where .. "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.dad_transmits=0")
end
inside.sh "ip link add a0 type veth peer name a1 netns mid"
inside.sh "ip -n mid link add b0 type veth peer name b1 netns far"
local function address(where, device, a4, a6)
  inside.sh("ip %s addr add %s/24 dev %s && ip %s addr add %s/64 dev %s nodad", where, a4, device, where, a6, device)
  inside.sh("ip %s link set %s up", where, device)
end
address("", "a0", "10.97.1.1", "fd97:1::1")
address("-n mid", "a1", "10.97.1.2", "fd97:1::2")
address("-n mid", "b0", "10.97.2.1", "fd97:2::1")
address("-n far", "b1", to4, to6)
inside.sh "ip netns exec mid sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"
inside.sh "ip route add 10.97.2.0/24 via 10.97.1.2 && ip route add fd97:2::/64 via fd97:1::2"
inside.sh "ip -n far route add 10.97.1.0/24 via 10.97.2.1 && ip -n far route add fd97:1::/64 via fd97:2::1"

local function mid(line, ...) return inside.sh("ip netns exec mid " .. line, ...) end

-- The MTU of the test's own link and of the agent's; `rules` of the router's firewall.
local function path(near, distant, rules)
  inside.sh("ip link set a0 mtu %d && ip -n mid link set a1 mtu %d", near, near)
  inside.sh("ip -n mid link set b0 mtu %d && ip -n far link set b1 mtu %d", distant, distant)
  mid "nft 'flush ruleset'"
  mid "nft 'table inet t { chain leaving { type filter hook output priority 0; }; \z
    chain passing { type filter hook forward priority 0; }; }'"
  for _, rule in ipairs(rules or {}) do mid("nft 'add rule inet t %s'", rule) end
end

local no_icmp = { "leaving icmp type destination-unreachable drop", "leaving icmpv6 type packet-too-big drop" }

local function measure(ip)
  for _, where in ipairs { "", "-n far" } do -- what TCP learned of the path before
    inside.sh("ip %s route flush cache && ip %s -6 route flush cache", where, where)
  end
  local began = core.now()
  local m = inside.measure({ test = "pmtu", ip = ip }, { host = ip == 6 and to6 or to4 })
  m.took = core.now() - began
  lu.assertEquals({ type(m.forward), type(m.backward) }, { "table", "table" })
  return m
end

local function check(way, expected)
  for key, value in pairs(expected) do lu.assertEquals(way[key], value, key .. ": " .. way.summary) end
end

local function each_family(check_one)
  for _, ip in ipairs { 4, 6 } do
    inside.one_of(3, function() check_one(measure(ip), ip) end)
  end
end

TestPmtu = {}
function TestPmtu:test_a_path_as_large_as_its_links()
  for _, mtu in ipairs { 1500, 9000, 1400 } do
    path(mtu, mtu)
    each_family(function(m, ip)
      for _, way in ipairs { m.forward, m.backward } do
        check(way, { mtu_path = mtu, mtu_link = mtu, black_hole = false, mss_works = true,
          mss = mtu - (ip == 6 and 72 or 52), summary = ("%d bytes pass, the interface promises %d"):format(mtu, mtu) })
        lu.assertNil(way.mtu_reported)
      end
      lu.assertEquals(m.errors + m.timeouts, 0)
    end)
  end
end

function TestPmtu:test_a_router_reports_a_narrower_link()
  path(9000, 1400)
  each_family(function(m)
    check(m.forward, { mtu_path = 1400, mtu_link = 9000, mtu_reported = 1400, black_hole = false, mss_works = true,
      summary = "1400 bytes pass, the interface promises 9000, ICMP reports it" })
    check(m.backward, { mtu_path = 1400, mtu_link = 1400, black_hole = false, mss_works = true })
  end)
  path(1400, 9000)
  each_family(function(m)
    check(m.forward, { mtu_path = 1400, mtu_link = 1400, mss_works = true })
    check(m.backward, { mtu_path = 1400, mtu_link = 9000, mtu_reported = 1400, black_hole = false, mss_works = true })
  end)
end

-- TCP's ends agree upon the least of their own MTUs: a link of 1400 at one end does it no harm. One in the middle does.
function TestPmtu:test_a_black_hole()
  path(1450, 1450, { "passing meta length > 1355 drop" })
  each_family(function(m)
    for _, way in ipairs { m.forward, m.backward } do
      check(way, { mtu_path = 1355, mtu_link = 1450, black_hole = true, mss_works = false })
      lu.assertNil(way.mtu_reported)
      lu.assertStrContains(way.summary,
        "1355 bytes pass, the interface promises 1450, no ICMP comes back: black hole; TCP stands still")
    end
    lu.assertTrue(m.took < 3, m.took)
  end)
end

function TestPmtu:test_filtered_icmp_makes_a_black_hole()
  path(9000, 1500, no_icmp)
  each_family(function(m)
    check(m.forward, { mtu_path = 1500, mtu_link = 9000, black_hole = true, mss_works = true })
    check(m.backward, { mtu_path = 1500, mtu_link = 1500, black_hole = false })
    lu.assertTrue(m.took < 3, m.took)
  end)
end

function TestPmtu:test_narrower_one_way_only()
  path(1500, 1500, { 'passing oifname "b0" meta length > 1380 drop' })
  each_family(function(m)
    check(m.forward, { mtu_path = 1380, black_hole = true, mss_works = false })
    check(m.backward, { mtu_path = 1500, black_hole = false, mss_works = true })
  end)
  path(1500, 1500, { 'passing oifname "a1" meta length > 1380 drop' })
  each_family(function(m)
    check(m.forward, { mtu_path = 1500, black_hole = false, mss_works = true })
    check(m.backward, { mtu_path = 1380, black_hole = true, mss_works = false })
  end)
end

-- A router that reports more than passes.
function TestPmtu:test_a_report_that_is_wrong()
  path(9000, 1400, { 'passing oifname "b0" meta length > 1300 meta length <= 1400 drop' })
  check(measure(4).forward, { mtu_path = 1300, mtu_reported = 1400, black_hole = false,
    summary = "1300 bytes pass, the interface promises 9000, but ICMP reports 1400; \z
      TCP stands still with segments of 1348 bytes" })
end

-- One copy of three is enough.
function TestPmtu:test_loss_is_no_mtu()
  path(1500, 1500, { "passing udp length > 1000 numgen inc mod 2 0 drop" })
  local m = measure(4)
  check(m.forward, { mtu_path = 1500 })
  check(m.backward, { mtu_path = 1500 })
end

-- The queue of the sender's own interface takes nothing for a while: hellos are lost and said again.
function TestPmtu:test_a_full_queue_at_the_sender_is_no_refusal()
  path(1500, 1500)
  measure(4) -- so that the neighbour is known
  inside.sh "tc qdisc replace dev a0 root pfifo limit 0"
  local run <close> = inside.start_run({ test = "pmtu", ip = 4 }, { host = to4 })
  core.sleep(0.15)
  inside.sh "tc qdisc del dev a0 root"
  assert(run:wait(30), "the run ends")
  local result = require("cjson").decode(run:result())
  lu.assertTrue(result.ok, result.error and result.error.message)
  check(result.metrics.forward, { mtu_path = 1500 })
end

function TestPmtu:test_nobody_answers()
  path(1500, 1500, { "passing udp dport 7099 drop" })
  local result = inside.run({ test = "pmtu", timeout = "300ms" }, { host = to4 })
  lu.assertFalse(result.ok)
  lu.assertStrContains(result.error.message, "no answer from 10.97.2.2:7099 over UDP")
end

inside.finish(lu.LuaUnit.run())
