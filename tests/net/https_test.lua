-- HTTPS and HTTP/2 against nginx and openssl s_server, and against servers that break a handshake or flood a
-- connection.
local inside = require "tests.net.inside"
local lu = require "luaunit"

local plain, few, secure, secure_1, faulty = 28082, 28083, 28443, 28444, 28090
local B = os.getenv "B" or "build"
local nginx

-- ---- servers ----

local config = [[
daemon off; master_process off; user root root; pid DIR/nginx.pid; error_log DIR/error.log;
events { worker_connections 1024; }
http {
  log_format counts '$server_protocol $status $ssl_protocol $ssl_session_reused $ssl_server_name $connection '
    '$request_uri';
  access_log DIR/access.log counts;
  client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u;
  scgi_temp_path DIR/s;
  root DIR/www; keepalive_requests 1000000; ssl_protocols TLSv1.2 TLSv1.3;
  ssl_certificate DIR/good.pem; ssl_certificate_key DIR/good.key;
  server { listen 127.0.0.1:PLAIN http2; }
  server { listen 127.0.0.1:FEW http2; keepalive_requests 50; }
  server { listen 127.0.0.1:SECURE ssl http2; }
  server { listen 127.0.0.1:SECURE_1 ssl; }
}
]]

local function write(path, text)
  local f = assert(io.open(inside.dir .. path, "w"))
  f:write(text)
  f:close()
end

local function read(path)
  local f = assert(io.open(inside.dir .. path))
  local text = f:read "a"
  f:close()
  return text
end

