-- knbl.base.errors - the library's errors: tables with `code`, `message` and `position`, which print as text.
--
-- Misuse (code "argument") and failures that are raised carry the position of the script's line: the first frame that
-- is not part of this library.
local M = {}

local here = debug.getinfo(1, "S").source
-- the beginning of the names of this library's chunks: "@lua/knbl/", "@/usr/share/lua/5.4/knbl/", "=knbl/" …
local library = here:gsub("base/errors%.?l?u?a?$", "")

local Error = {}
Error.__index = Error
function Error:__tostring()
  return self.position and self.position .. ": " .. self.message or self.message
end

local function is_library(source)
  return source:sub(1, #library) == library
end

-- "scenarios/x.lua:12" of the innermost frame of a script, or nil.
function M.where()
  local level = 2
  while true do
    local info = debug.getinfo(level, "Sl")
    if not info then return nil end
    if info.what ~= "C" and info.currentline > 0 and not is_library(info.source) then
      return info.short_src .. ":" .. info.currentline
    end
    level = level + 1
  end
end

function M.new(code, message, more)
  local e = setmetatable({ code = code, message = message }, Error)
  for k, v in pairs(more or {}) do e[k] = v end
  return e
end

-- What a value is, for messages: "a table", "nil".
function M.kind(value)
  local kind = type(value)
  return kind == "nil" and kind or "a " .. kind
end

function M.is(value)
  return getmetatable(value) == Error
end

-- Converts any error value: a native {code, message}, or a string.
function M.from(value, code)
  if M.is(value) then return value end
  if type(value) == "table" and value.message then return M.new(value.code or code or "system", value.message) end
  return M.new(code or "system", tostring(value))
end

-- Raises a mistake of the script, at its line.
function M.misuse(format, ...)
  local message = select("#", ...) > 0 and format:format(...) or format
  error(M.new("argument", message, { position = M.where() }), 0)
end

-- Raises a mistake on the command line (exit code 2).
function M.usage(format, ...)
  local message = select("#", ...) > 0 and format:format(...) or format
  error(M.new("usage", message), 0)
end

-- What is not available here: what needs it is skipped, and the run goes on. -> nil, err
function M.skip(format, ...)
  return nil, { code = "skip", message = format:format(...) }
end

-- Raises any other failure, at the script's line; `context` comes before the message.
function M.raise(err, context)
  local e = M.from(err)
  local message = context and context .. ": " .. e.message or e.message
  local raised = M.new(e.code, message, { position = M.where() })
  error(raised, 0)
end

-- The number of frames, by binary search: debug.getinfo takes longer the deeper a frame is.
local function depth()
  local low, high = 1, 2
  while debug.getinfo(high, "l") do low, high = high, high * 2 end
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if debug.getinfo(middle, "l") then low = middle else high = middle end
  end
  return low - 1 -- without this function's frame
end

local innermost, outermost = 20, 8 -- frames of a deep stack that are shown

-- A traceback of the script's own frames, innermost first.
function M.traceback(level)
  local lines, deepest = {}, depth()
  level = (level or 1) + 1
  local leave, from = level + innermost, deepest - outermost
  while true do
    if level == leave and from > leave then
      lines[#lines + 1] = ("  ... %d more"):format(from - leave)
      level = from
    end
    local info = debug.getinfo(level, "Sln")
    if not info then break end
    if info.what ~= "C" and not is_library(info.source) then
      local what = info.what == "main" and "main chunk" or info.name and ("function '" .. info.name .. "'")
        or ("function <" .. info.short_src .. ":" .. info.linedefined .. ">")
      lines[#lines + 1] = ("  %s:%d: in %s"):format(info.short_src, info.currentline, what)
    end
    level = level + 1
  end
  return table.concat(lines, "\n")
end

-- `, did you mean "x"?`, or nothing.
function M.hint(core, word, candidates, quote)
  local near = core.nearest(word, candidates)
  if not near then return "" end
  return (", did you mean %s%s%s?"):format(quote or "'", near, quote or "'")
end

return M
