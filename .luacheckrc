std = "lua54"
max_line_length = 180
self = false                              -- methods need not use it
read_globals = { "unpack", "jit", "loadstring", "setfenv" } -- what LuaJIT has where 5.4 has other names
ignore = { "311/err", "431" }             -- err of a pair that is checked by its other half; a local of an outer local's name
exclude_files = { "build" }
files["lua/knbl/ffi.lua"] = { std = "luajit" }
files["lua/knbl/cdef.lua"] = { std = "luajit" }
files["lua/knbl/meta.lua"] = { unused = false }  -- declarations without bodies
files["tests"] = { allow_defined_top = true, max_line_length = false } -- luaunit finds its tests among the globals
