-- What does a rolling update of a Deployment cost the clients of its Service, on new and on kept connections?
local knbl = require "knbl"
local opt = knbl.options { replicas = { 3, "pods of the Deployment" }, rate = { "1k/s", "attempts a second" },
  pre_stop = { { 0 }, "seconds that a pod sleeps before it stops, e.g. 0,5 (Kubernetes 1.30)", kind = "list" } }

-- A Deployment of pods such as this one, with its labels: the Service over it selects them.
local function deployment(kube, pod, seconds)
  local like = kube:list("Pod", { selector = "knbl.io/pod=" .. pod.name }).items[1]
  local spec, labels, agent = like.spec, like.metadata.labels, like.spec.containers[1]
  for i, word in ipairs(agent.args) do if word == "--name" then agent.args[i + 1] = "$(POD_NAME)" end end
  table.insert(agent.env, 1, { name = "POD_NAME", valueFrom = { fieldRef = { fieldPath = "metadata.name" } } })
  agent.readinessProbe = { tcpSocket = { port = agent.ports[1].containerPort }, periodSeconds = 1 }
  if seconds > 0 then agent.lifecycle = { preStop = { sleep = { seconds = seconds } } } end
  spec.nodeName, spec.affinity, spec.activeDeadlineSeconds, spec.restartPolicy = nil, nil, nil, "Always"
  return { apiVersion = "apps/v1", kind = "Deployment", spec = { replicas = opt.replicas,
    selector = { matchLabels = labels }, template = { metadata = { labels = labels }, spec = spec } } }
end

for c in knbl.matrix { { "pre_stop", table.unpack(opt.pre_stop) }, { "kind", "connect", "session" } } do
  local cluster <close> = knbl.cluster()
  local client, model = cluster:pair()
  local kube, seconds = cluster.kube, tonumber(c.pre_stop)
  knbl.probe { from = client, to = model:service(), kind = c.kind, rate = opt.rate, duration = "2m", settle = "3s",
    skip = kube and seconds > 0 and not kube:is_at_least(1, 30) and "a preStop sleep requires Kubernetes 1.30" or nil,
    during = function(mark)
      if not kube then return knbl.note "nothing is rolled here: it takes Kubernetes" end
      local name = cluster:create(deployment(kube, model, seconds)).metadata.name
      repeat mark.wait "200ms" until kube:is_rolled_out(name)
      cluster:delete(model)
      mark.wait "2s"
      mark "roll"
      kube:restart(name)
      repeat mark.wait "200ms" until kube:is_rolled_out(name)
      mark "rolled"
    end }
end
knbl.report { rows = { "pre_stop", "kind" }, columns = { { "lost", show = "outage_total" }, "outage_longest",
  { "first lost", show = "after_mark.roll.first_fail" }, { "last lost", show = "after_mark.roll.last_fail" },
  "timeouts", "refused", "resets", "blind" } }
