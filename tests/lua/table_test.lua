-- The table on a terminal: its width, units, names and colours.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local book = require "book"

local book_of, show, rr = book.of, book.show, book.rr

TestTable = {}

-- Rows and columns from a list of rows, each { label, values by number }.
local function sweep(rows, figure, more)
  local list = {}
  for _, row in ipairs(rows) do
    for n, value in pairs(row[2]) do
      list[#list + 1] = { test = row[3] or "tcp_stream", case = row[1], labels = { row = row[1], mss = n },
        metrics = { throughput_bps = value }, ok = value ~= false }
    end
  end
  table.sort(list, function(a, b) return a.labels.mss < b.labels.mss end)
  local declared = { rows = "row", columns = "mss", show = figure }
  for key, value in pairs(more or {}) do declared[key] = value end
  return book_of(list, { declared })
end

function TestTable:test_the_interval_has_a_legend()
  local list = {}
  for i = 1, 9 do list[i] = rr("a", 1000 + i, { round = i }) end
  local report_of_a = { { rows = "case", columns = { "rate" } } }
  lu.assertStrContains(show(book_of(list, report_of_a)),
    "Figures are medians of 9 repeats; ±: the 95 % interval of that median.\n")
  lu.assertNotStrContains(show(book_of({ rr("a", 1) }, report_of_a)), "medians")
end

function TestTable:test_a_wide_interval_shows_its_ends()
  local list = {}
  for i, n in ipairs { 1, 1, 2, 2, 3, 3, 4000, 5000, 6000 } do
    list[i] = rr("c", 1, { metrics = { retransmits = n }, round = i })
  end
  lu.assertStrMatches(show(book_of(list, { { columns = { "retransmits" } } })), ".*3 %(%d … %d%d%d%d%)\n.*")
end

function TestTable:test_narrow_terminals_split_by_columns()
  local book = book_of({ rr("a", 50000) }, { { rows = "case", columns = { "rate", "p99", "mean" } } })
  lu.assertEquals(show(book, { columns = 22, ascii = true }),
    "case      rate     p99\n----------------------\na     50.0 k/s  100 ns\n\n"
    .. "case     mean\n-------------\na     20.0 ns\n")
  lu.assertEquals(show(book, { columns = 12 }), "a\n  rate  50.0 k/s\n  p99   100 ns\n  mean  20.0 ns\n", nil,
    "a block for each row where no column has room")
end

function TestTable:test_what_all_rows_share_stands_once_above_a_split_table()
  local list = { rr("one", 50000, { via = "pod_ip", params = { rate = "5000/s" } }),
    rr("two", 40000, { via = "service", params = { rate = "5000/s" } }) }
  local out = show(book_of(list), { columns = 35, ascii = true })
  lu.assertStrMatches(out, "test tcp_rr, load open loop at 5%.00\nk/s\ncase  via +rate +mean\n.*\n\ncase .*")
  lu.assertNotStrContains(out:match "\n\ncase .*", "via")
  lu.assertStrContains(show(book_of(list), { ascii = true }), "test    case  via      load ", nil,
    "where there is room")
end

function TestTable:test_a_unit_that_all_share_stands_in_the_title_of_a_narrow_table()
  local book = sweep({ { "a", { [1] = 1e9, [2] = 2.5e9, [3] = 3e9 } } }, "throughput")
  lu.assertEquals(show(book, { columns = 24, ascii = true }),
    "throughput, by mss (Gbit/s)\nrow     1     2     3\n---------------------\na    1.00  2.50  3.00\n")
  lu.assertStrContains(show(book, { ascii = true }), "1.00 Gbit/s  2.50 Gbit/s")
  book = sweep({ { "a", { [1] = 1e9, [2] = 2.5e6, [3] = 3e9 } } }, "throughput")
  lu.assertStrContains(show(book, { columns = 24, ascii = true }), "2.50 Mbit/s", nil, "units that differ stay")
end

