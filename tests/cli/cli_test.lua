-- The command line: what it knows, what it refuses, and how it ends.
local lu = require "luaunit"
local shell = require "tests.cli.shell"

-- One clear line, the right exit code, no noise of C or Lua, quickly.
local function refuses(words, code, message)
  local got = shell.knbl_with(words)
  lu.assertEquals(got.code, code, words .. ": " .. got.err)
  lu.assertStrContains(got.err, message)
  lu.assertNotStrContains(got.err, "[C]")
  lu.assertNotStrContains(got.err, "stack traceback")
  lu.assertEquals(select(2, got.err:gsub("\n", "")), 1, got.err)
  lu.assertEquals(got.out, "")
  lu.assertTrue(got.seconds < 25, words)
end

-- A script in a folder of its own.
local function script(text, words, check)
  local dir <close> = shell.folder()
  local path = shell.write(dir:file "script.lua", text)
  check(shell.knbl_with((words or "") .. " " .. path), path)
end

-- A script that ends by itself in its middle leaves what it measured; what it says is the exit code, or the verdict
-- where it says nothing.
TestExit = {}

-- Both outputs in one file: no line of one is inside a line of the other, and what came first stands first.
function TestExit.test_outputs_do_not_tear_each_other()
  local dir <close> = shell.folder()
  local path = shell.write(dir:file "script.lua", [[
    local knbl = require "knbl"
    local cluster <close> = knbl.cluster { provider = "loopback" }
    local a, b = cluster:pair()
    for i = 1, 60 do
      print(("printed %03d "):format(i) .. ("x"):rep(200) .. " end")
      knbl.tcp_rr { case = "case " .. i, from = a, to = b, count = 10, warmup = 0 }
    end
  ]])
  local got = shell.run("exec $KNBL " .. path .. " 2>&1")
  lu.assertEquals(got.code, 0, got.out)
  local printed, told = 0, 0
  for line in got.out:gmatch "[^\n]+" do
    if line:find "printed" then
      printed = printed + 1
      lu.assertStrMatches(line, ("printed %03d x+ end"):format(printed))
    elseif line:find "^%[%d+/60%]" then
      told = told + 1
      lu.assertEquals({ told, line:match "^%[(%d+)/60%] tcp_rr case %d+ " }, { printed, tostring(printed) })
    end
  end
  lu.assertEquals({ printed, told }, { 60, 60 })
end

local function exits(call, code, expect)
  local dir <close> = shell.folder()
  script(([[
    local knbl = require "knbl"
    local cluster <close> = knbl.cluster { provider = "loopback" }
    local a, b = cluster:pair()
    knbl.tcp_rr { case = "one", from = a, to = b, count = 200, warmup = 0, expect = "%s" }
    %s
    knbl.tcp_rr { case = "two", from = a, to = b, count = 200 }
  ]]):format(expect or "errors == 0", call), "-q --json " .. dir:file "r.json", function(got)
    lu.assertEquals(got.code, code, call .. ": " .. got.err)
    local text = shell.read(dir:file "r.json")
    lu.assertStrContains(text, '"one"')
    lu.assertStrContains(text, '"verdict"')
    lu.assertNotStrContains(text, '"two"')
  end)
end

function TestExit:test_os_exit()
  exits("os.exit(7)", 7)
  exits("os.exit(false)", 1)
  exits("os.exit()", 0)
  exits("os.exit(true)", 99, "p50 < 1ns")
end

TestKnows = {}

function TestKnows:test_version()
  local got = shell.knbl_with "--version"
  lu.assertEquals(got.code, 0)
  lu.assertStrMatches(got.out, "knbl %d+%.%d+%.%d+ %(protocol %d+%)\n")
end

function TestKnows:test_help()
  local got = shell.knbl_with "--help"
  lu.assertEquals(got.code, 0)
  for _, word in ipairs { "--on", "--json", "agent", "doctor", "Exit codes" } do lu.assertStrContains(got.out, word) end
  lu.assertEquals(got.err, "")
