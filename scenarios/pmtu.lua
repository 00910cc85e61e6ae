-- Which packets does each path carry, and do larger ones vanish without a word?
local knbl = require "knbl"

local cluster <close> = knbl.cluster()
local node_a, node_b = cluster:nodes(2)
local client = cluster:pod { name = "client", node = node_a }
local near = cluster:pod { name = "near", node = node_a }
local far = cluster:pod { name = "far", node = node_b }

local paths = {
  "path", { "same node", client, near }, { "other node", client, far }, { "Service", client, far:service() },
  { "pod > node", client, node_b }, { "node > node", node_a, node_b },
}
for c in knbl.matrix { paths } do
  local r = knbl.pmtu { from = c.path[2], to = c.path[3], expect = "black_hole == 0" }
  if r.ok then
    for _, way in ipairs { "forward", "backward" } do
      knbl.note { text = ("%s, %s: %s"):format(c.path[1], way, r.metrics[way].summary) }
    end
  end
end

knbl.report { rows = "path", columns = { "mtu", "mtu_back", "black_hole" } }
