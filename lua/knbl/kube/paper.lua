-- knbl.kube.paper: a run on Kubernetes that is only written down (--dry-run --manifests): the plan's cluster, which
-- notes each object that the run would make. Nodes are those of the cluster where it can be asked, else names that
-- stand for them.
local core = require "knbl.core"
local errors = require "knbl.base.errors"
local kube = require "knbl.kube"
local choice = require "knbl.kube.nodes"
local inject = require "knbl.kube.inject"
local manifest = require "knbl.kube.manifest"
local way = require "knbl.kube.way"
local wish = require "knbl.kube.wish"
local plan = require "knbl.cluster.plan"

local M = {}

local Paper = {}
Paper.__index = Paper

local function add(self, object) self.plan:add_object(object) end

-- The agent's ConfigMap, before the first pod that takes it from there.
local function pack(self, arch)
  if self.packed[arch] then return true end
  local object, err = inject.configmap(self.run, arch)
  if not object then return nil, err end
  add(self, object)
  self.packed[arch] = true
  return true
end

-- A pod's manifest, with the agent from where this run would take it.
local function manifest_of(self, want)
  if want.own or way.choose(self.settings, self.list) ~= "injected" then return manifest.pod(self.run, want) end
  local node = way.node_named(self.list, want.node)
  local ok, err = pack(self, way.arch(node))
  local carriers
  if ok then carriers, err = way.carriers(self, node) end
  if not carriers then return nil, err end
  way.dress(self.run, self.list, node, want, carriers[1])
  return manifest.pod(self.run, want)
end

local function node_name(self, which)
  if type(which) == "string" then return which end
  if self.node_names[which] then return self.node_names[which] end
  if not self.guessed then
    return errors.skip("the cluster has %d node%s to use, this needs %d", #self.node_names,
      #self.node_names == 1 and "" or "s", which)
  end
  return "node-" .. which
end

-- The agent in a node's network is made with the first measurement that needs it.
local function prepare(endpoint)
  if endpoint.ready then return true end
  local object, err = manifest_of(endpoint.paper, wish.host(endpoint.paper.run, endpoint.name))
  if not object then return nil, err end
  endpoint.ready, endpoint.labels, endpoint.port = true, object.metadata.labels, endpoint.paper.run.host_port
  add(endpoint.paper, object)
  return true
end

function Paper:node(which)
  local name, err = node_name(self, which)
  if not name then return nil, err end
  if not self.hosts[name] then
    local endpoint = self.plain:node(name)
    endpoint.paper, endpoint.prepare = self, prepare
    self.hosts[name] = endpoint
  end
  return self.hosts[name]
end

function Paper:pod(t)
  local want, err = wish.pod(self.run, t, t.node)
  if not want then return nil, err end
  local object
  object, err = manifest_of(self, want)
  if not object then return nil, err end
  add(self, object)
  local endpoint = self.plain:pod(t)
  endpoint.object, endpoint.labels, endpoint.port, endpoint.external = object, object.metadata.labels, want.port,
    want.own
  return endpoint
end

function Paper:service(t)
  if t.external_name then
    add(self, manifest.service(self.run, wish.service(t)))
    return self.plain:service(t)
  end
  for _, endpoint in ipairs(t.endpoints) do
    if endpoint.prepare then endpoint:prepare() end
  end
  local selector, key = wish.selector(self.run, t)
  if not selector then
    selector = { [key] = "1" }
    for _, endpoint in ipairs(t.endpoints) do endpoint.labels[key] = "1" end
  end
  add(self, manifest.service(self.run, wish.service(t, selector)))
  return self.plain:service(t)
end

function Paper:create(object)
  add(self, manifest.adopt(self.run, object))
  return object
end

function Paper:policy(t)
  local list, err = manifest.policies(self.run, t)
  for _, object in ipairs(list or {}) do add(self, object) end
  return list and true, err
end

function Paper:networks(pod, which) return self.plain:networks(pod, which) end
function Paper:delete() return true end
function Paper:environment() return {} end
function Paper:close() end

-- The nodes: as the cluster has them, else by the names that were given, or nil where nobody can say.
local function nodes_of(api, settings)
  api.patience = 0
  local list = api:list "Node"
  if list then
    return (choice.choose(list.items, { nodes = settings.node_names, selector = settings.node_selector,
      tolerations = settings.tolerations, archs = not settings.image and inject.architectures() or nil }))
  end
  if not settings.node_names then return nil end
  local nodes = {}
  for i, name in ipairs(settings.node_names) do nodes[i] = { name = name, addresses = {} } end
  return nodes
end

function M.open(options)
  local settings, err = wish.settings(options)
  if not settings then return nil, err end
  options.plan:add_cluster(options.provider)
  local api = kube.connect { kubeconfig = settings.kubeconfig, context = settings.context,
    namespace = settings.namespace, as = settings.as }
  local nodes = api and nodes_of(api, settings)
  local names = nodes and {}
  for i, node in ipairs(nodes or {}) do names[i] = node.name end
  if options.token == "" then options.token = core.token() end
  local run = wish.run(settings, options, api and api.namespace or settings.namespace or "default")
  run.idle = nil -- such agents stand until somebody measures with them
  local self = setmetatable({ plan = options.plan, run = run, api = api, settings = settings, list = nodes or {},
    packed = {}, node_names = names or {}, guessed = not names, hosts = {},
    nodes = names and #names or nil,
    plain = plan.of(options.plan) }, Paper)
  if not names then
    options.plan:add_remark "the cluster's nodes cannot be listed: node-1, node-2 … stand for them; name yours with \z
      --nodes a,b"
  end
  add(self, manifest.owner(run))
  add(self, manifest.secret(run))
  if settings.allow then add(self, manifest.allow(run, choice.addresses(self.list))) end
  if way.choose(settings, self.list) == "injected" then
    options.plan:add_remark "the agent is in a ConfigMap, which is too large for a plain apply: \z
      kubectl apply --server-side -f FILE"
  end
  return self
end

return M
