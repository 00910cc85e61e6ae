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
  raises("'url' is missing", core.fetch, {})
  raises("'timeout' is a number, not a string", core.fetch, { url = "http://x/", timeout = "5" })
  raises("the options are named", core.fetch, { "http://x/" })
  raises("not JSON", core.check, "{")
  raises("'token' is missing", core.agent, {})
  raises("'host' is missing", core.run, "{}", {})
  raises("'port' is no port", core.run, "{}", { host = "x", port = 1.5 })
  raises("seconds", core.sleep, -1)
  raises("seconds", core.sleep, 0 / 0)
  raises("finite", core.format_bits, 1 / 0)
  raises("empty list", core.median_interval, {})
  raises("number 2 of the list", core.rank_test, { 1, "x" }, { 1 })
  raises("empty list", core.shift_interval, { 1 }, {})
  raises("percents go from 0 to 100", core.hist_percentile, '{"count":0,"min":0,"max":0,"sum":"0","sum_sq":"0","buckets":[]}', { 101 })
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
  lu.assertStrContains(err.message, "folder")
  ok, err = core.write_file(dir:file "no/where", "x")
  lu.assertNil(ok)
  lu.assertStrContains(err.message, "No such file")
  ok, err = core.write_file("/dev/full", "x")
  lu.assertNil(ok)
  lu.assertStrContains(err.message, "No space left")
end

-- Told beforehand, and nothing is left behind; what is no file needs no room beside it (/dev is not everybody's to write in).
function TestFiles:test_whether_it_can_be_written()
  local dir <close> = shell.folder()
  shell.write(dir:file "there", "x")
  for _, path in ipairs { dir:file "there", dir:file "new", "/dev/full" } do lu.assertTrue(core.can_write(path)) end
  lu.assertEquals(shell.run("ls " .. dir.path .. "; cat " .. dir:file "there").out, "there\nx")
  for path, why in pairs { [dir.path] = "folder", [dir:file "no/where"] = "No such file" } do
    local ok, err = core.can_write(path)
    lu.assertNil(ok)
    lu.assertStrContains(err.message, why)
  end
end

TestObjects = {}

function TestObjects:test_closed_ones_say_so_and_close_again()
  local token = core.token()
  local agent = assert(core.agent { token = token })
  local run = assert(core.run('{"test":"tcp_rr","duration":"10s"}', { host = "127.0.0.1", port = agent:port(), token = token }))
  lu.assertFalse(run:wait(0))
  raises("not over yet", run.result, run)
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
  for _, name in ipairs { "lab", "runc", "host", "gvisor", "kata", "kata%-clh", "kata%-fc", "cluster", "profiles", "ping", "ipv6", "conntrack", "cpus", "congestion" } do
    lu.assertStrMatches(got.out, (".*%s%%s+%%a+%%s+%%S.*"):format(name))
  end
  lu.assertStrMatches(got.out, ".*cluster%s+no .*KUBECONFIG.*")
end

-- Where a guest could be had but for KVM: a program that is there and runs none.
function TestDoctor:test_a_monitor_that_gets_no_guest_going()
  local dir <close> = shell.folder()
  shell.write(dir:file "firecracker", "#!/bin/sh\n[ \"$1\" != --version ] || echo Firecracker v1.9.1\n")
  os.execute("chmod +x " .. dir:file "firecracker")
  local got = shell.run("PATH=" .. dir.path .. ":$PATH KUBECONFIG=/nonexistent exec $KNBL doctor")
  local line = got.out:match "kata%-fc[^\n]*"
  if line:find("no kernel for a guest", 1, true) or line:find("/dev/net/tun", 1, true) then lu.skip(line) end
  lu.assertStrMatches(line, "kata%-fc%s+no .*firecracker 1%.9%.1 is installed, but runs guests with KVM alone, and .+")
end

function TestDoctor:test_as_json()
  local list = require("cjson").decode(shell.knbl_with "doctor --json".out)
  lu.assertTrue(#list >= 10)
  for _, finding in ipairs(list) do
    lu.assertIsBoolean(finding.ok)
    lu.assertIsString(finding.text)
  end
end

os.exit(lu.LuaUnit.run())
