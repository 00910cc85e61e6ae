-- What the tests on a real cluster share: knbl as a process of its own, kubectl, and what is left behind.
local core = require "knbl.core"
local json = require "knbl.json"

local M = { knbl = os.getenv "KNBL" or "./knbl" }

-- The folder of a cluster's kubeconfig, which a cluster made on this machine shares with its processes' ids and its authority.
M.state = (os.getenv "KUBECONFIG" or ""):match "^([^:]+)/[^/:]+$" or "."

local function read(path)
  local f = io.open(path)
  local text = f and f:read "a" or ""
  if f then f:close() end
  return text
end
M.read = read

function M.quote(word) return "'" .. tostring(word):gsub("'", "'\\''") .. "'" end

function M.sh(command)
  local p = io.popen(command .. " 2>&1")
  local text = p:read "a"
  local ok, _, code = p:close()
  return text, ok and 0 or code
end

local Process = {}
Process.__index = Process

function Process:kill(signal)
  M.sh(("kill -%s %d"):format(signal, self.pid))
end

-- Waits until it has ended; one that outlives its time is ended, and its code is "late".
function Process:wait(seconds)
  local deadline = core.now() + (seconds or 60)
  while true do
    local code = read(self.path .. ".rc")
    if code:match "%d+\n" then
      self.code = tonumber(code)
      break
    elseif core.now() > deadline then
      self:kill "KILL"
      self.code = "late"
      break
    end
    core.sleep(0.02)
  end
  self.seconds, self.out, self.err = core.now() - self.began, read(self.path .. ".out"), read(self.path .. ".err")
  local ledger = read(self.path .. ".json")
  self.ledger = ledger ~= "" and json.decode(ledger) or nil
  self.said = ("code %s after %.1f s: %s"):format(self.code, self.seconds, self.err)
  for _, end_of in ipairs { "", ".rc", ".out", ".err", ".json", ".pid" } do os.remove(self.path .. end_of) end
  return self
end

-- Whether what it wrote so far to standard error contains the text; waits for it.
function Process:says(text, seconds)
  local deadline = core.now() + (seconds or 30)
  while core.now() < deadline do
    if read(self.path .. ".err"):find(text, 1, true) then return true end
    if read(self.path .. ".rc") ~= "" then return false end
    core.sleep(0.02)
  end
  return false
end

-- Whether a signal to end would be heard: before that it ends a program as any other.
local function listens(pid)
  local caught = read(("/proc/%d/status"):format(pid)):match "SigCgt:%s*(%x+)"
  return caught and tonumber(caught, 16) & 1 << 14 ~= 0
end

-- knbl with these words, in the background. options: env (text before the command), ledger = false where it writes none.
function M.start(words, options)
  options = options or {}
  local p = setmetatable({ path = os.tmpname(), began = core.now() }, Process)
  local quoted = {}
  if options.ledger ~= false then quoted[1] = "--json " .. p.path .. ".json" end
  for _, word in ipairs(words) do quoted[#quoted + 1] = M.quote(word) end
  M.sh(("{ env %s %s %s >%s.out 2>%s.err </dev/null & echo $! >%s.pid; wait $!; echo $? >%s.rc; } >/dev/null 2>&1 &"):format(options.env or "", M.knbl,
    table.concat(quoted, " "), p.path, p.path, p.path, p.path))
  repeat p.pid = tonumber(read(p.path .. ".pid")) until p.pid or not core.sleep(0.01)
  repeat until listens(p.pid) or tonumber(read(p.path .. ".rc")) or not core.sleep(0.01)
  return p
end

function M.run(words, options) return M.start(words, options):wait(options and options.seconds) end

local function starved(run)
  for _, m in ipairs(run.ledger and run.ledger.measurements or {}) do
    if m.error and m.error.code == "no_data" then return true end
  end
  return false
end

-- A scenario from inside the cluster. Two kubelets of one machine share /var/log/pods, and each removes now and then what it does not know: a log that
-- is gone says nothing of us.
function M.submit(words)
  local all = { "submit", table.unpack(words) }
  local run
  for _ = 1, 3 do
    run = M.run(all)
    if not run.err:find "its log[ :]" then break end
  end
  return run
end

-- A scenario on the cluster, quickly. On a busy machine an agent may not run at all for so short a time: then it is tried again, longer.
function M.scenario(name, words, options)
  local run
  for _, duration in ipairs { "100ms", "500ms", "2s" } do
    local all = { "--on", "k8s", name, "--duration", duration, "--warmup", "20ms" }
    table.move(words or {}, 1, #(words or {}), #all + 1, all)
    run = M.run(all, options)
    if run.code ~= 1 and run.code ~= 99 or not starved(run) then break end
  end
  return run
end

function M.kubectl(words) return M.sh("kubectl " .. words) end

-- Names of all that knbl made and that is still there.
function M.left(namespace)
  local text = M.kubectl(("-n %s get pods,services,secrets,configmaps,jobs,roles,rolebindings,serviceaccounts -l app.kubernetes.io/managed-by=knbl,knbl.io/run -o name")
    :format(namespace or "default"))
  return text:find "^No resources" and "" or text
end

-- A script's text as a file; its name.
function M.script(text)
  local path = os.tmpname()
  local f = assert(io.open(path, "w"))
  f:write(text)
  f:close()
  return path
end

-- A process of a cluster made on this machine, or nil.
function M.process(name)
  return tonumber(read(("%s/%s.pid"):format(M.state, name)))
end

-- Kills such a process; returns a function that starts it again, as it was, in the network that it was in.
function M.kill(name)
  local pid = M.process(name)
  local net = M.sh("ip netns identify " .. pid):match "%S+"
  local words = {}
  for word in read(("/proc/%d/cmdline"):format(pid)):gmatch "[^%z]+" do words[#words + 1] = M.quote(word) end
  M.sh("kill -KILL " .. pid)
  return function()
    M.sh(("ip netns exec %s setsid %s >>%s/%s.log 2>&1 </dev/null & echo $! >%s/%s.pid"):format(net, table.concat(words, " "), M.state, name, M.state, name))
  end
end

-- What such a process was started with for --NAME, or nil.
function M.argument(process, name)
  local pid = M.process(process)
  return pid and read(("/proc/%d/cmdline"):format(pid)):match("\0%-%-" .. name:gsub("%-", "%%-") .. "=([^\0]*)\0")
end

-- The API server's address, and the one that this machine has towards it.
function M.addresses()
  local server = M.kubectl "config view --minify -o jsonpath='{.clusters[0].cluster.server}'":match "^https://%[?([%x.:]-)%]?:%d+$"
  return server, server and M.sh("ip route get " .. server):match "src (%S+)"
end

return M
