-- knbl.kube.balancer: the address of a Service of type LoadBalancer, and who should have given it one.
local explain = require "knbl.kube.explain"

local M = {}

-- { v4?, v6?, name? } of a Service's status; nil where it has none yet.
function M.addresses(service)
  local status = service.status and service.status.loadBalancer
  local found = {}
  for _, ingress in ipairs(status and status.ingress or {}) do
    local ip = ingress.ip
    local key = not ip and "name" or ip:find(":", 1, true) and "v6" or "v4"
    found[key] = found[key] or ip or ingress.hostname
  end
  return next(found) and found or nil
end

-- Who should have given it one, as far as the Service and the nodes tell.
local function giver(api, service, nodes)
  local class = service.spec.loadBalancerClass
  if class then return ("the controller of its loadBalancerClass, %s, should have given it one"):format(class) end
  for _, node in ipairs(nodes or {}) do
    local object = api:get("Node", node.name, { retry = 0 })
    local cloud = object and object.spec.providerID and object.spec.providerID:match "^([%w-]+)://"
    if cloud then return ("the nodes are in %s, whose cloud controller should have given it one"):format(cloud) end
  end
  return "the nodes are in no cloud, so that a controller such as MetalLB or kube-vip should have given it one"
end

-- Why a Service has no address after so many seconds: one line.
function M.missing(api, service, nodes, seconds)
  local list = api:list("Event", { field = "involvedObject.name=" .. service.metadata.name })
  local event = list and explain.events(list.items)
  return ("the LoadBalancer has no address after %g s: %s%s"):format(seconds,
    giver(api, service, nodes), event and " (" .. event .. ")" or "")
end

return M
