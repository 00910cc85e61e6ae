-- How long are requests to a Service lost after one of its backends is deleted, on new and on kept connections?
local knbl = require "knbl"
local opt = knbl.options {
  backends = { 3, "pods behind the Service" },
  rate = { "1k/s", "attempts a second" },
  before = { "1s", "time before the backend is deleted" },
  settle = { "5s", "time to watch afterwards" },
  command = { "", "what to do in place of deleting it, e.g. 'ssh $NODE systemctl stop kubelet'; also $POD" },
}

for c in knbl.matrix { { "kind", "connect", "session", "udp" } } do
  local cluster <close> = knbl.cluster()
  local node_a, node_b = cluster:nodes(2)
  local client = cluster:pod { name = "client", node = node_a }
  local backends = {}
  for i = 1, opt.backends do backends[i] = cluster:pod { name = "backend-" .. i, node = node_b } end
  knbl.probe {
    from = client, to = cluster:service { endpoints = backends }, kind = c.kind, rate = opt.rate, duration = "60s",
    settle = opt.settle,
    during = function(mark)
      mark.wait(opt.before)
      mark "delete"
      if opt.command ~= "" then
        local env = ("POD=%s NODE=%s; "):format(backends[1].endpoint.object or backends[1].name, node_b.name)
        assert(os.execute(env .. opt.command))
      elseif cluster.kube then cluster:delete(backends[1])
      else backends[1]:exec { "ip", "link", "set", "eth0", "down" } end -- deleted, the lab would replace it at once
      mark "deleted"
    end,
  }
end

knbl.report {
  rows = "kind",
  columns = { { "outage", show = "outage_total" }, { "longest", show = "outage_longest" },
    { "first lost", show = "after_mark.delete.first_fail" }, { "last lost", show = "after_mark.delete.last_fail" },
    "timeouts", "refused", "resets", "blind" },
}
