-- The control client against an agent that misbehaves in every way; HTTP is the test's own.
local lu = require "luaunit"
local agent = require "knbl.measure.agent"
local json = require "knbl.json"
local real = require "knbl.native"

TestAgent = {}

local request = { spec = { test = "tcp_rr" }, to = { host = "10.0.0.2", port = 7099 }, token = "theirs" }

-- A core whose fetch gives the answers of a list, one after the other; a clock that moves only when somebody sleeps.
local function core_with(answers)
  local core = setmetatable({ seen = {}, clock = 0 }, { __index = real })
  function core.fetch(r)
    core.seen[#core.seen + 1] = r
    local answer = table.remove(answers, 1) or { nil, { code = "refused", message = "connection refused" } }
    if answer.status then return answer end
    return nil, answer[2]
  end
  function core.now() return core.clock end
  function core.sleep(s) core.clock = core.clock + s return true end
  return core
end

local function ok(body, status) return { status = status or 200, headers = {}, body = json.encode(body) } end
local function refused() return { nil, { code = "refused", message = "connection refused" } } end
local endpoint = { name = "pod-a", token = "secret", control = { unix = "/run/agent" } }

function TestAgent:test_a_run_from_start_to_result()
  local core = core_with { ok({ id = "r1" }, 201), ok { id = "r1", state = "running", progress = { ops = 5 } },
    ok { id = "r1", state = "done", result = { ok = true } }, ok { id = "r1" } }
  local run = assert(agent.start(endpoint, request, core))
  lu.assertEquals(run:wait(0.25), false)
  lu.assertEquals(run:progress().ops, 5)
  lu.assertEquals(run:wait(0.25), true)
  lu.assertEquals(run:result(), { ok = true })
  run:close()
  run:close()
  lu.assertEquals(#core.seen, 4)
  local post, get, delete = core.seen[1], core.seen[2], core.seen[4]
  lu.assertEquals({ post.method, post.unix, post.headers["Knbl-Token"], post.headers["Knbl-Protocol"] },
    { "POST", "/run/agent", "secret", tostring(core.protocol) })
  local asked = json.decode(post.body)
  lu.assertStrMatches(asked.id, ("%x"):rep(16))
  asked.id = nil
  lu.assertEquals(asked, request)
  lu.assertStrContains(get.url, "/v1/runs/r1?wait=250")
  lu.assertEquals(delete.method, "DELETE")
end

function TestAgent:test_an_agent_that_hesitates_is_asked_again()
  local core = core_with { ok({ id = "r1" }, 201), refused(), refused(), ok { state = "done", result = {} } }
  local run = assert(agent.start(endpoint, request, core))
  lu.assertEquals(run:wait(1), true)
end

-- Those of a run end where its orchestrator was killed; those of --manifests stand until somebody uses them.
function TestAgent:test_pods_of_a_run_end_when_they_are_idle()
  local manifest = require "knbl.kube.manifest"
  local function words(run)
    local pod = manifest.pod(run, { name = "a", port = 7099, image = "knbl" })
    return table.concat(pod.spec.containers[1].args, " ")
  end
  lu.assertStrContains(words { id = "1", idle = "2m" }, "--idle 2m")
  lu.assertNotStrContains(words { id = "1" }, "--idle")
end

local function alive_of(core)
  local names = {}
  for _, r in ipairs(core.seen) do
    if r.url:find "/v1/alive$" then names[#names + 1] = r.headers["Knbl-Token"] end
  end
  table.sort(names)
  return table.concat(names, " ")
end

-- Those that are not a part of the measurement hear that their orchestrator is there, while another one is polled.
function TestAgent:test_agents_that_are_not_used_are_kept()
  local core = core_with {}
  function core.fetch(r)
    core.seen[#core.seen + 1] = r
    return ok { id = "r1", state = "running" }
  end
  local owner, other = {}, {}
  agent.keep({ name = "b", token = "b", control = { unix = "/b" } }, owner)
  agent.keep({ name = "c", token = "c", control = { unix = "/c" } }, other)
  local run = assert(agent.start(endpoint, request, core))
  core.seen, core.clock = {}, 1000
  for _ = 1, 10 do
    run:wait(1)
    core.clock = core.clock + 1
  end
  lu.assertEquals(alive_of(core), "b c")
  core.clock = core.clock + agent.alive_s
  run:wait(1)
  lu.assertEquals(alive_of(core), "b b c c")
  agent.forget(owner, "nobody")
  agent.forget(other)
  core.clock = core.clock + agent.alive_s
  run:wait(1)
  lu.assertEquals(alive_of(core), "b b b c c")
  agent.forget(owner, "b")
  core.clock = core.clock + agent.alive_s
  run:wait(1)
  lu.assertEquals(alive_of(core), "b b b c c")
end

-- The answer to the start was lost: the same run is asked for again.
function TestAgent:test_a_start_is_asked_for_again()
  local core = core_with { refused(), { status = 503, headers = {}, body = "" }, ok({ id = "r1" }, 201) }
  assert(agent.start(endpoint, request, core))
  lu.assertEquals(#core.seen, 3)
  lu.assertEquals(core.seen[3].body, core.seen[1].body)
end

function TestAgent:test_an_agent_that_is_gone_is_lost()
  local core = core_with { ok({ id = "r1" }, 201) }
  local run = assert(agent.start(endpoint, request, core))
  local over, err = run:wait(1)
  lu.assertNil(over)
  lu.assertEquals(err.code, "lost")
  lu.assertStrContains(err.message, "pod-a stopped answering")
  lu.assertTrue(core.clock >= agent.grace and core.clock < agent.grace + 1)
end

function TestAgent:test_a_connection_that_breaks_is_no_protocol_error()
  local core = core_with { ok({ id = "r1" }, 201), { nil, { code = "protocol", message = "connection reset" } } }
  local run = assert(agent.start(endpoint, request, core))
  local _, err = run:wait(1)
  lu.assertEquals(err.code, "lost")
end

function TestAgent:test_never_there()
  local run, err = agent.start(endpoint, request, core_with {})
  lu.assertNil(run)
  lu.assertEquals(err.code, "lost")
end

function TestAgent:test_a_restarted_agent_does_not_know_the_run()
  local core = core_with { ok({ id = "r1" }, 201), { status = 404, headers = {},
    body = '{"error":{"code":"argument","message":"no such run"}}' } }
  local run = assert(agent.start(endpoint, request, core))
  local over, err = run:wait(1)
  lu.assertNil(over)
  lu.assertEquals(err.code, "lost")
end

function TestAgent:test_refusals_keep_their_code()
  for status, code in pairs { [400] = "argument", [401] = "auth", [426] = "version", [429] = "limit" } do
    local run, err = agent.start(endpoint, request, core_with { { status = status, headers = {}, body = "no JSON" } })
    lu.assertNil(run)
    lu.assertEquals(err.code, code)
    lu.assertStrContains(err.message, "pod-a: ")
  end
  local _, err = agent.start(endpoint, request,
    core_with { { status = 400, headers = {}, body = '{"error":{"code":"resolve","message":"no host x"}}' } })
  lu.assertEquals({ err.code, err.message }, { "resolve", "pod-a: no host x" })
end

function TestAgent:test_nonsense_is_a_protocol_error()
  for _, body in ipairs { "", "<html>", "[]", "{}", '"x"', '{"id":7}' } do
    local run, err = agent.start(endpoint, request, core_with { { status = 200, headers = {}, body = body } })
    lu.assertNil(run, body)
    lu.assertEquals(err.code, "protocol", body)
  end
  local run = assert(agent.start(endpoint, request, core_with { ok({ id = "r" }, 201), ok { state = "done" } }))
  lu.assertEquals(run:wait(1), true)
  local result, err = run:result()
  lu.assertNil(result)
  lu.assertEquals(err.code, "protocol")
end

function TestAgent:test_stopping_brings_what_was_measured()
  local core = core_with { ok({ id = "r1" }, 201), ok { state = "running" },
    ok { state = "done", result = { ok = true, metrics = {} } } }
  local run = assert(agent.start(endpoint, request, core))
  run:wait(0.1)
  run:stop()
  lu.assertEquals(run:result().ok, true)
end

function TestAgent:test_another_protocol_is_named()
  local about, err = agent.about(endpoint, core_with { ok { protocol = 99, version = "9.0" } })
  lu.assertNil(about)
  lu.assertEquals(err.code, "version")
  lu.assertStrContains(err.message, "9.0")
end

os.exit(lu.LuaUnit.run())
