-- The API client over a server that misbehaves: a real one, by HTTPS, which answers, breaks off and is silent as each test tells it (faulty.lua).
local lu = require "luaunit"
local core = require "knbl.core"
local json = require "knbl.json"
local kube = require "knbl.kube"
local shell = require "tests.cli.shell"

TestClient = {}

local knbl = os.getenv "KNBL" or "./knbl"
local dir, server, api, warnings

local function put(name, text) return shell.write(dir:file(name), text) end

local function user_of(user)
  local path = put("config", json.encode { apiVersion = "v1", kind = "Config", ["current-context"] = "x", contexts = { { name = "x", context = { cluster = "c",
    user = "u" } } }, users = { { name = "u", user = user } }, clusters = { { name = "c", cluster = { server = "https://127.0.0.1:" .. shell.read(dir:file "port"),
    ["certificate-authority"] = dir:file "ca.pem" } } } })
  return assert(kube.connect { kubeconfig = path, on_warning = function(text) warnings[#warnings + 1] = text end })
end

-- What the server answers from here on: Lua text, a list (see faulty.lua).
local function serve(text)
  os.remove(dir:file "asked")
  put("answers.lua", "return {\n" .. text .. "\n}")
end

local function asked()
  local list = {}
  for line in shell.read(dir:file "asked"):gmatch "[^\n]+" do list[#list + 1] = json.decode(line) end
  return list
end

function TestClient.setUp()
  if not dir then
    dir = shell.folder()
    server = shell.start(("%s tests/kube/faulty.lua %s"):format(knbl, dir.path))
    shell.wait_for("the server", function() return shell.read(dir:file "port") end)
  end
  warnings = {}
  api = user_of { token = "t" }
end

function TestClient.test_waits_as_long_as_the_server_asks()
  serve 'status(429, "TooManyRequests", "slow down", { ["Retry-After"] = "1" }), ok(object("a"))'
  local began = core.now()
  lu.assertEquals(assert(api:get("ConfigMap", "a")).metadata.name, "a")
  lu.assertTrue(core.now() - began >= 1)
  lu.assertEquals(#asked(), 2)
end

function TestClient.test_server_errors_are_tried_again()
  serve 'status(500, "InternalError", "x"), status(503, "ServiceUnavailable", "x", { ["Retry-After"] = "0" }), { status = 504, body = "<html>" }, ok(object("a"))'
  lu.assertNotNil(api:get("ConfigMap", "a"))
  lu.assertEquals(#asked(), 4)
end

function TestClient.test_refusals_are_not()
  for code, name in pairs { [401] = "auth", [403] = "permission", [404] = "not_found", [422] = "api", [501] = "api" } do
    serve(('status(%d, "No", "no")'):format(code))
    local got, err = api:get("ConfigMap", "a")
    lu.assertNil(got)
    lu.assertEquals({ err.code, err.status, err.reason }, { name, code, "No" })
    lu.assertEquals(#asked(), 1)
  end
end

-- A connection that breaks before the answer, or in the middle of it.
function TestClient.test_resets()
  serve '{ reset = true }, { cut = "{\\"metadata\\":" }, ok(object("a"))'
  lu.assertEquals(assert(api:get("ConfigMap", "a")).metadata.name, "a")
  lu.assertTrue(#asked() >= 3)
end

-- A create that was done, but whose answer was lost, is found again and not done twice.
function TestClient.test_lost_answer_of_a_create()
  serve 'function(r) made = r.object return { reset = true } end, function(r) return ok(made) end'
  local object = assert(api:create { apiVersion = "v1", kind = "ConfigMap", metadata = { name = "a" } })
  lu.assertEquals(object.metadata.name, "a")
  local seen = asked()
  lu.assertEquals({ #seen, seen[1].method, seen[2].method }, { 2, "POST", "GET" })
end

-- One that was never done is done again, by the same name.
function TestClient.test_lost_create()
  serve '{ reset = true }, status(404, "NotFound", "none"), function(r) return ok(r.object) end'
  local object = assert(api:create { apiVersion = "v1", kind = "ConfigMap", metadata = { generateName = "a-" } })
  local seen = asked()
  lu.assertEquals({ #seen, seen[1].method, seen[2].method, seen[3].method }, { 3, "POST", "GET", "POST" })
  lu.assertEquals({ seen[1].object.metadata.name, seen[3].object.metadata.name }, { object.metadata.name, object.metadata.name })
end

-- An object of that name that somebody else made is a conflict, not ours.
function TestClient.test_conflict()
  serve 'status(409, "AlreadyExists", "there is one"), ok { metadata = { name = "a", annotations = {} } }'
  local object, err = api:create { apiVersion = "v1", kind = "ConfigMap", metadata = { name = "a" } }
  lu.assertNil(object)
  lu.assertEquals(err.code, "conflict")
end

-- What is sent is what was given, an empty list too, and what was given stays as it is.
function TestClient.test_create_sends_what_it_was_given()
  serve 'ok(object "a")'
  local given = { apiVersion = "v1", kind = "ConfigMap", metadata = { name = "a" }, list = json.array {}, map = {} }
  lu.assertNotNil(api:create(given))
  lu.assertStrContains(asked()[1].body, '"list":[],"map":{}')
  lu.assertEquals(given.metadata, { name = "a" })
end

function TestClient.test_pages_and_an_expired_one()
  serve 'list("5", { object "a" }, "token"), status(410, "Expired", "too old"), list("5", { object "b" })'
  local list = assert(api:list "ConfigMap")
  lu.assertEquals({ #list.items, list.items[1].metadata.name }, { 1, "b" })
  local seen = asked()
  lu.assertStrContains(seen[2].path, "continue=token")
  lu.assertNotStrContains(seen[3].path, "continue=")
end

-- A list that has nothing is null where Go's is.
function TestClient.test_a_null_list()
  serve [[{ status = 200, body = '{"metadata":{"resourceVersion":"1"},"items":null}' }]]
  lu.assertEquals(#assert(api:list "ConfigMap").items, 0)
end

-- ---- who we are ----

-- A token file that was written anew is read again when the old token is refused.
function TestClient.test_a_token_that_expired()
  api = user_of { tokenFile = put("token", "old") }
  serve 'function(r) write("token", "new") return status(401, "Unauthorized", "expired") end, ok(object "a")'
  lu.assertNotNil(api:get("ConfigMap", "a"))
  local seen = asked()
  lu.assertEquals({ seen[1].headers.authorization, seen[2].headers.authorization }, { "Bearer old", "Bearer new" })
end

-- A plugin runs once more when its token is refused, and no third time.
function TestClient.test_a_plugin_whose_token_expired()
  local path = put("plugin", ([[#!/bin/sh
echo x >>%s
printf '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"t%%s"}}' $(wc -l <%s)
]]):format(dir:file "runs", dir:file "runs"))
  os.execute("chmod +x " .. path)
  api = user_of { exec = { apiVersion = "client.authentication.k8s.io/v1", command = path, interactiveMode = "Never" } }
  serve 'status(401, "Unauthorized", "expired"), ok(object "a"), status(401, "Unauthorized", "expired")'
  lu.assertNotNil(api:get("ConfigMap", "a"))
  local seen = asked()
  lu.assertEquals({ seen[1].headers.authorization, seen[2].headers.authorization }, { "Bearer t1", "Bearer t2" })
  local _, err = api:get("ConfigMap", "a")
  lu.assertEquals(err.code, "auth")
  lu.assertEquals(#asked(), 4)
end

-- Each group has a header of its own.
function TestClient.test_impersonation()
  api = user_of { token = "t", ["as"] = "jane", ["as-groups"] = json.array { "dev", "ops" } }
  serve 'ok(object "a")'
  lu.assertNotNil(api:get("ConfigMap", "a"))
  local headers = asked()[1].headers
  lu.assertEquals(headers["impersonate-user"], "jane")
  lu.assertEquals(headers["impersonate-group"], "dev & ops")
end

-- ---- what newer servers say ----

-- Warnings are shown, each once.
function TestClient.test_warnings()
  serve [[{ status = 200, body = "{}", headers = { Warning = { '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"',
    '299 - "unknown field \\"spec.x\\""' } } }]]
  for _ = 1, 2 do api:get("ConfigMap", "a") end
  lu.assertEquals(warnings, { "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice", 'unknown field "spec.x"' })
end

-- Discovery is asked for in its plain form, which every version serves.
function TestClient.test_plain_discovery()
  serve 'ok(object "a")'
  api:get("ConfigMap", "a")
  lu.assertEquals(asked()[1].headers.accept, "application/json")
end

function TestClient.test_server_named_once()
  api = user_of { token = "t" }
  api.config.ca = nil
  local _, err = api:get("ConfigMap", "a")
  lu.assertEquals(err.code, "auth")
  lu.assertStrMatches(err.message, "https://127%.0%.0%.1:%d+: [^/]*certificate.*")
end

-- ---- watches ----

local function events(w, n)
  local seen = {}
  for i = 1, n do
    local e = assert(w:next())
    seen[i] = e.type .. " " .. e.object.metadata.name
  end
  return seen
end

-- The version has expired: listed again, and what differs is told as events. A stream that breaks off, in the middle of a line too, is opened again from
-- the last version that came whole.
function TestClient.test_watch_survives_410_and_resets()
  serve [[list("10", { object("a", "1") }),
    { lines = { event("BOOKMARK", object("x", "12")) }, after = "reset" },
    { lines = { event("ERROR", { kind = "Status", code = 410 }) }, after = "hold" },
    list("20", { object("a", "7"), object("b", "8") }),
    status(503, "ServiceUnavailable", "starting"),
    { lines = { event("DELETED", object("b", "21")), '{"type":"MODI' }, torn = true, after = "reset" },
    { lines = { event("MODIFIED", object("a", "22")) }, after = "hold" }]]
  local w <close> = api:watch("ConfigMap", { timeout = 20 })
  lu.assertEquals(events(w, 5), { "ADDED a", "MODIFIED a", "ADDED b", "DELETED b", "MODIFIED a" })
  local seen = asked()
  lu.assertStrContains(seen[2].path, "resourceVersion=10")
  lu.assertStrContains(seen[3].path, "resourceVersion=12")
  lu.assertStrContains(seen[#seen].path, "resourceVersion=21")
end

function TestClient.test_watch_with_a_token_that_expired()
  api = user_of { tokenFile = put("token", "old") }
  serve [[list("1", {}), function(r) write("token", "new") return status(401, "Unauthorized", "expired") end,
    { lines = { event("ADDED", object("a", "2")) }, after = "hold" }]]
  local w <close> = api:watch("ConfigMap", { timeout = 20 })
  lu.assertEquals(events(w, 1), { "ADDED a" })
end

function TestClient.test_watch_that_may_not()
  serve 'list("1", {}), status(403, "Forbidden", "cannot watch")'
  local w <close> = api:watch("ConfigMap", { timeout = 5 })
  local e, err = w:next()
  lu.assertNil(e)
  lu.assertEquals(err.code, "permission")
end

local code = lu.LuaUnit.run()
for _, thing in ipairs { server, dir } do getmetatable(thing).__close(thing) end
os.exit(code)
