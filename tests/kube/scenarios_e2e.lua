-- Runs every scenario of the repository on a real cluster: each path has a figure or a reason.
package.path = "tests/kube/?.lua;" .. package.path
local lu = require "luaunit"
local world = require "world"

TestScenarios = {}

-- Every measurement has a figure; `skips` is a pattern of the accepted reasons.
local function check(run, least, skips)
  lu.assertNotNil(run.ledger, run.said)
  local list = run.ledger.measurements
  lu.assertTrue(#list >= least, ("%d measurements, expected %d: %s"):format(#list, least, run.said))
  for _, m in ipairs(list) do
    local name = m.test .. " " .. m.case
    if m.skipped then
      lu.assertTrue(skips ~= nil and m.skipped:find(skips) ~= nil, name .. " skipped: " .. m.skipped)
    else
      lu.assertTrue(m.ok, name .. ": " .. (m.error and m.error.message or "?"))
      local figure = m.metrics.throughput_bps or m.metrics.rate_per_s or m.metrics.received or m.metrics.value
        or m.metrics.attempts or m.metrics.forward and m.metrics.forward.mtu_path
      lu.assertTrue(figure ~= nil and figure > 0, name .. " has no figure")
      for _, flag in ipairs(m.flags) do lu.assertNotEquals(flag, "wrong_backend", name) end
    end
  end
  lu.assertEquals(world.left(), "")
end

-- With the agent injected, every scenario; with the image, a few.
local some = { pod_to_svc = true, mesh = true, ci_gate = true, http = true, failover = true }
local function scenario(name, least, words, codes, skips)
  if not os.getenv "E2E_INJECT" and not some[name] then return end
  TestScenarios["test_" .. name] = function()
    local run = world.scenario("scenarios/" .. name .. ".lua", words, { seconds = 120 })
    lu.assertTrue((codes or { [0] = true })[run.code], run.said)
    check(run, least, skips)
  end
end

local any_verdict = { [0] = true, [98] = true, [99] = true }
scenario("pod_to_svc", 54, { "--requests", "500", "--pings", "3" })
scenario("mesh", 2)
scenario("ping", 7, { "--pings", "3" })
scenario("node_to_node", 14)
scenario("ci_gate", 2, {}, any_verdict)
scenario("combos", 24)
scenario("http", 12, { "--requests", "500", "--connections", "10" })
scenario("msg_size_sweep", 16, { "--sizes", "1,64K" })
scenario("mtu_sweep", 30, { "--mss", "536,1460" })
scenario("netperf_baseline", 24)
scenario("orchestrated", 18, { "--mss", "536,1460" })
scenario("loaded_latency", 5, { "--repeats", "1" })
scenario("bandwidth_limit", 8, { "--limits", "100" })
scenario("flows", 2, { "--flows", "1,50", "--repeats", "1" })
scenario("saturation", 1, { "--most", "2000" })
scenario("dual_stack", 12, { "--repeats", "1" }, nil, "has no IPv6 address")
scenario("trace", 4, { "--repeats", "1" })
scenario("programming", 4, { "--services", "1" })
scenario("failover", 3, { "--settle", "2s", "--before", "500ms" })
scenario("balance", 2, { "--backends", "2", "--connections", "400", "--kept", "20", "--duration", "300ms" })
scenario("canary", 6, { "--duration", "300ms" })
scenario("rollout", 2, { "--replicas", "1" })
scenario("pmtu", 5)
-- a network that enforces no policies: their rows say so
scenario("policy_cost", 7, { "--policies", "0,20", "--repeats", "1" }, nil, "nothing enforces network policies")
scenario("encryption_cost", 6, { "--repeats", "1" }, nil, "the cluster's network uses encryption 'none', not '")
-- the limit of real nodes is left alone
scenario("conntrack", 6, { "--held", "0,50,100", "--hold", "1s" })
-- only a lab has these modes: everything is skipped
scenario("service_modes", 6, { "--services", "1,10" }, { [98] = true }, "")

-- runc-2 works. kata is registered, but no node can start it: its cells have the kubelet's message, and the run
-- continues.
function TestScenarios.test_runtimes()
  local run = world.scenario("scenarios/kata_vs_runc.lua",
    { "--runtimes", "runc,runc-2,kata,nosuch", "--sizes", "64K" }, { seconds = 150 })
  lu.assertEquals(run.code, 0, run.said)
  check(run, 48, "[rR]untime")
  local seen = {}
  for _, m in ipairs(run.ledger.measurements) do
    local runtime = m.labels.runtime
    seen[runtime] = m.skipped or "measured"
    if runtime == "runc-2" then lu.assertEquals(m.path.to.handler, "runc-2") end
  end
  lu.assertEquals(seen.runc, "measured")
  lu.assertEquals(seen["runc-2"], "measured")
  lu.assertStrContains(seen.kata, 'no runtime for "kata" is configured')
  lu.assertStrContains(seen.nosuch, "no RuntimeClass named nosuch; there are: kata, runc-2")
end

function TestScenarios.test_environment()
  local run = world.scenario("scenarios/ping.lua", { "--pings", "2" })
  local e = run.ledger.environment
  lu.assertStrContains(e.kubernetes, "v1.")
  lu.assertEquals(#e.nodes, 2)
  for _, node in ipairs(e.nodes) do
    for _, key in ipairs { "kernel", "cpus", "zone", "runtime", "arch" } do
      lu.assertEquals(type(node[key]), "string", key)
    end
    lu.assertEquals(type(node.mtu), "number")
  end
  lu.assertNotNil(e.cni)
  lu.assertEquals(type(e.mtu), "number")
  -- a cluster on this machine has no ConfigMap of kube-proxy; agents on the host networks ask kube-proxy for its mode
  local mode = world.argument("node-a-proxy", "proxy-mode")
  if mode then lu.assertEquals(e.proxy_mode, mode) end
end

os.exit(lu.LuaUnit.run())