end

function TestKnows:test_help_of_a_command_and_of_a_scenario()
  lu.assertEquals(shell.knbl_with("help").out, shell.knbl_with("--help").out)
  for _, name in ipairs { "compare", "agent", "pod_to_svc" } do
    local got = shell.knbl_with("help " .. name)
    lu.assertEquals({ got.code, got.err }, { 0, "" })
    lu.assertEquals(got.out, shell.knbl_with(name .. " --help").out)
  end
  lu.assertEquals(shell.knbl_with("help nosuch").code, 2)
end

function TestKnows:test_list_names_every_scenario_and_its_question()
  local got = shell.knbl_with "list"
  lu.assertEquals(got.code, 0)
  for path in assert(io.popen "ls scenarios/*.lua"):lines() do
    lu.assertStrContains(got.out, path:match "([%w_]+)%.lua$")
  end
  for line in got.out:gmatch "[^\n]+" do lu.assertStrMatches(line, "%S+%s+%S.*") end
end

function TestKnows:test_show_prints_a_scenario_to_copy_from()
  lu.assertEquals(shell.knbl_with "show pod_to_svc".out, shell.read "scenarios/pod_to_svc.lua")
end

-- The binary alone runs anywhere.
function TestKnows:test_the_library_and_the_scenarios_are_inside()
  local dir <close> = shell.folder()
  local got = shell.run(
    ("cp $KNBL %s/knbl && cd %s && ./knbl list && ./knbl show ping && ./knbl --dry-run ping"):format(dir.path,
    dir.path))
  lu.assertEquals(got.code, 0, got.err)
  lu.assertStrContains(got.out, "pod_to_svc")
end

function TestKnows:test_files_win_over_what_is_inside()
  local dir <close> = shell.folder()
  shell.write(dir:file "extra.lua", 'return "from disk"')
  local path = shell.write(dir:file "script.lua", 'print((require "extra"))')
  local got = shell.run(("KNBL_LUA_PATH='%s/?.lua' $KNBL %s"):format(dir.path, path))
  lu.assertEquals(got.out, "from disk\n", got.err)
  got = shell.run(
    ("mkdir -p %s/lua && cp $KNBL %s && cp -r lua/knbl %s/lua && echo 'return { main = function() \z
      return 42 end }' "
    .. ">%s/lua/knbl/program/cli.lua && cd %s && ./knbl"):format(dir.path, dir.path, dir.path, dir.path, dir.path))
  lu.assertEquals(got.code, 42, got.err)
end

function TestKnows:test_a_script_on_standard_input()
  lu.assertEquals(shell.run("exec $KNBL - --word", "print(arg[0], arg[1])\n").out, "stdin\t--word\n")
end

-- As editors of Windows leave it.
function TestKnows:test_a_mark_of_utf_8_and_other_ends_of_lines()
  script("\239\187\191#!/usr/bin/env knbl\r\n-- a question\r\nprint(1 + 1)\r\n", nil,
    function(got) lu.assertEquals(got.out, "2\n", got.err) end)
end

function TestKnows:test_scripts_find_modules_beside_them()
  local dir <close> = shell.folder()
  os.execute("mkdir -p " .. dir:file "lua/deep")
  shell.write(dir:file "one.lua", "return 1")
  shell.write(dir:file "lua/two.lua", "return 2")
  shell.write(dir:file "lua/deep/init.lua", "return 3")
  local path = shell.write(dir:file "script.lua", 'print(require "one" + require "two" + require "deep")')
  lu.assertEquals(shell.knbl_with(path).out, "6\n")
end

function TestKnows:test_scripts_find_c_modules()
  script('print(pcall(require, "lfs"))', nil, function(got)
    if got.out:find "not found" then lu.skip "lua-filesystem is not installed" end
    lu.assertStrContains(got.out, "true")
  end)
