-- knbl.outside - what the ends of a path cost as their host sees them: the pods' own processes, and their sandboxes' (qemu and its vhost
-- threads, runsc's sentry). An agent in a sandbox knows only what its own kernel tells it. Read before and after a run, by endpoints that
-- know: usage(endpoint) -> { cpu_ns, memory_bytes } | nil.
local M = {}

local function things_of(thing)
  if not thing then return {} end
  return thing.endpoints or { thing }
end

-- All of them, or nothing: a part would be taken for the whole.
local function sum(thing)
  local cpu, memory
  for _, one in ipairs(things_of(thing)) do
    local endpoint = one.endpoint
    local usage = endpoint and endpoint.usage and endpoint:usage()
    if not usage or not usage.cpu_ns then return nil end
    cpu, memory = (cpu or 0) + usage.cpu_ns, (memory or 0) + (usage.memory_bytes or 0)
  end
  return cpu and { cpu_ns = cpu, memory = memory }
end

function M.read(core, request)
  return { at = core.now(), client = sum(request.from), server = sum(request.route.to) }
end

-- What was used between two readings, among a measurement's metrics: CPU in cores over all of the run, memory at its end.
function M.add(metrics, before, after)
  for _, side in ipairs { "client", "server" } do
    local a, b = before[side], after[side]
    if a and b and b.cpu_ns >= a.cpu_ns and after.at > before.at then
      metrics.cpu, metrics.memory = metrics.cpu or {}, metrics.memory or {}
      metrics.cpu[side .. "_sandbox"] = (b.cpu_ns - a.cpu_ns) / ((after.at - before.at) * 1e9)
      if b.memory > 0 then metrics.memory[side .. "_sandbox"] = b.memory end
    end
  end
end

-- Why an end is not there any more: its sandbox's last words, where one has ended. nil where all are there.
function M.obituary(request)
  local things = { request.from }
  for _, thing in ipairs(things_of(request.route.to)) do things[#things + 1] = thing end
  for _, thing in ipairs(things) do
    local words = thing.endpoint and thing.endpoint.ended and thing.endpoint:ended()
    if words then return ("%s has ended: %s"):format(thing.name, words) end
  end
end

return M
