-- Two sides of ledgers: like with like only, what is shown and what is not, limits, and the command itself.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local compare = require "knbl.results.compare"
local expect = require "knbl.results.expect"
local fake = require "fake"
local figures = require "knbl.results.figures"
local json = require "knbl.json"
local ledger = require "knbl.results.ledger"

TestCompare = {}

-- A ledger's data: measurements of one case, a value of `metric` each.
local function book(values, more)
  local b = ledger.new { core = core, scenario = "x" }
  for i, value in ipairs(values) do
    local m = { test = "tcp_rr", case = "c", ok = true, round = i, metrics = { rate_per_s = value, errors = 0 },
      params = { flows = 1, warmup = 1 } }
    for k, v in pairs(more or {}) do
      if k == "params" then
        for key, given in pairs(v) do m.params[key] = given end
      else
        m[k] = v
      end
    end
    b:add(m)
  end
  b.data.provider, b.data.environment = "lab", { kernel = "6.1" }
  return b.data
end

local function run(old, new, options)
  return compare.run(core, compare.side { old }, compare.side { new }, options or {})
end

local slow, fast = { 100, 101, 102, 103, 104, 105 }, { 110, 111, 112, 113, 114, 115 }

function TestCompare:test_a_change_that_is_shown()
  local result = run(book(slow), book(fast))
  lu.assertEquals(#result.comparisons, 1)
  local c = result.comparisons[1]
  lu.assertEquals({ c.figure, c.verdict, c.shown, c.old.n, c.new.n, c.old.value },
    { "rate", "better", true, 6, 6, 102.5 })
  lu.assertAlmostEquals(c.change, 0.0976, 0.001)
  lu.assertTrue(c.low > 0.05 and c.low < c.change and c.change < c.high and c.high < 0.14)
  lu.assertEquals(run(book(fast), book(slow)).comparisons[1].verdict, "worse")
end

function TestCompare:test_no_difference_and_too_few()
  local c = run(book(slow), book { 105, 100, 103, 101, 104, 102 }).comparisons[1]
  lu.assertEquals({ c.verdict, c.shown, c.too_few }, { "none", false, nil })
  c = run(book { 1, 2, 3 }, book { 7, 8, 9 }).comparisons[1]
  lu.assertEquals({ c.verdict, c.shown, c.too_few, c.low }, { "none", false, true, nil })
  c = run(book { 1, 2, 3, 4 }, book { 6, 7, 8, 9 }).comparisons[1]
  lu.assertEquals({ c.verdict, c.shown }, { "better", true })
end

function TestCompare:test_what_may_be_nothing_has_a_difference()
  local function lossy(values)
    local list = {}
    for i in ipairs(values) do list[i] = 1 end
    local data = book(list, { test = "udp_stream" })
    for i, m in ipairs(data.measurements) do m.metrics = { loss_ratio = values[i] } end
    return data
  end
  local c = run(lossy { 0, 0, 0, 0 }, lossy { 0.1, 0.2, 0.3, 0.4 }).comparisons[1]
  lu.assertEquals({ c.figure, c.change, c.verdict }, { "loss", nil, "worse" })
  lu.assertAlmostEquals(c.difference, 0.25, 1e-9)
  c = run(lossy { 0, 0, 0, 0 }, lossy { 0, 0, 0, 0 }).comparisons[1]
  lu.assertEquals({ c.difference, c.verdict, c.p }, { 0, "none", 1 })
end

function TestCompare:test_several_ledgers_are_one_side()
  local result = compare.run(core, compare.side { book { 1, 2 }, book { 3, 4 } },
    compare.side { book { 7 }, book { 8, 9, 10 } }, {})
  local c = result.comparisons[1]
  lu.assertEquals({ c.old.n, c.new.n, c.verdict, result.files }, { 4, 4, "better", { old = 2, new = 2 } })
end

-- Nothing of this can be compared by accident, and each says why.
function TestCompare:test_like_with_like_only()
  for reason, more in pairs {
    ["load closed loop, now open loop at 5000/s"] = { params = { rate = "5000/s" } },
      ["start warm, now cold"] = { params = { warmup = 0 } },
    ["flows 1, now 8"] = { params = { flows = 8 } }, ["via none, now service"] = { via = "service" },
      ["label path none, now far"] = { labels = { path = "far" } },
  } do
    local result = run(book(slow), book(fast, more))
    lu.assertEquals(#result.comparisons, 0, reason)
    lu.assertEquals(result.not_compared, { { test = "tcp_rr", case = "c", reason = reason } })
  end
  local result = run(book(slow), book(fast, { case = "other" }))
  lu.assertEquals({ #result.comparisons, result.not_compared[1].reason, result.not_compared[2].reason },
    { 0, "only in the old ledger", "only in the new ledger" })
end

function TestCompare:test_how_long_was_measured_does_not_matter()
  lu.assertEquals(#run(book(slow, { params = { duration = 1 } }),
    book(fast, { params = { duration = 9, warmup = 3 } })).comparisons, 1)
end

function TestCompare:test_environments()
  local new = book(fast)
  new.environment = { kernel = "6.2" }
  local result = run(book(slow), new)
  lu.assertEquals({ result.refused, #result.comparisons, result.environments[1] }, { true, 0, "kernel 6.1, now 6.2" })
  result = run(book(slow), new, { any_environment = true })
  lu.assertEquals({ result.refused, #result.comparisons, result.environments[1] }, { nil, 1, "kernel 6.1, now 6.2" })
  local mixed = compare.run(core, compare.side { book(slow), new }, compare.side { new }, {})
  lu.assertTrue(mixed.refused)
  local near = { from = { node = "a" }, to = { node = "a", runtime = "runc" } }
  local far = { from = { node = "a" }, to = { node = "b", runtime = "runc" } }
  result = run(book(slow, { path = near }), book(fast, { path = far }))
  lu.assertEquals({ #result.comparisons, result.not_compared[1].reason },
    { 0, "client and server on one node, now on two nodes" })
  result = run(book(slow, { path = far }), book(fast, { path = { from = {}, to = { runtime = "kata" } } }))
  lu.assertEquals(result.not_compared[1].reason, "runtime of the server runc, now kata")
  local function guest(label)
    return { path = { from = {}, to = { runtime = "kata", sandbox = { label = label } } } }
  end
  result = run(book(slow, guest "kata (qemu 7.2.22, kvm)"),
    book(fast, guest "kata (qemu 8.0.0-dev, kvm)"))
  lu.assertEquals(#result.comparisons, 1)
  result = run(book(slow, guest "kata (qemu 7.2.22, kvm)"), book(fast, guest "kata (qemu 7.2.22, emulated)"))
  lu.assertEquals(result.not_compared[1].reason, "runtime of the server kata (qemu, kvm), now kata (qemu, emulated)")
end

-- A ledger of 0.1.0 lacks the parameters that came later; what it measured is what their defaults are.
function TestCompare:test_an_older_version_s_ledger()
  local old = { params = { duration = 3, keepalive = true }, test = "http" }
  local function now(more)
    local params = { duration = 3, keepalive = true, http2 = false, streams = 1, resume = true, reset = false }
    for key, value in pairs(more or {}) do params[key] = value end
    return { params = params, test = "http" }
  end
  lu.assertEquals(#run(book(slow, old), book(fast, now())).comparisons, 1)
  local result = run(book(slow, old), book(fast, now { streams = 10, http2 = true }))
  lu.assertEquals({ #result.comparisons, result.not_compared[1].reason },
    { 0, "http2 false, now true; streams 1, now 10" })
end

function TestCompare:test_the_rate_of_an_open_loop_is_no_finding()
  local more = { params = { rate = "1000/s" } }
  lu.assertEquals(#run(book(slow, more), book(fast, more)).comparisons, 0)
  lu.assertEquals(#run(book(slow, more), book(fast, more), { figures = { "rate" } }).comparisons, 1)
end

function TestCompare:test_times_that_keep_two_apart_have_a_unit()
  local result = run(book(slow, { params = { delay = 0 } }), book(fast, { params = { delay = 0.0001 } }))
  lu.assertEquals(result.not_compared[1].reason, "delay 0 s, now 100 µs")
end

function TestCompare:test_failed_ones_are_named()
  local result = run(book(slow), book({ 1 }, { ok = false, error = { code = "refused", message = "nobody there" } }))
  lu.assertEquals(result.not_compared[1].reason, "new: failed: nobody there")
end

-- ---- limits ----

local function judged(old, new, source)
  local _, matched = run(book(old), book(new))
  return compare.judge(core, matched, { assert(expect.parse_change(core, source)) }, 0.05)[1]
end

function TestCompare:test_limits()
  lu.assertEquals(judged(fast, slow, "rate -5%").status, "fail")
  lu.assertEquals(judged(fast, slow, "c: rate -20%").status, "pass")
  lu.assertEquals(judged(fast, slow, "rate -9.5%").status, "inconclusive")
  lu.assertEquals(judged(slow, fast, "rate -5%").status, "pass", "it became better")
  lu.assertEquals(judged({ 9, 9 }, { 1, 1 }, "rate -5%").status, "inconclusive", "two are too few")
  lu.assertStrContains(judged({ 9, 9 }, { 1, 1 }, "rate -5%").reason, "too few")
  lu.assertEquals(judged(slow, slow, "d: rate -5%").status, "error")
  lu.assertEquals(judged(slow, slow, "p99 +5%").status, "error", "it was not measured")
  lu.assertStrContains(judged(fast, slow, "rate -5%").reason, "rate 103 /s, was 113 /s: -8.9 %, between")
end

function TestCompare:test_broken_limits_point_at_the_column()
  for source, expected in pairs {
    ["throughputt -5%"] = { 1, "did you mean 'throughput'" }, ["throughput 5%"] = { 12, "with its sign" },
      ["throughput -5"] = { 12, "with its sign" },
    ["c: p99 +10% x"] = { 13, "unexpected 'x'" }, ["p99 < 5ms"] = { 5, "with its sign" },
      [": p99 +1%"] = { 1, "no case" },
    ["p99 -10%"] = { 5, "write +10% for what is worse" }, ["throughput +5%"] = { 12, "write -5% for what is worse" },
      ["p99"] = { 4, "the end" },
    ["p99 +0%"] = { 5, "no limit" }, ['"a" / "b" +5%'] = { 1, "expected a figure" },
  } do
    local parsed, wrong = expect.parse_change(core, source)
    lu.assertNil(parsed, source)
    lu.assertEquals({ wrong.column, wrong.message:find(expected[2], 1, true) ~= nil }, { expected[1], true },
      source .. ": " .. wrong.message)
  end
  lu.assertEquals(expect.parse_change(core, "ops -5%").change, -0.05)
  lu.assertEquals(expect.parse_change(core, "ops +5%").change, 0.05)
end

function TestCompare:test_what_was_not_measured_again_is_no_silent_pass()
  local old, new = book(fast), book(fast)
  for _, data in ipairs { old, new } do
    for _, m in ipairs(book(fast, { case = "other" }).measurements) do table.insert(data.measurements, m) end
  end
  for _, m in ipairs(new.measurements) do
    if m.case == "other" then m.ok, m.metrics, m.skipped = false, {}, "no such runtime" end
  end
  local _, matched = compare.run(core, compare.side { old }, compare.side { new }, {})
  local list = compare.judge(core, matched, { assert(expect.parse_change(core, "rate -5%")) }, 0.05)
  lu.assertEquals({ #list, list[1].status, list[2].status, list[2].reason },
    { 2, "pass", "inconclusive", "new: skipped: no such runtime" })
end

-- ---- the command ----

local paths = {}
local function file_of(data)
  local path = os.tmpname()
  paths[#paths + 1] = path
  local f = assert(io.open(path, "w"))
  f:write(json.encode(data))
  f:close()
  return path
end

function TestCompare:tearDown()
  for _, path in ipairs(paths) do os.remove(path) end
  paths = {}
end

local function knbl(...) return fake.knbl(nil, { "compare", ... }) end

function TestCompare:test_the_command()
  local old, new = file_of(book(fast)), file_of(book(slow))
  local code, out, err = knbl(old, new)
  lu.assertEquals(code, 0, err)
  lu.assertEquals(out, [[
test    case  figure            old            new        change     95 % interval      p    n
──────────────────────────────────────────────────────────────────────────────────────────────
tcp_rr  c     rate    113 /s ±2.2 %  103 /s ±2.4 %  -8.9 % worse  -11.3 % … -6.4 %  0.002  6+6
0 better, 1 worse, 0 where no difference is shown (~)
with one run a side, what changed between the runs for another reason counts too: compare several runs, taken in turn
]])
  code, out = knbl(old, new, "--fail-if", "rate -5%", "--markdown", "-", "-q")
  lu.assertEquals(code, 99)
  lu.assertStrContains(out, "| ❌ | tcp\\_rr c: rate -5% |")
  lu.assertStrContains(out, "| **-8.9 % worse** |")
  lu.assertEquals((knbl(new, old, "--fail-if", "rate -5%")), 0)
  lu.assertEquals((knbl(old, new, "--fail-if", "p99 +5%")), 2)
  lu.assertEquals((knbl(old, new, "--fail-if", "rate -9%")), 98)
end

function TestCompare:test_files_for_people_and_ci()
  local old, new = file_of(book(fast)), file_of(book(slow))
  local code, out = knbl(old, new, "--fail-if", "rate -5%", "--html", "-", "-q")
  lu.assertEquals(code, 99)
  for _, part in ipairs { '<span class="verdict fail">fail</span> 1 of 1 limits broken', "Figures, old and new",
    'class="n worse">-8.9 % worse' } do
    lu.assertStrContains(out, part)
  end
  code, out = knbl(old, new, "--fail-if", "rate -5%", "--junit", "-", "-q")
  lu.assertEquals(code, 99)
  lu.assertStrContains(out, '<testsuite name="knbl compare expectations" tests="1" failures="1"')
  lu.assertStrContains(out, 'name="tcp_rr c: rate -5%"')
  -- another machine: the limits are not held, and do not pass either
  local elsewhere = book(slow)
  elsewhere.environment.kernel = "7.0"
  code, out = knbl(old, file_of(elsewhere), "--fail-if", "rate -5%", "--junit", "-", "-q")
  lu.assertEquals(code, 98)
  lu.assertStrContains(out, '<skipped message="inconclusive: not compared: the environments differ"/>')
end

function TestCompare:test_several_files_a_side()
  local a, b, c, d = file_of(book { 1, 2 }), file_of(book { 3, 4 }), file_of(book { 7, 8 }), file_of(book { 9, 10 })
  for _, words in ipairs { { a .. "," .. b, c .. "," .. d }, { a, b, "--", c, d } } do
    local code, out, err = knbl((table.unpack or unpack)(words))
    lu.assertEquals(code, 0, err)
    lu.assertStrContains(out, "4+4")
    lu.assertNotStrContains(out, "one run a side")
  end
  lu.assertEquals((knbl(a, b, c)), 2)
  lu.assertEquals((knbl(a)), 2)
  lu.assertEquals((knbl(a, "--")), 2)
end

function TestCompare:test_as_json()
  local code, out = knbl(file_of(book(fast)), file_of(book(slow)), "--json", "-", "-q", "--fail-if", "rate -5%")
  lu.assertEquals(code, 99)
  local data = json.decode(out)
  lu.assertEquals({ data.alpha, data.verdict.status, data.comparisons[1].verdict, data.comparisons[1].old.value,
    data.expectations[1].status },
    { 0.05, "fail", "worse", 112.5, "fail" })
end

function TestCompare:test_other_environments_are_not_compared()
  local other = book(slow)
  other.environment.kernel = "6.2"
  local old, new = file_of(book(fast)), file_of(other)
  local code, out, err = knbl(old, new, "--fail-if", "rate -5%")
  lu.assertEquals(code, 98)
  lu.assertStrContains(out, "kernel 6.1, now 6.2")
  lu.assertStrContains(err, "not compared")
  lu.assertNotStrContains(out, "-8.9 %")
  code, out = knbl(old, new, "--fail-if", "rate -5%", "--any-environment")
  lu.assertEquals(code, 99)
  lu.assertStrContains(out, "the environments differ: kernel 6.1, now 6.2")
end

function TestCompare:test_wrong_command_lines()
  local old = file_of(book(fast))
  for _, case in ipairs {
    { "--fail-if", "p98x +5%", "column 1" }, { "--figure", "p98x", "is no figure" },
      { "--alpha", "0.7", "between 0 and 0.5" },
    { "--json", "/nonexistent/x", "cannot write" }, { "--markdown", "/nonexistent/x", "cannot write" },
      { "--fial-if", "x", "did you mean '--fail-if'" },
  } do
    local code, _, err = knbl(old, old, case[1], case[2])
    lu.assertEquals(code, 2, err)
    lu.assertStrContains(err, case[3])
  end
  local code, _, err = knbl(old, "/nonexistent.json")
  lu.assertEquals(code, 2)
  lu.assertStrContains(err, "/nonexistent.json")
  lu.assertEquals((knbl(old, file_of(book({ 1 }, { case = "other" })))), 98)
end

function TestCompare:test_a_run_beside_its_baseline()
  local script = fake.pair .. "knbl.tcp_rr { case = 'c', from = a, to = b }"
  local path = os.tmpname()
  paths[1] = path
  lu.assertEquals((fake.knbl(script, { "--repeats", "5", "--json", path, "-q" })), 0)
  local code, out, err = fake.knbl(script, { "--repeats", "5", "--baseline", path })
  lu.assertEquals(code, 0, err)
  lu.assertStrContains(out, "where no difference is shown (~)")
  lu.assertStrContains(out, "5+5")
  local again = os.tmpname()
  paths[2] = again
  lu.assertEquals((fake.knbl(script, { "--repeats", "5", "--baseline", path, "--json", again })), 0)
  local _, shown = fake.knbl(nil, { "report", again })
  lu.assertStrContains(shown, "where no difference is shown (~)")
  local _, copy = fake.knbl(nil, { "report", again, "--json", "-", "-q" })
  lu.assertEquals(copy, fake.read(again))
  local _, markdown = fake.knbl(nil, { "report", again, "--markdown", "-", "-q" })
  lu.assertStrContains(markdown, "| 95 % interval |")
  local _, page = fake.knbl(nil, { "report", again, "--html", "-", "-q" })
  lu.assertStrContains(page, "Beside the baseline")
end

function TestCompare:test_every_default_figure_exists()
  for _, test in ipairs(require("knbl.base.tests").list) do
    lu.assertTrue(#test.compare > 0)
    for _, name in ipairs(test.compare) do lu.assertTrue(figures.get(name) ~= nil, name) end
  end
end

os.exit(lu.LuaUnit.run())
