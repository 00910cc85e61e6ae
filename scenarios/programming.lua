-- How soon does every node send to a Service's new endpoint, and stop sending to one that is gone, with many Services?
local knbl = require "knbl"
local json = require "knbl.json"
local opt = knbl.options { services = { { 1, 100, 1000 }, "how many Services" },
  rate = { "1k/s", "attempts a second" }, settle = { "3s", "time to watch after each change" } }

for c in knbl.matrix { { "services", table.unpack(opt.services) } } do
  local cluster <close> = knbl.cluster()
  local nodes, clients, kube = { cluster:nodes(2) }, {}, cluster.kube
  local server = cluster:pod { name = "server", node = nodes[2] }
  local service = server:service { name = "measured" }
  local object = kube and kube:list("Service", { selector = "knbl.io/run" }).items or {}
  for _, s in ipairs(object) do
    if s.spec.clusterIP == (service.addresses.v4 or service.addresses.v6) then object = s.metadata.name end
  end
  for i = 2, kube and c.services or 1 do
    cluster:create { apiVersion = "v1", kind = "Service", metadata = { name = object .. "-" .. i },
      spec = { selector = { knbl = "idle" }, ports = { { port = 80 } } } }
  end
  for i, node in ipairs(nodes) do clients[i] = cluster:pod { name = "client-" .. i, node = node } end

  -- On Kubernetes a label that no pod has takes the endpoint out; in the lab, where Services stay, a policy denies it.
  local policy
  local function take_out()
    if kube then assert(kube:patch("Service", object, { spec = { selector = { gone = "yes" } } }))
    else policy = cluster:policy { to = server } end
  end
  local function bring_back()
    if kube then assert(kube:patch("Service", object, { spec = { selector = { gone = json.null } } }))
    else cluster:delete(policy) end
  end
  for change in knbl.matrix { { "endpoint", { "removed", take_out }, { "added", bring_back } } } do
    knbl.ready { from = clients, to = service, rate = opt.rate, settle = opt.settle, change = change.endpoint[2],
      skip = cluster.name == "lab" and c.services > 1 and "the number of Services makes no difference in the lab"
        or nil }
  end
end

knbl.report { rows = { "services", "endpoint", "from" }, columns = { { "first", "ready_first" },
  { "all", "ready_last" }, { "the call itself", "ready_change" }, "blind" } }
knbl.note "from the call: first, until an attempt found it so; all, until the last one that found it otherwise"
