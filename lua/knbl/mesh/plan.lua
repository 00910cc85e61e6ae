-- knbl.mesh.plan - who measures whom, and when: the schedule of a mesh before anything is measured.
--
--   make(want) -> plan; or nil and why the budget is too small, with what would be enough
--
-- want = { members = { { name, zone?, rack? }… }, tests = { { name, seconds, kind = "latency" | "bandwidth" | "loss" |
--   "mtu", bytes_per_s, figures }… }, plan? = "all" | "sample" | "levels", partners?, find? (0.2), budget? = { time?
--   (seconds), share? (of the links), bps? }, cpus? (of the one machine that all nodes share), node_cpus? (of the node
--   that has the fewest), seed? }
-- plan = { nodes = { name… }, slots = { { test, at, duration, pairs = { { i, j }… } }… }, seconds, bytes, requests,
--   kind, partners?, pairs = directed pairs, at_once = { [test] = pairs }, rates = { [test] = bit/s }, notes = { … } }
--
-- In a slot of a bandwidth test every node has one partner. The pairs of the plan "all" come from knbl.mesh.rounds.
-- "sample" takes circles over a random order of the nodes, so that each node sends to k others and receives from k.
-- "levels" takes pairs within racks, between the racks of a zone and between zones, and the sample too.
local fit = require "knbl.mesh.fit"
local numbers = require "knbl.mesh.numbers"
local rounds = require "knbl.mesh.rounds"

local M = {
  ALL_MOST = 100,       -- nodes up to which every pair is measured
  GAP = 0.15,           -- seconds between slots: clocks differ by milliseconds, connections open and reports come in
  TARGET = 120,         -- seconds that a mesh on one machine may take before its pairs must share CPUs
  SHARED_MOST = 4,      -- pairs at once for each CPU, where one machine has all nodes: with more, most get no answer
  SHARED_S = 0.03,      -- added to a slot for each pair beyond one on a CPU
  OVERLAP_MOST = 4,     -- latency pairs of a node at once, at most
  REQUESTS = 6,         -- of each agent, at most
  FOUND = 0.99,         -- share of the bad nodes that are named
  PARTNERS_LEAST = 8,
  RACK_MOST = 8,        -- partners of a node in its own rack
  RACKS_MOST = 12,      -- racks of its zone that a rack measures
  ZONE_PAIRS = 16,      -- pairs for each way between two zones
  STREAM_LEAST = 100e6, -- bit/s: with less a stream tells little
  -- Assumed standard deviation of the logarithm of one pair's value. If a run has more, its report says so.
  NOISE = 0.15,
  -- The error of a node's effect beside that of a mean of normal values: noise of real runs has long tails, and the
  -- other effects are estimated too. From the study of tests/bench/mesh_power.lua.
  EFFICIENCY = 1.15,
}

-- ---- how many partners ----

-- How many partners in each direction it takes to find a node whose figure is worse by the share `find`, among n nodes
-- with this number of figures each. `noise` is that of one pair.
function M.partners(n, figures, find, noise)
  local quantile = numbers.normal_above(fit.FALSE_NODES / (2 * n * figures)) + numbers.normal_above(1 - M.FOUND)
  local k = (M.EFFICIENCY * (noise or M.NOISE) * quantile / -math.log(1 - find)) ^ 2
  return math.max(M.PARTNERS_LEAST, math.ceil(k))
end

-- ---- edges ----

