-- flows.lua FLOWS IDLE LABEL - what very many flows to one agent cost, between two namespaces of a guest where the
-- limit of open files allows them (guest.sh): the rate at which they open beside that of tcp_crr, memory, counts, and
-- what is left when they end.
local inside = require "tests.net.inside"
local core = require "knbl.core"
local json = require "cjson"
local FLOWS, IDLE, LABEL = tonumber(arg[1]), tonumber(arg[2]), arg[3]
local GUESTS = { tcg = "qemu, emulated", kvm = "qemu with KVM" }
local ADDRESSES = 5 -- of the client, which has 28,232 ports on each, half of them quickly found; the agent has two
local SECOND = "10.98.0.3"
local HELD = 60 -- seconds
local bad = 0

local function say(...) io.write(string.format(...), "\n") io.flush() end
local function check(holds, ...)
  say("%s %s", holds and "ok    " or "NOT OK", string.format(...))
  if not holds then bad = bad + 1 end
end

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end
local function memory(pid) return tonumber(read(("/proc/%s/status"):format(pid)):match "VmRSS:%s+(%d+)") * 1024 end
local function files(pid) return tonumber(inside.sh("ls /proc/%s/fd | wc -l", pid):match "%d+") end
-- A counter of both namespaces by its name: /proc/net/snmp and netstat have a line of names above each line of values.
local function counters()
  local all = {}
  for _, shell in ipairs { inside.sh, inside.there_sh } do
    local text = shell "cat /proc/net/snmp /proc/net/netstat"
    for kind, names, values in text:gmatch "(%a+): (%u[^\n]*)\n%a+: ([%d-][^\n]*)" do
      local next_value = values:gmatch "%S+"
      for name in names:gmatch "%S+" do
        name = kind .. "." .. name
        all[name] = (all[name] or 0) + tonumber(next_value())
      end
    end
  end
  return all
end

