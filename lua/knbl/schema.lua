-- knbl.schema - checks a value against as much of JSON Schema as knbl.contract uses; a keyword that it does not know is an error, not a pass.
--
-- Where a ledger is read (`reading`) members that are missing or unknown are taken, and words too: a later version may have added them. What is
-- there must have its type all the same. Of a very long list the first ones stand for all.
local json = require "knbl.json"

local M = { longest = 10000 }

local function is_list(v) return type(v) == "table" and (json.is_array(v) or next(v) == nil) end

local types = {
  object = function(v) return type(v) == "table" and not (json.is_array(v) and #v > 0) end, array = is_list,
  string = function(v) return type(v) == "string" end, boolean = function(v) return type(v) == "boolean" end,
  number = function(v) return type(v) == "number" end, integer = function(v) return type(v) == "number" and v == math.floor(v) end,
}

local validate

-- A keyword: function(context, schema, given, value, where) -> what is wrong, or nil. context: { root, reading }.
local keywords = {}

function keywords.type(_, _, given, value, where)
  for _, name in ipairs(type(given) == "table" and given or { given }) do
    if types[name](value) then return nil end
  end
  return ("%s is no %s"):format(where, type(given) == "table" and table.concat(given, " or ") or given)
end

function keywords.properties(context, _, given, value, where)
  for name, schema in pairs(given) do
    local wrong = value[name] ~= nil and validate(context, schema, value[name], where .. "." .. name)
    if wrong then return wrong end
  end
end

function keywords.required(_, _, given, value, where)
  for _, name in ipairs(given) do
    if value[name] == nil then return ("%s lacks '%s'"):format(where, name) end
  end
end

function keywords.additionalProperties(context, schema, given, value, where)
  for name, inner in pairs(value) do
    if not (schema.properties and schema.properties[name]) then
      if given == false and not context.reading then return ("%s.%s is not in the contract (lua/knbl/contract.lua)"):format(where, tostring(name)) end
      local wrong = type(given) == "table" and validate(context, given, inner, where .. "." .. tostring(name))
      if wrong then return wrong end
    end
  end
end

function keywords.items(context, _, given, value, where)
  for i = 1, math.min(#value, M.longest) do
    local wrong = validate(context, given, value[i], ("%s[%d]"):format(where, i))
    if wrong then return wrong end
  end
end

function keywords.enum(context, _, given, value, where)
  if context.reading then return nil end
  for _, one in ipairs(given) do
    if one == value then return nil end
  end
  return ("%s is '%s', none of %s"):format(where, tostring(value), table.concat(given, ", "))
end

function keywords.const(_, _, given, value, where)
  return value ~= given and ("%s is not %s"):format(where, tostring(given)) or nil
end

function keywords.minimum(_, _, given, value, where)
  return value < given and ("%s is %s, less than %s"):format(where, value, given) or nil
end

function keywords.maximum(_, _, given, value, where)
  return value > given and ("%s is %s, more than %s"):format(where, value, given) or nil
end

-- Of regular expressions what Lua has too, and [0-9]{n}.
function keywords.pattern(context, _, given, value, where)
  if context.reading then return nil end
  local pattern = given:gsub("%[0%-9%]{(%d)}", function(n) return ("%d"):rep(tonumber(n)) end):gsub("%[0%-9%]", "%%d"):gsub("%-", "%%-")
    :gsub("\\%.", "%%.")
  return not value:match(pattern) and ("%s: '%s' does not match %s"):format(where, value, given) or nil
end

keywords["$ref"] = function(context, _, given, value, where)
  return validate(context, assert(context.root["$defs"][given:match "^#/%$defs/(.+)$"], given), value, where)
end

local told = { type = true, title = true, description = true, ["$schema"] = true, ["$defs"] = true }

function validate(context, schema, value, where)
  local wrong = schema.type and keywords.type(context, schema, schema.type, value, where)
  if wrong then return wrong end
  for keyword, given in pairs(schema) do
    if not told[keyword] then
      wrong = assert(keywords[keyword], "an unknown keyword: " .. keyword)(context, schema, given, value, where)
      if wrong then return wrong end
    end
  end
end

-- What is wrong with a value, or nil.
function M.validate(schema, value)
  return validate({ root = schema }, schema, value, "ledger")
end

-- The same for what is read: each member of the whole for itself, since those that are missing may be.
function M.check(schema, value)
  for name, member in pairs(schema.properties) do
    local wrong = name ~= "schema" and value[name] ~= nil and validate({ root = schema, reading = true }, member, value[name], name)
    if wrong then return wrong end
  end
end

return M
