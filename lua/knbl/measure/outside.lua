-- knbl.measure.outside - CPU and memory of the ends of a path as their host sees them: the pods' processes and those of
-- their sandboxes (qemu with its vhost threads, runsc's sentry), which an agent inside cannot see. Read before and
-- after a run from endpoints with usage(endpoint) -> { cpu_ns, memory_bytes } | nil.
local M = {}

local function things_of(thing)
  if not thing then return {} end
  return thing.endpoints or { thing }
end

-- The sum over all of them, or nil if one is not known.
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

-- Adds what was used between two readings to a measurement's metrics: CPU in cores over the whole run, memory at its
-- end.
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

-- Why an end is gone, with its sandbox's last output; nil if all are running.
function M.obituary(request)
  local things = { request.from }
  for _, thing in ipairs(things_of(request.route.to)) do things[#things + 1] = thing end
  for _, thing in ipairs(things) do
    local words = thing.endpoint and thing.endpoint.ended and thing.endpoint:ended()
    if words then return ("%s has ended: %s"):format(thing.name, words) end
  end
end

-- What keeps the ends of a path from each other, as far as their provider knows: words to follow an error, or "".
local path_errors = { timeout = true, no_data = true, unreachable = true, refused = true, permission = true }
function M.advice(request, code)
  local provider = request.from.cluster.provider
  if not (path_errors[code] and provider.explain_path and request.route.to) then return "" end
  local ends = { request.from.endpoint }
  for _, thing in ipairs(things_of(request.route.to)) do ends[#ends + 1] = thing.endpoint end
  return provider:explain_path(ends, code) or ""
end

return M
