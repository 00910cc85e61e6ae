-- knbl.mesh.numbers - the statistics of the fit of a mesh: medians, robust locations, quantiles of the normal and of
-- Student's distribution, and random numbers that are the same in each run.
local M = {}

-- The median of values[1 … n]; sorts them.
function M.median(values)
  local n = #values
  if n == 0 then return nil end
  table.sort(values)
  local half = math.floor((n + 1) / 2)
  return n % 2 == 1 and values[half] or (values[half] + values[half + 1]) / 2
end

-- The standard deviation that the median distance from `centre` stands for.
function M.spread(values, centre)
  local distances = {}
  for i, value in ipairs(values) do distances[i] = math.abs(value - (centre or 0)) end
  return 1.4826 * (M.median(distances) or 0)
end

local HUBER = 1.345 -- beyond so many standard deviations a value pulls no harder

-- Huber's location of values whose scale is known, from their median on.
function M.location(values, scale)
  local at, most = M.median(values), HUBER * scale
  for _ = 1, 30 do
    local sum = 0
    for _, value in ipairs(values) do sum = sum + math.max(-most, math.min(most, value - at)) end
    local step = sum / #values
    at = at + step
    if math.abs(step) < 1e-6 * scale then break end
  end
  return at
end

-- The standard deviation of one value as Huber's location sees it: of n independent values its error is that over the
-- root of n. It is the asymptotic one, of the residuals themselves, so that heavy tails count.
function M.huber_deviation(residuals, scale)
  local most, squares, inside = HUBER * scale, 0, 0
  for _, value in ipairs(residuals) do
    local pull = math.max(-most, math.min(most, value))
    squares = squares + pull * pull
    if math.abs(value) < most then inside = inside + 1 end
  end
  if inside == 0 then return scale end
  return math.sqrt(squares / #residuals) / (inside / #residuals)
end

-- The standard deviation that the distance stands for which nine of ten values keep from 0: long tails show in it.
function M.outer_spread(values)
  local distances = {}
  for i, value in ipairs(values) do distances[i] = math.abs(value) end
  table.sort(distances)
  return #distances > 0 and distances[math.ceil(0.9 * #distances)] / 1.645 or 0
end

function M.root_mean_square(values)
  local sum = 0
  for _, value in ipairs(values) do sum = sum + value * value end
  return math.sqrt(sum / math.max(1, #values))
end

-- The value that a normal variable exceeds with probability p.
local function normal_above(p)
  local low, high = 0, 40
  for _ = 1, 60 do
    local x = (low + high) / 2
    -- the tail by the continued fraction of Laplace where it converges, else by Simpson's rule
    local tail
    if x > 2 then
      local f = x
      for k = 60, 1, -1 do f = x + k / f end
      tail = math.exp(-x * x / 2) / math.sqrt(2 * math.pi) / f
    else
      local n, sum = 64, 0
      for i = 0, n do
        local t = x * i / n
        sum = sum + math.exp(-t * t / 2) * ((i == 0 or i == n) and 1 or i % 2 == 1 and 4 or 2)
      end
      tail = 0.5 - sum * x / n / 3 / math.sqrt(2 * math.pi)
    end
    if tail > p then low = x else high = x end
  end
  return (low + high) / 2
end

-- Simpson's rule over cos^power between two angles.
local function cosines(power, from, to)
  local n, sum = 400, 0
  for i = 0, n do
    local angle = from + (to - from) * i / n
    sum = sum + math.max(0, math.cos(angle)) ^ power * ((i == 0 or i == n) and 1 or i % 2 == 1 and 4 or 2)
  end
  return sum * (to - from) / n / 3
end

local known = {}

-- The value that Student's t with so many degrees of freedom exceeds with probability p, p < 0.5. With t = √df·tan a
-- its density is cos^(df-1) of the angle a.
function M.student_above(p, df)
  local key = ("%.6g %.1f"):format(p, df)
  if known[key] then return known[key] end
  local found
  if df > 200 then
    found = normal_above(p)
    found = found + (found ^ 3 + found) / (4 * df) -- the first term of the expansion
  else
    local quarter = math.pi / 2
    local whole, low, high = 2 * cosines(df - 1, 0, quarter), 0, quarter
    for _ = 1, 50 do
      local angle = (low + high) / 2
      if cosines(df - 1, angle, quarter) / whole > p then low = angle else high = angle end
    end
    found = math.sqrt(df) * math.tan((low + high) / 2)
  end
  known[key] = found
  return found
end

M.normal_above = normal_above

-- Numbers of a seed: below(n) is one of 1 … n, share() between 0 and 1, order(list) shuffles it.
function M.random(seed)
  local state = math.floor(seed) % 2147483646 + 1
  local random = {}
  function random.share()
    state = state * 48271 % 2147483647
    return state / 2147483647
  end
  function random.below(n) return math.floor(random.share() * n) + 1 end
  function random.order(list)
    for i = #list, 2, -1 do
      local k = random.below(i)
      list[i], list[k] = list[k], list[i]
    end
    return list
  end
  for _ = 1, 5 do random.share() end
  return random
end

return M
