-- What do 10, 100 and 1000 network policies cost new connections, requests and throughput?
local knbl = require "knbl"
local opt = knbl.options { duration = { "1s", "time for each measurement" },
  policies = { { 0, 10, 100, 1000 }, "numbers of policies that select the server; the last lets the client in" },
  repeats = { 6, "measurements of each; six or more can show a difference" } }

local cluster <close> = knbl.cluster()
local client, server = cluster:pair()

-- Whether policies have an effect here: one that lets nothing in, while attempts go on.
local enforced = knbl.probe { case = "a policy that lets nothing in", from = client, to = server, duration = "60s",
  settle = "1s", during = function(mark)
    mark.wait "300ms"
    local deny, why = cluster:policy { to = server }
    mark "denied"
    if not deny then return knbl.note("no policies: " .. why) end
    mark.wait "2s" cluster:delete(deny) mark "allowed"
  end }
local after = enforced.metrics and enforced.metrics.after_mark or {}
local without = enforced.ok and not (after.denied or {}).first_fail and
  "no effect: nothing enforces network policies between these pods" or nil

for _, n in ipairs(opt.policies) do
  local others = not without and n > 1 and cluster:policy { to = server, from = "192.0.2.0/24", copies = n - 1 }
  local own = not without and n > 0 and cluster:policy { to = server, from = client }
  for _ in knbl.matrix { { "policies", n }, repeats = opt.repeats } do
    for _, test in ipairs { "tcp_crr", "tcp_rr", "tcp_stream" } do
      knbl[test] { from = client, to = server, duration = opt.duration, skip = n > 0 and without or nil }
    end
  end
  for _, policy in ipairs { own or nil, others or nil } do cluster:delete(policy) end
end

knbl.report { rows = "policies", baseline = 0, columns = { { "connections/s", test = "tcp_crr", show = "rate" },
  { "p99", test = "tcp_crr" }, { "requests/s", test = "tcp_rr", show = "rate" },
  { "throughput", test = "tcp_stream" } } }
knbl.report { title = "Time from a policy to its effect", test = "probe", columns = {
  { "first attempt denied", "after_mark.denied.first_fail" },
  { "first allowed again", "after_mark.allowed.first_ok" } } }
