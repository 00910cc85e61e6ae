-- knbl submit - a scenario run from inside the cluster, in one command: the script goes in as a ConfigMap, a Job runs
-- it, its log is followed, and the results come home. Everything it makes is removed again.
local errors = require "knbl.base.errors"
local exit = require "knbl.base.exit"
local kube = require "knbl.kube"
local ledger = require "knbl.results.ledger"
local manifest = require "knbl.kube.manifest"
local namespace = require "knbl.kube.namespace"
local output = require "knbl.program.output"
local pods = require "knbl.kube.pods"
local say = require "knbl.base.say"
local scenario = require "knbl.program.scenario"

local M = {
  summary = "Runs a scenario inside the cluster as a Job, follows its log and brings the results home.",
  usage = "knbl submit [OPTIONS] SCENARIO [-- SCENARIO'S OPTIONS]",
  flags = {
    { name = "kubeconfig", value = "FILE", help = "use only this kubeconfig" },
    { name = "context", value = "NAME", help = "a context of it" },
    { name = "namespace", short = "-n", value = "NAME",
      help = "where it runs; created if it does not exist [the context's]" },
    { name = "image", value = "NAME", help = "the image [knbl:VERSION]" },
    { name = "image-pull-secret", value = "NAME", help = "the Secret to pull it with" },
    { name = "json", value = "FILE", help = "write the ledger here (- is standard output)" },
    { name = "timeout", value = "TIME", kind = "duration", help = "end the Job after this time [1h]" },
  },
}

-- What a scenario inside needs: deploy/role.yaml without the proxy, which is for control from outside.
local rules = {
  { apiGroups = { "" }, resources = { "pods" }, verbs = { "create", "get", "list", "watch", "patch", "delete" } },
  { apiGroups = { "" }, resources = { "services", "configmaps", "secrets" },
    verbs = { "create", "get", "list", "delete" } },
  { apiGroups = { "discovery.k8s.io" }, resources = { "endpointslices" }, verbs = { "list" } },
  { apiGroups = { "" }, resources = { "endpoints" }, verbs = { "get" } },
  { apiGroups = { "" }, resources = { "events" }, verbs = { "list" } },
}

local function account(run, name)
  local function meta() return { name = name, namespace = run.namespace,
    labels = { [manifest.MANAGED] = "knbl", [manifest.RUN] = run.id },
    ownerReferences = { run.owner } } end
  local rbac = "rbac.authorization.k8s.io"
  return {
    { apiVersion = "v1", kind = "ServiceAccount", metadata = meta() },
    { apiVersion = rbac .. "/v1", kind = "Role", metadata = meta(), rules = rules },
    { apiVersion = rbac .. "/v1", kind = "RoleBinding", metadata = meta(),
      roleRef = { apiGroup = rbac, kind = "Role", name = name },
      subjects = { { kind = "ServiceAccount", name = name, namespace = run.namespace } } },
  }
end

-- The run ends itself in time, so that its pod and its log remain; a Job that is over its time loses both.
local LATE_S = 60

local function job(run, name, image, words, seconds, pull_secret)
  local labels = { [manifest.MANAGED] = "knbl", [manifest.RUN] = run.id }
  return { apiVersion = "batch/v1", kind = "Job", metadata = { name = name, namespace = run.namespace, labels = labels,
    ownerReferences = { run.owner } },
    spec = { backoffLimit = 0, activeDeadlineSeconds = seconds + LATE_S,
      template = { metadata = { labels = { ["knbl.io/job"] = name } }, spec = {
      imagePullSecrets = pull_secret and { { name = pull_secret } } or nil,
      serviceAccountName = name, restartPolicy = "Never",
        securityContext = { runAsNonRoot = true, seccompProfile = { type = "RuntimeDefault" } },
      containers = { { name = "knbl", image = image, imagePullPolicy = "IfNotPresent", args = words,
        terminationMessagePolicy = "FallbackToLogsOnError",
        env = { { name = output.MARK, value = "1" }, { name = output.LIMIT, value = seconds .. "s" } },
        resources = { requests = { cpu = "100m", memory = "64Mi" } },
        securityContext = { allowPrivilegeEscalation = false, readOnlyRootFilesystem = true, runAsUser = 65532,
          runAsGroup = 65532,
          capabilities = { drop = { "ALL" } } },
        volumeMounts = { { name = "scenario", mountPath = "/scenario", readOnly = true } } } },
      volumes = { { name = "scenario", configMap = { name = name } } } } } } }
