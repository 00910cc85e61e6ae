-- Tests the API client against a faulty HTTPS server, which answers, disconnects or stays silent as each test requires
-- (faulty.lua).
local lu = require "luaunit"
local core = require "knbl.core"
local json = require "knbl.json"
local played = require "tests.kube.played"
local shell = require "tests.cli.shell"

local asked, put, serve, user_of = played.asked, played.put, played.serve, played.user_of
local api, dir

TestClient = {}

function TestClient.setUp() api, dir = played.set_up() end

function TestClient.test_waits_as_long_as_the_server_asks()
  serve 'status(429, "TooManyRequests", "slow down", { ["Retry-After"] = "1" }), ok(object("a"))'
  local began = core.now()
  lu.assertEquals(assert(api:get("ConfigMap", "a")).metadata.name, "a")
  lu.assertTrue(core.now() - began >= 1)
  lu.assertEquals(#asked(), 2)
end

function TestClient.test_server_errors_are_tried_again()
  serve [[status(500, "InternalError", "x"), status(503, "ServiceUnavailable", "x", { ["Retry-After"] = "0" }),
    { status = 504, body = "<html>" }, ok(object("a"))]]
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

-- If a create succeeded but its answer was lost, the object is found and not created twice.
function TestClient.test_lost_answer_of_a_create()
  serve 'function(r) made = r.object return { reset = true } end, function(r) return ok(made) end'
  local object = assert(api:create { apiVersion = "v1", kind = "ConfigMap", metadata = { name = "a" } })
  lu.assertEquals(object.metadata.name, "a")
  local seen = asked()
  lu.assertEquals({ #seen, seen[1].method, seen[2].method }, { 2, "POST", "GET" })
end

-- If a create did not happen, it is repeated with the same name.
function TestClient.test_lost_create()
  serve '{ reset = true }, status(404, "NotFound", "none"), function(r) return ok(r.object) end'
  local object = assert(api:create { apiVersion = "v1", kind = "ConfigMap", metadata = { generateName = "a-" } })
  local seen = asked()
  lu.assertEquals({ #seen, seen[1].method, seen[2].method, seen[3].method }, { 3, "POST", "GET", "POST" })
  lu.assertEquals({ seen[1].object.metadata.name, seen[3].object.metadata.name },
    { object.metadata.name, object.metadata.name })
end

-- An object of that name that another client created is a conflict.
function TestClient.test_conflict()
  serve 'status(409, "AlreadyExists", "there is one"), ok { metadata = { name = "a", annotations = {} } }'
  local object, err = api:create { apiVersion = "v1", kind = "ConfigMap", metadata = { name = "a" } }
  lu.assertNil(object)
  lu.assertEquals(err.code, "conflict")
end

-- The request contains the given object unchanged, with empty lists too, and the object itself is not modified.
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

-- An empty list can be null, as Go writes it.
function TestClient.test_a_null_list()
  serve [[{ status = 200, body = '{"metadata":{"resourceVersion":"1"},"items":null}' }]]
  lu.assertEquals(#assert(api:list "ConfigMap").items, 0)
end

-- ---- invalid answers ----

-- A login page, a proxy's error page or an empty answer is a protocol error. The request is not retried.
function TestClient.test_what_is_no_json_object()
  for body, said in pairs { ["<html>log in</html>"] = "<html>log in</html>", [""] = "it is empty",
    ["5"] = "not a JSON object",
    ['"x"'] = "not a JSON object", ["[1]"] = "not a JSON object", ["null"] = "not a JSON object" } do
    serve(("{ status = 200, body = %q }"):format(body))
    for verb, call in pairs {
      get = function() return api:get("ConfigMap", "a") end,
      list = function() return api:list "ConfigMap" end,
      create = function() return api:create { apiVersion = "v1", kind = "ConfigMap", metadata = { name = "a" } } end,
      delete = function() return api:delete("ConfigMap", "a") end,
      watch = function() return api:watch("ConfigMap", { timeout = 5 }):next() end,
    } do
      os.remove(dir:file "asked")
      local got, err = call()
      lu.assertNil(got, verb)
      lu.assertEquals({ err.code, #asked() }, { "protocol", 1 }, verb)
      lu.assertStrContains(err.message, said)
      lu.assertStrContains(err.message, "not one of a Kubernetes API server")
    end
  end
end

-- JSON of another kind.
function TestClient.test_objects_without_their_parts()
  local function refused(body, call)
    serve(("{ status = 200, body = %q }"):format(body))
    local got, err = call()
    lu.assertNil(got, body)
    lu.assertEquals(err.code, "protocol", body)
  end
  for _, body in ipairs { "{}", '{"metadata":5}' } do
    refused(body, function() return api:get("ConfigMap", "a") end)
  end
  for _, body in ipairs { "{}", '{"metadata":{},"items":5}', '{"metadata":{},"items":[5]}',
    '{"metadata":{},"items":[{"metadata":{}}]}', '{"metadata":{"continue":{}},"items":[]}' } do
    refused(body, function() return api:list "ConfigMap" end)
  end
  refused('{"metadata":{},"items":[]}', function() return api:watch("ConfigMap", { timeout = 5 }):next() end)
  for _, body in ipairs { "{}", '{"resources":5}', '{"resources":[5]}', '{"resources":[{"kind":"X"}]}' } do
    refused(body, function() return api:get({ api = "x/v1", kind = "X" }, "a") end)
  end
end

-- An error status without a Kubernetes Status.
function TestClient.test_an_error_with_a_body_of_any_shape()
  for _, body in ipairs { "5", '{"kind":"Status","message":{"a":1}}', '{"kind":"Status","message":5}' } do
    serve(("{ status = 404, body = %q }"):format(body))
    local _, err = api:get("ConfigMap", "a")
    lu.assertEquals({ err.code, type(err.message) }, { "not_found", "string" })
  end
end

-- A response that is too long is not retried.
function TestClient.test_a_response_that_is_too_long()
  serve '{ status = 200, body = ("x"):rep(68 * 1048576) }'
  local got, err = api:get("ConfigMap", "a")
  lu.assertNil(got)
  lu.assertEquals({ err.code, #asked() }, { "limit", 1 })
end

-- An endless list: the same page again, or always a new page.
function TestClient.test_a_list_without_an_end()
  serve 'list("5", { object "a" }, "token")'
  local got, err = api:list "ConfigMap"
  lu.assertNil(got)
  lu.assertEquals(err.code, "protocol")
  lu.assertStrContains(err.message, "does not end")
  lu.assertTrue(#asked() <= 3)
  api.pages_most = 20
  serve 'function() n = (n or 0) + 1 return list("5", { object "a" }, "token" .. n) end'
  got, err = api:list "ConfigMap"
  lu.assertNil(got)
  lu.assertEquals({ err.code, #asked() }, { "protocol", 20 })
end

-- Every continuation expires, and a request without paging also gets pages.
function TestClient.test_a_list_that_always_expires()
  api.pages_most = 20
  serve [[function(r)
    if r.path:find "continue=" then return status(410, "Expired", "x") end
    return list("5", {}, "t")
  end]]
  local got, err = api:list "ConfigMap"
  lu.assertNil(got)
  lu.assertEquals(err.code, "protocol")
end

function TestClient.test_a_retry_after_of_any_shape()
  for _, value in ipairs { "-5", "1e9", "nan", "0x1", "-inf", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "" } do
    serve(('status(429, "TooManyRequests", "slow down", { ["Retry-After"] = %q }), ok(object("a"))'):format(value))
    lu.assertNotNil(api:get("ConfigMap", "a"), value)
  end
end

-- Repeated immediate retries are limited to ten per second.
function TestClient.test_retry_after_zero_is_bounded()
  serve 'status(429, "TooManyRequests", "slow down", { ["Retry-After"] = "0" })'
  api.patience = 1
  local _, err = api:get("ConfigMap", "a")
  lu.assertEquals(err.code, "limit")
  lu.assertTrue(#asked() <= 11, #asked())
end

-- ---- credentials ----

-- A changed token file is read again when the old token is refused.
function TestClient.test_a_token_that_expired()
  api = user_of { tokenFile = put("token", "old") }
  serve 'function(r) write("token", "new") return status(401, "Unauthorized", "expired") end, ok(object "a")'
  lu.assertNotNil(api:get("ConfigMap", "a"))
  local seen = asked()
  lu.assertEquals({ seen[1].headers.authorization, seen[2].headers.authorization }, { "Bearer old", "Bearer new" })
end

-- A plugin runs a second time when its token is refused, but not a third time.
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

-- A plugin prints something other than an ExecCredential.
function TestClient.test_malformed_credentials()
  local function credential(status) return '{"kind":"ExecCredential","apiVersion":"v","status":' .. status .. "}" end
  for printed, said in pairs {
    ["no JSON"] = "did not print an ExecCredential", ["5"] = "did not print an ExecCredential",
    ['{"apiVersion":"v"}'] = "did not print an ExecCredential", [credential "5"] = "did not print an ExecCredential",
    ['{"apiVersion":"w","status":{"token":"t"}}'] = "answered as w", ['{"status":{"token":"t"}}'] = "answered as nil",
    [credential '{"token":5}'] = "status.token must be a string, got a number",
    [credential '{"token":{"a":1}}'] = "status.token must be a string, got a table",
    [credential '{"token":"a\\nb"}'] = "control characters", [credential "{}"] = "neither a token nor a certificate",
    [credential '{"token":""}'] = "neither a token nor a certificate",
    [credential '{"token":"t","expirationTimestamp":5}'] = "expirationTimestamp must be a string",
    [credential '{"token":"t","expirationTimestamp":"soon"}'] = "must be a time like",
    [credential '{"clientCertificateData":"/etc/passwd","clientKeyData":"x"}'] = "no PEM certificate",
    [credential '{"clientCertificateData":"-----BEGIN CERTIFICATE-----"}'] = "without the other",
    [credential '{"token":"t","clientKeyData":"-----BEGIN PRIVATE KEY-----"}'] = "without the other",
  } do
    local path = put("plugin", "#!/bin/sh\ncat <<'X'\n" .. printed:gsub("\\\\", "\\") .. "\nX\n")
    os.execute("chmod +x " .. path)
    api = user_of { exec = { apiVersion = "v", command = path, interactiveMode = "Never" } }
    serve 'ok(object "a")'
    local got, err = api:get("ConfigMap", "a")
    lu.assertNil(got, printed)
    lu.assertEquals(err.code, "auth", printed)
    lu.assertStrContains(err.message, said)
    lu.assertStrContains(err.message, "credential plugin " .. path)
    lu.assertNil(shell.read(dir:file "asked"))
  end
end

-- Each group is sent in its own header.
function TestClient.test_impersonation()
  api = user_of { token = "t", ["as"] = "jane", ["as-groups"] = json.array { "dev", "ops" } }
  serve 'ok(object "a")'
  lu.assertNotNil(api:get("ConfigMap", "a"))
  local headers = asked()[1].headers
  lu.assertEquals(headers["impersonate-user"], "jane")
  lu.assertEquals(headers["impersonate-group"], "dev & ops")
end

-- ---- newer servers ----

-- Warnings are shown, each once.
function TestClient.test_warnings()
  serve [[{ status = 200, body = "{}", headers = { Warning = {
    '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"',
    '299 - "unknown field \\"spec.x\\""' } } }]]
  for _ = 1, 2 do api:get("ConfigMap", "a") end
  lu.assertEquals(played.warnings, { "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    'unknown field "spec.x"' })
end

-- Discovery uses the unaggregated form, which every version serves.
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

-- ---- messages ----

-- Messages of an API server are shown on a terminal without control characters (compare CVE-2021-25743).
function TestClient.test_no_terminal_escapes()
  serve([[function(r)
    if r.path:find "/pods" then
      return status(403, "Forbidden", "no \27]0;owned\7 \27[31mred\194\155m \226\128\174txet\nline two")
    end
    local answer = list("1", {})
    answer.headers = { Warning = '299 - "deprecated \27[2Jgone"' }
    return answer
  end]])
  user_of { token = "t" }
  local got = shell.run(("exec $KNBL clean --kubeconfig %s"):format(dir:file "config"))
  lu.assertEquals(got.code, 3)
  for _, what in ipairs { "\27", "\7", "\194\155", "\226\128\174" } do
    lu.assertNotStrContains(got.err .. got.out, what)
  end
  lu.assertStrContains(got.err, "?[31mred")
  lu.assertStrContains(got.err, "deprecated ?[2Jgone")
  lu.assertStrContains(got.err, "\nline two")
end

-- With a login page in front of the API nothing is removed, and knbl does not claim that it was.
function TestClient.test_clean_before_a_login_page()
  serve '{ status = 200, body = "<html>log in</html>" }'
  user_of { token = "t" }
  local got = shell.run(("exec $KNBL clean --kubeconfig %s"):format(dir:file "config"))
  lu.assertEquals({ got.code, got.out }, { 3, "" })
  lu.assertStrContains(got.err, "not one of a Kubernetes API server")
  lu.assertNotStrContains(got.err, "removed")
end

local code = lu.LuaUnit.run()
played.close()
os.exit(code)
