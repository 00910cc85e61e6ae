-- CSV, Markdown, JUnit and the others: the sweep of the Kubernetes benchmark, and names that are hostile: nothing that
-- a name holds gets out of its cell.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local book = require "book"
local core = require "knbl.native"

local book_of, show, rr = book.of, book.show, book.rr

TestFormats = {}

local function csv(book) return require("knbl.format.csv").render(book.data, { core = core }) end

local nasty = '=cmd|"/c calc"!A0, <script>&]]>\r\n\27[31m\0|`*\255'

local function hostile()
  local book = book_of({ rr(nasty, 1000, { labels = { path = nasty }, flags = { nasty } }),
    { case = nasty, skipped = nasty },
    { case = nasty, ok = false, error = { code = nasty, message = nasty } } }, {})
  book.data.scenario, book.data.question = nasty, nasty
  book:note { text = nasty }
  book.data.expectations[1] = { case = nasty, expression = nasty, status = "fail", reason = nasty }
  return book
end

function TestFormats:test_the_sweep_csv()
  local list = {}
  for i, mss in ipairs { 96, 352, 608 } do
    list[#list + 1] = { test = "tcp_stream", labels = { row = "iperf TCP. Same VM using Pod IP", mss = mss },
      metrics = { throughput_bps = (33835 - i % 2) * 1e6 } }
  end
  list[#list + 1] = { test = "udp_stream", labels = { row = "iperf UDP. Same VM using Pod IP" },
    metrics = { throughput_bps = 10642e6 } }
  local book = book_of(list, { { rows = "row", columns = "mss", show = "throughput", unit = "Mbit/s",
    layout = "sweep" } })
  local out = csv(book)
  lu.assertEquals(out, "MSS                                          , Maximum, 96, 352, 608,\n"
    .. "1 iperf TCP. Same VM using Pod IP            ,33835.000000,33834,33835,33834,\n"
    .. "2 iperf UDP. Same VM using Pod IP            ,10642.000000,10642,\n")
  out = show(book)
  lu.assertStrContains(out, "throughput, by mss\n", nil, "on a terminal it is a table")
  lu.assertStrMatches(out, ".*\nrow +96 +352 +608 +no mss\n.*")
  lu.assertStrMatches(out, ".*\niperf UDP%. Same VM using Pod IP +– +– +– +10642 Mbit/s\n.*")
end

function TestFormats:test_a_sweep_of_several_rows_in_its_unit()
  local list = { rr("a", 1000, { labels = { overlay = "vxlan", mtu = 1500, mss = 96 } }) }
  local out = csv(book_of(list, { { title = "Latency", rows = { "overlay", "mtu" }, columns = "mss", show = "mean",
    unit = "us", layout = "sweep" } }))
  lu.assertStrContains(out, "MSS ")
  lu.assertStrContains(out, "1 vxlan 1500                                 ,1.000000,1,\n")
end

