-- What profiles say: costs of functions, why a path costs more, pages and files; over profiles that are made up.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local fake = require "fake"
local json = require "knbl.json"
local ledger = require "knbl.results.ledger"
local profile = require "knbl.results.profile"
local core = require "knbl.native"

TestProfile = {}

-- A machine's profile from folded stacks: { ["knbl:a;k:tcp_sendmsg"] = 12 }; a frame is a process unless it says "k:"
-- or "u:".
local function machine(stacks, more)
  local p = { event = "cpu-clock", hz = 100, cpus = 2, duration_s = 10, samples = 0, idle = 0, lost = 0, cut = 0,
    frames = json.array {}, kinds = "",
    parents = json.array {}, names = json.array {}, counts = json.array {}, name = "this machine", side = "both" }
  local frames, nodes, order = {}, {}, {}
  for stack in pairs(stacks) do order[#order + 1] = stack end
  table.sort(order)
  for _, stack in ipairs(order) do
    local at, path = 0, ""
    for frame in stack:gmatch "[^;]+" do
      local kind, name = frame:match "^([ku]):(.*)$"
      kind, name = kind or "p", name or frame
      if not frames[frame] then
        table.insert(p.frames, name)
        p.kinds = p.kinds .. kind
        frames[frame] = #p.frames - 1
      end
      path = path .. ";" .. frame
      if not nodes[path] then
        table.insert(p.parents, at)
        table.insert(p.names, frames[frame])
        table.insert(p.counts, 0)
        nodes[path] = #p.parents
      end
      at = nodes[path]
    end
    p.counts[at] = stacks[stack]
    p.samples = p.samples + stacks[stack]
  end
  p.busy_s = p.samples / p.hz
  for key, value in pairs(more or {}) do p[key] = value end
  return p
end

local function measurement(case, stacks, more)
  local m = { test = "tcp_rr", case = case, from = "client", to = "server", via = case, ok = true, flags = {},
    params = { size = 1 },
    metrics = { rate_per_s = 1000 }, profile = json.array { machine(stacks) } }
  for key, value in pairs(more or {}) do m[key] = value end
  return m
end

local function data_of(...)
  return { schema = 1, knbl = "t", measurements = json.array { ... }, notes = {}, reports = {}, expectations = {} }
end

-- 1000 samples at 100 Hz are 10 s of CPU in 10 s, in which 10,000 operations were made: 1 ms for each, a sample is 1
-- µs.
local direct = { ["knbl:client;k:sys;k:tcp_sendmsg"] = 600, ["knbl:client;k:sys;k:hook"] = 100,
  ["knbl:server;u:loop"] = 250, ["knbl:client;k:sys"] = 50 }
local service = { ["knbl:client;k:sys;k:tcp_sendmsg"] = 600, ["knbl:client;k:sys;k:hook;k:nft"] = 400,
  ["knbl:client;k:sys;k:hook"] = 100,
  ["knbl:server;u:loop"] = 250, ["knbl:client;k:sys"] = 50 }

function TestProfile:test_what_functions_cost()
  local functions, total = profile.functions(profile.collect { measurement("direct", direct) })
  lu.assertAlmostEquals(total, 1e6, 1)
  lu.assertEquals({ functions[1].name, functions[2].name, functions[3].name, functions[4] },
    { "tcp_sendmsg", "hook", "sys" })
  lu.assertAlmostEquals(functions[1].self, 600e3, 1)
  lu.assertAlmostEquals(functions[3].self, 50e3, 1)
  lu.assertAlmostEquals(functions[3].total, 750e3, 1)
end

function TestProfile:test_recursion_counts_once()
  local functions = profile.functions(profile.collect { measurement("a", { ["knbl:client;k:f;k:g;k:f"] = 1000 }) })
  lu.assertAlmostEquals(functions[1].total, 1e6, 1)
end

function TestProfile:test_repeats_are_averaged_and_gigabytes_have_a_cost()
  local a, b = measurement("a", direct), measurement("a", direct)
  b.metrics.rate_per_s = 2000
  lu.assertAlmostEquals(select(2, profile.functions(profile.collect { a, b })), 0.75e6, 1)
  local bulk = measurement("a", direct, { test = "tcp_stream", metrics = { throughput_bps = 8e9 } })
  local collected = profile.collect { bulk }
  lu.assertEquals(collected.unit, "GB")
  lu.assertAlmostEquals(select(2, profile.functions(collected)), 1e9, 1)
end

function TestProfile:test_what_else_ran_costs_the_operation_nothing()
  local stacks = { ["knbl:client;k:f"] = 500, ["chrome;k:f"] = 400, ["knbl:another;k:f"] = 100 }
  local m = measurement("a", stacks)
  lu.assertAlmostEquals(select(2, profile.functions(profile.collect { m })), 500e3, 1)
  lu.assertAlmostEquals(select(2, profile.functions(profile.collect({ m }, true))), 1e6, 1)
  m.via = "external" -- a server that is no agent has any name
  lu.assertAlmostEquals(select(2, profile.functions(profile.collect { m })), 1e6, 1)
end

-- Another program's virtual machine works for no pod that runs in none.
function TestProfile:test_a_sandbox_costs_the_operation_where_an_end_may_be_in_one()
  local function cost(path)
    local m = measurement("a", { ["knbl:client;k:f"] = 600, ["qemu-system-x86;k:f"] = 300, ["kworker/0;k:f"] = 100 },
      { path = path })
    return select(2, profile.functions(profile.collect { m }))
  end
  local runc, kata = { kind = "pod", runtime = "runc" }, { kind = "pod", runtime = "kata" }
  local several = { kind = "service", endpoints = { "a", "b" } }
  for _, path in ipairs { { from = runc, to = runc }, { from = runc, to = { kind = "node" } },
    { from = runc, to = { kind = "targets" }, targets = { { to = runc }, { to = runc } } } } do
    lu.assertAlmostEquals(cost(path), 700e3, 1)
  end
  for _, path in ipairs { { from = runc, to = kata }, { from = kata, to = runc }, { from = runc, to = several }, {},
    { from = runc, to = { kind = "targets" }, targets = { { to = runc }, { to = kata } } } } do
    lu.assertAlmostEquals(cost(path), 1e6, 1)
  end
  lu.assertAlmostEquals(cost(nil), 1e6, 1)
end

function TestProfile:test_why_a_path_costs_more()
  local why = profile.why(profile.collect { measurement("direct", direct) },
    profile.collect { measurement("service", service) })
  lu.assertTrue(why.shown)
  lu.assertAlmostEquals(why.difference, 400e3, 1)
  -- not "sys", which is below everything and grew by as much; not "hook", which was there before
  lu.assertEquals({ #why.parts, why.parts[1].name }, { 1, "nft" })
  lu.assertAlmostEquals(why.rest, 0, 1)
end

function TestProfile:test_parts_do_not_overlap()
  local more = { ["knbl:client;k:sys;k:a;k:b"] = 300, ["knbl:client;k:sys;k:c"] = 200, ["knbl:client;k:sys"] = 700 }
  local why = profile.why(profile.collect { measurement("x", { ["knbl:client;k:sys"] = 700 }) },
    profile.collect { measurement("y", more) })
  local sum = 0
  for _, part in ipairs(why.parts) do sum = sum + part.difference end
  lu.assertAlmostEquals(sum + why.rest, why.difference, 1)
  lu.assertAlmostEquals(sum, 500e3, 1)
  lu.assertEquals(#why.parts, 2)
end

function TestProfile:test_chance_explains_nothing()
  local other = { ["knbl:client;k:sys;k:tcp_sendmsg"] = 610, ["knbl:client;k:sys;k:hook"] = 95,
    ["knbl:server;u:loop"] = 255, ["knbl:client;k:sys"] = 52 }
  local why = profile.why(profile.collect { measurement("a", direct) }, profile.collect { measurement("b", other) })
  lu.assertEquals({ why.shown, #why.parts }, { false, 0 })
end

function TestProfile:test_the_sentence()
  local data = data_of(measurement("direct", direct), measurement("service", service))
  local sections = profile.sections(core, data)
  lu.assertNil(sections[1].sentence)
  lu.assertStrContains(sections[2].sentence,
    "service costs 400 µs more CPU for each operation than direct (1.40 ms against 1.00 ms): 400 µs in nft and what \z
      it calls")
  data = data_of(measurement("service", service), measurement("direct", direct))
  lu.assertStrContains(profile.sections(core, data)[2].sentence,
    "direct costs 400 µs less CPU for each operation than service")
end

-- A path is compared with the one that is most like it, not with any.
function TestProfile:test_who_is_compared_with_whom()
  local list = {}
  for _, path in ipairs { "near", "far" } do
    for _, by in ipairs { "direct", "service" } do
      list[#list + 1] = measurement(path .. " " .. by, by == "direct" and direct or service,
        { labels = { path = path, by = by }, via = by, to = path })
    end
  end
  local groups = profile.groups(data_of((table.unpack or unpack)(list)))
  lu.assertNil(groups[1].base)
  lu.assertTrue(groups[2].base == groups[1])
  lu.assertTrue(groups[4].base == groups[3])
end

function TestProfile:test_a_profile_that_does_not_hold_together_is_none()
  local function broken(change)
    local p = machine(direct)
    change(p)
    return profile.collect { measurement("a", direct, { profile = json.array { p } }) }
  end
  lu.assertNotNil(broken(function() end))
  for i, change in ipairs {
    function(p) p.parents[1] = 1 end, function(p) p.parents[2] = -1 end, function(p) p.names[1] = 99 end,
      function(p) p.names[1] = 0.5 end,
    function(p) p.counts[1] = "x" end, function(p) p.counts[1] = 0 / 0 end, function(p) p.counts = nil end,
      function(p) p.kinds = "k" end,
    function(p) p.frames = "x" end, function(p) table.remove(p.names) end, function(p) p.busy_s = nil end,
      function(p) p.duration_s = 0 end,
    function(p) p.frames[1] = 7 end,
  } do
    lu.assertNil(broken(change), "change " .. i)
  end
  lu.assertNil(profile.collect { measurement("a", direct, { profile = "x" }) })
  lu.assertNil(profile.collect { measurement("a", direct, { profile = json.array { 7 } }) })
  lu.assertNil(profile.collect { measurement("a", direct, { metrics = {} }) })
end

local function rendered(format, data, ascii)
  return require("knbl.format." .. format).render(data, { core = core, ascii = ascii })
end

-- It opens where the most CPU time went of what can be compared, and at the difference.
function TestProfile:test_the_flame_page_opens_at_the_costliest_pair()
  local much = {}
  for stack, n in pairs(service) do much[stack] = 3 * n end
  local page = rendered("flame", data_of(measurement("direct", direct), measurement("service", service),
    measurement("far", much)))
  lu.assertStrMatches(page, '.*"first":2,.*"second":[01][,}].*')
  page = rendered("flame", data_of(measurement("direct", direct)))
  lu.assertStrContains(page, '"first":0,')
  lu.assertNotStrContains(page, '"second":')
end

-- Many lists of functions become a summary, which names the tests where there are several.
function TestProfile:test_a_summary_names_the_test()
  local list = {}
  for _, test in ipairs { "tcp_rr", "tcp_lat" } do
    for i, stacks in ipairs { direct, service, direct, service } do
      list[#list + 1] = measurement("case" .. i, stacks, { test = test })
    end
  end
  local text = rendered("table", data_of(table.unpack(list)))
  lu.assertStrContains(text, "Where the CPU goes, in short:\n- tcp_lat: case")
  lu.assertStrContains(text, "- tcp_rr: case")
end

function TestProfile:test_in_every_table()
  local data = data_of(measurement("direct", direct), measurement("service", service))
  for _, format in ipairs { "table", "markdown", "html" } do
    local text = rendered(format, data)
    for _, word in ipairs { "kernel function", "nft", "more CPU for each operation" } do
      lu.assertStrContains(text, word)
    end
    lu.assertNotStrContains(rendered(format, data_of(measurement("a", direct, { profile = {} }))), "kernel function")
  end
  lu.assertNil(rendered("table", data, true):find "[\128-\255]")
end

function TestProfile:test_what_was_not_permitted_is_said()
  local data = data_of(measurement("a", direct,
    { profile = json.array { { error = { code = "permission", message = "not <here>" } } } }))
  lu.assertStrContains(rendered("table", data), "profile: not <here>")
  lu.assertStrContains(rendered("html", data), "not &lt;here&gt;")
  lu.assertStrContains(rendered("flame", data), "not &lt;here&gt;")
  lu.assertStrContains(rendered("flame", data_of(measurement("a", direct, { profile = {} }))), "--profile")
end

function TestProfile:test_folded_stacks()
  local text = rendered("folded", data_of(measurement("a;b", { ["knbl:client;k:f;k:g"] = 3 })))
  lu.assertEquals(text, "tcp_rr a,b;knbl:client;f;g 3\n")
end

function TestProfile:test_the_page_holds_its_data_and_nothing_gets_out_of_it()
  local evil = "</script><script>alert(1)//"
  local page = rendered("flame", data_of(measurement(evil, { ["knbl:client;k:<!--" .. evil] = 3 }),
    measurement("b", direct)))
  lu.assertNotStrContains(page, evil)
  local _, scripts = page:gsub("<script", "")
  lu.assertEquals(scripts, 2)
  local found = json.decode((page:match '<script type="application/json" id="data">(.-)</script>'))
  lu.assertEquals(#found.groups, 2)
  lu.assertStrContains(found.groups[1].frames[2], evil)
  lu.assertEquals(found.groups[2].base, 0)
  lu.assertNotStrContains(page, "http")
end

-- ---- from the call to the ledger ----

local ask = 'knbl.tcp_rr { from = a, to = b, duration = "2s", warmup = "500ms", monitor = false%s }'

local function core_that(answer)
  local c = fake.core()
  c.observed = {}
  function c.observe(text)
    table.insert(c.observed, json.decode(text))
    if answer.code then return nil, answer end
    return { finish = function() return json.encode { profile = answer } end }
  end
  return c
end

local function run(more, args, c)
  local path = os.tmpname()
  args = args or {}
  table.insert(args, "--json")
  table.insert(args, path)
  local code, out, err = fake.knbl(fake.pair .. ask:format(more), args, c)
  lu.assertEquals(code, 0, err)
  local data = assert(ledger.read(path))
  os.remove(path)
  return data.measurements[1], out
end

function TestProfile:test_asked_for_in_the_script_or_on_the_command_line()
  for _, case in ipairs { { ", profile = true", {}, nil }, { "", { "--profile" }, nil },
    { ", profile = 999", {}, 999 } } do
    local c = core_that(machine(direct))
    local m, out = run(case[1], case[2], c)
    lu.assertEquals(#c.observed, 1) -- one machine, one profile
    lu.assertEquals(c.observed[1].profile, { hz = case[3], after_ns = 500000000, for_ns = 2000000000 })
    lu.assertEquals({ #m.profile, m.profile[1].name }, { 1, "this machine" })
    lu.assertStrContains(out, "kernel function")
  end
  local c = core_that(machine(direct))
  lu.assertNil(run("", {}, c).profile)
  lu.assertNil(run(", profile = false", { "--profile" }, c).profile)
  lu.assertEquals(c.observed, {})
end

function TestProfile:test_where_it_cannot_be_the_measurement_is_made_all_the_same()
  local m, out = run(", profile = true", {}, core_that { code = "permission", message = "perf_event_paranoid is 2" })
  lu.assertTrue(m.ok)
  lu.assertEquals(m.profile[1].error.message, "perf_event_paranoid is 2")
  lu.assertStrContains(out, "perf_event_paranoid is 2")
end

function TestProfile:test_misuse()
  for _, bad in ipairs { '"yes"', "0", "99.5", "{}" } do
    local code, _, err = fake.knbl(fake.pair .. ask:format(", profile = " .. bad), {}, core_that(machine(direct)))
    lu.assertEquals(code, 1)
    lu.assertStrContains(err, "profile must be true, false")
  end
end

-- Nodes with agents of their own see their machine; two agents of one machine saw the same.
function TestProfile:test_each_machine_once()
  local observe = require "knbl.measure.observe"
  local c, posts = fake.core(), {}
  function c.fetch(request)
    if request.method == "POST" then
      posts[#posts + 1] = request.url
      return { status = 201, body = '{"id":"w"}' }
    end
    return { status = 200, body = json.encode { profile = machine(direct,
      { machine = request.url:find "n3" and "other" or "same" }) } }
  end
  local function endpoint(name, kind, node)
    return { name = name, kind = kind, node = node, control = { url = "http://" .. name } }
  end
  local nodes = { n1 = endpoint("n1", "node", "n1"), n2 = endpoint("n2", "node", "n2"),
    n3 = endpoint("n3", "node", "n3") }
  local owner = { provider = { standing_node = function(_, name) return nodes[name] end } }
  local function pod(name, node) return { kind = "pod", endpoint = endpoint(name, "pod", node), cluster = owner } end
  local list = { pod("b", "n2"), pod("c", "n3"), pod("d", "n1") }
  local request = { from = pod("a", "n1"), route = { to = { endpoints = list } }, profile = true, monitor = false }
  local seen = observe.begin({ core = c, settings = {} }, request, { duration = 1 }, 1):finish()
  table.sort(posts)
  lu.assertEquals(posts, { "http://n1/v1/observe", "http://n2/v1/observe", "http://n3/v1/observe" })
  lu.assertEquals({ #seen.profile, seen.profile[1].name, seen.profile[2].name }, { 2, "n1", "n3" })
end

os.exit(lu.LuaUnit.run())
