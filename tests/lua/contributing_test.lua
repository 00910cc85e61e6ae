-- CONTRIBUTING.md: the steps that add an output format are done as they stand there, over the library as it is.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local fake = require "fake"
local shell = require "tests.cli.shell"

TestContributing = {}

local function section(title)
  return assert(fake.read("CONTRIBUTING.md"):match("\n## " .. title .. "\n(.-)\n## ")
    or fake.read("CONTRIBUTING.md"):match("\n## " .. title .. "\n(.*)$"))
end

-- The Lua blocks of a section, without the indentation of its list.
local function blocks(text)
  local list = {}
  for block in text:gmatch "```lua\n(.-)```" do list[#list + 1] = ("\n" .. block):gsub("\n   ", "\n"):sub(2) end
  return list
end

function TestContributing:test_an_output_format()
  local steps = blocks(section "Add an output format")
  lu.assertEquals(#steps, 2)
  local name = assert(steps[1]:match "knbl%.format%.(%w+)")
  local dir <close> = shell.folder()
  os.execute(("mkdir -p %s/knbl/format %s/knbl/program"):format(dir.path, dir.path))
  shell.write(dir:file("knbl/format/" .. name .. ".lua"), steps[1])
  local registry, n = fake.read("lua/knbl/program/output.lua"):gsub("(M%.formats = {\n)", "%1" .. steps[2], 1)
  lu.assertEquals(n, 1)
  shell.write(dir:file "knbl/program/output.lua", registry)
  shell.write(dir:file "s.lua", [[
local knbl = require "knbl"
local cluster <close> = knbl.cluster { provider = "loopback" }
local client, server = cluster:pair()
knbl.tcp_rr { case = "there and back", from = client, to = server, duration = "100ms" }
]])
  local library = ("KNBL_LUA_PATH='%s/?.lua' exec $KNBL "):format(dir.path)
  local got = shell.run(library .. ("%s -q --json %s --%s -"):format(dir:file "s.lua", dir:file "run.json", name))
  lu.assertEquals(got.code, 0, got.err)
  lu.assertStrMatches(got.out, "there and back: [%d.]+ .?.?s\n")
  local again = shell.run(library .. ("report %s -q --%s -"):format(dir:file "run.json", name))
  lu.assertEquals(again.out, got.out)
  lu.assertStrContains(shell.run(library .. "--help").out, "--" .. name .. " FILE")
  lu.assertStrContains(shell.run(library .. "completion bash").out, "--" .. name)
end

os.exit(lu.LuaUnit.run())
