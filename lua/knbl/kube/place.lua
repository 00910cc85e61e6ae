-- knbl.kube.place: pods that are made, come up and answer, several side by side; or the reason why not.
local errors = require "knbl.base.errors"
local explain = require "knbl.kube.explain"
local manifest = require "knbl.kube.manifest"
local owned = require "knbl.kube.owned"
local pods = require "knbl.kube.pods"
local reach = require "knbl.kube.reach"
local roster = require "knbl.kube.roster"
local way = require "knbl.kube.way"

local M = {}

-- Why a pod was refused at the door. What a path asks for beyond the ordinary (the host's network, a runtime) is a path
-- that is not to be had; what would refuse every pod ends the run.
local function refused(err, want)
  if err.status ~= 403 and err.status ~= 422 and err.status ~= 400 then return nil, err end
  local message = explain.refusal(err, want)
  if err.status == 403 and (want.host_network and explain.is_pod_security(err) or want.runtime
    and explain.is_runtime(err)) then
    return errors.skip("%s", message)
  end
  return nil, { code = "unavailable", message = message }
end

-- A pod that is up, as the end of a path, once its agent answers.
local function settle(provider, pod, want, kind)
  if want.node and pod.spec.nodeName ~= want.node then
    return nil, { code = "unavailable", message = ("it landed on %s, not on %s"):format(pod.spec.nodeName, want.node) }
  end
  return (want.own and reach.own or reach.agent)(provider, pod, want, kind)
end

-- Makes the pods of items, { want, kind } each, and waits until their agents answer. Sets `endpoint` or `err` of each;
-- err.pod: it did not come up.
local function place(provider, items)
  local selector = manifest.RUN .. "=" .. provider.run.id
  pods.bring_up(provider.api, selector, items, function(item) return owned.pod(provider, item.want) end,
    function(item, pod, err)
      item.endpoint, item.err = nil, err
      if pod then item.endpoint, item.err = settle(provider, pod, item.want, item.kind) end
      if err then item.err.pod = err.code == "pod" end
    end)
end

-- Why an item has no endpoint, in the words of who asked for it.
local function failure(provider, item)
  local err, want = item.err, item.want
  if err.status then return refused(err, want) end
  if not err.pod then return nil, err end
  if want.runtime then
    provider:delete(want.name)
    return errors.skip("runtime %s: %s", want.runtime, err.message)
  end
  return nil, { code = "unavailable", message = ("it does not come up: %s"):format(err.message) }
end

-- Pods with what is in them, or why not: of those without the latter, `endpoint` or `err` is set.
function M.all(provider, items)
  local own, agents = {}, {}
  for _, item in ipairs(items) do
    local list = item.want.own and own or agents
    list[#list + 1] = item
  end
  local ok, err = owned.allow(provider)
  local nodes = {}
  if ok and #agents > 0 then
    nodes, err = roster.chosen(provider)
    ok = nodes or err.status == 403
  end
  if not ok then
    for _, item in ipairs(items) do item.err = err end
    return
  end
  if #own > 0 then place(provider, own) end
  if #agents > 0 then way.place(provider, nodes or {}, agents, function(list) place(provider, list) end) end
  for _, item in ipairs(items) do
    if not item.endpoint then item.err = select(2, failure(provider, item)) end
  end
end

-- -> endpoint | nil, err
function M.one(provider, want, kind)
  local item = { want = want, kind = kind }
  M.all(provider, { item })
  return item.endpoint, item.err
end

return M
