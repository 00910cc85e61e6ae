-- knbl.base.file - reads whole files, up to a limit.
local M = {}

local PIECE = 65536

local function refusal(path, what) return nil, ("cannot read %s: %s"):format(path, what) end

-- The content of an open file, at most `most` bytes, or nil and what is wrong, with `path` in it. `text` refuses NUL
-- bytes. Closes the file.
function M.read_all(file, path, most, text)
  local pieces, size = {}, 0
  while true do
    local piece, err = file:read(PIECE)
    if not piece and err then
      file:close()
      return refusal(path, err)
    end
    if not piece then break end
    pieces[#pieces + 1], size = piece, size + #piece
    local wrong = text and piece:find("\0", 1, true) and "it is not text: it contains a NUL byte"
      or size > most and ("it is larger than %d bytes"):format(most)
    if wrong then
      file:close()
      return refusal(path, wrong)
    end
  end
  file:close()
  return table.concat(pieces)
end

-- As read_all, by path. On failure the third value is true if there is no such file.
function M.read(path, most, text)
  local file, err, number = io.open(path, "rb")
  if not file then return nil, "cannot read " .. tostring(err), number == 2 end
  return M.read_all(file, path, most, text)
end

-- A token: the first line, without trailing blanks.
function M.read_token(path)
  local text, err = M.read(path, 4096, true)
  if not text then return nil, err end
  local token = text:match("^[^\r\n]*"):gsub("%s+$", "")
  if token:find("%c") then return refusal(path, "the token contains non-printable characters") end
  return token
end

return M
