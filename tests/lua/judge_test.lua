-- The verdict: holds, fails, cannot be told; what matches nothing is an error.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local compare = require "knbl.results.compare"
local expect = require "knbl.results.expect"
local fake = require "fake"
require("knbl.program.output").is_ascii = function() return false end -- whatever the locale here
local judge = require "knbl.results.judge"
local ledger = require "knbl.results.ledger"

TestJudge = {}

local function book_of(measurements)
  local book = ledger.new { core = core, scenario = "x" }
  for _, m in ipairs(measurements) do
    m.test, m.case = m.test or "tcp_rr", m.case or "c"
    m.ok = m.ok ~= false
    book:add(m)
  end
  return book.data
end

local function latency(value, n, more)
  local l = { count = n, mean = value, stddev = value / 100, p50 = value, p99 = value, p999 = value, max = value }
  for k, v in pairs(more or {}) do l[k] = v end
  return { metrics = { latency_ns = l, rate_per_s = 1e9 / value, errors = 0, sent = n },
    latency_histogram = fake.histogram(value, n) }
end

local function parse(list)
  local all = {}
  for i, source in ipairs(list) do all[i] = assert(expect.parse(core, source, true)) end
  return all
end

local function verdict(measurements, sources, baseline)
  local data = book_of(measurements)
  local v = judge.run(core, data, parse(sources or {}), baseline and compare.side { baseline })
  return v, data.expectations
end

