-- core.agent_binary: the static agents that knbl carries.
local lu = require "luaunit"
local core = require "knbl.core"

TestAgents = {}

local MACHINE = { amd64 = 62, arm64 = 183 } -- e_machine of the ELF header

local function check(arch, bytes)
  lu.assertEquals(bytes:sub(1, 6), "\127ELF\2\1")
  lu.assertEquals((string.unpack("<I2", bytes, 19)), MACHINE[arch])
  local f <close> = assert(io.open("build/agent-" .. arch, "rb"))
  lu.assertTrue(bytes == f:read "a", "knbl carries another agent than build/agent-" .. arch)
end

function TestAgents.test_each_is_the_file_that_was_built()
  local found = 0
  for arch in pairs(MACHINE) do
    local bytes = core.agent_binary(arch)
    if bytes then
      check(arch, bytes)
      found = found + 1
    end
  end
  lu.assertTrue(found >= 1, "knbl carries no agent")
end

function TestAgents.test_an_unknown_architecture_is_an_error_that_names_it()
  for _, arch in ipairs { "riscv64", "amd", "amd64.gz", "" } do
    local bytes, err = core.agent_binary(arch)
    lu.assertNil(bytes)
    lu.assertEquals(err, { code = "unsupported", message = "this build of knbl has no agent for " .. arch })
  end
end

os.exit(lu.LuaUnit.run())
