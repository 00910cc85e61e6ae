-- The probe against outages of a known length, at the path, at the server and at the prober itself.
local inside = require "tests.net.inside"
local lu = require "luaunit"
local json, core = require "cjson", require "knbl.core"

local function near(value, low, high, what)
  if not value or value < low or value > high then
    lu.fail(("%s: %s, expected %g to %g"):format(what, tostring(value), low, high))
  end
end

-- Waits until the run's window has been open for `seconds`.
local function await_window(run, seconds)
  assert(inside.await(function()
    local p = json.decode(run:progress())
    return p.phase == "measure" and p.elapsed_s >= seconds
  end), "the window opens")
end

local function result_of(run)
  assert(run:wait(30), "the run ends")
  return json.decode(run:result())
end

-- The attempts of a timeline, as a list of letters and lengths, add up.
local function check_timeline(m)
  local n, failed = 0, 0
  for length, letter in m.timeline.runs:gmatch "(%d+)(%a)" do
    n = n + tonumber(length)
    if not letter:find "[ob]" then failed = failed + tonumber(length) end
  end
  lu.assertEquals(n, m.attempts)
  lu.assertAlmostEquals(failed * m.timeline.step, m.outage_total, 1e-6)
end

-- ---- the path ----

-- An element that times out by itself: what it drops is dropped for exactly so long, whatever this process does.
local function with_rule(verdict, seconds, spec, middle)
  inside.there_sh "nft add table inet gap"
  inside.there_sh "nft 'add set inet gap ports { type inet_service; flags timeout; }'"
  inside.there_sh "nft 'add chain inet gap c { type filter hook input priority 0; }'"
  inside.there_sh("nft 'add rule inet gap c %s dport @ports %s'", spec.kind == "udp" and "udp" or "tcp", verdict)
  local run <close> = inside.start_run(spec)
  await_window(run, 0.3)
  inside.there_sh("nft 'add element inet gap ports { %d timeout %dms }'", inside.port, seconds * 1000)
  local result = result_of(run)
  inside.there_sh "nft delete table inet gap"
  if not middle then lu.assertTrue(result.ok) end
  return result.metrics, result
end

local function drop(kind, seconds)
  inside.one_of(6, function()
    local m = with_rule("drop", seconds, { test = "probe", kind = kind, duration = seconds + 1, timeout = "300ms" })
    check_timeline(m)
    lu.assertEquals(m.blind, 0)
    -- the kernel's clock of elements ticks in 4 ms
    near(m.outage_longest, seconds - 0.006, seconds + 0.006, "the outage")
    near(m.outage_total, seconds - 0.006, seconds + 0.006, "all outages")
    near(m.timeouts * m.timeline.step, seconds - 0.006, seconds + 0.006, "timeouts")
    near(m.outages[1].to - m.outages[1].from, seconds - 0.006, seconds + 0.006, "from and to")
  end)
end

TestPath = {}
function TestPath:test_50_ms_are_dropped() drop("connect", 0.05) end
function TestPath:test_200_ms_are_dropped() drop("connect", 0.2) end
function TestPath:test_1000_ms_are_dropped() drop("connect", 1) end
function TestPath:test_udp() drop("udp", 0.2) end
function TestPath:test_http() drop("http", 0.2) end

function TestPath:test_refused_for_100_ms()
  inside.one_of(6, function()
    local m = with_rule("reject with tcp reset", 0.1, { test = "probe", duration = 1, rate = "500/s" })
    check_timeline(m)
    near(m.refused, 47, 53, "attempts")
    near(m.outage_total, 0.094, 0.106, "the outage")
    lu.assertEquals(m.timeouts, 0)
  end)
end

-- A session outlives 50 ms without packets, since TCP sends them again before the timeout; a reset ends it.
function TestPath:test_a_session_survives_a_short_gap()
  inside.one_of(6, function()
    local m = with_rule("drop", 0.05, { test = "probe", kind = "session", duration = 1.2, timeout = "800ms" })
    lu.assertEquals(m.outage_total, 0)
    lu.assertEquals(m.reconnects, 0)
    lu.assertTrue(m.latency_ns.max > 40e6, "answers were late")
  end)
end
function TestPath:test_a_session_is_reset_and_opened_again()
  inside.one_of(6, function()
    local m = with_rule("reject with tcp reset", 0.1, { test = "probe", kind = "session", duration = 1 })
    check_timeline(m)
    lu.assertTrue(m.reconnects >= 1)
    lu.assertTrue(m.resets >= 1)
    near(m.outage_total, 0.09, 0.11, "until it could be opened again")
  end)
