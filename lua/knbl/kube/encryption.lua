-- knbl.kube.encryption - whether the network of a cluster encrypts what its nodes send each other for pods, as Calico
-- and Cilium are configured.
local M = {}

local FELIX = { api = "crd.projectcalico.org/v1", kind = "FelixConfiguration" }

-- "wireguard", "ipsec" or "none", and where that is said; nil where neither configuration can be read.
function M.find(api)
  local felix = api:get(FELIX, "default")
  if felix and felix.spec and felix.spec.wireguardEnabled then return "wireguard", "Calico's FelixConfiguration" end
  local cilium = api:get("ConfigMap", "cilium-config", { namespace = "kube-system" })
  local data = cilium and cilium.data or {}
  if data["enable-wireguard"] == "true" then return "wireguard", "cilium-config" end
  if data["enable-ipsec"] == "true" then return "ipsec", "cilium-config" end
  return "none", felix and "Calico's FelixConfiguration" or cilium and "cilium-config"
    or "neither Calico nor Cilium is configured to encrypt"
end

-- Why a cluster's traffic is not encrypted as asked for, or nil.
function M.differs(api, wanted)
  local found, where = M.find(api)
  if found == wanted then return nil end
  return ("the cluster's network uses encryption '%s', not '%s' (%s)"):format(found, wanted, where)
end

return M
