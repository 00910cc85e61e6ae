-- Figures with an answer that is known beforehand, over one flow and over many.
local inside = require "tests.net.inside"
local lu = require "luaunit"

local function within(value, expected, share, what)
  if math.abs(value - expected) > expected * share then
    lu.fail(("%s: %g, expected %g within %g %%"):format(what, value, expected, share * 100))
  end
end

TestBucket = {}
local json, core = require "cjson", require "knbl.core"

local function bucket_sent()
  return tonumber((inside.sh "tc -s qdisc show dev veth0":match "Sent (%d+) bytes"))
end

-- The figure of a run through a token bucket, and what the bucket says that it let through meanwhile: bits of whole
-- frames a second. A queue shorter than the socket's buffer drops; a longer one makes the sender wait.
local function through_bucket(rate_bits, spec, queue)
  inside.sh("tc qdisc replace dev veth0 root tbf rate %dbit burst %d latency %s", rate_bits, rate_bits / 8 / 250,
    queue or "50ms")
  local run <close> = inside.start_run(spec)
  assert(inside.await(function() return json.decode(run:progress()).phase == "measure" end), "the window opens")
  local from, sent = core.now(), bucket_sent()
  core.sleep(spec.duration * 0.9)
  local through = (bucket_sent() - sent) * 8 / (core.now() - from)
  assert(run:wait(30), "the run ends")
  inside.sh "tc qdisc del dev veth0 root"
  local result = json.decode(run:result())
  lu.assertTrue(result.ok)
  within(through, rate_bits, 0.1, "the bucket itself")
  return result.metrics, through
end
function TestBucket:test_tcp()
  for _, rate in ipairs { 100e6, 1e9 } do
    inside.one_of(5, function()
      local m, through = through_bucket(rate, { test = "tcp_stream", cc = "cubic", duration = 1, warmup = 0.5 })
      within(m.throughput_bps, through * 1448 / 1514, 0.02, "payload of whole frames") -- 1448 bytes in a frame of 1514
    end)
  end
end
function TestBucket:test_tcp_over_many_flows()
  inside.one_of(5, function()
    local m, through = through_bucket(1e9, { test = "tcp_stream", cc = "cubic", duration = 1, warmup = 0.5,
      flows = 50 }, "500ms") -- so long a queue loses nothing: what is sent again would be in the bucket's figure alone
    within(m.throughput_bps, through * 1448 / 1514, 0.02, "payload of whole frames")
  end)
end
function TestBucket:test_udp()
  inside.one_of(5, function()
    local m, through = through_bucket(100e6, { test = "udp_stream", size = 1400, rate = "200Mbit/s", duration = 1,
      warmup = 0.3 }, "2ms")
    within(m.throughput_bps, through * 1400 / 1442, 0.02, "payload of datagrams")
    -- what the sender's own queue refused was never on the path: told apart from loss
    lu.assertEquals(m.loss_ratio, 0)
    within(m.send_drops / (m.send_drops + m.sent), 1 - through / (200e6 * 1442 / 1400), 0.1, "half is refused at once")
  end)
end

