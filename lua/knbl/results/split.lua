-- knbl.results.split - a measurement of several targets as one for each of them, with the label `target`: what tables
-- with the key `target` are made of.
local M = {}

local function metrics_of(target)
  local failed = (target.errors or 0) + (target.timeouts or 0) + (target.connect_errors or 0)
  return {
    target = { asked = target.asked, share = target.share, failed = failed }, ops = target.ops, bytes = target.bytes,
    rate_per_s = target.rate_per_s, throughput_bps = target.throughput_bps,
    latency_ns = { count = target.ops, p50 = target.p50, p99 = target.p99 },
    errors = (target.errors or 0) + (target.connect_errors or 0), timeouts = target.timeouts,
  }
end

local function part_of(m, name, via)
  local labels = {}
  for key, value in pairs(m.labels or {}) do labels[key] = value end
  labels.target = labels.target or name
  local figures = ((m.metrics or {}).targets or {})[name]
  local part = { to = name, via = via, labels = labels, metrics = figures and metrics_of(figures) or {} }
  if figures and figures.error and (figures.ops or figures.bytes or 0) == 0 then -- it never answered
    part.ok, part.error = false, { code = "lost", message = figures.error }
  end
  return setmetatable(part, { __index = m })
end

local function targets_of(m) return type(m.path) == "table" and m.path.targets or {} end

-- A ledger's data in which each target has a measurement of its own; nil where there are none.
function M.data(data)
  local list, any = {}, false
  for _, m in ipairs(data.measurements) do
    for _, target in ipairs(targets_of(m)) do
      list[#list + 1], any = part_of(m, target.name, target.via), true
    end
    if #targets_of(m) == 0 then list[#list + 1] = m end
  end
  return any and setmetatable({ measurements = list }, { __index = data }) or nil
end

-- Whether a table is about targets.
function M.concerns(declaration)
  local found = declaration.pivot == "target" or (declaration.where or {}).target ~= nil
  for _, key in ipairs(declaration.rows) do found = found or key == "target" end
  for _, column in ipairs(declaration.columns) do found = found or (column.where or {}).target ~= nil end
  return found
end

return M
