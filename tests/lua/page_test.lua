-- The HTML page and the OpenMetrics text: from a ledger alone, self-contained, and nothing that a name holds gets out
-- of its place.
local lu = require "luaunit"
local core = require "knbl.native"
local json = require "knbl.json"
local declaration = require "knbl.results.declaration"
local ledger = require "knbl.results.ledger"
local html = require "knbl.format.html"
local openmetrics = require "knbl.format.openmetrics"

-- A page without its own script.
local function without_script(page)
  local from, to = page:find(require("knbl.format.html_style").script, 1, true)
  lu.assertTrue(from ~= nil)
  return page:sub(1, from - #"<script>" - 1) .. page:sub(to + #"</script>" + 1)
end

local hostile = [[<script>alert(1)</script>"'&]] .. "\27[31m\0\nx"

local function histogram(values)
  local agent = assert(core.agent { listen = "127.0.0.1:0", token = ("k"):rep(16) })
  local run = assert(core.run(json.encode { test = "tcp_rr", count = values, warmup = 0 },
    { host = "127.0.0.1", port = agent:port(), token = ("k"):rep(16) }))
  assert(run:wait(10))
  local result = json.decode(run:result())
  run:close()
  agent:close()
  return result
end

local function book(case)
  local b = ledger.new { core = core, scenario = "x.lua", question = case }
  local result = histogram(500)
  for repeats = 1, 6 do
    for _, size in ipairs { 1, 64, 4096 } do
      b:add { test = "tcp_lat", case = case, from = "a", to = "b", via = "pod_ip", ok = true, params = { size = size },
        metrics = { latency_ns = { mean = 1000 * repeats + size, p50 = 1, p90 = 2, p99 = 3, p999 = 4, count = 500 },
        rate_per_s = 5e4 }, latency_histogram = result.latency_histogram }
    end
  end
  b:add { test = "tcp_stream", case = case, from = "a", to = "b", via = "service", ok = true, flags = { "retransmits" },
    params = {},
    metrics = { throughput_bps = 1e9, intervals = { { t = 0, bps = 1e9 }, { t = 1, bps = 2e9 },
    { t = 2, bps = 1e9 } } } }
  for _, pair in ipairs { { "a", "b" }, { "b", "c" }, { "c", "a" } } do
    b:add { test = "udp_rr", case = case, from = pair[1], to = pair[2], via = "pod_ip", ok = true, params = {},
      metrics = { rate_per_s = 1e4 } }
  end
  b:add { test = "tcp_rr", case = case, from = "a", to = "b", via = "pod_ip", ok = false, skipped = "not here",
    params = {} }
  b:finish { status = "pass", exit = 0 }
  return b.data
end

TestPage = {}

function TestPage:test_holds_what_was_measured()
  local page = html.render(book "a case", { core = core })
  for _, part in ipairs { "a case", "tcp_lat: latency by percentile", "tcp_lat: mean by message size",
    "tcp_stream: throughput over time", "udp_rr: rate, from (down)",
    "less is better", "more is better", "with 95 % intervals", "not here", "1.00 Gbit/s" } do
    lu.assertTrue(page:find(part, 1, true) ~= nil, part)
  end
end

function TestPage:test_needs_nothing_beside_it()
  local page = html.render(book "a case", { core = core })
  lu.assertNil(page:find("https?://"))
  lu.assertEquals(select(2, page:gsub("<script", "")), 1)
  lu.assertNil(page:find("<script[^>]")) -- its own, within the page
  lu.assertStrContains(page, "default-src 'none'")
  lu.assertNil(page:find("url(", 1, true))
  lu.assertNil(page:find("nan", 1, true))
end

function TestPage:test_paper_is_light()
  local page = html.render(book "a case", { core = core })
  for query in page:gmatch "@media([^{]*)dark" do lu.assertStrContains(query, "screen and") end
end

function TestPage:test_names_cannot_leave_their_place()
  local page = without_script(html.render(book(hostile), { core = core }))
  lu.assertNil(page:find("<script", 1, true))
  lu.assertNil(page:find("[%z\27]"))
  -- every tag is one that this page writes
  for tag in page:gmatch "<(%a[%w]*)" do
    lu.assertStrContains(" html head meta title style body p h1 h2 h3 span div nav a table thead tbody tr th td \z
      small figure figcaption svg text rect path circle sup br ul li b i details summary ", " " .. tag .. " ")
  end
end

function TestPage:test_labels_say_what_it_takes_and_no_more()
  local page = html.render(book "a case", { core = core })
  lu.assertStrContains(page, ">a case · 4 KiB<")
  lu.assertNotStrContains(page, "a case · pod ip · 4 KiB")
  -- tcp_stream, which TCP sent again
  lu.assertStrContains(page, "more is better; * is doubtful, see the tables</small>")
  lu.assertStrContains(page, "less is better, with 95 % intervals</small>")
end

function TestPage:test_the_rate_of_an_open_loop_is_no_chart()
  local b = ledger.new { core = core, scenario = "x.lua" }
  b:add { test = "tcp_rr", case = "c", from = "a", to = "b", ok = true, params = { rate = "5000/s" },
    metrics = { rate_per_s = 5000, latency_ns = { p50 = 7000 } } }
  local page = html.render(b.data, { core = core })
  lu.assertStrContains(page, "tcp_rr: p50")
  lu.assertNotStrContains(page, "tcp_rr: rate")
  b.data.measurements[1].metrics.intervals = { { t = 0, ops_per_s = 5000 }, { t = 1, ops_per_s = 5000 },
    { t = 2, ops_per_s = 4000 } }
  page = html.render(b.data, { core = core })
  lu.assertStrContains(page,
    "tcp_rr: rate over time <small>as was asked for, unless it falls; seconds since the window opened</small>")
  b:add(b.data.measurements[1])
  lu.assertStrContains(html.render(b.data, { core = core }), "opened; of repeats the first</small>")
end

function TestPage:test_open_and_closed_cold_and_warm_in_one_chart()
  local b = ledger.new { core = core, scenario = "x.lua" }
  b:add { test = "tcp_rr", case = "c", from = "a", to = "b", ok = true, params = { rate = "5000/s", warmup = 1 },
    metrics = { rate_per_s = 5000, latency_ns = { p50 = 7000 } } }
  b:add { test = "tcp_rr", case = "d", from = "a", to = "b", ok = true, params = { warmup = 0 },
    metrics = { rate_per_s = 9000, latency_ns = { p50 = 8000 } } }
  local page = html.render(b.data, { core = core })
  lu.assertStrContains(page, '<span class="name">c · open loop at 5.00 k/s · warm</span>')
  lu.assertStrContains(page, '<span class="name">d · closed loop · cold</span>')
  lu.assertNotStrContains(page, "tcp_rr: rate")
end

function TestPage:test_a_huge_ledger_is_a_small_page()
  local b = ledger.new { core = core, scenario = "x.lua" }
  local intervals = {}
  for i = 1, 200000 do intervals[i] = { t = i, bps = 1e9 + i } end
  b:add { test = "tcp_stream", case = "c", from = "a", to = "b", ok = true, params = {},
    metrics = { throughput_bps = 1e9, intervals = intervals } }
  local page = html.render(b.data, { core = core })
  lu.assertStrContains(page, "tcp_stream: throughput over time")
  lu.assertTrue(#page < 50000, #page)
end

-- A table over the numbers of one key is drawn as curves, in the unit of that table, though each number has a case of
-- its own.
function TestPage:test_a_sweep_that_a_script_declares()
  local b = ledger.new { core = core, scenario = "x.lua" }
  for _, path in ipairs { "direct", "service" } do
    for i, mss in ipairs { 96, 536, 1460 } do
      b:add { test = "tcp_stream", case = path .. " mss " .. mss, from = "a", to = "b", ok = true,
        labels = { path = path, mss = mss }, params = { mss = mss }, metrics = { throughput_bps = i * 8e8 } }
    end
  end
  b:add { test = "tcp_rr", case = "x", from = "a", to = "b", ok = true, params = {}, labels = {},
    metrics = { rate_per_s = 1 } }
  b:report(require("knbl.results.declaration").declare(core,
    { rows = "path", columns = "mss", show = "throughput", unit = "B/s" }))
  local page = html.render(b.data, { core = core })
  lu.assertStrContains(page, "throughput, by mss <small>more is better</small>")
  lu.assertStrContains(page, '<title>service: 300 MB/s</title>')
  lu.assertStrContains(page, ">1460</text>")
  lu.assertStrContains(page, '<span class="value">100 MB/s</span>')
  lu.assertNotStrContains(page, "bit/s")
end

-- More bars or curves than one looks through are folded; parts of one chart are numbered, and have one scale.
function TestPage:test_many_are_folded()
  local function page_of(n)
    local b = ledger.new { core = core, scenario = "x.lua" }
    for i = 1, n do
      b:add { test = "tcp_stream", case = "c" .. i, from = "a", to = "b", ok = true, params = {},
        metrics = { throughput_bps = i * 1e9,
        intervals = { { t = 0, bps = i * 1e9 }, { t = 1, bps = i * 1e9 }, { t = 2, bps = i * 1e9 } } } }
    end
    return html.render(b.data, { core = core })
  end
  local page = page_of(10)
  lu.assertNotStrContains(page, "<summary>tcp_stream")
  local scales = {}
  for drawing in page:gmatch 'over time %(%d of 2%) <.-</svg>' do
    scales[#scales + 1] = select(2, drawing:gsub("10%.0 Gbit/s</text>", ""))
  end
  lu.assertEquals(scales, { 1, 1 })
  lu.assertStrContains(page, "over time (2 of 2)")
  page = page_of(30)
  lu.assertStrContains(page, "<summary>tcp_stream: throughput, all 30 of them</summary>")
  lu.assertStrContains(page, "<summary>tcp_stream: throughput over time, 30 curves</summary>")
end

function TestPage:test_the_verdict_in_a_sentence()
  local function page_of(verdict, expectations)
    local b = ledger.new { core = core, scenario = "x.lua" }
    b:finish(verdict)
    b.data.expectations = expectations or b.data.expectations
    return html.render(b.data, { core = core })
  end
  lu.assertStrContains(page_of { status = "pass", measured = 1, skipped = 0 },
    "everything was measured; there was no expectation to hold")
  lu.assertStrContains(page_of({ status = "pass", measured = 1, skipped = 2 },
    { { status = "pass", expression = "p99 < 1s" } }), "1 measured, 2 skipped with the reason, every expectation held")
  lu.assertStrContains(page_of { status = "running" }, "unfinished: what was measured until then")
end

function TestPage:test_an_empty_ledger()
  local b = ledger.new { core = core, scenario = "x.lua" }
  b:finish { status = "error", exit = 1 }
  lu.assertStrContains(html.render(b.data, { core = core }), "</html>")
end

-- Paths that are measured directly and through a Service, the Service `factor` times as slow; a table that compares
-- them.
local function both_ways(options)
  local b = ledger.new { core = core, scenario = "x.lua", question = "What does a Service cost?" }
  for round = 1, options.repeats or 6 do
    for path = 1, options.paths or 3 do
      for _, by in ipairs { "direct", "service" } do
        local mean = 1000 * (1 + round / 100) * path * (by == "service" and options.factor or 1)
        b:add { test = "tcp_rr", case = path .. " " .. by, from = "a", to = "b", via = by == "service" and by
          or "pod_ip", round = round, ok = true,
          labels = { path = options.name or "p" .. path, by = by }, params = {}, latency_histogram = options.histogram,
          metrics = { rate_per_s = 1e9 / mean, latency_ns = { mean = mean, p50 = mean, count = 1000 },
          intervals = options.intervals } }
      end
    end
  end
  b:report(require("knbl.results.declaration").declare(core,
    { rows = { "path", "by" }, columns = { { "lat", test = "tcp_rr", show = "mean" } } }))
  b:finish { status = "pass", exit = 0 }
  return b.data
end

-- The first screen: question, answer, and the chart of what is compared, before any table.
function TestPage:test_the_answer_and_its_chart_come_first()
  local page = html.render(both_ways { factor = 1.5 }, { core = core })
  local first = page:match "<body>(.-)<h2"
  lu.assertStrContains(first, "service against direct: lat is 50.0 %")
  lu.assertTrue(first:find("What does a Service cost?", 1, true) < first:find("lat is 50.0 %", 1, true))
  lu.assertNotStrContains(page:match "<h2.*", 'class="answer"') -- said once
end

function TestPage:test_pairs_stand_side_by_side_with_their_difference()
  local page = html.render(both_ways { factor = 1.5 }, { core = core })
  local first = page:match "<body>(.-)<h2"
  lu.assertStrContains(first, "lat: service against direct <small>less is better, with 95 % intervals")
  lu.assertEquals(select(2, first:gsub('<span class="by worse">%+50%.0 %%</span>', "")), 3)
  lu.assertEquals(select(2, first:gsub('class="whisker"', "")), 6)
  lu.assertStrContains(first, '<span class="key s1">direct</span> <span class="key s2">service</span>')
  first = html.render(both_ways { factor = 0.5 }, { core = core }):match "<body>(.-)<h2"
  lu.assertEquals(select(2, first:gsub('<span class="by better">%-50%.0 %%</span>', "")), 3)
end

function TestPage:test_pairs_without_a_difference_are_grey()
  local first = html.render(both_ways { factor = 1 }, { core = core }):match "<body>(.-)<h2"
  lu.assertEquals(select(2, first:gsub('<span class="by">0%.0 %%</span>', "")), 3)
  first = html.render(both_ways { factor = 1.5, repeats = 2 }, { core = core }):match "<body>(.-)<h2"
  lu.assertStrContains(first, "of too few repeats to tell")
  lu.assertNotStrContains(first, 'class="by worse"')
end

function TestPage:test_names_in_pairs_cannot_leave_their_place()
  local page = without_script(html.render(both_ways { factor = 2, name = hostile }, { core = core }))
  lu.assertNil(page:find("<script", 1, true))
end

-- Curves of a compared path share a small chart, and all of those one scale.
function TestPage:test_small_multiples_on_one_scale()
  local intervals = { { t = 0, ops_per_s = 1e5 }, { t = 1, ops_per_s = 2e5 }, { t = 2, ops_per_s = 1e5 } }
  local page = html.render(both_ways { factor = 1.5, paths = 4, intervals = intervals,
    histogram = histogram(500).latency_histogram }, { core = core })
  for _, title in ipairs { "tcp_rr: latency by percentile", "tcp_rr: rate over time" } do
    local figure = page:match(title:gsub("%p", "%%%0") .. " <small>(.-)</figure>")
    lu.assertStrContains(figure, "one scale for all")
    local drawings, axes = 0, {}
    for svg in figure:gmatch '<svg class="mini"(.-)</svg>' do
      local _, curves = svg:gsub('class="line s[12]"', "")
      local labels = {}
      for label in svg:gmatch 'class="end">([^<]*)<' do labels[#labels + 1] = label end
      drawings, axes[table.concat(labels, " ")] = drawings + 1, true
      lu.assertEquals(curves, 2)
    end
    lu.assertEquals(drawings, 4)
    lu.assertTrue(next(axes) ~= nil and next(axes, next(axes)) == nil)
  end
end

-- In a closed loop the mean of an interval follows from its rate: twice as fast is half as long.
function TestPage:test_latency_over_time()
  local b = ledger.new { core = core, scenario = "x.lua" }
  b:add { test = "tcp_lat", case = "c", from = "a", to = "b", ok = true, params = {},
    metrics = { rate_per_s = 1e5, latency_ns = { mean = 5000, count = 9 },
    intervals = { { t = 0, ops_per_s = 1e5 }, { t = 1, ops_per_s = 2e5 }, { t = 2, ops_per_s = 5e4 } } } }
  local page = html.render(b.data, { core = core })
  local figure = page:match "tcp_lat: mean over time <small>(.-)</figure>"
  for _, value in ipairs { "c: 5.00 µs", "c: 2.50 µs", "c: 10.0 µs" } do
    lu.assertStrContains(figure, "<title>" .. value .. "</title>")
  end
end

-- The label of a sweep may be the rate as the script wrote it; rates of one case are never one bar or one curve.
function TestPage:test_rates_of_one_case_are_a_sweep()
  for _, label_of in ipairs { function(rate) return rate end,
    function(rate) return ("%gk/s"):format(rate / 1000) end } do
    local b = ledger.new { core = core, scenario = "x.lua" }
    for _, rate in ipairs { 1000, 2000, 4000 } do
      b:add { test = "tcp_rr", case = "offered", from = "a", to = "b", via = "pod_ip", ok = true,
        labels = { offered = label_of(rate) }, params = { rate = rate .. "/s" },
        metrics = { rate_per_s = rate, latency_ns = { p50 = rate, p99 = 2 * rate, count = 5000 } } }
    end
    local page = html.render(b.data, { core = core })
    lu.assertStrContains(page, "tcp_rr: latency by load, a to b (pod ip)")
    for _, rate in ipairs { "1.00", "2.00", "4.00" } do
      lu.assertStrContains(page, "offered · open loop at " .. rate .. " k/s")
    end
  end
end

function TestPage:test_what_is_0_on_both_sides_is_no_chart()
  local b = ledger.new { core = core, scenario = "x.lua" }
  for i, kind in ipairs { "connect", "session" } do
    b:add { test = "probe", case = kind, from = "a", to = "b", ok = true, params = {}, labels = { kind = kind },
      metrics = { outage_total = 0, timeouts = 0, refused = i } }
  end
  b:report(declaration.declare(core, { rows = "test", columns = "kind",
    show = { "outage_total", "timeouts", "refused" } }))
  local page = html.render(b.data, { core = core })
  lu.assertStrContains(page, "refused: session against connect")
  lu.assertNotStrContains(page, "timeouts: session against connect")
  lu.assertStrContains(page, ">0 s<")
end

function TestPage:test_a_long_mark_at_the_edge_of_a_chart_ends_there()
  local chart = require "knbl.format.chart"
  local drawing = chart.lines({ { label = "x", points = { { 1, 1 }, { 2, 1 }, { 3, 1 } } } },
    { title = "t", x_ticks = { 1, 2, 3 },
    show_x = function(x) return ("2026-01-0%d 00:00:00"):format(x) end, show_y = tostring })
  lu.assertStrMatches(drawing, '.*x="758[^>]*class="end[^>]*>2026%-01%-03 00:00:00<.*')
  lu.assertStrMatches(drawing, '.*class="mid[^>]*>2026%-01%-02 00:00:00<.*')
end

function TestPage:test_paper_shows_nothing_folded_below_a_chart()
  local style = require("knbl.format.html_style").style
  lu.assertStrMatches(style, ".*@media print{.*figure details:not%(%[open%]%)[^{]*{display:none}.*")
end

function TestPage:test_load_and_latency_of_a_sweep_of_rates()
  local b = ledger.new { core = core, scenario = "x.lua" }
  for i, rate in ipairs { 1000, 2000, 4000 } do
    b:add { test = "tcp_rr", case = "at " .. rate, from = "a", to = "svc-" .. i, via = "service",
      servers = { { name = "b" } }, ok = true, labels = { load = rate }, params = { rate = rate .. "/s" },
      metrics = { rate_per_s = rate * 0.9, latency_ns = { p50 = 1000 * i, p99 = 50000 * i, count = 5000 } } }
  end
  local page = html.render(b.data, { core = core })
  local figure = page:match "tcp_rr: latency by load, a to b %(service%) <small>(.-)</figure>"
  lu.assertStrContains(figure, "<title>p99: 150 µs</title>")
  lu.assertEquals(select(2, figure:gsub('class="line', "")), 2)
  table.remove(b.data.measurements)
  lu.assertNotStrContains(html.render(b.data, { core = core }), "latency by load")
end

function TestPage:test_moments_that_a_script_marked()
  local b = ledger.new { core = core, scenario = "x.lua" }
  b:add { test = "tcp_stream", case = "c", from = "a", to = "b", ok = true, params = {},
    marks = { { t = 1.5, text = "pod <deleted>" } },
    metrics = { throughput_bps = 1e9, intervals = { { t = 0, bps = 1e9 }, { t = 1, bps = 2e9 },
    { t = 2, bps = 1e9 } } } }
  lu.assertStrContains(html.render(b.data, { core = core }), "<title>pod &lt;deleted&gt;, 1.500 s</title>")
end

function TestPage:test_every_link_has_its_place()
  local page, links = html.render(book "a case", { core = core }), 0
  for anchor in page:gmatch 'href="#(%w+)"' do
    lu.assertEquals(select(2, page:gsub('id="' .. anchor .. '"', "")), 1)
    links = links + 1
  end
  lu.assertTrue(links > 6)
  for _, part in ipairs { ">Figures</a>", ">Charts</a>", ">Measured on</a>", ">tcp_lat: latency by percentile</a>" } do
    lu.assertStrContains(page, part)
  end
end

-- Cells are sorted by what was measured, not by how it reads.
function TestPage:test_tables_can_be_sorted()
  local page = html.render(both_ways { factor = 1000, paths = 1, repeats = 1 }, { core = core })
  lu.assertStrContains(page, '<table class="data"><thead><tr><th>path</th>')
  lu.assertStrContains(page, '<td class="n" data-v="1010">1.01 µs')
  lu.assertStrContains(page, '<td class="n" data-v="1.01e+06">1.01 ms')
end

function TestPage:test_five_hundred_measurements_are_less_than_a_megabyte()
  local intervals, monitor = {}, { name = "node-1", kind = "node", side = "client", t = {},
    cpu = { user = {}, idle = {} } }
  for i = 1, 60 do intervals[i], monitor.t[i] = { t = i / 2, bps = 1e9 * (1 + i % 7) }, i / 2 end
  for c = 1, 8 do
    monitor.cpu.user[c], monitor.cpu.idle[c] = {}, {}
    for i = 1, 60 do monitor.cpu.user[c][i], monitor.cpu.idle[c][i] = 0.1 * c, 1 - 0.1 * c end
  end
  local b = ledger.new { core = core, scenario = "x.lua" }
  local latencies = histogram(2000).latency_histogram
  for i = 1, 250 do
    b:add { test = "tcp_stream", case = "case number " .. i, from = "a", to = "b", ok = true, params = {},
      monitor = { monitor }, metrics = { throughput_bps = i * 1e8, intervals = intervals } }
    b:add { test = "tcp_rr", case = "case number " .. i, from = "a", to = "b", ok = true, params = {},
      latency_histogram = latencies,
      metrics = { rate_per_s = 1e4, latency_ns = { mean = 1e5 + i, p50 = 1e5, p99 = 2e5, count = 2000 } } }
  end
  local page = html.render(b.data, { core = core })
  lu.assertTrue(#page < 1e6, #page)
  lu.assertStrContains(page, "more are in the ledger (--json)")
end

TestOpenMetrics = {}

function TestOpenMetrics:test_form()
  local text = openmetrics.render(book(hostile))
  lu.assertEquals(text:sub(-6), "# EOF\n")
  for line in text:gmatch "[^\n]+" do
    local label = '[%w_]+="[^"\\]*"'
    local plain = line:gsub('\\[\\"n]', "")
    lu.assertTrue(line:sub(1, 1) == "#" or line:find "^knbl_exit_code %d+$" ~= nil
      or plain:match("^knbl_[%w_]+{.*} %-?[%d.e+-]+$") ~= nil and plain:gsub(label, "") ~= plain, line)
  end
  lu.assertStrContains(text, 'quantile="0.99"')
  lu.assertStrContains(text, 'knbl_measurements{state="measured"} 22\n\z
    knbl_measurements{state="skipped"} 1\nknbl_measurements{state="failed"} 0\n')
  lu.assertStrContains(text, "\nknbl_exit_code 0\n")
end

-- What was watched stands under the curve, over the same seconds; hostile or broken columns spoil nothing.
local function watched(monitor)
  local b = ledger.new { core = core, scenario = "x.lua", question = "q" }
  b:add { test = "tcp_stream", case = "c", from = "a", to = "b", ok = true, params = {},
    monitor = json.array { monitor }, metrics = { throughput_bps = 1e9,
      intervals = { { t = 0, bps = 1e9 }, { t = 1, bps = 2e9 }, { t = 2, bps = 1e9 } } } }
  b:finish { status = "pass", exit = 0 }
  return html.render(json.decode(json.encode(b.data)), { core = core })
end

function TestPage:test_what_was_watched_stands_under_the_curve()
  local page = without_script(watched { name = "node-1", kind = "node", side = "client", from = -0.5, t = { 1, 2, 3 },
    cpu = { user = { 0.5, 0 }, system = { { 0.1, 0.2, 0.3 }, 0 }, softirq = { 0, 0 }, steal = { 0, 0 },
      idle = { { 0.4, 0.3, 0.2 }, 1 } },
    tcp = { retransmits = { 1, 2, 0 } }, interfaces = { [hostile] = { rx_drops = { 5, 0, 0 } } },
    conntrack = { entries = { 90, 99, 98 }, max = 100 } })
  for _, part in ipairs { "meanwhile: c", "node-1, 2 cores; the busiest, CPU 0, 70 %", "3 segments sent again",
    "99 of 100 tracked connections", "dropped 5 packets", 'class="area s2"', "CPU 0: 80 % busy", "CPU 1: 0 % busy" } do
    lu.assertTrue(page:find(part, 1, true) ~= nil, part)
  end
  lu.assertNil(page:find("<script", 1, true))
  lu.assertNil(page:find("nan", 1, true))
  local points = page:match 'class="area s1"' and page:match '<path d="M([^"]*)" class="area s1"'
  -- not beyond the curve
  for x in points:gmatch "(%-?[%d.]+) %-?[%d.]+" do lu.assertTrue(tonumber(x) >= 84 and tonumber(x) <= 740, x) end
end

function TestPage:test_what_could_not_be_watched_says_why()
  lu.assertTrue(watched { name = hostile, side = "server",
    error = { code = "permission", message = "not here <b>" } }:find("not watched: not here &lt;b&gt;", 1, true) ~= nil)
  for _, broken in ipairs { {}, { t = {} }, { t = 7 }, { t = { 1 }, cpu = 3 },
    { t = { 1, 2 }, cpu = { user = { "x", { "y" } } }, tcp = { retransmits = { "a" } } } } do
    watched(broken)
  end
end

os.exit(lu.LuaUnit.run())
