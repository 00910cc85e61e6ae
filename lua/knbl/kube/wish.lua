-- knbl.kube.wish: from what a scenario and the command line ask for to what a manifest is made of. Both the provider
-- and the plan that only prints manifests (knbl.kube.paper) take it from here.
local core = require "knbl.core"
local errors = require "knbl.base.errors"
local manifest = require "knbl.kube.manifest"
local networks = require "knbl.kube.networks"

local M = {}

local HOUR_S = 3600

-- "key=value:Effect,key:Effect" as tolerations
function M.tolerations(text)
  local list
  for word in (text or ""):gmatch "[^,]+" do
    local key, value, effect = word:match "^([^=:]*)=?([^:]*):?(.*)$"
    list = list or {}
    list[#list + 1] = { key = key ~= "" and key or nil, operator = value ~= "" and "Equal" or "Exists",
      value = value ~= "" and value or nil,
      effect = effect ~= "" and effect or nil }
  end
  return list
end

-- What the command line got wrong, before the server is asked; nil where nothing is.
local function mistake(settings)
  for _, key in ipairs { "cpu", "memory" } do
    local text = settings[key]
    if text and not tostring(text):match "^%d+%.?%d*[eEinumkKMGTP]*[-+]?%d*$" then
      return ("--%s must be a quantity such as 2, 500m or 1Gi, got '%s'"):format(key, text)
    end
  end
  local namespace = settings.namespace
  if namespace and (#namespace > 63 or not namespace:match "^[%l%d]$"
    and not namespace:match "^[%l%d][%l%d-]*[%l%d]$") then
    return ("--namespace: '%s' cannot be a name: small letters, digits and '-', at most 63"):format(namespace)
  end
  if settings.image and (settings.image:find "%s" or settings.image == "") then
    return ("--image: '%s' cannot be the name of an image"):format(settings.image)
  end
  if settings.image and settings.inject then
    return "--image and --inject exclude each other: --image is the agent's own image, --inject=IMAGE carries the agent"
  end
  if settings.agents and settings.inject then
    return "--inject makes pods, --agents uses those that run already: give one of them"
  end
  if type(settings.inject) == "string" and (settings.inject:find "%s" or settings.inject == "") then
    return ("--inject: '%s' cannot be the name of an image"):format(settings.inject)
  end
  for _, t in ipairs(settings.tolerations or {}) do
    local known = { NoSchedule = true, PreferNoSchedule = true, NoExecute = true }
    if t.effect and not known[t.effect] then
      return ("--tolerations: '%s' is no effect; NoSchedule, PreferNoSchedule and NoExecute are"):format(t.effect)
    end
  end
end

-- What the command line says, and where it does not, the script. -> settings | nil, err
function M.settings(options)
  local flags = options.settings or {}
  local function flag(name)
    if flags[name] ~= nil then return flags[name] end
    return options[name]
  end
  local settings = { tolerations = M.tolerations(flag "tolerations"), node_names = flags.node_names,
    node_limit = options.nodes }
  for _, name in ipairs { "kubeconfig", "namespace", "as", "image", "image_pull_secret", "cpu", "memory", "bandwidth",
    "node_selector", "agents", "inject", "allow" } do
    settings[name] = flag(name)
  end
  settings.context = options.on or flag "context"
  local wrong = mistake(settings)
  if wrong then return nil, { code = "usage", message = wrong } end
  return settings
end

-- A run by its id. Its pods end by themselves, later than the run can: after an hour, or twice the time that the plan
-- knows of.
function M.run(settings, options, namespace)
  local id = core.token():sub(1, 8)
  local expected = options.expected or {}
  local longest = math.max(HOUR_S, math.ceil((expected.seconds or 0) * 2) + 600)
  return { id = id, namespace = namespace, token = options.token, started = core.wall(), scenario = options.scenario,
    settings = settings,
    idle = "2m", -- agents whose run was killed end after this time; knbl.measure.agent keeps the others
    host_port = 20000 + tonumber(id:sub(1, 2), 16) * 32, host_pods = 0,
      max_duration = expected.partial and math.max(longest, 6 * HOUR_S) or longest }
