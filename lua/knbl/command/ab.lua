-- knbl ab - two arms of one scenario in turn (a b b a …), so that drift hits both alike, and what they differ in.
local arms = require "knbl.program.arms"
local both = require "knbl.program.both"
local errors = require "knbl.base.errors"

local M = {
  raw = true,
  summary = "Runs a scenario under two arms in turn (a b b a …) and compares them.",
  usage = "knbl ab SCENARIO --a TEXT --b TEXT [--rounds N] [OPTIONS OF knbl run] [SCENARIO'S OPTIONS]",
}

M.flags = both.flags {
  { name = "a", value = "TEXT", help = "arm a: its options, where TEXT begins with -; else a command for sh that runs "
    .. "before each of its rounds" },
  { name = "b", value = "TEXT", help = "arm b, likewise" },
  { name = "agent-a", value = "BINARY", help = "another build of knbl for arm a" },
  { name = "agent-b", value = "BINARY", help = "another build of knbl for arm b" },
  { name = "rounds", value = "N", kind = "count", help = "how often each arm is measured", default = 8 },
}

-- Which arm has its turn: 1 2, 2 1, 1 2 …
local function turn(round, k) return round % 2 == 1 and k or 3 - k end

-- One turn of an arm. Returns what ends it all.
local function measure(context, arm, words, runs, commands)
  if arm.command then
    local done = arms.command(context.core, arm.name, arm.command)
    commands[#commands + 1] = done
    if done.status ~= 0 then
      return { exit = done.status == 130 and 130 or 1,
        message = ("%s: the command ended with %d: %s"):format(arm.name, done.status, arm.command) }
    end
  end
  return both.keep(context, runs, arm, arms.measure(arm, words))
end

local function rounds(context, values, list, words, runs, commands)
  local n = values.rounds or 8
  for round = 1, n do
    for k = 1, 2 do
      local arm = list[turn(round, k)]
      both.say(context, values, "round %d of %d: %s", round, n, arm.name)
      local stopped = measure(context, arm, words, runs, commands)
      if stopped then return stopped end
    end
  end
end

function M.run(context, _, argv)
  local values, words, rest = both.split(context.core, M.flags, argv)
  if values.help then return both.help(context, M) end
  if rest then errors.usage("ab takes no command after --: give it to --a or --b") end
  if #words == 0 then errors.usage("which scenario? %s", M.usage) end
  local list = { both.arm("a", values.a, values.agent_a), both.arm("b", values.b, values.agent_b) }
  if (values.rounds or 8) < 1 then errors.usage("--rounds must be at least 1, got %d", values.rounds) end
  local limits, alpha = both.check(context, "ab", values, words)
  for _, arm in ipairs(list) do
    both.refuse_in_arm(arm)
    arms.check(arm, words)
  end
  local runs, commands = {}, {}
  local stopped = rounds(context, values, list, words, runs, commands)
  return both.finish(context, values, list, runs, commands, limits, alpha, stopped)
end

return M
