-- knbl.results.monitor - whether a monitor has the form that knbl.Monitor describes (lua/knbl/meta.lua). It comes from
-- an agent, or from a ledger that may come from anywhere.
local json = require "knbl.json"

local M = {}

-- A number, or a list of them in which some may be missing; `deep`: a list of such, one for each core.
local function is_series(value, deep)
  if type(value) == "number" then return true end
  if type(value) ~= "table" or not (json.is_array(value) or next(value) == nil) then return false end
  for i = 1, #value do
    local v = value[i]
    if type(v) ~= "number" and v ~= json.null and not (deep and is_series(v)) then return false end
  end
  return true
end

local function is_map(value, check)
  if type(value) ~= "table" then return false end
  for key, v in pairs(value) do
    if type(key) ~= "string" or not check(v) then return false end
  end
  return true
end

local function is_string(v) return type(v) == "string" end
local function is_number(v) return type(v) == "number" end
local function is_cores(v) return is_series(v, true) end
local function series_by_name(v) return is_map(v, is_series) end

-- Each member with its check, and what it must be.
local members = {
  name = { is_string, "a string" }, kind = { is_string, "a string" }, side = { is_string, "a string" },
  node = { is_string, "a string" }, machine = { is_string, "a string" },
  from = { is_number, "a number" }, interval_ns = { is_number, "a number" },
  error = { function(v) return is_map(v, is_string) end, "an object of strings" },
  interfaces = { function(v) return is_map(v, series_by_name) end, "an object of objects of series" },
  cpu = { function(v) return is_map(v, is_cores) end, "an object of lists of series" },
  t = { function(v)
    if type(v) ~= "table" or not is_series(v) then return false end
    for i = 1, #v do
      if v[i] == json.null then return false end
    end
    return true
  end, "a list of numbers" },
}
for name in ("memory process cgroup tcp udp clock softnet conntrack"):gmatch "%S+" do
  members[name] = { series_by_name, "an object of series" }
end

-- What is wrong with a monitor, or nil. A member that is not known is a later version's.
function M.fault(monitor)
  if type(monitor) ~= "table" then return "it must be an object" end
  for name, member in pairs(members) do
    local value = monitor[name]
    if value ~= nil and not member[1](value) then return ("%s must be %s"):format(name, member[2]) end
  end
end

return M
