-- `during`: the script's code while measurements go on, over loopback.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"
local timeline = require "knbl.results.timeline"

TestDuring = {}

local real = setmetatable({ isatty = function() return false end }, { __index = core })

-- Runs a script over loopback; returns the exit code, the ledger and what was said on standard error.
local function run(script)
  local path = os.tmpname()
  local code, _, err = fake.knbl(fake.pair .. script, { "-q", "--no-ceiling", "--json", path }, real)
  local text = fake.read(path)
  os.remove(path)
  return code, text ~= "" and json.decode(text) or nil, err
end

local function says(script, text)
  local code, ledger, err = run(script)
  lu.assertStrContains(err, text)
  lu.assertNotEquals(code, 0)
  return ledger
end

function TestDuring:test_marks_stand_in_the_ledger()
  local code, ledger, err = run [[
    local r = knbl.tcp_rr { from = a, to = b, duration = "1s", warmup = 0, during = function(mark)
      mark.wait "300ms"
      local t = mark "one"
      assert(t > 0.25 and t < 0.9, t)
      mark "two"
    end }
    assert(#r.marks == 2)
  ]]
  lu.assertEquals(code, 0, err)
  local m = ledger.measurements[1]
  lu.assertEquals({ m.marks[1].text, m.marks[2].text }, { "one", "two" })
  lu.assertTrue(m.marks[1].t > 0.25 and m.marks[1].t <= m.marks[2].t, m.marks[1].t)
  local beside = {}
  for _, interval in ipairs(m.metrics.intervals) do
    for _, text in ipairs(interval.marks or {}) do beside[#beside + 1] = text end
  end
  lu.assertEquals(beside, { "one", "two" })
end

function TestDuring:test_the_script_ends_it()
  local code, ledger, err = run [[
    knbl.tcp_rr { from = a, to = b, duration = "20s", warmup = 0, during = function(mark)
      mark.wait(0.3)
      mark.stop()
    end }
    knbl.tcp_rr { from = a, to = b, warmup = 0, settle = "300ms", during = function(mark) mark "x" end }
  ]]
  lu.assertEquals(code, 0, err)
  for _, m in ipairs(ledger.measurements) do
    lu.assertTrue(m.metrics.duration_s > 0.2 and m.metrics.duration_s < 5, m.metrics.duration_s)
    for _, flag in ipairs(m.flags) do lu.assertNotEquals(flag, "stopped") end
  end
end

-- A busy machine may make the probe blind or its server late: then it is tried again.
function TestDuring:test_several_at_the_same_time()
  local probe
  for _ = 1, 10 do
    local code, ledger, err = run [[
      knbl.together { { test = "tcp_rr", from = a, to = b }, { test = "probe", from = a, to = b },
        during = function(mark) mark.wait "200ms" mark "now" mark.wait "200ms" end, settle = "100ms" }
    ]]
    lu.assertEquals(code, 0, err)
    lu.assertEquals(#ledger.measurements, 2)
    for _, m in ipairs(ledger.measurements) do lu.assertEquals(m.marks[1].text, "now") end
    probe = ledger.measurements[2].metrics
    if probe.blind + probe.outage_total == 0 then break end
  end
  local after = probe.after_mark.now
  lu.assertTrue(after.first_ok >= 0 and after.first_ok < 0.2, after.first_ok)
  lu.assertTrue(after.last_ok > 0.1, after.last_ok)
end

-- All are stopped before the first is asked for its result: an agent takes half a second to stop.
function TestDuring:test_several_end_at_the_same_time()
  local log = {}
  local fakes = fake.core()
  local begin = fakes.run
  function fakes.run(...)
    local one = begin(...)
    local number, result, over = #fakes.asked, one.result, false
    one.wait, one.progress = function() return over end, function() return '{"phase":"measure","elapsed_s":0.1}' end
    one.stop = function() log[#log + 1], over = "stop " .. number, true end
    one.result = function()
      log[#log + 1] = "result " .. number
      return result()
    end
    return one
  end
  local code, _, err = fake.knbl(fake.pair .. [[
    local list = {}
    for i = 1, 3 do list[i] = { test = "tcp_rr", case = "c" .. i, from = a, to = b } end
    list.during = function(mark) mark.stop() end
    knbl.together(list)]], { "-q", "--no-monitor", "--no-ceiling" }, fakes)
  lu.assertEquals(code, 0, err)
  lu.assertEquals(log, { "stop 1", "stop 2", "stop 3", "result 1", "result 2", "result 3" })
end

-- An agent whose run does not end in time, or that is gone, has a reason for having no result.
function TestDuring:test_one_that_gives_no_result_says_why()
  local fakes = fake.core()
  local begin = fakes.run
  function fakes.run(...)
    local one = begin(...)
    one.wait, one.progress = function() return false end, function() return '{"phase":"measure","elapsed_s":0.1}' end
    one.stop = function() end
    one.result = function() return nil, { code = "protocol", message = "it sent no result" } end
    return one
  end
  local _, _, err = fake.knbl(fake.pair .. [[
    knbl.tcp_rr { from = a, to = b, during = function(mark) mark.stop() end }]],
    { "-q", "--no-monitor", "--no-ceiling" }, fakes)
  lu.assertStrContains(err, "it sent no result")
end

-- An agent is not asked at a mark, but before and after: what follows a mark begins at it, however many ends there are.
function TestDuring:test_a_mark_takes_no_time()
  local function looks(marks)
    local n, fakes = 0, fake.core()
    local begin = fakes.run
    function fakes.run(...)
      local one, over = begin(...), false
      one.wait, one.stop = function() n = n + 1; return over end, function() over = true end
      one.progress = function() return '{"phase":"measure","elapsed_s":0.1}' end
      return one
    end
    local code, _, err = fake.knbl(fake.pair .. [[
      knbl.tcp_rr { from = a, to = b, during = function(mark) ]] .. marks .. [[ mark.stop() end }]],
      { "-q", "--no-monitor", "--no-ceiling" }, fakes)
    lu.assertEquals(code, 0, err)
    return n
  end
  lu.assertEquals(looks 'for i = 1, 20 do mark("m" .. i) end', looks "")
end

-- Nothing is changed then, and what else was started does not go on alone for its minute.
function TestDuring:test_one_that_cannot_begin_ends_the_others()
  local before = core.now()
  local _, ledger = run [[
    knbl.together { { test = "probe", from = a, to = b }, { test = "http", from = a, to = "http://127.0.0.1:9/" },
      during = function() knbl.note "called" end, settle = "1s" }
  ]]
  lu.assertTrue(core.now() - before < 30)
  lu.assertTrue(ledger.measurements[1].ok)
  lu.assertStrContains(table.concat(ledger.measurements[1].flags, " "), "stopped")
  lu.assertFalse(ledger.measurements[2].ok)
  lu.assertEquals(#ledger.notes, 0)
end

-- The script's code decides when it is over, so --duration, which is about measurements, does not cut it short.
function TestDuring:test_the_option_duration_is_no_limit_with_settle()
  local path = os.tmpname()
  local code, _, err = fake.knbl(fake.pair .. [[
    knbl.probe { from = a, to = b, settle = "50ms", during = function(mark) mark.wait "300ms" mark "late" end }
  ]], { "-q", "--no-ceiling", "--json", path, "--duration", "100ms" }, real)
  local ledger = json.decode(fake.read(path))
  os.remove(path)
  lu.assertEquals(code, 0, err)
  lu.assertEquals(ledger.measurements[1].marks[1].text, "late")
end

function TestDuring:test_an_error_ends_it_and_is_the_script_s()
  local ledger = says([[
    knbl.tcp_rr { from = a, to = b, duration = "20s", warmup = 0, during = function() error "the change failed" end }
  ]], "the change failed")
  lu.assertEquals(#ledger.measurements, 1)
  lu.assertEquals(ledger.verdict.exit, 1)
end

function TestDuring:test_it_has_a_limit_of_time()
  local text = "during did not return within the measurement's duration of 0.5 s"
  says([[knbl.tcp_rr { from = a, to = b, duration = "500ms", during = function() while true do end end }]], text)
  says([[knbl.tcp_rr { from = a, to = b, duration = "500ms", during = function(m) m.wait "1h" end }]], text)
  says([[knbl.tcp_rr { from = a, to = b, duration = "500ms", during = function() os.execute "sleep 600" end }]], text)
end

function TestDuring:test_what_is_wrong_is_said_before_anything_is_measured()
  for script, text in pairs {
    ["knbl.tcp_rr { from = a, to = b, during = 5 }"] = "tcp_rr: during must be a function, got a number",
    ["knbl.tcp_rr { from = a, to = b, settle = '1s' }"] = "tcp_rr: settle needs during",
    ["knbl.tcp_rr { from = a, to = b, settle = 'soon', during = print }"] = "tcp_rr: settle:",
    ["knbl.together { { test = 'tcp_rr', from = a, to = b, during = print } }"] = "belong to knbl.together",
    ["knbl.probe { from = a, to = b, rate = '50/s' }"] = "rate must be from 100/s to 20k/s, got 50/s",
    ["knbl.probe { from = a, to = b, rate = '30k/s' }"] = "rate must be from 100/s to 20k/s, got 30000/s",
    ["knbl.probe { from = a, to = b, rate = '20k/s', timeout = '10s' }"] = "at most 65536 attempts",
    ["knbl.probe { from = a, to = 'http://127.0.0.1:1', kind = 'udp' }"] = "kind udp needs an agent",
    ["knbl.probe { from = a, to = b, kind = 'tcp' }"] = "kind",
  } do
    local ledger = says(script, text)
    lu.assertEquals(#(ledger and ledger.measurements or {}), 0)
  end
end

function TestDuring:test_a_mark_outside_of_a_measurement()
  says([[
    local kept
    knbl.tcp_rr { from = a, to = b, duration = "300ms", warmup = 0, during = function(mark) kept = mark end }
    kept "late"
  ]], "mark: the measurement is over")
  says([[knbl.tcp_rr { from = a, to = b, duration = "5s", during = function(mark) mark(5) end }]],
    "mark takes a non-empty string, got 5")
end

-- Nothing fails here; what does is in TestTimeline, and in the lab.
function TestDuring:test_ready_tells_the_new_state_and_the_last_of_the_old_one()
  local code, ledger, err = run [[
    local results = knbl.ready { case = "nothing", from = { a, b }, to = b, before = "100ms", settle = "200ms",
      change = function(mark) mark "own" end, expect = "ready_change < 1s" }
    assert(#results == 2 and results[1].metrics.ready.state == "open")
  ]]
  lu.assertEquals(code, 0, err)
  local m, names = ledger.measurements[1], {}
  for _, list in ipairs { ledger.measurements, ledger.expectations } do
    for _, one in ipairs(list) do names[#names + 1] = one.case end
  end
  lu.assertEquals(names, { "nothing, from client", "nothing, from server", "nothing, from client",
    "nothing, from server" }, "each end is judged for itself")
  lu.assertEquals({ m.marks[1].text, m.marks[2].text, m.marks[3].text }, { "change", "own", "changed" })
  lu.assertNil(require "knbl.base.schema".validate(require "knbl.results.contract", ledger))
  lu.assertNil(m.metrics.ready.first)
  lu.assertNil(m.metrics.ready.last) -- an expectation of it must not hold because nothing changed
  lu.assertStrContains(table.concat(m.flags, " "), "no_change")
  lu.assertTrue(m.metrics.ready.change >= 0)
  says([[knbl.ready { from = a, to = b }]], "knbl.ready: change must be a function, got nil")
  says([[knbl.ready { from = {}, to = b, change = print }]], "knbl.ready: from is required")
  says([[knbl.ready { from = a, to = b, change = print, duration = "1s" }]], "knbl.ready: unknown key 'duration'")
end

TestTimeline = {}
function TestTimeline:test_what_came_after_a_mark()
  local line = { step = 0.1, runs = "10o5t3b12o" } -- fails from 1.0 to 1.5 s, blind to 1.8 s, up to 3.0 s
  local after = timeline.after_marks(line, { { t = 0.95, text = "a" }, { t = 1.8, text = "b" }, { t = 5, text = "b" } })
  lu.assertAlmostEquals(after.a.first_fail, 0.05, 1e-9)
  lu.assertAlmostEquals(after.a.last_fail, 0.45, 1e-9)
  lu.assertAlmostEquals(after.a.first_ok, 0.85, 1e-9)
  lu.assertAlmostEquals(after.a.last_ok, 1.95, 1e-9)
  lu.assertNil(after.b.first_fail)
  lu.assertAlmostEquals(after.b.first_ok, 0, 1e-9)
  lu.assertEquals(after["b (2)"], {})
end

function TestTimeline:test_ready()
  local marks = { { t = 0.1, text = "change" }, { t = 0.15, text = "changed" } }
  local function ready(runs)
    local r = timeline.ready({ step = 0.01, runs = runs }, marks)
    return r and { r.state, r.first, r.last, r.change }
  end
  local function is(found, state, first, last)
    lu.assertEquals(found[1], state)
    lu.assertAlmostEquals(found[2], first, 1e-9)
    lu.assertAlmostEquals(found[3], last, 1e-9)
    lu.assertAlmostEquals(found[4], 0.05, 1e-9)
  end
  is(ready "20r5o3r10o", "open", 0.1, 0.17) -- opened, refused again for a moment, open
  is(ready "20o5t3o10t", "closed", 0.1, 0.17) -- the last leak
  is(ready "10r10o", "open", 0, 0)
  is(ready "5o5r12o5b", "open", 0, 0) -- what is blind at the end says nothing
  is(ready "10b10o", "open", 0, 0) -- nothing is known of the state before
  is(ready "12o2t10o", "open", 0, 0.03) -- an outage
  table.insert(marks, 2, { t = 0.12, text = "the script's own" })
  is(ready "20r5o3r10o", "open", 0.1, 0.17)
  for runs, state in pairs { ["5r12o5b"] = "open", ["30t"] = "closed", ["5o2b30o"] = "open" } do
    local found, same = timeline.ready({ step = 0.01, runs = runs }, marks)
    lu.assertEquals({ found.state, found.first, found.last, same }, { state, nil, nil, true }, runs)
    lu.assertAlmostEquals(found.change, 0.05, 1e-9)
  end
  lu.assertNil(ready "5o5b")
  lu.assertNil(ready "12o20b") -- an attempt during the change says nothing about the state after it
end

os.exit(lu.LuaUnit.run())
