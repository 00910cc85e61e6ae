-- short.lua - does a short run say the same as a long one? Rounds of runs of several durations, in turn, in a lab: for
-- each test and duration the median, the lowest and the highest figure, and the median of its ratios to the longest run
-- of the same round.
--
-- Usage: knbl -q tests/bench/short.lua [--rounds N] [--durations "100ms 500ms 2s"] [--tests "tcp_rr tcp_crr
-- tcp_stream"]
local knbl = require "knbl"
local opt = knbl.options {
  rounds = { 9, "rounds" },
  durations = { "100ms 500ms 2s", "durations; the last is what the others are compared with" },
  tests = { "tcp_rr tcp_crr tcp_stream", "tests" },
}
local cluster <close> = knbl.cluster()
local client, server = cluster:pair()

local function words(text)
  local list = {}
  for word in text:gmatch "%S+" do list[#list + 1] = word end
  return list
end
local function median(sorted) return sorted[(#sorted + 1) // 2] end
local function summary(list, scale)
  table.sort(list)
  return ("%.3g (%.3g-%.3g)"):format(median(list) / scale, list[1] / scale, list[#list] / scale)
end

local durations = words(opt.durations)
local longest = durations[#durations]
io.stderr:write "| test | duration | median (lowest-highest), k/s or Gbit/s | ratio to the longest |\n|-|-|-|-|\n"
for _, test in ipairs(words(opt.tests)) do
  local figures, ratios, scale = {}, {}, 1e3
  for round = 1, opt.rounds do
    local now = {}
    for i = 1, #durations do -- in turn, and from round to round the other way
      local duration = durations[round % 2 == 0 and i or #durations + 1 - i]
      local m = knbl[test] { case = ("%s %s %d"):format(test, duration, round), from = client, to = server,
        duration = duration }
      scale = m.metrics.throughput_bps and 1e9 or scale
      now[duration] = m.metrics.throughput_bps or m.metrics.rate_per_s
    end
    for _, duration in ipairs(durations) do
      figures[duration], ratios[duration] = figures[duration] or {}, ratios[duration] or {}
      table.insert(figures[duration], now[duration])
      table.insert(ratios[duration], now[duration] / now[longest])
    end
  end
  for _, duration in ipairs(durations) do
    io.stderr:write(("| %s | %s | %s | %s |\n"):format(test, duration, summary(figures[duration], scale),
      summary(ratios[duration], 1)))
  end
end
