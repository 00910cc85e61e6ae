-- knbl.doubt - what makes a measurement doubtful: every flag with what it means and where it is set, and those flags that follow from
-- what was watched meanwhile (knbl.observe). The engines set the others (src/engines/result_flags.c).
local M = {}

-- How full a connection tracking table is nearly full; for how long an agent that is not run has been stopped rather than kept waiting; from
-- which share on drops are no chance of a busy machine's.
M.tracked, M.stopped_s, M.dropped = 0.9, 0.5, 1e-4

-- name, what it says under a table, where it is set
local list = {
  { "generator_cpu_bound", "the generator used all the CPU it may have: the figure is its limit, not the path's",
    "95 % of the cores that its threads could have had, where it waits by blocking (not of a stream that came at its rate); "
      .. "or a cgroup quota stopped it for 5 % of the time" },
  { "server_cpu_bound", "the server used all the CPU it may have: the figure is its limit, not the path's",
    "95 % of a core for each flow, where it waits by blocking; or a cgroup quota stopped it for 5 % of the time" },
  { "throttled", "a CPU limit (cgroup quota) stopped client or server for a part of the time", "any throttling in the window" },
  { "other_work", "other programs used the machine's CPUs meanwhile, or its hypervisor took them: the next run may differ",
    "a tenth of the CPUs of a machine that client or server is on, and 50 ms; not told where an end is in a sandbox or no agent of knbl" },
  { "conntrack_full", "the connection tracking table was nearly full",
    "90 % of nf_conntrack_max at client, server or their nodes, or entries dropped to make room" },
  { "retransmits", "TCP sent one segment in a thousand again, or more: something on the path drops packets", "at least one segment in a thousand" },
  { "syn_resent", "connections waited a second for their first packet to be sent again: it was dropped, the accept queue was full, or a masqueraded port met its TIME_WAIT",
    "a connect of a second or more" },
  { "drops", "an interface or a queue of the kernel dropped packets",
    "one packet in ten thousand and at least ten, on an interface of client, server or their nodes; any at a full accept queue" },
  { "receiver_drops", "the receiver's own socket was full: it lost datagrams that had come over the path", "any" },
  { "send_drops", "the sender's own socket refused datagrams: they never reached the path", "any" },
  { "fragmented", "a datagram was larger than the MTU: each went in several packets, and one that is lost loses it whole",
    "udp_stream and udp_rr: size, or response, and headers beyond the MTU of the way out" },
  { "clock_jump", "the machine's clock jumped while it was measured",
    "CLOCK_REALTIME moved by more than 10 ms against CLOCK_MONOTONIC at client, server or their nodes" },
  { "paused", "client, server or the machine was stopped for a while, or had no CPU to run on",
    "half a second in which an agent was not run, or any in which the machine slept (CLOCK_BOOTTIME)" },
  { "wrong_backend", "another pod than those asked for answered", "the name of whoever answered is none of the endpoints'" },
  { "several_backends", "several backends of the Service answered", "more than one, where the script gave it one" },
  { "backend_missing", "a backend that served could not be found again: what it counted, and its CPU, are not among the server's figures",
    "tcp_crr, where the backends found do not account for all connections" },
  { "mss_differs", "the effective MSS is not the one that was asked for", "by more than the room for timestamps" },
  { "too_few_samples", "too few samples for the percentiles shown", "fewer than 100 operations" },
  { "step", "it changed its level in the middle: the path, or what shares it, changed",
    "a change-point test over the intervals (at least 16; Pettitt, p < 1 %), where the level changed by a fifth and by three times the scatter; on "
    .. "noise without a step fewer than 1 % are flagged" },
  { "stopped", "it was stopped before its time", "by the user, or the orchestrator" },
  { "errors", "some operations failed", "any" },
  { "bad_status", "the server answered with 4xx or 5xx: what was measured may be its error page", "http: any response that is neither 2xx nor 3xx" },
  { "rate_not_reached", "the rate that was asked for was not reached", "less than 98 % of it" },
}

M.list, M.meaning = {}, {}
for i, row in ipairs(list) do
  M.list[i] = { name = row[1], meaning = row[2], where = row[3] }
  M.meaning[row[1]] = row[2]
end

-- ---- what the monitors saw ----

-- The values of a column, which may be a single number for all of them.
local function values(column)
  if type(column) == "number" then return { column } end
  return type(column) == "table" and column or {}
end

local function sum(column, times)
  if type(column) == "number" then return column * times end
  local total = 0
  for _, value in ipairs(values(column)) do total = total + (tonumber(value) or 0) end
  return total
end

local function largest(column)
  local most = 0
  for _, value in ipairs(values(column)) do most = math.max(most, tonumber(value) or 0) end
  return most
end

-- Packets are given by the second: turned back into how many they were.
local function packets(interface, t)
  local total, before = 0, 0
  for i, at in ipairs(t) do
    for _, name in ipairs { "rx_packets_per_s", "tx_packets_per_s" } do
      local column = interface[name]
      local rate = type(column) == "table" and column[i] or column
      total = total + (tonumber(rate) or 0) * (at - before)
    end
    before = at
  end
  return total
end

local function drops(monitor, t)
  for _, interface in pairs(monitor.interfaces or {}) do
    local lost = 0
    for _, name in ipairs { "rx_drops", "tx_drops", "rx_errors", "tx_errors" } do lost = lost + sum(interface[name], #t) end
    if lost >= 10 and lost > M.dropped * packets(interface, t) then return true end
  end
  local tcp, softnet = monitor.tcp or {}, monitor.softnet or {}
  return sum(tcp.listen_drops, #t) > 0 or sum(softnet.drops, #t) >= 10
end

local function conntrack_full(monitor, t)
  local tracked = monitor.conntrack or {}
  local most = largest(tracked.max)
  return most > 0 and largest(tracked.entries) >= M.tracked * most or sum(tracked.drops, #t) > 0
end

local function paused(monitor)
  local clock = monitor.clock or {}
  return (tonumber(clock.late_s) or 0) >= M.stopped_s or (tonumber(clock.asleep_s) or 0) > 0
end

local function clock_jump(monitor)
  return (tonumber((monitor.clock or {}).jumped_s) or 0) > 0
end

local seen = { { "conntrack_full", conntrack_full }, { "drops", drops }, { "clock_jump", clock_jump }, { "paused", paused } }

-- Adds to a measurement's flags what its own figures and its monitors make doubtful.
function M.add(entry)
  local have = {}
  for _, flag in ipairs(entry.flags) do have[flag] = true end
  local status = (entry.metrics or {}).status or {}
  if status["4xx"] or status["5xx"] or status.other then table.insert(entry.flags, "bad_status") end
  for _, rule in ipairs(seen) do
    for _, monitor in ipairs(entry.monitor or {}) do
      if not have[rule[1]] and rule[2](monitor, values(monitor.t)) then
        have[rule[1]] = true
        table.insert(entry.flags, rule[1])
      end
    end
  end
end

return M
