-- knbl.program.progress - progress on standard error: on a terminal a table that fills as measurements end, and below
-- it a line with a bar; else a line for each measurement. The report is printed at the end, on standard output.
local expect = require "knbl.results.expect"
local figures = require "knbl.results.figures"
local ledger = require "knbl.results.ledger"
local text = require "knbl.base.text"

local M = {}

local Progress = {}
Progress.__index = Progress

-- How wide the columns of the table are: of what is planned, or of what usually is.
local function widths_of(entries, columns)
  local test, case = 4, 4
  for _, entry in ipairs(entries or {}) do
    test = math.max(test, #entry.test)
    case = math.max(case, text.width(M.subject(entry)))
  end
  if not entries then test, case = 12, 30 end
  return { test, math.max(10, math.min(case, columns - test - 34)), 12, 10 }
end

-- context: { core, write = function(text), terminal = bool, ascii = bool, columns?, total?, seconds?, about?,
-- planned? = the entries that are to be measured }
function M.new(context)
  local columns = context.columns or 80
  return setmetatable({
    core = context.core, write = context.write, terminal = context.terminal, ascii = context.ascii, columns = columns,
    total = context.total, seconds = context.seconds or 0, about = context.about, finished = 0, live = false, spent = 0,
    widths = widths_of(context.planned, columns),
  }, Progress)
end

local function duration(seconds)
  if seconds < 60 then return ("%.0fs"):format(seconds) end
  if seconds < 3600 then return ("%dm%02ds"):format(math.floor(seconds / 60), math.floor(seconds % 60)) end
  return ("%dh%02dm"):format(math.floor(seconds / 3600), math.floor(seconds % 3600 / 60))
end
M.duration = duration

-- What a measurement is called beside others of its test.
function M.subject(entry)
  local size = ledger.size(entry)
  local parts = { text.short(text.clean(entry.case), 100) }
  if entry.via then parts[#parts + 1] = "(" .. entry.via .. ")" end
  if size then parts[#parts + 1] = ("%.0f B"):format(size) end
  return table.concat(parts, " ")
end

local function label(entry) return entry.test .. " " .. M.subject(entry) end

-- The headline figure of a measurement so far.
local function so_far(self, progress)
  local elapsed = tonumber(progress.elapsed_s) or 0
  if progress.phase == "warmup" or progress.phase == "connect" or elapsed <= 0 then
    return tostring(progress.phase or "")
  end
  local test = self.entry.test
  if figures.headline(test).name == "throughput" then
    return self.core.format_bits((tonumber(progress.bytes) or 0) * 8 / elapsed)
  end
  return self.core.format_rate((tonumber(progress.ops) or 0) / elapsed)
end

function Progress:clear()
  if self.live then self.write("\r\27[K") end
  self.live = false
end

local function fit(self, line)
  if self.ascii then line = text.ascii(line) end
  while text.width(line) >= self.columns do line = line:gsub("[%z\1-\127\194-\244][\128-\191]*$", "") end
  return line
end

local BAR = 20

-- How much of the plan is done, and how many seconds are left. The time so far tells how far off the plan is.
local function share_of(self)
  local now = self.core.now()
  local done = self.spent + math.min(self.expected or 0, now - self.since)
  local pace = self.spent > 0 and math.max(0.5, math.min(4, (now - self.began) / done)) or 1
  return self.seconds > 0 and math.min(1, done / self.seconds) or 0, math.max(0, self.seconds - done) * pace
end

local function bar(self)
  local share, left = share_of(self)
  local full = math.floor(share * BAR + 0.5)
  local shades = self.ascii and { "#", "." } or { "█", "░" }
  return ("%s%s  %d of %d  %s%s to go  "):format(shades[1]:rep(full), shades[2]:rep(BAR - full), self.finished + 1,
    self.total, self.about and "about " or "", duration(left))
end

function Progress:draw(figure)
  local line = ("%s%s  %s"):format(self.total and bar(self) or "", label(self.entry), figure)
  self.write("\r" .. fit(self, line) .. "\27[K")
  self.live = true
end

function Progress:start(entry, seconds)
  self.entry, self.expected, self.since = entry, seconds, self.core.now()
  self.began = self.began or self.since
  if self.terminal then self:draw("starting") end
end

function Progress:running(progress)
  if self.terminal and type(progress) == "table" then self:draw(so_far(self, progress)) end
end

-- How far a mesh is.
function Progress:mesh(done, total)
  if self.terminal then self:draw(("%d of %d runs"):format(done, total)) end
end

-- A long reason that several measurements share is printed once.
local function skipped(self, entry)
  local reason = text.clean(entry.skipped)
  local again = self.told == reason
  self.told = reason
  return again and #reason > 100 and "skipped, for the same reason" or "skipped: " .. reason
end

local function too_few(entry)
  return ("too_few_samples: %.0f, p99 wants 1000"):format(figures.samples_of { entry } or 0)
end

-- What became of a measurement: why it has no figure, or the figure, its p99 and its flags as texts.
local function outcome(self, entry)
  if entry.skipped then return skipped(self, entry) end
  if expect.as_wanted(entry) then return "unreachable, as expected: " .. text.clean(entry.error.message) end
  if not entry.ok then return "failed: " .. text.clean(entry.error and entry.error.message or "no reason given") end
  local figure = figures.headline(entry.test)
  local p99 = figure.unit ~= "bits" and figures.value(entry, figures.get "p99")
  return nil, figures.show(self.core, figure, figures.value(entry, figure), self.ascii),
    p99 and figures.show(self.core, figures.get "p99", p99, self.ascii), table.concat(entry.flags, ", ")
end

local function as_line(self, entry)
  local why, value, p99, flags = outcome(self, entry)
  if not why then flags = flags:gsub("too_few_samples", function() return too_few(entry) end) end
  return why or ("%s%s%s"):format(value, p99 and ", p99 " .. p99 or "", flags ~= "" and (" (%s)"):format(flags) or "")
end

local function padded(word, width, left)
  local gap = (" "):rep(math.max(0, width - text.width(word)))
  return left and word .. gap or gap .. word
end

local function row(self, cells, rest)
  local parts = {}
  for i, width in ipairs(self.widths) do parts[i] = padded(cells[i] or "", width, i <= 2) end
  return fit(self, table.concat(parts, "  ") .. "  " .. rest):gsub("%s+$", "") .. "\n"
end

local function narrow(word, width)
  while text.width(word) > width do word = word:gsub("[%z\1-\127\194-\244][\128-\191]*$", "") end
  return word
end

-- A row of the table on the terminal. Repeats of what stands there already are left to the report, unless they failed.
function Progress:row(entry)
  local key = label(entry)
  local why, value, p99, flags = outcome(self, entry)
  self.seen = self.seen or {}
  if self.seen[key] and (not why or entry.skipped) then return end
  if not next(self.seen) then self.write(row(self, { "test", "case", "figure", "p99" }, "")) end
  self.seen[key] = true
  local case = narrow(M.subject(entry), self.widths[2])
  if why then
    self.write(fit(self, padded(entry.test, self.widths[1], true) .. "  " .. padded(case, self.widths[2], true) .. "  "
      .. why) .. "\n")
  else
    self.write(row(self, { entry.test, case, value, p99 or "" }, flags))
  end
end

function Progress:done(entry)
  self.finished = self.finished + 1
  self.spent = self.spent + (self.expected or 0)
  self.expected = nil
  if self.terminal then
    self:clear()
    self:row(entry)
    return
  end
  local of = self.total and ("/%d"):format(self.total) or ""
  local line = ("[%d%s] %s: %s"):format(self.finished, of, label(entry), as_line(self, entry))
  self.write((self.ascii and text.ascii(line) or line) .. "\n")
end

-- The end of all measurements: an empty line between the table and the report.
function Progress:close()
  self:clear()
  if self.seen then self.write "\n" end
end

-- Prints a line of its own.
function Progress:say(line)
  self:clear()
  self.write((self.ascii and text.ascii(line) or line) .. "\n")
end

return M
