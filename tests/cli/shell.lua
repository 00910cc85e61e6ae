-- What the tests of the command line share: running the program as a shell would, and processes with a deadline.
local core = require "knbl.core"

local M = { knbl = os.getenv "KNBL" or "./knbl" }

function M.quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

function M.read(path)
  local file = io.open(path, "r")
  local text = file and file:read "a" or nil
  if file then file:close() end
  return text
end

function M.write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  return path
end

-- A folder of the test's own; it goes with the test.
function M.folder()
  local pipe = assert(io.popen("mktemp -d", "r"))
  local path = pipe:read "l"
  pipe:close()
  local gone = function() os.execute("rm -rf " .. M.quote(path)) end
  return setmetatable({ path = path }, { __close = gone,
    __index = { file = function(_, name) return path .. "/" .. name end } })
end

local function outcome(dir, started)
  return { out = M.read(dir:file "out"), err = M.read(dir:file "err"), code = tonumber(M.read(dir:file "code")),
    seconds = core.now() - started }
end

-- Runs a command line, KNBL standing for the program: { code, out, err, seconds }. One that hangs is ended
-- after two minutes.
function M.run(command, stdin)
  local dir <close> = M.folder()
  local started = core.now()
  if stdin then M.write(dir:file "in", stdin) end
  os.execute(("KNBL=%s; { timeout -k 1 120 sh -c %s; } >%s 2>%s <%s; echo $? >%s"):format(M.quote(M.knbl),
    M.quote("KNBL=" .. M.quote(M.knbl) .. "; " .. command), dir:file "out", dir:file "err",
      stdin and dir:file "in" or "/dev/null", dir:file "code"))
  return outcome(dir, started)
end

-- knbl with these words.
function M.knbl_with(words) return M.run("exec $KNBL " .. words) end

-- ---- processes ----

local Process = {}
Process.__index = Process

-- Waits until `check` gives something; fails after `seconds`.
function M.wait_for(what, check, seconds)
  local deadline = core.now() + (seconds or 45)
  while true do
    local value = check()
    if value then return value end
    if core.now() > deadline then error("waited in vain for " .. what, 2) end
    core.sleep(0.01)
  end
end

-- Starts a command line beside the test. It ends with the test (to be closed), and by itself after two minutes.
function M.start(command)
  local dir = M.folder()
  local p = setmetatable({ dir = dir, started = core.now() }, Process)
  local inner = ("KNBL=%s; echo $$ >%s; exec %s"):format(M.quote(M.knbl), dir:file "pid", command)
  os.execute(("(timeout -k 1 120 sh -c %s >%s 2>%s </dev/null; echo $? >%s) &"):format(
    M.quote(inner), dir:file "out", dir:file "err", dir:file "code.new"))
  p.pid = M.wait_for("a process", function() return tonumber(M.read(dir:file "pid") or "") end)
  return p
end

function Process:kill(signal) os.execute(("kill -%s %d 2>/dev/null"):format(signal or "TERM", self.pid)) end

function Process:err() return M.read(self.dir:file "err") end

-- Its end, by itself or after M.start's two minutes: as M.run gives it; `seconds` since `since`, or since its start.
function Process:wait(since)
  self.code = M.wait_for("the end of a process",
    function() return tonumber(M.read(self.dir:file "code.new") or "") end, 150)
  os.execute(("mv %s %s"):format(self.dir:file "code.new", self.dir:file "code"))
  return outcome(self.dir, since or self.started)
end

function Process:__close()
  if not self.code then
    self:kill "KILL"
    pcall(self.wait, self)
  end
  getmetatable(self.dir).__close(self.dir)
end

-- An agent that listens: its process, its port, and its token's file.
function M.agent(words)
  local dir = M.folder()
  local token = dir:file "token"
  M.write(token, core.token() .. "\n")
  local p = M.start(("$KNBL agent --listen 127.0.0.1:0 --token-file %s %s"):format(token, words or ""))
  p.token, p.token_dir = token, dir
  p.port = M.wait_for("an agent", function() return tonumber((p:err() or ""):match "listening on %S+:(%d+)") end)
  return p
end

function M.is_root()
  local status = M.read "/proc/self/status"
  return tonumber(status:match "\nUid:%s+(%d+)") == 0
end

return M
