-- knbl.kube.manifest: the objects that a run makes. Everything is owned by one ConfigMap of the run, labelled, bounded
-- in time, and meets Pod Security "restricted"; only host-network pods ask for more, and only they.
local M = {}

M.AGENT_PORT = 7099
M.MANAGED = "app.kubernetes.io/managed-by"
M.RUN = "knbl.io/run"
M.POD = "knbl.io/pod"

-- A name that Kubernetes takes wherever one is asked for: a DNS label of at most 63; what had to be cut or changed
-- stays distinct by its sum.
function M.label(text)
  local fit = text:lower():gsub("[^%w-]", "-"):gsub("^%-+", ""):gsub("%-+$", "")
  if fit == text and #text <= 63 then return text end
  local sum = 2166136261
  for i = 1, #text do sum = (sum ~ text:byte(i)) * 16777619 % 4294967296 end
  return ("%s-%08x"):format(fit:sub(1, 54):gsub("%-+$", ""), sum)
end

-- What the object of a thing of the scenario is called.
function M.object_name(run, name) return M.label(("knbl-%s-%s"):format(run.id, name)) end

local function meta(run, name, more)
  local labels = {}
  for k, v in pairs(more or {}) do labels[k] = v end
  labels[M.MANAGED], labels[M.RUN] = "knbl", run.id
  return { name = name, namespace = run.namespace, labels = labels, ownerReferences = run.owner and { run.owner } }
end

-- An object that a script brings, as one of the run's.
function M.adopt(run, object)
  local own = object.metadata or {}
  local metadata = meta(run, own.name or M.object_name(run, (object.kind or "object"):lower()), own.labels)
  metadata.annotations = own.annotations
  local copy = {}
  for k, v in pairs(object) do copy[k] = v end
  copy.metadata = metadata
  return copy
end

-- The object that owns all others: delete it, and the garbage collector takes the rest.
function M.owner(run)
  return { apiVersion = "v1", kind = "ConfigMap", metadata = meta(run, "knbl-" .. run.id),
    data = { scenario = run.scenario or "", started = run.started } }
end

function M.owner_reference(configmap)
  return { apiVersion = "v1", kind = "ConfigMap", name = configmap.metadata.name, uid = configmap.metadata.uid }
end

-- What tells `knbl clean` of an object that is in no namespace, should the run be killed: made before it, and outlives
-- the owner.
function M.outside(run, resource, name)
  local metadata = meta(run, M.object_name(run, resource.kind:lower() .. "-" .. name))
  metadata.ownerReferences = nil
  return { apiVersion = "v1", kind = "ConfigMap", metadata = metadata,
    data = { api = resource.api, kind = resource.kind, outside = name } }
end

-- A ConfigMap of the run; more: its data and whatever else it has.
function M.configmap(run, name, more)
  local object = { apiVersion = "v1", kind = "ConfigMap", metadata = meta(run, name) }
  for key, value in pairs(more) do object[key] = value end
  return object
end

function M.secret(run)
  return { apiVersion = "v1", kind = "Secret", type = "Opaque", metadata = meta(run, "knbl-" .. run.id),
    stringData = { token = run.token } }
end

local function resources(want)
  if not want.cpu and not want.memory then return { requests = { cpu = "100m", memory = "64Mi" } } end
  local amount = { cpu = want.cpu and tostring(want.cpu), memory = want.memory or "256Mi" }
  return { requests = amount, limits = amount } -- equal: quality of service "Guaranteed"
end

-- Pod Security "restricted". No user is asked for where the image names its own, or the namespace assigns one
-- (OpenShift): want.user is set for images whose user is not known. An agent in a node's network cannot have its own
-- ping_group_range, so it pings by a raw socket: root, with that one capability. An image of the user's runs as whom it
-- says, unless its namespace wants more.
local function confined(want)
  if want.own and not want.restricted then return { allowPrivilegeEscalation = false } end
  local context = { allowPrivilegeEscalation = false, runAsNonRoot = true, runAsUser = want.user,
    runAsGroup = want.user, readOnlyRootFilesystem = not want.own or nil, capabilities = { drop = { "ALL" } } }
  if want.host_network then
    context.runAsNonRoot, context.runAsUser, context.runAsGroup, context.capabilities.add = false, 0, 0, { "NET_RAW" }
  end
  return context
end

local function pod_security(want)
  local context = { seccompProfile = { type = "RuntimeDefault" } }
  if want.own and not want.restricted then return context end
  if not want.host_network then
    context.runAsNonRoot = true
    -- a safe one: datagram ICMP for everyone in the pod
    context.sysctls = { { name = "net.ipv4.ping_group_range", value = "0 2147483647" } }
  end
  return context
