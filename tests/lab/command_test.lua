-- Tests `knbl lab`: a shell or a command in a lab, `in NAME COMMAND` inside it, and the effect of the lab's options on
-- a measurement.
package.path = "tests/cli/?.lua;tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"
local shell = require "shell"

TestCommand = {}

-- Runs a command line; skips the test if the machine allows no namespaces.
local function lab(words, stdin)
  local r = shell.run("exec $KNBL lab " .. words, stdin)
  if r.err:find("no lab: ", 1, true) then lu.skip(r.err) end
  return r
end

function TestCommand:test_a_command_in_a_pod()
  local r = lab "in server hostname"
  lu.assertEquals({ r.code, r.out, r.err }, { 0, "server\n", "" })
end

function TestCommand:test_names_are_known()
  local r =
    lab "--families 4 in client sh -c 'getent hosts server service node-2; cat /etc/hostname >/dev/null; exit 7'"
  lu.assertEquals(r.code, 7)
  for _, ip in ipairs { "10.244.4.2", "10.96.0.10", "172.30.0.12" } do lu.assertStrContains(r.out, ip) end
end

function TestCommand:test_a_shell_of_commands()
  for _, program in ipairs { "/bin/sh", "/bin/bash" } do
    local script = "hostname; on client hostname; cd /usr; on server pwd; on node-2 sh -c 'exit 9'; echo $?; exit 3\n"
    local r = shell.run(("SHELL=%s exec $KNBL lab"):format(program), script)
    if r.err:find("no lab: ", 1, true) then lu.skip(r.err) end
    lu.assertEquals({ r.code, r.out }, { 3, "lab\nclient\n/usr\n9\n" })
    lu.assertStrContains(r.err, "pod on node-1")
    lu.assertStrContains(r.err, "Service over server")
  end
end

function TestCommand:test_bash_has_in()
  local r = shell.run("SHELL=/bin/bash exec $KNBL lab", "in client hostname; in server hostname; in nobody true\n")
  if r.err:find("no lab: ", 1, true) then lu.skip(r.err) end
  lu.assertEquals({ r.code, r.out }, { 1, "client\nserver\n" })
  lu.assertStrContains(r.err, "nothing in the lab is named 'nobody'")
end

function TestCommand:test_flags_of_the_command_are_its_own()
  local r = lab "--pods 3 --overlay vxlan --mtu 9000 in pod-3 cat /sys/class/net/../../../proc/net/dev --help"
  lu.assertStrContains(r.out, "Usage: cat")
end

function TestCommand:test_nothing_outlives_it()
  local r = lab "sh -c 'sleep 1000 & on client sleep 1000 & sleep 0.1; cat /proc/1/comm; exec true'"
  lu.assertEquals({ r.code, r.out }, { 0, "knbl-keeper\n" })
  lu.assertTrue(r.seconds < 15)
end

-- A background program keeps the output open; the output of the command is still complete when the command ends.
function TestCommand:test_exec_ends_with_its_program()
  local cluster_script = [[
    local knbl = require "knbl"
    local cluster <close> = knbl.cluster()
    local output, status = cluster:pod():exec { "sh", "-c", "sleep 50 & echo said; exit 3" }
    knbl.note { output = output, status = status }]]
  local began = core.now()
  local code, out, err = fake.knbl(cluster_script, { "-q", "--json", "-" }, core)
  fake.need_lab(err)
  lu.assertEquals(code, 0, err)
  local note = json.decode(out).notes[1]
  lu.assertEquals({ note.output, note.status }, { "said\n", 3 })
  lu.assertTrue(core.now() - began < 30)
end

local function in_a_lab(body)
  local code, _, err = fake.knbl('local knbl = require "knbl" local cluster <close> = knbl.cluster() ' .. body,
    { "-q", "--duration", "50ms" }, core)
  fake.need_lab(err)
  return code, err
end

-- Of a long output a message has whole lines.
function TestCommand:test_the_last_output_of_a_program_that_ended()
  local code, err = in_a_lab [[cluster:pod { name = "web", port = 80, command = { "sh", "-c",
    "head -c 500 /dev/zero | tr '\\0' x; echo; echo no such file; exit 3" } }]]
  lu.assertEquals(code, 3)
  lu.assertStrContains(err, "'web' ended before it listened at port 80: no such file\n")
