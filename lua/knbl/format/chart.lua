-- knbl.format.chart - charts as HTML: bars with intervals, lines (SVG), heat maps. Colours are classes (s1 … s8) that
-- the page's style gives, so that one drawing serves light, dark and paper. Every mark carries its value as a title,
-- which browsers show on hovering.
local texts = require "knbl.base.text"

local M = {}

local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }

-- Text that may stand anywhere in the page: no markup, no control characters.
function M.escape(s)
  return (texts.undirected(texts.valid(tostring(s))):gsub("[%z\1-\8\11\12\14-\31\127]", "�"):gsub("[&<>\"']", entities))
end
local escape = M.escape

-- Round numbers that cover low … high: a list of ticks.
local function ticks(low, high, wanted)
  local span = high - low
  if span <= 0 then return { low } end
  local step = 10 ^ math.floor(math.log(span / wanted) / math.log(10))
  for _, factor in ipairs { 1, 2, 5, 10 } do
    if span / (step * factor) <= wanted then step = step * factor break end
  end
  local list = {}
  for i = math.ceil(low / step), math.floor(high / step) do list[#list + 1] = i * step end
  return list
end

local function decades(low, high)
  local list = {}
  for e = math.floor(math.log(low) / math.log(10)), math.ceil(math.log(high) / math.log(10)) do
    list[#list + 1] = 10 ^ e
    if high / low < 300 then list[#list + 1], list[#list + 2] = 2 * 10 ^ e, 5 * 10 ^ e end
  end
  return list
end

local function open(width, height, label, class)
  return ('<svg%s viewBox="0 0 %d %d" role="img" aria-label="%s">'):format(
    class and (' class="%s"'):format(class) or "", width, height, escape(label))
end

local function text(x, y, s, class)
  return ('<text x="%.1f" y="%.1f"%s>%s</text>'):format(x, y, class and (' class="%s"'):format(class) or "", escape(s))
end

-- bars: list of { label, value, low?, high?, doubtful? }; show(value) -> text. Lines of the page itself and no drawing:
-- they fit a phone too.
function M.bars(bars, options)
  local most = 0
  for _, b in ipairs(bars) do most = math.max(most, b.high or b.value, b.value) end
  if most <= 0 then most = 1 end
  local function percent(v) return math.max(0, v) / most * 100 end
  local out = { '<div class="bars">' }
  for _, b in ipairs(bars) do
    local shown = escape(options.show(b.value) .. (b.doubtful and " *" or ""))
    local whisker = b.low and ('<i class="whisker" style="left:%.2f%%;width:%.2f%%" title="%s … %s"></i>'):format(
      percent(b.low), percent(b.high) - percent(b.low),
      escape(options.show(b.low)), escape(options.show(b.high))) or ""
    out[#out + 1] = (
      '<span class="name">%s</span><span class="track"><i class="bar%s" style="width:%.2f%%"></i>%s</span>\z
        <span class="value">%s</span>'):format(
      escape(b.label), b.doubtful and " doubtful" or "", percent(b.value), whisker, shown)
  end
  out[#out + 1] = "</div>"
  return table.concat(out)
end

local function extent(series, key, log)
  local low, high = math.huge, -math.huge
  for _, s in ipairs(series) do
    for _, p in ipairs(s.points) do
      if not log or p[key] > 0 then low, high = math.min(low, p[key]), math.max(high, p[key]) end
    end
  end
  return low, high
end

local function scale(low, high, from, to, log)
  if log then low, high = math.log(low), math.log(high) end
  local span = high > low and high - low or 1
  return function(v)
    if log then v = math.log(v) end
    return from + (v - low) / span * (to - from)
  end
end

-- Texts are larger where the page is narrow: room for them at both sides, and of marks that would touch one another
-- there one goes.
local LEFT, RIGHT = 124, 40
local LETTER = 10
-- A mini chart keeps its letters' size.
local MINI = { width = 380, height = 190, left = 70, right = 26, letter = 7 }

-- Marks below an axis: { { x, text }… }. One that does not fit below its place at the right edge ends there.
local function marks_below(list, y, out, width, mini)
  local free = -math.huge
  for _, mark in ipairs(list) do
    local half = (#mark[2] + 1) / 2 * (mini and MINI.letter or LETTER)
    local at_end = mark[1] + half > width
    local middle = at_end and width - half or mark[1]
    local fits = middle - half >= free
    if fits then free = middle + half end
    if fits or not mini then
      local class = (at_end and "end" or "mid") .. (fits and "" or " alt")
      out[#out + 1] = text(at_end and width - 2 or mark[1], y, mark[2], class)
    end
  end
end

-- The class of the i-th colour: there are eight.
local function shade(i) return "s" .. (i - 1) % 8 + 1 end

function M.legend(list)
  local keys = {}
  for i, item in ipairs(list) do
    keys[i] = ('<span class="key %s">%s</span>'):format(shade(item.shade or i), escape(item.label))
  end
  return '<p class="legend">' .. table.concat(keys, " ") .. "</p>"
end
local legend = M.legend

-- A series as a path, and with a dot for each of its points where they are few.
local function line(s, colour, px, py, options, out)
  local path, dots = {}, {}
  for k, p in ipairs(s.points) do
    if not options.log_y or p[2] > 0 then
      path[#path + 1] = ("%s%.1f %.1f"):format(k == 1 and "M" or "L", px(p[1]), py(p[2]))
      dots[#dots + 1] = ('<circle cx="%.1f" cy="%.1f" r="3" class="dot %s"><title>%s: %s</title></circle>'):format(
        px(p[1]), py(p[2]), colour,
        escape(s.label), escape(options.show_y(p[2])))
    end
  end
  out[#out + 1] = ('<path d="%s" class="line %s"><title>%s</title></path>'):format(
    (table.concat(path, " "):gsub("^L", "M")), colour, escape(s.label))
  if #s.points <= 24 and not options.plain then out[#out + 1] = table.concat(dots) end
end

-- Moments that a script marked: { t, text }, as lines across a chart.
local function moments(marks, px, left, right, top, bottom, out)
  for _, mark in ipairs(marks or {}) do
    local x = px(mark.t)
    if x >= left and x <= right then
      out[#out + 1] = ('<path d="M%.1f %d V%d" class="moment"><title>%s, %.3f s</title></path>'):format(x, top, bottom,
        escape(mark.text), mark.t)
      local before = x > (left + right) / 2
      out[#out + 1] = text(before and x - 4 or x + 4, top + 10, mark.text, before and "end small" or "small")
    end
  end
end

-- series: list of { label, points = { {x, y} … }, shade? }. options: title, log_x, log_y, show_x, show_y, x_ticks,
-- marks ({ t, text } moments on the x axis), beside (all series, where these are a part: then the parts have one
-- scale), base (what of y is 1 as it is shown: round numbers are those that one sees), mini (one of several small
-- charts that share a legend, which is not drawn), plain (no dot at each point)
function M.lines(series, options)
  local mini = options.mini and MINI
  local width, height, left, right, top, bottom = 760, 300, LEFT, RIGHT, 12, 32
  if mini then width, height, left, right = mini.width, mini.height, mini.left, mini.right end
  local x1, x2 = extent(options.beside or series, 1, options.log_x)
  local y1, y2 = extent(options.beside or series, 2, options.log_y)
  if x1 > x2 or y1 > y2 then return nil end
  if options.log_y then y1, y2 = y1 * 0.9, y2 * 1.1 else y1, y2 = math.min(0, y1), y2 * 1.05 end
  if y2 <= y1 then y2 = y1 + 1 end
  local px = scale(x1, x2, left, width - right, options.log_x)
  local py = scale(y1, y2, height - bottom, top, options.log_y)
  local out = { open(width, height, options.title, mini and "mini") }
  local base = options.base or 1
  for _, y in ipairs(options.log_y and decades(y1 / base, y2 / base) or ticks(y1 / base, y2 / base, mini and 3 or 5)) do
    y = y * base
    if y >= y1 and y <= y2 then
      out[#out + 1] = ('<path d="M%d %.1f H%d" class="grid"/>'):format(left, py(y), width - right)
      out[#out + 1] = text(left - 6, py(y) + 4, options.show_y(y), "end")
    end
  end
  local marks = {}
  for _, t in ipairs(options.x_ticks or ticks(x1, x2, mini and 4 or 8)) do
    local x, label = t, nil
    if type(t) == "table" then x, label = t[1], t[2] end
    if x >= x1 and x <= x2 then
      out[#out + 1] = ('<path d="M%.1f %d v5" class="axis"/>'):format(px(x), height - bottom)
      marks[#marks + 1] = { px(x), label or options.show_x(x) }
    end
  end
  marks_below(marks, height - bottom + 20, out, width, mini)
  out[#out + 1] = ('<path d="M%d %d V%d H%d" class="axis"/>'):format(left, top, height - bottom, width - right)
  for i, s in ipairs(series) do line(s, shade(s.shade or i), px, py, options, out) end
  moments(options.marks, px, left, width - right, top, height - bottom, out)
  out[#out + 1] = "</svg>"
  if not mini and (#series > 1 or series[1].label ~= "") then out[#out + 1] = legend(series) end
  return table.concat(out)
end

-- Layers on top of each other over time. edges: where the intervals lie, one more than there are; layers: { label,
-- values }; options: top (of the axis), from, to (of the time that is shown), show_x, show_y, title, marks
function M.stack(edges, layers, options)
  local width, height, left, right, top, bottom = 760, 150, LEFT, RIGHT, 8, 26
  local from, to = options.from or edges[1], options.to or edges[#edges]
  if to <= from then return nil end
  local px, py = scale(from, to, left, width - right), scale(0, options.top, height - bottom, top)
  local function clipped(x) return px(math.max(from, math.min(to, x))) end
  local out, base = { open(width, height, options.title) }, {}
  for _, y in ipairs(ticks(0, options.top, 4)) do
    out[#out + 1] = ('<path d="M%d %.1f H%d" class="grid"/>'):format(left, py(y), width - right)
      .. text(left - 6, py(y) + 4, options.show_y(y), "end")
  end
  local marks = {}
  for i, x in ipairs(ticks(from, to, 8)) do marks[i] = { px(x), options.show_x(x) } end
  marks_below(marks, height - bottom + 20, out, width)
  for k, layer in ipairs(layers) do
    local above, below = {}, {}
    for i = 1, #edges - 1 do
      local low = base[i] or 0
      local high = math.min(options.top, low + math.max(0, layer.values[i] or 0))
      if edges[i + 1] > from and edges[i] < to then
        local x1, x2 = clipped(edges[i]), clipped(edges[i + 1])
        above[#above + 1] = ("%.1f %.1f %.1f %.1f"):format(x1, py(high), x2, py(high))
        table.insert(below, 1, ("%.1f %.1f %.1f %.1f"):format(x2, py(low), x1, py(low)))
      end
      base[i] = high
    end
    if #above > 0 then
      out[#out + 1] = ('<path d="M%s L%s Z" class="area %s"><title>%s</title></path>'):format(table.concat(above, " L"),
        table.concat(below, " L"),
        shade(k), escape(layer.label))
    end
  end
  moments(options.marks, px, left, width - right, top, height - bottom, out)
  out[#out + 1] = ('<path d="M%d %d V%d H%d" class="axis"/></svg>'):format(left, top, height - bottom, width - right)
  return table.concat(out) .. legend(layers)
end

-- A strip for each row, the darker the fuller. edges: as those of a stack; rows: { label, values (0 to 1) }; options:
-- from, to, show, title. No finer than the eye can tell: of neighbours the mean is drawn.
function M.strips(edges, rows, options)
  local width, left, right, most = 760, LEFT, RIGHT, 120
  local tall = #rows <= 16 and 12 or 5
  local from, to = options.from or edges[1], options.to or edges[#edges]
  if to <= from or #rows == 0 then return nil end
  local px = scale(from, to, left, width - right)
  local function clipped(x) return px(math.max(from, math.min(to, x))) end
  local n = #edges - 1
  local step = math.max(1, math.ceil(n / most))
  local out = { open(width, #rows * tall + 4, options.title) }
  for r, row in ipairs(rows) do
    local y = 2 + (r - 1) * tall
    if tall > 8 or r % 8 == 1 then out[#out + 1] = text(left - 6, y + 9, row.label, "end small") end
    for i = 1, n, step do
      local last, sum, count = math.min(n, i + step - 1), 0, 0
      for k = i, last do
        if row.values[k] then sum, count = sum + row.values[k], count + 1 end
      end
      local x1, x2 = clipped(edges[i]), clipped(edges[last + 1])
      if count > 0 and x2 > x1 then
        out[#out + 1] = (
          '<rect x="%.1f" y="%d" width="%.1f" height="%d" class="area s1" \z
            style="opacity:%.2f"><title>%s: %s</title></rect>'):format(x1, y, x2 - x1,
          tall - 1, 0.05 + 0.95 * math.max(0, math.min(1, sum / count)), escape(row.label),
            escape(options.show(sum / count)))
      end
    end
  end
  out[#out + 1] = "</svg>"
  return table.concat(out)
end

-- rows, columns: labels; value(r, c) -> number or nil; show(value); better: "more" or "less"
function M.heat(rows, columns, value, options)
  local low, high = math.huge, -math.huge
  for r = 1, #rows do
    for c = 1, #columns do
      local v = value(r, c)
      if v then low, high = math.min(low, v), math.max(high, v) end
    end
  end
  if low > high then return nil end
  local out = { '<div class="wide"><table class="heat"><tr><th></th>' }
  for _, c in ipairs(columns) do out[#out + 1] = "<th>" .. escape(c) .. "</th>" end
  out[#out + 1] = "</tr>"
  for r, name in ipairs(rows) do
    out[#out + 1] = "<tr><th>" .. escape(name) .. "</th>"
    for c = 1, #columns do
      local v = value(r, c)
      local share = v and high > low and (v - low) / (high - low) or 0.5
      if options.better == "less" then share = 1 - share end
      out[#out + 1] = v and ('<td style="--h:%.2f">%s</td>'):format(share, escape(options.show(v))) or "<td>–</td>"
    end
    out[#out + 1] = "</tr>"
  end
  out[#out + 1] = "</table></div>"
  return table.concat(out)
end

return M
