-- knbl.kube.pods: pods that come up or say why not, and pods that go.
local core = require "knbl.core"
local explain = require "knbl.kube.explain"

local M = {}

local READY_S = 90
local DOUBT_S = 6      -- in which what looks final may still turn out well
local PICKED_UP_S = 15 -- in which a kubelet takes a pod that was given to it
local GONE_S, FORCE_S = 30, 10

-- The newest thing that went wrong with an object of that name, or nil.
function M.events_of(api, name, probes)
  local list = api:list("Event", { field = "involvedObject.name=" .. name })
  return list and explain.events(list.items, probes)
end

function M.is_ready(pod)
  for _, c in ipairs(pod.status.conditions or {}) do
    if c.type == "Ready" then return c.status == "True" end
  end
  return false
end

-- The kubelet writes startTime as the first thing: without it, nobody on the node has seen the pod.
local function not_picked_up(pod)
  if pod and pod.spec.nodeName and not pod.status.startTime then
    return ("%s was given the pod and does not take it up; is its kubelet running?"):format(pod.spec.nodeName)
  end
end

-- Waits for a pod; what keeps it from coming up ends the wait as soon as it is known for sure. -> the pod | nil, { code = "pod", message }
function M.await(api, name)
  local w <close> = api:watch("Pod", { field = "metadata.name=" .. name, timeout = READY_S })
  local last, doubtful_until, reason, given
  local limit = w.deadline
  while true do
    w.deadline = math.min(limit, doubtful_until or math.huge, given and given + PICKED_UP_S or math.huge, core.now() + 2)
    local event, err = w:next()
    local now = core.now()
    if not event and err.code ~= "timeout" then return nil, err end
    if event then
      last = event.object
      if event.type == "DELETED" then return nil, { code = "pod", message = "somebody deleted it" } end
      if M.is_ready(last) and last.status.podIP then return last end
      if last.spec.nodeName and not last.status.startTime then given = given or now else given = nil end
      local why, final = explain.pod(last)
      if last.status.phase == "Failed" or last.metadata.deletionTimestamp then return nil, { code = "pod", message = why } end
      if final and not explain.says_less(why, reason) then reason = why end
      if final then doubtful_until = doubtful_until or now + DOUBT_S end
    elseif doubtful_until and now >= doubtful_until then
      return nil, { code = "pod", message = reason }
    elseif given and now >= given + PICKED_UP_S then
      return nil, { code = "pod", message = not_picked_up(last) }
    elseif now >= limit then
      return nil, { code = "pod", message = ("not ready after %d s: %s"):format(READY_S, M.events_of(api, name, true) or "nobody says why") }
    end
    if not doubtful_until then
      reason = M.events_of(api, name)
      doubtful_until = reason and now + DOUBT_S
    end
  end
end

function M.addresses(pod)
  local addresses = {}
  for _, ip in ipairs(pod.status.podIPs or { { ip = pod.status.podIP } }) do addresses[ip.ip:find(":", 1, true) and "v6" or "v4"] = ip.ip end
  return addresses
end

-- Its containers have ended, or never began: nothing of it can be cut short.
local function is_over(pod)
  if pod.status.phase == "Succeeded" or pod.status.phase == "Failed" then return true end
  for _, status in ipairs(pod.status.containerStatuses or {}) do
    if status.state.running or status.state.terminated then return false end
  end
  return true
end

-- Deletes { kind, name }… from the last to the first and waits until no pod with that label runs any more; a kubelet that is slow to say so, or dead,
-- is not waited for. -> nil, or what went wrong. The whole is bounded: a server that is gone is asked no longer than GONE_S.
function M.remove(api, made, selector)
  local deadline = core.now() + GONE_S
  local force_at = core.now() + FORCE_S
  local failed
  for i = #made, 1, -1 do
    if not made[i].later then
      api.patience = math.max(deadline - core.now(), 0)
      local ok, err = api:delete(made[i].kind, made[i].name)
      if not ok and not err.status then return err end -- nobody there: no use in asking for the rest
      if not ok then failed = failed or err end
    end
  end
  while true do
    api.patience = math.max(deadline - core.now(), 1)
    local left, err = api:list("Pod", { selector = selector })
    if not left then return err end
    if #left.items == 0 or failed then return failed end
    if core.now() > deadline then return { message = ("%d pods are still going after %d s"):format(#left.items, GONE_S) } end
    for _, pod in ipairs(left.items) do
      if is_over(pod) or core.now() > force_at then api:delete("Pod", pod.metadata.name, { grace = 0 }) end
    end
    core.sleep(0.1)
  end
end

return M
