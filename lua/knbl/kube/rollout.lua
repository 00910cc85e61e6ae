-- knbl.kube.rollout - Deployments that are rolled, and what a server is new enough for; methods of the client.
local M = {}

local DEPLOYMENT = { api = "apps/v1", kind = "Deployment" }

-- Whether a Deployment has all of its pods, of its newest template, available and no others. Raises what the server
-- says where it cannot be read.
function M:is_rolled_out(name)
  local deployment = assert(self:get(DEPLOYMENT, name))
  local status, wanted = deployment.status or {}, deployment.spec.replicas
  return status.observedGeneration == deployment.metadata.generation and status.replicas == wanted
    and status.updatedReplicas == wanted and status.availableReplicas == wanted
end

-- As `kubectl rollout restart`: a new template, by an annotation.
function M:restart(name)
  local annotations = { ["kubectl.kubernetes.io/restartedAt"] = os.date "!%Y-%m-%dT%H:%M:%SZ" }
  return assert(self:patch(DEPLOYMENT, name, { spec = { template = { metadata = { annotations = annotations } } } }))
end

-- Whether the server is of that version of Kubernetes or a newer one.
function M:is_at_least(major, minor)
  local version = assert(self:request("GET", "/version"))
  local has_major, has_minor = tonumber(version.major), tonumber(tostring(version.minor):match "^%d+")
  return has_major ~= nil and has_minor ~= nil
    and (has_major > major or has_major == major and has_minor >= minor)
end

return M
