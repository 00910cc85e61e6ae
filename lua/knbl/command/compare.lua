-- knbl compare - what changed between ledgers, by how much, and whether that is shown; and a verdict, where limits were
-- given.
local compare = require "knbl.results.compare"
local errors = require "knbl.base.errors"
local exit = require "knbl.base.exit"
local expect = require "knbl.results.expect"
local figures = require "knbl.results.figures"
local json = require "knbl.json"
local output = require "knbl.program.output"

local M = {
  options_behind = true,
  summary =
    "Compares ledgers that --json wrote: the median change of each figure, its interval, and whether a difference is \z
      shown.",
  usage = "knbl compare OLD.json[,OLD.json…] NEW.json[,NEW.json…], or knbl compare OLD.json… -- NEW.json…",
  flags = {
    { name = "fail-if", value = "CHANGE", many = true,
      help = "exit with 99 where a change goes beyond it: 'throughput -5%', 'tcp_rr service: p99 +10%'" },
    { name = "figure", value = "NAME", many = true, help = "compare this figure [those that the test is about]" },
    { name = "alpha", value = "P", kind = "number", help = "how often a difference may be shown where there is none",
      default = compare.alpha },
    { name = "any-environment", help = "compare though kernel, CPU, overlay or the like differ" },
    { name = "json", value = "FILE", help = "write what was found as JSON (- is standard output)" },
    { name = "markdown", value = "FILE", help = "write it as Markdown" },
    { name = "html", value = "FILE", help = "write it as a page of its own" },
    { name = "junit", value = "FILE", help = "write the limits of --fail-if as JUnit test cases" },
    { name = "quiet", short = "-q", help = "no table" },
  },
}

-- ---- the command line ----

-- A word is a file, or several with commas between.
local function files_of(words, from, to)
  local list = {}
  for i = from, to do
    local whole = io.open(words[i], "rb")
    if whole then
      whole:close()
      list[#list + 1] = words[i]
    else
      for path in words[i]:gmatch("[^,]+") do list[#list + 1] = path end
    end
  end
  return list
end

local function sides(words, before)
  if not before and #words == 2 then before = 1 end
  if not before or before == 0 or before == #words then
    errors.usage("compare takes an old and a new side: %s", M.usage)
  end
  return compare.read("compare", files_of(words, 1, before)),
    compare.read("compare", files_of(words, before + 1, #words))
end

-- What was asked of a comparison, checked: its limits and alpha.
function M.check(core, values)
  for _, name in ipairs(values.figure or {}) do
    if not figures.get(name) then
      errors.usage("--figure: '%s' is no figure%s", name, errors.hint(core, name, figures.names))
    end
  end
  local alpha = values.alpha or compare.alpha
  if alpha <= 0 or alpha >= 0.5 then errors.usage("--alpha: a share between 0 and 0.5, like 0.05") end
  local limits = {}
  for i, source in ipairs(values.fail_if or {}) do
    local parsed, wrong = expect.parse_change(core, source)
    if not parsed then errors.usage("--fail-if: %s", expect.point(wrong)) end
    limits[i] = parsed
  end
  return limits, alpha
end

-- ---- the verdict ----

function M.verdict_of(result, asked)
  local count = { fail = 0, inconclusive = 0, error = 0 }
  for _, e in ipairs(result.expectations) do count[e.status] = (count[e.status] or 0) + 1 end
  if result.refused then
    return { status = "inconclusive", exit = exit.inconclusive, message = "not compared: the environments differ" }
  end
  if count.error > 0 then
    local source
    for _, e in ipairs(result.expectations) do
      source = source or e.status == "error" and (e.case and e.case .. ": " or "") .. e.expression
    end
    return { status = "error", exit = exit.usage,
      message = ("--fail-if '%s' matches nothing that was compared"):format(source) }
  end
  if count.fail > 0 then
    return { status = "fail", exit = exit.failed,
      message = ("%d of %d limits broken"):format(count.fail, #result.expectations) }
  end
  if count.inconclusive > 0 then
    return { status = "inconclusive", exit = exit.inconclusive,
      message = ("%d of %d limits inconclusive"):format(count.inconclusive, #result.expectations) }
  end
  if #result.comparisons == 0 and not asked then
    return { status = "inconclusive", exit = exit.inconclusive, message = "the ledgers have nothing to compare" }
  end
  return { status = "pass", exit = exit.ok }
end

local order = { "alpha", "verdict", "files", "sources", "environments", "refused", "expectations",
  "comparisons", "not_compared" }

local function render(format, result, core)
  if format == "json" then return json.encode(json.ordered(result, order), true) .. "\n" end
  if format == "html" then return require("knbl.format.html").comparison(result, { core = core }) end
  if format == "junit" then
    local new = result.sources.new[1] or {}
    return require("knbl.format.junit").render({ scenario = "knbl compare", measurements = {}, started = new.started,
      provider = new.provider, expectations = result.expectations }, { core = core })
  end
  local markdown = require "knbl.format.markdown"
  local comparison = require "knbl.format.comparison"
  local text = comparison.markdown(result, { core = core })
  local judged = markdown.expectations(result.expectations)
  local head = markdown.verdict(result.verdict, "What changed between two sides of ledgers?",
    result.verdict.message or #result.expectations > 0 and "no limit was broken" or "there was no limit to hold")
  return ("%s\n%s\n%s%s"):format(head, comparison.sources_markdown(result), judged and judged .. "\n" or "", text)
end

local function write(context, result, values)
  local all = true
  for _, format in ipairs { "json", "markdown", "html", "junit" } do
    local path = values[format]
    all = (not path or output.put(context, format, path, render(format, result, context.core))) and all
  end
  return all
end

local function show(context, result, values)
  if values.quiet then return end
  output.say(context, values, function(options)
    local out = {}
    require("knbl.format.table").expectations(result.expectations, options, out)
    local text = require("knbl.format.comparison").text(result, options)
    return #out > 0 and text .. "\n" .. table.concat(out, "\n") .. "\n" or text
  end)
end

function M.run(context, values, words, before)
  local core = context.core
  local limits, alpha = M.check(core, values)
  output.prepare(core, values)
  local old, new = sides(words, before)
  local result, matched = compare.run(core, old, new,
    { figures = values.figure, alpha = alpha, any_environment = values.any_environment })
  result.expectations = compare.judge(core, matched, limits, alpha)
  for _, e in ipairs(result.refused and result.expectations or {}) do
    e.status, e.reason = "inconclusive", "not compared: the environments differ"
  end
  result.verdict = M.verdict_of(result, #limits > 0)
  show(context, result, values)
  local written = write(context, result, values)
  if result.verdict.message then context.err("knbl: " .. result.verdict.message .. "\n") end
  return result.verdict.exit == 0 and not written and 1 or result.verdict.exit
end

return M
