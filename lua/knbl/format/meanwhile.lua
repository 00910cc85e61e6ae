-- knbl.format.meanwhile - what client, server and their nodes did while something was measured, drawn under its curve
-- over the same seconds: what the CPUs of each machine did, together and each for itself, and in a line for each that
-- was watched what moved.
local chart = require "knbl.format.chart"
local figures = require "knbl.results.figures"

local M = {}

local escape = chart.escape
local kinds = { "user", "system", "softirq", "steal" }

-- The i-th value of a column, which may be a single number for all of them.
local function value(column, i)
  if type(column) == "table" then column = column[i] end
  return tonumber(column)
end

local function fold(column, n, combine, start)
  local result
  for i = 1, n do
    local v = value(column, i)
    if v then result = combine(result or start or v, v) end
  end
  return result
end
local function peak(column, n) return fold(column, n, math.max) end
local function total(column, n) return fold(column, n, function(a, b) return a + b end, 0) end

-- The cores that each kind of work took, and how much the busiest one had to do.
local function cpu_layers(cpu, n)
  local layers, cores = {}, 0
  for _, kind in ipairs(kinds) do
    local list = type(cpu[kind]) == "table" and cpu[kind] or {}
    local sums = {}
    for i = 1, n do
      sums[i] = 0
      for _, column in ipairs(list) do sums[i] = sums[i] + (value(column, i) or 0) end
    end
    cores = math.max(cores, #list)
    if #list > 0 then layers[#layers + 1] = { label = kind, values = sums } end
  end
  return layers, cores
end

local function busiest(cpu, n)
  local most, core = 0, nil
  for c, column in ipairs(type(cpu.idle) == "table" and cpu.idle or {}) do
    local idle = total(column, n)
    if idle and n > 0 and 1 - idle / n > most then most, core = 1 - idle / n, c - 1 end
  end
  return most, core
end

-- How busy each core was: where a single one is the limit, the sum of all does not show it.
local function cores_chart(cpu, n, edges, span)
  local rows = {}
  for c, column in ipairs(type(cpu.idle) == "table" and cpu.idle or {}) do
    local values = {}
    for i = 1, n do
      local idle = value(column, i)
      values[i] = idle and 1 - idle or nil
    end
    rows[c] = { label = ("CPU %d"):format(c - 1), values = values }
  end
  if #rows < 2 then return "" end
  return chart.strips(edges, rows, { title = "how busy each CPU was", from = 0, to = span,
    show = function(v) return ("%.0f %% busy"):format(v * 100) end }) or ""
end

local function cpu_chart(monitor, edges, span, marks)
  local layers, cores = cpu_layers(monitor.cpu, #monitor.t)
  if #layers == 0 then return "" end
  local most, core = busiest(monitor.cpu, #monitor.t)
  local note = ("CPU of the machine of %s, %d core%s"):format(monitor.name or "?", cores, cores == 1 and "" or "s")
  if core then note = ("%s; the busiest, CPU %d, %.0f %%"):format(note, core, most * 100) end
  return ("<p><small>%s</small></p>%s"):format(escape(note),
    chart.stack(edges, layers, { title = note, top = cores, from = 0, to = span, marks = marks,
    show_x = function(v) return ("%g s"):format(v) end, show_y = function(v) return ("%g"):format(v) end }) or "") ..
    cores_chart(monitor.cpu, #monitor.t, edges, span)
end

-- What is worth a word: columns of a table, each with what it shows of a monitor or nil.
local function words_of(core, monitor)
  local n = #monitor.t
  local words = {}
  local function say(text, v, show)
    if v and v > 0 then words[#words + 1] = text:format(show and show(v) or ("%.0f"):format(v)) end
  end
  local function size(v) return core.format_size(v) end
  local function cpus(v) return figures.significant(v) end
  local cgroup, tcp, udp = monitor.cgroup or {}, monitor.tcp or {}, monitor.udp or {}
  local conntrack, softnet, clock = monitor.conntrack or {}, monitor.softnet or {}, monitor.clock or {}
  say("cgroup at most %s cores", peak(cgroup.cpu, n), cpus)
  say("stopped by its quota for %s s", total(cgroup.throttled_s, n), cpus)
  say("cgroup memory %s", peak(cgroup.memory, n), size)
  say("%s segments sent again", total(tcp.retransmits, n))
  say("%s TCP timeouts", total(tcp.timeouts, n))
  say("%s connections refused at a full queue", total(tcp.listen_drops, n))
  say("%s segments dropped at a full backlog", total(tcp.backlog_drops, n))
  say("%s datagrams dropped at sockets", total(udp.receive_drops, n))
  say("%s datagrams refused by sockets", total(udp.send_drops, n))
  say("%s segments dropped at receive queues", total(tcp.queue_drops, n))
  say("TCP memory at most %s", peak(tcp.memory, n), size)
  local limit, held = peak(tcp.memory_max, n), peak(tcp.memory, n)
  say("which the kernel holds back from %s on", limit and held and held > limit / 2 and limit or nil, size)
  say("%s packets dropped by softirq", total(softnet.drops, n))
  local most, entries = peak(conntrack.max, n), peak(conntrack.entries, n)
  if most and entries and entries > most / 100 then
    words[#words + 1] = ("%.0f of %.0f tracked connections"):format(entries, most)
  end
  say("not run for %s s", (tonumber(clock.late_s) or 0) >= 0.1 and clock.late_s or nil, cpus)
  for name, interface in pairs(monitor.interfaces or {}) do
    local lost = 0
    for _, key in ipairs { "rx_drops", "tx_drops", "rx_errors", "tx_errors" } do
      lost = lost + (total(interface[key], n) or 0)
    end
    say(name:gsub("%%", "%%%%") .. " dropped %s packets", lost)
  end
  return words
end

local function line_of(core, monitor)
  local who = ("%s (%s)"):format(monitor.name or "?", monitor.side == "both" and "client and server" or monitor.side
    or "?")
  if type(monitor.error) == "table" then
    return ("<li>%s: not watched: %s</li>"):format(escape(who), escape(monitor.error.message))
  end
  return ("<li>%s: %s</li>"):format(escape(who), escape(table.concat(words_of(core, monitor), " · ")))
end

-- A measurement's part of the page; "" where nothing was watched. `span`: the seconds of its curve.
function M.render(core, measurement, label, span)
  local list = type(measurement.monitor) == "table" and measurement.monitor or {}
  local out, lines = {}, {}
  for _, monitor in ipairs(list) do
    local t = type(monitor) == "table" and type(monitor.t) == "table" and monitor.t
    if t and #t > 0 then
      local edges = { tonumber(monitor.from) or 0 }
      for i, at in ipairs(t) do edges[i + 1] = edges[1] + (tonumber(at) or 0) end
      if type(monitor.cpu) == "table" then out[#out + 1] = cpu_chart(monitor, edges, span, measurement.marks) end
    end
    if t or type(monitor) == "table" and monitor.error then lines[#lines + 1] = line_of(core, monitor) end
  end
  if #lines == 0 then return "" end
  return ("<details><summary>CPU and counters meanwhile: %s</summary>%s<ul><small>%s</small></ul></details>"):format(
    escape(label), table.concat(out),
    table.concat(lines))
end

return M