end

-- An MTU that the lab cannot give is refused by the check of the script, before anything is measured.
function TestCommand:test_a_pods_mtu_is_checked_before_the_first_measurement()
  local body = 'local a, b = cluster:pair() print(knbl.tcp_rr { from = a, to = b }) cluster:pod { mtu = %d }'
  for mtu, text in pairs {
    [1200] = "pod: mtu must be from 1280 to 1500 in this lab, got 1200",
    [9000] = "pod: mtu must be from 1280 to 1500 in this lab, got 9000",
  } do
    local code, err = in_a_lab(body:format(mtu))
    lu.assertEquals(code, 1)
    lu.assertStrContains(err, text)
    lu.assertNotStrContains(err, "traceback")
  end
  lu.assertEquals(in_a_lab 'cluster:pod { mtu = 1280 }', 0)
  lu.assertEquals(in_a_lab 'local lab <close> = knbl.cluster { mtu = 9000, pod_mtu = 1400 } lab:pod { mtu = 9000 }', 0)
end

-- The token is in the command's environment but in no command line, because all users of the machine can read those.
function TestCommand:test_the_token_is_in_no_command_line()
  local asked = {}
  local closed = setmetatable({ request = function(_, text)
    asked[#asked + 1] = json.decode(text)
    return '{"name":"x","kind":"node","ip":["10.0.0.1"],"port":1,"status":0,"node":"node-1","endpoints":["server"]}'
  end }, { __close = function() end })
  local context = { core = setmetatable({ lab = function() return closed end }, { __index = core }), out = print,
    err = function() end }
  lu.assertEquals(require("knbl.command.lab").run(context, {}, { "ls", "-l" }), 0)
  local exec = asked[#asked]
  lu.assertEquals({ exec.op, exec.argv }, { "exec", { "ls", "-l" } })
  lu.assertEquals(#exec.env.KNBL_TOKEN, 48)
  local r = lab("sh -c " .. shell.quote [[echo ${#KNBL_TOKEN} $PATH; cat /proc/[0-9]*/cmdline | tr '\0' ' ']])
  lu.assertStrContains(r.out, "48 /run/knbl/bin:")
  lu.assertNotStrContains(r.out, "KNBL_TOKEN=")
end

function TestCommand:test_a_scenario_in_a_lab()
  local r = lab("--pods 1 sh -c " .. shell.quote(shell.knbl .. " -q ping --duration 20ms; echo $?"))
  lu.assertStrContains(r.out, "0\n")
end

function TestCommand:test_misuse()
  for words, text in pairs {
    ["--nods 2"] = "did you mean '--nodes'?", ["--overlay geneve"] = "--overlay must be none or vxlan, got 'geneve'",
      ["--nodes 0"] = "at least 1", ["--mtu many"] = "many",
  } do
    local r = lab(words .. " true")
    lu.assertEquals(r.code, 2, words)
    lu.assertStrContains(r.err, text)
  end
  local r = shell.run "exec $KNBL lab --mtu 100 true"
  lu.assertEquals(r.code, 2)
  lu.assertStrContains(r.err, "knbl: --mtu must be a whole number from 1280 to 65535, got 100")
end

-- ---- options of the lab that affect a measurement ----

TestOptions = {}

local function run(body, args)
  local argv = { "--json", "-", "-q" }
  for _, word in ipairs(args or {}) do argv[#argv + 1] = word end
  local code, out, err = fake.briefly("local knbl = require 'knbl'\n" .. body, argv, core)
  fake.need_lab(err)
  lu.assertEquals(code, 0, err)
  return json.decode(out)
end

-- Never more than the limit; sometimes less on a busy machine.
function TestOptions:test_bandwidth()
  local list = run([[
    local cluster <close> = knbl.cluster()
    local slow, fast = cluster:pod { node = 1, bandwidth = "100M" }, cluster:pod { node = 2 }
    for _, way in ipairs { { "out", slow, fast }, { "in", fast, slow } } do
      for try = 1, 5 do
        local m = knbl.tcp_stream { case = way[1], from = way[2], to = way[3], cc = "cubic" }
        if m.ok and m.metrics.throughput_bps > 85e6 then break end
      end
    end
  ]], { "--duration", "500ms", "--warmup", "200ms" }).measurements
  local best = {}
  for _, m in ipairs(list) do
    lu.assertTrue(m.metrics.throughput_bps < 100e6, ("%g Mbit/s through 100"):format(m.metrics.throughput_bps / 1e6))
    best[m.case] = math.max(best[m.case] or 0, m.metrics.throughput_bps)
  end
  lu.assertTrue(best["out"] > 85e6 and best["in"] > 85e6, json.encode(best))
end

function TestOptions:test_mtu_of_the_fabric_of_a_pod_and_of_the_command_line()
  local body = [[
    local cluster <close> = knbl.cluster { mtu = 4000 }
    local a, b = cluster:pod { node = 1 }, cluster:pod { node = 2, mtu = 1400 }
    knbl.tcp_stream { from = a, to = cluster:pod { node = 2 } }
    knbl.tcp_stream { from = a, to = b }
  ]]
  local function sizes(args)
    local list = run(body, args).measurements
    return { list[1].metrics.mss_effective, list[2].metrics.mss_effective }
  end
  lu.assertEquals(sizes { "--duration", "50ms" }, { 3948, 1348 })
  lu.assertEquals(sizes { "--duration", "50ms", "--on", "lab:mtu=9000,overlay=vxlan" }, { 8898, 1348 })
end

function TestOptions:test_idle_services_are_known_and_harmless()
  for _, mode in ipairs { "maps", "chains" } do
    local data = run(([[
      local cluster <close> = knbl.cluster { services = 200, mode = %q }
      local a, b = cluster:pair()
      knbl.tcp_crr { from = a, to = b:service(), count = 11 } -- so many, however busy the machine
    ]]):format(mode), { "--duration", "20s" })
    lu.assertEquals(data.environment.idle_services, 200)
    lu.assertStrContains(data.environment.proxy_mode, mode)
    lu.assertEquals(data.measurements[1].metrics.ops, 11)
  end
end

-- All rules together exceed the socket buffer of an ordinary user.
function TestOptions:test_an_ordinary_user_has_as_many_services()
  local folder <close> = shell.folder()
  shell.write(folder:file "s.lua", [[
    local knbl = require "knbl"
    for _, mode in ipairs { "maps", "chains" } do
      local cluster <close> = knbl.cluster { services = 3000, mode = mode }
      local a, b = cluster:pair()
      local service = b:service()
      knbl.tcp_crr { from = a, to = service, count = 20, warmup = 0 }
      cluster:delete(service)
      knbl.tcp_crr { from = a, to = b:service { name = "after" }, count = 20, warmup = 0 }
    end
  ]])
  local other = shell.run("id -u").out == "0\n" and "setpriv --reuid 65534 --regid 65534 --clear-groups " or ""
  local r = shell.run(("chmod -R a+rX %s; %s$KNBL -q --json - %s"):format(folder.path, other, folder:file "s.lua"))
  if r.err:find("no cluster (lab)", 1, true) and not r.err:find("Services", 1, true) then lu.skip(r.err) end
  lu.assertEquals({ r.code, r.err }, { 0, "" })
  for _, m in ipairs(json.decode(r.out).measurements) do lu.assertTrue(m.metrics.ops == 20) end
end

function TestOptions:test_nodes_behind_services()
  local m = run([[
    local cluster <close> = knbl.cluster()
    local a, b = cluster:nodes(2)
    knbl.tcp_rr { from = cluster:pod { node = a }, to = cluster:service { endpoints = { b } } }
  ]], { "--duration", "50ms" }).measurements[1]
  lu.assertEquals({ m.via, m.servers[1].name }, { "service", "node-2" })
end

function TestOptions:test_a_server_of_one_s_own()
  local m = run([[
    local cluster <close> = knbl.cluster()
    local web = cluster:pod { name = "web", node = 2, port = 8000, image = "mine",
      command = { "python3", "-m", "http.server", "-d", "/etc", "8000" } }
    local client = cluster:pod { node = 1 }
    knbl.http { from = client, to = web, count = 5, path = "/passwd" }
    -- a name of both families; it listens by IPv4
    knbl.http { from = client, to = "http://" .. web.name .. ":8000/passwd", count = 5 }
  ]]).measurements
  for i = 1, 2 do lu.assertTrue(m[i].ok, m[i].error and m[i].error.message) end
end

os.exit(lu.LuaUnit.run())