end

-- ---- the server and the prober ----

-- Stops a process for `seconds`; returns the least and the most that it can have been.
local function stop_for(pid, seconds)
  local before = core.now()
  inside.sh("kill -STOP %s", pid)
  local stopped = core.now()
  core.sleep(seconds)
  local until_least = core.now()
  inside.sh("kill -CONT %s", pid)
  return until_least - stopped, core.now() - before
end

TestStopped = {}
-- Connections wait in the kernel meanwhile: those of the last 100 ms are answered in time.
function TestStopped:test_a_server_for_300_ms()
  inside.one_of(6, function()
    local run <close> = inside.start_run { test = "probe", duration = 1.5, timeout = "100ms" }
    await_window(run, 0.3)
    local least, most = stop_for(inside.agent, 0.3)
    local m = result_of(run).metrics
    check_timeline(m)
    lu.assertEquals(m.blind, 0)
    near(m.outage_longest, least - 0.1 - 0.005, most - 0.1 + 0.03, "the outage")
  end)
end

local prober = [[
local core, json = require "knbl.core", require "cjson"
local run = assert(core.run(os.getenv "SPEC", { host = os.getenv "HOST", port = 7099, token = os.getenv "TOKEN" }))
while not run:wait(0.2) do
  local out = io.open(os.getenv "OUT" .. ".live", "w")
  out:write(run:progress())
  out:close()
end
local out = io.open(os.getenv "OUT" .. ".new", "w")
out:write(run:result())
out:close()
os.rename(os.getenv "OUT" .. ".new", os.getenv "OUT")
]]

-- A probe by a process of its own. Returns its id and a function that waits for the result.
local function apart(spec, before)
  local script, out = inside.dir .. "/prober.lua", os.tmpname()
  os.remove(out)
  local f = assert(io.open(script, "w"))
  f:write(prober)
  f:close()
  local pid = inside.start(("sh -c '%s SPEC=\"$0\" HOST=%s TOKEN=%s OUT=%s exec %s %s' '%s'"):format(before or "",
    inside.there, inside.token, out, os.getenv "KNBL" or "./knbl", script, json.encode(spec)), "prober.log")
  local function read(name)
    local file = io.open(name)
    local text = file and file:read "a"
    if file then file:close() end
    return text
  end
  return pid, function()
    assert(inside.await(function() return read(out) end, 30), read(inside.dir .. "/prober.log") or "no result")
    local result = json.decode(read(out))
    os.remove(out)
    os.remove(out .. ".live")
    return result
  end, function()
    assert(inside.await(function() return (read(out .. ".live") or ""):find '"measure"' end, 10), "the window opens")
  end
end

function TestStopped:test_the_prober_for_300_ms()
  for _, kind in ipairs { "connect", "session", "udp" } do
    inside.one_of(6, function()
      local pid, wait, opened = apart { test = "probe", kind = kind, duration = 1.5, timeout = "100ms" }
      opened()
      local least, most = stop_for(pid, 0.3)
      local result = wait()
      local m = result.metrics
      check_timeline(m)
      lu.assertEquals(m.outage_total, 0)
      lu.assertEquals(m.timeouts, 0)
      lu.assertEquals(m.reconnects or 0, 0)
      near(m.blind, least - 0.012, most + 0.01, "blind")
      lu.assertTrue(inside.flagged(result, "prober_blind"))
    end)
  end
end

-- The prober runs a third of the time, so it cannot keep its rate: each attempt is in the timeline at its due time all
-- the same, those that were not made are blind, and the flag says so.
function TestStopped:test_a_rate_that_the_prober_cannot_keep()
  local pid, wait, opened = apart { test = "probe", rate = "20k/s", duration = 0.8, timeout = "2s" }
  opened()
  local stopper = inside.start(("sh -c 'while kill -STOP %d; do sleep 0.04; kill -CONT %d; sleep 0.02; done'"):format(
    pid, pid))
  local ok, result = pcall(wait)
  os.execute("kill " .. stopper .. "; kill -CONT " .. pid .. " 2>/dev/null")
  lu.assertTrue(ok, result)
  local m = result.metrics
  check_timeline(m)
  lu.assertEquals({ m.attempts, m.outage_total }, { 16000, 0 })
  lu.assertTrue(m.blind > 0.03, m.blind)
  lu.assertTrue(inside.flagged(result, "prober_blind") or inside.flagged(result, "probe_too_fast"))
