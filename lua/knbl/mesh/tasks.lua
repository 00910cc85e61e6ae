-- knbl.mesh.tasks - runs many functions concurrently, each in a coroutine. When one of them calls core.fetch or
-- core.sleep, the others continue. Requests are sent no faster than a given rate. If a server answers 429, the request
-- is sent again after the time in Retry-After.
local M = {}

local MOST = 256        -- concurrent requests
local THROTTLED_S = 60  -- a request that is throttled is repeated for this time

local Group = {}
Group.__index = Group

-- Returns a group of tasks that sends at most `qps` requests a second. Its counters are requests, throttled (answers of
-- 429), sent and received (bytes).
function M.group(core, qps)
  return setmetatable({ core = core, gap = 1 / qps, free = 0, requests = 0, throttled = 0, sent = 0, received = 0,
    underway = {}, count = 0, sleeping = {}, queue = {}, first = 1, tasks = setmetatable({}, { __mode = "k" }) }, Group)
end

-- When the last request of the running task was sent, and when its response arrived.
function Group:times()
  local task = self.tasks[coroutine.running()]
  return task.sent_at, task.answered_at
end

-- ---- the scheduler ----

-- Continues a task with the result of what it waited for, and notes what it waits for next.

local function resume(self, task, ...)
  local ok, what, argument = coroutine.resume(task.co, ...)
  if not ok then error(what, 0) end
  if coroutine.status(task.co) == "dead" then
    self.alive = self.alive - 1
  elseif what == "sleep" then
    self.sleeping[task] = self.core.now() + argument
  else
    task.request, task.began = argument, self.core.now()
    self.queue[#self.queue + 1] = task
  end
end

local function size_of(request) return #(request.url or "") + #(request.body or "") end

-- Sends the queued requests that the rate permits now. Returns when the next one may be sent.
local function send(self)
  local now = self.core.now()
  while self.first <= #self.queue and self.count < MOST and self.free <= now do
    local task = self.queue[self.first]
    self.queue[self.first] = false
    self.first = self.first + 1
    if self.first > #self.queue then self.queue, self.first = {}, 1 end
    self.free = math.max(self.free, now - 10 * self.gap) + self.gap -- after a pause, up to ten may go at once
    self.number = (self.number or 0) + 1
    task.sent_at = self.core.now()
    local ok, err = self.pool:add(task.request, self.number)
    if ok then
      self.underway[self.number], self.count = task, self.count + 1
      self.requests, self.sent = self.requests + 1, self.sent + size_of(task.request)
    else
      resume(self, task, nil, err)
    end
  end
  return self.first <= #self.queue and self.count < MOST and self.free or math.huge
end

-- Continues the tasks whose sleep is over. Returns when the next one ends.
local function wake(self)
  local now, soonest = self.core.now(), math.huge
  for task, at in pairs(self.sleeping) do
    if at > now then
      soonest = math.min(soonest, at)
    else
      self.woken[#self.woken + 1] = task
    end
  end
  for i, task in ipairs(self.woken) do
    self.sleeping[task], self.woken[i] = nil, nil
    resume(self, task, true)
  end
  return soonest
end

-- If the response is a 429 with Retry-After, queues the request again and returns true.
local function put_off(self, task, response)
  local after = response and response.status == 429 and tonumber((response.headers or {})["retry-after"])
  if not after then return false end
  self.throttled = self.throttled + 1
  local now = self.core.now()
  if now + after > task.began + THROTTLED_S then return false end
  self.free = math.max(self.free, now + after)
  self.queue[#self.queue + 1] = task
  return true
end

-- Waits up to `seconds` for a response, and continues its task.
local function receive(self, seconds)
  local number, response, err = self.pool:wait(seconds)
  if not number then
    if err then self.interrupted = err end
    return
  end
  local task = self.underway[number]
  task.answered_at = self.core.now()
  self.underway[number], self.count = nil, self.count - 1
  if response then self.received = self.received + #(response.body or "") end
  if not put_off(self, task, response) then resume(self, task, response, err) end
end

local function drive(self, functions)
  self.alive, self.woken = #functions, {}
  for _, f in ipairs(functions) do
    local task = { co = coroutine.create(f) }
    self.tasks[task.co] = task
    resume(self, task)
  end
  while self.alive > 0 and not self.interrupted do
    local until_s = wake(self)
    until_s = math.min(until_s, send(self))
    if self.alive > 0 then receive(self, math.max(0, math.min(until_s - self.core.now(), 1))) end
  end
end

-- Runs all functions until they return. Returns true; or nil and an error if an interrupt ended the wait, in which case
-- the functions do not continue.
function Group:run(functions)
  local core = self.core
  local err
  self.pool, err = core.fetch_pool()
  if not self.pool then return nil, err end
  local fetch, sleep = core.fetch, core.sleep
  local function ours() return self.tasks[coroutine.running()] end
  function core.fetch(request)
    if ours() then return coroutine.yield("fetch", request) end
    return fetch(request)
  end
  function core.sleep(seconds)
    if ours() then return coroutine.yield("sleep", seconds) end
    return sleep(seconds)
  end
  local ok, wrong = pcall(drive, self, functions)
  core.fetch, core.sleep = fetch, sleep
  self.pool:close()
  self.pool, self.underway, self.count, self.sleeping, self.queue, self.first = nil, {}, 0, {}, {}, 1
  local interrupted = self.interrupted
  self.interrupted = nil
  if not ok then error(wrong, 0) end
  if interrupted then return nil, interrupted end
  return true
end

return M
