-- knbl.cluster.provider - the contract between knbl.cluster and what provides clusters. A provider that breaks it is
-- refused where it does so, with the name of what is missing.
--
-- A provider is a module knbl.cluster.NAME, and NAME stands in M.names. The module has
--   name                what --on calls it
--   open(options)       -> a cluster | nil, err
--   check?(options)     -> true | nil, err: refuses wrong options before anything is opened; err.code is "argument" or,
--                       for what the command line says, "usage"
--   plan?(options)      -> a cluster that only notes what open's would make (--dry-run --manifests)
--   options?            a set of keys of knbl.cluster{…} that this provider takes and others do not
--   cannot?             what it cannot do: the name of a method, or of a key of cluster:pod{…}, and the reason.
--                       A script that asks for it gets a stand-in, and its measurements are skipped with that reason.
--   costs?              about how many seconds it takes to `open` a cluster and to make a `node`, a `pod`, a `service`
--                       or a pod of a runtime: for --dry-run
--   names_of?(options)  -> the names of its nodes, where the command line gives them; a plan has no more than these
--   one_machine?        true where all of its nodes share the CPUs of this machine
--   labels_of?(options) -> a function of a node's number: the labels it will have (`topology`), for --dry-run
--   pods_max?           the most pods that one cluster holds
--   time_wait?          true where a server's machine can drop the SYN of a connection whose ports it has in TIME_WAIT
--   enclosed?           why hosts beside the cluster (knbl.host) and its ends do not reach each other
--   via?                how results name every way between two of its ends, where they do not tell ways apart
--
-- `options` are the keys of knbl.cluster{…} and
--   on, pairs           what followed "NAME:" on the command line: as text, and as a list of { key, value }
--   token, token_given  the secret of the agents, and whether the user gave it (--token-file, KNBL_TOKEN)
--   lone                true for knbl.host, which --nodes is not about
--   settings            the program's options; `nodes` is already the one of the command line where it has one
--   core, provider, plan, expected, scenario
--
-- A cluster (M.cluster) has the methods
--   node(index_or_name) pod{…} service{…}
--                       -> an endpoint or a service | nil, err. An err with code "skip" says why a thing is not
--                       available here: what needs it is skipped, and the run goes on. pod's `node` is a name,
--                       service's `endpoints` are endpoints.
--   make_pods?(list)    -> a list of { endpoint | nil, err }: several pods, made side by side
--   delete(name)        removes a pod, a Service or a policy -> true | nil, err
--   policy{…}           makes a policy: `name`, `to` is a list of endpoints, `from` of endpoints and ranges of
--                       addresses, `copies` a number -> true | nil, err
--   networks?(endpoint, which)  -> a pod's networks beside its own, a list of { name, interface, addresses } | nil,
--                       err; `which` is the one that is asked for
--   exec(endpoint, argv)    runs a program there -> { output, status } | nil, err
--   create(object)      makes an object of Kubernetes -> the object | nil, err
--   environment()       -> a table for the ledger
--   close()             removes everything; harmless when repeated
--   standing_node?(name)    -> the endpoint of an agent in that node's own network, where there is one already
--   explain_path?(endpoints, code)  -> what may keep these ends from each other, as words to follow an error, or nil
-- and the fields
--   nodes?              how many nodes there are, where that is known
--   one_machine?        true where all of it is on this machine
--   api?                the client of Kubernetes, as scripts get it by cluster.kube
-- pod, service and delete may be missing where `cannot` has the reason; exec, create, policy
-- and networks anyway.
--
-- An endpoint (M.endpoint) has
--   kind, name, node?   "node" or "pod"; its name; the name of the node that it is on
--   addresses           { v4 = TEXT?, v6 = TEXT? }
--   port, token         where its agent, or the user's own server, listens; the secret that runs are started with
--   control             how its agent is asked: { url, unix?, fetch?, grace?, here?, … } (knbl.measure.agent)
--   external?           true for the user's own server: there is no agent, so no control
--   agent?              what its agent calls itself, where that is not `name`
--   topology?           of a node: its labels, of which knbl.mesh takes the zone and the rack
--   cpus?               of a node: how many it has
--   runtime?, label?, handler?, sandbox?, started_ms?, memory_bytes?    for the ledger and tables
--   prepare?(self)      -> true | nil, err: called before each measurement with it. Until the first call control,
--                       addresses and port may be missing or preliminary.
--   usage?(self)        -> { cpu_ns, memory_bytes } as the host sees it, or nil
--   ended?(self)        -> why it is gone, or nil
--
-- A service (M.service) has name, addresses, port, type, headless?, node_port? and settling?: for how many seconds it
-- may still refuse, until every node's proxy knows it.
local errors = require "knbl.base.errors"

