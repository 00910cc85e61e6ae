-- knbl.json - JSON over lua-cjson, with what it lacks: integers that stay integers, empty arrays, all digits of a
-- number, keys in a fixed order, and a refusal of what JSON cannot express (NaN, cycles, functions).
--
-- The decoder is cjson's; the encoder walks the table itself and leaves the texts to cjson. It runs under Lua 5.4 and
-- LuaJIT.
local cjson = require "cjson"
local text = require "knbl.base.text"

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
  local n, seen = #t, 0
  if n == 0 then return false end
  for _ in next, t do seen = seen + 1 end
  return seen == n
end

local tointeger = math.tointeger
local exact = 2 ^ 53

local null = cjson.null
-- cjson gives every number as a float: 1 becomes 1.0. Done in place; null members vanish, null elements stay.
local function settle(value)
  for k, v in next, value do
    local kind = type(v)
    if kind == "table" then
      settle(v)
    elseif kind == "number" then
      local whole = tointeger and tointeger(v)
      if whole then value[k] = whole end
    elseif v == null and type(k) == "string" then
      value[k] = nil
    end
  end
  return value
end

-- The value that a text stands for, or nil and what is wrong with it.
function M.decode(source)
  local ok, value = pcall(parser.decode, source)
  if not ok then
    local wrong = tostring(value):gsub("^.-: ", "", 1)
    return nil, (wrong:find "T_END" or wrong:find "unexpected end") and wrong
      .. ": it ends too early, as a file that was cut off does" or wrong
  end
  if type(value) == "table" then return settle(value) end
  if type(value) == "number" then return tointeger and tointeger(value) or value end
  return value
end

-- ---- writing ----

local format, math_type, floor, huge = string.format, math.type, math.floor, math.huge
local unpack = table.unpack or unpack -- luacheck: ignore

-- Whether JSON has the number: neither NaN nor infinite.
function M.is_finite(x) return x == x and x ~= huge and x ~= -huge end

local function number(x)
  if math_type and math_type(x) == "integer" then return format("%d", x) end
  if not M.is_finite(x) then error("JSON cannot express the number " .. tostring(x), 0) end
  if x == floor(x) and x > -exact and x < exact then return format("%.0f", x) end
  local written = format("%.15g", x)
  if tonumber(written) == x then return written end
  written = format("%.16g", x)
  return tonumber(written) == x and written or format("%.17g", x)
end

local function text_of(s)
  if s:find("^[%w _.:,>()+=<%-]*$") then return '"' .. s .. '"' end
  return (writer.encode(text.valid(s)):gsub("\\/", "/"))
end

