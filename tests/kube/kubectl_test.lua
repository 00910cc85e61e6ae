-- Compares kubeconfig handling with kubectl: for each kubeconfig, knbl and kubectl use the same server, user and
-- namespace, or both refuse it.
local lu = require "luaunit"
local core = require "knbl.core"
local json = require "knbl.json"

TestKubectl = {}

local dir

local function sh(command)
  local p = io.popen(command)
  local text = p:read "a"
  return text, p:close()
end

local has_kubectl = (sh "command -v kubectl" ~= "")

local function write(name, text)
  local f = assert(io.open(dir .. "/" .. name, "w"))
  f:write(text)
  f:close()
  return dir .. "/" .. name
end

function TestKubectl.setUp()
  lu.skipIf(not has_kubectl, "no kubectl here to compare with")
  dir = sh("mktemp -d"):gsub("\n", "")
end
function TestKubectl.tearDown()
  if dir then os.execute("rm -rf " .. dir) end
end

-- kubectl's result: { server, namespace, user }, or nil if it refuses.
local function kubectl(list, words)
  local text = sh(
    ("env -u KUBERNETES_SERVICE_HOST HOME=%s KUBECONFIG=%s kubectl config view --minify --raw --flatten -o json %s \z
      2>/dev/null"):format(dir, list,
    words or ""))
  local ok, view = pcall(json.decode, text)
  if not ok or type(view) ~= "table" or type(view.clusters) ~= "table" then return nil end
  local context = view.contexts and view.contexts[1] and view.contexts[1].context or {}
  local user = view.users and view.users[1] and view.users[1].user or {}
  return { server = view.clusters[1].cluster.server, namespace = context.namespace or "default", token = user.token,
    username = user.username,
    tls_server_name = view.clusters[1].cluster["tls-server-name"], proxy_url = view.clusters[1].cluster["proxy-url"],
    insecure = view.clusters[1].cluster["insecure-skip-tls-verify"] or nil, exec = user.exec and user.exec.command }
end

-- knbl's result, from a separate process with its own environment.
local function ours(list, options)
  local script = write("ask.lua", ([[
    local json = require "knbl.json"
    local config, err = require("knbl.core").kube_config(json.decode(%q))
    print(config or json.encode { refused = err.message })
  ]]):format(json.encode(options or { kubeconfig = "" })))
  local text = sh(("env -u KUBERNETES_SERVICE_HOST HOME=%s KUBECONFIG=%s %s %s -q"):format(dir, list,
    os.getenv "KNBL" or "./knbl", script))
  local c = json.decode(text)
  if c.refused then return nil, c.refused end
  return { server = c.server, namespace = c.namespace or "default", token = c.token, username = c.username,
    tls_server_name = c.tls_server_name,
    proxy_url = c.proxy_url, insecure = c.insecure or nil, exec = c.exec and c.exec.command }
end

local function config(more)
  more = more or {}
  return ([[
apiVersion: v1
kind: Config
clusters:
- {name: c1, cluster: {server: "https://one.example:6443"%s}}
- {name: c2, cluster: {server: "https://two.example", tls-server-name: two, proxy-url: "http://proxy:3128"}}
users:
- {name: u1, user: {token: secret-one}}
- {name: u2, user: {username: bob, password: pw}}
- {name: u3, user: {exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: get-token}}}
contexts:
- {name: x1, context: {cluster: c1, user: u1}}
- {name: x2, context: {cluster: c2, user: u2, namespace: two}}
- {name: x3, context: {cluster: c1, user: u3}}
- {name: lost, context: {cluster: nowhere, user: u1}}
%s
]]):format(more.cluster or "", more.last or "current-context: x1")
end

local function same(list, options, words)
  local theirs, mine, why = kubectl(list, words), ours(list, options)
  lu.assertEquals(mine, theirs, why)
  return mine
end

function TestKubectl.test_current_context()
  lu.assertEquals(same(write("a", config())).server, "https://one.example:6443")
end
function TestKubectl.test_named_context()
  for _, name in ipairs { "x1", "x2", "x3" } do same(write("a", config()), { context = name }, "--context " .. name) end
end
function TestKubectl.test_refusals()
  local a = write("a", config())
  lu.assertNil(same(a, { context = "none" }, "--context none"))
  lu.assertNil(ours(a, { context = "lost" }))
  lu.assertNil(same(write("b", "clusters: [")))
  lu.assertNil(same(write("c", "just words")))
end
function TestKubectl.test_insecure()
  lu.assertTrue(same(write("a", config { cluster = ", insecure-skip-tls-verify: true" })).insecure)
end
function TestKubectl.test_comments_and_json()
  same(write("a", "# a comment\n" .. config() .. "# at the end\n"))
  same(write("b", json.encode { apiVersion = "v1", kind = "Config",
    clusters = { { name = "c", cluster = { server = "https://j" } } },
    users = { { name = "u", user = { token = "t" } } },
      contexts = { { name = "x", context = { cluster = "c", user = "u" } } }, ["current-context"] = "x" }))
end

-- The first file that defines an entry wins; missing files are ignored.
function TestKubectl.test_merged_list()
  local first = write("first",
    "apiVersion: v1\nkind: Config\ncurrent-context: x2\nusers:\n- {name: u2, user: {username: alice, password: pw}}\n")
  local second = write("second", config())
  lu.assertEquals(same(first .. ":" .. second).username, "alice")
  lu.assertEquals(same(second .. ":" .. first).token, "secret-one")
  lu.assertEquals(same(dir .. "/none:" .. second).server, "https://one.example:6443")
  lu.assertEquals(same(first .. ":" .. second .. ":" .. dir .. "/none", { context = "x1" }, "--context x1").token,
    "secret-one")
end

function TestKubectl.test_home()
  os.execute("mkdir -p " .. dir .. "/.kube")
  write(".kube/config", config { last = "current-context: x2" })
  lu.assertEquals(same("").namespace, "two")
end

function TestKubectl.test_file_alone()
  local a, b = write("a", config()), write("b", config { last = "current-context: x2" })
  lu.assertEquals(same(a, { kubeconfig = b }, "--kubeconfig " .. b).namespace, "two")
  lu.assertNil((ours(a, { kubeconfig = dir .. "/none" })))
end

-- Paths are relative to their file: both find the certificate authority beside it.
function TestKubectl.test_relative_paths()
  local ca = write("ca.crt", "-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n")
  local path = write("a", config { cluster = ", certificate-authority: ca.crt" })
  local mine = json.decode(assert(core.kube_config { kubeconfig = path }))
  lu.assertEquals(mine.ca, io.open(ca):read "a")
  local theirs = json.decode(
    (sh(("kubectl config view --minify --raw --flatten -o json --kubeconfig %s"):format(path))))
  lu.assertEquals(theirs.clusters[1].cluster["certificate-authority-data"], core.base64(mine.ca))
end

os.exit(lu.LuaUnit.run())
