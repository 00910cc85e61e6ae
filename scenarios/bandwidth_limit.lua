-- How exact is a pod's bandwidth limit in each direction, and what does traffic at the limit do to latency?
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "2s", "time for each measurement" },
  limits = { { 50, 500 }, "limits in Mbit/s" },
  rate = { "500/s", "requests a second beside the traffic, over 100 connections (open loop)" },
}

local cluster <close> = knbl.cluster()
local client, servers = cluster:pod { name = "client", node = 1 }, { "limit" }
for i, n in ipairs(opt.limits) do
  servers[i + 1] = { ("%g Mbit/s"):format(n), cluster:pod { node = 2, bandwidth = n .. "Mbit/s" }, n * 1e6 }
end

local shares = {}
for c in knbl.matrix { servers, { "direction", "to the pod", "from the pod" } } do
  local function ask(test, phase, more)
    local t = { test = test, from = client, to = c.limit[2], duration = opt.duration, labels = { phase = phase } }
    for key, value in pairs(more) do t[key] = value end
    return t
  end
  local stream, requests = { reverse = c.direction == "from the pod" }, { rate = opt.rate, flows = 100 }
  knbl.together { ask("tcp_rr", "idle", requests) }
  knbl.together { ask("tcp_stream", "first", stream) } -- Kubernetes lets the first 256 MB through at any rate
  local limited = knbl.together { ask("tcp_stream", "later", stream), ask("tcp_rr", "loaded", requests) }[1]
  if limited.ok then shares[#shares + 1] = 100 * limited.metrics.throughput_bps / c.limit[3] end
end

local function column(title, test, phase)
  return { title, test = test, where = { phase = phase }, show = test == "tcp_rr" and "p99" or "throughput" }
end
knbl.report { rows = { "limit", "direction" }, columns = { column("at first", "tcp_stream", "first"),
  column("later", "tcp_stream", "later"), column("p99 idle", "tcp_rr", "idle"),
  column("p99 at the limit", "tcp_rr", "loaded") } }
table.sort(shares)
if #shares > 0 then
  knbl.note(("later, the payload is %.1f to %.1f %% of the limit: %s"):format(shares[1], shares[#shares],
    shares[#shares] > 110 and "it has no effect, or not yet" or "a limit counts whole packets, of which TCP's payload "
      .. "is 95.6 % at an MTU of 1500"))
end
