-- knbl.program.ring - a folder that keeps the latest files of a kind: run-TIME.json, whose names sort by time.
local errors = require "knbl.base.errors"
local file = require "knbl.base.file"

local M = {}

local Ring = {}
Ring.__index = Ring

local MOST = 1073741824

-- Opens a folder, or makes it. What an interrupted write left is removed.
function M.open(core, folder, keep)
  local ok, err = core.make_folder(folder)
  local names = ok and nil
  if ok then names, err = core.list_files(folder) end
  if not names then errors.usage("--dir: %s", err.message) end
  local ring = setmetatable({ core = core, folder = folder, keep = keep, names = {} }, Ring)
  for _, name in ipairs(names) do
    if name:match "^run%-.*%.json$" then ring.names[#ring.names + 1] = name end
    if name:match "^run%-.*%.json%.%x+$" or name:match "^state%.json%.%x+$" then os.remove(ring:path(name)) end
  end
  table.sort(ring.names)
  return ring
end

function Ring:path(name) return self.folder .. "/" .. name end

-- The name of the ledger of a run that started then.
function Ring.name(_, started) return ("run-%s.json"):format(started:gsub("[:-]", "")) end

-- Adds a file and removes the oldest ones beyond `keep`. Returns true, or nil and an error.
function Ring:add(name, text)
  local ok, err = self.core.write_file(self:path(name), text)
  if not ok then return nil, err end
  self.names[#self.names + 1] = name
  while #self.names > self.keep do os.remove(self:path(table.remove(self.names, 1))) end
  return true
end

-- The text of the newest file, or nil.
function Ring:newest()
  local name = self.names[#self.names]
  return name and file.read(self:path(name), MOST, true) or nil
end

return M
