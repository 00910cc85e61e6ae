-- knbl.measure - what a verb does: its call is checked (knbl.measure.request), carried out and entered into the ledger
-- (knbl.measure.perform).
local during = require "knbl.measure.during"
local errors = require "knbl.base.errors"
local perform = require "knbl.measure.perform"
local request = require "knbl.measure.request"

local M = {}

-- Runs measurements at the same time. Returns their results in the same order, in which the ledger has them too,
-- whichever ends first. All are checked before one is started.
function M.together(s, list)
  if type(list) ~= "table" or #list == 0 then errors.misuse("knbl.together takes a list of measurements") end
  s:check_words()
  local jobs, meanwhile = {}, during.take(s, "knbl.together", list)
  for i, t in ipairs(list) do
    local asked = request.member(s, i, t, meanwhile)
    asked.beside = #list > 1
    jobs[i] = { asked, asked.specs[1] }
  end
  return perform.all(s, jobs, meanwhile)
end

-- Runs what a verb asks for. One size: the result; a list of sizes: a list of results, whose `ok` says that all went
-- well.
function M.run(s, test, t)
  local asked = request.of(s, test, t)
  s:check_words()
  local results = { ok = true }
  for i, spec in ipairs(asked.specs) do
    results[i] = perform.all(s, { { asked, spec } }, asked.during)[1]
    results.ok = results.ok and results[i].ok
  end
  if not asked.is_list then return results[1] end
  return results
end

return M
