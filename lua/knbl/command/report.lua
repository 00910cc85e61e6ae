-- knbl report FILE.json - prints a run's tables and writes its files from its ledger.
local errors = require "knbl.base.errors"
local ledger = require "knbl.results.ledger"
local output = require "knbl.program.output"
local text = require "knbl.base.text"

local M = {
  summary = "Prints the tables of a ledger that --json wrote, and writes it in other formats.",
  usage = "knbl report FILE.json [--html FILE] [--csv FILE] [--markdown FILE] [--junit FILE] …",
  flags = {},
}

-- The flags for results are the program's, but those of a run itself.
for _, flag in ipairs(require("knbl.program.cli").flags) do
  if flag.group == "results" and flag.name ~= "json-stream" and flag.name ~= "tag" then M.flags[#M.flags + 1] = flag end
end

function M.run(context, values, words)
  if #words > 1 then errors.usage("report takes one file, got %d; knbl compare and knbl trend take several", #words) end
  if #words ~= 1 then errors.usage("usage: %s", M.usage) end
  local data, err = ledger.read(words[1])
  if not data then errors.usage("%s", err.message) end
  output.prepare(context.core, values)
  output.show(context, data, values)
  local verdict = data.verdict or {}
  local said = verdict.message or verdict.status == "running" and "the run is unfinished: these are its results so far"
    or #data.measurements == 0 and "nothing was measured"
  if said then context.err("knbl: " .. text.clean(said) .. "\n") end
  local written = output.write_files(context, { data = data }, values)
  return written and 0 or 1
end

return M
