-- knbl.results.ledger - everything that was asked and measured in a run, and nothing else: what every table and file is
-- made from.
--
-- It is written as JSON (schema 1: knbl.results.contract, docs/ledger.schema.json), atomically, and also when a run
-- ends early. What was not measured is absent, never 0. A ledger that was read back serves for reports as the run's own
-- does.
local contract = require "knbl.results.contract"
local errors = require "knbl.base.errors"
local figures = require "knbl.results.figures"
local file = require "knbl.base.file"
local json = require "knbl.json"
local monitor = require "knbl.results.monitor"
local native = require "knbl.native"
local schema = require "knbl.base.schema"
local tests = require "knbl.base.tests"

local M = { schema = 1 }

local Ledger = {}
Ledger.__index = Ledger

local order = {
  "schema", "knbl", "started", "ended", "scenario", "question", "provider", "options", "environment", "verdict",
    "expectations", "comparison", "arms", "commands",
  "notes", "reports", "meshes", "measurements",
}
local measurement_order = {
  "test", "case", "from", "to", "via", "sized", "labels", "round", "ok", "error", "skipped", "flags", "ceiling",
    "metrics", "params", "chosen", "servers",
  "path", "started", "line", "expect", "latency_histogram", "profile",
}

local mesh_order = { "line", "round", "plan", "cost", "sentences", "unsure", "outliers", "zones", "missing", "notes",
  "nodes", "groups", "tests", "histograms" }

-- context: { core, scenario, question, clock? }
function M.new(context)
  local core = context.core
  local data = json.ordered({
    schema = M.schema, knbl = core.version, started = core.wall(), scenario = context.scenario,
      question = context.question,
    provider = nil, environment = {}, options = nil, measurements = json.array(), notes = json.array(),
      reports = json.array(),
    expectations = json.array(), verdict = { status = "running" },
  }, order)
  return setmetatable({ data = data, core = core, environments = {}, noted = {}, saved_at = core.now() }, Ledger)
end

function Ledger:set_options(values)
  local kept
  for key, value in pairs(values) do
    kept = kept or {}
    kept[key] = type(value) == "table" and tostring(value) or value
  end
  self.data.options = kept
end

-- The provider and what is known of the cluster. What is learned later (its agents tell more as they come) is taken
-- over with the next measurement.
function Ledger:set_environment(provider, environment)
  self.data.provider = self.data.provider or provider
  table.insert(self.environments, environment or {})
  self:look_around()
end

