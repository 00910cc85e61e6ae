-- knbl.kube.namespace: the namespace that a run goes into: as it is there, or made for the run, which then removes it.
local core = require "knbl.core"
local manifest = require "knbl.kube.manifest"

local M = {}

local GOING_S = 60 -- in which a namespace that an earlier run made is gone
local ENFORCE = "pod-security.kubernetes.io/enforce"
local USERS = "openshift.io/sa.scc.uid-range"

-- The namespace; one that an earlier run made and that is terminating is waited for, so that a run can follow another.
local function look_up(api, name)
  local deadline = core.now() + GOING_S
  while true do
    local there, err = api:get("Namespace", name)
    if not there or not there.metadata.deletionTimestamp then return there, err end
    if (there.metadata.labels or {})[manifest.MANAGED] ~= "knbl" or core.now() > deadline then return there end
    local ok, interrupted = core.sleep(0.3)
    if not ok then return nil, interrupted end
  end
end

-- -> { made = whether it is ours to remove, restricted = whether it asks that of its pods, assigns_user = whether it
-- gives its pods a user (OpenShift) } | nil, err
function M.ensure(api, run)
  local there, err = look_up(api, run.namespace)
  if there and there.metadata.deletionTimestamp then
    return nil, { code = "unavailable",
      message = ("the namespace %s is terminating; wait, or choose another with --namespace"):format(run.namespace) }
  end
  if there then
    return { restricted = (there.metadata.labels or {})[ENFORCE] == "restricted",
      assigns_user = (there.metadata.annotations or {})[USERS] ~= nil }
  end
  if err.status == 403 then return {} end -- without permission to get namespaces, the first object shows
  if err.status ~= 404 then return nil, err end
  local made
  made, err = api:create { apiVersion = "v1", kind = "Namespace",
    metadata = { name = run.namespace, labels = { [manifest.MANAGED] = "knbl",
    [manifest.RUN] = run.id } } }
  if made then return { made = true } end
  if err.status == 409 then return {} end -- another run made it meanwhile
  return nil, err
end

return M
