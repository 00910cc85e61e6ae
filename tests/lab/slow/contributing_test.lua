-- Follows CONTRIBUTING.md, "A test": with one C file and one line in the registry, the new test measures from Lua and
-- from LuaJIT. Works on a copy of the tree that reuses unchanged objects.
local lu = require "luaunit"

local build = os.getenv "B" or "build"

local function sh(line, ...)
  local out = io.popen(line:format(...) .. " 2>&1")
  local text = out:read "a"
  local ok, _, code = out:close()
  return text, ok and 0 or code
end

TestContributing = {}

function TestContributing:test_a_new_test_is_one_file_and_one_line()
  lu.skipIf(build ~= "build", "one build is enough")
  local copy = sh "mktemp -d":gsub("%s+$", "")
  local function here(line, ...)
    local text, code = sh("cd %s && " .. line, copy, ...)
    lu.assertEquals(code, 0, text)
    return text
  end
  local tree = os.getenv "PWD"
  here("for f in src lua scenarios tests docs Makefile; do cp -a %s/$f .; done; mkdir build; \z
    for f in core net meter run engines agent fetch lab kube lua abi static; do cp -a %s/build/$f build/ 2>/dev/null; \z
    done; true",
    tree, tree)
  here "cp docs/contributing/echo_udp.c src/engines/ && echo 'KN_TEST(echo_udp)' >>src/engines/registry.h"
  here "make -j2 knbl build/libknbl.so"
  local text = here "./knbl docs/contributing/echo_udp_test.lua"
  lu.assertStrContains(text, "echo_udp")
  here("printf '%%s' %q >loopback.lua && \z
    KNBL_LIB=build/libknbl.so LUA_PATH='lua/?.lua;lua/?/init.lua;;' luajit loopback.lua",
    [[local knbl = require "knbl"
      local cluster = knbl.cluster { provider = "loopback" }
      local a, b = cluster:pair()
      local r = knbl.echo_udp { from = a, to = b, duration = "100ms" }
      assert(r.ok and r.metrics.ops > 10, r.error and r.error.message)
      cluster:close()]])
  sh("rm -rf %s", copy)
end

os.exit(lu.LuaUnit.run())
