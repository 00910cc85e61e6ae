-- knbl.kube.networks - a pod's secondary networks, as Multus attaches them: asked for by one annotation, told by
-- another.
local json = require "knbl.json"

local M = {}

M.WANTED, M.STATUS = "k8s.v1.cni.cncf.io/networks", "k8s.v1.cni.cncf.io/network-status"

-- The annotations of a pod that asks for `networks`, a list of [NAMESPACE/]NAME[@INTERFACE], beside its own.
function M.annotate(annotations, networks)
  if not networks then return annotations end
  local all = {}
  for key, value in pairs(annotations or {}) do all[key] = value end
  all[M.WANTED] = table.concat(networks, ", ")
  return all
end

-- A pod's networks beside its own: a list of { name, interface, addresses } | nil, err where no Multus told them.
function M.of(pod)
  local text = (pod.metadata.annotations or {})[M.STATUS]
  if not text then
    return nil, { code = "unavailable", message = ("%s has no annotation %s: secondary networks require Multus, which \z
      does not seem to run on node %s"):format(pod.metadata.name, M.STATUS, pod.spec.nodeName) }
  end
  local list, networks = json.decode(text), {}
  if type(list) ~= "table" then
    return nil, { code = "protocol", message = ("%s: annotation %s must be a JSON list, got '%s'"):format(
      pod.metadata.name, M.STATUS, text:sub(1, 80)) }
  end
  for _, status in ipairs(list) do
    if type(status) == "table" and status.default ~= true then
      local addresses = {}
      for _, ip in ipairs(type(status.ips) == "table" and status.ips or {}) do
        local family = tostring(ip):find(":", 1, true) and "v6" or "v4"
        addresses[family] = addresses[family] or tostring(ip):match "^[^/]+"
      end
      networks[#networks + 1] = { name = tostring(status.name), interface = status.interface, addresses = addresses }
    end
  end
  return networks
end

return M
