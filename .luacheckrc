-- luacheck: the library runs under Lua 5.4 and LuaJIT
std = "lua54+luajit"
max_line_length = 150
files["tests/lua"] = { globals = { "TestAll" } }
exclude_files = { "build" }
