-- --on ssh: against real sshd's, each in a network namespace of its own, with a shell that talks, folders that are
-- mounted noexec, wrong keys and passwords; and what is left when things end badly.
local lu = require "luaunit"
local core = require "knbl.core"
local json = require "knbl.json"
local script = require "knbl.base.script"
local ssh = require "knbl.cluster.ssh"

local KNBL = os.getenv "KNBL" or "./knbl"

local function sh(command)
  local p = io.popen("{ " .. command .. "\n} 2>&1 </dev/null")
  local text = p:read "a"
  local _, _, code = p:close()
  return text, code
end

local function read(path)
  local f = io.open(path)
  local text = f and f:read "a" or ""
  if f then f:close() end
  return text
end

local function write(path, text)
  local f = assert(io.open(path, "w"))
  f:write(text)
  f:close()
end

local folder, nets = sh "mktemp -d /run/test-XXXXXX":match "%S+", {}
local id = folder:match "[^-]+$"

-- ---- two hosts and a client on one bridge ----

local SSHD = [[
HostKey %s/host
AuthorizedKeysFile %s/authorized
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PidFile none
]]

local sshds = {}

-- An sshd on host `n`, with more lines in its configuration, in a mount namespace in which `mounts` was done.
local function start_sshd(n, more, mounts)
  local config = ("%s/sshd-%d.conf"):format(folder, n)
  write(config, (more or "") .. SSHD:format(folder, folder))
  sh(("ip netns exec %s unshare -m sh -c %s </dev/null >%s/sshd-%d.log 2>&1 & echo $! >%s/sshd-%d.pid"):format(nets[n],
    script.quote((mounts and mounts .. "; " or "") .. "exec /usr/sbin/sshd -D -e -f " .. config), folder, n, folder, n))
  sshds[n] = tonumber(read(("%s/sshd-%d.pid"):format(folder, n)))
  local deadline = core.now() + 10
  while not read(("%s/sshd-%d.log"):format(folder, n)):find "listening" and core.now() < deadline do
    core.sleep(0.02)
  end
end

local function stop_sshds()
  for n, pid in pairs(sshds) do
    sh(("kill -KILL %d; while kill -0 %d; do sleep 0.02; done"):format(pid, pid))
    sshds[n] = nil
  end
end

