-- knbl.results.doubt - flags: what makes a measurement doubtful. The table has every flag, what it means and when it is
-- set. The engines set flags that follow from the figures of a run alone; this module adds those that follow from what
-- the script asked for and from what was watched meanwhile (knbl.measure.observe). Nothing removes a flag.
local backends = require "knbl.results.backends"
local watched = require "knbl.results.monitor"

local M = {}

-- A connection tracking table this full is nearly full; an agent that did not run for this long was stopped rather than
-- kept waiting; a busy machine may drop this share of its packets.
M.tracked, M.stopped_s, M.dropped = 0.9, 0.5, 1e-4
-- What others may use of a machine: this share of its CPUs, or this much CPU time, which the kernel counts in steps.
M.others, M.others_s = 0.1, 0.05

-- name, what it says under a table, when it is set
local list = {
  { "generator_cpu_bound", "the load generator was CPU-bound: this figure is its limit, not the network's",
    "95 % of the cores that its threads may use, where it waits by blocking (not for a stream that reached its rate); \z
      or a cgroup quota stopped it for 5 % of the time" },
  { "server_cpu_bound", "the server was CPU-bound: this figure is its limit, not the network's",
    "95 % of a core for each flow, where it waits by blocking; or a cgroup quota stopped it for 5 % of the time" },
  { "throttled", "a CPU limit (cgroup quota) stopped client or server for part of the time",
    "any throttling in the window" },
  { "other_work", "other programs, or the hypervisor, used the machine's CPUs meanwhile: the next run may differ",
    "a tenth of the CPUs of a machine that client or server is on, and 50 ms; not with a sandboxed pod, with \z
      measurements at the same time or with a server that is not an agent" },
  { "conntrack_full", "the connection tracking table was nearly full",
    "90 % of nf_conntrack_max at client, server or their nodes, or entries dropped to make room" },
  { "tcp_memory", "the machine's memory for TCP was exhausted: the kernel dropped segments that had arrived, or \z
      shrank windows",
    "TCP memory at the pressure limit of net.ipv4.tcp_mem or above, that limit entered, a connection ended for want \z
      of memory, or ten segments dropped at receive queues (TCPRcvQDrop), at client, server or their nodes" },
  { "retransmits", "TCP lost one segment in a thousand, or more: something on the path drops packets",
    "at least one segment in a thousand sent again, not counting those that the receiver already had" },
  { "syn_resent", "connections waited a second until their first packet was sent again: it was dropped, the accept \z
      queue was full, or a masqueraded port was still in TIME_WAIT",
    "a connect of a second or more" },
  { "drops", "an interface or a queue of the kernel dropped packets",
    "one packet in ten thousand and at least ten, on an interface of client, server or their nodes; any at a full \z
      accept queue" },
  { "receiver_drops", "the receive buffer of the receiver's socket was full: it dropped datagrams that had arrived",
    "udp_stream: any" },
  { "client_drops", "the receive buffer of the client's own socket was full: it dropped answers that had arrived, \z
      which the path did not lose", "udp_rr and dns: any in the window" },
  { "send_drops", "the sender's own socket refused datagrams: they were never sent", "any" },
  { "fragmented", "a datagram was larger than the MTU: it travels in several packets, and losing one loses all of it",
    "udp_stream and udp_rr: size or response, with headers, is larger than the MTU of the outgoing interface" },
  { "clock_jump", "the machine's clock jumped during the measurement",
    "CLOCK_REALTIME moved by more than 10 ms against CLOCK_MONOTONIC at client, server or their nodes" },
  { "paused", "client, server or the machine was stopped for a while, or had no CPU to run on",
    "an agent did not run for half a second, or the machine slept (CLOCK_BOOTTIME)" },
  { "wrong_backend", "a pod other than those asked for answered",
    "the name of a server is none of the endpoints', and no `during` changed them" },
  { "several_backends", "more backends answered than the script gave the Service", "more servers than endpoints" },
  { "backend_missing", "a backend that served was not found again: its counts and CPU are missing from the server's",
    "tcp_crr: the backends that were found do not account for all connections" },
  { "uneven_backends", "the shares of the backends are further from even than chance explains",
    "a Service over several, by connections (at least 5 for each backend): chi-squared test, p < 0.1 %; not with \z
      affinity or external_traffic_policy = \"Local\", nor between targets, whose shares are those asked for, nor \z
      with `during`" },
  { "target_lost", "a target could not be reached any more: its operations failed while those of the others went on",
    "several targets: all flows to one of them failed, for as long as a measurement of it alone would have gone on, \z
      or could not be opened" },
  { "mss_differs", "the effective MSS differs from the one asked for", "by more than the room for timestamps" },
  { "too_few_samples", "too few samples for the percentiles shown", "fewer than 100 operations" },
  { "step", "the level changed in the middle: the path, or what shares it, changed",
    "a change-point test over the intervals (at least 16; Pettitt, p < 1 %): the level changed by a fifth and by \z
      three times the scatter; noise without a step is flagged in fewer than 1 % of cases" },
  { "stopped", "it was stopped early", "by the user or the orchestrator" },
  { "errors", "some operations failed", "any, but over UDP no timeouts: a datagram without an answer is a loss" },
  { "unverified", "TLS without verification: the server was not asked to prove its name", "http: verify = false" },
  { "bad_status", "the server answered with 4xx or 5xx: this may be the cost of its error page",
    "http: any response other than 2xx and 3xx" },
  { "probe_too_fast", "the prober could not make its attempts in time: its rate is more than it can do here",
    "probe: 1 % of the attempts blind at 80 % of a CPU, or half of them at any, or no socket or port left for one" },
  { "prober_blind", "the prober itself was stopped, throttled or starved for a while, which counts as blind",
    "probe: one attempt in a thousand" },
  { "no_change", "attempts found the same state before the change and to the end: it had no effect in the time that \z
      was watched", "knbl.ready: all attempts; a longer `settle` watches longer" },
  { "rate_not_reached", "the rate that was asked for was not reached",
    "less than 98 % of it, and more than one operation of each thread missing" },
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

-- The number of packets, from their rates.
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
    for _, name in ipairs { "rx_drops", "tx_drops", "rx_errors", "tx_errors" } do
      lost = lost + sum(interface[name], #t)
    end
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

local function tcp_memory(monitor, t)
  local tcp = monitor.tcp or {}
  local limit = largest(tcp.memory_max)
  return limit > 0 and largest(tcp.memory) >= limit or sum(tcp.memory_pressures, #t) > 0
    or sum(tcp.queue_drops, #t) >= 10
end

local function paused(monitor)
  local clock = monitor.clock or {}
  return (tonumber(clock.late_s) or 0) >= M.stopped_s or (tonumber(clock.asleep_s) or 0) > 0
end

local function clock_jump(monitor)
  return (tonumber((monitor.clock or {}).jumped_s) or 0) > 0
end

local seen = { { "conntrack_full", conntrack_full }, { "tcp_memory", tcp_memory }, { "drops", drops },
  { "clock_jump", clock_jump },
  { "paused", paused } }

-- ---- what the script asked for ----

local function count(t)
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  return n
end

-- Who may answer, by name; nil where that is not known, or where the script changes the cluster meanwhile.
local function expected_of(request) return not request.during and request.route.backends or nil end

local function wrong_backend(entry, request)
  local expected = expected_of(request)
  for _, server in ipairs(expected and entry.servers or {}) do
    if server.name and not expected[server.name] then return true end
  end
end

local function several_backends(entry, request)
  local expected = expected_of(request)
  return expected and entry.servers and #entry.servers > count(expected)
end

-- Whether what else runs on the machines was asked for: the measurements at the same time, the sandboxes of the ends.
local function shares_cpus(request)
  if request.beside then return true end
  local to = request.route.to or {}
  for _, thing in ipairs { request.from, to, (table.unpack or unpack)(to.endpoints or {}) } do
    local runtime = thing.runtime
    if runtime and runtime ~= "runc" and runtime ~= "host" then return true end
  end
end

local function other_work(entry, request)
  local cpu, seconds = entry.metrics.cpu or {}, entry.metrics.duration_s or 0
  for _, side in ipairs { "client", "server" } do
    local others, cpus = cpu[side .. "_others"], cpu[side .. "_cpus"]
    if others and cpus and others >= M.others * cpus and others * seconds >= M.others_s then
      return not shares_cpus(request)
    end
  end
end

local asked = { { "wrong_backend", wrong_backend }, { "several_backends", several_backends },
  { "other_work", other_work } }

-- Adds to the flags of an entry of the ledger what follows from its request (knbl.measure.request) and its monitors.
function M.add(entry, request)
  local have = {}
  for _, flag in ipairs(entry.flags) do have[flag] = true end
  local function flag(name, doubtful)
    if doubtful and not have[name] then have[name], entry.flags[#entry.flags + 1] = true, name end
  end
  for _, rule in ipairs(asked) do flag(rule[1], rule[2](entry, request)) end
  local uneven = entry.ok and backends.add(entry, request)
  flag("uneven_backends", uneven and not request.during) -- which may have changed them
  -- an agent may send anything: what is not a monitor is left out
  for i = #(entry.monitor or {}), 1, -1 do
    if watched.fault(entry.monitor[i]) then table.remove(entry.monitor, i) end
  end
  for _, rule in ipairs(seen) do
    for _, monitor in ipairs(entry.monitor or {}) do flag(rule[1], rule[2](monitor, values(monitor.t))) end
  end
end

return M
