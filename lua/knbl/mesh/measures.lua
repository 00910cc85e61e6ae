-- knbl.mesh.measures - which figures of a test a mesh fits, and on what scale: the logarithm, and for loss that of the
-- loss and a little, since none is the usual.
local figures = require "knbl.results.figures"
local tests = require "knbl.base.tests"

local M = {}

local LOSS_FLOOR = 0.001 -- a loss below says little: a thousand packets have one or none

local function loss_to(value) return math.log(value + LOSS_FLOOR) end
local function loss_from(y) return math.max(0, math.exp(y) - LOSS_FLOOR) end

local latency = { { name = "p50", worse = 1 }, { name = "mean", worse = 1 } }
local throughput = { { name = "throughput", worse = -1 } }
-- the noise is at least that of a loss of one packet or none
local loss = { { name = "loss", worse = 1, to = loss_to, from = loss_from, noise_least = 0.35, absolute = true } }

-- The kind of a test in a mesh: "bandwidth", "latency", "loss", "mtu"; nil where a mesh cannot take it.
function M.kind(name)
  local test = tests.known(name) and tests.of(name)
  if not test or not test.needs_agent then return nil end
  if test.headline == "mtu" then return "mtu" end
  if test.shape == "probe" then return nil end
  if test.shape ~= "bulk" then return "latency" end
  return test.transport == "udp" and "loss" or "bandwidth"
end

-- The figures of a test: { { name, worse = 1 | -1, to(value) -> y, from(y) -> value, … }… }; none for the path MTU.
function M.of(name)
  local kind = M.kind(name)
  return kind == "mtu" and {} or kind == "loss" and loss or kind == "bandwidth" and throughput or latency
end

-- A figure of a result, as the fit takes it, or nil.
function M.value(result, measure)
  local value = figures.value({ metrics = result.metrics or {} }, figures.get(measure.name))
  if not value then return nil end
  if measure.to then return measure.to(value), value end
  if value <= 0 then return nil end
  return math.log(value), value
end

-- What an effect on the scale of the fit is worth: the relative change, or of a loss its difference from the usual.
function M.change(measure, effect, middle)
  if measure.absolute then return measure.from(middle + effect) - measure.from(middle) end
  return math.exp(effect) - 1
end

return M
