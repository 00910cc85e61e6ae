-- knbl watch - a scenario again and again, and what it found at /metrics and on a page.
--
-- This process only waits, starts runs and serves pages. Each run is a child process, and another child reads its
-- ledger (--digest), so that their memory is freed and a crash does not end the watch.
local both = require "knbl.program.both"
local errors = require "knbl.base.errors"
local file = require "knbl.base.file"
local format = require "knbl.format.standing"
local output = require "knbl.program.output"
local ring = require "knbl.program.ring"
local standing = require "knbl.results.standing"

local M = {
  raw = true,
  summary = "Runs a scenario again and again, and serves its figures as OpenMetrics and as a web page.",
  usage = "knbl watch SCENARIO [--every TIME] [--listen [ADDRESS]:PORT] [--dir FOLDER] [OPTIONS OF knbl run] …",
}

M.flags = {
  { name = "every", value = "TIME", kind = "duration", default = "5m",
    help = "time from the start of one run to the next, varied by ±10 %" },
  { name = "listen", value = "[ADDRESS]:PORT", default = ":9464",
    help = "where to serve /, /metrics, /ledger.json, /healthz and /readyz" },
  { name = "dir", value = "FOLDER", help = "folder for ledgers and state [keep nothing]" },
  { name = "keep", value = "N", kind = "count", help = "number of ledgers to keep in --dir", default = 2000 },
  { name = "limit", value = "TIME", kind = "duration",
    help = "stop a run that takes longer [10 times --every, at least 10m]" },
  { name = "runs", value = "N", kind = "count", help = "stop after N runs [never]" },
  { name = "quiet", short = "-q", help = "do not print a line for each run" },
}

local TICK, FRESH, GRACE = 15, 60, 60
local TEXT, HTML, JSON = "text/plain; charset=utf-8", "text/html; charset=utf-8", "application/json"
local OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
local JITTER, FIRST = 0.1, 5

-- ---- the digest: a child that reads a ledger ----

local PARTS = "s4s4s4s4"

-- Input: state, run ("" if there is none to add) and ledger. Output: state, metrics, and the two parts of the page.
local function digest(context)
  local json, ledger = require "knbl.json", require "knbl.results.ledger"
  local kept, run, source = string.unpack("s4s4s4", file.read_all(io.stdin, "the digest's input", 2147483647))
  local state, data = standing.parse(kept), nil
  if source ~= "" then data = ledger.parse(source, "the ledger") end
  if run ~= "" then
    run = json.decode(run)
    run.message = data and data.verdict.message or run.message
    standing.enter(state, run, data)
  end
  local top, report = "", nil
  if state.last then
    local shown = data and #data.measurements > 0 and data or nil
    top, report = require("knbl.format.standing_page").render(state, shown, context.core)
  end
  io.stdout:write(string.pack(PARTS, json.encode(state), format.metrics(state), top, report or ""))
  return 0
end

-- ---- a watch ----

local Watch = {}
Watch.__index = Watch

function Watch:say(line, ...)
  if not self.values.quiet then self.context.err("knbl: " .. line:format(...) .. "\n") end
end

-- Tells that this process is not stuck.
function Watch:alive() self.pages:put("/healthz", TEXT, "ok\n", { fresh = FRESH }) end

