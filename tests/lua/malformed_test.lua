-- Ledgers that are JSON, and wrong: whatever stands in place of whatever else, a report is made of it or it is refused
-- with the place. No mistake of a file is a mistake of the program.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"

TestMalformed = {}

local script = fake.pair .. [[
for c in knbl.matrix { { "n", 1, 2 } } do
  knbl.tcp_bw { from = a, to = b, size = "1:64:*8", expect = "throughput > 1k" }
end
knbl.tcp_rr { from = a, to = b, expect = { "p99 < 1ms" } }
knbl.note "x"
knbl.note { a = 1 }
knbl.report { rows = "n", columns = "size", show = "throughput" }
knbl.report { rows = { "case" }, columns = { "rate", { "x", "p99", where = { n = 1 }, test = "tcp_rr" } } }]]

-- A ledger that has everything: repeats, tables, notes, expectations, a baseline.
local function whole()
  local path = os.tmpname()
  fake.knbl(script, { "-q", "--repeats", "2", "--json", path })
  local before = path .. "-before"
  os.rename(path, before)
  local code, _, err = fake.knbl(script, { "-q", "--repeats", "2", "--baseline", before, "--json", path })
  lu.assertEquals(code, 0, err)
  local data = json.decode(fake.read(path))
  os.remove(before)
  os.remove(path)
  return data
end

local formats = { "json", "csv", "markdown", "junit", "html", "openmetrics" }

local function report(path)
  local argv = { "report", path }
  for _, format in ipairs(formats) do argv[#argv + 1], argv[#argv + 2] = "--" .. format, "/dev/null" end
  return fake.knbl(nil, argv)
end

function TestMalformed:test_everything_in_place_of_everything()
  local root, path, seen, refused = whole(), os.tmpname(), {}, 0
  local others = { 5, "x", true, { a = 1 }, json.array { 1 }, json.array { "y" } }
  local function try(where, other)
    local ok, text = pcall(json.encode, root)
    if not ok then return end
    assert(core.write_file(path, text))
    local code, _, err = report(path)
    lu.assertNotStrContains(err, "traceback", nil, ("%s = %s"):format(where, json.encode(other)))
    lu.assertTrue(code == 0 or code == 2, err)
    refused = refused + (code == 2 and 1 or 0)
  end
  local function walk(value, where)
    for k, v in pairs(value) do
      local at = where .. "." .. (type(k) == "number" and "[]" or k)
      if not seen[at] then
        seen[at] = true
        for _, other in ipairs(others) do
          value[k] = other
          try(at, other)
        end
        value[k] = nil -- as if it had never been there
        if type(k) == "string" then try(at, "nothing") end
        value[k] = v
      end
      if type(v) == "table" and not (type(k) == "number" and k > 1) then walk(v, at) end
    end
  end
  walk(root, "")
  os.remove(path)
  lu.assertTrue(refused > 100, refused)
end

function TestMalformed:test_the_place_is_named()
  local path = os.tmpname()
  for place, change in pairs {
    ["measurements[1].metrics.latency_ns.p99 must be of type number"] =
      function(d) d.measurements[1].metrics.latency_ns.p99 = "x" end,
    ["measurements[2].labels must be of type object"] = function(d) d.measurements[2].labels = 5 end,
    ["reports[1].columns[1]: no figure is called 'p98x'"] = function(d) d.reports[1].columns[1].show = "p98x" end,
    ["comparison.comparisons[1] lacks 'p'"] = function(d) d.comparison.comparisons[1].p = nil end,
    ["environment must be of type object"] = function(d) d.environment = 5 end,
  } do
    local data = whole()
    change(data)
    assert(core.write_file(path, json.encode(data)))
    local code, _, err = report(path)
    lu.assertEquals(code, 2)
    lu.assertStrContains(err, path .. ": " .. place)
  end
  os.remove(path)
end

function TestMalformed:test_every_beginning_of_a_ledger()
  local text, path = json.encode(whole()), os.tmpname()
  for length = 0, #text - 1, 997 do
    assert(core.write_file(path, text:sub(1, length)))
    local code, out, err = report(path)
    lu.assertEquals({ code, out }, { 2, "" })
    lu.assertNotStrContains(err, "traceback")
  end
  os.remove(path)
end

os.exit(lu.LuaUnit.run())
