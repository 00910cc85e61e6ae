-- knbl.mesh - knbl.mesh{}: checks what is asked, plans it, has the agents carry it out (knbl.mesh.schedule), judges the
-- results (knbl.mesh.verdict). The ledger keeps the mesh as knbl.mesh.summary makes it. Of a small one every pair is a
-- measurement too, of a large one every node (knbl.mesh.series).
local check = require "knbl.base.check"
local clusters = require "knbl.cluster"
local errors = require "knbl.base.errors"
local expect = require "knbl.results.expect"
local json = require "knbl.json"
local measures = require "knbl.mesh.measures"
local path = require "knbl.measure.path"
local perform = require "knbl.measure.perform"
local plans = require "knbl.mesh.plan"
local request = require "knbl.measure.request"
local series = require "knbl.mesh.series"
local summary = require "knbl.mesh.summary"
local verdicts = require "knbl.mesh.verdict"

local M = {
  SINGLE_MOST = 12,    -- nodes up to which each pair is a measurement of its own too
  PMTU_S = 3,          -- what a path MTU takes at most
}

local ZONES = { "topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone" }
local RACKS = { "topology.kubernetes.io/rack", "rack" }

M.keys = check.set "nodes duration tests plan budget partners find zone rack expect"

-- Tests measure like this unless the script says otherwise: loss is measured at a rate that disturbs no other traffic.
local defaults = { loss = { rate = "10Mbit/s", size = 1000 } }

-- ---- what is asked ----

local function share_of(what, value)
  local number = type(value) == "string" and tonumber(value:match "^%s*([%d.]+)%s*%%%s*$")
  local share = number and number / 100 or type(value) == "number" and value or nil
  if share and share > 0 and share < 1 then return share end
  errors.misuse("knbl.mesh: %s must be a share like \"20 %%\", got '%s'", what, tostring(value))
end

local function seconds_of(core, what, value)
  local seconds = type(value) == "number" and value or core.duration(tostring(value))
  if seconds and seconds > 0 then return seconds end
  errors.misuse("knbl.mesh: %s must be a duration like \"5m\", got '%s'", what, tostring(value))
end

local function budget_of(core, given)
  if given == nil then return {} end
  check.type("knbl.mesh", "budget", given, "table")
  check.keys(core, "knbl.mesh: budget", given, check.set "time bandwidth")
  local budget = {}
  if given.time ~= nil then budget.time = seconds_of(core, "budget.time", given.time) end
  if given.bandwidth ~= nil then
    local rate = type(given.bandwidth) == "string" and not given.bandwidth:find "%%" and core.rate(given.bandwidth)
    if rate and rate.bps then budget.bps = rate.bps
    elseif given.bandwidth == "100 %" or given.bandwidth == "100%" or given.bandwidth == 1 then budget.share = 1
    else budget.share = share_of("budget.bandwidth", given.bandwidth) end
  end
  return budget
end

