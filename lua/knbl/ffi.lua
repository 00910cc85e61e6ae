--- The engines for LuaJIT, over libknbl.so: those functions of knbl.core that measurements need, with the same results.
-- The library is KNBL_LIB, else build/libknbl.so in this tree, else the installed one.
local ffi = require "ffi"
local cjson = require "cjson"

-- The report is printed by a finalizer, while the interpreter ends. Compiled code in it can make LuaJIT 2.1 (2022) loop
-- for ever. A script can turn the compiler on again for code of its own.
require("jit").off()

ffi.cdef(require "knbl.cdef")
ffi.cdef [[
typedef struct { long s, ns; } knbl_timespec;
int knbl_clock_gettime(int clock, knbl_timespec *at) asm("clock_gettime");
int knbl_nanosleep(const knbl_timespec *left, knbl_timespec *rest) asm("nanosleep");
int knbl_isatty(int fd) asm("isatty");
int knbl_ioctl(int fd, unsigned long request, ...) asm("ioctl");
]]

local function load_library()
  local own = debug.getinfo(1, "S").source:match("^@(.*)lua/knbl/ffi%.lua$")
  local tried = {}
  for _, path in ipairs { os.getenv("KNBL_LIB") or "", own and own .. "build/libknbl.so" or "", "libknbl.so.0" } do
    if path ~= "" then
      if not path:find("/", 1, true) and path ~= "libknbl.so.0" then path = "./" .. path end
      local ok, lib = pcall(ffi.load, path)
      if ok then return lib end
      tried[#tried + 1] = tostring(lib)
    end
  end
  error("libknbl.so cannot be loaded: " .. table.concat(tried, "; "), 0)
end

local C = load_library()
local core = { version = ffi.string(C.knbl_version()), protocol = C.knbl_protocol() }

---- errors and text --------------------------------------------------------------------------------------------------

local error_type = { __tostring = function(err) return err.message end }

local function new_error()
  local err = ffi.new "knbl_error"
  err.size = ffi.sizeof "knbl_error"
  return err
end

local function failed(err)
  local told = { code = ffi.string(err.code), message = ffi.string(err.message) }
  if err.sys_errno ~= 0 then told.errno = err.sys_errno end
  return nil, setmetatable(told, error_type)
end

local function interrupted()
  return nil, setmetatable({ code = "interrupted", message = "interrupted" }, error_type)
end

-- Takes over text from the library as a Lua string; nil for NULL.
local function take(text)
  if text == nil then return nil end
  local copy = ffi.string(text)
  C.knbl_string_free(text)
  return copy
end

local function text_or_error(text, err)
  if text == nil then return failed(err) end
  return take(text)
end

local function check_type(value, wanted, arg, name)
  if type(value) ~= wanted then
    error(("bad argument #%d to '%s' (%s expected, got %s)"):format(arg, name, wanted, type(value)), 3)
  end
  return value
end

local function check_json(text, arg, name)
  if type(text) ~= "string" or not pcall(cjson.decode, text) then
    error(("bad argument #%d to '%s' (not JSON)"):format(arg, name), 3)
  end
  return text
end

local function check_list(list, arg, name)
  if type(list) ~= "table" then error(("bad argument #%d to '%s' (list expected)"):format(arg, name), 3) end
  for i = 1, #list do
    local x = list[i]
    if type(x) ~= "number" or x ~= x or x == math.huge or x == -math.huge then
      error(("bad argument #%d to '%s' (item %d of the list must be a number)"):format(arg, name, i), 3)
    end
  end
  return ffi.new("double[?]", #list + 1, list), #list
end

---- specifications and units -----------------------------------------------------------------------------------------

function core.check(spec)
  local err = new_error()
  return text_or_error(C.knbl_check(check_json(spec, 1, "check"), err), err)
end

function core.tests() return cjson.decode(take(C.knbl_descriptors())) end

function core.fields() return cjson.decode(take(C.knbl_fields())) end

function core.nearest(word, list)
  check_type(word, "string", 1, "nearest")
  return take(C.knbl_nearest(word, cjson.encode(check_type(list, "table", 2, "nearest"))))
end

-- A function that parses text into one number, divided by `scale`.
local function parser(parse, name, scale)
  return function(text)
    local err, value = new_error(), ffi.new "uint64_t[1]"
    if parse(check_type(text, "string", 1, name), value, err) < 0 then return failed(err) end
    return tonumber(value[0]) / scale
  end
end

core.duration = parser(C.knbl_parse_duration, "duration", 1e9)
core.size = parser(C.knbl_parse_size, "size", 1)
core.count = parser(C.knbl_parse_count, "count", 1)

function core.rate(text)
  local err, per_1000s, bps = new_error(), ffi.new "uint64_t[1]", ffi.new "uint64_t[1]"
  if C.knbl_parse_rate(check_type(text, "string", 1, "rate"), per_1000s, bps, err) < 0 then return failed(err) end
  if bps[0] ~= 0 then return { bps = tonumber(bps[0]) } end
  return { per_s = tonumber(per_1000s[0]) / 1000 }
end

function core.sizes(text)
  local err, room = new_error(), 64
  local sizes = ffi.new("uint64_t[?]", room)
  local n = C.knbl_parse_sizes(check_type(text, "string", 1, "sizes"), sizes, room, err)
  if n < 0 then return failed(err) end
  local list = {}
  for i = 1, n do list[i] = tonumber(sizes[i - 1]) end
  return list
end

local function formatted(format, ...)
  local buffer = ffi.new "char[64]"
  local args = { ... }
  args[#args + 1] = buffer
  args[#args + 1] = 64
  format(unpack(args))
  return ffi.string(buffer)
end

function core.format_duration(ns, ascii) return formatted(C.knbl_format_duration, ns, ascii and 1 or 0) end

function core.format_bits(bps) return formatted(C.knbl_format_bits, bps) end

function core.format_size(bytes) return formatted(C.knbl_format_size, bytes) end

function core.format_rate(per_s) return formatted(C.knbl_format_rate, per_s) end

---- runs -------------------------------------------------------------------------------------------------------------

local run_type = {}
run_type.__index = run_type

local function handle(object)
  return object.handle or error("it is closed", 3)
end

-- In short steps, so that Ctrl-C takes effect.
function run_type:wait(seconds)
  local run, till = handle(self), seconds and core.now() + seconds or math.huge
  repeat
    local left = math.max(0, math.min(till - core.now(), 0.05))
    if C.knbl_run_wait(run, math.floor(left * 1e9)) == 1 then return true end
  until core.now() >= till
  return false
end

local phases = { [0] = "new", "connect", "warmup", "measure", "collect", "done", "failed" }

function run_type:progress()
  local stats = ffi.new "knbl_stats"
  stats.size = ffi.sizeof "knbl_stats"
  C.knbl_run_stats(handle(self), stats)
  return ('{"phase":"%s","elapsed_s":%.9f,"total_s":%.9f,"ops":%.0f,"bytes":%.0f}'):format(phases[stats.phase],
    tonumber(stats.elapsed_ns) / 1e9, tonumber(stats.total_ns) / 1e9, tonumber(stats.ops), tonumber(stats.bytes))
end

function run_type:stop() C.knbl_run_stop(handle(self)) end

function run_type:result()
  local err = new_error()
  local text = take(C.knbl_run_result(handle(self), err))
  return text or error(ffi.string(err.message), 2)
end

-- Frees a handle once: here, or in the garbage collector.
local function closer(free)
  return function(object)
    local held = object.handle
    object.handle = nil
    if held then free(ffi.gc(held, nil)) end
  end
end

run_type.close = closer(C.knbl_run_free)

local function check_port(port)
  if type(port) ~= "number" or port < 0 or port > 65535 or port ~= math.floor(port) then
    error(("port must be a whole number from 0 to 65535, got %s"):format(tostring(port)), 3)
  end
  return port
end

local function fill_target(to, target)
  check_type(target, "table", 2, "run")
  to.size = ffi.sizeof "knbl_target"
  to.host = check_type(target.host, "string", 2, "run")
  to.port = check_port(target.port or 7099)
  to.token, to.ca, to.source = target.token, target.ca, target.source
  to.name, to.share = target.name, target.share or 1
end

function core.run(spec, target)
  check_json(spec, 1, "run")
  check_type(target, "table", 2, "run")
  local list = target[1] and target or { target }
  local err, targets = new_error(), ffi.new("knbl_target[?]", #list)
  local pointers = ffi.new("const knbl_target *[?]", #list)
  for i = 1, #list do
    fill_target(targets[i - 1], list[i])
    pointers[i - 1] = targets + (i - 1)
  end
  local run = C.knbl_run_start_to(spec, pointers, #list, err)
  if run == nil then return failed(err) end
  return setmetatable({ handle = ffi.gc(run, C.knbl_run_free) }, run_type)
end

---- agents -----------------------------------------------------------------------------------------------------------

local agent_type = {}
agent_type.__index = agent_type
agent_type.close = closer(C.knbl_agent_free)

function agent_type:port() return C.knbl_agent_port(handle(self)) end

function core.agent(options)
  check_type(options, "table", 1, "agent")
  local err, config = new_error(), ffi.new "knbl_agent_config"
  config.size = ffi.sizeof "knbl_agent_config"
  config.listen, config.unix_path, config.token = options.listen or "127.0.0.1:0", options.unix, options.token
  config.name, config.node = options.name, options.node
  config.max_runs, config.max_duration_ns = options.max_runs or 0, (options.max_duration or 0) * 1e9
  local agent = C.knbl_agent_start(config, err)
  if agent == nil then return failed(err) end
  return setmetatable({ handle = ffi.gc(agent, C.knbl_agent_free) }, agent_type)
end

---- statistics -------------------------------------------------------------------------------------------------------

function core.hist_merge(list)
  for i = 1, #list do check_json(list[i], 1, "hist_merge") end
  local err = new_error()
  return text_or_error(C.knbl_hist_merge("[" .. table.concat(list, ",") .. "]", err), err)
end

function core.hist_percentile(histogram, percents)
  check_json(histogram, 1, "hist_percentile")
  local wanted, n = check_list(percents, 2, "hist_percentile")
  local err, values = new_error(), ffi.new("uint64_t[?]", n + 1)
  if C.knbl_hist_percentiles(histogram, wanted, values, n, err) < 0 then return failed(err) end
  local list = {}
  for i = 1, n do list[i] = tonumber(values[i - 1]) end
  return list
end

-- Without bounds if there are too few values for this confidence.
local function interval(out, confidence)
  if out[3] < confidence then return out[0] end
  return out[0], out[1], out[2]
end

function core.median_interval(list, confidence)
  confidence = confidence or 0.95
  local values, n = check_list(list, 1, "median_interval")
  local err, out = new_error(), ffi.new "double[4]"
  if C.knbl_median_interval(values, n, confidence, out, out + 1, out + 2, out + 3, err) < 0 then
    error(ffi.string(err.message), 2)
  end
  return interval(out, confidence)
end

function core.shift_interval(a, b, confidence)
  confidence = confidence or 0.95
  local first, n = check_list(a, 1, "shift_interval")
  local second, m = check_list(b, 2, "shift_interval")
  local err, out = new_error(), ffi.new "double[4]"
  if n == 0 or m == 0 then error("list must not be empty", 2) end
  if C.knbl_shift_interval(first, n, second, m, confidence, out, out + 1, out + 2, out + 3, err) < 0 then
    error(ffi.string(err.message), 2)
  end
  return interval(out, confidence)
end

function core.rank_test(a, b)
  local err, p = new_error(), ffi.new "double[1]"
  local first, n = check_list(a, 1, "rank_test")
  local second, m = check_list(b, 2, "rank_test")
  if n == 0 or m == 0 then error("list must not be empty", 2) end
  if C.knbl_rank_test(first, n, second, m, p, err) < 0 then error(ffi.string(err.message), 2) end
  return p[0]
end

---- the system -------------------------------------------------------------------------------------------------------

function core.now() return tonumber(C.knbl_now()) / 1e9 end

function core.wall()
  local at = ffi.new "knbl_timespec"
  ffi.C.knbl_clock_gettime(0, at)
  return os.date("!%Y-%m-%dT%H:%M:%S", tonumber(at.s)) .. (".%03dZ"):format(math.floor(tonumber(at.ns) / 1e6))
end

-- A signal with a handler ends the sleep, since the handler needs Lua to run.
function core.sleep(seconds)
  local left = ffi.new "knbl_timespec"
  left.s = math.floor(seconds)
  left.ns = math.floor((seconds - math.floor(seconds)) * 1e9)
  if ffi.C.knbl_nanosleep(left, nil) ~= 0 then return interrupted() end
  return true
end

function core.interrupted() return false end
function core.cleanup() end

function core.write_file(path, text)
  local err = new_error()
  if C.knbl_write_file(check_type(path, "string", 1, "write_file"), check_type(text, "string", 2, "write_file"), #text,
    err) < 0 then
    return failed(err)
  end
  return true
end

function core.can_write(path)
  local err = new_error()
  if C.knbl_can_write(check_type(path, "string", 1, "can_write"), err) < 0 then return failed(err) end
  return true
end

function core.isatty(fd) return ffi.C.knbl_isatty(fd) == 1 end

function core.columns()
  local told = tonumber(os.getenv("COLUMNS") or "")
  if told and told > 0 then return told end
  local size = ffi.new "unsigned short[4]"
  for fd = 0, 2 do
    if ffi.C.knbl_ioctl(fd, 0x5413, size) == 0 and size[1] > 0 then return size[1] end
  end
end

function core.token() return take(C.knbl_token()) end

return core
