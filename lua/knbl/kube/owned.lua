-- knbl.kube.owned: what a run makes on the cluster. One ConfigMap owns all of it, and each object is on the provider's
-- list, `made`, before it is asked for: an answer that is lost, or cut short, may have made it.
local agent = require "knbl.measure.agent"
local choice = require "knbl.kube.nodes"
local explain = require "knbl.kube.explain"
local json = require "knbl.json"
local manifest = require "knbl.kube.manifest"
local pods = require "knbl.kube.pods"
local roster = require "knbl.kube.roster"
local say = require "knbl.base.say"

local M = {}

-- Whether nothing was made for certain. 409: by an earlier request, whose answer was lost. 5xx: perhaps all the same.
local function is_refusal(err)
  return err.status and err.status >= 400 and err.status < 500 and err.status ~= 409
end

-- Notes an object and makes it. of: what the scenario calls it. kind: by which it is deleted, if not by its own.
local function make(provider, object, of, kind)
  kind = kind or object.apiVersion == "v1" and object.kind or { api = object.apiVersion, kind = object.kind }
  local list = provider.made
  list[#list + 1] = { kind = kind, name = object.metadata.name, of = of }
  local made, err = provider.api:create(object)
  if not made and is_refusal(err) then list[#list] = nil end
  return made, err
end
M.make = make

-- The owner of all that the run makes, and the secret of its agents: before the first of them.
function M.begin(provider)
  local run = provider.run
  if run.owner then return true end
  local owner, err = make(provider, manifest.owner(run))
  if not owner then return nil, err end
  run.owner = manifest.owner_reference(owner)
  if provider.standing then return true end -- they have a secret of their own
  local ok
  ok, err = make(provider, manifest.secret(run))
  return ok and true, err
end

-- With --allow: the policy that lets the run's pods reach each other, once their nodes are known.
function M.allow(provider)
  if not provider.settings.allow or provider.allowed then return true end
  local ok, err = make(provider, manifest.allow(provider.run, choice.addresses(roster.chosen(provider) or {})))
  if not ok then return nil, { code = "unavailable", message = "--allow: " .. explain.permission(err.message) } end
  provider.allowed = true
  return true
end

-- Creates the object of a pod. A namespace that assigns its pods a user (OpenShift) refuses one that is asked for.
function M.pod(provider, want)
  if provider.run.assigns_user then want.user = nil end
  local made, err = make(provider, manifest.pod(provider.run, want), want.name)
  if made then return made end
  if want.user and err.status == 403 and explain.is_assigned_user(err) then
    provider.run.assigns_user = true
    return M.pod(provider, want)
  end
  return nil, err
end

function M.policy(provider, t)
  local list, err = manifest.policies(provider.run, t)
  for _, object in ipairs(list or {}) do
    local made
    made, err = make(provider, object, t.name)
    if not made then return nil, err end
  end
  return list and true, err
end

-- An object that the script brings: one of the run's, labelled, owned and removed with all else.
function M.create(provider, resource, object)
  local own = manifest.adopt(provider.run, object)
  if not resource.namespaced then -- nothing in a namespace can own it
    own.metadata.namespace, own.metadata.ownerReferences = nil, nil
    local ok, err = make(provider, manifest.outside(provider.run, resource, own.metadata.name))
    if not ok then return nil, err end
  end
  return make(provider, own, nil, { api = resource.api, kind = resource.kind })
end

-- Removes a thing of the scenario: one object, or each copy of a policy.
function M.delete(provider, name)
  for i = #provider.made, 1, -1 do
    local thing = provider.made[i]
    if thing.of == name then
      table.remove(provider.made, i)
      if thing.kind == "Pod" then agent.forget(provider, name) end
      local ok, err = provider.api:delete(thing.kind, thing.name)
      if not ok then return nil, err end
    end
  end
  return true
end

-- Removes all, and waits until the pods are gone. What cannot be removed is said, with how to finish.
function M.remove(provider)
  local api, run, failed = provider.api, provider.run, nil
  for _, pair in ipairs(provider.labelled) do
    local ok, err = api:patch("Pod", pair[1], { metadata = { labels = { [pair[2]] = json.null } } }, { retry = 3 })
    if not ok and err.status ~= 404 then failed = err end
  end
  failed = pods.remove(api, provider.made, manifest.RUN .. "=" .. run.id) or failed
  if not failed and provider.namespace_made then
    local ok, err = api:delete("Namespace", run.namespace)
    if not ok then failed = err end
  end
  if failed then
    say(("knbl: not all of run %s could be removed: %s\nknbl: `knbl clean --namespace %s` finishes it\n"):format(run.id,
      failed.message, run.namespace))
  end
end

return M
