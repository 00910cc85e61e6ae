-- Thousands of flows between two processes: what one costs the agent, what is left of them, and how many a client can
-- have.
local inside = require "tests.net.inside"
local json = require "cjson"
local lu = require "luaunit"

local FLOWS = 15000
local sanitized = (os.getenv "B" or ""):find "san" ~= nil

local function number(text, pattern) return tonumber(text:match(pattern)) end
local function agent_memory() -- kB
  return number(inside.sh("cat /proc/%s/status", inside.agent), "VmRSS:%s+(%d+)")
end
local function agent_files() return number(inside.sh("ls /proc/%s/fd | wc -l", inside.agent), "%d+") end

-- Seconds until the latest of the keepalives that the agent's connections are going to send.
local function latest_keepalive()
  local latest, port = 0, (":%04X "):format(inside.port)
  for line in inside.there_sh "cat /proc/net/tcp6":gmatch "[^\n]+" do
    local ticks = line:find(port, 1, true) and line:match " 02:(%x+) "
    latest = math.max(latest, ticks and tonumber(ticks, 16) / 100 or 0)
  end
  return latest
end

local function await_measuring(run)
  assert(inside.await(function()
    local phase = json.decode(run:progress()).phase
    return phase == "measure" or phase == "done" or phase == "failed"
  end, 60), "the window opens")
end

TestMany = {}
function TestMany:test_what_a_flow_costs_and_what_it_leaves()
  inside.measure { test = "tcp_rr", flows = 100, duration = 0.1, warmup = 0 } -- what the agent has anyway
  local files, memory = agent_files(), agent_memory()
  local run <close> = inside.start_run { test = "tcp_rr", flows = FLOWS, duration = 4, warmup = 0, rate = "2k/s" }
  await_measuring(run)
  local each = (agent_memory() - memory) * 1024 / FLOWS
  local held = agent_files() - files
  lu.assertTrue(latest_keepalive() > 60, "one each 10 s for each of the flows would be traffic of its own")
  assert(run:wait(90), "the run ends")
  local result = json.decode(run:result())
  lu.assertTrue(result.ok, result.error and result.error.message)
  lu.assertEquals(result.metrics.errors, 0)
  lu.assertTrue(held >= FLOWS, held .. " descriptors")
  if not sanitized then lu.assertTrue(each < 8192, ("%.0f bytes for a flow"):format(each)) end
  lu.assertTrue(inside.await(function() return agent_files() <= files end, 30), "no descriptor is left")
end

TestPorts = {}
local function opened() -- connections that this host began
  for line in io.lines "/proc/net/snmp" do
    local active = line:match "^Tcp: %S+ %S+ %S+ %S+ (%d+)"
    if active then return tonumber(active) end
  end
end
-- How many connections the agent has by the address that they come from.
local function by_address(pattern)
  local n, all = {}, 0
  local port = (":%04X"):format(inside.port)
  for line in inside.there_sh "cat /proc/net/tcp /proc/net/tcp6":gmatch "[^\n]+" do
    local at, from, state = line:match "^%s*%d+: (%x+:%x+) (%x+):%x+ (%x+)"
    if at and at:sub(-5) == port and state == "01" and from:find(pattern) then
      n[from], all = (n[from] or 0) + 1, all + 1
    end
  end
  return n, all
end

local function spread(spec, pattern)
  local run <close> = inside.start_run(spec)
  await_measuring(run)
  local addresses, counts = by_address(pattern), {}
  assert(run:wait(30), "the run ends")
  local result = json.decode(run:result())
  lu.assertTrue(result.ok, result.error and result.error.message)
  for _, n in pairs(addresses) do counts[#counts + 1] = n end
  return counts
end

local function check(ip, more, pattern)
  local spec = { test = "tcp_rr", flows = 150, duration = 2, warmup = 0, rate = "1k/s", ip = ip }
  local before = opened()
  local refused = inside.run(spec)
  lu.assertFalse(refused.ok)
  lu.assertEquals(refused.error.code, "limit")
  for _, words in ipairs { "flows must be at most 100 from this host, got 150", "1 address to leave by",
    "with 100 ports each", "add addresses", "IPv6", "ip_local_port_range" } do
    lu.assertStrContains(refused.error.message, words)
  end
  lu.assertEquals(opened(), before, "nothing was opened")
  inside.sh("ip addr add %s dev veth0 %s", more, ip == 6 and "nodad" or "")
  lu.assertEquals(spread(spec, pattern), { 75, 75 })
  -- fewer than one address has, but every other port is found slowly; the others are in TIME_WAIT
  inside.sh "sysctl -qw net.ipv4.ip_local_port_range='31000 31099'"
  spec.flows = 80
  lu.assertEquals(spread(spec, pattern), { 40, 40 })
end
function TestPorts:setUp()
  -- ports that the flows above did not leave in TIME_WAIT
  inside.sh "sysctl -qw net.ipv4.ip_local_port_range='30000 30099' net.ipv4.tcp_tw_reuse=1"
end
function TestPorts:tearDown() inside.sh "sysctl -qw net.ipv4.ip_local_port_range='32768 60999'" end
-- The agent's socket is of IPv6, where an IPv4 address is ::ffff:a.b.c.d.
function TestPorts:test_of_ipv4() check(4, "10.98.0.3/24", "FFFF0000") end
function TestPorts:test_of_ipv6() check(6, "fd98::3/64", "^000098FD") end

-- A host may have fewer open files than flows were asked for.
TestFiles = {}
function TestFiles:test_more_flows_than_files()
  local lines = inside.sh("sh -c 'ulimit -n 200; exec %s tests/bench/one.lua %s %s %d %s' || true",
    os.getenv "KNBL" or "./knbl", [["{\"test\":\"tcp_rr\",\"flows\":500,\"duration\":\"100ms\"}"]], inside.there,
    inside.port, inside.token)
  lu.assertStrContains(lines, "flows must be at most 136, got 500: this process may have 200 open files (ulimit -n)")
end

inside.finish(lu.LuaUnit.run())
