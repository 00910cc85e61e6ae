-- What monitors make doubtful, and that every flag there is is explained.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local doubt = require "knbl.doubt"

TestDoubt = {}

local function flags_of(...)
  local entry = { flags = { "errors" }, monitor = { ... } }
  doubt.add(entry)
  return table.concat(entry.flags, " ")
end

function TestDoubt:test_nothing_seen_nothing_said()
  lu.assertEquals(flags_of(), "errors")
  lu.assertEquals(flags_of({}, { t = {} }, { error = { code = "permission" } }), "errors")
  lu.assertEquals(flags_of { t = { 1, 2 }, conntrack = { entries = 100, max = 262144, drops = 0 }, clock = { late_s = 0.05 },
    tcp = { listen_drops = 0 }, softnet = { drops = 0 },
    interfaces = { eth0 = { rx_drops = { 3, 2 }, tx_drops = 0, rx_packets_per_s = 10, tx_packets_per_s = 10 } } }, "errors")
end

function TestDoubt:test_a_server_that_refuses()
  local entry = { flags = {}, metrics = { status = { ["2xx"] = 5, ["3xx"] = 1 } } }
  doubt.add(entry)
  lu.assertEquals(entry.flags, {})
  entry.metrics.status["5xx"] = 1
  doubt.add(entry)
  lu.assertEquals(entry.flags, { "bad_status" })
end

function TestDoubt:test_a_table_that_is_nearly_full()
  lu.assertEquals(flags_of { t = { 1, 2 }, conntrack = { entries = { 10, 89 }, max = 100, drops = 0 } }, "errors")
  lu.assertEquals(flags_of { t = { 1, 2 }, conntrack = { entries = { 10, 90 }, max = 100, drops = 0 } }, "errors conntrack_full")
  lu.assertEquals(flags_of { t = { 1, 2 }, conntrack = { entries = 95, max = { 50, 100 } } }, "errors conntrack_full")
  lu.assertEquals(flags_of { t = { 1, 2 }, conntrack = { entries = 1, max = 100, drops = { 0, 1 } } }, "errors conntrack_full")
  lu.assertEquals(flags_of { t = { 1, 2 }, conntrack = { entries = 1 } }, "errors")
end

function TestDoubt:test_drops()
  local function interface(drops, rate)
    return flags_of { t = { 1, 2 }, interfaces = { eth0 = { rx_drops = drops, rx_packets_per_s = rate, tx_packets_per_s = 0 } } }
  end
  lu.assertEquals(interface({ 5, 5 }, 1000), "errors drops")
  lu.assertEquals(interface({ 5, 4 }, 1000), "errors")
  lu.assertEquals(interface({ 10, 10 }, { 90000, 90000 }), "errors drops")
  lu.assertEquals(interface({ 10, 10 }, { 110000, 110000 }), "errors") -- 20 in 220,000
  lu.assertEquals(flags_of { t = { 1, 2 }, tcp = { listen_drops = { 0, 1 } } }, "errors drops")
  lu.assertEquals(flags_of { t = { 1, 2 }, softnet = { drops = 5 } }, "errors drops") -- 5 in each of both
end

function TestDoubt:test_clocks()
  lu.assertEquals(flags_of({ clock = { late_s = 0.5 } }, { clock = { late_s = 2 } }), "errors paused")
  lu.assertEquals(flags_of { clock = { asleep_s = 0.02 } }, "errors paused")
  lu.assertEquals(flags_of { clock = { late_s = 0, jumped_s = 0.02 } }, "errors clock_jump")
end

-- Every word that the engines or the library use as a flag.
function TestDoubt:test_every_flag_is_explained()
  local n = 0
  local function expect(word, where)
    n = n + 1
    lu.assertNotNil(doubt.meaning[word], ("%s sets '%s', which lua/knbl/doubt.lua does not explain"):format(where, word))
  end
  for _, path in ipairs { "src/engines/result_flags.c", "src/engines/engine.c", "src/engines/flow.c", "src/engines/crr_collect.c", "src/engines/udp.c" } do
    local file = assert(io.open(path))
    local text = file:read "a"
    file:close()
    for word in text:gmatch 'flag%([^;]-"([%l_]+)"%);' do expect(word, path) end
  end
  local file = assert(io.open "lua/knbl/measure.lua")
  for word in file:read "a":gmatch 'insert%(entry%.flags, "([%l_]+)"%)' do expect(word, "measure.lua") end
  file:close()
  lu.assertTrue(n >= 14)
  for _, flag in ipairs(doubt.list) do lu.assertTrue(#flag.meaning > 10 and #flag.where > 2, flag.name) end
end

os.exit(lu.LuaUnit.run())
