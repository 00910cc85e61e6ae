-- knbl.kube.facts: what a cluster is made of, for the results: versions, network plugin, kube-proxy's mode, nodes. What
-- may not be read, or is not to be found, is named "unknown".
local core = require "knbl.core"
local json = require "knbl.json"
local choice = require "knbl.kube.nodes"

local M = {}

-- Network plugins by what only they put on nodes; a plugin that stands on another's (Canal: Calico's policies over
-- Flannel) comes first.
local annotations = {
  { "projectcalico.org/IPv4Address", "Calico" }, { "projectcalico.org/IPv6Address", "Calico" },
    { "network.cilium.io/ipv4-pod-cidr", "Cilium" },
  { "io.cilium.network.ipv4-pod-cidr", "Cilium" }, { "network.cilium.io/ipv6-pod-cidr", "Cilium" },
    { "node.antrea.io/mac-address", "Antrea" },
  { "k8s.ovn.org/l3-gateway-config", "OVN-Kubernetes" }, { "k8s.ovn.org/node-subnets", "OVN-Kubernetes" },
    { "flannel.alpha.coreos.com/backend-type", "Flannel" },
  { "kube-router.io/pod-cidr", "kube-router" }, { "weave.works/overlay", "Weave Net" },
}

-- And by the names of their own pods, which are on the nodes' networks.
local plugins = {
  { "canal", "Canal" }, { "calico-node", "Calico" }, { "cilium", "Cilium" }, { "kube-flannel", "Flannel" },
    { "kindnet", "kindnet" }, { "antrea-agent", "Antrea" },
  { "weave-net", "Weave Net" }, { "kube-router", "kube-router" }, { "aws-node", "AWS VPC CNI" },
    { "azure-cni", "Azure CNI" }, { "ovnkube", "OVN-Kubernetes" },
  { "netd", "GKE" }, { "kube-ovn", "Kube-OVN" },
}

local function by_annotation(nodes)
  for _, pair in ipairs(annotations) do
    for _, node in ipairs(nodes or {}) do
      local value = node.annotations and node.annotations[pair[1]]
      if value then return pair[2] == "Flannel" and ("Flannel (%s)"):format(value) or pair[2] end
    end
  end
end

local function by_pods(pods)
  for _, pair in ipairs(plugins) do
    for _, pod in ipairs(pods) do
      if pod.metadata.name:find(pair[1], 1, true) == 1 then return pair[2] end
    end
  end
end

-- By its ConfigMap, which some leave to be read by everyone.
local configurations = { { "cilium-config", "Cilium" }, { "calico-config", "Calico" },
  { "kube-flannel-cfg", "Flannel" }, { "antrea-config", "Antrea" } }

local function plugin_of(api, nodes, configmap)
  local found = by_annotation(nodes)
  if found then return found end
  -- the field is 1.28's
  for _, where in ipairs { { all_namespaces = true, field = "spec.hostNetwork=true" },
    { namespace = "kube-system" } } do
    local pods = api:list("Pod", where)
    found = pods and by_pods(pods.items)
    if found then return found end
  end
  for _, pair in ipairs(configurations) do
    if configmap(pair[1]) then return pair[2] end
  end
end

-- The mode in a kube-proxy configuration, which is YAML: "" is the default of the version.
local function mode_in(text)
  local parsed = core.yaml_parse(text)
  for _, document in ipairs(parsed and json.decode(parsed) or {}) do
    if type(document) == "table" and document.kind == "KubeProxyConfiguration" then
      return type(document.mode) == "string" and document.mode ~= "" and document.mode or "iptables (default)"
    end
  end
end

-- What stands in for kube-proxy, or how it is set up: from the configuration of Cilium, of kubeadm and its kin, or the
-- words of its DaemonSet.
local function proxy_mode(api, configmap)
  local cilium = configmap "cilium-config"
  local replaced = cilium and cilium["kube-proxy-replacement"]
  if replaced == "true" or replaced == "strict" then return "Cilium (eBPF)" end
  for _, name in ipairs { "kube-proxy", "kube-proxy-config" } do
    for _, text in pairs(configmap(name) or {}) do
      local mode = mode_in(text)
      if mode then return mode end
    end
  end
  local set = api:get({ api = "apps/v1", kind = "DaemonSet" }, "kube-proxy", { namespace = "kube-system", retry = 0 })
  for _, container in ipairs(set and set.spec.template.spec.containers or {}) do
    local words = table.concat(container.command or {}, " ") .. " " .. table.concat(container.args or {}, " ") .. " "
    local mode = words:match "%-%-proxy%-mode[= ](%w+)"
    if mode then return mode end
  end
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
  for _, key in ipairs { "mtu", "proxy_mode" } do -- an agent in a node's network asks its kube-proxy
    if known[key] == "unknown" then known[key] = environment[key] or "unknown" end
  end
end

function M.read(api, nodes)
  local version = api:request("GET", "/version", { retry = 0 })
  local function configmap(name)
    local object = api:get("ConfigMap", name, { namespace = "kube-system", retry = 0 })
    return object and object.data
  end
  if not nodes then
    local list = api:list "Node"
    nodes = list and choice.choose(list.items, {})
  end
  local described = {}
  for i, node in ipairs(nodes or {}) do
    described[i] = { name = node.name, kernel = node.kernel or "unknown", cpus = node.cpus or "unknown",
      zone = node.zone or "unknown",
      runtime = node.runtime or "unknown", arch = node.arch or "unknown", mtu = "unknown" }
  end
  return { kubernetes = version and version.gitVersion or "unknown",
    cni = plugin_of(api, nodes, configmap) or "unknown", proxy_mode = proxy_mode(api, configmap) or "unknown",
    nodes = described, mtu = "unknown", namespace = api.namespace,
      kernel = described[1] and described[1].kernel or "unknown" }
end

return M
