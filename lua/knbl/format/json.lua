-- knbl.format.json - the ledger itself.
local json = require "knbl.json"

local M = {}

function M.render(data)
  return json.encode(data, true) .. "\n"
end

return M
