-- Compares figures on a real cluster with iperf3 and qperf, which run in pods on the same nodes, alternating with knbl,
-- and prints a table. The bounds are wide because the machine is shared; they catch a figure of another path or a wrong
-- unit.
package.path = "tests/kube/?.lua;" .. package.path
local lu = require "luaunit"
local json = require "knbl.json"
local world = require "world"

local IMAGE = "knbl-peers:1"
local ROUNDS = tonumber(os.getenv "E2E_ROUNDS" or "") or 5
local APART = 4 -- times; medians of a few seconds on a busy machine

TestPeers = {}

local function pod(name, node)
  local function container(tool, command)
    return { name = tool, image = IMAGE, imagePullPolicy = "Never", command = command }
  end
  return { apiVersion = "v1", kind = "Pod", metadata = { name = name, labels = { app = "knbl-peers", who = name } },
    spec = { restartPolicy = "Never",
    terminationGracePeriodSeconds = 0, activeDeadlineSeconds = 900, nodeName = node,
    containers = { container("iperf3", { "iperf3", "-s" }), container("qperf", { "qperf", "-lp", "19765" }) } } }
end

local service = { apiVersion = "v1", kind = "Service",
  metadata = { name = "peer-far", labels = { app = "knbl-peers" } }, spec = { selector = { who = "peer-far" },
  ports = { { port = 5201 } } } }

local script = world.script [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local near, beside = cluster:pair { same_node = true }
local far = cluster:pod { name = "far", node = 2 }
local service = far:service()
for _, to in ipairs { { "same node", beside }, { "other node", far }, { "service", service } } do
  knbl.tcp_stream { case = to[1], from = near, to = to[2], tune = "plain", duration = "1s", warmup = "200ms" }
  knbl.tcp_lat { case = to[1], from = near, to = to[2], wait = "block", size = 1, duration = "1s", warmup = "100ms" }
end
]]

local function exec(words) return world.kubectl("exec peer-near -c " .. words) end

-- Gbit/s at the receiver.
local function iperf3(to)
  local text = exec(("iperf3 -- iperf3 -c %s -t 1 -O 0.2 -J"):format(to))
  local ok, result = pcall(json.decode, text)
  return ok and type(result) == "table" and result["end"] and result["end"].sum_received
    and result["end"].sum_received.bits_per_second / 1e9
end

-- Microseconds, half a round trip on average.
local function qperf(to)
  local number, unit = exec(("qperf -- qperf -lp 19765 -ip 19766 -t 1 -m 1 %s tcp_lat"):format(
    to)):match "latency%s*=%s*([%d.]+) (%a+)"
  return number and tonumber(number) * ({ ns = 1e-3, us = 1, ms = 1e3 })[unit]
end

local rows = {}
local function note(path, what, who, figure)
  local key = path .. "\t" .. what
  rows[key] = rows[key] or { path = path, what = what, knbl = {}, peer = {} }
  if figure then table.insert(rows[key][who], figure) end
end

local function one_round(addresses)
  local run = world.run({ "--on", "k8s", script })
  lu.assertEquals(run.code, 0, run.said)
  for _, m in ipairs(run.ledger.measurements) do
    if m.test == "tcp_stream" then note(m.case, "Gbit/s", "knbl", m.metrics.throughput_bps / 1e9)
    else note(m.case, "us", "knbl", m.metrics.latency_ns.mean / 1e3) end
  end
  for path, address in pairs(addresses) do
    note(path, "Gbit/s", "peer", iperf3(address))
    if path ~= "service" then note(path, "us", "peer", qperf(address)) end -- its second port does not go through one
  end
end

local function median(list)
  table.sort(list)
  return #list > 0 and (list[(#list + 1) // 2] + list[#list // 2 + 1]) / 2 or nil
end

local function spread(list) return ("%.3g-%.3g"):format(list[1], list[#list]) end

function TestPeers.test_within_the_noise_of_iperf3_and_qperf()
  lu.skipIf(not os.getenv "E2E_LOAD", "E2E_LOAD is not given: no way to bring the peers' image")
  lu.skipIf(world.sh "command -v iperf3 >/dev/null && command -v qperf" == "", "iperf3 and qperf are not installed")
  local list = world.script(json.encode { apiVersion = "v1", kind = "List",
    items = { pod("peer-near", "node-a"), pod("peer-beside", "node-a"), pod("peer-far", "node-b"), service } })
  local said = world.load_image(IMAGE, { "iperf3", "qperf" })
  said = said .. world.kubectl("apply -f " .. list)
    .. world.kubectl "wait --for=condition=Ready pod -l app=knbl-peers --timeout=60s"
  local addresses = { ["service"] = world.kubectl "get service peer-far -o jsonpath={.spec.clusterIP}" }
  for path, name in pairs { ["same node"] = "peer-beside", ["other node"] = "peer-far" } do
    addresses[path] = world.kubectl(("get pod %s -o jsonpath={.status.podIP}"):format(name))
  end
  local ok, err = pcall(function()
    for _ = 1, ROUNDS do one_round(addresses) end
  end)
  world.kubectl("delete --wait=false -f " .. list)
  os.remove(list)
  if not ok then error(err, 0) end
  local keys, wrong = {}, {}
  for key in pairs(rows) do keys[#keys + 1] = key end
  table.sort(keys)
  local lines = { ("%-12s %-7s %10s %15s  %-7s %10s %15s %7s"):format("path", "figure", "knbl", "least-most", "peer",
    "its", "least-most", "ratio") }
  for _, key in ipairs(keys) do
    local row = rows[key]
    local mine, theirs = median(row.knbl), median(row.peer)
    local peer = row.what == "us" and "qperf" or "iperf3"
    if theirs then
      lines[#lines + 1] = ("%-12s %-7s %10.3g %15s  %-7s %10.3g %15s %7.2f"):format(row.path, row.what, mine,
        spread(row.knbl), peer, theirs, spread(row.peer),
        mine / theirs)
      if mine / theirs > APART or mine / theirs < 1 / APART then wrong[#wrong + 1] = key end
    elseif not (row.path == "service" and row.what == "us") then
      wrong[#wrong + 1] = key .. ": " .. peer .. " gave nothing: " .. said
    end
  end
  local file = io.open((os.getenv "B" or "build") .. "/e2e-peers.txt", "w") -- `make e2e` shows it
  if file then file:write(table.concat(lines, "\n"), "\n") file:close() end
  lu.assertEquals(wrong, {})
end

local code = lu.LuaUnit.run()
os.remove(script)
os.exit(code)
