-- knbl agent: how it starts, what it refuses, how it ends.
local lu = require "luaunit"
local core = require "knbl.core"
local shell = require "tests.cli.shell"

local secret = "0123456789abcdef0123"

local function refuses(words, code, message, environment)
  local got = shell.run(("exec env -u KNBL_TOKEN %s $KNBL agent %s"):format(environment or "", words))
  lu.assertEquals(got.code, code, words .. ": " .. got.err)
  lu.assertStrContains(got.err, message)
  lu.assertEquals(select(2, got.err:gsub("\n", "")), 1, got.err)
  lu.assertEquals(got.out, "")
  lu.assertTrue(got.seconds < 25)
end

local function ask(agent, path, token, more)
  local request = { url = ("http://127.0.0.1:%d%s"):format(agent.port, path), headers = { ["Knbl-Token"] = token },
    timeout = 5 }
  for key, value in pairs(more or {}) do request[key] = value end
  return core.fetch(request)
end

local function token_of(agent) return (shell.read(agent.token):gsub("\n", "")) end

TestRefuses = {}

function TestRefuses:test_tokens()
  local dir <close> = shell.folder()
  local short, empty = shell.write(dir:file "short", "fifteen letters\n"), shell.write(dir:file "empty", "")
  refuses("", 2, "a token is required")
  refuses("--token-file " .. short, 2, "at least 16 characters, got 15")
  refuses("--token-file " .. empty, 2, "at least 16 characters, got 0")
  refuses("--token-file " .. shell.write(dir:file "odd", "twenty letters\1in all\n"), 2,
    "contains non-printable characters")
  refuses("--token-file /nonexistent/token", 2, "cannot read /nonexistent/token: No such file")
  refuses("--token-file /tmp", 2, "cannot read /tmp")
  refuses("--token-file /dev/zero", 2, "longer than")
  refuses("", 2, "KNBL_TOKEN", "KNBL_TOKEN=short")
end

function TestRefuses:test_options()
  local token = "KNBL_TOKEN=" .. secret
  refuses("--lisen :1", 2, "did you mean --listen?", token)
  refuses("-x", 2, "unknown option -x", token)
  refuses("--listen", 2, "option --listen requires a value", token)
  refuses("extra", 2, "unexpected argument 'extra'", token)
  refuses("--listen 127.0.0.1:70000", 2, "port", token)
  refuses("--listen 7099", 2, "expected [ADDRESS]:PORT, as in \":7099\"", token)
  refuses("--listen [::1", 2, "[::1", token)
  refuses("--listen nosuch.invalid:1", 2, "nosuch.invalid", token)
  refuses("--max-duration 5parsecs", 2, "unit of time", token)
  refuses("--max-runs 0", 2, "--max-runs must be from 1 to 100000, got 0", token)
  refuses("--max-runs -3", 2, "negative", token)
  refuses("--max-bytes 0", 2, "--max-bytes must be more than 0", token)
  refuses("--max-bytes many", 2, "many", token)
  refuses("--idle 0", 2, "--idle must be more than 0", token)
  refuses("--idle soon", 2, "soon", token)
  refuses("--name " .. ("x"):rep(64), 2, "63 characters", token)
end

function TestRefuses:test_addresses()
  local agent <close> = shell.agent()
  refuses("--listen 127.0.0.1:" .. agent.port, 3, "in use", "KNBL_TOKEN=" .. secret)
  refuses("--listen 198.51.100.7:0", 3, "198.51.100.7", "KNBL_TOKEN=" .. secret)
  refuses("--listen 127.0.0.1:0 --unix /nonexistent/folder/socket", 3, "/nonexistent/folder/socket",
    "KNBL_TOKEN=" .. secret)
end

TestHelp = {}

function TestHelp:test_the_page_has_every_option()
  local help, page, n = shell.run("exec $KNBL agent --help").out, shell.read "docs/agent.md", 0
  for option in help:gmatch "\n  (%-%-[%w-]+)" do
    lu.assertStrContains(page, "`" .. option)
    n = n + 1
  end
  lu.assertTrue(n >= 9, help)
end

TestServes = {}

function TestServes:test_who_knows_the_token()
  local agent <close> = shell.agent "--name pod-7 --node rack-3"
  local got = assert(ask(agent, "/v1/agent", token_of(agent)))
  lu.assertEquals(got.status, 200)
  lu.assertStrContains(got.body, '"pod-7"')
  lu.assertStrContains(got.body, '"rack-3"')
  lu.assertEquals(ask(agent, "/v1/agent", "another token altogether").status, 401)
end

function TestServes:test_by_environment_and_any_address()
  local agent <close> = shell.start(("env KNBL_TOKEN=%s $KNBL agent --listen :0"):format(secret))
  agent.port = shell.wait_for("an agent", function() return tonumber(agent:err():match "listening on %S+:(%d+)") end)
  lu.assertEquals(ask(agent, "/v1/agent", secret).status, 200)
