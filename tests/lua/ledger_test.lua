-- The file of a run: what it holds, and what is refused as one.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"
local output = require "knbl.program.output"

TestLedger = {}

-- Out of a log that has other lines in between, also within a line that is too long for one.
function TestLedger:test_a_ledger_in_a_log()
  local text, lines, others = '{\n  "a": "' .. ("x"):rep(20000) .. '"\n}\n', {}, 0
  for line in output.mark(text):gmatch "[^\n]+" do
    lu.assertTrue(#line <= 8001)
    for _, said in ipairs { line, "{ knbl: as it went" } do
      others = others + (output.unmark(lines, said) and 0 or 1)
    end
  end
  lu.assertEquals({ others, table.concat(lines, "\n") .. "\n" }, { 5, text })
end

function TestLedger:test_notes_keep_tables()
  local code, out = fake.knbl(fake.pair .. "local r = knbl.tcp_rr { from = a, to = b } "
    .. "knbl.note { best = 5, list = { 1, 'x', { y = 2 } }, who = a, much = 1 / 0 } knbl.note { flags = r.flags, p50 \z
      = r.metrics.latency_ns }", { "--json", "-", "-q" })
  lu.assertEquals(code, 0)
  local notes = json.decode(out).notes
  lu.assertEquals(notes[1], { best = 5, list = { 1, "x", { y = 2 } }, who = "client", much = "inf" })
  lu.assertEquals({ notes[2].flags, type(notes[2].p50) }, { {}, "table" }, "what a result has is a table like any")
end

-- Agents tell what they know as they come; of several clusters every value stands there.
function TestLedger:test_the_environment_is_what_was_known_at_the_end()
  local book = require("knbl.results.ledger").new { core = fake.core(), scenario = "x" }
  local first = { mtu = 1500, proxy_mode = "unknown", families = { 4 } }
  book:set_environment("k8s", first)
  lu.assertEquals(book.data.environment.proxy_mode, "unknown")
  first.proxy_mode = "iptables"
  book:add { test = "tcp_rr" }
  lu.assertEquals(book.data.environment.proxy_mode, "iptables")
  book:set_environment("k8s", { mtu = 9000, proxy_mode = "iptables", families = { 6 }, overlay = "vxlan" })
  lu.assertEquals(book.data.environment, { mtu = "1500, 9000", proxy_mode = "iptables", families = { 4 },
    overlay = "vxlan" })
  lu.assertEquals(book.data.provider, "k8s")
end

function TestLedger:test_a_report_of_the_file_is_the_run_s_own()
  local path = os.tmpname()
  local script = fake.pair .. "knbl.tcp_rr { case = 'x', from = a, to = b, expect = 'p99 < 1s' }\n"
    .. "knbl.report { rows = 'case', columns = { 'rate', 'p99' } } knbl.note { a = 1 }"
  local code, out, err = fake.knbl(script, { "--json", path })
  lu.assertEquals(code, 0, err)
  local again, shown = fake.knbl(nil, { "report", path })
  lu.assertEquals(again, 0)
  lu.assertEquals(shown, out)
  local _, copy = fake.knbl(nil, { "report", path, "--json", "-", "-q" })
  lu.assertEquals(copy, fake.read(path))
  os.remove(path)
end

function TestLedger:test_ledgers_that_are_no_ledgers()
  local path = os.tmpname()
  local list = {
    { "", "empty" }, { "{", "not JSON" }, { "[]", "no schema" }, { '{"schema":2}', "newer" },
      { '{"schema":1,"measurements":5}', "not a list" },
    { '{"schema":1,"measurements":[{}]}', "no test" },
      { '{"schema":1,"measurements":[{"test":"tcp_rr","metrics":5}]}', "must be of type object" },
    { "{\"schema\":1", "not JSON" }, { '{"schema":"x"}', "newer" },
  }
  for _, case in ipairs(list) do
    local file = assert(io.open(path, "w"))
    file:write(case[1])
    file:close()
    local code, _, err = fake.knbl(nil, { "report", path })
    lu.assertEquals(code, 2, case[1])
    lu.assertStrContains(err, case[2])
  end
  os.remove(path)
  lu.assertEquals(fake.knbl(nil, { "report", "/nonexistent.json" }), 2)
end

-- A ledger with nothing in it, or of a run that was killed, does not pass for a whole one.
function TestLedger:test_what_is_not_whole_says_so()
  local path = os.tmpname()
  for said, text in pairs { ["knbl: nothing was measured"] = '{"schema":1,"verdict":{"status":"pass"}}',
    ["knbl: the run is unfinished"] = '{"schema":1,"verdict":{"status":"running"}}',
    ["knbl: 1 of 2 failed"] = '{"schema":1,"verdict":{"status":"fail","message":"1 of 2 failed"}}' } do
    assert(core.write_file(path, text))
    local code, _, err = fake.knbl(nil, { "report", path })
    lu.assertEquals(code, 0)
    lu.assertStrContains(err, said)
  end
  assert(core.write_file(path, '{"schema":1,"meas'))
  lu.assertStrContains(select(3, fake.knbl(nil, { "report", path })), "as a file that was cut off does")
  os.remove(path)
end

function TestLedger:test_a_short_ledger_is_enough()
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write('{"schema":1,"measurements":[{"test":"tcp_rr","ok":true,"metrics":{"rate_per_s":5}},{"test":"odd"}]}')
  file:close()
  for _, flag in ipairs { "csv", "markdown", "junit", "json" } do
    local code, out, err = fake.knbl(nil, { "report", path, "--" .. flag, "-", "-q" })
    lu.assertEquals(code, 0, err)
    lu.assertStrContains(out, "5")
  end
  os.remove(path)
end

function TestLedger:test_unwritable_paths_are_refused_before_the_run()
  for _, flag in ipairs { "json", "csv", "markdown", "junit" } do
    local code, _, err, core_used = fake.knbl(fake.pair .. "knbl.tcp_rr { from = a, to = b }",
      { "--" .. flag, "/nonexistent/x" })
    lu.assertEquals(code, 2, err)
    lu.assertStrContains(err, "--" .. flag .. ": cannot write /nonexistent/x")
    lu.assertEquals(#core_used.asked, 0)
  end
  lu.assertEquals(fake.knbl(fake.pair, { "--json", "/tmp" }), 2)
  lu.assertEquals(fake.knbl(fake.pair, { "--json", "-", "--csv", "-" }), 2)
end

function TestLedger:test_a_full_disk_leaves_the_table()
  local used = fake.core()
  used.write_file = function() return nil, { code = "system", message = "no space left on device" } end
  local code, out, err = fake.knbl(fake.pair .. "knbl.tcp_rr { from = a, to = b }", { "--json", "/tmp/knbl-test.json" },
    used)
  lu.assertEquals(code, 1)
  lu.assertStrContains(out, "50.0 k/s")
  lu.assertStrContains(err, "no space left")
end

function TestLedger:test_the_contract_of_the_file()
  local _, out = fake.knbl(fake.pair .. "knbl.tcp_rr { case = 'x', from = a, to = b }", { "--json", "-", "-q" })
  local data = json.decode(out)
  lu.assertEquals({ data.schema, data.knbl, data.provider, data.verdict.status },
    { 1, core.version, "loopback", "pass" })
  lu.assertStrMatches(data.started, "%d+%-%d+%-%d+T%d+:%d+:%d+.*Z")
  local m = data.measurements[1]
  lu.assertEquals({ m.test, m.case, m.from, m.to, m.via, m.ok },
    { "tcp_rr", "x", "client", "server", "loopback", true })
  lu.assertEquals(m.path.to, { kind = "pod", node = "node-2", address = "127.0.0.1", port = 40004 })
  lu.assertStrContains(out, '"flags": []')
  lu.assertStrContains(out, '"notes": []')
end

os.exit(lu.LuaUnit.run())
