-- knbl.format.json - the ledger itself. A script may have put anything into what it was given: a number that JSON does
-- not have is written as null, so that everything else is kept.
local json = require "knbl.json"

local M = {}

-- The text, and a message where something in it is null for want of a better.
function M.render(data)
  local written, lost = json.encode_all(data, true)
  if #lost == 0 then return written .. "\n" end
  local more = #lost > 3 and (" and %d more"):format(#lost - 3) or ""
  local named = table.concat(lost, ", ", 1, math.min(#lost, 3))
  return written .. "\n", ("JSON cannot express %s%s: written as null"):format(named, more)
end

return M
