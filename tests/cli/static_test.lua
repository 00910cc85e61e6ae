-- The agent's static binaries: the options and messages of `knbl agent`, and measurements with each as client and as
-- server. The one for another architecture runs in qemu's emulation of a CPU.
local lu = require "luaunit"
local shell = require "tests.cli.shell"
local core = require "knbl.core"

TestStatic = {}

local EMULATORS = { amd64 = "qemu-x86_64-static", arm64 = "qemu-aarch64-static" }
local HERE = ({ x86_64 = "amd64", aarch64 = "arm64" })[core.machine()]

-- The command that runs the agent of `arch`; skips the test where it cannot be run.
local function command_of(arch)
  local file = "build/agent-" .. arch
  lu.skipIf(not core.agent_binary(arch), file .. " was not built")
  if arch == HERE then return file end
  lu.skipIf(shell.run("command -v " .. EMULATORS[arch]).code ~= 0, EMULATORS[arch] .. " is not installed")
  return EMULATORS[arch] .. " " .. file
end

local function says_what_knbl_agent_says(command, words)
  local got, want = shell.run("exec env -u KNBL_TOKEN " .. command .. " " .. words),
    shell.run("exec env -u KNBL_TOKEN $KNBL agent " .. words)
  lu.assertEquals({ got.code, got.out, got.err }, { want.code, want.out, want.err }, words)
end

local function same_messages(arch)
  local command = command_of(arch)
  for _, words in ipairs { "--help", "agent --help", "--lisen :0", "--listen :0", "--max-runs 0", "more",
    "--token-file /no/such/file" } do
    says_what_knbl_agent_says(command, words)
  end
end

local SCENARIO = [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local here, there = cluster:nodes(2)
local function say(r)
  local m = r.metrics or {}
  print(r.ok and m.errors == 0 and m.timeouts == 0 and ((m.ops or 0) > 0 or (m.bytes or 0) > 0))
end
for _, ends in ipairs { { here, there }, { there, here } } do
  for _, test in ipairs { "tcp_stream", "tcp_rr", "tcp_crr", "udp_stream", "udp_rr" } do
    say(knbl[test] { from = ends[1], to = ends[2], duration = "300ms" })
  end
  say(knbl.tcp_rr { case = "many", from = ends[1], to = ends[2], duration = "1s", flows = 20, rate = "1k/s" })
end
]]

local function measure(arch)
  local command = command_of(arch)
  local dir <close> = shell.folder()
  local here <close> = shell.agent()
  local there <close> = shell.start(("%s --listen 127.0.0.1:0 --token-file %s"):format(command, here.token))
  there.port = shell.wait_for("an agent", function() return tonumber((there:err() or ""):match ":(%d+)\n") end)
  local got = shell.run(("$KNBL --on hosts:a=127.0.0.1:%d,b=127.0.0.1:%d --token-file %s --quiet %s"):format(here.port,
    there.port, here.token, shell.write(dir:file "measure.lua", SCENARIO)))
  lu.assertEquals(got.out, ("true\n"):rep(12), got.err)
  lu.assertEquals(got.code, 0)
  there:kill "TERM"
  lu.assertEquals(there:wait(core.now()).code, 0)
end

-- it has no TLS; what has is named
local function refuses_https(arch)
  local command = command_of(arch)
  local dir <close> = shell.folder()
  local token = shell.write(dir:file "token", core.token())
  local agent <close> = shell.start(("%s --listen 127.0.0.1:0 --token-file %s"):format(command, token))
  agent.port = shell.wait_for("an agent", function() return tonumber((agent:err() or ""):match ":(%d+)\n") end)
  local got = shell.run(("$KNBL --on hosts:a=127.0.0.1:%d --token-file %s --quiet %s"):format(agent.port, token,
    shell.write(dir:file "https.lua", [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
print(knbl.http { from = cluster:node(1), to = "https://127.0.0.1:1/", count = 1 }.error.message)
]])))
  lu.assertStrContains(got.out,
    "https to 127.0.0.1: the static agent has no TLS; use the image (--image) on Kubernetes", nil, got.err)
  agent:kill "TERM"
  agent:wait(core.now())
end

function TestStatic.test_amd64_refuses_https() refuses_https "amd64" end
function TestStatic.test_amd64_says_what_knbl_agent_says() same_messages "amd64" end
function TestStatic.test_arm64_says_what_knbl_agent_says() same_messages "arm64" end
function TestStatic.test_amd64_measures() measure "amd64" end
function TestStatic.test_arm64_measures() measure "arm64" end

os.exit(lu.LuaUnit.run())
