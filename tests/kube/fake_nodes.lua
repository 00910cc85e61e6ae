-- A kubelet for nodes that do not exist, for tests of how knbl and the API server do with many: makes the nodes fake-1
-- … fake-N, says of each pod on them that it runs at one address, where a real agent listens, and removes those that
-- are deleted. Prints "ready". Ends with SIGTERM, and removes the nodes.
--
-- FAKE_NODES: how many; FAKE_ADDRESS: where the agent listens
local core = require "knbl.core"
local kube = require "knbl.kube"

local nodes, address = tonumber(os.getenv "FAKE_NODES"), os.getenv "FAKE_ADDRESS"
local api = assert(kube.connect {})
local MERGE = "application/merge-patch+json"

local function now() return os.date "!%Y-%m-%dT%H:%M:%SZ" end
local function name_of(i) return "fake-" .. i end

local function patch_status(kind, name, options, status)
  local path = api:path(kind, name, options) .. "/status"
  return api:request("PATCH", path, { body = { status = status }, content_type = MERGE })
end

local function beat(i)
  assert(patch_status("Node", name_of(i), nil, {
    capacity = { cpu = "8", memory = "16Gi", pods = "110" }, allocatable = { cpu = "8", memory = "16Gi", pods = "110" },
    nodeInfo = { architecture = "amd64", operatingSystem = "linux", kernelVersion = "0", osImage = "none",
      containerRuntimeVersion = "fake://0", kubeletVersion = "v0", kubeProxyVersion = "v0", machineID = "", bootID = "",
      systemUUID = "" },
    addresses = { { type = "InternalIP", address = ("198.18.%d.%d"):format(i // 250, i % 250 + 1) } },
    images = { { names = { "registry.example/pause:1" }, sizeBytes = 700000 } },
    conditions = { { type = "Ready", status = "True", reason = "KubeletReady", message = "", lastHeartbeatTime = now(),
      lastTransitionTime = now() } },
  }))
end

local function make_nodes()
  for i = 1, nodes do
    assert(api:create { apiVersion = "v1", kind = "Node", metadata = { name = name_of(i),
      labels = { ["kubernetes.io/arch"] = "amd64", ["kubernetes.io/os"] = "linux", ["knbl-test/fake"] = "yes",
        ["kubernetes.io/hostname"] = name_of(i) } } })
    beat(i)
  end
end

-- The next of the nodes says that it is alive: each does so within the 40 s after which it would count as gone.
local last = 0
local function beat_next()
  last = last % nodes + 1
  beat(last)
end

-- New nodes are tainted until the controller manager has heard of their state.
local function await_nodes()
  repeat
    local tainted = 0
    for _, node in ipairs(assert(api:list("Node", { selector = "knbl-test/fake=yes" })).items) do
      if node.spec.taints then tainted = tainted + 1 end
    end
    for _ = 1, 20 do beat_next() end
  until tainted == 0 or core.interrupted()
end

local running = {}

local function take(event)
  local pod = event.object
  local meta = pod.metadata
  local node = pod.spec.nodeName
  if not node or not node:find "^fake%-" then return end
  if event.type == "DELETED" then
    running[meta.uid] = nil
  elseif meta.deletionTimestamp then
    api:delete("Pod", meta.name, { namespace = meta.namespace, grace = 0 })
  elseif not running[meta.uid] then
    running[meta.uid] = true
    local c = pod.spec.containers[1]
    patch_status("Pod", meta.name, { namespace = meta.namespace }, { phase = "Running", startTime = now(),
      podIP = address, podIPs = { { ip = address } }, hostIP = address,
      conditions = { { type = "Ready", status = "True" }, { type = "PodScheduled", status = "True" } },
      containerStatuses = { { name = c.name, image = c.image, imageID = "", ready = true, restartCount = 0,
        state = { running = { startedAt = now() } } } } })
  end
end

local function remove_nodes()
  core.cleanup(true)
  for i = 1, nodes do api:delete("Node", name_of(i)) end
  core.cleanup(false)
end

local _ <close> = setmetatable({}, { __close = remove_nodes })
make_nodes()
await_nodes()
print "ready"
io.stdout:flush()
local w <close> = api:watch("Pod", { all_namespaces = true, timeout = 600 })
while not core.interrupted() do
  w.deadline = core.now() + 0.05
  local event = w:next()
  if event then take(event) end
  beat_next()
end
