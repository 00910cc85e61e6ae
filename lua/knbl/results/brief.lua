-- knbl.results.brief - ledgers in short, as a history needs them: when and where a run was, and its compared figures.
--
-- core.json_pick_file takes these parts out of the text, a fiftieth of it; only they are decoded. What is asked of a
-- measurement is mostly the same text in every run of a scenario, so what follows from it (keys, repeats, figures) is
-- worked out once for each such text.
local compare = require "knbl.results.compare"
local figures = require "knbl.results.figures"
local json = require "knbl.json"
local ledger = require "knbl.results.ledger"
local tests = require "knbl.base.tests"

local M = {}

-- What changed between two runs is looked for among these of the environment.
local kept = { "kernel", "server_version", "proxy_mode", "cni", "overlay", "mtu" }

-- ---- what is taken from a ledger ----

local function names(list)
  local shape = {}
  for _, name in ipairs(list) do shape[name] = true end
  return shape
end

local function merged(a, b)
  local all = {}
  for _, t in ipairs { a, b } do
    for key, value in pairs(t) do all[key] = value end
  end
  return all
end

-- The paths of all figures that are compared, as a tree.
local function metrics_shape()
  local shape = {}
  local function add(path)
    local at, last = shape, nil
    for key in path:gmatch "[^.]+" do
      if last then
        at[last] = type(at[last]) == "table" and at[last] or {}
        at = at[last]
      end
      last = key
    end
    at[last] = at[last] or true
  end
  local all = { { compare = { "value" } }, tests.of "" }
  for _, test in ipairs(tests.list) do all[#all + 1] = test end
  for _, test in ipairs(all) do
    for _, name in ipairs(test.compare) do
      local path = figures.get(name).path
      for _, one in ipairs(type(path) == "table" and path or { path }) do add(one) end
    end
  end
  return shape
end

local asked = names { "test", "case", "via", "labels", "params", "metric" }
local got = { ok = true, metrics = metrics_shape() }
local about = names { "knbl", "started", "scenario", "provider", "tags" }
about.environment = names { "hostname", "cpu_model", "cpus", table.unpack(kept) }

local function of(measurement, more)
  return json.encode(merged(more, { measurements = json.array { measurement } }))
end
local whole = of(merged(asked, got), merged(about, { schema = true }))
local asked_shape, got_shape = of(asked, { schema = true }), of(got, about)

-- ---- what follows from what was asked ----

local layouts = {}

-- A list of { members (numbers of the measurements that are repeats), figures, kinds }, or nil where it is no ledger.
local function layout_of(text)
  if layouts[text] ~= nil then return layouts[text] end
  local data, layout, number = ledger.parse(text, "ledger"), {}, {}
  for i, m in ipairs(data and data.measurements or {}) do number[m] = i end
  for _, group in ipairs(data and ledger.groups(data) or {}) do
    local m, item = group[1], { members = {}, figures = {}, kinds = {} }
    for i, one in ipairs(group) do item.members[i] = number[one] end
    for _, name in ipairs(tests.of(m.test).compare) do
      if not (name == "rate" and m.params.rate ~= nil) then
        table.insert(item.figures, figures.of(m, name))
        table.insert(item.kinds, { key = group.key .. "\30" .. name, test = m.test, case = ledger.subject(m),
          figure = name, metric = m.metric })
      end
    end
    layout[#layout + 1] = item
  end
  layouts[text] = data and layout or false
  return layouts[text]
end

-- ---- a run ----

-- Figures of different machines are never one series.
local function machine_of(data)
  local e, parts = data.environment, {}
  for _, value in ipairs { data.provider or "", e.hostname or "", e.cpu_model or "", e.cpus or "" } do
    if value ~= "" then parts[#parts + 1] = tostring(value) end
  end
  return table.concat(parts, ", ")
end

local function facts_of(data)
  local facts = { knbl = data.knbl }
  for _, key in ipairs(kept) do
    local value = data.environment[key]
    if value ~= nil and type(value) ~= "table" then facts[key] = tostring(value) end
  end
  for key, value in pairs(data.tags) do facts[key] = tostring(value) end
  return facts
end

-- The kinds of figures that a run has, and their values: medians of the repeats.
local function measured(core, layout, list)
  local kinds, values = {}, {}
  for _, item in ipairs(layout) do
    local group = {}
    for _, i in ipairs(item.members) do
      local m = list[i]
      if type(m) == "table" and m.ok == true then group[#group + 1] = m end
    end
    for k, figure in ipairs(item.figures) do
      local found = compare.values(group, figure)
      if found[1] then
        local n = #values + 1
        kinds[n], values[n] = item.kinds[k], found[2] and (core.median_interval(found, 0.95)) or found[1]
      end
    end
  end
  return kinds, values
end

local texts = { "knbl", "started", "scenario", "provider" }
local tables = { "environment", "tags", "measurements" }

local function is_sound(data)
  for _, name in ipairs(texts) do
    if data[name] ~= nil and type(data[name]) ~= "string" then return false end
  end
  for _, name in ipairs(tables) do
    data[name] = data[name] == nil and {} or data[name]
    if type(data[name]) ~= "table" then return false end
  end
  return true
end

local MOST = 1073741824

-- { file, started, scenario, machine, facts, kinds, values } of a ledger of about `size` bytes: kinds are { key, test,
-- case, figure, metric }, the same objects in every run that has them. nil where it is no ledger.
function M.read(core, path, size)
  local text = core.json_pick_file(path, math.min(2 * size + 1000000, MOST), whole)
  local part = text and core.json_pick(text, asked_shape)
  local layout = part and layout_of(part)
  local data = layout and json.decode((core.json_pick(text, got_shape)))
  if type(data) ~= "table" or not is_sound(data) then return nil end
  local kinds, values = measured(core, layout, data.measurements)
  return { file = path, started = data.started or "", scenario = data.scenario or "", machine = machine_of(data),
    facts = facts_of(data), kinds = kinds, values = values }
end

return M
