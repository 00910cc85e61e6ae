-- knbl.base.schema - checks a value against the part of JSON Schema that knbl.results.contract uses; an unknown keyword
-- is an error, not a pass.
--
-- When a ledger is read (`reading`), missing and unknown members and words are accepted, since another version may have
-- written them. Members must have their type all the same. Of a very long list only the first items are checked.
local json = require "knbl.json"

local M = { longest = 10000 }

local function is_list(v) return type(v) == "table" and (json.is_array(v) or next(v) == nil) end

local types = {
  object = function(v) return type(v) == "table" and not (json.is_array(v) and #v > 0) end, array = is_list,
  string = function(v) return type(v) == "string" end, boolean = function(v) return type(v) == "boolean" end,
  number = function(v) return type(v) == "number" end,
  integer = function(v) return type(v) == "number" and v == math.floor(v) end,
}

local validate

-- A keyword: function(context, schema, given, value, where) -> what is wrong, or nil. context: { root, reading }.
local keywords = {}

function keywords.type(_, _, given, value, where)
  for _, name in ipairs(type(given) == "table" and given or { given }) do
    if types[name](value) then return nil end
  end
  return ("%s must be of type %s"):format(where, type(given) == "table" and table.concat(given, " or ") or given)
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
      if given == false and not context.reading then
        return ("%s.%s is not in the contract (lua/knbl/results/contract.lua)"):format(where, tostring(name))
      end
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
  return ("%s must be one of %s, got '%s'"):format(where, table.concat(given, ", "), tostring(value))
end

function keywords.const(_, _, given, value, where)
  return value ~= given and ("%s must be %s, got %s"):format(where, tostring(given), tostring(value)) or nil
end

function keywords.minimum(_, _, given, value, where)
  return value < given and ("%s must be at least %s, got %s"):format(where, given, value) or nil
end

function keywords.maximum(_, _, given, value, where)
  return value > given and ("%s must be at most %s, got %s"):format(where, given, value) or nil
end

-- Regular expressions that Lua patterns can express, and [0-9]{n}.
function keywords.pattern(context, _, given, value, where)
  if context.reading then return nil end
  local pattern = given:gsub("%[0%-9%]{(%d)}", function(n) return ("%d"):rep(tonumber(n)) end):gsub("%[0%-9%]",
    "%%d"):gsub("%-", "%%-")
    :gsub("\\%.", "%%.")
  return not value:match(pattern) and ("%s: '%s' does not match %s"):format(where, value, given) or nil
end

keywords["$ref"] = function(context, _, given, value, where)
  return validate(context, assert(context.root["$defs"][given:match "^#/%$defs/(.+)$"], given), value, where)
end

local annotations = { type = true, title = true, description = true, ["$schema"] = true, ["$defs"] = true }

function validate(context, schema, value, where)
  local wrong = schema.type and keywords.type(context, schema, schema.type, value, where)
  if wrong then return wrong end
  for keyword, given in pairs(schema) do
    if not annotations[keyword] then
      wrong = assert(keywords[keyword], "an unknown keyword: " .. keyword)(context, schema, given, value, where)
      if wrong then return wrong end
    end
  end
end

-- Returns what is wrong with a value, or nil.
function M.validate(schema, value)
  return validate({ root = schema }, schema, value, "ledger")
end

-- The same for a ledger that is read: each member on its own, since any may be missing.
function M.check(schema, value)
  for name, member in pairs(schema.properties) do
    local wrong = name ~= "schema" and value[name] ~= nil
      and validate({ root = schema, reading = true }, member, value[name], name)
    if wrong then return wrong end
  end
end

return M
