-- knbl.kube.nodes: which nodes a run may use, in an order that does not change from run to run.
local is_ready = require("knbl.kube.pods").is_ready -- a node's condition is of the same form

local M = {}

local function tolerated(taint, tolerations)
  for _, t in ipairs(tolerations or {}) do
    local key_fits = not t.key or t.key == taint.key
    local value_fits = t.operator == "Exists" or not t.value or t.value == taint.value
    if key_fits and value_fits and (not t.effect or t.effect == taint.effect) then return true end
  end
  return false
end

-- Why a node cannot be used; nil where it can.
local function why_not(node, tolerations)
  if node.spec.unschedulable then return "cordoned" end
  if not is_ready(node) then return "not ready" end
  for _, taint in ipairs(node.spec.taints or {}) do
    if taint.effect ~= "PreferNoSchedule" and not tolerated(taint, tolerations) then
      return ("tainted %s%s:%s"):format(taint.key, taint.value and "=" .. taint.value or "", taint.effect)
    end
  end
end

local function matches(node, selector)
  local labels = node.metadata.labels or {}
  for pair in (selector or ""):gmatch "[^,]+" do
    local key, value = pair:match "^%s*([^=]+)=?=?(.-)%s*$"
    if value ~= "" and labels[key] ~= value or labels[key] == nil then return false end
  end
  return true
end

-- What is wrong with names that were asked for: nil where every one is a node's.
function M.unknown(items, names)
  local there = {}
  for i, node in ipairs(items) do there[i] = node.metadata.name end
  table.sort(there)
  for _, name in ipairs(names or {}) do
    local found = false
    for _, known in ipairs(there) do found = found or known == name end
    if not found then
      return ("--nodes: there is no node '%s'; there are: %s"):format(name, table.concat(there, ", "))
    end
  end
end

-- Why agents cannot run there at all: another system, or an architecture that there is no agent for.
local function foreign(node, archs)
  local info = node.status.nodeInfo or {}
  if (info.operatingSystem or "linux") ~= "linux" then
    return ("%s: agents run on Linux only"):format(info.operatingSystem)
  end
  if archs and info.architecture and not archs[info.architecture] then
    return ("%s: this knbl has no agent for it; --image names an image that has"):format(info.architecture)
  end
end

-- options: nodes (names, in order), selector, tolerations, archs (those that there are agents for; nil: all), standing
-- (how many agents stand on a node: then those nodes are meant, whatever may be scheduled there) -> list of { name,
-- zone, arch, … }, reasons of those left out
function M.choose(items, options)
  local by_name, chosen, left_out = {}, {}, {}
  for _, node in ipairs(items) do by_name[node.metadata.name] = node end
  local names = options.nodes
  if not names then
    names = {}
    for name in pairs(by_name) do names[#names + 1] = name end
    table.sort(names)
  end
  for _, name in ipairs(names) do
    local node = by_name[name]
    local why
    if not node then why = "not in this cluster"
    elseif options.standing then why = not options.standing[name] and "no agent stands there" or nil
    else why = why_not(node, options.tolerations) or foreign(node, options.archs) end
    if not why and not matches(node, options.selector) then why = "not selected" end
    if why then left_out[#left_out + 1] = ("%s (%s)"):format(name, why) else chosen[#chosen + 1] = M.describe(node) end
  end
  return chosen, left_out
end

function M.describe(node)
  local labels, info = node.metadata.labels or {}, node.status.nodeInfo or {}
  local addresses = {}
  for _, a in ipairs(node.status.addresses or {}) do
    if a.type == "InternalIP" then addresses[a.address:find(":", 1, true) and "v6" or "v4"] = a.address end
  end
  return { name = node.metadata.name, zone = labels["topology.kubernetes.io/zone"]
    or labels["failure-domain.beta.kubernetes.io/zone"],
    arch = info.architecture, kernel = info.kernelVersion, os = info.osImage, kubelet = info.kubeletVersion,
      runtime = info.containerRuntimeVersion,
    cpus = node.status.capacity and node.status.capacity.cpu, addresses = addresses, images = node.status.images,
    annotations = node.metadata.annotations, labels = labels }
end

-- The addresses of nodes, in order.
function M.addresses(nodes)
  local list = {}
  for _, node in ipairs(nodes) do
    for _, address in pairs(node.addresses) do list[#list + 1] = address end
  end
  table.sort(list)
  return list
end

return M
