-- knbl.kube.services: Services over the pods of a run: made, waited for, and as the rest of knbl has them.
local core = require "knbl.core"
local balancer = require "knbl.kube.balancer"
local errors = require "knbl.base.errors"
local manifest = require "knbl.kube.manifest"
local owned = require "knbl.kube.owned"
local pods = require "knbl.kube.pods"
local roster = require "knbl.kube.roster"
local wish = require "knbl.kube.wish"

local M = {}

local SERVICE_S = 20
-- a control plane that comes back takes half a minute to hear of its nodes and to write the endpoints anew
local ENDPOINTS_S = 45

-- Labels that all endpoints carry and nobody else: a pod's own where there is one, else a label of the Service's put
-- onto each.
local function selector_for(provider, t)
  local selector, key = wish.selector(provider.run, t)
  if selector then return selector end
  for _, endpoint in ipairs(t.endpoints) do
    local ok, err = provider.api:patch("Pod", endpoint.object, { metadata = { labels = { [key] = "1" } } })
    if not ok then return nil, err end
    if provider.standing then provider.labelled[#provider.labelled + 1] = { endpoint.object, key } end
  end
  return { [key] = "1" }
end

-- How many endpoints are in slices that are of one family each: of each of the Service's families so many.
local function in_slices(service, slices)
  local ready, least = {}, nil
  for _, family in ipairs(service.spec.ipFamilies or {}) do ready[family] = 0 end
  for _, slice in ipairs(slices) do
    local n = 0
    for _, e in ipairs(slice.endpoints or {}) do
      if e.conditions == nil or e.conditions.ready ~= false then n = n + #(e.addresses or {}) end
    end
    ready[slice.addressType] = (ready[slice.addressType] or 0) + n
  end
  for _, n in pairs(ready) do least = math.min(least or n, n) end
  return least or 0
end

-- How many endpoints of a Service are ready: by its EndpointSlices, or where a server has none of that version or they
-- may not be read, by its Endpoints. nil and an error where neither may be read.
local function ready_endpoints(provider, service)
  local name = service.metadata.name
  if not provider.no_slices then
    local list, err = provider.api:list({ api = "discovery.k8s.io/v1", kind = "EndpointSlice" },
      { selector = "kubernetes.io/service-name=" .. name })
    if list then return in_slices(service, list.items) end
    if err.status ~= 404 and err.status ~= 403 then return nil, err end
    provider.no_slices = true
  end
  local list, err = provider.api:get("Endpoints", name)
  if not list then return err.status == 404 and 0 or nil, err end
  local n = 0
  for _, subset in ipairs(list.subsets or {}) do n = n + #(subset.addresses or {}) end
  return n
end

-- Which of the endpoints' pods are not ready, as ": …", and whether one is gone for good; "" where that does not
-- explain it.
local function unready(provider, endpoints)
  local list, gone = {}, false
  for _, endpoint in ipairs(endpoints) do
    local pod, err = provider.api:get("Pod", endpoint.object, { retry = 0 })
    local is_gone = pod and pod.metadata.deletionTimestamp or not pod and err.status == 404
    gone = gone or is_gone
    if is_gone or pod and not pods.is_ready(pod) then
      list[#list + 1] = ("pod %s on %s is %s"):format(endpoint.object, endpoint.node,
        is_gone and "gone: somebody deleted it" or "not ready")
    end
  end
  return #list > 0 and ": " .. table.concat(list, ", ") or "", gone
end

-- A Service answers only once every node's proxy has heard of it: waited for, with the API's own word on its endpoints.
local function await_endpoints(provider, service, endpoints)
  local began = core.now()
  local look = began + 3 -- the usual takes less
  while true do
    local ready, why = ready_endpoints(provider, service)
    if not ready and why.status == 403 then
      why.message = why.message .. "; permit 'list' on endpointslices or 'get' on endpoints"
      return nil, why
    end
    if ready and ready >= #endpoints then return true end
    local late = core.now() > began + ENDPOINTS_S
    if late or core.now() > look then
      local which, gone = unready(provider, endpoints)
      if late or gone then
        return nil, { code = "unavailable", message = ("its endpoints are not ready after %.0f s%s"):format(
          core.now() - began, which) }
      end
      look = core.now() + 3
    end
    local ok, err = core.sleep(0.1)
    if not ok then return nil, err end
  end
end

-- Waits for the status address of a LoadBalancer -> addresses | nil, err
local function await_address(provider, service, seconds)
  local began = core.now()
  while true do
    local object, err = provider.api:get("Service", service.metadata.name)
    local given = object and balancer.addresses(object)
    if given then return given end
    if not object and err.status ~= 404 then return nil, err end
    if core.now() >= began + seconds then
      return errors.skip("%s", balancer.missing(provider.api, service, roster.chosen(provider), seconds))
    end
    local ok, stopped = core.sleep(0.2)
    if not ok then return nil, stopped end
  end
end

-- What a Service's object says, as the rest of knbl has it.
local function as_service(t, object)
  local addresses, spec = {}, object.spec
  if t.headless then
    addresses = t.endpoints[1].addresses
  else
    for _, ip in ipairs(spec.clusterIPs or { spec.clusterIP }) do
      addresses[ip:find(":", 1, true) and "v6" or "v4"] = ip
    end
  end
  return { name = t.name, addresses = addresses, port = t.headless and t.endpoints[1].port or spec.ports[1].port,
    node_port = spec.ports[1].nodePort, type = t.type, headless = t.headless, settling = SERVICE_S }
end

local function make_service(provider, t)
  local ok, err = owned.begin(provider)
  local selector
  if ok then selector, err = selector_for(provider, t) end
  if not selector then return nil, err end
  local made
  made, err = owned.make(provider, manifest.service(provider.run, wish.service(t, selector)), t.name)
  if not made then return nil, err end
  ok, err = await_endpoints(provider, made, t.endpoints)
  if not ok then return nil, err end
  local service = as_service(t, made)
  if t.type ~= "LoadBalancer" then return service end
  service.addresses, err = await_address(provider, made, t.wait)
  return service.addresses and service, err
end

-- A Service without endpoints: its name, which the cluster's DNS resolves to the one outside.
local function make_external_name(provider, t)
  local ok, err = owned.begin(provider)
  if not ok then return nil, err end
  local object = manifest.service(provider.run, wish.service(t))
  ok, err = owned.make(provider, object, t.name)
  if not ok then return nil, err end
  local name = ("%s.%s.svc.%s"):format(object.metadata.name, provider.run.namespace, "cluster.local")
  return { name = t.name, addresses = { name = name }, port = t.port, type = t.type }
end

-- A Service as a scenario asks for it. -> service | nil, err
function M.of(provider, t)
  if t.external_name then return make_external_name(provider, t) end
  for _, endpoint in ipairs(t.endpoints) do
    if endpoint.prepare then
      local ok, why = endpoint:prepare()
      if not ok then return nil, why end
    end
  end
  if provider.standing then
    local there = provider.standing:service_over(t)
    if there then
      local ok, why = await_endpoints(provider, there, t.endpoints)
      if not ok and why.status ~= 403 then return nil, why end
      return as_service(t, there)
    end
  end
  local service, err = make_service(provider, t)
  if not service and provider.standing and err.status == 403 then
    return errors.skip("there is no such Service over the standing agents, and none may be made: %s", err.message)
  end
  return service, err
end

return M
