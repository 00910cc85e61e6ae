-- knbl.base.check - arguments of the library's functions: each raises at the script's line what is wrong with a value,
-- and what is expected.
local errors = require "knbl.base.errors"

local M = {}

-- A set of the words in a text.
function M.set(text)
  local t = {}
  for word in text:gmatch("%S+") do t[word] = true end
  return t
end

-- { "a", "b", "c" } as "a, b or c".
function M.either(list)
  if #list < 2 then return list[1] or "" end
  return table.concat(list, ", ", 1, #list - 1) .. " or " .. list[#list]
end

-- Every key of `given` is in the set `known`.
function M.keys(core, what, given, known)
  for key in pairs(given) do
    if not known[key] then
      local list = {}
      for name in pairs(known) do list[#list + 1] = name end
      table.sort(list)
      local near = errors.hint(core, tostring(key), list)
      errors.misuse("%s: unknown key '%s'%s", what, tostring(key),
        near ~= "" and near or "; known keys: " .. table.concat(list, ", "))
    end
  end
end

-- A value that is missing fits.
function M.number(what, key, value, least, most)
  if value == nil then return end
  if type(value) ~= "number" or value ~= math.floor(value) or value < least or value > most then
    errors.misuse("%s: %s must be a whole number from %d to %d, got %s", what, key, least, most, tostring(value))
  end
end

function M.choice(core, what, key, value, list)
  if value == nil then return end
  for _, one in ipairs(list) do
    if value == one then return end
  end
  local words = {}
  for i, one in ipairs(list) do words[i] = tostring(one) end
  errors.misuse("%s: %s must be %s, got '%s'%s", what, key, M.either(words), tostring(value),
    errors.hint(core, tostring(value), words))
end

function M.type(what, key, value, wanted)
  if value ~= nil and type(value) ~= wanted then
    errors.misuse("%s: %s must be a %s, got %s", what, key, wanted, tostring(value))
  end
end

-- The case that was given: a string, or the combination that a matrix gives as the string that it is called.
function M.case(t)
  local meta = type(t.case) == "table" and getmetatable(t.case)
  return meta and meta.__tostring and tostring(t.case) or t.case
end

return M
