-- knbl.format.flame - one page with the flame graph of every measurement that has a profile, and of the difference
-- between any two. It opens from a file and fetches nothing; its script is knbl.format.flame_page's.
local chart = require "knbl.format.chart"
local json = require "knbl.json"
local page = require "knbl.format.flame_page"
local profile = require "knbl.results.profile"

local M = {}

-- All stacks of a group in one tree, in the ledger's own form: lists of parents, names and costs.
local function tree_of(stacks)
  local t = { frames = json.array {}, kinds = {}, parents = json.array {}, names = json.array {}, costs = json.array {},
    others = json.array {} }
  local frame_index, children = {}, { [0] = {} }
  local function frame_of(name, kind)
    local key = kind .. name
    if not frame_index[key] then
      table.insert(t.frames, name)
      table.insert(t.kinds, kind)
      frame_index[key] = #t.frames - 1
    end
    return frame_index[key]
  end
  for _, stack in ipairs(stacks) do
    local at = 0
    for i = #stack, 1, -1 do
      local frame = frame_of(stack[i][1], stack[i][2])
      local next_at = children[at][frame]
      if not next_at then
        next_at = #t.parents + 1
        t.parents[next_at], t.names[next_at], t.costs[next_at] = at, frame, 0
        children[at][frame], children[next_at] = next_at, {}
        if at == 0 and stack.other then table.insert(t.others, next_at) end
      end
      at = next_at
    end
    if at > 0 then t.costs[at] = t.costs[at] + stack.cost * stack.count end
  end
  t.kinds = table.concat(t.kinds)
  for i, cost in ipairs(t.costs) do t.costs[i] = tonumber(("%.5g"):format(cost)) end
  return t
end

local function page_data(core, data)
  local groups, index, plain = json.array {}, {}, profile.groups(data)
  for i, g in ipairs(profile.groups(data, true)) do
    local c, sample = g.collected, 0
    for _, stack in ipairs(c.list) do sample = math.max(sample, stack.cost) end
    local t = tree_of(c.list)
    t.title, t.label, t.unit, t.sample = g.test .. ": " .. g.label, g.label, c.unit, sample
    t.note = ("%s at %.0f Hz, %.0f samples"):format(tostring(c.event), tonumber(c.hz) or 0, c.samples)
    if c.cut >= 0.005 then t.note = t.note .. (", %.1f %% of them shortened"):format(c.cut * 100) end
    index[g], groups[i] = i - 1, t
    if g.base then t.base, t.sentence = index[g.base], profile.sentence(core, plain[i].base, plain[i]) end
  end
  return groups
end

-- What the page opens at: of the measurements that have another to be compared with, or of all where none has, the one
-- that took the most CPU time, beside that other.
local function opening(data)
  local first, base, most, index = 0, nil, -1, {}
  for i, g in ipairs(profile.groups(data)) do
    index[g] = i - 1
    local samples = g.collected.samples
    if g.base and not base or (g.base ~= nil) == (base ~= nil) and samples > most then
      first, base, most = i - 1, g.base and index[g.base], samples
    end
  end
  return first, base
end

function M.render(data, options)
  local title = data.question or data.scenario or "knbl"
  local groups = page_data(options.core, data)
  local out = {
    '<!doctype html><html lang="en"><head><meta charset="utf-8">\z
      <meta name="viewport" content="width=device-width,initial-scale=1">',
    "<title>", chart.escape(title), "</title><style>", page.style, "</style></head><body>",
    ('<p class="soft">knbl · where the CPU goes · %s</p><h1>%s</h1>'):format(chart.escape(data.started or ""),
      chart.escape(title)) }
  if #groups == 0 then
    out[#out + 1] = "<p>" .. chart.escape(profile.none(data)) .. "</p>"
  else
    local _, remarks = profile.sections(options.core, data)
    for _, remark in ipairs(remarks) do out[#out + 1] = '<p class="soft">' .. chart.escape(remark) .. "</p>" end
    -- no text of the data can end the element that holds it
    local first, base = opening(data)
    local text = json.encode({ groups = groups, first = first, second = base }):gsub("<", "\\u003c")
    out[#out + 1] = page.body .. '<script type="application/json" id="data">' .. text .. "</script><script>"
      .. page.script .. "</script>"
  end
  out[#out + 1] = "</body></html>\n"
  return table.concat(out), #groups == 0 and profile.none(data) or nil
end

return M