function TestTable:test_of_very_many_columns_a_narrow_terminal_shows_every_nth()
  local values = {}
  for i = 1, 20 do values[i] = i * 1e9 end
  values[2] = false
  local book = sweep({ { "a", values }, { "b", values } }, "throughput")
  local out = show(book, { columns = 24, ascii = true })
  lu.assertStrMatches(out, "throughput, by mss %(Gbit/s%)\nrow +1 +5 +9\n.*\n\nrow +13 +17\n.*")
  lu.assertStrContains(out, "5 of 20 columns are\nshown: a wider terminal,\na pipe, --html and --csv\n\z
    show all. 2 of the\nfigures left out failed.")
  local whole = show(book, { ascii = true })
  lu.assertStrMatches(whole, ".*row +1 +2 +3 .* 20\n.*")
  lu.assertNotStrContains(whole, "are shown")
end

function TestTable:test_a_split_table_has_the_rows_that_it_has_figures_of()
  local book = sweep({ { "tcp", { [1] = 1e9, [2] = 2e9 } }, { "udp", { [30] = 5e8 } } }, "throughput",
    { unit = "Mbit/s" })
  lu.assertEquals(show(book, { columns = 17, ascii = true }),
    "throughput, by mss (Mbit/s)\nrow     1     2\n---------------\ntcp  1000  2000\n\nrow   30\n--------\nudp  500\n")
end

function TestTable:test_colour_only_when_asked()
  local book = book_of({ rr("a", 50000, { flags = { "throttled" } }) }, { { rows = "case", columns = { "rate" } } })
  lu.assertNotStrContains(show(book), "\27")
  lu.assertStrContains(show(book, { colour = true }), "\27[33m")
end

function TestTable:test_a_very_long_name_is_cut()
  local out = show(book_of({ rr(("ä"):rep(300), 1000) }, { { columns = { "rate" } } }))
  lu.assertStrContains(out, "\n" .. ("ä"):rep(99) .. "…  1.00 k/s\n")
end

function TestTable:test_a_unit_stands_behind_its_figure()
  local list = { rr("a", 50000, { metrics = { throughput_bps = 19.4e6, latency_ns = { p50 = 9000 } },
    path = { to = { started_ms = 354 } } }) }
  local out = show(
    book_of(list,
    { { columns = { { "t", "throughput", unit = "Mbit/s" }, { "g", "throughput", unit = "Gbit/s" },
    { "b", "throughput", unit = "B/s" },
    { "us", "p50", unit = "us" }, { "ms", "pod_start", unit = "ms" } } } }))
  for _, text in ipairs { "19.4 Mbit/s", "0.0194 Gbit/s", "2.42 MB/s", "9.00 µs", "354 ms" } do
    lu.assertStrContains(out, text)
  end
  lu.assertStrContains(show(book_of(list, { { rows = "case", columns = { "throughput", "p50" }, unit = "ns" } })),
    "9000 ns", nil, "of several, those that it fits")
end

function TestTable:test_values_between_whole_numbers_are_not_rounded()
  local list = { rr("a", 1000, { labels = { cpu = 0.5, loss = 0.001 } }),
    rr("b", 1000, { labels = { cpu = 1.5, loss = 1e-6 } }) }
  local out = show(book_of(list, { { rows = "cpu", columns = "loss", show = "rate" } }))
  for _, text in ipairs { "0.5 ", "1.5 ", "0.001", "1e-06" } do lu.assertStrContains(out, text) end
end

function TestTable:test_notes_in_a_line()
  local note_text = require("knbl.format.table").note_text
  for want, note in pairs { ["a: 1, b: {c: 2.5}"] = { a = 1, b = { c = 2.5 }, line = 3 }, ["x, [y]"] = { "x", { "y" } },
    ["t"] = { text = "t" }, ["t (a: 1)"] = { text = "t", a = 1 },
    ["plain"] = "plain", ["r: 0.333333"] = { r = 1 / 3 },
    ["lo: UP; eth0: UP"] = "lo: UP\n  eth0: UP\n", ["said: a; b"] = { said = "a\nb\n" } } do
    lu.assertEquals(note_text(note), want)
  end
end

function TestTable:test_expectations_and_notes_on_a_narrow_terminal()
  local data = book_of({ rr("a", 1) }).data
  data.notes = { "words that are long enough for two lines" }
  data.expectations = { { test = "tcp_rr", case = "a", expression = "p99 < 1ms", status = "fail",
    reason = "p99 is 5.00 ms" } }
  local out = show({ data = data }, { columns = 30, colour = true })
  lu.assertStrContains(out,
    "note: words that are long\n  enough for two lines\n\27[31m✗ tcp_rr a: p99 < 1ms (p99\27[0m\n\27[31m  is 5.00 \z
      ms)\27[0m\n")
  lu.assertStrContains(show({ data = data }),
    "note: words that are long enough for two lines\n✗ tcp_rr a: p99 < 1ms (p99 is 5.00 ms)\n")
end

os.exit(lu.LuaUnit.run())
