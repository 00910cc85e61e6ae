--- The engines: the C module for Lua 5.4, the shared library for LuaJIT.
if rawget(_G, "jit") then
  return require "knbl.ffi"
end
return require "knbl.core"
