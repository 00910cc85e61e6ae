-- DNS against real servers: unbound and dnsmasq in a namespace of the test, with names whose answers are known.
local inside = require "tests.net.inside"
local lu = require "luaunit"
local core = require "knbl.core"

local UNBOUND, DNSMASQ = 5301, 5302

local function write(name, text)
  local f <close> = assert(io.open(inside.dir .. "/" .. name, "w"))
  f:write(text)
  return inside.dir .. "/" .. name
end

local zone = {}
for i = 1, 100 do
  zone[#zone + 1] = ('local-data: "host-%d.example.test. 60 IN A 192.0.2.%d"'):format(i, i)
  zone[#zone + 1] = ('local-data: "host-%d.example.test. 60 IN AAAA 2001:db8::%x"'):format(i, i)
  zone[#zone + 1] = ('local-data-ptr: "192.0.2.%d host-%d.example.test"'):format(i, i)
end
for i = 1, 60 do zone[#zone + 1] = ('local-data: "big.example.test. 60 IN A 198.51.100.%d"'):format(i) end

local unbound = write("unbound.conf", ([[
server:
  interface: 0.0.0.0
  interface: ::0
  port: %d
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "%s"
  pidfile: ""
  use-syslog: no
  logfile: "%s/unbound.log"
  access-control: 0.0.0.0/0 allow
  access-control: ::/0 allow
  module-config: "iterator"
  local-zone: "example.test." static
  local-zone: "cluster.test." static
  local-data: "_http._tcp.example.test. 60 IN SRV 1 2 80 host-1.example.test."
  local-data: "api.shop.svc.cluster.test. 60 IN A 192.0.2.200"
  local-data: "only4.example.test. 60 IN A 192.0.2.201"
  %s
remote-control:
  control-enable: no
]]):format(UNBOUND, inside.dir, inside.dir, table.concat(zone, "\n  ")))

local hosts = {}
for i = 1, 100 do hosts[i] = ("192.0.2.%d host-%d.example.test"):format(i, i) end
local dnsmasq = write("dnsmasq.conf", ([[
port=%d
no-resolv
no-hosts
no-daemon
user=
group=
local=/test/
addn-hosts=%s
cname=alias.example.test,host-7.example.test
srv-host=_http._tcp.example.test,host-1.example.test,80
]]):format(DNSMASQ, write("hosts", table.concat(hosts, "\n") .. "\n")))

local servers = {
  inside.start("ip netns exec far unbound -d -c " .. unbound, "unbound.out"),
  inside.start("ip netns exec far dnsmasq -C " .. dnsmasq, "dnsmasq.out"),
}
for _, port in ipairs { UNBOUND, DNSMASQ } do
  assert(inside.await(function() return inside.listening(port, "ip netns exec far ") end, 10),
    "no DNS server: " .. inside.sh("cat %s/*.out %s/unbound.log", inside.dir, inside.dir))
end

local function measure(spec, port)
  spec.test, spec.warmup = "dns", spec.warmup or 0
  local m, result = inside.measure(spec, { port = port })
  return m, result
end

-- What holds of every healthy run.
local function healthy(m, ops)
  lu.assertEquals({ m.ops, m.errors, m.timeouts }, { ops, 0, 0 })
  lu.assertEquals({ m.lookup.malformed, m.lookup.unexpected, m.lookup.alias_loops, m.lookup.retries,
    m.lookup.differing }, { 0, 0, 0, 0, 0 })
  lu.assertTrue(m.latency_ns.p50 > 0 and m.latency_ns.p50 <= m.latency_ns.p99)
  lu.assertEquals(m.latency_ns.count, ops)
end

TestDns = {}
function TestDns:test_each_server_family_and_transport()
  for _, port in ipairs { UNBOUND, DNSMASQ } do
    for _, ip in ipairs { 4, 6 } do
      for _, proto in ipairs { "udp", "tcp" } do
        local m = measure({ names = "host-{1..100}.example.test", count = 500, burst = 8, ip = ip, proto = proto },
          port)
        healthy(m, 500)
        lu.assertEquals({ m.lookup.lookups, m.lookup.queries >= 500, m.lookup.empty }, { 500, true, 0 })
        lu.assertEquals(m.lookup.rcodes.NOERROR, 500)
      end
    end
  end
end

function TestDns:test_types()
  local function ask(kind, names, port)
    local m = measure({ names = names, type = kind, count = 20 }, port or UNBOUND)
    healthy(m, 20)
    return m.lookup
  end
  lu.assertEquals(ask("AAAA", "host-{1..100}.example.test").empty, 0)
  lu.assertEquals(ask("PTR", "192.0.2.{1..100}").empty, 0)
  lu.assertEquals(ask("SRV", "_http._tcp.example.test").empty, 0)
  lu.assertEquals(ask("SRV", "_http._tcp.example.test", DNSMASQ).empty, 0)
  lu.assertEquals(ask("A", "alias.example.test", DNSMASQ).empty, 0, "an alias is followed")
  local both = ask("both", "host-{1..100}.example.test")
  lu.assertEquals({ both.lookups, both.queries, both.rcodes.NOERROR }, { 20, 40, 40 })
  local only = ask("AAAA", "only4.example.test")
  lu.assertEquals({ only.empty, only.rcodes.NOERROR }, { 20, 20 })
  local none = ask("A", "missing.example.test")
  lu.assertEquals({ none.empty, none.rcodes.NXDOMAIN }, { 20, 20 })
end

-- 60 addresses do not fit in 512 bytes.
function TestDns:test_truncation()
  local m = measure({ names = "big.example.test", count = 50, burst = 4 }, UNBOUND)
  healthy(m, 50)
  lu.assertEquals({ m.lookup.truncated, m.lookup.queries, m.lookup.empty }, { 50, 100, 0 })
  m = measure({ names = "big.example.test", count = 50, edns = 4096 }, UNBOUND)
  lu.assertEquals({ m.lookup.truncated, m.lookup.queries }, { 0, 50 })
  m = measure({ names = "big.example.test", count = 50, proto = "tcp" }, UNBOUND)
  lu.assertEquals({ m.lookup.truncated, m.lookup.queries }, { 0, 50 })
end

-- A pod with Kubernetes' search list asks five times for what is outside, and once for a Service of its namespace.
function TestDns:test_as_a_pod_asks()
  inside.sh("mount --bind %s /etc/resolv.conf", write("resolv.conf", ([[
nameserver %s
search shop.svc.cluster.test svc.cluster.test cluster.test example.test
options ndots:5
]]):format(inside.there)))
  local function per_lookup(names, resolve)
    local m = measure({ names = names, resolve = resolve, count = 20 }, UNBOUND)
    healthy(m, 20)
    lu.assertEquals(m.lookup.empty, 0)
    return m.lookup.queries_per_lookup
  end
  lu.assertEquals(per_lookup("host-1.example.test", "pod"), 5)
  lu.assertEquals(per_lookup("host-1.example.test", "exact"), 1)
  lu.assertEquals(per_lookup("host-1.example.test.", "pod"), 1)
  lu.assertEquals(per_lookup("api", "pod"), 1)
  lu.assertEquals(per_lookup("api.shop", "pod"), 2)
  local m = inside.measure({ test = "dns", names = "host-1.example.test", count = 5, warmup = 0 },
    { host = "resolv.conf", port = UNBOUND })
  healthy(m, 5)
  inside.sh "umount /etc/resolv.conf"
end

function TestDns:test_open_loop_keeps_its_rate()
  local m = measure({ names = "host-{1..100}.example.test", rate = "500/s", duration = 1, burst = 64 }, UNBOUND)
  lu.assertEquals({ m.errors, m.timeouts }, { 0, 0 })
  lu.assertAlmostEquals(m.rate_per_s, 500, 10)
end

-- A client that stands still reads nothing: its socket drops the answers for which its buffer has no room, and its
-- kernel says how many.
function TestDns:test_answers_that_the_clients_own_socket_drops()
  local function stand_still(flows, retries)
    local before = inside.buffer_errors()
    local result = inside.stand_still({ test = "dns", names = "host-{1..100}.example.test", burst = 64, rcvbuf = 4096,
      flows = flows, threads = 1, retries = retries, timeout = "4s", duration = 1, warmup = 0 }, "measure", UNBOUND)
    local m, dropped = result.metrics, inside.buffer_errors() - before
    lu.assertTrue(dropped >= 20, dropped .. " dropped")
    lu.assertEquals(m.client_drops, dropped)
    lu.assertTrue(m.lookup.retries + m.timeouts >= dropped, "each is a retry or a timeout")
    lu.assertTrue(inside.flagged(result, "client_drops"))
  end
  for _, case in ipairs { { 1, 0 }, { 4, 0 }, { 4, 1 } } do
    inside.one_of(4, function() stand_still(case[1], case[2]) end)
  end
  local m, result = measure({ names = "host-1.example.test", count = 100 }, UNBOUND)
  lu.assertEquals({ m.client_drops, inside.flagged(result, "client_drops") }, { 0, false })
  m = measure({ names = "host-1.example.test", count = 100, proto = "tcp" }, UNBOUND)
  lu.assertNil(m.client_drops)
end

-- Queries that are dropped on their way: half of them, then all. On a busy machine an answer may come too late.
local function dropping(rule, check)
  inside.one_of(4, function()
    inside.there_sh "nft 'table inet d { chain c { type filter hook input priority 0; }; }'"
    inside.there_sh("nft 'add rule inet d c udp dport %d %s'", UNBOUND, rule)
    local ok, err = pcall(check)
    inside.there_sh "nft delete table inet d"
    if not ok then error(err, 0) end
  end)
end

function TestDns:test_retries_and_timeouts()
  dropping("numgen inc mod 2 0 drop", function()
    local m = measure({ names = "host-1.example.test", count = 10, timeout = "1s", retries = 4 }, UNBOUND)
    lu.assertEquals({ m.ops, m.timeouts, m.errors, m.lookup.retries }, { 10, 0, 0, 10 })
    lu.assertTrue(m.latency_ns.min >= 200e6, "each waits for its second attempt")
  end)
  dropping("numgen inc mod 2 0 drop", function()
    local m = measure({ names = "host-1.example.test", count = 10, timeout = "100ms", retries = 0 }, UNBOUND)
    lu.assertEquals({ m.ops, m.timeouts, m.errors, m.lookup.retries }, { 5, 5, 0, 0 })
  end)
  dropping("drop", function()
    local result = inside.run({ test = "dns", names = "a.test", count = 4, timeout = "100ms", warmup = 0 },
      { port = UNBOUND })
    lu.assertEquals({ result.ok, result.error.code }, { false, "no_data" })
    lu.assertStrContains(result.error.message, "4 had no answer in 100 ms (timeout): look at what lies between")
    result = inside.run({ test = "dns", names = "a.test", duration = 0.2, timeout = "1s", warmup = 0.05 },
      { port = UNBOUND }) -- what began in the warm-up is no figure
    lu.assertStrContains(result.error.message, "nothing arrived from 10.")
  end)
end

function TestDns:test_a_server_that_refuses_says_so()
  local result = inside.run({ test = "dns", names = "not-ours.invalid", count = 4, warmup = 0 }, { port = DNSMASQ })
  lu.assertEquals({ result.ok, result.error.message },
    { false, "no operation succeeded: 4 failed (response code REFUSED)" })
end

function TestDns:test_nobody_listens()
  for _, proto in ipairs { "udp", "tcp" } do
    inside.one_of(3, function()
      local began = core.now()
      local result = inside.run({ test = "dns", names = "a.test", duration = 0.3, warmup = 0, proto = proto },
        { port = 5399 })
      lu.assertEquals({ result.ok, result.error.code }, { false, "no_data" })
      lu.assertStrMatches(result.error.message, "no operation succeeded: %d+ found no server %(refused, or no \z
        route%): check that a server listens on that address and port")
      lu.assertTrue(core.now() - began < 3)
    end)
  end
end

local code = lu.LuaUnit.run()
for _, pid in ipairs(servers) do inside.sh("kill %s", pid) end
inside.finish(code)