end

-- Nothing answers and there are 120 descriptors: most attempts cannot be made, which is no outage.
function TestStopped:test_a_prober_without_sockets_is_flagged()
  inside.there_sh "nft add table inet gap"
  inside.there_sh "nft 'add chain inet gap c { type filter hook input priority 0; }'"
  inside.there_sh("nft 'add rule inet gap c tcp dport %d tcp flags syn drop'", inside.port)
  local _, wait = apart({ test = "probe", duration = 0.5, timeout = "400ms" }, "ulimit -n 120;")
  local ok, result = pcall(wait)
  inside.there_sh "nft delete table inet gap"
  lu.assertTrue(ok, result)
  lu.assertTrue(inside.flagged(result, "probe_too_fast"))
  lu.assertTrue(result.metrics.blind > 0.3, result.metrics.blind)
end

-- ---- backends ----

TestBackends = {}
-- Three agents behind one address in turn; one is killed, and 300 ms later it is out.
function TestBackends:test_one_of_three_is_killed()
  local function nft(line) inside.sh("nft '%s'", line) end
  local function spread(n)
    local map = {}
    for i = 0, n - 1 do map[i + 1] = ("%d : %d"):format(i, 7101 + i) end
    return ("add rule ip lb c ip daddr 10.98.0.2 tcp dport 7100 dnat to 10.98.0.2:numgen inc mod %d map { %s }"):format(
      n, table.concat(map, ", "))
  end
  inside.one_of(4, function()
    local pids = {}
    for i = 1, 3 do
      pids[i] = inside.start(("ip netns exec far %s agent --listen [::]:%d --token-file %s/token --name b%d --node far")
        :format(os.getenv "KNBL" or "./knbl", 7100 + i, inside.dir, i), "b.log")
      assert(inside.await(function() return inside.listening(7100 + i, "ip netns exec far ") end), "a backend is up")
    end
    nft "add table ip lb"
    nft "add chain ip lb c { type nat hook output priority -100; }"
    nft(spread(3))
    local run <close> = inside.start_run({ test = "probe", duration = 1.5 }, { port = 7100 })
    await_window(run, 0.5)
    inside.sh("kill -KILL %s", pids[3])
    local dead = core.now()
    core.sleep(0.3)
    local f = assert(io.open(inside.dir .. "/lb.nft", "w"))
    f:write("flush chain ip lb c\n", spread(2), "\n")
    f:close()
    local before = core.now()
    inside.sh("nft -f %s/lb.nft", inside.dir)
    local after = core.now()
    local m = result_of(run).metrics
    nft "delete table ip lb"
    for i = 1, 2 do inside.sh("kill %s", pids[i]) end
    check_timeline(m)
    lu.assertEquals(m.blind, 0)
    near(m.outage_total, (before - dead) / 3 - 0.01, (after - dead) / 3 + 0.02, "a third of the time")
    near(m.outage_longest, 0.001, 0.002, "one attempt at a time")
    near(m.backends.b1.share, 0.3, 0.45, "the share of a backend")
    near(m.backends.b3.share, 0.1, 0.2, "the share of the one that was killed")
  end)
end

-- ---- servers that are no agents ----

TestOutside = {}
function TestOutside:test_connect_alone()
  local m = inside.measure { test = "probe", duration = 0.3, external = true }
  lu.assertNil(m.backends)
  lu.assertEquals(m.outage_total, 0)
end
function TestOutside:test_a_status_that_is_no_success_is_a_failure()
  local result = inside.run { test = "probe", kind = "http", path = "/no/such", duration = 0.2, external = true }
  lu.assertFalse(result.ok)
  lu.assertStrContains(result.metrics.timeline.runs, "h")
  lu.assertStrMatches(result.error.message,
    "no operation succeeded: %d+ got a status other than 2xx and 3xx.*") -- not a firewall
end
function TestOutside:test_nobody_listens()
  inside.one_of(6, function()
    local result = inside.run({ test = "probe", duration = 0.2, external = true }, { port = 9 })
    lu.assertFalse(result.ok)
    lu.assertStrContains(result.metrics.timeline.runs, "r")
    lu.assertEquals(result.metrics.blind, 0)
    lu.assertAlmostEquals(result.metrics.outage_longest, result.metrics.attempts * 0.001, 1e-6)
  end)
end

inside.finish(lu.LuaUnit.run())