function Watch:publish_metrics()
  local own = format.own { version = self.core.version, running = self.running, next_run = self.next_run,
    every = self.every, write_errors = self.write_errors, late_starts = self.late_starts,
    ledgers = self.ring and #self.ring.names }
  self.pages:put("/metrics", OPENMETRICS, self.metrics .. own .. "# EOF\n")
end

function Watch:publish()
  self.pages:put("/", HTML, self.top .. (self.report or require("knbl.format.standing_page").without_report()))
  self:publish_metrics()
  self.pages:put("/readyz", TEXT, "ok\n") -- last: the other pages have what it promises
end

-- Waits for a child. Returns its exit code, and "stopped" or "late" if it had to be ended. With `patient`, a signal
-- that ends the watch does not end the child, because it will be done soon.
function Watch:await(child, limit, patient)
  local deadline = self.core.now() + limit
  while true do
    self:alive()
    local code, err = child:wait(math.min(TICK, math.max(0, deadline - self.core.now())))
    if code then return code end
    if err then self.core.cleanup(true) end -- to the end of the program
    local why = err and not patient and "stopped" or self.core.now() >= deadline and "late"
    if why then
      child:signal(15)
      code = child:wait(GRACE)
      if not code then
        child:signal(9)
        code = child:wait(GRACE)
      end
      return code or 137, why
    end
  end
end

-- Starts this program once more and waits for it: exit code, standard output and error, and why it was told to end.
function Watch:child(words, input, limit, patient)
  local child, err = self.core.spawn(words, input)
  if not child then return 1, "", err.message end
  local code, why = self:await(child, limit, patient)
  local out, said = child:output()
  child:close()
  return code, out, said, why
end

-- Runs a digest and takes over its output; returns false if it failed.
function Watch:digest(run, ledger)
  local code, out, said = self:child({ "watch", "--digest" }, string.pack("s4s4s4", self.state, run, ledger),
    600, true)
  if code ~= 0 then
    self.context.err(("knbl: the ledger could not be read: %s\n"):format(said:gsub("%s+$", "")))
    return false
  end
  local report
  self.state, self.metrics, self.top, report = string.unpack(PARTS, out)
  if report ~= "" then
    self.report = report
    self.pages:put("/ledger.json", JSON, ledger)
  end
  return true
end

-- ---- files ----

function Watch:wrote(ok, err)
  if ok then return end
  self.write_errors = self.write_errors + 1
  self.context.err(("knbl: --dir: %s\n"):format(err.message))
end

function Watch:keep(started, ledger)
  if not self.ring or ledger == "" then return end
  local name = self.ring:name(started)
  self:wrote(self.ring:add(name, ledger))
  return name
end

function Watch:save()
  if self.ring then self:wrote(self.core.write_file(self.ring:path "state.json", self.state)) end
end

-- Goes on where an earlier watch of this folder ended.
function Watch:resume()
  if not self.ring then return end
  self.state = file.read(self.ring:path "state.json", 67108864) or ""
  if self.state ~= "" and self:digest("", self.ring:newest() or "") and self.top ~= "" then self:publish() end
end

-- ---- runs ----

-- The last message of a run; a traceback may follow it.
local function last_message(text)
  local last, message
  for line in text:gmatch "[^\n]+" do last, message = line, line:match "^knbl: (.*)" or message end
  return message or last
end

-- One run, from its start to what is served. Returns its exit code, and whether the watch was told to end.
function Watch:run()
  local json = require "knbl.json"
  local run = { started = self.core.wall(), begun = os.time() }
  self.running = true
  self:publish_metrics()
  local begun = self.core.now()
  local code, ledger, said, why = self:child(self.words, "", self.limit)
  run.seconds, run.ended, run.exit, run.late = self.core.now() - begun, os.time(), code, why == "late"
  if code ~= 0 or why then run.message = last_message(said) end
  run.file = self:keep(run.started, ledger)
  self.running = false
  if why ~= "stopped" then
    if not self:digest(json.encode(run), ledger) then
      run.exit, run.message = code == 0 and 1 or code, "the ledger could not be read"
      self:digest(json.encode(run), "")
    end
    self:save()
  end
  self:say("run of %s: %s, %.1f s%s", run.started, standing.outcome(run), run.seconds,
    run.message and ": " .. run.message or "")
  return code, why == "stopped"
end

-- Waits until a time of core.now(). Returns false if it was interrupted.
function Watch:rest(till)
  while true do
    self:alive()
    local left = till - self.core.now()
    if self.core.interrupted() then return false end -- in a run, or in what followed it
    if left <= 0 then return true end
    if not self.core.sleep(math.min(TICK, left)) then return false end
  end
end

-- Starts are spread by chance, so that many watches do not measure at once.
function Watch:next_start(began)
  local now, at = self.core.now(), began + self.every * (1 + JITTER * (2 * math.random() - 1))
  if at < now then
    self.late_starts = self.late_starts + 1
    at = now
  end
  self.next_run = os.time() + math.floor(at - now)
  return at
end

function Watch:loop()
  local most, n, code, ended = self.values.runs or math.huge, 0, 0, nil
  local at = self.core.now() + math.min(JITTER * self.every, FIRST) * math.random()
  self.next_run = os.time()
  while self:rest(at) do
    local began = self.core.now()
    code, ended = self:run()
    n = n + 1
    if ended or n >= most then return ended and 0 or code end
    at = self:next_start(began)
    self:publish()
    collectgarbage()
  end
  return 0
end

-- ---- the command ----

-- What is wrong with the run's command line is told before anything is served.
local function check(core, words)
  local why = { ["dry-run"] = "`knbl run` prints the plan of a run", manifests = "`knbl run` prints those of a run" }
  for _, name in ipairs(output.flags()) do why[name] = "it writes ledgers to --dir" end
  both.refuse("watch", words, why)
  local child, err = core.spawn(words.with { "--dry-run" })
  if not child then errors.raise(errors.from(err)) end
  local code
  repeat
    code, err = child:wait(60)
    if err then errors.raise(errors.from(err)) end
  until code
  local _, said = child:output()
  child:close()
  if code ~= 0 and code ~= 3 then errors.usage("%s", last_message(said) or "the scenario cannot be run") end
end

-- The words of a run, and `more`.
local function run_words(words)
  local list = { table.unpack(words) }
  function list.with(more)
    local all = { table.unpack(words) }
    for _, word in ipairs(more) do all[#all + 1] = word end
    return all
  end
  return list
end

local function seconds(core, values, name, fallback)
  local s = values[name] and core.duration(values[name]) or fallback
  if s <= 0 then errors.usage("--%s must be more than 0, got %s", name, values[name]) end
  return s
end

local function open(context, values, words)
  local core = context.core
  local every = seconds(core, values, "every", 300)
  local keep = values.keep or 2000
  if keep < 1 then errors.usage("--keep must be at least 1, got %d", keep) end
  if (values.runs or 1) < 1 then errors.usage("--runs must be at least 1, got %d", values.runs) end
  local limit = seconds(core, values, "limit", math.max(600, 10 * every))
  check(core, words)
  local self = setmetatable({ context = context, core = core, values = values, every = every, limit = limit,
    words = words.with { "-q", "--json", "-" }, state = "", metrics = "", top = "", write_errors = 0, late_starts = 0,
    ring = values.dir and ring.open(core, values.dir, keep) }, Watch)
  local pages, err = core.pages(values.listen or ":9464")
  if not pages then errors.usage("--listen: %s", err.message) end
  self.pages = pages
  return self
end

function M.run(context, _, argv)
  if argv[1] == "--digest" then return digest(context) end
  local values, words, rest = both.split(context.core, M.flags, argv)
  if values.help then return both.help(context, M) end
  if rest then errors.usage("watch does not take a command after --, got '%s'", rest[1] or "") end
  if #words == 0 then errors.usage("a scenario is required: %s", M.usage) end
  local self = open(context, values, run_words(words))
  self.pages:put("/readyz", TEXT, "no run has ended yet\n", { status = 503 })
  self:alive()
  self:publish_metrics()
  self.pages:put("/", TEXT, "no run has ended yet\n", { status = 503 })
  self:say("serving on port %d; a run every %s", self.pages:port(), values.every or "5m")
  self:resume()
  local code = self:loop()
  self.pages:close()
  return code
end

return M
