-- knbl.mesh.fit - which nodes, zones and pairs of a mesh stand out, by one figure.
--
-- The model: the logarithm of the value measured from node i to node j is a sum of the usual value, the effect of the
-- time slot (the machine was busy), of the two zones, of the sender and of the receiver, and noise.
--
-- Median polish fits it first: it moves the median of each slot, zone pair, sender and receiver into that effect, in
-- turn, until nothing moves. Up to half of the values can be wrong without disturbing it. Then the effect of each node
-- is the robust mean (Huber's) of its pairs without the other effects, with an interval of Student's t. What the model
-- leaves of a value is its residual. The noise is the spread of all residuals; the interval is wider for a node whose
-- own pairs disagree more than that.
local numbers = require "knbl.mesh.numbers"

local M = {
  FALSE_NODES = 0.0025,   -- share of healthy meshes that name a node, where noise is normal; long tails make it more
  ROUNDS = 12,            -- of the polish, at most
  SETTLED = 1e-4,         -- the polish ends when no effect moves by more
  SLOT_LEAST = 8,         -- a slot with fewer pairs has no effect of its own
  ZONE_LEAST = 3,         -- a zone with fewer nodes has no effects of its own
  NODE_LEAST = 3,         -- a node with fewer pairs is not named
  AGREE = 2 / 3,          -- a node is named only if this share of its pairs is worse too
  LEAST = math.log(1.05), -- a smaller effect is not named, even if it is certain
  NOISE_LEAST = 0.003,    -- the noise is never taken to be smaller
  FEW = 200,              -- with fewer values the noise is at least their plain standard deviation
  OWN_WEIGHT = 8,         -- the common noise weighs as much as this number of the node's own pairs
}

local median, location = numbers.median, numbers.location

-- ---- the polish ----

-- Groups of observations by a key: by_key = { [key] = { numbers of observations } }, and the keys in order of
-- appearance.
local function grouped(obs, key_of)
  local by_key, order = {}, {}
  for k, o in ipairs(obs) do
    local key = key_of(o)
    if key ~= nil then
      if not by_key[key] then by_key[key], order[#order + 1] = {}, key end
      table.insert(by_key[key], k)
    end
  end
  return { by_key = by_key, order = order, effect = {} }
end

-- Returns the function that gives the key of an observation's pair of zones. Pairs of zones with too few nodes share
-- one key.
local function way_of(zones, sizes)
  return function(o)
    local a, b = zones[o.i], zones[o.j]
    if not a or not b then return nil end
    if sizes[a] >= M.ZONE_LEAST and sizes[b] >= M.ZONE_LEAST then return a .. "\31" .. b end
    return a == b and "within" or "across"
  end
end

-- Moves the median of each group's residuals into the group's effect. Then, if `centred`, moves the median effect into
-- the middle. Returns how much the middle moved, and the largest step of an effect.
local function polish(factor, rest, centred)
  local values, largest = {}, 0
  for _, key in ipairs(factor.order) do
    local list = factor.by_key[key]
    for n, k in ipairs(list) do values[n] = rest[k] end
    for n = #values, #list + 1, -1 do values[n] = nil end
    local step = median(values)
    factor.effect[key] = (factor.effect[key] or 0) + step
    largest = math.max(largest, math.abs(step))
    for _, k in ipairs(list) do rest[k] = rest[k] - step end
  end
  if not centred or #factor.order == 0 then return 0, largest end
  local all = {}
  for n, key in ipairs(factor.order) do all[n] = factor.effect[key] end
  local centre = median(all)
  for _, key in ipairs(factor.order) do factor.effect[key] = factor.effect[key] - centre end
  return centre, largest
end

local function sizes_of(zones, n)
  local sizes, count = {}, 0
  for i = 1, n do
    local zone = zones[i]
    if zone then
      if not sizes[zone] then sizes[zone], count = 0, count + 1 end
      sizes[zone] = sizes[zone] + 1
    end
  end
  return sizes, count
end

local function only_large(factor, least)
  local kept = {}
  for _, key in ipairs(factor.order) do
    if #factor.by_key[key] >= least then kept[#kept + 1] = key end
  end
  factor.order = kept
  return factor
end

-- Fits the model to observations { i, j, y, slot? } of n nodes; y is the logarithm. zones[i] is the zone of node i, or
-- nil; noise_least is the smallest noise to assume. Returns the model.
function M.fit(obs, n, zones, noise_least)
  local rest, ys = {}, {}
  for k, o in ipairs(obs) do ys[k] = o.y end
  local middle = median(ys)
  for k, o in ipairs(obs) do rest[k] = o.y - middle end
  local sizes, count = sizes_of(zones or {}, n)
  local model = {
    obs = obs, n = n, zones = zones or {}, zone_sizes = sizes, rest = rest,
    slot = only_large(grouped(obs, function(o) return o.slot end), M.SLOT_LEAST),
    zone = count > 1 and grouped(obs, way_of(zones, sizes)) or grouped({}, nil),
    sender = grouped(obs, function(o) return o.i end), receiver = grouped(obs, function(o) return o.j end),
  }
  for _ = 1, M.ROUNDS do
    local largest = 0
    for _, factor in ipairs { "slot", "zone", "sender", "receiver" } do
      local moved, step = polish(model[factor], rest, factor ~= "zone")
      middle, largest = middle + moved, math.max(largest, step)
    end
    if largest < M.SETTLED then break end
  end
  model.middle = middle
  local parameters = 1 + #model.slot.order + #model.zone.order + #model.sender.order + #model.receiver.order
  model.df = math.max(1, #obs - parameters)
  -- The polish makes the middle of the residuals too narrow. So the deviation is the largest of three estimates: from
  -- the middle half of the residuals, from Huber's function, and from nine tenths of them.
  local least, wider = noise_least or M.NOISE_LEAST, math.sqrt(#obs / model.df)
  model.scale = math.max(least, numbers.spread(rest) * wider)
  model.deviation = math.max(model.scale, numbers.huber_deviation(rest, model.scale) * wider,
    numbers.outer_spread(rest) * wider)
  if #obs < M.FEW then model.deviation = math.max(model.deviation, numbers.root_mean_square(rest) * wider) end
  return model
end

-- ---- effects ----

-- Returns the effect that values show, and its standard error, which is multiplied by the root of `inflation`.
local function effect_of(model, values, inflation)
  local sorted = {}
  for k, value in ipairs(values) do sorted[k] = value end
  local at = location(sorted, model.scale)
  local own = math.max(model.deviation, numbers.spread(values, at))
  local k = #values
  local variance = (M.OWN_WEIGHT * model.deviation ^ 2 + k * own ^ 2) / (M.OWN_WEIGHT + k)
  return at, math.sqrt(variance / k * (inflation or 1))
end

-- The effects of all nodes in a role ("sender" or "receiver"): { [node] = { effect, error, pairs, agree }… }. worse is
-- 1 if larger values are worse, -1 if smaller ones are.
function M.nodes(model, role, worse)
  local mine, other = model[role], model[role == "sender" and "receiver" or "sender"]
  local far = role == "sender" and "j" or "i"
  local found, effects = {}, {}
  for _, node in ipairs(mine.order) do
    local values, partners = {}, 0
    for n, k in ipairs(mine.by_key[node]) do
      values[n] = model.rest[k] + mine.effect[node]
      partners = partners + 1 / #other.by_key[model.obs[k][far]]
    end
    local effect, err = effect_of(model, values, 1 + partners / #values)
    found[node] = { effect = effect, error = err, pairs = #values, values = values }
    effects[#effects + 1] = effect
  end
  -- the residuals have a median of 0, but where one tail is longer Huber's location of all of them has not
  local centre = median(effects) or 0
  for _, one in pairs(found) do
    one.effect, one.agree = one.effect - centre, 0
    for _, value in ipairs(one.values) do
      if value * worse > math.abs(one.effect) / 4 then one.agree = one.agree + 1 end
    end
    one.values = nil
  end
  return found
end

-- How many standard errors an effect must differ from 0 to be named, if the probability of any wrong name among this
-- number of hypotheses is to be at most alpha.
function M.limit(model, alpha, hypotheses)
  return numbers.student_above(alpha / math.max(1, hypotheses), model.df)
end

-- Reports whether a node is named.
function M.stands_out(found, limit, worse)
  local effect = found.effect * worse
  return found.pairs >= M.NODE_LEAST and effect >= M.LEAST and effect > limit * found.error
    and found.agree >= M.AGREE * found.pairs
end

-- The smallest effect of a node with this number of pairs that is found with a probability of 99 %.
function M.finds(model, limit, pairs)
  return (limit + numbers.normal_above(0.01)) * model.deviation / math.sqrt(pairs)
end

-- The half width of an interval of 95 %.
function M.half(model, err) return numbers.student_above(0.025, model.df) * err end

-- The effects of the pairs of zones: { { from, to, effect, error, pairs }… }, and the median effect within one zone.
-- The error includes that the nodes of a zone differ from each other.
function M.ways(model)
  local list, within = {}, {}
  local nodes = {}
  for _, role in ipairs { "sender", "receiver" } do
    for _, node in ipairs(model[role].order) do nodes[#nodes + 1] = model[role].effect[node] end
  end
  local between_nodes = numbers.spread(nodes)
  for _, key in ipairs(model.zone.order) do
    local from, to = key:match "^(.*)\31(.*)$"
    local values = {}
    for n, k in ipairs(model.zone.by_key[key]) do values[n] = model.rest[k] + model.zone.effect[key] end
    if from and #values >= M.NODE_LEAST then
      local effect, err = effect_of(model, values)
      err = math.sqrt(err ^ 2 + between_nodes ^ 2 * (1 / model.zone_sizes[from] + 1 / model.zone_sizes[to]))
      list[#list + 1] = { from = from, to = to, effect = effect, error = err, pairs = #values }
      if from == to then within[#within + 1] = effect end
    end
  end
  return list, median(within)
end

-- ---- pairs ----

local TAIL_LEAST = 3 -- values of other pairs that tell how long the tail is

-- Returns a function of a pair's residual, and of all residuals of that pair: the probability that a healthy pair has
-- one that is as bad. Up to the worst tenth of all residuals (of many: hundredth) it is that share; beyond, the tail is
-- taken as exponential. Its length is the root mean square of what lies beyond, so that a few values far out make it
-- long, and other pairs alone decide it.
local function rarity(residuals, worse)
  local side = {}
  for n, residual in ipairs(residuals) do side[n] = residual * worse end
  table.sort(side)
  local share = #side >= 1000 and 0.01 or 0.1
  local from = side[math.max(1, math.ceil(#side * (1 - share)))]
  local squares, count = 0, 0
  for _, value in ipairs(side) do
    if value > from then squares, count = squares + (value - from) ^ 2, count + 1 end
  end
  return function(residual, own)
    local value, others, left = residual * worse, squares, count
    if value <= from then return 1 end
    for _, mine in ipairs(own) do
      if mine * worse > from then others, left = others - (mine * worse - from) ^ 2, left - 1 end
    end
    if left < TAIL_LEAST then return share end
    return share * math.exp(-(value - from) / math.max(1e-6, math.sqrt(math.max(0, others) / (2 * left))))
  end
end
M.rarity = rarity

return M
