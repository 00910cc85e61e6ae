-- knbl.base.text - text for people: valid UTF-8, width on a terminal, padding, plain ASCII.
local M = {}

-- The length of the UTF-8 sequence at `i` in bytes, or nil if it is invalid.
local function sequence(s, i)
  local a, b, c, d = s:byte(i, i + 3)
  if a < 0x80 then return 1 end
  local function tail(x) return x and x >= 0x80 and x < 0xC0 end
  if a >= 0xC2 and a < 0xE0 and tail(b) then return 2 end
  if a >= 0xE0 and a < 0xF0 and tail(b) and tail(c) and not (a == 0xE0 and b < 0xA0)
    and not (a == 0xED and b > 0x9F) then
    return 3
  end
  if a >= 0xF0 and a < 0xF5 and tail(b) and tail(c) and tail(d) and not (a == 0xF0 and b < 0x90)
    and not (a == 0xF4 and b > 0x8F) then
    return 4
  end
end

-- Replaces invalid UTF-8 with U+FFFD.
function M.valid(s)
  if not s:find("[\128-\255]") then return s end
  local out, i = {}, 1
  while i <= #s do
    local n = sequence(s, i)
    out[#out + 1] = n and s:sub(i, i + n - 1) or "\239\191\189"
    i = i + (n or 1)
  end
  return table.concat(out)
end

-- Replaces characters that change the direction of the text after them (U+202A to U+202E, U+2066 to U+2069).
function M.undirected(s)
  return (s:gsub("\226\128[\170-\174]", "?"):gsub("\226\129[\166-\169]", "?"))
end

-- For a terminal or a line of its own: no control characters, so no escape sequences and no line breaks.
function M.clean(s)
  return M.undirected((M.valid(tostring(s)):gsub("[%z\1-\31\127]", "?"):gsub("\194[\128-\159]", "?")))
end

-- For messages of several lines: the same, but line breaks and tabs stay.
function M.printable(s)
  return M.undirected((M.valid(tostring(s)):gsub("[%z\1-\8\11-\31\127]", "?"):gsub("\194[\128-\159]", "?")))
end

-- Columns on a terminal: one for each character, two for the wide ones of East Asia.
function M.width(s)
  local n = 0
  for a, rest in s:gmatch("([%z\1-\127\194-\244])([\128-\191]*)") do
    local wide
    if #rest >= 2 then
      local code = #rest == 2 and (a:byte() % 16) * 4096 + (rest:byte(1) % 64) * 64 + rest:byte(2) % 64 or 0x1F300
      wide = code >= 0x1100 and (code <= 0x115F or code >= 0x2E80 and code <= 0xA4CF or code >= 0xAC00
        and code <= 0xD7A3
        or code >= 0xF900 and code <= 0xFAFF or code >= 0xFE30 and code <= 0xFE6F or code >= 0xFF00 and code <= 0xFF60
        or code == 0x1F300)
    end
    n = n + (wide and 2 or 1)
  end
  return n
end

-- Shortens a text to at most `most` columns.
function M.short(s, most)
  if M.width(s) <= most then return s end
  local list, width = {}, 0
  for character in s:gmatch "[%z\1-\127\194-\244][\128-\191]*" do
    width = width + M.width(character)
    if width >= most then break end
    list[#list + 1] = character
  end
  return table.concat(list) .. "…"
end

function M.pad(s, width, right)
  local space = (" "):rep(math.max(0, width - M.width(s)))
  return right and space .. s or s .. space
end

local plain = { ["µ"] = "u", ["–"] = "-", ["—"] = "-", ["→"] = "->", ["×"] = "x", ["─"] = "-", ["·"] = "|",
  ["±"] = "+-", ["…"] = "...",
  ["≥"] = ">=", ["≤"] = "<=", ["✓"] = "ok", ["✗"] = "FAILED" }
-- Converts the characters that knbl writes to ASCII; all others become "?".
function M.ascii(s)
  return (s:gsub("[\194-\244][\128-\191]+", function(c) return plain[c] or "?" end))
end

-- Breaks a text into lines of at most `width` columns, at spaces.
function M.wrap(s, width)
  local lines, line = {}, ""
  for word in s:gmatch("%S+") do
    if line ~= "" and M.width(line) + 1 + M.width(word) > width then
      lines[#lines + 1] = line
      line = word
    else
      line = line == "" and word or line .. " " .. word
    end
  end
  lines[#lines + 1] = line
  return lines
end

-- A number by two digits, or by all those before its point: never "1e+02".
function M.rough(x) return (math.abs(x) < 99.5 and "%.2g" or "%.0f"):format(x) end

return M
