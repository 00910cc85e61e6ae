-- The same faults give the same numbers in every test: what counts as an error, as a timeout and as a failed connect,
-- one flow and many, closed and open loop, and nothing of the warm-up.
local inside = require "tests.net.inside"
local lu = require "luaunit"

local PORT = 7300

local servers = 0

-- A server with faults on a port of its own in the far namespace, for one run.
local function with_server(faults, mode, use)
  servers = servers + 1
  local port = PORT + servers
  local pid = inside.start(("ip netns exec far %s/tests/fault_server %d %s %d %d %d %d"):format(
    os.getenv "B" or "build", port, mode, faults.silent or 0, faults.reset or 0, faults.after or 0, faults.to or 0),
    "fault_server.log")
  assert(inside.await(function() return inside.listening(port, "ip netns exec far ") end), "the server listens")
  local result = use(port)
  os.execute("kill " .. pid)
  return result
end

-- The tests that ask a server of ours, each in its ways. The open loop is slow enough for a flow that waited for its
-- timeout to be in time again.
local function variants(more)
  local list = {}
  for _, test in ipairs { "tcp_rr", "udp_rr", "tcp_crr", "http" } do
    for _, flows in ipairs { 1, 4 } do
      for _, rate in ipairs { false, "8/s" } do
        local spec = { test = test, flows = flows, threads = 1, rate = rate or nil, count = rate and 20 or 100,
          warmup = 0, timeout = "5s" }
        if test == "http" then spec.external = true end
        for key, value in pairs(more or {}) do spec[key] = value end
        list[#list + 1] = { spec = spec, name = ("%s, %d flows, %s"):format(test, flows, rate or "closed loop"),
          mode = test == "http" and "http" or "knbl" }
      end
    end
  end
  return list
end

local function numbers(m)
  return ("errors %d, timeouts %d, connect errors %d"):format(m.errors or 0, m.timeouts or 0, m.connect_errors or 0)
end

-- A busy machine makes an answer late now and then; a wrong count is wrong each time.
local function expect(variant, faults, expected)
  local metrics
  inside.one_of(4, function()
    local result = with_server(faults, variant.mode, function(port)
      return inside.run(variant.spec, { port = port })
    end)
    lu.assertTrue(result.ok, variant.name .. ": " .. (result.error and result.error.message or ""))
    lu.assertEquals(numbers(result.metrics), expected, variant.name)
    metrics = result.metrics
  end)
  return metrics
end

-- A rule at the far end's door.
local function drop(rule, ...)
  inside.there_sh("nft 'add table inet faults; \z
    add chain inet faults door { type filter hook input priority 0; }; add rule inet faults door %s'", rule:format(...))
end
local function no_drop() inside.there_sh "nft delete table inet faults" end

TestFaults = {}

function TestFaults:test_requests_that_are_never_answered()
  for _, v in ipairs(variants { timeout = "60ms" }) do
    local silent = v.spec.count // 10
    local m = expect(v, { silent = 10 }, ("errors 0, timeouts %d, connect errors 0"):format(silent))
    lu.assertEquals(m.ops, v.spec.count - silent, v.name)
  end
end

-- A connection that is reset in the middle of an answer is one error. (UDP has no connections.)
function TestFaults:test_a_reset_in_the_middle()
  for _, v in ipairs(variants()) do
    if v.spec.test ~= "udp_rr" then
      local m = expect(v, { reset = 10 }, "errors 1, timeouts 0, connect errors 0")
      lu.assertEquals(m.ops, v.spec.count - 1, v.name)
    end
  end
end

-- Faults of the warm-up are not measured, however many there were.
function TestFaults:test_faults_of_the_warm_up()
  for _, v in ipairs(variants { warmup = "1s", timeout = "60ms" }) do
    local m = expect(v, { silent = 2, to = 4 }, "errors 0, timeouts 0, connect errors 0")
    lu.assertEquals(m.ops, v.spec.count, v.name)
  end
end

-- One SYN in ten is answered with a reset.
function TestFaults:test_refused_connections()
  if not inside.has "nft" then return end
  for _, v in ipairs(variants()) do
    local short = v.spec.test == "tcp_crr" or v.spec.test == "http"
    if v.spec.test == "http" then v.spec.keepalive = false end
    if short then
      local result = with_server({}, v.mode, function(port)
        drop("tcp flags & (syn|ack) == syn tcp dport %d numgen inc mod 10 == 9 reject with tcp reset", port)
        local got = inside.run(v.spec, { port = port })
        no_drop()
        return got
      end)
      lu.assertTrue(result.ok, v.name)
      local m = result.metrics
      lu.assertEquals(m.errors, 0, v.name)
      lu.assertEquals(m.timeouts, 0, v.name)
      -- tcp_crr's own first connections, before the measurement and after it, meet the rule too
      lu.assertAlmostEquals(m.connect_errors, v.spec.count / 10, 1, v.name)
      lu.assertEquals(m.ops + m.connect_errors, v.spec.count, v.name)
    end
  end
end

-- Echoes that are dropped are timeouts, and losses.
function TestFaults:test_ping()
  if not inside.has "nft" then return end
  drop "icmp type echo-request numgen inc mod 10 == 9 drop"
  local result = inside.run { test = "ping", count = 100, every = "2ms", timeout = "50ms" }
  no_drop()
  lu.assertTrue(result.ok, result.error and result.error.message)
  lu.assertEquals(numbers(result.metrics), "errors 0, timeouts 10, connect errors 0")
  lu.assertEquals(result.metrics.lost, 10)
end

inside.finish(lu.LuaUnit.run())