end

-- The nodes that can be used, named for a script inside that may not list them.
local function node_names(api)
  local choice = require "knbl.kube.nodes"
  local list = api:list "Node"
  local names = {}
  for _, node in ipairs(list and choice.choose(list.items, {}) or {}) do names[#names + 1] = node.name end
  return #names > 0 and table.concat(names, ",") or nil
end

local BEGIN_S = 60  -- in which the Job's pod begins
local REFUSED_S = 6 -- in which a Job that may make no pod may yet find that it may

-- Waits for the Job's pod to begin, and for what keeps it from it. A Job that is refused its pod says so by an event.
local function await_pod(core, api, name)
  local explain = require "knbl.kube.explain"
  local w <close> = api:watch("Pod", { selector = "knbl.io/job=" .. name })
  local limit, refused_at = core.now() + BEGIN_S, nil
  while true do
    w.deadline = math.min(limit, core.now() + 2)
    local event, err = w:next()
    if event then
      local pod = event.object
      if pod.status.phase == "Running" or pod.status.phase == "Succeeded" or pod.status.phase == "Failed" then
        return pod
      end
      local why, final = explain.pod(pod)
      if final then return nil, errors.new("unavailable", why) end
    elseif err.code ~= "timeout" then
      return nil, err
    else
      local said = pods.events_of(api, name)
      refused_at = said and (refused_at or core.now())
      if refused_at and core.now() - refused_at >= REFUSED_S then
        return nil, errors.new("unavailable", explain.refusal({ message = said }, {}))
      end
      if core.now() >= limit then return nil, err end
    end
  end
end

local AWAY_S = 30 -- in which an API server that went away may come back

-- The exit code of the scenario's process, once it has one.
local function exit_code(api, pod)
  local w <close> = api:watch("Pod", { field = "metadata.name=" .. pod.metadata.name, timeout = 30 })
  while true do
    local event, err = w:next()
    if not event then return nil, err end
    for _, status in ipairs(event.object.status.containerStatuses or {}) do
      if status.state.terminated then return status.state.terminated.exitCode end
    end
  end
end

-- A pod's log: log.read(whether it is followed to its end) shows each line once, and returns true, or nil and an error.
-- The ledger's lines, which are marked, are kept in log.results. log.away is for who asks: it is gone when a line has
-- come.
local function log_of(context, api, pod)
  local log, seen = { results = {} }, 0
  local function take(line, n)
    log.away = nil
    if n <= seen then return end -- a log begins anew with each request
    seen = n
    if not output.unmark(log.results, line) then context.err(line .. "\n") end
  end
  function log.read(follow)
    local stream, err = api:logs(pod.metadata.name, { stream = true, follow = follow })
    if not stream then return nil, err end
    local n = 0
    while true do
      local line, why = stream:line(3600)
      if line then
        n = n + 1
        take(line, n)
      elseif not (why and why.code == "timeout") then
        stream:close()
        return not why or nil, why
      end
    end
  end
  return log
end

-- The ledger that a pod's log brings, as text ("" where there is none), and the exit code of its process. A log that is
-- followed may end before the process has and before its last lines; so what is missing is read when the process is
-- known to have ended.
local function await_end(context, api, pod)
  local core, log = context.core, log_of(context, api, pod)
  local code
  while true do
    local ok, err = log.read(not code)
    if ok and code then return table.concat(log.results, "\n"), code end
    if ok then
      code, err = exit_code(api, pod)
      if err and err.code == "timeout" then err = nil end -- it still runs
    end
    -- the Job's time was over, and its pod is gone
    if err and err.status == 404 and log.results[1] then return table.concat(log.results, "\n"), code or 1 end
    if err then
      log.away = log.away or core.now() -- since when there is no answer
      if err.code == "interrupted" or err.status or core.now() - log.away > AWAY_S then return nil, err end
      ok, err = core.sleep(0.5)
      if not ok then return nil, err end
    end
  end
end

local function carry_out(context, api, run, name, values, words)
  local function create(object)
    local made, err = api:create(object)
    if not made then errors.raise(errors.new("unavailable", err.message)) end
    return made
  end
  local owner = create { apiVersion = "v1", kind = "ConfigMap", data = { ["scenario.lua"] = run.text },
    metadata = { name = name, namespace = run.namespace,
      labels = { [manifest.MANAGED] = "knbl", [manifest.RUN] = run.id } } }
  run.owner = manifest.owner_reference(owner)
  for _, object in ipairs(account(run, name)) do create(object) end
  local args = { "--on", "k8s", "--json", "-" }
  local nodes = node_names(api)
  for _, pair in ipairs { { "--nodes", nodes }, { "--image", values.image },
    { "--image-pull-secret", values.image_pull_secret } } do
    if pair[2] then table.move(pair, 1, 2, #args + 1, args) end
  end
  args[#args + 1] = "/scenario/scenario.lua"
  table.move(words, 2, #words, #args + 1, args)
  local seconds = math.ceil(values.timeout and context.core.duration(values.timeout) or 3600)
  create(job(run, name, values.image or "knbl:" .. context.core.version, args, seconds, values.image_pull_secret))
  local pod, err = await_pod(context.core, api, name)
  if not pod and err.code == "interrupted" then errors.raise(errors.new("interrupted", "interrupted")) end
  if not pod then errors.raise(errors.new("unavailable", "its Job does not start: " .. err.message)) end
  local text, code = await_end(context, api, pod)
  if not text and code.code == "interrupted" then errors.raise(errors.new("interrupted", "interrupted")) end
  if not text then errors.raise(errors.new("lost", "its log: " .. code.message)) end
  if code == exit.interrupted then -- not by this side, or the error would say so
    context.err(("knbl: the run was ended after %d s, its timeout: --timeout makes it longer\n"):format(seconds))
  end
  return text, code
end

-- Shows the ledger, and writes it where that was asked for. A scenario that failed may have none.
local function deliver(context, values, text, code)
  local core = context.core
  if text == "" and code ~= 0 then return end
  if text == "" then errors.raise(errors.new("lost", "the Job's log does not contain the results; run it again")) end
  local data, err = ledger.parse(text, "the results in its log")
  if not data then errors.raise(errors.new("lost", err.message)) end
  if values.json == "-" then
    context.out(text .. "\n")
  elseif values.json then
    local ok, why = core.write_file(values.json, text .. "\n")
    if not ok then errors.raise(why) end
  end
  output.show(context, data, { json = values.json })
end

-- The Job first, and its permissions only once its pod has ended: until then it removes what it made itself.
local function remove(core, api, name, own_namespace)
  core.cleanup(true) -- to the end of the program
  local rbac = "rbac.authorization.k8s.io/v1"
  local failed = pods.remove(api, { { kind = { api = "batch/v1", kind = "Job" }, name = name } },
    "knbl.io/job=" .. name)
  for _, kind in ipairs { { api = rbac, kind = "RoleBinding" }, { api = rbac, kind = "Role" }, "ServiceAccount",
    "ConfigMap" } do
    local ok, err = api:delete(kind, name)
    if not ok then failed = failed or err end
  end
  if own_namespace and not failed then
    local ok, err = api:delete("Namespace", own_namespace)
    if not ok then failed = err end
  end
  if failed then
    say(("knbl: not all of Job %s could be removed: %s\nknbl: `knbl clean` finishes it\n"):format(name,
      failed.message))
  end
end

function M.run(context, values, words)
  if not words[1] then errors.usage("which scenario? %s", M.usage) end
  local text, found = scenario.find(context.core, words[1])
  if not text then errors.usage("%s", found) end
  local api, err = kube.connect { kubeconfig = values.kubeconfig, context = values.context,
    namespace = values.namespace }
  if not api then errors.raise(errors.new("unavailable", err.message)) end
  local run = { id = context.core.token():sub(1, 8), namespace = api.namespace, text = text }
  local name = "knbl-" .. run.id
  local entered, why = namespace.ensure(api, run)
  if not entered then errors.raise(errors.new("unavailable", why.message)) end
  local ok, results, code = pcall(carry_out, context, api, run, name, values, words)
  remove(context.core, api, name, entered.made and run.namespace)
  if not ok then error(results, 0) end
  deliver(context, values, results, code)
  return code
end

return M
