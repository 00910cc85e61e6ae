-- knbl.mesh.series - a large mesh as a bounded number of measurements, for CSV, `knbl compare`, JUnit and OpenMetrics.
-- Each test has one for all nodes together, for each node as client and as server, and for each two zones; then come
-- the number of outliers, and each of them. A figure is the median of the pairs in question.
local figures = require "knbl.results.figures"
local measures = require "knbl.mesh.measures"
local numbers = require "knbl.mesh.numbers"

local M = {
  OUTLIERS_MOST = 50, -- outliers that have a measurement each
  ZONES_MOST = 12,    -- zones up to which each two of them have a measurement
}

local WHOLE = "all nodes"
local roles = { { name = "client", place = "from", at = 1, effect = "sender" },
  { name = "server", place = "to", at = 2, effect = "receiver" } }

-- ---- the pairs of a series ----

-- The pairs of a test, by series: { [key] = { row… } }; the key of a node is its number and role.
local function rows_by_node(one)
  local by = { client = {}, server = {} }
  for _, row in ipairs(one.pairs) do
    for _, role in ipairs(roles) do
      local list = by[role.name][row[role.at]] or {}
      by[role.name][row[role.at]] = list
      list[#list + 1] = row
    end
  end
  return by
end

local function column(rows, k)
  local values = {}
  for n, row in ipairs(rows) do values[n] = row[k] end
  return values
end

-- Puts a value at a path such as "latency_ns.p50" of a table.
local function put(metrics, path, value)
  local at = metrics
  for key in path:gmatch "([^.]+)%." do
    at[key] = at[key] or {}
    at = at[key]
  end
  at[path:match "[^.]+$"] = value
end

-- The operations of each run, by test and pair.
local function counts_of(results)
  local counts = {}
  for _, r in ipairs(results) do
    local l = r.ok and r.metrics and r.metrics.latency_ns
    if l and l.count then
      counts[r.test] = counts[r.test] or {}
      counts[r.test][r.from .. " " .. r.to] = l.count
    end
  end
  return counts
end

-- The medians of some pairs, as the metrics of a measurement; of a latency also the operations of all of them.
local function metrics_of(test, rows, counts)
  local metrics, count = {}, 0
  for _, row in ipairs(rows) do count = count + (counts[row[1] .. " " .. row[2]] or 0) end
  for k, measure in ipairs(measures.of(test)) do
    put(metrics, figures.get(measure.name).path, numbers.median(column(rows, k + 2)))
  end
  if metrics.latency_ns then metrics.latency_ns.count = count end
  return metrics
end

-- ---- measurements ----

local function entry_of(job, one, case, rows, more)
  local entry = { test = one.test, case = case, from = more.from or "", to = more.to or "", ok = #rows > 0,
    metrics = {}, params = job.specs[one.test], labels = more.labels, round = job.round, started = job.started,
    line = job.line }
  if entry.ok then
    entry.metrics = metrics_of(one.test, rows, job.counts[one.test] or {})
    entry.metrics.effect = more.effect
  else
    entry.error = { code = "lost", message = more.reason or "no pair was measured" }
  end
  return entry
end

local function add_nodes(job, mesh, one, list)
  local by, missing = rows_by_node(one), {}
  for _, gone in ipairs(mesh.missing) do missing[gone.node] = gone.reason end
  for i, node in ipairs(mesh.nodes) do
    for _, role in ipairs(roles) do
      local rows, effects = by[role.name][i] or {}, one.figures[1] and one.figures[1].effects[role.effect]
      list[#list + 1] = entry_of(job, one, ("%s as %s"):format(node.name, role.name), rows, {
        [role.place] = node.name, labels = { node = node.name, role = role.name }, effect = effects and effects[i],
        reason = missing[node.name] })
    end
  end
end

