-- Prints the manual page (roff) from the tables that also make --help: knbl docs/man.lua >knbl.1
local cli = require "knbl.program.cli"
local core = require "knbl.native"

local function escape(text)
  return (text:gsub("\\", "\\e"):gsub("%-", "\\-"):gsub("^([.'])", "\\&%1"):gsub("\n([.'])", "\n\\&%1"))
end

local out = {}
local function line(format, ...)
  local words = { ... }
  for i, word in ipairs(words) do words[i] = escape(word) end
  out[#out + 1] = format:format((table.unpack or unpack)(words))
end

-- An option as its own paragraph: its name in bold, what it takes in italics.
local function option(flag)
  local names = flag.short and escape(flag.short) .. ", " or ""
  names = names .. escape("--" .. flag.name)
  local value = flag.optional and "[=\\fI%s\\fR]" or flag.value and " \\fI%s\\fR" or ""
  out[#out + 1] = ".TP\n\\fB" .. names .. "\\fR" .. value:format(escape(flag.value or ""))
  line("%s", flag.help .. (flag.default and (" [%s]"):format(tostring(flag.default)) or ""))
end

local function options_of(flags)
  for _, flag in ipairs(flags) do option(flag) end
end

local function commands()
  for _, command in ipairs(cli.commands) do line(".TP\n\\fBknbl %s\\fR\n%s", command[1], command[2]) end
end

-- The options of the commands that have some of their own.
local function command_options()
  for _, command in ipairs(cli.commands) do
    local module = cli.command(command[1])
    if module and module.flags and #module.flags > 0 then
      line(".SS %s", module.usage or ("knbl " .. command[1]))
      options_of(module.flags)
    end
  end
end

-- `knbl agent` is the program's own and explains itself.
local function agent_options()
  local pipe = io.popen("/proc/" .. assert(io.open "/proc/self/stat":read "n") .. "/exe agent --help", "r")
  line ".SS knbl agent [--listen [ADDRESS]:PORT] --token-file FILE"
  for name, value, help in pipe:read "a":gmatch "\n  %-%-([%a-]+) (%S+)%s+([^\n]+)" do
    option { name = name, value = value, help = help }
  end
  pipe:close()
end

line('.TH KNBL 1 "" "knbl %s" "User Commands"', core.version)
line ".SH NAME"
line("%s", "knbl - what the network of a Kubernetes cluster costs, path by path")
line ".SH SYNOPSIS"
line ".B knbl\n[\\fIOPTIONS\\fR] \\fISCENARIO\\fR [\\fISCENARIO'S OPTIONS\\fR]\n.br\n.B knbl\n\\fICOMMAND\\fR \z
  [\\fIOPTIONS\\fR]"
line ".SH DESCRIPTION"
line("%s",
  "knbl runs a scenario, a Lua script that says what to measure: latency, throughput, connection rates, loss and \z
    their cost in CPU, "
  .. "over the paths of a cluster: pods, Services, nodes. Without a cluster it builds one of network namespaces on \z
    this machine, "
  .. "which needs no root. A scenario is a file or the name of a built-in one; knbl list names these, knbl SCENARIO \z
    --help explains one.")
line(".PP\n%s", "Results go to standard output, everything else to standard error.")
line ".SH COMMANDS"
commands()
line ".SH OPTIONS"
options_of(cli.flags)
line ".SH OPTIONS OF THE COMMANDS"
command_options()
agent_options()
line ".SH EXIT STATUS"
for _, row in ipairs(require("knbl.base.exit").list) do line(".TP\n.B %s\n%s", tostring(row[1]), row[2]) end
line ".SH ENVIRONMENT"
for _, row in ipairs {
  { "KNBL_TOKEN", "the secret of agents, where no --token-file is given" },
  { "KNBL_LUA_PATH", "templates (/folder/?.lua;…) where modules are looked for before those that are built in" },
  { "KUBECONFIG", "as for kubectl" }, { "NO_COLOR", "no colour on a terminal" },
} do
  line(".TP\n.B %s\n%s", row[1], row[2])
end
line ".SH EXAMPLES"
line(".nf\n%s\n%s\n%s\n.fi", "knbl pod_to_svc", "knbl --on k8s --json result.json pod_to_svc",
  "knbl --on hosts:a=10.0.0.1,b=10.0.0.2 --token-file secret node_to_node")

io.write(table.concat(out, "\n"), "\n")
