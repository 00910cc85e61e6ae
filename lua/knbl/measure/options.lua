-- knbl.measure.options - a scenario's own options.
--
--   knbl.options { duration = { "10s", "time for each measurement" }, sizes = { "1:256K:*64", "message sizes" } }
--
-- The default decides the kind of an option: a number, a boolean, a list, or a string with a unit ("10s", "64K",
-- "20k/s", "1:256K:*64"); `kind` overrides it. Values have the type of the default: strings stay strings, which
-- measurements accept; a list of sizes becomes a table of numbers.
local args = require "knbl.base.args"
local errors = require "knbl.base.errors"
local json = require "knbl.json"

local M = {}

local known_keys = { kind = true, choices = true, value = true }

local function is_duration(text)
  return text:match("^[%d.]+[nu]?s$") or text:match("^[%d.]+ms$") or text:match("^[%d.]+[mh]$")
    or text:match("^%d+m[%d.]+s$")
end

-- The kind of an option by its default.
function M.kind_of(default)
  local kind = type(default)
  if kind == "boolean" then return "flag" end
  if kind == "number" then -- 3.0 means that a fraction is allowed
    local float = math.type and math.type(default) == "float"
    return not float and default == math.floor(default) and "count" or "number"
  end
  if kind == "table" then return "list" end
  if is_duration(default) then return "duration" end
  if default:match("^[%d.]+[kKMG]?i?B?$") then return "size" end
  if default:match("^%d+[kKMG]?[:,]%d") then return "sizes" end
  if default:match("^[%d.]+[kKMG]?/s$") or default:match("^[%d.]+[kKMGT]?bit/s$")
    or default:match("^[%d.]+[kKMGT]?bps$") then
    return "rate"
  end
  return "text"
end

local placeholders = {
  duration = "TIME", size = "SIZE", sizes = "SIZES", rate = "RATE", count = "N", number = "NUMBER", list = "A,B,…",
  text = "TEXT",
}

local function all_numbers(list)
  if type(list) ~= "table" then return false end
  for _, item in ipairs(list) do
    if type(item) ~= "number" then return false end
  end
  return #list > 0
end

-- A list keeps the type of its default's items.
local function as_numbers(flag, list)
  local numbers = {}
  for i, word in ipairs(list) do
    numbers[i] = tonumber(word)
    if not numbers[i] then errors.usage("--%s must be a list of numbers, got '%s'", flag.name, word) end
  end
  return setmetatable(numbers, getmetatable(list))
end

local function flag_of(name, row)
  if type(name) ~= "string" or not name:match("^%a[%w_]*$") then
    errors.misuse("knbl.options: invalid option name '%s'", tostring(name))
  end
  if type(row) ~= "table" or row[1] == nil then
    errors.misuse("knbl.options: %s needs a default and a help text, as in %s = { \"10s\", \"what it is\" }", name,
      name)
  end
  for key in pairs(row) do
    if type(key) == "string" and not known_keys[key] then
      errors.misuse("knbl.options: %s: unknown key '%s'", name, key)
    end
  end
  if type(row[1]) == "number" and not json.is_finite(row[1]) then
    errors.misuse("knbl.options: %s: the default must be a finite number, got %s", name, tostring(row[1]))
  end
  local kind = row.kind or M.kind_of(row[1])
  if kind ~= "flag" and not args.kinds[kind] then errors.misuse("knbl.options: %s: unknown kind '%s'", name, kind) end
  local default = row[1]
  if kind == "list" and type(default) == "table" then
    default = setmetatable(default, { __tostring = function(list) return table.concat(list, ",") end })
  end
  return {
    name = name:gsub("_", "-"), key = name, kind = kind, default = default, help = row[2] or "",
    numbers = kind == "list" and all_numbers(default) or nil,
    value = kind ~= "flag" and (row.value or placeholders[kind]) or nil, choices = row.choices,
  }
end

-- The options of a declaration, sorted by name.
function M.declare(declaration)
  if type(declaration) ~= "table" then errors.misuse("knbl.options takes a table") end
  local flags = {}
  for name, row in pairs(declaration) do flags[#flags + 1] = flag_of(name, row) end
  table.sort(flags, function(a, b) return a.name < b.name end)
  return flags
end

local function default_of(core, flag)
  if flag.kind == "sizes" and type(flag.default) == "string" then
    local list, err = args.kinds.sizes(core, flag.default)
    if not list then errors.misuse("knbl.options: %s: %s", flag.key, tostring(err)) end
    return list
  elseif flag.kind == "list" and type(flag.default) == "string" then
    return (args.kinds.list(core, flag.default))
  end
  return flag.default
end

-- The values of a scenario's options: from the command line, else from the program's option of the same name, else the
-- default. Raises on unknown ones. `shared` are the program's own options, for suggestions.
function M.resolve(core, flags, words, settings, script, shared)
  local known = {}
  for _, flag in ipairs(flags) do known[#known + 1] = flag end
  local values, rest = {}, nil
  local all = {}
  for _, flag in ipairs(flags) do all[#all + 1] = flag end
  for _, flag in ipairs(shared or {}) do all[#all + 1] = flag end
  local i = 1
  while i <= #words do
    local taken = args.take(core, known, words, i, values)
    if not taken then
      if words[i]:sub(1, 1) == "-" then args.unknown(core, all, words[i], script) end
      rest = rest or words[i]
      taken = 1
    end
    i = i + taken
  end
  if rest then errors.usage("%s: unexpected argument '%s'", script, rest) end
  local resolved = {}
  for _, flag in ipairs(flags) do
    local value = values[flag.name:gsub("-", "_")]
    if value == nil then value = settings[flag.key] end
    if flag.numbers and type(value) == "table" then value = as_numbers(flag, value) end
    if value == nil then value = default_of(core, flag) end
    resolved[flag.key] = value
  end
  return resolved
end

return M
