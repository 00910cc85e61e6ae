-- knbl.results.timeline - the attempts of a probe as the ledger has them: { step, runs = "5000o200t4800o" }, seconds
-- from one attempt to the next and run lengths (src/engines/probe/timeline.h).
local M = {}

M.outcomes = { o = "ok", t = "timeout", r = "refused", x = "reset", e = "error", h = "status", b = "blind" }

-- Iterates over the runs: first attempt, attempts, outcome.
function M.runs(timeline)
  local next_run, at = timeline.runs:gmatch "(%d+)(%a)", 0
  return function()
    local n, letter = next_run()
    if not n then return nil end
    local from = at
    at = at + tonumber(n)
    return from, tonumber(n), M.outcomes[letter] or letter
  end
end

-- When, in seconds after `t`, the first and the last attempt from then on succeeded and failed.
local function after(timeline, t)
  local step, found = timeline.step, {}
  local earliest = math.max(0, math.ceil(t / step - 1e-6))
  for from, n, outcome in M.runs(timeline) do
    local first, last = math.max(from, earliest), from + n - 1
    local kind = outcome == "ok" and "ok" or outcome ~= "blind" and "fail"
    if kind and first <= last then
      found["first_" .. kind] = found["first_" .. kind] or first * step - t
      found["last_" .. kind] = last * step - t
    end
  end
  return found
end

-- { mark = { first_ok, last_ok, first_fail, last_fail } } for marks { t, text }. Of marks with the same text, the later
-- ones get a number.
function M.after_marks(timeline, marks)
  local result = {}
  for _, mark in ipairs(marks) do
    local name, n = mark.text, 1
    while result[name] do
      n = n + 1
      name = ("%s (%d)"):format(mark.text, n)
    end
    result[name] = after(timeline, mark.t)
  end
  return result
end

-- The state that the last attempt before `t` found: "open", "closed", or nil.
local function state_before(timeline, t)
  local state
  for from, _, outcome in M.runs(timeline) do
    if from * timeline.step >= t - 1e-9 then break end
    if outcome ~= "blind" then state = outcome == "ok" and "open" or "closed" end
  end
  return state
end

-- What knbl.ready says of its first mark, "change", and its last, "changed": the state at the end ("open" or "closed"),
-- and seconds from the beginning of the change to the first attempt of that state and to the last one of the other (0:
-- none), and the time that the change took. If all attempts, before the change too, found the same state, only that and
-- the time of the change, and true: nothing changed. nil if all attempts after the change are blind, or none was made.
function M.ready(timeline, marks)
  local began, ended = marks[1].t, #marks > 1 and marks[#marks].t or nil -- those between are the script's
  local later = after(timeline, ended or began)
  if not (later.last_ok or later.last_fail) then return nil end
  local state = (later.last_ok or -1) > (later.last_fail or -1) and "open" or "closed"
  local found = after(timeline, began)
  local new, old = "ok", "fail"
  if state == "closed" then new, old = old, new end
  local took, last = ended and ended - began or nil, found["last_" .. old]
  if not last and state_before(timeline, began) == state then return { state = state, change = took }, true end
  return { state = state, first = found["first_" .. new], last = last or 0, change = took }
end

return M