local function set_up()
  local bridge = ("tb%s"):format(id)
  local lines = {}
  for i = 0, 2 do
    nets[i] = ("tn%s-%d"):format(id, i)
    lines[#lines + 1] = ("ip netns add %s; ip -n %s link set lo up"):format(nets[i], nets[i])
  end
  lines[#lines + 1] = ("ip -n %s link add name %s type bridge; ip -n %s link set %s up; ip -n %s addr add \z
    10.77.0.254/24 dev %s"):format(nets[0], bridge, nets[0], bridge, nets[0], bridge)
  for i = 1, 2 do
    lines[#lines + 1] = ("ip -n %s link add name p%d type veth peer name eth0 netns %s; \z
      ip -n %s link set p%d master %s up; ip -n %s addr add 10.77.0.%d/24 dev eth0; ip -n %s link set eth0 up"):format(
      nets[0], i, nets[i], nets[0], i, bridge, nets[i], i, nets[i])
  end
  lines[#lines + 1] = ("mkdir -p /run/sshd %s/bin; cd %s; ssh-keygen -qt ed25519 -N '' -f host; \z
    ssh-keygen -qt ed25519 -N '' -f id; ssh-keygen -qt ed25519 -N '' -f other; cp id.pub authorized; \z
    for a in 1 2; do echo \"10.77.0.$a $(cat host.pub)\"; done >known"):format(folder, folder)
  local said = sh(table.concat(lines, "\n"))
  -- the user's own configuration, which is not this test's to change
  write(folder .. "/config", ("Host *\n IdentityFile %s/id\n IdentitiesOnly yes\n UserKnownHostsFile %s/known\n \z
    LocalForward 19999 127.0.0.1:1\n"):format(folder, folder))
  write(folder .. "/bin/ssh", ("#!/bin/sh\nexec /usr/bin/ssh -F %s/config \"$@\"\n"):format(folder))
  sh(("chmod 755 %s/bin/ssh"):format(folder))
  return said
end

local function tear_down()
  stop_sshds()
  for _, net in pairs(nets) do sh("ip netns del " .. net) end
  os.execute("rm -rf " .. folder)
end

-- ---- knbl ----

local SCRIPT = [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local client, server = cluster:pair()
knbl.tcp_rr { case = "there", from = client, to = server, count = 200 }
knbl.udp_rr { case = "back", from = server, to = client, count = 200 }
]]
local LONG = SCRIPT .. 'io.stderr:write "measured\\n" require "knbl.core".sleep(60)'

local function command(on, text, words)
  write(folder .. "/script.lua", text or SCRIPT)
  return ("CI=1 PATH=%s/bin:$PATH exec ip netns exec %s %s --on %s --json %s/ledger.json %s %s/script.lua")
    :format(folder, nets[0], KNBL, on, folder, words or "", folder)
end

local BOTH = "ssh:a=root@10.77.0.1,b=root@10.77.0.2"

local function run(on, text, words)
  os.remove(folder .. "/ledger.json")
  local began = core.now()
  local said, code = sh(command(on, text, words))
  local ledger = read(folder .. "/ledger.json")
  return { said = said, code = code, seconds = core.now() - began, ledger = ledger ~= "" and json.decode(ledger) }
end

-- Agents that run in the namespaces of the hosts, and folders of theirs in the places where they look for one.
local function left()
  local list = {}
  for i = 1, 2 do
    for pid in sh("ip netns pids " .. nets[i]):gmatch "%d+" do
      local words = read(("/proc/%s/cmdline"):format(pid)):gsub("%z", " ")
      if words:find "--lifeline" then list[#list + 1] = words end
    end
  end
  return table.concat(list, "\n")
end

local function await_nothing(seconds)
  local deadline = core.now() + seconds
  while left() ~= "" and core.now() < deadline do core.sleep(0.1) end
  return left()
end

local function measured(r)
  lu.assertEquals(r.code, 0, r.said)
  for _, m in ipairs(r.ledger.measurements) do lu.assertTrue(m.ok, r.said) end
  lu.assertEquals(#r.ledger.measurements, 2)
  lu.assertEquals(await_nothing(5), "")
end

-- ---- the tests ----

TestSsh = {}

local missing

function TestSsh.setUp()
  lu.skipIf(missing, missing)
end
TestSsh.tearDown = stop_sshds

function TestSsh.test_two_hosts()
  start_sshd(1)
  start_sshd(2)
  local before = sh "ls -d /tmp/knbl-* /root/knbl-* /dev/shm/knbl-*"
  local r = run(BOTH)
  measured(r)
  lu.assertEquals(r.ledger.measurements[1].path.to.address, "10.77.0.2")
  lu.assertEquals(r.ledger.measurements[1].path.from.node, "a")
  lu.assertEquals(sh "ls -d /tmp/knbl-* /root/knbl-* /dev/shm/knbl-*", before)
  -- one login each, though the file, the agent and its socket came that way
  local _, logins = read(folder .. "/sshd-1.log"):gsub("Accepted publickey", "")
  lu.assertEquals(logins, 1)
end

function TestSsh.test_names_data_addresses_and_ports()
  start_sshd(1, "Port 2222\n")
  start_sshd(2)
  sh(("ip -n %s addr add 10.77.0.22/24 dev eth0"):format(nets[2]))
  write(folder .. "/known", read(folder .. "/known") .. "[10.77.0.1]:2222 " .. read(folder .. "/host.pub"))
  local r = run "ssh:ssh://root@10.77.0.1:2222,far=root@10.77.0.2/10.77.0.22"
  measured(r)
  lu.assertEquals(r.ledger.measurements[1].path.to.address, "10.77.0.22")
  lu.assertEquals(r.ledger.measurements[1].path.from.node, "10.77.0.1")
end

-- A host with an alias in the user's configuration, which can be reached through another only.
function TestSsh.test_a_jump_host()
  start_sshd(1)
  start_sshd(2)
  local config = read(folder .. "/config")
  write(folder .. "/config", "Host inner\n HostName 10.77.0.2\n User root\n ProxyJump root@10.77.0.1\n" .. config)
  sh(("ip netns exec %s nft 'add table ip t; add chain ip t c { type filter hook output priority 0; }; \z
    add rule ip t c ip daddr 10.77.0.2 tcp dport 22 drop'"):format(nets[0]))
  local r = run "ssh:a=root@10.77.0.1,inner"
  sh(("ip netns exec %s nft delete table ip t"):format(nets[0]))
  write(folder .. "/config", config)
  measured(r)
  lu.assertEquals(r.ledger.measurements[1].path.to.node, "inner")
  lu.assertEquals(r.ledger.measurements[1].path.to.address, "10.77.0.2")
end

-- A shell that prints before and after, an sshd with a banner, and one session for each login.
function TestSsh.test_a_talkative_host()
  write(folder .. "/banner", "Welcome. knbl ready\n")
  start_sshd(1, ("Banner %s/banner\nMaxSessions 1\nForceCommand echo Welcome, knbl ready; echo; \z
    sh -c \"$SSH_ORIGINAL_COMMAND\"; echo Goodbye\n"):format(folder))
  start_sshd(2)
  measured(run(BOTH))
end

-- The folders that are tried first are mounted noexec.
function TestSsh.test_noexec_folders()
  local mounts = "mount -t tmpfs -o noexec t /tmp && mount -t tmpfs -o noexec t $HOME"
  start_sshd(1, nil, mounts)
  start_sshd(2)
  local r = run(BOTH)
  measured(r)
  lu.assertNotStrContains(r.said, "memfd")
end

function TestSsh.test_noexec_everywhere()
  local mounts = "for d in /tmp $HOME /dev/shm /var/tmp; do mount -t tmpfs -o noexec t $d; done; \z
    mkdir -p /run/user/0 && mount -t tmpfs -o noexec t /run/user/0"
  start_sshd(1, nil, mounts)
  start_sshd(2)
  local r = run(BOTH)
  measured(r)
  lu.assertStrContains(r.said, "on a the agent runs from memory (memfd): every folder there is mounted noexec")
end

-- The usual port is taken by something else: another one will do.
function TestSsh.test_a_port_that_is_taken()
  start_sshd(1)
  start_sshd(2)
  sh(("KNBL_TOKEN=0123456789abcdef0123 ip netns exec %s %s agent --listen :7099 >/dev/null 2>&1 & \z
    echo $! >%s/agent.pid"):format(nets[2], KNBL, folder))
  local pid = read(folder .. "/agent.pid"):match "%d+"
  core.sleep(0.5)
  local r = run(BOTH)
  sh("kill -KILL " .. pid)
  measured(r)
  lu.assertNotEquals(r.ledger.measurements[1].path.to.port, 7099)
end

local function refused(r, words)
  lu.assertEquals(r.code, 3, r.said)
  for _, word in ipairs(words) do lu.assertStrContains(r.said, word) end
  lu.assertEquals(await_nothing(5), "")
end

function TestSsh.test_a_wrong_key()
  start_sshd(1)
  start_sshd(2, ("AuthorizedKeysFile %s/other.pub\n"):format(folder))
  local r = run(BOTH)
  refused(r, { "ssh root@10.77.0.2: ", "Permission denied (publickey)" })
  lu.assertTrue(r.seconds < 20, r.said)
end

-- Without a terminal nobody can type: it fails at once.
function TestSsh.test_a_password()
  start_sshd(1)
  start_sshd(2, "PubkeyAuthentication no\nPasswordAuthentication yes\n")
  local r = run(BOTH)
  refused(r, { "Permission denied", "without a terminal ssh asks for no password: use a key, or ssh-agent" })
  lu.assertTrue(r.seconds < 20, r.said)
end

function TestSsh.test_an_unknown_host_key()
  start_sshd(1)
  write(folder .. "/known", "")
  local r = run "ssh:root@10.77.0.1"
  for i = 1, 2 do
    write(folder .. "/known", read(folder .. "/known") .. ("10.77.0.%d "):format(i) .. read(folder .. "/host.pub"))
  end
  refused(r, { "Host key verification failed", "connect once by hand, so that its key is known: ssh root@10.77.0.1" })
end

function TestSsh.test_forwarding_that_is_forbidden()
  start_sshd(1, "AllowStreamLocalForwarding no\n")
  refused(run "ssh:root@10.77.0.1", { "its agent cannot be asked through ssh", "AllowStreamLocalForwarding" })
end

-- ---- what ends badly ----

local function start_long()
  start_sshd(1)
  start_sshd(2)
  sh(("{ %s; } >%s/long.out 2>&1 & echo $! >%s/long.pid"):format(command(BOTH, LONG), folder, folder))
  local deadline = core.now() + 30
  while not read(folder .. "/long.out"):find "measured" and core.now() < deadline do core.sleep(0.05) end
  lu.assertStrContains(read(folder .. "/long.out"), "measured")
  return read(folder .. "/long.pid"):match "%d+"
end

function TestSsh.test_killed()
  local before = sh "ls -d /tmp/knbl-*"
  local pid = start_long()
  lu.assertNotEquals(left(), "")
  sh("kill -KILL " .. pid)
  lu.assertEquals(await_nothing(8), "")
  local deadline = core.now() + 12 -- the feeder notices with its next line
  while sh "ls -d /tmp/knbl-*" ~= before and core.now() < deadline do core.sleep(0.2) end
  lu.assertEquals(sh "ls -d /tmp/knbl-*", before)
end

function TestSsh.test_interrupted()
  local pid = start_long()
  sh("kill -INT " .. pid)
  lu.assertEquals(await_nothing(8), "")
end

-- A network that goes away says nothing: the agents end by themselves.
function TestSsh.test_a_network_that_is_cut()
  local pid = start_long()
  for i = 1, 2 do sh(("ip -n %s link set p%d down"):format(nets[0], i)) end
  local nothing = await_nothing(45)
  for i = 1, 2 do sh(("ip -n %s link set p%d up"):format(nets[0], i)) end
  sh("kill -KILL " .. pid)
  lu.assertEquals(nothing, "")
end

-- A firewall between the hosts is named.
function TestSsh.test_a_firewall()
  start_sshd(1)
  start_sshd(2)
  sh(("ip netns exec %s nft 'add table ip t; add chain ip t c { type filter hook input priority 0; }; add rule ip t c \z
    tcp dport 7099 drop; add rule ip t c udp dport 7099 drop'"):format(nets[2]))
  local r = run(BOTH, (SCRIPT:gsub("knbl.udp_rr.*", "")))
  sh(("ip netns exec %s nft delete table ip t"):format(nets[2]))
  lu.assertEquals(r.code, 1, r.said)
  lu.assertStrContains(r.ledger.measurements[1].error.message,
    "a firewall must let TCP and UDP port 7099 of b pass")
end

-- A mesh: each agent gets its schedule through ssh's forwarding, and carries it out alone. Two agents on each host.
function TestSsh.test_a_mesh()
  start_sshd(1)
  start_sshd(2)
  local r = run("ssh:a=root@10.77.0.1,b=root@10.77.0.2,c=root@10.77.0.1,d=root@10.77.0.2", [[
    local knbl = require "knbl"
    local cluster <close> = knbl.cluster()
    knbl.mesh { nodes = { cluster:nodes() }, duration = "100ms", tests = { "tcp_lat", "tcp_stream" } }
  ]])
  lu.assertTrue(r.code == 0 or r.code == 1, r.said) -- a busy machine may starve a run
  local mesh, good = r.ledger.meshes[1], 0
  lu.assertEquals({ #mesh.nodes, mesh.missing, mesh.nodes[1].name }, { 4, {}, "a" })
  lu.assertTrue(mesh.cost.most_requests <= 6)
  for _, m in ipairs(r.ledger.measurements) do
    local code = m.error and m.error.code
    lu.assertTrue(m.ok or code == "late" or code == "no_data" or code == "timeout", m.error and m.error.message)
    good = good + (m.ok and 1 or 0)
  end
  lu.assertEquals(#r.ledger.measurements, 24)
  lu.assertTrue(good > 0)
  lu.assertEquals(await_nothing(5), "")
end

-- A host beside the things of another cluster.
function TestSsh.test_a_host_beside_a_cluster()
  start_sshd(1)
  local r = run("loopback", [[
    local knbl = require "knbl"
    local cluster <close> = knbl.cluster()
    local pod, host = cluster:pod {}, knbl.host "ssh:root@10.77.0.1"
    knbl.tcp_rr { from = pod, to = host, count = 100 }
    knbl.http { from = host, to = host, count = 100 }
  ]])
  measured(r)
end

-- ---- what the command line says ----

TestParse = {}

function TestParse.test_hosts()
  local function parsed(text)
    local name, rest = text:match "^([^=]+)=(.*)$"
    local machine, err = ssh.parse { name or text, rest }
    if not machine then return err.message end
    return { machine.name, machine.destination, machine.port, machine.data }
  end
  lu.assertEquals(parsed "root@a", { "a", "root@a" })
  lu.assertEquals(parsed "b=user@10.0.0.2:2222", { "b", "user@10.0.0.2", 2222 })
  lu.assertEquals(parsed "ssh://u@h.example:22", { "h.example", "u@h.example", 22 })
  lu.assertEquals(parsed "x=u@[2001:db8::1]:2222", { "x", "u@2001:db8::1", 2222 })
  lu.assertEquals(parsed "x=u@2001:db8::1", { "x", "u@2001:db8::1" })
  lu.assertEquals(parsed "a=jump/10.1.0.1", { "a", "jump", nil, "10.1.0.1" })
  for _, wrong in ipairs { "-oProxyCommand=x", "u@-x", "", "a b", "u@h:0", "u@h:99999", "u@h:", "h/eth0", "x y=h" } do
    lu.assertStrContains(tostring(parsed(wrong)), "--on ssh: '")
  end
end

if sh "id -u" ~= "0\n" then missing = "needs root for namespaces and sshd"
elseif select(2, sh "command -v /usr/sbin/sshd ip nft ssh-keygen") ~= 0 then
  missing = "needs openssh-server and iproute2"
else
  local said = set_up()
  if said ~= "" then missing = "no namespaces here: " .. said end
end
local code = lu.LuaUnit.run()
tear_down()
os.exit(code)
