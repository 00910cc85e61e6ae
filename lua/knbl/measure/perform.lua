-- knbl.measure.perform - carries out measurements that were checked: one, or several at the same time.
--
-- A job is one of them: { request, spec, entry, seconds, known }, and while it runs { target, token, run, observation,
-- before }. Its entry is what the ledger keeps of it. A failure of the measurement itself is its result (`ok` false,
-- `error`); an agent that is lost, a secret that is refused and an interruption end the script.
local agent = require "knbl.measure.agent"
local ceiling = require "knbl.measure.ceiling"
local doubt = require "knbl.results.doubt"
local during = require "knbl.measure.during"
local errors = require "knbl.base.errors"
local json = require "knbl.json"
local observe = require "knbl.measure.observe"
local outside = require "knbl.measure.outside"
local parallel = require "knbl.base.parallel"
local path = require "knbl.measure.path"
local targets = require "knbl.measure.targets"
local tests = require "knbl.base.tests"
local timeline = require "knbl.results.timeline"

local M = {}

-- ---- what is to be done ----

-- "*svc?" as a Lua pattern, found anywhere in a text, whatever the case of its letters.
local function glob(pattern)
  return (pattern:lower():gsub("[%^%$%(%)%%%.%[%]%+%-]", "%%%0"):gsub("%*", ".*"):gsub("%?", "."))
end