function TestFormats:test_hostile_names_on_a_terminal()
  local out = show(hostile())
  lu.assertNil(out:find("[%z\1-\9\11-\31\127]"))
  lu.assertEquals(#out:gsub("[^\255]", ""), 0)
end

function TestFormats:test_no_column_of_the_csv_is_there_twice()
  local out = require("knbl.format.csv").render(
    book_of({ rr("a", 1, { labels = { path = "x", case = "y" }, params = { test = "tcp_rr", path = "/" } }) }).data,
    { core = core })
  lu.assertEquals(out:match "^[^\r]*",
    "test,case,from,to,via,round,ok,error,skipped,flags,label case,path,parameter path,rate [1/s],mean [ns],p99 [ns]")
end

function TestFormats:test_hostile_names_in_csv()
  local out = require("knbl.format.csv").render(hostile().data, { core = core })
  lu.assertStrContains(out, "\"'=cmd|\"\"/c calc")
  lu.assertNil(out:find(",=", 1, true))
  local outside = out:gsub('"[^"]*"', "")
  lu.assertEquals(select(2, outside:gsub("\r\n", "")), 4, "one line for the head and each measurement")
end

-- A formula after a space, what a terminal obeys, no UTF-8, a turn of direction: each is a name of its own here.
function TestFormats:test_what_reaches_beyond_its_name()
  local list = {}
  for i, name in ipairs { " =1+2", "\27[31m", "\255", "\226\128\174rtl", "\194\155" } do
    list[i] = rr(name, 1000, { params = {} })
  end
  local data = book_of(list).data
  local csv = require("knbl.format.csv").render(data, { core = core })
  lu.assertStrContains(csv, ",' =1+2,")
  lu.assertNil(csv:find("[%z\1-\9\11\12\14-\31\127]"))
  local metrics = require("knbl.format.openmetrics").render(data)
  lu.assertNil(metrics:find "[\27\255]")
  for _, out in ipairs { show(book_of(list)), require("knbl.format.html").render(data, { core = core }),
    require("knbl.format.markdown").render(data, { core = core }) } do
    lu.assertNil(out:find("\226\128\174", 1, true))
    lu.assertNil(out:find("\255", 1, true))
    lu.assertStrContains(out, "?rtl")
  end
end

function TestFormats:test_markdown_says_how_runtimes_ran()
  local book = hostile()
  book.data.environment.runtimes = { gvisor = "runsc 2022, ptrace, its own stack", runc = "namespaces" }
  local out = require("knbl.format.markdown").render(book.data, { core = core })
  lu.assertStrContains(out, "gvisor: runsc 2022, ptrace, its own stack; runc: namespaces")
end

function TestFormats:test_markdown_begins_with_the_verdict()
  local book = book_of { rr("a", 1) }
  book:finish { status = "error", message = "x.lua:5: boom <x>" }
  lu.assertStrContains(require("knbl.format.markdown").render(book.data, { core = core }),
    "## What?\n\n❌ **error** x.lua:5: boom &lt;x&gt;\n")
  book:finish { status = "pass", measured = 1, skipped = 1 }
  lu.assertStrContains(require("knbl.format.markdown").render(book.data, { core = core }),
    "✅ **pass** 1 measured, 1 skipped with the reason; there was no expectation")
end

function TestFormats:test_hostile_names_in_markdown()
  local out = require("knbl.format.markdown").render(hostile().data, { core = core })
  lu.assertNil(out:find("<script", 1, true))
  lu.assertNil(out:find("[%z\1-\9\11-\31]"))
  for line in out:gmatch("[^\n]+") do
    if line:sub(1, 1) == "|" and line:find("tcp", 1, true) then lu.assertNil(line:find("[^\\]`")) end
  end
end

-- The figures that a measurement is about, and no others: a path MTU has no rate, a metric only its value.
function TestFormats:test_junit_has_each_test_s_headline()
  local data = book.of({ { test = "metric", case = "cost", metrics = { value = 3.5 }, metric = { name = "cost",
    unit = "EUR" } }, { test = "pmtu", case = "path", metrics = { rate_per_s = 500, forward = { mtu_path = 1400 } } },
    { test = "probe", case = "gone", metrics = { outage_longest = 0.016, rate_per_s = 300 } } }).data
  local out = require("knbl.format.junit").render(data, { core = core })
  for _, text in ipairs { "cost 3.50 EUR", "MTU 1400", "longest 16.0 ms" } do
    lu.assertStrContains(out, "<system-out>" .. text .. "</system-out>")
  end
end

function TestFormats:test_hostile_names_in_junit()
  local out = require("knbl.format.junit").render(hostile().data, { core = core })
  lu.assertNil(out:find("[%z\1-\9\11-\31]"))
  lu.assertNil(out:find("<script", 1, true))
  lu.assertNil(out:find("]]>", 1, true))
  lu.assertEquals(select(2, out:gsub("<testcase ", "")),
    select(2, out:gsub("</testcase>", "")) + select(2, out:gsub('"/>\n  </testsuite', "x")) * 0)
end

os.exit(lu.LuaUnit.run())
