-- HTTP against nginx, whose own log is the truth: what was asked for, answered and transferred is counted exactly.
local inside = require "tests.net.inside"
local lu = require "luaunit"

local port = 28081
local nginx

local config = [[
daemon off; master_process off; user root root; pid DIR/nginx.pid; error_log DIR/error.log;
events { worker_connections 1024; }
http {
  log_format counts '$status $body_bytes_sent $bytes_sent $request_length $connection $request_uri';
  access_log DIR/access.log counts;
  client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u;
  scgi_temp_path DIR/s;
  keepalive_requests 1000000;
  server {
    listen 127.0.0.1:PORT; listen [::1]:PORT;
    root DIR/www;
    location /few { keepalive_requests 50; alias DIR/www/file; }
    location /chunked { ssi on; ssi_types *; alias DIR/www/file; }
    location /busy { return 503 "busy"; }
    location /quiet { access_log off; }
  }
}
]]

local function write(path, text)
  local f = assert(io.open(inside.dir .. path, "w"))
  f:write(text)
  f:close()
end

local function start()
  inside.sh("mkdir -p %s/www", inside.dir)
  write("/www/file", ("x"):rep(1234))
  write("/nginx.conf", (config:gsub("DIR", inside.dir):gsub("PORT", tostring(port))))
  nginx = inside.start(("nginx -c %s/nginx.conf -p %s"):format(inside.dir, inside.dir), "nginx.log")
  if not inside.await(function() return inside.listening(port) end) then
    error("nginx did not come up: " .. inside.sh("cat %s/nginx.log", inside.dir))
  end
end

-- What the log says of the last run, once it has as many lines as are expected: nginx writes them after the answers are
-- out.
local asked = 0
local function log_of(lines)
  local log
  local pattern = "^(%d+) (%d+) (%d+) (%d+) (%d+) %S+%?" .. asked .. "$"
  local function read()
    log = { lines = 0, body = 0, sent = 0, received = 0, connections = 0, status = {} }
    local seen = {}
    for line in io.lines(inside.dir .. "/access.log") do
      local status, body, sent, received, connection = line:match(pattern)
      if status then
        log.lines = log.lines + 1
        log.body, log.sent, log.received = log.body + tonumber(body), log.sent + tonumber(sent),
          log.received + tonumber(received)
        log.status[status] = (log.status[status] or 0) + 1
        if not seen[connection] then seen[connection], log.connections = true, log.connections + 1 end
      end
    end
    return log.lines >= lines
  end
  inside.await(read, 2)
  return log
end

local function ask(spec)
  asked = asked + 1
  spec.test, spec.external, spec.path = "http", true, spec.path .. "?" .. asked
  local host = spec.ip == 6 and "::1" or "127.0.0.1"
  return inside.measure(spec, { host = host, port = port })
end

TestNginx = {}
function TestNginx:setUp()
  lu.skipIf(not inside.has "nginx", "nginx is not installed")
  if not nginx then start() end
end

local function agrees(m, log, count)
  lu.assertEquals(m.ops, count)
  lu.assertEquals(log.lines, count)
  lu.assertEquals(m.bytes, log.body)
  lu.assertEquals(m.header_bytes, log.sent - log.body)
  lu.assertEquals(m.errors, 0)
  lu.assertEquals(m.timeouts, 0)
  lu.assertEquals(m.length_mismatches, 0)
end

function TestNginx:test_keep_alive()
  local m = ask { path = "/file", count = 5003, flows = 20, threads = 2 }
  local log = log_of(5003)
  agrees(m, log, 5003)
  lu.assertEquals(m.status["2xx"], 5003)
  lu.assertEquals(log.connections, 20)
  lu.assertEquals(m.connects, 20)
  lu.assertEquals(m.bytes, 5003 * 1234)
end