end

local function wanted(run, name, more)
  local s = run.settings
  local want = { name = name, port = manifest.AGENT_PORT, image = s.image or M.image(),
    pull_secret = s.image_pull_secret, cpu = s.cpu,
    memory = s.memory, tolerations = s.tolerations, max_duration = run.max_duration, restricted = run.restricted }
  for k, v in pairs(more) do want[k] = v end
  return want
end

-- The agent's own image.
function M.image() return "knbl:" .. core.version end

-- The user of pods whose image does not name one that Pod Security takes.
M.USER = 65532

-- The agent in a node's own network.
function M.host(run, node)
  return wanted(run, "host-" .. node, { agent = node, node = node, host_network = true, port = run.host_port })
end

-- Bits a second, as annotations have them.
local function bandwidth(text)
  local rate = text and core.rate(tostring(text))
  return rate and rate.bps and math.floor(rate.bps) or nil
end

-- A pod of the scenario's, on the node of that name if any.
function M.pod(run, t, node)
  if t.mtu then return errors.skip "the MTU of a pod can be chosen in the lab only" end
  if t.command and not t.image then return errors.skip "a server of your own needs an image here" end
  local runtime = t.runtime ~= "runc" and t.runtime ~= "host" and t.runtime or nil
  local want = wanted(run, t.name, { node = node, runtime = runtime, labels = t.labels,
    annotations = networks.annotate(t.annotations, t.networks), env = t.env,
    bandwidth = bandwidth(t.bandwidth or run.settings.bandwidth) })
  want.cpu, want.memory = t.cpu or want.cpu, t.memory or want.memory
  if t.image then
    want.own, want.image, want.command, want.port = true, t.image, t.command, t.port
    want.user = not run.assigns_user and M.USER or nil
  elseif t.port then
    want.port = t.port
  end
  if t.runtime == "host" then
    want.host_network, want.bandwidth = true, nil
    run.host_pods = run.host_pods + 1 -- they share the node's ports
    if not t.port then want.port = run.host_port + run.host_pods end
  end
  return want
end

-- A Service over endpoints that share `selector`. As in the lab, agents are asked for at their usual port, wherever
-- they listen.
function M.service(t, selector)
  if t.external_name then return { name = t.name, external_name = t.external_name } end
  local first = t.endpoints[1]
  local ports = t.ports or { { port = t.port or (first.external and first.port or manifest.AGENT_PORT) } }
  if t.type == "LoadBalancer" then -- before Kubernetes 1.26 it must not have two protocols
    for _, port in ipairs(ports) do port.protocol = port.protocol or "tcp" end
  end
  return { name = t.name, selector = selector, type = t.type, headless = t.headless, affinity = t.affinity,
    policy = t.external_traffic_policy, external_ips = t.external_ips, ports = ports, target = first.port,
    dual = first.addresses.v4 and first.addresses.v6 }
end

-- The labels by which a Service finds its pods: of one, the run's and its own; of several, one that the provider puts
-- onto each.
function M.selector(run, t)
  local endpoint = t.endpoints[1]
  if #t.endpoints == 1 and endpoint.labels and endpoint.labels[manifest.POD]
    and endpoint.labels[manifest.RUN] == run.id then
    return { [manifest.RUN] = run.id, [manifest.POD] = endpoint.labels[manifest.POD] }
  end
  return nil, "knbl.io/" .. manifest.label("service-" .. run.id .. "-" .. t.name)
end

-- How a table names a runtime whose handler is called otherwise; nil where its own name will do.
function M.label(runtime, handler)
  return handler and handler ~= runtime and ("%s (handler %s)"):format(runtime, handler) or nil
end

return M
