-- knbl.program.plan - what a scenario would do: it runs over a cluster that does not exist, and nothing is measured.
--
-- So a script is checked before its first packet; --dry-run and the progress line show the plan. The script gets
-- plausible figures. It cannot write files, run programs or load modules: where it tries, the plan ends, `partial`.
local errors = require "knbl.base.errors"

local M = {
  patience = 1,     -- seconds of CPU time after which a plan ends
}

local Plan = {}
Plan.__index = Plan

-- Raised in a script that cannot be planned further.
local Stop = setmetatable({}, { __tostring = function() return "the plan ends here" end })
M.stop = Stop

function M.new(limit)
  return setmetatable({ entries = {}, meshes = {}, things = {}, clusters = {}, objects = {}, remarks = {}, seconds = 0,
    setup = 0, about = false, partial = false, limit = limit or 20000 }, Plan)
end

function Plan:add_cluster(provider, seconds)
  self.clusters[#self.clusters + 1] = provider
  self.setup = self.setup + (seconds or 0)
end

-- Kubernetes objects that the run would create, and remarks on them.
function Plan:add_object(object) self.objects[#self.objects + 1] = object end
function Plan:add_remark(text) self.remarks[#self.remarks + 1] = text end

-- A thing that the run would make, and about how many seconds that takes.
function Plan:add_thing(kind, name, seconds)
  self.things[#self.things + 1] = { kind = kind, name = name }
  self.setup = self.setup + (seconds or 0)
end

local function plausible()
  local latency = {}
  for _, key in ipairs { "min", "mean", "stddev", "p50", "p90", "p95", "p99", "p999", "p9999", "max" } do
    latency[key] = 1e5
  end
  latency.count = 10000
  return {
    throughput_bps = 1e9, rate_per_s = 1e4, latency_ns = latency, loss_ratio = 0, sent = 10000, received = 10000,
    reordered = 0, duplicated = 0, jitter_ns = 1e4, errors = 0, timeouts = 0, retransmits = 0, mss_effective = 1448,
    duration_s = 1, cpu = { client_process = 1, server_process = 1, client_node = 2, server_node = 2 },
    cpu_ns_per_op = 1e4, cpu_s_per_gb = { send = 0.5, recv = 0.5 }, intervals = {},
    attempts = 10000, outages = {}, outage_count = 0, outage_total = 0, outage_longest = 0, blind = 0, refused = 0,
    resets = 0, reconnects = 0, backends = {}, timeline = { step = 1e-3, runs = "10000o" }, after_mark = {},
  }
end

-- Notes a measurement, a job of knbl.measure.perform; returns what the script sees in its place. `group`: those that
-- run at the same time, as long as the longest; `more`: seconds of what is measured after it.
function Plan:add(job, skipped, group, more)
  local entry, seconds, known = job.entry, job.seconds, job.known
  if skipped then seconds, known = 0, true end
  self.entries[#self.entries + 1] = { entry = entry, seconds = seconds + more, known = known,
    expectations = job.request.expectations, skipped = skipped, beside = group.first }
  group.first = group.first or #self.entries
  local longest = math.max(group.seconds, seconds)
  self.seconds, group.seconds = self.seconds + longest - group.seconds + more, longest
  self.about = self.about or not known
  if #self.entries > self.limit then error(Stop, 0) end
  local seen = {}
  for key, value in pairs(entry) do seen[key] = value end
  seen.ok, seen.metrics, seen.flags = true, plausible(), {}
  return seen
end

-- Notes a mesh, a job of knbl.mesh; its pairs are in the plan alone.
function Plan:add_mesh(job)
  self.meshes[#self.meshes + 1] = job
  self.seconds = self.seconds + job.plan.seconds
end

-- Ends the plan: the script needs what only a run can tell.
function Plan:cut()
  self.partial = true
  error(Stop, 0)
end

-- ---- the environment of a planned script ----

local safe = {
  "assert", "error", "getmetatable", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget", "rawlen", "rawset",
  "select", "setmetatable", "tonumber", "tostring", "type", "xpcall", "_VERSION", "string", "table", "math", "utf8",
  "coroutine", "unpack", "bit",
}

local function forbid(plan)
  return function() plan:cut() end
end

local quiet_file = {}
quiet_file.__index = quiet_file
function quiet_file:write() return self end
function quiet_file:flush() return self end
function quiet_file:setvbuf() return true end -- luacheck: no self

-- The globals of a planned script. `thorough` (the user asked for the plan): it may load modules of its own.
function M.environment(plan, thorough)
  local env, stop = {}, forbid(plan)
  for _, name in ipairs(safe) do env[name] = rawget(_G, name) end
  env._G = env
  env.print = function() end
  env.arg = {}
  env.collectgarbage = function() return 0 end
  env.io = setmetatable({ write = function() return quiet_file end, stdout = setmetatable({}, quiet_file),
    stderr = setmetatable({}, quiet_file) },
    { __index = function() return stop end })
  env.os = setmetatable({ time = os.time, date = os.date, clock = os.clock, getenv = os.getenv },
    { __index = function() return stop end })
  env.require = function(name)
    if name == "knbl" or name == "knbl.json" or thorough and not name:match("^knbl%.") then return require(name) end
    stop()
  end
  return setmetatable(env, { __index = function(_, name)
    local value = rawget(_G, name)
    return type(value) == "function" and stop or value
  end })
end

-- Runs a chunk as a plan. Returns true, or false and the error; the plan is `partial` if not all could be planned.
function M.run(plan, chunk)
  local began = os.clock()
  local function count()
    if os.clock() - began > M.patience then plan:cut() end
  end
  debug.sethook(count, "", 100000)
  local ok, err = xpcall(chunk, function(e)
    if e == Stop or errors.is(e) then return e end
    return { foreign = true, message = tostring(type(e) == "table" and e.message or e) }
  end)
  debug.sethook()
  if require("knbl.native").interrupted() then return false, errors.new("interrupted", "interrupted") end
  if ok or err == Stop then
    plan.partial = plan.partial or not ok
    return true
  end
  if err.foreign then
    plan.partial, plan.reason = true, err.message
    return true
  end
  return false, err
end

return M
