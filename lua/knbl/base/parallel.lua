-- knbl.base.parallel - HTTP requests at the same time, by functions that are written as if each were alone.
--
-- M.run calls functions as coroutines. Where one of them sends a request by M.fetch, the others go on while it waits
-- for the answer. What is said of one of them is unchanged: retries, renewed tokens and errors.
local M = {}

local inside = setmetatable({}, { __mode = "k" }) -- the coroutines of M.run
local pools = setmetatable({}, { __mode = "k" })  -- core -> its pool, which keeps connections for the next time

-- core.fetch, which inside of M.run goes out with the requests of the others.
function M.fetch(core, request)
  local thread = coroutine.running()
  if thread and inside[thread] then return coroutine.yield(request) end
  return core.fetch(request)
end

-- Lets a job go on to its next request, which is sent. Returns whether there is one.
local function resume(pool, job, ...)
  local ok, request = coroutine.resume(job.thread, ...)
  if not ok then
    job.failed = request or "failed"
    return false
  end
  if request == nil then return false end
  local sent, err = pool:add(request, job.number)
  if sent then return true end
  return resume(pool, job, nil, err)
end

-- An interrupt ends all that is under way: what is not answered yet has its error.
local function interrupt(core, under_way, err)
  local pool = pools[core]
  pools[core] = nil
  pool:close()
  local dead = { add = function() return nil, err end }
  for _, job in pairs(under_way) do resume(dead, job, nil, err) end
end

local function drive(core, pool, jobs)
  local under_way = {}
  for number, job in ipairs(jobs) do
    job.number = number
    if resume(pool, job) then under_way[number] = job end
  end
  while next(under_way) do
    local number, response, err = pool:wait(60)
    local job = number and under_way[number]
    if job then
      if not resume(pool, job, response, err) then under_way[number] = nil end
    elseif err then
      return interrupt(core, under_way, err)
    end
  end
end

-- Calls all functions; returns when each is done. Then the first error that one of them raised is raised here.
function M.run(core, functions)
  local pool = #functions > 1 and core.fetch_pool and (pools[core] or core.fetch_pool())
  if not pool then
    for _, f in ipairs(functions) do f() end
    return
  end
  pools[core] = pool
  local jobs = {}
  for i, f in ipairs(functions) do
    jobs[i] = { thread = coroutine.create(f) }
    inside[jobs[i].thread] = true
  end
  drive(core, pool, jobs)
  for _, job in ipairs(jobs) do
    if job.failed then error(job.failed, 0) end
  end
end

return M
