-- knbl show NAME - prints a built-in scenario, to copy from.
local errors = require "knbl.errors"
local scenario = require "knbl.scenario"

local M = { summary = "Prints a built-in scenario, to copy from.", usage = "knbl show NAME" }

function M.run(context, _, words)
  if #words ~= 1 then errors.usage("which one? knbl show NAME; `knbl list` has the names") end
  local text, err = scenario.find(context.core, words[1])
  if not text then errors.usage("%s", err) end
  context.out(text)
  return 0
end

return M
