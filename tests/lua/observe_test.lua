-- What is watched during a measurement, over agents that are only thought of: who, when, and what becomes of it.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local fake = require "fake"
local json = require "knbl.json"
local ledger = require "knbl.results.ledger"

TestObserve = {}

-- A core whose agents watch; what happens is in core.events, in its order.
local function core_with(answer)
  local core = fake.core()
  core.events, core.bodies = {}, {}
  local run = core.run
  function core.run(...)
    table.insert(core.events, "run")
    return run(...)
  end
  function core.fetch(request)
    table.insert(core.events, request.method)
    if request.method == "POST" then
      table.insert(core.bodies, json.decode(request.body))
      return { status = 201, body = '{"id":"w1"}' }
    end
    return { status = 200, body = json.encode(answer
      or { monitor = { started_ns = "5000000000", t = { 0.1, 0.2 }, process = { cpu = 0.5 } } }) }
  end
  return core
end

local function measured(script, args, core)
  local path = os.tmpname()
  table.insert(args, "--json")
  table.insert(args, path)
  local code, _, err = fake.knbl(fake.pair .. script, args, core)
  local data = assert(ledger.read(path))
  os.remove(path)
  lu.assertEquals({ code, err:match "knbl:.*" }, { 0 })
  return data.measurements
end

local ask = 'knbl.tcp_rr { from = a, to = b, duration = "1s" }'

function TestObserve:test_both_sides_from_before_the_run_to_its_end()
  local core = core_with()
  local m = measured(ask, {}, core)[1]
  lu.assertEquals(core.events, { "POST", "POST", "run", "DELETE", "DELETE" })
  lu.assertEquals(#m.monitor, 2)
  lu.assertEquals({ m.monitor[1].name, m.monitor[1].side, m.monitor[2].name, m.monitor[2].side },
    { "client", "client", "server", "server" })
  lu.assertEquals(m.monitor[1].process.cpu, 0.5)
  lu.assertNil(m.monitor[1].started_ns)
end

function TestObserve:test_at_least_ten_samples_and_none_further_apart_than_a_second()
  for duration, most in pairs { ["100ms"] = 10e6, ["1s"] = 100e6, ["60s"] = 1e9, ["1000s"] = 1e9 } do
    local core = core_with()
    measured(('knbl.tcp_rr { from = a, to = b, duration = "%s", warmup = 0 }'):format(duration), {}, core)
    local interval = core.bodies[1].monitor.interval_ns
    lu.assertTrue(interval >= 10e6 and interval <= most, ("%s: %d"):format(duration, interval))
  end
end

function TestObserve:test_turned_off()
  for _, case in ipairs { { ask, { "--no-monitor" } }, { ask:gsub("}", ", monitor = false }"), {} } } do
    local core = core_with()
    lu.assertNil(measured(case[1], case[2], core)[1].monitor)
    lu.assertEquals(core.events, { "run" })
  end
end

function TestObserve:test_a_measurement_may_insist()
  lu.assertEquals(#measured(ask:gsub("}", ", monitor = true }"), { "--no-monitor" }, core_with())[1].monitor, 2)
end

function TestObserve:test_no_plan_watches()
  local core = core_with()
  fake.knbl(fake.pair .. ask, { "--dry-run" }, core)
  lu.assertEquals(core.events, {})
end

function TestObserve:test_an_agent_that_does_not_watch_spoils_nothing()
  lu.assertNil(measured(ask, {}, fake.core())[1].monitor)
end

function TestObserve:test_what_is_not_permitted_is_kept()
  local m = measured(ask, {}, core_with { monitor = { error = { code = "permission", message = "not here" } } })[1]
  lu.assertEquals(m.monitor[1].error.message, "not here")
end

function TestObserve:test_times_count_from_the_opening_of_the_window()
  local core = core_with()
  local clock = 100
  core.now = function() return clock end
  local run = core.run
  function core.run(...)
    local r = run(...)
    local result = r.result
    r.result = function()
      local t = json.decode(result())
      t.opened_ns = "5300000000" -- 300 ms after the client's monitor began
      return json.encode(t)
    end
    return r
  end
  local list = measured(ask, {}, core)[1].monitor
  lu.assertAlmostEquals(list[1].from, -0.3, 1e-9)
  lu.assertAlmostEquals(list[2].from, -0.3, 1e-9)
end

function TestObserve:test_together()
  local core = core_with()
  local list = measured(
    'knbl.together { { test = "tcp_rr", from = a, to = b, duration = "1s" }, \z
      { test = "udp_rr", from = b, to = a, duration = "1s" } }', {}, core)
  lu.assertEquals({ #list[1].monitor, #list[2].monitor }, { 2, 2 })
end

function TestObserve:test_what_is_long_is_asked_after()
  local core = core_with()
  local clock, asked = 0, 0
  core.now = function() return clock end
  local run = core.run
  function core.run(...)
    local r = run(...)
    r.wait = function()
      clock, asked = clock + 4, asked + 1
      return asked > 8
    end
    return r
  end
  measured('knbl.tcp_rr { from = a, to = b, duration = "30s" }', {}, core)
  local kept = 0
  for _, event in ipairs(core.events) do kept = kept + (event == "GET" and 1 or 0) end
  lu.assertEquals(kept, 4) -- after 12 and 24 s, of two agents
end

function TestObserve:test_a_node_s_own_agent_where_it_stands_already()
  local observe = require "knbl.measure.observe"
  local function endpoint(name)
    return { name = name, kind = "pod", node = "n1", control = { url = "http://" .. name } }
  end
  local standing = endpoint "n1"
  local owner = { provider = { standing_node = function(_, name) return name == "n1" and standing or nil end } }
  local a, b = { kind = "pod", endpoint = endpoint "a", cluster = owner },
    { kind = "pod", endpoint = endpoint "b", cluster = owner }
  local list = observe.watchers(fake.core(), { from = a, route = { to = { endpoints = { a, b } } } })
  local names = {}
  for _, w in ipairs(list) do names[#names + 1] = w.name .. " " .. w.side end
  lu.assertEquals(names, { "a both", "n1 both", "b server" })
end

function TestObserve:test_no_text_is_no_switch()
  local code, _, err = fake.knbl(fake.pair .. 'knbl.tcp_rr { from = a, to = b, monitor = "yes" }', {}, core_with())
  lu.assertEquals(code, 1)
  lu.assertStrContains(err, "monitor must be a boolean, got yes")
end

os.exit(lu.LuaUnit.run())
