-- knbl.mesh.schedule - carries out the plan of a mesh: each agent gets its whole part by one request and works alone.
--
--   run(agents, plan, specs, hooks) -> results, stats; or nil, err (argument: the plan is wrong; interrupted before the
--   start)
--
-- agents[i] is the endpoint of node i's agent (knbl.cluster.provider), prepared; an entry may be missing or false, and
-- then node i counts as missing.
-- plan = { nodes = { name, … }, seconds = …, slots = { { test = "tcp_lat", at = seconds from the start,
--   duration = seconds, pairs = { { i, j }, … } }, … } }; i is the client's node, j the server's. Slots may overlap. A
--   slot must hold the test's warm-up and duration; some 0.1 s more lets its connections open and its reports come in.
-- specs[test] is the test's specification, checked: what knbl.measure.request makes of a verb's table.
-- hooks, all optional: progress(done, total) with runs; interrupted() -> true asks for an early end: what was measured
--   until then is returned, stats.interrupted is true. qps limits the requests a second (50 through an API server, 500
--   otherwise); histograms (true) asks for each run's own histogram; family (4 or 6) is the family of the servers'
--   addresses, default the spec's `ip`, else 4 where there is one.
--
-- results: one entry for each pair of each slot, in the plan's order:
--   { slot = n, from = i, to = j, test = name, ok = bool,
--     error = { code, message }?,      -- also "lost": the client's agent died; "late": it was starved; "timeout"
--     metrics = { … },                 -- as in a result, without intervals, cpu and memory
--     flags = { … }?,                  -- as any result has them, where there are some
--     late_s = …?,                     -- it began so much later than planned, where that is more than 20 ms
--     histogram = TEXT? }              -- JSON text of the latency histogram (json.decode gives latency_histogram)
-- stats: { requests = n, agent_requests = { [i] = n }, most_requests = n, throttled = n (answers of 429),
--   bytes = { sent, received } of control, seconds = …, clock_error_ns = { [i] = … }, clock_offset_s = { [i] = … } (the
--   agent's wall clock less this one's, to a second), histograms = { [i] = { [test] = TEXT } } (all of a client's runs
--   merged), missing = { [i] = reason }, interrupted = bool }
local agent = require "knbl.measure.agent"
local errors = require "knbl.base.errors"
local json = require "knbl.json"
local native = require "knbl.native"
local parts_of = require "knbl.mesh.parts"
local tasks = require "knbl.mesh.tasks"

local M = {
  most = 6,            -- requests to one agent; what a server throttled does not count
  qps = 50, direct_qps = 500,
  beat_s = 10,         -- some agents are asked how far they are
  clock_ns = 5e6,      -- a clock that is known less well is asked once more
  end_s = 10,          -- for telling the agents of an early end
}

local ALIVE_S = 60     -- agents that only serve hear from us
local TRY_AGAIN_S = 0.5
local STEP_S = 0.25
local MARGIN_S = 0.5   -- between the last start request and the start

-- ---- requests ----

-- The offset of the agent's clock to this one's, and its error: half of what the way took.
local function read_clock(node, answer, sent_at, answered_at)
  local clock = answer.clock
  local taken, given = tonumber(clock and clock.taken_ns), tonumber(clock and clock.answered_ns)
  if not taken or not given then return end
  local half = math.max(0, (answered_at - sent_at) * 1e9 - (given - taken)) / 2
  if node.clock_error_ns and node.clock_error_ns <= half then return end
  node.clock_error_ns = half
  node.offset_ns = (taken + given) / 2 - (sent_at + answered_at) / 2 * 1e9
  node.wall_offset_s = math.floor(tonumber(clock.wall_ns) / 1e9 - os.time())
end

-- Asks an agent, once more where the failure may pass and `spare` requests stay for later; not one that was silent
-- until the timeout, which would take as long again. For tasks only.
local function ask(state, node, method, path, body, timeout, spare)
  while true do
    node.requests = node.requests + 1
    local answer, err = agent.once(state.core, node.endpoint, method, path, body, timeout)
    if answer then
      read_clock(node, answer, state.group:times())
      return answer
    end
    local final = err.code == "timeout" or not agent.is_transient(err)
    if final or node.requests + (spare or 0) >= M.most then return nil, err end
    state.core.sleep(TRY_AGAIN_S)
  end
end

-- Does f(node) for each at the same time. Returns true, or nil and the error of an interrupt.
local function each(state, nodes, f)
  local list = {}
  for i, node in ipairs(nodes) do
    list[i] = function() f(node) end
  end
  return state.group:run(list)
end

local function lose(node, err)
  node.missing = node.missing or err.message
end

-- ---- the nodes ----

local function new_node(state, i, endpoint, part)
  return { number = i, endpoint = endpoint, part = part, requests = 0,
    id = state.core.token():sub(1, 16), name = state.plan.nodes[i] }
