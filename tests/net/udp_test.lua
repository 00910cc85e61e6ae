-- Datagrams that are lost where the test says so, on paths that it makes: counted by whom, and told apart from what
-- sockets drop.
local json = require "knbl.json"
local inside = require "tests.net.inside"
local lu = require "luaunit"

-- A firewall of one rule, in the near or the far namespace, for as long as `body` takes.
local function with_rule(where, hook, rule, body)
  local sh = where == "far" and inside.there_sh or inside.sh
  sh "nft add table inet knbl_test"
  sh("nft 'add chain inet knbl_test c { type filter hook %s priority 0; }'", hook)
  sh("nft 'add rule inet knbl_test c %s'", rule)
  local ok, err = pcall(body)
  sh "nft delete table inet knbl_test"
  if not ok then error(err, 0) end
end
-- The measured datagrams alone: those of the protocol are longer or shorter than 200 bytes.
local function one_in(n, how) return ("udp length 208 numgen %s mod %d 0 counter drop"):format(how, n) end

-- Five standard deviations: once in two million runs it is further away by chance.
local function binomial(lost, n, p)
  local sd = math.sqrt(n * p * (1 - p))
  lu.assertTrue(math.abs(lost - n * p) <= 5 * sd + 1, ("%d of %d lost, %g expected"):format(lost, n, n * p))
end

local function sums(m, what)
  lu.assertEquals(m.received + m.lost, m.sent, what .. ": what was sent arrived or was lost")
  lu.assertAlmostEquals(m.loss_ratio, m.lost / m.sent, 1e-12)
end

TestLoss = {}
local stream = { test = "udp_stream", size = 200, rate = "20k/s", duration = 0.5, warmup = 0.05 }
local function but(change)
  local spec = {}
  for k, v in pairs(stream) do spec[k] = v end
  for k, v in pairs(change) do spec[k] = v end
  return spec
end
function TestLoss:test_one_in_ten_exactly()
  with_rule("far", "input", one_in(10, "inc"), function()
    local m = inside.measure(but { count = 5000, duration = 5 })
    sums(m, "forward")
    lu.assertTrue(math.abs(m.lost - 500) <= 1, m.lost .. " lost")
    lu.assertEquals({ m.reordered, m.duplicated, m.send_drops, m.receiver_drops }, { 0, 0, 0, 0 })
  end)
end
function TestLoss:test_at_random_within_the_binomial_bounds()
  for _, n in ipairs { 10, 100 } do
    with_rule("far", "input", one_in(n, "random"), function()
      local m = inside.measure(stream)
      sums(m, "forward")
      binomial(m.lost, m.sent, 1 / n)
    end)
    with_rule("near", "input", one_in(n, "random"), function()
      local m = inside.measure(but { reverse = true })
      sums(m, "reverse")
      binomial(m.lost, m.sent, 1 / n)
    end)
  end
end
function TestLoss:test_ipv6_and_several_flows()
  with_rule("far", "input", one_in(10, "inc"), function()
    local m = inside.measure(but { ip = 6, flows = 4, threads = 2, count = 4000, duration = 5 })
    sums(m, "IPv6")
    lu.assertTrue(math.abs(m.lost - 400) <= 1, m.lost .. " lost")
  end)
end
function TestLoss:test_at_full_speed()
  with_rule("far", "input", one_in(10, "inc"), function()
    local m = inside.measure { test = "udp_stream", size = 200, duration = 0.3, warmup = 0.05, rcvbuf = "4M" }
    sums(m, "full speed")
    local rest = m.sent - m.receiver_drops -- what the receiver's own buffer dropped had passed the rule
    lu.assertTrue(m.lost - m.receiver_drops >= 0.099 * rest,
      ("%d of %d lost, %d of them by the receiver"):format(m.lost, m.sent, m.receiver_drops))
  end)
end
function TestLoss:test_the_senders_own_firewall_is_not_the_path()
  with_rule("near", "output", one_in(10, "inc"), function()
    local m = inside.measure(but { count = 2000, duration = 5 })
    lu.assertEquals(m.lost, 0)
    lu.assertTrue(m.send_drops >= 200 and m.send_drops <= 225, m.send_drops .. " refused by this host")
  end)
