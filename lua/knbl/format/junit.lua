-- knbl.format.junit - JUnit XML as CI systems read it: each measurement a test case, each expectation another; and one
-- for a run that broke off, which what was measured until then would pass for whole.
local expect = require "knbl.results.expect"
local figures = require "knbl.results.figures"
local ledger = require "knbl.results.ledger"
local table_format = require "knbl.format.table"
local tests = require "knbl.base.tests"
local text = require "knbl.base.text"

local M = {}

local entities = {
  ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&apos;", ["\n"] = "&#10;",
    ["\t"] = "&#9;", ["\r"] = "&#13;",
}

-- XML 1.0 has no way to say most control characters; they become "?". So do U+FFFE and U+FFFF.
local function escaped(s)
  s = text.valid(tostring(s)):gsub("[%z\1-\8\11\12\14-\31]", "?"):gsub("\239\191[\190\191]", "?")
  return (s:gsub("[&<>\"'\n\t\r]", entities))
end
M.escaped = escaped

local function name_of(m)
  return ("%s %s%s"):format(m.test, ledger.subject(m), m.round and (" round %.0f"):format(m.round) or "")
end

-- Of the figures in the test's own table its headline, and these.
local also = { throughput = true, rate = true, mean = true, p99 = true, loss = true, ready_last = true }

local function summary(core, m)
  local parts, headline = {}, figures.headline(m.test).name
  for _, name in ipairs(tests.of(m.test).columns) do
    local figure = figures.of(m, name)
    local value = (name == headline or also[name]) and figures.value(m, figure)
    if value then parts[#parts + 1] = ("%s %s"):format(figure.title, figures.show(core, figure, value, true)) end
  end
  for _, flag in ipairs(m.flags) do parts[#parts + 1] = ("%s: %s"):format(flag, figures.explain(flag)) end
  return table.concat(parts, "\n")
end

local function measurement_case(core, m, suite)
  local time = type(m.metrics.duration_s) == "number" and m.metrics.duration_s or 0
  local open = ('    <testcase classname="%s" name="%s" time="%.3f">'):format(escaped(suite), escaped(name_of(m)), time)
  local body
  if m.skipped then
    body = ('      <skipped message="%s"/>'):format(escaped(m.skipped))
  elseif expect.as_wanted(m) then
    body = ("      <system-out>unreachable, as expected: %s</system-out>"):format(escaped(m.error.message))
  elseif not m.ok then
    local e = m.error or {}
    body = ('      <error type="%s" message="%s"/>'):format(escaped(e.code or "error"),
      escaped(e.message or "no reason given"))
  else
    body = ("      <system-out>%s</system-out>"):format(escaped(summary(core, m)))
  end
  return open .. "\n" .. body .. "\n    </testcase>"
end

local function expectation_case(e, suite)
  local name = table_format.subject(e) .. e.expression
  local open = ('    <testcase classname="%s" name="%s" time="0"'):format(escaped(suite), escaped(name))
  local reason = escaped(e.reason or "")
  if e.status == "pass" then return open .. "/>" end
  local kinds = {
    fail = '<failure type="expectation" message="%s"/>', error = '<error type="expectation" message="%s"/>',
    inconclusive = '<skipped message="inconclusive: %s"/>',
  }
  return open .. ">\n      " .. (kinds[e.status] or kinds.error):format(reason) .. "\n    </testcase>"
end

-- What ended the run early, where neither a measurement nor an expectation tells of it.
local function broken_case(data, suite)
  local verdict = data.verdict or {}
  local known = { error = "error", interrupted = "interrupted", running = "unfinished" }
  local kind = known[verdict.status]
  for _, m in ipairs(kind == "error" and data.measurements or {}) do kind = (m.ok or m.skipped) and kind or nil end
  for _, e in ipairs(kind == "error" and data.expectations or {}) do kind = e.status ~= "error" and kind or nil end
  if not kind then return nil end
  return (
    '    <testcase classname="%s" name="the run" \z
      time="0">\n      <error type="%s" message="%s"/>\n    </testcase>'):format(escaped(suite), kind,
    escaped(verdict.message or kind .. ": this is what was measured until then"))
end

local function suite_of(name, cases, counts, data)
  local stamp = tostring(data.started or ""):match("^%d+%-%d+%-%d+T%d+:%d+:%d+") or "1970-01-01T00:00:00"
  return (
    '  <testsuite name="%s" tests="%d" failures="%d" errors="%d" skipped="%d" \z
      time="%.3f" timestamp="%s" hostname="%s">\n%s\n  </testsuite>')
    :format(escaped(name), #cases, counts.fail, counts.error, counts.skipped, counts.time, stamp,
      escaped(data.provider or "unknown"),
      table.concat(cases, "\n"))
end

function M.render(data, options)
  local scenario = data.scenario or "knbl"
  local measured = { fail = 0, error = 0, skipped = 0, time = 0 }
  local cases = {}
  for i, m in ipairs(data.measurements) do
    cases[i] = measurement_case(options.core, m, scenario)
    if m.skipped then
      measured.skipped = measured.skipped + 1
    elseif not m.ok and not expect.as_wanted(m) then
      measured.error = measured.error + 1
    end
    measured.time = measured.time + (tonumber(m.metrics.duration_s) or 0)
  end
  local broken = broken_case(data, scenario)
  if broken then cases[#cases + 1], measured.error = broken, measured.error + 1 end
  local suites = {}
  if #cases > 0 or #data.expectations == 0 then suites[1] = suite_of(scenario, cases, measured, data) end
  if #data.expectations > 0 then
    local counts, list = { fail = 0, error = 0, skipped = 0, time = 0 }, {}
    for i, e in ipairs(data.expectations) do
      list[i] = expectation_case(e, scenario .. " expectations")
      if e.status == "fail" then counts.fail = counts.fail + 1
      elseif e.status == "inconclusive" then counts.skipped = counts.skipped + 1
      elseif e.status ~= "pass" then counts.error = counts.error + 1 end
    end
    suites[#suites + 1] = suite_of(scenario .. " expectations", list, counts, data)
  end
  return '<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="knbl">\n' .. table.concat(suites, "\n")
    .. "\n</testsuites>\n"
end

return M
