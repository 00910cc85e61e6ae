-- knbl.kube.explain: why a pod does not come up, in one line, from its conditions, its containers and its events.
local M = {}

-- What the runtime said of the pull: older kubelets put an RPC's code before it, newer ones repeat it while they back
-- off.
local function pull_failure(message)
  local text = (message or ""):gsub("%s+", " "):gsub("^Back%-off pulling image .-: ErrImagePull: ",
    ""):gsub("^rpc error: .- desc = ", "")
  if text == "" or text:find "^Back%-off" then return "" end
  -- the cause stands at the end
  return (" (%s)"):format(#text > 240 and text:sub(1, 80) .. " … " .. text:sub(-160) or text)
end

local function image_hint(status, message)
  local load = "load it into the nodes (`knbl image save knbl.tar`, then `kind load image-archive knbl.tar` or \z
    `ctr -n k8s.io images import knbl.tar` on each)"
  local hint = load .. ", name one that the cluster can pull with --image, or use --inject, which needs none"
  if status.name == "server" then hint = "load it into the nodes, or name one that the cluster can pull" end
  if status.name == "knbl" then -- the Job of knbl submit
    hint = load .. " or name one with --image: `knbl submit` runs knbl itself in the cluster, `knbl --on k8s` needs \z
      none"
  end
  return ("image %s cannot be pulled on the node%s; %s"):format(status.image, pull_failure(message), hint)
end

-- The same without advice.
function M.plain(text) return (text:gsub("; load it into the nodes.*$", "")) end

local waiting = {
  ErrImagePull = image_hint, ImagePullBackOff = image_hint, ErrImageNeverPull = image_hint,
    InvalidImageName = image_hint,
  RegistryUnavailable = image_hint, CreateContainerConfigError = true, CreateContainerError = true,
    RunContainerError = true,
  CrashLoopBackOff = true, StartError = true,
}

-- Every container's state, those that begin before (or, restarting always, run beside) the others first.
local function statuses(pod)
  local list = {}
  for _, kind in ipairs { "initContainerStatuses", "containerStatuses" } do
    for _, status in ipairs(pod.status[kind] or {}) do list[#list + 1] = status end
  end
  return list
end

local function container_reason(pod)
  for _, status in ipairs(statuses(pod)) do
    local state = status.state or {}
    local w, t = state.waiting, state.terminated
    local why = w and waiting[w.reason]
    if why then
      local text = type(why) == "function" and why(status, w.message) or nil
      return ("%s: %s"):format(w.reason, text or w.message or "no explanation")
    elseif t and (status.name == nil or status.name == "agent" or t.exitCode ~= 0) then
      return ("its container %s ended with exit code %d (%s)%s"):format(status.name or "agent", t.exitCode,
        t.reason or "?", t.message and ": " .. t.message or "")
    end
  end
end

-- Final, or worth waiting on a little: -> reason | nil, final
function M.pod(pod)
  if pod.metadata.deletionTimestamp then return "the pod was deleted", true end
  if pod.status.phase == "Failed" then
    if not pod.status.reason and not pod.status.message then return container_reason(pod) or "the pod failed", true end
    local message = pod.status.message and ": " .. pod.status.message or ""
    return (pod.status.reason or "the pod failed") .. message, true
  end
  for _, condition in ipairs(pod.status.conditions or {}) do
    if condition.type == "PodScheduled" and condition.status == "False" then
      return ("no node accepts the pod (%s): %s"):format(condition.reason, condition.message or "no explanation"),
        condition.reason ~= "SchedulerError"
    end
  end
  local reason = container_reason(pod)
  return reason, reason ~= nil
end

local telling = { FailedCreatePodSandBox = true, FailedScheduling = true, FailedMount = true, FailedAttachVolume = true,
  Failed = true,
  NetworkNotReady = true, FailedCreate = true }

-- Whether a reason has the cause of the one that came before it no more: kubelets of old back off without a word of
-- why.
function M.says_less(reason, before)
  return before ~= nil and reason:find "^ImagePullBackOff" ~= nil and before:find "^ErrImagePull" ~= nil
    and #reason < #before
end

-- A kubelet that finds its API server again: it tries once more by itself.
local function will_pass(event) return (event.message or ""):find "failed to sync %a+ cache" ~= nil end

-- The newest event that says something went wrong; `probes`: what may still turn out well by itself, too.
function M.events(list, probes)
  local best, stamp
  for _, e in ipairs(list) do
    local at = e.series and e.series.lastObservedTime or e.lastTimestamp or e.eventTime or e.metadata.creationTimestamp
      or ""
    local tells = telling[e.reason] and (probes or not will_pass(e)) or probes and e.reason == "Unhealthy"
    if e.type == "Warning" and tells and (not stamp or at >= stamp) then
      best, stamp = e, at
    end
  end
  return best and ("%s: %s"):format(best.reason, (best.message or ""):gsub("%s+", " "))
end

function M.is_pod_security(err)
  return (err.message or ""):find("PodSecurity", 1, true) ~= nil
    or (err.message or ""):find("pod security policy", 1, true) ~= nil or M.is_assigned_user(err)
end
-- OpenShift's security context constraints, which give pods their user.
function M.is_assigned_user(err) return (err.message or ""):find("security context constraint", 1, true) ~= nil end
function M.is_runtime(err) return (err.message or ""):find("RuntimeClass", 1, true) ~= nil end

-- What was refused because a permission is missing, with the file that has all that are needed.
function M.permission(text)
  if not text:find("is forbidden: User", 1, true) or text:find("permit", 1, true) then return text end
  return ("not permitted (deploy/role.yaml has what is needed): %s"):format(text)
end

-- Why the API server refused an object: Pod Security, quota, policy, RBAC. want: { name, host_network }.
function M.refusal(err, want)
  local text = err.message or ""
  if M.is_pod_security(err) then
    local needs = want.host_network
      and "an agent in a node's own network needs a namespace labelled pod-security.kubernetes.io/enforce=privileged"
      or "the namespace denies even restricted pods"
    return ("Pod Security: %s: %s"):format(needs, text)
  elseif text:find("exceeded quota", 1, true) or text:find("failed quota", 1, true) then
    return ("the namespace's quota is exceeded: %s"):format(text)
  elseif text:find "must be less than or equal to %a+ limit" or text:find "m[ai][xn]imum %S+ usage per" then
    return (
      "the namespace's limits do not allow it (kubectl describe limitrange); --cpu and --memory say how much it asks \z
        for: %s"):format(text)
  elseif M.is_runtime(err) then
    return text
  elseif text:find "admission webhook" or text:find "ValidatingAdmissionPolicy"
    or text:find "policy '.-' with binding '.-' denied" then
    return ("a policy of the cluster denied it: %s"):format(text)
  end
  return M.permission(text)
end

return M