end
function TestLoss:test_the_senders_own_queue_is_not_the_path()
  inside.sh "tc qdisc replace dev veth0 root tbf rate 10mbit burst 4kb limit 8kb"
  local m = inside.measure { test = "udp_stream", size = 1400, rate = "50Mbit/s", duration = 0.3, warmup = 0.05 }
  inside.sh "tc qdisc del dev veth0 root"
  lu.assertEquals(m.lost, 0)
  lu.assertTrue(m.send_drops > 100, m.send_drops .. " dropped by this host's queue")
end
-- What this kernel dropped on the way between the two namespaces: each CPU's queue holds 1000 packets, and a busy
-- machine fills it.
local function queue_drops()
  local n = 0
  for second in inside.sh "cat /proc/net/softnet_stat":gmatch "%x+ (%x+)[^\n]*" do n = n + tonumber(second, 16) end
  return n
end
function TestLoss:test_the_receivers_own_buffer()
  local before = queue_drops()
  local m, result = inside.measure { test = "udp_stream", size = 200, duration = 0.2, warmup = 0.05, rcvbuf = 4096,
    tune = "plain" }
  local elsewhere = queue_drops() - before
  sums(m, "a small buffer")
  if m.lost > 100 then
    lu.assertTrue(m.receiver_drops >= 0.9 * m.lost - elsewhere,
      ("%d lost, %d by the receiver, %d on the way"):format(m.lost, m.receiver_drops, elsewhere))
    lu.assertTrue(inside.flagged(result, "receiver_drops"))
  end
end

-- The agent stands still from the warm-up until 0.3 s after the window has opened.
local function stand_still(run)
  assert(inside.await(function() return json.decode(run:progress()).phase == "warmup" end, 10), "the warm-up begins")
  inside.sh("kill -STOP %s", inside.agent)
  inside.await(function() return json.decode(run:progress()).phase == "measure" end, 10)
  inside.await(function() return false end, 0.3)
  inside.sh("kill -CONT %s", inside.agent)
  assert(run:wait(30), "the run ends")
end
-- What the receiver drops then counts, and nothing of the warm-up.
function TestLoss:test_the_receivers_own_buffer_when_the_window_opens()
  local before = queue_drops()
  local run <close> = inside.start_run { test = "udp_stream", size = 200, rate = "20k/s", duration = 0.6, warmup = 0.4,
    rcvbuf = 4096, tune = "plain" }
  stand_still(run)
  local m, elsewhere = json.decode(run:result()).metrics, queue_drops() - before
  sums(m, "a receiver that stood still")
  lu.assertTrue(m.lost > 100, m.lost .. " lost")
  lu.assertTrue(m.receiver_drops >= 0.9 * m.lost - elsewhere,
    ("%d lost, %d by the receiver, %d on the way"):format(m.lost, m.receiver_drops, elsewhere))
end

-- A server that stands still after its requests sends no account: the message says for how long it was asked.
function TestLoss:test_a_server_that_sends_no_account()
  local run <close> = inside.start_run { test = "udp_rr", duration = 0.3, warmup = 0, timeout = 0.1 }
  assert(inside.await(function() return json.decode(run:progress()).ops > 10 end, 10), "the run goes")
  inside.sh("kill -STOP %s", inside.agent)
  local ended = run:wait(30)
  inside.sh("kill -CONT %s", inside.agent)
  lu.assertTrue(ended)
  local result = json.decode(run:result())
  lu.assertEquals(result.error.code, "lost")
  lu.assertStrMatches(result.error.message, ".*answered before, but did not send its account within %d+ ms")
end

TestRequests = {}
function TestRequests:test_lost_requests_time_out()
  with_rule("far", "input", one_in(10, "random"), function()
    local m = inside.measure { test = "udp_rr", size = 200, response = 100, count = 2000, timeout = "5ms", warmup = 0 }
    sums(m, "requests")
    binomial(m.lost - (m.late or 0), 2000, 0.1) -- a busy machine answers some too late
    lu.assertEquals(m.timeouts, m.lost)
    lu.assertEquals(m.latency_ns.count, 2000)
    lu.assertTrue(m.latency_ns.p95 > 4.9e6, "the lost ones are in the histogram")
  end)
