-- knbl.core as a module: misuse raises at the caller's line, failures are values, what is opened is closed.
local lu = require "luaunit"
local core = require "knbl.core"
local shell = require "tests.cli.shell"

local function raises(message, f, ...)
  local ok, err = pcall(f, ...)
  lu.assertFalse(ok)
  lu.assertStrContains(tostring(err), message)
end

TestErrors = {}

function TestErrors:test_misuse_raises_with_the_position()
  local ok, err = pcall(function() core.duration({}) end)
  lu.assertFalse(ok)
  lu.assertStrMatches(err, "tests/cli/native_test.lua:%d+: bad argument #1 to 'duration'.*")
  raises("unknown option 'urll'", core.fetch, { urll = "x" })
  raises("url is required", core.fetch, {})
  raises("timeout must be a number, got a string", core.fetch, { url = "http://x/", timeout = "5" })
  raises("options must have names", core.fetch, { "http://x/" })
  raises("not JSON", core.check, "{")
  raises("token is required", core.agent, {})
  raises("host is missing", core.run, "{}", {})
  raises("port must be a whole number from 0 to 65535", core.run, "{}", { host = "x", port = 1.5 })
  raises("seconds", core.sleep, -1)
  raises("seconds", core.sleep, 0 / 0)
  raises("finite", core.format_bits, 1 / 0)
  raises("list must not be empty", core.median_interval, {})
  raises("item 2 of the list must be a number", core.rank_test, { 1, "x" }, { 1 })
  raises("list must not be empty", core.shift_interval, { 1 }, {})
  raises("percents must be from 0 to 100", core.hist_percentile,
    '{"count":0,"min":0,"max":0,"sum":"0","sum_sq":"0","buckets":[]}', { 101 })
end

function TestErrors:test_failures_are_values()
  local value, err = core.size "a lot"
  lu.assertNil(value)
  lu.assertEquals(err.code, "argument")
  lu.assertEquals(tostring(err), err.message)
  value, err = core.fetch { url = "http://127.0.0.1:1/" }
  lu.assertNil(value)
  lu.assertEquals(err.code, "refused")
end

TestFiles = {}

function TestFiles:test_written_whole_or_not_at_all()
  local dir <close> = shell.folder()
  local path = dir:file "result.json"
  lu.assertTrue(core.write_file(path, "first"))
  os.execute("chmod 640 " .. path .. "; ln -s result.json " .. dir:file "link")
  lu.assertTrue(core.write_file(dir:file "link", "second"))
  lu.assertEquals(shell.read(path), "second")
  lu.assertEquals(shell.run("stat -c %a " .. path).out, "640\n")
  lu.assertEquals(shell.run("ls " .. dir.path).out, "link\nresult.json\n")
  local ok, err = core.write_file(dir.path, "x")
  lu.assertNil(ok)
  lu.assertStrContains(err.message, "directory")
  ok, err = core.write_file(dir:file "no/where", "x")
  lu.assertNil(ok)
  lu.assertStrContains(err.message, "No such file")
  ok, err = core.write_file("/dev/full", "x")
  lu.assertNil(ok)
  lu.assertStrContains(err.message, "No space left")
end

-- Told beforehand, and nothing is left behind; what is no file needs no room beside it (/dev is not everybody's to
-- write in).
function TestFiles:test_whether_it_can_be_written()
  local dir <close> = shell.folder()
  shell.write(dir:file "there", "x")
  for _, path in ipairs { dir:file "there", dir:file "new", "/dev/full" } do lu.assertTrue(core.can_write(path)) end
  lu.assertEquals(shell.run("ls " .. dir.path .. "; cat " .. dir:file "there").out, "there\nx")
  for path, why in pairs { [dir.path] = "directory", [dir:file "no/where"] = "No such file" } do
    local ok, err = core.can_write(path)
    lu.assertNil(ok)
    lu.assertStrContains(err.message, why)
  end
end

TestObjects = {}

function TestObjects:test_closed_ones_say_so_and_close_again()
  local token = core.token()
  local agent = assert(core.agent { token = token })
  local run = assert(core.run('{"test":"tcp_rr","duration":"10s"}',
    { host = "127.0.0.1", port = agent:port(), token = token }))
  lu.assertFalse(run:wait(0))
  raises("has not ended", run.result, run)
  run:stop()
  lu.assertStrContains(run:result(), '"metrics"')
  run:close()
  run:close()
  raises("closed", run.wait, run, 0)
  agent:close()
  agent:close()
  raises("closed", agent.port, agent)
  raises("knbl.run expected", run.wait, agent)
end

function TestObjects:test_the_collector_closes_what_was_forgotten()
  local port
  do
    local agent = assert(core.agent { token = core.token() })
    port = agent:port()
  end
  collectgarbage()
  collectgarbage()
  local _, err = core.fetch { url = "http://127.0.0.1:" .. port }
  lu.assertEquals(err.code, "refused")
end

TestEmbedded = {}

function TestEmbedded:test_what_is_inside()
  lu.assertEquals(core.embedded "lua/knbl/native.lua", shell.read "lua/knbl/native.lua")
  lu.assertNil(core.embedded "lua/knbl/nothing.lua")
  lu.assertTableContains(core.embedded_list(), "scenarios/pod_to_svc.lua")
end

TestDoctor = {}

function TestDoctor:test_a_line_for_each_finding_and_no_failure()
  local got = shell.run("KUBECONFIG=/nonexistent exec $KNBL doctor")
  lu.assertEquals(got.code, 0)
  lu.assertEquals(got.err, "")
  for _, name in ipairs { "lab", "runc", "host", "gvisor", "kata", "cluster", "profiles", "ping", "ipv6",
    "conntrack", "cpus", "congestion" } do
    lu.assertStrMatches(got.out, (".*%s%%s+%%a+%%s+%%S.*"):format(name))
  end
  lu.assertStrMatches(got.out, ".*cluster%s+no .*KUBECONFIG.*")
end

function TestDoctor:test_as_json()
  local list = require("cjson").decode(shell.knbl_with "doctor --json".out)
  lu.assertTrue(#list >= 10)
  for _, finding in ipairs(list) do
    lu.assertIsBoolean(finding.ok)
    lu.assertIsString(finding.text)
  end
end

-- Five paths of a lab, both ways.
function TestDoctor:test_the_path_mtu()
  local got = shell.knbl_with "doctor --pmtu"
  lu.assertEquals(got.code, 0, got.err)
  local _, n = got.out:gsub("pmtu%s+yes%s+[^\n]-: 1500 bytes pass, the interface promises 1500", "")
  local _, none = got.out:gsub("\npmtu%s+no ", "")
  lu.assertTrue(n == 10 or n == 0 and none >= 1, got.out) -- a machine without user namespaces has no lab
  lu.assertStrMatches(shell.knbl_with "doctor --pmtu --on hosts:a=127.0.0.1:9".out, ".*pmtu%s+no %s+.*")
  lu.assertStrContains(shell.knbl_with "doctor --on k8s".err, "--on is where --pmtu measures: give both")
end

os.exit(lu.LuaUnit.run())
