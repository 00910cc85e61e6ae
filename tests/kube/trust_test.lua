-- Which servers the client trusts with its credentials, tested with a server that records its requests. If kubectl is
-- installed, it must behave the same with the same kubeconfig.
local lu = require "luaunit"
local core = require "knbl.core"
local json = require "knbl.json"
local kube = require "knbl.kube"
local shell = require "tests.cli.shell"

local knbl = os.getenv "KNBL" or "./knbl"
local has_kubectl = shell.run("command -v kubectl").code == 0

local function server(words)
  local dir = shell.folder()
  local p = shell.start(("%s tests/kube/faulty.lua %s 127.0.0.1 0 %s"):format(knbl, dir.path, words or ""))
  shell.wait_for("the server", function() return shell.read(dir:file "port") end)
  shell.write(dir:file "answers.lua", "return { ok(object 'a') }")
  return { dir = dir, process = p, port = shell.read(dir:file "port") }
end

local function close(s)
  for _, thing in ipairs { s.process, s.dir } do getmetatable(thing).__close(thing) end
end

-- The requests since the last call.
local function asked(s)
  local list = {}
  for line in (shell.read(s.dir:file "asked") or ""):gmatch "[^\n]+" do list[#list + 1] = json.decode(line) end
  os.remove(s.dir:file "asked")
  return list
end

local function kubeconfig(s, scheme, cluster, user)
  cluster.server = ("%s://127.0.0.1:%s"):format(scheme, s.port)
  return shell.write(s.dir:file "config", json.encode { apiVersion = "v1", kind = "Config", ["current-context"] = "x",
    contexts = { { name = "x", context = { cluster = "c", user = "u" } } }, users = { { name = "u", user = user } },
    clusters = { { name = "c", cluster = cluster } } })
end

-- The authorization header that the server receives with this kubeconfig, from knbl and from kubectl. nil means no
-- request, "" a request without credentials.
local function shown_by_knbl(s, config)
  local api, err = kube.connect { kubeconfig = config, on_warning = function() end }
  if api then
    local _, why = api:request("GET", "/x", { retry = 0 })
    err = why
  end
  local request = asked(s)[1]
  return request and (request.headers.authorization or ""), type(err) == "table" and err.message or ""
end

local function shown_by_kubectl(s, config)
  shell.run(("env -u KUBERNETES_SERVICE_HOST HOME=%s kubectl --kubeconfig %s get --raw /x"):format(s.dir.path, config))
  local request = asked(s)[1]
  return request and (request.headers.authorization or "")
end

TestTrust = {}

-- Certificate authority files: how each is made from the server's certificate, and whether the server is trusted with
-- it. `refused` means that reading the kubeconfig already fails, before TLS.
local function files(pem, der)
  return {
    { "the certificate", pem, trusted = true },
    { "with a Latin-1 comment", "# Autorit\233 de certification\n" .. pem, trusted = true },
    { "with CR LF", (pem:gsub("\n", "\r\n")), trusted = true },
    { "after one that cannot be parsed", "-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n" .. pem,
      ours = true }, -- Go leaves the bad one out, OpenSSL refuses the file: nobody is trusted by mistake
    { "after another block", "-----BEGIN EC PARAMETERS-----\nQQ==\n-----END EC PARAMETERS-----\n" .. pem,
      trusted = true },
    { "DER", der, refused = true },
    { "empty", "", refused = true },
    { "an empty line", "\n", refused = true },
    { "words", "see the wiki\n", refused = true },
    { "cut off", pem:sub(1, 200), refused = true },
    { "after NULs", "\0\0" .. pem, refused = true },
    { "a key", (pem:gsub("CERTIFICATE", "PRIVATE KEY")), refused = true },
    { "one that cannot be parsed", "-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n" },
  }
end

local function check_authority(s, name, cluster, case)
  local config = kubeconfig(s, "https", cluster, { token = "secret" })
  local shown, message = shown_by_knbl(s, config)
  lu.assertEquals(shown, case.trusted and "Bearer secret" or nil, name)
  if case.refused then lu.assertStrContains(message, "it contains no PEM certificate", false, name) end
  if has_kubectl and not case.ours then lu.assertEquals(shown_by_kubectl(s, config), shown, "kubectl: " .. name) end
end

function TestTrust:test_authorities()
  local s = server()
  local pem = shell.read(s.dir:file "ca.pem")
  local der = core.base64_decode((pem:gsub("%-%-%-%-%-[^\n]*", "")))
  for _, case in ipairs(files(pem, der)) do
    local path = shell.write(s.dir:file "authority", case[2])
    check_authority(s, case[1], { ["certificate-authority"] = path }, case)
    -- empty data counts as missing; the server is not in the system's list, so it is not trusted
    local data = { trusted = case.trusted, refused = case.refused and case[2] ~= "", ours = case.ours }
    check_authority(s, case[1] .. ", as data", { ["certificate-authority-data"] = core.base64(case[2]) }, data)
  end
  close(s)
end

-- ---- plain http ----

-- Anyone on the path could read a token, so knbl sends none, runs no plugin and impersonates no user.
function TestTrust:test_no_credentials_over_plain_http()
  local s = server "plain"
  local plugin = shell.write(s.dir:file "plugin", ("#!/bin/sh\necho ran >%s\nexit 1\n"):format(s.dir:file "ran"))
  os.execute("chmod +x " .. plugin)
  for name, user in pairs {
    token = { token = "secret" },
    file = { tokenFile = shell.write(s.dir:file "token", "secret") },
    password = { username = "bob", password = "secret" },
    impersonation = { token = "secret", ["as"] = "jane" },
    plugin = { exec = { apiVersion = "client.authentication.k8s.io/v1beta1", command = plugin } },
  } do
    local config, warnings = kubeconfig(s, "http", {}, user), {}
    local api = assert(kube.connect { kubeconfig = config, on_warning = function(w) warnings[#warnings + 1] = w end })
    lu.assertNotNil(api:request("GET", "/x"), name)
    lu.assertStrContains(warnings[1], "no credentials are sent")
    local request = asked(s)[1]
    lu.assertNil(request.headers.authorization, name)
    lu.assertNil(request.headers["impersonate-user"], name)
    lu.assertNil(shell.read(s.dir:file "ran"))
    if has_kubectl then lu.assertEquals(shown_by_kubectl(s, config), "", "kubectl: " .. name) end
  end
  close(s)
end

-- The scheme of a URL is case-insensitive.
function TestTrust:test_the_scheme_in_capitals()
  local s = server()
  local cluster = { ["certificate-authority"] = s.dir:file "ca.pem" }
  local shown, message = shown_by_knbl(s, kubeconfig(s, "HTTPS", cluster, { token = "secret" }))
  lu.assertEquals(shown, "Bearer secret", message)
  close(s)
end

os.exit(lu.LuaUnit.run())