function TestJudge:test_holds_and_fails()
  local v, list = verdict({ latency(200, 10000) }, { "p99 < 1us", "c: errors == 0" })
  lu.assertEquals({ v.status, v.exit, #list, list[1].status }, { "pass", 0, 2, "pass" })
  v, list = verdict({ latency(200, 10000) }, { "p99 < 0.1us" })
  lu.assertEquals({ v.status, v.exit, list[1].status }, { "fail", 99, "fail" })
  lu.assertStrContains(list[1].reason, "p99 is 200 ns")
end

-- A connection that could not be made is an error too.
function TestJudge:test_errors_include_those_of_connections()
  local refused = latency(200, 1000)
  refused.metrics.connect_errors = 3
  local v, list = verdict({ refused }, { "errors == 0" })
  lu.assertEquals({ v.exit, list[1].status, list[1].reason }, { 99, "fail", "errors is 3" })
end

function TestJudge:test_too_few_samples_are_inconclusive_never_a_pass()
  local late = { max = 2e9 }
  local v, list = verdict({ latency(200, 999, late) }, { "p99 < 1s" })
  lu.assertEquals({ v.status, v.exit }, { "inconclusive", 98 })
  lu.assertStrContains(list[1].reason, "999 samples; p99 needs 1000, or 299 that all hold the limit")
  lu.assertEquals(verdict({ latency(200, 1000, late) }, { "p99 < 1s" }).exit, 0)
  lu.assertEquals(verdict({ latency(200, 9999, late) }, { "p999 < 1s" }).exit, 98)
  lu.assertEquals(verdict({ latency(200, 29) }, { "mean < 1s" }).exit, 98)
  local lossy = { test = "udp_stream", metrics = { loss_ratio = 0, sent = 2000 } }
  lu.assertEquals(verdict({ lossy }, { "loss < 0.1%" }).exit, 98)
  lossy = { test = "udp_stream", metrics = { loss_ratio = 0, sent = 3000 } }
  lu.assertEquals(verdict({ lossy }, { "loss < 0.1%" }).exit, 0)
end

-- Where a percentile held the limit, the chance that not even one of n samples does is (1 - share)^n at most.
function TestJudge:test_a_limit_that_not_even_the_minimum_holds_has_failed()
  local v, list = verdict({ latency(4e6, 600, { min = 3e6, p9999 = 4e6 }) }, { "p9999 < 1us" })
  lu.assertEquals({ v.exit, list[1].status, list[1].reason },
    { 99, "fail", "even the minimum of 600 samples is 3.00 ms" })
  lu.assertEquals(verdict({ latency(4e6, 1, { min = 4e6 }) }, { "p99 < 1ms" }).exit, 99)
  lu.assertEquals(verdict({ latency(4e6, 4, { min = 4e6 }) }, { "p50 < 1ms" }).exit, 98, "4 of 4 by chance: 6 %")
  lu.assertEquals(verdict({ latency(4e6, 5, { min = 4e6 }) }, { "p50 < 1ms" }).exit, 99)
  lu.assertEquals(verdict({ latency(4e6, 600, { min = 3e6, p9999 = 4e6 }) }, { "p9999 < 3.5ms" }).exit, 98)
end

-- Where all of n samples hold a limit, the chance that the percentile does not is below share^n.
function TestJudge:test_a_limit_that_even_the_maximum_holds_is_held()
  local v, list = verdict({ latency(4e6, 600, { max = 4.48e6 }) }, { "p99 < 20ms" })
  lu.assertEquals({ v.exit, list[1].status, list[1].reason },
    { 0, "pass", "even the maximum of 600 samples is 4.48 ms" })
  lu.assertEquals(verdict({ latency(4e6, 299) }, { "p99 < 20ms" }).exit, 0)
  lu.assertEquals(verdict({ latency(4e6, 298) }, { "p99 < 20ms" }).exit, 98)
  lu.assertEquals(verdict({ latency(4e6, 600, { max = 21e6 }) }, { "p99 < 20ms" }).exit, 98)
  lu.assertEquals(verdict({ latency(4e6, 600) }, { "p99 > 1ms" }).exit, 98, "the maximum is no lower bound")
end

function TestJudge:test_repeats_pool_their_samples()
  local function repeats(n, count, more)
    local list = {}
    for i = 1, n do list[i] = latency(200 + i, count, more) end
    return list
  end
  local late = { max = 2e9 }
  lu.assertEquals(verdict(repeats(2, 499, late), { "p99 < 1s" }).exit, 98)
  lu.assertEquals(verdict(repeats(2, 500, late), { "p99 < 1s" }).exit, 0)
  lu.assertEquals(verdict(repeats(3, 100), { "p99 < 1s" }).exit, 0, "the maximum of 300")
  lu.assertEquals(verdict(repeats(3, 10), { "mean < 1s" }).exit, 0)
end

function TestJudge:test_unreachable()
  local function refused(code)
    return { ok = false, error = { code = code or "refused", message = "refused by 10.0.0.1" },
      expect = { "unreachable" } }
  end
  local v, list = verdict { refused(), refused "timeout", refused "unreachable" }
  lu.assertEquals({ v.exit, v.measured, v.failed, list[1].status, list[1].reason },
    { 0, 3, 0, "pass", "refused by 10.0.0.1" })
  local answered = latency(200, 10000)
  answered.expect = { "unreachable" }
  v, list = verdict { answered }
  lu.assertEquals({ v.exit, list[1].reason }, { 99, "it answered" })
  v, list = verdict { refused "protocol" }
  lu.assertEquals({ v.exit, list[1].status }, { 1, "inconclusive" }, "another failure is no refusal")
  lu.assertEquals(verdict { { ok = false, skipped = "no such thing", expect = { "unreachable" } } }.exit, 98)
  lu.assertEquals(verdict({ { ok = false, error = { code = "refused", message = "x" } } }, { "c: unreachable" }).exit,
    0)
  lu.assertEquals(verdict({ latency(200, 10000) }, { "c: reachable" }).exit, 0)
  lu.assertEquals(verdict({ { ok = false, error = { code = "refused", message = "x" } } }, { "c: reachable" }).exit, 99)
  lu.assertNil(expect.parse(core, "unreachable < 5"))
end

function TestJudge:test_a_refusal_that_was_wanted_is_shown_as_such()
  local used = fake.core(function() return nil, { code = "refused", message = "refused" } end)
  local code, out, err = fake.knbl(fake.pair .. "knbl.tcp_rr { case = 'x', from = a, to = b, expect = 'unreachable' }",
    { "--junit", "-" }, used)
  lu.assertEquals(code, 0, err)
  lu.assertStrContains(err, "tcp_rr x (loopback): unreachable, as expected: refused\n")
  lu.assertStrContains(err, "unreachable [1]")
  lu.assertStrContains(err, "✓ tcp_rr x: unreachable (refused)")
  lu.assertStrContains(out, 'errors="0"')
  lu.assertNotStrContains(out, "<error")
end

function TestJudge:test_what_was_not_measured_is_inconclusive()
  lu.assertEquals(verdict({ { metrics = { rate_per_s = 1 } } }, { "c: jitter < 1ms" }).exit, 98)
  lu.assertEquals(verdict({ { ok = false, skipped = "no kata" } }, { "c: p99 < 1ms" }).exit, 98)
end

function TestJudge:test_a_limit_inside_the_interval_is_inconclusive()
  local m = latency(200, 100, { mean = 200, stddev = 100 })   -- 200 ± 19.6
  local v, list = verdict({ m }, { "mean < 210ns" })
  lu.assertEquals({ v.exit, list[1].status }, { 98, "inconclusive" })
  lu.assertStrContains(list[1].reason, "too uncertain")
  m = latency(200, 100, { mean = 200, stddev = 100 })
  lu.assertEquals(verdict({ m }, { "mean < 230ns" }).exit, 0)
  m = latency(200, 100, { mean = 200, stddev = 100 })
  lu.assertEquals(verdict({ m }, { "mean < 170ns" }).exit, 99)
end

-- An interval does not go where the figure cannot.
function TestJudge:test_an_interval_ends_at_zero()
  local bursts = { test = "tcp_stream", metrics = { throughput_bps = 1e6, intervals = { { bps = 5e6 }, { bps = 0 },
    { bps = 0 }, { bps = 0 }, { bps = 0 } } } }
  local _, list = verdict({ bursts }, { "throughput > 500kbit/s" })
  lu.assertStrContains(list[1].reason, "between 0 bit/s and ")
  _, list = verdict({ latency(200, 30, { stddev = 2000 }) }, { "mean > 150ns" })
  lu.assertStrContains(list[1].reason, "between 0 ns and ")
end

function TestJudge:test_matching_nothing_is_an_error()
  local v = verdict({ latency(200, 10000) }, { "nosuch: p99 < 1ms" })
  lu.assertEquals({ v.status, v.exit }, { "error", 2 })
  v = verdict({ latency(200, 10000) }, { '"c" / "d" < 2' })
  lu.assertEquals({ v.status, v.exit }, { "error", 2 })
  local m = latency(200, 10000)
  m.expect = { '"c" / "d" < 2' }
  v = verdict({ m })
  lu.assertEquals({ v.status, v.exit }, { "error", 1 })
end

function TestJudge:test_what_a_test_does_not_measure_is_no_case_of_it()
  local stream = { test = "tcp_stream", metrics = { throughput_bps = 1e9 } }
  local v, list = verdict({ latency(200, 10000), stream }, { "c: p99 < 1ms" })
  lu.assertEquals({ v.exit, #list, list[1].test }, { 0, 1, "tcp_rr" })
  v, list = verdict({ latency(200, 10000), { test = "udp_rr", ok = false, skipped = "no kata" } }, { "c: p99 < 1ms" })
  lu.assertEquals({ v.exit, #list }, { 98, 2 })
  v, list = verdict({ latency(200, 10000), { test = "tcp_stream", metrics = { throughput_bps = 1e9 } } },
    { "TCP_STREAM c: throughput > 1M" })
  lu.assertEquals({ v.exit, #list, list[1].test }, { 0, 1, "tcp_stream" })
end

function TestJudge:test_what_was_skipped_is_no_silent_pass()
  local function skipped(test) return { test = test, ok = false, skipped = "no kata" } end
  local v = verdict { skipped "tcp_rr", skipped "tcp_stream" }
  lu.assertEquals({ v.status, v.exit, v.message }, { "inconclusive", 98, "nothing was measured: all 2 were skipped" })
  lu.assertEquals(verdict({ latency(200, 10000), skipped "tcp_stream" }).exit, 0)
  -- without a case it is about all that have a p99, also those that would have had one
  local list
  v, list = verdict({ skipped "tcp_rr", skipped "tcp_rr" }, { "p99 < 1ms" })
  lu.assertEquals({ v.exit, list[1].status, list[1].reason }, { 98, "inconclusive", "skipped: no kata" })
  local other = skipped "tcp_rr"
  other.case = "other"
  lu.assertEquals(verdict({ latency(200, 10000), other }, { "p99 < 1ms" }).exit, 98)
  -- and not about a test of which another measurement shows that it has none
  local stream = skipped "tcp_stream"
  stream.case = "other"
  local streams = { { test = "tcp_stream", metrics = { throughput_bps = 1e9 } }, stream }
  v, list = verdict({ latency(200, 10000), (table.unpack or unpack)(streams) }, { "p99 < 1ms" })
  lu.assertEquals({ v.exit, #list }, { 0, 1 })
end

function TestJudge:test_a_baseline_of_repeats_goes_by_the_ranks()
  local function repeats(base)
    local list = {}
    for i = 1, 6 do list[i] = latency(base + i, 10000, { p99 = base + i }) list[i].round = i end
    return list
  end
  local v, list = verdict(repeats(110), { "p50 < 1.05x baseline" }, book_of(repeats(100)))
  lu.assertEquals({ v.exit, list[1].status }, { 99, "fail" })
  lu.assertAlmostEquals(list[1].p, 2 / 924, 1e-9)
  lu.assertStrContains(list[1].reason, "was 104 ns: 1.10x")
  lu.assertEquals(verdict(repeats(110), { "p50 < 1.2x baseline" }, book_of(repeats(100))).exit, 0)
  lu.assertEquals(verdict(repeats(110), { "p50 < 1.1x baseline" }, book_of(repeats(100))).exit, 98)
end

function TestJudge:test_ratios_between_cases()
  local a, b = latency(110, 10000), latency(100, 10000)
  a.case, b.case = "svc", "pod"
  local v, list = verdict({ a, b }, { '"svc" / "pod" < 1.2' })
  lu.assertEquals({ v.exit, #list }, { 0, 1 })
  lu.assertAlmostEquals(list[1].value, 1.1, 0.001)
  a, b = latency(110, 10000), latency(100, 10000)
  a.case, b.case = "svc", "pod"
  lu.assertEquals(verdict({ a, b }, { 'p99 "svc" / "pod" < 1.05' }).exit, 99)
end

function TestJudge:test_a_ratio_of_open_and_closed_loop_is_none()
  local a, b = latency(110, 10000), latency(100, 10000)
  a.case, b.case, a.params = "svc", "pod", { rate = "5000/s" }
  local v, list = verdict({ a, b }, { 'p99 "svc" / "pod" < 2' })
  lu.assertEquals({ v.exit, list[1].reason },
    { 98, "no like with like: 'svc' is open loop at 5000/s, 'pod' closed loop" })
end

function TestJudge:test_baseline()
  local function old(value) return book_of { latency(value, 10000) } end
  lu.assertEquals(verdict({ latency(120, 10000) }, { "p99 < 1.25x baseline" }, old(100)).exit, 0)
  lu.assertEquals(verdict({ latency(130, 10000) }, { "p99 < 1.25x baseline" }, old(100)).exit, 99)
  lu.assertEquals(verdict({ latency(130, 10000) }, { "p99 < 1.25x baseline" }).exit, 98)
  local elsewhere = old(100)
  elsewhere.environment = { kernel = "5.10" }
  local here = book_of { latency(100, 10000) }
  here.environment = { kernel = "6.1" }
  local limit = parse { "p99 < 1.25x baseline" }
  lu.assertEquals(judge.run(core, here, limit, compare.side { elsewhere }).exit, 98)
  lu.assertStrContains(here.expectations[1].reason, "kernel 5.10, now 6.1")
  lu.assertEquals(judge.run(core, here, limit, compare.side { elsewhere }, nil, true).exit, 0)
  local other = book_of { latency(100, 10000) }
  other.measurements[1].case = "else"
  lu.assertEquals(verdict({ latency(100, 10000) }, { "p99 < 1.25x baseline" }, other).exit, 98)
end

function TestJudge:test_repeats_are_one_figure()
  local list = {}
  for i = 1, 9 do
    list[i] = latency(200 + i, 10000)
    list[i].round = i
  end
  local v, expectations = verdict(list, { "p99 < 1us" })
  lu.assertEquals({ v.exit, #expectations, expectations[1].value }, { 0, 1, 205 })
  lu.assertEquals(verdict(list, { "p99 < 204ns" }).exit, 98)
end

-- One of three ends is slow: the median of all would not show it. In the second round the pods have other names.
function TestJudge:test_ends_are_judged_each_for_itself()
  local function rounds(slow)
    local list = {}
    for round = 1, 2 do
      for i, name in ipairs { "a", "b", "c", "c" } do
        local m = latency(i == slow and 9000 or 200, 10000)
        m.from, m.to, m.round = name .. (round == 1 and "" or "-2"), "server", round
        m.expect = { "p99 < 1us" }
        list[#list + 1] = m
      end
    end
    return list
  end
  local v, list = verdict(rounds(2), { "p99 < 2us" })
  local told = {}
  for i, e in ipairs(list) do told[i] = e.case .. ": " .. e.status end
  lu.assertEquals(told, { "c, from a: pass", "c, from b: fail", "c, from c: pass", "c, from a: pass", "c, from b: fail",
    "c, from c: pass" })
  lu.assertEquals(v.exit, 99)
  lu.assertEquals(verdict(rounds()).exit, 0)
  v, list = verdict(rounds(2), { "p99 < 1.2x baseline" }, book_of(rounds()))
  lu.assertEquals({ v.exit, list[4].status, list[5].status, list[6].status }, { 99, "pass", "fail", "pass" })
end

function TestJudge:test_failed_measurements()
  local v = verdict { latency(200, 1000), { ok = false, error = { code = "refused", message = "no" } } }
  lu.assertEquals({ v.status, v.exit, v.failed, v.measured }, { "error", 1, 1, 1 })
  v = verdict { { ok = false, error = { code = "lost", message = "no" } } }
  lu.assertEquals(v.exit, 3)
  lu.assertEquals(verdict({ { ok = false, error = { code = "refused", message = "no" } } }, { "c: p99 < 1s" }).exit, 99)
end

os.exit(lu.LuaUnit.run())
