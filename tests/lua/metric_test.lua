-- Figures of a script's own, and what scripts read: metrics, columns that are functions, statistics, --only, lists.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local fake = require "fake"
require("knbl.program.output").is_ascii = function() return false end -- whatever the locale here
local json = require "knbl.json"

TestMetric = {}

local function ledger_of(script, words)
  local argv = { "--json", "-", "-q" }
  for _, word in ipairs(words or {}) do argv[#argv + 1] = word end
  local code, out, err = fake.knbl(fake.pair .. script, argv)
  lu.assertEquals(code, 0, err)
  return json.decode(out)
end

function TestMetric:test_a_metric_is_a_measurement()
  local script = [[
    for c in knbl.matrix { { "path", "near", "far" } } do
      knbl.tcp_rr { from = a, to = b }
      knbl.metric { name = "cost", unit = "ms", value = c.path == "near" and 3.25 or 40, better = "less",
        expect = "value < 50" }
    end
    knbl.report { rows = "path", columns = { { "rate", test = "tcp_rr" }, { "cost", "value", test = "metric" } } }
  ]]
  local code, out, err = fake.knbl(fake.pair .. script, {})
  lu.assertEquals(code, 0, err)
  lu.assertStrMatches(out, ".*\nnear +50%.0 k/s +3%.25 ms\nfar +50%.0 k/s +40 ms\n.*")
  lu.assertStrContains(out, "✓ metric near: value < 50 (value is 3.25)")
  local m = ledger_of(script).measurements[2]
  lu.assertEquals({ m.test, m.case, m.metrics.value, m.metric, m.labels.path },
    { "metric", "near", 3.25, { name = "cost", unit = "ms", better = "less" }, "near" })
end

-- Each in a chart of its own, with its unit: bars of euros and of requests say nothing beside one another.
function TestMetric:test_metrics_of_two_kinds_have_two_charts()
  local data = ledger_of [[
    for _, case in ipairs { "x", "y" } do
      knbl.metric { name = "cost", case = case, value = 3.5, unit = "EUR", better = "less" }
      knbl.metric { name = "requests", case = case, value = 21000, better = "more" }
      for round = 1, 6 do knbl.metric { name = "ratio", case = case, value = round } end
    end]]
  local page = require("knbl.format.html").render(data, { core = require "knbl.native" })
  lu.assertStrContains(page, "metric: cost <small>less is better<")
  lu.assertStrContains(page, "metric: requests <small>more is better<")
  lu.assertStrContains(page, "metric: ratio <small>with 95 % intervals<")
  lu.assertStrContains(page, "3.50 EUR")
  lu.assertNotStrContains(page, "metric: value")
end

function TestMetric:test_the_case_may_be_the_combination()
  local data = ledger_of [[
    for c in knbl.matrix { { "path", "near", { "far", b } }, { "n", 1 } } do
      knbl.metric { name = "cost", value = 1, case = c }
    end]]
  lu.assertEquals({ data.measurements[1].case, data.measurements[2].case }, { "near n 1", "far n 1" })
end

function TestMetric:test_its_unit_is_shown_beside_other_tests_in_the_row()
  local _, out = fake.knbl(fake.pair .. [[
    for c in knbl.matrix { { "path", "near" } } do
      knbl.tcp_rr { from = a, to = b }
      knbl.metric { name = "cost", unit = "ms", value = 40 }
    end
    knbl.report { rows = "path", columns = { "rate", { "cost", "value" } } }]], {})
  lu.assertStrMatches(out, ".*\nnear +50%.0 k/s +40 ms\n.*")
end

function TestMetric:test_a_metric_of_what_only_leaves_out_is_left_out()
  local data = ledger_of([[
    for c in knbl.matrix { { "path", "near", "far" } } do
      local r = knbl.tcp_rr { from = a, to = b }
      knbl.metric { name = "cost", value = r.metrics.cpu.client_process / r.metrics.rate_per_s, expect = "value > 0" }
    end]], { "--only", "near" })
  local cases = {}
  for _, m in ipairs(data.measurements) do cases[#cases + 1] = ("%s %s"):format(m.test, m.case) end
  lu.assertEquals({ cases[1], cases[2], data.verdict.status }, { "tcp_rr near", "metric near", "pass" })
end

function TestMetric:test_a_note_that_a_loop_makes_again_is_kept_once()
  local data = ledger_of "for i = 1, 4 do knbl.note 'same' knbl.note { n = i // 2, ratio = 0 / 0 } end"
  local seen = {}
  for i, note in ipairs(data.notes) do seen[i] = note.text or note.n end
  lu.assertEquals(seen, { "same", 0, 1, 2 })
end

function TestMetric:test_a_whole_number_is_shown_as_one()
  local _, out = fake.knbl(fake.pair .. [[
    knbl.metric { name = "rounds", value = 30 }
    knbl.metric { name = "large", value = 123456, unit = "/s" }
    knbl.metric { name = "part", value = 30.25 }]], {})
  lu.assertStrMatches(out, ".* 30\n.* 123456 /s\n.* 30%.2\n.*")
end

function TestMetric:test_metrics_are_compared()
  local function file(value)
    local path = os.tmpname()
    local code, _, err = fake.knbl(fake.pair
      .. ("knbl.metric { name = 'cost', unit = 'ms', value = %g + 0.01 * (_n or 0), "
      .. "better = 'less' } _n = (_n or 0) + 1"):format(value), { "--repeats", "5", "-q", "--json", path })
    lu.assertEquals(code, 0, err)
    rawset(_G, "_n", nil)
    return path
  end
  local old, new = file(3), file(4)
  local code, out, err = fake.knbl(nil, { "compare", old, new, "--fail-if", "value +10%" })
  lu.assertEquals(code, 99, err)
  lu.assertStrMatches(out, ".*metric +cost +cost +3%.02 ms +4%.02 ms +%+33%.1 %% worse.*")
  os.remove(old)
  os.remove(new)
end

function TestMetric:test_what_is_no_metric_is_refused()
  for body, text in pairs {
    ["5"] = "takes a table, got number", ["{ value = 1 }"] = "name must be a non-empty string, got nil",
    ["{ name = 'x', value = 1 / 0 }"] = "value must be a finite number, got inf",
    ["{ name = 'x', value = '3' }"] = "value must be a finite number, got a string",
    ["{ name = 'x', value = 1, bettr = 'less' }"] = "unknown key 'bettr', did you mean 'better'",
    ["{ name = 'x', value = 1, better = 'low' }"] = 'better must be "less" or "more", got low',
  } do
    local code, _, err = fake.knbl(fake.pair .. "knbl.metric(" .. body .. ")")
    lu.assertEquals(code, 1)
    lu.assertStrContains(err, "SCRIPT:2: knbl.metric")
    lu.assertStrContains(err, text)
  end
end

local with_function = [[
  for c in knbl.matrix { { "path", "near", "far" } } do
    knbl.tcp_rr { from = a, to = b }
    knbl.tcp_stream { from = a, to = b }
  end
  local function bits(row) return row.tcp_stream.metrics.throughput_bps / row.tcp_rr.metrics.rate_per_s end
  knbl.report { rows = "path", columns = { { "rate", test = "tcp_rr" },
    { "bits per request", bits, unit = "bit", better = "more" } } }
]]

function TestMetric:test_a_column_may_be_a_function()
  local code, out, err = fake.knbl(fake.pair .. with_function, {})
  lu.assertEquals(code, 0, err)
  lu.assertStrMatches(out, "path +rate +bits per request\n.*\nnear +50%.0 k/s +188200 bit\n.*")
  local path = os.tmpname()
  fake.knbl(fake.pair .. with_function, { "-q", "--json", path, "--repeats", "6" })
  local again, shown = fake.knbl(nil, { "report", path })
  lu.assertEquals(again, 0)
  lu.assertStrMatches(shown, ".*\nnear .* 188200 bit.*")
  local n = 0
  for _, m in ipairs(json.decode(fake.read(path)).measurements) do n = n + (m.test == "metric" and 1 or 0) end
  lu.assertEquals(n, 12, "one for each row and round")
  os.remove(path)
end

function TestMetric:test_a_function_that_fails()
  local script = "knbl.tcp_rr { from = a, to = b }\n\z
    knbl.report { columns = { { 'x', function(row) return row.y.z end } } }"
  local code, _, err = fake.knbl(fake.pair .. script, {})
  lu.assertEquals(code, 1)
  lu.assertStrContains(err, "SCRIPT:3: knbl.report: column 'x': ")
  code, _, err = fake.knbl(fake.pair .. with_function, { "--only", "tcp_rr" })
  lu.assertEquals(code, 0, err, "what it needs was left out")
end

function TestMetric:test_the_case_may_be_what_a_matrix_gives()
  local data = ledger_of("for c in knbl.matrix { { 'flows', 1, 8 } } do knbl.tcp_rr { case = c, from = a, to = b } end")
  lu.assertEquals({ data.measurements[1].case, data.measurements[2].case }, { "flows 1", "flows 8" })
end

function TestMetric:test_statistics_for_scripts()
  local data = ledger_of([[
    local low, high = knbl.interval { 1, 2, 3, 4, 5, 6 }
    knbl.note { median = knbl.median { 3, 1, 2 }, low = low, high = high, none = tostring(knbl.interval { 1, 2 }),
      p = knbl.rank_test({ 1, 2, 3, 4 }, { 5, 6, 7, 8 }) }
    knbl.tcp_rr { from = a, to = b }]])
  local note = data.notes[1]
  lu.assertEquals({ note.median, note.low, note.high, note.none }, { 2, 1, 6, "nil" })
  lu.assertAlmostEquals(note.p, 2 / 70, 1e-9)
  local code, _, err = fake.knbl(fake.pair .. "knbl.median { 1, 'x' }", {})
  lu.assertEquals(code, 1)
  lu.assertStrContains(err, "SCRIPT:2: knbl.median: value 2 must be a finite number, got x")
end

function TestMetric:test_what_only_leaves_out_can_be_read()
  local data = ledger_of([[
    local r = knbl.tcp_rr { case = "left out", from = a, to = b }
    knbl.tcp_rr { case = "kept", from = a, to = b }
    local us = r.metrics.latency_ns.p50 / 1000
    knbl.note { text = ("%.1f %s"):format(us, tostring(r.metrics.rate_per_s > 5)) }
    for _ in ipairs(r.metrics.intervals) do error "none" end]], { "--only", "kept" })
  lu.assertEquals(#data.measurements, 1)
  lu.assertStrMatches(data.notes[1].text, "%-?nan false")
end

function TestMetric:test_a_list_keeps_the_type_of_its_default()
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write("local o = require('knbl').options { mtus = { { 1500, 9000 }, 'x' } }\n" .. fake.pair
    .. "knbl.note { kind = math.type(o.mtus[1]) } knbl.tcp_rr { from = a, to = b }")
  file:close()
  local code, out = fake.knbl(nil, { path, "--mtus", "1400", "--json", "-", "-q" })
  lu.assertEquals({ code, json.decode(out).notes[1].kind }, { 0, "integer" })
  local wrong, _, err = fake.knbl(nil, { path, "--mtus", "big" })
  lu.assertEquals(wrong, 2)
  lu.assertStrContains(err, "--mtus must be a list of numbers, got 'big'")
  os.remove(path)
end

function TestMetric:test_an_interruption_keeps_what_was_measured()
  local used = fake.core()
  local run = used.run
  used.interrupted = function() return #used.asked > 1 end
  used.run = function(...)
    local made = run(...)
    if #used.asked > 1 then made.wait = function() return nil, { code = "interrupted", message = "interrupted" } end end
    return made
  end
  local code, out = fake.knbl(fake.pair
    .. "knbl.tcp_rr { case = 'one', from = a, to = b } knbl.tcp_rr { case = 'two', from = a, to = b }",
    { "--json", "-", "-q" }, used)
  lu.assertEquals(code, 130)
  local m = json.decode(out).measurements[2]
  lu.assertEquals({ m.case, m.ok, m.metrics.rate_per_s, m.flags }, { "two", true, 50000, { "stopped" } })
end

-- ---- outputs ----

local two = "knbl.tcp_rr { case = 'one', from = a, to = b } knbl.tcp_rr { case = 'two', from = a, to = b, "
  .. "expect = 'p99 < 1ns' }"

function TestMetric:test_a_line_for_each_measurement()
  local code, out, err = fake.knbl(fake.pair .. two, { "--json-stream", "-" })
  lu.assertEquals(code, 99)
  local cases = {}
  for line in out:gmatch "[^\n]+" do cases[#cases + 1] = json.decode(line).case end
  lu.assertEquals(cases, { "one", "two" })
  lu.assertStrContains(err, "✗ tcp_rr two: p99 < 1ns", nil, "the tables go to the other output")
end

function TestMetric:test_the_plan_as_json()
  local code, out = fake.knbl(fake.pair .. two, { "--dry-run", "--json", "-", "--repeats", "3", "--duration", "2s" })
  local plan = json.decode(out)
  lu.assertEquals({ code, #plan.measurements, plan.rounds, plan.provider, plan.partial },
    { 0, 2, 3, "loopback", false })
  lu.assertStrMatches(out, '.*"seconds": [%d.]+,\n.*')
  for seconds in out:gmatch '"seconds": ([%d.]+)' do lu.assertTrue(#seconds < 8, seconds) end
  local m = plan.measurements[2]
  lu.assertEquals({ m.test, m.case, m.via, m.params.duration, m.expect }, { "tcp_rr", "two", "loopback", 2,
    { "p99 < 1ns" } })
  lu.assertTrue(plan.seconds > 12)
end

function TestMetric:test_quiet_names_what_failed()
  local code, out, err = fake.knbl(fake.pair .. two, { "-q" })
  lu.assertEquals({ code, out }, { 99, "" })
  lu.assertStrMatches(err, "knbl: ✗ tcp_rr two: p99 < 1ns %(.*%)\nknbl: 1 of 1 expectations failed\n")
  local used = fake.core(function() return nil, { code = "protocol", message = "broken" } end)
  local failed, _, why = fake.knbl(fake.pair .. "knbl.tcp_rr { case = 'x', from = a, to = b }", { "-q" }, used)
  code, err = failed, why
  lu.assertEquals(code, 1)
  lu.assertStrContains(err, "knbl: failed: tcp_rr x: broken\n")
end

function TestMetric:test_outputs_of_a_comparison_say_what_was_compared()
  local path = os.tmpname()
  fake.knbl(fake.pair .. two, { "-q", "--json", path })
  local started = json.decode(fake.read(path)).started
  local _, out = fake.knbl(nil, { "compare", path, "--", path, "--markdown", "-", "-q" })
  lu.assertStrContains(out, "✅ **pass** there was no limit to hold")
  lu.assertStrContains(out, "- old: " .. path:gsub("_", "\\_"))
  lu.assertStrContains(out, started)
  _, out = fake.knbl(nil, { "compare", path, path, "--junit", "-", "-q", "--fail-if", "p99 +5%" })
  lu.assertStrContains(out, ('timestamp="%s" hostname="loopback"'):format(started:sub(1, 19)))
  _, out = fake.knbl(nil, { "compare", path, path, "--json", "-", "-q" })
  lu.assertEquals(json.decode(out).sources.new[1].file, path)
  os.remove(path)
end

function TestMetric:test_openmetrics_carries_scenario_repeat_and_labels()
  local script = "for c in knbl.matrix { { 'net path', 'near' }, repeats = 2 } do knbl.tcp_rr { from = a, to = b } end "
    .. "knbl.metric { name = 'cost', unit = 'ms', value = 5 } knbl.metric { name = 'cost', unit = 'ms', value = 6 }"
  local _, out = fake.knbl(fake.pair .. script, { "--openmetrics", "-", "-q" })
  lu.assertStrContains(out,
    'knbl_rate_per_second{scenario="SCRIPT",test="tcp_rr",case="near",from="client",to="server",'
    .. 'via="loopback",repeat="2",size="1",label_net_path="near"} 50000\n')
  lu.assertStrContains(out, 'repeat="1",metric="cost",unit="ms"} 5\n')
  lu.assertStrContains(out, 'repeat="1",metric="cost",unit="ms",again="2"} 6\n')
end

os.exit(lu.LuaUnit.run())
