-- knbl show NAME - prints a built-in scenario.
local errors = require "knbl.base.errors"
local scenario = require "knbl.program.scenario"

local M = { summary = "Prints a built-in scenario.", usage = "knbl show NAME" }

function M.run(context, _, words)
  if #words ~= 1 then errors.usage("usage: %s; knbl list prints the names", M.usage) end
  local text, err = scenario.find(context.core, words[1])
  if not text then errors.usage("%s", err) end
  context.out(text)
  return 0
end

return M
