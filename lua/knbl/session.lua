-- knbl.session - one run of one scenario: its settings, its ledger, its clusters, and what it is doing.
--
-- The program makes a session before it loads the script. A script that a plain lua5.4 or luajit runs gets one of its own
-- at its first use of the library, which prints its tables when the interpreter ends.
local native = require "knbl.native"
local errors = require "knbl.errors"

local M = {}

local Session = {}
Session.__index = Session

local current

-- settings: the program's flags (see cli.lua). context: { script, question, words, ledger, progress, plan, core, shared }.
function M.new(settings, context)
  local self = setmetatable({
    settings = settings or {}, core = context.core or native, script = context.script, question = context.question,
    words = context.words or {}, ledger = context.ledger, progress = context.progress, plan = context.plan,
    shared = context.shared, expected = context.expected, clusters = {}, labels = nil, round = 1, options_called = false,
  }, Session)
  return self
end

-- Makes `session` the current one; returns the one before.
function M.use(session)
  local before = current
  current = session
  return before
end

-- A script's own flags. Once a run.
function Session:options(declaration)
  local options = require "knbl.options"
  if self.options_called == self.round then errors.misuse("knbl.options was called before: one call declares all options") end
  local flags = options.declare(declaration)
  self.options_called, self.flags = self.round, flags
  if self.on_help then self.on_help(flags) end
  if self.help then error(errors.new("help", "help"), 0) end
  local values = options.resolve(self.core, flags, self.words, self.settings, self.script or "the script", self.shared)
  if self.ledger then self.ledger:set_options(values) end
  return values
end

-- Words on the command line that nobody asked for are refused before anything is measured.
function Session:check_words()
  if self.options_called or #self.words == 0 then return end
  require("knbl.options").resolve(self.core, {}, self.words, {}, self.script or "the script", self.shared)
end

function Session:add_cluster(cluster)
  self.clusters[#self.clusters + 1] = cluster
end

-- Closes what the script left open; returns whether anything was.
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
  local cli = require "knbl.cli"
  local words = rawget(_G, "arg") or {}
  local session, finish = cli.standalone(words)
  local function at_exit()
    local verdict = finish(session)
    if verdict ~= 0 then os.exit(verdict) end -- what the interpreter would give says only whether the script failed
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

-- What the command line of the session says, if there is one.
function M.settings() return current and current.settings or {} end

function M.current()
  if not current then current = standalone() end
  return current
end

return M
