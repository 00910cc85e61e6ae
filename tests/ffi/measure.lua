-- One script for every Lua: measures over loopback and prints the names in the results, so that they can be compared:
-- lines that begin with "= ".
local knbl = require "knbl"
local native = require "knbl.native"

local names = {}
local function walk(value, path)
  if type(value) ~= "table" then
    names[#names + 1] = path .. " " .. type(value)
    return
  end
  if path:find "%.flags$" then value = {} end -- what is doubtful differs from run to run
  if path:find "%.monitor$" then return end -- LuaJIT has no HTTP, by which it is asked for
  if #value > 0 then return walk(value[1], path .. "[]") end
  for key, item in pairs(value) do walk(item, path .. "." .. tostring(key)) end
  if next(value) == nil then names[#names + 1] = path .. " {}" end
end

local cluster = knbl.cluster { provider = "loopback" }
local client, server = cluster:pair()
walk(knbl.tcp_rr { case = "latency", from = client, to = server, duration = "150ms", labels = { path = "loopback" } },
  "tcp_rr")
walk(knbl.tcp_stream { case = "throughput", from = client, to = server, duration = "500ms" }, "tcp_stream")
local other = cluster:pod { name = "other" }
walk(knbl.tcp_rr { case = "several", from = client, to = { server, other }, shares = { 3, 1 }, flows = 4,
  duration = "150ms" }, "several")
walk(knbl.tcp_lat { case = "sizes", from = client, to = server, duration = "150ms", size = "1:64:*64" }, "tcp_lat")

walk({ native.median_interval { 1, 2, 3, 4, 5, 6, 7, 8 } }, "median")
walk({ native.rank_test({ 1, 2, 3 }, { 4, 5, 6 }) }, "ranks")
walk({ native.sizes "1:256K:*64" }, "sizes")
local _, err = native.duration "10 parsecs"
walk({ code = err.code, text = tostring(err) }, "error")
cluster:close()

table.sort(names)
for _, name in ipairs(names) do print("= " .. name) end
