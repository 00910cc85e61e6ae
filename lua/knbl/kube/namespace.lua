-- knbl.kube.namespace: the namespace that a run goes into: as it is there, or made for the run, which then removes it.
local manifest = require "knbl.kube.manifest"

local M = {}

local ENFORCE = "pod-security.kubernetes.io/enforce"

-- -> { made = whether it is ours to remove, restricted = whether it asks that of its pods } | nil, err
function M.ensure(api, run)
  local there, err = api:get("Namespace", run.namespace)
  if there and there.metadata.deletionTimestamp then
    return nil, { code = "unavailable", message = ("the namespace %s is terminating; wait, or name another with --namespace"):format(run.namespace) }
  end
  if there then return { restricted = (there.metadata.labels or {})[ENFORCE] == "restricted" } end
  if err.status == 403 then return {} end -- who may not look at namespaces finds out at the first object
  if err.status ~= 404 then return nil, err end
  local made
  made, err = api:create { apiVersion = "v1", kind = "Namespace", metadata = { name = run.namespace, labels = { [manifest.MANAGED] = "knbl",
    [manifest.RUN] = run.id } } }
  if made then return { made = true } end
  if err.status == 409 then return {} end -- another run made it meanwhile
  return nil, err
end

return M
