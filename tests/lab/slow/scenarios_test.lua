-- Runs every scenario, and the tutorial's snippets, briefly in the lab. Each must succeed, every cell of every table
-- must have a figure or a reason, and the ledger must give the same tables again.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local cli = require "knbl.program.cli"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"
local report = require "knbl.results.report"

TestScenarios = {}

local short = {
  mesh = { "--factor", "1", "--pmtu" }, -- the lab has four nodes; each pair above the middle one is noted
  msg_size_sweep = { "--sizes", "1,64K" }, kata_vs_runc = { "--sizes", "1,64K" }, mtu_sweep = { "--mss", "96,1460" },
  orchestrated = { "--mss", "96,1460" }, service_modes = { "--services", "1,100" },
    pod_to_svc = { "--requests", "2000" },
  http = { "--requests", "2000" },
  failover = { "--before", "200ms", "--settle", "300ms" },
  policy_cost = { "--policies", "0,100", "--repeats", "1" }, loaded_latency = { "--repeats", "1" },
  bandwidth_limit = { "--limits", "100" }, encryption_cost = { "--encryption", "none,ipsec", "--repeats", "1" },
  flows = { "--flows", "1,200", "--repeats", "1" }, saturation = { "--bound", "1000", "--most", "2000" },
  conntrack = { "--held", "0,600", "--limit", "200", "--hold", "3s" }, dual_stack = { "--repeats", "1" },
  canary = { "--repeats", "2", "--connections", "10", "--share", "10" },
  trace = { "--repeats", "1" }, programming = { "--services", "1,100", "--settle", "300ms" },
}

