-- knbl.measure.observe - records client, server and their nodes during a measurement.
--
-- The agents record (POST /v1/observe); this module decides which agents, for how long, and puts the answers into the
-- ledger. An observer is an entry of `observers`: `ask(s, request, spec, seconds)` returns its options, or nil if it is
-- not wanted. The answers of the agents become the ledger's list of that name. An agent that does not answer is left
-- out; the measurement does not fail.
--
-- An observer of whole machines (`machine`) runs once for each machine: in this process for the lab, whose pods do not
-- see one another, else by agents in the nodes' own network. If the user asked for an observer by name (`wanted`) and
-- it is not available, its entry has the reason.
local agent = require "knbl.measure.agent"
local errors = require "knbl.base.errors"
local json = require "knbl.json"
local parallel = require "knbl.base.parallel"

local M = {
  keep_s = 10,      -- an agent ends an observation that is not polled for 30 s
}

-- About 20 samples in a measurement, at least 10 ms apart, since the kernel counts in such steps, at most a second;
-- a thousand in a long one, so that the ledger of an hour stays small. If the time is not known, the agent thins
-- them out as they become many.
local function interval_ns(seconds)
  return math.floor(math.max(0.01, math.min(1, seconds / 20), seconds / 1100) * 1e9)
end
M.interval_ns = interval_ns

local observers = {
  {
    name = "monitor",
    ask = function(s, request, _, seconds)
      if request.monitor == false or request.monitor == nil and s.settings.no_monitor then return nil end
      return { interval_ns = interval_ns(seconds) }
    end,
  },
  {
    name = "profile", machine = true, wanted = true,
    -- without the warm-up, which is not part of what operations cost
    ask = function(s, request, spec)
      local wanted = request.profile
      if wanted == nil then wanted = s.settings.profile end
      if not wanted then return nil end
      local after, long = tonumber(spec.warmup) or 0, tonumber(spec.duration) or 0
      return { hz = tonumber(wanted), after_ns = math.floor(after * 1e9), for_ns = math.floor(long * 1e9) }
    end,
  },
}

-- ---- which agents record ----

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

-- The pod and, if an agent runs there already, its node.
local function add_thing(core, list, seen, thing, side)
  if not thing or thing.skip or not thing.endpoint then return end
  if not thing.external then add(core, list, seen, thing.endpoint, side) end
  local provider = thing.cluster.provider
  if thing.kind ~= "node" and provider.standing_node then
    add(core, list, seen, provider:standing_node(thing.endpoint.node), side)
  end
end

-- The agents that can record a measurement: { endpoint, name, kind, node, side = "client" | "server" | "both" }.
function M.watchers(core, request)
  local list, seen = {}, {}
  add_thing(core, list, seen, request.from, "client")
  local to = request.route.to
  for _, thing in ipairs(to and (to.endpoints or { to }) or {}) do add_thing(core, list, seen, thing, "server") end
  return list
end

-- One agent for each machine, a node's rather than a pod's. In the lab it is this process.
local function machines(request, list)
  local provider = request.from.cluster and request.from.cluster.provider
  if provider and provider.one_machine then
    return { { here = true, name = "this machine", kind = "machine", side = "both" } }
  end
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
  if not core.observe then
    return nil, errors.new("unsupported", "only the program knbl can record this machine, not the library")
  end
  local observation, err = core.observe(json.encode(what))
  if not observation then return nil, errors.from(err) end
  return setmetatable({ observation = observation }, Here)
end

local Observation = {}
Observation.__index = Observation

-- A list of watchers, each with what it is to record: `what`, {observer = options}.
local function assign(s, request, spec, seconds)
  local list, all = {}, nil
  for _, observer in ipairs(observers) do
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

local function begin_one(s, watcher)
  local before = s.core.now()
  if watcher.here then watcher.handle, watcher.err = observe_here(watcher.what, s.core)
  else watcher.handle, watcher.err = agent.observe(watcher.endpoint, watcher.what, s.core) end
  watcher.began = (before + s.core.now()) / 2
end

-- For each element of a list a function that calls `f` with it.
local function calls(list, f)
  local functions = {}
  for i, element in ipairs(list) do
    functions[i] = function() f(element) end
  end
  return functions
end

-- Begins to record; nil if nothing was asked for.
function M.begin(s, request, spec, seconds)
  local list = assign(s, request, spec, seconds)
  if #list == 0 then return nil end
  parallel.run(s.core, calls(list, function(watcher) begin_one(s, watcher) end))
  return setmetatable({ core = s.core, list = list, asked = s.core.now() }, Observation)
end

-- Keeps the agents recording; to be called regularly.
function Observation:keep()
  if self.core.now() - self.asked < M.keep_s then return end
  self.asked = self.core.now()
  for _, watcher in ipairs(self.list) do
    if watcher.handle then watcher.handle:keep() end
  end
end

-- What a watcher recorded, by observer; what was asked for by name is always there, if only as an error.
local function answer_of(watcher)
  local answer, err = nil, watcher.err
  if watcher.handle then answer, err = watcher.handle:finish() end
  watcher.handle = nil
  answer = type(answer) == "table" and answer or {}
  for name in pairs(watcher.wanted) do
    if type(answer[name]) ~= "table" then
      answer[name] = { error = { code = err and err.code or "lost",
        message = err and err.message or watcher.name .. " did not answer" } }
    end
  end
  return answer
end

-- Leaves the values of a machine in one entry for each machine: its node's if that is recorded, else the first.
local function leave_once(list)
  local owner = {}
  for _, value in ipairs(list) do
    local machine = value.machine
    if machine and (not owner[machine] or value.kind == "node" and owner[machine].kind ~= "node") then
      owner[machine] = value
    end
  end
  for _, value in ipairs(list) do
    if value.machine and owner[value.machine] ~= value then
      value.cpu, value.memory, value.softnet = nil, nil, nil
      for _, group in ipairs { value.tcp or {}, value.udp or {} } do group.memory = nil end
    end
  end
end

-- Asks all agents at the same time, and calls `also` meanwhile (which may be nil).
function Observation:collect(also)
  if self.answers then return end
  self.answers = {}
  local functions = calls(self.list, function(watcher) self.answers[watcher] = answer_of(watcher) end)
  functions[#functions + 1] = also
  parallel.run(self.core, functions)
end

-- Ends it. Returns lists by the observers' names: { name, kind, node, side, … as the agent answered }. `opened_ns` is
-- when the window opened, by the client's clock: times count from there.
function Observation:finish(opened_ns)
  local seen, machine_seen, client = {}, {}, nil
  local function add_seen(watcher, name, value)
    if watcher.wanted[name] and value.machine then -- two agents of one machine recorded the same
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
  self:collect()
  for _, watcher in ipairs(self.list) do
    for name, value in pairs(self.answers[watcher]) do
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
