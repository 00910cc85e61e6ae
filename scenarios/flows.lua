-- From how many connections on does the throughput fall, and from how many are they no longer served alike?
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "1s", "time for each measurement" },
  flows = { { 1, 10, 100, 1000 }, "numbers of connections" },
  repeats = { 3, "rounds" },
  lost = { 10, "percent below the highest throughput that count as a fall" },
  uneven = { 0.8, "below this index of Jain (1: all connections get the same) they are served unevenly" },
}

local cluster <close> = knbl.cluster()
local client, server = cluster:pair()

local bps, jain = {}, {}
for c in knbl.matrix { { "flows", table.unpack(opt.flows) }, repeats = opt.repeats } do
  local r = knbl.tcp_stream { from = client, to = server, flows = c.flows, duration = opt.duration }
  if r.ok then
    bps[c.flows], jain[c.flows] = bps[c.flows] or {}, jain[c.flows] or {}
    table.insert(bps[c.flows], r.metrics.throughput_bps)
    if r.metrics.fairness then table.insert(jain[c.flows], r.metrics.fairness.jain) end
  end
end

local best, fall, uneven
for _, n in ipairs(opt.flows) do
  local middle = bps[n] and knbl.median(bps[n])
  if middle and (not best or middle > best.bps) then best, fall = { flows = n, bps = middle }, nil end
  if middle and middle < best.bps * (1 - opt.lost / 100) then fall = fall or { n, 100 - 100 * middle / best.bps } end
  if jain[n] and #jain[n] > 0 and knbl.median(jain[n]) < opt.uneven then uneven = uneven or n end
end
if best then
  knbl.note(("the throughput is highest with flows = %d; %s"):format(best.flows, fall
    and ("with flows = %d it is %.0f %% lower"):format(fall[1], fall[2]) or "more do not lower it"))
  knbl.note(uneven and ("served unevenly from flows = %d on"):format(uneven) or "all are served alike")
end
knbl.report { rows = "flows", columns = { "throughput", { "Jain's index", "jain" }, "retransmits", "cpu_client",
  "cpu_server" } }
