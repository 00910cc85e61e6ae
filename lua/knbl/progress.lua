-- knbl.progress - what is going on, on standard error: a live line on a terminal, a plain line for each finished measurement elsewhere.
local figures = require "knbl.figures"
local text = require "knbl.text"

local M = {}

local Progress = {}
Progress.__index = Progress

-- context: { core, write = function(text), terminal = bool, ascii = bool, columns?, total?, seconds?, about? }
function M.new(context)
  local self = setmetatable({
    core = context.core, write = context.write, terminal = context.terminal, ascii = context.ascii, columns = context.columns or 80,
    total = context.total, seconds = context.seconds or 0, about = context.about, finished = 0, live = false, spent = 0,
  }, Progress)
  return self
end

local function duration(seconds)
  if seconds < 60 then return ("%.0fs"):format(seconds) end
  if seconds < 3600 then return ("%dm%02ds"):format(math.floor(seconds / 60), math.floor(seconds % 60)) end
  return ("%dh%02dm"):format(math.floor(seconds / 3600), math.floor(seconds % 3600 / 60))
end
M.duration = duration

local function label(entry)
  local size = entry.params and entry.params.size
  local parts = { entry.test, text.short(text.clean(entry.case), 100) }
  if entry.via then parts[#parts + 1] = "(" .. entry.via .. ")" end
  if type(size) == "number" and (entry.test == "tcp_bw" or entry.test == "tcp_lat") then parts[#parts + 1] = ("%.0f B"):format(size) end
  return table.concat(parts, " ")
end

-- The figure that stands for what a measurement has given so far.
local function so_far(self, progress)
  local elapsed = tonumber(progress.elapsed_s) or 0
  if progress.phase == "warmup" or progress.phase == "connect" or elapsed <= 0 then return tostring(progress.phase or "") end
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

function Progress:draw(figure)
  local left = ""
  if self.total then
    local remaining = math.max(0, self.seconds - self.spent - (self.core.now() - self.since))
    left = ("  %d of %d, %s%s to go"):format(self.finished + 1, self.total, self.about and "about " or "", duration(remaining))
  end
  self.write("\r" .. fit(self, ("%s  %s%s"):format(label(self.entry), figure, left)) .. "\27[K")
  self.live = true
end

function Progress:start(entry, seconds)
  self.entry, self.expected, self.since = entry, seconds, self.core.now()
  if self.terminal then self:draw("starting") end
end

function Progress:running(progress)
  if self.terminal and type(progress) == "table" then self:draw(so_far(self, progress)) end
end

-- A long reason is told once where it stands for several in turn.
local function skipped(self, entry)
  local reason = text.clean(entry.skipped)
  local again = self.told == reason
  self.told = reason
  return again and #reason > 100 and "skipped, for the same reason" or "skipped: " .. reason
end

local function outcome(self, entry)
  if entry.skipped then return skipped(self, entry) end
  if not entry.ok then return "failed: " .. text.clean(entry.error and entry.error.message or "no reason given") end
  local figure = figures.headline(entry.test)
  local shown = figures.show(self.core, figure, figures.value(entry, figure), self.ascii)
  local p99 = figure.unit ~= "bits" and figures.value(entry, figures.get "p99")
  if p99 then shown = ("%s, p99 %s"):format(shown, figures.show(self.core, figures.get "p99", p99, self.ascii)) end
  if #entry.flags > 0 then shown = shown .. " (" .. table.concat(entry.flags, ", ") .. ")" end
  return shown
end

function Progress:done(entry)
  self.finished = self.finished + 1
  self.spent = self.spent + (self.expected or 0)
  self.expected = nil
  if self.terminal then
    self:clear()
    return
  end
  local of = self.total and ("/%d"):format(self.total) or ""
  local line = ("[%d%s] %s: %s"):format(self.finished, of, label(entry), outcome(self, entry))
  self.write((self.ascii and text.ascii(line) or line) .. "\n")
end

-- A line of its own, whatever else is on the screen.
function Progress:say(line)
  self:clear()
  self.write((self.ascii and text.ascii(line) or line) .. "\n")
end

return M
