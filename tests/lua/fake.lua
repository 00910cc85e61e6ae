-- Engines that are only thought of: the real core, but what it measures is told by the test, and takes no time.
local cli = require "knbl.program.cli"
local json = require "knbl.json"
local lu = require "luaunit"
local real = require "knbl.native"

local M = {}

-- A histogram's JSON whose values are all `value` (below 256: exact), `n` times.
function M.histogram(value, n)
  return { count = n, min = value, max = value, sum = ("%.0f"):format(value * n),
    sum_sq = ("%.0f"):format(value * value * n), buckets = { { value, n } } }
end

-- What an engine would give for a specification.
function M.result(spec, more)
  local latency = { count = 100000, min = 100, mean = 200, stddev = 10, p50 = 200, p90 = 200, p95 = 200, p99 = 200,
    p999 = 200, p9999 = 200, max = 200 }
  local metrics = { throughput_bps = 9.41e9, rate_per_s = 50000, latency_ns = latency, errors = 0,
    duration_s = tonumber(spec.duration) or 1,
    cpu = { client_process = 0.5, server_process = 0.25 }, intervals = json.array {} }
  for key, value in pairs(more or {}) do metrics[key] = value end
  return { ok = true, metrics = metrics, params = spec, flags = json.array {}, chosen = {},
    latency_histogram = M.histogram(200, 100000) }
end

-- A core whose runs give `respond(spec, target)`: a result, or nil and an error. Keeps what was asked in core.asked.
function M.core(respond)
  local core = setmetatable({ asked = {}, agents = 0, open = 0 }, { __index = real })
  function core.agent()
    core.agents, core.open = core.agents + 1, core.open + 1
    local port = 40000 + core.agents
    return { port = function() return port end, close = function() core.open = core.open - 1 end }
  end
  function core.run(text, target)
    local spec = json.decode(text)
    core.asked[#core.asked + 1] = { spec = spec, target = target }
    local result, err = (respond or function() return M.result(spec) end)(spec, target)
    if not result then return nil, err end
    return {
      wait = function() return true end, progress = function() return "{}" end, stop = function() end,
        close = function() end,
      result = function() return json.encode(result) end,
    }
  end
  core.fetch = function() return nil, { code = "refused", message = "nobody listens there" } end
  core.fetch_pool = false -- one request after the other, by core.fetch
  core.isatty = function() return false end
  return core
end

-- A core whose first n runs are refused, as by a Service that is so fresh that nobody has heard of it.
function M.refusing(n)
  return M.core(function(spec)
    n = n - 1
    if n >= 0 then return nil, { code = "refused", message = "connection refused" } end
    return M.result(spec)
  end)
end

-- Runs `knbl ARGS…` over a script's text; returns exit code, standard output, standard error, the core.
function M.knbl(script, args, core)
  local path
  local argv = {}
  if script then
    path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write(script)
    file:close()
  end
  for i, word in ipairs(args or {}) do argv[i] = word end
  if path then table.insert(argv, args and args.at or 1, path) end
  local out, err = {}, {}
  core = core or M.core()
  local code = cli.main(argv, {
    core = core, out = function(s) out[#out + 1] = s end, err = function(s) err[#err + 1] = s end,
  })
  if path then os.remove(path) end
  local function hide(list)
    local text = table.concat(list)
    return path and (text:gsub(path:gsub("%W", "%%%0"), "SCRIPT")) or text
  end
  return code, hide(out), hide(err), core
end

-- Whether a ledger's text has a measurement to which nothing came, and none that failed otherwise: on a busy machine a
-- process may not run at all for so short a time.
function M.starved(text)
  local ok, data = pcall(json.decode, text)
  local any = false
  for _, m in ipairs(ok and type(data) == "table" and data.measurements or {}) do
    if m.error and m.error.code ~= "no_data" then return false end
    any = any or m.error ~= nil
  end
  return any
end

-- As M.knbl with --json - and a short --duration among the words: where it was too short here it is tried again,
-- longer.
function M.briefly(script, args, core)
  local at
  for i, word in ipairs(args) do at = word == "--duration" and i + 1 or at end
  if not at then return M.knbl(script, args, core) end
  local words = { (table.unpack or unpack)(args) }
  for _, duration in ipairs { args[at], "500ms", "3s" } do
    words[at] = duration
    local code, out, err = M.knbl(script, words, core)
    if code == 0 or not M.starved(out) or duration == "3s" then return code, out, err end
  end
end

local namespaces

-- Skips the test where this machine makes no namespaces, and so no lab; where it does, a lab that does not come up is a
-- failure.
function M.need_lab(err)
  if not err:find("no cluster (lab)", 1, true) then return end
  if namespaces == nil then
    namespaces = os.execute "unshare --user --map-root-user --net --mount --pid --fork true 2>/dev/null" or false
  end
  if namespaces then lu.fail(err) end
  lu.skip(err)
end

function M.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

-- The start of most scripts here.
M.pair = 'local knbl = require "knbl" local cluster <close> = knbl.cluster { provider = "loopback" } \z
  local a, b = cluster:pair()\n'

return M
