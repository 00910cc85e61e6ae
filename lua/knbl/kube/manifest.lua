-- knbl.kube.manifest: the objects that a run makes. Everything is owned by one ConfigMap of the run, labelled, bounded in time, and meets Pod
-- Security "restricted"; only host-network pods ask for more, and only they.
local M = {}

M.AGENT_PORT = 7099
M.MANAGED = "app.kubernetes.io/managed-by"
M.RUN = "knbl.io/run"
M.POD = "knbl.io/pod"

local function meta(run, name, more)
  local labels = { [M.MANAGED] = "knbl", [M.RUN] = run.id }
  for k, v in pairs(more or {}) do labels[k] = v end
  return { name = name, namespace = run.namespace, labels = labels, ownerReferences = run.owner and { run.owner } }
end

-- The object that owns all others: delete it, and the garbage collector takes the rest.
function M.owner(run)
  return { apiVersion = "v1", kind = "ConfigMap", metadata = meta(run, "knbl-" .. run.id),
    data = { scenario = run.scenario or "", started = run.started } }
end

function M.owner_reference(configmap)
  return { apiVersion = "v1", kind = "ConfigMap", name = configmap.metadata.name, uid = configmap.metadata.uid }
end

function M.secret(run)
  return { apiVersion = "v1", kind = "Secret", type = "Opaque", metadata = meta(run, "knbl-" .. run.id), stringData = { token = run.token } }
end

local function resources(want)
  if not want.cpu and not want.memory then return { requests = { cpu = "100m", memory = "64Mi" } } end
  local amount = { cpu = want.cpu and tostring(want.cpu), memory = want.memory or "256Mi" }
  return { requests = amount, limits = amount } -- equal: quality of service "Guaranteed"
end

-- Pod Security "restricted". An agent in a node's network cannot have its own ping_group_range, so it pings by a raw socket: root, with that one capability.
local function confined(host_network)
  local context = { allowPrivilegeEscalation = false, runAsNonRoot = true, runAsUser = 65532, runAsGroup = 65532, readOnlyRootFilesystem = true,
    capabilities = { drop = { "ALL" } } }
  if host_network then
    context.runAsNonRoot, context.runAsUser, context.runAsGroup, context.capabilities.add = false, 0, 0, { "NET_RAW" }
  end
  return context
end

local function pod_security(host_network)
  local context = { fsGroup = 65532, seccompProfile = { type = "RuntimeDefault" } }
  if not host_network then
    context.runAsNonRoot = true
    context.sysctls = { { name = "net.ipv4.ping_group_range", value = "0 2147483647" } } -- a safe one: datagram ICMP for everyone in the pod
  end
  return context
end

-- want: name, agent (the name it answers by), node, port, host_network, runtime, image, pull_secret, cpu, memory, tolerations, annotations, max_duration (seconds)
function M.pod(run, want)
  local annotations = want.annotations
  if want.bandwidth then
    annotations = annotations or {}
    annotations["kubernetes.io/ingress-bandwidth"], annotations["kubernetes.io/egress-bandwidth"] = want.bandwidth, want.bandwidth
  end
  local metadata = meta(run, ("knbl-%s-%s"):format(run.id, want.name), { [M.POD] = want.name })
  metadata.annotations = annotations
  return { apiVersion = "v1", kind = "Pod", metadata = metadata,
    spec = {
      hostNetwork = want.host_network or nil, runtimeClassName = want.runtime, restartPolicy = "Never", automountServiceAccountToken = false,
      enableServiceLinks = false, terminationGracePeriodSeconds = 1, activeDeadlineSeconds = want.max_duration, tolerations = want.tolerations,
      imagePullSecrets = want.pull_secret and { { name = want.pull_secret } } or nil,
      securityContext = pod_security(want.host_network),
      -- by the scheduler, so that taints, quota and room count; to one node, so that the path is the one asked for
      affinity = want.node and { nodeAffinity = { requiredDuringSchedulingIgnoredDuringExecution = { nodeSelectorTerms = {
        { matchFields = { { key = "metadata.name", operator = "In", values = { want.node } } } } } } } } or nil,
      containers = { {
        name = "agent", image = want.image, imagePullPolicy = "IfNotPresent",
        args = { "agent", "--listen", ":" .. want.port, "--token-file", "/etc/knbl/token", "--name", want.agent or want.name, "--node", "$(NODE_NAME)" },
        env = { { name = "NODE_NAME", valueFrom = { fieldRef = { fieldPath = "spec.nodeName" } } } },
        ports = { { name = "knbl-tcp", containerPort = want.port, protocol = "TCP" }, { name = "knbl-udp", containerPort = want.port, protocol = "UDP" } },
        securityContext = confined(want.host_network), resources = resources(want),
        volumeMounts = { { name = "token", mountPath = "/etc/knbl", readOnly = true } },
      } },
      volumes = { { name = "token", secret = { secretName = "knbl-" .. run.id, defaultMode = 288 } } }, -- 0440
    } }
end

-- want: name, selector, port, type, headless, affinity, families
function M.service(run, want)
  local port = want.port or M.AGENT_PORT
  return { apiVersion = "v1", kind = "Service", metadata = meta(run, ("knbl-%s-%s"):format(run.id, want.name)),
    spec = { type = want.type or "ClusterIP", clusterIP = want.headless and "None" or nil, selector = want.selector,
      sessionAffinity = want.affinity and "ClientIP" or nil, ipFamilyPolicy = want.dual and "PreferDualStack" or nil,
      ports = { { name = "knbl-tcp", port = M.AGENT_PORT, targetPort = port, protocol = "TCP" },
        { name = "knbl-udp", port = M.AGENT_PORT, targetPort = port, protocol = "UDP" } } } }
end

return M
