-- The test that comes with echo_udp: over a Service of a lab, every datagram comes back.
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local client, server = cluster:pair()

knbl.echo_udp {
  case = "echo", from = client, to = server:service(), duration = "200ms", flows = 2,
  expect = { "errors == 0", "timeouts == 0", "rate > 100/s" },
}

knbl.echo_udp { -- all tests with flows take several targets
  case = "two", from = client, to = { server, cluster:pod {} }, duration = "200ms", flows = 3, expect = "errors == 0",
}

-- Its options have limits, and it has no others.
for key, value in pairs { size = 4, threads = 3, rate = "1k/s" } do
  local ok, why = pcall(knbl.echo_udp, { from = client, to = server, flows = 2, [key] = value })
  assert(not ok and tostring(why):find(key), key .. " was taken")
end