end
-- What the firewall dropped is lost, to the datagram. A server that stands still at the end answers more of them too
-- late to be counted as late, so on a busy machine a run may have to be repeated.
function TestRequests:test_lost_answers_time_out()
  local function dropped() return tonumber((inside.sh "nft list ruleset":match "counter packets (%d+)")) end
  with_rule("near", "input", one_in(100, "random"), function()
    local more
    for _ = 1, 20 do
      local before = dropped()
      local m = inside.measure { test = "udp_rr", size = 16, response = 200, duration = 0.5, timeout = "5ms",
        warmup = 0, flows = 4, burst = 4, ip = 6 }
      sums(m, "answers")
      more = m.lost - (m.late or 0) - (dropped() - before)
      lu.assertTrue(more >= 0, ("%d answers that were dropped are not lost"):format(-more))
      lu.assertTrue(m.lost > 0)
      if more == 0 then break end
    end
    lu.assertEquals(more, 0, "lost, and not dropped")
  end)
end

-- The server stands still in the warm-up and answers all of that once the window is open: none of it is the window's.
function TestRequests:test_late_answers_of_the_warm_up_do_not_count()
  inside.one_of(4, function()
    local run <close> = inside.start_run { test = "udp_rr", size = 200, timeout = "5ms", duration = 0.5, warmup = 0.4,
      burst = 4 }
    stand_still(run)
    local m = json.decode(run:result()).metrics
    lu.assertTrue((m.late or 0) <= m.lost, ("%d late of %d lost"):format(m.late or 0, m.lost))
    lu.assertTrue(m.ops > 0, "the server answered again")
  end)
end

-- A client that stands still reads nothing: its socket drops the answers for which its buffer has no room. They reached
-- it, and its kernel says how many.
local function still(change)
  local spec = { test = "udp_rr", size = 16, response = 1400, burst = 64, rcvbuf = "32k", tune = "plain",
    timeout = "2s", duration = 1, warmup = 0 }
  for k, v in pairs(change) do spec[k] = v end
  local before = inside.buffer_errors()
  local result = inside.stand_still(spec, spec.warmup == 0 and "measure" or "warmup")
  local dropped = inside.buffer_errors() - before
  lu.assertTrue(dropped >= 20, dropped .. " dropped")
  sums(result.metrics, "a client that stood still")
  return result, dropped
end
function TestRequests:test_answers_that_the_clients_own_socket_drops()
  for _, flows in ipairs { 1, 4 } do
    inside.one_of(4, function()
      local result, dropped = still { flows = flows, threads = flows > 1 and 2 or nil }
      lu.assertEquals(result.metrics.client_drops, dropped, flows .. " flows")
      lu.assertTrue(result.metrics.lost >= dropped)
      lu.assertTrue(inside.flagged(result, "client_drops"))
    end)
  end
end
-- As many requests stay on their way as the buffer had room for. Of the window's answers, which have a mark, the path
-- loses some.
function TestRequests:test_what_is_dropped_in_the_warm_up_is_no_loss_of_the_window()
  with_rule("near", "input", "udp length 1408 @th,64,8 & 1 == 1 numgen inc mod 1000 0 counter drop", function()
    inside.one_of(4, function()
      local result = still { warmup = 0.8 }
      lu.assertTrue(result.metrics.lost > 0)
      lu.assertEquals(result.metrics.client_drops, 0)
      lu.assertFalse(inside.flagged(result, "client_drops"))
    end)
  end)
end

TestDoor = {}
function TestDoor:test_no_way_through()
  with_rule("far", "input", "meta l4proto udp drop", function()
    local result = inside.run { test = "udp_rr", duration = 0.1 }
    lu.assertEquals(result.error.code, "timeout")
    lu.assertStrContains(result.error.message, "no answer from " .. inside.there)
  end)
end
function TestDoor:test_refused_by_name()
  with_rule("far", "input", "meta l4proto udp reject", function()
    local result = inside.run { test = "udp_stream", duration = 0.1 }
    lu.assertEquals(result.error.code, "refused")
    lu.assertStrContains(result.error.message, inside.there)
  end)
