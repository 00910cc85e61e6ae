-- What the library knows of each test comes from the engines: all of it is there, and no name of a test decides
-- anything.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local fake = require "fake"
local figures = require "knbl.results.figures"
local json = require "knbl.json"
local tests = require "knbl.base.tests"

TestTests = {}

function TestTests:test_each_is_described()
  local shapes = { bulk = true, rr = true, short = true, echo = true, probe = true }
  for _, test in ipairs(tests.list) do
    lu.assertTrue(#test.help > 5, test.name)
    lu.assertTrue(shapes[test.shape], test.name)
    lu.assertEquals({ type(test.needs_agent), type(test.aliases), type(test.sized) }, { "boolean", "table", "boolean" })
    lu.assertEquals(figures.headline(test.name).name, test.headline)
    for _, list in ipairs { test.columns, test.compare } do
      lu.assertTrue(#list > 0, test.name)
      for _, name in ipairs(list) do lu.assertNotNil(figures.get(name), test.name .. ": " .. name) end
    end
  end
end

-- A name in quotes, or as the key of a table, outside of comments.
function TestTests:test_no_name_of_a_test_decides_anything()
  local pages = { ["lua/knbl/meta.lua"] = true, -- declarations
    ["lua/knbl/program/starter.lua"] = true, ["lua/knbl/program/meanwhile.lua"] = true } -- scenarios
  local files = io.popen "find lua/knbl -name '*.lua'"
  for path in files:lines() do
    local code = pages[path] and "" or fake.read(path):gsub("%-%-[^\n]*", ""):gsub('shape [=~]= "%l+"', "")
      :gsub('{ name = "probe", value', "") -- an option of knbl change
    for _, name in ipairs(tests.names) do
      local check_of_doctor = path:find "doctor" and code:gsub('{ "ping", ping }', "")
        :gsub('{ "pmtu", pmtu }', ""):gsub('name = "pmtu", help', "") or code
      for _, quoted in ipairs { '"' .. name .. '"', "'" .. name .. "'" } do
        lu.assertNil(check_of_doctor:find(quoted, 1, true), ("%s: %s"):format(path, quoted))
      end
      lu.assertNil(code:find("[{,]%s*" .. name .. "%s*="), ("%s: %s ="):format(path, name))
    end
  end
  files:close()
end

-- A test of a newer version is shown all the same.
function TestTests:test_a_ledger_may_have_an_unknown_test()
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(json.encode { schema = 1, knbl = "9", started = "2030-01-01T00:00:00.000Z", verdict = { status = "pass" },
    measurements = json.array { { test = "quic_rr", case = "new", from = "a", to = "b", ok = true,
    flags = json.array {}, metrics = { rate_per_s = 12345, latency_ns = { count = 5, mean = 7000, p50 = 6500 } } } } })
  file:close()
  local code, out, err = fake.knbl(nil, { "report", path })
  os.remove(path)
  lu.assertEquals(code, 0, err)
  for _, text in ipairs { "quic_rr", "12.3 k/s", "7.00 µs" } do lu.assertStrContains(out, text) end
end

os.exit(lu.LuaUnit.run())
