-- knbl.observe - what watches client and server, and the nodes that they are on, while something is measured between them.
--
-- The agents watch (POST /v1/observe); here is said who does, for how long, and what becomes of what they saw. An observer is an entry of
-- M.observers: `ask(s, request, spec, seconds)` gives its options, or nil where it is not wanted; what each agent answered goes into the
-- ledger's list of that name. An agent that does not answer is no failure of the measurement: it is left out.
local agent = require "knbl.agent"

local M = {
  keep_s = 10,      -- an observation that nobody asks after ends with the agent's patience (30 s)
}

-- At least some 20 samples in a measurement, none finer than the kernel counts time, none further apart than a second. Where it is not known
-- how long it takes the agent thins out what it has, as time goes on.
local function interval_ns(seconds)
  return math.floor(math.max(0.01, math.min(1, seconds / 20)) * 1e9)
end

M.observers = {
  {
    name = "monitor",
    ask = function(s, request, _, seconds)
      if request.monitor == false or request.monitor == nil and s.settings.no_monitor then return nil end
      return { interval_ns = interval_ns(seconds) }
    end,
  },
}

-- ---- who watches ----

local function add(core, list, seen, endpoint, side)
  if not endpoint or not endpoint.control or not agent.reachable(endpoint, core) then return end
  local known = seen[endpoint]
  if known then
    if known.side ~= side then known.side = "both" end
    return
  end
  known = { endpoint = endpoint, name = endpoint.name, kind = endpoint.kind, node = endpoint.node, side = side }
  seen[endpoint], list[#list + 1] = known, known
end

-- The pod and, where an agent stands there already, its node.
local function add_thing(core, list, seen, thing, side)
  if not thing or thing.skip or not thing.endpoint then return end
  if not thing.external then add(core, list, seen, thing.endpoint, side) end
  local provider = thing.cluster.provider
  if thing.kind ~= "node" and provider.standing_node then add(core, list, seen, provider:standing_node(thing.endpoint.node), side) end
end

-- The agents that can watch a measurement: { endpoint, name, kind, node, side = "client" | "server" | "both" }.
function M.watchers(core, request)
  local list, seen = {}, {}
  add_thing(core, list, seen, request.from, "client")
  local to = request.route.to
  for _, thing in ipairs(to and (to.endpoints or { to }) or {}) do add_thing(core, list, seen, thing, "server") end
  return list
end

-- ---- one measurement ----

local Observation = {}
Observation.__index = Observation

-- Begins to watch; nil where nothing was asked for.
function M.begin(s, request, spec, seconds)
  local what
  for _, observer in ipairs(M.observers) do
    local options = observer.ask(s, request, spec, seconds)
    if options then
      what = what or {}
      what[observer.name] = options
    end
  end
  if not what then return nil end
  local self = setmetatable({ core = s.core, list = M.watchers(s.core, request), asked = s.core.now() }, Observation)
  for _, watcher in ipairs(self.list) do
    local before = s.core.now()
    watcher.handle = agent.observe(watcher.endpoint, what, s.core)
    watcher.began = (before + s.core.now()) / 2
  end
  return self
end

-- Says that somebody still waits for it; to be called every now and then.
function Observation:keep()
  if self.core.now() - self.asked < M.keep_s then return end
  self.asked = self.core.now()
  for _, watcher in ipairs(self.list) do
    if watcher.handle then watcher.handle:keep() end
  end
end

-- Ends it. Returns what was seen by the observers' names: lists of { name, kind, node, side, … as the agent gave it }. `opened_ns` is when
-- the window opened, by the client's clock: times count from there.
function Observation:finish(opened_ns)
  local seen, client = {}, nil
  for _, watcher in ipairs(self.list) do
    local answer = watcher.handle and watcher.handle:finish()
    watcher.handle = nil
    for name, value in pairs(answer or {}) do
      if type(value) == "table" then
        for _, key in ipairs { "name", "kind", "node", "side" } do value[key] = watcher[key] end
        client = client or watcher.side ~= "server" and { began = watcher.began, ns = tonumber(value.started_ns) } or nil
        value.started_ns = nil
        seen[name] = seen[name] or {}
        table.insert(seen[name], value)
        value.from = watcher.began
      end
    end
  end
  local opened = client and client.ns and tonumber(opened_ns) and client.began + (tonumber(opened_ns) - client.ns) / 1e9
  for _, list in pairs(seen) do
    for _, value in ipairs(list) do value.from = opened and value.from - opened or nil end
  end
  return seen
end

return M
