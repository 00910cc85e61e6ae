-- knbl.program.cli - the command line: main(argv) -> exit code. Parsing, --help, the man page and the completion of
-- shells are made from the table of flags below.
--
-- A command is a module knbl.command.NAME = { summary, usage, flags, run }, with run(context, values, words, before) ->
-- exit code; `before` is how many of the words came before a "--". context = { core, out(text), err(text),
-- live(text) (err without its
-- filter), flags (the program's) }. Errors that commands raise are printed here.
local args = require "knbl.base.args"
local errors = require "knbl.base.errors"
local exit = require "knbl.base.exit"
local output = require "knbl.program.output"

local M = {}

M.flags = {
  { name = "on", value = "PROVIDER[:…]",
    help = "where to measure: lab, k8s[:CONTEXT], ssh:USER@A,USER@B, hosts:a=ADDR,b=ADDR, loopback",
    default = "lab", group = "where",
    words = { "lab", "k8s", "ssh:", "hosts:", "loopback" } },
  { name = "nodes", value = "N|A,B", help = "how many nodes, or which", group = "where" },
  { name = "token-file", value = "FILE", help = "the token of agents that already run (or KNBL_TOKEN)",
    group = "where" },
  { name = "kubeconfig", value = "FILE", help = "the kubeconfig to use [KUBECONFIG, then ~/.kube/config]",
    group = "kubernetes" },
  { name = "context", value = "NAME", help = "the context to use", group = "kubernetes" },
  { name = "namespace", short = "-n", value = "NAME",
    help = "the namespace of the pods; created if it is missing [the context's]",
    group = "kubernetes" },
  { name = "as", value = "USER", help = "act as another user", group = "kubernetes" },
  { name = "image", value = "NAME",
    help = "the agent's image [knbl:VERSION if all nodes have it, else --inject]", group = "kubernetes" },
  { name = "inject", value = "IMAGE", optional = true,
    help = "run the agent in pods of an image that the nodes have, or of IMAGE", group = "kubernetes" },
  { name = "allow", help = "create a NetworkPolicy that lets the run's pods reach each other", group = "kubernetes" },
  { name = "image-pull-secret", value = "NAME", help = "the Secret for pulling the image", group = "kubernetes" },
  { name = "node-selector", value = "KEY=VALUE,…", help = "only nodes with these labels", group = "kubernetes" },
  { name = "tolerations", value = "KEY[=VALUE][:EFFECT],…", help = "taints to tolerate", group = "kubernetes" },
  { name = "cpu", value = "N", help = "CPU request and limit of each pod", group = "kubernetes" },
  { name = "memory", value = "SIZE", help = "memory request and limit of each pod [256Mi with --cpu]",
    group = "kubernetes" },
  { name = "agents", value = "SELECTOR",
    help = "use agents that already run, selected by labels, instead of new pods", group = "kubernetes" },
  { name = "manifests", help = "with --dry-run: print the objects it would create, as YAML for kubectl",
    group = "kubernetes" },
  { name = "duration", value = "TIME", kind = "duration", help = "time for each measurement", group = "what" },
  { name = "warmup", value = "TIME", kind = "duration",
    help = "warm-up before each measurement, not counted", group = "what" },
  { name = "repeats", value = "N", kind = "count",
    help = "measure N times, interleaved: what is in the matrix, or the whole scenario if it has none",
    group = "what" },
  { name = "until", value = "±5%", kind = "share",
    help = "repeat until the 95 % interval of each headline figure is that narrow, at most --repeats times [50]",
    group = "what" },
  { name = "only", value = "PATTERN", many = true,
    help = "only cases or tests that contain PATTERN; * and ? are wildcards", group = "what" },
  { name = "set", value = "KEY=VALUE", kind = "pair", many = true,
    help = "a parameter of all measurements, or of one test, as in tcp_rr.flows=4",
    group = "what" },
  { name = "ceiling",
    help = "also measure what each sender reaches without a network, and show figures as a share of it \z
      [if the duration is at least 5 s; --no-ceiling: never]",
    group = "what" },
  { name = "no-monitor", help = "do not record CPU, memory and counters of both sides and their nodes",
    group = "what" },
  { name = "profile",
    help = "sample where the CPUs of both nodes spend their time: kernel functions by path, and flame graphs (--flame)",
    group = "what" },
  { name = "dry-run", help = "print the plan with its total time; measure nothing", group = "what" },
  { name = "expect", value = "TEXT", many = true,
    help = "an expectation: 'CASE: p99 < 1ms', of all whose test and case contain CASE", group = "verdict" },
  { name = "baseline", value = "FILE,…", help = "ledgers (--json) to compare this run with",
    group = "verdict" },
  { name = "any-environment", help = "compare with the baseline even if kernel, CPU, overlay or the like differ",
    group = "verdict" },
}
for _, format in ipairs(output.formats) do
  M.flags[#M.flags + 1] = { name = format[1], value = "FILE", help = format[2], group = "results" }
end
for _, flag in ipairs {
  { name = "json-stream", value = "FILE", help = "write a line of JSON for each measurement as it ends",
    group = "results" },
  { name = "tag", value = "KEY=VALUE", kind = "pair", many = true,
    help = "write it into the ledger, for knbl trend: commit=abc", group = "results" },
  { name = "quiet", short = "-q", help = "no progress, no tables", group = "results" },
  { name = "help", short = "-h", help = "print this help; after a script, the script's", group = "program" },
  { name = "version", help = "print the version", group = "program" },
} do M.flags[#M.flags + 1] = flag end

local groups = {
  { "where", "Where to measure" }, { "kubernetes", "On Kubernetes (--on k8s, --on k8s:CONTEXT)" },
  { "what", "What to measure" }, { "verdict", "Verdict" }, { "results", "Results" }, { "program", "Program" },
}

-- Name, summary, and what its arguments are: a scenario (built in, or a file), or a file.
M.commands = {
  { "run", "run a scenario (`run` is optional)", "scenario" },
  { "list", "list the built-in scenarios, each with its question" },
  { "show", "print a built-in scenario", "scenario" },
  { "init", "write a scenario, editor settings and a CI job to start from" },
  { "report", "make tables and files from a ledger that --json wrote", "file" },
  { "compare", "show what changed between ledgers, and how certain that is", "file" },
  { "trend", "find where the figures of many runs changed their level", "file" },
  { "ab", "measure two arms of a scenario in turn, and compare them", "scenario" },
  { "change", "measure a scenario before and after a command", "scenario" },
  { "watch", "measure again and again; serve /metrics and a page", "scenario" },
  { "agent", "serve measurements on this machine" },
  { "lab", "start a shell in a cluster of namespaces" },
  { "image", "write the agent's container image" },
  { "clean", "remove what killed runs left on a Kubernetes cluster" },
  { "submit", "run a scenario inside the cluster, as a Job", "scenario" },
  { "doctor", "check what this machine supports, and how to fix the rest" },
  { "completion", "print a completion script for bash, zsh or fish" },
}

function M.command_names()
  local names = {}
  for i, command in ipairs(M.commands) do names[i] = command[1] end
  return names
end

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
    "  knbl SCENARIO --help                           the scenario's own options",
    "  knbl help COMMAND                              a command's options", "", "Commands:",
  }
  for _, command in ipairs(M.commands) do lines[#lines + 1] = ("  %-14s %s"):format(command[1], command[2]) end
  for _, group in ipairs(groups) do
    lines[#lines + 1] = "\n" .. group[2] .. ":"
    lines[#lines + 1] = args.help(of_group(flags, group[1]))
  end
  lines[#lines + 1] = "\nExit codes:"
  for _, row in ipairs(exit.list) do lines[#lines + 1] = ("  %3d  %s"):format(row[1], row[2]) end
  return table.concat(lines, "\n") .. "\n"
end

-- Separates the program's options, before and after the scenario's name, from the scenario's own arguments.
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

-- The index of the first argument that is not an option of the program: a command or a scenario.
local function first_word(core, flags, argv)
  local i, scratch = 1, {}
  while i <= #argv do
    if argv[i]:sub(1, 1) ~= "-" or argv[i] == "-" then return i end
    i = i + (args.take(core, flags, argv, i, scratch) or args.unknown(core, flags, argv[i]))
  end
end

-- Of the program itself: `agent` in C, and `run`, which takes the program's options.
local own = { agent = true, run = true }

-- The module of a command with options of its own; nil if there is none.
function M.command(name)
  for _, command in ipairs(M.commands) do
    if command[1] == name and not own[name] then return require("knbl.command." .. name) end
  end
end

local function without(argv, at)
  local words = {}
  for i, word in ipairs(argv) do
    if i ~= at then words[#words + 1] = word end
  end
  return words
end

local function run_command(context, argv, at)
  local command = M.command(argv[at])
  if not command then return nil end
  local words = without(argv, at)
  if command.raw then return command.run(context, {}, words) end
  local flags = { { name = "help", short = "-h", help = "print this help" } }
  for _, flag in ipairs(command.flags or {}) do flags[#flags + 1] = flag end
  local values, rest, before = args.parse(context.core, flags, words, 1, "knbl " .. argv[at],
    command.options_behind)
  if values.help then
    context.out(("%s\n\n  %s\n\n%s\n"):format(command.summary, command.usage, args.help(flags)))
    return 0
  end
  return command.run(context, values, rest, before)
end

function M.version(core) return ("knbl %s (protocol %s)\n"):format(core.version, tostring(core.protocol)) end

local function dispatch(context, argv)
  local flags = context.flags
  local at = first_word(context.core, flags, argv)
  local commands = M.command_names()
  if at and argv[at] == "run" then -- what follows is a scenario, whatever its name
    argv, commands = without(argv, at), nil
    at = first_word(context.core, flags, argv)
  end
  if at then
    local code = commands and run_command(context, argv, at)
    if code then return code end
    return require("knbl.command.run").run(context, argv, commands)
  end
  local settings = M.split(context.core, flags, argv)
  if settings.version then
    context.out(M.version(context.core))
    return 0
  end
  if settings.help then
    context.out(M.help(flags))
    return 0
  end
  errors.usage("a scenario is required; `knbl list` shows the built-in ones, `knbl --help` the options")
end

local function print_error(context, err)
  if errors.is(err) then
    context.err("knbl: " .. tostring(err) .. "\n")
    return exit.of(err)
  end
  context.err("knbl: " .. tostring(type(err) == "table" and err.message or err) .. "\n")
  return exit.script
end

-- Runs a command line. `context` is for tests: { out, err, core }.
function M.main(argv, context)
  context = context or {}
  context.core = context.core or require "knbl.native"
  context.out = context.out or output.to_stdout
  -- the live line and coloured tables are made here, of texts that are clean already
  context.live = context.err or output.live
  context.err = context.err or output.to_stderr
  context.flags = M.flags
  local ok, code = xpcall(dispatch, function(e)
    if type(e) == "table" then return e end
    return debug.traceback(tostring(e), 2)
  end, context, argv)
  if not ok then code = print_error(context, code) end
  return code
end

-- The session of a script that an interpreter runs, and the function that ends it.
function M.standalone(words)
  local list = {}
  for i = 1, #words do list[i] = words[i] end
  return require("knbl.command.run").standalone(list, words[0], M.flags)
end

return M
