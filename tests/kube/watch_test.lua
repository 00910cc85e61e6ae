-- Watches of the API client against a faulty server (faulty.lua), and what an interrupt does to requests that wait.
local lu = require "luaunit"
local core = require "knbl.core"
local played = require "tests.kube.played"
local shell = require "tests.cli.shell"

local asked, put, serve, user_of, knbl = played.asked, played.put, played.serve, played.user_of, played.knbl
local api, dir

TestWatch = {}

function TestWatch.setUp() api, dir = played.set_up() end

-- ---- watches ----

local function events(w, n)
  local seen = {}
  for i = 1, n do
    local e = assert(w:next())
    seen[i] = e.type .. " " .. e.object.metadata.name
  end
  return seen
end

-- If the version has expired, the client lists again and reports differences as events. A stream that breaks, even
-- within a line, is reopened from the last complete version.
function TestWatch.test_watch_survives_410_and_resets()
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

function TestWatch.test_watch_with_a_token_that_expired()
  api = user_of { tokenFile = put("token", "old") }
  serve [[list("1", {}), function(r) write("token", "new") return status(401, "Unauthorized", "expired") end,
    { lines = { event("ADDED", object("a", "2")) }, after = "hold" }]]
  local w <close> = api:watch("ConfigMap", { timeout = 20 })
  lu.assertEquals(events(w, 1), { "ADDED a" })
end

function TestWatch.test_watch_that_may_not()
  serve 'list("1", {}), status(403, "Forbidden", "cannot watch")'
  local w <close> = api:watch("ConfigMap", { timeout = 5 })
  local e, err = w:next()
  lu.assertNil(e)
  lu.assertEquals(err.code, "permission")
end

-- If a server closes each watch without an event, the client waits longer before each retry.
function TestWatch.test_watch_that_opens_and_closes()
  for _, stream in ipairs { '{ lines = {} }', '{ lines = { event("BOOKMARK", object("x", "12")) } }',
    '{ lines = { "5" } }',
    '{ lines = { event("ERROR", { kind = "Status", code = 410 }) } }', '{ lines = { "<html>" } }' } do
    serve(([[function(r) return r.path:find "watch=" and %s or list("10", {}) end]]):format(stream))
    local w <close> = api:watch("ConfigMap", { timeout = 1.5 })
    local e, err = w:next()
    lu.assertNil(e)
    lu.assertEquals(err.code, "timeout")
    lu.assertTrue(#asked() <= 12, stream)
  end
end

-- ---- interrupts ----

-- Runs a script with `api` against this server with `answers`, and sends SIGINT when it is ready.
local function interrupted(answers, text)
  serve(answers)
  local path = put("script.lua", ([[
    local core, kube, pods = require "knbl.core", require "knbl.kube", require "knbl.kube.pods"
    local api = assert(kube.connect { kubeconfig = %q })
    io.stderr:write "ready\n"
    ]]):format(dir:file "config") .. text)
  local p <close> = shell.start(knbl .. " -q " .. path)
  shell.wait_for("the script", function() return (p:err() or ""):find "ready" end)
  shell.wait_for("a request", function() return shell.read(dir:file "asked") end)
  core.sleep(0.3)
  local since = core.now()
  p:kill "INT"
  return p:wait(since)
end

-- A watch without an answer is interrupted at once, and so are all further requests until a cleanup.
function TestWatch.test_an_interrupt_while_a_watch_hangs()
  local got = interrupted('list("1", {}), { silent = true }', [[
    local w = api:watch("Pod", { timeout = 60 })
    local _, first = w:next()
    local _, second = w:next()
    local _, third = api:list "Pod"
    print(first.code, second.code, third.code)
    error(first)]])
  lu.assertEquals(got.out, "interrupted\tinterrupted\tinterrupted\n", got.err)
  lu.assertEquals(got.code, 130)
  lu.assertTrue(got.seconds < 10, got.seconds)
end

-- Waits for a pod while the server answers each request with "retry later".
function TestWatch.test_an_interrupt_while_a_pod_is_awaited()
  local got = interrupted('status(503, "ServiceUnavailable", "starting")', [[
    local made = { metadata = { name = "a" }, spec = {} }
    pods.bring_up(api, "x=y", { 1 }, function() return made end, function(_, pod, err)
      print(pod, err.code)
      error(err)
    end)]])
  lu.assertEquals(got.out, "nil\tinterrupted\n", got.err)
  lu.assertEquals(got.code, 130)
  lu.assertTrue(got.seconds < 10, got.seconds)
end

-- The objects of the run are still removed.
function TestWatch.test_a_cleanup_after_an_interrupt()
  local got = interrupted('{ silent = true }, ok {}, list("1", {})', [[
    local _, err = api:get("ConfigMap", "x")
    local failed = pods.remove(api, { { kind = "Pod", name = "a" } }, "x=y")
    print(err.code, failed and failed.message, core.interrupted(), select(2, core.sleep(0.1)).code)
    error(err)]])
  lu.assertEquals(got.out, "interrupted\tnil\ttrue\tinterrupted\n", got.err)
  lu.assertEquals(got.code, 130)
  local seen = asked()
  lu.assertEquals({ #seen, seen[2].method, seen[2].path }, { 3, "DELETE", "/api/v1/namespaces/default/pods/a" })
end

local code = lu.LuaUnit.run()
played.close()
os.exit(code)
