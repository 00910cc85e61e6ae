-- knbl.program.both - the end of `knbl ab` and `knbl change`: the comparison, the verdict, tables and files.
local args = require "knbl.base.args"
local arms = require "knbl.program.arms"
local cli_compare = require "knbl.command.compare"
local compare = require "knbl.results.compare"
local errors = require "knbl.base.errors"
local expect = require "knbl.results.expect"
local output = require "knbl.program.output"
local table_format = require "knbl.format.table"
local text = require "knbl.base.text"

local M = {}

-- The options that both commands have: those of the comparison, and where results go.
function M.flags(own)
  local list = {}
  for _, flag in ipairs(own) do list[#list + 1] = flag end
  for _, flag in ipairs(cli_compare.flags) do
    if flag.name == "fail-if" or flag.name == "figure" or flag.name == "alpha" then list[#list + 1] = flag end
  end
  for _, flag in ipairs(require("knbl.program.cli").flags) do
    if flag.group == "results" and flag.name ~= "json-stream" then list[#list + 1] = flag end
  end
  return list
end

-- Refuses the options of `knbl run` in `words` for which a command has no use; `why` has the reason by name.
function M.refuse(command, words, why)
  for _, word in ipairs(words) do
    local flag, _, off = args.match(require("knbl.program.cli").flags, word)
    if flag and not off and why[flag.name] then
      errors.usage("%s does not take --%s: %s", command, flag.name, why[flag.name])
    end
  end
end

-- What both commands have no use for.
local unused = {
  expect = "it judges the change alone (--fail-if)", baseline = "it compares its two sides with each other",
  ["dry-run"] = "`knbl run` prints the plan of a round", manifests = "`knbl run` prints those of a round",
  ["json-stream"] = "it writes one ledger of both sides (--json)",
}

-- The same for the options of an arm; files are of both arms.
function M.refuse_in_arm(arm)
  local words, why = {}, {}
  for word in (arm.options or ""):gmatch "%S+" do words[#words + 1] = word end
  for _, name in ipairs(output.flags()) do why[name] = "it goes beside --a and --b, for both arms" end
  for name, reason in pairs(unused) do why[name] = reason end
  M.refuse("arm " .. arm.name, words, why)
end

-- Splits a command line: the values of `flags`, and all other words, which are those of each run. A "--" ends it: what
-- follows is returned too.
function M.split(core, flags, argv)
  local values, words, i = {}, {}, 1
  local all = { { name = "help", short = "-h", help = "this text" }, (table.unpack or unpack)(flags) }
  while i <= #argv do
    if argv[i] == "--" then return values, words, { (table.unpack or unpack)(argv, i + 1) } end
    local taken = argv[i]:sub(1, 1) == "-" and args.take(core, all, argv, i, values)
    if not taken then words[#words + 1] = argv[i] end
    i = i + (taken or 1)
  end
  return values, words
end

function M.help(context, command)
  context.out(("%s\n\n  %s\n\n%s\n\nAll other options are those of `knbl run`, and the scenario's own.\n"):format(
    command.summary, command.usage, args.help(command.flags)))
  return 0
end

-- A line about where it is, for people.
function M.say(context, values, format, ...)
  if not values.quiet then context.err(("knbl: " .. format .. "\n"):format(...)) end
end

-- Keeps a run where it left a ledger. Returns why there must be no further one: { exit, message }.
function M.keep(context, runs, arm, data, code, said)
  if data then runs[#runs + 1] = { arm = arm, data = data } end
  if code == 130 or context.core.interrupted() then return { exit = 130, message = "interrupted" } end
  if not data or code == 2 or code == 3 then
    return { exit = code == 2 and 2 or code == 3 and 3 or 1, message = ("%s: %s"):format(arm.name, said) }
  end
end

local function verdict_of(result, judged, stopped, asked)
  if stopped then
    return { status = stopped.exit == 130 and "interrupted" or "error", exit = stopped.exit, message = stopped.message }
  end
  return cli_compare.verdict_of({ expectations = judged, comparisons = result.comparisons }, asked)
end

-- What became of the commands: which failed, and what happened to traffic meanwhile.
local function commands(data, options, out)
  for _, c in ipairs(data.commands) do
    for _, outage in ipairs(c.outages or {}) do
      table_format.remark("while it ran: ", require("knbl.program.meanwhile").line(options.core, outage),
        options, out)
    end
    if c.status ~= 0 then
      table_format.remark("", ("%s: `%s` ended with %d: %s"):format(c.arm, c.command, c.status,
        text.short(c.output:gsub("%s+$", ""):match "[^\n]*$" or "", 200)), options, out)
    end
  end
end

local function show(context, data, values)
  if values.quiet then return end
  output.say(context, values, function(options)
    local out = {}
    commands(data, options, out)
    table_format.expectations(data.expectations, options, out)
    local names = ("old: %s (%s), new: %s (%s)"):format(data.arms[1].name, data.arms[1].text, data.arms[2].name,
      data.arms[2].text)
    local list = { require("knbl.format.functions").text(data, options) or "",
      text.clean(options.ascii and text.ascii(names) or names) .. "\n",
      require("knbl.format.comparison").text(data.comparison, options), table.concat(out, "\n") }
    if list[1] ~= "" then list[1] = list[1] .. "\n" end
    if #out > 0 then list[4] = list[4] .. "\n" end
    return table.concat(list)
  end)
end

-- Checks what was asked of the comparison and of the runs of `command`, before anything is measured: limits, alpha.
function M.check(context, command, values, words)
  M.refuse(command, words, unused)
  local limits, alpha = cli_compare.check(context.core, values)
  output.prepare(context.core, values)
  return limits, alpha
end

-- From all runs to the exit code. `stopped` is what ended it early: { exit, message }.
function M.finish(context, values, list, runs, commands, limits, alpha, stopped)
  local core = context.core
  local book = arms.book(core, list, runs, commands)
  local data = book.data
  local result, matched = arms.compare(core, data, { list[1].name, list[2].name },
    { figure = values.figure, alpha = alpha })
  book:tag(values.tag)
  data.comparison, data.expectations = result, compare.judge(core, matched, limits, alpha)
  local verdict = verdict_of(result, data.expectations, stopped, #limits > 0)
  for key, n in pairs(expect.counts(data)) do verdict[key] = n end
  book:finish(verdict)
  if #data.measurements > 0 then show(context, data, values) end
  local written = #data.measurements + #commands == 0 or output.write_files(context, book, values)
  if verdict.message then context.err("knbl: " .. text.clean(verdict.message) .. "\n") end
  return verdict.exit == 0 and not written and 1 or verdict.exit
end

-- The arm that a text stands for: options, or a command.
function M.arm(name, given, binary)
  if given == nil and binary == nil then
    errors.usage("ab needs --%s TEXT: options of this arm, or a command that runs before each of its rounds", name)
  end
  local arm = { name = name, text = given or binary, binary = binary }
  if given and given:find "%S" then arm[given:match "^%s*%-" and "options" or "command"] = given end
  return arm
end

return M
