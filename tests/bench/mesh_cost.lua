-- mesh_cost.lua - what the verdict, the ledger and the reports of a mesh cost, by simulated results of the default plan
-- with budget.bandwidth = "20 %": the columns ledger, memory and time of docs/mesh.md. MESH_NODES=1000 takes only that
-- size (a process for each size tells its own peak of memory).
package.path = "tests/lua/?.lua;" .. package.path
local core = require "knbl.native"
local json = require "knbl.json"
local ledger = require "knbl.results.ledger"
local noises = require "mesh_noise"
local series = require "knbl.mesh.series"
local sim = require "mesh_sim"
local summary = require "knbl.mesh.summary"
local verdicts = require "knbl.mesh.verdict"

local function peak()
  local f <close> = assert(io.open "/proc/self/status")
  return tonumber(f:read "a":match "VmHWM:%s*(%d+)") / 1024
end

local function timed(list, name, f, ...)
  local began = os.clock()
  local result = f(...)
  list[#list + 1] = ("%s %.2f s"):format(name, os.clock() - began)
  return result
end

local function cost(n)
  local times, members = {}, sim.members(n)
  local plan = timed(times, "plan", sim.plan, n, { node_cpus = 4, budget = { share = 0.2 } })
  local job = { core = core, nodes = members, tests = { "tcp_lat", "tcp_stream" }, plan = plan, missing = {},
    line = "mesh:1",
    stats = { requests = 6 * n, seconds = plan.seconds, histograms = {} }, specs = {}, started = core.wall(),
    results = sim.results(plan, members, { noise = noises.limited, faults = { [3] = { receive = 0.5 } } }) }
  local book = ledger.new { core = core, scenario = "mesh" }
  local mesh = summary.of(job, timed(times, "verdict", verdicts.judge, job))
  mesh.line = job.line
  for _, entry in ipairs(n > 12 and series.of(job, mesh) or {}) do book:add(entry) end
  book:mesh(mesh)
  book:finish { status = "pass" }
  local text = timed(times, "ledger", function() return book:text() end)
  local before = peak()
  local data = timed(times, "reading it", function() return assert(ledger.parse(text, "the ledger")) end)
  for _, format in ipairs { "table", "html", "csv", "junit", "openmetrics", "markdown" } do
    timed(times, format, require("knbl.format." .. format).render, data, { core = core, columns = 120 })
  end
  print(("%d nodes: ledger %.1f MB, %d measurements, %.0f MB of memory to the ledger, %.0f MB with the reports; \z
    CPU: %s"):format(n, #text / 1e6, #data.measurements, before, peak(), table.concat(times, ", ")))
  assert(#text < 20e6 and json)
end

for _, n in ipairs { 10, 50, 200, 1000 } do
  local only = tonumber(os.getenv "MESH_NODES")
  if not only or only == n then cost(n) end
end
