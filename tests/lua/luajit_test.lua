-- What the measuring path is made of is read by LuaJIT too: no syntax of 5.4 has slipped in.
local lu = require "luaunit"

TestLuajit = {}

local only_54 = { ["lua/knbl/kube/init.lua"] = true, ["lua/knbl/cluster/k8s.lua"] = true,
  ["lua/knbl/cluster/lab.lua"] = true, ["lua/knbl/kube/image.lua"] = true,
  ["lua/knbl/meta.lua"] = true, ["lua/knbl/mesh/rounds.lua"] = true }

function TestLuajit:test_every_module_that_it_uses()
  local pipe = io.popen "command -v luajit"
  local luajit = pipe:read "l"
  pipe:close()
  if not luajit then lu.skip "no luajit here" end
  local files = {}
  pipe = assert(io.popen "ls lua/knbl/*.lua lua/knbl/cluster/*.lua lua/knbl/format/*.lua lua/knbl/command/run.lua")
  for path in pipe:lines() do
    if not only_54[path] then files[#files + 1] = path end
  end
  pipe:close()
  lu.assertTrue(#files > 20)
  pipe = assert(io.popen(luajit .. " -e 'for i = 1, #arg do assert(loadfile(arg[i])) end print(#arg)' " .. "- "
    .. table.concat(files, " ") .. " 2>&1 </dev/null"))
  local said = pipe:read "a"
  pipe:close()
  lu.assertEquals(said, #files .. "\n")
end

os.exit(lu.LuaUnit.run())
