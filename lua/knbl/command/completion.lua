-- knbl completion SHELL - prints a completion script for bash, zsh or fish, made from the tables that make --help.
local errors = require "knbl.base.errors"
local figures = require "knbl.results.figures"
local scenario = require "knbl.program.scenario"

local M = {
  summary = "Prints a script that completes knbl's commands, options and scenarios in a shell.",
  usage = "knbl completion bash|zsh|fish",
}

-- ---- what to complete ----

-- The values of a flag: a list of words, "file", or nil for any text.
local function values_of(flag)
  if not flag.value or flag.optional then return nil end
  if flag.words or flag.choices then return flag.words or flag.choices end
  if flag.name == "figure" then return figures.names end
  return flag.value:find("^FILE") and "file" or nil
end

-- The options of `knbl agent`, which C has (src/agent_command.c).
local agent = {
  { name = "listen", value = "[ADDRESS]:PORT", help = "listen on this address and port" },
  { name = "token-file", value = "FILE", help = "read the token from FILE" },
  { name = "lifeline", value = "TIME", help = "exit when standard input ends or has no data for TIME" },
  { name = "unix", value = "PATH", help = "also accept control on a Unix socket" },
  { name = "name", value = "NAME", help = "name of this agent in results" },
  { name = "node", value = "NAME", help = "name of this machine in results" },
  { name = "max-duration", value = "TIME", help = "refuse longer runs" },
  { name = "max-bytes", value = "SIZE", help = "limit the bytes of each run and flow" },
  { name = "max-runs", value = "N", help = "limit the number of runs at once" },
  { name = "idle", value = "TIME", help = "exit after TIME without a client" },
}

local arguments = { completion = { "bash", "zsh", "fish" }, image = { "save" } }

-- The arguments of a command: a list of words, "file", or nil.
local function words_of(core, name, takes)
  if takes == "scenario" then return scenario.names(core), true end
  return arguments[name] or takes
end

-- The program's flags, and the commands with theirs: { flags, scenarios, commands = { { name, help, flags, words,
-- files }… } }.
local function tables(core)
  local cli = require "knbl.program.cli"
  local all = { flags = cli.flags, commands = {}, scenarios = scenario.names(core) }
  for i, row in ipairs(cli.commands) do
    local command = cli.command(row[1]) or {}
    local list, files = words_of(core, row[1], row[3])
    local flags = row[1] == "run" and all.flags or row[1] == "agent" and agent or command.flags or {}
    all.commands[i] = { name = row[1], help = row[2], flags = flags, words = list, files = files }
  end
  all.commands[#all.commands + 1] = { name = "help", help = "print a command's options", flags = {},
    words = cli.command_names() }
  return all
end

local function names_of(list)
  local names = {}
  for i, item in ipairs(list) do names[i] = type(item) == "table" and item.name or item end
  return names
end

