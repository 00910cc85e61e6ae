-- knbl.kube.reach: a running pod as an end of a path, once its agent answers, and how the orchestrator reaches it:
-- through the API server's pod proxy from outside of the cluster, straight from inside.
local core = require "knbl.core"
local agent = require "knbl.measure.agent"
local explain = require "knbl.kube.explain"
local facts = require "knbl.kube.facts"
local kube = require "knbl.kube"
local pods = require "knbl.kube.pods"
local policies = require "knbl.kube.policies"
local way = require "knbl.kube.way"

local M = {}

local AGENT_S = 10
local CONTROL_GRACE_S = 30 -- an API server that restarts is no lost agent

-- What the API server itself answers in an agent's place: that the pod is gone, that we may not, or that it cannot
-- reach it just now.
local function proxy_failure(api, name, response)
  if response.status < 400 or not response.body:find('"kind":"Status"', 1, true) then return nil end
  local text = kube.status_text(response)
  if response.status == 401 or response.status == 403 then return { code = "auth", message = text } end
  local pod, err = api:get("Pod", name, { retry = 0 })
  if pod and pod.status.phase == "Running" and not pod.metadata.deletionTimestamp then
    return { code = "unreachable", message = text }
  end
  if not pod and err.status ~= 404 then return { code = "unreachable", message = err.message } end
  return { code = "gone", message = pod and explain.pod(pod) or "its pod was deleted" }
end

-- How the orchestrator reaches an agent: straight from inside the cluster, through the API server's pod proxy from
-- outside.
local function control(provider, name, addresses, port)
  if provider.api.config.in_cluster then
    local host = addresses.v4 or "[" .. addresses.v6 .. "]"
    return { url = ("http://%s:%d"):format(host, port) }
  end
  local through = provider.api:proxy(name, port)
  local function fetch(request)
    local response, err = through(request)
    local failure = response and proxy_failure(provider.api, name, response)
    if failure then return nil, failure end
    return response, err
  end
  return { url = "", fetch = fetch, grace = CONTROL_GRACE_S }
end

-- The container runs before its agent listens: asked until it answers.
local function await_agent(endpoint)
  local deadline = core.now() + AGENT_S
  while true do
    local about, err = agent.about(endpoint)
    if about then return about end
    if err.code == "version" or err.code == "auth" or err.code == "gone" or err.code == "interrupted"
      or core.now() > deadline then
      return nil, err
    end
    local ok, interrupted = core.sleep(0.05)
    if not ok then return nil, interrupted end
  end
end

local function endpoint_of(pod, want, kind)
  return { kind = kind, name = want.name, node = pod.spec.nodeName, addresses = pods.addresses(pod), port = want.port,
    runtime = want.runtime or "runc", object = pod.metadata.name, labels = pod.metadata.labels }
end

-- Where a node is, by a pod on it, if the node's own object could not be read.
local function learn_address(provider, pod)
  local node = provider.node_agents[pod.spec.nodeName]
  if node and not next(node.addresses) then
    for _, ip in ipairs(pod.status.hostIPs or { { ip = pod.status.hostIP } }) do
      node.addresses[ip.ip:find(":", 1, true) and "v6" or "v4"] = ip.ip
    end
  end
end

-- A running pod of the user's own image: nothing inside speaks to us.
function M.own(provider, pod, want, kind)
  local endpoint = endpoint_of(pod, want, kind)
  learn_address(provider, pod)
  endpoint.external, endpoint.token = true, ""
  return endpoint
end

-- A running pod as an endpoint, once its agent answers.
function M.agent(provider, pod, want, kind)
  local endpoint = endpoint_of(pod, want, kind)
  for _, node in ipairs(provider.nodes_chosen or {}) do
    if node.name == endpoint.node then endpoint.zone = node.zone end
  end
  learn_address(provider, pod)
  endpoint.control, endpoint.token = control(provider, endpoint.object, endpoint.addresses, want.port),
    want.token or provider.run.token
  local about, err = await_agent(endpoint)
  if not about then
    return nil, { code = "lost", message = ("its agent does not answer: %s%s"):format(err.message,
      policies.explain(provider.api, { endpoint })) }
  end
  endpoint.agent = about.name
  if not provider.standing then agent.keep(endpoint, provider) end
  facts.learn(provider.facts, pod.spec.nodeName, about)
  way.learn(provider, pod, about)
  return endpoint
end

return M
