-- knbl.cli - the command line: main(argv) -> exit code. The table of flags below gives parsing, --help, the man page and the
-- completion of shells.
--
-- A command is a module knbl.command.NAME = { summary, usage, flags, run = function(context, values, words, before) -> exit code }, where
-- `before` is how many of the words stood before a "--".
-- context = { core, out = function(text), err = function(text), flags (the program's) }. What raises is printed here, once.
local args = require "knbl.args"
local errors = require "knbl.errors"

local M = {}

M.flags = {
  { name = "on", value = "PROVIDER[:…]", help = "where to measure: lab, k8s, hosts:a=ADDR,b=ADDR, loopback", default = "lab", group = "where",
    words = { "lab", "k8s", "hosts:", "loopback" } },
  { name = "nodes", value = "N|A,B", help = "how many nodes, or which", group = "where" },
  { name = "token-file", value = "FILE", help = "the secret of agents that run already (or KNBL_TOKEN)", group = "where" },
  { name = "kubeconfig", value = "FILE", help = "this kubeconfig alone [KUBECONFIG, then ~/.kube/config]", group = "kubernetes" },
  { name = "context", value = "NAME", help = "a context of it", group = "kubernetes" },
  { name = "namespace", short = "-n", value = "NAME", help = "where pods go; made if it is not there [the context's]", group = "kubernetes" },
  { name = "as", value = "USER", help = "act as another user", group = "kubernetes" },
  { name = "image", value = "NAME", help = "the agent's image [knbl:VERSION]", group = "kubernetes" },
  { name = "image-pull-secret", value = "NAME", help = "the Secret to pull it with", group = "kubernetes" },
  { name = "node-selector", value = "KEY=VALUE,…", help = "only nodes with these labels", group = "kubernetes" },
  { name = "tolerations", value = "KEY[=VALUE][:EFFECT],…", help = "taints that do not matter", group = "kubernetes" },
  { name = "cpu", value = "N", help = "CPUs requested for each pod, and its limit", group = "kubernetes" },
  { name = "memory", value = "SIZE", help = "memory likewise, as Kubernetes writes it [256Mi with --cpu]", group = "kubernetes" },
  { name = "agents", value = "SELECTOR", help = "use the agents that stand there already, by their labels, and make no pods", group = "kubernetes" },
  { name = "manifests", help = "with --dry-run: print all that would be made, as YAML for kubectl", group = "kubernetes" },
  { name = "duration", value = "TIME", kind = "duration", help = "time for each measurement", group = "what" },
  { name = "warmup", value = "TIME", kind = "duration", help = "time before it that is not counted", group = "what" },
  { name = "repeats", value = "N", kind = "count", help = "measure N times, interleaved: all that is in the matrix, or the whole scenario where it has none", group = "what" },
  { name = "only", value = "PATTERN", many = true, help = "only cases (or tests) that contain PATTERN; * and ? stand for anything", group = "what" },
  { name = "set", value = "KEY=VALUE", kind = "pair", many = true, help = "a parameter of all measurements, or of one test: tcp_rr.flows=4",
    group = "what" },
  { name = "ceiling", help = "measure too what each sender reaches without a network, and show the share of it [from 5 s on; --no-ceiling: never]",
    group = "what" },
  { name = "no-monitor", help = "do not watch CPU, memory and counters of both sides and their nodes meanwhile", group = "what" },
  { name = "profile", help = "sample where the CPUs of both nodes spend their time: kernel functions by path, and flame graphs (--flame)", group = "what" },
  { name = "dry-run", help = "print the plan with its total time; measure nothing", group = "what" },
  { name = "expect", value = "TEXT", many = true, help = "an expectation: 'CASE: p99 < 1ms'", group = "verdict" },
  { name = "baseline", value = "FILE,…", help = "the ledgers (--json) that this run is compared with", group = "verdict" },
  { name = "any-environment", help = "compare with the baseline though kernel, CPU, overlay or the like differ", group = "verdict" },
  { name = "json", value = "FILE", help = "write the ledger: all that was asked and measured (- is standard output)", group = "results" },
  { name = "csv", value = "FILE", help = "write the figures as CSV", group = "results" },
  { name = "markdown", value = "FILE", help = "write the tables as Markdown", group = "results" },
  { name = "junit", value = "FILE", help = "write measurements and expectations as JUnit XML", group = "results" },
  { name = "html", value = "FILE", help = "write a page with charts", group = "results" },
  { name = "openmetrics", value = "FILE", help = "write the figures as OpenMetrics text", group = "results" },
  { name = "flame", value = "FILE", help = "write a page with the flame graphs of --profile, and of their differences", group = "results" },
  { name = "folded", value = "FILE", help = "write the profiles as folded stacks, for other tools", group = "results" },
  { name = "quiet", short = "-q", help = "no progress, no tables", group = "results" },
  { name = "help", short = "-h", help = "this text; behind a script, the script's own", group = "program" },
  { name = "version", help = "the version", group = "program" },
}

M.exits = {
  { 0, "all was measured, and every expectation held" }, { 1, "the script failed, or a measurement" }, { 2, "the command line is wrong" },
  { 3, "the cluster or lab could not be had, or an agent was lost" }, { 98, "inconclusive: the samples do not tell, or what was asked about was skipped" },
  { 99, "an expectation failed" }, { 130, "interrupted; what was measured until then is kept" },
}

local groups = {
  { "where", "Where to measure" }, { "kubernetes", "On Kubernetes (--on k8s, --on k8s:CONTEXT)" }, { "what", "What to measure" },
  { "verdict", "Verdict" }, { "results", "Results" }, { "program", "Program" },
}

-- Each with what it does, and with what its words are: a built-in scenario or any file, a file.
M.commands = {
  { "run", "run a scenario (the word can be left out)", "scenario" },
  { "list", "the scenarios that are built in, each with its question" },
  { "show", "print a built-in scenario, to copy from", "scenario" },
  { "init", "a scenario, editor settings and a CI job to start from" },
  { "report", "tables and files from a ledger that --json wrote", "file" },
  { "compare", "what changed between ledgers, and whether that is shown", "file" },
  { "agent", "answer measurements on this machine" },
  { "lab", "a shell in a cluster of namespaces" },
  { "image", "write the agent's container image" },
  { "clean", "remove what killed runs left on a Kubernetes cluster" },
  { "submit", "run a scenario inside the cluster, as a Job", "scenario" },
  { "doctor", "what this machine can do, and what to do about the rest" },
  { "completion", "a script for bash, zsh or fish that completes all this" },
}

local function of_group(flags, name)
  local list = {}
  for _, flag in ipairs(flags) do
    if flag.group == name then list[#list + 1] = flag end
  end
  return list
end

-- The text of --help.
function M.help(flags)
  local lines = {
    "knbl - what the network of a Kubernetes cluster costs, path by path", "",
    "  knbl [OPTIONS] SCENARIO [SCENARIO'S OPTIONS]   a file, the name of a built-in one, or - for standard input",
    "  knbl SCENARIO --help                           the scenario's own options", "", "Commands:",
  }
  for _, command in ipairs(M.commands) do lines[#lines + 1] = ("  %-14s %s"):format(command[1], command[2]) end
  for _, group in ipairs(groups) do
    lines[#lines + 1] = "\n" .. group[2] .. ":"
    lines[#lines + 1] = args.help(of_group(flags, group[1]))
  end
  lines[#lines + 1] = "\nExit codes:"
  for _, row in ipairs(M.exits) do lines[#lines + 1] = ("  %3d  %s"):format(row[1], row[2]) end
  return table.concat(lines, "\n") .. "\n"
end

-- What is raised (a measurement that fails is a result) with one of these codes is a cluster that could not be had.
local exit_codes = {
  usage = 2, argument = 1, unavailable = 3, lost = 3, auth = 3, version = 3, refused = 3, resolve = 3, unreachable = 3, timeout = 3,
  permission = 3, unsupported = 3, interrupted = 130,
}
function M.exit_code(err)
  return exit_codes[err.code] or 1
end

-- The program's own flags before the scenario's name, and those that stand behind it; the scenario's words are left over.
function M.split(core, flags, argv)
  local settings, words, target = {}, {}, nil
  local i = 1
  while i <= #argv do
    local word = argv[i]
    local taken
    if word:sub(1, 1) == "-" and word ~= "-" then taken = args.take(core, flags, argv, i, settings) end
    if taken then
      i = i + taken
    elseif not target and word:sub(1, 1) == "-" and word ~= "-" then
      args.unknown(core, flags, word)
    else
      if not target then target = word else words[#words + 1] = word end
      i = i + 1
    end
  end
  return settings, target, words
end

-- The index of the first word that is no flag of the program: a command, or a scenario.
local function first_word(core, flags, argv)
  local i, scratch = 1, {}
  while i <= #argv do
    if argv[i]:sub(1, 1) ~= "-" or argv[i] == "-" then return i end
    i = i + (args.take(core, flags, argv, i, scratch) or args.unknown(core, flags, argv[i]))
  end
end

-- The module of a command; nil where there is none of this name, or where the program itself has it (agent).
function M.command(name)
  for _, command in ipairs(M.commands) do
    if command[1] == name and name ~= "agent" then return require("knbl.command." .. name) end
  end
end

local function run_command(context, argv, at)
  local command = M.command(argv[at])
  if not command then return nil end
  local words = {}
  for i, word in ipairs(argv) do
    if i ~= at then words[#words + 1] = word end
  end
  if command.raw then return command.run(context, {}, words) end
  local flags = { { name = "help", short = "-h", help = "this text" } }
  for _, flag in ipairs(command.flags or {}) do flags[#flags + 1] = flag end
  local values, rest, before = args.parse(context.core, flags, words, 1, "knbl " .. argv[at])
  if values.help then
    context.out(("%s\n\n  %s\n\n%s\n"):format(command.summary, command.usage, args.help(flags)))
    return 0
  end
  return command.run(context, values, rest, before)
end

local function dispatch(context, argv)
  local flags = context.flags
  local at = first_word(context.core, flags, argv)
  if at then
    local code = run_command(context, argv, at)
    if code then return code end
    return require("knbl.command.run").run(context, argv)
  end
  local settings = M.split(context.core, flags, argv)
  if settings.version then
    context.out(("knbl %s (protocol %s)\n"):format(context.core.version, tostring(context.core.protocol)))
    return 0
  end
  if settings.help then
    context.out(M.help(flags))
    return 0
  end
  errors.usage("which scenario? `knbl list` names those that are built in, `knbl --help` explains the rest")
end

local function report(context, err)
  if errors.is(err) then
    context.err("knbl: " .. tostring(err) .. "\n")
    return M.exit_code(err)
  end
  context.err("knbl: " .. tostring(type(err) == "table" and err.message or err) .. "\n")
  return 1
end

-- Runs a command line. `context` is for tests: { out, err, core }.
function M.main(argv, context)
  context = context or {}
  context.core = context.core or require "knbl.native"
  context.out = context.out or function(s) io.stdout:write(s) end
  context.err = context.err or function(s) io.stderr:write(s) end
  context.flags = M.flags
  local ok, code = xpcall(dispatch, function(e)
    if type(e) == "table" then return e end
    return debug.traceback(tostring(e), 2)
  end, context, argv)
  if not ok then code = report(context, code) end
  return code
end

-- The session of a script that a plain interpreter runs, and what ends it.
function M.standalone(words)
  local list = {}
  for i = 1, #words do list[i] = words[i] end
  return require("knbl.command.run").standalone(list, words[0], M.flags)
end

return M