end

-- nil where there is none: an empty table would go out as an object.
local function sorted_env(env)
  if not env or not next(env) then return nil end
  local list = {}
  for name, value in pairs(env) do list[#list + 1] = { name = name, value = tostring(value) } end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

-- The container of an image of the user's: ready once its port takes connections.
local function own_container(want)
  return { name = "server", image = want.image, imagePullPolicy = "IfNotPresent", command = want.command,
    env = sorted_env(want.env),
    ports = { { name = "own", containerPort = want.port, protocol = "TCP" } },
      readinessProbe = { tcpSocket = { port = want.port }, periodSeconds = 1 },
    terminationMessagePolicy = "FallbackToLogsOnError", securityContext = confined(want), resources = resources(want) }
end

-- body: what knbl.kube.inject makes of an agent that is not in the image
local function agent_container(run, want)
  local env = sorted_env(want.env) or {}
  env[#env + 1] = { name = "NODE_NAME", valueFrom = { fieldRef = { fieldPath = "spec.nodeName" } } }
  local body = want.body or { image = want.image, policy = "IfNotPresent" }
  local mounts = { { name = "token", mountPath = "/etc/knbl", readOnly = true } }
  table.move(body.mounts or {}, 1, #(body.mounts or {}), 2, mounts)
  return { name = "agent", image = body.image, imagePullPolicy = body.policy, env = env, command = body.command,
    args = { "agent", "--listen", ":" .. want.port, "--token-file", "/etc/knbl/token", "--name",
      want.agent or want.name, "--node", "$(NODE_NAME)", run.idle and "--idle", run.idle },
    ports = { { name = "knbl-tcp", containerPort = want.port, protocol = "TCP" },
      { name = "knbl-udp", containerPort = want.port, protocol = "UDP" } },
    terminationMessagePolicy = "FallbackToLogsOnError", securityContext = confined(want), resources = resources(want),
    volumeMounts = mounts }
end

local function volumes(run, want)
  if want.own then return nil end
  -- readable for whichever user the pod gets: nobody else is in it
  local list = { { name = "token", secret = { secretName = "knbl-" .. run.id, defaultMode = 292 } } } -- 0444
  local more = want.body and want.body.volumes or {}
  table.move(more, 1, #more, 2, list)
  return list
end

-- By the scheduler, so that taints, quota and room count; to one node, so that the path is the one asked for, or to one
-- of those that have the image.
local function on_nodes(names)
  local terms = {}
  for i, name in ipairs(names) do
    terms[i] = { matchFields = { { key = "metadata.name", operator = "In", values = { name } } } }
  end
  return { nodeAffinity = { requiredDuringSchedulingIgnoredDuringExecution = { nodeSelectorTerms = terms } } }
end

-- want: name, agent (the name it answers by), node, nodes (any of them), port, host_network, runtime, image, user, body
-- (knbl.kube.inject), pull_secret, cpu, memory, tolerations, labels, annotations, env, bandwidth (bits a second),
-- max_duration (seconds), attempt (the number of a second pod for the same thing); own = true with command?: an image
-- of the user's, which has no agent
function M.pod(run, want)
  local labels, annotations = {}, nil
  for k, v in pairs(want.labels or {}) do labels[k] = v end
  labels[M.POD] = M.label(want.name)
  for k, v in pairs(want.annotations or {}) do annotations = annotations or {} annotations[k] = v end
  if want.bandwidth then
    annotations = annotations or {}
    for _, way in ipairs { "ingress", "egress" } do
      annotations[("kubernetes.io/%s-bandwidth"):format(way)] = ("%d"):format(want.bandwidth)
    end
  end
  local metadata = meta(run, M.object_name(run, want.name .. (want.attempt and "-" .. want.attempt or "")), labels)
  metadata.annotations = annotations
  local nodes = want.node and { want.node } or want.nodes
  return { apiVersion = "v1", kind = "Pod", metadata = metadata,
    spec = {
      hostNetwork = want.host_network or nil, runtimeClassName = want.runtime, restartPolicy = "Never",
        automountServiceAccountToken = false,
      enableServiceLinks = false, terminationGracePeriodSeconds = 1, activeDeadlineSeconds = want.max_duration,
        tolerations = want.tolerations,
      imagePullSecrets = want.pull_secret and { { name = want.pull_secret } } or nil,
      securityContext = pod_security(want), affinity = nodes and on_nodes(nodes) or nil,
      containers = { want.own and own_container(want) or agent_container(run, want) },
      volumes = volumes(run, want),
    } }
end

-- Lets the run's pods reach each other and the agents in the networks of `nodes` (a list of addresses), and control
-- reach them, where other policies deny what is not allowed. The agents serve only those who know the run's secret.
function M.allow(run, nodes)
  local own = { podSelector = { matchLabels = { [M.RUN] = run.id } } }
  local to = { own }
  for _, address in ipairs(nodes) do
    to[#to + 1] = { ipBlock = { cidr = address .. (address:find(":", 1, true) and "/128" or "/32") } }
  end
  local ports = { { port = M.AGENT_PORT, protocol = "TCP" }, { port = M.AGENT_PORT, protocol = "UDP" } }
  return { apiVersion = "networking.k8s.io/v1", kind = "NetworkPolicy", metadata = meta(run, "knbl-" .. run.id),
    spec = { podSelector = own.podSelector, policyTypes = { "Ingress", "Egress" },
      ingress = { { from = { own } }, { ports = ports } }, egress = { { to = to } } } }
end

-- The labels of a pod that the run made; nil of another.
local function own_labels(run, endpoint)
  local labels = endpoint.labels or {}
  return labels[M.RUN] == run.id and labels[M.POD] and { [M.RUN] = run.id, [M.POD] = labels[M.POD] } or nil
end

local function range(address) return address .. (address:find(":", 1, true) and "/128" or "/32") end

-- What a policy lets in, as peers: pods by their labels, nodes and ranges by address.
local function peers(run, list)
  local from = {}
  for _, one in ipairs(list) do
    local labels = type(one) == "table" and own_labels(run, one)
    if labels then from[#from + 1] = { podSelector = { matchLabels = labels } } end
    if type(one) == "string" then from[#from + 1] = { ipBlock = { cidr = one } } end
    for _, address in pairs(type(one) == "table" and not labels and one.addresses or {}) do
      from[#from + 1] = { ipBlock = { cidr = range(address) } }
    end
  end
  return from
end

-- want: name, to (endpoints), from (endpoints and ranges), copies -> a list of NetworkPolicies | nil, err
function M.policies(run, want)
  local pods, list = {}, {}
  for i, endpoint in ipairs(want.to) do
    local labels = own_labels(run, endpoint)
    if not labels then
      return nil, { code = "skip", message = ("%s is no pod that the run made: a policy is for those"):format(
        endpoint.name) }
    end
    pods[i] = labels[M.POD]
  end
  local from = peers(run, want.from)
  for i = 1, want.copies do
    local name = M.object_name(run, want.name .. (want.copies > 1 and "-copy-" .. i or ""))
    list[i] = { apiVersion = "networking.k8s.io/v1", kind = "NetworkPolicy", metadata = meta(run, name),
      spec = { policyTypes = { "Ingress" }, podSelector = { matchLabels = { [M.RUN] = run.id },
        matchExpressions = { { key = M.POD, operator = "In", values = pods } } },
        ingress = #from > 0 and { { from = from } } or nil } }
  end
  return list
end

-- The ports of a Service: those that were asked for, else the one of its endpoints by TCP and UDP.
local function service_ports(want)
  local list = {}
  for i, p in ipairs(want.ports) do
    for _, protocol in ipairs(p.protocol and p.protocol ~= "both" and { p.protocol:upper() } or { "TCP", "UDP" }) do
      list[#list + 1] = { name = ("knbl-%s%s"):format(protocol:lower(), i > 1 and "-" .. i or ""), port = p.port,
        targetPort = p.target or want.target,
        nodePort = p.node_port, protocol = protocol }
    end
  end
  return list
end

-- want: name, selector, ports ({ port, target?, protocol?, node_port? }…), target (the endpoints' port), type,
-- headless, affinity, policy, dual, external_ips; or external_name
function M.service(run, want)
  if want.external_name then
    return { apiVersion = "v1", kind = "Service", metadata = meta(run, M.object_name(run, want.name)),
      spec = { type = "ExternalName", externalName = want.external_name } }
  end
  return { apiVersion = "v1", kind = "Service", metadata = meta(run, M.object_name(run, want.name)),
    spec = { type = want.type or "ClusterIP", clusterIP = want.headless and "None" or nil, selector = want.selector,
      sessionAffinity = want.affinity and "ClientIP" or nil, externalTrafficPolicy = want.policy,
      externalIPs = want.external_ips,
      ipFamilyPolicy = want.dual and "PreferDualStack" or nil, ports = service_ports(want) } }
end

return M
