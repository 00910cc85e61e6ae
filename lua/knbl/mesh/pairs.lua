-- knbl.mesh.pairs - the findings of a mesh that are not effects of a node: pairs that are worse than their two nodes
-- explain, pairs that fail, and path MTUs.
--
-- A pair is named only if at least two of its runs are bad: noise has long tails, and one bad value among ten thousand
-- means nothing.
local fit = require "knbl.mesh.fit"
local numbers = require "knbl.mesh.numbers"

local M = {
  LEAST = math.log(1.2), -- the effect of a pair that is named is larger, with 95 %
  MOST = 20,             -- pairs that are named
  SHARE = 2 / 3,         -- of a node's pairs that fail, or have a smaller MTU, for the node to be the cause
  NODE_LEAST = 2,        -- at least this number of bad pairs
}

local function name_of(nodes, i, j, both)
  return ("%s %s %s"):format(nodes[i].name, both and "↔" or "→", nodes[j].name)
end
M.name_of = name_of

-- ---- slow pairs ----

-- A number for the pair of two nodes, the same both ways.
local function key_of(i, j)
  if i > j then i, j = j, i end
  return i * 1000000 + j
end

-- The residuals of each pair, both ways.
local function residuals_of(model)
  local by_pair = {}
  for k, o in ipairs(model.obs) do
    local key = key_of(o.i, o.j)
    by_pair[key] = by_pair[key] or {}
    table.insert(by_pair[key], model.rest[k])
  end
  return by_pair
end

-- How rare the runs of each pair are, by the pair: of each run the rarest figure.
local function evidence(fitted, skip)
  local by_pair = {}
  for _, one in ipairs(fitted) do
    local model = one.model
    local rare, own = fit.rarity(model.rest, one.measure.worse), residuals_of(model)
    for k, o in ipairs(model.obs) do
      if not skip[o.i] and not skip[o.j] then
        local key = key_of(o.i, o.j)
        local p = rare(model.rest[k], own[key])
        local pair = by_pair[key] or { a = math.min(o.i, o.j), b = math.max(o.i, o.j), runs = {} }
        by_pair[key] = pair
        local known = pair.runs[o.run]
        if not known or p < known.p then
          pair.runs[o.run] = { p = p, rest = model.rest[k], one = one, i = o.i, j = o.j }
        end
      end
    end
  end
  return by_pair
end

