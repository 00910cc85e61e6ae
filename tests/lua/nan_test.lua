-- Numbers that JSON does not have: refused where they enter, and where a script puts one into a result all the same,
-- all else is written.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local fake = require "fake"
local json = require "knbl.json"

TestNan = {}

function TestNan:test_refused_where_they_enter()
  for body, said in pairs {
    ["knbl.tcp_rr { from = a, to = b, labels = { x = 0/0 } }"] = "label x must be a finite number, got",
    ["knbl.tcp_rr { from = a, to = b, labels = { x = -math.huge } }"] = "label x must be a finite number, got -inf",
    ["knbl.options { x = { 0/0, 'help' } }"] = "x: the default must be a finite number, got",
    ["for _ in knbl.matrix { { 'n', 1, 1/0 } } do end"] = "value 2 of n must be a finite number, got inf",
    ["knbl.report { rows = 'case', columns = 'rate', where = { n = 0/0 } }"] = "where: n must be a finite number, got",
    ["knbl.report { rows = 'case', columns = { { 'x', 'p99', where = { n = 0/0 } } } }"] =
      "where: n must be a finite number, got",
  } do
    local code, _, err = fake.knbl(fake.pair .. body, { "-q" })
    lu.assertEquals(code, 1, body)
    lu.assertStrContains(err, said, false, body)
    lu.assertStrContains(err, "SCRIPT:2")
  end
end

-- What a script finds out itself is kept as text.
function TestNan:test_a_note_keeps_it_as_text()
  local code, out, err = fake.knbl(fake.pair .. "knbl.note { ratio = 1/0, deep = { 0/0 } }", { "-q", "--json", "-" })
  lu.assertEquals({ code, err }, { 0, "" })
  local note = json.decode(out).notes[1]
  lu.assertEquals(note.ratio, "inf")
  lu.assertStrContains(note.deep[1], "nan")
end

local spoilt = fake.pair .. [[
local first = knbl.tcp_rr { case = "first", from = a, to = b }
knbl.tcp_rr { case = "second", from = a, to = b }
first.metrics.rate_per_s = 0/0
first.metrics.mine = { 1, 1/0 }
first.metrics.f = print
first.metrics.itself = first
first.metrics[5] = "five"
]]

-- Everything that JSON can express is there, the rest is null, and it is said which.
function TestNan:test_nothing_else_is_lost()
  local code, out, err = fake.knbl(spoilt, { "-q", "--json", "-" })
  lu.assertEquals(code, 0, err)
  lu.assertStrContains(err, "knbl: --json: JSON cannot express ")
  lu.assertStrContains(err, "measurements[1].metrics.f (a function)")
  lu.assertStrContains(err, " and 1 more: written as null")
  lu.assertNotStrContains(err, "traceback")
  lu.assertStrContains(out, '"rate_per_s": null')
  local data = json.decode(out)
  lu.assertEquals({ #data.measurements, data.measurements[2].metrics.rate_per_s }, { 2, 50000 })
  local metrics = data.measurements[1].metrics
  lu.assertEquals({ metrics.latency_ns.p99, metrics["5"], metrics.mine[1] }, { 200, "five", 1 })
  lu.assertEquals({ metrics.rate_per_s, metrics.itself, metrics.f }, { nil, nil, nil })
end

-- The same ledger as each other file.
function TestNan:test_every_format_is_written()
  local words = { "--markdown", "--csv", "--junit", "--html", "--openmetrics", "--json" }
  for _, word in ipairs(words) do
    local code, out, err = fake.knbl(fake.pair .. [[
      local m = knbl.tcp_rr { case = "first", from = a, to = b }
      m.metrics.rate_per_s, m.metrics.latency_ns.p99 = 0/0, 1/0
      knbl.tcp_rr { case = "second", from = a, to = b }]], { word, "-" })
    lu.assertEquals(code, 0, word .. err)
    lu.assertStrContains(out, "second", false, word)
    lu.assertNotStrContains(err, "traceback")
  end
end

function TestNan:test_encode_all()
  local text, lost = json.encode_all { a = 1, b = { 2, 0 / 0 } }
  lu.assertEquals({ text, #lost }, { '{"a":1,"b":[2,null]}', 1 })
  text, lost = json.encode_all(json.ordered({ b = 1, a = json.array {} }, { "b" }))
  lu.assertEquals({ text, lost }, { '{"b":1,"a":[]}', {} })
  text, lost = json.encode_all(json.ordered({ b = 1 / 0, a = json.array {} }, { "b" }))
  lu.assertEquals({ text, lost }, { '{"b":null,"a":[]}', { "b (inf)" } })
  local deep = {}
  for _ = 1, 200 do deep = { deep } end
  text, lost = json.encode_all { deep = deep, x = 1 }
  lu.assertEquals({ json.decode(text).x, #lost }, { 1, 1 })
  text, lost = json.encode_all(0 / 0)
  lu.assertEquals({ text, #lost }, { "null", 1 })
end

os.exit(lu.LuaUnit.run())
