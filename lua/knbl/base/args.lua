-- knbl.base.args - parses command lines by a table of flags.
--
-- A flag is { name = "json", value = "FILE", help = "…", kind?, many?, short?, choices? }; without `value` it is a
-- switch, which `--no-NAME` turns off; with `optional` the value can be omitted (`--inject`, `--inject=IMAGE`), which
-- gives true. --help, the man page and the completion of shells are made from the same tables.
local either = require("knbl.base.check").either
local errors = require "knbl.base.errors"

local M = {}

-- What core takes, as it was written.
local function as_written(name)
  return function(core, text)
    local value, err = core[name](text)
    if not value then return nil, err end
    return text
  end
end

-- The kinds of values: check(core, text), which returns the value, or nil and what is wrong.
M.kinds = {
  text = function(_, text) return text end,
  duration = as_written "duration", size = as_written "size", rate = as_written "rate",
  count = function(core, text) return core.count(text) end,
  number = function(_, text)
    local n = tonumber(text)
    if not n then return nil, ("must be a number, got '%s'"):format(text) end
    return n
  end,
  share = function(_, text)
    local n = tonumber((text:gsub("^±", ""):match "^%s*([%d.]+)%s*%%$"))
    if not n or n <= 0 or n >= 100 then return nil, ("'%s' is not a share: write it like ±5%%"):format(text) end
    return n / 100
  end,
  sizes = function(core, text)
    local list, err = core.sizes(text)
    if not list then return nil, err end
    return setmetatable(list, { __tostring = function() return text end })
  end,
  list = function(_, text)
    local list = {}
    for word in text:gmatch("[^,]+") do list[#list + 1] = word end
    if #list == 0 then return nil, "the list is empty" end
    return setmetatable(list, { __tostring = function() return text end })
  end,
  pair = function(_, text)
    local key, value = text:match("^([%w_.%-]+)=(.*)$")
    if not key then return nil, ("must be KEY=VALUE, got '%s'"):format(text) end
    return { key, value }
  end,
}

local function find(flags, name)
  local wanted = name:gsub("_", "-")
  for _, flag in ipairs(flags) do
    if flag.name == wanted or flag.short and flag.short == name then return flag end
  end
end

-- The flag that an argument names: flag, its text after "=", and whether it was turned off; or nil.
function M.match(flags, word)
  local name, value = word:match("^%-%-([^=]+)=?(.*)$")
  if name then
    if not word:find("=", 1, true) then value = nil end
    local flag = find(flags, name)
    if flag then return flag, value, false end
    local off = name:match("^no%-(.+)$")
    flag = off and find(flags, off)
    if flag and not flag.value then return flag, nil, true end
    return nil
  end
  if word:match("^%-%a$") then
    for _, flag in ipairs(flags) do
      if flag.short == word then return flag, nil, false end
    end
  end
end

function M.names(flags)
  local names = {}
  for _, flag in ipairs(flags) do names[#names + 1] = "--" .. flag.name end
  return names
end

local function check(core, flag, value)
  local kind = M.kinds[flag.kind or "text"]
  local checked, err = kind(core, value)
  if checked == nil then errors.usage("--%s: %s", flag.name, tostring(err)) end
  if flag.choices then
    for _, word in ipairs(type(checked) == "table" and checked or { checked }) do
      local known
      for _, choice in ipairs(flag.choices) do known = known or choice == word end
      if not known then
        errors.usage("--%s must be %s, got '%s'%s", flag.name, either(flag.choices), word,
          errors.hint(core, word, flag.choices))
      end
    end
  end
  return checked
end

local function store(values, flag, value)
  local key = flag.name:gsub("-", "_")
  if flag.many then
    values[key] = values[key] or {}
    table.insert(values[key], value)
  else
    values[key] = value
  end
end

-- Takes the flag at argv[i] if it is one of `flags`. Returns how many arguments it took, or nil.
function M.take(core, flags, argv, i, values)
  local flag, text, off = M.match(flags, argv[i])
  if not flag then return nil end
  if not flag.value then
    if text == "true" or text == "false" then off, text = text == "false", nil end
    if text then errors.usage("--%s takes no value", flag.name) end
    store(values, flag, not off)
    return 1
  end
  if flag.optional and not text then
    store(values, flag, true)
    return 1
  end
  local taken = 1
  if not text then
    text, taken = argv[i + 1], 2
    if not text then errors.usage("--%s needs a value: --%s %s", flag.name, flag.name, flag.value) end
  end
  store(values, flag, check(core, flag, text))
  return taken
end

-- Parses argv from `first`. Returns values by name, the arguments that are not flags, and how many of those came before
-- a "--". `options_behind`: a first "--" only parts the arguments, and options are read behind it too. An unknown flag
-- is an error, which suggests the nearest one.
function M.parse(core, flags, argv, first, whose, options_behind)
  local values, words, before = {}, {}, nil
  local i = first or 1
  while i <= #argv do
    local word = argv[i]
    local taken = word:sub(1, 1) == "-" and word ~= "-" and M.take(core, flags, argv, i, values)
    if taken then
      i = i + taken
    elseif word == "--" and options_behind and not before then
      before, i = #words, i + 1
    elseif word == "--" then
      before = before or #words
      for k = i + 1, #argv do words[#words + 1] = argv[k] end
      break
    elseif word:sub(1, 1) == "-" and word ~= "-" then
      M.unknown(core, flags, word, whose)
    else
      words[#words + 1] = word
      i = i + 1
    end
  end
  return values, words, before
end

function M.unknown(core, flags, word, whose)
  local name = word:match("^[^=]+")
  errors.usage("unknown option %s%s%s", name, whose and " of " .. whose or "", errors.hint(core, name, M.names(flags)))
end

-- A flag's value as it is written behind its name: " FILE", "[=IMAGE]", "".
function M.value_of(flag)
  return flag.optional and ("[=%s]"):format(flag.value) or flag.value and " " .. flag.value or ""
end

-- The width of a text: its bytes, without those that continue a UTF-8 sequence.
local function columns(text) return #text:gsub("[\128-\191]", "") end

-- The lines of --help for a list of flags: "  --json FILE          what it does".
function M.help(flags, width)
  local lines = {}
  for _, flag in ipairs(flags) do
    if not flag.hidden then
      local left = ("  --%s%s%s"):format(flag.name, M.value_of(flag),
        flag.short and ", " .. flag.short or "")
      local help = flag.help
      local told = true
      for _, choice in ipairs(flag.choices or {}) do told = told and help:find(choice, 1, true) end
      if not told then help = ("%s: %s"):format(help, table.concat(flag.choices, ", ")) end
      if flag.default ~= nil and tostring(flag.default) ~= "" then
        help = ("%s [%s]"):format(help, tostring(flag.default))
      end
      local room = (width or 28) - columns(left)
      if room > 1 then
        lines[#lines + 1] = left .. (" "):rep(room) .. help
      else
        lines[#lines + 1] = left
        lines[#lines + 1] = (" "):rep(width or 28) .. help
      end
    end
  end
  return table.concat(lines, "\n")
end

return M
