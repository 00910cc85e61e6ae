-- The API client over a server that misbehaves: what it answers is told by the test, in the place of the HTTP client.
local lu = require "luaunit"
local core = require "knbl.core"
local json = require "knbl.json"
local kube = require "knbl.kube"

TestClient = {}

local real = { fetch = core.fetch, fetch_open = core.fetch_open, sleep = core.sleep }
local asked, slept, api

local function status(code, reason, message)
  return { status = code, headers = {}, body = json.encode { kind = "Status", code = code, reason = reason, message = message } }
end
local function ok(object) return { status = 200, headers = {}, body = json.encode(object) } end
local resources = ok { resources = json.array { { name = "configmaps", kind = "ConfigMap", namespaced = true } } }

-- answers: for each request after discovery, a response, { code, message } for none, or a function of the request.
local function serve(answers)
  local i = 0
  core.fetch = function(request)
    if request.url:match "/api/v1$" then return resources end
    i = i + 1
    asked[i] = request
    local answer = answers[math.min(i, #answers)]
    if type(answer) == "function" then answer = answer(request) end
    if answer.status then return answer end
    return nil, { code = answer[1], message = answer[2] or answer[1] }
  end
end

function TestClient.setUp()
  asked, slept = {}, {}
  local path = os.tmpname()
  local f = assert(io.open(path, "w"))
  f:write(json.encode { apiVersion = "v1", kind = "Config", clusters = { { name = "c", cluster = { server = "https://api.example:6443" } } },
    users = { { name = "u", user = { token = "t" } } }, contexts = { { name = "x", context = { cluster = "c", user = "u" } } }, ["current-context"] = "x" })
  f:close()
  api = assert(kube.connect { kubeconfig = path })
  os.remove(path)
  core.sleep = function(seconds) slept[#slept + 1] = seconds return true end
end

function TestClient.tearDown()
  for name, f in pairs(real) do core[name] = f end
end

function TestClient.test_waits_as_long_as_the_server_asks()
  local busy = status(429, "TooManyRequests", "slow down")
  busy.headers["retry-after"] = "2"
  serve { busy, ok { metadata = { name = "a" } } }
  lu.assertEquals(assert(api:get("ConfigMap", "a")).metadata.name, "a")
  lu.assertEquals(#slept, 1)
  lu.assertTrue(slept[1] >= 2 and slept[1] <= 2.5, tostring(slept[1]))
end

function TestClient.test_server_errors_are_tried_again()
  serve { status(500, "InternalError", "x"), status(503, "ServiceUnavailable", "x"), ok { metadata = { name = "a" } } }
  lu.assertNotNil(api:get("ConfigMap", "a"))
  lu.assertEquals(#asked, 3)
end

function TestClient.test_refusals_are_not()
  for code, name in pairs { [401] = "auth", [403] = "permission", [404] = "not_found", [422] = "api" } do
    asked = {}
    serve { status(code, "No", "no") }
    local got, err = api:get("ConfigMap", "a")
    lu.assertNil(got)
    lu.assertEquals(err.code, name)
    lu.assertEquals(#asked, 1)
  end
end

-- A create that was done, but whose answer was lost, is found again and not done twice.
function TestClient.test_lost_answer_of_a_create()
  local made
  serve { function(request)
    if request.method == "POST" then
      lu.assertNil(made, "created twice")
      made = json.decode(request.body)
      return { "protocol", "connection reset" }
    end
    return ok(made)
  end }
  local object = assert(api:create { apiVersion = "v1", kind = "ConfigMap", metadata = { name = "a" } })
  lu.assertEquals(object.metadata.name, "a")
  lu.assertEquals(#asked, 2)
end

-- An object of that name that somebody else made is a conflict, not ours.
function TestClient.test_conflict()
  serve { function(request)
    return request.method == "POST" and status(409, "AlreadyExists", "there is one") or ok { metadata = { name = "a", annotations = {} } }
  end }
  local object, err = api:create { apiVersion = "v1", kind = "ConfigMap", metadata = { name = "a" } }
  lu.assertNil(object)
  lu.assertEquals(err.code, "conflict")
end

function TestClient.test_pages_and_an_expired_one()
  local page = function(name, more) return ok { metadata = { resourceVersion = "5", continue = more }, items = json.array { { metadata = { name = name } } } } end
  serve { page("a", "token"), status(410, "Expired", "too old"), page "b" }
  local list = assert(api:list "ConfigMap")
  lu.assertEquals({ #list.items, list.items[1].metadata.name }, { 1, "b" })
  lu.assertStrContains(asked[2].url, "continue=token")
  lu.assertNotStrContains(asked[3].url, "continue=")
end

function TestClient.test_server_named_once()
  serve { { "auth", "https://api.example:6443/api/v1/x: certificate has expired" } }
  local _, err = api:get("ConfigMap", "a")
  lu.assertEquals(err.message, "https://api.example:6443: certificate has expired")
end

-- Streams of a watch: each a list of lines, then its end.
local function streams(list)
  local i = 0
  core.fetch_open = function()
    i = i + 1
    local lines = list[math.min(i, #list)]
    local at = 0
    return { status = function() return lines.status or 200 end, close = function() end, read = function() return lines.body end,
      line = function()
        at = at + 1
        return lines[at]
      end }
  end
end
local function object(name, version) return { metadata = { name = name, uid = name, resourceVersion = version } } end
local function event(kind, o) return json.encode { type = kind, object = o } end

-- The version has expired: listed again, and what differs is told as events. A stream that breaks off is opened again.
function TestClient.test_watch_survives_410_and_resets()
  local lists = { { object("a", "1") }, { object("a", "7"), object("b", "8") } }
  local n = 0
  serve { function()
    n = n + 1
    return ok { metadata = { resourceVersion = tostring(n * 10) }, items = json.array(lists[math.min(n, 2)]) }
  end }
  streams { { event("BOOKMARK", object("x", "12")) }, { event("ERROR", { kind = "Status", code = 410 }) }, { event("DELETED", object("b", "9")) } }
  local w <close> = api:watch("ConfigMap", { timeout = 5 })
  local seen = {}
  for i = 1, 4 do
    local e = assert(w:next())
    seen[i] = e.type .. " " .. e.object.metadata.name
  end
  lu.assertEquals(seen, { "ADDED a", "MODIFIED a", "ADDED b", "DELETED b" })
end

function TestClient.test_watch_that_may_not()
  serve { ok { metadata = { resourceVersion = "1" }, items = json.array {} } }
  streams { { status = 403, body = json.encode { kind = "Status", message = "cannot watch" } } }
  local w <close> = api:watch("ConfigMap", { timeout = 5 })
  local e, err = w:next()
  lu.assertNil(e)
  lu.assertEquals(err.code, "permission")
end

os.exit(lu.LuaUnit.run())
