-- knbl.mesh.words - the findings of a mesh as sentences.
local figures = require "knbl.results.figures"
local text = require "knbl.base.text"

local M = {}

local function share(change)
  local percent = change * 100
  if change >= 1 then return ("×%s"):format(figures.significant(change + 1)) end
  return (math.abs(percent) < 9.95 and "%+.1f %%" or "%+.0f %%"):format(percent)
end

local function bare(change)
  if change >= 1 then return "×" .. figures.significant(change + 1) end
  return (math.abs(change) < 0.0995 and "%+.1f" or "%+.0f"):format(change * 100)
end

-- "-38 % (95 %: -44 to -31)"; of a loss "1.0 % (95 %: 0.7 to 1.4)"
function M.effect(o)
  if o.absolute then
    if not o.low then return text.rough(o.effect * 100) .. " %" end
    return ("%s %% (95 %%: %s to %s)"):format(text.rough(o.effect * 100), text.rough(math.max(0, o.low) * 100),
      text.rough(o.high * 100))
  end
  if not o.low then return share(o.effect) end
  return ("%s (95 %%: %s to %s)"):format(share(o.effect), bare(o.low), bare(o.high))
end

local function agree(o)
  return o.agree == o.pairs and ("%d pair%s agree%s"):format(o.pairs, o.pairs == 1 and "" or "s",
    o.pairs == 1 and "s" or "") or ("%d of %d pairs agree"):format(o.agree, o.pairs)
end

local doing = {
  throughput = { sender = "sends slowly", receiver = "receives slowly", both = "sends and receives slowly" },
  p50 = { sender = "has a high latency as the client", receiver = "has a high latency as the server",
    both = "has a high latency both as client and as server" },
  mean = { sender = "stalls as the client (mean latency)", receiver = "stalls as the server (mean latency)",
    both = "stalls both as client and as server (mean latency)" },
  loss = { sender = "loses what it sends", receiver = "loses what it should receive",
    both = "loses what it sends and what it should receive" },
}

-- One outlier that is a node in a role, or in both (`other`: the same as receiver).
function M.node(o, other)
  local said = doing[o.figure][other and "both" or o.kind]
  local more = other and (" and %s"):format(M.effect(other)) or ""
  local agreed = other and agree(o) ~= agree(other) and ("%s as client, %s as server"):format(agree(o), agree(other))
    or agree(o)
  return ("%s %s (%s): %s%s, %s"):format(o.name, said, o.test, M.effect(o), more, agreed)
end

local of_pair = { throughput = "is slow", p50 = "has a high latency", mean = "stalls (mean latency)",
  loss = "loses packets" }

function M.pair(o)
  return ("%s %s (%s): %s beyond what its two nodes explain, %d measurement%s"):format(o.name,
    of_pair[o.figure], o.test, M.effect(o), o.pairs, o.pairs == 1 and "" or "s")
end

-- `shown` is the difference in the figure's own unit: "+310 µs".
function M.zone(o, shown)
  local why = o.kind == "across" and (o.expected and " (expected across zones)" or ", unlike the other zones")
    or o.expected and "" or ", unlike the other zones"
  return ("zone %s → zone %s (%s): %s, %s%s"):format(o.from, o.to, o.test, shown, M.effect(o), why)
end

local failing = { sender = "reaches no other node", receiver = "cannot be reached" }

-- What fails: found as knbl.mesh.pairs.failures has it.
function M.failure(found, name)
  if found.kind == "pair" then
    return ("%s fails (%s): %s"):format(name, found.mark.test, found.mark.text or "no reason given")
  end
  local said = found.bad == found.of and failing[found.kind]
    or found.kind == "sender" and "reaches few of its partners" or "is reached by few of its partners"
  return ("%s %s: %d of %d pairs fail (%s: %s)"):format(name, said, found.bad, found.of, found.mark.test,
    found.mark.text or "no reason given")
end

function M.mtu(found, name, usual)
  local what = found.mark.black_hole and "a black hole" or ("a path MTU of %.0f"):format(found.mark.mtu)
  if found.kind == "pair" then
    return ("%s has %s, the usual is %.0f: %s"):format(name, what, usual, found.mark.text or "")
  end
  return ("%s has %s for what it %s, the usual is %.0f: %d of %d pairs agree"):format(name, what,
    found.kind == "sender" and "sends" or "receives", usual, found.bad, found.of)
end

M.share = share

return M
