-- knbl.mesh.heat - the map of a mesh: clients are rows, servers are columns, both sorted by zone and rack. If there are
-- more than MOST nodes, a row stands for a rack, or for a few nodes that follow each other.
local numbers = require "knbl.mesh.numbers"

local M = { MOST = 48 }

-- A key that sorts "node-9" before "node-10".
local function natural(name)
  return (tostring(name):gsub("%d+", function(digits) return ("0"):rep(20 - #digits) .. digits end))
end

-- The numbers of the nodes in the order of zone, rack and name.
function M.order(nodes)
  local keys, order = {}, {}
  for i, node in ipairs(nodes) do
    keys[i] = table.concat({ natural(node.zone or ""), natural(node.rack or ""), natural(node.name) }, "\31")
    order[i] = i
  end
  table.sort(order, function(a, b)
    if keys[a] ~= keys[b] then return keys[a] < keys[b] end
    return a < b
  end)
  return order
end

local function name_of_group(nodes, first, last)
  local a, b = nodes[first], nodes[last]
  if first == last then return a.name end
  if a.rack and a.rack == b.rack and a.zone == b.zone then return a.zone and a.zone .. "/" .. a.rack or a.rack end
  return ("%s … %s"):format(a.name, b.name)
end

-- The groups of a map, each a list of node numbers; and the group of each node.
function M.groups(nodes)
  local order, groups, of = M.order(nodes), {}, {}
  local racks, last = 0, nil
  for _, i in ipairs(order) do
    local rack = nodes[i].rack and (nodes[i].zone or "") .. "\31" .. nodes[i].rack
    if not rack or rack ~= last then racks = racks + 1 end
    last = rack
  end
  local by_rack = #nodes > M.MOST and racks <= M.MOST
  local each = math.ceil(#nodes / M.MOST)
  last = nil
  for at, i in ipairs(order) do
    local rack = (nodes[i].zone or "") .. "\31" .. (nodes[i].rack or nodes[i].name)
    local fresh = by_rack and rack ~= last or not by_rack and (at - 1) % each == 0
    if fresh then groups[#groups + 1] = {} end
    table.insert(groups[#groups], i)
    of[i], last = #groups, rack
  end
  for g, group in ipairs(groups) do
    group.name, group.zone = name_of_group(nodes, group[1], group[#group]), nodes[group[1]].zone
    groups[g] = group
  end
  return groups, of
end

-- The cells of a figure: { { row, column, change }… }. change is the median of the cell's values, relative to the usual
-- value: 0.1 is 10 % more. value_of returns the value of a pair, or nil.
function M.cells(groups, of, list, value_of, usual)
  local values = {}
  for _, pair in ipairs(list) do
    local value = value_of(pair)
    if value then
      local key = (of[pair[1]] - 1) * #groups + of[pair[2]]
      values[key] = values[key] or {}
      table.insert(values[key], value)
    end
  end
  local cells = {}
  for r = 1, #groups do
    for c = 1, #groups do
      local found = values[(r - 1) * #groups + c]
      if found then
        cells[#cells + 1] = { r, c, math.floor((numbers.median(found) / usual - 1) * 1e4 + 0.5) / 1e4 }
      end
    end
  end
  return cells
end

return M
