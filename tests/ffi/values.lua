-- Calls what both ways to reach the engines offer, and prints the answers: they must be the same.
local core = require "knbl.native"

local function show(value)
  if type(value) == "table" and value.code then return "error " .. value.code .. ": " .. value.message end
  if type(value) == "number" then return ("%.10g"):format(value) end
  if type(value) ~= "table" then return tostring(value) end
  local keys, parts = {}, {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for i, key in ipairs(keys) do parts[i] = tostring(key) .. "=" .. show(value[key]) end
  return "{" .. table.concat(parts, " ") .. "}"
end

local function print_results(name, ok, ...)
  if not ok then return print(name, "raises") end
  local parts = {}
  for i = 1, select("#", ...) do parts[i] = show((select(i, ...))) end
  print(name, table.concat(parts, " "))
end

local function call(name, ...) print_results(name, pcall(core[name], ...)) end

local histogram = '{"count":3,"min":1,"max":3,"sum":"6","sum_sq":"14","buckets":[[1,1],[2,1],[3,1]]}'
for _, text in ipairs { "10s", "1m30s", "200ms", "-1s", "soon", "", "1e99s", "99999999999h" } do
  call("duration", text)
end
for _, text in ipairs { "64", "4K", "1.5M", "kB", "-4", "99999999999G" } do call("size", text) end
for _, text in ipairs { "100000", "20k", "1M", "x" } do call("count", text) end
for _, text in ipairs { "20k/s", "100M", "1Gbit/s", "0.5/s", "fast" } do call("rate", text) end
for _, text in ipairs { "1:256K:*64", "96:1460:+64", "64", "1,64,4K", "1:2:*1", "1:1G:+1", ":" } do
  call("sizes", text)
end
for _, n in ipairs { 0, 1, 999, 27600, 1.5e9, 123456789, 9.41e12 } do
  call("format_duration", n)
  call("format_duration", n, true)
  call("format_bits", n)
  call("format_size", n)
  call("format_rate", n)
end
call("check", '{"test":"tcp_rr","duration":"2s","flows":4}')
call("check", '{"test":"tcp_rx"}')
call("check", '{"test":"tcp_rr","durations":1}')
call("check", "{")
call("check")
call("tests")
call("fields")
local names = {}
for i, test in ipairs(core.tests()) do names[i] = test.name end
call("nearest", "tcp_r", names)
call("nearest", "zzzzzzzz", names)
call("hist_merge", { histogram, histogram })
call("hist_merge", { "{}" })
call("hist_merge", { "{" })
call("hist_percentile", histogram, { 0, 50, 100 })
call("median_interval", { 5, 3, 1 })
call("median_interval", { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, 0.9)
call("median_interval", {})
call("rank_test", { 1, 2, 3, 4, 5 }, { 6, 7, 8, 9, 10 })
call("rank_test", {}, { 1 })
call("shift_interval", { 1, 2, 3, 4, 5 }, { 6, 7, 8, 9, 10 })
call("shift_interval", { 1, 2 }, { 3 })
call("shift_interval", {}, { 1 })
call("write_file", "/nonexistent/folder/file", "text")
call("run", '{"test":"tcp_rr","nonsense":1}', { host = "127.0.0.1", port = 1 })
call("run", '{"test":"tcp_rr"}', { host = "127.0.0.1", port = 65536 })
call("run", '{"test":"tcp_rr"}', {})
call("agent", { token = "short" })
call("agent", { listen = "nonsense:port", token = core.token() })
call("isatty", 99)
call("sleep", 0)
call("interrupted")
print(#core.token(), core.wall():match "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$" and "time", core.version,
  core.protocol)

-- objects: after close, twice
local token = core.token()
local agent = assert(core.agent { token = token, name = "values" })
local run = assert(core.run('{"test":"tcp_rr","count":100}',
  { host = "127.0.0.1", port = agent:port(), token = token }))
print(pcall(run.result, run) == false and "not over" or "over already")
print(run:wait(10), run:progress():match '"phase":"(%a+)"', run:result():match '"ok":(%a+)')
run:close()
run:close()
print((pcall(run.wait, run, 0)))
agent:close()
agent:close()
print((pcall(agent.port, agent)))
