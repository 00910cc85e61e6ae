-- knbl.kube.inject: agents on a cluster that has no image of knbl. The agent's file goes into a ConfigMap of the run,
-- one for each architecture, which a projected volume mounts into a pod of an image that the node has already.
--
-- The file is executed as it lies there. Where the volume is mounted noexec, the image's own shell copies it into a
-- memory-backed emptyDir; where nothing can be executed there either, the image's perl or python3 runs it from a memfd.
local core = require "knbl.core"
local manifest = require "knbl.kube.manifest"
local script = require "knbl.base.script"

local M = {}

M.FOLDER, M.COPY = "/knbl", "/run/knbl" -- where the volumes are mounted
M.LIMIT = 1024 * 1024                   -- bytes that a ConfigMap holds
local IMAGES_TRIED = 6

-- ---- the agent in a ConfigMap ----

-- The architectures that this knbl has agents for, as Kubernetes names them: { amd64 = true, … }.
function M.architectures()
  local archs = {}
  for _, arch in ipairs { "amd64", "arm64" } do
    if core.agent_binary(arch) then archs[arch] = true end
  end
  return archs
end

local function configmap_name(run, arch) return ("knbl-%s-agent-%s"):format(run.id, arch) end

-- The ConfigMap with the agent for an architecture | nil, err. binary is for tests.
function M.configmap(run, arch, binary)
  local err
  if not binary then
    binary, err = core.agent_binary(arch)
    if not binary then return nil, { code = "unavailable", message = err.message } end
  end
  if #binary > M.LIMIT then
    return nil, { code = "unavailable", message = ("the agent for %s has %d bytes, a ConfigMap holds %d at most; name \z
      the agent's image with --image"):format(arch, #binary, M.LIMIT) }
  end
  return manifest.configmap(run, configmap_name(run, arch), { binaryData = { agent = core.base64(binary) },
    immutable = true })
end

-- ---- how a pod takes it up ----

-- What manifest.pod makes of an injected agent. carrier: { image, policy, shell }
function M.body(run, arch, carrier)
  local program = M.FOLDER .. "/agent"
  local volumes = { { name = "agent", projected = { defaultMode = 365, -- 0555
    sources = { { configMap = { name = configmap_name(run, arch) } } } } } }
  local mounts = { { name = "agent", mountPath = M.FOLDER, readOnly = true } }
  local command = { program }
  if carrier.shell then
    volumes[2] = { name = "copy", emptyDir = { medium = "Memory", sizeLimit = "16Mi" } }
    mounts[2] = { name = "copy", mountPath = M.COPY }
    command = { "/bin/sh", "-c", script.copy_and_run, "sh", program, M.COPY .. "/agent" }
  end
  return { image = carrier.image, policy = carrier.policy, command = command, volumes = volumes, mounts = mounts }
end

-- How an agent was started, by the file that it runs from (about.executable); nil where it does not say.
function M.way_of(executable)
  if not executable then return nil end
  if executable:find("memfd:", 1, true) then return "memfd" end
  return executable:sub(1, #M.COPY + 1) == M.COPY .. "/" and "copied" or "mounted"
end

-- ---- images that a node has ----

-- A name as container runtimes keep it, without what Docker Hub leaves out.
local function short(name) return (name:gsub("^docker%.io/", ""):gsub("^library/", "")) end

local function named(image)
  local by_digest
  for _, name in ipairs(image.names or {}) do
    if not name:find("<none>", 1, true) then
      if not name:find("@", 1, true) then return name end
      by_digest = by_digest or name
    end
  end
  return by_digest
end

-- Whether a node has an image, as far as its status says (which names 50 at most); nil where that is not known.
function M.has(node, name)
  if not node.images then return nil end
  for _, image in ipairs(node.images) do
    for _, known in ipairs(image.names or {}) do
      if short(known) == short(name) then return true end
    end
  end
  return false
end

-- The images of DaemonSet pods by node: { NODE = { IMAGE = the DaemonSet's name } }.
function M.daemons(pods)
  local by_node = {}
  for _, pod in ipairs(pods) do
    local owner = (pod.metadata.ownerReferences or {})[1]
    if owner and owner.kind == "DaemonSet" and pod.spec.nodeName and pod.status.phase == "Running" then
      local images = by_node[pod.spec.nodeName] or {}
      by_node[pod.spec.nodeName] = images
      for _, container in ipairs(pod.spec.containers) do images[container.image] = owner.name end
    end
  end
  return by_node
end

local function smaller(a, b)
  if a.daemon ~= b.daemon and not (a.daemon and b.daemon) then return a.daemon ~= nil end
  if a.bytes ~= b.bytes then return a.bytes < b.bytes end
  return a.image < b.image
end

-- The images of a node that may carry an agent, the best first: those of DaemonSets, which run there; then the
-- smallest. Each is { image, bytes, daemon?, policy }.
function M.carriers(node, daemons)
  local size, list, seen = {}, {}, {}
  for _, image in ipairs(node.images or {}) do
    for _, name in ipairs(image.names or {}) do size[short(name)] = image.sizeBytes or math.huge end
  end
  local function add(name, daemon)
    if not name or seen[short(name)] then return end
    seen[short(name)] = true
    list[#list + 1] = { image = name, bytes = size[short(name)] or math.huge, daemon = daemon, policy = "Never" }
  end
  for name, daemon in pairs(daemons or {}) do add(name, daemon) end
  for _, image in ipairs(node.images or {}) do add(named(image)) end
  table.sort(list, smaller)
  for i = #list, IMAGES_TRIED + 1, -1 do list[i] = nil end
  return list
end

-- ---- what did not work ----

-- Whether another image, or another way to start, may do better: "image", "shell"; nil where it is not the carrier's
-- fault. `message` is why a pod did not come up.
function M.fault(message)
  if message:find "permission denied" and (message:find "^StartError" or message:find "^RunContainerError"
    or message:find "OCI runtime") then
    return "shell"
  end
  for _, reason in ipairs { "ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff", "InvalidImageName",
    "ImageInspectError", "CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError" } do
    if message:find("^" .. reason) then return "image" end
  end
  -- the shell found nothing that may be executed, or lacks cat or chmod
  if message:find "ended with code 12[567]" then return "image" end
end

return M
