-- knbl.output - where results go: the files that were asked for, the tables on standard output, the verdict and the exit code.
local errors = require "knbl.errors"
local judge = require "knbl.judge"

local M = {}

-- The formats that a file can be asked in: the flag's name and the module that renders a ledger's data.
M.formats = {
  { "json", "knbl.format.json" }, { "csv", "knbl.format.csv" }, { "markdown", "knbl.format.markdown" }, { "junit", "knbl.format.junit" },
  { "html", "knbl.format.html" }, { "openmetrics", "knbl.format.openmetrics" }, { "flame", "knbl.format.flame" }, { "folded", "knbl.format.folded" },
}

-- Whether this terminal's locale has no UTF-8.
function M.is_ascii()
  for _, name in ipairs { "LC_ALL", "LC_CTYPE", "LANG" } do
    local value = os.getenv(name)
    if value and value ~= "" then return not value:lower():find("utf%-?8") end
  end
  return true
end

-- Checks all paths of files, before anything is measured; returns them by format. Only one can be standard output.
function M.prepare(core, settings)
  local files, stdout, taken = {}, nil, {}
  for _, format in ipairs(M.formats) do
    local path = settings[format[1]]
    if path == "-" then
      if stdout then errors.usage("--%s and --%s cannot both go to standard output", stdout, format[1]) end
      stdout = format[1]
    elseif path then
      if taken[path] and not path:find "^/dev/" then errors.usage("--%s and --%s cannot both be %s", taken[path], format[1], path) end
      taken[path] = format[1]
      local ok, err = core.can_write(path)
      if not ok then errors.usage("--%s: %s", format[1], err.message) end
      files[format[1]] = path
    end
  end
  return files
end

local function render_options(core, tty)
  local colour = tty and (os.getenv("NO_COLOR") or "") == "" and os.getenv("TERM") ~= "dumb"
  return { core = core, ascii = M.is_ascii(), columns = tty and core.columns() or nil, colour = colour }
end

-- ---- what a log can be read back from ----

-- A pod's log has both outputs, in no order that can be relied on, and takes no line of any length. With this in its environment, knbl puts a mark
-- before each line of a file that goes to standard output, and another before what continues one.
M.MARK = "KNBL_MARK_LINES"
local LINE, MORE, LENGTH = "\30", "\31", 8000

function M.mark(text)
  local lines = {}
  for line in text:gmatch "[^\n]+" do
    for at = 1, #line, LENGTH do lines[#lines + 1] = (at == 1 and LINE or MORE) .. line:sub(at, at + LENGTH - 1) end
  end
  return table.concat(lines, "\n") .. "\n"
end

-- Adds a line of a log to the text's lines so far, where it has a mark; returns whether it had.
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

-- Writes one file, whole or not at all; says what went wrong, and returns whether it was written.
function M.put(context, flag, path, text)
  if path == "-" then
    context.out(os.getenv(M.MARK) and M.mark(text) or text)
    return true
  end
  local ok, err = context.core.write_file(path, text)
  if not ok then context.err(("knbl: --%s: %s\n"):format(flag, tostring(type(err) == "table" and err.message or err))) end
  return ok and true or false
end

-- All files of a ledger; returns whether all could be written.
function M.write_files(context, book, settings)
  local all = true
  for _, format in ipairs(M.formats) do
    local path = settings[format[1]]
    if path then
      local text = require(format[2]).render(book.data, { core = context.core, ascii = M.is_ascii() })
      all = M.put(context, format[1], path, text) and all
      if #text > 16e6 then collectgarbage() end -- what a huge ledger took is free for the next one
    end
  end
  return all
end

-- A text for people, made by `render(options)`: on standard output, or on standard error where a file took that.
function M.say(context, settings, render)
  local to_stdout = true
  for _, format in ipairs(M.formats) do to_stdout = to_stdout and settings[format[1]] ~= "-" end
  local text = render(render_options(context.core, context.core.isatty(to_stdout and 1 or 2)))
  if text ~= "" then (to_stdout and context.out or context.err)(text) end
end

-- The tables of a ledger; whoever reads it out of a marked log makes them there.
function M.show(context, data, settings)
  if settings.quiet or os.getenv(M.MARK) then return end
  M.say(context, settings, function(options) return require("knbl.format.table").render(data, options) end)
end

-- Judges a run, shows and writes it, and returns its exit code.
function M.finish(context, job, book, err, show_error)
  if #book.data.measurements == 0 and not err and #job.expectations == 0 and not next(job.settings) then return 0 end
  local verdict = judge.run(context.core, book.data, job.expectations, job.baseline, err, job.settings.any_environment)
  book:finish(verdict)
  if #book.data.measurements > 0 or #book.data.reports > 0 or #book.data.expectations > 0 then M.show(context, book.data, job.settings) end
  local written = M.write_files(context, book, job.settings)
  if err then
    show_error(context, err)
  elseif verdict.message then
    context.err("knbl: " .. verdict.message .. "\n")
  end
  if verdict.exit == 0 and not written then return 1 end
  return verdict.exit
end

return M