end
function TestDoor:test_another_token()
  local result = inside.run({ test = "udp_rr", duration = 0.1 }, { token = ("x"):rep(32) })
  lu.assertEquals(result.error.code, "auth")
end
function TestDoor:test_gso_needs_the_mtu()
  local result = inside.run { test = "udp_stream", gso = true, size = 1473, duration = 0.1 }
  lu.assertEquals(result.error.code, "argument")
  lu.assertStrContains(result.error.message, "MTU of 1500")
  lu.assertTrue(inside.measure({ test = "udp_stream", gso = true, size = 1472, duration = 0.5 }).received > 0)
end

TestEmulated = {}
function TestEmulated:test_copies_and_order()
  local ok = pcall(inside.sh, "tc qdisc replace dev veth0 root netem duplicate 5%")
  lu.skipIf(not ok, "no netem in this kernel")
  local m = inside.measure(stream)
  inside.sh "tc qdisc del dev veth0 root"
  binomial(m.duplicated, m.sent, 0.05)
  lu.assertEquals(m.lost, 0)
end

TestPing = {}
function TestPing:test_loss()
  for _, ip in ipairs { 4, 6 } do
    local rule = ip == 4 and "icmp type echo-request numgen inc mod 10 0 drop"
      or "icmpv6 type echo-request numgen inc mod 10 0 drop"
    with_rule("far", "input", rule, function()
      local m = inside.measure { test = "ping", count = 100, every = "2ms", timeout = "50ms", ip = ip }
      sums(m, "ping")
      lu.assertEquals(m.lost, 10)
      lu.assertEquals(m.timeouts, 10)
      lu.assertTrue(m.latency_ns.max >= 49.8e6 and m.latency_ns.p50 < 20e6)
    end)
  end
end
function TestPing:test_nobody_there()
  local result = inside.run({ test = "ping", count = 2, every = "10ms", timeout = "6s" }, { host = "10.98.0.77" })
  lu.assertEquals(result.error.code, "unreachable")
  lu.assertStrContains(result.error.message, "10.98.0.77")
  result = inside.run({ test = "ping", count = 2, every = "10ms" }, { host = "203.0.113.1" })
  lu.assertEquals(result.error.code, "unreachable")
end
function TestPing:test_silence_is_no_zero()
  with_rule("far", "input", "icmp type echo-request drop", function()
    local result = inside.run { test = "ping", count = 2, every = "10ms", timeout = "50ms" }
    lu.assertFalse(result.ok)
    lu.assertEquals(result.error.code, "no_data")
    lu.assertEquals(result.metrics.lost, 2)
  end)
end
function TestPing:test_neither_is_allowed()
  local script = inside.dir .. "/ping.lua"
  local f = assert(io.open(script, "w"))
  f:write(([[
    local core, json = require "knbl.core", require "cjson"
    local run = assert(core.run(json.encode { test = "ping", count = 1 }, { host = "%s", port = 7, token = "%s" }))
    assert(run:wait(10))
    local e = json.decode(run:result()).error
    print(e.code, e.message)
  ]]):format(inside.there, inside.token))
  f:close()
  local said = inside.sh("setpriv --bounding-set=-net_raw --inh-caps=-net_raw %s %s", os.getenv "KNBL" or "./knbl",
    script)
  lu.assertStrContains(said, "permission")
  lu.assertStrContains(said, "net.ipv4.ping_group_range")
  lu.assertStrContains(said, "CAP_NET_RAW")
end
-- A new namespace allows no group; once one is allowed it stays so, the kernel takes no empty range back.
function TestPing:test_the_socket_that_is_allowed()
  local _, result = inside.measure { test = "ping", count = 3, every = "1ms" }
  lu.assertEquals(result.chosen.socket, "raw")
  inside.sh "sysctl -q -w net.ipv4.ping_group_range='0 0'"
  for _, ip in ipairs { 4, 6 } do
    _, result = inside.measure { test = "ping", count = 3, every = "1ms", ip = ip, size = 1000 }
    lu.assertEquals(result.chosen.socket, "datagram")
  end
end

inside.finish(lu.LuaUnit.run())
