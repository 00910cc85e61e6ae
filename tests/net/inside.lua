-- Two network namespaces of the test's own, joined by a veth pair, an agent in the far one. The test runs itself again
-- inside them (a user, network, mount and PID namespace, so no root is needed), and all of it goes when the test ends.
--
--   local inside = require "tests.net.inside"      -- first line of a test; does not return outside
--   local result = inside.run { test = "tcp_rr", duration = 0.2 }
package.path = "./?.lua;" .. package.path
local core = require "knbl.core"
local json = require "cjson"

local M = { here = "10.98.0.1", there = "10.98.0.2", here6 = "fd98::1", there6 = "fd98::2", port = 7099 }

if not os.getenv "KNBL_TEST_INSIDE" then
  local words = {}
  for i = 0, #arg do words[#words + 1] = ("'%s'"):format(arg[i]) end
  local _, _,
    code = os.execute(
    ("KNBL_TEST_INSIDE=1 exec unshare --user --map-root-user --net --mount --pid --fork --kill-child --mount-proc %s \z
      %s"):format(
    os.getenv "KNBL" or "./knbl", table.concat(words, " ")))
  os.exit(code)
end

-- Runs a shell line; an error names it. Returns what it printed.
function M.sh(line, ...)
  local command = select("#", ...) > 0 and line:format(...) or line
  local out = io.popen(command .. " 2>&1")
  local text = out:read "a"
  local ok = out:close()
  if not ok then error(("'%s': %s"):format(command, text), 2) end
  return text
end

function M.has(program) return os.execute("command -v " .. program .. " >/dev/null 2>&1") == true end
function M.there_sh(line, ...) return M.sh("ip netns exec far " .. line, ...) end

M.token = core.token()
local dir = M.sh "mktemp -d":gsub("%s+$", "")
M.dir = dir

-- Starts a program in the background; returns its id.
function M.start(line, log)
  local out = io.popen(("%s >%s/%s 2>&1 </dev/null & echo $!"):format(line, dir, log or "log"))
  local pid = out:read "l"
  out:close()
  return pid
end

-- Waits until `test` gives a true value; nil after `seconds`.
function M.await(test, seconds)
  local deadline = core.now() + (seconds or 5)
  repeat
    local got = test()
    if got then return got end
    core.sleep(0.01)
  until core.now() > deadline
end

-- A check that a busy machine may spoil by stopping what is measured, or what looks on, in between; a wrong figure is
-- wrong each time. It has so many attempts, and on a machine that is busier still half a minute.
function M.one_of(attempts, check)
  local deadline = core.now() + 30
  local n = 1
  while n < attempts or core.now() < deadline do
    if pcall(check) then return end
    n = n + 1
  end
  check()
end

local function listening(port, prefix)
  local hex = (":%04X "):format(port)
  for line in M.sh((prefix or "") .. "cat /proc/net/tcp /proc/net/tcp6"):gmatch "[^\n]+" do
    if line:find(hex, 1, true) and line:find(" 0A ", 1, true) then return true end
  end
end
M.listening = listening

local function set_up()
  M.sh "mount -t tmpfs none /run"
  M.sh "ip link set lo up"
  M.sh "ip netns add far"
  M.sh "ip link add veth0 type veth peer name veth0 netns far"
  M.sh("ip addr add %s/24 dev veth0 && ip addr add %s/64 dev veth0 nodad && ip link set veth0 up", M.here, M.here6)
  M.sh(
    "ip -n far addr add %s/24 dev veth0 && ip -n far addr add %s/64 dev veth0 nodad && ip -n far link set veth0 up \z
      && ip -n far link set lo up", M.there, M.there6)
  local f = assert(io.open(dir .. "/token", "w"))
  f:write(M.token)
  f:close()
  M.agent = M.start(("ip netns exec far %s agent --listen [::]:%d --token-file %s/token --name far --node far"):format(
    os.getenv "KNBL" or "./knbl", M.port, dir), "agent.log")
  assert(M.await(function() return listening(M.port, "ip netns exec far ") end, 60), "the agent did not come up")
end

-- One run against the far agent; `to` overrides host and port. Raises where it cannot start; a failed run is returned
-- as it is.
function M.start_run(spec, to)
  to = to or {}
  return assert(core.run(json.encode(spec), { host = to.host or (spec.ip == 6 and M.there6 or M.there),
    port = to.port or M.port, token = to.token or M.token }))
end
function M.run(spec, to)
  local run <close> = M.start_run(spec, to)
  assert(run:wait((spec.duration or 1) + 30), "the run did not end")
  return json.decode(run:result())
end
-- The same, which must succeed: its metrics, and the whole result.
function M.measure(spec, to)
  local result = M.run(spec, to)
  if not result.ok then error(("%s: %s"):format(spec.test, result.error and result.error.message or "?"), 2) end
  return result.metrics, result
end
-- A run whose client, a process of its own, stands still for 0.3 s from a moment of `phase`: what it has asked by then
-- is answered meanwhile. Returns the result.
function M.stand_still(spec, phase, to)
  local script, out = dir .. "/apart.lua", dir .. "/apart.log"
  local f <close> = assert(io.open(script, "w"))
  f:write(([[
    local core, json = require "knbl.core", require "cjson"
    local run = assert(core.run(%q, { host = %q, port = %d, token = %q }))
    local phase
    repeat
      core.sleep(0.01)
      phase = json.decode(run:progress()).phase
    until phase == %q or phase == "done"
    core.sleep(0.1)
    print(phase)
    io.stdout:flush()
    assert(run:wait(30))
    print(run:result())
  ]]):format(json.encode(spec), spec.ip == 6 and M.there6 or M.there, to or M.port, M.token, phase))
  f:close()
  M.sh(": >%s", out)
  local function said(pattern)
    local log <close> = assert(io.open(out))
    return log:read "a":match(pattern)
  end
  local pid = M.start(("%s %s"):format(os.getenv "KNBL" or "./knbl", script), "apart.log")
  assert(M.await(function() return said("^" .. phase .. "\n") end, 30), "the run begins")
  M.sh("kill -STOP %s; sleep 0.3; kill -CONT %s", pid, pid)
  local text = assert(M.await(function() return said "\n({.*})\n" end, 30), "the run ends")
  return json.decode(text)
end
-- What the sockets of the near namespace have dropped because their receive buffers were full, as its kernel counts it.
function M.buffer_errors()
  local n = 0
  for errors in M.sh "nstat -asz UdpRcvbufErrors Udp6RcvbufErrors":gmatch "RcvbufErrors%s+(%d+)" do n = n + errors end
  return n
end
-- Whether a result is marked with `flag`, whatever else made it doubtful on this machine.
function M.flagged(result, flag)
  for _, f in ipairs(result.flags) do
    if f == flag then return true end
  end
  return false
end

function M.finish(code)
  os.execute(("kill %s 2>/dev/null; rm -rf %s"):format(M.agent, dir))
  os.exit(code)
end

set_up()
return M