end

function TestKnows:test_a_full_disk_is_told()
  if not io.open "/dev/full" then lu.skip "no /dev/full here" end
  local got = shell.run("exec $KNBL --help >/dev/full")
  lu.assertEquals(got.code, 1)
  lu.assertStrContains(got.err, "No space left")
end

-- A pipe that is closed is no crash, and no error to speak of.
function TestKnows:test_a_reader_that_has_seen_enough()
  local folder <close> = shell.folder()
  shell.write(folder:file "much.lua", "for _ = 1, 100000 do print 'more than a pipe holds' end")
  local got = shell.run("{ $KNBL " .. folder:file "much.lua" .. "; echo $? >&2; } | true")
  lu.assertEquals(got.err, "1\n")
end

TestRefuses = {}

function TestRefuses:test_words()
  refuses("", 2, "a scenario is required")
  refuses("--verison", 2, "did you mean '--version'?")
  refuses("pod_to_scv", 2, "did you mean 'pod_to_svc'?")
  refuses("/nonexistent/file.lua", 2, "no scenario '/nonexistent/file.lua'")
  refuses("/tmp", 2, "directory")
  refuses("/dev/zero", 2, "cannot read /dev/zero: it is larger than 16777216 bytes")
  refuses("report /dev/zero", 2, "cannot read /dev/zero: it is not text: it contains a NUL byte")
  refuses("--on hosts:a=127.0.0.1,b=127.0.0.1 --token-file /dev/zero node_to_node", 2,
    "--token-file: cannot read /dev/zero: it is not text: it contains a NUL byte")
  refuses("list all", 2, "unexpected argument 'all'")
  refuses("doctor lab", 2, "unexpected argument 'lab'")
  refuses("doctor --pmtu --on nosuch", 2, "unknown provider 'nosuch'")
  refuses("show nothing_like_it", 2, "no scenario 'nothing_like_it'")
  refuses("ping --nonsense 3", 2, "unknown option --nonsense")
  refuses("--on mars ping", 2, "unknown provider 'mars'")
  refuses("--json /nonexistent/folder/x.json ping", 2, "cannot write")
end

function TestRefuses:test_quantities()
  refuses("--duration 10parsecs ping", 2, "no valid unit of time")
  refuses("--duration -1s ping", 2, "negative")
  refuses("--duration 9999999h ping", 2, "longer than")
  refuses("--repeats 0 ping", 2, "at least 1")
  refuses("--set sise=3 ping", 2, "did you mean 'size'?")
end

TestScripts = {}

local opening = 'local knbl = require "knbl"\n\z
  local cluster <close> = knbl.cluster { provider = "loopback" }\nlocal a, b = cluster:pair()\n'

function TestScripts:test_an_error_shows_the_line_and_the_way_there()
  script("local function f() error 'boom' end\nf()", nil, function(got, path)
    lu.assertEquals(got.code, 1)
    lu.assertStrContains(got.err, path .. ":1: boom")
    lu.assertStrContains(got.err, path .. ":2: in main chunk")
    lu.assertNotStrContains(got.err, "[C]")
  end)
end

function TestScripts:test_no_lua()
  script("x = = 1", nil, function(got) lu.assertEquals(got.code, 1) lu.assertStrContains(got.err, "script.lua:1:") end)
  script("\127ELF\2\1\1\0", nil, function(got) lu.assertEquals(got.code, 1) lu.assertStrContains(got.err,
    "script.lua:1:") end)
  script("\27Lua", nil, function(got) lu.assertEquals(got.code, 1) end)
end

local function misuse(call, message)
  script(opening .. call, nil, function(got, path)
    lu.assertEquals(got.code, 1, call)
    lu.assertStrContains(got.err, path .. ":4:")
    lu.assertStrContains(got.err, message)
  end)
end