-- An authority, a certificate that it signed, and one of its that is no longer valid.
local function make_certificates()
  local d = inside.dir
  inside.sh("openssl req -x509 -newkey rsa:2048 -nodes -keyout %s/ca.key -out %s/ca.pem -days 30 \z
    -subj /CN=authority", d, d)
  write("/names", "subjectAltName=DNS:good.test,DNS:localhost,IP:127.0.0.1\n")
  inside.sh("openssl req -newkey rsa:2048 -nodes -keyout %s/good.key -out %s/good.csr -subj /CN=good.test", d, d)
  local sign = "openssl x509 -req -in %s/good.csr -CA %s/ca.pem -CAkey %s/ca.key -CAcreateserial \z
    -extfile %s/names -out "
  inside.sh(sign .. "%s/good.pem -days 30", d, d, d, d, d)
  inside.sh(sign .. "%s/old.pem -days -1", d, d, d, d, d)
end

local function start()
  inside.sh("mkdir -p %s/www", inside.dir)
  write("/www/file", ("x"):rep(1234))
  make_certificates()
  write("/nginx.conf", (config:gsub("DIR", inside.dir):gsub("PLAIN", plain):gsub("FEW", few):gsub("SECURE_1", secure_1)
    :gsub("SECURE", secure)))
  nginx = inside.start(("nginx -c %s/nginx.conf -p %s"):format(inside.dir, inside.dir), "nginx.log")
  if not inside.await(function() return inside.listening(secure_1) end) then
    error("nginx did not come up: " .. inside.sh("cat %s/nginx.log", inside.dir))
  end
end

-- Runs `use` while a server listens on the port `faulty`.
local function beside(command, use)
  local pid = inside.start(command, "beside.log")
  assert(inside.await(function() return inside.listening(faulty) end), "the server did not come up: " .. command)
  local ok, err = pcall(use)
  os.execute("kill " .. pid)
  inside.await(function() return not inside.listening(faulty) end)
  if not ok then error(err, 0) end
end

local function with_faults(mode, use) beside(("%s/tests/http_faults %d %s"):format(B, faulty, mode), use) end

local function ca() return read "/ca.pem" end
local asked = 0
local function options(spec)
  asked = asked + 1
  spec.test, spec.external, spec.path = "http", true, (spec.path or "/file") .. "?" .. asked
  return spec
end
local function run_to(target, spec)
  local core, json = require "knbl.core", require "cjson"
  local one <close> = assert(core.run(json.encode(options(spec)), target))
  assert(one:wait(30), "the run did not end")
  return json.decode((one:result()))
end
local function run(port, spec, authorities)
  return run_to({ host = "127.0.0.1", port = port, ca = authorities or ca() }, spec)
end
local function measure(port, spec)
  local result = run(port, spec)
  if not result.ok then error(result.error.message, 2) end
  return result.metrics, result
end
local function fails(port, spec, pattern, authorities)
  local result = run(port, spec, authorities)
  lu.assertFalse(result.ok)
  lu.assertStrMatches(result.error.message, ".*" .. pattern .. ".*")
  lu.assertNotStrContains(result.error.message, "\n")
end

-- The log of the last run, once it has `lines`: how often each field had each value, and the number of connections.
local function log_of(lines)
  local log
  inside.await(function()
    log = { lines = 0, connections = 0 }
    local seen = {}
    for line in io.lines(inside.dir .. "/access.log") do
      local proto, status, tls, reused, name, connection = line:match("^(%S+) (%d+) (%S+) (%S+) (%S+) (%d+) %S+%?"
        .. asked .. "$")
      for _, field in ipairs { proto, status, tls, reused, name } do log[field] = (log[field] or 0) + 1 end
      if proto then log.lines = log.lines + 1 end
      if connection and not seen[connection] then seen[connection], log.connections = true, log.connections + 1 end
    end
    return log.lines >= lines
  end, 2)
  return log
end

local function set_up()
  for _, program in ipairs { "nginx", "openssl" } do
    lu.skipIf(not inside.has(program), program .. " is not installed")
  end
  if not nginx then start() end
end

-- ---- HTTPS ----

TestTls = { setUp = set_up }

function TestTls:test_requests_on_connections_that_stay()
  local m, result = measure(secure_1, { tls = true, count = 2003, flows = 10 })
  local log = log_of(2003)
  lu.assertEquals({ m.ops, log.lines, log["200"], log.connections, m.errors }, { 2003, 2003, 2003, 10, 0 })
  lu.assertEquals(m.bytes, 2003 * 1234)
  lu.assertEquals({ m.tls.handshakes, m.tls.verified, m.handshake_ns.count }, { 10, true, 10 })
  lu.assertEquals(log["TLSv1.3"], 2003)
  lu.assertStrContains(result.chosen.tls, "TLSv1.3")
  lu.assertEquals(result.chosen.alpn, "http/1.1")
  lu.assertFalse(inside.flagged(result, "unverified"))
end

-- the server's log says which of them it resumed
function TestTls:test_a_connection_a_request_resumes_or_not()
  local m = measure(secure_1, { tls = true, count = 200, flows = 4, keepalive = false })
  local log = log_of(200)
  lu.assertEquals({ m.ops, log.lines, log.connections, m.tls.handshakes }, { 200, 200, 200, 200 })
  lu.assertEquals(m.tls.resumed, log.r)
  lu.assertTrue(log.r >= 150, "only " .. log.r .. " were resumed")
  m = measure(secure_1, { tls = true, count = 100, flows = 4, keepalive = false, resume = false })
  log = log_of(100)
  lu.assertEquals({ m.tls.handshakes, m.tls.resumed, log.r }, { 100, 0, nil })
end

function TestTls:test_the_host_is_the_name_that_is_sent_and_verified()
  measure(secure_1, { tls = true, count = 20, flows = 2, host = "good.test:28444" })
  lu.assertEquals(log_of(20)["good.test"], 20)
  fails(secure_1, { tls = true, count = 20, flows = 2, host = "other.test" }, "not valid for other%.test")
end

-- the address of one target is verified, and the name of the other is sent and verified
function TestTls:test_each_of_several_targets_has_a_name_of_its_own()
  for _, http2 in ipairs { false, true } do
    local result = run_to({ { host = "127.0.0.1", port = secure, ca = ca(), share = 1 },
      { host = "localhost", port = secure, share = 3 } }, { tls = true, count = 400, flows = 4, http2 = http2 })
    if not result.ok then error(result.error.message) end
    local log, targets = log_of(400), result.metrics.targets
    lu.assertEquals({ log["-"], log["localhost"], log.connections }, { 100, 300, 4 })
    lu.assertEquals({ targets["127.0.0.1:" .. secure].ops, targets["localhost:" .. secure].ops }, { 100, 300 })
    lu.assertEquals(result.metrics.tls.handshakes, 4)
  end
end

function TestTls:test_an_unknown_authority_and_no_verification()
  fails(secure_1, { tls = true, count = 20, flows = 2 }, "not signed by a trusted authority.*ca, or switch verify off",
    inside.sh "openssl req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -subj /CN=x -days 2 2>/dev/null")
  local m, result = measure(secure_1, { tls = true, count = 20, flows = 2, verify = false, host = "other.test" })
  lu.assertEquals({ m.ops, m.tls.verified }, { 20, false })
  lu.assertTrue(inside.flagged(result, "unverified"))
end

function TestTls:test_an_expired_certificate()
  local d = inside.dir
  beside(("openssl s_server -accept 127.0.0.1:%d -cert %s/old.pem -key %s/good.key -www"):format(faulty, d, d),
    function() fails(faulty, { tls = true, count = 20, flows = 2 }, "rejected: certificate has expired") end)
end

function TestTls:test_openssls_own_server()
  local d = inside.dir
  beside(("openssl s_server -accept 127.0.0.1:%d -cert %s/good.pem -key %s/good.key -WWW"):format(faulty, d, d),
    function()
      local m = measure(faulty, { tls = true, count = 30, flows = 1, keepalive = false, path = "/none" })
      lu.assertEquals({ m.ops, m.errors, m.tls.handshakes }, { 30, 0, 30 })
    end)
end

function TestTls:test_a_server_without_tls()
  fails(plain, { tls = true, count = 20, flows = 2 }, "the server may not speak TLS")
end

function TestTls:test_handshakes_that_break()
  for mode, words in pairs { reset = "reset the connection in the TLS handshake",
    close = "closed the connection in the TLS handshake", stall = "did not answer the TLS handshake in time" } do
    with_faults(mode, function()
      for _, keepalive in ipairs { true, false } do
        fails(faulty, { tls = true, duration = 2, flows = 3, timeout = 0.2, keepalive = keepalive }, words)
      end
      fails(faulty, { tls = true, http2 = true, duration = 2, flows = 3, timeout = 0.2 }, words)
    end)
  end
end

-- each fifth connection is reset in its handshake
function TestTls:test_handshakes_that_break_are_counted()
  with_faults("flaky " .. secure_1, function()
    local m, result = measure(faulty, { tls = true, count = 100, flows = 1, keepalive = false })
    lu.assertEquals({ m.ops, m.connect_errors, m.tls.failures.reset, m.errors }, { 80, 20, 20, 0 })
    lu.assertTrue(inside.flagged(result, "errors"))
  end)
end

-- ---- LuaJIT, over libknbl.so ----

-- What a measurement from LuaJIT says: the number of requests, or the error.
local function from_luajit(options)
  write("/luajit.lua", ([[
local knbl = require "knbl"
local cluster = knbl.cluster { provider = "loopback" }
local ok, result = pcall(knbl.http, { from = cluster:pod {}, to = "https://127.0.0.1:%d/file", count = 20, %s })
print(ok and (result.ok and "requests: " .. result.metrics.ops or result.error.message) or result)]]):format(secure_1,
    options))
  return inside.sh(". tests/ffi/sanitizer.sh; env $PRELOAD KNBL_LIB=%s/libknbl.so "
    .. "LUA_PATH='lua/?.lua;lua/?/init.lua;;' luajit %s/luajit.lua || :", B, inside.dir)
end

function TestTls:test_luajit_takes_the_authority()
  lu.skipIf(not inside.has "luajit", "luajit is not installed")
  lu.assertStrContains(from_luajit(("ca = %q"):format(inside.dir .. "/ca.pem")), "requests: 20")
  lu.assertStrContains(from_luajit "", "not signed by a trusted authority")
  lu.assertStrContains(from_luajit "ca = '/dev/null'", "ca: /dev/null contains no certificate in PEM form")
end

-- ---- HTTP/2 ----

TestHttp2 = { setUp = set_up }

function TestHttp2:test_streams_in_clear_text_and_over_tls()
  for port, tls in pairs { [plain] = false, [secure] = true } do
    local m, result = measure(port, { http2 = true, tls = tls, count = 3001, flows = 3, streams = 20, threads = 2 })
    local log = log_of(3001)
    lu.assertEquals({ m.ops, log.lines, log["HTTP/2.0"], log.connections, m.errors, m.timeouts },
      { 3001, 3001, 3001, 3, 0, 0 })
    lu.assertEquals({ m.bytes, m.connects, m.status["2xx"], m.length_mismatches }, { 3001 * 1234, 3, 3001, 0 })
    lu.assertEquals(result.chosen.alpn, tls and "h2" or nil)
  end
end

function TestHttp2:test_an_open_loop_reaches_its_rate()
  local m = measure(plain, { http2 = true, rate = "1000/s", duration = 0.5, flows = 4, streams = 4 })
  lu.assertTrue(m.ops >= 450 and m.ops <= 510, ("%d requests"):format(m.ops))
end

function TestHttp2:test_more_streams_than_the_server_allows()
  local m, result = measure(plain, { http2 = true, count = 1000, flows = 1, streams = 500 })
  lu.assertEquals({ m.ops, m.errors, result.chosen.streams }, { 1000, 0, "128" })
end

function TestHttp2:test_a_large_response_passes_flow_control()
  write("/www/large", ("y"):rep(3000000))
  local m = measure(secure, { http2 = true, tls = true, count = 20, flows = 2, streams = 4, path = "/large",
    timeout = "60s" })
  lu.assertEquals({ m.ops, m.bytes, m.errors }, { 20, 20 * 3000000, 0 })
end

-- nginx takes a connection out of use after 50 requests
function TestHttp2:test_goaway_and_refused_streams_are_no_failure()
  local m = measure(few, { http2 = true, count = 2000, flows = 2, streams = 10 })
  local log = log_of(2000)
  lu.assertEquals({ m.ops, log.lines, m.errors, m.timeouts, m.connect_errors }, { 2000, 2000, 0, 0, 0 })
  lu.assertTrue(m.http2.goaways >= 30, ("%d GOAWAYs"):format(m.http2.goaways))
  for _, mode in ipairs { "goaway", "refuse" } do
    with_faults(mode, function()
      m = measure(faulty, { http2 = true, count = 1000, flows = 2, streams = 3 })
      lu.assertEquals({ m.ops, m.errors, m.timeouts }, { 1000, 0, 0 })
      lu.assertTrue(m.http2.refused > 0)
    end)
  end
end

function TestHttp2:test_floods_and_bytes_that_are_no_frames()
  for mode, words in pairs { ping = "too many frames in a row without a part of a response",
    settings = "too many frames in a row without a part of a response",
    interim = "too many frames in a row without a part of a response",
    continuation = "invalid", garbage = "invalid" } do
    with_faults(mode, function()
      fails(faulty, { http2 = true, duration = 5, flows = 2, streams = 3 }, "the server's HTTP/2 is invalid: .*"
        .. (words == "invalid" and "" or words))
    end)
  end
end

function TestHttp2:test_requests_without_an_answer_time_out()
  with_faults("silent", function()
    local result = run(faulty, { http2 = true, duration = 1, warmup = 0, flows = 2, streams = 3, timeout = 0.2 })
    lu.assertFalse(result.ok)
    lu.assertTrue(result.metrics.timeouts >= 6, ("%d timeouts"):format(result.metrics.timeouts))
    lu.assertEquals(result.metrics.errors, 0)
  end)
end

function TestHttp2:test_a_server_that_does_not_speak_it()
  fails(secure_1, { http2 = true, tls = true, count = 20, flows = 2 }, "handshake failed: .*no application protocol")
  fails(secure_1, { http2 = true, count = 20, flows = 2 }, "does not speak HTTP/2 in clear text %(prior knowledge%)")
end

local code = lu.LuaUnit.run()
if nginx then os.execute("kill " .. nginx) end
inside.finish(code)
