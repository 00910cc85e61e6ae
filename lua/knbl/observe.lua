-- knbl.observe - what watches client and server, and the nodes that they are on, while something is measured between them.
--
-- The agents watch (POST /v1/observe); here is said who does, for how long, and what becomes of what they saw. An observer is an entry of
-- M.observers: `ask(s, request, spec, seconds)` gives its options, or nil where it is not wanted; what each agent answered goes into the
-- ledger's list of that name. An agent that does not answer is no failure of the measurement: it is left out.
--
-- What sees a whole machine (`machine`) is asked for once for each: this very process in the lab, whose pods see nothing of one another, the
-- agents in the nodes' own network elsewhere. What was asked for by name (`wanted`) and could not be had says so in its place.
local agent = require "knbl.agent"
local errors = require "knbl.errors"
local json = require "knbl.json"

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
  {
    name = "profile", machine = true, wanted = true,
    -- Only while it is measured: a warm-up is not what operations cost.
    ask = function(s, request, spec)
      local wanted = request.profile
      if wanted == nil then wanted = s.settings.profile end
      if not wanted then return nil end
      local after, long = tonumber(spec.warmup) or 0, tonumber(spec.duration) or 0
      return { hz = tonumber(wanted), after_ns = math.floor(after * 1e9), for_ns = math.floor(long * 1e9) }
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

-- Of the agents those that see a machine each: a node's before a pod's. In the lab it is this process, once.
local function machines(request, list)
  local provider = request.from.cluster and request.from.cluster.provider
  if provider and provider.one_machine then return { { here = true, name = "this machine", kind = "machine", side = "both" } } end
  local chosen, by_node = {}, {}
  for _, watcher in ipairs(list) do
    local node = watcher.node or watcher.name
    local at = by_node[node]
    if not at then
      chosen[#chosen + 1] = watcher
      by_node[node] = #chosen
    elseif watcher.kind == "node" and chosen[at].kind ~= "node" then
      chosen[at] = watcher
    end
  end
  return chosen
end

-- ---- one measurement ----

local Here = {}
Here.__index = Here

function Here:keep() end -- luacheck: ignore 212
function Here:finish() return json.decode(self.observation:finish()) end

local function observe_here(what, core)
  if not core.observe then return nil, errors.new("unsupported", "the program knbl can observe this machine, a library cannot") end
  local observation, err = core.observe(json.encode(what))
  if not observation then return nil, errors.from(err) end
  return setmetatable({ observation = observation }, Here)
end

local Observation = {}
Observation.__index = Observation

-- What is wanted of whom: a list of watchers with `what`, {observer = options}.
local function assign(s, request, spec, seconds)
  local list, all = {}, nil
  for _, observer in ipairs(M.observers) do
    local options = observer.ask(s, request, spec, seconds)
    if options then
      all = all or M.watchers(s.core, request)
      for _, watcher in ipairs(observer.machine and machines(request, all) or all) do
        if not watcher.what then
          watcher.what, watcher.wanted = {}, {}
          list[#list + 1] = watcher
        end
        watcher.what[observer.name], watcher.wanted[observer.name] = options, observer.wanted
      end
    end
  end
  return list
end

-- Begins to watch; nil where nothing was asked for.
function M.begin(s, request, spec, seconds)
  local list = assign(s, request, spec, seconds)
  if #list == 0 then return nil end
  for _, watcher in ipairs(list) do
    local before = s.core.now()
    if watcher.here then watcher.handle, watcher.err = observe_here(watcher.what, s.core)
    else watcher.handle, watcher.err = agent.observe(watcher.endpoint, watcher.what, s.core) end
    watcher.began = (before + s.core.now()) / 2
  end
  return setmetatable({ core = s.core, list = list, asked = s.core.now() }, Observation)
end

-- Says that somebody still waits for it; to be called every now and then.
function Observation:keep()
  if self.core.now() - self.asked < M.keep_s then return end
  self.asked = self.core.now()
  for _, watcher in ipairs(self.list) do
    if watcher.handle then watcher.handle:keep() end
  end
end

-- What a watcher saw, by observer; what was asked for by name is there in any case.
local function answer_of(watcher)
  local answer, err = nil, watcher.err
  if watcher.handle then answer, err = watcher.handle:finish() end
  watcher.handle = nil
  answer = type(answer) == "table" and answer or {}
  for name in pairs(watcher.wanted) do
    if type(answer[name]) ~= "table" then
      answer[name] = { error = { code = err and err.code or "lost", message = err and err.message or watcher.name .. " did not answer" } }
    end
  end
  return answer
end

-- What is the machine's, not the pod's, stands once for each machine: with its node where that is watched, else with the first.
local function leave_once(list)
  local owner = {}
  for _, value in ipairs(list) do
    local machine = value.machine
    if machine and (not owner[machine] or value.kind == "node" and owner[machine].kind ~= "node") then owner[machine] = value end
  end
  for _, value in ipairs(list) do
    if value.machine and owner[value.machine] ~= value then
      value.cpu, value.memory, value.softnet = nil, nil, nil
      for _, group in ipairs { value.tcp or {}, value.udp or {} } do group.memory = nil end
    end
  end
end

-- Ends it. Returns what was seen by the observers' names: lists of { name, kind, node, side, … as the agent gave it }. `opened_ns` is when
-- the window opened, by the client's clock: times count from there.
function Observation:finish(opened_ns)
  local seen, machine_seen, client = {}, {}, nil
  local function add_seen(watcher, name, value)
    if watcher.wanted[name] and value.machine then -- two agents of one machine saw the same
      if machine_seen[value.machine] then return end
      machine_seen[value.machine] = true
    end
    for _, key in ipairs { "name", "kind", "node", "side" } do value[key] = watcher[key] end
    if value.started_ns then
      client = client or watcher.side ~= "server" and { began = watcher.began, ns = tonumber(value.started_ns) } or nil
      value.from = watcher.began
    end
    value.started_ns = nil
    seen[name] = seen[name] or {}
    table.insert(seen[name], value)
  end
  for _, watcher in ipairs(self.list) do
    for name, value in pairs(answer_of(watcher)) do
      if type(value) == "table" then add_seen(watcher, name, value) end
    end
  end
  local opened = client and client.ns and tonumber(opened_ns) and client.began + (tonumber(opened_ns) - client.ns) / 1e9
  for _, list in pairs(seen) do
    for _, value in ipairs(list) do value.from = value.from and opened and value.from - opened or nil end
  end
  leave_once(seen.monitor or {})
  return seen
end

return M
