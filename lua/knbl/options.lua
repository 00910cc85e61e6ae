-- knbl.options - a scenario's own flags.
--
--   knbl.options { duration = { "10s", "time for each measurement" }, sizes = { "1:256K:*64", "message sizes" } }
--
-- The kind of a flag is that of its default: a number, a boolean, a list, or a text with a unit ("10s", "64K", "20k/s",
-- "1:256K:*64"); `kind` says it where the default does not. Values come back as the default is: texts stay texts, which
-- measurements take as they are; a list of sizes becomes a table of numbers.
local args = require "knbl.args"
local errors = require "knbl.errors"

local M = {}

local known_keys = { kind = true, choices = true, value = true }

local function is_duration(text)
  return text:match("^[%d.]+[nu]?s$") or text:match("^[%d.]+ms$") or text:match("^[%d.]+[mh]$") or text:match("^%d+m[%d.]+s$")
end

-- The kind of a flag by its default.
function M.kind_of(default)
  local kind = type(default)
  if kind == "boolean" then return "flag" end
  if kind == "number" then -- 3.0 is written by who means a number that may have a fraction
    local float = math.type and math.type(default) == "float"
    return not float and default == math.floor(default) and "count" or "number"
  end
  if kind == "table" then return "list" end
  if is_duration(default) then return "duration" end
  if default:match("^[%d.]+[kKMG]?i?B?$") then return "size" end
  if default:match("^%d+[kKMG]?[:,]%d") then return "sizes" end
  if default:match("^[%d.]+[kKMG]?/s$") or default:match("^[%d.]+[kKMGT]?bit/s$") or default:match("^[%d.]+[kKMGT]?bps$") then
    return "rate"
  end
  return "text"
end

local placeholders = {
  duration = "TIME", size = "SIZE", sizes = "SIZES", rate = "RATE", count = "N", number = "NUMBER", list = "A,B,…", text = "TEXT",
}

local function flag_of(name, row)
  if type(name) ~= "string" or not name:match("^%a[%w_]*$") then
    errors.misuse("knbl.options: '%s' cannot be the name of an option", tostring(name))
  end
  if type(row) ~= "table" or row[1] == nil then
    errors.misuse("knbl.options: %s needs a default and a help text: %s = { \"10s\", \"what it is\" }", name, name)
  end
  for key in pairs(row) do
    if type(key) == "string" and not known_keys[key] then errors.misuse("knbl.options: %s: unknown key '%s'", name, key) end
  end
  local kind = row.kind or M.kind_of(row[1])
  if kind ~= "flag" and not args.kinds[kind] then errors.misuse("knbl.options: %s: unknown kind '%s'", name, kind) end
  local default = row[1]
  if kind == "list" and type(default) == "table" then
    default = setmetatable(default, { __tostring = function(list) return table.concat(list, ",") end })
  end
  return {
    name = name:gsub("_", "-"), key = name, kind = kind, default = default, help = row[2] or "",
    value = kind ~= "flag" and (row.value or placeholders[kind]) or nil, choices = row.choices,
  }
end

-- The flags of a declaration, in the order of their names.
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

-- The values of a scenario's flags: given words, what global flags of the same name say, defaults. Raises on unknown ones.
-- `shared` are the program's own flags, for the suggestion.
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
  if rest then errors.usage("%s: unexpected '%s'", script, rest) end
  local resolved = {}
  for _, flag in ipairs(flags) do
    local value = values[flag.name:gsub("-", "_")]
    if value == nil then value = settings[flag.key] end
    if value == nil then value = default_of(core, flag) end
    resolved[flag.key] = value
  end
  return resolved
end

return M
