-- knbl.program.output - writes results: files, tables on standard output, the verdict and the exit code.
local errors = require "knbl.base.errors"
local expect = require "knbl.results.expect"
local exit = require "knbl.base.exit"
local judge = require "knbl.results.judge"
local ledger = require "knbl.results.ledger"
local say = require "knbl.base.say"
local text = require "knbl.base.text"

local M = {}

-- Both outputs may be one file or terminal (`>f 2>&1`): each text is there wholly before the other one's, in the order
-- in which they were written, whatever the script itself printed.
function M.to_stdout(s)
  io.stdout:write(s)
  io.stdout:flush()
end

-- A text of knbl's own, which may steer the terminal.
function M.live(s)
  io.stdout:flush()
  io.stderr:write(s)
end

function M.to_stderr(s)
  io.stdout:flush()
  say(s)
end

-- The file formats: the option, which is also the name of the module knbl.format.NAME that renders a ledger's data, and
-- its help. To add a format, write that module and add a line here (CONTRIBUTING.md).
M.formats = {
  { "json", "write the ledger: everything that was asked and measured (- is standard output)" },
  { "csv", "write the figures as CSV" },
  { "markdown", "write the tables as Markdown" },
  { "junit", "write measurements and expectations as JUnit XML" },
  { "html", "write a page with charts" },
  { "openmetrics", "write the figures as OpenMetrics text" },
  { "flame", "write a page with the flame graphs of --profile and their differences" },
  { "folded", "write the profiles as folded stacks for other tools" },
}

-- Whether the locale lacks UTF-8.
function M.is_ascii()
  for _, name in ipairs { "LC_ALL", "LC_CTYPE", "LANG" } do
    local value = os.getenv(name)
    if value and value ~= "" then return not value:lower():find("utf%-?8") end
  end
  return true
end

