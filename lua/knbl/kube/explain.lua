-- knbl.kube.explain: why a pod does not come up, in one line, from its conditions, its containers and its events.
local M = {}

local function image_hint(image)
  return ("image %s cannot be had there; load it into the nodes (`knbl image save knbl.tar`, then `kind load image-archive knbl.tar` or " ..
    "`ctr -n k8s.io images import knbl.tar` on each) or name one that the cluster can pull with --image"):format(image)
end

local waiting = {
  ErrImagePull = image_hint, ImagePullBackOff = image_hint, ErrImageNeverPull = image_hint, InvalidImageName = image_hint,
  RegistryUnavailable = image_hint, CreateContainerConfigError = true, CreateContainerError = true, RunContainerError = true,
  CrashLoopBackOff = true, StartError = true,
}

local function container_reason(pod)
  for _, status in ipairs(pod.status.containerStatuses or {}) do
    local state = status.state or {}
    local w, t = state.waiting, state.terminated
    local why = w and waiting[w.reason]
    if why then
      local text = type(why) == "function" and why(status.image) or nil
      return ("%s: %s"):format(w.reason, text or w.message or "no explanation")
    elseif t then
      return ("its agent ended with code %d (%s)%s"):format(t.exitCode, t.reason or "?", t.message and ": " .. t.message or "")
    end
  end
end

-- Final, or worth waiting on a little: -> reason | nil, final
function M.pod(pod)
  if pod.metadata.deletionTimestamp then return "somebody deleted it", true end
  if pod.status.phase == "Failed" then
    return ("%s%s"):format(pod.status.reason or "it failed", pod.status.message and ": " .. pod.status.message or ""), true
  end
  for _, condition in ipairs(pod.status.conditions or {}) do
    if condition.type == "PodScheduled" and condition.status == "False" then
      return ("no node takes it (%s): %s"):format(condition.reason, condition.message or "no explanation"), condition.reason ~= "SchedulerError"
    end
  end
  local reason = container_reason(pod)
  return reason, reason ~= nil
end

local telling = { FailedCreatePodSandBox = true, FailedScheduling = true, FailedMount = true, FailedAttachVolume = true, Failed = true,
  NetworkNotReady = true, FailedCreate = true }

-- The newest event that says something went wrong.
function M.events(list)
  local best, stamp
  for _, e in ipairs(list) do
    local at = e.lastTimestamp or e.eventTime or e.metadata.creationTimestamp or ""
    if e.type == "Warning" and telling[e.reason] and (not stamp or at >= stamp) then best, stamp = e, at end
  end
  return best and ("%s: %s"):format(best.reason, (best.message or ""):gsub("%s+", " "))
end

-- A refusal at the door: Pod Security, quota, policy, RBAC.
function M.refusal(err, what)
  local text = err.message or ""
  if text:find("violates PodSecurity", 1, true) then
    return ("%s: Pod Security of the namespace refuses it; it needs the label pod-security.kubernetes.io/enforce=privileged (host network): %s"):format(what, text)
  elseif text:find("exceeded quota", 1, true) then
    return ("%s: the namespace's quota is used up: %s"):format(what, text)
  elseif text:find("RuntimeClass", 1, true) then
    return ("%s: %s"):format(what, text)
  elseif err.status == 403 then
    return ("%s: not permitted: %s"):format(what, text)
  end
  return ("%s: %s"):format(what, text)
end

return M