local function main(argv)
  local out, err = {}, {}
  local code = cli.main(argv, {
    core = setmetatable({ isatty = function() return false end }, { __index = core }),
    out = function(s) out[#out + 1] = s end, err = function(s) err[#err + 1] = s end,
  })
  return code, table.concat(out), table.concat(err)
end

local function check_cells(name, data)
  local seen = 0
  for _, grid in ipairs(report.grids(core, data)) do
    lu.assertTrue(#grid.rows > 0, name .. ": a table without rows")
    for _, row in ipairs(grid.rows) do
      for i, cell in ipairs(row.cells) do
        for _, part in ipairs(cell.joined or { cell }) do
          seen = seen + 1
          local where = ("%s: %s, %s"):format(name, tostring(row.values[1]), grid.columns[i].title)
          if #part.measurements > 0 and not part.value then
            local measured = part.measurements[1].ok -- a figure that this test does not have at all
            lu.assertTrue(measured or #part.notes > 0, where .. ": neither a figure nor a reason")
          end
        end
      end
    end
  end
  lu.assertTrue(seen > 0, name)
end

local function scenario(name, more)
  local code, out, err
  for _, duration in ipairs { "80ms", "400ms", "2s" } do
    local argv = { "scenarios/" .. name .. ".lua", "--json", "-", "--duration", duration }
    for _, word in ipairs(short[name] or {}) do argv[#argv + 1] = word end
    code, out, err = main(argv)
    -- other work on the machine can affect one side of the ratio
    local disturbed = code == 99 and name == "ci_gate"
    if code ~= 1 and code ~= 99 or not (disturbed or fake.starved(out)) then break end
  end
  fake.need_lab(err)
  -- such a short run may be too short for an expectation of the scenario
  lu.assertTrue(code == 0 or name == "ci_gate" and code == 98, name .. ": " .. err)
  local data = json.decode(out)
  check_cells(name, require("knbl.results.ledger").parse(out, name))
  lu.assertEquals(data.provider, "lab")
  if more then more(data) end
  return data
end

local function skipped(data)
  local n = 0
  for _, m in ipairs(data.measurements) do n = n + (m.skipped and 1 or 0) end
  return n
end

-- One of three backends is taken off the network: new connections are lost one in three.
function TestScenarios:test_failover()
  local data = scenario "failover"
  lu.assertEquals(#data.measurements, 3)
  for _, m in ipairs(data.measurements) do
    lu.assertEquals(m.marks[1].text, "delete")
    lu.assertTrue(m.metrics.attempts > 0)
  end
end

-- Without Kubernetes nothing is rolled or changed, which is said.
function TestScenarios:test_rollout()
  lu.assertEquals(#scenario("rollout").measurements, 2)
end
-- What is removed is seen as closed from both nodes, what is added as open.
function TestScenarios:test_programming()
  local data = scenario "programming"
  lu.assertEquals({ #data.measurements, skipped(data) }, { 8, 4 })
  for i = 1, 4 do
    local m = data.measurements[i]
    lu.assertEquals(m.metrics.ready.state, m.labels.endpoint == "removed" and "closed" or "open")
    lu.assertTrue(m.metrics.ready.last <= m.metrics.ready.first + 0.5)
  end
end

-- What fills the path makes requests late; with a limit a queue does.
function TestScenarios:test_loaded_latency()
  lu.assertEquals(#scenario("loaded_latency").measurements, 5)
end

-- A policy denies and, once it is gone, lets in again; a hundred of them are told apart by label.
function TestScenarios:test_policy_cost()
  local data = scenario "policy_cost"
  lu.assertEquals({ #data.measurements, skipped(data) }, { 7, 0 })
  local after = data.measurements[1].metrics.after_mark
  lu.assertNotNil(after.denied.first_fail)
  lu.assertNotNil(after.allowed.first_ok)
end

function TestScenarios:test_bandwidth_limit()
  local data = scenario "bandwidth_limit"
  lu.assertEquals(#data.measurements, 2 * 4)
  for _, m in ipairs(data.measurements) do
    if m.test == "tcp_stream" then lu.assertTrue(m.metrics.throughput_bps < 1.2e8, m.metrics.throughput_bps) end
  end
end

-- This kernel may lack IPsec: its row then has the reason.
function TestScenarios:test_encryption_cost()
  local data = scenario "encryption_cost"
  lu.assertEquals(#data.measurements, skipped(data) == 2 and 5 or 6)
end

function TestScenarios:test_flows()
  local data = scenario "flows"
  lu.assertEquals({ #data.measurements, #data.notes }, { 2, 2 })
  lu.assertEquals(data.measurements[2].params.flows, 200)
end

-- The new version gets a tenth of the requests in every round.
function TestScenarios:test_canary()
  local data, rounds = scenario "canary", 0
  for _, m in ipairs(data.measurements) do
    if m.test == "http" then
      rounds = rounds + 1
      local targets = m.metrics.targets
      lu.assertEquals({ targets.stable.flows, targets.canary.flows }, { 9, 1 })
      lu.assertEquals({ targets.stable.asked, targets.canary.asked }, { 0.9, 0.1 })
      lu.assertAlmostEquals(targets.canary.share, 0.1, 0.1)
    end
  end
  lu.assertEquals(rounds, 2)
end

function TestScenarios:test_saturation()
  local data = scenario "saturation"
  lu.assertEquals(#data.notes, 1)
  lu.assertEquals(data.measurements[1].labels.offered, 1000)
end

-- The limit is reached by the connections that are held, and new ones are lost until they close.
function TestScenarios:test_conntrack()
  local data = scenario "conntrack"
  local free, full = data.measurements[2], data.measurements[3]
  lu.assertEquals(free.metrics.timeouts, 0)
  lu.assertTrue(full.metrics.timeouts > 0)
  lu.assertNotNil(full.metrics.after_mark.closed.first_ok)
end

function TestScenarios:test_dual_stack()
  local data = scenario "dual_stack"
  lu.assertEquals({ #data.measurements, skipped(data) }, { 12, 0 })
  for _, m in ipairs(data.measurements) do
    lu.assertEquals(m.params.ip, m.labels.family == "IPv6" and 6 or 4)
  end
end

-- Without permission to sample there is a reason in place of a profile.
function TestScenarios:test_trace()
  for _, m in ipairs(scenario("trace").measurements) do
    lu.assertTrue(m.profile[1].samples ~= nil or m.profile[1].error ~= nil, m.case)
  end
end

function TestScenarios:test_pod_to_svc()
  local data = scenario "pod_to_svc"
  lu.assertEquals({ #data.measurements, skipped(data) }, { 54, 0 })
  for _, m in ipairs(data.measurements) do
    if m.labels.by == "service" then
      lu.assertTrue(m.via == "service" or m.via == "hairpin", m.case)
      lu.assertEquals(m.servers and m.servers[1] and m.servers[1].name or m.path.to.endpoints[1],
        m.path.to.endpoints[1])
    end
  end
end

function TestScenarios:test_netperf_baseline()
  lu.assertEquals(#scenario("netperf_baseline").measurements, 24)
end

function TestScenarios:test_msg_size_sweep()
  lu.assertEquals(#scenario("msg_size_sweep").measurements, 4 * 2 * 2)
end

function TestScenarios:test_kata_vs_runc()
  local data = scenario "kata_vs_runc"
  lu.assertEquals(#data.measurements, 2 * 2 * 4 * 5)
  for _, m in ipairs(data.measurements) do
    if m.labels.runtime == "runc" or m.labels.runtime == "host" then lu.assertTrue(m.ok, m.case)
    else lu.assertTrue(m.ok or m.skipped ~= nil, m.case) end
    if m.ok then
      lu.assertTrue(m.metrics.cpu.server_sandbox >= 0, m.case)
      lu.assertTrue(m.path.to.started_ms >= 0 and m.path.to.memory_bytes > 0, m.case)
    end
  end
end

function TestScenarios:test_mtu_sweep()
  local data = scenario "mtu_sweep"
  lu.assertEquals(#data.measurements, 5 * 3 * 2)
  local _, csv = main { "scenarios/orchestrated.lua", "--duration", "200ms", "--mss", "96,1460", "-q", "--csv", "-" }
  local lines = {}
  for line in csv:gmatch "[^\n]+" do lines[#lines + 1] = line end
  lu.assertEquals(#lines, 14)
  lu.assertStrMatches(lines[1], "MSS%s+, Maximum, 96, 1460,")
  lu.assertStrMatches(lines[2], "1 iperf TCP%. Same VM using Pod IP%s+,%d+%.%d+,[%d.]+,[%d.]+,")
  lu.assertStrMatches(lines[14], "13 netperf%. Remote VM using Virtual IP%s+,%d+%.%d+,[%d.]+,")
end

function TestScenarios:test_combos()
  lu.assertEquals(#scenario("combos").measurements, 6 * 2 * 2)
end

function TestScenarios:test_service_modes()
  lu.assertEquals(#scenario("service_modes").measurements, 2 * 2 * 3)
end

function TestScenarios:test_pmtu()
  local book = scenario "pmtu"
  lu.assertEquals(#book.measurements, 5)
  lu.assertEquals(#book.notes, 10)
end
function TestScenarios:test_dns()
  local book = scenario("dns", function(data)
    for _, m in ipairs(data.measurements) do lu.assertEquals({ m.metrics.errors, m.metrics.lookup.empty }, { 0, 0 }) end
  end)
  lu.assertEquals(#book.measurements, 8)
end
function TestScenarios:test_mesh()
  local book = scenario "mesh"
  local met = {}
  for _, m in ipairs(book.measurements) do
    lu.assertTrue(m.ok, m.case)
    local key = m.test .. m.labels.from .. m.labels.to
    lu.assertNil(met[key])
    met[key] = true
  end
  lu.assertEquals(#book.measurements, 30) -- twelve directed pairs twice, and the path MTU of six
  lu.assertEquals(#book.notes, 3)
  lu.assertEquals({ #book.meshes, book.meshes[1].plan.kind, #book.meshes[1].missing }, { 1, "all", 0 })
end

function TestScenarios:test_http_ping_node_to_node_and_the_gate()
  lu.assertEquals(#scenario("http").measurements, 12)
  lu.assertEquals(#scenario("ping").measurements, 7)
  lu.assertEquals(#scenario("node_to_node").measurements, 14)
  lu.assertEquals(#scenario("ci_gate").expectations, 7)
end

-- Runs every snippet of a page. Returns their number.
local function snippets(page)
  local n = 0
  for block in fake.read(page):gmatch "```lua\n(.-)```" do
    local code, _, err = fake.briefly(block, { "-q", "--duration", "100ms", "--json", "-" }, core)
    fake.need_lab(err)
    lu.assertTrue(code == 0 or code == 98, err)
    n = n + 1
  end
  return n
end

function TestScenarios:test_the_tutorial() lu.assertTrue(snippets "docs/tutorial.md" >= 6) end

function TestScenarios:test_the_page_on_outages() lu.assertEquals(snippets "docs/outages.md", 2) end

os.exit(lu.LuaUnit.run())
