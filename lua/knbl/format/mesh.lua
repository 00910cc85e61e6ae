-- knbl.format.mesh - a mesh as text: the verdict, the maps, the worst nodes. The page has the same (html_mesh).
local columns = require "knbl.format.columns"
local figures = require "knbl.results.figures"
local text = require "knbl.base.text"

local M = {}

local titles = { p50 = "latency (median)", throughput = "throughput", loss = "loss", mean = "mean latency" }
function M.title(figure) return titles[figure] or figure end

-- How much worse than usual a cell is: 0 (not), 1 from 5 %, 2 from 20 %, 3 from 50 %, 4 from the double (or half) on.
function M.level(figure, change)
  local ratio = 1 + change
  if figures.get(figure).better == "more" then ratio = ratio > 0 and 1 / ratio or math.huge end
  return ratio >= 2 and 4 or ratio >= 1.5 and 3 or ratio >= 1.2 and 2 or ratio >= 1.05 and 1 or 0
end

M.level_names = { "5 %", "20 %", "50 %", "twice" }

local marks = { [0] = "·", "░", "▒", "▓", "█" }
local ascii_marks = { [0] = ".", "-", "+", "*", "#" }

local plans = { all = "every pair, both ways", sample = "random partners", levels = "racks, zones and random partners" }

local function duration(seconds)
  if seconds < 60 then return ("%.0f s"):format(seconds) end
  return ("%d min %d s"):format(math.floor(seconds / 60), math.floor(seconds % 60))
end

-- What was done, in a sentence.
function M.summary(mesh)
  local tests, runs, failed = {}, 0, 0
  for i, one in ipairs(mesh.tests) do
    tests[i], runs, failed = one.test, runs + #one.pairs + #one.failed, failed + #one.failed
  end
  local partners = mesh.plan.partners and (" (%d of each node)"):format(mesh.plan.partners) or ""
  local parts = { ("Mesh of %d nodes by %s%s: %s; %d runs"):format(#mesh.nodes, plans[mesh.plan.kind] or
    mesh.plan.kind, partners, table.concat(tests, ", "), runs) }
  if failed > 0 then parts[1] = ("%s, %d of which failed"):format(parts[1], failed) end
  parts[2] = ("%s, %d requests"):format(duration(mesh.cost.seconds or 0), mesh.cost.requests or 0)
  if mesh.cost.clock_error_ns then
    parts[3] = ("clocks known to %s ms"):format(text.rough(mesh.cost.clock_error_ns / 1e6))
  end
  return table.concat(parts, ", ")
end

-- What is usual by a figure, the noise, and what would have been found.
function M.usual(core, figure, ascii)
  local more = figure.partners
    and ("; %.0f partners of each node would be enough for this noise"):format(figure.partners) or ""
  local shown = figures.show(core, figures.get(figure.figure), figure.usual, ascii)
  if figure.figure == "loss" then
    return ("usual %s; a node that loses %s %% more would be found"):format(shown,
      text.rough((figure.finds or 0) * 100))
  end
  local slower, noise = figure.figure == "throughput", text.rough((figure.noise or 0) * 100)
  if (figure.finds or math.huge) > (slower and 0.9 or 3) then
    return ("usual %s, noise of one pair %s %%: too few pairs, or too much noise, to find a small difference%s")
      :format(shown, noise, more)
  end
  local found = not figure.finds and "" or figure.finds < 1 and ("; a node %.2g %% %s would be found"):format(
    figure.finds * 100, slower and "slower" or "later")
    or ("; a node %.2g times as late would be found"):format(figure.finds + 1)
  return ("usual %s, noise of one pair %s %%%s%s"):format(shown, noise, found, more)
end

