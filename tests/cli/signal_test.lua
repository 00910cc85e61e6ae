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
    print(ok, err.code, core.interrupted(), core.sleep(0.01))
    error(err)]]
  lu.assertEquals(got.out, "nil\tinterrupted\ttrue\ttrue\n")
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

-- It allocates as it goes: the thread sanitizer keeps a signal back until the next call that it knows of, and a bare loop makes none.
function TestLua:test_a_script_that_computes()
  local got = interrupted 'io.stderr:write "ready\\n" while true do local _ = {} end'
  lu.assertEquals(got.code, 130, got.err)
  lu.assertTrue(got.seconds < 25)
end

function TestLua:test_a_script_that_fetches()
  local got = interrupted [[
    local core = require "knbl.core"
    local agent <close> = core.agent { token = "0123456789abcdef" }
    local answer, err = core.fetch { url = ("http://127.0.0.1:%d/v1/runs"):format(agent:port()), method = "POST", body = '{}', timeout = 0.5,
      headers = { ["Knbl-Token"] = "0123456789abcdef" } }
    io.stderr:write "ready\n" -- who is interrupted above has heard of it, and is not told again below
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
  local path = shell.write(dir:file "script.lua", "while true do pcall(function() while true do local _ = {} end end) end")
  local p <close> = shell.start("$KNBL " .. path)
  shell.wait_for("its end", function()
    p:kill "INT"
    return (shell.read(p.dir:file "code.new") or "") ~= ""
  end, 5)
  lu.assertEquals(p:wait().code, 130)
end

os.exit(lu.LuaUnit.run())
