-- knbl clean - finds and removes what killed runs left on a Kubernetes cluster. It cannot tell them from runs that are
-- going on, except by age (--older-than); agents themselves end by their pods' deadline.
local errors = require "knbl.base.errors"
local json = require "knbl.json"
local kube = require "knbl.kube"
local auth = require "knbl.kube.auth"
local manifest = require "knbl.kube.manifest"
local text = require "knbl.base.text"

local M = {
  summary =
    "Removes what killed runs left on a Kubernetes cluster: their pods, Services, secrets, and namespaces made for \z
      them.",
  usage = "knbl clean [--namespace NAME | --all-namespaces] [--older-than TIME]",
  flags = {
    { name = "kubeconfig", value = "FILE", help = "use only this kubeconfig" },
    { name = "context", value = "NAME", help = "a context of it" },
    { name = "namespace", short = "-n", value = "NAME", help = "where to look [the context's]" },
    { name = "all-namespaces", help = "look in all namespaces" },
    { name = "older-than", value = "TIME", kind = "duration", help = "only runs that started at least so long ago" },
    { name = "dry-run", help = "print what would be removed, and remove nothing" },
  },
}

-- Pods and Services before what owns them, so that an interrupted clean-up can be done again.
local rbac = "rbac.authorization.k8s.io/v1"
local kinds = { { api = "batch/v1", kind = "Job" }, "Pod", "Service", "Secret",
  { api = "networking.k8s.io/v1", kind = "NetworkPolicy" }, { api = rbac, kind = "RoleBinding" },
  { api = rbac, kind = "Role" },
  "ServiceAccount", "ConfigMap", "Namespace" }

-- What every run makes; the others are `knbl submit`'s, and looked for where we may.
local needed = { Pod = true, Service = true, Secret = true, ConfigMap = true }

-- Namespaces are in none: without --all-namespaces, only the one that is looked into is meant.
local function meant(api, kind, object, values)
  return kind ~= "Namespace" or values.all_namespaces or object.metadata.name == api.namespace
end

local function old_enough(object, now, older_than)
  local born = auth.epoch(object.metadata.creationTimestamp)
  return not older_than or born and now - born >= older_than
end

-- The object in no namespace that a note of the run tells of (manifest.outside), where it is still there and truly the
-- run's.
local function outside_of(api, note)
  local kind, name = { api = note.data.api, kind = note.data.kind }, note.data.outside
  local object, err = api:get(kind, name)
  if not object and err.status ~= 404 and err.code ~= "argument" then
    errors.raise(errors.new("unavailable", err.message))
  end
  local labels = object and object.metadata.labels or {}
  if labels[manifest.MANAGED] == "knbl" and labels[manifest.RUN] == note.metadata.labels[manifest.RUN] then
    return object, kind
  end
end

-- Labels by which a run's Service found pods that are not the run's (--agents): a patch that takes them off, or nil.
local function stray_labels(pod)
  local patch
  for key in pairs(pod.metadata.labels or {}) do
    if key:find("knbl.io/service-", 1, true) == 1 then patch = patch or {} patch[key] = json.null end
  end
  return patch and { metadata = { labels = patch } }
end

local function unlabel(api, values)
  local list = api:list("Pod", { selector = "!" .. manifest.RUN, all_namespaces = values.all_namespaces })
  for _, pod in ipairs(list and not values.older_than and list.items or {}) do
    local patch = stray_labels(pod)
    if patch and not values.dry_run then
      api:patch("Pod", pod.metadata.name, patch, { namespace = pod.metadata.namespace })
    end
  end
end

function M.run(context, values, words)
  if #words > 0 then errors.usage("unexpected argument '%s'", words[1]) end
  local api, err = kube.connect { kubeconfig = values.kubeconfig, context = values.context,
    namespace = values.namespace }
  if not api then errors.raise(errors.new("unavailable", err.message)) end
  local removed, now, older_than = 0, os.time(), values.older_than and context.core.duration(values.older_than)
  local function remove(kind, object)
    local meta = object.metadata
    local ok, failed = true, nil
    if not values.dry_run then ok, failed = api:delete(kind, meta.name, { namespace = meta.namespace, grace = 0 }) end
    if not ok then errors.raise(errors.new("unavailable", failed.message)) end
    context.out(("%s %s/%s\n"):format(kind.kind or kind, text.clean(meta.namespace or ""), text.clean(meta.name)))
    removed = removed + 1
  end
  for _, kind in ipairs(kinds) do
    local list, why = api:list(kind, { selector = manifest.MANAGED .. "=knbl," .. manifest.RUN,
      all_namespaces = values.all_namespaces })
    if not list and needed[kind] then errors.raise(errors.new("unavailable", why.message)) end
    for _, object in ipairs(list and list.items or {}) do
      if meant(api, kind, object, values) and old_enough(object, now, older_than) then
        if kind == "ConfigMap" and object.data and object.data.outside then
          local outside, its_kind = outside_of(api, object)
          if outside then remove(its_kind, outside) end
        end
        remove(kind, object)
      end
    end
  end
  unlabel(api, values)
  context.err(("knbl: %d object%s %s\n"):format(removed, removed == 1 and "" or "s",
    values.dry_run and "would be removed" or "removed"))
  return 0
end

return M
