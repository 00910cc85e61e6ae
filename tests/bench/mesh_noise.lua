-- mesh_noise.lua - how much the figures of the same pair vary from one mesh to the next: measures all pairs of four
-- pods of a lab NOISE_MESHES (16) times as a mesh does, without a limit on their links and with 1 Gbit/s each, and
-- prints the table of tests/lua/mesh_noise.lua, from which the simulated meshes take their noise. About 15 minutes.
local knbl = require "knbl"
local numbers = require "knbl.mesh.numbers"

local MESHES = tonumber(os.getenv "NOISE_MESHES") or 16
local DURATION = os.getenv "NOISE_DURATION" or "1s"
local FIGURES = {
  tcp_lat = function(m) return m.latency_ns.p50, m.latency_ns.mean end,
  tcp_stream = function(m) return m.throughput_bps end,
}

local function measured(links)
  local cluster <close> = knbl.cluster { provider = "lab", nodes = 4 }
  local pods, values, loss = {}, { tcp_lat = {}, tcp_stream = {} }, {}
  for i = 1, 4 do pods[i] = cluster:pod { name = "noise-" .. i, node = i, bandwidth = links } end
  for turn = 1, MESHES do
    io.stderr:write(("%s: mesh %d of %d\n"):format(links or "open", turn, MESHES))
    local mesh = knbl.mesh { nodes = pods, duration = DURATION, tests = { "tcp_lat", "tcp_stream", "udp_stream" } }
    for _, run in ipairs(mesh.pairs) do
      local name = run.from .. " > " .. run.to
      if run.ok and run.test == "udp_stream" then loss[#loss + 1] = run.metrics.loss_ratio
      elseif run.ok then
        values[run.test][name] = values[run.test][name] or {}
        table.insert(values[run.test][name], { FIGURES[run.test](run.metrics) })
      end
    end
  end
  return values, loss
end

-- What is left of the logarithms of a pair's figures without their median, as rows of one or two figures. The median is
-- of the same values: that is made up for.
local function residuals(by_pair)
  local rows = {}
  for _, list in pairs(by_pair) do
    local widen, middle = math.sqrt(#list / math.max(1, #list - 1)), {}
    for f = 1, #list[1] do
      local column = {}
      for k, row in ipairs(list) do column[k] = math.log(row[f]) end
      middle[f] = numbers.median(column)
    end
    for _, row in ipairs(list) do
      local out = {}
      for f, value in ipairs(row) do out[f] = (math.log(value) - middle[f]) * widen end
      rows[#rows + 1] = out
    end
  end
  table.sort(rows, function(a, b) return a[1] < b[1] end)
  return rows
end

local function deviation(rows, f)
  local column = {}
  for k, row in ipairs(rows) do column[k] = row[f] end
  return numbers.root_mean_square(column), numbers.spread(column)
end

-- The numbers of rows, in lines of at most 120 characters.
local function written(rows)
  local lines, line = {}, "     "
  for _, row in ipairs(rows) do
    local one = {}
    for f, value in ipairs(row) do one[f] = ("%.3f"):format(value) end
    local cell = #one > 1 and (" { %s },"):format(table.concat(one, ", ")) or (" %s,"):format(one[1])
    if #line + #cell > 119 then lines[#lines + 1], line = line, "     " end
    line = line .. cell
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n")
end

local function tell(name, links)
  local values, loss = measured(links)
  print(("  %s = {"):format(name))
  for _, test in ipairs { "tcp_lat", "tcp_stream" } do
    local rows = residuals(values[test])
    for f = 1, #rows[1] do
      local whole, middle = deviation(rows, f)
      print(("    -- %s, %s: deviation %.3f, of the middle half %.3f, %d values"):format(test,
        test == "tcp_stream" and "throughput" or f == 1 and "median" or "mean", whole, middle, #rows))
    end
    print(("    %s = {\n%s\n    },"):format(test, written(rows)))
  end
  local none, most = 0, 0
  for _, value in ipairs(loss) do
    none, most = none + (value == 0 and 1 or 0), math.max(most, value)
  end
  print(("    -- udp_stream: %d of %d runs lost nothing, the worst lost %.4f %%\n  },"):format(none, #loss, most * 100))
end

print "return {"
tell("open", nil)
tell("limited", "1Gbit/s")
print "}"
