-- mesh.lua - brings up a lab of MESH_NODES (1,000), says how long it took and how much memory it has, then lets
-- MESH_OVER (200) of the nodes carry out a schedule: five partners for each, in latency and in bandwidth. Fails where
-- memory or requests are beyond what docs/performance.md says; a busy machine makes times longer.
local knbl = require "knbl"
local core = require "knbl.native"
local schedule = require "knbl.mesh.schedule"

local NODES, MESH = tonumber(os.getenv "MESH_NODES") or 1000, tonumber(os.getenv "MESH_OVER") or 200
local PARTNERS = { tcp_lat = 3, tcp_stream = 2 }
local AT_ONCE = { tcp_lat = 4, tcp_stream = 2 }
local SPEC = { tcp_lat = { test = "tcp_lat", duration = 0.2, warmup = 0.02 },
  tcp_stream = { test = "tcp_stream", duration = 0.25, warmup = 0.05 } }
local SLOT_S = 0.35
local MEMORY_MAX = 3e9

local function read(path)
  local f <close> = io.open(path)
  return f and f:read "a" or ""
end

-- What all processes of the lab have for themselves, and what the kernel keeps for it, where cgroups tell.
local function memory_of(agent)
  local keeper = agent.control.unix:match "^/proc/(%d+)/"
  local path = read(("/proc/%d/cgroup"):format(keeper)):match "memory:(%S+)/keeper"
  return path and tonumber(read(("/sys/fs/cgroup/memory%s/memory.usage_in_bytes"):format(path)))
end

local function peak() return tonumber(read "/proc/self/status":match "VmHWM:%s*(%d+)") * 1024 end

local function plan_of(names)
  local slots, n = {}, #names
  for _, test in ipairs { "tcp_lat", "tcp_stream" } do
    for k = 1, PARTNERS[test] do
      local stride = 1 + k * n // (PARTNERS[test] + 2)
      for i = 1, n, AT_ONCE[test] do
        local list = {}
        for from = i, math.min(i + AT_ONCE[test] - 1, n) do list[#list + 1] = { from, (from - 1 + stride) % n + 1 } end
        slots[#slots + 1] = { test = test, at = SLOT_S * #slots, duration = SLOT_S, pairs = list }
      end
    end
  end
  return { nodes = names, slots = slots }
end

local function carry_out(agents, names)
  local plan = plan_of(names)
  local results, stats = schedule.run(agents, plan, SPEC, { progress = function(done, total)
    if done % 50 == 0 then io.stderr:write(("\r%d of %d runs"):format(done, total)) end
  end })
  assert(results, stats)
  local codes, lines = {}, {}
  for _, entry in ipairs(results) do
    local code = entry.ok and "ok" or entry.error.code
    codes[code] = (codes[code] or 0) + 1
  end
  for code, count in pairs(codes) do lines[#lines + 1] = count .. " " .. code end
  local worst = 0
  for _, ns in pairs(stats.clock_error_ns) do worst = math.max(worst, ns) end
  io.stderr:write "\r"
  print(("mesh over %d nodes: %d runs in %.1f s (%s), %d requests, %d to one agent at most, %.1f MB, \z
    clocks within %.1f ms"):format(#names, #results, stats.seconds, table.concat(lines, ", "), stats.requests,
    stats.most_requests, (stats.bytes.sent + stats.bytes.received) / 1e6, worst / 1e6))
  assert(not next(stats.missing) and stats.most_requests <= 6)
end

local began = core.now()
local cluster <close> = knbl.cluster { provider = "lab", nodes = NODES }
local agents, names = {}, {}
for i = 1, NODES do
  agents[i] = cluster:node(i).endpoint
  names[i] = agents[i].name
end
local seconds, memory = core.now() - began, memory_of(agents[1])
print(("%d nodes up in %.1f s, %s"):format(NODES, seconds, memory and ("%.2f GB"):format(memory / 1e9)
  or "memory unknown"))
assert(not memory or memory < MEMORY_MAX, "the lab has more than 3 GB")
for i = MESH + 1, NODES do agents[i], names[i] = nil, nil end
carry_out(agents, names)
print(("orchestrator: %.0f MB at its peak"):format(peak() / 1e6))
