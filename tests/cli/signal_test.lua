-- SIGINT, SIGTERM and SIGHUP: everything stops at once, what was measured is kept, the exit code is 130.
local lu = require "luaunit"
local core = require "knbl.core"
local shell = require "tests.cli.shell"

-- Runs a script, waits for its word on standard error, sends the signal: how it ended, seconds from the signal on.
local function interrupted(text, signal, words)
  local dir <close> = shell.folder()
  local path = shell.write(dir:file "script.lua", text)
  local p <close> = shell.start(("$KNBL %s %s"):format((words or ""):gsub("FOLDER", dir.path), path))
  shell.wait_for("the script", function() return (p:err() or ""):find "ready" end)
  local since = core.now()
  p:kill(signal or "INT")
  local got = p:wait(since)
  got.json = shell.read(dir:file "result.json")
  return got
end

local measuring = [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster { provider = PROVIDER, nodes = 2 }
local a, b = cluster:pair()
knbl.tcp_rr { case = "first", from = a, to = b, duration = "100ms" }
io.stderr:write "ready\n"
knbl.tcp_rr { case = "second", from = a, to = b, duration = "30s" }
knbl.tcp_rr { case = "third", from = a, to = b, duration = "30s" }
]]

TestMeasuring = {}

local function keeps_what_was_measured(provider, signal)
  local got = interrupted((measuring:gsub("PROVIDER", provider)), signal, "--json FOLDER/result.json")
  lu.assertEquals(got.code, 130, got.err)
  lu.assertTrue(got.seconds < 25, tostring(got.seconds))
  lu.assertStrContains(got.json, '"first"')
  lu.assertNotStrContains(got.json, '"third"')
  lu.assertNotStrContains(got.err, "traceback")
end

-- As the Job of `knbl submit` ends its run.
function TestMeasuring:test_the_time_limit_of_the_environment()
  local dir <close> = shell.folder()
  local path = shell.write(dir:file "script.lua", (measuring:gsub("PROVIDER", '"loopback"')))
  local p <close> = shell.start(("env KNBL_TIME_LIMIT=2s $KNBL --json %s %s"):format(dir:file "result.json", path))
  local got = p:wait(core.now())
  lu.assertEquals(got.code, 130, got.err)
  lu.assertTrue(got.seconds < 25, tostring(got.seconds))
  lu.assertStrContains(shell.read(dir:file "result.json"), '"first"')
end

function TestMeasuring:test_over_loopback()
  keeps_what_was_measured('"loopback"', "INT")
  keeps_what_was_measured('"loopback"', "TERM")
  keeps_what_was_measured('"loopback"', "HUP")
end

function TestMeasuring:test_in_a_lab()
  local lab, err = core.lab "{}"
  if not lab then lu.skip(err.message) end
  lab:close()
  keeps_what_was_measured('"lab"', "INT")
  keeps_what_was_measured('"lab"', "TERM")
end

function TestMeasuring:test_a_program_in_a_pod_ends_too()
  local lab, err = core.lab "{}"
  if not lab then lu.skip(err.message) end
  lab:close()
  local got = interrupted([[
    local knbl = require "knbl"
    local cluster <close> = knbl.cluster()
    local pod = cluster:pod()
    io.stderr:write "ready\n"
    pod:exec { "sleep", "40" }
    io.stderr:write "on\n"
  ]], "TERM")
  lu.assertEquals(got.code, 130, got.err)
  lu.assertTrue(got.seconds < 25, tostring(got.seconds))
  lu.assertNotStrContains(got.err, "on\n")
  lu.assertNotStrContains(got.err, "traceback")
end

TestLua = {}

function TestLua:test_a_script_that_sleeps()
  local got = interrupted [[
    local core = require "knbl.core"
    io.stderr:write "ready\n"
    local ok, err = core.sleep(30)
    local again, why = core.sleep(0.01)
    print(ok, err.code, core.interrupted(), again, why.code)
    core.cleanup(true)
    print(core.sleep(0.01))
    core.cleanup(false)
    print(core.sleep(0.01))
    error(err)]]
  lu.assertStrMatches(got.out, "nil\tinterrupted\ttrue\tnil\tinterrupted\ntrue\nnil\tinterrupted\n")
  lu.assertEquals(got.code, 130, got.err)
  lu.assertTrue(got.seconds < 25)
