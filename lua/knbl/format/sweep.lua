-- knbl.format.sweep - the CSV of the Kubernetes network benchmark: a row for each path, the maximum first, then a
-- column for each value of what was swept; every field is followed by a comma.
--
--   MSS                                          , Maximum, 96, 160, 224,
--   1 iperf TCP. Same VM using Pod IP            ,35507.000000,33835,33430,35372,
local axes = require "knbl.results.axes"
local figures = require "knbl.results.figures"

local M = {}

local label_width = 45

local function padded(label)
  label = label:gsub("[\",\r\n]", " ")
  return label .. (" "):rep(label_width - #label)
end

local function number_of(cell)
  return cell.value and figures.in_unit(cell.figure, cell.value, cell.unit)
end

local function short(value)
  if value == math.floor(value) or value >= 1000 then return ("%.0f"):format(value) end
  return (value >= 1 and "%.2f" or "%.3g"):format(value)
end

-- A pivot grid as that CSV. A cell without a figure is empty; latencies give their minimum, since less is better.
function M.grid(grid)
  local head = { padded(grid.declaration.pivot:upper()) .. ", Maximum" }
  local least = figures.get(grid.declaration.columns[1].show).better == "less"
  if least then head[1] = padded(grid.declaration.pivot:upper()) .. ", Minimum" end
  local swept = 0
  for _, column in ipairs(grid.columns) do
    if column.pivot ~= axes.none then head[#head + 1], swept = " " .. column.title, swept + 1 end
  end
  local lines = { table.concat(head, ",") .. "," }
  for i, row in ipairs(grid.rows) do
    local values, best, last = {}, nil, 0
    local cells = row.extra and { row.extra } or row.cells
    for k = 1, math.min(#cells, math.max(1, swept)) do
      local cell = cells[k]
      local value = number_of(cell)
      if value and (not best or least and value < best or not least and value > best) then best = value end
      values[k] = value and short(value) or ""
      if value then last = k end
    end
    for k = #values, last + 1, -1 do values[k] = nil end
    local names = {}
    for k, value in ipairs(row.values) do names[k] = tostring(value) end
    local label = ("%d %s"):format(i, table.concat(names, " "))
    local fields = { padded(label), best and ("%.6f"):format(best) or "" }
    for _, value in ipairs(values) do fields[#fields + 1] = value end
    lines[#lines + 1] = table.concat(fields, ",") .. ","
  end
  return table.concat(lines, "\n") .. "\n"
end

return M