-- The flags that name a file: the formats, and the stream.
function M.flags()
  local names = { "json-stream", "benchmark-json", "benchmark-json-more", "opensearch-bulk" }
  for _, format in ipairs(M.formats) do names[#names + 1] = format[1] end
  return names
end

-- What takes the text of each measurement as it ends, for --json-stream; nil where it was not asked for.
function M.stream(context, settings)
  local path = settings.json_stream
  if not path then return nil end
  if path == "-" then return context.out end
  local file, err = io.open(path, "w")
  if not file then errors.usage("--json-stream: %s", err) end
  return function(line)
    file:write(line)
    file:flush()
  end
end

-- Checks the paths of all files before anything is measured; returns them by format. Only one may be standard output.
function M.prepare(core, settings)
  local files, stdout, taken = {}, nil, {}
  for _, name in ipairs(M.flags()) do
    local path = settings[name:gsub("-", "_")]
    if path == "-" then
      if stdout then errors.usage("--%s and --%s cannot both go to standard output", stdout, name) end
      stdout = name
    elseif path then
      if taken[path] and not path:find "^/dev/" then
        errors.usage("--%s and --%s cannot both be %s", taken[path], name, path)
      end
      taken[path] = name
      local ok, special = core.can_write(path)
      if not ok then errors.usage("--%s: %s", name, special.message) end
      if special ~= true then files[name] = path end -- a pipe or a device gets one text, at the end
    end
  end
  return files
end

local function render_options(core, tty)
  local colour = tty and (os.getenv("NO_COLOR") or "") == "" and os.getenv("TERM") ~= "dumb"
  return { core = core, ascii = M.is_ascii(), columns = tty and core.columns() or nil, colour = colour }
end

-- ---- files in a log ----

-- A pod's log mixes both outputs in any order and splits long lines. With this variable in its environment, knbl marks
-- each line of a file that goes to standard output, and each continuation of a line, so that the file can be read back.
M.MARK = "KNBL_MARK_LINES"
-- And this one ends a run after a time, as an interrupt does: what was measured until then is written.
M.LIMIT = "KNBL_TIME_LIMIT"
local LINE, MORE, LENGTH = "\30", "\31", 8000

function M.mark(body)
  local lines = {}
  for line in body:gmatch "[^\n]+" do
    for at = 1, #line, LENGTH do lines[#lines + 1] = (at == 1 and LINE or MORE) .. line:sub(at, at + LENGTH - 1) end
  end
  return table.concat(lines, "\n") .. "\n"
end

-- Adds a line of a log to `lines` if it has a mark; returns whether it has.
function M.unmark(lines, line)
  local mark = line:sub(1, 1)
  if mark == LINE then
    lines[#lines + 1] = line:sub(2)
  elseif mark == MORE and lines[1] then
    lines[#lines] = lines[#lines] .. line:sub(2)
  end
  return mark == LINE or mark == MORE
end

-- ---- files ----

-- Writes one file atomically; prints what went wrong, and returns whether it was written.
function M.put(context, flag, path, body)
  if path == "-" then
    context.out(os.getenv(M.MARK) and M.mark(body) or body)
    return true
  end
  local ok, err = context.core.write_file(path, body)
  if not ok then
    context.err(("knbl: --%s: %s\n"):format(flag, tostring(type(err) == "table" and err.message or err)))
  end
  return ok and true or false
end

-- Writes all files of a ledger; returns whether all were written.
function M.write_files(context, book, settings)
  local all = true
  for _, format in ipairs(M.formats) do
    local path = settings[format[1]]
    if path then
      local module = require("knbl.format." .. format[1])
      local body, lost = module.render(book.data, { core = context.core, ascii = M.is_ascii() })
      if type(lost) == "string" then context.err(("knbl: --%s: %s\n"):format(format[1], lost)) end
      all = M.put(context, format[1], path, body) and all
      if #body > 16e6 then collectgarbage() end -- free the memory of a huge file before the next
    end
  end
  return all
end

-- Prints text for people, made by `render(options)`, on standard output, or on standard error if a file goes there.
function M.say(context, settings, render)
  local to_stdout = true
  for _, name in ipairs(M.flags()) do to_stdout = to_stdout and settings[name:gsub("-", "_")] ~= "-" end
  local body = render(render_options(context.core, context.core.isatty(to_stdout and 1 or 2)))
  if body ~= "" then (to_stdout and context.out or context.live or context.err)(body) end
end

-- Prints the tables of a ledger. With a marked log, its reader prints them.
function M.show(context, data, settings)
  if settings.quiet or os.getenv(M.MARK) then return end
  M.say(context, settings, function(options) return require("knbl.format.table").render(data, options) end)
end

-- With --quiet there is no table: what failed is named on standard error.
local function name_failures(context, data)
  local out, options = {}, { core = context.core, ascii = M.is_ascii() }
  for _, m in ipairs(data.measurements) do
    if not m.ok and not m.skipped and not expect.as_wanted(m) then
      local why = m.error and m.error.message or "no reason given"
      out[#out + 1] = ("failed: %s %s: %s"):format(m.test, ledger.subject(m), why)
    end
  end
  local wrong = {}
  for _, e in ipairs(data.expectations) do
    if e.status ~= "pass" then wrong[#wrong + 1] = e end
  end
  require("knbl.format.table").expectations(wrong, options, out)
  for _, line in ipairs(out) do context.err("knbl: " .. text.clean(line) .. "\n") end
end

-- Judges a run, prints and writes its results, and returns its exit code.
function M.finish(context, job, book, err, show_error)
  if #book.data.measurements == 0 and not book.data.meshes and not err
    and #job.expectations == 0 and not next(job.settings) then return 0 end
  local verdict = judge.run(context.core, book.data, job.expectations, job.baseline, err, job.settings.any_environment,
    book.left_out)
  book:finish(verdict)
  if #book.data.measurements > 0 or book.data.meshes or #book.data.reports > 0 or #book.data.expectations > 0 then
    M.show(context, book.data, job.settings)
  end
  local written = M.write_files(context, book, job.settings)
  if job.settings.quiet and not err then name_failures(context, book.data) end
  if err then
    show_error(context, err)
  elseif verdict.message then
    context.err("knbl: " .. verdict.message .. "\n")
  end
  if verdict.exit == exit.ok and not written then
    return context.core.interrupted() and exit.interrupted or exit.script
  end
  return verdict.exit
end

return M
