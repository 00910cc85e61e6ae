-- knbl report FILE.json - the tables and files of a run, from its ledger alone.
local errors = require "knbl.errors"
local ledger = require "knbl.ledger"
local output = require "knbl.output"
local text = require "knbl.text"

local M = {
  summary = "Shows the tables of a ledger that --json wrote, and writes it in other formats.",
  usage = "knbl report FILE.json [--html FILE] [--csv FILE] [--markdown FILE] [--junit FILE] …",
  flags = {},
}

-- The flags of results are the program's own.
for _, flag in ipairs(require("knbl.cli").flags) do
  if flag.group == "results" then M.flags[#M.flags + 1] = flag end
end

function M.run(context, values, words)
  if #words ~= 1 then errors.usage("which file? %s", M.usage) end
  local data, err = ledger.read(words[1])
  if not data then errors.usage("%s", err.message) end
  output.prepare(context.core, values)
  output.show(context, data, values)
  local verdict = data.verdict or {}
  local said = verdict.message or verdict.status == "running" and "unfinished: this is what was measured until then"
    or #data.measurements == 0 and "nothing was measured"
  if said then context.err("knbl: " .. text.clean(said) .. "\n") end
  local written = output.write_files(context, { data = data }, values)
  return written and 0 or 1
end

return M
