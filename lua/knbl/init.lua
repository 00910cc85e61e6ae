-- knbl - what scenarios use. lua/knbl/meta.lua (docs/reference.md) describes every name.
local cluster = require "knbl.cluster"
local errors = require "knbl.base.errors"
local json = require "knbl.json"
local measure = require "knbl.measure"
local native = require "knbl.native"
local session = require "knbl.measure.session"
local tests = require "knbl.base.tests"

local M = { version = native.version }

function M.options(declaration)
  return session.current():options(declaration)
end

function M.cluster(t)
  return cluster.open(t)
end

function M.host(text)
  return cluster.host(text)
end

for _, test in ipairs(tests.names) do
  M[test] = function(t)
    local result = measure.run(session.current(), test, t)
    return result
  end
end

function M.together(list)
  local results = measure.together(session.current(), list)
  return results
end

function M.mesh(t)
  local answer = require("knbl.mesh").run(session.current(), t)
  return answer
end

function M.ready(t)
  local s = session.current()
  local results = require("knbl.measure.ready").run(s, t)
  return results
end

-- Rounds in which each of n meets every other once, and none takes part twice in a round: lists of pairs of numbers.
function M.rounds(n)
  if type(n) ~= "number" or n < 2 or n ~= math.floor(n) then
    errors.misuse("knbl.rounds: n must be a whole number of at least 2, got %s", tostring(n))
  end
  return require("knbl.mesh.rounds").of(n)
end

function M.matrix(rows)
  return require("knbl.measure.matrix").iterate(session.current(), rows)
end

function M.report(t)
  local s = session.current()
  local declaration, functions = require("knbl.results.declaration").declare(s.core, t)
  if not s.ledger then return end
  s.ledger:report(declaration)
  if #functions > 0 and not s.plan then require("knbl.results.derive").add(s, declaration, functions) end
end

function M.metric(t)
  return require("knbl.results.metric").add(session.current(), t)
end

-- A list of numbers, all finite.
local function checked(name, list)
  if type(list) ~= "table" or #list == 0 then errors.misuse("knbl.%s takes a non-empty list of numbers", name) end
  for i, value in ipairs(list) do
    if type(value) ~= "number" or value ~= value or math.abs(value) == math.huge then
      errors.misuse("knbl.%s: value %d must be a finite number, got %s", name, i, tostring(value))
    end
  end
  return list
end

function M.median(list)
  return (native.median_interval(checked("median", list), 0.95))
end

function M.interval(list, confidence)
  local _, low, high = native.median_interval(checked("interval", list), confidence or 0.95)
  return low, high
end

function M.rank_test(a, b)
  return native.rank_test(checked("rank_test", a), checked("rank_test", b))
end

-- A value as the ledger can keep it: tables of strings, numbers and the like as they are; a pod or node by its name.
local function noted(value, depth)
  local kind = type(value)
  if kind == "number" and (value ~= value or value == math.huge or value == -math.huge) then return tostring(value) end
  if kind == "string" or kind == "number" or kind == "boolean" then return value end
  if kind ~= "table" or depth > 8 then return tostring(value) end
  local meta = getmetatable(value)
  if meta and meta.__tostring then return tostring(value) end
  if meta and type(rawget(value, "name")) == "string" then return value.name end
  local out, list = {}, json.is_array(value) or #value > 0
  for key, item in pairs(value) do
    if not list then out[tostring(key)] = noted(item, depth + 1)
    elseif type(key) == "number" then out[key] = noted(item, depth + 1) end
  end
  return list and json.array(out) or out
end

function M.note(note)
  local s = session.current()
  if type(note) == "string" then note = { text = note } end
  if type(note) ~= "table" then errors.misuse("knbl.note takes a string or a table, got %s", errors.kind(note)) end
  local kept = {}
  for key, value in pairs(note) do
    if type(key) ~= "string" then key = "text" end
    kept[key] = noted(value, 1)
  end
  if s.ledger then s.ledger:note(kept) end
end

-- An unknown name of this module is refused where it is used, with the nearest known one.
setmetatable(M, {
  __index = function(_, name)
    local names = {}
    for key in pairs(M) do names[#names + 1] = key end
    errors.misuse("knbl has no '%s'%s", tostring(name), errors.hint(native, tostring(name), names))
  end,
})

return M