end

local function collect(state, agents, parts)
  state.clients, state.servers, state.nodes = {}, {}, {}
  for i in ipairs(state.plan.nodes) do
    local endpoint = agents[i] or nil
    if endpoint and (endpoint.control or {}).here then
      state.missing[i] = "it has no agent of its own"
    elseif not endpoint then
      state.missing[i] = "it has no agent"
    else
      local node = new_node(state, i, endpoint, parts[i])
      state.nodes[i] = node
      state.apart[endpoint] = true
      table.insert(parts[i] and state.clients or state.servers, node)
    end
  end
end

local function present(nodes)
  local list = {}
  for _, node in ipairs(nodes) do
    if not node.missing then list[#list + 1] = node end
  end
  return list
end

-- ---- sending it ----

local function body_of(state, node)
  local part = node.part
  return json.encode { id = node.id, patience = state.patience, tests = part.tests, peers = part.peers,
    runs = part.runs, histograms = state.histograms }
end

local function give(state, node)
  local answer, err = ask(state, node, "POST", "/v1/schedule", body_of(state, node), 15, 4)
  if not answer then
    if err.status == 404 then err.message = node.name .. ": its agent is an older knbl without schedules" end
    return lose(node, err)
  end
  if node.clock_error_ns and node.clock_error_ns > M.clock_ns then
    ask(state, node, "GET", "/v1/schedule/" .. node.id, nil, 5, 4)
  end
end

-- The start as the agent's clock shows it.
local function start(state, node)
  local at_ns = ("%.0f"):format(state.start_s * 1e9 + node.offset_ns)
  local used = node.offset_ns
  local answer, err = ask(state, node, "POST", "/v1/schedule/" .. node.id .. "/start", json.encode { at_ns = at_ns }, 5,
    2)
  if not answer then return lose(node, err) end
  node.clock_error_ns = node.clock_error_ns + math.abs(node.offset_ns - used)
end

-- ---- while it goes on ----

-- How many runs must be over, by the clock.
local function count_over(state, now)
  local list = state.ends
  while list[state.over + 1] and list[state.over + 1] <= now - state.start_s do state.over = state.over + 1 end
  return state.over
end

local function say_progress(state)
  local hook = state.hooks.progress
  if hook then hook(count_over(state, state.core.now()), #state.ends) end
end

-- Asks the nodes whose turn it is. Each client gets at most two such requests.
local function next_for_a_beat(state)
  local n, list = #state.clients, {}
  local share = math.ceil(2 * n / math.max(1, state.seconds / M.beat_s - 1))
  for _ = 1, math.min(share, n) do
    state.turn = state.turn % n + 1
    local node = state.clients[state.turn]
    if not node.missing and node.requests + 2 <= M.most - 2 + 1 then list[#list + 1] = node end
  end
  return list
end

local function beat(state)
  local done = each(state, next_for_a_beat(state), function(node)
    local answer, err = ask(state, node, "GET", "/v1/schedule/" .. node.id, nil, 5, 2)
    if not answer and not agent.is_transient(err) then lose(node, err) end
  end)
  if not done then return end
  if state.core.now() - state.alive_at >= ALIVE_S then
    state.alive_at = state.core.now()
    each(state, state.servers, function(node)
      if node.requests < M.most then ask(state, node, "GET", "/v1/alive", nil, 5, M.most) end
    end)
  end
  agent.tend(state.core, state.apart)
end

local function interrupted(state)
  local hook = state.hooks.interrupted
  return state.core.interrupted() or hook and hook() or false
end

-- Waits until all slots are over, or until an interrupt.
local function follow(state)
  local next_beat = state.start_s + M.beat_s
  while not interrupted(state) do
    local now = state.core.now()
    if now >= state.end_s then return true end
    if now >= next_beat and state.end_s - now > M.beat_s / 2 then
      next_beat = now + M.beat_s
      beat(state)
    end
    say_progress(state)
    if not state.core.sleep(math.max(0.001, math.min(STEP_S, state.end_s - now))) then return false end
  end
  return false
end

-- ---- what came of it ----

local function fill(state, node, answer)
  local results, numbers = answer.results or {}, node.part.results
  for k, number in ipairs(numbers) do
    local given, entry = results[k], state.results[number]
    if type(given) == "table" then
      entry.ok, entry.metrics, entry.flags, entry.late_s = given.ok == true, given.metrics, given.flags, given.late_s
      entry.error, entry.histogram = given.error, given.histogram
    else
      entry.error = { code = "interrupted", message = "not started: the schedule was ended before" }
    end
  end
  for t, merged in ipairs(answer.merged or {}) do
    if type(merged) == "table" then
      state.merged[node.number] = state.merged[node.number] or {}
      state.merged[node.number][node.part.test_names[t]] = json.encode(merged)
    end
  end
end

-- A node that was missing earlier is asked too, if it may get another request: it may be back.
local function fetch(state, node)
  if node.requests >= M.most then return end
  local answer, err = ask(state, node, "DELETE", "/v1/schedule/" .. node.id, nil, node.missing and 5 or 15)
  if not answer then return lose(node, err) end
  node.missing = nil
  fill(state, node, answer)
end

-- Skips nodes that never got their part.
local function fetch_all(state)
  local list = {}
  for _, node in ipairs(state.clients) do
    if node.given then list[#list + 1] = node end
  end
  local deadline = state.interrupted and state.core.now() + M.end_s
  each(state, list, function(node)
    if not deadline or state.core.now() < deadline then fetch(state, node) end
  end)
end

local function blame_missing(state)
  for _, node in pairs(state.nodes) do state.missing[node.number] = node.missing end
  for _, entry in ipairs(state.results) do
    entry.metrics = entry.metrics or {}
    if not entry.ok and not entry.error then
      entry.error = { code = "lost", message = ("%s: %s"):format(state.plan.nodes[entry.from],
        state.missing[entry.from] or "its agent returned no result") }
    end
  end
end

local function stats_of(state, began)
  local stats = { requests = state.group.requests, throttled = state.group.throttled, agent_requests = {},
    most_requests = 0, bytes = { sent = state.group.sent, received = state.group.received },
    seconds = state.core.now() - began, clock_error_ns = {}, clock_offset_s = {}, histograms = state.merged,
    missing = state.missing, interrupted = state.interrupted or false }
  for i, node in pairs(state.nodes) do
    stats.agent_requests[i], stats.clock_error_ns[i] = node.requests, node.clock_error_ns
    stats.clock_offset_s[i] = node.wall_offset_s
    stats.most_requests = math.max(stats.most_requests, node.requests)
  end
  return stats
end

-- ---- all of it ----

local function is_direct(clients)
  for _, node in ipairs(clients) do
    if node.endpoint.control.fetch then return false end
  end
  return true
end

local function ends_of(plan)
  local ends = {}
  for _, slot in ipairs(plan.slots) do
    for _ = 1, #slot.pairs do ends[#ends + 1] = slot.at + slot.duration end
  end
  table.sort(ends)
  return ends
end

-- How long an agent goes on alone: between two requests, and while the other agents are sent their parts or asked.
local function patience_of(state)
  local waves = 4 * #state.clients / state.qps
  return math.floor(state.seconds * 0.75 + waves + 120)
end

local function carry_out(state)
  local ok, err = each(state, state.clients, function(node)
    node.given = true -- so that one whose answer an interrupt kept from us is told of the end
    give(state, node)
    node.given = not node.missing
  end)
  if not ok then return nil, err end
  local there = present(state.clients)
  state.start_s = state.core.now() + #there / state.qps + MARGIN_S
  state.end_s = state.start_s + state.seconds + state.slack
  ok, err = each(state, there, function(node) start(state, node) end)
  if not ok then return nil, err end
  return follow(state)
end

-- The results of all agents, also after an interrupt, whose own waits would fail. They can be a hundred megabytes: the
-- garbage of reading them is not left to become as much again.
local function gather(state)
  state.core.cleanup(true)
  collectgarbage("incremental", 120, 400)
  local ok, wrong = pcall(fetch_all, state)
  collectgarbage("incremental", 200, 100)
  state.core.cleanup(false)
  if not ok then error(wrong, 0) end
end

local function slack_of(plan)
  local longest = 0
  for _, slot in ipairs(plan.slots) do longest = math.max(longest, slot.duration) end
  return math.max(0.25, math.min(longest / 4, 2)) + 0.25
end

function M.run(agents, plan, specs, hooks)
  hooks = hooks or {}
  local core = hooks.core or native
  local state = { core = core, plan = plan, hooks = hooks, missing = {}, merged = {}, apart = {}, over = 0,
    turn = 0, ends = ends_of(plan), slack = slack_of(plan) }
  local parts
  state.results, parts, state.seconds = parts_of.of(agents, plan, specs, state.hooks.family)
  if not state.results then return nil, parts end
  state.histograms = state.hooks.histograms ~= false
  collect(state, agents, parts)
  state.qps = state.hooks.qps or is_direct(state.clients) and M.direct_qps or M.qps
  state.group, state.patience = tasks.group(core, state.qps), patience_of(state)
  local began = core.now()
  state.alive_at = began
  local whole, err = carry_out(state)
  state.interrupted = not whole
  gather(state)
  if err and not state.start_s then return nil, errors.from(err) end
  say_progress(state)
  blame_missing(state)
  return state.results, stats_of(state, began)
end

return M
