-- knbl list - the built-in scenarios, each with the question that it answers.
local errors = require "knbl.base.errors"
local scenario = require "knbl.program.scenario"

local M = { summary = "Lists the built-in scenarios, each with the question that it answers.", usage = "knbl list" }

function M.run(context, _, words)
  if words[1] then errors.usage("unexpected argument '%s'", words[1]) end
  for _, name in ipairs(scenario.names(context.core)) do
    local text = scenario.find(context.core, name)
    context.out(("%-18s %s\n"):format(name, text and scenario.question(text) or ""))
  end
  return 0
end

return M
