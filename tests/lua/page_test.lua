-- The HTML page and the OpenMetrics text: from a ledger alone, self-contained, and nothing that a name holds gets out of its place.
local lu = require "luaunit"
local core = require "knbl.native"
local json = require "knbl.json"
local ledger = require "knbl.ledger"
local html = require "knbl.format.html"
local openmetrics = require "knbl.format.openmetrics"

local hostile = [[<script>alert(1)</script>"'&]] .. "\27[31m\0\nx"

local function histogram(values)
  local agent = assert(core.agent { listen = "127.0.0.1:0", token = ("k"):rep(16) })
  local run = assert(core.run(json.encode { test = "tcp_rr", count = values, warmup = 0 }, { host = "127.0.0.1", port = agent:port(), token = ("k"):rep(16) }))
  assert(run:wait(10))
  local result = json.decode(run:result())
  run:close()
  agent:close()
  return result
end

local function book(case)
  local b = ledger.new { core = core, scenario = "x.lua", question = case }
  local result = histogram(500)
  for repeats = 1, 4 do
    for _, size in ipairs { 1, 64, 4096 } do
      b:add { test = "tcp_lat", case = case, from = "a", to = "b", via = "pod_ip", ok = true, params = { size = size },
        metrics = { latency_ns = { mean = 1000 * repeats + size, p50 = 1, p90 = 2, p99 = 3, p999 = 4, count = 500 }, rate_per_s = 5e4 },
        latency_histogram = result.latency_histogram }
    end
  end
  b:add { test = "tcp_stream", case = case, from = "a", to = "b", via = "service", ok = true, flags = { "retransmits" }, params = {},
    metrics = { throughput_bps = 1e9, intervals = { { t = 0, bps = 1e9 }, { t = 1, bps = 2e9 }, { t = 2, bps = 1e9 } } } }
  for _, pair in ipairs { { "a", "b" }, { "b", "c" }, { "c", "a" } } do
    b:add { test = "udp_rr", case = case, from = pair[1], to = pair[2], via = "pod_ip", ok = true, params = {}, metrics = { rate_per_s = 1e4 } }
  end
  b:add { test = "tcp_rr", case = case, from = "a", to = "b", via = "pod_ip", ok = false, skipped = "not here", params = {} }
  b:finish { status = "pass", exit = 0 }
  return b.data
end

TestPage = {}

function TestPage:test_holds_what_was_measured()
  local page = html.render(book "a case", { core = core })
  for _, part in ipairs { "a case", "tcp_lat: latency by percentile", "tcp_lat: mean by message size", "tcp_stream over time", "udp_rr: rate, from (down)",
    "less is better", "more is better", "with 95 % intervals", "not here", "1.00 Gbit/s" } do
    lu.assertTrue(page:find(part, 1, true) ~= nil, part)
  end
end

function TestPage:test_needs_nothing_beside_it()
  local page = html.render(book "a case", { core = core })
  lu.assertNil(page:find("https?://"))
  lu.assertNil(page:find("<script", 1, true))
  lu.assertNil(page:find("url(", 1, true))
  lu.assertNil(page:find("nan", 1, true))
end

function TestPage:test_names_cannot_leave_their_place()
  local page = html.render(book(hostile), { core = core })
  lu.assertNil(page:find("<script", 1, true))
  lu.assertNil(page:find("[%z\27]"))
  -- every tag is one that this page writes
  for tag in page:gmatch "<(%a[%w]*)" do
    lu.assertStrContains(" html head meta title style body p h1 h2 h3 span div table tr th td small figure figcaption svg text rect path circle sup br ul li b ",
      " " .. tag .. " ")
  end
end

function TestPage:test_an_empty_ledger()
  local b = ledger.new { core = core, scenario = "x.lua" }
  b:finish { status = "error", exit = 1 }
  lu.assertStrContains(html.render(b.data, { core = core }), "</html>")
end

TestOpenMetrics = {}

function TestOpenMetrics:test_form()
  local text = openmetrics.render(book(hostile))
  lu.assertEquals(text:sub(-6), "# EOF\n")
  for line in text:gmatch "[^\n]+" do
    local label = '[%w_]+="[^"\\]*"'
    local plain = line:gsub('\\[\\"n]', "")
    lu.assertTrue(line:sub(1, 1) == "#" or plain:match("^knbl_[%w_]+{.*} %-?[%d.e+-]+$") ~= nil and plain:gsub(label, "") ~= plain, line)
  end
  lu.assertStrContains(text, 'quantile="0.99"')
end

os.exit(lu.LuaUnit.run())
