-- knbl.kube.facts: what a cluster is made of, for the results: versions, network plugin, kube-proxy's mode, nodes. What may not be read, or is
-- not to be found, is named "unknown".
local choice = require "knbl.kube.nodes"

local M = {}

-- Names that the network plugins' own pods and annotations carry.
local plugins = { calico = "Calico", cilium = "Cilium", flannel = "Flannel", weave = "Weave Net", antrea = "Antrea", kindnet = "kindnet", canal = "Canal",
  ["kube-router"] = "kube-router", ["aws-node"] = "AWS VPC CNI", ["azure-cni"] = "Azure CNI", ovnkube = "OVN-Kubernetes", multus = "Multus" }
local annotations = { ["projectcalico.org/IPv4Address"] = "Calico", ["io.cilium.network.ipv4-pod-cidr"] = "Cilium", ["network.cilium.io/ipv4-pod-cidr"] = "Cilium",
  ["flannel.alpha.coreos.com/backend-type"] = "Flannel", ["node.antrea.io/mac-address"] = "Antrea", ["k8s.ovn.org/l3-gateway-config"] = "OVN-Kubernetes" }

local function plugin_of(api, nodes)
  for _, node in ipairs(nodes or {}) do
    for key, name in pairs(annotations) do
      local value = node.annotations and node.annotations[key]
      if value then return name == "Flannel" and "Flannel (" .. value .. ")" or name end
    end
  end
  local pods = api:list("Pod", { all_namespaces = true, field = "spec.hostNetwork=true" })
    or api:list("Pod", { namespace = "kube-system" })
  for _, pod in ipairs(pods and pods.items or {}) do
    for stem, name in pairs(plugins) do
      if pod.metadata.name:find(stem, 1, true) then return name end
    end
  end
end

local function proxy_mode(api)
  local config = api:get("ConfigMap", "kube-proxy", { namespace = "kube-system" })
  local text = config and config.data and config.data["config.conf"]
  if not text then return end
  local mode = text:match 'mode:%s*"?(%a*)"?'
  return mode and mode ~= "" and mode or "iptables (default)"
end

-- What an agent says of the network that it stands in.
function M.learn(known, node, about)
  local environment = about.environment
  if not known or type(environment) ~= "table" then return end
  for _, described in ipairs(known.nodes) do
    if described.name == node then
      described.mtu = environment.mtu or described.mtu
      described.congestion_control = environment.congestion_control or described.congestion_control
    end
  end
  if known.mtu == "unknown" then known.mtu = environment.mtu or "unknown" end
end

function M.read(api, nodes)
  local version = api:request("GET", "/version", { retry = 0 })
  if not nodes then
    local list = api:list "Node"
    nodes = list and choice.choose(list.items, {})
  end
  local described = {}
  for i, node in ipairs(nodes or {}) do
    described[i] = { name = node.name, kernel = node.kernel or "unknown", cpus = node.cpus or "unknown", zone = node.zone or "unknown",
      runtime = node.runtime or "unknown", arch = node.arch or "unknown", mtu = "unknown" }
  end
  return { kubernetes = version and version.gitVersion or "unknown", cni = plugin_of(api, nodes) or "unknown", proxy_mode = proxy_mode(api) or "unknown",
    nodes = described, mtu = "unknown", namespace = api.namespace, kernel = described[1] and described[1].kernel or "unknown" }
end

return M