local function add_zones(job, mesh, one, list)
  local names, by = {}, {}
  for _, node in ipairs(mesh.nodes) do
    if node.zone and not by[node.zone] then by[node.zone], names[#names + 1] = {}, node.zone end
  end
  if #names < 2 or #names > M.ZONES_MOST then return end
  table.sort(names)
  for _, row in ipairs(one.pairs) do
    local from, to = mesh.nodes[row[1]].zone, mesh.nodes[row[2]].zone
    if from and to then
      by[from][to] = by[from][to] or {}
      table.insert(by[from][to], row)
    end
  end
  for _, from in ipairs(names) do
    for _, to in ipairs(names) do
      if by[from][to] then
        list[#list + 1] = entry_of(job, one, ("zone %s to zone %s"):format(from, to), by[from][to],
          { labels = { ["from zone"] = from, ["to zone"] = to } })
      end
    end
  end
end

local function metric(job, name, case, value, better, labels)
  return { test = "metric", case = case, from = "", to = "", ok = true, labels = labels, metrics = { value = value },
    metric = { name = name, better = better }, params = {}, round = job.round, started = job.started, line = job.line }
end

local function add_outliers(job, mesh, list)
  if mesh.unsure then return end -- that none is named says nothing then
  list[#list + 1] = metric(job, "outliers", "outliers of the mesh", #mesh.outliers, "less")
  for k = 1, math.min(#mesh.outliers, M.OUTLIERS_MOST) do
    local o = mesh.outliers[k]
    list[#list + 1] = metric(job, "effect of an outlier", ("outlier: %s (%s)"):format(o.name, o.kind), o.effect, nil,
      { kind = o.kind, ["of test"] = o.test, figure = o.figure })
  end
end

-- job: { results, specs, started, line, round }; mesh is of knbl.mesh.summary. Returns measurements.
function M.of(given, mesh)
  local list, job = {}, setmetatable({ counts = counts_of(given.results) }, { __index = given })
  for _, one in ipairs(mesh.tests) do
    if #measures.of(one.test) > 0 then
      list[#list + 1] = entry_of(job, one, WHOLE, one.pairs, {})
      add_nodes(job, mesh, one, list)
      add_zones(job, mesh, one, list)
    end
  end
  add_outliers(job, mesh, list)
  return list
end

-- ---- the values behind a series ----

-- The values of each figure's path: of a node those of its pairs, of all nodes the median of each as a client.
local function values_of(one, rows_of_each)
  local by_path = {}
  for k, measure in ipairs(measures.of(one.test)) do
    local values = {}
    for _, rows in ipairs(rows_of_each) do values[#values + 1] = numbers.median(column(rows, k + 2)) end
    by_path[figures.get(measure.name).path] = values
  end
  return by_path
end

local function singly(rows)
  local list = {}
  for n, row in ipairs(rows) do list[n] = { row } end
  return list
end

local function key(test, case, round) return ("%s\31%s\31%s"):format(test, case, round or 1) end

local function collect(mesh, found)
  local count = 0 -- of comparisons: each node in both roles, by each figure
  for _, one in ipairs(mesh.tests) do count = count + 2 * #mesh.nodes * #measures.of(one.test) end
  for _, one in ipairs(mesh.tests) do
    local by, clients = rows_by_node(one), {}
    for i, node in ipairs(mesh.nodes) do
      for _, role in ipairs(roles) do
        local rows = by[role.name][i]
        if rows then
          found[key(one.test, ("%s as %s"):format(node.name, role.name), mesh.round)] = { among = count,
            values = values_of(one, singly(rows)) }
        end
      end
      clients[#clients + 1] = by.client[i]
    end
    found[key(one.test, WHOLE, mesh.round)] = { among = 1, values = values_of(one, clients) }
  end
end

-- What a comparison needs of the series in a ledger: a function of a measurement that returns { values = { [path] =
-- { number… } }, among = how many comparisons of nodes the mesh has }, or nil.
function M.behind(data)
  local by_line = {}
  for _, mesh in ipairs(data.meshes or {}) do
    if mesh.line and not mesh.single then
      by_line[mesh.line] = by_line[mesh.line] or {}
      collect(mesh, by_line[mesh.line])
    end
  end
  return function(m)
    local found = by_line[m.line]
    return found and found[key(m.test, m.case, m.round)]
  end
end

return M