function M.selected(s, request)
  if not s.settings.only then return true end
  local subject = { request.case, request.test }
  for key, value in pairs(request.labels or {}) do subject[#subject + 1] = key .. "=" .. tostring(value) end
  for _, pattern in ipairs(s.settings.only) do
    for _, line in ipairs(subject) do
      if line:lower():find(glob(pattern)) then return true end
    end
  end
  return false
end

-- How long a measurement will take, in seconds, and whether that is known.
function M.expected_time(spec)
  local warmup, duration = tonumber(spec.warmup) or 0, tonumber(spec.duration) or 0
  local every, count = tonumber(spec.every), tonumber(spec.count)
  if duration > 0 then return warmup + duration + 0.1, true end
  if every and count then return warmup + every * count + 0.1, true end
  return warmup + 2, false
end

local function entry_of(s, request, spec)
  local route, from = request.route, request.from
  return {
    test = request.test, case = request.case, from = from.name, to = route.to_name, via = route.via,
    labels = request.labels, round = s.labels_round or (s.settings.repeats or 1) > 1 and s.round or nil, params = spec,
    line = request.line, ok = false, started = s.core.wall(), path = targets.describe(from, route, spec.ip),
    expect = request.expect_texts, sized = request.is_list or nil,
  }
end

-- ---- what keeps it from being done ----

-- An endpoint that is made at its first use (a node's agent on a real cluster). Returns why it is not available, or
-- nil.
local function unprepared(thing)
  local endpoint = thing and thing.endpoint
  if not (endpoint and endpoint.prepare) then return nil end
  local ok, err = endpoint:prepare()
  if ok then return nil end
  if err.code ~= "skip" then errors.raise(err, thing.kind .. " " .. thing.name) end
  thing.skip = err.message
  return thing.skip
end

-- Why nothing can be measured from or to a thing, or nil.
function M.unavailable(thing) return thing.skip or unprepared(thing) end

local function obstacle(request)
  local reason = request.skip or request.from.skip or request.route.skip or unprepared(request.from)
  for _, route in ipairs(targets.of(request.route)) do reason = reason or unprepared(route.to) end
  return reason
end

-- Where a route leads and the token there, for the engines. nil, and why it leads nowhere.
local function target_of(request, route, ip)
  local host, family = route.url_host or path.address(route, ip), tonumber(ip)
  if not host then return nil, ("%s has no IPv%s address"):format(route.to_name, family == 6 and "6" or "4") end
  local source, reason = path.source(request.from, host, ip)
  if reason then return nil, reason end
  return { host = host, port = route.url_host and route.url_port or route.port, ca = request.ca, source = source,
    name = route.name, share = route.weight }, route.url_host and "" or route.token
end

-- Finds out where a job goes. Returns why it cannot go there, or nil.
local function aim(job)
  local request, route = job.request, job.request.route
  local reason, ip = obstacle(request), nil
  if reason then return reason end
  targets.renew(route)
  ip, reason = targets.family(route, job.spec.ip)
  if reason then return reason end
  if not route.targets then
    job.target, job.token = target_of(request, route, ip)
    return not job.target and job.token or nil
  end
  job.target = json.array()
  for i, one in ipairs(route.targets) do
    local target, token = target_of(request, one, ip)
    if not target then return token end
    target.token, target.ca = token, i == 1 and request.ca or nil
    job.target[i] = target
  end
end

-- ---- running ----

-- Ends a job: what its run gave, or why it gave nothing.
local function conclude(s, job, result, err)
  local run = job.run
  local function close()
    if run then run:close() end
  end
  job.result, job.err = result, err
  job.run, job.over = nil, true
  if job.observation then job.observation:collect(close) else close() end
  job.seen = job.observation and job.observation:finish(result and result.opened_ns)
  job.after = outside.read(s.core, job.request)
end

local function start(s, job)
  job.over = false
  job.before = outside.read(s.core, job.request)
  job.observation = observe.begin(s, job.request, job.spec, job.known and job.seconds or 0)
  job.deadline = job.known and s.core.now() + job.seconds + 60 or math.huge
  local err
  job.run, err = agent.start(job.request.from.endpoint, { spec = job.spec, to = job.target, token = job.token,
    patience = job.request.during and job.seconds + 30 or nil }, s.core)
  if not job.run then conclude(s, job, nil, err) end
end

-- Waits a little for a job; ends it where it is over. Returns whether the wait was interrupted.
local function look_at(s, job, seconds)
  local over, err = job.run:wait(seconds)
  if over then
    conclude(s, job, job.run:result())
  elseif over == nil then
    if err.code == "interrupted" then return true end
    conclude(s, job, nil, errors.from(err))
  elseif s.core.now() > job.deadline then
    job.run:stop()
    conclude(s, job, nil, errors.new("timeout", "the run did not end in time"))
  elseif job.observation then
    job.observation:keep()
  end
end

-- Stops what still runs, all at the same time: an agent takes half a second, in which the others would measure on
-- alone. What was measured until then is the result.
local function stop_all(s, jobs, err)
  local stops = {}
  for _, job in ipairs(jobs) do
    if job.run then stops[#stops + 1] = function() job.run:stop() end end
  end
  parallel.run(s.core, stops)
  for _, job in ipairs(jobs) do
    if job.run then
      local result, why = job.run:result()
      conclude(s, job, result, err or why)
    end
  end
end

-- Ends jobs before their time because the script wants it.
local function stop_early(s, jobs)
  for _, job in ipairs(jobs) do job.stopped_early = job.run ~= nil end
  stop_all(s, jobs)
end

-- Takes a look at each job in turn until all are over, interrupted, or it is `until_s`.
local function follow(s, jobs, until_s)
  local each = #jobs == 1 and (s.poll or 0.25) or 0.05
  local running = true
  while running do
    running = false
    if until_s then
      local left = until_s - s.core.now()
      if left <= 0 then return stop_early(s, jobs) end
      each = math.min(each, math.max(0.001, left))
    end
    for _, job in ipairs(jobs) do
      if not job.over and look_at(s, job, each) or s.core.interrupted() then
        return stop_all(s, jobs, errors.new("interrupted", "interrupted"))
      end
      if job.run and #jobs == 1 and s.progress then s.progress:running(job.run:progress()) end
      running = running or not job.over
    end
  end
end

-- Starts jobs and follows all of them to their end; meanwhile the script's own code may run (`asked`). Where something
-- raises in the middle, the rest is stopped. Returns what the script's code raised.
local function attempt(s, jobs, asked)
  local script_error
  local ok, err = pcall(function()
    for _, job in ipairs(jobs) do start(s, job) end
    local until_s
    if asked then
      until_s, script_error = during.run(s, jobs, asked, function() stop_early(s, jobs) end)
      if script_error then return stop_early(s, jobs) end
    end
    follow(s, jobs, until_s)
  end)
  if ok then return script_error end
  pcall(stop_all, s, jobs, err)
  error(err, 0)
end

-- ---- fresh Services ----

-- A fresh Service may refuse until every node's proxy knows it. (To the sender, a packet that netfilter rejects on its
-- way out is "not permitted".)
local settles = { refused = true, unreachable = true, timeout = true, no_data = true, permission = true }

-- kube-proxy deletes the nodes' entries for UDP flows of a Service after it has written the rules: a flow that began in
-- between can come from another port then, and is lost.
local function is_settling(job, code)
  return settles[code] or code == "lost" and tests.of(job.request.test).transport == "udp"
end

-- Whether an attempt met a Service that is not ready yet. Some tests go on after a connection failed, and count it.
local function refused(job)
  local result = job.result
  if job.err then return is_settling(job, job.err.code) end
  if not result then return false end
  if not result.ok then return result.error and is_settling(job, result.error.code) end
  return (tonumber((result.metrics or {}).connect_errors) or 0) > 0
end

-- As an attempt; tried again for as long as the provider says that the Service may refuse.
local function attempt_patiently(s, job)
  local settled = job.request.route.settled
  while true do
    attempt(s, { job })
    if not (settled and refused(job) and s.core.now() < settled) then return end
    local ok, stopped = s.core.sleep(0.3)
    if not ok then
      job.result, job.err = nil, errors.from(stopped)
      return
    end
  end
end

-- Several measurements at the same time, or targets of one, cannot each be tried again: a short one of its kind finds
-- out whether a Service answers.
local function await_service(s, job)
  local short = {}
  for key, value in pairs(job.spec) do short[key] = value end
  short.count, short.duration, short.warmup = nil, 0.05, 0
  for i, route in ipairs(targets.of(job.request.route)) do
    if route.settled and s.core.now() < route.settled then
      local target = job.request.route.targets and job.target[i] or job.target
      local request = setmetatable({ monitor = false, profile = false, route = route }, { __index = job.request })
      attempt_patiently(s, { request = request, spec = short, seconds = 0.05, known = true, target = target,
        token = target.token or job.token })
    end
  end
end

-- ---- the entry of the ledger ----

-- Marks beside the interval that they fell into.
local function mark_intervals(intervals, marks)
  for _, mark in ipairs(marks) do
    local within
    for _, interval in ipairs(intervals) do
      if interval.t <= mark.t then within = interval end
    end
    if within then
      within.marks = within.marks or json.array {}
      table.insert(within.marks, mark.text)
    end
  end
end

-- The moments that the script marked, and what a probe's attempts did after each.
local function add_marks(job)
  local entry, marks = job.entry, during.marks_of(job)
  if not marks then return end
  entry.marks = marks
  mark_intervals(entry.metrics and entry.metrics.intervals or {}, marks)
  if entry.metrics and entry.metrics.timeline and #marks > 0 then
    entry.metrics.after_mark = timeline.after_marks(entry.metrics.timeline, marks)
    if job.request.during.ready then
      local ready, same = timeline.ready(entry.metrics.timeline, marks)
      entry.metrics.ready = ready
      if same then table.insert(entry.flags, "no_change") end
    end
  end
  for i = job.stopped_early and entry.flags and #entry.flags or 0, 1, -1 do
    if entry.flags[i] == "stopped" then table.remove(entry.flags, i) end
  end
end

-- What was measured until an interruption is kept, and says so.
local function add_stopped(flags)
  for _, flag in ipairs(flags) do
    if flag == "stopped" then return end
  end
  table.insert(flags, "stopped")
end

-- Fills a job's entry from what was measured and what was watched meanwhile.
local function fill(job)
  local entry, result, err = job.entry, job.result, job.err
  local gone = (err or not (result and result.ok)) and outside.obituary(job.request)
  if gone then err = errors.new(err and err.code or "lost", gone) end
  if result then
    local stopped = err and err.code == "interrupted" and result.ok == true
    entry.ok = result.ok == true and (not err or stopped)
    entry.metrics, entry.flags, entry.chosen, entry.servers = result.metrics or {}, result.flags or {}, result.chosen,
      result.servers
    for _, list in ipairs { entry.metrics.intervals or {}, entry.servers or {} } do json.array(list) end
    entry.latency_histogram = result.latency_histogram
    if entry.metrics.outages then json.array(entry.metrics.outages) end
    if result.error then entry.error = { code = result.error.code, message = result.error.message } end
    outside.add(entry.metrics, job.before, job.after)
    if stopped then add_stopped(entry.flags) end
  end
  for name, list in pairs(job.seen or {}) do entry[name] = json.array(list) end
  add_marks(job)
  if result then doubt.add(entry, job.request) end
  if err and not entry.ok then entry.error = { code = err.code or "system", message = err.message or tostring(err) } end
  if not entry.ok and not entry.error then
    entry.error = { code = "protocol", message = "the engine gave no reason" }
  end
  if entry.error then entry.error.message = entry.error.message .. outside.advice(job.request, entry.error.code) end
  job.err = err
end

local function announce(s, jobs, n)
  if not s.progress then return end
  local longest = 0
  for _, job in ipairs(jobs) do longest = math.max(longest, job.seconds) end
  local entry = n == 1 and jobs[1].entry or { test = "together", case = ("%d at the same time"):format(n) }
  s.progress:start(entry, longest)
end

-- Errors that end the script: there is no point in going on.
local fatal = { lost = true, auth = true, version = true, interrupted = true }

-- Puts all that was asked for into the ledger, in its order; raises what ends the script.
local function record(s, jobs)
  local stop, failed
  for _, job in ipairs(jobs) do
    if not job.unselected then
      s.ledger:add(job.entry)
      if s.progress then s.progress:done(job.entry) end
    end
    if job.err and job.err.code == "interrupted" then stop = stop or job end
    if job.err and fatal[job.err.code] then failed = failed or job end
  end
  if stop then errors.raise(stop.err) end
  if failed then errors.raise(failed.err, failed.request.case) end
end

local function measure(s, jobs, asked)
  local active, script_error = {}, nil
  for _, job in ipairs(jobs) do
    if not job.unselected then
      job.entry.skipped = aim(job)
      if not job.entry.skipped then active[#active + 1] = job end
    end
  end
  if #active > 0 then announce(s, active, #jobs) end
  if #jobs == 1 and active[1] and not asked then
    if active[1].request.route.targets then await_service(s, active[1]) end
    attempt_patiently(s, active[1])
  elseif #active > 0 then
    for _, job in ipairs(active) do await_service(s, job) end
    script_error = attempt(s, active, asked)
  end
  for _, job in ipairs(active) do fill(job) end
  for _, job in ipairs(active) do
    if job.entry.ok and ceiling.wanted(s, job.spec) then
      job.entry.ceiling = ceiling.of(s, job.request, job.spec, attempt)
    end
  end
  record(s, jobs)
  if script_error then error(script_error, 0) end
end

local function plan(s, jobs)
  local group = { seconds = 0 }
  for _, job in ipairs(jobs) do
    if not job.unselected then
      local reason = obstacle(job.request)
      job.entry = s.plan:add(job, reason, group, not reason and ceiling.time(s, job.request, job.spec) or 0)
    end
  end
end

-- The metrics of what --only leaves out: a script may read any of them, and gets "not a number".
local nothing = { __index = function() return 0 / 0 end }
local function no_metrics()
  local metrics = setmetatable({ intervals = {} }, nothing)
  for _, key in ipairs { "latency_ns", "connect_ns", "first_byte_ns", "cpu", "memory", "cpu_s_per_gb", "status",
    "failed", "time_per_request_ns", "backends", "timeline" } do
    metrics[key] = setmetatable({}, nothing)
  end
  metrics.ready = setmetatable({}, nothing)
  metrics.after_mark = setmetatable({}, { __index = function() return setmetatable({}, nothing) end })
  return metrics
end

-- Carries out { request, spec } pairs at the same time, and `asked` meanwhile (knbl.measure.during). Returns their
-- entries, in the same order.
function M.all(s, pairs_of_it, asked)
  local jobs, entries = {}, {}
  for i, pair in ipairs(pairs_of_it) do
    local job = { request = pair[1], spec = pair[2], entry = entry_of(s, pair[1], pair[2]) }
    job.seconds, job.known = M.expected_time(job.spec)
    if not M.selected(s, job.request) then
      job.unselected, s.unselected = true, (s.unselected or 0) + 1
      if s.ledger then s.ledger:leave_out(job.entry.case) end
      job.entry.skipped, job.entry.metrics, job.entry.flags = "not selected by --only", no_metrics(), {}
    end
    jobs[i] = job
  end
  (s.plan and plan or measure)(s, jobs, asked)
  for i, job in ipairs(jobs) do entries[i] = job.entry end
  return entries
end

return M