end

function TestServes:test_a_unix_socket()
  local dir <close> = shell.folder()
  local agent <close> = shell.agent("--unix " .. dir:file "socket")
  local got = assert(core.fetch { url = "http://agent/v1/agent", unix = dir:file "socket",
    headers = { ["Knbl-Token"] = token_of(agent) } })
  lu.assertEquals(got.status, 200)
end

function TestServes:test_it_says_one_line()
  local agent <close> = shell.agent()
  lu.assertEquals(agent:err(), ("listening on 127.0.0.1:%d\n"):format(agent.port))
end

-- Garbage on the port, half-open clients, clients that vanish: it serves on.
function TestServes:test_on_after_nonsense()
  local agent <close> = shell.agent()
  local run <close> = assert(core.run('{"test":"tcp_rr","duration":"5s"}',
    { host = "127.0.0.1", port = agent.port, token = token_of(agent) }))
  for _, garbage in ipairs { "GARBAGE\\r\\n\\r\\n", "KNBL", "KNBL\\001\\377\\377\\377\\377", "GET",
    "\\026\\003\\001" } do
    shell.run(("printf '%s' | timeout 1 bash -c 'cat >/dev/tcp/127.0.0.1/%d'"):format(garbage, agent.port))
  end
  run:close() -- in the middle
  lu.assertEquals(ask(agent, "/v1/agent", token_of(agent)).status, 200)
  local again <close> = assert(core.run('{"test":"tcp_rr","count":100}',
    { host = "127.0.0.1", port = agent.port, token = token_of(agent) }))
  lu.assertTrue(again:wait(10))
  lu.assertStrContains(again:result(), '"ok":true')
end

-- As an agent that measures, and as one that serves.
function TestServes:test_max_bytes()
  local agent <close> = shell.agent "--max-bytes 1M"
  local other <close> = shell.agent()
  local got = assert(ask(agent, "/v1/runs", token_of(agent), { method = "POST", body = ('{"spec":{"test":"tcp_stream",'
    .. '"duration":"20s","warmup":0},"to":{"host":"127.0.0.1","port":%d},"token":"%s"}'):format(other.port,
    token_of(other)) }))
  lu.assertEquals(got.status, 201)
  local path = "/v1/runs/" .. got.body:match '"id":"(%x+)"' .. "?wait=20000"
  got = assert(ask(agent, path, token_of(agent), { timeout = 25 }))
  lu.assertStrContains(got.body, '"failed"')
  lu.assertStrContains(got.body, "stopped by the agent: the run moved more than 1048576 bytes")
end

TestEnds = {}

local function ends_by(signal)
  local agent <close> = shell.agent()
  local run <close> = assert(core.run('{"test":"tcp_rr","duration":"20s"}',
    { host = "127.0.0.1", port = agent.port, token = token_of(agent) }))
  shell.wait_for("a measurement", function() return run:progress():find '"measure"' end)
  local since = core.now()
  agent:kill(signal)
  local got = agent:wait(since)
  lu.assertEquals(got.code, 0, signal .. ": " .. got.err)
  lu.assertTrue(got.seconds < 25)
  lu.assertEquals(select(2, got.err:gsub("\n", "")), 1, got.err)
end

function TestEnds:test_by_a_signal_in_the_middle_of_a_run()
  ends_by "TERM"
  ends_by "INT"
end

-- Requests and data keep it; what comes without the token does not.
function TestEnds:test_when_it_is_idle()
  local agent <close> = shell.agent "--idle 2s"
  local since, used = core.now(), nil
  while core.now() - since < 3 do
    lu.assertEquals(ask(agent, "/v1/alive", token_of(agent)).status, 200)
    used = core.now()
    core.sleep(0.1)
  end
  ask(agent, "/v1/alive", "another token altogether")
  local got = agent:wait(used)
  lu.assertEquals(got.code, 0, got.err)
  lu.assertTrue(got.seconds > 1.5, tostring(got.seconds))
  lu.assertStrContains(got.err, "knbl agent: exiting: idle for 2 s\n")
end

function TestEnds:test_as_the_first_process_of_a_container()
  if not shell.is_root() then lu.skip "needs root" end
  local agent <close> = shell.start(
    ("env KNBL_TOKEN=%s unshare --pid --fork --mount-proc --kill-child $KNBL agent --listen 127.0.0.1:0"):format(
    secret))
  shell.wait_for("an agent", function() return agent:err():match "listening" end)
  local children = io.popen("pgrep -P " .. agent.pid)
  local inner = tonumber(children:read "a")
  children:close()
  os.execute("kill -TERM " .. inner)
  lu.assertEquals(agent:wait().code, 0)
end

os.exit(lu.LuaUnit.run())
