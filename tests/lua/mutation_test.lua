-- Ledgers that are wrong in ways that nobody thought of: one with every member that the contract has is changed at
-- random, and read, shown, written in every format and compared. Whatever it holds, it is read or refused; no mistake
-- of a file is a mistake of the program, and nothing in it steers a terminal.
--
--   KNBL_FUZZ_SEED    the first seed (1); KNBL_FUZZ_SECONDS  for how long (so many changes as MUTATIONS says otherwise)
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local contract = require "knbl.results.contract"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"
local schema = require "knbl.base.schema"

local MUTATIONS = 60

-- ---- a ledger with everything ----

local instance

local function of_object(s, depth)
  local out = {}
  for name, inner in pairs(s.properties or {}) do out[name] = instance(inner, depth + 1) end
  if type(s.additionalProperties) == "table" then
    for _, name in ipairs { "one", "two" } do out[name] = instance(s.additionalProperties, depth + 1) end
  end
  return out
end

-- A value that satisfies a schema, with all that it may have.
function instance(s, depth)
  if s["$ref"] then return instance(contract["$defs"][s["$ref"]:match "[^/]+$"], depth) end
  if s.const ~= nil then return s.const end
  if s.enum then return s.enum[1] end
  local kind = type(s.type) == "table" and s.type[#s.type > 2 and 1 or 2] or s.type
  if kind == "object" then return of_object(s, depth) end
  if kind == "array" then
    local out = json.array {}
    for i = 1, 2 do out[i] = instance(s.items or { type = "number" }, depth + 1) end
    return out
  end
  if kind == "string" then return s.pattern and "2026-11-29T15:00:00.000Z" or "text" end
  if kind == "boolean" then return true end
  return s.maximum and 0.5 or 2
end

local function monitor()
  local function series() return json.array { 1, 2.5 } end
  return { name = "client", kind = "pod", side = "client", node = "node-1", machine = "m", from = -0.5,
    interval_ns = 1e7, t = json.array { 0.1, 0.2 }, memory = { available = series(), total = 5 },
    process = { cpu = series(), memory = 7 },
    cpu = { user = json.array { series(), series() }, idle = json.array { 0.5, series() },
      system = json.array { 1, 1 } },
    cgroup = { cpu = series(), memory = 5, throttled = 1, throttled_s = 0.5, quota = 2 },
    interfaces = { eth0 = { rx_drops = 20, tx_drops = series(), rx_packets_per_s = series(), tx_packets_per_s = 5 } },
    tcp = { segments = series(), retransmits = 5, listen_drops = 3, memory = 7 }, udp = { receive_drops = 3 },
    clock = { late_s = 0.6, jumped_s = 0.1, asleep_s = 0 }, softnet = { drops = 20, squeezed = 1 },
    conntrack = { entries = series(), max = 2, drops = 1 } }
end

local function profile()
  return { name = "node-1", event = "cycles", hz = 99, cpus = 2, duration_s = 1, busy_s = 0.5, samples = 100, idle = 10,
    lost = 0, cut = 0.001, frames = json.array { "knbl:text", "tcp_sendmsg", "main" }, kinds = "pku",
    parents = json.array { 0, 1, 1 }, names = json.array { 0, 1, 2 }, counts = json.array { 1, 60, 29 },
    missing = json.array { "names of programs" }, machine = "m", kind = "machine", side = "both" }
end

local function whole()
  local data = instance(contract, 0)
  data.schema = 1
  local tests = contract["$defs"].measurement.properties.test.enum
  for i, test in ipairs(tests) do
    local m = instance(contract["$defs"].measurement, 1)
    m.test, m.case, m.error, m.skipped, m.via = test, "case " .. (i + 1) // 2, nil, nil, i % 2 == 0 and "service"
      or "pod_ip"
    m.latency_histogram = fake.histogram(200, 1000)
    m.params.size, m.params.duration, m.labels.n = 2 ^ i, 1, i
    m.monitor, m.profile = json.array { monitor() }, json.array { profile() }
    data.measurements[i] = m
  end
  local failed, skipped = data.measurements[1], data.measurements[2]
  failed.ok, failed.error, skipped.ok, skipped.skipped = false, { code = "refused", message = "text" }, false, "text"
  for i, layout in ipairs { "table", "sweep" } do
    data.reports[i] = { title = "text", rows = json.array { "case" }, layout = layout, lenient = true, pivot = "n",
      columns = json.array { { title = "rate", show = "rate" }, { title = "p99", show = "p99", unit = "ms" } } }
  end
  return data
end

-- ---- changes ----

local strange = { json.null, 0, -1, 5, 1.5, 1e15, 1e300, -1e300, "", "x", "text\27[31m\7", ("long "):rep(200), "%s%n%d",
  true, false,
  "\u{202E}txet", "nan", "<script>", "a\nb", "1e999", "\240\159\152\128", "../../x", "2026-11-29T15:00:00.000Z" }

local function strange_value(random)
  local n = random(#strange + 6)
  if n <= #strange then return strange[n] end
  return ({ function() return {} end, function() return json.array {} end, function() return { a = 1 } end,
    function() return json.array { 1 } end, function() return json.array { json.null, "x" } end,
    function() return json.array { { a = json.array {} } } end })[n - #strange]()
end

-- Each table of a value with its keys, in an order that is the same for each seed: what can be changed.
local function places(value, list)
  local keys = {}
  for k in pairs(value) do keys[#keys + 1] = k end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for _, k in ipairs(keys) do
    list[#list + 1] = { value, k }
    if type(value[k]) == "table" then places(value[k], list) end
  end
  return list
end

local function copy(value)
  if type(value) ~= "table" then return value end
  local out = json.is_array(value) and json.array {} or {}
  for k, v in pairs(value) do out[k] = copy(v) end
  return out
end

local function mutate(data, random)
  for _ = 1, random(3) do
    local list = places(data, {})
    local place, other = list[random(#list)], list[random(#list)]
    local what = random(10)
    if what <= 6 then
      place[1][place[2]] = strange_value(random)
    elseif what <= 8 then
      place[1][place[2]] = copy(other[1][other[2]])
    elseif type(place[2]) == "number" then
      table.remove(place[1], place[2])
    else
      place[1][place[2]] = nil
    end
  end
end

-- ---- what reads them ----

local commands = {
  { "report", "A" },
  { "report", "A", "--quiet", "--csv", "/dev/null", "--markdown", "/dev/null", "--junit", "/dev/null", "--html",
    "/dev/null", "--openmetrics", "/dev/null", "--flame", "/dev/null", "--folded", "/dev/null", "--json", "/dev/null" },
  { "compare", "A", "B", "--any-environment", "--html", "/dev/null", "--junit", "/dev/null", "--json", "/dev/null",
    "--fail-if", "throughput -5%" },
  { "compare", "B", "A" },
}

local function check(text, path, sound, seed)
  assert(core.write_file(path, text))
  for _, command in ipairs(commands) do
    local argv = {}
    for i, word in ipairs(command) do argv[i] = word == "A" and path or word == "B" and sound or word end
    local code, out, err = fake.knbl(nil, argv)
    local told = ("seed %d: knbl %s: %s"):format(seed, table.concat(command, " "), err)
    lu.assertNotStrContains(err, "traceback", false, told)
    lu.assertNotStrContains(out, "\27", false, told)
    lu.assertTrue(code == 0 or code == 2 or code == 99 or code == 98, told)
  end
end

TestMutation = {}

function TestMutation:test_the_whole_one_is_sound()
  local data = whole()
  lu.assertNil(schema.validate(contract, data))
  local path = os.tmpname()
  assert(core.write_file(path, json.encode(data)))
  local code, out, err = fake.knbl(nil, { "report", path })
  os.remove(path)
  lu.assertEquals(code, 0, err)
  lu.assertStrContains(out, "tcp_sendmsg")
end

local function try(seed, path, sound)
  math.randomseed(seed)
  local data = whole()
  mutate(data, math.random)
  check((json.encode_all(data)), path, sound, seed)
end

-- Measurements without the figure that their test is about.
function TestMutation:test_without_figures()
  local data, path, sound = whole(), os.tmpname(), os.tmpname()
  assert(core.write_file(sound, json.encode(data)))
  for i, m in ipairs(data.measurements) do m.from, m.to, m.metrics = "p" .. i % 3, "p" .. (i + 1) % 3, {} end
  check(json.encode(data), path, sound, 0)
  os.remove(path)
  os.remove(sound)
end

function TestMutation:test_changes_at_random()
  local path, sound = os.tmpname(), os.tmpname()
  assert(core.write_file(sound, json.encode(whole())))
  local seed = tonumber(os.getenv "KNBL_FUZZ_SEED") or 1
  local seconds, began, count = tonumber(os.getenv "KNBL_FUZZ_SECONDS"), core.now(), 0
  while seconds and core.now() - began < seconds or not seconds and count < MUTATIONS do
    try(seed, path, sound)
    seed, count = seed + 1, count + 1
  end
  os.remove(path)
  os.remove(sound)
  if seconds then print(("# %d changed ledgers, the last seed %d"):format(count, seed - 1)) end
end

os.exit(lu.LuaUnit.run())
