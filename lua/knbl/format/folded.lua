-- knbl.format.folded - the profiles as folded stacks, a line each, for other people's tools: "tcp_rr
-- Service;knbl:client;main;…;tcp_sendmsg 12".
local profile = require "knbl.results.profile"

local M = {}

-- Semicolons part frames, and a line's last word is its count.
local function clean(name) return (name:gsub("[;\r\n]", ",")) end

function M.render(data)
  local sums, order = {}, {}
  for _, m in ipairs(data.measurements) do
    for _, p in ipairs(type(m.profile) == "table" and m.profile or {}) do
      for i, count in ipairs(profile.valid(p) and p.counts or {}) do
        if count > 0 then
          local parts, at = {}, i
          while at > 0 do
            table.insert(parts, 1, clean(p.frames[p.names[at] + 1]))
            at = p.parents[at]
          end
          table.insert(parts, 1, clean(("%s %s"):format(m.test, m.case or "")))
          local stack = table.concat(parts, ";")
          if not sums[stack] then order[#order + 1] = stack end
          sums[stack] = (sums[stack] or 0) + count
        end
      end
    end
  end
  for i, stack in ipairs(order) do order[i] = ("%s %.0f\n"):format(stack, sums[stack]) end
  return table.concat(order), #order == 0 and profile.none(data) or nil
end

return M
