-- What happens to new connections while the table of connections fills up to its limit, and past it?
local knbl = require "knbl"
local opt = knbl.options { held = { { 0, 500, 900, 1100 }, "connections that are held open meanwhile" },
  hold = { "1s", "how long they are held; the attempts go on for as long again" },
  limit = { 1000, "in the lab: open connections that the client's node admits" },
  rate = { "500/s", "new connections a second" } }

local cluster <close> = knbl.cluster()
local client, server = cluster:pair()
local service, other = server:service(), server:service() -- addresses that need the table
knbl.tcp_crr { case = "agents on the nodes, which see their tables", from = client.node, to = server.node, count = 1 }

-- The kernel has one limit for the whole machine: in the lab, rules count connections and drop attempts past a limit.
local said, status = client.node:exec { "nft", ([[add table ip full
  add chain ip full forward { type filter hook forward priority 0; }
  add rule ip full forward ct state new ct count over %d meta mark set meta mark or 1
  add rule ip full forward ct state new ct original ip daddr %s meta mark and 1 == 1 drop]]):format(opt.limit,
  service.addresses and service.addresses.v4 or "?") }
knbl.note(status == 0 and ("the limit, a rule of the lab: %d open connections"):format(opt.limit)
  or "the limit is that of the nodes, which is not changed: " .. tostring(said or status))

for c in knbl.matrix { { "held", table.unpack(opt.held) } } do
  local held = { test = "tcp_rr", from = client, to = other, flows = c.held, rate = "1k/s", warmup = 0,
    duration = opt.hold }
  knbl.together { { test = "probe", from = client, to = service, rate = opt.rate }, c.held > 0 and held or nil,
    settle = opt.hold, during = function(mark) mark.wait(opt.hold) mark "closed" end }
end

local function entries(row)
  local most = 0
  for _, m in ipairs(row.probe.monitor or {}) do
    local n = m.conntrack and m.conntrack.entries or 0
    most = math.max(most, table.unpack(type(n) == "table" and n or { n }))
  end
  return most > 0 and most or nil
end
knbl.report { rows = "held", test = "probe", columns = { "attempts", "timeouts", { "lost for", "outage_total" },
  { "longest", "outage_longest" }, "p50", "p99", { "entries at most", entries } } }
