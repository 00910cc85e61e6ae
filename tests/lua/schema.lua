-- A validator for as much of JSON Schema as docs/ledger.schema.json uses; an unknown keyword is an error, not a pass.
local json = require "knbl.json"

local M = {}

local function is_object(v) return type(v) == "table" and not json.is_array(v) end
local function is_list(v) return type(v) == "table" and (json.is_array(v) or next(v) == nil) end

local types = {
  object = is_object, array = is_list,
  string = function(v) return type(v) == "string" end, boolean = function(v) return type(v) == "boolean" end,
  number = function(v) return type(v) == "number" end, integer = function(v) return type(v) == "number" and v == math.floor(v) end,
}

local validate

-- A keyword: function(schema, given, value, where, root) -> what is wrong, or nil.
local keywords = {}

function keywords.type(_, given, value, where)
  for _, name in ipairs(type(given) == "table" and given or { given }) do
    if types[name](value) then return nil end
  end
  return ("%s is no %s"):format(where, type(given) == "table" and table.concat(given, " or ") or given)
end

function keywords.properties(_, given, value, where, root)
  if type(value) ~= "table" then return nil end
  for name, schema in pairs(given) do
    local wrong = value[name] ~= nil and validate(schema, value[name], where .. "." .. name, root)
    if wrong then return wrong end
  end
end

function keywords.required(_, given, value, where)
  for _, name in ipairs(given) do
    if value[name] == nil then return ("%s lacks '%s'"):format(where, name) end
  end
end

function keywords.additionalProperties(schema, given, value, where, root)
  if type(value) ~= "table" then return nil end
  for name, inner in pairs(value) do
    if not (schema.properties and schema.properties[name]) then
      if given == false then return ("%s.%s is not in docs/ledger.schema.json: add it"):format(where, tostring(name)) end
      local wrong = type(given) == "table" and validate(given, inner, where .. "." .. tostring(name), root)
      if wrong then return wrong end
    end
  end
end

function keywords.items(_, given, value, where, root)
  for i, item in ipairs(type(value) == "table" and value or {}) do
    local wrong = validate(given, item, ("%s[%d]"):format(where, i), root)
    if wrong then return wrong end
  end
end

function keywords.enum(_, given, value, where)
  for _, one in ipairs(given) do
    if one == value then return nil end
  end
  return ("%s is '%s', none of %s"):format(where, tostring(value), table.concat(given, ", "))
end

function keywords.const(_, given, value, where) return value ~= given and ("%s is not %s"):format(where, tostring(given)) or nil end
function keywords.minimum(_, given, value, where) return type(value) == "number" and value < given and ("%s: %s is less than %s"):format(where, value, given) or nil end
function keywords.maximum(_, given, value, where) return type(value) == "number" and value > given and ("%s: %s is more than %s"):format(where, value, given) or nil end

-- Of regular expressions what Lua has too, and {n}.
function keywords.pattern(_, given, value, where)
  local pattern = given:gsub("%[0%-9%]{(%d)}", function(n) return ("%d"):rep(tonumber(n)) end):gsub("%-", "%%-"):gsub("%[0%%%-9%]", "%%d"):gsub("\\%.", "%%.")
  return not value:match(pattern) and ("%s: '%s' does not match %s"):format(where, value, given) or nil
end

keywords["$ref"] = function(_, given, value, where, root)
  return validate(assert(root["$defs"][given:match "^#/%$defs/(.+)$"], given), value, where, root)
end

local told = { title = true, description = true, ["$schema"] = true, ["$defs"] = true }

-- What is wrong with a value, or nil.
function validate(schema, value, where, root)
  local wrong = schema.type and keywords.type(schema, schema.type, value, where)
  if wrong then return wrong end
  for keyword, given in pairs(schema) do
    if keyword ~= "type" and not told[keyword] then
      wrong = assert(keywords[keyword], "the validator does not know " .. keyword)(schema, given, value, where, root)
      if wrong then return wrong end
    end
  end
end

function M.validate(schema, value)
  return validate(schema, value, "ledger", schema)
end

return M
