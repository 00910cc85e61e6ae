-- knbl.kube.roster: the nodes of a run, chosen once, and found by number or name.
local choice = require "knbl.kube.nodes"
local errors = require "knbl.base.errors"
local inject = require "knbl.kube.inject"

local M = {}

-- Nodes that may not be looked at: those that were named, or where the standing agents are.
local function unseen(provider)
  local names = provider.settings.node_names or provider.standing and provider.standing:node_names()
  if not names then return nil end
  local nodes = {}
  for i, name in ipairs(names) do
    nodes[i] = { name = name, addresses = provider.standing and provider.standing:address_of(name) or {} }
  end
  return nodes
end

-- The run's nodes: a list | nil, err. Where nodes may not be listed, they must be named with --nodes.
function M.chosen(provider)
  if provider.nodes_chosen then return provider.nodes_chosen end
  local settings = provider.settings
  local list, err = provider.api:list "Node"
  local nodes, left_out
  if list then
    local unknown = choice.unknown(list.items, settings.node_names)
    if unknown then return nil, { code = "usage", message = unknown } end
    nodes, left_out = choice.choose(list.items, { nodes = settings.node_names, selector = settings.node_selector,
      tolerations = settings.tolerations, archs = not settings.image and inject.architectures() or nil,
      standing = provider.standing and provider.standing:by_node() })
    if #nodes == 0 then
      return nil, { code = "unavailable", message = "no node can be used: " .. table.concat(left_out, ", ") }
    end
  else
    nodes, left_out = err.status == 403 and unseen(provider) or nil, {}
    if not nodes then
      if err.status == 403 then
        err.message = err.message .. "; name the nodes with --nodes a,b, or permit 'list' on nodes"
      end
      return nil, err
    end
  end
  for i = #nodes, (settings.node_limit or #nodes) + 1, -1 do nodes[i] = nil end
  provider.nodes_chosen, provider.left_out, provider.nodes = nodes, left_out, #nodes
  return nodes
end

-- A node by its number or its name.
function M.named(provider, which)
  local nodes, err = M.chosen(provider)
  if not nodes then return nil, err end
  if type(which) == "number" then
    if nodes[which] then return nodes[which] end
    local others = #provider.left_out > 0 and " (left out: " .. table.concat(provider.left_out, ", ") .. ")" or ""
    return errors.skip("the cluster has %d node%s to use, this needs %d%s", #nodes, #nodes == 1 and "" or "s", which,
      others)
  end
  local names = {}
  for i, node in ipairs(nodes) do
    if node.name == which then return node end
    names[i] = node.name
  end
  return nil, { code = "argument", message = ("there is no node '%s' to use; there are: %s"):format(which,
    table.concat(names, ", ")) }
end

return M
