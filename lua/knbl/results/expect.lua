-- knbl.results.expect - expectations: what a figure must be for a run to pass.
--
--   p99 < 1ms                         a figure and a quantity with its unit
--   throughput >= 9Gbit/s             < <= > >= == !=
--   p99 < 1.25x baseline              the same measurement in the file of --baseline
--   "pod to svc" / "pod to pod" < 1.1          two cases of this run, by what their test is about
--   p99 "pod to svc" / "pod to pod" < 1.1      the same by another figure
--   unreachable                       nothing gets through: for policies and what they forbid; or reachable
--   no outlier                        of a mesh: nobody stands out; on the command line "mesh: no outlier"
--   case: p99 < 1ms on the command line: for those whose test and case contain the text before the colon
--
-- A limit for a comparison (--fail-if) has the same form without an operator: "throughput -5%", "tcp_rr service: p99
-- +10%".
--
-- All are parsed before anything is measured; what is wrong is shown with the column. Judging is judge.lua's matter.
local errors = require "knbl.base.errors"
local figures = require "knbl.results.figures"

local M = {}

-- ---- words ----

local function fail(source, column, format, ...)
  local message = select("#", ...) > 0 and format:format(...) or format
  error({ column = column, message = message, source = source }, 0)
end

-- Patterns and the kinds of tokens that they are; the first that fits counts. The names of pods have dashes.
local kinds = { { "[<>=!]=?", "operator" }, { "/", "/" }, { "[%d.][%w.%%µ/]*", "quantity" },
  { "[+-][%d.][%w.%%/]*", "quantity" }, { "targets%.[%w_.-]+", "word" }, { "backends%.[%w_.-]+", "word" },
  { "[%a_][%w_.]*", "word" } }

