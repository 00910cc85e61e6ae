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
      openssl x509 -req -days 2 -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $name.pem \
        $(test $name = server && echo -extfile server.ext) || exit 1
    done]]):format(dir.path))
  lu.assertEquals(got.code, 0, got.out)
end

local function free_port()
  local agent <close> = assert(core.agent { token = core.token() })
  return agent:port()
end

local function server(dir, more)
  local port = free_port()
  local p = shell.start(("openssl s_server -quiet -www -accept 127.0.0.1:%d -cert %s -key %s %s"):format(port,
    dir:file "server.pem",
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

-- An authority that is given is the only one: the system's own, which libcurl looks up in a folder, are not trusted
-- beside it. The folder is one of the test's, in a mount namespace.
function TestTls:test_the_system_s_authorities_beside_a_given_one()
  if not have then lu.skip "openssl is not installed" end
  if shell.run("unshare --user --map-root-user --mount true").code ~= 0 then lu.skip "no mount namespaces here" end
  local dir <close> = shell.folder()
  certificates(dir)
  local p <close>, port = server(dir)
  lu.assertNotNil(p)
  lu.assertEquals(shell.run(([[cd %s && mkdir certs && cp ca.pem certs && openssl rehash certs &&
    cp ca.pem certs/ca-certificates.crt && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
    -nodes -days 2 -subj /CN=other -keyout other.key -out other.pem]]):format(dir.path)).code, 0)
  local script = shell.write(dir:file "script.lua", ([[
    local core, shell = require "knbl.core", require "tests.cli.shell"
    local function get(ca)
      local answer, err = core.fetch { url = "https://127.0.0.1:%d/", timeout = 10, server_name = "kube.test", ca = ca }
      print(answer and answer.status or err.code)
    end
    get(nil)
    get(shell.read "%s/other.pem")
    get "%s/other.pem"
    get(shell.read "%s/ca.pem")]]):format(port, dir.path, dir.path, dir.path))
  local got = shell.run(("exec unshare --user --map-root-user --mount sh -c \z
    'mount --bind %s/certs /etc/ssl/certs && exec %s -q %s'"):format(dir.path, shell.knbl, script))
  lu.assertEquals(got.out, "200\nauth\nauth\n200\n", got.err)
end

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
