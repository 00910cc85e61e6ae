-- knbl.measure.session - one run of one scenario: its settings, its ledger, its clusters and its progress.
--
-- The program makes a session before it loads the script. For a script that lua5.4 or luajit runs, the first use of the
-- library makes one; it prints the tables when the interpreter ends.
local native = require "knbl.native"
local errors = require "knbl.base.errors"

local M = {}

local Session = {}
Session.__index = Session

local current

-- settings: the program's options (see cli.lua). context: { core, script, question, words, ledger, progress, plan,
-- shared, expected }.
function M.new(settings, context)
  local self = setmetatable({
    settings = settings or {}, core = context.core or native, script = context.script, question = context.question,
    words = context.words or {}, ledger = context.ledger, progress = context.progress, plan = context.plan,
    shared = context.shared, expected = context.expected, clusters = {}, round = 1, options_called = false,
  }, Session)
  return self
end

-- Makes `session` the current one; returns the previous one.
function M.use(session)
  local before = current
  current = session
  return before
end

-- A script's own options. Once in each round.
function Session:options(declaration)
  local options = require "knbl.measure.options"
  if self.options_called == self.round then
    errors.misuse("knbl.options must be called only once")
  end
  local flags = options.declare(declaration)
  self.options_called, self.flags = self.round, flags
  if self.on_help then self.on_help(flags) end
  if self.help then error(errors.new("help", "help"), 0) end
  local values = options.resolve(self.core, flags, self.words, self.settings, self.script or "the script", self.shared)
  if self.ledger then self.ledger:set_options(values) end
  return values
end

-- Refuses arguments that the script does not take, before anything is measured.
function Session:check_words()
  if self.options_called or #self.words == 0 then return end
  require("knbl.measure.options").resolve(self.core, {}, self.words, {}, self.script or "the script", self.shared)
end

-- How many repeats there are at first. With --until as many as make an interval; more follow until it is narrow.
function Session:first_repeats()
  local most = self.settings.repeats
  if not self.settings["until"] then return most end
  return math.min(most or math.huge, require("knbl.results.narrow").least)
end

-- Whether --until asks for another repeat after so many; `since` is how many measurements stood in the ledger before.
function Session:wants_more(repeats, since)
  if not self.settings["until"] or self.plan or not self.ledger then return false end
  return require("knbl.results.narrow").wanted(self, repeats, since)
end

function Session:add_cluster(cluster)
  self.clusters[#self.clusters + 1] = cluster
end

-- Closes the clusters that the script left open; returns whether there were any.
function Session:close()
  local left = false
  for i = #self.clusters, 1, -1 do
    if not self.clusters[i].closed then
      left = true
      self.clusters[i]:close()
    end
  end
  self.clusters = {}
  return left
end

-- The session of a script that runs without the program.
local function standalone()
  local cli = require "knbl.program.cli"
  local words = rawget(_G, "arg") or {}
  local session, finish = cli.standalone(words)
  local function at_exit()
    local verdict = finish(session)
    if verdict ~= 0 then os.exit(verdict) end -- the interpreter itself only knows whether the script failed
  end
  local proxy = rawget(_G, "newproxy")
  if proxy then
    session.sentinel = proxy(true)
    getmetatable(session.sentinel).__gc = at_exit
  else
    session.sentinel = setmetatable({}, { __gc = at_exit })
  end
  return session
end

-- The options of the command line, if there is a session.
function M.settings() return current and current.settings or {} end

function M.current()
  if not current then current = standalone() end
  return current
end

return M