function TestNginx:test_a_connection_a_request()
  local m = ask { path = "/file", count = 800, flows = 10, keepalive = false }
  local log = log_of(800)
  agrees(m, log, 800)
  lu.assertEquals(log.connections, 800)
  lu.assertEquals(m.connects, 800)
end

-- nginx closes after 50 requests and says so: that is no failure
function TestNginx:test_a_server_that_closes()
  local m = ask { path = "/few", count = 2000, flows = 4 }
  local log = log_of(2000)
  agrees(m, log, 2000)
  lu.assertEquals(m.connects, log.connections)
  lu.assertTrue(log.connections >= 40 and log.connections <= 43, ("%d connections"):format(log.connections))
end

function TestNginx:test_statuses()
  local m = ask { path = "/none", count = 300, flows = 5 }
  agrees(m, log_of(300), 300)
  lu.assertEquals(m.status["4xx"], 300)
  lu.assertEquals(m.non_2xx, 300)
  m = ask { path = "/busy", count = 300, flows = 5 }
  agrees(m, log_of(300), 300)
  lu.assertEquals(m.status["5xx"], 300)
end

-- nginx logs the body with its chunks' own lines; we count the payload
function TestNginx:test_chunked()
  local m = ask { path = "/chunked", count = 400, flows = 5 }
  local log = log_of(400)
  lu.assertEquals(log.lines, 400)
  lu.assertEquals(m.ops, 400)
  lu.assertEquals(m.bytes, 400 * 1234)
  lu.assertEquals(m.bytes + m.header_bytes, log.sent)
end

function TestNginx:test_ipv6()
  local m = ask { path = "/file", count = 200, flows = 5, ip = 6 }
  agrees(m, log_of(200), 200)
end

-- What is under way when the time is over was seen by nginx, and is not counted.
function TestNginx:test_duration()
  for _, flows in ipairs { 8, 64 } do
    local m = ask { path = "/file", duration = 0.3, warmup = 0, flows = flows, threads = 1 }
    local log = log_of(m.ops)
    lu.assertTrue(log.lines >= m.ops and log.lines <= m.ops + flows,
      ("%d in the log, %d counted"):format(log.lines, m.ops))
    lu.assertAlmostEquals(m.rate_per_s, m.ops / 0.3, 1)
    lu.assertAlmostEquals(m.time_per_request_ns.across_all * m.rate_per_s, 1e9, 1)
  end
end

function TestNginx:test_rate()
  local m = ask { path = "/file", duration = 0.5, warmup = 0, flows = 10, rate = "400/s" }
  lu.assertTrue(m.ops >= 150 and m.ops <= 200, ("%d of 200"):format(m.ops))
end

-- The quickest answer shows that the wait is no longer than asked, unless the machine is busy: then the next run may.
local function quickest(keepalive)
  local least = math.huge
  for _ = 1, 20 do
    local l = inside.measure({ test = "http", duration = 0.4, flows = 10, delay = "2ms", keepalive = keepalive })
      .latency_ns
    lu.assertTrue(l.min >= 2e6, "never less than the wait")
    least = math.min(least, l.min)
    if least < 2.6e6 then break end
  end
  return least
end

TestAgent = {}
function TestAgent:test_a_responder_that_waits()
  for _, keepalive in ipairs { true, false } do
    local least = quickest(keepalive)
    lu.assertTrue(least < 2.6e6, ("the quickest of 2 ms is %g ms"):format(least / 1e6))
  end
end

function TestAgent:test_the_report_comes_in_band()
  for _, keepalive in ipairs { true, false } do
    local m, r = inside.measure { test = "http", count = 1000, flows = 10, keepalive = keepalive }
    lu.assertEquals(m.ops, 1000)
    lu.assertEquals(#r.servers, 1)
    lu.assertEquals(r.servers[1].name, "far")
    lu.assertEquals(r.servers[1].ops, 1000)
  end
end

local code = lu.LuaUnit.run()
if nginx then os.execute("kill " .. nginx) end
inside.finish(code)
