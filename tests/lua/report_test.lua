-- Tables and files from a ledger: shape, units, remarks; nothing that a name holds gets out of its cell.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"
local ledger = require "knbl.ledger"
local report = require "knbl.report"
local output = require "knbl.output"
local table_format = require "knbl.format.table"

TestReport = {}

local function book_of(measurements, reports)
  local book = ledger.new { core = core, scenario = "scenarios/x.lua", question = "What?" }
  for _, m in ipairs(measurements) do
    m.test, m.ok = m.test or "tcp_rr", m.ok ~= false and not m.skipped
    book:add(m)
  end
  for _, r in ipairs(reports or {}) do book:report(report.declare(core, r)) end
  return book
end

local function show(book, more)
  local options = { core = core, ascii = false }
  for k, v in pairs(more or {}) do options[k] = v end
  return table_format.render(book.data, options)
end

local function rr(case, rate, more)
  local m = { case = case, metrics = { rate_per_s = rate, latency_ns = { p99 = 5e6 / rate, mean = 1e6 / rate } } }
  for k, v in pairs(more or {}) do m[k] = v end
  return m
end

-- Out of a log that has other lines in between, also within a line that is too long for one.
function TestReport:test_a_ledger_in_a_log()
  local text, lines, others = '{\n  "a": "' .. ("x"):rep(20000) .. '"\n}\n', {}, 0
  for line in output.mark(text):gmatch "[^\n]+" do
    lu.assertTrue(#line <= 8001)
    for _, said in ipairs { line, "{ knbl: as it went" } do others = others + (output.unmark(lines, said) and 0 or 1) end
  end
  lu.assertEquals({ others, table.concat(lines, "\n") .. "\n" }, { 5, text })
end

function TestReport:test_columns_one_by_one()
  local out = show(book_of({ rr("a", 50000), rr("bb", 1234) }, { { rows = "case", columns = { { "requests/s", "rate" }, "p99" } } }))
  lu.assertEquals(out, "case  requests/s      p99\n─────────────────────────\na       50.0 k/s   100 ns\nbb      1.23 k/s  4.05 µs\n")
end

function TestReport:test_pivot_sorts_numbers_and_keeps_words()
  local list = {}
  for _, path in ipairs { "z", "a" } do
    for _, mss in ipairs { 1460, 96 } do list[#list + 1] = rr(path, mss * 1000, { labels = { path = path, mss = mss } }) end
  end
  local out = show(book_of(list, { { rows = "path", columns = "mss", show = "rate" } }), { ascii = true })
  lu.assertEquals(out, "rate, by mss\npath        96      1460\n------------------------\nz     96.0 k/s  1.46 M/s\na     96.0 k/s  1.46 M/s\n")
end

function TestReport:test_names_that_end_in_numbers_are_in_their_order()
  local list = {}
  for _, i in ipairs { 10, 2, 1 } do
    for _, k in ipairs { 2, 10 } do list[#list + 1] = rr("x", 1000, { labels = { from = "node-" .. i, to = "node-" .. k } }) end
  end
  lu.assertStrMatches(show(book_of(list, { { rows = "from", columns = "to", show = "rate" } })), ".*from +node%-2 +node%-10\n.*node%-1 .*node%-2 .*node%-10 .*")
end

function TestReport:test_a_list_of_one_key_is_that_key()
  local list = { rr("a", 96000, { labels = { path = "a", mss = 96 } }) }
  local out = show(book_of(list, { { rows = "path", columns = { "mss" }, show = { { "rate", test = "tcp_rr" } } } }), { ascii = true })
  lu.assertEquals(out, "rate, by mss\npath        96\n--------------\na     96.0 k/s\n")
  lu.assertErrorMsgContains("the name of one key", report.declare, core, { columns = { "mss", "path" }, show = "rate" })
end

function TestReport:test_remarks_are_numbered_and_explained()
  local list = {
    rr("a", 1000, { flags = { "throttled" } }), { case = "b", skipped = "no kata here" }, { case = "c", ok = false, error = { message = "refused" } },
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

function TestReport:test_repeats_show_the_median_and_its_interval()
  local list = {}
  for i = 1, 9 do list[i] = rr("a", 1000 + i, { round = i }) end
  lu.assertStrContains(show(book_of(list, { { rows = "case", columns = { "rate" } } })), "±")
end

function TestReport:test_few_repeats_that_differ_much_say_so()
  local function seen(...)
    local list = {}
    for i, rate in ipairs { ... } do list[i] = rr("a", rate, { round = i }) end
    return (show(book_of(list, { { rows = "case", columns = { "rate" } } })):find("differ more than twofold", 1, true)) ~= nil
  end
  lu.assertEquals({ seen(1000, 1500, 2001), seen(1000, 1500, 2000), seen(1000, 1000, 1000, 1000, 1000, 9000) }, { true, false, false })
end

function TestReport:test_a_cell_of_what_is_no_repeat_says_so()
  local list = {}
  for i = 1, 4 do list[i] = rr("c" .. i, 1000 * i, { labels = { path = "a", flows = i } }) end
  local out = show(book_of(list, { { rows = "path", columns = { "rate" } } }))
  lu.assertStrContains(out, "[1] no repeats: the median of measurements that differ in flows, which")
  for i = 1, 4 do list[i] = rr("c", 1000 * i, { test = i < 3 and "tcp_rr" or "udp_rr", params = { wait = i < 3 and "auto" or "block" }, labels = { path = "a" } }) end
  lu.assertStrContains(show(book_of(list, { { rows = "path", columns = { "rate" } } })):gsub("%s+", " "),
    "differ in test (tcp_rr, udp_rr: a column's own 'test' takes one of them), which", nil, "not in what follows from it")
  for i = 1, 4 do list[i] = rr("c" .. i, 1000 * i, { labels = { path = "a", flows = i }, path = { to = { started_ms = 3 } } }) end
  lu.assertNotStrContains(show(book_of(list, { { rows = "path", columns = { "pod_start" } } })), "no repeats", nil, "all say the same")
  for i = 1, 4 do -- of different tests it is the test that says it, once, and not what only one of them is asked for
    local test = i % 2 == 0 and "tcp_rr" or "udp_rr"
    list[i] = rr("c", 1000 * i, { test = test, labels = { path = "a", test = test }, params = { size = 1, burst = test == "udp_rr" and 2 or nil } })
  end
  lu.assertStrContains(show(book_of(list, { { rows = "path", columns = { "rate" } } })), "differ in test (tcp_rr, udp_rr: a column's")
  for i = 1, 4 do list[i] = rr("c", 1000 * i, { labels = { path = "a" }, round = i }) end
  lu.assertNotStrContains(show(book_of(list, { { rows = "path", columns = { "rate" } } })), "no repeats")
end

function TestReport:test_a_wide_interval_shows_its_ends()
  local list = {}
  for i, n in ipairs { 1, 1, 2, 2, 3, 3, 4000, 5000, 6000 } do list[i] = rr("c", 1, { metrics = { retransmits = n }, round = i }) end
  lu.assertStrMatches(show(book_of(list, { { columns = { "retransmits" } } })), ".*3 %(%d … %d%d%d%d%)\n.*")
end

function TestReport:test_narrow_terminals_get_blocks()
  local out = show(book_of({ rr("a", 50000) }, { { rows = "case", columns = { "rate", "p99", "mean" } } }), { columns = 20 })
  lu.assertEquals(out, "a\n  rate  50.0 k/s\n  p99   100 ns\n  mean  20.0 ns\n")
end

function TestReport:test_colour_only_when_asked()
  local book = book_of({ rr("a", 50000, { flags = { "throttled" } }) }, { { rows = "case", columns = { "rate" } } })
  lu.assertNotStrContains(show(book), "\27")
  lu.assertStrContains(show(book, { colour = true }), "\27[33m")
end

function TestReport:test_plain_tables_without_a_report()
  local out = show(book_of { rr("a", 50000), { test = "tcp_stream", case = "b", metrics = { throughput_bps = 9.41e9 } } })
  lu.assertStrContains(out, "tcp_stream  b ")
  lu.assertStrContains(out, "9.41 Gbit/s")
  lu.assertStrContains(out, "50.0 k/s")
end

function TestReport:test_bad_declarations()
  for body, text in pairs {
    ["5"] = "takes a table", ["{ rws = 'x' }"] = "did you mean 'rows'", ["{ columns = { 'p98x' } }"] = "no figure",
    ["{ columns = { { 'x', show = 'rat' } } }"] = "did you mean 'rate'",
    ["{ columns = { { 'x', 'rate', unit = 'furlong' } } }"] = "unknown unit", ["{ layout = 'sweep' }"] = "what is swept", ["{ layout = 'pie' }"] = "layout",
    ["{ columns = 7 }"] = "columns is a text or a list", ["{ title = 7 }"] = "a title is a text", ["{ rows = { 7 } }"] = "rows names",
    ["{ test = 'tcp_r' }"] = "no test is called 'tcp_r', did you mean 'tcp_rr'?", ["{ columns = { 'p50' }, unit = 'Gbit/s' }"] = "it can in ms, us, ns",
    ["{ columns = { { 'x', 'rate', unit = 'ms' } } }"] = "'rate' cannot be shown in ms", ["{ rows = 'x', columns = 'y', layout = 'sweep', join = true }"] = "no join",
    ["{ baseline = true }"] = "baseline is one of the values",
  } do
    local code, _, err = fake.knbl(fake.pair .. "knbl.report(" .. body .. ")")
    lu.assertEquals(code, 1, err)
    lu.assertStrContains(err, "SCRIPT:2: ")
    lu.assertStrContains(err, text)
  end
end

function TestReport:test_a_very_long_name_is_cut()
  local out = show(book_of({ rr(("ä"):rep(300), 1000) }, { { columns = { "rate" } } }))
  lu.assertStrContains(out, "\n" .. ("ä"):rep(99) .. "…  1.00 k/s\n")
end

function TestReport:test_yes_and_no_over_several_figures_name_their_key()
  local list = { rr("a", 1000, { params = { fin = false } }), rr("a", 2000, { params = { fin = true } }) }
  local out = show(book_of(list, { { rows = "case", columns = "fin", show = { "rate", "p99" } } }))
  for _, head in ipairs { "fin false rate", "fin true p99" } do lu.assertStrContains(out, head) end
end

function TestReport:test_notes_keep_tables()
  local code, out = fake.knbl(fake.pair .. "local r = knbl.tcp_rr { from = a, to = b } "
    .. "knbl.note { best = 5, list = { 1, 'x', { y = 2 } }, who = a, much = 1 / 0 } knbl.note { flags = r.flags, p50 = r.metrics.latency_ns }", { "--json", "-", "-q" })
  lu.assertEquals(code, 0)
  local notes = json.decode(out).notes
  lu.assertEquals(notes[1], { best = 5, list = { 1, "x", { y = 2 } }, who = "client", much = "inf" })
  lu.assertEquals({ notes[2].flags, type(notes[2].p50) }, { {}, "table" }, "what a result has is a table like any")
end

function TestReport:test_a_unit_stands_behind_its_figure()
  local list = { rr("a", 50000, { metrics = { throughput_bps = 19.4e6, latency_ns = { p50 = 9000 } }, path = { to = { started_ms = 354 } } }) }
  local out = show(book_of(list, { { columns = { { "t", "throughput", unit = "Mbit/s" }, { "g", "throughput", unit = "Gbit/s" }, { "b", "throughput", unit = "B/s" },
    { "us", "p50", unit = "us" }, { "ms", "pod_start", unit = "ms" } } } }))
  for _, text in ipairs { "19.4 Mbit/s", "0.0194 Gbit/s", "2.42 MB/s", "9.00 µs", "354 ms" } do lu.assertStrContains(out, text) end
  lu.assertStrContains(show(book_of(list, { { rows = "case", columns = { "throughput", "p50" }, unit = "ns" } })), "9000 ns", nil, "of several, those that it fits")
end

function TestReport:test_values_between_whole_numbers_are_not_rounded()
  local list = { rr("a", 1000, { labels = { cpu = 0.5, loss = 0.001 } }), rr("b", 1000, { labels = { cpu = 1.5, loss = 1e-6 } }) }
  local out = show(book_of(list, { { rows = "cpu", columns = "loss", show = "rate" } }))
  for _, text in ipairs { "0.5 ", "1.5 ", "0.001", "1e-06" } do lu.assertStrContains(out, text) end
end

-- A measurement that is in no row makes no column either.
function TestReport:test_columns_are_those_of_the_rows()
  local list = { rr("a", 1000, { labels = { path = "x", rate = "1k/s" } }), rr("b", 1000, { params = { rate = "2000/s" } }) }
  lu.assertNotStrContains(show(book_of(list, { { rows = "path", columns = "rate", show = "rate" } })), "2")
  local out = show(book_of({ rr("b", 1000, { params = { rate = "2000/s" } }), rr("c", 1, { params = { rate = "30000000bit/s" } }) }, { { rows = { "case", "rate" }, columns = { "p99" } } }))
  lu.assertStrContains(out, "b     2.00 k/s ")
  lu.assertStrContains(out, "c     30.0 Mbit/s ")
end

function TestReport:test_an_empty_table_says_what_nothing_has()
  local list = { rr("a", 1000, { labels = { path = "x" } }) }
  lu.assertStrContains(show(book_of(list, { { rows = "pth", columns = { "rate" } } })), "empty: nothing that was measured has 'pth', did you mean 'path'?")
  lu.assertStrContains(show(book_of(list, { { title = "T", rows = "path", columns = "rate" } })), "T\nempty: nothing that was measured has 'rate': for the figure")
  lu.assertEquals(show(book_of(list, { { rows = "path", test = "udp_rr", columns = { "rate" } } })), "")
  lu.assertEquals(show(book_of({}, { { rows = "pth", columns = { "rate" } } })), "")
end

function TestReport:test_figures_beside_those_of_a_baseline()
  local list = {}
  for i, by in ipairs { "direct", "service" } do
    for k, path in ipairs { "near", "far" } do list[#list + 1] = rr(path .. by, 1000 * i * k, { labels = { path = path, by = by } }) end
  end
  local rows = { { rows = { "path", "by" }, columns = { "rate" }, baseline = "direct" } }
  local out = show(book_of(list, rows))
  lu.assertStrContains(out, "near  direct           1.00 k/s\n")
  lu.assertStrContains(out, "far   service  4.00 k/s (x2.00)\n")
  local columns = { { rows = "path", columns = "by", show = { "rate", "mean" }, join = true, baseline = "service" } }
  out = show(book_of(list, columns))
  lu.assertStrContains(out, "rate · mean, by by\n")
  lu.assertStrContains(out, "1.00 k/s (-50 %) · 1.00 µs (x2.00)  2.00 k/s · 500 ns\n")
  lu.assertStrContains(show(book_of(list, { { rows = "path", columns = "by", show = "rate", baseline = "x" } })), "\nbaseline: no column or row is 'x'\n")
end

-- ---- the sweep of the Kubernetes benchmark ----

function TestReport:test_the_sweep_csv()
  local list = {}
  for i, mss in ipairs { 96, 352, 608 } do
    list[#list + 1] = { test = "tcp_stream", labels = { row = "iperf TCP. Same VM using Pod IP", mss = mss }, metrics = { throughput_bps = (33835 - i % 2) * 1e6 } }
  end
  list[#list + 1] = { test = "udp_stream", labels = { row = "iperf UDP. Same VM using Pod IP" }, metrics = { throughput_bps = 10642e6 } }
  local out = show(book_of(list, { { rows = "row", columns = "mss", show = "throughput", unit = "Mbit/s", layout = "sweep" } }))
  lu.assertEquals(out, "MSS                                          , Maximum, 96, 352, 608,\n"
    .. "1 iperf TCP. Same VM using Pod IP            ,33835.000000,33834,33835,33834,\n"
    .. "2 iperf UDP. Same VM using Pod IP            ,10642.000000,10642,\n")
end

function TestReport:test_a_sweep_of_several_rows_in_its_unit()
  local list = { rr("a", 1000, { labels = { overlay = "vxlan", mtu = 1500, mss = 96 } }) }
  local out = show(book_of(list, { { title = "Latency", rows = { "overlay", "mtu" }, columns = "mss", show = "mean", unit = "us", layout = "sweep" } }))
  lu.assertStrContains(out, "Latency\nMSS ")
  lu.assertStrContains(out, "1 vxlan 1500                                 ,1.000000,1,\n")
end

-- ---- hostile names ----

local nasty = '=cmd|"/c calc"!A0, <script>&]]>\r\n\27[31m\0|`*\255'

local function hostile()
  local book = book_of({ rr(nasty, 1000, { labels = { path = nasty }, flags = { nasty } }), { case = nasty, skipped = nasty },
    { case = nasty, ok = false, error = { code = nasty, message = nasty } } }, {})
  book.data.scenario, book.data.question = nasty, nasty
  book:note { text = nasty }
  book.data.expectations[1] = { case = nasty, expression = nasty, status = "fail", reason = nasty }
  return book
end

function TestReport:test_hostile_names_on_a_terminal()
  local out = show(hostile())
  lu.assertNil(out:find("[%z\1-\9\11-\31\127]"))
  lu.assertEquals(#out:gsub("[^\255]", ""), 0)
end

function TestReport:test_no_column_of_the_csv_is_there_twice()
  local out = require("knbl.format.csv").render(book_of({ rr("a", 1, { labels = { path = "x", case = "y" }, params = { test = "tcp_rr", path = "/" } }) }).data, { core = core })
  lu.assertEquals(out:match "^[^\r]*", "test,case,from,to,via,round,ok,error,skipped,flags,label case,path,parameter path,rate [1/s],mean [ns],p99 [ns]")
end

function TestReport:test_hostile_names_in_csv()
  local out = require("knbl.format.csv").render(hostile().data, { core = core })
  lu.assertStrContains(out, "\"'=cmd|\"\"/c calc")
  lu.assertNil(out:find(",=", 1, true))
  local outside = out:gsub('"[^"]*"', "")
  lu.assertEquals(select(2, outside:gsub("\r\n", "")), 4, "one line for the head and each measurement")
end

-- A formula after a space, what a terminal obeys, no UTF-8, a turn of direction: each is a name of its own here.
function TestReport:test_what_reaches_beyond_its_name()
  local list = {}
  for i, name in ipairs { " =1+2", "\27[31m", "\255", "\226\128\174rtl", "\194\155" } do list[i] = rr(name, 1000, { params = {} }) end
  local data = book_of(list).data
  local csv = require("knbl.format.csv").render(data, { core = core })
  lu.assertStrContains(csv, ",' =1+2,")
  lu.assertNil(csv:find("[%z\1-\9\11\12\14-\31\127]"))
  local metrics = require("knbl.format.openmetrics").render(data)
  lu.assertNil(metrics:find "[\27\255]")
  for _, out in ipairs { show(book_of(list)), require("knbl.format.html").render(data, { core = core }), require("knbl.format.markdown").render(data, { core = core }) } do
    lu.assertNil(out:find("\226\128\174", 1, true))
    lu.assertNil(out:find("\255", 1, true))
    lu.assertStrContains(out, "?rtl")
  end
end

function TestReport:test_markdown_says_how_runtimes_ran()
  local book = hostile()
  book.data.environment.runtimes = { gvisor = "runsc 2022, ptrace, its own stack", runc = "namespaces" }
  local out = require("knbl.format.markdown").render(book.data, { core = core })
  lu.assertStrContains(out, "gvisor: runsc 2022, ptrace, its own stack; runc: namespaces")
end

function TestReport:test_markdown_begins_with_the_verdict()
  local book = book_of { rr("a", 1) }
  book:finish { status = "error", message = "x.lua:5: boom <x>" }
  lu.assertStrContains(require("knbl.format.markdown").render(book.data, { core = core }), "## What?\n\n❌ **error** x.lua:5: boom &lt;x&gt;\n")
  book:finish { status = "pass", measured = 1, skipped = 1 }
  lu.assertStrContains(require("knbl.format.markdown").render(book.data, { core = core }), "✅ **pass** 1 measured, 1 skipped with the reason; there was no expectation")
end

function TestReport:test_hostile_names_in_markdown()
  local out = require("knbl.format.markdown").render(hostile().data, { core = core })
  lu.assertNil(out:find("<script", 1, true))
  lu.assertNil(out:find("[%z\1-\9\11-\31]"))
  for line in out:gmatch("[^\n]+") do
    if line:sub(1, 1) == "|" and line:find("tcp", 1, true) then lu.assertNil(line:find("[^\\]`")) end
  end
end

function TestReport:test_hostile_names_in_junit()
  local out = require("knbl.format.junit").render(hostile().data, { core = core })
  lu.assertNil(out:find("[%z\1-\9\11-\31]"))
  lu.assertNil(out:find("<script", 1, true))
  lu.assertNil(out:find("]]>", 1, true))
  lu.assertEquals(select(2, out:gsub("<testcase ", "")), select(2, out:gsub("</testcase>", "")) + select(2, out:gsub('"/>\n  </testsuite', "x")) * 0)
end

-- Agents tell what they know as they come; of several clusters every value stands there.
function TestReport:test_the_environment_is_what_was_known_at_the_end()
  local book = require("knbl.ledger").new { core = fake.core(), scenario = "x" }
  local first = { mtu = 1500, proxy_mode = "unknown", families = { 4 } }
  book:set_environment("k8s", first)
  lu.assertEquals(book.data.environment.proxy_mode, "unknown")
  first.proxy_mode = "iptables"
  book:add { test = "tcp_rr" }
  lu.assertEquals(book.data.environment.proxy_mode, "iptables")
  book:set_environment("k8s", { mtu = 9000, proxy_mode = "iptables", families = { 6 }, overlay = "vxlan" })
  lu.assertEquals(book.data.environment, { mtu = "1500, 9000", proxy_mode = "iptables", families = { 4 }, overlay = "vxlan" })
  lu.assertEquals(book.data.provider, "k8s")
end

function TestReport:test_notes_in_a_line()
  local note_text = require("knbl.format.table").note_text
  for want, note in pairs { ["a: 1, b: {c: 2.5}"] = { a = 1, b = { c = 2.5 }, line = 3 }, ["x, [y]"] = { "x", { "y" } }, ["t"] = { text = "t" }, ["t (a: 1)"] = { text = "t", a = 1 },
    ["plain"] = "plain", ["r: 0.333333"] = { r = 1 / 3 } } do
    lu.assertEquals(note_text(note), want)
  end
end

-- ---- files ----

function TestReport:test_a_report_of_the_file_is_the_run_s_own()
  local path = os.tmpname()
  local script = fake.pair .. "knbl.tcp_rr { case = 'x', from = a, to = b, expect = 'p99 < 1s' }\n"
    .. "knbl.report { rows = 'case', columns = { 'rate', 'p99' } } knbl.note { a = 1 }"
  local code, out, err = fake.knbl(script, { "--json", path })
  lu.assertEquals(code, 0, err)
  local again, shown = fake.knbl(nil, { "report", path })
  lu.assertEquals(again, 0)
  lu.assertEquals(shown, out)
  local _, copy = fake.knbl(nil, { "report", path, "--json", "-", "-q" })
  lu.assertEquals(copy, fake.read(path))
  os.remove(path)
end

function TestReport:test_ledgers_that_are_no_ledgers()
  local path = os.tmpname()
  local list = {
    { "", "empty" }, { "{", "not JSON" }, { "[]", "no schema" }, { '{"schema":2}', "newer" }, { '{"schema":1,"measurements":5}', "not a list" },
    { '{"schema":1,"measurements":[{}]}', "no test" }, { '{"schema":1,"measurements":[{"test":"tcp_rr","metrics":5}]}', "no object" },
    { "{\"schema\":1", "not JSON" }, { '{"schema":"x"}', "newer" },
  }
  for _, case in ipairs(list) do
    local file = assert(io.open(path, "w"))
    file:write(case[1])
    file:close()
    local code, _, err = fake.knbl(nil, { "report", path })
    lu.assertEquals(code, 2, case[1])
    lu.assertStrContains(err, case[2])
  end
  os.remove(path)
  lu.assertEquals(fake.knbl(nil, { "report", "/nonexistent.json" }), 2)
end

function TestReport:test_open_and_closed_cold_and_warm_are_told_apart()
  local out = show(book_of { rr("a", 5000, { params = { rate = "5000/s", warmup = 1 } }), rr("a", 9000, { params = { warmup = 0 } }) }, { ascii = true })
  lu.assertStrMatches(out, "test +case +via +load +start .*\ntcp_rr +a +open loop at 5%.00 k/s +warm .*\ntcp_rr +a +closed loop +cold .*")
  lu.assertNotStrContains(show(book_of { rr("a", 5000, { params = { warmup = 0 } }) }), "loop")
end

function TestReport:test_a_mean_of_one_says_so()
  local function mean(case, count) return rr(case, 1, { metrics = { latency_ns = { mean = 1000, p50 = 1000, count = count } } }) end
  local out = show(book_of({ mean("a", 1), mean("b", 10) }, { { rows = "case", columns = { "mean", "p50" } } }))
  lu.assertStrContains(out, "a     1.00 µs [1]  1.00 µs\nb         1.00 µs  1.00 µs\n[1] of 1 operation only\n")
end

function TestReport:test_a_ceiling_that_is_none_says_so()
  local list = { rr("a", 1000, { ceiling = 1050 }), rr("b", 1000, { ceiling = 1000 / 3 }) }
  local out = show(book_of(list, { { rows = "case", columns = { "share" } } }))
  lu.assertStrMatches(out, ".*\na +95%.2 %%\nb +300 %% %[1%]\n%[1%] more than the ceiling:.*")
end

function TestReport:test_expectations_and_notes_on_a_narrow_terminal()
  local data = book_of({ rr("a", 1) }).data
  data.notes = { "words that are long enough for two lines" }
  data.expectations = { { test = "tcp_rr", case = "a", expression = "p99 < 1ms", status = "fail", reason = "p99 is 5.00 ms" } }
  local out = show({ data = data }, { columns = 30, colour = true })
  lu.assertStrContains(out, "note: words that are long\n  enough for two lines\n\27[31m✗ tcp_rr a: p99 < 1ms (p99\27[0m\n\27[31m  is 5.00 ms)\27[0m\n")
  lu.assertStrContains(show({ data = data }), "note: words that are long enough for two lines\n✗ tcp_rr a: p99 < 1ms (p99 is 5.00 ms)\n")
end

-- A ledger with nothing in it, or of a run that was killed, does not pass for a whole one.
function TestReport:test_what_is_not_whole_says_so()
  local path = os.tmpname()
  for said, text in pairs { ["knbl: nothing was measured"] = '{"schema":1,"verdict":{"status":"pass"}}', ["knbl: unfinished"] = '{"schema":1,"verdict":{"status":"running"}}',
    ["knbl: 1 of 2 failed"] = '{"schema":1,"verdict":{"status":"fail","message":"1 of 2 failed"}}' } do
    assert(core.write_file(path, text))
    local code, _, err = fake.knbl(nil, { "report", path })
    lu.assertEquals(code, 0)
    lu.assertStrContains(err, said)
  end
  assert(core.write_file(path, '{"schema":1,"meas'))
  lu.assertStrContains(select(3, fake.knbl(nil, { "report", path })), "as a file that was cut off does")
  os.remove(path)
end

function TestReport:test_a_short_ledger_is_enough()
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write('{"schema":1,"measurements":[{"test":"tcp_rr","ok":true,"metrics":{"rate_per_s":5}},{"test":"odd"}]}')
  file:close()
  for _, flag in ipairs { "csv", "markdown", "junit", "json" } do
    local code, out, err = fake.knbl(nil, { "report", path, "--" .. flag, "-", "-q" })
    lu.assertEquals(code, 0, err)
    lu.assertStrContains(out, "5")
  end
  os.remove(path)
end

function TestReport:test_unwritable_paths_are_refused_before_the_run()
  for _, flag in ipairs { "json", "csv", "markdown", "junit" } do
    local code, _, err, core_used = fake.knbl(fake.pair .. "knbl.tcp_rr { from = a, to = b }", { "--" .. flag, "/nonexistent/x" })
    lu.assertEquals(code, 2, err)
    lu.assertStrContains(err, "--" .. flag .. ": cannot write /nonexistent/x")
    lu.assertEquals(#core_used.asked, 0)
  end
  lu.assertEquals(fake.knbl(fake.pair, { "--json", "/tmp" }), 2)
  lu.assertEquals(fake.knbl(fake.pair, { "--json", "-", "--csv", "-" }), 2)
end

function TestReport:test_a_full_disk_leaves_the_table()
  local used = fake.core()
  used.write_file = function() return nil, { code = "system", message = "no space left on device" } end
  local code, out, err = fake.knbl(fake.pair .. "knbl.tcp_rr { from = a, to = b }", { "--json", "/tmp/knbl-test.json" }, used)
  lu.assertEquals(code, 1)
  lu.assertStrContains(out, "50.0 k/s")
  lu.assertStrContains(err, "no space left")
end

function TestReport:test_the_contract_of_the_file()
  local _, out = fake.knbl(fake.pair .. "knbl.tcp_rr { case = 'x', from = a, to = b }", { "--json", "-", "-q" })
  local data = json.decode(out)
  lu.assertEquals({ data.schema, data.knbl, data.provider, data.verdict.status }, { 1, core.version, "loopback", "pass" })
  lu.assertStrMatches(data.started, "%d+%-%d+%-%d+T%d+:%d+:%d+.*Z")
  local m = data.measurements[1]
  lu.assertEquals({ m.test, m.case, m.from, m.to, m.via, m.ok }, { "tcp_rr", "x", "client", "server", "loopback", true })
  lu.assertEquals(m.path.to, { kind = "pod", node = "node-2", address = "127.0.0.1", port = 40004 })
  lu.assertStrContains(out, '"flags": []')
  lu.assertStrContains(out, '"notes": []')
end

os.exit(lu.LuaUnit.run())
