-- knbl.program.arms - one scenario run under two arms, each run a knbl of its own, and one ledger of both: what `knbl
-- ab` and `knbl change` have in common.
--
-- An arm is { name, text, command?, options?, binary? }: a command for sh that runs before each of its runs, options
-- that its runs get, another build of knbl. A measurement has its arm as the label `arm`, and its round counts on
-- through all runs of the arm.
local compare = require "knbl.results.compare"
local errors = require "knbl.base.errors"
local file = require "knbl.base.file"
local json = require "knbl.json"
local ledger = require "knbl.results.ledger"
local script = require "knbl.base.script"

local M = {}

local OUTPUT_MOST, LEDGER_MOST = 65536, 1073741824

-- ---- processes ----

-- Runs a command line of sh, its outputs into a file: its status, and what it wrote. A signal counts 128 and its
-- number, as in a shell.
function M.shell(line)
  local path = os.tmpname()
  local _, how, code = os.execute(("{ %s\n} >%s 2>&1 </dev/null"):format(line, script.quote(path)))
  local text = file.read(path, LEDGER_MOST) or ""
  os.remove(path)
  return how == "signal" and 128 + code or code, text
end

-- The child of this very program, or of another build.
local function run_line(arm, words)
  local parts = { arm.binary and script.quote(arm.binary) or "/proc/$PPID/exe" }
  for _, word in ipairs(words) do parts[#parts + 1] = script.quote(word) end
  parts[#parts + 1] = arm.options -- as sh splits them
  return table.concat(parts, " ")
end

local function last_line(text)
  local last = ""
  for line in text:gmatch "[^\n]+" do last = line end
  return last:gsub("^knbl: ", "")
end

-- What is wrong with an arm's command line is told before anything is measured.
function M.check(arm, words)
  local line = run_line(arm, words) .. " --dry-run"
  local code, text = M.shell(line)
  if code ~= 0 and code ~= 3 then errors.usage("%s: %s", arm.name, last_line(text)) end
  if text == "" then errors.usage("%s: %s is not knbl: it printed no plan", arm.name, arm.binary or "the program") end
end

-- One run of an arm: the data of its ledger and the run's exit code; nil, the code and what it said where it left none.
function M.measure(arm, words)
  local path = os.tmpname()
  local line = run_line(arm, words) .. " -q --json " .. script.quote(path)
  local code, text = M.shell(line)
  local data, err = ledger.read(path)
  os.remove(path)
  if not data then return nil, code == 0 and 1 or code, text ~= "" and last_line(text) or tostring(err) end
  return data, code, last_line(text)
end

-- Runs a command and keeps what became of it: { arm, command, status, output, started, seconds }.
function M.command(core, arm, line)
  local started, begun = core.wall(), core.now()
  local status, text = M.shell(line)
  if #text > OUTPUT_MOST then text = text:sub(1, OUTPUT_MOST) .. "\n[cut]" end
  return { arm = arm, command = line, status = status, output = text, started = started,
    seconds = core.now() - begun }
end

-- ---- one ledger ----

-- The rows of a report with the arm among them.
local function with_arm(declaration)
  local copy = {}
  for key, value in pairs(declaration) do copy[key] = value end
  copy.rows = { (table.unpack or unpack)(declaration.rows) }
  copy.rows[#copy.rows + 1] = "arm"
  copy.baseline = nil
  return copy
end

local function add_run(book, arm, data)
  local most = 0
  for _, m in ipairs(data.measurements) do
    m.labels = m.labels or {}
    m.labels.arm = arm.name
    m.round = (m.round or 1) + (arm.rounds or 0)
    most = math.max(most, m.round)
    book:add(m)
  end
  arm.rounds = math.max(most, (arm.rounds or 0) + 1)
end

local function arm_of(arm, first)
  return { name = arm.name, text = arm.text, rounds = arm.rounds or 0, provider = first and first.provider,
    environment = first and first.environment, options = first and first.options }
end

-- The ledger of runs { { arm, data }… } and commands.
function M.book(core, arms, runs, commands)
  local first = runs[1] and runs[1].data or {}
  local book = ledger.new { core = core, scenario = first.scenario, question = first.question }
  local data, first_of = book.data, {}
  data.started, data.provider, data.environment = first.started or data.started, first.provider, first.environment or {}
  data.commands, data.arms = json.array(commands), json.array()
  for _, run in ipairs(runs) do
    first_of[run.arm] = first_of[run.arm] or run.data
    add_run(book, run.arm, run.data)
  end
  for i, arm in ipairs(arms) do data.arms[i] = arm_of(arm, first_of[arm]) end
  for i, declaration in ipairs(first.reports or {}) do data.reports[i] = with_arm(declaration) end
  return book
end

-- ---- the comparison ----

-- What makes measurements of two arms the same: all but the parameters, which are often what the arms differ in, and
-- the way. What has no label of its own to tell it apart is told apart by its place among those of its round.
local function key_of(m, seen)
  local _, kind, rate = ledger.load(m)
  local parts = { m.test, ledger.subject(m), kind, rate or "", ledger.start(m) }
  local names = {}
  for name in pairs(m.labels) do
    if name ~= "arm" then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do parts[#parts + 1] = name .. "=" .. tostring(m.labels[name]) end
  local key = table.concat(parts, "\31")
  local place = key .. "\30" .. m.labels.arm .. "\30" .. tostring(m.round)
  seen[place] = (seen[place] or 0) + 1
  return key .. "\30" .. seen[place]
end

local function side_of(data, name, seen)
  return { ledgers = {}, groups = ledger.groups(data, function(m)
    return m.labels.arm == name and key_of(m, seen)
  end) }
end

-- What matters most comes first: what is shown by its size, then the rest by how near it is to being shown.
local function by_weight(a, b)
  if a.shown ~= b.shown then return a.shown end
  local function size(c) return c.change and math.abs(math.log(1 + c.change)) or math.huge end
  if a.shown and size(a) ~= size(b) then return size(a) > size(b) end
  if a.p ~= b.p then return a.p < b.p end
  return (a.test .. a.case .. a.figure) < (b.test .. b.case .. b.figure)
end

-- Compares the arms of a ledger: as compare.run, and the pairs for limits.
function M.compare(core, data, names, options)
  local seen = {}
  local result, matched = compare.run(core, side_of(data, names[1], seen), side_of(data, names[2], seen),
    { figures = options.figure, alpha = options.alpha, any_environment = true })
  for _, row in ipairs(result.not_compared) do -- that the arms differ keeps nothing apart
    local reason = row.reason:gsub("label arm [^;]*;? ?", ""):gsub("; $", "")
    row.reason = reason ~= "" and reason or row.reason
  end
  result.files = { old = data.arms[1].rounds, new = data.arms[2].rounds }
  result.environments = json.array()
  local differs = compare.differs(data.arms[1], data.arms[2])
  if differs then result.environments[1] = differs end
  table.sort(result.comparisons, by_weight)
  return result, matched
end

return M
