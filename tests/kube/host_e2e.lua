-- A pod of a real cluster and a host that knbl reaches by ssh, as the ends of one path: out of the cluster, and into it
-- through a NodePort. The host is this machine, by an sshd of the test's own.
package.path = "tests/kube/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.core"
local world = require "world"

TestHost = {}

local PORT = 22099
local folder = world.sh "mktemp -d /run/test-XXXXXX":match "%S+"

local function write(name, text)
  local f = assert(io.open(folder .. "/" .. name, "w"))
  f:write(text)
  f:close()
end

local function start_sshd(address)
  world.sh(("mkdir -p /run/sshd %s/bin; cd %s; ssh-keygen -qt ed25519 -N '' -f host; \z
    ssh-keygen -qt ed25519 -N '' -f id; cp id.pub authorized; echo \"[%s]:%d $(cat host.pub)\" >known"):format(folder,
    folder, address, PORT))
  write("sshd.conf", ("ListenAddress %s:%d\nHostKey %s/host\nAuthorizedKeysFile %s/authorized\nStrictModes no\n\z
    UsePAM no\nPermitRootLogin yes\nPidFile none\n"):format(address, PORT, folder, folder))
  write("config", ("Host *\n IdentityFile %s/id\n IdentitiesOnly yes\n UserKnownHostsFile %s/known\n"):format(folder,
    folder))
  write("bin/ssh", ("#!/bin/sh\nexec /usr/bin/ssh -F %s/config \"$@\"\n"):format(folder))
  world.sh(("chmod 755 %s/bin/ssh; /usr/sbin/sshd -D -e -f %s/sshd.conf </dev/null >%s/log 2>&1 & echo $! >%s/pid")
    :format(folder, folder, folder, folder))
  local deadline = core.now() + 10
  while not world.read(folder .. "/log"):find "listening" and core.now() < deadline do core.sleep(0.02) end
  return world.read(folder .. "/pid"):match "%d+"
end

function TestHost.test_a_pod_and_a_host()
  local _, address = world.addresses()
  lu.skipIf(not address or not core.fetch or world.sh "id -u" ~= "0\n" or world.read "/usr/sbin/sshd" == "",
    "needs root, sshd, and an address that the cluster can reach")
  local sshd = start_sshd(address)
  local script = world.script(([[
    local knbl = require "knbl"
    local cluster <close> = knbl.cluster()
    local pod, host = cluster:pod { node = 1 }, knbl.host "ssh:me=root@%s:%d"
    knbl.tcp_rr { case = "egress", from = pod, to = host }
    knbl.tcp_rr { case = "ingress", from = host, to = pod:service { type = "NodePort" }:on(1) }
  ]]):format(address, PORT))
  local r = world.scenario(script, { "--inject" }, { env = ("CI=1 PATH=%s/bin:$PATH"):format(folder), seconds = 120 })
  world.sh("kill " .. sshd)
  os.remove(script)
  lu.assertEquals(r.code, 0, r.said)
  for _, m in ipairs(r.ledger.measurements) do lu.assertTrue(m.ok, r.said) end
  lu.assertEquals(r.ledger.measurements[1].path.to.address, address)
  lu.assertEquals(r.ledger.measurements[2].path.from.node, "me")
  lu.assertEquals(world.left(), "")
end

local code = lu.LuaUnit.run()
os.execute("rm -rf " .. folder)
os.exit(code)