end

-- What was cut short may say it in its own words: it was interrupted all the same.
function TestLua:test_a_script_with_an_error_of_its_own()
  local got = interrupted [[
    io.stderr:write "ready\n"
    require "knbl.core".sleep(30)
    error "the agent does not answer"]]
  lu.assertEquals(got.code, 130, got.err)
  lu.assertStrContains(got.err, "knbl: interrupted")
end

-- It allocates as it goes: the thread sanitizer keeps a signal back until the next call that it knows of, and a bare
-- loop makes none.
function TestLua:test_a_script_that_computes()
  local got = interrupted 'io.stderr:write "ready\\n" while true do local _ = {} end'
  lu.assertEquals(got.code, 130, got.err)
end

-- Whether a program hears a signal to end: before that it ends as any other.
local function listens(pid)
  local caught = (shell.read(("/proc/%d/status"):format(pid)) or ""):match "SigCgt:%s*(%x+)"
  return caught and tonumber(caught, 16) & 1 << 1 ~= 0
end

-- In its first second a script is only planned: what comes then is not lost, whether it computes or waits afterwards.
function TestLua:test_in_the_first_second()
  for _, text in ipairs { "while true do local _ = {} end",
    "for i = 1, 3e8 do local _ = {} end require 'knbl.core'.sleep(40)" } do
    local dir <close> = shell.folder()
    local p <close> = shell.start("$KNBL " .. shell.write(dir:file "script.lua", text))
    shell.wait_for("knbl", function() return listens(p.pid) end)
    local since = core.now()
    p:kill "INT"
    local got = p:wait(since)
    lu.assertEquals(got.code, 130, got.err)
    lu.assertNotStrContains(got.err, "traceback")
  end
end

-- A script that catches the error hears of it again.
function TestLua:test_a_script_that_catches_it()
  local got = interrupted [[
    io.stderr:write "ready\n"
    local ok = pcall(function() while true do local _ = {} end end)
    while true do local _ = {} end]]
  lu.assertEquals(got.code, 130, got.err)
end

function TestLua:test_a_script_that_fetches()
  local got = interrupted [[
    local core = require "knbl.core"
    local agent <close> = core.agent { token = "0123456789abcdef" }
    local answer, err = core.fetch { url = ("http://127.0.0.1:%d/v1/runs"):format(agent:port()), method = "POST",
      body = '{}', timeout = 0.5, headers = { ["Knbl-Token"] = "0123456789abcdef" } }
    io.stderr:write "ready\n"
    repeat answer, err = core.fetch { url = "http://198.51.100.1/", timeout = 30, connect_timeout = 30 }
      if err and err.code ~= "interrupted" then _, err = core.sleep(30) end
    until err
    print(err.code)
    error(err)]]
  lu.assertEquals(got.out, "interrupted\n", got.err)
  lu.assertEquals(got.code, 130)
  lu.assertTrue(got.seconds < 25)
end

-- Who does not end at the first signal ends at the second.
function TestLua:test_the_second_signal()
  local dir <close> = shell.folder()
  local path = shell.write(dir:file "script.lua",
    "while true do pcall(function() while true do local _ = {} end end) end")
  local p <close> = shell.start("$KNBL " .. path)
  shell.wait_for("its end", function()
    p:kill "INT"
    return (shell.read(p.dir:file "code.new") or "") ~= ""
  end, 5)
  lu.assertEquals(p:wait().code, 130)
end

-- A terminal that closes, or a parent that dies, may send it more than once: what is cleaned up is still cleaned up.
function TestLua:test_hangups_do_not_cut_a_cleanup_short()
  local dir <close> = shell.folder()
  local path = shell.write(dir:file "script.lua", ([[
    local own <close> = setmetatable({}, { __close = function()
      io.stderr:write "cleaning\n"
      while not io.open(%q) do end
      io.stderr:write "cleaned\n"
    end })
    io.stderr:write "ready\n"
    assert(require "knbl.core".sleep(50))]]):format(dir:file "go"))
  local p <close> = shell.start("$KNBL " .. path)
  shell.wait_for("the script", function() return (p:err() or ""):find "ready" end)
  p:kill "HUP"
  shell.wait_for("its cleanup", function() return (p:err() or ""):find "cleaning" end)
  p:kill "HUP"
  p:kill "HUP"
  shell.write(dir:file "go", "")
  local got = p:wait()
  lu.assertEquals(got.code, 130)
  lu.assertStrContains(got.err, "cleaned")
