-- Real profiles: a profile taken in the lab contains the client, the server and the kernel. A user without the
-- permission to profile can still measure.
package.path = "tests/lua/?.lua;tests/cli/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"
local profile = require "knbl.results.profile"
local shell = require "shell"

TestProfile = {}

local script = [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local client, server = cluster:pair()
knbl.tcp_rr { from = client, to = server:service(), duration = "1500ms", profile = 499 }
]]

function TestProfile:test_both_ends_and_the_kernel_between_them()
  local code, out, err = fake.knbl(script, { "--json", "-", "-q" }, core)
  fake.need_lab(err)
  lu.assertEquals(code, 0, err)
  local m = json.decode(out).measurements[1]
  lu.assertEquals(#m.profile, 1) -- both nodes are this machine
  local p = m.profile[1]
  if p.error then
    lu.assertStrContains(p.error.message, "profile")
    lu.skip(p.error.message)
  end
  lu.assertTrue(profile.valid(p))
  local found = {}
  for i, name in ipairs(p.frames) do found[p.kinds:sub(i, i) .. ":" .. name] = true end
  lu.assertTrue(found["p:knbl:client"] and found["p:knbl:server"])
  lu.assertTrue(p.busy_s > 0 and p.busy_s <= p.duration_s * p.cpus * 1.1)
  local sum = 0
  for _, count in ipairs(p.counts) do sum = sum + count end
  lu.assertAlmostEquals(sum, p.samples - p.idle, 0.01 * sum)
  if p.missing then lu.skip(p.missing[1]) end
  local functions, total = profile.functions(profile.collect { m })
  lu.assertEquals(#functions, 10)
  lu.assertTrue(total > 100 and total < 1e9)
  lu.assertTrue(found["k:tcp_sendmsg"] or found["k:tcp_sendmsg_locked"])
end

-- An ordinary user on a kernel that does not allow ordinary users to profile.
function TestProfile:test_who_may_not_is_told_and_measures()
  if shell.run("id -u").out ~= "0\n" then lu.skip "needs root to be somebody else" end
  local level = tonumber(shell.run("cat /proc/sys/kernel/perf_event_paranoid").out)
  if not level or level < 1 then lu.skip "everyone may take profiles here" end
  local folder <close> = shell.folder()
  shell.write(folder:file "p.lua", (script:gsub("20000", "200")))
  local run = shell.run(("chmod -R a+rX %s; setpriv --reuid 65534 --regid 65534 --clear-groups $KNBL %s"):format(
    folder.path, folder:file "p.lua"))
  fake.need_lab(run.err)
  lu.assertEquals(run.code, 0, run.err)
  lu.assertStrContains(run.out, "tcp_rr")
  lu.assertStrContains(run.out, "profiles are not permitted")
  lu.assertStrContains(run.out, "CAP_PERFMON")
end

os.exit(lu.LuaUnit.run())
