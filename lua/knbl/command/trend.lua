-- knbl trend - the history of many runs: where figures changed their level, by how much, and between which two runs.
local brief = require "knbl.results.brief"
local compare_command = require "knbl.command.compare"
local errors = require "knbl.base.errors"
local file = require "knbl.base.file"
local output = require "knbl.program.output"
local script = require "knbl.base.script"
local steps = require "knbl.results.steps"
local trend = require "knbl.results.trend"

local M = {
  summary = "Finds where the figures of many runs changed their level, by how much, and between which two runs.",
  usage = "knbl trend DIR|FILE.json… [--fail-if CHANGE] [--html FILE] …",
  flags = {
    { name = "fail-if", value = "CHANGE", many = true,
      help = "exit with 99 where the last change of a level goes beyond it: 'throughput -5%', 'tcp_rr svc: p99 +10%'" },
    { name = "alpha", value = "P", kind = "number", help = "how often a split may be found where there is none",
      default = steps.alpha },
    { name = "cache", value = "FILE", help = "what was read before [~/.cache/knbl/trend]; --no-cache reads all again" },
    { name = "no-cache", help = "read all ledgers again, and write no cache" },
    { name = "json", value = "FILE", help = "write series and changes as JSON (- is standard output)" },
    { name = "csv", value = "FILE", help = "write a line for each run and series: time, attributes, value" },
    { name = "html", value = "FILE", help = "write a page with a chart for each series" },
    { name = "benchmark-json", value = "FILE",
      help = "write the last run's figures where less is better for github-action-benchmark (customSmallerIsBetter)" },
    { name = "benchmark-json-more", value = "FILE",
      help = "the same where more is better (customBiggerIsBetter)" },
    { name = "opensearch-bulk", value = "FILE", help = "write every point as bulk requests of OpenSearch" },
    { name = "quiet", short = "-q", help = "no table" },
  },
}

local MOST = 1073741824

-- ---- the files ----

-- All ledgers below the words: { path, stamp }.
local function find(words)
  local quoted = {}
  for i, word in ipairs(words) do
    local opened, err = io.open(word) -- a folder too
    if not opened then errors.usage("cannot read %s", err) end
    opened:close()
    quoted[i] = script.quote((word:gsub("^%-", "./-")))
  end
  local pipe = assert(io.popen(("find %s -type f -name '*.json' -printf '%%s %%T@ %%p\\n'"):format(
    table.concat(quoted, " "))))
  local list = {}
  for line in pipe:lines() do
    local size, path = line:match "^(%d+) [%d.]+ (.*)$"
    if not path:find "/state%.json$" then -- of knbl watch, beside its ledgers
      list[#list + 1] = { path = path, size = tonumber(size), stamp = line }
    end
  end
  pipe:close()
  table.sort(list, function(a, b) return a.path < b.path end)
  return list
end

local function cache_path(values)
  if values.no_cache then return nil end
  if values.cache then return values.cache end
  local home = os.getenv "XDG_CACHE_HOME" or (os.getenv "HOME" or "") ~= "" and os.getenv "HOME" .. "/.cache"
  if not home then return nil end
  os.execute("mkdir -p " .. script.quote(home .. "/knbl") .. " 2>/dev/null")
  return home .. "/knbl/trend"
end

-- Every ledger in short, from the cache where it is the same file still; and the paths of what is no ledger.
local function read(context, values, words)
  local path = cache_path(values)
  local cache = trend.read_cache(path and file.read(path, MOST) or "")
  local runs, kept, fresh, left_out = {}, {}, false, {}
  for _, item in ipairs(find(words)) do
    local run = trend.from_cache(cache, item.stamp)
    if not run then
      run, fresh = brief.read(context.core, item.path, item.size) or { none = true }, true
    end
    kept[#kept + 1] = { stamp = item.stamp, run = run }
    if run.none then left_out[#left_out + 1] = item.path else runs[#runs + 1] = run end
  end
  if path and fresh then context.core.write_file(path, trend.cache_text(kept)) end
  return runs, left_out
end

-- ---- the end ----

local function write(context, result, values)
  local format, all = require "knbl.format.trend", true
  for _, name in ipairs { "json", "csv", "html", "benchmark-json", "benchmark-json-more", "opensearch-bulk" } do
    local path = values[(name:gsub("-", "_"))]
    if path then
      local text = format[name:gsub("-", "_")](result, { core = context.core })
      all = output.put(context, name, path, text) and all
    end
  end
  return all
end

function M.run(context, values, words)
  local limits, _ = compare_command.check(context.core, { fail_if = values.fail_if })
  local alpha = values.alpha or steps.alpha
  if alpha < 0.001 or alpha >= 0.5 then errors.usage("--alpha must be between 0.001 and 0.5, got %g", alpha) end
  if #words == 0 then errors.usage("which ledgers? %s", M.usage) end
  output.prepare(context.core, values)
  local runs, left_out = read(context, values, words)
  if #runs == 0 then errors.usage("no ledgers in %s", table.concat(words, ", ")) end
  local list = trend.series(runs, { alpha = alpha })
  local result = { runs = runs, series = list, left_out = #left_out, no_ledgers = left_out,
    expectations = trend.judge(context.core, list, limits) }
  result.verdict = compare_command.verdict_of({ expectations = result.expectations, comparisons = list }, #limits > 0)
  if not values.quiet then
    output.say(context, values, function(options) return require("knbl.format.trend").text(result, options) end)
  end
  local written = write(context, result, values)
  if result.verdict.message then context.err("knbl: " .. result.verdict.message .. "\n") end
  return result.verdict.exit == 0 and not written and 1 or result.verdict.exit
end

return M
