-- What does a name cost, and how much of that is the search list?
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "1s", "time for each measurement" },
  server = { "resolv.conf", "address of the DNS server; resolv.conf: the one that pods use" },
  inside = { "kubernetes.default", "a name of the cluster" },
  outside = { "example.com", "a name outside of the cluster" },
}

local cluster <close> = knbl.cluster()
local client, server = cluster:pair()

local to = opt.server
if cluster.name == "lab" and to == "resolv.conf" then -- the lab has no DNS of its own
  to = server
  local argv = { "dnsmasq", "--no-resolv", "--no-hosts", "--user=", "--group=", "--pid-file=" }
  for _, name in ipairs { opt.inside, opt.outside } do
    for _, address in ipairs { "192.0.2.1", "2001:db8::1" } do
      argv[#argv + 1] = ("--address=/%s/%s"):format(name, address)
    end
  end
  local said, status = server:exec(argv)
  assert(status == 0, ("dnsmasq (package dnsmasq-base) did not start: %s"):format(said or status))
end

local ways = { "asked", { "exact", "exact" }, { "as a pod", "pod" } }
for c in knbl.matrix { { "name", opt.inside, opt.outside }, ways, { "type", "A", "both" } } do
  knbl.dns { from = client, to = to, names = c.name, type = c.type, resolve = c.asked[2], duration = opt.duration,
    expect = { "errors == 0", "timeouts == 0" } }
end

knbl.report { rows = { "name", "asked", "type" },
  columns = { "rate", "p50", "p99", { title = "queries", show = "lookup.queries_per_lookup" }, "errors", "timeouts" } }
