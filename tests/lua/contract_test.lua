-- The files that others read: the ledger by its schema, JUnit by its XSD; of runs that went well, badly, and of hostile
-- names.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"
local ledger = require "knbl.results.ledger"
local schema = require "knbl.base.schema"

local described = require "knbl.results.contract"

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
  local good = { schema = 1, knbl = "x", started = "2026-01-01T00:00:00.000Z", verdict = { status = "pass" },
    measurements = json.array {} }
  lu.assertNil(schema.validate(described, good))
  for message, change in pairs {
    ["ledger lacks 'knbl'"] = function(d) d.knbl = nil end,
    ["ledger.schema must be 1, got 2"] = function(d) d.schema = 2 end,
    ["ledger.odd is not in the contract"] = function(d) d.odd = 1 end,
      ["ledger.measurements must be of type array"] = function(d) d.measurements = { a = 1 } end,
    ["does not match"] = function(d) d.started = "yesterday" end,
      ["ledger.verdict.status must be one of pass"] = function(d) d.verdict.status = "fine" end,
    ["ledger.measurements[1] must be of type object"] = function(d) d.measurements = { 5 } end,
    ["ledger.measurements[1].metrics.latency_ns.count must be of type integer"] = function(d)
      d.measurements = { { test = "ping", case = "", from = "", to = "", ok = true, flags = json.array {},
        metrics = { latency_ns = { count = 1.5 } } } }
    end,
    ["must be at least 0, got -1"] = function(d)
      d.measurements = { { test = "ping", case = "", from = "", to = "", ok = true, flags = json.array {},
        metrics = { errors = -1 } } }
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
  check_run(
    "knbl.tcp_rr { from = a, to = b, expect = { 'p99 < 1ns', 'jitter < 1ms' } } knbl.note { a = 1 } knbl.note 'b' \z
      knbl.report { rows = 'case' }", 99)
  check_run(
    "for c in knbl.matrix { { 'n', 1, 2 }, { 'w', 'x', true } } do knbl.tcp_bw { from = a, to = b, size = '1:64:*4' \z
      } end", 0, "--repeats", "2")
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
  data.measurements[2] = { test = "ping", case = "x", from = "a", to = "b", ok = false, skipped = "not & here",
    flags = json.array {}, metrics = {} }
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
    lu.assertStrContains(text, ('<error type="%s" message="%s'):format(kind,
      status == "error" and "no &amp; more" or kind))
  end
  lu.assertStrContains(render { status = "pass" }, 'tests="1" failures="0" errors="0"')
  lu.assertStrContains(render { status = "inconclusive", message = "too few" }, 'errors="0"')
end

-- A ledger that an older version wrote, with members that this one does not have: it loads, shows the same figures, and
-- serves as a baseline.
function TestContract:test_an_old_ledger_loads()
  local path = "tests/lua/old_ledger.json"
  local data = assert(ledger.read(path))
  lu.assertEquals(#data.measurements, 3)
  lu.assertNotNil(data.measurements[2].connect_histogram)
  local code, out, err = fake.knbl(nil, { "report", path })
  lu.assertEquals(code, 0, err)
  for _, text in ipairs { "direct", "service", "Gbit/s", "of an older version" } do lu.assertStrContains(out, text) end
  for _, format in ipairs { "csv", "html", "junit", "markdown", "openmetrics" } do
    code, out, err = fake.knbl(nil, { "report", path, "-q", "--" .. format, "-" })
    lu.assertEquals(code, 0, err)
    lu.assertStrContains(out, "direct", format)
  end
  code, out, err = fake.knbl(nil, { "compare", path, path })
  lu.assertEquals(code, 0, err)
  lu.assertStrContains(out, "tcp_crr")
end

-- Every test over loopback, each for `duration`. A busy machine may let nothing through in so short a time.
local function every_test(duration)
  local lines = {}
  for _, descriptor in ipairs(core.tests()) do
    local test = descriptor.name
    local how = ({ ping = "count = 3, every = '1ms'", pmtu = "ip = 4",
      dns = "names = 'a.test', count = 1, timeout = '10ms'",
      probe = "duration = '200ms', during = function(mark) mark 'x' end" })[test]
      or ("duration = '%s', warmup = '10ms'"):format(duration)
    lines[#lines + 1] = ("knbl.%s { case = '%s', from = a, to = b, %s }"):format(test, test, how)
  end
  for _, more in ipairs { "tcp_rr { case = 'open', to = b, rate = '2k/s', ",
    "tcp_stream { case = 'both', to = b, bidir = true, ",
    "tcp_rr { case = 'several', to = { a, b }, shares = { 2, 1 }, flows = 3, ",
    "tcp_stream { case = 'several', to = { a, b }, shares = { 2, 1 }, flows = 3, " } do
    lines[#lines + 1] = ("knbl.%sfrom = a, duration = '%s', warmup = 0 }"):format(more, duration)
  end
  return table.concat(lines, "\n"), #lines
end

-- What the engines write is in the schema.
function TestContract:test_every_test_for_real()
  local path, went, n = os.tmpname(), nil, nil
  local real = setmetatable({ isatty = function() return false end }, { __index = core })
  for _, duration in ipairs { "100ms", "500ms", "3s" } do
    local script
    script, n = every_test(duration)
    local code, _, err = fake.knbl(fake.pair .. script, { "-q", "--json", path, "--ceiling" }, real)
    lu.assertTrue(code == 0 or code == 1, err) -- 1: where ping is not allowed
    local data = check_ledger(fake.read(path))
    lu.assertEquals(#data.measurements, n)
    went = 0
    for _, m in ipairs(data.measurements) do -- ping may not be allowed here, and there is no DNS server
      went = went + ((m.ok or m.test == "ping" or m.test == "dns") and 1 or 0)
    end
    check_junit(require("knbl.format.junit").render(assert(ledger.read(path)), { core = core }))
    if went == n then break end
  end
  lu.assertEquals(went, n)
  os.remove(path)
end

os.exit(lu.LuaUnit.run())