end

TestFiles = {}

-- Results go to a pipe that nobody reads.
function TestFiles:test_a_pipe_without_a_reader()
  local dir <close> = shell.folder()
  os.execute("mkfifo " .. dir:file "pipe")
  local path = shell.write(dir:file "script.lua", "require 'knbl'.note 'x' io.stderr:write 'ready\\n'")
  local p <close> = shell.start(("$KNBL --json %s %s"):format(dir:file "pipe", path))
  shell.wait_for("the script", function() return (p:err() or ""):find "ready" end)
  core.sleep(0.3)
  local since = core.now()
  p:kill "INT"
  local got = p:wait(since)
  lu.assertEquals(got.code, 130, got.err)
  lu.assertTrue(got.seconds < 25, got.seconds)
  lu.assertStrContains(got.err, "--json: cannot write " .. dir:file "pipe")
end

-- A reader that comes late gets all of it, once: what is saved in between goes to files only.
function TestFiles:test_a_pipe_with_a_late_reader()
  local dir <close> = shell.folder()
  os.execute("mkfifo " .. dir:file "pipe")
  local path = shell.write(dir:file "script.lua", [[
    local knbl = require "knbl"
    for i = 1, 3000 do knbl.note(("x"):rep(100) .. i) end
    io.stderr:write "ready\n"]])
  local p <close> = shell.start(("$KNBL --json %s %s"):format(dir:file "pipe", path))
  shell.wait_for("the script", function() return (p:err() or ""):find "ready" end)
  core.sleep(0.3)
  local got = shell.run("exec cat " .. dir:file "pipe")
  lu.assertEquals(p:wait().code, 0)
  lu.assertEquals(#require("knbl.json").decode(got.out).notes, 3000)
end

-- A limit on the size of files is an error like a full disk: no half file, no temporary one.
function TestFiles:test_a_limit_on_the_size_of_files()
  local dir <close> = shell.folder()
  local path = shell.write(dir:file "script.lua", "for i = 1, 3000 do require 'knbl'.note(('x'):rep(100) .. i) end")
  local got = shell.run(("ulimit -f 16; exec $KNBL -q --json %s %s"):format(dir:file "out.json", path))
  lu.assertEquals(got.code, 1, got.err)
  lu.assertStrContains(got.err, "File too large")
  lu.assertEquals(shell.run("ls " .. dir.path).out, "script.lua\n")
  got = shell.run(("ulimit -f 16; exec $KNBL -q --json - %s >%s"):format(path, dir:file "redirected"))
  lu.assertEquals(got.code, 1, got.err)
  lu.assertStrContains(got.err, "cannot write all of standard output")
end

-- Started without some of the three standard descriptors, it measures as ever: none of its own takes their place.
function TestFiles:test_closed_descriptors()
  for _, closed in ipairs { "<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-" } do
    local dir <close> = shell.folder()
    local path = shell.write(dir:file "script.lua", [[
      local knbl = require "knbl"
      local cluster <close> = knbl.cluster { provider = "loopback" }
      local a, b = cluster:pair()
      knbl.tcp_rr { from = a, to = b, count = 100 }
      io.stderr:write "a message\n"]])
    local got = shell.run(("$KNBL --json %s %s %s"):format(dir:file "out.json", path, closed))
    lu.assertEquals(got.code, 0, closed .. ": " .. got.err)
    local measured = require("knbl.json").decode(shell.read(dir:file "out.json")).measurements[1]
    lu.assertTrue(measured.ok, closed)
  end
end

TestChild = {}

-- A child that is told to end before it runs ends: the handlers that it has until then are not its own.
function TestChild:test_a_signal_at_its_start()
  local dir <close> = shell.folder()
  local path = shell.write(dir:file "s.lua", [[
    local core = require "knbl.native"
    for _ = 1, 20 do
      local child = core.spawn({ "run", "-" }, 'require("knbl.native").sleep(60)')
      child:signal(15)
      io.write(child:wait(30) and "ended " or "lost ")
    end]])
  lu.assertEquals(shell.run("exec $KNBL " .. path).out, ("ended "):rep(20))
end

os.exit(lu.LuaUnit.run())