-- A set of directed pairs that keeps the order in which they came.
local function edge_set(n)
  local edges, seen = {}, {}
  return edges, function(i, j)
    local key = (i - 1) * n + j
    if i ~= j and not seen[key] then
      seen[key] = true
      edges[#edges + 1] = { i, j }
    end
  end
end

local function all_pairs(n)
  local edges, add = edge_set(n)
  local list = n > 1 and rounds.of(n) or {}
  for way = 1, 2 do
    for _, round in ipairs(list) do
      for _, pair in ipairs(round) do add(pair[way], pair[3 - way]) end
    end
  end
  return edges
end

-- Circles over the list: each sends to the one `step` places on, for `count` random steps. A step and its reverse would
-- be the same pairs: both are taken only where there are no others left.
local function circles(list, count, random, add)
  local n, steps, late = #list, {}, {}
  for step = 1, n - 1 do
    local into = step <= n / 2 and steps or late
    into[#into + 1] = step
  end
  random.order(steps)
  random.order(late)
  for _, step in ipairs(late) do steps[#steps + 1] = step end
  for c = 1, math.min(count, n - 1) do
    for x = 1, n do add(list[x], list[(x - 1 + steps[c]) % n + 1]) end
  end
end

local function by_label(members, label_of)
  local groups, order = {}, {}
  for i, member in ipairs(members) do
    local label = label_of(member)
    if label then
      if not groups[label] then groups[label], order[#order + 1] = {}, label end
      table.insert(groups[label], i)
    end
  end
  table.sort(order)
  return groups, order
end

-- `count` pairs from the nodes of one group to those of another, each time others.
local function across(from, to, count, turn, add)
  for x = 1, math.min(count, #from * #to) do
    add(from[(turn + x - 1) % #from + 1], to[(turn + x - 1 + math.floor((x - 1) / #from)) % #to + 1])
  end
end

local function levels(members, random, add)
  local racks, rack_names = by_label(members, function(m) return m.rack and (m.zone or "") .. "\31" .. m.rack end)
  local zones, zone_names = by_label(members, function(m) return m.zone end)
  for _, name in ipairs(rack_names) do circles(random.order(racks[name]), M.RACK_MOST, random, add) end
  local of_zone = {}
  for _, name in ipairs(rack_names) do
    local zone = name:match "^(.-)\31"
    of_zone[zone] = of_zone[zone] or {}
    table.insert(of_zone[zone], name)
  end
  for _, list in pairs(of_zone) do
    circles(list, M.RACKS_MOST, random, function(a, b) across(racks[a], racks[b], 2, random.below(97), add) end)
  end
  for _, a in ipairs(zone_names) do
    for _, b in ipairs(zone_names) do
      if a ~= b then across(zones[a], zones[b], M.ZONE_PAIRS, random.below(97), add) end
    end
  end
end

local function edges_of(kind, members, partners, seed)
  local n = #members
  if kind == "all" then return all_pairs(n) end
  local edges, add = edge_set(n)
  local random, order = numbers.random(seed or 1), {}
  for i = 1, n do order[i] = i end
  if kind == "levels" then levels(members, random, add) end
  circles(random.order(order), partners, random, add)
  return edges
end

-- One pair of each two nodes: for a test that measures both directions itself.
local function one_way(edges, n)
  local list, seen = {}, {}
  for _, edge in ipairs(edges) do
    local a, b = math.min(edge[1], edge[2]), math.max(edge[1], edge[2])
    if not seen[a * n + b] then
      seen[a * n + b] = true
      list[#list + 1] = edge
    end
  end
  return list
end

-- ---- slots ----

-- Puts each pair into the first slot where both nodes are free (`overlap` pairs of a node at once) and a place is left.
local function pack(edges, n, at_once, overlap)
  local slots, busy, open = {}, {}, 1
  for i = 1, n do busy[i] = {} end
  for _, edge in ipairs(edges) do
    local a, b, s = busy[edge[1]], busy[edge[2]], open
    while slots[s] and (#slots[s] >= at_once or (a[s] or 0) >= overlap or (b[s] or 0) >= overlap) do s = s + 1 end
    slots[s] = slots[s] or {}
    table.insert(slots[s], edge)
    a[s], b[s] = (a[s] or 0) + 1, (b[s] or 0) + 1
    while slots[open] and #slots[open] >= at_once do open = open + 1 end
  end
  return slots
end

-- The same pairs, each n of them in a random order. Where only some pairs fit into a slot, in the order of the rounds a
-- node would always share its slots with the same others, and what they do to its figures would look like its fault.
-- A node still meets few partners at a time, the same in all tests: the nodes of a lab share one table of neighbors,
-- which has 1,024 entries.
local function mixed(edges, n, random)
  local list = {}
  for first = 1, #edges, n do
    for _, edge in ipairs(random.order(table.move(edges, first, math.min(first + n - 1, #edges), 1, {}))) do
      list[#list + 1] = edge
    end
  end
  return list
end

-- The approximate number of slots: limited by the pairs at once, and by the node with the most pairs.
local function slots_about(edges, n, at_once, overlap)
  local degree, most = {}, 0
  for i = 1, n do degree[i] = 0 end
  for _, edge in ipairs(edges) do
    for k = 1, 2 do
      degree[edge[k]] = degree[edge[k]] + 1
      most = math.max(most, degree[edge[k]])
    end
  end
  return math.max(math.ceil(#edges / at_once), math.ceil(most / overlap))
end

-- ---- the budget ----

local function duration_text(seconds)
  if seconds < 60 then return ("%gs"):format(math.ceil(seconds * 10) / 10) end
  seconds = math.ceil(seconds)
  return seconds % 60 == 0 and ("%dm"):format(math.floor(seconds / 60))
    or ("%dm%02ds"):format(math.floor(seconds / 60), seconds % 60)
end
M.duration_text = duration_text

local function percent(share) return ("%.3g %%"):format(share * 100) end

-- The number of latency pairs that a node may have at once: each may keep a CPU busy, and half of them stay free.
local function overlap_of(want)
  if want.cpus or not want.node_cpus then return 1 end
  return math.max(1, math.min(M.OVERLAP_MOST, math.floor(want.node_cpus / 2)))
end

-- The most pairs of a test at once, and how many it begins with; nil and why the budget cannot hold.
local function places(want, test, n)
  local overlap = test.kind == "latency" and overlap_of(want) or 1
  local most = math.max(1, math.floor(n / 2) * overlap)
  local budget = want.budget or {}
  if test.kind == "bandwidth" and budget.share then
    local least = 1 / n
    most = math.min(most, math.floor(budget.share * n + 1e-9))
    if most < 1 then
      return nil, ("budget.bandwidth of %s is too small: one pair of %d nodes uses %s of their links"):format(
        percent(budget.share), n, percent(least))
    end
  elseif test.kind == "bandwidth" and budget.bps then
    if budget.bps < M.STREAM_LEAST then
      return nil, ("budget.bandwidth of %.3g Mbit/s is too small: a stream needs at least %.3g Mbit/s"):format(
        budget.bps / 1e6, M.STREAM_LEAST / 1e6)
    end
    most = math.min(most, math.floor(budget.bps / M.STREAM_LEAST))
  end
  if want.cpus then most = math.min(most, math.max(1, M.SHARED_MOST * want.cpus)) end
  local first = want.cpus and math.min(most, math.max(1, want.cpus)) or most
  if test.kind == "bandwidth" and budget.bps then
    first = math.min(first, math.max(1, math.floor(budget.bps / 1e9)))
  end
  return { most = most, first = first, overlap = overlap }
end

-- How long a slot is: where pairs share the CPUs of one machine, each takes a while longer to begin and to end.
local function slot_seconds(want, test, place)
  return test.seconds + (want.cpus and M.SHARED_S * math.max(0, place.now / want.cpus - 1) or 0)
end

local function seconds_about(want, lists, n)
  local seconds = 0
  for t, test in ipairs(want.tests) do
    local place = want.places[t]
    seconds = seconds + slots_about(lists[t], n, place.now, place.overlap) * (slot_seconds(want, test, place) + M.GAP)
  end
  return seconds
end

-- More pairs at once, where that is allowed, until the time holds.
local function widen(want, lists, n, limit)
  local wider = true
  while wider and seconds_about(want, lists, n) > limit do
    wider = false
    for _, place in ipairs(want.places) do
      if place.now < place.most then place.now, wider = math.min(place.most, place.now * 2), true end
    end
  end
end

-- The slots of all tests, in turn, so that a mesh that ends early has some of each.
local function timetable(want, lists, n)
  local list = {}
  for t, test in ipairs(want.tests) do
    local place = want.places[t]
    local edges = place.now < math.floor(n / 2) and mixed(lists[t], n, numbers.random(want.seed or 1)) or lists[t]
    local packed = pack(edges, n, place.now, place.overlap)
    for s, pairs_of_it in ipairs(packed) do
      list[#list + 1] = { order = (s - 0.5) / #packed, t = t, test = test.name,
        duration = slot_seconds(want, test, place), pairs = pairs_of_it }
    end
  end
  table.sort(list, function(a, b)
    if a.order ~= b.order then return a.order < b.order end
    return a.t < b.t
  end)
  local at, bytes = 0, 0
  for s, slot in ipairs(list) do
    bytes = bytes + #slot.pairs * want.tests[slot.t].seconds * want.rates[slot.t]
    list[s] = { test = slot.test, at = at, duration = slot.duration, pairs = slot.pairs }
    at = at + slot.duration + M.GAP
  end
  return list, at, math.floor(bytes)
end

-- ---- a plan ----

local function figures_of(want)
  local count = 0
  for _, test in ipairs(want.tests) do count = count + (test.figures or 1) end
  return math.max(1, count)
end

-- A plan of one kind. The caller checks whether it fits the time.
local function make(want, kind)
  local members, n = want.members, #want.members
  local partners = kind ~= "all" and math.min(n - 1,
    want.partners or M.partners(n, figures_of(want), want.find or 0.2)) or nil
  if partners and partners >= n - 1 then kind, partners = "all", nil end
  local edges, lists = edges_of(kind, members, partners, want.seed), {}
  local one = one_way(edges, n)
  want.places, want.rates = {}, {}
  for t, test in ipairs(want.tests) do
    local place, why = places(want, test, n)
    if not place then return nil, why end
    lists[t], want.places[t], place.now = test.kind == "mtu" and one or edges, place, place.first
  end
  local budget = want.budget or {}
  widen(want, lists, n, budget.time or (want.cpus or budget.bps) and M.TARGET or math.huge)
  local plan = { nodes = {}, kind = kind, partners = partners, find = want.find or 0.2, pairs = #edges,
    requests = M.REQUESTS * n, at_once = {},
    rates = {}, notes = {} }
  for t, test in ipairs(want.tests) do
    local now = want.places[t].now
    plan.at_once[test.name] = now
    local rate = test.kind == "bandwidth" and budget.bps and math.floor(budget.bps / now)
    if rate then plan.rates[test.name] = rate end
    want.rates[t] = rate and math.min(rate / 8, test.bytes_per_s) or test.bytes_per_s
  end
  for i, member in ipairs(members) do plan.nodes[i] = member.name end
  plan.slots, plan.seconds, plan.bytes = timetable(want, lists, n)
  if kind == "all" and (want.partners or n) < n - 1 then
    plan.notes[1] = ('partners = %d has no effect: plan = "all" measures every pair'):format(want.partners)
  end
  if want.cpus then
    for _, test in ipairs(want.tests) do
      if plan.at_once[test.name] > want.cpus then
        local note = "%s: %d pairs at a time share the %d CPUs of one machine, which makes the figures worse"
        plan.notes[#plan.notes + 1] = note:format(test.name, plan.at_once[test.name], want.cpus)
      end
    end
  end
  return plan
end

-- Checks the labels; returns notes about those that contradict each other.
local function check_labels(members)
  local notes, zone_of, told = {}, {}, {}
  for _, member in ipairs(members) do
    local rack, zone = member.rack, member.zone
    if rack and zone then
      if zone_of[rack] and zone_of[rack] ~= zone and not told[rack] then
        told[rack] = true
        notes[#notes + 1] = ("rack %s has nodes in two zones, %s and %s: it counts as two racks"):format(rack,
          zone_of[rack], zone)
      end
      zone_of[rack] = zone_of[rack] or zone
    end
  end
  local _, zones = by_label(members, function(m) return m.zone end)
  if #zones > 1 and #zones > #members / 2 then
    notes[#notes + 1] = ("%d zones of %d nodes: too few nodes in each to separate zones from nodes"):format(#zones,
      #members)
  end
  return notes
end

local function has_levels(members)
  local _, zones = by_label(members, function(m) return m.zone end)
  local _, racks = by_label(members, function(m) return m.rack and (m.zone or "") .. "\31" .. m.rack end)
  return #zones > 1 or #racks > 1
end

-- What would be enough, if this plan exceeds the time.
local function refusal(want, plan, others)
  local budget, slots = want.budget.time, {}
  local advice = {}
  for _, other in ipairs(others) do
    if other.seconds <= budget then
      advice[#advice + 1] = ('plan = "%s" (%s)'):format(other.kind, duration_text(other.seconds))
    end
  end
  for _, slot in ipairs(plan.slots) do slots[#slots + 1] = slot.duration end
  local factor = (budget - #slots * M.GAP) / math.max(1e-9, plan.seconds - #slots * M.GAP)
  if factor > 0.05 and want.duration then
    advice[#advice + 1] = ('duration = "%dms"'):format(math.floor(want.duration * factor * 0.98 * 1000))
  end
  advice[#advice + 1] = ('budget.time = "%s"'):format(duration_text(plan.seconds))
  return ("a mesh of %d nodes with plan = \"%s\" takes %s, but budget.time is %s; use %s"):format(
    #plan.nodes, plan.kind, duration_text(plan.seconds), duration_text(budget), table.concat(advice, ", or "))
end

-- The kinds of plan to try, in this order.
local function kinds_of(want)
  local n = #want.members
  local thin = has_levels(want.members) and "levels" or "sample"
  if want.plan then return { want.plan } end
  if n > M.ALL_MOST then return thin == "levels" and { "levels", "sample" } or { "sample" } end
  return n > 2 * M.PARTNERS_LEAST and { "all", thin } or { "all" }
end

function M.make(want)
  local budget, first, why = want.budget or {}, nil, nil
  local notes = check_labels(want.members)
  for _, kind in ipairs(kinds_of(want)) do
    local plan
    plan, why = make(want, kind)
    if not plan then return nil, why end
    if not budget.time or plan.seconds <= budget.time then
      if first and first.kind ~= plan.kind then
        plan.notes[#plan.notes + 1] = ("plan = \"%s\" would take %s, over budget.time: used \"%s\" instead"):format(
          first.kind, duration_text(first.seconds), plan.kind)
      end
      for _, note in ipairs(notes) do plan.notes[#plan.notes + 1] = note end
      return plan
    end
    first = first or plan
  end
  local others = {}
  for _, kind in ipairs { has_levels(want.members) and "levels" or "sample", "sample" } do
    local other = kind ~= first.kind and not (others[1] and others[1].kind == kind) and make(want, kind)
    if other then others[#others + 1] = other end
  end
  return nil, refusal(want, first, others)
end

return M