function TestScripts:test_misuse_is_refused_at_its_line_before_anything_runs()
  misuse("knbl.tcp_rx { from = a, to = b }", "did you mean 'tcp_rr'?")
  misuse("knbl.tcp_rr { from = a, to = b, durations = '1s' }", "did you mean 'duration'?")
  misuse("knbl.tcp_rr { from = a, to = b, duration = '1 fortnight' }", "unit of time")
  misuse("knbl.tcp_rr { from = a, to = b, duration = -1 }", "negative")
  misuse("knbl.tcp_stream { from = a, to = b, size = '999999G' }", "size")
  misuse("knbl.tcp_lat { from = a, to = b, size = '1:2:*1' }", "never ends")
  misuse("knbl.tcp_lat { from = a, to = b, size = '1:1G:+1' }", "too many")
  misuse("knbl.ping { from = a, to = b, mss = 1000 }", "mss")
  misuse("knbl.tcp_rr { from = a, to = b, expect = 'p99 << 1ms' }", "p99 << 1ms")
end

function TestScripts:test_exit_codes_of_expectations()
  local call = "knbl.tcp_rr { case = 'x', from = a, to = b, count = 2000, expect = '%s' }"
  script(opening .. call:format "errors == 0", "--quiet", function(got) lu.assertEquals(got.code, 0, got.err) end)
  script(opening .. call:format "p99 < 1ns", "--quiet", function(got) lu.assertEquals(got.code, 99, got.err) end)
end

TestHosts = {}

local function hosts(list, token, code, message)
  local dir <close> = shell.folder()
  local file = shell.write(dir:file "token", token)
  refuses(("--on hosts:%s --token-file %s node_to_node"):format(list, file), code, message)
end

function TestHosts:test_unreachable_ones()
  hosts("a=127.0.0.1:1,b=127.0.0.1:2", "0123456789abcdef\n", 3, "127.0.0.1:1")
  hosts("a=nosuch.invalid,b=127.0.0.1:2", "0123456789abcdef\n", 3, "nosuch.invalid")
end

function TestHosts:test_two_agents()
  local agent <close> = shell.agent "--name left --node one"
  local words = ("--on hosts:a=127.0.0.1:%d,b=127.0.0.1:%d --token-file %s"):format(agent.port,
    agent.port, agent.token)
  script([[
    local knbl = require "knbl"
    local cluster <close> = knbl.cluster()
    local a, b = cluster:nodes(2)
    local r = knbl.tcp_rr { from = a, to = b, count = 20 }
    print(r.ok, r.metrics.rate_per_s > 0, r.servers[1].name)]], words .. " --quiet", function(got)
    lu.assertEquals(got.out, "true\ttrue\tleft\n", got.err)
    lu.assertEquals(got.code, 0)
  end)
end

function TestHosts:test_a_wrong_token()
  local agent <close> = shell.agent()
  hosts(("a=127.0.0.1:%d,b=127.0.0.1:%d"):format(agent.port, agent.port), "not the agent's token", 3, "Token")
end

-- A file's name, a ledger's word: nothing of it steers a terminal.
function TestRefuses:test_no_terminal_escapes()
  local dir <close> = shell.folder()
  local name = dir:file "\27[31mred\7.json"
  for _, words in ipairs { "report %s", "report %s.none", "%s.lua", "compare %s %s" } do
    shell.write(name, '{"schema":1,"knbl":"x","measurements":[{"test":"x","case":"\\u001b[2J","monitor":5}]}')
    local got = shell.run("exec $KNBL " .. words:gsub("%%s", (shell.quote(name):gsub("%%", "%%%%"))))
    lu.assertNotEquals(got.code, 0, words)
    lu.assertNotStrContains(got.err .. got.out, "\27")
    lu.assertNotStrContains(got.err .. got.out, "\7")
    lu.assertStrContains(got.err, "?[31mred")
  end
end

os.exit(lu.LuaUnit.run())
