-- knbl change - a scenario before and after a command, and what that changed.
local arms = require "knbl.program.arms"
local both = require "knbl.program.both"
local errors = require "knbl.base.errors"
local meanwhile = require "knbl.program.meanwhile"
local script = require "knbl.base.script"

local M = {
  raw = true,
  summary = "Measures a scenario, runs a command, measures again, and tells what changed.",
  usage = "knbl change SCENARIO [--repeats N] [OPTIONS OF knbl run] [SCENARIO'S OPTIONS] -- COMMAND…",
}

M.flags = both.flags {
  { name = "settle", value = "TIME", kind = "duration", help = "time between the command's end and the second half",
    default = "2s" },
  { name = "probe", value = "RATE", kind = "rate", default = "200/s",
    help = "attempts a second, from pod to pod and to a Service, while the command runs; 0 for none" },
}

local function has_repeats(words)
  for _, word in ipairs(words) do
    if word:match "^%-%-repeats" or word:match "^%-%-until" then return true end
  end
end

local function check_probe(core, values)
  local rate = core.rate(values.probe or "200/s").per_s
  if rate ~= 0 and (not rate or rate < 100 or rate > 20000) then
    errors.usage("--probe must be 0 or from 100/s to 20k/s, got '%s'", values.probe)
  end
end

-- Runs the command once: with probes, or without them where there can be none.
local function run(context, values, words, line)
  local rate = values.probe or "200/s"
  if context.core.rate(rate).per_s ~= 0 then
    local done, probes, why = meanwhile.command(context.core, "change", line, words, rate)
    if done then return done, probes end
    both.say(context, values, "without probes: %s", why)
  end
  return arms.command(context.core, "change", line)
end

-- The command between the two halves. Returns what ends it all: a second half after a change that did not happen would
-- compare nothing.
local function apply(context, values, words, line, commands)
  both.say(context, values, "running: %s", line)
  local done, probes = run(context, values, words, line)
  commands[1] = done
  done.outages = probes and meanwhile.outages(probes) or nil
  if done.status ~= 0 then
    return { exit = done.status == 130 and 130 or 1,
      message = ("the command ended with %d; the first half is kept"):format(done.status) }
  end
  both.say(context, values, "it took %.1f s; the second half begins in %s", done.seconds, values.settle or "2s")
  local ok = context.core.sleep((context.core.duration(values.settle or "2s")))
  if not ok then return { exit = 130, message = "interrupted" } end
end

-- A command of several words is one of sh, each word as it stands; a single word is a line for sh.
local function line_of(rest)
  if #rest == 1 then return rest[1] end
  local quoted = {}
  for i, word in ipairs(rest) do quoted[i] = word:find "[^%w_./:=@%%+,-]" and script.quote(word) or word end
  return table.concat(quoted, " ")
end

function M.run(context, _, argv)
  local values, words, rest = both.split(context.core, M.flags, argv)
  if values.help then return both.help(context, M) end
  if #words == 0 then errors.usage("which scenario? %s", M.usage) end
  if not rest or #rest == 0 then errors.usage("change needs a command after --: %s", M.usage) end
  local limits, alpha = both.check(context, "change", values, words)
  check_probe(context.core, values)
  if not has_repeats(words) then words[#words + 1], words[#words + 2] = "--repeats", "6" end
  local line = line_of(rest)
  local list = { { name = "before", text = "before it" }, { name = "after", text = line } }
  arms.check(list[1], words)
  local runs, commands = {}, {}
  both.say(context, values, "before: measuring")
  local stopped = both.keep(context, runs, list[1], arms.measure(list[1], words))
  stopped = stopped or apply(context, values, words, line, commands)
  if not stopped then
    both.say(context, values, "after: measuring")
    stopped = both.keep(context, runs, list[2], arms.measure(list[2], words))
  end
  return both.finish(context, values, list, runs, commands, limits, alpha, stopped)
end

return M
