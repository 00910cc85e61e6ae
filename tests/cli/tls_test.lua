-- HTTPS against openssl's own server: whom it trusts, whom it names, and that secrets go in as text.
local lu = require "luaunit"
local core = require "knbl.core"
local shell = require "tests.cli.shell"

local have = shell.run("openssl version").code == 0

-- A CA, a certificate of kube.test by it, and one of a client's.
local function certificates(dir)
  local got = shell.run(([[cd %s && exec 2>&1
    req() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "$@"; }
    req -x509 -days 2 -subj /CN=ca -keyout ca.key -out ca.pem &&
    printf 'subjectAltName=DNS:kube.test' >server.ext &&
    for name in server client; do
      req -subj /CN=$name -keyout $name.key -out $name.csr &&
      openssl x509 -req -days 2 -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $name.pem $(test $name = server && echo -extfile server.ext) || exit 1
    done]]):format(dir.path))
  lu.assertEquals(got.code, 0, got.out)
end

local function free_port()
  local agent <close> = assert(core.agent { token = core.token() })
  return agent:port()
end

local function server(dir, more)
  local port = free_port()
  local p = shell.start(("openssl s_server -quiet -www -accept 127.0.0.1:%d -cert %s -key %s %s"):format(port, dir:file "server.pem",
    dir:file "server.key", more or ""))
  shell.wait_for("openssl", function()
    local _, err = core.fetch { url = ("https://127.0.0.1:%d/"):format(port), insecure = true, timeout = 5 }
    return not err or err.code ~= "refused"
  end)
  return p, port
end

local function get(port, more)
  local request = { url = ("https://127.0.0.1:%d/"):format(port), timeout = 10 }
  for key, value in pairs(more) do request[key] = value end
  return core.fetch(request)
end

TestTls = {}

function TestTls:setUp()
  if not have then lu.skip "openssl is not installed" end
end

function TestTls:test_whom_it_trusts()
  local dir <close> = shell.folder()
  certificates(dir)
  local p <close>, port = server(dir)
  local ca = shell.read(dir:file "ca.pem")
  lu.assertNotNil(p)
  lu.assertEquals(assert(get(port, { ca = ca, server_name = "kube.test" })).status, 200)
  lu.assertEquals(assert(get(port, { ca = dir:file "ca.pem", server_name = "kube.test" })).status, 200)
  lu.assertEquals(assert(get(port, { insecure = true })).status, 200)
  for _, more in ipairs { {}, { ca = ca }, { ca = ca, server_name = "other.test" }, { server_name = "kube.test" } } do
    local answer, err = get(port, more)
    lu.assertNil(answer)
    lu.assertEquals(err.code, "auth", err.message)
  end
  local _, err = get(port, { ca = "/nonexistent/ca.pem", server_name = "kube.test" })
  lu.assertEquals(err.code, "auth", err.message)
end

function TestTls:test_a_client_certificate_as_text()
  local dir <close> = shell.folder()
  certificates(dir)
  local p <close>, port = server(dir, "-Verify 1 -verify_return_error -CAfile " .. dir:file "ca.pem")
  lu.assertNotNil(p)
  local with = { ca = shell.read(dir:file "ca.pem"), server_name = "kube.test" }
  lu.assertNil((get(port, with)))
  with.cert, with.key = shell.read(dir:file "client.pem"), shell.read(dir:file "client.key")
  lu.assertEquals(assert(get(port, with)).status, 200)
end

os.exit(lu.LuaUnit.run())
