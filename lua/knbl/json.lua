-- knbl.json - JSON over lua-cjson, with what it lacks: integers that stay integers, empty arrays, all digits of a number,
-- keys in a fixed order, and a refusal of what JSON cannot say (NaN, cycles, functions).
--
-- The decoder is cjson's; the encoder walks the table itself and leaves the texts to cjson. It runs under Lua 5.4 and LuaJIT.
local cjson = require "cjson"
local text = require "knbl.text"

local M = { null = cjson.null }

local parser = cjson.new()
local writer = cjson.new()
local Array = {}

-- Marks a table as an array, so that it is written as [] when it is empty.
function M.array(t)
  return setmetatable(t or {}, Array)
end

-- Says in which order an object's keys are written; those not named come after.
function M.ordered(t, keys)
  return setmetatable(t, { order = keys })
end

function M.is_array(t)
  if getmetatable(t) == Array then return true end
  local n = #t
  if n == 0 then return false end
  local seen = 0
  for _ in pairs(t) do seen = seen + 1 end
  return seen == n
end

local tointeger = math.tointeger or function(x) return x end
local exact = 2 ^ 53

local function integral(x)
  return x == math.floor(x) and x > -exact and x < exact
end

local null = cjson.null
-- cjson gives every number as a float: 1 becomes 1.0. Done in place; null members vanish, null elements stay.
local function settle(value)
  for k, v in pairs(value) do
    local kind = type(v)
    if kind == "table" then
      settle(v)
    elseif kind == "number" then
      if integral(v) then value[k] = tointeger(v) end
    elseif v == null and type(k) == "string" then
      value[k] = nil
    end
  end
  return value
end

-- The value that a text stands for, or nil and what is wrong with it.
function M.decode(source)
  local ok, value = pcall(parser.decode, source)
  if not ok then return nil, (tostring(value):gsub("^.-: ", "", 1)) end
  if type(value) == "table" then return settle(value) end
  if type(value) == "number" and integral(value) then return tointeger(value) end
  return value
end

local function number(x)
  if x ~= x or x == math.huge or x == -math.huge then error("a number that JSON cannot say: " .. tostring(x), 0) end
  if math.type and math.type(x) == "integer" then return ("%d"):format(x) end
  if integral(x) then return ("%.0f"):format(x) end
  for digits = 15, 17 do
    local written = ("%." .. digits .. "g"):format(x)
    if tonumber(written) == x then return written end
  end
end

local function text_of(s)
  if s:find("^[%w _.:,>()+=<%-]*$") then return '"' .. s .. '"' end
  return (writer.encode(text.valid(s)):gsub("\\/", "/"))
end

local function is_flat(t)
  for _, v in ipairs(t) do
    if type(v) == "table" then
      for _, inner in ipairs(v) do
        if type(inner) == "table" then return false end
      end
      if #v == 0 or next(v, #v) ~= nil then return false end
    end
  end
  return true
end

local function keys_of(t)
  local meta = getmetatable(t)
  local keys, named = {}, {}
  for i, k in ipairs(meta and meta.order or {}) do keys[i], named[k] = k, true end
  local rest = {}
  for k in pairs(t) do
    if type(k) ~= "string" then error("a table with keys of several kinds", 0) end
    if not named[k] then rest[#rest + 1] = k end
  end
  table.sort(rest)
  for _, k in ipairs(rest) do keys[#keys + 1] = k end
  return keys
end

local encode

local function encode_array(out, t, indent, depth)
  if #t == 0 then out[#out + 1] = "[]"; return end
  local inner = indent and not is_flat(t) and indent .. "  "
  out[#out + 1] = "["
  for i = 1, #t do
    if i > 1 then out[#out + 1] = inner and "," or indent and ", " or "," end
    if inner then out[#out + 1] = "\n" .. inner end
    encode(out, t[i], inner or nil, depth)
  end
  if inner then out[#out + 1] = "\n" .. indent end
  out[#out + 1] = "]"
end

local function encode_object(out, t, indent, depth)
  if next(t) == nil then out[#out + 1] = "{}"; return end
  local inner = indent and indent .. "  "
  local any
  out[#out + 1] = "{"
  for _, k in ipairs(keys_of(t)) do
    if t[k] ~= nil then
      if any then out[#out + 1] = "," end
      any = true
      if inner then out[#out + 1] = "\n" .. inner end
      out[#out + 1] = text_of(k) .. (inner and ": " or ":")
      encode(out, t[k], inner, depth)
    end
  end
  if inner and any then out[#out + 1] = "\n" .. indent end
  out[#out + 1] = "}"
end

function encode(out, value, indent, depth)
  local kind = type(value)
  if kind == "table" then
    if depth > 100 then error("a table that is nested too deeply, or holds itself", 0) end
    if M.is_array(value) then
      encode_array(out, value, indent, depth + 1)
    else
      encode_object(out, value, indent, depth + 1)
    end
  elseif kind == "string" then
    out[#out + 1] = text_of(value)
  elseif kind == "number" then
    out[#out + 1] = number(value)
  elseif kind == "boolean" then
    out[#out + 1] = tostring(value)
  elseif value == null then
    out[#out + 1] = "null"
  else
    error("JSON cannot say a " .. kind, 0)
  end
end

-- The text of a value; indented where `pretty`, lists of numbers on one line. Raises on what JSON cannot say.
function M.encode(value, pretty)
  local out = {}
  encode(out, value, pretty and "" or nil, 0)
  return table.concat(out)
end

return M
