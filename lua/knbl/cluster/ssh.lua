-- knbl.cluster.ssh - hosts without an install: --on ssh:root@a,b=user@10.0.0.2:2222. OpenSSH's client with the user's
-- own configuration logs in, once for each host; the agent is copied into a private folder there, its token comes by
-- its standard input, and it is asked through a Unix socket that ssh forwards. Measurements go straight from host to
-- host.
--
-- One ssh session carries it all: first the agent's file, then a line every few seconds. The agent ends when its
-- standard input does, or falls silent; so nothing is left there when this program is killed or the network goes away.
--
-- The other side's script answers by lines that begin with a random tag, whatever the login shell prints besides.
local agent = require "knbl.measure.agent"
local machines = require "knbl.cluster.machines"
local script = require "knbl.base.script"

local M = { name = "ssh", default_port = 7099, costs = { open = 1.5 }, via = "host", cannot = machines.cannot }

local EXAMPLE = "--on ssh:root@a,b=user@10.0.0.2:2222"
local BEAT_S, SILENCE_S = 5, 30 -- a line every so often; after so long without one the agent ends
local LOGIN_S, COPY_S, START_S, END_S = 60, 60, 15, 8

local quote = script.quote

-- ---- what the command line says ----

-- "[NAME=][ssh://][USER@]HOST[:PORT][/DATA_ADDRESS]" -> { name, destination, port?, data? } | nil, err
function M.parse(pair)
  local name, text = pair[1], pair[2]
  if not text then name, text = nil, pair[1] end
  local rest = text:gsub("^ssh://", "")
  local target, data = rest:match "^([^/]+)/?(.*)$"
  local user, host = (target or ""):match "^(.*@)([^@]+)$"
  if not host then user, host = "", target or "" end
  local address, port = host:match "^%[([%x:.]+)%]:?(%d*)$"
  if not address and select(2, host:gsub(":", "")) > 1 then address, port = host:match "^[%x:.]+$", "" end
  if not address then address, port = host:match "^([%w._-]+):?(%d*)$" end
  local number = port and port ~= "" and tonumber(port) or nil
  if not address or address:sub(1, 1) == "-" or user:sub(1, 1) == "-" or user:find "%s" or host:sub(-1) == ":"
    or number and (number < 1 or number > 65535) or data:find "[^%x:.]" then
    return nil, { code = "usage",
      message = ("--on ssh: '%s' must be [NAME=][USER@]HOST[:PORT][/DATA_ADDRESS], as in %s"):format(text, EXAMPLE) }
  end
  if name and not name:find "^%w[%w._-]*$" then
    return nil, { code = "usage", message = ("--on ssh: '%s' must be letters, digits, '.', '_' and '-'"):format(name) }
  end
  return { name = name or address, destination = user .. address, port = number, data = data ~= "" and data or nil }
end

local function list_of(options)
  if #options.pairs == 0 then return nil, { code = "usage", message = "--on ssh needs hosts: " .. EXAMPLE } end
  return machines.list(options, M.parse)
end

M.check = list_of

function M.names_of(options) return machines.names(list_of(options)) end

-- ---- the other side ----

