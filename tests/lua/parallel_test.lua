-- Requests at the same time, by functions that are written as if each were alone.
local lu = require "luaunit"
local parallel = require "knbl.base.parallel"

-- A core that notes what is sent and when; it answers the newest request first. A request named bad cannot be sent, one
-- named cut is interrupted.
local function fake_core()
  local core = { log = {}, pools = 0 }
  local function note(text) table.insert(core.log, text) end
  function core.fetch_pool()
    local waiting = {}
    core.pools = core.pools + 1
    return {
      add = function(_, request, number)
        if request == "bad" then return nil, { code = "argument" } end
        note("+" .. request)
        table.insert(waiting, { number, request })
        return true
      end,
      wait = function()
        local number, request = table.unpack(table.remove(waiting))
        if request == "cut" then return nil, nil, { code = "interrupted" } end
        return number, { body = request .. "!" }
      end,
      close = function() note "closed" end,
    }
  end
  function core.fetch(request)
    note(request)
    return { body = request .. "!" }
  end
  -- A function that sends these requests, one after the other.
  function core.asks(...)
    local requests = { ... }
    return function()
      for _, request in ipairs(requests) do
        local response, err = parallel.fetch(core, request)
        note(response and response.body or err.code)
      end
    end
  end
  return core
end

TestParallel = {}
function TestParallel:test_requests_go_out_together()
  local core = fake_core()
  parallel.run(core, { core.asks("a1", "a2"), function() table.insert(core.log, "nothing") end, core.asks("b1", "b2") })
  lu.assertEquals(core.log, { "+a1", "nothing", "+b1", "b1!", "+b2", "b2!", "a1!", "+a2", "a2!" })
  parallel.run(core, { core.asks("a3"), core.asks("b3") })
  lu.assertEquals(core.pools, 1, "the connections are kept")
end
function TestParallel:test_one_alone_and_outside()
  local core = fake_core()
  parallel.run(core, { core.asks("alone") })
  parallel.fetch(core, "outside")
  local co = coroutine.wrap(function() return parallel.fetch(core, "in the script's own coroutine") end)
  lu.assertEquals(co().body, "in the script's own coroutine!")
  parallel.run(core, {})
  core.fetch_pool = nil -- as in LuaJIT
  parallel.run(core, { core.asks("x"), core.asks("y") })
  lu.assertEquals(core.log,
    { "alone", "alone!", "outside", "in the script's own coroutine", "x", "x!", "y", "y!" })
end
function TestParallel:test_an_error_waits_for_the_others()
  local core = fake_core()
  local ok, err = pcall(parallel.run, core, { function() error({ code = "mine" }, 0) end, core.asks("a", "b") })
  lu.assertEquals({ ok, err }, { false, { code = "mine" } })
  lu.assertEquals(core.log, { "+a", "a!", "+b", "b!" })
end
function TestParallel:test_what_cannot_be_sent()
  local core = fake_core()
  parallel.run(core, { core.asks("bad", "a"), core.asks("b") })
  lu.assertEquals(core.log, { "argument", "+a", "+b", "b!", "a!" })
end
function TestParallel:test_an_interrupt_ends_all()
  local core = fake_core()
  parallel.run(core, { core.asks("a", "a2"), core.asks("cut", "b2") })
  table.sort(core.log)
  lu.assertEquals(core.log,
    { "+a", "+cut", "closed", "interrupted", "interrupted", "interrupted", "interrupted" })
  parallel.run(core, { core.asks("c"), core.asks("d") })
  lu.assertEquals(core.pools, 2)
end

os.exit(lu.LuaUnit.run())