local function next_token(source, at)
  at = source:find("%S", at)
  if not at then return { kind = "end", column = #source + 1, text = "the end" }, #source + 1 end
  local first = source:sub(at, at)
  if first == '"' or first == "'" then
    local close = source:find(first, at + 1, true)
    if not close then fail(source, at, "the text that begins here does not end") end
    return { kind = "text", text = source:sub(at + 1, close - 1), column = at }, close + 1
  end
  for _, kind in ipairs(kinds) do
    local text, stop = source:match("^(" .. kind[1] .. ")()", at)
    if text then return { kind = kind[2], text = text, column = at }, stop end
  end
  fail(source, at, "'%s' means nothing here", first)
end

local function tokens_of(source, first)
  local tokens, at = {}, first
  repeat
    local token
    token, at = next_token(source, at)
    tokens[#tokens + 1] = token
  until token.kind == "end"
  return tokens
end

-- ---- quantities ----

local examples = { time = "1ms", seconds = "10s", bits = "9Gbit/s", rate = "20k/s", ratio = "0.1%", bytes = "64M",
  count = "0", cores = "1.5",
  free = "5" }

local reads = {
  time = function(core, text)
    if text:match("^0%.?0*$") then return 0 end
    local seconds = not tonumber(text) and core.duration((text:gsub("µ", "u")))
    return seconds and seconds * 1e9
  end,
  seconds = function(core, text) return core.duration(text) end,
  bits = function(core, text)
    if text:match("^0%.?0*$") then return 0 end
    local rate = not tonumber(text) and core.rate(text)
    return rate and rate.bps
  end,
  rate = function(core, text)
    if tonumber(text) then return tonumber(text) end
    local rate = core.rate(text)
    return rate and rate.per_s
  end,
  ratio = function(_, text)
    local percent = text:match("^([%d.]+)%%$")
    return percent and tonumber(percent) and tonumber(percent) / 100 or tonumber(text)
  end,
  bytes = function(core, text) return core.size(text) end,
  cores = function(_, text) return tonumber(text) end,
  free = function(core, text) return tonumber(text:match "^[%d.]+$") or core.count(text) end,
  count = function(core, text) return tonumber(text) or core.count(text) end,
}

local function quantity(core, source, token, unit)
  local value = reads[unit](core, token.text)
  if not value then
    fail(source, token.column, "'%s' is no quantity for this figure: write it like %s", token.text, examples[unit])
  end
  return { kind = "quantity", value = value, text = token.text }
end

-- ---- the grammar ----

local function figure_at(core, source, token)
  local figure = figures.get(token.text)
  if not figure then
    fail(source, token.column, "'%s' is no figure%s", token.text, errors.hint(core, token.text, figures.names))
  end
  return figure
end

-- left: a figure, or [figure] "a" / "b". Returns it and the index of the token behind it.
local function left_side(core, source, tokens)
  local i, figure = 1, nil
  if tokens[1].kind == "word" then
    figure = figure_at(core, source, tokens[1])
    i = 2
  end
  if tokens[i].kind == "text" then
    local a, slash, b = tokens[i], tokens[i + 1], tokens[i + 2]
    if slash.kind ~= "/" then fail(source, slash.column, "expected '/' and a second case, found %s", slash.text) end
    if not b or b.kind ~= "text" then fail(source, (b or slash).column, "expected the name of a case in quotes") end
    return { kind = "ratio", figure = figure, a = a.text, b = b.text }, i + 3
  end
  if not figure then
    fail(source, tokens[1].column, "expected a figure (%s …) or a case in quotes, found %s", "p99, throughput, errors",
      tokens[1].text)
  end
  return { kind = "figure", figure = figure }, i
end

local comparisons = { ["<"] = true, ["<="] = true, [">"] = true, [">="] = true, ["=="] = true, ["!="] = true }

local function right_side(core, source, tokens, i, left)
  local token, after = tokens[i], tokens[i + 1]
  if left.kind == "ratio" then
    if token.kind ~= "quantity" or not tonumber(token.text) then
      fail(source, token.column, "a ratio is compared with a plain number, not %s", token.text)
    end
    return { kind = "quantity", value = tonumber(token.text), text = token.text }, i + 1
  end
  if token.kind == "word" and token.text == "baseline" then return { kind = "baseline", factor = 1 }, i + 1 end
  if token.kind ~= "quantity" then
    fail(source, token.column, "expected a quantity or a baseline, found %s", token.text)
  end
  local factor = token.text:match("^([%d.]+)x$")
  if factor then
    if not tonumber(factor) then
      fail(source, token.column, "'%s' is no factor: write it like 1.25x baseline", token.text)
    end
    if after.kind ~= "word" or after.text ~= "baseline" then
      fail(source, after.column, "expected 'baseline' behind the factor, found %s", after.text)
    end
    return { kind = "baseline", factor = tonumber(factor) }, i + 2
  end
  return quantity(core, source, token, left.figure.unit), i + 1
end

local function parse_from(core, source, first)
  local tokens = tokens_of(source, first)
  if tokens[1].text == "unreachable" or tokens[1].text == "reachable" then
    if tokens[2].kind ~= "end" then fail(source, tokens[2].column, "unexpected '%s'", tokens[2].text) end
    return { source = source, left = { kind = "reach" }, right = {}, reachable = tokens[1].text == "reachable" }
  end
  if tokens[1].text == "no" and tokens[2].text:match "^outliers?$" then
    if tokens[3].kind ~= "end" then fail(source, tokens[3].column, "unexpected '%s'", tokens[3].text) end
    return { source = source, left = { kind = "outlier" }, right = {} }
  end
  local left, i = left_side(core, source, tokens)
  local operator = tokens[i]
  if operator.kind ~= "operator" or not comparisons[operator.text] then
    fail(source, operator.column, "expected one of < <= > >= == !=, found %s", operator.text)
  end
  local right, stop = right_side(core, source, tokens, i + 1, left)
  if tokens[stop].kind ~= "end" then fail(source, tokens[stop].column, "unexpected '%s'", tokens[stop].text) end
  return { source = source, left = left, operator = operator.text, right = right }
end

-- Where the selector of "case: expression" ends: the last colon outside of quotes.
local function selector_of(source)
  local quote, colon
  for i = 1, #source do
    local c = source:sub(i, i)
    if quote then
      if c == quote then quote = nil end
    elseif c == '"' or c == "'" then quote = c
    elseif c == ":" then colon = i end
  end
  return colon
end

-- What `body` makes of the text behind "case: " (where `with_case` allows that), or nil and { message, column, source
-- }.
local function parse(source, with_case, body)
  local ok, result = pcall(function()
    local first, selector = 1, nil
    local colon = with_case and selector_of(source)
    if colon then
      selector = source:sub(1, colon - 1):gsub("^%s+", ""):gsub("%s+$", ""):gsub('^"(.*)"$', "%1")
      if selector == "" then fail(source, colon, "no case before the colon") end
      first = colon + 1
    end
    local parsed = body(first)
    parsed.case = selector
    parsed.source = source:sub(first):gsub("^%s+", "")
    return parsed
  end)
  if ok then return result end
  if type(result) == "table" and result.column then return nil, result end
  error(result, 0)
end

-- An expectation, or nil and {message, column, source}; `with_case` allows "case: " before it.
function M.parse(core, source, with_case)
  return parse(source, with_case, function(first) return parse_from(core, source, first) end)
end

-- A sign that means "better" would never fail, whatever became worse: refused.
local function check_direction(source, token, figure, change)
  local worse = figure.better == "more" and "-" or "+"
  if figure.better and (change < 0) ~= (worse == "-") then
    fail(source, token.column, "of %s %s is better: write %s%s for what is worse", figure.name, figure.better, worse,
      token.text:sub(2))
  end
end

-- A limit for a comparison: { figure, change, case, source }; nil and { message, column, source } otherwise.
function M.parse_change(core, source)
  return parse(source, true, function(first)
    local tokens = tokens_of(source, first)
    if tokens[1].kind ~= "word" then
      fail(source, tokens[1].column, "expected a figure (p99, throughput …), found %s", tokens[1].text)
    end
    local figure, token = figure_at(core, source, tokens[1]), tokens[2]
    local percent = token.kind == "quantity" and tonumber(token.text:match("^[+-]([%d.]+)%%$"))
    if not percent then
      fail(source, token.column, "expected a change with its sign, like -5%% or +10%%, found %s", token.text)
    end
    if percent == 0 then fail(source, token.column, "a change of nothing is no limit") end
    if tokens[3].kind ~= "end" then fail(source, tokens[3].column, "unexpected '%s'", tokens[3].text) end
    local change = (token.text:sub(1, 1) == "-" and -percent or percent) / 100
    check_direction(source, token, figure, change)
    return { figure = figure, change = change }
  end)
end

-- How a measurement fails whose path lets nothing through. What netfilter rejects on its way out is "not permitted".
local no_way = { refused = true, unreachable = true, timeout = true, no_data = true, permission = true, reset = true }

function M.is_unreachable(m)
  return not m.ok and not m.skipped and m.error ~= nil and no_way[m.error.code] == true
end

-- Whether a measurement failed as its expectation wants it to.
function M.as_wanted(m)
  for _, source in ipairs(m.expect or {}) do
    if source:match "^%s*unreachable%s*$" then return M.is_unreachable(m) end
  end
  return false
end

-- How many measurements of a ledger were measured, failed and skipped.
function M.counts(data)
  local counts = { measured = 0, failed = 0, skipped = 0 }
  for _, m in ipairs(data.measurements) do
    local word = m.skipped and "skipped" or (m.ok or M.as_wanted(m)) and "measured" or "failed"
    counts[word] = counts[word] + 1
  end
  return counts
end

-- The text with a mark under the column that is wrong.
function M.point(wrong)
  return ("column %d: %s\n    %s\n    %s^"):format(wrong.column, wrong.message, wrong.source,
    (" "):rep(wrong.column - 1))
end

local function not_text(test, value)
  errors.misuse("%s: expect must be a string or a list of strings, got %s", test, errors.kind(value))
end

-- The expectations of a measurement: a text or a list of them. Raises at the script's line.
function M.parse_all(core, given, test)
  if given == nil then return {} end
  if type(given) == "string" then given = { given } end
  if type(given) ~= "table" then not_text(test, given) end
  local list = {}
  for i, source in ipairs(given) do
    if type(source) ~= "string" then not_text(test, source) end
    local parsed, wrong = M.parse(core, source)
    if not parsed then errors.misuse("%s: expect: %s", test, M.point(wrong)) end
    list[i] = parsed
  end
  return list
end

return M