TestResent = {}
-- One request in `n` is dropped on its way (not by the sender's own firewall, which it would notice at once); TCP sends
-- it again.
local function resent(n, count, flows)
  inside.there_sh "nft add table inet knbl_test"
  inside.there_sh "nft 'add chain inet knbl_test c { type filter hook input priority 0; }'"
  inside.there_sh("nft 'add rule inet knbl_test c tcp dport %d ip length 1052 numgen inc mod %d 0 drop'", inside.port,
    n)
  local m, result = inside.measure { test = "tcp_rr", size = 1000, count = count, warmup = 0, flows = flows }
  inside.there_sh "nft delete table inet knbl_test"
  return m, inside.flagged(result, "retransmits")
end
function TestResent:test_a_share_that_matters_is_flagged()
  for _, flows in ipairs { 1, 100 } do
    local m, flagged = resent(100, 400, flows)
    lu.assertTrue(m.retransmits >= 4, m.retransmits)
    lu.assertTrue(m.resent_ratio >= 0.004 and m.resent_ratio < 1)
    lu.assertTrue(m.latency_ns.max > 150e6, "which takes a retransmission timeout")
    lu.assertEquals(m.ops, 400)
    lu.assertTrue(flagged)
  end
end
function TestResent:test_a_few_segments_are_counted_and_no_more()
  local m, flagged = resent(7000, 8000)
  lu.assertTrue(m.retransmits >= 1)
  lu.assertTrue(m.resent_ratio < 0.001, m.resent_ratio)
  lu.assertFalse(flagged)
end

TestDelay = {}
function TestDelay:test_a_responder_that_waits()
  for _, flows in ipairs { 1, 100 } do
    local l = inside.measure { test = "tcp_rr", duration = 0.5, delay = "2ms", flows = flows,
      rate = flows > 1 and "100/s" or nil }.latency_ns
    lu.assertTrue(l.min >= 2e6, "never less than the wait")
    lu.assertTrue(l.min < 2.6e6, ("the quickest of 2 ms is %g ms"):format(l.min / 1e6))
  end
end

-- A server that stops for 500 ms in the middle of a run.
local function with_stall(spec)
  local run <close> = inside.start_run(spec)
  assert(inside.await(function() return json.decode(run:progress()).ops > 100 end), "the run goes")
  inside.sh("kill -STOP %s", inside.agent)
  core.sleep(0.5)
  inside.sh("kill -CONT %s", inside.agent)
  assert(run:wait(30))
  local result = json.decode(run:result())
  lu.assertTrue(result.ok)
  return result.metrics.latency_ns
end
function TestDelay:test_open_loop_shows_a_stall()
  -- one second in four or so is due during the stall: requests waited from 0 to 500 ms
  for _, flows in ipairs { 1, 100 } do
    local l = with_stall { test = "tcp_rr", duration = 2, rate = "1000/s", flows = flows }
    lu.assertTrue(l.max > 450e6, "the longest wait")
    lu.assertTrue(l.p90 > 200e6, ("p90 holds the stall: %g ms"):format(l.p90 / 1e6))
    lu.assertTrue(l.p99 > 400e6, "p99 too")
  end
end
function TestDelay:test_closed_loop_hides_it()
  for _, flows in ipairs { 1, 100 } do
    local l = with_stall { test = "tcp_rr", duration = 2, flows = flows }
    lu.assertTrue(l.max > 450e6, "one request of each flow met it")
    lu.assertTrue((flows == 1 and l.p99 or l.p90) < 50e6, "and only one")
  end
end

TestMss = {}
local function path_mtu(mtu)
  inside.sh("ip link set veth0 mtu %d && ip -n far link set veth0 mtu %d", mtu, mtu)
end
function TestMss:tearDown() path_mtu(1500) end
function TestMss:test_path_mtu()
  for _, mtu in ipairs { 1500, 1400, 9000 } do
    path_mtu(mtu)
    -- 20 bytes of IP, 20 of TCP, 12 of timestamps
    lu.assertEquals(inside.measure { test = "tcp_stream", duration = 0.4, warmup = 0.05 }.mss_effective, mtu - 52)
  end
end
function TestMss:test_requested()
  for _, mss in ipairs { 96, 352, 608, 1376, 1460 } do
    lu.assertEquals(inside.measure { test = "tcp_stream", mss = mss, duration = 0.4, warmup = 0.05 }.mss_effective,
      mss - 12, "requested " .. mss)
  end
end
function TestMss:test_more_than_the_path_has()
  path_mtu(1400)
  local m, result = inside.measure { test = "tcp_stream", mss = 1460, duration = 0.4, warmup = 0.05 }
  lu.assertEquals(m.mss_effective, 1348)
  lu.assertTrue(inside.flagged(result, "mss_differs"))
end

TestCpu = {}
-- The client's CPU time is that of the threads that did the work: the whole process's, less what the test itself uses.
local function check_cpu(spec)
  local clock = os.clock()
  local m, result = inside.measure(spec)
  local used = os.clock() - clock
  local said = m.cpu.client_process * m.duration_s
  lu.assertTrue(said <= used * 1.02, ("said %g s, used %g s"):format(said, used))
  lu.assertTrue(said >= used * 0.75, ("said %g s, used %g s"):format(said, used))
  lu.assertTrue(m.cpu.server_process > 0)
  lu.assertTrue(result.ok)
  return m
end
function TestCpu:test_against_getrusage()
  check_cpu { test = "tcp_stream", duration = 1, warmup = 0.05 }
  check_cpu { test = "tcp_rr", flows = 100, duration = 1, warmup = 0.05 }
end

-- The server's is divided among its flows: their sum is what its process used, and no more. Counted in ticks of 10 ms.
local function agent_used()
  local fields = inside.sh("cat /proc/%s/stat", inside.agent):match "%) (.*)"
  local i, sum = 0, 0
  for field in fields:gmatch "%S+" do
    i = i + 1
    if i == 12 or i == 13 then sum = sum + tonumber(field) end -- utime and stime
  end
  return sum / 100
end
function TestCpu:test_of_the_server_over_many_flows()
  local before = agent_used()
  local m = inside.measure { test = "tcp_rr", flows = 100, duration = 1, warmup = 0.05 }
  local used, said = agent_used() - before, m.cpu.server_process * m.duration_s
  lu.assertTrue(said <= used * 1.02 + 0.04, ("said %g s, used %g s"):format(said, used))
  lu.assertTrue(said >= used * 0.7 - 0.04, ("said %g s, used %g s"):format(said, used))
end

TestFamilies = {}
function TestFamilies:test_both()
  for _, ip in ipairs { 4, 6 } do
    for _, test in ipairs { "tcp_stream", "tcp_sendfile", "udp_stream", "tcp_rr", "udp_rr", "tcp_crr", "tcp_bw",
      "tcp_lat", "http", "ping" } do
      local m = inside.measure { test = test, ip = ip, duration = 0.5, warmup = 0.05,
        every = test == "ping" and 0.01 or nil }
      lu.assertTrue((m.throughput_bps or m.rate_per_s or 0) > 0, test .. " over IPv" .. ip)
    end
  end
end

TestCrr = {}
function TestCrr:test_never_runs_out_of_ports()
  -- 400 local ports, thousands of connections
  inside.sh "sysctl -qw net.ipv4.ip_local_port_range='40000 40400'"
  local m = inside.measure { test = "tcp_crr", duration = 1 }
  inside.sh "sysctl -qw net.ipv4.ip_local_port_range='32768 60999'"
  lu.assertTrue(m.latency_ns.count > 1200, "more connections than ports")
  lu.assertEquals(m.errors or 0, 0)
end
function TestCrr:test_a_first_packet_that_is_lost()
  inside.sh "nft add table inet knbl_test"
  inside.sh "nft 'add chain inet knbl_test c { type filter hook output priority 0; }'"
  inside.sh "nft 'add rule inet knbl_test c tcp flags & (syn | ack) == syn numgen inc mod 50 offset 0 vmap { 20 : \z
    drop }'"
  local m, result = inside.measure { test = "tcp_crr", count = 100, warmup = 0, duration = 20 }
  inside.sh "nft delete table inet knbl_test"
  lu.assertTrue(m.latency_ns.max > 0.99e9)
  lu.assertTrue(inside.flagged(result, "syn_resent"))
  lu.assertFalse(inside.flagged(select(2, inside.measure { test = "tcp_crr", count = 100, warmup = 0, duration = 20 }),
    "syn_resent"))