-- For any login shell: sent as one line, with none of the characters that some shell replaces within single quotes
-- (', \, !). Finds a folder in which programs can be executed, takes files (a line "SIZE NAME", then the bytes) until
-- the line "0 run", and starts the agent. TAG, PORT, NAME, SILENCE are replaced.
local REMOTE = ([[
umask 077; n=; t=;
for d in "${TMPDIR:-/tmp}" "$HOME" "/run/user/$(id -u)" /dev/shm /var/tmp; do
  t=$(mktemp -d "$d/knbl-XXXXXXXXXX" 2>/dev/null) || continue;
  echo "exit 0" >"$t/try"; chmod 700 "$t/try";
  if "$t/try" 2>/dev/null; then rm "$t/try"; break; fi;
  if [ -n "$n" ]; then rm -rf "$t"; else n=$t; fi;
  t=;
done;
how=run; if [ -z "$t" ]; then t=$n; how=memory; elif [ -n "$n" ]; then rm -rf "$n"; fi;
if [ -z "$t" ]; then echo "TAG nowhere"; exit 1; fi;
clean() { rm -rf "$t"; echo "TAG gone"; }; trap clean EXIT; trap exit HUP TERM INT;
echo "TAG ready $(uname -m) $how $t $SSH_CONNECTION";
while read -r size name && [ "$size" -gt 0 ]; do
  head -c "$size" >"$t/$name"; chmod 700 "$t/$name"; echo "TAG got $(wc -c <"$t/$name")";
done;
agent() { if [ $how = run ]; then "$t/agent" "$@" 2>&1; else sh "$t/memory" "$t/agent" "$@" 2>&1; fi; };
start() { agent agent --token-file - --lifeline SILENCEs --name NAME --node NAME --unix "$t/s" --listen "$1"; };
start :PORT || { [ $? = 3 ] && start :0; }]]):gsub("\n%s*", " ")

local architectures = { x86_64 = "amd64", aarch64 = "arm64" }

-- ---- this side ----

local function read(path)
  local f = io.open(path, "rb")
  if not f then return "" end
  local text = f:read "a"
  f:close()
  return text
end

-- Whether ssh can ask for a password: CI has no terminal, and where it has one nobody sits at it.
local function may_ask()
  if (os.getenv "CI" or "") ~= "" then return false end
  local terminal = io.open("/dev/tty", "r+")
  if terminal then terminal:close() end
  return terminal ~= nil
end

local Session = {}
Session.__index = Session

-- ssh's words before the destination. The user's own configuration holds but for what would get in the way.
local function ssh_words(self)
  local words = { "ssh", "-T", "-a", "-x" }
  for _, option in ipairs { "ControlMaster=yes", "ControlPath=" .. self.path .. ".ctl", "ControlPersist=no",
    "RemoteCommand=none", "PermitLocalCommand=no", "ClearAllForwardings=yes", "ServerAliveInterval=10",
    "ServerAliveCountMax=3", "ConnectTimeout=20", "BatchMode=" .. (self.ask and "no" or "yes") } do
    words[#words + 1] = "-o"
    words[#words + 1] = option
  end
  if self.machine.port then table.move({ "-p", tostring(self.machine.port) }, 1, 2, #words + 1, words) end
  return words
end

-- Ctrl-C is this program's to handle: ssh and what feeds it ignore it, and end when their input does. The folder is
-- this program's to remove, unless it was killed.
local FEED = [[trap '' INT
{ (while sleep %d >/dev/null; do [ ! -e %s.beat ] || echo; done) & beat=$!; cat; kill $beat; } |
  { sh -c 'echo $$ >"$0.pid"; exec "$@" >"$0.out" 2>"$0.err"' %s %s; echo $? >%s.rc; } 2>/dev/null
[ -e /proc/$PPID/exe ] || rm -rf "$(dirname %s)"]]

function Session:begin()
  local values = { TAG = self.tag, PORT = tostring(M.default_port), NAME = self.machine.name,
    SILENCE = tostring(SILENCE_S) }
  local words = ssh_words(self)
  words[#words + 1] = "--"
  words[#words + 1] = self.machine.destination
  words[#words + 1] = "exec sh -c " .. quote((REMOTE:gsub("%u%u%u%u?%u?%u?%u?", values)))
  for i, word in ipairs(words) do words[i] = quote(word) end
  local path = quote(self.path)
  local pipe, err = io.popen("exec sh -c " .. quote(FEED:format(BEAT_S, path, path, table.concat(words, " "), path,
    path)), "w")
  if not pipe then return nil, { code = "unavailable", message = "ssh cannot be started: " .. err } end
  pipe:setvbuf "full"
  self.pipe = pipe
  return true
end

-- Why a login failed, from what ssh wrote to standard error.
local function explained(self)
  local text = read(self.path .. ".err"):gsub("\r", ""):gsub("%s+$", "")
  local last = text:match "([^\n]+)$" or "the session ended without a word"
  local advice = ""
  if text:find "Host key verification failed" then
    advice = ("; connect once by hand, so that its key is known: ssh %s"):format(self.machine.destination)
  elseif text:find "Permission denied" and not self.ask then
    advice = "; without a terminal ssh asks for no password: use a key, or ssh-agent"
  elseif text:find "ssh: not found" or text:find "exec: ssh" then
    advice = "; install OpenSSH's client"
  end
  return { code = "unavailable", message = ("ssh %s: %s%s"):format(self.machine.destination, last, advice) }
end

-- Waits until the other side has said what `pattern` finds. -> its captures | nil, err
function Session:hear(pattern, seconds, what)
  local core, deadline = self.core, self.core.now() + seconds
  while true do
    local found = { read(self.path .. ".out"):match(pattern) }
    if found[1] then return found end
    if read(self.path .. ".rc") ~= "" then return nil, explained(self) end
    if core.now() > deadline then
      return nil, { code = "unavailable", message = ("ssh %s: %s was not done within %d s"):format(
        self.machine.destination, what, seconds) }
    end
    local ok, err = core.sleep(0.02)
    if not ok then return nil, err end
  end
end

function Session:tell(text)
  self.pipe:write(text)
  self.pipe:flush()
end

function Session:send(name, bytes)
  self.sent = (self.sent or 0) + 1
  self:tell(("%d %s\n"):format(#bytes, name))
  self:tell(bytes)
  local pattern = (self.tag .. " got (%d+).-"):rep(self.sent)
  local got, err = self:hear(pattern, COPY_S, "copying the agent")
  if not got then return nil, err end
  if tonumber(got[self.sent]) == #bytes then return true end
  return nil, { code = "unavailable", message = ("ssh %s: the copy of the agent has %s bytes instead of %d"):format(
    self.machine.destination, got[self.sent], #bytes) }
end

-- Logs in and finds a folder there. -> { machine, how, folder, connection } | nil, err
function Session:log_in()
  local nowhere = self.tag .. " (nowhere)"
  local patience = self.ask and 600 or LOGIN_S -- somebody may have to type
  local found, err = self:hear(self.tag .. " (%S+) ?([^\n]*)\n", patience, "logging in")
  if not found then return nil, err end
  if found[1] .. found[2] == "nowhere" or read(self.path .. ".out"):find(nowhere) then
    return nil, { code = "unavailable", message = ("ssh %s: no folder there can be written: TMPDIR, /tmp, the home, \z
      /run/user/UID, /dev/shm and /var/tmp were tried"):format(self.machine.destination) }
  end
  local arch, how, folder, connection = found[2]:match "^(%S+) (%S+) (%S+) ?(.*)$"
  if not arch or not folder:find "^/[%w%._/-]+$" then
    return nil, { code = "unavailable", message = ("ssh %s: unexpected answer: %s"):format(self.machine.destination,
      found[2]) }
  end
  return { arch = arch, how = how, folder = folder, connection = connection }
end

-- Copies the agent and starts it. -> its port | nil, err
function Session:start(there, token)
  local binary, err = self.core.agent_binary(architectures[there.arch] or there.arch)
  if not binary then
    return nil, { code = "unavailable", message = ("%s: %s"):format(self.machine.name, err.message) }
  end
  local ok
  ok, err = self:send("agent", binary)
  if ok and there.how == "memory" then ok, err = self:send("memory", script.memfd) end
  if not ok then return nil, err end
  self.core.write_file(self.path .. ".beat", "")
  -- a second one is for the agent that is started where the port is taken
  self:tell(("0 run\n%s\n%s\n"):format(token, token))
  local found
  found, err = self:hear("listening on [^\n]*:(%d+) and ", START_S, "starting the agent")
  if found then return tonumber(found[1]) end
  local said = read(self.path .. ".out"):match "(knbl[^\n]*)\n?$"
  if said and err.code == "unavailable" then err.message = ("%s: %s"):format(self.machine.name, said) end
  return nil, err
end

-- Brings the agent's socket here, through the connection that is there.
function Session:forward(there)
  local command = ("ssh -F none -o StreamLocalBindUnlink=yes -S %s -O forward -L %s:%s knbl 2>&1"):format(
    quote(self.path .. ".ctl"), quote(self.path .. ".sock"), quote(there.folder .. "/s"))
  local pipe = io.popen(command)
  local said = pipe and pipe:read "a" or ""
  local ok = pipe and pipe:close()
  if ok then return true end
  return nil, { code = "unavailable", message = ("ssh %s: its socket cannot be forwarded: %s"):format(
    self.machine.destination, said:gsub("%s+$", "")) }
end

-- Ends an ssh whose other side has said that it is gone, or that says nothing: as long as a connection through its
-- tunnel is open, and this program keeps one to ask by, it would stay.
local REAP = [[(n=0
while [ ! -e %s.rc ] && [ $n -lt %d ] && ! grep -q '%s gone' %s.out; do sleep 0.05; n=$((n + 1)); done
[ -e %s.rc ] || kill %d) >/dev/null 2>&1 </dev/null &]]

-- The agent hears the end of its input. The pipe's close waits for ssh.
function Session:close()
  if not self.pipe then return end
  local pipe, path = self.pipe, quote(self.path)
  self.pipe = nil
  os.remove(self.path .. ".beat")
  local pid = tonumber(read(self.path .. ".pid"))
  -- not by os.execute, whose child would hold the pipes open
  local reaper = pid and io.popen(REAP:format(path, END_S * 20, self.tag, path, path, pid))
  if reaper then reaper:close() end
  pipe:close()
end

-- ---- the provider ----

local Ssh = {}

-- Where other hosts reach this one: as it was named, else the address by which ssh came in.
local function addresses_of(machine, there)
  local address = machine.data or there.connection:match "^%S+ %S+ (%S+)" or machine.destination:match "([^@]+)$"
  address = address:gsub("%%.*$", ""):gsub("^::ffff:", "")
  return address:find(":", 1, true) and { v6 = address } or { v4 = address }
end

-- The agent listens before its socket answers through the tunnel, which may forbid it.
local function endpoint_of(self, machine, session, there, port)
  local endpoint = { kind = "node", name = machine.name, node = machine.name, port = port, token = self.token,
    control = { url = "http://agent", unix = session.path .. ".sock" }, addresses = addresses_of(machine, there) }
  local about, err = agent.about(endpoint, self.core)
  if not about then
    local said = read(session.path .. ".err"):match "open failed: ([^\n]+)"
    return nil, { code = err.code == "interrupted" and err.code or "unavailable", message = ("%s: its agent cannot be \z
      asked through ssh: %s; sshd must permit AllowStreamLocalForwarding"):format(machine.name, said or err.message) }
  end
  self:learn(machine, about)
  endpoint.agent, endpoint.cpus = about.name, tonumber(about.cpus)
  return endpoint
end

function Ssh:reach(machine)
  local session = self.sessions[machine.name]
  local ok, err = true, nil
  if not session then ok, err = self:begin(machine) end
  session = self.sessions[machine.name]
  local there, port
  if ok then there, err = session:log_in() end
  if there then port, err = session:start(there, self.token) end
  if port then ok, err = session:forward(there) end
  if not (port and ok) then return nil, err end
  if there.how == "memory" then
    io.stderr:write(("knbl: on %s the agent runs from memory (memfd): every folder there is mounted noexec; scanners \z
      may report it as fileless execution\n"):format(machine.name))
  end
  return endpoint_of(self, machine, session, there, port)
end

function Ssh:begin(machine)
  self.n = (self.n or 0) + 1
  local session = setmetatable({ machine = machine, core = self.core, ask = self.ask,
    tag = "knbl" .. self.core.token():sub(1, 12), path = ("%s/%d"):format(self.folder, self.n) }, Session)
  self.sessions[machine.name] = session
  return session:begin()
end

function Ssh:close()
  if self.closed then return end
  self.closed = true
  for _, session in pairs(self.sessions) do session:close() end
  os.execute("rm -rf " .. quote(self.folder))
end

local function private_folder()
  local pipe = io.popen "mktemp -d /tmp/knbl-XXXXXXXX" -- short: a socket's path has 107 characters
  local folder = pipe and pipe:read "l"
  if pipe then pipe:close() end
  return folder
end

function M.open(options)
  local list, err = list_of(options)
  if not list then return nil, err end
  local folder = private_folder()
  if not folder then return nil, { code = "unavailable", message = "no private folder can be made in /tmp" } end
  local self
  self, err = machines.new(list, Ssh, { token = options.token, core = options.core, folder = folder,
    sessions = {}, ask = may_ask() })
  if not self then
    os.execute("rm -rf " .. quote(folder))
    return nil, err
  end
  for _, machine in ipairs(list) do -- those that nobody has to type for log in side by side
    local ok = self.ask or self:begin(machine)
    if not ok then break end
  end
  for _, machine in ipairs(list) do
    local ok
    ok, err = self:node(machine.name)
    if not ok then
      self:close()
      return nil, err
    end
  end
  return self
end

return M