local M = { names = { "lab", "k8s", "ssh", "hosts", "loopback" } }

-- ---- checks ----

local may_lack = {
  exec = "%s runs no programs beside its agents; the lab does", create = "%s creates no objects: it is not Kubernetes",
  policy = "%s has no policies; the lab and Kubernetes do",
  networks = "%s has no secondary networks; the lab and Kubernetes do",
}

-- Raises where `thing` lacks one of `wanted`, a list of { name, type }.
local function need(what, thing, wanted)
  if type(thing) ~= "table" then error(("%s must be a table, got %s"):format(what, type(thing)), 0) end
  for _, row in ipairs(wanted) do
    local found = type(thing[row[1]])
    local which = row[2] == "function" and "method" or "field"
    if found ~= row[2] then
      error(("%s: %s '%s' must be a %s, got %s"):format(what, which, row[1], row[2], found), 0)
    end
  end
  return thing
end

-- A module, as it must be.
function M.module(module, name)
  need("provider " .. name, module, { { "name", "string" }, { "open", "function" } })
  module.cannot = module.cannot or {}
  return module
end

-- A cluster that `open` gave. Returns what it cannot do, by name.
function M.cluster(cluster, module)
  local what, cannot = "cluster of provider " .. module.name, setmetatable({}, { __index = module.cannot })
  need(what, cluster, { { "node", "function" }, { "environment", "function" }, { "close", "function" } })
  for _, method in ipairs { "pod", "service", "delete", "exec", "create", "policy", "networks" } do
    if not cannot[method] then
      if not cluster[method] and may_lack[method] then cannot[method] = may_lack[method]:format(module.name)
      else need(what, cluster, { { method, "function" } }) end
    end
  end
  return cannot
end

local function named(kind, thing, module)
  return ("%s '%s' of provider %s"):format(kind, tostring(type(thing) == "table" and thing.name), module.name)
end

local agent_s = { { "port", "number" }, { "token", "string" }, { "control", "table" } }

function M.endpoint(endpoint, module)
  local what = named("endpoint", endpoint, module)
  need(what, endpoint, { { "kind", "string" }, { "name", "string" }, { "addresses", "table" } })
  if not endpoint.external and not endpoint.prepare then need(what, endpoint, agent_s) end
  return endpoint
end

function M.service(service, module)
  return need(named("Service", service, module), service,
    { { "name", "string" }, { "addresses", "table" }, { "port", "number" } })
end

-- ---- the providers ----

-- The module of a provider by its name; raises a wrong command line where there is none.
function M.load(core, name)
  local known
  for _, one in ipairs(M.names) do known = known or one == name end
  if not known then
    errors.usage("unknown provider '%s'; known are %s%s", name, table.concat(M.names, ", "),
      errors.hint(core, name, M.names))
  end
  return M.module(require("knbl.cluster." .. name), name)
end

-- A cluster that is not available as it was asked for: everything measured with it is skipped with the reason.
function M.nowhere(reason)
  local function skipped() return nil, { code = "skip", message = reason } end
  return { node = skipped, pod = skipped, service = skipped, delete = skipped, exec = skipped, create = skipped,
    policy = skipped, networks = skipped,
    environment = function() return {} end, close = function() end }
end

return M
