-- knbl trend: steps of synthetic series are found where they are, flat ones stay flat; ledgers of many runs, machines
-- apart, a cache, files for other tools.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local brief = require "knbl.results.brief"
local core = require "knbl.native"
local fake = require "fake"
local figures = require "knbl.results.figures"
local json = require "knbl.json"
local steps = require "knbl.results.steps"
local trend_of = require "knbl.results.trend"
local study = require "study"

TestSteps = {}

-- 100 values of which those from `at` on are `factor` times as much.
local function series(random, noise, factor, at)
  local values = {}
  for i = 1, 100 do values[i] = 100 * math.exp(noise * random.normal()) * (i >= (at or 1e9) and factor or 1) end
  return values
end

function TestSteps:test_at_most_one_of_100_flat_series_has_a_change()
  local random, found = study.random(11), 0
  for _ = 1, 100 do found = found + #steps.find(series(random, 0.05)) end
  lu.assertTrue(found <= 1, tostring(found))
end

-- The table of docs/statistics.md: | step | noise | found | within two runs |
function TestSteps:test_known_steps_are_found_as_the_page_says()
  local rows = 0
  for step, noise, found, near in fake.read "docs/statistics.md":gmatch
    "\n| (%d+) %% step | (%d+) %% | (%d+) %% | (%d+) %% |" do
    rows = rows + 1
    local random, any, close = study.random(100 * step + noise), 0, 0
    for _ = 1, 100 do
      local here = false
      local list = steps.find(series(random, noise / 100, 1 + step / 100, 61))
      for _, c in ipairs(list) do here = here or math.abs(c.at - 61) <= 2 end
      any, close = any + (#list > 0 and 1 or 0), close + (here and 1 or 0)
    end
    for got, said in pairs { [any / 100] = found / 100, [close / 100] = near / 100 } do
      lu.assertAlmostEquals(got, said, 3 * math.sqrt(math.max(said * (1 - said), 0.01) / 100) + 0.01,
        ("%d %%, noise %d %%"):format(step, noise))
    end
  end
  lu.assertTrue(rows >= 5, tostring(rows))
end

function TestSteps:test_several_steps_and_their_levels()
  local values = {}
  for i = 1, 90 do values[i] = (i <= 30 and 100 or i <= 60 and 120 or 100) + i % 3 end
  local list = steps.find(values)
  lu.assertEquals({ #list, list[1].at, list[2].at, list[1].before, list[1].after }, { 2, 31, 61, 101, 121 })
  lu.assertAlmostEquals(list[1].change, 20 / 101, 1e-9)
  for _, short in ipairs { {}, { 1 }, { 1, 2, 3, 4, 5 }, { 5, 5, 5, 5, 5, 5, 5, 5 } } do
    lu.assertEquals(steps.find(short), {})
  end
end

TestTrend = {}

-- A folder of ledgers, one a day.
local function folder()
  local pipe = assert(io.popen "mktemp -d")
  local path = pipe:read "l"
  pipe:close()
  return setmetatable({ path = path }, { __close = function() os.execute("rm -rf '" .. path .. "'") end })
end

local function write(dir, i, rate, more)
  local data = { schema = 1, knbl = "0.1.0", started = ("2026-%02d-%02dT00:00:00.000Z"):format(1 + i // 28, 1 + i % 28),
    scenario = "s", provider = "lab", environment = { cpu_model = "x", cpus = 2, kernel = i <= 20 and "6.1" or "6.2" },
    tags = { commit = "c" .. i }, verdict = { status = "pass" },
    measurements = { { test = "tcp_rr", case = "svc", from = "a", to = "b", ok = true, flags = json.array {},
      metrics = { rate_per_s = rate }, params = { flows = 1 } } } }
  for key, value in pairs(more or {}) do data.environment[key] = value end
  assert(core.write_file(("%s/%03d%s.json"):format(dir.path, i, more and "b" or ""), json.encode(data)))
end

local function trend(dir, ...)
  return fake.knbl(nil, { "trend", dir.path, "--cache", dir.path .. "/cache", ... })
end

local function history(dir)
  for i = 1, 40 do write(dir, i, (i <= 20 and 50000 or 45000) + i % 5 * 100) end
end

function TestTrend:test_a_change_between_two_runs()
  local dir <close> = folder()
  history(dir)
  core.write_file(dir.path .. "/other.json", "{}")
  local code, out, err = trend(dir)
  lu.assertEquals({ code, err }, { 0, "" })
  lu.assertStrMatches(out, ".*\n2026%-01%-22 00:00 +tcp_rr +svc +rate +50%.2 k/s +45%.2 k/s +%-10%.0 %% worse +commit "
    .. "c20, now c21; kernel 6%.1, now 6%.2\n.*")
  lu.assertStrContains(out, "40 runs, 1 series, 0 without a change of their level\n1 file is no ledger: "
    .. dir.path .. "/other.json\n")
  lu.assertEquals(trend(dir, "--fail-if", "rate -5%", "-q"), 99)
  lu.assertEquals(trend(dir, "--fail-if", "rate -15%", "-q"), 0)
  lu.assertEquals(trend(dir, "--fail-if", "p99 +5%", "-q"), 2, "it matches no series")
end

-- Of so few runs nothing can be told: that is no pass.
function TestTrend:test_too_few_runs_are_inconclusive()
  local dir <close> = folder()
  for i = 1, 13 do write(dir, i, i <= 6 and 50000 + i or 25000 + i) end
  local code, out, err = trend(dir, "--fail-if", "rate -5%")
  lu.assertEquals({ code, err }, { 98, "knbl: 1 of 1 limits inconclusive\n" })
  lu.assertStrContains(out, "1 of 1 series have too few runs to show a change: 14 are the least\n"
    .. "? tcp_rr svc: rate -5% (too few runs to show a change: 13, and 14 are the least)\n")
  write(dir, 14, 25014)
  lu.assertEquals(trend(dir, "--fail-if", "rate -5%", "-q"), 99)
  lu.assertStrContains(select(3, trend(dir, "--alpha", "0.0001")), "--alpha must be between 0.001 and 0.5")
end

-- A new case has few runs: the limit is about the others.
function TestTrend:test_a_short_series_beside_others_does_not_count()
  local function one(case, n)
    return { test = "tcp_rr", case = case, figure = figures.get "rate", changes = {}, values = {}, fewest = n }
  end
  local limit = assert(require("knbl.results.expect").parse_change(core, "rate -5%"))
  local rows = trend_of.judge(core, { one("old", 0), one("new", 14) }, { limit })
  lu.assertEquals({ #rows, rows[1].case, rows[1].status }, { 1, "old", "pass" })
  rows = trend_of.judge(core, { one("new", 14) }, { limit })
  lu.assertEquals({ #rows, rows[1].status }, { 1, "inconclusive" })
end

-- The folder of a watch, maybe on a file system that is read-only.
function TestTrend:test_what_a_watch_keeps()
  local dir <close> = folder()
  history(dir)
  core.write_file(dir.path .. "/state.json", "{}")
  local rename = os.rename
  rawset(os, "rename", function() return nil, "Read-only file system" end)
  local code, out, err = trend(dir)
  rawset(os, "rename", rename)
  lu.assertEquals({ code, err }, { 0, "" })
  lu.assertStrContains(out, "40 runs, 1 series, 0 without a change of their level\n")
  lu.assertNotStrContains(out, "no ledger")
end

function TestTrend:test_machines_are_held_apart()
  local dir <close> = folder()
  for i = 1, 20 do
    write(dir, i, 50000 + i % 5 * 100)
    write(dir, i, 80000 + i % 5 * 100, { cpu_model = "y" })
  end
  local _, out = trend(dir)
  lu.assertStrContains(out, "40 runs, 2 series, 2 without a change")
  lu.assertStrContains(out, "2 machines, each with series of its own: lab, x, 2; lab, y, 2")
end

function TestTrend:test_the_cache_is_what_the_files_say()
  local dir <close> = folder()
  history(dir)
  local _, first = trend(dir)
  lu.assertEquals(select(2, trend(dir)), first)
  for i = 21, 40 do write(dir, i, 50000 + i % 5 * 100 + 1) end -- other text, another size or time
  lu.assertStrContains(select(2, trend(dir)), "1 without a change")
end

-- A ledger with every figure of every test that is compared, each with a value of its own.
local function full_ledger()
  local list, wanted, n = json.array {}, {}, 0
  local function put(metrics, path)
    n = n + 1
    local at, last = metrics, path
    local head, rest = path:match "^(.+)%.([^.]+)$"
    if head then
      metrics[head] = metrics[head] or {}
      at, last = metrics[head], rest
    end
    at[last] = n
    return n
  end
  for _, test in ipairs(core.tests()) do
    local m = { test = test.name, case = "", from = "a", to = "b", ok = true, flags = json.array {}, metrics = {},
      params = { flows = 1 }, latency_histogram = fake.histogram(200, 100) }
    for _, name in ipairs(test.compare) do
      local figure, sum = figures.get(name), 0
      for _, path in ipairs(type(figure.path) == "table" and figure.path or { figure.path }) do
        sum = sum + put(m.metrics, path)
      end
      wanted[test.name .. " " .. name] = sum
    end
    list[#list + 1] = m
  end
  return { schema = 1, knbl = "0.1.0", started = "2026-01-01T00:00:00.000Z", verdict = { status = "pass" },
    measurements = list }, wanted
end

function TestTrend:test_every_figure_that_is_compared_is_read()
  local dir <close> = folder()
  local data, wanted = full_ledger()
  core.write_file(dir.path .. "/all.json", json.encode(data, true))
  local run, got = brief.read(core, dir.path .. "/all.json", 1), {}
  for i, kind in ipairs(run.kinds) do got[kind.test .. " " .. kind.figure] = run.values[i] end
  lu.assertEquals(got, wanted)
end

function TestTrend:test_repeats_are_one_point_and_what_failed_is_none()
  local dir <close> = folder()
  local list = json.array {}
  for i, rate in ipairs { 10, 30, 20, 1000 } do
    list[i] = { test = "tcp_rr", case = "svc", from = "a", to = "b", ok = rate < 1000, round = i, flags = json.array {},
      metrics = { rate_per_s = rate }, params = { flows = 1 } }
  end
  core.write_file(dir.path .. "/a.json", json.encode { schema = 1, knbl = "x", started = "", measurements = list })
  lu.assertEquals(brief.read(core, dir.path .. "/a.json", 1).values, { 20 })
end

-- Whatever stands in place of whatever else, the run is read or left out.
function TestTrend:test_malformed_ledgers()
  local dir <close> = folder()
  local root, path, seen, read = full_ledger(), dir.path .. "/x.json", {}, { [true] = 0, [false] = 0 }
  root.environment, root.tags = { kernel = "6.1", cpus = 2 }, { commit = "abc" }
  root.measurements = json.array { root.measurements[1] }
  local function walk(value)
    for k, v in pairs(value) do
      for _, other in ipairs { 5, "x", true, { a = 1 }, json.array { 1 }, json.null } do
        value[k] = other
        core.write_file(path, json.encode(root))
        local run = brief.read(core, path, 1)
        if run then trend_of.series { run } end
        local whole = run ~= nil
        read[whole] = read[whole] + 1
      end
      value[k] = v
      if type(v) == "table" and not seen[v] then
        seen[v] = true
        walk(v)
      end
    end
  end
  walk(root)
  lu.assertTrue(read[true] > 100 and read[false] > 30, ("%d read, %d left out"):format(read[true], read[false]))
  local text = json.encode(root)
  for size = 0, #text - 1, 7 do
    core.write_file(path, text:sub(1, size))
    lu.assertNil(brief.read(core, path, size))
  end
end

function TestTrend:test_files_for_other_tools()
  local dir <close> = folder()
  history(dir)
  local _, out = trend(dir, "--benchmark-json-more", "-", "-q")
  local list = json.decode(out)
  lu.assertEquals({ #list, list[1].name, list[1].unit, list[1].value }, { 1, "tcp_rr svc: rate", "1/s", 45000 })
  lu.assertEquals(json.decode((select(2, trend(dir, "--benchmark-json", "-", "-q")))), {},
    "a rate is better if it is more")
  _, out = trend(dir, "--opensearch-bulk", "-", "-q")
  local n = 0
  for line in out:gmatch "[^\n]+" do
    n = n + 1
    local item = json.decode(line)
    if n % 2 == 1 then lu.assertEquals(item.index._index, "knbl")
    else lu.assertEquals(item.facts.commit, "c" .. n // 2) end
  end
  lu.assertEquals(n, 80)
  _, out = trend(dir, "--csv", "-", "-q")
  lu.assertStrMatches(out,
    "time,scenario,machine,commit,kernel,knbl,tcp_rr svc rate\r\n2026%-01%-02T00:00:00%.000Z,s,\"lab, x, 2\",c1,"
    .. "6%.1,0%.1%.0,50100\r\n.*")
  _, out = trend(dir, "--json", "-", "-q")
  local data = json.decode(out)
  lu.assertEquals({ #data.series[1].points, data.series[1].changes[1].at, data.series[1].changes[1].verdict },
    { 40, 21, "worse" })
  _, out = trend(dir, "--html", "-", "-q")
  lu.assertStrContains(out, "commit c20, now c21; kernel 6.1, now 6.2")
  lu.assertStrContains(out, "<svg")
end

-- One column for a name, whatever the machine; two where a run has two measurements of one name.
function TestTrend:test_names_are_unique_for_other_tools()
  local dir <close> = folder()
  for i = 1, 3 do
    local list = json.array {}
    for flows = 1, 2 do
      list[flows] = { test = "tcp_rr", case = "svc", from = "a", to = "b", ok = true, flags = json.array {},
        metrics = { rate_per_s = 100 * i + flows, latency_ns = { p50 = 5 * flows } }, params = { flows = flows } }
    end
    core.write_file(("%s/%d.json"):format(dir.path, i),
      json.encode { schema = 1, knbl = "x", started = "2026-01-0" .. i,
      scenario = "s", environment = { cpu_model = i < 3 and "x" or "y" }, measurements = list })
  end
  local _, out = trend(dir, "--csv", "-", "-q")
  lu.assertStrMatches(out,
    "time,scenario,machine,knbl,tcp_rr svc rate,tcp_rr svc p50,tcp_rr svc rate %(2%),tcp_rr svc p50 %(2%)\r\n"
    .. "2026%-01%-01,s,x,x,101,5,102,10\r\n2026%-01%-02,s,x,x,201,5,202,10\r\n2026%-01%-03,s,y,x,301,5,302,10\r\n")
  for flag, names in pairs { ["--benchmark-json"] = { "tcp_rr svc: p50", "tcp_rr svc: p50 (2)" },
    ["--benchmark-json-more"] = { "tcp_rr svc: rate", "tcp_rr svc: rate (2)" } } do
    local list = json.decode((select(2, trend(dir, flag, "-", "-q"))))
    lu.assertEquals({ #list, list[1].name, list[2].name }, { 2, names[1], names[2] })
    lu.assertStrContains(list[1].extra, "2026-01-03", nil, "the last run alone, not the last of each machine")
  end
end

function TestTrend:test_what_is_refused()
  local dir <close> = folder()
  lu.assertStrContains(select(3, trend(dir)), "no ledgers in ")
  lu.assertStrContains(select(3, fake.knbl(nil, { "trend", "/nonexistent" })), "cannot read /nonexistent")
  lu.assertStrContains(select(3, fake.knbl(nil, { "trend" })), "which ledgers?")
  lu.assertStrContains(select(3, trend(dir, "--fail-if", "rate 5%")), "--fail-if: ")
  lu.assertStrContains(select(3, trend(dir, "--benchmark-json", "-", "--benchmark-json-more", "-")),
    "cannot both go to")
end

function TestTrend:test_tags_go_into_the_ledger()
  local _, out = fake.knbl(fake.pair .. "knbl.tcp_rr { from = a, to = b }",
    { "--tag", "commit=abc", "--json", "-", "-q" })
  lu.assertEquals(json.decode(out).tags, { commit = "abc" })
end

os.exit(lu.LuaUnit.run())
