-- knbl list - the built-in scenarios, each with the question in its first line.
local errors = require "knbl.errors"
local scenario = require "knbl.scenario"

local M = { summary = "The scenarios that are built in, each with its question.", usage = "knbl list" }

function M.run(context, _, words)
  if words[1] then errors.usage("'%s' is too much: knbl list takes no words", words[1]) end
  for _, name in ipairs(scenario.names(context.core)) do
    local text = scenario.find(context.core, name)
    context.out(("%-18s %s\n"):format(name, text and scenario.question(text) or ""))
  end
  return 0
end

return M