function M.missing(mesh)
  local list = {}
  for i, one in ipairs(mesh.missing) do list[i] = ("%s: %s"):format(one.node, one.reason) end
  if #list > 10 then list[11] = ("and %d more"):format(#list - 10) end
  return table.concat(list, "; ", 1, math.min(11, #list))
end

-- ---- the map ----

-- The cells of a figure by row and column.
function M.grid(figure)
  local by = {}
  for _, cell in ipairs(figure.cells or {}) do
    by[cell[1]] = by[cell[1]] or {}
    by[cell[1]][cell[2]] = cell[3]
  end
  return by
end

local function paint(options, colour, s)
  return columns.paint(options, colour, options.ascii and text.ascii(s) or s)
end

local function map(mesh, one, figure, options, out)
  local n, by = #mesh.groups, M.grid(figure)
  local widest = 0
  for _, group in ipairs(mesh.groups) do widest = math.max(widest, text.width(text.clean(group.name))) end
  widest = math.min(widest, 28)
  local each = options.columns and widest + 2 + 2 * n > options.columns and 1 or 2
  if options.columns and widest + 2 + each * n > options.columns then return end
  local sign = options.ascii and ascii_marks or marks
  local key = {}
  for k, name in ipairs(M.level_names) do key[k] = sign[k] .. " " .. name end
  local title = ("%s, %s: client down, server across"):format(one.test, M.title(figure.figure))
  out[#out + 1] = paint(options, "bold", title)
  columns.remark("", M.usual(options.core, figure, options.ascii), options, out)
  columns.remark("", ("%s usual, worse by %s or more"):format(sign[0], table.concat(key, ", ")), options, out)
  local zone = nil
  for r, group in ipairs(mesh.groups) do
    local cells = {}
    if group.zone and group.zone ~= zone then
      out[#out + 1] = paint(options, "dim", "zone " .. text.clean(group.zone))
    end
    zone = group.zone
    for c = 1, n do
      local change = by[r] and by[r][c]
      local level = change and M.level(figure.figure, change)
      local shown = level and sign[level] or " "
      cells[c] = level and level >= 2 and paint(options, level >= 3 and "red" or "yellow", shown) or shown
    end
    local name = text.pad(text.short(text.clean(group.name), widest), widest)
    out[#out + 1] = (name .. "  " .. table.concat(cells, each == 2 and " " or "")):gsub("%s+$", "")
  end
  out[#out + 1] = ""
end

-- ---- the worst nodes ----

-- The rows of the table of the worst nodes: the head, then the rows, all texts. nil where there is nothing to tell.
function M.worst(core, mesh, ascii)
  local rows, percentiles = {}, false
  for _, one in ipairs(mesh.tests) do
    for _, figure in ipairs(one.figures) do
      for k, row in ipairs(figure.worst or {}) do
        if k <= 3 then
          local function change(value)
            if figure.figure == "loss" then return text.rough((value or 0) * 100) .. " %" end
            return ("%+.1f %%"):format((value or 0) * 100)
          end
          local line = { row.node, one.test, M.title(figure.figure), change(row.sender), change(row.receiver) }
          for _, key in ipairs { "p50", "p90", "p99", "p999", "max" } do
            percentiles = percentiles or row[key] ~= nil
            line[#line + 1] = row[key] and figures.show(core, figures.get "p50", row[key], ascii) or "–"
          end
          rows[#rows + 1] = line
        end
      end
    end
  end
  if #rows == 0 then return nil end
  local heads = { "worst nodes", "test", "figure", "as client", "as server", "p50", "p90", "p99", "p99.9", "max" }
  table.insert(rows, 1, heads)
  if not percentiles then
    for _, row in ipairs(rows) do
      for k = 10, 6, -1 do row[k] = nil end
    end
  end
  return rows
end

local function worst(mesh, options, out)
  local rows = M.worst(options.core, mesh, options.ascii)
  if not rows then return end
  columns.layout(columns.lines(rows, { true, true, true }), 3, options, out)
end

-- All meshes of a ledger.
function M.text(data, options)
  local parts = {}
  for _, mesh in ipairs(data.meshes or {}) do
    local out = {}
    for _, one in ipairs(mesh.unsure and {} or mesh.tests) do -- too few nodes to compare have no map
      for _, figure in ipairs(one.figures) do
        if figure.cells then map(mesh, one, figure, options, out) end
      end
    end
    if not mesh.unsure then worst(mesh, options, out) end
    if #out > 0 then out[#out + 1] = "" end
    columns.remark("", M.summary(mesh), options, out)
    for _, note in ipairs(mesh.notes or {}) do columns.remark("! ", note, options, out) end
    if #mesh.missing > 0 then columns.remark("missing: ", M.missing(mesh), options, out) end
    for _, sentence in ipairs(mesh.sentences) do columns.remark("* ", sentence, options, out) end
    parts[#parts + 1] = table.concat(out, "\n") .. "\n"
  end
  return parts
end

return M