end
-- The window ends while a connection waits: it is no figure, but the flag tells why there are so few.
function TestCrr:test_a_first_packet_that_is_lost_at_the_end_of_the_window()
  inside.sh "nft add table inet knbl_test"
  inside.sh "nft 'add chain inet knbl_test c { type filter hook output priority 0; }'"
  inside.sh "nft 'add rule inet knbl_test c tcp flags & (syn | ack) == syn numgen inc mod 50 offset 0 vmap { 20 : \z
    drop }'"
  local m, result = inside.measure { test = "tcp_crr", warmup = 0, duration = 0.5 }
  inside.sh "nft delete table inet knbl_test"
  lu.assertTrue(m.latency_ns.max < 0.5e9)
  lu.assertTrue(inside.flagged(result, "syn_resent"))
end
function TestCrr:test_a_request_that_waits_for_its_turn_is_no_lost_packet()
  local m, result = inside.measure { test = "tcp_crr", warmup = 0, duration = 1.6, rate = 1000, delay = 0.01 }
  lu.assertTrue(m.latency_ns.max > 1.1e9, "it is more than a second late")
  lu.assertTrue(m.connect_ns.p50 < 0.5e9)
  lu.assertFalse(inside.flagged(result, "syn_resent"))
end

local function left_in_time_wait()
  return tonumber(inside.there_sh("cat /proc/net/sockstat"):match "TCP:.- tw (%d+)")
end
TestReset = {}
function TestReset:test_no_time_wait_stays_at_the_server()
  local port = 10000 -- each run has ports that no other used
  for _, spec in ipairs { { test = "tcp_crr" }, { test = "http", keepalive = false, flows = 1 } } do
    spec.count, spec.warmup, spec.duration = 200, 0, 20
    for _, reset in ipairs { true, false } do
      inside.sh("sysctl -qw net.ipv4.ip_local_port_range='%d %d'", port, port + 2000)
      spec.reset, port = reset, port + 2001
      local before = left_in_time_wait()
      local m, result = inside.measure(spec)
      local left = left_in_time_wait() - before
      lu.assertEquals({ m.ops, m.errors }, { 200, 0 })
      lu.assertEquals(result.chosen.reset ~= nil, reset)
      lu.assertTrue(reset and left < 20 or not reset and left >= 150,
        ("%s, reset %s: %d are left"):format(spec.test, reset, left))
    end
  end
  inside.sh "sysctl -qw net.ipv4.ip_local_port_range='32768 60999'"
end

inside.finish(lu.LuaUnit.run())
