-- knbl.kube.way: how agents get onto a cluster's nodes. The first that works: "given" (--image NAME), "present" (every
-- chosen node has knbl:VERSION), "injected" (the agent from a ConfigMap, in an image that the node has).
local explain = require "knbl.kube.explain"
local image = require "knbl.kube.image"
local inject = require "knbl.kube.inject"
local owned = require "knbl.kube.owned"
local wish = require "knbl.kube.wish"

local M = {}

-- Whether every one of the nodes has the agent's own image; nil where nobody can say.
local function image_is_present(nodes)
  local all = true
  for _, node in ipairs(nodes) do
    local has = inject.has(node, wish.image())
    if has == nil then return nil end
    all = all and has
  end
  return all
end

-- The way for a run with these settings on these nodes. Nodes that cannot be asked are taken to have the image.
function M.choose(settings, nodes)
  if settings.image then return "given" end
  if settings.inject then return "injected" end
  return image_is_present(nodes) == false and "injected" or "present"
end

-- The DaemonSets' images by node. Only kube-system is looked into: that is one request, on a large cluster too, and
-- kube-proxy and most network plugins are there. Without permission for it the nodes' own lists have to do.
local function daemons_of(provider)
  if not provider.daemons then
    local list = provider.api:list("Pod", { namespace = "kube-system" })
    provider.daemons = inject.daemons(list and list.items or {})
  end
  return provider.daemons
end

-- The images that may carry an agent on a node, in the order in which they are tried.
function M.carriers(provider, node)
  local named = provider.settings.inject
  if type(named) == "string" then return { { image = named, policy = "IfNotPresent" } } end
  if not node.images then
    return nil, { code = "unavailable", message = ("the images of node %s cannot be listed; name one that it has \z
      with --inject=IMAGE, or permit 'list' on nodes"):format(node.name) }
  end
  local list = inject.carriers(node, daemons_of(provider)[node.name])
  if #list > 0 then return list end
  return nil, { code = "unavailable", message = ("node %s lists no image that could carry the agent; name one with \z
    --inject=IMAGE, or the agent's own image with --image"):format(node.name) }
end

-- The agent's ConfigMap for an architecture, made once a run.
local function pack(provider, arch)
  if provider.packed[arch] then return true end
  local object, err = inject.configmap(provider.run, arch)
  if not object then return nil, err end
  provider.packed[arch], err = owned.make(provider, object)
  if provider.packed[arch] then return true end
  return nil, { code = "unavailable", message = "the agent's ConfigMap: " .. explain.refusal(err, {}) }
end

-- The node of that name, or where none is named the first.
function M.node_named(nodes, name)
  for _, node in ipairs(nodes) do
    if node.name == name then return node end
  end
  return nodes[1] or { name = name or "unknown" }
end

-- The architecture of a node; where it may not be looked up, this machine's.
function M.arch(node) return node.arch or image.machine() end

-- Where an agent that was given no node may go: to any node that has what the first one has.
local function like(nodes, node, carrier)
  local names = {}
  for _, other in ipairs(nodes) do
    if other == node or other.arch == node.arch and inject.has(other, carrier.image) then
      names[#names + 1] = other.name
    end
  end
  return #names > 0 and names or nil
end

local function with_shell(list)
  local again = {}
  for i, carrier in ipairs(list) do again[i] = { image = carrier.image, policy = carrier.policy, shell = true } end
  return again
end

-- What an injected agent adds to what is wanted of its pod. node: where it goes, or like which.
function M.dress(run, nodes, node, want, carrier)
  want.body = inject.body(run, M.arch(node), carrier)
  want.nodes = not want.node and like(nodes, node, carrier) or nil
  want.user = not run.assigns_user and wish.USER or nil
end

-- Where an item of an injected agent goes, and the images that may carry it there.
local function begin(provider, nodes, item)
  local node = M.node_named(nodes, item.want.node)
  item.node, item.failed, item.i, item.attempt = node, {}, 1, 0
  local ok, err = pack(provider, M.arch(node))
  if not ok then item.err = err return end
  local known = provider.carrier[node.name]
  if known then item.list = { known } else item.list, item.err = M.carriers(provider, node) end
end

-- After an attempt: whether another is to follow, with the next image or by the shell of the same.
local function again(provider, item)
  local carrier, err, want = item.list[item.i], item.err, item.want
  if item.endpoint then
    provider.carrier[item.node.name] = carrier
    return false
  end
  local fault = err.pod and not want.runtime and inject.fault(err.message)
  if not fault then return false end
  provider:delete(want.name)
  item.failed[#item.failed + 1] = ("%s%s: %s"):format(carrier.image, carrier.shell and " (copied by its shell)" or "",
    explain.plain(err.message))
  item.i = item.i + 1
  if fault == "shell" and not carrier.shell then item.list, item.i = with_shell(item.list), 1 end
  if item.list[item.i] then return true end
  item.err = { code = "unavailable", message = ("no image on %s can carry the agent: %s; name another with \z
    --inject=IMAGE, or the agent's own image with --image"):format(item.node.name, table.concat(item.failed, "; ")) }
  return false
end

-- Makes pods of the images that may carry the agent until each item has one that comes up, or has no image left.
local function place_injected(provider, nodes, items, place)
  local list = {}
  for _, item in ipairs(items) do
    begin(provider, nodes, item)
    if not item.err then list[#list + 1] = item end
  end
  while #list > 0 do
    for _, item in ipairs(list) do
      item.attempt = item.attempt + 1
      item.want.attempt = item.attempt > 1 and item.attempt or nil
      M.dress(provider.run, nodes, item.node, item.want, item.list[item.i])
    end
    place(list)
    local next_list = {}
    for _, item in ipairs(list) do
      if again(provider, item) then next_list[#next_list + 1] = item end
    end
    list = next_list
  end
end

-- Makes the pods of agents by place(items), which sets `endpoint` or `err` of each (err.pod: it did not come up).
function M.place(provider, nodes, items, place)
  if not provider.way then
    provider.way = M.choose(provider.settings, nodes)
    provider.facts.agent_way = provider.way
  end
  if provider.way == "injected" then return place_injected(provider, nodes, items, place) end
  place(items)
end

local function add(known, key, value)
  if not value or value == "" then return end
  for word in (known[key] or ""):gmatch "[^,%s]+" do
    if word == value then return end
  end
  known[key] = known[key] and known[key] .. ", " .. value or value
end

-- Keeps for the results what an agent's pod runs, and how its file was executed.
function M.learn(provider, pod, about)
  local known, status = provider.facts, (pod.status.containerStatuses or {})[1]
  add(known, "agent_image", pod.spec.containers[1].image)
  add(known, "agent_digest", status and status.imageID and status.imageID:match "sha256:%x+")
  if provider.way ~= "injected" then return end
  local how = inject.way_of(type(about.environment) == "table" and about.environment.executable)
  add(known, "agent_run", how)
  if how == "memfd" and not provider.told_memfd then
    provider.told_memfd = true
    io.stderr:write(("knbl: agents run from memory (memfd) on %s: nothing can be executed in the pods' volumes; \z
      scanners may report it as fileless execution\n"):format(pod.spec.nodeName))
  end
end

return M