local function options_of(flags)
  local names = {}
  for _, flag in ipairs(flags) do
    names[#names + 1] = "--" .. flag.name
    if flag.short then names[#names + 1] = flag.short end
  end
  return table.concat(names, " ")
end

-- All flags of the program and the commands that take a value, once each.
local function valued(all)
  local list, seen = {}, {}
  local function add(flags)
    for _, flag in ipairs(flags) do
      if flag.value and not flag.optional and not seen[flag.name] then
        seen[flag.name] = true
        list[#list + 1] = flag
      end
    end
  end
  add(all.flags)
  for _, command in ipairs(all.commands) do add(command.flags) end
  return list
end

-- ---- bash ----

local function bash_values(all)
  local files, out, all_names = {}, {}, {}
  for _, flag in ipairs(valued(all)) do
    local names = "--" .. flag.name .. (flag.short and "|" .. flag.short or "")
    local values = values_of(flag)
    all_names[#all_names + 1] = names
    if values == "file" then files[#files + 1] = names
    elseif values then out[#out + 1] = ("    %s) COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;"):format(names,
      table.concat(values, " ")) end
  end
  table.insert(out, 1, ("    %s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;"):format(table.concat(files, "|")))
  out[#out + 1] = ("    %s) return ;;"):format(table.concat(all_names, "|"))
  return table.concat(out, "\n"), table.concat(all_names, "|")
end

local function bash(all)
  local values, names = bash_values(all)
  local out = {
    "# completion of knbl for bash: source <(knbl completion bash)",
    "_knbl() {", "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= words= files= i",
    '  COMPREPLY=()',
      '  if [[ $cur == = ]]; then cur=; elif [[ $prev == = ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi',
    "  for ((i = 1; i < COMP_CWORD; i++)); do", "    case ${COMP_WORDS[i]} in",
    ("      %s) ((i++)); [[ ${COMP_WORDS[i]} == = ]] && ((i++)) ;;"):format(names), "      -*|=) ;;",
      "      *) command=${COMP_WORDS[i]}; break ;;", "    esac", "  done",
    "  case $prev in", values, "  esac", "  case $command in",
    ("    '') words='%s %s %s' files=1 ;;"):format(options_of(all.flags), table.concat(names_of(all.commands), " "),
      table.concat(all.scenarios, " ")),
  }
  for _, command in ipairs(all.commands) do
    local words = type(command.words) == "table" and " " .. table.concat(command.words, " ") or ""
    out[#out + 1] = ("    %s) words='%s --help%s'%s ;;"):format(command.name, options_of(command.flags), words,
      (command.files or command.words == "file") and " files=1" or "")
  end
  out[#out + 1] = ("    *) words='%s' files=1 ;;"):format(options_of(all.flags))
  out[#out + 1] = '  esac\n  COMPREPLY=($(compgen -W "$words" -- "$cur"))'
  out[#out + 1] = '  [[ -n $files && $cur != -* ]] && COMPREPLY+=($(compgen -f -- "$cur"))\n  return 0\n}'
  out[#out + 1] = "complete -o filenames -F _knbl knbl"
  return table.concat(out, "\n") .. "\n"
end

-- ---- zsh ----

local function zsh_text(text) return (text:gsub("[%[%]:\\]", "\\%0"):gsub("'", "'\\''")) end

local function zsh_words(words)
  if words == "file" then return "_files" end
  return type(words) == "table" and "(" .. table.concat(words, " ") .. ")" or " "
end

local function zsh_options(flags)
  local out = {}
  for _, flag in ipairs(flags) do
    local takes = flag.value and not flag.optional
    local value = takes and (":%s:%s"):format(zsh_text(flag.value), zsh_words(values_of(flag))) or ""
    for _, name in ipairs { "--" .. flag.name, flag.short } do
      out[#out + 1] = ("'%s%s%s[%s]%s'"):format(flag.many and "*" or "", name,
        takes and name:sub(1, 2) == "--" and "=" or "", zsh_text(flag.help), value)
    end
  end
  return table.concat(out, " \\\n      ")
end

local function zsh(all)
  local out = { "#compdef knbl", "_knbl() {", "  local -a commands scenarios", "  local state line", "  commands=(" }
  for _, command in ipairs(all.commands) do
    out[#out + 1] = ("    '%s:%s'"):format(command.name, zsh_text(command.help))
  end
  out[#out + 1] = ("  )\n  scenarios=(%s)"):format(table.concat(all.scenarios, " "))
  out[#out + 1] = ("  _arguments -C \\\n      %s \\\n      '1: :->first' '*:: :->rest'"):format(zsh_options(all.flags))
  out[#out + 1] =
    "  case $state in\n  first) _describe command commands; compadd -a scenarios; _files -g '*.lua' ;;\n  rest) case \z
      $line[1] in"
  for _, command in ipairs(all.commands) do
    local rest = command.files and ("'*:scenario:{ compadd -a scenarios; _files }'")
      or ("'*: :%s'"):format(zsh_words(command.words))
    local options = #command.flags > 0 and zsh_options(command.flags) .. " \\\n      " or ""
    out[#out + 1] = ("    %s) _arguments \\\n      %s'--help[print help]' %s ;;"):format(command.name,
      command.name == "run" and "" or options,
      command.name == "run" and zsh_options(all.flags) .. " " .. rest or rest)
  end
  out[#out + 1] = ("    *) _arguments \\\n      %s '*: :_files' ;;\n    esac ;;\n  esac\n}"):format(
    zsh_options(all.flags))
  out[#out + 1] = 'if [ "$funcstack[1]" = _knbl ]; then _knbl "$@"; else compdef _knbl knbl; fi'
  return table.concat(out, "\n") .. "\n"
end

-- ---- fish ----

local function fish_text(text) return (text:gsub("[\\']", "\\%0")) end

local function fish_flag(flag, condition)
  local values = values_of(flag)
  local takes = (not flag.value or flag.optional) and "" or values == "file" and " -r -F" or type(values) == "table"
    and (" -x -a '%s'"):format(table.concat(values, " ")) or " -x"
  return ("complete -c knbl -n '%s' -l %s%s%s -d '%s'"):format(condition, flag.name,
    flag.short and " -s " .. flag.short:sub(2) or "", takes,
    fish_text(flag.help))
end

local function fish(all)
  local names = table.concat(names_of(all.commands), " ")
  local none = "not __fish_seen_subcommand_from " .. names
  local out = { "# completion of knbl for fish: knbl completion fish | source", "complete -c knbl -f" }
  for _, command in ipairs(all.commands) do
    out[#out + 1] = ("complete -c knbl -n '%s' -a %s -d '%s'"):format(none, command.name, fish_text(command.help))
  end
  out[#out + 1] = ("complete -c knbl -n '%s' -a '%s' -d scenario"):format(none, table.concat(all.scenarios, " "))
  out[#out + 1] = ("complete -c knbl -n '%s' -a '(__fish_complete_suffix .lua)'"):format(none)
  for _, flag in ipairs(all.flags) do out[#out + 1] = fish_flag(flag, none) end
  for _, command in ipairs(all.commands) do
    local seen = "__fish_seen_subcommand_from " .. command.name
    for _, flag in ipairs(command.flags) do out[#out + 1] = fish_flag(flag, seen) end
    if type(command.words) == "table" then
      out[#out + 1] = ("complete -c knbl -n '%s' -a '%s'"):format(seen, table.concat(command.words, " "))
    end
    if command.files or command.words == "file" then out[#out + 1] = ("complete -c knbl -n '%s' -F"):format(seen) end
  end
  return table.concat(out, "\n") .. "\n"
end

local shells = { bash = bash, zsh = zsh, fish = fish }

function M.run(context, _, words)
  local shell = shells[words[1] or ""]
  if #words ~= 1 or not shell then errors.usage("usage: %s", M.usage) end
  context.out(shell(tables(context.core)))
  return 0
end

return M
