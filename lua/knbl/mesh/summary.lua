-- knbl.mesh.summary - a mesh as the ledger keeps it: every pair's figures as a row of numbers, each node's effects, the
-- map, the verdict; whole histograms of the nodes that stand out alone. The form is that of knbl.results.contract.
local fit = require "knbl.mesh.fit"
local heat = require "knbl.mesh.heat"
local json = require "knbl.json"
local measures = require "knbl.mesh.measures"
local plans = require "knbl.mesh.plan"

local M = { WORST = 5 }

local function round(value, digits)
  local scale = 10 ^ digits
  return math.floor(value * scale + 0.5) / scale
end

-- A figure as the ledger keeps it: whole nanoseconds, bits; a loss to the millionth.
local function kept(value, measure) return measure.absolute and round(value, 6) or math.floor(value + 0.5) end

-- ---- pairs ----

local function rows_of(results, test, list)
  local rows, failed = json.array(), json.array()
  for _, r in ipairs(results) do
    if r.test == test then
      local row = { r.from, r.to }
      for k, measure in ipairs(list) do
        local _, value = measures.value(r, measure)
        row[k + 2] = r.ok and value and kept(value, measure) or nil
      end
      if r.ok and #row == #list + 2 then rows[#rows + 1] = row
      else failed[#failed + 1] = { r.from, r.to, r.error and r.error.code or "no_data" } end
    end
  end
  return rows, failed
end

local function mtu_rows(results, test)
  local rows, failed = json.array(), json.array()
  for _, r in ipairs(results) do
    local m = r.metrics or {}
    if r.test == test and r.ok and m.forward and m.backward then
      rows[#rows + 1] = { r.from, r.to, m.forward.mtu_path, m.backward.mtu_path }
    elseif r.test == test then failed[#failed + 1] = { r.from, r.to, r.error and r.error.code or "no_data" } end
  end
  return rows, failed
end

-- ---- nodes ----

-- Each node's effect as a share, 0 where it was not measured.
local function effects_of(one, n)
  local out = {}
  for _, role in ipairs { "sender", "receiver" } do
    local found = one.effects and one.effects[role] or fit.nodes(one.model, role, one.measure.worse)
    out[role] = json.array()
    for i = 1, n do
      out[role][i] = found[i] and round(measures.change(one.measure, found[i].effect, one.model.middle), 5) or 0
    end
  end
  return out
end

local percents = { 50, 90, 99, 99.9, 100 }

-- The nodes that are worst by a figure, with the percentiles of all that they measured as clients.
local function worst_of(job, one, effects, histograms)
  local list, worse = {}, one.measure.worse
  for i = 1, #job.nodes do
    local effect = math.max(effects.sender[i] * worse, effects.receiver[i] * worse)
    list[i] = { i, effect }
  end
  table.sort(list, function(a, b)
    if a[2] ~= b[2] then return a[2] > b[2] end
    return a[1] < b[1]
  end)
  local out = json.array()
  for k = 1, math.min(M.WORST, #list) do
    local i = list[k][1]
    local row = { node = job.nodes[i].name, sender = effects.sender[i], receiver = effects.receiver[i] }
    local histogram = histograms and histograms[i] and histograms[i][one.test]
    local found = histogram and job.core.hist_percentile(histogram, percents)
    if found then row.p50, row.p90, row.p99, row.p999, row.max = found[1], found[2], found[3], found[4], found[5] end
    out[k] = row
  end
  return out
end

-- ---- a test ----

-- Whether this figure names a node or pair. If the mean names none, it has no map besides that of the median.
local function shown_by(one, named)
  for _, o in ipairs(named) do
    if o.one == one then return true end
  end
end

-- How many partners would find the change that was asked for, if this mesh had too few of them for its noise.
local function more_partners(job, model, pairs_each)
  if not job.plan.find then return nil end
  local enough = plans.partners(#job.nodes, job.figures, job.plan.find, model.deviation)
  return enough > pairs_each and enough < #job.nodes and enough or nil
end

local function figure_of(job, one, limit_of, rows, column, groups, of)
  local measure, model = one.measure, one.model
  local usual = measure.from and measure.from(model.middle) or math.exp(model.middle)
  local effects = effects_of(one, #job.nodes)
  local pairs_each = math.max(1, math.floor(#model.obs / math.max(1, #model.sender.order) + 0.5))
  local finds = math.abs(measures.change(measure, fit.finds(model, limit_of(model), pairs_each) * measure.worse,
    model.middle))
  local figure = { figure = measure.name, usual = kept(usual, measure), noise = round(model.deviation, 4),
    effects = effects, finds = finds < 1e6 and round(finds, 4) or nil,
    partners = not measure.absolute and more_partners(job, model, pairs_each) or nil }
  if measure.name ~= "mean" or shown_by(one, job.named) then
    figure.worst = worst_of(job, one, effects, job.stats.histograms)
    figure.cells = heat.cells(groups, of, rows, function(row)
      return measure.absolute and 1 + row[column] or row[column]
    end, measure.absolute and 1 or usual)
    json.array(figure.cells)
  end
  return figure
end

local function test_of(job, verdict, test, limit_of, groups, of)
  local list = measures.of(test)
  local rows, failed = rows_of(job.results, test, list)
  local mtu = measures.kind(test) == "mtu"
  if mtu then rows, failed = mtu_rows(job.results, test) end
  local entry = { test = test, params = job.specs and job.specs[test], figures = json.array(), pairs = rows,
    failed = failed, usual_mtu = mtu and verdict.mtu or nil }
  for _, one in ipairs(verdict.fitted) do
    if one.test == test then
      local column
      for k, measure in ipairs(list) do
        if measure == one.measure then column = k + 2 end
      end
      table.insert(entry.figures, figure_of(job, one, limit_of, rows, column, groups, of))
    end
  end
  return entry
end

local function histograms_of(job, verdict)
  local out, seen = json.array(), {}
  for _, o in ipairs(verdict.named) do
    for test, text in pairs(not seen[o.node] and (job.stats.histograms or {})[o.node] or {}) do
      out[#out + 1] = { node = o.name, test = test, histogram = json.decode(text) }
    end
    seen[o.node] = true
  end
  table.sort(out, function(a, b)
    if a.node ~= b.node then return a.node < b.node end
    return a.test < b.test
  end)
  return out
end

-- How far the agents' clocks may be off, at most.
local function clock_error(stats)
  local most
  for _, value in pairs(stats.clock_error_ns or {}) do most = math.max(most or 0, value) end
  return most and math.floor(most) or nil
end

-- Clocks that are off by more than a second, which the schedule takes into account: { "node-3 by 600 s"… }
local function odd_clocks(job)
  local list = json.array()
  for i, node in ipairs(job.nodes) do
    local offset = (job.stats.clock_offset_s or {})[i]
    if offset and math.abs(offset) > 1 then
      list[#list + 1] = ("the clock of %s is %.0f s %s, which the schedule takes into account"):format(
        node.name, math.abs(offset), offset > 0 and "ahead" or "behind")
    end
  end
  return list
end

-- What was planned, without the slots.
function M.plan(plan)
  return { kind = plan.kind, partners = plan.partners, pairs = plan.pairs, slots = #plan.slots, at_once = plan.at_once,
    seconds = round(plan.seconds, 1), bytes = plan.bytes, requests = plan.requests }
end

-- job: { core, nodes, tests, specs, plan, results, stats, missing = { [i] = reason }, absent = { { node, reason }… } },
-- verdict is of knbl.mesh.verdict. Returns the mesh.
function M.of(job, verdict)
  job.named, job.figures = verdict.named, math.max(1, #verdict.fitted)
  local groups, of = heat.groups(job.nodes)
  local hypotheses = 2 * #job.nodes * math.max(1, #verdict.fitted)
  local function limit_of(model) return fit.limit(model, fit.FALSE_NODES, hypotheses) end
  local stats, plan = job.stats, job.plan
  local mesh = {
    plan = M.plan(plan),
    cost = { seconds = round(stats.seconds or 0, 1), requests = stats.requests or 0,
      most_requests = stats.most_requests, throttled = stats.throttled, clock_error_ns = clock_error(stats) },
    nodes = json.array(), missing = json.array(), tests = json.array(), groups = json.array(),
    outliers = json.array(verdict.outliers), zones = json.array(verdict.zones),
    sentences = json.array(verdict.sentences), unsure = verdict.unsure, histograms = histograms_of(job, verdict),
    notes = odd_clocks(job),
  }
  for _, note in ipairs(plan.notes or {}) do table.insert(mesh.notes, note) end
  for i, node in ipairs(job.nodes) do
    mesh.nodes[i] = { name = node.name, zone = node.zone, rack = node.rack }
    if job.missing[i] then table.insert(mesh.missing, { node = node.name, reason = job.missing[i] }) end
  end
  for _, one in ipairs(job.absent or {}) do table.insert(mesh.missing, one) end
  for g, group in ipairs(groups) do mesh.groups[g] = { name = group.name, zone = group.zone } end
  for t, test in ipairs(job.tests) do mesh.tests[t] = test_of(job, verdict, test, limit_of, groups, of) end
  return mesh
end

return M
