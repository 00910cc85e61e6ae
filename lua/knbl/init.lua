-- knbl - what scenarios use. Every name of it is described in lua/knbl/meta.lua (docs/reference.md).
local cluster = require "knbl.cluster"
local errors = require "knbl.errors"
local json = require "knbl.json"
local measure = require "knbl.measure"
local native = require "knbl.native"
local session = require "knbl.session"

local M = { version = native.version }

local tests = {
  "tcp_stream", "tcp_sendfile", "udp_stream", "tcp_rr", "udp_rr", "tcp_crr", "tcp_bw", "tcp_lat", "http", "ping",
}

function M.options(declaration)
  return session.current():options(declaration)
end

function M.cluster(t)
  return cluster.open(t)
end

for _, test in ipairs(tests) do
  M[test] = function(t)
    local result = measure.run(session.current(), test, t)
    return result
  end
end

function M.together(list)
  local results = measure.together(session.current(), list)
  return results
end

-- The rounds in which everyone of n meets everyone once and nobody takes part twice: a list of lists of pairs of numbers.
function M.rounds(n)
  if type(n) ~= "number" or n < 2 or n ~= math.floor(n) then errors.misuse("knbl.rounds takes a whole number from 2 on") end
  return require("knbl.mesh").rounds(n)
end

function M.matrix(rows)
  return require("knbl.matrix").iterate(session.current(), rows)
end

function M.report(t)
  local s = session.current()
  local declaration = require("knbl.report").declare(s.core, t)
  if s.ledger then s.ledger:report(declaration) end
end

-- A value as the ledger can keep it: a table of texts, numbers and such tables as it is; a pod or the like by its name.
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
  if type(note) ~= "table" then errors.misuse("knbl.note takes a text or a table") end
  local kept = {}
  for key, value in pairs(note) do
    if type(key) ~= "string" then key = "text" end
    kept[key] = noted(value, 1)
  end
  if s.ledger then s.ledger:note(kept) end
end

-- A misspelt name of this module is refused where it is used, with the nearest right one.
setmetatable(M, {
  __index = function(_, name)
    local names = {}
    for key in pairs(M) do names[#names + 1] = key end
    errors.misuse("knbl has no '%s'%s", tostring(name), errors.hint(native, tostring(name), names))
  end,
})

return M
