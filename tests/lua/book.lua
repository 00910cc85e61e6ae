-- Ledgers that a test makes up: measurements of one figure or two, and the tables of them.
local core = require "knbl.native"
local declaration = require "knbl.results.declaration"
local ledger = require "knbl.results.ledger"
local table_format = require "knbl.format.table"

local M = {}

function M.of(measurements, reports)
  local book = ledger.new { core = core, scenario = "scenarios/x.lua", question = "What?" }
  for _, m in ipairs(measurements) do
    m.test, m.ok = m.test or "tcp_rr", m.ok ~= false and not m.skipped
    book:add(m)
  end
  for _, r in ipairs(reports or {}) do book:report(declaration.declare(core, r)) end
  return book
end

-- The tables as a terminal shows them.
function M.show(book, more)
  local options = { core = core, ascii = false }
  for k, v in pairs(more or {}) do options[k] = v end
  return table_format.render(book.data, options)
end

-- A measurement of tcp_rr with this rate.
function M.rr(case, rate, more)
  local m = { case = case, metrics = { rate_per_s = rate, latency_ns = { p99 = 5e6 / rate, mean = 1e6 / rate } } }
  for k, v in pairs(more or {}) do m[k] = v end
  return m
end

return M