-- Of several clusters in a run every value stands there, "none, vxlan"; lists are those of the first.
function Ledger:look_around()
  local seen, known = {}, {}
  for _, environment in ipairs(self.environments) do
    for key, value in pairs(environment) do
      local values = known[key] or {}
      known[key] = values
      if value ~= "unknown" and not seen[key .. "\0" .. tostring(value)]
        and (#values == 0 or type(value) ~= "table" and type(values[1]) ~= "table") then
        seen[key .. "\0" .. tostring(value)] = true
        values[#values + 1] = value
      end
    end
  end
  for key, values in pairs(known) do
    for i, value in ipairs(values) do if #values > 1 then values[i] = tostring(value) end end
    self.data.environment[key] = #values > 1 and table.concat(values, ", ") or #values == 0 and "unknown" or values[1]
  end
end

-- Adds a measurement. Returns it.
function Ledger:add(measurement)
  self:look_around()
  measurement.flags = json.array(measurement.flags or {})
  table.sort(measurement.flags)
  measurement.metrics = measurement.metrics or {}
  json.ordered(measurement, measurement_order)
  local list = self.data.measurements
  list[#list + 1] = measurement
  if self.stream then self.stream(json.encode(measurement) .. "\n") end
  if self.path and self.core.now() - self.saved_at > 5 then self:save() end
  return measurement
end

-- Notes the case of a measurement that --only left out.
function Ledger:leave_out(case)
  self.left_out = self.left_out or {}
  self.left_out[case or ""] = true
end

-- What --tag said: a list of { key, value }.
function Ledger:tag(pairs_given)
  for _, pair in ipairs(pairs_given or {}) do
    self.data.tags = self.data.tags or {}
    self.data.tags[pair[1]] = pair[2]
  end
end

-- A note that a loop makes again is kept once.
function Ledger:note(note)
  local written = json.encode_all(note)
  if self.noted[written] then return end
  self.noted[written] = true
  table.insert(self.data.notes, note)
end

function Ledger:report(report)
  for i, known in ipairs(self.data.reports) do
    if known.line and known.line == report.line and known.title == report.title then
      self.data.reports[i] = report
      return
    end
  end
  table.insert(self.data.reports, report)
end

-- Adds a mesh, as knbl.mesh.summary makes it.
function Ledger:mesh(mesh)
  self:look_around()
  self.data.meshes = self.data.meshes or json.array()
  table.insert(self.data.meshes, json.ordered(mesh, mesh_order))
end

function Ledger:text()
  return (require("knbl.format.json").render(self.data))
end

-- Writes the file of this ledger, if it has one. Returns true, or nil and an error.
function Ledger:save()
  if not self.path then return true end
  self.saved_at = self.core.now()
  return self.core.write_file(self.path, self:text())
end

function Ledger:finish(verdict)
  self:look_around()
  self.data.ended = self.core.wall()
  self.data.verdict = verdict
end

-- ---- reading ----

local arrays = { "measurements", "notes", "reports", "expectations" }

-- What an older or a shortened ledger leaves out.
local function complete(m)
  m.flags = json.array(m.flags or {})
  m.metrics, m.params = m.metrics or {}, m.params or {}
  m.case, m.from, m.to, m.ok = m.case or "", m.from or "", m.to or "", m.ok or false
  return json.ordered(m, measurement_order)
end

-- Lists stay lists where they are empty, so that the same is written again.
local function mark_lists(data)
  for _, m in ipairs(data.measurements) do
    if m.metrics.intervals then json.array(m.metrics.intervals) end
    if m.metrics.outages then json.array(m.metrics.outages) end
    if m.servers then json.array(m.servers) end
    if m.marks then json.array(m.marks) end
  end
  for _, key in ipairs { "arms", "commands", "meshes" } do
    if data[key] then json.array(data[key]) end
  end
  if not data.comparison then return end
  for _, key in ipairs { "environments", "comparisons", "not_compared" } do json.array(data.comparison[key]) end
end

-- The figures that tables and comparisons name are those of this version.
local function unknown_figure(data)
  for i, declared in ipairs(data.reports) do
    if declared.layout == "sweep" and (not declared.pivot or declared.join or not declared.columns[1]) then
      return ("reports[%d]: a sweep must have a pivot and a column, and no join"):format(i)
    end
    for k, column in ipairs(declared.columns) do
      if not figures.get(column.show) then
        return ("reports[%d].columns[%d]: no figure is called '%s'"):format(i, k, column.show)
      end
      if column.unit and not figures.has_unit(column.unit) then
        return ("reports[%d].columns[%d]: no unit is called '%s'"):format(i, k, column.unit)
      end
    end
  end
end

local function check(data, name)
  if type(data) ~= "table" or data.schema == nil then return nil, name .. ": not a ledger of knbl (no schema)" end
  if type(data.schema) ~= "number" or data.schema > M.schema then
    return nil, ("%s: schema %s is newer than this knbl (%s) can read"):format(name, tostring(data.schema),
      tostring(M.schema))
  end
  for _, key in ipairs(arrays) do
    if data[key] == nil then data[key] = {} end
    if type(data[key]) ~= "table" then return nil, ("%s: '%s' is not a list"):format(name, key) end
    json.array(data[key])
  end
  for i, m in ipairs(data.measurements) do
    if type(m) ~= "table" or type(m.test) ~= "string" then
      return nil, ("%s: measurement %d has no test"):format(name, i)
    end
    if m.flags ~= nil and type(m.flags) ~= "table" then
      return nil, ("%s: measurement %d: its flags are no list"):format(name, i)
    end
    for k, watched in ipairs(type(m.monitor) == "table" and m.monitor or {}) do
      local fault = monitor.fault(watched)
      if fault then return nil, ("%s: measurements[%d].monitor[%d]: %s"):format(name, i, k, fault) end
    end
    complete(m)
  end
  local wrong = schema.check(contract, data) or unknown_figure(data)
  if wrong then return nil, ("%s: %s"):format(name, wrong) end
  mark_lists(data)
  return data
end

-- The data of a ledger's text, checked; nil and an error otherwise.
function M.parse(text, name)
  if #text == 0 then return nil, errors.new("argument", name .. ": the file is empty") end
  if #text > 16e6 then collectgarbage("setpause", 130) end -- of a huge ledger not twice as much is held as is in use
  local data, err = json.decode(text)
  if data == nil then return nil, errors.new("argument", ("%s: not JSON: %s"):format(name, err)) end
  local checked, wrong = check(data, name)
  if not checked then return nil, errors.new("argument", wrong) end
  return json.ordered(checked, order)
end

local LEDGER_MOST = 1073741824

function M.read(path)
  local text, err = file.read(path, LEDGER_MOST, true)
  if not text then return nil, errors.new("argument", err) end
  return M.parse(text, path)
end

-- ---- which measurements are the same ----

-- The size that is part of a measurement's name, where there is one: of tests that are about sizes, and in a list.
function M.size(m)
  return (m.sized or tests.of(m.test).sized) and m.params and tonumber(m.params.size) or nil
end

-- What a measurement is called beside others of its test: its case and, in a list of sizes, its size.
function M.subject(m)
  local size = M.size(m)
  return size and ("%s %.0f B"):format(m.case or "", size) or m.case or ""
end

-- Whether a text occurs in a measurement's test and case, whatever the case of its letters. No text matches all.
function M.matches(m, wanted)
  return not wanted or (m.test .. " " .. M.subject(m)):lower():find(wanted:lower(), 1, true) ~= nil
end

-- How long was measured does not make it another measurement; whether it was warm does, and whether its load waits for
-- answers.
local beside = { duration = true, warmup = true, interval = true, count = true, timeout = true, rate = true }

-- Parameters that are times.
local times = {}
for _, field in ipairs(native.fields()) do times[field.name] = field.kind == "duration" or nil end

-- Whether what is sent waits for answers: "closed loop", "open loop at 5000/s"; of streams "unlimited", "at
-- 1000000bit/s". Without the rate as well: the two parts of that.
function M.load(m)
  local rate = m.params and m.params.rate ~= nil and tostring(m.params.rate) or nil
  local kind = rate and "open loop at" or "closed loop"
  if tests.of(m.test).shape == "bulk" then kind = rate and "at" or "unlimited" end
  return rate and kind .. " " .. rate or kind, kind, rate
end

-- Whether it was warmed up.
function M.start(m)
  local warm = m.params and m.params.warmup
  return warm and warm == 0 and "cold" or "warm"
end

local function as_text(value)
  return type(value) == "number" and value == math.floor(value) and ("%.0f"):format(value) or tostring(value)
end

-- The parameters of a test where nothing is said, as texts. An older version's ledger lacks those that came later.
local defaults = {}
local function defaults_of(test)
  if not defaults[test] then
    local spec = tests.known(test) and native.check(json.encode { test = test })
    defaults[test] = {}
    for name, value in pairs(spec and json.decode(spec) or {}) do defaults[test][name] = as_text(value) end
  end
  return defaults[test]
end

-- All that makes a measurement what it is: a list of names, and their values as texts by name. A parameter that has its
-- default is left out.
local function identity(m)
  local names, values = { "test", "case", "via", "start", "load" },
    { test = m.test, case = m.case or "", via = m.via or "none", start = M.start(m), load = (M.load(m)) }
  local function add(prefix, t, usual)
    local keys = {}
    for k, v in pairs(t or {}) do
      if type(v) ~= "table" and not (prefix == "" and (beside[k] or k == "test")) then keys[#keys + 1] = k end
    end
    table.sort(keys)
    for _, k in ipairs(keys) do
      local value, name = as_text(t[k]), prefix .. k
      if not usual or usual[k] ~= value then names[#names + 1], values[name] = name, value end
    end
  end
  add("label ", m.labels)
  add("", m.params, defaults_of(m.test))
  return names, values
end

-- What makes two measurements repeats of one another, and finds a measurement in a baseline.
function M.key(m)
  local names, values = identity(m)
  for i, name in ipairs(names) do names[i] = name .. "=" .. values[name] end
  return table.concat(names, "\31")
end

-- A value of `identity` as people read it: parameters that are times with their unit.
local function told(name, value)
  local seconds = value and times[name] and tonumber(value)
  return seconds == 0 and "0 s" or seconds and native.format_duration(seconds * 1e9) or value or "none"
end

-- What keeps two measurements from being the same: a list of texts.
function M.set_apart(old, new)
  local names, a = identity(old)
  local more, b = identity(new)
  local list, seen = {}, {}
  for _, these in ipairs { names, more } do
    for _, name in ipairs(these) do
      if a[name] ~= b[name] and not seen[name] then
        seen[name] = true
        local before, after = a[name] or defaults_of(old.test)[name], b[name] or defaults_of(new.test)[name]
        list[#list + 1] = ("%s %s, now %s"):format(name, told(name, before), told(name, after))
      end
    end
  end
  return list
end

-- Whether two measurements of one round have other ends. Where rounds differ, pods may have got new names.
local function has_other(a, b, key) return a.round == b.round and a[key] ~= b[key] end

-- Whether measurements that are alike in all else have several ends: `key` is "from" or "to".
function M.several(list, key)
  local first = {}
  for _, m in ipairs(list) do
    local same = M.key(m) .. "\31" .. tostring(m.round)
    first[same] = first[same] or m
    if has_other(first[same], m, key) then return true end
  end
  return false
end

-- The names of a measurement's ends, those that `keys` lists: "from a to b".
local function ends_of(m, keys)
  local names = {}
  for i, key in ipairs(keys) do names[i] = key .. " " .. tostring(m[key]) end
  return table.concat(names, " ")
end

-- A group as a list of groups whose measurements have the same ends, each with these as `ends`; the group alone where
-- all have. Ends are the same that come first, second… in their round: pods may have other names in the next one.
function M.by_ends(group)
  local keys, parts, rounds = {}, {}, {}
  for _, key in ipairs { "from", "to" } do
    if M.several(group, key) then keys[#keys + 1] = key end
  end
  if #keys == 0 then return { group } end
  for _, m in ipairs(group) do
    local ends, round = ends_of(m, keys), m.round or 0
    local places = rounds[round] or { n = 0 }
    rounds[round] = places
    if not places[ends] then places.n, places[ends] = places.n + 1, places.n + 1 end
    local place = places[ends]
    parts[place] = parts[place] or { key = group.key, ends = ends, behind = group.behind, among = group.among }
    table.insert(parts[place], m)
  end
  return parts
end

-- The same for a list of groups.
function M.all_by_ends(groups)
  local list = {}
  for _, group in ipairs(groups) do
    for _, part in ipairs(M.by_ends(group)) do list[#list + 1] = part end
  end
  return list
end

-- In what measurements differ that are no repeats of one another: names, without the case where something else says it.
-- Different tests differ in their parameters too: that goes without saying.
function M.differing(list)
  local seen, names = {}, {}
  local _, first = identity(list[1])
  for i = 2, #list do
    local _, values = identity(list[i])
    for _, key in ipairs { "from", "to" } do
      if has_other(list[1], list[i], key) and not seen[key] then seen[key], names[#names + 1] = true, key end
    end
    for _, these in ipairs { first, values } do
      for name in pairs(these) do
        if first[name] ~= values[name] and not seen[name] then seen[name], names[#names + 1] = true, name end
      end
    end
  end
  table.sort(names)
  local told = {}
  for _, name in ipairs(names) do
    local follows, plain = seen.test and name ~= "test" and not name:find "^label ", name:gsub("^label ", "")
    if not follows and (name ~= "case" or #names == 1) and (plain == name or not seen[plain]) then
      told[#told + 1] = plain
    end
  end
  return told
end

-- The data without the measurements that are pairs of a mesh: those have the mesh's own maps.
function M.beside_meshes(data)
  local lines, list = {}, {}
  for _, mesh in ipairs(data.meshes or {}) do
    if mesh.line then lines[mesh.line] = true end
  end
  if not next(lines) then return data end
  for _, m in ipairs(data.measurements) do
    if not lines[m.line] then list[#list + 1] = m end
  end
  return setmetatable({ measurements = list }, { __index = data })
end

-- The measurements of a ledger, repeats together: a list of lists, in the order in which each first came. `key_of`: by
-- another key; what has none is left out.
function M.groups(data, key_of)
  local groups, by_key = {}, {}
  for _, m in ipairs(data.measurements) do
    local key = (key_of or M.key)(m)
    if key and not by_key[key] then
      by_key[key] = { key = key }
      groups[#groups + 1] = by_key[key]
    end
    if key then table.insert(by_key[key], m) end
  end
  return groups
end

return M
