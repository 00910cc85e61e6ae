-- Is a new version slower than the one in use, or does it fail more often, under the same traffic?
local knbl = require "knbl"
local opt = knbl.options {
  stable = { "", "URL of the version in use (default: a Service over a pod of this run)" },
  canary = { "", "URL of the new version (default: another such Service)" },
  share = { 50, "percent of the requests for the new version; with fewer, an equal version looks slower" },
  rate = { "1k/s", "requests a second to both together" },
  connections = { 50, "connections to both together" },
  duration = { "1s", "time for each measurement" },
  repeats = { 6, "rounds; six or more can show a difference" },
}

local cluster <close> = knbl.cluster()
local node_a, node_b = cluster:nodes(2)
local client = cluster:pod { name = "client", node = node_a }
local function version(name, url)
  return url ~= "" and url or cluster:pod { name = name .. "-pod", node = node_b }:service { name = name }
end
local stable, canary = version("stable", opt.stable), version("canary", opt.canary)

for _ in knbl.matrix { { "traffic", "both versions" }, repeats = opt.repeats } do
  knbl.http { from = client, to = { stable, canary }, shares = { 100 - opt.share, opt.share }, rate = opt.rate,
    flows = opt.connections, duration = opt.duration }
end

knbl.report { rows = { "target" }, baseline = opt.stable ~= "" and opt.stable or stable.name,
  columns = { { "share", "target_share" }, { "requests/s", "rate" }, "p50", "p99", { "failed", "target_failed" } } }