-- To the text so far: pieces that are joined into chunks, so that a long text is not a million small strings.
local function add(out, piece)
  local n = out.n + 1
  out[n] = piece
  if n == 4096 then
    out.chunks[#out.chunks + 1] = table.concat(out, "", 1, n)
    n = 0
  end
  out.n = n
end

local function keys_of(t)
  local meta = getmetatable(t)
  local order = meta and meta.order
  local keys, n = {}, 0
  for k in next, t do
    if type(k) ~= "string" then error("JSON cannot express a table with keys of several kinds", 0) end
    n = n + 1
    keys[n] = k
  end
  table.sort(keys)
  if not order then return keys end
  local ordered, named = {}, {}
  for _, k in ipairs(order) do
    if t[k] ~= nil then ordered[#ordered + 1], named[k] = k, true end
  end
  for _, k in ipairs(keys) do
    if not named[k] then ordered[#ordered + 1] = k end
  end
  return ordered
end

-- Whether a table holds no tables, or (one level deeper) lists of such.
local function is_flat(t)
  for _, v in next, t do
    if type(v) == "table" then
      for _, inner in next, v do
        if type(inner) == "table" then return false end
      end
    end
  end
  return true
end

-- A small object without tables in it.
local function is_row(v)
  if type(v) ~= "table" or v[1] ~= nil or next(v) == nil then return false end
  local n = 0
  for _, inner in next, v do
    n = n + 1
    if n > 64 or type(inner) == "table" then return false end
  end
  return true
end

-- What a value is written as that holds no others.
local function plain(value)
  local kind = type(value)
  if kind == "number" then return number(value) end
  if kind == "string" then return text_of(value) end
  if kind == "boolean" then return tostring(value) end
  if value == null then return "null" end
  error("JSON cannot express a " .. kind, 0)
end

-- The keys of a row, and how the last such row was written: a format for each value, and of all of them together.
local function heads_of(row, between)
  local heads = { keys = keys_of(row), place = {}, names = {}, formats = {}, values = {} }
  for i, k in ipairs(heads.keys) do
    heads.place[k], heads.names[i] = i, (i == 1 and between .. "{" or ",") .. text_of(k):gsub("%%", "%%%%") .. ":"
  end
  return heads
end

-- An object of plain values in one piece, with what is between it and the one before, or nil where its keys are others:
-- of a million of them every call and every string counts. A number of few digits after the point is known to be whole
-- in "%.15g"; of others `number` looks at what is written.
local function row_of(row, heads)
  local place, formats, values, n = heads.place, heads.formats, heads.values, 0
  for k, v in next, row do
    local i, how = place[k], "%s"
    if not i then return nil end
    if math_type and math_type(v) == "integer" then
      how = "%d"
    elseif type(v) == "number" then
      local millionths = floor(v * 1e6 + 0.5)
      if millionths > -exact and millionths < exact and millionths / 1e6 == v then how = "%.15g" else v = number(v) end
    elseif type(v) == "table" then
      return nil
    else
      v = plain(v)
    end
    n = n + 1
    values[i] = v
    if formats[i] ~= how then formats[i], heads.all = how, nil end -- also if this row turns out to be another kind
  end
  if n ~= #heads.keys then return nil end
  if not heads.all then
    local all = {}
    for i, name in ipairs(heads.names) do all[i] = name .. formats[i] end
    heads.all = table.concat(all) .. "}"
  end
  return format(heads.all, unpack(values, 1, n))
end

local encode

-- Lists of plain values, and of lists of them, on one line; lists of small objects with a line for each.
local function encode_array(out, t, indent, depth)
  if #t == 0 then return add(out, "[]") end
  local rows, heads = indent and is_row(t[1]), nil
  local inner = indent and (rows or not is_flat(t)) and indent .. "  "
  local between = inner and ",\n" .. inner or indent and ", " or ","
  add(out, inner and "[" .. between:sub(2) or "[")
  for i = 1, #t do
    local row = t[i]
    local written = heads and type(row) == "table" and row_of(row, heads)
    if not written and rows and is_row(row) then
      heads = heads_of(row, between)
      written = row_of(row, heads)
    end
    if written then
      add(out, i == 1 and written:sub(#between + 1) or written)
    else
      if i > 1 then add(out, between) end
      encode(out, row, inner or nil, depth)
    end
  end
  if inner then add(out, "\n" .. indent) end
  add(out, "]")
end

local function encode_object(out, t, indent, depth)
  if next(t) == nil then return add(out, "{}") end
  local inner = indent and indent .. "  "
  add(out, "{")
  for i, k in ipairs(keys_of(t)) do
    if i > 1 then add(out, ",") end
    if inner then add(out, "\n" .. inner) end
    add(out, text_of(k))
    add(out, inner and ": " or ":")
    encode(out, t[k], inner, depth)
  end
  if inner then add(out, "\n" .. indent) end
  add(out, "}")
end

function encode(out, value, indent, depth)
  if type(value) ~= "table" then return add(out, plain(value)) end
  if depth > 100 then error("JSON cannot express a table that is nested too deeply or contains itself", 0) end
  return (M.is_array(value) and encode_array or encode_object)(out, value, indent, depth + 1)
end

-- The text of a value; indented where `pretty`. Raises on what JSON cannot express.
function M.encode(value, pretty)
  local out = { n = 0, chunks = {} }
  encode(out, value, pretty and "" or nil, 0)
  out.chunks[#out.chunks + 1] = table.concat(out, "", 1, out.n)
  return table.concat(out.chunks)
end

-- ---- writing what must not be lost ----

local DEEPEST = 90

local scrub

local function scrub_table(value, place, lost, depth, within)
  local list, copy = M.is_array(value), {}
  within[value] = true
  for k, v in next, value do
    local name = list and ("[%d]"):format(k) or tostring(k)
    local at = list and place .. name or (place == "" and name or place .. "." .. name)
    copy[list and k or name] = scrub(v, at, lost, depth + 1, within)
  end
  within[value] = nil
  return setmetatable(copy, list and Array or getmetatable(value))
end

-- A copy in which what JSON cannot express is null; `lost` gets the places.
function scrub(value, place, lost, depth, within)
  local kind = type(value)
  local fits = kind == "string" or kind == "boolean" or value == null or kind == "number" and M.is_finite(value)
  if fits then return value end
  if kind == "table" and depth < DEEPEST and not within[value] then
    return scrub_table(value, place, lost, depth, within)
  end
  lost[#lost + 1] = ("%s (%s)"):format(place, kind == "number" and tostring(value)
    or kind == "table" and (within[value] and "a table that contains itself" or "nested too deeply") or "a " .. kind)
  return null
end

-- The text of a value, whatever it holds, and a list of the places where null stands for what JSON cannot express.
function M.encode_all(value, pretty)
  local ok, written = pcall(M.encode, value, pretty)
  if ok then return written, {} end
  local lost = {}
  written = M.encode(scrub(value, "", lost, 0, {}), pretty)
  table.sort(lost)
  return written, lost
end

return M
