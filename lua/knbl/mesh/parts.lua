-- knbl.mesh.parts - a plan taken apart: what each node's agent is to do as a client, as POST /v1/schedule takes it.
local errors = require "knbl.base.errors"

local M = {}

local function wrong(text, ...) return nil, errors.new("argument", text:format(...)) end

-- What is wrong with a slot, or nil.
local function fault(slot, number, specs, nodes)
  local spec = specs[slot.test]
  if not spec then return ("slot %d: the plan has no specification of %s"):format(number, tostring(slot.test)) end
  local needs = (tonumber(spec.duration) or 0) > 0 and (tonumber(spec.warmup) or 0) + tonumber(spec.duration) or 0
  if needs > slot.duration + 1e-9 then
    return ("slot %d: %g s is shorter than warmup and duration of %s, %g s"):format(number, slot.duration, slot.test,
      needs)
  end
  for _, pair in ipairs(slot.pairs) do
    if pair[1] == pair[2] or not nodes[pair[1]] or not nodes[pair[2]] then
      return ("slot %d: a pair must be two of %d nodes, got %s and %s"):format(number, #nodes, tostring(pair[1]),
        tostring(pair[2]))
    end
  end
end

-- The number of a value in a part's list, appended where it is new.
local function number_of(list, index, key, value)
  if not index[key] then
    list[#list + 1] = value
    index[key] = #list - 1
  end
  return index[key]
end

local function host_of(endpoint, family)
  local a = endpoint.addresses
  if family then return a["v" .. family], ("it has no IPv%s address"):format(family) end
  return a.v4 or a.v6, "it has no address"
end

-- Adds a pair to its client's part. Returns why it cannot be measured, or nil.
local function add(part, agents, run, spec, family)
  local server = agents[run.to]
  if not server then return "the server's node has no agent" end
  local host, why = host_of(server, tonumber(spec.ip) or family)
  if not host then return "the server's node: " .. why end
  local peer = number_of(part.peers, part.peer_numbers, run.to .. "/" .. host, { host, server.port, server.token })
  local test = number_of(part.tests, part.test_numbers, run.test, spec)
  part.test_names[test + 1] = run.test
  part.runs[#part.runs + 1] = { run.at, run.duration, test, peer }
  part.results[#part.results + 1] = run.number
end

local function new_part()
  return { peers = {}, peer_numbers = {}, tests = {}, test_numbers = {}, test_names = {}, runs = {}, results = {} }
end

-- -> results (one entry for each pair, in the plan's order, with `error` where it cannot be measured), parts by node
-- (those without runs have none), seconds until the last slot's end; or nil, err
function M.of(agents, plan, specs, family)
  local results, runs, seconds = {}, {}, 0
  for n, slot in ipairs(plan.slots) do
    local problem = fault(slot, n, specs, plan.nodes)
    if problem then return wrong("%s", problem) end
    seconds = math.max(seconds, slot.at + slot.duration)
    for _, pair in ipairs(slot.pairs) do
      results[#results + 1] = { slot = n, from = pair[1], to = pair[2], test = slot.test, ok = false }
      runs[#runs + 1] = { number = #results, from = pair[1], to = pair[2], test = slot.test, at = slot.at,
        duration = slot.duration }
    end
  end
  table.sort(runs, function(a, b)
    if a.at ~= b.at then return a.at < b.at end
    return a.number < b.number
  end)
  local parts = {}
  for _, run in ipairs(runs) do
    if agents[run.from] then
      local part = parts[run.from] or new_part()
      local problem = add(part, agents, run, specs[run.test], family)
      if problem then results[run.number].error = { code = "lost", message = problem } else parts[run.from] = part end
    end
  end
  return results, parts, seconds
end

return M
