-- The files that others read: the ledger by its schema, JUnit by its XSD; of runs that went well, badly, and of hostile names.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"
local ledger = require "knbl.ledger"
local schema = require "knbl.schema"

local described = require "knbl.contract"

local function check_ledger(text)
  local data = assert(json.decode(text))
  lu.assertNil(schema.validate(described, data))
  return data
end

local xmllint = os.execute "command -v xmllint >/dev/null 2>&1" == true

local function check_junit(text)
  if not xmllint then return end
  local path = os.tmpname()
  assert(core.write_file(path, text))
  local pipe = io.popen("xmllint --noout --schema tests/lua/junit.xsd " .. path .. " 2>&1")
  local said = pipe:read "a"
  os.remove(path)
  lu.assertTrue(pipe:close(), said)
end

-- Both files of a script's run.
local function check_run(script, expected, ...)
  local ledger_path, junit_path = os.tmpname(), os.tmpname()
  local code, _, err = fake.knbl(fake.pair .. script, { "-q", "--json", ledger_path, "--junit", junit_path, ... })
  lu.assertEquals(code, expected, err)
  local data = check_ledger(fake.read(ledger_path))
  check_junit(fake.read(junit_path))
  os.remove(ledger_path)
  os.remove(junit_path)
  return data
end

TestContract = {}

function TestContract:test_junit_s_schema_finds_what_is_wrong()
  lu.skipIf(not xmllint, "xmllint is not installed: no JUnit is held against its schema")
  lu.assertError(check_junit, '<testsuites name="knbl"><testcase/></testsuites>')
end

function TestContract:test_the_validator_finds_what_is_wrong()
  local good = { schema = 1, knbl = "x", started = "2026-01-01T00:00:00.000Z", verdict = { status = "pass" }, measurements = json.array {} }
  lu.assertNil(schema.validate(described, good))
  for message, change in pairs {
    ["ledger lacks 'knbl'"] = function(d) d.knbl = nil end, ["ledger.schema is not 1"] = function(d) d.schema = 2 end,
    ["ledger.odd is not in the contract"] = function(d) d.odd = 1 end, ["ledger.measurements is no array"] = function(d) d.measurements = { a = 1 } end,
    ["does not match"] = function(d) d.started = "yesterday" end, ["none of pass"] = function(d) d.verdict.status = "fine" end,
    ["ledger.measurements[1] is no object"] = function(d) d.measurements = { 5 } end,
    ["ledger.measurements[1].metrics.latency_ns.count is no integer"] = function(d)
      d.measurements = { { test = "ping", case = "", from = "", to = "", ok = true, flags = json.array {}, metrics = { latency_ns = { count = 1.5 } } } }
    end,
    ["less than 0"] = function(d)
      d.measurements = { { test = "ping", case = "", from = "", to = "", ok = true, flags = json.array {}, metrics = { errors = -1 } } }
    end,
  } do
    local bad = json.decode(json.encode(good))
    json.array(bad.measurements)
    change(bad)
    lu.assertStrContains(schema.validate(described, bad) or "nothing is wrong", message)
  end
end

function TestContract:test_runs_that_are_thought_of()
  check_run("knbl.tcp_rr { from = a, to = b }", 0)
  check_run("knbl.tcp_rr { from = a, to = b, expect = { 'p99 < 1ns', 'jitter < 1ms' } } knbl.note { a = 1 } knbl.note 'b' knbl.report { rows = 'case' }", 99)
  check_run("for c in knbl.matrix { { 'n', 1, 2 }, { 'w', 'x', true } } do knbl.tcp_bw { from = a, to = b, size = '1:64:*4' } end", 0, "--repeats", "2")
  check_run("knbl.tcp_rr { from = a, to = b } error 'in the middle'", 1)
  check_run("knbl.tcp_rr { case = '<&\"\\0\\27>', from = a, to = b, labels = { ['=x'] = '<' } }", 0)
  check_run("", 0)
end

function TestContract:test_beside_a_baseline()
  local path = os.tmpname()
  local script = "knbl.tcp_rr { from = a, to = b, expect = 'p50 < 2x baseline' }"
  lu.assertEquals((fake.knbl(fake.pair .. script, { "-q", "--repeats", "4", "--json", path })), 98)
  local data = check_run(script, 0, "--repeats", "4", "--baseline", path)
  lu.assertTrue(#data.comparison.comparisons > 0)
  os.remove(path)
end

function TestContract:test_what_failed_and_what_was_skipped()
  local used = fake.core(function() return nil, { code = "refused", message = "nobody <there>" } end)
  local path = os.tmpname()
  fake.knbl(fake.pair .. "knbl.tcp_rr { from = a, to = b, expect = 'p99 < 1ms' }", { "-q", "--json", path }, used)
  check_ledger(fake.read(path))
  local data = assert(ledger.read(path))
  data.measurements[2] = { test = "ping", case = "x", from = "a", to = "b", ok = false, skipped = "not & here", flags = json.array {}, metrics = {} }
  check_junit(require("knbl.format.junit").render(data, { core = core }))
  os.remove(path)
end

function TestContract:test_a_run_that_broke_off_is_an_error_in_junit()
  local junit = require "knbl.format.junit"
  local function render(verdict)
    local m = { test = "ping", case = "x", from = "a", to = "b", ok = true, flags = json.array {}, metrics = {} }
    local text = junit.render({ verdict = verdict, measurements = { m }, expectations = {} }, { core = core })
    check_junit(text)
    return text
  end
  for status, kind in pairs { error = "error", interrupted = "interrupted", running = "unfinished" } do
    local text = render { status = status, message = status == "error" and "no & more" or nil }
    lu.assertStrContains(text, 'tests="2" failures="0" errors="1"')
    lu.assertStrContains(text, ('<error type="%s" message="%s'):format(kind, status == "error" and "no &amp; more" or kind))
  end
  lu.assertStrContains(render { status = "pass" }, 'tests="1" failures="0" errors="0"')
  lu.assertStrContains(render { status = "inconclusive", message = "too few" }, 'errors="0"')
end

-- Every test over loopback, for real: what the engines write is in the schema.
function TestContract:test_every_test_for_real()
  local path = os.tmpname()
  local lines = {}
  for _, test in ipairs(core.tests()) do
    local how = test == "ping" and "count = 3, every = '1ms'" or "duration = '50ms', warmup = '10ms'"
    lines[#lines + 1] = ("knbl.%s { case = '%s', from = a, to = b, %s }"):format(test, test, how)
  end
  lines[#lines + 1] = "knbl.tcp_rr { case = 'open', from = a, to = b, rate = '2k/s', duration = '50ms', warmup = 0 }"
  lines[#lines + 1] = "knbl.tcp_stream { case = 'both', from = a, to = b, bidir = true, duration = '50ms', warmup = 0 }"
  local real = setmetatable({ isatty = function() return false end }, { __index = core })
  local code, _, err = fake.knbl(fake.pair .. table.concat(lines, "\n"), { "-q", "--json", path, "--ceiling" }, real)
  lu.assertTrue(code == 0 or code == 1, err) -- 1: where ping is not allowed
  local data = check_ledger(fake.read(path))
  lu.assertEquals(#data.measurements, #core.tests() + 2)
  local went = 0
  for _, m in ipairs(data.measurements) do went = went + (m.ok and 1 or 0) end
  lu.assertTrue(went >= #core.tests() + 1)
  check_junit(require("knbl.format.junit").render(assert(ledger.read(path)), { core = core }))
  os.remove(path)
end

os.exit(lu.LuaUnit.run())
