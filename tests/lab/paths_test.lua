-- Checks that measurements in the lab use the path that they name: traffic crosses the fabric, the Service applies
-- DNAT, a hairpin returns to its own pod, and the MSS is the requested one.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"

TestPaths = {}

local start = [[
local knbl = require "knbl"
local json = require "knbl.json"
local cluster <close> = knbl.cluster()
local a, b = cluster:nodes(2)
local client, near, far = cluster:pod { name = "client", node = a }, cluster:pod { name = "near", node = a },
  cluster:pod { name = "far", node = b }
local function uplink()
  for _, link in ipairs(cluster.provider:request { op = "links" }.links) do
    if link.owner == "fabric" and link.name == "node1" then return link.rx_bytes end
  end
end
]]

local function run(body, args)
  local argv = { "--json", "-", "-q", "--duration", args and args.duration or "60ms" }
  for _, word in ipairs(args or {}) do argv[#argv + 1] = word end
  local code, out, err = fake.briefly(start .. body, argv, core)
  fake.need_lab(err)
  lu.assertEquals(code, 0, err)
  local data = json.decode(out)
  for _, m in ipairs(data.measurements) do
    lu.assertTrue(m.ok or m.skipped ~= nil, m.case)
    lu.assertNotStrContains(table.concat(m.flags, " "), "wrong_backend")
  end
  return data
end

-- Masquerading reuses ports for which the server is still in TIME_WAIT. No such connection may be refused or wait a
-- second.
function TestPaths:test_short_connections_through_masquerading()
  local data = run([[knbl.tcp_crr { from = a, to = near:service(), count = 6000, warmup = 0 }]], { duration = "60s" })
  local m = data.measurements[1].metrics
  lu.assertEquals(m.ops, 6000)
  lu.assertTrue(m.latency_ns.p999 < 0.9e9, "six in 6000 waited a second")
end

function TestPaths:test_only_what_is_remote_crosses_the_fabric()
  local data = run [[
local before = uplink()
local r = knbl.tcp_stream { from = client, to = near }
local between = uplink()
local s = knbl.tcp_stream { from = client, to = far }
knbl.note { near = between - before, far = uplink() - between, far_bytes = s.metrics.bytes }
]]
  local note = data.notes[1]
  lu.assertTrue(note.near < 100000, "local traffic stays on its node")
  lu.assertTrue(note.far >= note.far_bytes, "remote traffic crosses the fabric")
  lu.assertEquals({ data.measurements[1].via, data.measurements[2].via }, { "pod_ip", "pod_ip" })
end

function TestPaths:test_the_service_s_dnat_happened()
  local data = run([[
local svc = cluster:service { name = "two", endpoints = { near, far } }
knbl.tcp_crr { from = client, to = svc, count = 200, warmup = 0 }
local seen = {}
for _, b in ipairs(cluster.provider:request { op = "backends", service = "two" }.backends) do
  seen[b.endpoint] = (seen[b.endpoint] or 0) + b.connections
end
knbl.note(seen)
]], { duration = "20s" }) -- ends with its count
  local m = data.measurements[1]
  lu.assertEquals(m.via, "service")
  lu.assertEquals(m.path.to.endpoints, { "near", "far" })
  lu.assertTrue(data.notes[1].near > 0 and data.notes[1].far > 0, "both answered")
  local names = {}
  for _, server in ipairs(m.servers) do names[server.name] = true end
  lu.assertEquals(names, { near = true, far = true })
  lu.assertTrue((m.metrics.cpu.server_node or 0) <= 1.3 * data.environment.cpus,
    "both nodes are one machine, which counts once")
  lu.assertTrue((m.metrics.cpu.server_cgroup or 0) <= 1.3 * data.environment.cpus,
    "and both pods, where they are in one cgroup, likewise")
  lu.assertNotStrContains(table.concat(m.flags, " "), "several_backends") -- the script gave it both
end

-- a backend that was chosen for a connection serves all of it: operations and percentiles are its own
function TestPaths:test_backends_of_a_service()
  local data = run([[
local svc = cluster:service { name = "two", endpoints = { near, far } }
knbl.tcp_rr { case = "kept", from = client, to = svc, flows = 64, count = 2000 }
knbl.http { case = "http", from = client, to = svc, flows = 64, count = 2000 }
knbl.tcp_crr { case = "new", from = client, to = svc, count = 400, warmup = 0 }
]], { duration = "20s" }) -- each ends with its count
  for _, m in ipairs(data.measurements) do
    local b, total = m.metrics.backends, 0
    for _, one in pairs(b) do
      lu.assertTrue(one.share > 0 and one.ops > 0, m.case)
      lu.assertEquals(m.case ~= "new", one.p50 ~= nil and one.p99 >= one.p50, m.case)
      total = total + one.ops
    end
    lu.assertEquals(total, m.metrics.ops, m.case)
    lu.assertEquals(m.case ~= "new" and 64 or nil, b.near.connections and b.near.connections + b.far.connections,
      m.case)
    lu.assertEquals({ b.near.node, b.far.node }, { "node-1", "node-2" })
  end
end

-- in both of the ways that the nodes look a Service up
function TestPaths:test_load_balancers_and_external_ips()
  for _, mode in ipairs { "maps", "chains" } do
    local data = run([[
local svc = cluster:service { near, far, type = "LoadBalancer", external_ips = { "192.0.2.10" } }
local other = cluster:service { name = "other", endpoints = { far }, external_ips = { "192.0.2.11", "2001:db8::11" } }
knbl.tcp_rr { case = "load_balancer", from = client, to = svc, count = 100 }
knbl.udp_rr { case = "external_ip", from = cluster:node(1), to = svc:external_ip(), count = 100 }
knbl.tcp_rr { case = "external_ip", from = client, to = other:external_ip "2001:db8::11", ip = 6, count = 100 }
knbl.tcp_rr { case = "node_port", from = client, to = svc:on(2), count = 100 }
cluster:delete(other)
local again = cluster:service { name = "again", endpoints = { near }, external_ips = { "192.0.2.11" } }
knbl.tcp_rr { case = "external_ip", from = client, to = again:external_ip(), count = 100 }
local outside = cluster:service { type = "ExternalName", external_name = "x.test" }
knbl.http { case = "external_name", from = client, to = outside }
]], { "--on", "lab:mode=" .. mode, duration = "20s" }) -- each ends with its count
    for _, m in ipairs(data.measurements) do
      lu.assertEquals(m.via, m.case)
      if m.case == "external_name" then lu.assertStrContains(m.skipped, "no DNS that resolves an ExternalName")
      else lu.assertEquals({ m.ok, m.metrics and m.metrics.ops }, { true, 100 }, m.error and m.error.message) end
    end
    lu.assertEquals(data.measurements[1].path.to.address, "203.0.113.1")
  end
end

-- As kube-proxy's do; the kernel limits how many refusals a client gets in a second.
function TestPaths:test_a_service_without_an_endpoint_refuses()
  for _, mode in ipairs { "maps", "chains" } do
    local m = run([[
knbl.probe {
  from = client, to = far:service(), rate = "100/s", duration = "5s", settle = "100ms", timeout = "100ms",
  during = function(mark) mark.wait "100ms"; cluster:delete(far); mark.wait "500ms" end,
}
]], { "--on", "lab:mode=" .. mode }).measurements[1].metrics
    lu.assertTrue(m.refused > 0 and m.outage_total > 0.3, ("%d refused, %g s"):format(m.refused, m.outage_total))
  end
end

function TestPaths:test_a_hairpin_comes_back_to_its_own_pod()
  local m = run("knbl.tcp_rr { from = client, to = client:service() }").measurements[1]
  lu.assertEquals({ m.via, m.servers[1].name, #m.servers }, { "hairpin", "client", 1 })
end

function TestPaths:test_node_ports_hosts_and_headless()
  local data = run [[
local svc = far:service { type = "NodePort" }
knbl.tcp_rr { from = client, to = svc:on(a) }
knbl.tcp_rr { from = client, to = svc:on(2) }
knbl.tcp_rr { from = client, to = near:service { headless = true } }
knbl.tcp_rr { from = a, to = b }
knbl.tcp_rr { from = a, to = a }
knbl.udp_rr { from = a, to = far }
]]
  local ways, servers = {}, {}
  for i, m in ipairs(data.measurements) do ways[i], servers[i] = m.via, m.servers[1].name end
  lu.assertEquals(ways, { "node_port", "node_port", "headless", "host", "loopback", "pod_ip" })
  lu.assertEquals(servers, { "far", "far", "near", "node-2", "node-1", "far" })
end

function TestPaths:test_programs_run_in_pods_and_on_nodes()
  local note = run([[
    local text, status = far:exec { "sh", "-c", "hostname; echo bad >&2; exit 3" }
    local _, absent = client:exec { "/no/such/program" }
    local words = client:exec { "printf", "%s|", "a b", 2 }
    local on_node = a:exec { "cat", "/proc/sys/net/ipv4/ip_forward" }
    local zeros = client:exec { "cat", "/proc/self/cmdline" }
    assert(zeros == "cat\0/proc/self/cmdline\0", zeros)
    local gone, reason = cluster:pod { runtime = "no-such" }:exec { "true" }
    knbl.note { text = text, status = status, absent = absent, words = words, on_node = on_node, gone = gone == nil,
      reason = reason }
    knbl.tcp_rr { from = client, to = far }
  ]]).notes[1]
  lu.assertEquals({ note.text, note.status, note.absent, note.words, note.on_node, note.gone },
    { "far\nbad\n", 3, 127, "a b|2|", "1\n", true })
  lu.assertStrContains(note.reason, "no runtime 'no-such'")
end

-- The counts are requested through the Service, which sends each request to any backend.
function TestPaths:test_all_of_many_backends_are_found_again()
  local data = run([[
    local list = {}
    for i = 1, 24 do list[i] = cluster:pod { name = "web-" .. i, node = i % 2 + 1 } end
    knbl.tcp_crr { from = client, to = cluster:service(list), count = 1500 }
  ]], { duration = "20s" }) -- ends with its count
  local m = data.measurements[1]
  lu.assertNotStrContains(table.concat(m.flags, " "), "backend_missing")
  lu.assertEquals(#m.servers, 24)
end

function TestPaths:test_datagrams_beyond_the_mtu_are_flagged()
  local data = run [[
    for _, size in ipairs { 1472, 1473 } do
      knbl.udp_stream { from = client, to = far, ip = 4, size = size, rate = "10Mbit/s" }
    end
    for _, size in ipairs { 1452, 1453 } do
      knbl.udp_rr { from = client, to = far, ip = 6, size = 100, response = size }
    end
  ]]
  for i, m in ipairs(data.measurements) do
    lu.assertEquals(table.concat(m.flags, " "):find "fragmented" ~= nil, i % 2 == 0, m.test .. " " .. m.params.size)
  end
end

function TestPaths:test_the_mss_is_the_one_asked_for()
  local data = run(
    "for _, mss in ipairs { 96, 536, 1460 } do knbl.tcp_stream { from = client, to = far, mss = mss } end")
  for i, mss in ipairs { 96, 536, 1460 } do
    local effective = data.measurements[i].metrics.mss_effective
    lu.assertTrue(effective <= mss and effective >= mss - 12, ("asked %d, got %d"):format(mss, effective))
  end
end

function TestPaths:test_the_ceiling_of_the_generator()
  local m = run("knbl.tcp_rr { from = client, to = far }", { "--ceiling" }).measurements[1]
  lu.assertTrue((m.ceiling or 0) > 0, json.encode(m))
  lu.assertNil(run("knbl.tcp_rr { from = client, to = far }").measurements[1].ceiling) -- too short to be cheap
end

-- While pods exchange requests as fast as they can, other programs run on time.
function TestPaths:test_what_runs_beside_is_not_starved()
  local data = run([[
local core = require "knbl.native"
local took
knbl.udp_rr { from = client, to = far, flows = 2, during = function(mark)
  local from = core.now()
  core.sleep(0.2)
  took = core.now() - from
  mark.stop()
end }
knbl.note { took = took }]], { duration = "3s" })
  lu.assertTrue((data.notes[1].took or 3) < 1.5, data.notes[1].took)
end

function TestPaths:test_ipv6()
  local data = run(
    "knbl.tcp_rr { from = client, to = far, ip = 6 } knbl.tcp_rr { from = client, to = far:service(), ip = 6 }")
  for _, m in ipairs(data.measurements) do
    if not m.skipped then
      lu.assertStrContains(m.servers[1].address, "[")
      lu.assertStrContains(m.path.to.address, ":")
    end
  end
end

function TestPaths:test_what_is_not_there_is_skipped_with_the_reason()
  local code, out, err = fake.knbl(start .. "knbl.tcp_rr { from = client, to = cluster:pod { runtime = 'nosuch' } }\n"
    .. "knbl.tcp_rr { from = client, to = cluster:node(7) }", { "--json", "-", "-q", "--nodes", "2" }, core)
  fake.need_lab(err)
  lu.assertEquals(code, 98, err)
  local list = json.decode(out).measurements
  lu.assertStrContains(list[1].skipped, "nosuch")
  lu.assertStrContains(list[2].skipped, "2 nodes")
end

function TestPaths:test_bad_clusters_end_at_the_script_s_line()
  local line = ("SCRIPT:%d: "):format(select(2, start:gsub("\n", "")) + 1)
  for body, text in pairs {
    ["cluster:pod { node = 'node-9x' }"] = "node-9x", ["cluster:pod { name = 'client' }"] = "already",
    ["knbl.cluster { mtu = 20 }"] = "mtu",
    ["cluster:service { endpoints = {} }"] = "endpoints must be a non-empty list",
  } do
    local code, _, err = fake.knbl(start .. body, { "-q" }, core)
    fake.need_lab(err)
    lu.assertTrue(code == 1 or code == 3, body .. err)
    lu.assertStrContains(err, line)
    lu.assertStrContains(err, text)
  end
end

os.exit(lu.LuaUnit.run())
