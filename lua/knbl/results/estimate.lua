-- knbl.results.estimate - a figure of repeats with what is known of its certainty, or why it cannot be judged.
local figures = require "knbl.results.figures"
local json = require "knbl.json"

local M = {}

local z = 1.96

local percentiles = { p50 = 50, p90 = 90, p95 = 95, p99 = 99, p999 = 99.9, p9999 = 99.99 }

-- The bounds of a percentile by the order statistics around it.
local function percentile_bounds(core, m, percent, count)
  if type(m.latency_histogram) ~= "table" then return nil end
  local p = percent / 100
  local spread = z * math.sqrt(p * (1 - p) / count) * 100
  local list = core.hist_percentile(json.encode(m.latency_histogram),
    { math.max(0, percent - spread), math.min(100, percent + spread) })
  if list then return list[1], list[2] end
end

local function series_bounds(m, value, key)
  local list = m.metrics.intervals
  if type(list) ~= "table" or #list < 5 then return nil end
  local sum, squares, n = 0, 0, 0
  for _, point in ipairs(list) do
    local x = type(point) == "table" and tonumber(point[key])
    if x then sum, squares, n = sum + x, squares + x * x, n + 1 end
  end
  if n < 5 or sum == 0 then return nil end
  local mean = sum / n
  local relative = z * math.sqrt(math.max(0, squares / n - mean * mean) / (n - 1)) / mean
  return math.max(0, value * (1 - relative)), value * (1 + relative)
end

-- So many samples of which all hold a limit carry a percentile with 95 %: less than share^n is the chance that all of n
-- lie below a percentile that lies beyond the limit.
function M.samples_that_all_hold(share) return math.ceil(math.log(0.05) / math.log(share)) end

-- Why the figure of repeats cannot be judged, or nil. Their samples count together.
local function too_few(group, figure, limit)
  local count = figures.samples_of(group)
  local needed, share = figures.samples_for(figure)
  if needed and count and count < needed then
    return ("%d samples; %s needs %d, or %d that all hold the limit"):format(count, figure.name, needed,
      M.samples_that_all_hold(share))
  elseif figure.name == "mean" or figure.name == "latency" then
    if count and count < 30 then return ("%d samples; a mean needs 30"):format(count) end
  elseif figure.name == "loss" then
    local sent, wanted = nil, limit and limit > 0 and math.ceil(3 / limit) or 100
    for _, m in ipairs(group) do
      if m.ok and tonumber(m.metrics.sent) then sent = (sent or 0) + m.metrics.sent end
    end
    if sent and sent < wanted then return ("%d sent; this loss needs %d"):format(sent, wanted) end
  end
end

local function bounds_of(core, m, figure, value)
  local percent = percentiles[figure.name]
  local latency = m.metrics.latency_ns
  local count = type(latency) == "table" and tonumber(latency.count)
  if percent and count and count > 0 then return percentile_bounds(core, m, percent, count) end
  if (figure.name == "mean" or figure.name == "latency") and count and count > 1 and tonumber(latency.stddev) then
    local half = z * latency.stddev / math.sqrt(count)
    return math.max(0, value - half), value + half
  end
  if figure.name == "throughput" or figure.name == "rate" then
    return series_bounds(m, value, figure.name == "throughput" and "bps" or "ops_per_s")
  end
end

-- { value, low, high, n } of a group of repeats, or nil and the reason.
function M.of(core, group, figure, limit)
  local values, reason = {}, nil
  for _, m in ipairs(group) do
    local value = m.ok and figures.value(m, figure)
    if value then
      values[#values + 1] = value
    else
      reason = reason or (m.skipped and "skipped: " .. m.skipped)
        or (not m.ok and "failed: " .. ((m.error or {}).message or "")) or nil
    end
  end
  if #values == 0 then return nil, reason or ("%s was not measured"):format(figure.title) end
  reason = reason or too_few(group, figure, limit)
  if reason then return nil, reason end
  if #values == 1 then
    local low, high = bounds_of(core, group[1], figure, values[1])
    return { value = values[1], low = low or values[1], high = high or values[1], n = 1 }
  end
  local median, low, high = core.median_interval(values, 0.95)
  if not low then
    low, high = math.huge, -math.huge
    for _, value in ipairs(values) do low, high = math.min(low, value), math.max(high, value) end
  end
  return { value = median, low = low, high = high, n = #values }
end

return M
