-- knbl.measure.ceiling - what a generator reaches without a network: the same test from an agent to itself, over its
-- own loopback and under its own limits. A figure near its ceiling says more about the generator than about the path.
local figures = require "knbl.results.figures"
local tests = require "knbl.base.tests"

local M = {
  seconds = 0.5,
  cheap_s = 5,      -- a measurement this long grows by at most an eighth, and only once for each kind of work
}

local function loopback_spec(spec)
  local copy = {}
  for key, value in pairs(spec) do copy[key] = value end
  copy.mss, copy.ip, copy.rate, copy.count = nil, nil, nil, nil
  copy.duration = math.min(M.seconds, tonumber(spec.duration) or M.seconds)
  copy.warmup = math.min(0.1, tonumber(spec.warmup) or 0.1)
  return copy
end

-- What would be measured over loopback: measurements of a sender that agree in it share a ceiling.
local function key_of(from, test, spec)
  local short = loopback_spec(spec)
  short.interval, short.timeout = nil, nil
  local names = {}
  for name in pairs(short) do names[#names + 1] = name end
  table.sort(names)
  local parts = { from.name, test }
  for _, name in ipairs(names) do parts[#parts + 1] = name .. "=" .. tostring(short[name]) end
  return table.concat(parts, "\31")
end

-- A busy machine may leave a short measurement without any data: it is tried once more, with the whole time.
local function measure(s, from, test, spec, attempt)
  local endpoint = from.endpoint
  local host = endpoint.addresses.v4 and "127.0.0.1" or "::1"
  local short = loopback_spec(spec)
  for _ = 1, 2 do
    local job = { request = { from = from, route = {}, monitor = false, profile = false }, spec = short,
      seconds = M.seconds + 1, known = true, target = { host = host, port = endpoint.port }, token = endpoint.token }
    attempt(s, { job })
    if not job.result then return nil end
    local value = job.result.ok and figures.value(job.result, figures.headline(test))
    if value then return value end
    short.duration = M.seconds
  end
end

-- Whether it is wanted: --ceiling, --no-ceiling; by default where it is cheap.
function M.wanted(s, spec)
  if s.settings.ceiling ~= nil then return s.settings.ceiling end
  return (tonumber(spec.duration) or 0) >= M.cheap_s
end

-- Nothing limits the generator where the test or a rate sets its pace; a server without an agent has no loopback.
local function exists(request, spec)
  local shape = tests.of(request.test).shape
  return shape ~= "echo" and shape ~= "probe" and not spec.rate and not spec.external
    and request.route.via ~= "loopback"
end

-- The ceiling of a measurement's headline figure, or nil where there is none. Each kind of work is measured once for
-- each sender; `attempt` is that of knbl.measure.perform.
function M.of(s, request, spec, attempt)
  if not exists(request, spec) then return nil end
  s.ceilings = s.ceilings or {}
  local key = key_of(request.from, request.test, spec)
  if s.ceilings[key] == nil then s.ceilings[key] = measure(s, request.from, request.test, spec, attempt) or false end
  return s.ceilings[key] or nil
end

-- The seconds that a plan has to add for it.
function M.time(s, request, spec)
  if not M.wanted(s, spec) or not exists(request, spec) then return 0 end
  s.ceilings = s.ceilings or {}
  local key = key_of(request.from, request.test, spec)
  if s.ceilings[key] ~= nil then return 0 end
  s.ceilings[key] = false
  local copy = loopback_spec(spec)
  return copy.duration + copy.warmup + 0.1
end

return M
