-- knbl.results.steps - where a series of figures changed its level, as E-divisive finds it: the split that parts a
-- segment best, tested against permutations, then the same in both parts.
--
-- The statistic is over ranks: max over all splits of |sum of centred ranks| / sqrt(n1 n2 / n). It assumes nothing of
-- the noise, and what permutations give depends on the length alone, so that it is worked out once for each.
local M = { alpha = 0.002, permutations = 1999, least = 3 }

-- ---- random numbers, the same in every run ----

local function generator(seed)
  local state = seed
  return function(n)
    state = state * 48271 % 2147483647
    return state % n + 1
  end
end

-- ---- the statistic ----

-- Centred ranks; equal values share theirs.
local function ranks_of(values, from, to)
  local order, ranks, n = {}, {}, to - from + 1
  for i = 1, n do order[i] = i end
  table.sort(order, function(a, b)
    local x, y = values[from + a - 1], values[from + b - 1]
    if x ~= y then return x < y end
    return a < b
  end)
  local i = 1
  while i <= n do
    local k = i
    while k < n and values[from + order[k + 1] - 1] == values[from + order[i] - 1] do k = k + 1 end
    for j = i, k do ranks[order[j]] = (i + k) / 2 - (n + 1) / 2 end
    i = k + 1
  end
  return ranks
end

-- The best split of centred ranks: its statistic, and how many stand before it.
local function best_split(ranks)
  local n, sum, best, at = #ranks, 0, -1, nil
  for i = 1, n - 1 do
    sum = sum + ranks[i]
    if i >= M.least and n - i >= M.least then
      local t = math.abs(sum) / math.sqrt(i * (n - i) / n)
      if t > best then best, at = t, i end
    end
  end
  return best, at
end

-- How far a sum of centred ranks scatters by its length: with it the statistics of nearby lengths are much the same.
local function scale(n) return math.sqrt((n * n - 1) / 12) end

-- The length whose permutations stand for a series of n: itself where it is short, else one at most a tenth longer.
-- Its statistic lies a little higher, so no more is found by that.
local function stand_in(n)
  if n <= 40 then return n end
  return math.ceil(40 * 1.1 ^ math.ceil(math.log(n / 40) / math.log(1.1) - 1e-9))
end

local null_of = {}

-- What permutations of n ranks give, scaled and in order; once for each n.
local function null(n)
  if null_of[n] then return null_of[n] end
  local list, ranks, random = {}, {}, generator(n * 7919 + 1)
  for i = 1, n do ranks[i] = (i - (n + 1) / 2) / scale(n) end
  for k = 1, n > 200 and math.floor(M.permutations / 2) or M.permutations do
    for i = n, 2, -1 do
      local j = random(i)
      ranks[i], ranks[j] = ranks[j], ranks[i]
    end
    list[k] = best_split(ranks)
  end
  table.sort(list)
  null_of[n] = list
  return list
end

-- The share of permutations that part as well as this. A statistic below 3 is never as rare as one in 500 for a long
-- series: it need not be looked up.
local function p_of(n, statistic)
  local scaled = statistic / scale(n)
  if n > 40 and scaled < 3 then return 1 end
  local list = null(stand_in(n))
  local low, high = 1, #list + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if list[middle] >= scaled - 1e-9 then high = middle else low = middle + 1 end
  end
  return (#list - low + 2) / (#list + 1)
end

-- The fewest values in which a change can be found: those of which the plainest split is rare enough.
function M.fewest(alpha)
  for n = 2 * M.least, 40 do
    local ranks = {}
    for i = 1, n do ranks[i] = i - (n + 1) / 2 end
    if p_of(n, (best_split(ranks))) <= alpha then return n end
  end
end

-- ---- all splits ----

local function search(values, from, to, alpha, out)
  local n = to - from + 1
  if n < 2 * M.least then return end
  local statistic, at = best_split(ranks_of(values, from, to))
  if not at then return end
  local p = p_of(n, statistic)
  if p > alpha then return end
  search(values, from, from + at - 1, alpha, out)
  out[#out + 1] = { at = from + at, p = p }
  search(values, from + at, to, alpha, out)
end

-- Where each split of a hierarchy is best between its neighbours, and whether it holds there.
local function settle(values, list, alpha)
  local kept, changed = {}, false
  for i, c in ipairs(list) do
    local from = kept[#kept] and kept[#kept].at or 1
    local to = list[i + 1] and list[i + 1].at - 1 or #values
    local statistic, at = best_split(ranks_of(values, from, to))
    local p = at and p_of(to - from + 1, statistic) or 1
    if p <= alpha then
      changed = changed or from + at ~= c.at
      kept[#kept + 1] = { at = from + at, p = p }
    else
      changed = true
    end
  end
  return kept, changed
end

local function median(values, from, to)
  local list = {}
  for i = from, to do list[#list + 1] = values[i] end
  table.sort(list)
  local k = math.ceil(#list / 2)
  return #list % 2 == 1 and list[k] or (list[k] + list[k + 1]) / 2
end

-- The changes of a series, in its order: { at (the first of the new level), p, before, after (medians), change? }.
function M.find(values, alpha)
  alpha = alpha or M.alpha
  local list = {}
  search(values, 1, #values, alpha, list)
  for _ = 1, 3 do
    local settled, changed = settle(values, list, alpha)
    list = settled
    if not changed then break end
  end
  for i, c in ipairs(list) do
    c.before = median(values, list[i - 1] and list[i - 1].at or 1, c.at - 1)
    c.after = median(values, c.at, list[i + 1] and list[i + 1].at - 1 or #values)
    if c.before ~= 0 then c.change = c.after / c.before - 1 end
  end
  return list
end

return M
