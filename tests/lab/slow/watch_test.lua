-- knbl watch beside a real Prometheus (Debian's package): every series is typed, none is there twice, each query of the
-- dashboard gives data, the alert rules are valid and fire as they should.
local lu = require "luaunit"
local core = require "knbl.core"
local json = require "knbl.json"
local shell = require "tests.cli.shell"

TestPrometheus = {}

local scenario = [[
  -- Is loopback well?
  local knbl = require "knbl"
  local cluster <close> = knbl.cluster { provider = "loopback" }
  local a, b = cluster:pair()
  knbl.tcp_rr { case = "rr", from = a, to = b, count = 500, warmup = 0, expect = { "errors == 0", "p50 < 1ns" } }
  knbl.tcp_stream { case = "stream", from = a, to = b, duration = "100ms", warmup = 0 }
  knbl.udp_stream { case = "udp", from = a, to = b, duration = "100ms", warmup = 0, rate = "10Mbit/s" }
  knbl.http { case = "refused", from = a, to = "127.0.0.1:1", duration = "100ms", warmup = 0 }
]]

local function has(program) return shell.run("command -v " .. program).code == 0 end

local function free_port()
  local pages = assert(core.pages "127.0.0.1:0")
  local port = pages:port()
  pages:close()
  return port
end

local function get(port, path)
  local got = core.fetch { url = ("http://127.0.0.1:%d%s"):format(port, path), timeout = 20 }
  return got and got.status == 200 and got.body or nil
end

local function ask(port, path)
  local body = get(port, path)
  return body and json.decode(body).data
end

local function encode(text) return (text:gsub("[^%w]", function(c) return ("%%%02X"):format(c:byte()) end)) end

local function query(port, expression)
  local data = ask(port, "/api/v1/query?query=" .. encode(expression))
  return data and data.result or {}
end

local function start_prometheus(dir, target)
  local port = free_port()
  shell.write(dir:file "p.yml", ([[
global: {scrape_interval: 500ms, evaluation_interval: 500ms}
rule_files: [%s]
scrape_configs:
- job_name: knbl-watch
  static_configs: [{targets: ["127.0.0.1:%d"]}]
]]):format(shell.run("realpath deploy/watch-rules.yaml").out:gsub("\n", ""), target))
  local p = shell.start(("prometheus --config.file=%s --storage.tsdb.path=%s --web.listen-address=127.0.0.1:%d")
    :format(dir:file "p.yml", dir:file "data", port))
  shell.wait_for("Prometheus", function() return get(port, "/-/ready") end, 30)
  return p, port
end

-- The expressions of the dashboard, its variables replaced.
local function expressions()
  local list = {}
  for _, panel in ipairs(json.decode(shell.read "deploy/watch-dashboard.json").panels) do
    for _, target in ipairs(panel.targets) do
      list[#list + 1] = target.expr:gsub("%$__rate_interval", "1m"):gsub("%$%w+", ".*")
    end
  end
  return list
end

local function check_types(port)
  local types = {}
  for _, row in ipairs(ask(port, "/api/v1/targets/metadata")) do
    lu.assertNotEquals(row.type, "unknown", row.metric)
    lu.assertNotEquals(row.help, "", row.metric)
    types[row.metric] = row.type
  end
  local n = 0
  for _, name in ipairs(ask(port, "/api/v1/label/__name__/values")) do
    if name:match "^knbl_" then
      n = n + 1
      local family = types[name] and name or name:gsub("_%l+$", "")
      lu.assertNotNil(types[family], name .. " has no type")
    end
  end
  lu.assertTrue(n > 25, n)
  lu.assertEquals(types.knbl_operation_duration_seconds, "histogram")
end

function TestPrometheus.test_a_real_one_scrapes_it()
  if not has "prometheus" then lu.skip "prometheus is not installed" end
  local dir <close> = shell.folder()
  local watch <close> = shell.start(("$KNBL watch %s --every 1s --listen 127.0.0.1:0 --dir %s"):format(
    shell.write(dir:file "s.lua", scenario), dir:file "kept"))
  local target = shell.wait_for("a port", function() return tonumber((watch:err() or ""):match "port (%d+)") end)
  local prometheus <close>, port = start_prometheus(dir, target) -- luacheck: ignore prometheus
  for _, expression in ipairs(expressions()) do
    shell.wait_for("data for " .. expression, function() return #query(port, expression) > 0 end, 40)
  end
  check_types(port)
  local state = ask(port, "/api/v1/targets").activeTargets[1]
  lu.assertEquals({ state.health, state.lastError }, { "up", "" })
  lu.assertEquals(tonumber(get(port, "/metrics"):match
    "\nprometheus_target_scrapes_sample_duplicate_timestamp_total (%d+)"), 0)
  -- a series for each pair of labels stays the same from run to run
  lu.assertEquals(tonumber(query(port, "count(count_over_time(knbl_measurement_ok[10m]))")[1].value[2]), 4)
  shell.wait_for("alerts", function()
    local seen = {}
    for _, alert in ipairs(ask(port, "/api/v1/alerts").alerts) do seen[alert.labels.alertname] = true end
    return seen.KnblExpectationFailed and seen.KnblMeasurementFailed and not seen.KnblNoCluster
      and not seen.KnblWatchStale
  end, 40)
end

function TestPrometheus.test_the_rules()
  if not has "promtool" then lu.skip "promtool is not installed" end
  local got = shell.run "promtool check rules deploy/watch-rules.yaml && \z
    promtool test rules tests/lab/slow/watch_rules.yaml"
  lu.assertEquals(got.code, 0, got.out .. got.err)
end

os.exit(lu.LuaUnit.run())
