-- knbl.base.tests - what each test is, as the engines describe it (core.tests()): its transport, its shape, the figure
-- that stands for it. Nothing else in this library knows a test by its name.
local native = require "knbl.native"

local M = { list = native.tests(), names = {} }

local by_name = {}
for i, test in ipairs(M.list) do M.names[i], by_name[test.name] = test.name, test end

-- A test of a newer version, in a ledger that is read.
local unknown = { shape = "rr", headline = "rate", columns = { "rate", "mean", "p50", "p99" }, compare = { "rate" },
  aliases = {} }

-- What knbl.metric enters: no engine's, a figure of the script's own.
by_name.metric = { name = "metric", shape = "metric", headline = "value", columns = { "value" }, compare = { "value" },
  aliases = {} }

function M.known(name) return by_name[name] ~= nil and name ~= "metric" end

function M.of(name) return by_name[name] or unknown end

-- The names of the tests for which `fits` holds: "http and ping".
function M.names_of(fits)
  local list = {}
  for _, test in ipairs(M.list) do
    if fits(test) then list[#list + 1] = test.name end
  end
  local last = table.remove(list)
  return #list > 0 and table.concat(list, ", ") .. " and " .. last or last or "no test"
end

return M
