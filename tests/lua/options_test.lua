-- A scenario's own flags, and the command line around them.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local fake = require "fake"
local options = require "knbl.measure.options"

TestOptions = {}

local declaration = [[
-- Does it work?
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "10s", "time" }, sizes = { "1:256K:*64", "sizes" }, flows = { 4, "connections" },
  share = { 0.5, "share" },
  fast = { false, "be fast" }, names = { { "x", "y" }, "names", choices = { "x", "y", "zebra" } },
  rate = { "20k/s", "rate" },
  buffer = { "64K", "buffer" }, word = { "hello", "a word" }, same_node = { true, "on one node" },
}
local parts = {}
for _, key in ipairs { "duration", "sizes", "flows", "share", "fast", "names", "rate", "buffer", "word",
  "same_node" } do
  parts[#parts + 1] = key .. "=" .. tostring(opt[key])
end
knbl.note(table.concat(parts, " "))
]]

local function values(args)
  args[#args + 1] = "--json"
  args[#args + 1] = "-"
  args[#args + 1] = "-q"
  local code, out, err = fake.knbl(declaration, args)
  return out:match('"text":"([^"]*)"'), code, err
end

function TestOptions:test_kinds_by_default()
  local kinds = { ["10s"] = "duration", ["200ms"] = "duration", ["1m30s"] = "duration", ["64K"] = "size",
    ["1:2:*2"] = "sizes", ["1,64"] = "sizes",
    ["20k/s"] = "rate", ["1Gbit/s"] = "rate", ["hello"] = "text", ["64"] = "size" }
  for default, kind in pairs(kinds) do lu.assertEquals(options.kind_of(default), kind, default) end
  lu.assertEquals(options.kind_of(3.0), "number")
  lu.assertEquals({ options.kind_of(3), options.kind_of(0.5), options.kind_of(true), options.kind_of {} },
    { "count", "number", "flag", "list" })
end

function TestOptions:test_defaults()
  lu.assertEquals(values {},
    "duration=10s sizes=1:256K:*64 flows=4 share=0.5 fast=false names=x,y rate=20k/s buffer=64K word=hello \z
      same_node=true")
end

function TestOptions:test_given()
  lu.assertEquals(values { "--duration", "1s", "--sizes=1,2", "--flows", "20k", "--share", "0.25", "--fast", "--names",
    "zebra", "--rate=5/s",
    "--buffer", "1M", "--word", "", "--no-same-node" },
    "duration=1s sizes=1,2 flows=20000 share=0.25 fast=true names=zebra rate=5/s buffer=1M word= same_node=false")
end

function TestOptions:test_refused_with_the_nearest()
  local list = {
    { { "--flow", "4" }, "unknown option --flow of SCRIPT, did you mean '--flows'?" },
      { { "--jsn", "x" }, "did you mean '--json'?" },
    { { "--duration", "10 parsecs" }, "--duration: " }, { { "--flows", "-3" }, "--flows: " },
      { { "--flows", "many" }, "--flows: " },
    { { "--sizes", "1:2:*1" }, "--sizes: " }, { { "--names", "zbra" }, "did you mean 'zebra'?" },
      { { "--fast=yes" }, "--fast takes no value" },
    { { "stray" }, "unexpected argument 'stray'" }, { { "--share", "half" }, "--share: must be a number, got 'half'" },
      { { "--word" }, "--word needs a value" },
  }
  for _, case in ipairs(list) do
    local code, _, err = fake.knbl(declaration, case[1])
    lu.assertEquals(code, 2, err)
    lu.assertStrContains(err, case[2])
  end
end

function TestOptions:test_help()
  local code, out = fake.knbl(declaration, { "--help" })
  lu.assertStrContains(out, "names: x, y, zebra [x,y]")
  lu.assertEquals(code, 0)
  for _, text in ipairs { "Does it work?", "--duration TIME", "[10s]", "--sizes SIZES", "--same-node",
    "--names A,B,…" } do
    lu.assertStrContains(out, text)
  end
end

function TestOptions:test_a_scenario_without_options()
  local code, _, err = fake.knbl(fake.pair, { "--fast" })
  lu.assertEquals(code, 2)
  lu.assertStrContains(err, "unknown option --fast of SCRIPT")
  lu.assertEquals(fake.knbl(fake.pair, { "--help" }), 0)
end

function TestOptions:test_bad_declarations()
  for body, text in pairs {
    ["5"] = "takes a table", ["{ x = 5 }"] = "needs a default", ["{ ['a b'] = { 1, '' } }"] = "invalid option name",
      ["{ x = { 1, '', kin = 2 } }"] = "unknown key 'kin'",
    ["{ x = { '', '', kind = 'colour' } }"] = "unknown kind",
  } do
    local code, _, err = fake.knbl("local knbl = require 'knbl'\nknbl.options(" .. body .. ")")
    lu.assertEquals(code, 1, err)
    lu.assertStrContains(err, "SCRIPT:2: ")
    lu.assertStrContains(err, text)
  end
end

function TestOptions:test_a_script_that_is_no_scenario_has_its_own_words()
  local code, _, err = fake.knbl("assert(arg[1] == '-o' and arg[2] == 'TAP' and ... == '-o', arg[1])", { "-o", "TAP" })
  lu.assertEquals(code, 0, err)
end

os.exit(lu.LuaUnit.run())
