-- What monitors make doubtful, and that every flag there is is explained.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local doubt = require "knbl.results.doubt"
local fake = require "fake"

TestDoubt = {}

local function flags_of(...)
  local entry = { flags = { "errors" }, metrics = {}, monitor = { ... } }
  doubt.add(entry, { from = {}, route = {} })
  return table.concat(entry.flags, " ")
end

function TestDoubt:test_nothing_seen_nothing_said()
  lu.assertEquals(flags_of(), "errors")
  lu.assertEquals(flags_of({}, { t = {} }, { error = { code = "permission" } }), "errors")
  lu.assertEquals(flags_of { t = { 1, 2 }, conntrack = { entries = 100, max = 262144, drops = 0 },
    clock = { late_s = 0.05 },
    tcp = { listen_drops = 0 }, softnet = { drops = 0 },
    interfaces = { eth0 = { rx_drops = { 3, 2 }, tx_drops = 0, rx_packets_per_s = 10, tx_packets_per_s = 10 } } },
      "errors")
end

-- Another pod than the endpoints of the Service, or more of them.
function TestDoubt:test_backends()
  local during
  local function flags(backends, ...)
    local entry = { flags = {}, metrics = {}, servers = {} }
    for i, name in ipairs { ... } do entry.servers[i] = { name = name } end
    doubt.add(entry, { from = {}, route = { backends = backends }, during = during })
    return table.concat(entry.flags, " ")
  end
  lu.assertEquals(flags({ a = true }, "a"), "")
  lu.assertEquals(flags({ a = true, b = true }, "a", "b"), "")
  lu.assertEquals(flags({ a = true }, "b"), "wrong_backend")
  lu.assertEquals(flags({ a = true }, "a", "b"), "wrong_backend several_backends")
  lu.assertEquals(flags(nil, "a", "b"), "") -- a server of one's own: nobody was asked for
  during = {} -- the script changes the cluster meanwhile
  lu.assertEquals(flags({ a = true }, "b", "c"), "")
end

-- A tenth of the machine's CPUs; not what the script itself put beside it.
function TestDoubt:test_other_work()
  local function flags(cpu, request)
    local entry = { flags = {}, metrics = { cpu = cpu, duration_s = 1 } }
    request = request or {}
    request.from, request.route = request.from or { runtime = "runc" }, request.route or {}
    doubt.add(entry, request)
    return table.concat(entry.flags, " ")
  end
  lu.assertEquals(flags { client_others = 0.19, client_cpus = 2 }, "")
  lu.assertEquals(flags { client_others = 0.2, client_cpus = 2 }, "other_work")
  lu.assertEquals(flags { client_others = 0, client_cpus = 2, server_others = 1, server_cpus = 4 }, "other_work")
  lu.assertEquals(flags { client_others = 0.04, client_cpus = 0.25 }, "") -- less than the kernel can tell
  lu.assertEquals(flags({ client_others = 1, client_cpus = 2 }, { beside = true }), "")
  lu.assertEquals(flags({ client_others = 1, client_cpus = 2 }, { from = { runtime = "gvisor" } }), "")
  lu.assertEquals(flags({ client_others = 1, client_cpus = 2 },
    { route = { to = { endpoints = { { runtime = "runc" }, { runtime = "kata" } } } } }), "")
end

function TestDoubt:test_memory_for_tcp_that_is_exhausted()
  local function flags(tcp) return flags_of { t = { 1, 2 }, tcp = tcp } end
  lu.assertEquals(flags { memory = { 10, 99 }, memory_max = 100, memory_pressures = 0, queue_drops = { 0, 9 } },
    "errors")
  lu.assertEquals(flags { memory = { 10, 100 }, memory_max = 100 }, "errors tcp_memory")
  lu.assertEquals(flags { memory = 1e9 }, "errors", "the limit is not known")
  lu.assertEquals(flags { memory_pressures = { 0, 1 } }, "errors tcp_memory")
  lu.assertEquals(flags { queue_drops = { 5, 5 } }, "errors tcp_memory")
end

function TestDoubt:test_a_table_that_is_nearly_full()
  lu.assertEquals(flags_of { t = { 1, 2 }, conntrack = { entries = { 10, 89 }, max = 100, drops = 0 } }, "errors")
  lu.assertEquals(flags_of { t = { 1, 2 }, conntrack = { entries = { 10, 90 }, max = 100, drops = 0 } },
    "errors conntrack_full")
  lu.assertEquals(flags_of { t = { 1, 2 }, conntrack = { entries = 95, max = { 50, 100 } } }, "errors conntrack_full")
  lu.assertEquals(flags_of { t = { 1, 2 }, conntrack = { entries = 1, max = 100, drops = { 0, 1 } } },
    "errors conntrack_full")
  lu.assertEquals(flags_of { t = { 1, 2 }, conntrack = { entries = 1 } }, "errors")
end

function TestDoubt:test_drops()
  local function interface(drops, rate)
    return flags_of { t = { 1, 2 },
      interfaces = { eth0 = { rx_drops = drops, rx_packets_per_s = rate, tx_packets_per_s = 0 } } }
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
    lu.assertNotNil(doubt.meaning[word], ("%s sets '%s', which lua/knbl/results/doubt.lua does not explain"):format(
      where, word))
  end
  for path in assert(io.popen "find src/run src/engines -name '*.c'"):lines() do
    local file = assert(io.open(path))
    local text = file:read "a"
    file:close()
    for word in text:gmatch 'flag%([^;]-"([%l_]+)"%);' do expect(word, path) end
  end
  for word in fake.read("lua/knbl/results/doubt.lua"):gmatch '{ "([%l_]+)", [%l_]+ }' do expect(word, "doubt.lua") end
  lu.assertTrue(n >= 14)
  for _, flag in ipairs(doubt.list) do lu.assertTrue(#flag.meaning > 10 and #flag.where > 2, flag.name) end
end

os.exit(lu.LuaUnit.run())
