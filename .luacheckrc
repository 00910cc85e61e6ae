std = "lua54"
max_line_length = false                    -- `make lint` checks that of all files
self = false                              -- methods need not use it
read_globals = { "unpack", "jit", "loadstring", "setfenv" } -- what LuaJIT has where 5.4 has other names
ignore = { "311", "431" }                  -- a value that a pair brings along; a local of an outer one's name
exclude_files = { "build" }
files["lua/knbl/ffi.lua"] = { std = "luajit" }
files["lua/knbl/cdef.lua"] = { std = "luajit" }
files["lua/knbl/meta.lua"] = { unused = false }  -- declarations without bodies
files["tests"] = { allow_defined_top = true } -- luaunit finds its tests among the globals
