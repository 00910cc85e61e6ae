-- knbl.format.standing_page - the history on the page of `knbl watch`: how its runs ended, what failed, and each
-- series with its last figure beside those of the runs before.
local chart = require "knbl.format.chart"
local figures = require "knbl.results.figures"
local html = require "knbl.format.html"
local native = require "knbl.native"
local standing = require "knbl.results.standing"

local M = {}

local escape = chart.escape

local looks = { pass = "pass", fail = "fail", inconclusive = "inconclusive" }

local function look(outcome) return looks[outcome] or outcome == "stopped" and "" or "error" end

local function moment(started) return (started:gsub("T", " "):gsub("%.%d+Z$", "")) end

-- A dot for each run.
local function runs_html(state)
  local out = { "<h2>Runs</h2><p class=\"dots\">" }
  for _, run in ipairs(state.history) do
    local said = ("%s: %s, %.0f s%s"):format(moment(run.started), run.outcome:gsub("_", " "), run.seconds,
      run.message and ": " .. run.message or "")
    out[#out + 1] = ('<span class="verdict %s" title="%s"></span>'):format(look(run.outcome), escape(said))
  end
  local counts = {}
  for _, word in ipairs(standing.outcomes) do
    local n = state.outcomes[word]
    if n then counts[#counts + 1] = ("%s %d"):format(word:gsub("_", " "), n) end
  end
  out[#out + 1] = ("</p><p><small>The last %d runs, the latest on the right. Since the watch began: %s.</small></p>")
    :format(#state.history, escape(table.concat(counts, ", ")))
  return table.concat(out)
end

local function problems_html(state)
  local list = {}
  local last = state.history[#state.history]
  if last.message and last.outcome ~= "pass" then list[1] = last.message end
  for _, s in ipairs(state.series) do
    if s.ok == false then list[#list + 1] = ("%s %s: %s"):format(s.test, s.case, s.message or s.code) end
  end
  for _, e in ipairs(state.expectations) do
    if e.status ~= "held" then
      list[#list + 1] = ("%s %s: %s: %s"):format(e.test or "", e.case or "", e.expression, e.status)
    end
  end
  if #list == 0 then return "" end
  for i, line in ipairs(list) do list[i] = "<li>" .. escape(line) .. "</li>" end
  return "<h2>What failed in the last run</h2><ul>" .. table.concat(list) .. "</ul>"
end

-- The figures of the last runs as a line of 120 by 24; a run that measured none is a gap.
local function sparkline(points, newest, show)
  local low, high = math.huge, -math.huge
  for _, p in ipairs(points) do low, high = math.min(low, p[2]), math.max(high, p[2]) end
  local first, span = newest - standing.most_history + 1, high - low
  local out, before = {}, nil
  for _, p in ipairs(points) do
    local x = (p[1] - first) / (standing.most_history - 1) * 116 + 2
    local y = span > 0 and 22 - (p[2] - low) / span * 20 or 12
    out[#out + 1] = ("%s%.1f %.1f"):format(before == p[1] - 1 and "L" or "M", x, y)
    if before ~= p[1] - 1 then out[#out + 1] = "h.01" end
    before = p[1]
  end
  local label = ("%d runs, %s to %s"):format(#points, show(low), show(high))
  return ('<svg class="mini spark" viewBox="0 0 120 24" role="img" aria-label="%s">'
    .. '<path class="line s1" d="%s"/></svg>'):format(escape(label), table.concat(out))
end

-- What tells measurements of one test and case apart: the way, the size, labels.
local function traits_of(s)
  local traits = { via = s.via and s.via:gsub("_", " "), size = s.size and native.format_size(s.size) }
  for name, value in pairs(s.labels or {}) do traits["label " .. name] = tostring(value) end
  return traits
end

-- What series are called: the case, and, where several have it, the traits in which those differ.
local function names_of(list)
  local same, names = {}, {}
  for _, s in ipairs(list) do
    local key = s.test .. "\0" .. s.case
    same[key] = same[key] or {}
    table.insert(same[key], s)
  end
  for _, alike in pairs(same) do
    local differing, seen = {}, {}
    for _, s in ipairs(alike) do
      for trait, value in pairs(traits_of(s)) do
        if traits_of(alike[1])[trait] ~= value and not seen[trait] then
          seen[trait], differing[#differing + 1] = true, trait
        end
      end
    end
    table.sort(differing)
    for _, s in ipairs(alike) do
      local words, traits = { s.case }, traits_of(s)
      for _, trait in ipairs(differing) do words[#words + 1] = traits[trait] end
      names[s] = table.concat(words, " · ")
    end
  end
  return names
end

-- A row of the history: `key` is what the last runs are kept by.
local function series_row(state, s, name, figure, key)
  local points, values = {}, {}
  for _, p in ipairs(s.recent) do
    if p[key] then
      points[#points + 1] = { p.n, p[key] }
      values[#values + 1] = p[key]
    end
  end
  if #points == 0 then return "" end
  local function show(v) return figures.show(native, figure, v) end
  local last = s.ok and s.figures[figure.name]
  local shown = last and show(last) or s.skipped and "skipped" or "failed"
  local low, high = math.huge, -math.huge
  for _, v in ipairs(values) do low, high = math.min(low, v), math.max(high, v) end
  return ('<tr><td>%s</td><td class="long">%s</td><td>%s</td><td class="n"%s>%s</td><td class="n" '
    .. 'data-v="%.6g">%s</td><td class="n">%s … %s</td><td>%s</td></tr>'):format(escape(s.test), escape(name),
    escape(figure.title), last and (' data-v="%.6g"'):format(last) or "", escape(shown),
    native.median_interval(values), escape(show(native.median_interval(values))), escape(show(low)),
    escape(show(high)), sparkline(points, state.n, show))
end

local function series_html(state)
  local rows, names = {}, names_of(state.series)
  for _, s in ipairs(state.series) do
    rows[#rows + 1] = series_row(state, s, names[s], standing.headline(s), "value")
    if standing.headline(s).name ~= "p99" then
      rows[#rows + 1] = series_row(state, s, names[s], figures.get "p99", "p99")
    end
  end
  if #rows == 0 then return "" end
  return ('<h2>History</h2><div class="wide"><table class="data"><thead><tr><th>test</th><th>case</th><th>figure</th>'
    .. '<th class="n">last</th><th class="n">median</th><th class="n">range</th><th>last %d runs</th></tr></thead>'
    .. "<tbody>%s</tbody></table></div>"):format(standing.most_history, table.concat(rows))
end

local links = '<nav aria-label="Files"><a href="metrics">metrics</a>'
  .. '<a href="ledger.json">ledger of the last report</a></nav>'

-- The page's two parts: what is new after each run, and the report of `data`; the second is nil without data.
function M.render(state, data, core)
  local last = state.last
  local word = last.outcome
  local sentence = ("The run of %s took %.0f s."):format(moment(state.history[#state.history].started), last.seconds)
  local top = html.standing(state.question or state.scenario or "knbl watch", "knbl watch · " .. (state.provider or ""),
    look(word) ~= "" and look(word) or word, (word ~= look(word) and word:gsub("_", " ") .. ". " or "") .. sentence,
    links .. problems_html(state) .. runs_html(state) .. series_html(state))
  return top, data and html.standing_report(data, { core = core }) or nil
end

-- The end of a page without a report.
function M.without_report() return html.standing_report() end

return M
