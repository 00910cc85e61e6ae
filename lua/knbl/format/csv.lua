-- knbl.format.csv - a line for each measurement, in base units: bits, operations, nanoseconds, cores. RFC 4180, UTF-8.
--
-- A text that a spreadsheet would take for a formula gets an apostrophe before it; a control character that a terminal
-- would obey becomes "?".
local figures = require "knbl.results.figures"
local report = require "knbl.results.report"
local text = require "knbl.base.text"

local M = {}

local fixed = { "test", "case", "from", "to", "via", "round", "ok", "error", "skipped", "flags" }

local function quoted(value)
  if value == nil then return "" end
  if type(value) == "number" then
    return value == math.floor(value) and math.abs(value) < 2 ^ 53 and ("%.0f"):format(value) or ("%.9g"):format(value)
  end
  value = text.valid(tostring(value)):gsub("[%z\1-\8\11\12\14-\31\127]", "?"):gsub("\194[\128-\159]", "?")
  if value:find("^%s*[=+@-]") or value:find("^[\t\r\n]") then value = "'" .. value end
  if value:find('[",\r\n]') then value = '"' .. value:gsub('"', '""') .. '"' end
  return value
end
M.quoted = quoted

-- The keys of a table that were not seen before, in order.
local function add_keys(seen, list, t)
  local fresh = {}
  for key, value in pairs(t or {}) do
    if not seen[key] and type(value) ~= "table" then
      seen[key] = true
      fresh[#fresh + 1] = key
    end
  end
  table.sort(fresh)
  for _, key in ipairs(fresh) do list[#list + 1] = key end
end

local function columns_of(data)
  local labels, params, shown = {}, {}, {}
  local seen_label, seen_param = {}, { test = true }
  for _, m in ipairs(data.measurements) do
    add_keys(seen_label, labels, m.labels)
    add_keys(seen_param, params, m.params)
  end
  for _, figure in ipairs(figures.list) do
    for _, m in ipairs(data.measurements) do
      if figure.name ~= "latency" and figures.value(m, figure) then
        shown[#shown + 1] = figure
        break
      end
    end
  end
  return labels, params, shown
end

-- The heads of labels and parameters; one whose name is taken says what it is of.
local function heads_of(labels, params)
  local head, taken = {}, {}
  local function add(names, prefix)
    for _, name in ipairs(names) do
      local title = taken[name] and prefix .. name or name
      taken[title] = true
      head[#head + 1] = quoted(title)
    end
  end
  add(fixed, "")
  add(labels, "label ")
  add(params, "parameter ")
  return head
end

local units = {
  time = "ns", seconds = "s", milliseconds = "ms", bits = "bit/s", rate = "1/s", bytes = "bytes", ratio = "ratio",
    cores = "cores",
}

local function line_of(m, labels, params, shown)
  local line = {}
  for i, key in ipairs(fixed) do
    local value = m[key]
    if key == "flags" then value = table.concat(m.flags, " ")
    elseif key == "error" then value = m.error and ("%s: %s"):format(m.error.code or "", m.error.message or "") end
    line[i] = quoted(value)
  end
  for _, key in ipairs(labels) do line[#line + 1] = quoted(m.labels and m.labels[key]) end
  for _, key in ipairs(params) do line[#line + 1] = quoted(m.params and m.params[key]) end
  for _, figure in ipairs(shown) do line[#line + 1] = quoted(figures.value(m, figure)) end
  return table.concat(line, ",")
end

-- Tables that a scenario wants laid out as a sweep are that; else all measurements.
function M.render(data, options)
  local sweeps = {}
  for _, declaration in ipairs(data.reports) do
    if declaration.layout == "sweep" then
      sweeps[#sweeps + 1] = require("knbl.format.sweep").grid(report.grid(options.core, data, declaration))
    end
  end
  if #sweeps > 0 then return table.concat(sweeps, "\n") end
  local labels, params, shown = columns_of(data)
  local head = heads_of(labels, params)
  for _, figure in ipairs(shown) do
    head[#head + 1] = quoted(units[figure.unit] and ("%s [%s]"):format(figure.title, units[figure.unit])
      or figure.title)
  end
  local lines = { table.concat(head, ",") }
  for _, m in ipairs(data.measurements) do lines[#lines + 1] = line_of(m, labels, params, shown) end
  return table.concat(lines, "\r\n") .. "\r\n"
end

return M
