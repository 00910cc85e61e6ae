-- Reports: the rows and columns that a scenario declares, the figures in them, and the remarks on these.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local book = require "book"
local core = require "knbl.native"
local declaration = require "knbl.results.declaration"
local fake = require "fake"

local book_of, show, rr = book.of, book.show, book.rr

TestReport = {}

function TestReport:test_columns_one_by_one()
  local out = show(book_of({ rr("a", 50000), rr("bb", 1234) },
    { { rows = "case", columns = { { "requests/s", "rate" }, "p99" } } }))
  lu.assertEquals(out,
    "case  requests/s      p99\n─────────────────────────\na       50.0 k/s   100 ns\nbb      1.23 k/s  4.05 µs\n"
      .. "Measured once: whether bb and a differ cannot be told; --repeats 6 can.\n")
end

function TestReport:test_pivot_sorts_numbers_and_keeps_words()
  local list = {}
  for _, path in ipairs { "z", "a" } do
    for _, mss in ipairs { 1460, 96 } do
      list[#list + 1] = rr(path, mss * 1000, { labels = { path = path, mss = mss } })
    end
  end
  local out = show(book_of(list, { { rows = "path", columns = "mss", show = "rate" } }), { ascii = true })
  lu.assertEquals(out,
    "rate, by mss\npath        96      1460\n------------------------\nz     96.0 k/s  1.46 M/s\na     96.0 k/s  \z
      1.46 M/s\nMeasured once: whether mss 1460 and mss 96 differ cannot be told; --repeats 6 can.\n")
end

function TestReport:test_names_that_end_in_numbers_are_in_their_order()
  local list = {}
  for _, i in ipairs { 10, 2, 1 } do
    for _, k in ipairs { 2, 10 } do
      list[#list + 1] = rr("x", 1000, { labels = { from = "node-" .. i, to = "node-" .. k } })
    end
  end
  lu.assertStrMatches(show(book_of(list, { { rows = "from", columns = "to", show = "rate" } })),
    ".*from +node%-2 +node%-10\n.*node%-1 .*node%-2 .*node%-10 .*")
end

function TestReport:test_a_list_of_one_key_is_that_key()
  local list = { rr("a", 96000, { labels = { path = "a", mss = 96 } }) }
  local out = show(book_of(list, { { rows = "path", columns = { "mss" }, show = { { "rate", test = "tcp_rr" } } } }),
    { ascii = true })
  lu.assertEquals(out, "rate, by mss\npath        96\n--------------\na     96.0 k/s\n")
  lu.assertErrorMsgContains("the name of one key", declaration.declare, core,
    { columns = { "mss", "path" }, show = "rate" })
end

function TestReport:test_remarks_are_numbered_and_explained()
  local list = {
    rr("a", 1000, { flags = { "throttled" } }), { case = "b", skipped = "no kata here" },
      { case = "c", ok = false, error = { message = "refused" } },
    rr("d", 1000, { flags = { "throttled" } }), rr("e", 1000, { flags = { "too_few_samples" } }),
  }
  local out = show(book_of(list, { { rows = "case", columns = { "rate", "p99" } } }))
  lu.assertStrContains(out, "1.00 k/s [1]")
  lu.assertStrContains(out, "– [2]")
  lu.assertStrContains(out, "failed [3]")
  lu.assertStrContains(out, "\n[1] throttled: a CPU limit")
  lu.assertStrContains(out, "\n[2] skipped: no kata here\n[3] failed: refused\n")
  lu.assertStrContains(out, "e         1.00 k/s  ", nil, "few samples spoil percentiles, not rates")
  lu.assertStrContains(out, "5.00 µs [4]")
end

function TestReport:test_repeats_that_failed_are_counted()
  local list = {}
  for i = 1, 5 do
    list[i] = rr("a", 1000, i <= 2 and { round = i, ok = false, metrics = {}, error = { message = "refused" } }
      or { round = i })
  end
  local out = show(book_of(list, { { rows = "case", columns = { "rate" } } }))
  lu.assertStrContains(out, "1.00 k/s [1]\n[1] 2 of 5 repeats failed: refused\n")
end

function TestReport:test_a_flow_of_a_stream_is_counted_in_bytes()
  local metrics = { rate_per_s = 1, throughput_bps = 1, fairness = { flow_min = 65536, flow_max = 131072, jain = 0.9 } }
  local list = { { test = "tcp_stream", case = "bulk", metrics = metrics },
    { test = "tcp_rr", case = "rr", metrics = metrics } }
  local out = show(book_of(list, { { rows = "case", columns = { "flow_min", "flow_max" } } }))
  lu.assertStrMatches(out, ".*\nbulk +64 KiB +128 KiB\nrr +65536 +131072\n.*")
end

function TestReport:test_a_change_without_effect_says_why_it_has_no_times()
  local list = { { test = "probe", case = "c", flags = { "no_change" }, metrics = { blind = 0,
    ready = { state = "open", change = 0.02 } } } }
  local out = show(book_of(list, { { rows = "case", columns = { "ready_first", "ready_change", "blind" } } }))
  lu.assertStrMatches(out, ".*\nc +– %[1%] +20%.0 ms +0 s\n%[1%] no_change: attempts found the same state.*")
end

function TestReport:test_figures_by_their_path_keep_their_fractions()
  local metrics = { targets = { web = { share = 0.7, asked = 0.75 } },
    lookup = { queries_per_lookup = 4.5, queries = 9 }, cpu = { client_softirq = 0.04 } }
  local out = show(book_of({ { test = "dns", case = "c", metrics = metrics } }, { { rows = "case", columns = {
    "targets.web.share", "targets.web.asked", "lookup.queries_per_lookup", "lookup.queries", "cpu.client_softirq",
  } } }))
  lu.assertStrMatches(out, ".*\nc +70%.0 %% +75%.0 %% +4%.50 +9 +0%.04\n.*")
end

-- Without a declaration too: how soon a change was known is what knbl.ready was asked for.
function TestReport:test_the_plain_table_has_the_figures_of_ready()
  local metrics = { outage_total = 0.1, outage_longest = 0.1, ready = { state = "open", first = 0.003, last = 0.002,
    change = 0.004 } }
  local function table_of(m, flags)
    return show(book_of { { test = "probe", case = "c", via = "service", metrics = m, flags = flags or {} } })
  end
  lu.assertStrMatches(table_of(metrics),
    ".*longest +first after +all after +change\n.* 3%.00 ms +2%.00 ms +4%.00 ms\n.*")
  metrics.ready = { state = "open", change = 0.004 }
  local out = table_of(metrics, { "no_change" })
  lu.assertStrMatches(out, ".* – %[1%] +– %[1%] +4%.00 ms\n%[1%] no_change: .*")
  metrics.ready = nil
  lu.assertNotStrContains(table_of(metrics), "after")
end

function TestReport:test_repeats_show_the_median_and_its_interval()
  local list = {}
  for i = 1, 9 do list[i] = rr("a", 1000 + i, { round = i }) end
  lu.assertStrContains(show(book_of(list, { { rows = "case", columns = { "rate" } } })), "±")
end

function TestReport:test_what_is_wrong_with_nearly_all_stands_above_the_table()
  local list = {}
  for i = 1, 4 do
    list[i] = rr("c" .. i, 1000, { params = {}, flags = i < 4 and { "throttled" }
      or { "too_few_samples", "retransmits" } })
  end
  local out = show(book_of(list, { { rows = "case", columns = { "rate", "p99" } } }))
  lu.assertStrContains(out, "! 6 of 8 figures: throttled: a CPU limit")
  lu.assertStrContains(out, "\nc1        1.00 k/s        5.00 µs\n")
  lu.assertStrContains(out, "\nc4    1.00 k/s [1]  5.00 µs [1,2]\n[1] retransmits: ", nil, "flags are sorted")
  for _, format in ipairs { "markdown", "html" } do
    local page = require("knbl.format." .. format).render(
      book_of(list, { { rows = "case", columns = { "rate", "p99" } } }).data, { core = core })
    lu.assertStrContains(page, "6 of 8 figures: throttled")
  end
end

-- It says where, if not everywhere: in the column of the ceiling, or in many but not all.
function TestReport:test_what_is_wrong_with_nearly_all_names_its_columns()
  local list = {}
  for i = 1, 4 do list[i] = rr("c" .. i, 1000, { ceiling = 1e-9, flags = { "throttled" } }) end
  local out = show(book_of(list, { { rows = "case", columns = { "rate", "share" } } }))
  lu.assertStrContains(out, "! all 4 figures in column of ceiling: more than the ceiling")
  for _, m in ipairs(list) do
    m.metrics.latency_ns = { count = 1e6, min = 1, mean = 1, p50 = 1, p90 = 1, p95 = 1, p99 = 1, max = 1 }
  end
  list[1].metrics.retransmits = 1
  out = show(book_of(list, { { rows = "case",
    columns = { "rate", "min", "mean", "p50", "p90", "p95", "p99", "max", "retransmits" } } }))
  lu.assertStrContains(out, "! all 32 figures in 8 of 9 columns: throttled")
end

function TestReport:test_rows_of_one_first_key_stand_together()
  local list = {}
  for _, by in ipairs { "direct", "service" } do
    for _, path in ipairs { "x", "y" } do list[#list + 1] = rr("c", 1000, { labels = { by = by, path = path } }) end
  end
  lu.assertStrMatches(show(book_of(list, { { rows = { "path", "by" }, columns = { "rate" } } })),
    ".*x +direct .*x +service .*y +direct .*y +service .*")
end

function TestReport:test_bytes_in_a_packet_of_the_client_s_busiest_interface()
  local value = require("knbl.results.figures").value
  local figure = require("knbl.results.figures").get "packet"
  local function watched(side, bytes, packets)
    return { side = side, interfaces = { eth0 = { tx_bytes_per_s = bytes, tx_packets_per_s = packets },
      lo = { rx_bytes_per_s = { 10 }, rx_packets_per_s = { 1 } } } }
  end
  local m = rr("a", 1, { monitor = { watched("client", { 60000, 120000 }, { 1, 2 }), watched("server", { 9e9 },
    { 1 }) } })
  lu.assertEquals(value(m, figure), 60000)
  lu.assertNil(value(rr("a", 1), figure))
end

function TestReport:test_few_repeats_that_differ_much_say_so()
  local function seen(...)
    local list = {}
    for i, rate in ipairs { ... } do list[i] = rr("a", rate, { round = i }) end
    return (show(book_of(list, { { rows = "case", columns = { "rate" } } })):find("differ more than twofold", 1,
      true)) ~= nil
  end
  lu.assertEquals({ seen(1000, 1500, 2001), seen(1000, 1500, 2000), seen(1000, 1000, 1000, 1000, 1000, 9000) },
    { true, false, false })
end

function TestReport:test_a_cell_of_what_is_no_repeat_says_so()
  local list = {}
  for i = 1, 4 do list[i] = rr("c" .. i, 1000 * i, { labels = { path = "a", flows = i } }) end
  local out = show(book_of(list, { { rows = "path", columns = { "rate" } } }))
  lu.assertStrContains(out, "[1] not repeats: the median of measurements that differ in flows, which")
  for i = 3, 4 do list[i].labels.path = "b" end
  lu.assertNotStrContains(show(book_of(list, { { rows = "path", columns = { "rate" } } })), "repeats are too few", nil,
    "none of them is a repeat")
  for i = 1, 4 do
    list[i] = rr("c", 1000 * i, { test = i < 3 and "tcp_rr" or "udp_rr",
      params = { wait = i < 3 and "auto" or "block" }, labels = { path = "a" } })
  end
  local mixed = show(book_of(list, { { rows = "path", columns = { "rate" } } }))
  lu.assertStrContains(mixed,
    "\na     ambiguous [1]\n[1] ambiguous: measurements of several tests (tcp_rr, udp_rr) share")
  for i = 1, 4 do
    list[i] = rr("c" .. i, 1000 * i, { labels = { path = "a", flows = i }, path = { to = { started_ms = 3 } } })
  end
  lu.assertNotStrContains(show(book_of(list, { { rows = "path", columns = { "pod_start" } } })), "not repeats", nil,
    "all say the same")
  for i = 1, 4 do list[i] = rr("c", 1000 * i, { labels = { path = "a" }, round = i }) end
  lu.assertNotStrContains(show(book_of(list, { { rows = "path", columns = { "rate" } } })), "no repeats")
end

function TestReport:test_plain_tables_without_a_report()
  local out = show(book_of { rr("a", 50000), { test = "tcp_stream", case = "b",
    metrics = { throughput_bps = 9.41e9 } } })
  lu.assertStrContains(out, "tcp_stream  b ")
  lu.assertStrContains(out, "9.41 Gbit/s")
  lu.assertStrContains(out, "50.0 k/s")
end

-- One case for two ends is no repeat; where rounds differ, a pod may have got another name.
function TestReport:test_ends_of_one_case_are_told_apart()
  local out = show(book_of { rr("a", 1000, { from = "x" }), rr("a", 3000, { from = "y" }) })
  lu.assertStrContains(out, "from")
  lu.assertStrContains(out, "1.00 k/s")
  lu.assertStrContains(out, "3.00 k/s")
  local report = { { rows = "case", columns = { "rate" } } }
  lu.assertStrContains(show(book_of({ rr("a", 1000, { from = "x" }), rr("a", 3000, { from = "y" }) }, report)),
    "not repeats: the median of measurements that differ in from")
  local rounds = { rr("a", 1000, { from = "x", round = 1 }), rr("a", 1100, { from = "y", round = 2 }) }
  lu.assertNotStrContains(show(book_of(rounds, report)), "not repeats")
  lu.assertNotStrContains(show(book_of(rounds)), "from")
end

function TestReport:test_bad_declarations()
  for body, text in pairs {
    ["5"] = "takes a table", ["{ rws = 'x' }"] = "did you mean 'rows'", ["{ columns = { 'p98x' } }"] = "no figure",
    ["{ columns = { { 'x', show = 'rat' } } }"] = "did you mean 'rate'",
    ["{ columns = { { 'x', 'rate', unit = 'furlong' } } }"] = "unknown unit",
      ["{ layout = 'sweep' }"] = "what is swept", ["{ layout = 'pie' }"] = "layout",
    ["{ columns = 7 }"] = "columns is a text or a list", ["{ title = 7 }"] = "a title is a text",
      ["{ rows = { 7 } }"] = "rows names",
    ["{ test = 'tcp_r' }"] = "no test is called 'tcp_r', did you mean 'tcp_rr'?",
      ["{ columns = { 'p50' }, unit = 'Gbit/s' }"] = "it can in ms, us, ns",
    ["{ columns = { { 'x', 'rate', unit = 'ms' } } }"] = "'rate' cannot be shown in ms",
      ["{ rows = 'x', columns = 'y', layout = 'sweep', join = true }"] = "no join",
    ["{ baseline = true }"] = "baseline is one of the values",
  } do
    local code, _, err = fake.knbl(fake.pair .. "knbl.report(" .. body .. ")")
    lu.assertEquals(code, 1, err)
    lu.assertStrContains(err, "SCRIPT:2: ")
    lu.assertStrContains(err, text)
  end
end

function TestReport:test_yes_and_no_over_several_figures_name_their_key()
  local list = { rr("a", 1000, { params = { fin = false } }), rr("a", 2000, { params = { fin = true } }) }
  local out = show(book_of(list, { { rows = "case", columns = "fin", show = { "rate", "p99" } } }))
  for _, head in ipairs { "fin false rate", "fin true p99" } do lu.assertStrContains(out, head) end
end

-- A measurement that is in no row makes no column either.
function TestReport:test_columns_are_those_of_the_rows()
  local list = { rr("a", 1000, { labels = { path = "x", rate = "1k/s" } }),
    rr("b", 1000, { params = { rate = "2000/s" } }) }
  lu.assertNotStrContains(show(book_of(list, { { rows = "path", columns = "rate", show = "rate" } })), "2")
  local out = show(book_of({ rr("b", 1000, { params = { rate = "2000/s" } }),
    rr("c", 1, { params = { rate = "30000000bit/s" } }) }, { { rows = { "case", "rate" }, columns = { "p99" } } }))
  lu.assertStrContains(out, "b     2.00 k/s ")
  lu.assertStrContains(out, "c     30.0 Mbit/s ")
end

function TestReport:test_an_empty_table_says_what_nothing_has()
  local list = { rr("a", 1000, { labels = { path = "x" } }) }
  lu.assertStrContains(show(book_of(list, { { rows = "pth", columns = { "rate" } } })),
    "empty: nothing that was measured has 'pth', did you mean 'path'?")
  lu.assertStrContains(show(book_of(list, { { title = "T", rows = "path", columns = "rate" } })),
    "T\nempty: nothing that was measured has 'rate': for the figure")
  lu.assertEquals(show(book_of(list, { { rows = "path", test = "udp_rr", columns = { "rate" } } })), "")
  lu.assertEquals(show(book_of({}, { { rows = "pth", columns = { "rate" } } })), "")
end

function TestReport:test_figures_beside_those_of_a_baseline()
  local list = {}
  for i, by in ipairs { "direct", "service" } do
    for k, path in ipairs { "near", "far" } do
      list[#list + 1] = rr(path .. by, 1000 * i * k, { labels = { path = path, by = by } })
    end
  end
  local rows = { { rows = { "path", "by" }, columns = { "rate" }, baseline = "direct" } }
  local out = show(book_of(list, rows))
  lu.assertStrContains(out, "near  direct           1.00 k/s\n")
  lu.assertStrContains(out, "far   service  4.00 k/s (x2.00)\n")
  local columns = { { rows = "path", columns = "by", show = { "rate", "mean" }, join = true, baseline = "service" } }
  out = show(book_of(list, columns))
  lu.assertStrContains(out, "rate · mean, by by\n")
  lu.assertStrContains(out, "1.00 k/s (-50 %) · 1.00 µs (x2.00)  2.00 k/s · 500 ns\n")
  lu.assertStrContains(show(book_of(list, { { rows = "path", columns = "by", show = "rate", baseline = "x" } })),
    "\nbaseline: no column or row is 'x'\n")
end

function TestReport:test_open_and_closed_cold_and_warm_are_told_apart()
  local out = show(book_of { rr("a", 5000, { params = { rate = "5000/s", warmup = 1 } }),
    rr("a", 9000, { params = { warmup = 0 } }) }, { ascii = true })
  lu.assertStrMatches(out,
    "test +case +via +load +start .*\ntcp_rr +a +open loop at 5%.00 k/s +warm .*\ntcp_rr +a +closed loop +cold .*")
  lu.assertNotStrContains(show(book_of { rr("a", 5000, { params = { warmup = 0 } }) }), "loop")
end

function TestReport:test_a_mean_of_one_says_so()
  local function mean(case, count)
    return rr(case, 1, { metrics = { latency_ns = { mean = 1000, p50 = 1000, count = count } } })
  end
  local out = show(book_of({ mean("a", 1), mean("b", 10) }, { { rows = "case", columns = { "mean", "p50" } } }))
  lu.assertStrContains(out, "a     1.00 µs [1]  1.00 µs\nb         1.00 µs  1.00 µs\n"
    .. "Measured once: whether b and a differ cannot be told; --repeats 6 can.\n[1] of 1 operation only\n")
end

function TestReport:test_a_ceiling_that_is_none_says_so()
  local list = { rr("a", 1000, { ceiling = 1050 }), rr("b", 1000, { ceiling = 1000 / 3 }) }
  local out = show(book_of(list, { { rows = "case", columns = { "share" } } }))
  lu.assertStrMatches(out, ".*\na +95%.2 %%\nb +300 %% %[1%]\n.*%[1%] more than the ceiling:.*")
end

os.exit(lu.LuaUnit.run())
