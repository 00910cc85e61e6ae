-- knbl watch: runs, what it serves, its folder, and how it ends. What Prometheus makes of it:
-- tests/lab/slow/watch_test.lua.
local lu = require "luaunit"
local core = require "knbl.core"
local json = require "knbl.json"
local shell = require "tests.cli.shell"

TestWatch = {}

local scenario = [[
  -- Is loopback well?
  local knbl = require "knbl"
  local cluster <close> = knbl.cluster { provider = "loopback" }
  local a, b = cluster:pair()
  knbl.tcp_rr { case = "x", from = a, to = b, count = 200, warmup = 0, expect = "errors == 0" }
]]

-- A watch: its process, and get(path) -> status, body. `word` is what follows the scenario.
local function watch(dir, words, script)
  local path = shell.write(dir:file "s.lua", script or scenario)
  local p = shell.start(("$KNBL watch %s --listen 127.0.0.1:0 %s"):format(path, words))
  local port = shell.wait_for("a port", function() return tonumber((p:err() or ""):match "port (%d+)") end)
  return p, function(path_of)
    local got, err = core.fetch { url = ("http://127.0.0.1:%d%s"):format(port, path_of), timeout = 10 }
    if not got then error(tostring(err), 2) end
    return got.status, got.body, got.headers
  end
end

local function metric(get, name)
  return tonumber(select(2, get "/metrics"):match("\n" .. name:gsub("%p", "%%%0") .. " (%S+)"))
end

-- Waits until so many runs ended like that.
local function runs(get, outcome, n)
  return shell.wait_for(n .. " runs: " .. outcome, function()
    return (metric(get, ('knbl_watch_runs_total{outcome="%s"}'):format(outcome)) or 0) >= n
  end, 30)
end

function TestWatch.test_it_serves_figures_and_a_page()
  local dir <close> = shell.folder()
  local p <close>, get = watch(dir, "--every 1s")
  runs(get, "pass", 2)
  local status, text, headers = get "/metrics"
  lu.assertEquals({ status, headers["content-type"] },
    { 200, "application/openmetrics-text; version=1.0.0; charset=utf-8" })
  lu.assertStrMatches(text, ".*\n# EOF\n")
  lu.assertStrContains(text, 'knbl_measurement_ok{scenario="')
  lu.assertTrue(metric(get, "knbl_watch_last_run_timestamp_seconds") > os.time() - 60)
  local page
  status, page, headers = get "/"
  lu.assertEquals({ status, headers["content-type"] }, { 200, "text/html; charset=utf-8" })
  for _, part in ipairs { "Is loopback well?", "<h2>Runs</h2>", "<h2>History</h2>", "The report of ", "errors == 0" } do
    lu.assertStrContains(page, part)
  end
  local _, ledger = get "/ledger.json"
  lu.assertEquals(json.decode(ledger).verdict.status, "pass")
  lu.assertEquals({ (get "/healthz"), (get "/readyz"), (get "/nothing") }, { 200, 200, 404 })
  p:kill "TERM"
  lu.assertEquals(p:wait().code, 0)
end

-- Half of the runs fail while a file is there, and then they succeed again.
function TestWatch.test_a_failure_is_told_and_passes()
  local dir <close> = shell.folder()
  local gone = dir:file "gone"
  shell.write(gone, "")
  local p <close>, get = watch(dir, "--every 1s", ([[
    local file = io.open(%q)
    if file then file:close() error { code = "unavailable", message = "the API server is away" } end
  ]]):format(gone) .. scenario)
  runs(get, "no_cluster", 1)
  lu.assertEquals(metric(get, "knbl_exit_code"), 3)
  lu.assertStrContains(select(2, get "/"), "the API server is away")
  os.remove(gone)
  runs(get, "pass", 1)
  lu.assertEquals(metric(get, "knbl_exit_code"), 0)
  lu.assertEquals((get "/healthz"), 200)
  lu.assertNil((p:err() or ""):match "traceback")
end

function TestWatch.test_a_ring_of_ledgers_and_a_restart()
  local dir <close> = shell.folder()
  local words = "--every 100ms --keep 2 --runs 4 --dir " .. dir:file "kept"
  local function ledgers()
    local n = 0
    for _, name in ipairs(core.list_files(dir:file "kept")) do
      if name:match "^run%-" then
        n = n + 1
        lu.assertEquals(json.decode(shell.read(dir:file("kept/" .. name))).scenario, dir:file "s.lua")
      end
    end
    return n
  end
  do
    local p <close> = watch(dir, words)
    local got = p:wait()
    lu.assertEquals(got.code, 0, got.err)
    lu.assertEquals(ledgers(), 2)
    shell.write(dir:file "kept/run-20260101T000000.000Z.json.1a2b3c4d", "half of a write")
  end
  local p <close>, get = watch(dir, "--every 1h --dir " .. dir:file "kept")
  shell.wait_for("what was there before", function() return (get "/readyz") == 200 end)
  lu.assertTrue(metric(get, 'knbl_watch_runs_total{outcome="pass"}') >= 4)
  lu.assertStrContains(select(2, get "/"), "The report of ")
  lu.assertNil(shell.read(dir:file "kept/run-20260101T000000.000Z.json.1a2b3c4d"))
  p:kill "KILL"