-- The probability that the second rarest of a pair's runs is as rare by chance, and the runs. So a single run, however
-- far off, is not enough.
local function judge(pair)
  local runs = {}
  for _, run in pairs(pair.runs) do runs[#runs + 1] = run end
  if #runs < 2 then return 1 end
  table.sort(runs, function(x, y) return x.p < y.p end)
  return #runs * (#runs - 1) / 2 * runs[2].p ^ 2, runs
end

-- The pair as an outlier, by the figure that shows it most; `runs` begins with the rarest.
local function outlier(pair, runs, p, nodes)
  local one, values, ways = runs[1].one, {}, {}
  for _, run in ipairs(runs) do
    if run.one == one then
      values[#values + 1] = run.rest
      if run.p < 0.1 then ways[run.i] = true end
    end
  end
  if #values == 1 and runs[2] then ways[runs[2].i] = true end
  local both = ways[pair.a] and ways[pair.b]
  local from = ways[pair.b] and not both and pair.b or pair.a
  local to = from == pair.a and pair.b or pair.a
  local effect = numbers.median(values)
  return { kind = "pair", name = name_of(nodes, from, to, both), from = nodes[from].name, to = nodes[to].name,
    one = one, at = effect, error = one.model.deviation / math.sqrt(#values), pairs = #values, agree = #values, p = p }
end

-- fitted: { { test, measure, model }… }; skip: nodes that are named themselves. At most `alpha` of healthy meshes name
-- a pair.
function M.slow(fitted, skip, nodes, alpha)
  local by_pair, list, count = evidence(fitted, skip), {}, 0
  for _ in pairs(by_pair) do count = count + 1 end
  for _, pair in pairs(by_pair) do
    local p, runs = judge(pair)
    if runs and p * count * #fitted <= alpha then
      local found = outlier(pair, runs, p, nodes)
      local least = found.at * found.one.measure.worse - fit.half(found.one.model, found.error)
      if least >= M.LEAST then list[#list + 1] = found end
    end
  end
  table.sort(list, function(a, b)
    if a.p ~= b.p then return a.p < b.p end
    return a.name < b.name -- the same in each run
  end)
  for i = #list, M.MOST + 1, -1 do list[i] = nil end
  return list
end

-- ---- what fails ----

-- Pairs that no node explains: at least two of their runs are bad, and most of them. A single one may be chance.
local function bad_pairs(marks, taken, found)
  local by_pair, order = {}, {}
  for _, mark in ipairs(marks) do
    if not taken[mark.i] and not taken[mark.j] then
      local key = key_of(mark.i, mark.j)
      if not by_pair[key] then
        by_pair[key] = { kind = "pair", bad = 0, of = 0 }
        order[#order + 1] = key
      end
      local pair = by_pair[key]
      pair.of, pair.bad = pair.of + 1, pair.bad + (mark.bad and 1 or 0)
      if mark.bad and not pair.mark then pair.i, pair.j, pair.mark = mark.i, mark.j, mark end
      pair.both = pair.both or mark.bad and mark.i ~= pair.i
    end
  end
  for _, key in ipairs(order) do
    local pair = by_pair[key]
    if pair.bad >= M.NODE_LEAST and pair.bad >= M.SHARE * pair.of then found[#found + 1] = pair end
  end
  return found
end

-- marks: { { i, j, bad, … }… }. Names the nodes of which most pairs in a role are bad, then the bad pairs that are
-- left. Returns lists of { kind, node?, i, j, bad, of, mark }.
local function blame(marks, n)
  local found, taken = {}, {}
  local function counts(role)
    local bad, all = {}, {}
    for i = 1, n do bad[i], all[i] = 0, 0 end
    for _, mark in ipairs(marks) do
      local node, other = mark.i, mark.j
      if role == "receiver" then node, other = other, node end
      if not taken[other] then
        all[node] = all[node] + 1
        if mark.bad then bad[node] = bad[node] + 1 end
      end
    end
    return bad, all
  end
  -- the worst node first: what it explains is no longer held against its partners
  while true do
    local worst, most
    for _, role in ipairs { "sender", "receiver" } do
      local bad, all = counts(role)
      for i = 1, n do
        local share = all[i] > 0 and bad[i] / all[i] or 0
        if not taken[i] and bad[i] >= M.NODE_LEAST and share >= M.SHARE and (not most or bad[i] > most) then
          worst, most = i, bad[i]
        end
      end
    end
    if not worst then break end
    for _, role in ipairs { "sender", "receiver" } do
      local bad, all = counts(role)
      if bad[worst] >= M.NODE_LEAST and bad[worst] >= M.SHARE * all[worst] then
        local sample
        for _, mark in ipairs(marks) do
          local node = role == "sender" and mark.i or mark.j
          if mark.bad and node == worst then sample = sample or mark end
        end
        found[#found + 1] = { kind = role, node = worst, bad = bad[worst], of = all[worst], mark = sample }
      end
    end
    taken[worst] = true
  end
  return bad_pairs(marks, taken, found)
end

-- Errors of the agent itself do not count against the path.
local own = { lost = true, late = true, interrupted = true, limit = true }

-- Pairs that fail though both agents are there.
function M.failures(results, n, missing)
  local marks = {}
  for _, r in ipairs(results) do
    local code = r.error and r.error.code
    if not missing[r.from] and not missing[r.to] and (r.ok or not own[code]) then
      marks[#marks + 1] = { i = r.from, j = r.to, bad = not r.ok, test = r.test,
        text = r.error and r.error.message or nil }
    end
  end
  return blame(marks, n)
end

-- ---- path MTU ----

local function most_common(values)
  local count, best = {}, nil
  for _, value in ipairs(values) do
    count[value] = (count[value] or 0) + 1
    if not best or count[value] > count[best] or count[value] == count[best] and value > best then best = value end
  end
  return best
end

-- Paths whose MTU is below the usual one, or that lose large packets without a word. zones[i]: the zone of node i. What
-- is usual is so for each way between zones. Returns the findings, the usual MTU, and ways between zones with another.
function M.mtus(results, n, zones)
  local marks, all, ways, order = {}, {}, {}, {}
  for _, r in ipairs(results) do
    local m = r.metrics or {}
    for way, found in pairs { forward = m.forward, backward = m.backward } do
      local i, j = r.from, r.to
      if way == "backward" then i, j = j, i end
      local key = zones[i] and zones[j] and zones[i] .. "\31" .. zones[j] or ""
      if not ways[key] then ways[key], order[#order + 1] = {}, key end
      table.insert(ways[key], found.mtu_path)
      all[#all + 1] = found.mtu_path
      marks[#marks + 1] = { i = i, j = j, key = key, mtu = found.mtu_path, black_hole = found.black_hole,
        text = found.summary }
    end
  end
  local usual, other = most_common(all), {}
  table.sort(order)
  local of_way = {}
  for _, key in ipairs(order) do
    of_way[key] = #ways[key] >= 3 and key ~= "" and most_common(ways[key]) or usual
    if of_way[key] ~= usual then
      local from, to = key:match "^(.*)\31(.*)$"
      other[#other + 1] = { from = from, to = to, mtu = of_way[key], pairs = #ways[key] }
    end
  end
  for _, mark in ipairs(marks) do mark.bad = mark.black_hole or mark.mtu < of_way[mark.key] end
  return blame(marks, n), usual, other
end

return M
