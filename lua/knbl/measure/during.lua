-- knbl.measure.during - the script's own code, run while measurements go on: `during = function(mark) … end`.
--
-- It runs in the script, between two looks at the runs. `mark "text"` keeps a moment; `mark.stop()` ends the
-- measurements. An error in it ends them too and is raised once they are in the ledger. It must return before the
-- measurements' duration is over.
local errors = require "knbl.base.errors"
local json = require "knbl.json"

local M = {
  settle = 5,       -- seconds after it has returned, if neither duration nor settle is given …
  duration = 60,    -- … and seconds that it may take at most
  look_s = 5,       -- how often the runs are looked at while it computes
}

-- ---- arguments ----

-- A time, in seconds; raises what is wrong with it.
function M.seconds(s, what, time)
  local seconds, err = s.core.duration(type(time) == "number" and time .. "s" or tostring(time))
  if not seconds then errors.misuse("%s: %s", what, tostring(type(err) == "table" and err.message or err)) end
  return seconds
end

-- Takes `during` and `settle` out of what a verb or knbl.together is given. Returns { change, settle }, or nil.
function M.take(s, what, t)
  if t.during == nil then
    if t.settle ~= nil then errors.misuse("%s: settle needs during", what) end
    return nil
  end
  if type(t.during) ~= "function" then
    errors.misuse("%s: during must be a function, got a %s", what, type(t.during))
  end
  local settle = t.settle ~= nil and M.seconds(s, what .. ": settle", t.settle) or nil
  return { change = t.during, settle = settle, where = errors.where(), ready = t.ready }
end

-- ---- the window's clock ----

-- Estimates when a job's window opened by this process's clock, from the run's own progress. The closest look counts.
local function look(s, job)
  if not job.run then return end
  local before = s.core.now()
  local over = job.run:wait(0.001)
  local after = s.core.now()
  local progress = not over and job.run:progress()
  if job.observation then job.observation:keep() end
  local elapsed = progress and progress.phase == "measure" and tonumber(progress.elapsed_s) or 0
  if elapsed > 0 and (not job.look_took or after - before < job.look_took) then
    job.look_took, job.opened = after - before, (before + 0.001 + after) / 2 - elapsed
  end
  return over
end

local function look_at_all(s, jobs)
  for _, job in ipairs(jobs) do look(s, job) end
end

-- Waits until every window is open. Returns false if a run ended before.
local function await_windows(s, jobs)
  for _, job in ipairs(jobs) do
    while not job.opened do
      if not job.run or look(s, job) ~= false then return false end
      if s.core.interrupted() then return false end
    end
  end
  return true
end

-- ---- running it ----

local quote = function(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- A program that a script runs ends when the time is over: nothing could interrupt it otherwise. The whole seconds that
-- are left, at least one.
local function seconds_left(s, deadline) return math.max(1, math.ceil(deadline - s.core.now())) end

local function with_time_limit(s, deadline, start)
  return function(command, ...)
    if command == nil then return start() end
    return start(("timeout -k 1 %d sh -c %s"):format(seconds_left(s, deadline), quote(tostring(command))), ...)
  end
end

local function late(asked, seconds)
  return errors.new("late", ("during did not return within the measurement's duration of %g s"):format(seconds),
    { position = asked.where })
end

-- The function as a script's code sees it. `marks` collects { at, text }.
local function mark_of(s, jobs, marks, state)
  local function check()
    if not state.live then errors.misuse("mark: the measurement is over") end
  end
  local mark = {}
  function mark.wait(time)
    local seconds = M.seconds(s, "mark.wait", time)
    local until_s, last = s.core.now() + seconds, 0
    while s.core.now() < until_s do
      check()
      local ok, err = s.core.sleep(math.max(0, math.min(until_s - s.core.now(), 0.25)))
      if not ok then error(errors.from(err), 0) end
      state.watch()
      if s.core.now() - last > M.look_s then
        last = s.core.now()
        look_at_all(s, jobs)
      end
    end
  end
  function mark.stop()
    check()
    look_at_all(s, jobs)
    state.stop = true
    state.stop_all()
  end
  return setmetatable(mark, { __call = function(_, text)
    local at = s.core.now()
    check()
    if type(text) ~= "string" or not text:find "%S" then
      errors.misuse("mark takes a non-empty string, got %s", tostring(text))
    end
    marks[#marks + 1] = { at = at, text = text } -- no look: what the script does next begins now
    return at - (jobs[1].opened or at)
  end })
end

-- Calls it with its limit of time. Returns ok and the error.
local function call(s, asked, mark, deadline, seconds, jobs, state)
  local execute, popen, looked = os.execute, io.popen, s.core.now()
  local function watch()
    local now = s.core.now()
    if s.core.interrupted() then error(errors.new("interrupted", "interrupted"), 0) end
    if now > deadline then error(late(asked, seconds), 0) end
    if now - looked > M.look_s then
      looked = now
      look_at_all(s, jobs)
    end
  end
  state.watch = watch
  os.execute = with_time_limit(s, deadline, execute) -- luacheck: ignore 122
  io.popen = with_time_limit(s, deadline, popen) -- luacheck: ignore 122
  s.exec_limit = function() return seconds_left(s, deadline) end
  debug.sethook(watch, "", 10000)
  local ok, err = pcall(asked.change, mark)
  debug.sethook()
  os.execute, io.popen, s.exec_limit = execute, popen, nil -- luacheck: ignore 122
  if ok and s.core.now() > deadline then return false, late(asked, seconds) end
  return ok, err
end

-- Runs it over jobs that were started. stop_all() ends them. Returns when the measurements should end (nil: at their
-- own time), and the script's error.
function M.run(s, jobs, asked, stop_all)
  local marks, state = {}, { live = true, stop_all = stop_all }
  if not await_windows(s, jobs) then -- one failed: there is nothing to change, and the others must not go on alone
    stop_all()
    return nil
  end
  local seconds = 0
  for _, job in ipairs(jobs) do seconds = math.max(seconds, tonumber(job.spec.duration) or 0) end
  if seconds == 0 then seconds = M.duration end
  local deadline = jobs[1].opened + seconds
  local ok, err = call(s, asked, mark_of(s, jobs, marks, state), deadline, seconds, jobs, state)
  state.live = false
  for _, job in ipairs(jobs) do job.marks = marks end
  if not ok then return nil, err end
  local returned = s.core.now()
  look_at_all(s, jobs)
  if not asked.settle or state.stop then return nil end
  -- an attempt that gets no answer counts as failed once its timeout is over, so knbl.ready waits at least that long
  local timeout = asked.ready and tonumber(jobs[1].spec.timeout) or 0
  return returned + math.max(asked.settle, timeout)
end

-- A job's marks as the ledger has them: { t, text }, seconds since its window opened.
function M.marks_of(job)
  if not job.marks or not job.opened then return nil end
  local list = json.array {}
  for i, mark in ipairs(job.marks) do list[i] = { t = mark.at - job.opened, text = mark.text } end
  return list
end

return M
