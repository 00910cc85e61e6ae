-- knbl.measure.ready - how soon a change is known everywhere: probes from several ends to one, a change meanwhile, and
-- from each probe's timeline when the new state was first seen and the old one last.
--
--   knbl.ready { from = { a, b }, to = service, change = function() kube:patch(…) end }
local check = require "knbl.base.check"
local errors = require "knbl.base.errors"
local clusters = require "knbl.cluster"
local during = require "knbl.measure.during"
local measure = require "knbl.measure"
local tests = require "knbl.base.tests"

local M = { before = "300ms", settle = "2s", within = "60s" }

local own = check.set "from change before settle within"

-- The test that makes attempts at fixed times.
local function prober()
  for _, test in ipairs(tests.list) do
    if test.headline == "outage_longest" then return test.name end
  end
end

-- One probe for each end, each with all other keys. Of several ends each is a measurement of its own, by its name.
local function probes_of(s, t)
  local ends = clusters.is(t.from) and { t.from } or t.from
  if type(ends) ~= "table" or #ends == 0 then
    errors.misuse("knbl.ready: from is required: a pod or node, or a list of them")
  end
  local list, case = {}, check.case(t) or s.labels_case
  for i, from in ipairs(ends) do
    local probe = { test = prober(), from = from, duration = t.within or M.within }
    for key, value in pairs(t) do
      if not own[key] then probe[key] = value end
    end
    if #ends > 1 and type(case) == "string" and clusters.is(from) then
      probe.case = ("%s, from %s"):format(case, from.name)
    end
    list[i] = probe
  end
  return list
end

-- Returns the results, one for each end of `from`.
function M.run(s, t)
  if type(t) ~= "table" then errors.misuse("knbl.ready takes a table: { from = …, to = …, change = function … }") end
  if type(t.change) ~= "function" then
    errors.misuse("knbl.ready: change must be a function, got %s", errors.kind(t.change))
  end
  for _, key in ipairs { "during", "duration", "test" } do
    if t[key] ~= nil then
      errors.misuse("knbl.ready: unknown key '%s': it takes change, before, settle and within", key)
    end
  end
  for _, key in ipairs { "before", "settle", "within" } do
    if t[key] ~= nil then during.seconds(s, "knbl.ready: " .. key, t[key]) end
  end
  local list = probes_of(s, t)
  list.settle, list.ready = t.settle or M.settle, true
  function list.during(mark)
    mark.wait(t.before or M.before)
    mark "change"
    t.change(mark)
    mark "changed"
  end
  return measure.together(s, list)
end

return M
