-- Makes docs/reference.md of lua/knbl/meta.lua, the table of flags, the figures and the parameters: ./knbl
-- docs/reference.lua > docs/reference.md
local args = require "knbl.base.args"
local cli = require "knbl.program.cli"
local core = require "knbl.native"
local doubt = require "knbl.results.doubt"
local figures = require "knbl.results.figures"

local out = {}
local function say(format, ...) out[#out + 1] = select("#", ...) > 0 and format:format(...) or format end

local function cell(text) return (text:gsub("|", "\\|")) end

-- ---- lua/knbl/meta.lua ----

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "a"
  file:close()
  return text
end

-- A type may have spaces inside brackets, and before what a function returns: "fun(row: table): number?".
local function split_type(text)
  local depth, i = 0, 1
  while i <= #text do
    local c = text:sub(i, i)
    if c:match "[%(%[{<]" then depth = depth + 1 elseif c:match "[%)%]}>]" then depth = depth - 1 end
    if c == " " and depth == 0 and not text:sub(1, i - 1):find "%):$" then break end
    i = i + 1
  end
  return text:sub(1, i - 1), text:sub(i + 1)
end

-- What a tag says of itself, or the lines before it do.
local function about(inline, lines)
  return inline ~= "" and inline or table.concat(lines, " ")
end

local function class(block)
  local rows, before = {}, {}
  for _, line in ipairs(block) do
    local tag, name, rest = line:match "^@(%a+) (%S+)%s*(.*)$"
    if tag == "class" then
      local text = about(rest, before)
      say("### %s\n", name)
      if text ~= "" then say("%s\n", text) end
    elseif tag == "field" then
      local kind, help = split_type(rest)
      rows[#rows + 1] = ("| `%s` | `%s` | %s |"):format(cell(name), cell(kind), about(help, before))
    end
    if tag then before = {} else before[#before + 1] = line end
  end
  if #rows > 0 then say("| key | type | |\n|:--|:--|:--|\n%s\n", table.concat(rows, "\n")) end
end

local function func(block, signature)
  local text, params, returns = {}, {}, {}
  for _, line in ipairs(block) do
    local tag, rest = line:match "^@(%a+) (.*)$"
    if tag == "param" then
      local name, typed = rest:match "^(%S+) (.*)$"
      local kind, help = split_type(typed)
      params[#params + 1] = ("`%s`: `%s`%s"):format(name, kind, help ~= "" and " - " .. help or "")
    elseif tag == "return" then
      local kind, typed = split_type(rest)
      local name, help = typed:match "^(%S*)%s*(.*)$"
      returns[#returns + 1] = ("`%s`%s"):format(name ~= "" and kind .. " " .. name or kind,
        help ~= "" and " - " .. help or "")
    elseif not tag then
      text[#text + 1] = line
    end
  end
  say("### %s\n\n%s\n", signature, table.concat(text, " "))
  if #params > 0 then say("- takes %s", table.concat(params, "; ")) end
  if #returns > 0 then say("- returns %s", table.concat(returns, "; ")) end
  say ""
end

local function library()
  local block, aliases = {}, {}
  for line in read("lua/knbl/meta.lua"):gmatch "([^\n]*)\n" do
    local comment = line:match "^%-%-%-%s?(.*)$"
    local alias = comment and comment:match "^@alias (.*)$"
    if alias then
      local name, rest = alias:match "^(%S+) (.*)$"
      local kind, help = split_type(rest)
      aliases[#aliases + 1] = ("| `%s` | `%s` | %s |"):format(name, cell(kind), about(help, block))
      block = {}
    elseif comment then
      block[#block + 1] = comment
    else
      if #aliases > 0 and #block == 0 then
        say("| type | is | |\n|:--|:--|:--|\n%s\n", table.concat(aliases, "\n"))
        aliases = {}
      end
      local title = line:match "^%-%- ## (.*)$"
      local name = line:match "^function ([%w_.:]+%b())"
      if title then say("## %s\n", title) end
      if name then
        func(block, name:gsub("^%u", string.lower))
      elseif #block > 0 and table.concat(block, "\n"):find("@class", 1, true) then
        class(block)
      end
      block = {}
    end
  end
end

-- ---- tables that the program itself uses ----

local function parameters()
  say "## Parameters by test\n\n| key | kind | tests | |\n|:--|:--|:--|:--|"
  for _, field in ipairs(core.fields()) do
    local tests = #field.tests == #core.tests() and "all" or table.concat(field.tests, ", ")
    local kind = field.choices and table.concat(field.choices, ", ") or field.kind
    say("| `%s` | %s | %s | %s |", field.name, kind, tests, field.help)
  end
  say ""
end

local function shown_figures()
  say "## Figures\n\nWhat `show`, `columns` and expectations call them. Any other number below `metrics` goes by its \z
    path, if that has a dot or an underscore: `rtt_ns`, `status.5xx`, "
  say "`cpu.client_softirq`; any whole percentile by its name: `p66`.\n\n| name | in `metrics` | unit | better \z
    |\n|:--|:--|:--|:--|"
  for _, figure in ipairs(figures.list) do
    local path = type(figure.path) == "table" and table.concat(figure.path, " + ") or figure.path
    say("| `%s` | %s | %s | %s |", figure.name, path, figure.unit, figure.better or "")
  end
  say "\n## Flags\n\nWhy a figure is doubtful; in tables a number in brackets leads to it.\n\n| flag | what it says \z
    | set where |\n|:--|:--|:--|"
  for _, flag in ipairs(doubt.list) do say("| `%s` | %s | %s |", flag.name, flag.meaning, flag.where) end
  say ""
end

local function command_line()
  say "## The command line\n\n    knbl [OPTIONS] SCENARIO [SCENARIO'S OPTIONS]\n\n| option | |\n|:--|:--|"
  for _, flag in ipairs(cli.flags) do
    say("| `--%s%s`%s | %s |", flag.name, cell(args.value_of(flag)),
      flag.short and (", `%s`"):format(flag.short) or "", cell(flag.help))
  end
  say "\n| command | |\n|:--|:--|"
  for _, command in ipairs(cli.commands) do say("| `%s` | %s |", command[1], command[2]) end
  say "\n| exit code | |\n|--:|:--|"
  for _, row in ipairs(require("knbl.base.exit").list) do say("| %d | %s |", row[1], row[2]) end
end

local terms = {
  { "test", "a kind of measurement, such as `tcp_rr`" },
  { "figure", "a named number that was measured, such as `p99`: see [Figures](#figures)" },
  { "flag", "a reason to doubt a figure: see [Flags](#flags)" },
  { "ledger", "the record of a run: everything that was asked and measured, as `--json` writes it \z
    ([schema](ledger.schema.json))" },
  { "report", "tables made from a ledger: those that a scenario declares with `knbl.report`, or plain ones; \z
    `knbl report` makes them again from a file" },
  { "provider", "what provides clusters: `lab`, `k8s`, `hosts`, `loopback` \z
    (lua/knbl/cluster/provider.lua has the contract)" },
}

say "# Reference\n\n<!-- made by docs/reference.lua: change lua/knbl/meta.lua, or the tables that it reads -->\n"
say "## Terms\n\n| term | meaning |\n|:--|:--|"
for _, row in ipairs(terms) do say("| %s | %s |", row[1], row[2]) end
say ""
library()
parameters()
shown_figures()
command_line()
io.write(table.concat(out, "\n"), "\n")
