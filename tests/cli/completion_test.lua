-- Completion as the shells themselves do it; zsh and fish where they are installed.
local lu = require "luaunit"
local cli = require "knbl.program.cli"

local knbl = os.getenv "KNBL" or "./knbl"

local function sh(line)
  local pipe = assert(io.popen(line .. " 2>&1"))
  local text = pipe:read "a"
  return text, pipe:close()
end

local function has(program) return os.execute("command -v " .. program .. " >/dev/null 2>&1") == true end

-- What bash offers for a line whose last word is being written.
local function offered(...)
  local words, quoted = { ... }, {}
  for i, word in ipairs(words) do quoted[i] = "'" .. word .. "'" end
  local text = sh(
    ("bash -c 'eval \"$(%s completion bash)\"; COMP_WORDS=(\"$@\"); COMP_CWORD=%d; _knbl; printf \"%%s\\n\" \z
      \"${COMPREPLY[@]}\"' - %s"):format(knbl,
    #words - 1, table.concat(quoted, " ")))
  local list = {}
  for word in text:gmatch "[^\n]+" do list[word] = true end
  return list, text
end

TestCompletion = {}

function TestCompletion:test_bash()
  if not has "bash" then lu.skip "no bash here" end
  for _, case in ipairs {
    { "--json", "knbl", "--js" }, { "compare", "knbl", "comp" }, { "pod_to_svc", "knbl", "pod" },
      { "--fail-if", "knbl", "compare", "a.json", "--f" },
    { "k8s", "knbl", "--on", "k" }, { "p99", "knbl", "compare", "--figure", "p9" },
      { "Makefile", "knbl", "--json", "Makef" },
    { "Makefile", "knbl", "report", "Makef" }, { "zsh", "knbl", "completion", "z" }, { "--ci", "knbl", "init", "--" },
      { "github", "knbl", "init", "--ci", "=", "g" },
    { "--repeats", "knbl", "pod_to_svc", "--rep" }, { "pod_to_svc", "knbl", "--on", "lab", "run", "pod" },
      { "ci_gate", "knbl", "show", "ci" },
    { "compare", "knbl", "help", "comp" }, { "save", "knbl", "image", "s" }, { "--idle", "knbl", "agent", "--i" },
  } do
    local list, text = offered((table.unpack or unpack)(case, 2))
    lu.assertTrue(list[case[1]], table.concat(case, " ") .. ": " .. text)
  end
  lu.assertNil(offered("knbl", "compare", "--")["--on"])
  lu.assertNil(next((offered("knbl", "--duration", "p"))), "a time is one's own")
end

function TestCompletion:test_every_flag_is_in_every_shell()
  for _, shell in ipairs { "bash", "zsh", "fish" } do
    local text = sh(knbl .. " completion " .. shell)
    for _, flag in ipairs(cli.flags) do
      lu.assertStrContains(text, shell == "fish" and "-l " .. flag.name .. " " or "--" .. flag.name)
    end
    for _, command in ipairs(cli.commands) do lu.assertStrContains(text, command[1]) end
  end
end

function TestCompletion:test_every_flag_of_the_agent()
  local list = offered("knbl", "agent", "--")
  for name in sh(knbl .. " agent --help"):gmatch "\n  (%-%-[%a-]+)" do lu.assertTrue(list[name], name) end
end

function TestCompletion:test_zsh()
  if not has "zsh" then lu.skip "no zsh here" end
  local text, ok = sh(knbl .. " completion zsh >/dev/null && " .. knbl .. " completion zsh | zsh -n /dev/stdin")
  lu.assertTrue(ok, text)
  -- a terminal of its own, as a person has one: the list that the Tab key gives
  local script = ([[zmodload zsh/zpty; zpty z 'PS1="> " zsh -f -i'
    zpty -w z 'autoload -Uz compinit && compinit -u -D; source <(%s completion zsh); print READY-$((1+1))'
    zpty -r -m z x '*READY-2*'; zpty -w -n z $'%s compare --fa\t'; zpty -r -m z y '*fail-if*' && print FOUND
    zpty -d z]]):format(knbl, knbl:match "[^/]*$")
  lu.assertStrContains((sh("timeout 20 zsh -c '" .. script:gsub("'", "'\\''") .. "'")), "FOUND")
end

function TestCompletion:test_fish()
  if not has "fish" then lu.skip "no fish here" end
  local function complete(line)
    return (sh(("HOME=/tmp fish --no-config -c '%s completion fish | source; complete -C \"%s\"'"):format(knbl, line)))
  end
  lu.assertStrContains(complete "knbl --js", "--json")
  lu.assertStrContains(complete "knbl comp", "compare")
  lu.assertStrContains(complete "knbl pod", "pod_to_svc")
  lu.assertStrContains(complete "knbl compare --fa", "--fail-if")
  lu.assertStrContains(complete "knbl completion ba", "bash")
end

function TestCompletion:test_another_shell()
  local text, ok = sh(knbl .. " completion tcsh")
  lu.assertNil(ok)
  lu.assertStrContains(text, "bash|zsh|fish")
end

os.exit(lu.LuaUnit.run())
