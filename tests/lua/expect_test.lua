-- Expectations: what they mean, and where they are wrong.
local lu = require "luaunit"
local core = require "knbl.native"
local expect = require "knbl.results.expect"

TestExpect = {}

local function parsed(source, with_case)
  local e, wrong = expect.parse(core, source, with_case)
  if not e then error(expect.point(wrong), 0) end
  return e
end

function TestExpect:test_quantities_have_the_unit_of_their_figure()
  local list = {
    { "p99 < 1ms", 1e6 }, { "p99 <= 50us", 5e4 }, { "mean > 0", 0 }, { "throughput >= 9Gbit/s", 9e9 },
      { "rate > 20k/s", 20000 },
    { "rate > 20000", 20000 }, { "loss < 0.1%", 0.001 }, { "loss < 0.5", 0.5 }, { "errors == 0", 0 },
      { "cpu < 1.5", 1.5 },
    { "latency_ns.p99 < 2ms", 2e6 }, { "status.5xx == 0", 0 }, { "duration > 5s", 5 }, { "retransmits < 1k", 1000 },
    { "status.5xx < 1k", 1000 }, { "lookup.queries_per_lookup < 4.5", 4.5 }, { "targets.web-1.share > 69%", 0.69 },
  }
  for _, case in ipairs(list) do
    local e = parsed(case[1])
    lu.assertEquals(e.right.kind, "quantity", case[1])
    lu.assertAlmostEquals(e.right.value, case[2], 1e-9 * math.max(1, case[2]), case[1])
  end
end

function TestExpect:test_baselines_and_ratios()
  local e = parsed "p99 < 1.25x baseline"
  lu.assertEquals(e.right, { kind = "baseline", factor = 1.25 })
  lu.assertEquals(parsed("throughput > baseline").right.factor, 1)
  e = parsed '"pod to svc" / "pod to pod" < 1.1'
  lu.assertEquals({ e.left.kind, e.left.a, e.left.b, e.right.value }, { "ratio", "pod to svc", "pod to pod", 1.1 })
  e = parsed "p99 'a' / 'b' <= 2"
  lu.assertEquals(e.left.figure.name, "p99")
end

function TestExpect:test_cases_before_a_colon()
  local e = parsed("service latency: p99 < 1ms", true)
  lu.assertEquals({ e.case, e.source }, { "service latency", "p99 < 1ms" })
  e = parsed('"a: b": p99 < 1ms', true)
  lu.assertEquals(e.case, "a: b")
  lu.assertNil(parsed('"a: b" / "c" < 2', true).case)
end

function TestExpect:test_what_is_wrong_is_pointed_at()
  local list = {
    { "p98x < 1ms", 1, "no figure" }, { "p99 <", 6, "expected a quantity" }, { "p99 < 1furlong", 7, "no quantity" },
    { "p99 < 5", 7, "no quantity" }, { "throughput > 5", 14, "no quantity" }, { "p99 = 1ms", 5, "expected one of" },
      { "p99 < 1ms now", 11, "unexpected" },
    { "", 1, "expected a figure" }, { '"a" < 2', 5, "second case" }, { '"a" / b < 2', 7, "in quotes" },
      { '"a / "b" < 2', 8, "" },
    { '"a', 1, "does not end" }, { "p99 < 1.2x", 11, "baseline" }, { "p99 < 1..2x baseline", 7, "" },
      { '"a" / "b" < 1ms', 13, "plain number" },
    { "errors == -1ms", 11, "no quantity" }, { "p99 < #", 7, "means nothing" }, { "jiter < 1ms", 1, "jitter" },
  }
  for _, case in ipairs(list) do
    local e, wrong = expect.parse(core, case[1])
    lu.assertNil(e, case[1])
    lu.assertEquals(wrong.column, case[2], case[1] .. ": " .. wrong.message)
    lu.assertStrContains(wrong.message, case[3])
    lu.assertStrContains(expect.point(wrong), (" "):rep(4 + case[2] - 1) .. "^")
  end
end

function TestExpect:test_nothing_breaks_the_parser()
  math.randomseed(7)
  local bits = { "p99", "<", "1ms", '"', "'", "/", "x", "baseline", ":", " ", "1.2", "==", "\0", "\255", "%", "(",
    "throughput", "µ", "." }
  for _ = 1, 5000 do
    local words = {}
    for i = 1, math.random(0, 8) do words[i] = bits[math.random(#bits)] end
    local source = table.concat(words, math.random(2) == 1 and " " or "")
    local e, wrong = expect.parse(core, source, math.random(2) == 1)
    lu.assertTrue(e ~= nil or wrong.column >= 1 and wrong.column <= #source + 1, source)
  end
end

os.exit(lu.LuaUnit.run())
