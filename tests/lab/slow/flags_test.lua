-- Provokes the cause of each doubt flag in a lab: the flag is set with the cause and not without it. The effective MSS
-- is tested in tests/net/truth_test.lua, and clock jumps also in tests/unit/core/clock_test.c, because this machine may
-- not allow setting the clock.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"

TestFlags = {}

local start = [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local client, server = cluster:pair()
local function sh(where, line)
  local done = assert(cluster.provider:request { op = "exec", ["in"] = where, argv = { "sh", "-c", line },
    capture = true })
  if done.status ~= 0 then error(("%s: '%s': %s"):format(where or "lab", line, done.output), 0) end
  return done.output
end
-- in the background, with separate output
local function later(where, seconds, line)
  sh(where, ("(sleep %g; %s) >/dev/null 2>&1 </dev/null &"):format(seconds, line))
end
]]

local function measured(body, more)
  local argv = { "--json", "-", "-q" }
  for _, word in ipairs(more or {}) do argv[#argv + 1] = word end
  local code, out, err = fake.knbl(start .. body, argv, core)
  fake.need_lab(err)
  local why = err:match "cannot here: ([^\n]*)"
  if why then lu.skip(why) end
  local list = (json.decode(out) or {}).measurements or {}
  for _, m in ipairs(list) do lu.assertTrue(m.ok, m.case .. ": " .. json.encode(m.error or {})) end
  lu.assertEquals(code, 0, err)
  return list
end

local function has(m, flag)
  for _, f in ipairs(m.flags) do
    if f == flag then return true end
  end
  return false
end

local function expect(m, flag)
  if not has(m, flag) then
    lu.fail(("%s is not flagged: %s; %s"):format(flag, table.concat(m.flags, " "),
      json.encode(m.metrics.intervals or {})))
  end
end

function TestFlags:test_a_path_that_changes_in_the_middle()
  local list = measured [[
sh("node-1", "tc qdisc add dev eth0 root tbf rate 200mbit burst 200k latency 50ms")
for _ = 1, 3 do knbl.tcp_stream { case = "even", from = client, to = server, duration = "1s", cc = "cubic" } end
later("node-1", 2, "tc qdisc change dev eth0 root tbf rate 50mbit burst 200k latency 50ms")
knbl.tcp_stream { case = "changed", from = client, to = server, duration = "2s", warmup = "1s", cc = "cubic" }
]]
  -- other work on the machine can cause a step, but hardly three times
  lu.assertFalse(has(list[1], "step") and has(list[2], "step") and has(list[3], "step"))
  expect(list[4], "step")
  local step = list[4].metrics.step
  lu.assertTrue(step.t > 0.5 and step.t < 1.8, ("at %g s"):format(step.t))
  lu.assertTrue(step.before > 2 * step.after)
end

function TestFlags:test_segments_that_are_lost_on_the_way()
  local list = measured [[
knbl.tcp_rr { case = "sound", from = client, to = server, duration = "500ms" }
sh("node-1", "nft add table ip losses; nft 'add chain ip losses f { type filter hook forward priority 0; }';"
  .. " nft add rule ip losses f meta l4proto tcp numgen random mod 100 '<' 2 drop")
knbl.tcp_stream { case = "lossy", from = client, to = server, duration = "1s" }
]]
  lu.assertFalse(has(list[1], "retransmits"))
  expect(list[2], "retransmits")
  local seen = 0
  for _, monitor in ipairs(list[2].monitor) do
    local lost = (monitor.tcp or {}).retransmits
    for _, n in ipairs(type(lost) == "table" and lost or {}) do seen = seen + n end
  end
  lu.assertTrue(seen > 0, "the monitor sees them too")
end

function TestFlags:test_an_interface_that_drops()
  local list = measured [[
local link = sh("node-1", "ip -o link show | grep -o 'pod[0-9]*@' | head -1"):match "pod%d+"
later("node-1", 0.6, ("ip link set %s mtu 600; sleep 0.3; ip link set %s mtu 1500"):format(link, link))
knbl.udp_stream { from = client, to = server, duration = "1s", warmup = "200ms", rate = "1000/s" }
]]
  expect(list[1], "drops")
end

-- The machine's limit is shared and is not changed. Entries and limit are real; the test lowers the threshold for
-- "nearly full".
function TestFlags:test_a_connection_tracking_table_that_is_nearly_full()
  local doubt = require "knbl.results.doubt"
  local usual = doubt.tracked
  local list = measured [[
local most = tonumber((sh("node-1", "cat /proc/sys/net/netfilter/nf_conntrack_max 2>/dev/null || echo 0")))
if most == 0 then error("cannot here: no connection tracking", 0) end
require("knbl.results.doubt").tracked = 30 / most
local svc = server:service()
knbl.tcp_rr { case = "room", from = client, to = svc, duration = "200ms", flows = 2 }
knbl.tcp_rr { case = "full", from = client, to = svc, duration = "200ms", flows = 60 }
]]
  doubt.tracked = usual
  lu.assertFalse(has(list[1], "conntrack_full"))
  expect(list[2], "conntrack_full")
end

function TestFlags:test_a_server_that_is_stopped_for_a_while()
  local list = measured [[
local pid = sh(nil, "for p in /proc/[0-9]*; do grep -qx knbl:server $p/comm && echo ${p#/proc/}; done; true")
pid = pid:match "%d+" or error("no process of the server's agent", 0)
later(nil, 0.7, ("kill -STOP %s; sleep 0.8; kill -CONT %s"):format(pid, pid))
knbl.tcp_rr { from = client, to = server, duration = "2s", warmup = "100ms" }
]]
  expect(list[1], "paused")
end

-- Sets the machine's clock 60 ms ahead, and then back.
function TestFlags:test_a_clock_that_jumps()
  if not os.execute("date -s @$(date +%s.%N) >/dev/null 2>&1") then lu.skip("the clock may not be set here") end
  local list = measured [=[
knbl.tcp_rr { case = "before", from = client, to = server, duration = "500ms" }
local set = [[t=$(date +%%s%%N); t=$((t + (%d))); date -s @${t%%?????????}.${t#??????????}]]
os.execute(("(sleep 1; %s; sleep 0.5; %s) >/dev/null 2>&1 </dev/null &"):format(set:format(60000000),
  set:format(-60000000)))
knbl.tcp_rr { case = "jumped", from = client, to = server, duration = "3s" }
]=]
  lu.assertFalse(has(list[1], "clock_jump"))
  expect(list[2], "clock_jump")
end

function TestFlags:test_other_programs_that_use_the_cpus()
  local list = measured [[
later(nil, 0, "timeout 3 sh -c 'while :; do :; done'")
knbl.tcp_rr { case = "beside", from = client, to = server, duration = "1s" }
knbl.together { { test = "tcp_rr", case = "two", from = client, to = server, duration = "200ms" },
  { test = "tcp_rr", case = "two", from = client, to = server, duration = "200ms" } }
]]
  expect(list[1], "other_work")
  lu.assertTrue(list[1].metrics.cpu.client_others > 0.3, json.encode(list[1].metrics.cpu))
  lu.assertFalse(has(list[2], "other_work"), "the other flow was asked for")
end

-- A pod that gets less of a busy machine than its limit is not throttled: then it is tried again.
function TestFlags:test_too_little_cpu()
  local list
  for _ = 1, 6 do
    list = measured [[
local small = cluster:pod { name = "small", node = 1, cpu = 0.2 }
if (sh("small", "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; true")):find "^%s*$" then
  error("cannot here: no cgroup with a quota", 0)
end
knbl.tcp_stream { case = "out of it", from = small, to = server, duration = "1s" }
knbl.tcp_stream { case = "into it", from = server, to = small, duration = "1s" }
]]
    if has(list[1], "throttled") and has(list[2], "throttled") then break end
  end
  for _, m in ipairs(list) do expect(m, "throttled") end
  for i, m in ipairs(list) do
    lu.assertEquals({ has(m, "generator_cpu_bound"), has(m, "server_cpu_bound") }, { i == 1, i == 2 },
      json.encode(m.metrics.cpu))
  end
end

-- With such short intervals the sender does not sleep between datagrams. That is not a limit if the rate was reached.
function TestFlags:test_a_rate_that_was_reached()
  local list = measured [[
for i = 1, 5 do -- where the machine is busy the rate may be missed, now and then
  local m = knbl.udp_stream { case = "try " .. i, from = client, to = server, size = 100, rate = "50Mbit/s",
    duration = "300ms" }
  if not table.concat(m.flags, " "):find "rate_not_reached" then break end
end
knbl.udp_stream { case = "too much", from = client, to = server, size = 100, rate = "100Gbit/s", duration = "300ms" }
]]
  local reached, missed = list[#list - 1], list[#list]
  lu.assertEquals({ has(reached, "rate_not_reached"), has(reached, "generator_cpu_bound") }, { false, false },
    json.encode(reached.metrics.cpu))
  expect(missed, "rate_not_reached")
end

function TestFlags:test_another_pod_answers()
  local list = measured [[
local svc = server:service()
local other = cluster:pod { name = "other", node = 2 }
knbl.tcp_rr { case = "right", from = client, to = svc, duration = "100ms" }
sh("node-1", ("nft add table ip thief; nft 'add chain ip thief p { type nat hook prerouting priority -150; }';"
  .. " nft add rule ip thief p ip daddr %s tcp dport %d dnat to %s:%d"):format(svc.addresses.v4, svc.port,
  other.addresses.v4, other.port))
knbl.tcp_rr { case = "wrong", from = client, to = svc, duration = "100ms" }
]]
  lu.assertFalse(has(list[1], "wrong_backend"))
  expect(list[2], "wrong_backend")
end

function TestFlags:test_datagrams_that_never_left()
  local list = measured [[
sh("client", "tc qdisc add dev eth0 root tbf rate 10mbit burst 20k latency 2ms")
knbl.udp_stream { from = client, to = server, duration = "500ms", rate = "100Mbit/s" }
]]
  expect(list[1], "send_drops")
end

function TestFlags:test_too_few_samples()
  local list = measured [[
knbl.tcp_rr { from = client, to = server, count = 20, warmup = 0 }
knbl.tcp_rr { from = client, to = server, count = 2000, warmup = 0 }
]]
  expect(list[1], "too_few_samples")
  lu.assertFalse(has(list[2], "too_few_samples"))
end

os.exit(lu.LuaUnit.run())
