-- Shared functions of the tests on a real cluster: run knbl and kubectl, and find objects that were left.
local core = require "knbl.core"
local json = require "knbl.json"

local M = { knbl = os.getenv "KNBL" or "./knbl" }

-- The folder of the kubeconfig. A cluster on this machine also keeps its process ids and its certificate authority
-- there.
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

-- Waits for the end of the process. After the timeout it kills the process, and the code is "late".
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

-- Waits until standard error contains the text.
function Process:says(text, seconds)
  local deadline = core.now() + (seconds or 30)
  while core.now() < deadline do
    if read(self.path .. ".err"):find(text, 1, true) then return true end
    if read(self.path .. ".rc") ~= "" then return false end
    core.sleep(0.02)
  end
  return false
end

-- Whether the signal handlers are installed; before that, a signal ends the program immediately.
local function listens(pid)
  local caught = read(("/proc/%d/status"):format(pid)):match "SigCgt:%s*(%x+)"
  return caught and tonumber(caught, 16) & 1 << 14 ~= 0
end

-- Starts knbl with these arguments in the background. options: env (text before the command), ledger = false for no
-- ledger.
function M.start(words, options)
  options = options or {}
  local p = setmetatable({ path = os.tmpname(), began = core.now() }, Process)
  local quoted = {}
  if options.ledger ~= false then quoted[1] = "--json " .. p.path .. ".json" end
  for _, word in ipairs(words) do quoted[#quoted + 1] = M.quote(word) end
  M.sh(("{ env %s %s %s >%s.out 2>%s.err </dev/null & echo $! >%s.pid; wait $!; echo $? >%s.rc; } >/dev/null 2>&1 &")
    :format(options.env or "", M.knbl, table.concat(quoted, " "), p.path, p.path, p.path, p.path))
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

-- Runs a scenario inside the cluster. Two kubelets on one machine share /var/log/pods, and each sometimes removes
-- unknown logs, so a missing log is not an error of knbl.
function M.submit(words)
  local all = { "submit", table.unpack(words) }
  local run
  for _ = 1, 3 do
    run = M.run(all)
    if not run.err:find "its log[ :]" then break end
  end
  return run
end

-- Runs a scenario briefly on the cluster. On a busy machine an agent may get no CPU time in such a short run; then it
-- is repeated with a longer duration.
function M.scenario(name, words, options)
  local run
  for _, duration in ipairs { "100ms", "500ms", "2s" } do
    local all = { "--on", "k8s", name, "--duration", duration, "--warmup", "20ms" }
    if os.getenv "E2E_INJECT" then table.insert(all, 3, "--inject") end
    table.move(words or {}, 1, #(words or {}), #all + 1, all)
    run = M.run(all, options)
    if run.code ~= 1 and run.code ~= 99 or not starved(run) then break end
  end
  return run
end

function M.kubectl(words) return M.sh("kubectl " .. words) end

-- The names of all objects of knbl that still exist.
function M.left(namespace)
  local text = M.kubectl(
    ("-n %s get pods,services,secrets,configmaps,jobs,roles,rolebindings,serviceaccounts -l \z
      app.kubernetes.io/managed-by=knbl,knbl.io/run -o name")
    :format(namespace or "default"))
  return text:find "^No resources" and "" or text
end

-- Writes a script to a file and returns its name.
function M.script(text)
  local path = os.tmpname()
  local f = assert(io.open(path, "w"))
  f:write(text)
  f:close()
  return path
end

-- Programs of this machine and their libraries as a docker archive; sh PACKER ARCHIVE IMAGE FOLDER PROGRAM…, where the
-- image gets all that is in FOLDER too.
local pack = [[
set -e
archive=$1 image=$2 folder=$3; shift 3
work=$(mktemp -d); trap 'rm -rf $work' EXIT
mkdir -p $work/root/usr/bin $work/root/usr/lib $work/root/tmp $work/root/bin $work/root/etc; chmod 1777 $work/root/tmp
echo 'root:x:0:0::/:/bin/sh' >$work/root/etc/passwd; echo 'root:x:0:' >$work/root/etc/group
ln -s usr/lib $work/root/lib; ln -s usr/lib $work/root/lib64
for tool; do
  cp -L $(command -v $tool) $work/root/usr/bin/
  [ $tool != sh ] || cp -L $(command -v sh) $work/root/bin/
  ldd $(command -v $tool) | grep -o '/[^ ]*' | while read f; do cp -Ln $f $work/root/usr/lib/; done
done
[ -z "$folder" ] || cp -r $folder/. $work/root/
tar --owner=0 --group=0 -C $work/root -cf $work/layer.tar .
sum=$(sha256sum $work/layer.tar | cut -d' ' -f1)
case $(uname -m) in x86_64) arch=amd64;; aarch64) arch=arm64;; *) arch=$(uname -m);; esac
cat >$work/config.json <<END
{"architecture":"$arch","os":"linux","config":{"Env":["PATH=/usr/bin"]},
 "rootfs":{"type":"layers","diff_ids":["sha256:$sum"]}}
END
echo '[{"Config":"config.json","RepoTags":["docker.io/library/'$image'"],"Layers":["layer.tar"]}]' >$work/manifest.json
tar -C $work -cf $archive manifest.json config.json layer.tar
]]

-- Brings an image of these programs, and of the files in `folder` if there is one, to the nodes by E2E_LOAD.
function M.load_image(image, programs, folder)
  local archive, packer = os.tmpname(), M.script(pack)
  local said = M.sh(("sh %s %s %s '%s' %s && %s %s"):format(packer, archive, image, folder or "",
    table.concat(programs, " "), os.getenv "E2E_LOAD", archive))
  os.remove(archive)
  os.remove(packer)
  return said
end

-- A process of a cluster on this machine, or nil.
function M.process(name)
  return tonumber(read(("%s/%s.pid"):format(M.state, name)))
end

-- Kills such a process. Returns a function that starts it again with the same arguments in the same network namespace.
function M.kill(name)
  local pid = M.process(name)
  local net = M.sh("ip netns identify " .. pid):match "%S+"
  local words = {}
  for word in read(("/proc/%d/cmdline"):format(pid)):gmatch "[^%z]+" do words[#words + 1] = M.quote(word) end
  M.sh("kill -KILL " .. pid)
  return function()
    -- not "ip netns exec", which hides the cgroups; without this process' descriptors, of which one may hold a lock
    M.sh(("exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; \z
      setsid nsenter --net=/run/netns/%s %s >>%s/%s.log 2>&1 </dev/null & echo $! >%s/%s.pid"):format(net,
      table.concat(words, " "), M.state, name, M.state, name))
  end
end

-- The value of --NAME in the arguments of such a process, or nil.
function M.argument(process, name)
  local pid = M.process(process)
  return pid and read(("/proc/%d/cmdline"):format(pid)):match("\0%-%-" .. name:gsub("%-", "%%-") .. "=([^\0]*)\0")
end

-- The API server's address, and this machine's address on the route to it.
function M.addresses()
  local server =
    M.kubectl "config view --minify -o jsonpath='{.clusters[0].cluster.server}'":match "^https://%[?([%x.:]-)%]?:%d+$"
  return server, server and M.sh("ip route get " .. server):match "src (%S+)"
end

return M
