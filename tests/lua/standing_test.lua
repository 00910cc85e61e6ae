-- What knbl watch keeps between runs: bounded, its counters only grow, and each family of its text has a type.
local lu = require "luaunit"
local core = require "knbl.native"
local format = require "knbl.format.standing"
local json = require "knbl.json"
local ledger = require "knbl.results.ledger"
local standing = require "knbl.results.standing"

TestStanding = {}

-- A histogram with ten of each value; values are below 256, or the lower ends of buckets.
local function histogram(indexes, values)
  local h = { count = 10 * #values, min = values[1], max = values[#values], buckets = {} }
  local sum, squares = 0, 0
  for i, value in ipairs(values) do
    h.buckets[i] = { indexes[i], 10 }
    sum, squares = sum + 10 * value, squares + 10 * value * value
  end
  h.sum, h.sum_sq = ("%.0f"):format(sum), ("%.0f"):format(squares)
  return h
end

-- A ledger of measurements; `values` are latencies in ns, below 256 each.
local function book(list)
  local data = { schema = 1, scenario = "s.lua", question = "Is it well?", provider = "lab", measurements = {},
    expectations = list.expectations or {} }
  for i, m in ipairs(list) do
    local values = m.values or {}
    data.measurements[i] = { test = m.test or "tcp_rr", case = m.case or "x", from = "a", to = "b", ok = not m.code,
      skipped = m.skipped, error = m.code and { code = m.code, message = "why" } or nil, labels = m.labels,
      metrics = { ops = 10 * #values, errors = m.errors or 0, connect_errors = m.refused, rate_per_s = 100,
        latency_ns = { p50 = 100, p99 = 200, count = 10 * #values } },
      latency_histogram = #values > 0 and histogram(values, values) or nil,
      metric = m.test == "metric" and { name = "x" } or nil }
  end
  return assert(ledger.parse(json.encode(data), "test"))
end

local function enter(state, list, run)
  run = run or {}
  run.started, run.begun, run.ended, run.seconds, run.exit = "2026-01-01T00:00:00.000Z", 1, 2, 1, run.exit or 0
  standing.enter(state, run, list and book(list))
  return standing.parse(json.encode(state)) -- as a file keeps it
end

local function value(text, series) return tonumber(text:match("\n" .. series:gsub("%p", "%%%0") .. " (%S+)\n")) end

local of_x = '{scenario="s.lua",test="tcp_rr",case="x",from="a",to="b",via=""}'

local function with(series, label) return series:sub(1, -2) .. "," .. label .. "}" end

-- What is not counted is absent, not 0.
function TestStanding.test_counters_of_what_has_none()
  local list = { { test = "tcp_stream", case = "s" }, { test = "metric", case = "m" }, { case = "r" } }
  local text = format.metrics(enter(standing.new(), list))
  for series, there in pairs { ['operations_total{scenario="s.lua",test="tcp_stream"'] = false,
    ['errors_total{scenario="s.lua",test="tcp_stream"'] = true,
    ['operations_total{scenario="s.lua",test="tcp_rr"'] = true,
    ['operations_total{scenario="s.lua",test="metric"'] = false,
    ['timeouts_total{scenario="s.lua",test="metric"'] = false } do
    lu.assertEquals(text:find("knbl_" .. series, 1, true) ~= nil, there, series)
  end
end

function TestStanding.test_counters_and_histograms_go_on()
  local state = standing.new()
  for _ = 1, 3 do state = enter(state, { { values = { 110, 150, 240 }, errors = 1, refused = 1 } }) end
  local text = "\n" .. format.metrics(state)
  lu.assertEquals(value(text, "knbl_operations_total" .. of_x), 90)
  lu.assertEquals(value(text, "knbl_errors_total" .. of_x), 6)
  lu.assertEquals(value(text, "knbl_operation_duration_seconds_count" .. of_x), 90)
  local function bucket(le)
    return value(text, "knbl_operation_duration_seconds_bucket" .. with(of_x, ('le="%s"'):format(le)))
  end
  lu.assertEquals({ bucket "1e-07", bucket "1.5e-07", bucket "2e-07", bucket "3e-07", bucket "+Inf" },
    { 0, 60, 60, 90, 90 })
  lu.assertEquals(value(text, "knbl_latency_quantile_seconds" .. with(of_x, 'quantile="0.99"')), 2e-7)
  lu.assertEquals(value(text, 'knbl_watch_runs_total{outcome="pass"}'), 3)
end

function TestStanding.test_buckets_widen_where_latency_moves_and_no_count_is_lost()
  local kept
  local function add(index)
    local low = index < 256 and index or (index % 128 + 128) << (index // 128 - 1)
    kept = standing.add_histogram(kept, histogram({ index }, { low }))
  end
  add(1000) -- about 15 µs
  local before = #kept.counts
  add(2500) -- about 60 ms
  add(200)
  lu.assertTrue(#kept.counts > before)
  local list = standing.buckets(kept)
  lu.assertEquals(list[#list][2] + kept.over, 30)
  lu.assertEquals(kept.count, 30)
  for i = 2, #list do lu.assertTrue(list[i][1] > list[i - 1][1] and list[i][2] >= list[i - 1][2]) end
  lu.assertTrue(#list <= 48)
end

function TestStanding.test_bounds_hold_whatever_a_scenario_does()
  local state, long = standing.new(), ("y"):rep(1000)
  for run = 1, 3 do
    local list = {}
    for i = 1, 220 do list[i] = { case = ("%d %d %s"):format(run, i, long), labels = { [long] = long } } end
    state = enter(state, list)
  end
  lu.assertEquals(#state.series, standing.most_series)
  lu.assertEquals(state.dropped, 20)
  lu.assertTrue(#format.metrics(state) < 2e6, #format.metrics(state))
  for _ = 1, standing.most_history + 10 do state = enter(state, { { values = { 100 } } }) end
  lu.assertEquals({ #state.history, #state.series, #state.series[1].recent },
    { standing.most_history, 1, standing.most_history })
end

function TestStanding.test_what_failed_is_told_and_old_figures_are_not()
  local state = enter(standing.new(), { { values = { 100 } }, { case = "y", values = { 100 } } })
  state = enter(state, { { code = "timeout" }, { case = "y", skipped = "no such runtime" } }, { exit = 1 })
  local text = "\n" .. format.metrics(state)
  lu.assertEquals(value(text, "knbl_measurement_ok" .. of_x), 0)
  lu.assertEquals(value(text, "knbl_measurement_failed" .. with(of_x, 'code="timeout"')), 1)
  lu.assertNil(value(text, "knbl_measurement_ok" .. of_x:gsub('"x"', '"y"')))
  lu.assertNil(value(text, "knbl_latency_quantile_seconds" .. with(of_x, 'quantile="0.99"')))
  lu.assertEquals({ value(text, "knbl_exit_code"), value(text, 'knbl_measurements{state="skipped"}') }, { 1, 1 })
  state = enter(state, nil, { exit = 3, message = "no API server" })
  text = "\n" .. format.metrics(state)
  lu.assertNil(value(text, "knbl_measurement_ok" .. of_x))
  lu.assertEquals(value(text, 'knbl_watch_runs_total{outcome="no_cluster"}'), 1)
  lu.assertEquals(value(text, "knbl_operations_total" .. of_x), 10, "a counter stays")
  local top, report = require("knbl.format.standing_page").render(state, nil, core)
  lu.assertStrContains(top, "no API server")
  lu.assertNil(report)
end

-- Series that labels alone do not tell apart, and hostile names.
local function hostile()
  return enter(standing.new(), {
    { case = 'a"\n\\', values = { 100 }, labels = { ["l-1"] = "x", ["l 1"] = "y" } },
    { case = "b", values = { 100 } }, { test = "tcp_stream", case = "b" }, { case = "c", code = "lost" },
    expectations = { { test = "tcp_rr", case = "b", expression = "p99 < 1ms", status = "pass" },
      { test = "tcp_rr", case = "b", expression = "p99 < 1ms", status = "pass" },
      { test = "tcp_rr", case = "b", expression = "p50 < 1ms", status = "inconclusive" } } }, { exit = 1 })
end

function TestStanding.test_every_series_has_a_type_and_is_there_once()
  local text = format.metrics(hostile())
    .. format.own { version = "1", running = false, every = 300, write_errors = 0, late_starts = 0, ledgers = 1,
    next_run = 1 }
  local types, seen, n = {}, {}, 0
  for line in text:gmatch "[^\n]+" do
    local name, kind = line:match "^# TYPE (%S+) (%S+)$"
    if name then
      lu.assertNil(types[name], "a family must be there once: " .. name)
      types[name] = kind
    elseif line:sub(1, 1) ~= "#" then
      local series = line:match "^(.*) %S+$"
      lu.assertNil(seen[series], series)
      seen[series], n = true, n + 1
      local of = series:match "^[%w_]+"
      local family = types[of] and of or of:gsub("_[a-z]+$", "")
      lu.assertNotNil(types[family], line)
    end
  end
  lu.assertTrue(n > 40, n)
end

-- Rows of the history that have one test and case are told apart by what differs, and by nothing else.
function TestStanding.test_rows_of_one_case_are_told_apart()
  local state = standing.new()
  state = enter(state, { { labels = { way = "pod", same = "s" } }, { labels = { way = "svc", same = "s" } },
    { case = "y" } })
  local page = require("knbl.format.standing_page").render(state, nil, core)
  for _, name in ipairs { "x · pod", "x · svc", "y" } do lu.assertStrContains(page, ">" .. name .. "<") end
end

function TestStanding.test_hostile_names_stay_in_their_place()
  local bad = [[<script>alert(1)</script>"'&]] .. "\27[31m"
  local state = enter(standing.new(), { { case = bad, labels = { [bad] = bad } },
    { case = bad, labels = { [bad] = "y" } }, { case = bad, test = "tcp_stream", code = "lost" },
    expectations = { { test = "tcp_rr", case = bad, expression = bad, status = "failed" } } },
    { exit = 1, message = bad })
  local page = require("knbl.format.standing_page").render(state, nil, core)
  local text = format.metrics(state)
  lu.assertStrContains(page, "&lt;script&gt;alert(1)")
  local from, to = page:find(require("knbl.format.html_style").script, 1, true)
  if from then page = page:sub(1, from - #"<script>" - 1) .. page:sub(to + #"</script>" + 1) end
  for _, what in ipairs { "<script", [["'&]], "\27" } do lu.assertNil(page:find(what, 1, true), what) end
  lu.assertNil(text:find("\27", 1, true))
end

function TestStanding.test_a_state_of_another_version_is_not_read()
  for _, source in ipairs { "", "{", "[]", '{"version":99,"series":3}' } do
    lu.assertEquals(standing.parse(source).n, 0)
  end
end

os.exit(lu.LuaUnit.run())