-- Connections that ended otherwise than in order: reset while they were established, or aborted by their own side.
-- OutRsts would not do: an end whose FIN was sent twice gets a second ACK when it has forgotten the connection, and
-- answers that with a reset, though both sides have closed.
local function resets()
  local all, n, kinds = counters(), 0, {}
  for _, name in ipairs { "Tcp.EstabResets", "TcpExt.TCPAbortOnData", "TcpExt.TCPAbortOnClose",
    "TcpExt.TCPAbortOnMemory", "TcpExt.TCPAbortOnTimeout", "TcpExt.TCPAbortOnLinger", "TcpExt.TCPAbortFailed" } do
    n = n + all[name]
    if all[name] > 0 then kinds[#kinds + 1] = name .. " " .. all[name] end
  end
  return n, table.concat(kinds, ", ")
end

-- What the kernel counted, to explain a failure.
local function netstat()
  local list = {}
  for name, n in pairs(counters()) do
    if name:find "^TcpExt" and n ~= 0 then list[#list + 1] = name .. " " .. n end
  end
  table.sort(list)
  return table.concat(list, ", ") .. "\n"
    .. inside.sh "cat /proc/sys/fs/file-nr /proc/net/sockstat; head -3 /proc/meminfo"
end

-- Seconds until the windows of all runs are open.
local function await_open(runs, since)
  local function open()
    for _, run in ipairs(runs) do
      local phase = json.decode(run:progress()).phase
      if phase == "failed" then
        error(json.decode(run:result()).error.message .. "\n" .. inside.sh("cat %s/agent.log", inside.dir) .. netstat())
      end
      if phase ~= "measure" and phase ~= "done" then return false end
    end
    return true
  end
  assert(inside.await(open, 1800), "the flows did not open")
  return core.now() - since
end
local function result_of(run)
  assert(run:wait(1200), "the run did not end")
  local result = json.decode(run:result())
  if not result.ok then
    error((result.error and result.error.message or "the run failed") .. "\n"
      .. inside.sh("cat %s/agent.log", inside.dir)
      .. netstat())
  end
  return result
end

for i = 1, ADDRESSES - 1 do inside.sh("ip addr add 10.98.0.%d/24 dev veth0", 10 + i) end
inside.there_sh("ip addr add %s/24 dev veth0", SECOND)
inside.sh "sysctl -qw net.ipv4.tcp_tw_reuse=1"
say("%s, %d flows, %d idle connections", GUESTS[LABEL] or "this machine", FLOWS, IDLE)
local crr = inside.measure { test = "tcp_crr", flows = 100, threads = 2, duration = 2, warmup = 0.5 }
say("tcp_crr, 100 flows: %.0f/s", crr.rate_per_s)
inside.measure { test = "tcp_rr", flows = 100, duration = 1, warmup = 0 } -- what the agent has anyway
local self = read "/proc/self/stat":match "%d+"
local left = files(inside.agent)

local function opened(what, flows, seconds)
  check(flows / seconds >= crr.rate_per_s / 2, "%s: %d opened at %.0f/s, %.2f of tcp_crr (0.5 asked)", what, flows,
    flows / seconds, flows / seconds / crr.rate_per_s)
end
local function costs(what, flows, agent, client)
  local each, here = (memory(inside.agent) - agent) / flows, (memory(self) - client) / flows
  check(each < 8192, "%s: %.0f bytes a flow in the agent, %.0f in the client (less than 8192 asked)", what, each, here)
end
local function ended(what, before)
  local now, kinds = resets()
  check(now == before, "%s: %d connections were reset or aborted%s", what, now - before,
    now == before and "" or (" (%s; %s)"):format(kinds, netstat()))
  check(inside.await(function() return files(inside.agent) <= left end, 120),
    "%s: the agent has %d open files, %d before", what, files(inside.agent), left)
end


-- Every flow asks at least once, at half of the rate at which connections are made, whatever the machine.
if FLOWS > 0 then
  local rate = math.ceil(crr.rate_per_s / 2)
  local busy = math.max(10, math.ceil(1.5 * FLOWS / rate))
  local agent, client, broken, since = memory(inside.agent), memory(self), resets(), core.now()
  local run <close> = inside.start_run { test = "tcp_rr", flows = FLOWS, duration = busy, warmup = 0, timeout = 60,
    rate = rate .. "/s" }
  opened("tcp_rr", FLOWS, await_open({ run }, since))
  costs("tcp_rr", FLOWS, agent, client)
  local m = result_of(run).metrics
  local fair = m.fairness
  check(m.errors == 0 and m.timeouts == 0, "tcp_rr: %d requests in %d s, %d errors, %d timeouts", m.ops, busy, m.errors,
    m.timeouts)
  check(fair.flow_min > 0, "tcp_rr: every flow is in the counts: %d to %d requests each, Jain's index %.3f",
    fair.flow_min, fair.flow_max, fair.jain)
  ended("tcp_rr", broken)
end

-- Two runs that ask two requests a second, so that nearly all of their connections do nothing.
if IDLE > 0 then
  local agent, client, broken, since = memory(inside.agent), memory(self), resets(), core.now()
  local runs, half = {}, IDLE // 2
  for i = 1, 2 do
    runs[i] = inside.start_run({ test = "tcp_rr", flows = half, duration = HELD, warmup = 0, rate = "1/s",
      timeout = 60 }, { host = i == 2 and SECOND or nil })
  end
  opened("idle", 2 * half, await_open(runs, since))
  costs("idle", 2 * half, agent, client)
  check(files(inside.agent) >= 2 * half, "idle: the agent holds %d open files", files(inside.agent))
  local m = inside.measure { test = "tcp_rr", duration = 3 }
  say("       meanwhile one more flow: %.0f requests/s, p99 %.0f us", m.rate_per_s, m.latency_ns.p99 / 1000)
  for i, run in ipairs(runs) do
    m = result_of(run).metrics
    check(m.errors == 0 and m.timeouts == 0, "idle: run %d: %d requests, %d errors, %d timeouts", i, m.ops, m.errors,
      m.timeouts)
  end
  ended("idle", broken)
end
inside.finish(bad > 0 and 1 or 0)
