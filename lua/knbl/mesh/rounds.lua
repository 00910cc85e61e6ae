-- knbl.mesh.rounds - a schedule of pairs: each of n meets every other once, and none takes part twice in a round. That
-- takes n - 1 rounds for an even n, and n for an odd one, where each sits out once. It is the circle method: the first
-- stays, the others move on by one place in each round.
local M = {}

-- -> a list of rounds, each a list of pairs { a, b } of numbers 1 … n. The first of a pair alternates, to even out the
-- roles.
function M.of(n)
  local seats = n % 2 == 0 and n or n + 1
  local rounds = {}
  for r = 1, seats - 1 do
    local round = {}
    local function at(seat) -- the number at that seat in this round
      return seat == 1 and 1 or (seat - 2 + r - 1) % (seats - 1) + 2
    end
    for i = 1, seats / 2 do
      local a, b = at(i), at(seats + 1 - i)
      if a <= n and b <= n then
        if (r + i) % 2 == 0 then a, b = b, a end
        round[#round + 1] = { a, b }
      end
    end
    rounds[r] = round
  end
  return rounds
end

return M
