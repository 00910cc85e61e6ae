-- Agents that carry out schedules in a time of their own, and the requests to them: thousands in a moment. For tests of
-- knbl.mesh.schedule.
local json = require "knbl.json"
local real = require "knbl.native"

local World = {}
World.__index = World

local function ok(body, status) return { status = status or 200, headers = {}, body = json.encode(body) } end
local function failed(status, code, message, headers)
  return { status = status, headers = headers or {}, body = json.encode { error = { code = code, message = message } } }
end

-- options: latency (seconds of a request, each way), offset(i) (of a clock, seconds), wall(i), speed, dead(i, time,
-- path) -> true where no answer comes, answer(i, path, time) -> a response in place of the agent's
function World.new(n, options)
  local self = setmetatable({ n = n, time = 1000, agents = {}, log = {}, o = options or {} }, World)
  for i = 1, n do
    self.agents[i] = { name = "node-" .. i, token = "t", port = 7099, addresses = { v4 = "10.0.0." .. i },
      control = { url = "http://" .. i } }
  end
  self.core = setmetatable({ now = function() return self.time end, interrupted = function() return false end,
    cleanup = function() end, fetch_pool = function() return self:pool() end,
    sleep = function(s) self.time = self.time + s return true end }, { __index = real })
  return self
end

local function of(self, i, name, default)
  if self.o[name] then return self.o[name](i, self.time) or default end
  return default
end

local function clock(self, i)
  local now = ("%d"):format(math.floor((self.time + of(self, i, "offset", 0)) * 1e9))
  return { taken_ns = now, answered_ns = now, wall_ns = tostring((os.time() + of(self, i, "wall", 0)) * 1000000000) }
end

local function over(self, i)
  local s = self.state[i]
  return s.at and self.time >= s.at + s.length
end

local function report(self, i, results)
  local s = self.state[i]
  local out = { id = s.id, state = over(self, i) and "over" or "running", done = 0, total = #s.runs,
    clock = clock(self, i) }
  if results then
    out.results, out.merged = json.array {}, json.array {}
    for k, run in ipairs(s.runs) do
      local done = s.at and self.time >= s.at + run[1] + run[2]
      out.results[k] = done and { ok = true, metrics = { latency_ns = { p50 = i * 1000 } } } or json.null
    end
    for k in ipairs(s.tests) do out.merged[k] = { count = 1, buckets = json.array {} } end
  end
  return out
end

-- What agent i answers.
function World:answer(i, request)
  local path, body = request.url:match "^http://%d+(/.*)$", request.body and json.decode(request.body)
  self.log[#self.log + 1] = { at = self.time, i = i, path = request.method .. " "
    .. path:gsub("/%x%x%x%x%x%x+", "/ID", 1) }
  local other = self.o.answer and self.o.answer(i, request, self.time)
  if other then return other end
  self.state = self.state or {}
  if path == "/v1/schedule" then
    local length = 0
    for _, run in ipairs(body.runs) do length = math.max(length, run[1] + run[2]) end
    self.state[i] = self.state[i] or { id = body.id, runs = body.runs, tests = body.tests, length = length,
      peers = body.peers }
    return ok(report(self, i), 201)
  end
  if path == "/v1/alive" then return ok {} end
  if not self.state[i] then return failed(404, "lost", "there is no such schedule") end
  if path:find "/start$" then self.state[i].at = tonumber(body.at_ns) / 1e9 - of(self, i, "offset", 0) end
  return ok(report(self, i, request.method == "DELETE"))
end

-- Requests under way: each is over at its time.
function World:pool()
  local underway, pool = {}, {}
  function pool.add(_, request, number)
    local i = tonumber(request.url:match "^http://(%d+)")
    local latency = of(self, i, "latency", 0.001)
    local job = { number = number, at = self.time + 2 * latency }
    if self.o.dead and self.o.dead(i, self.time) then
      self.log[#self.log + 1] = { at = self.time, i = i, path = "dead" }
      job.at, job.err = self.time + request.timeout, { code = "timeout", message = "no response in time" }
    else
      self.time = self.time + latency -- the agent reads its clock half-way
      job.response = self:answer(i, request)
      self.time = self.time - latency
    end
    underway[#underway + 1] = job
    return true
  end
  function pool.wait(_, seconds)
    local first
    for k, job in ipairs(underway) do
      if not first or job.at < underway[first].at then first = k end
    end
    if not first or underway[first].at > self.time + seconds then
      self.time = self.time + math.max(seconds, 1e-6)
      return nil
    end
    local job = table.remove(underway, first)
    self.time = math.max(self.time, job.at)
    return job.number, job.response, job.err
  end
  function pool.close() end
  return pool
end

World.failed = failed
return World