-- The tests, each { name, options }.
local function tests_of(core, given)
  if type(given) ~= "table" or #given == 0 then
    errors.misuse("knbl.mesh: tests must be a non-empty list like { \"tcp_lat\", \"tcp_stream\" }")
  end
  local list, seen, names = {}, {}, {}
  for _, test in ipairs(core.tests()) do
    if measures.kind(test.name) then names[#names + 1] = test.name end
  end
  for i, one in ipairs(given) do
    local options = type(one) == "table" and one or { test = one }
    local name = options.test
    if type(name) ~= "string" or not measures.kind(name) then
      errors.misuse("knbl.mesh: tests[%d] must be one of %s, got '%s'%s", i, table.concat(names, ", "), tostring(name),
        errors.hint(core, tostring(name), names))
    end
    if seen[name] then errors.misuse("knbl.mesh: tests has %s twice", name) end
    seen[name], list[i] = true, { name = name, options = options }
  end
  return list
end

local function check_nodes(given)
  if type(given) ~= "table" or clusters.is(given) then
    errors.misuse("knbl.mesh: nodes must be a list of nodes or pods: nodes = { cluster:nodes() }")
  end
  local seen = {}
  for i, thing in ipairs(given) do
    if not clusters.is(thing) or thing.kind ~= "node" and thing.kind ~= "pod" then
      errors.misuse("knbl.mesh: nodes[%d] must be a node or a pod, got %s", i,
        clusters.is(thing) and "a Service" or "a " .. type(thing))
    end
    if seen[thing] then errors.misuse("knbl.mesh: nodes has %s twice", thing.name) end
    seen[thing] = true
  end
  return given
end

-- ---- the members ----

local function label_of(labels, given, keys)
  if given then return labels[given] end
  for _, key in ipairs(keys) do
    if labels[key] then return labels[key] end
  end
end

-- The node that a thing is on, where that is known.
local function node_of(thing)
  if thing.kind == "node" then return thing end
  local name = thing.endpoint and thing.endpoint.node
  return thing.node or name and thing.cluster.node_by[name] or nil
end

-- The nodes that can take part, { name, zone?, rack?, thing }…, and those that cannot, { node, reason }….
local function members_of(t)
  local members, absent, times = {}, json.array(), {}
  for _, thing in ipairs(t.nodes) do
    local node = node_of(thing)
    if node then times[node] = (times[node] or 0) + 1 end
  end
  for _, thing in ipairs(t.nodes) do
    local node = node_of(thing)
    local name = node and times[node] == 1 and node.name or thing.name
    local reason = perform.unavailable(thing)
    if reason then
      absent[#absent + 1] = { node = name, reason = reason }
    else
      local labels = node and node.topology or {}
      members[#members + 1] = { name = name, thing = thing, zone = label_of(labels, t.zone, ZONES),
        rack = label_of(labels, t.rack, RACKS) }
    end
  end
  return members, absent
end

-- ---- the plan ----

local function spec_of(s, test, t, members, rate)
  local options = { from = members[1].thing, to = members[2].thing, rate = rate }
  if measures.kind(test.name) ~= "mtu" then options.duration = t.duration or "1s" end
  for _, list in ipairs { defaults[measures.kind(test.name)] or {}, test.options } do
    for key, value in pairs(list) do
      if key ~= "test" then options[key] = value end
    end
  end
  local asked = request.of(s, test.name, options)
  if #asked.specs ~= 1 then errors.misuse("knbl.mesh: %s takes one size, got %d", test.name, #asked.specs) end
  return asked.specs[1]
end

-- The approximate number of bytes a second that a pair of a test sends on the wire.
local function bytes_of(core, kind, spec)
  local rate = spec.rate and core.rate(tostring(spec.rate))
  if rate and rate.bps then return rate.bps / 8 end
  if kind == "bandwidth" or kind == "loss" then return 10e9 / 8 end
  return kind == "mtu" and 1e5 or (rate and rate.per_s or 30e3) * 2 * (66 + (tonumber(spec.size) or 1))
end

local function tests_to_plan(s, t, members, tests)
  local list, specs = {}, {}
  for i, test in ipairs(tests) do
    local kind = measures.kind(test.name)
    specs[test.name] = spec_of(s, test, t, members)
    list[i] = { name = test.name, kind = kind, figures = math.max(1, #measures.of(test.name)),
      seconds = kind == "mtu" and M.PMTU_S or (perform.expected_time(specs[test.name])),
      bytes_per_s = bytes_of(s.core, kind, specs[test.name]) }
  end
  return list, specs
end

-- How many CPUs all nodes share, if they are on one machine.
local function shared_cpus(s, members)
  local cluster = members[1].thing.cluster
  return cluster.module.one_machine and s.core.cpus and s.core.cpus() or nil
end

-- The CPUs of the node that has the fewest, if all are known.
local function node_cpus(members)
  local least = math.huge
  for _, member in ipairs(members) do
    local node = node_of(member.thing)
    local cpus = node and tonumber(node.cpus)
    if not cpus then return nil end
    least = math.min(least, cpus)
  end
  return least
end

local function plan_of(s, t, members, tests, budget)
  local list, specs = tests_to_plan(s, t, members, tests)
  local plan, why = plans.make { members = members, tests = list, plan = t.plan, partners = t.partners,
    find = t.find and share_of("find", t.find), budget = budget, cpus = shared_cpus(s, members),
    node_cpus = node_cpus(members), duration = seconds_of(s.core, "duration", t.duration or "1s") }
  if not plan then errors.misuse("knbl.mesh: %s", why) end
  for name, rate in pairs(plan.rates) do
    for _, test in ipairs(tests) do
      if test.name == name then specs[name] = spec_of(s, test, t, members, ("%dbit/s"):format(rate)) end
    end
  end
  return plan, specs
end

-- ---- carrying it out ----

local function pair_name(members, i, j) return ("%s > %s"):format(members[i].name, members[j].name) end

-- The pair as a measurement of the ledger.
local function entry_of(s, job, r)
  local from, to = job.members[r.from], job.members[r.to]
  local route = path.check(r.test, from.thing, to.thing)
  local entry = {
    test = r.test, case = pair_name(job.members, r.from, r.to), from = from.thing.name, to = to.thing.name,
    via = route.via, ok = r.ok == true, metrics = r.metrics or {}, flags = r.flags, params = job.specs[r.test],
    labels = { from = from.name, to = to.name }, round = (s.settings.repeats or 1) > 1 and s.round or nil,
    started = job.started, line = job.line, path = path.describe(from.thing, route, job.specs[r.test].ip),
    latency_histogram = r.histogram and json.decode(r.histogram) or nil,
  }
  if not entry.ok then
    entry.error = { code = r.error and r.error.code or "protocol", message = r.error and r.error.message
      or "no reason given" }
  end
  return entry
end

-- Puts the results into the ledger, and returns the mesh as the ledger has it.
local function record(s, job, stats)
  local missing = {}
  for i, reason in pairs(stats.missing or {}) do
    -- an agent's error begins with its name, which stands before the reason anyway
    for _, name in ipairs { job.members[i].thing.name, job.members[i].name } do
      local start = name .. ": "
      if reason:sub(1, #start) == start then reason = reason:sub(#start + 1) end
    end
    missing[i] = reason
  end
  job.missing, job.stats, job.core = missing, stats, s.core
  local verdict = verdicts.judge { nodes = job.nodes, results = job.results, missing = missing, tests = job.tests,
    core = s.core }
  local mesh = summary.of(job, verdict)
  mesh.line, mesh.expect, mesh.round = job.line, job.expect, (s.settings.repeats or 1) > 1 and s.round or nil
  if #job.members <= M.SINGLE_MOST then
    for _, r in ipairs(job.results) do s.ledger:add(entry_of(s, job, r)) end
    mesh.single = true
  else
    for _, entry in ipairs(series.of({ results = job.results, specs = job.specs, started = job.started,
      line = job.line, round = mesh.round }, mesh)) do s.ledger:add(entry) end
  end
  s.ledger:mesh(mesh)
  if s.progress then s.progress:say("mesh: " .. table.concat(mesh.sentences, "; ", 1, math.min(3, #mesh.sentences))) end
  return mesh
end

-- What a script gets.
local function answer(job, mesh)
  local list, gone = {}, {}
  for k, r in ipairs(job.results) do
    list[k] = { from = job.members[r.from].name, to = job.members[r.to].name, test = r.test, ok = r.ok == true,
      error = r.error, metrics = r.metrics or {} }
  end
  for _, one in ipairs(mesh.missing) do gone[one.node] = one.reason end
  return { pairs = list, outliers = mesh.outliers, zones = mesh.zones, missing = gone, sentences = mesh.sentences,
    unsure = mesh.unsure, cost = mesh.cost, plan = mesh.plan, ok = #mesh.missing == 0 }
end

local function carry_out(s, job)
  local agents, runs = {}, 0
  for i, member in ipairs(job.members) do agents[i] = member.thing.endpoint end
  for _, slot in ipairs(job.plan.slots) do runs = runs + #slot.pairs end
  if s.progress then
    s.progress:start({ test = "mesh", case = ("%d nodes, %d runs"):format(#job.members, runs) }, job.plan.seconds)
  end
  job.started = s.core.wall()
  local results, stats = require("knbl.mesh.schedule").run(agents, job.plan, job.specs, {
    histograms = #job.members <= M.SINGLE_MOST, interrupted = s.core.interrupted, qps = s.settings.qps,
    progress = function(done, total) if s.progress then s.progress:mesh(done, total) end end,
  })
  if not results then errors.raise(stats, "mesh") end
  job.results = results
  return stats
end

-- A mesh of one node, or of none, has no pairs.
local function without_pairs(job)
  job.plan = { kind = "all", nodes = {}, slots = {}, pairs = 0, seconds = 0, bytes = 0, requests = 0, at_once = {},
    notes = {} }
  job.results, job.specs = {}, {}
  return { missing = {}, seconds = 0, requests = 0 }
end

local function check_table(s, t)
  if type(t) ~= "table" or clusters.is(t) then
    errors.misuse("knbl.mesh takes a table: knbl.mesh { nodes = { cluster:nodes() }, tests = { … } }")
  end
  check.keys(s.core, "knbl.mesh", t, M.keys)
  check_nodes(t.nodes)
  check.choice(s.core, "knbl.mesh", "plan", t.plan, { "all", "sample", "levels" })
  check.number("knbl.mesh", "partners", t.partners, 1, 10000)
  check.type("knbl.mesh", "zone", t.zone, "string")
  check.type("knbl.mesh", "rack", t.rack, "string")
  for _, e in ipairs(expect.parse_all(s.core, t.expect, "knbl.mesh")) do
    if e.left.kind ~= "outlier" then
      errors.misuse("knbl.mesh: expect must be \"no outlier\", got '%s'", e.source)
    end
  end
end

-- Which tests --only leaves.
local function selected(s, tests)
  local list = {}
  for _, test in ipairs(tests) do
    if perform.selected(s, { case = "mesh", test = test.name }) then list[#list + 1] = test
    else s.unselected = (s.unselected or 0) + 1 end
  end
  return list
end

-- Whether a text of --expect names something of this mesh: "mesh", a test, or (of a small one) a pair.
local function knows(job, case)
  case = case and case:lower() or "mesh"
  if case == "mesh" then return true end
  for _, test in ipairs(job.tests) do
    if test == case then return true end
  end
  for i = 1, #job.members <= M.SINGLE_MOST and #job.members or 0 do
    for _, test in ipairs(job.tests) do
      for j = 1, #job.members do
        local name = ("%s %s"):format(test, pair_name(job.members, i, j)):lower()
        if i ~= j and name:find(case, 1, true) then return true end
      end
    end
  end
  return false
end

function M.run(s, t)
  check_table(s, t)
  s:check_words()
  local tests, budget = selected(s, tests_of(s.core, t.tests)), budget_of(s.core, t.budget)
  local members, absent = members_of(t)
  local job = { knows = knows, members = members, nodes = {}, absent = absent, tests = {}, line = errors.where(),
    expect = t.expect and json.array(type(t.expect) == "table" and t.expect or { t.expect }) or nil }
  for i, member in ipairs(members) do
    job.nodes[i] = { name = member.name, zone = member.zone, rack = member.rack }
  end
  for i, test in ipairs(tests) do job.tests[i] = test.name end
  local stats
  if #members < 2 or #tests == 0 then stats = without_pairs(job)
  else job.plan, job.specs = plan_of(s, t, members, tests, budget) end
  if s.plan then
    s.plan:add_mesh(job)
    return answer({ members = members, results = {} }, { outliers = {}, zones = {}, missing = {}, sentences = {},
      plan = summary.plan(job.plan), cost = {} })
  end
  stats = stats or carry_out(s, job)
  local mesh = record(s, job, stats)
  if stats.interrupted then errors.raise(errors.new("interrupted", "interrupted")) end
  return answer(job, mesh)
end

return M
