-- Tests `knbl submit` with incomplete logs: a server (faulty.lua) ends a followed log early or loses its end.
local lu = require "luaunit"
local json = require "knbl.json"
local output = require "knbl.program.output"
local shell = require "tests.cli.shell"

TestSubmit = {}

local knbl = os.getenv "KNBL" or "./knbl"
local dir = shell.folder()
local server = shell.start(("%s tests/kube/faulty.lua %s"):format(knbl, dir.path))
shell.wait_for("the server", function() return shell.read(dir:file "port") end)
shell.write(dir:file "config", json.encode { apiVersion = "v1", kind = "Config", ["current-context"] = "x",
  contexts = { { name = "x", context = { cluster = "c", user = "u" } } },
    users = { { name = "u", user = { token = "t" } } },
  clusters = { { name = "c", cluster = { server = "https://127.0.0.1:" .. shell.read(dir:file "port"),
    ["certificate-authority"] = dir:file "ca.pem" } } } })

local LEDGER = output.mark(json.encode { schema = 1, scenario = "x", provider = "k8s", measurements = json.array {} })

-- A run with the log `followed` while it runs, and `whole` after the process has ended (nil: the log is gone). The
-- process exits with `code`.
local function submit(followed, whole, code)
  os.remove(dir:file "ledger.json")
  shell.write(dir:file "answers.lua", ([[
    local pod = object("p", "1")
    local ended = { state = { terminated = { exitCode = %d } } }
    pod.status = { phase = "Succeeded", containerStatuses = json.array { ended } }
    return { function(r)
      local path = r.path:match "^[^?]*"
      if path == "/apis/batch/v1" then return kinds "Job" end
      if path == "/apis/rbac.authorization.k8s.io/v1" then return kinds("Role", "RoleBinding") end
      if r.method == "DELETE" then gone = true end
      if r.method == "POST" then
        gone, r.object.metadata.uid = nil, "u"
        return ok(r.object)
      end
      if path:find "/log$" then
        if r.path:find "follow=true" then return { body = %q } end
        return %s
      end
      if path:find "/pods$" then return list("1", { not gone and pod or nil }) end
      if path:find "/namespaces/[^/]+$" then return ok(object("default", "1")) end
      return list("1", {})
    end }]]):format(code or 0, followed,
    whole and ("{ body = %q }"):format(whole) or 'status(404, "NotFound", "none")'))
  local run = shell.knbl_with(("submit scenarios/ping.lua --kubeconfig %s --json %s"):format(dir:file "config",
    dir:file "ledger.json"))
  run.ledger = shell.read(dir:file "ledger.json")
  return run
end

function TestSubmit.test_a_log_that_ends_early()
  local run = submit("one\ntwo\n", "one\ntwo\nthree\n" .. LEDGER)
  lu.assertEquals(run.code, 0, run.err)
  lu.assertEquals(json.decode(run.ledger).scenario, "x")
  local _, n = run.err:gsub("two\n", "")
  lu.assertEquals(n, 1)
  lu.assertStrContains(run.err, "three\n")
end

function TestSubmit.test_a_log_that_goes_with_its_pod()
  local run = submit("one\n" .. LEDGER, nil, 130)
  lu.assertEquals(run.code, 130, run.err)
  lu.assertEquals(json.decode(run.ledger).scenario, "x")
end

function TestSubmit.test_results_that_are_lost()
  for log, said in pairs { ["one\n"] = "the Job's log does not contain the results",
    ["one\n" .. LEDGER:sub(1, -20) .. "\n"] = "the results in its log: not JSON: " } do
    local run = submit(log, log)
    lu.assertEquals(run.code, 3, run.err)
    lu.assertStrContains(run.err, said)
    lu.assertNil(run.ledger)
  end
end

-- A scenario that failed before it measured has no results to lose.
function TestSubmit.test_a_script_that_fails()
  local run = submit("x.lua:1: no\n", "x.lua:1: no\n", 1)
  lu.assertEquals(run.code, 1, run.err)
  lu.assertStrContains(run.err, "x.lua:1: no\n")
end

local code = lu.LuaUnit.run()
for _, thing in ipairs { server, dir } do getmetatable(thing).__close(thing) end
os.exit(code)