end

-- What cannot be written is counted, and the rest goes on.
function TestWatch.test_a_full_disk()
  local dir <close> = shell.folder()
  local kept = dir:file "kept"
  local p <close>, get = watch(dir, "--every 300ms --dir " .. kept)
  runs(get, "pass", 1)
  lu.assertEquals(metric(get, "knbl_watch_write_errors_total"), 0)
  os.execute(("mv %s %s.away && touch %s"):format(kept, kept, kept)) -- ENOTDIR, as for root no right is missing
  shell.wait_for("an error", function() return metric(get, "knbl_watch_write_errors_total") > 0 end)
  os.execute(("rm %s && mv %s.away %s"):format(kept, kept, kept))
  local before = metric(get, 'knbl_watch_runs_total{outcome="pass"}')
  runs(get, "pass", before + 2)
  lu.assertStrContains(p:err(), "knbl: --dir: cannot write ")
end

-- SIGTERM in the middle of a run: the run ends in order (its cleanup is done), its ledger is kept, the exit code is 0.
function TestWatch.test_sigterm_ends_a_run_in_order()
  local dir <close> = shell.folder()
  local begun, cleaned = dir:file "begun", dir:file "cleaned"
  local p <close> = watch(dir, "--every 1h --dir " .. dir:file "kept", ([[
    local own <close> = setmetatable({}, { __close = function() io.open(%q, "w"):close() end })
    io.open(%q, "w"):close()
  ]]):format(cleaned, begun) .. scenario:gsub("count = 200", 'duration = "1h"'))
  shell.wait_for("a run", function() return shell.read(begun) end)
  p:kill "TERM"
  local got = p:wait()
  lu.assertEquals(got.code, 0, got.err)
  lu.assertNotNil(shell.read(cleaned))
  local names = core.list_files(dir:file "kept")
  lu.assertEquals(#names, 1)
  lu.assertEquals(json.decode(shell.read(dir:file("kept/" .. names[1]))).verdict.status, "interrupted")
end

-- The program that is killed takes its run along.
function TestWatch.test_sigkill_ends_the_run_too()
  local dir <close> = shell.folder()
  local begun, cleaned = dir:file "begun", dir:file "cleaned"
  local p <close> = watch(dir, "--every 1h", ([[
    local own <close> = setmetatable({}, { __close = function() io.open(%q, "w"):close() end })
    io.open(%q, "w"):close()
  ]]):format(cleaned, begun) .. scenario:gsub("count = 200", 'duration = "1h"'))
  shell.wait_for("a run", function() return shell.read(begun) end)
  p:kill "KILL"
  shell.wait_for("the run's end", function() return shell.read(cleaned) end)
end

function TestWatch.test_a_run_that_takes_too_long_is_stopped()
  local dir <close> = shell.folder()
  local p <close>, get = watch(dir, "--every 100ms --limit 300ms", scenario:gsub("count = 200", 'duration = "1h"'))
  runs(get, "timeout", 1)
  p:kill "TERM"
  lu.assertEquals(p:wait().code, 0)
end

function TestWatch.test_what_is_wrong_is_refused_before_anything_is_served()
  local dir <close> = shell.folder()
  local path = shell.write(dir:file "s.lua", scenario)
  for words, said in pairs {
    ["watch"] = "a scenario is required", ["watch " .. path .. " --every 0s"] = "--every must be more than 0, got 0s",
    ["watch " .. path .. " --durations 1s"] = "unknown option --durations",
    ["watch " .. path .. " --json x"] = "watch does not take --json", ["watch nosuch"] = "no scenario 'nosuch'",
    ["watch " .. path .. " --json-stream x"] = "watch does not take --json-stream",
    ["watch " .. path .. " --dry-run"] = "watch does not take --dry-run: `knbl run` prints the plan of a run",
    ["watch " .. path .. " --runs 0"] = "--runs must be at least 1, got 0",
    ["watch " .. path .. " --keep 0"] = "--keep must be at least 1, got 0",
    ["watch " .. path .. " --listen 127.0.0.1:99999"] = "--listen: ",
    ["watch " .. path .. " --dir /proc/nothing/there"] = "--dir: cannot make /proc/nothing/there",
    ["watch " .. path .. " -- x"] = "watch does not take a command after --, got 'x'",
  } do
    local got = shell.run("exec $KNBL " .. words)
    lu.assertEquals(got.code, 2, words .. got.err)
    lu.assertStrContains(got.err, said)
  end
end

os.exit(lu.LuaUnit.run())
