-- knbl.kube.paper: a run on Kubernetes that is only written down (--dry-run --manifests): the plan's cluster, which notes each object that the run
-- would make. Nodes are those of the cluster where it can be asked, else names that stand for them.
local core = require "knbl.core"
local kube = require "knbl.kube"
local choice = require "knbl.kube.nodes"
local manifest = require "knbl.kube.manifest"
local wish = require "knbl.kube.wish"
local plan = require "knbl.cluster.plan"

local M = {}

local Paper = {}
Paper.__index = Paper

local function add(self, object) self.plan:add_object(object) end

local function node_name(self, which)
  if type(which) == "string" then return which end
  if self.node_names[which] then return self.node_names[which] end
  if not self.guessed then
    return nil, { code = "skip", message = ("the cluster has %d node%s to use, this needs %d"):format(#self.node_names, #self.node_names == 1 and "" or "s", which) }
  end
  return "node-" .. which
end

-- The agent in a node's network is made with the first measurement that needs it.
local function prepare(endpoint)
  if endpoint.ready then return true end
  local object = manifest.pod(endpoint.paper.run, wish.host(endpoint.paper.run, endpoint.name))
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
  local object = manifest.pod(self.run, want)
  add(self, object)
  local endpoint = self.plain:pod(t)
  endpoint.object, endpoint.labels, endpoint.port, endpoint.external = object, object.metadata.labels, want.port, want.own
  return endpoint
end

function Paper:service(t)
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

function Paper:delete() return true end
function Paper:environment() return {} end
function Paper:close() end

-- The names of the nodes: as asked for, as the cluster has them, or nil where nobody can say.
local function names_of(api, settings)
  if settings.node_names then return settings.node_names end
  api.patience = 0
  local list = api:list "Node"
  if not list then return nil end
  local names = {}
  for i, node in ipairs((choice.choose(list.items, { selector = settings.node_selector, tolerations = settings.tolerations }))) do names[i] = node.name end
  return names
end

function M.open(options)
  local settings, err = wish.settings(options)
  if not settings then return nil, err end
  options.plan:add_cluster(options.provider)
  local api = kube.connect { kubeconfig = settings.kubeconfig, context = settings.context, namespace = settings.namespace, as = settings.as }
  local names = api and names_of(api, settings)
  if options.token == "" then options.token = core.token() end
  local run = wish.run(settings, options, api and api.namespace or settings.namespace or "default")
  local self = setmetatable({ plan = options.plan, run = run, node_names = names or {}, guessed = not names, hosts = {}, nodes = names and #names or nil,
    plain = plan.of(options.plan) }, Paper)
  if not names then
    options.plan:add_remark "the cluster cannot be asked for its nodes: node-1, node-2 … stand for them; name yours with --nodes a,b"
  end
  add(self, manifest.owner(run))
  add(self, manifest.secret(run))
  return self
end

return M
