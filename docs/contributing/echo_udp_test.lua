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
