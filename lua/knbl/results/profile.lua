-- knbl.results.profile - what the profiles in a ledger say: which kernel functions an operation costs, and why one path
-- costs more than another.
--
-- A measurement's `profile` is a list with an entry for each machine (src/meter/stacks.h), or an {error} where it was
-- not permitted. A sample stands for a piece of CPU time; over the operations (or gigabytes) of the same time it
-- becomes a cost. Nothing here is measured.
local figures = require "knbl.results.figures"
local ledger = require "knbl.results.ledger"

local M = {
  top = 10,
  parts = 4,          -- how many functions explain a difference
  sure = 3,           -- standard deviations that a difference must have: many functions are looked at
}

-- Whose time it is that a measurement costs, beside its agents': the kernel's own threads, and the sandboxes that
-- agents run in. A machine does other things too; they are in the profile, and not in what an operation costs.
local of_kernel = { "^interrupts of", "^ksoftirqd", "^kworker", "^napi/" }
local of_sandboxes = { "^vhost", "^qemu", "^runsc", "^exe$", "^virtiofsd" }

local function matches(name, patterns)
  for _, pattern in ipairs(patterns) do
    if name:find(pattern) then return true end
  end
end

-- Whether an end is known to run in no sandbox; the runtime of several behind a Service is not known.
local plain_runtimes, plain_kinds = { runc = true, host = true }, { node = true, external = true }
local function is_plain(side)
  return type(side) == "table" and (plain_runtimes[side.runtime] or plain_kinds[side.kind]) or false
end

local function has_sandbox(m)
  local path = type(m.path) == "table" and m.path or {}
  if type(path.targets) ~= "table" then return not (is_plain(path.from) and is_plain(path.to)) end
  for _, one in ipairs(path.targets) do
    if type(one) ~= "table" or not is_plain(one.to) then return true end
  end
  return not is_plain(path.from)
end

-- An agent's process has its name, as far as the kernel keeps it: "knbl:client". Where none of them has, all of knbl's
-- are meant.
local function agents_of(m)
  local wanted = {}
  local function add(name)
    if type(name) == "string" then wanted["knbl:" .. name:sub(1, 10)] = true end
  end
  add(m.from)
  add(m.to)
  for _, server in ipairs(type(m.servers) == "table" and m.servers or {}) do
    add(type(server) == "table" and server.name)
  end
  return wanted
end

local function measured_in(m, p)
  local wanted, strict, sandboxed = agents_of(m), false, has_sandbox(m)
  for i, frame in ipairs(p.frames) do strict = strict or p.kinds:sub(i, i) == "p" and wanted[frame] end
  return function(name)
    if m.path and m.path.external or m.via == "external" then return true end
    if matches(name, of_kernel) or sandboxed and matches(name, of_sandboxes) then return true end
    return wanted[name] or not strict and name:find "^knbl" ~= nil
  end
end

-- ---- reading ----

local function is_list(t, n, check)
  if type(t) ~= "table" or n and #t ~= n then return false end
  for _, v in ipairs(t) do
    if not check(v) then return false end
  end
  return true
end

local function is_name(v) return type(v) == "string" end
local function is_number(v) return type(v) == "number" and v == v and v >= 0 and v < 1e15 end

-- Whether one machine's profile holds together: a ledger may come from anywhere.
function M.valid(p)
  if type(p) ~= "table" or not is_list(p.frames, nil, is_name) or type(p.kinds) ~= "string"
    or #p.kinds ~= #p.frames then
    return false
  end
  local n = type(p.names) == "table" and #p.names or -1
  if not (is_list(p.names, n, is_number) and is_list(p.parents, n, is_number) and is_list(p.counts, n, is_number)) then
    return false
  end
  for i = 1, n do
    local name, parent = p.names[i], p.parents[i]
    if name % 1 ~= 0 or name >= #p.frames or parent % 1 ~= 0 or parent >= i then return false end
  end
  return is_number(p.samples) and is_number(p.duration_s)
end

-- Why there is no profile where one was asked for: a text, or nil.
function M.refusal(m)
  for _, p in ipairs(type(m.profile) == "table" and m.profile or {}) do
    if type(p) == "table" and type(p.error) == "table" then return tostring(p.error.message) end
  end
end

-- Why no measurement of a ledger has one.
function M.none(data)
  local why
  for _, m in ipairs(data.measurements) do why = why or M.refusal(m) end
  return why or "no measurement has a profile: run it with --profile, or with profile = true in the scenario"
end

-- ---- costs ----

-- What a cost is for: gigabytes where a test is about throughput, else operations. How many of them a second; the word.
local function amount(m)
  if figures.headline(m.test).unit == "bits" then
    local bps = m.metrics.throughput_bps
    return is_number(bps) and bps > 0 and bps / 8e9 or nil, "GB"
  end
  local rate = m.metrics.rate_per_s
  return is_number(rate) and rate > 0 and rate or nil, "operation"
end

-- What a sample of a machine's profile costs, in ns for each operation or GB; nil where that cannot be said.
local function sample_cost(p, per_s)
  local sum = 0
  for _, count in ipairs(p.counts) do sum = sum + count end
  if sum == 0 or not is_number(p.busy_s) or p.duration_s == 0 then return nil end
  return p.busy_s * 1e9 / sum / (per_s * p.duration_s)
end

-- All stacks of some measurements that are repeats of one another: { list = { stack… }, unit, samples, hz, event, cut,
-- missing }. A stack is a list of { name, kind } from the inside out, with its count and the cost of one; `all` has
-- those too that are not the measurement's. nil where none of them has a profile.
function M.collect(list, all)
  local stacks, out, used = {}, { samples = 0, cut = 0, missing = {} }, 0
  for _, m in ipairs(list) do
    local per_s, unit = amount(m)
    local any = false
    for _, p in ipairs(m.ok and per_s and type(m.profile) == "table" and m.profile or {}) do
      local cost = M.valid(p) and sample_cost(p, per_s)
      if cost then
        any = true
        out.unit, out.hz, out.event = unit, p.hz, p.event
        out.samples = out.samples + p.samples - (tonumber(p.idle) or 0)
        out.cut = math.max(out.cut, is_number(p.cut) and p.cut or 0)
        for _, text in ipairs(type(p.missing) == "table" and p.missing or {}) do out.missing[tostring(text)] = true end
        local is_measured = measured_in(m, p)
        for i, count in ipairs(p.counts) do
          if count > 0 then
            local stack, at = { cost = cost, count = count }, i
            while at > 0 do
              local name = p.names[at] + 1
              stack[#stack + 1] = { p.frames[name], p.kinds:sub(name, name) }
              at = p.parents[at]
            end
            stack.other = not is_measured(stack[#stack][1]) or nil
            if all or not stack.other then stacks[#stacks + 1] = stack end
          end
        end
      end
    end
    if any then used = used + 1 end
  end
  if used == 0 then return nil end
  for _, stack in ipairs(stacks) do stack.cost = stack.cost / used end
  out.list = stacks
  return out
end

-- Kernel functions over some stacks: name -> { self, total, noise }, and the cost of all of them. `without`: stacks
-- that hold one of these functions do not count. Noise is the variance that the number of samples brings.
local function by_function(collected, without)
  local functions, all = {}, { total = 0, noise = 0 }
  for _, stack in ipairs(collected.list) do
    local cost, noise, seen, hidden = stack.cost * stack.count, stack.cost * stack.cost * stack.count, {}, false
    for _, frame in ipairs(stack) do hidden = hidden or frame[2] == "k" and without and without[frame[1]] end
    if not hidden then
      all.total, all.noise = all.total + cost, all.noise + noise
      for i, frame in ipairs(stack) do
        local name = frame[1]
        if frame[2] == "k" and not seen[name] then
          seen[name] = true
          local f = functions[name] or { name = name, self = 0, total = 0, noise = 0 }
          functions[name] = f
          f.total, f.noise = f.total + cost, f.noise + noise
          if i == 1 then f.self = f.self + cost end
        end
      end
    end
  end
  return functions, all
end

-- The kernel functions in which most of the time was spent: { name, self, total }, and the whole cost.
function M.functions(collected, n)
  local functions, all = by_function(collected)
  local list = {}
  for _, f in pairs(functions) do
    if f.self > 0 then list[#list + 1] = f end
  end
  table.sort(list, function(a, b)
    if a.self ~= b.self then return a.self > b.self end
    return a.name < b.name
  end)
  for i = #list, (n or M.top) + 1, -1 do list[i] = nil end
  return list, all.total
end

-- ---- why one costs more than another ----

-- The function that explains most: its cost grew, and it is mostly growth. A function near the root grew by as much,
-- and says nothing.
local function best_part(base, other, without, sign)
  local before, after = by_function(base, without), by_function(other, without)
  local best, best_score
  local function try(name)
    local a, b = before[name] or { total = 0, noise = 0 }, after[name] or { total = 0, noise = 0 }
    local difference = (b.total - a.total) * sign
    if difference > M.sure * math.sqrt(a.noise + b.noise) then
      local score = difference * difference / math.max(a.total, b.total)
      if not best or score > best_score or score == best_score and name < best.name then
        best, best_score = { name = name, from = a.total, to = b.total, difference = b.total - a.total }, score
      end
    end
  end
  for name in pairs(before) do try(name) end
  for name in pairs(after) do
    if not before[name] then try(name) end
  end
  return best
end

-- What the difference of two paths is made of: { from, to, difference, shown, parts = { { name, from, to, difference }…
-- }, rest }. Parts do not overlap: each has what it calls, and not what is below another. `shown`: the whole difference
-- is more than chance would bring.
function M.why(base, other)
  local _, a = by_function(base)
  local _, b = by_function(other)
  local out = { from = a.total, to = b.total, difference = b.total - a.total, parts = {} }
  out.shown = math.abs(out.difference) > 2 * math.sqrt(a.noise + b.noise)
  out.rest = out.difference
  local without, sign = {}, (not out.shown or out.difference > 0) and 1 or -1
  while #out.parts < M.parts do
    local part = best_part(base, other, without, sign)
    if not part or math.abs(part.difference) < 0.01 * out.to then break end
    out.parts[#out.parts + 1] = part
    without[part.name] = true
    out.rest = out.rest - part.difference
  end
  return out
end

-- ---- over a ledger ----

-- What was chosen for a measurement; by which way it went, and so to whom, is what is compared.
local function attributes(m)
  local list = { from = m.from }
  for key, value in pairs(m.labels or {}) do list["label " .. key] = tostring(value) end
  for key, value in pairs(m.params or {}) do
    if type(value) ~= "table" then list["param " .. key] = tostring(value) end
  end
  return list
end

-- How well two groups are compared: the more they have in common but the way that they went.
local function alike(a, b)
  local n = a.first.via ~= b.first.via and 1 or 0
  for key, value in pairs(a.mine) do
    if b.mine[key] == value then n = n + 2 end
  end
  return n
end

-- A group's name: its case, and what tells it from others of that case.
local function label_of(m)
  local label = m.case or m.test
  local via = m.via and (m.via:gsub("_", " "))
  if via and not label:lower():find(via, 1, true) then label = ("%s (%s)"):format(label, via) end
  local size = ledger.size(m)
  return size and ("%s, %.0f B"):format(label, size) or label
end

-- Every measurement that has a profile, repeats together: { test, label, first, collected, base? }. `base` is the one
-- before it that it is best compared with: of the same test, and most like it. `all`: with what else ran on the
-- machine.
function M.groups(data, all)
  local groups = {}
  for _, list in ipairs(ledger.groups(data)) do
    local collected = M.collect(list, all)
    if collected then
      local g = { test = list[1].test, label = label_of(list[1]), first = list[1], collected = collected,
        mine = attributes(list[1]) }
      local most = -1
      for _, earlier in ipairs(groups) do
        local n = earlier.test == g.test and earlier.collected.unit == collected.unit and alike(earlier, g) or -1
        if n >= 0 and n >= most then g.base, most = earlier, n end
      end
      groups[#groups + 1] = g
    end
  end
  return groups
end

local function cost_text(core, ns, ascii) return core.format_duration(math.abs(ns), ascii) end

-- "1.1 µs in nf_conntrack_in and what it calls, 0.6 µs in nft_do_chain"
local function parts_text(core, parts, ascii)
  local list = {}
  for i, part in ipairs(parts) do
    list[i] = ("%s in %s%s"):format(cost_text(core, part.difference, ascii), part.name,
      i == 1 and " and what it calls" or "")
  end
  return table.concat(list, ", ")
end

-- "Service costs 2.3 µs more CPU for each operation than pod IP (13.9 µs against 11.6 µs): 1.1 µs in …, 0.2 µs
-- elsewhere."
function M.sentence(core, base, other, ascii)
  local why = M.why(base.collected, other.collected)
  local unit = other.collected.unit
  local from, to = cost_text(core, why.from, ascii), cost_text(core, why.to, ascii)
  local parts = parts_text(core, why.parts, ascii)
  if not why.shown then
    local same = (
      "%s and %s cost the same CPU for each %s as far as %.0f and %.0f samples can tell (%s and %s)"):format(
      other.label, base.label,
      unit, other.collected.samples, base.collected.samples, to, from)
    return #why.parts == 0 and same .. "." or ("%s; more is spent %s."):format(same, parts), 0
  end
  local weight = why.from > 0 and math.abs(why.difference) / why.from or 0
  local more = why.difference > 0
  local head = ("%s costs %s %s CPU for each %s than %s (%s against %s)"):format(other.label,
    cost_text(core, why.difference, ascii),
    more and "more" or "less", unit, base.label, to, from)
  if #why.parts == 0 then return head .. "; no single kernel function shows where.", weight end
  local rest = (why.rest > 0) == more and cost_text(core, why.rest, ascii) .. " elsewhere" or
    ("%s %s elsewhere"):format(cost_text(core, why.rest, ascii), more and "less" or "more")
  return ("%s: %s, %s."):format(head, parts, rest), weight
end

-- What the formats show: { { title, unit, total, note, functions, sentence?, weight }… }, and texts about what there is
-- not. `weight` is the relative difference that the sentence tells of; 0 where none is shown.
function M.sections(core, data, ascii)
  local sections, remarks, seen = {}, {}, {}
  local function remark(text)
    if text and not seen[text] then
      seen[text] = true
      remarks[#remarks + 1] = text
    end
  end
  for _, m in ipairs(data.measurements) do remark(M.refusal(m)) end
  for _, g in ipairs(M.groups(data)) do
    local c = g.collected
    for text in pairs(c.missing) do remark(text) end
    local functions, total = M.functions(c)
    local sentence, weight
    if g.base then sentence, weight = M.sentence(core, g.base, g, ascii) end
    sections[#sections + 1] = {
      title = g.test .. " " .. g.label, test = g.test, unit = c.unit, total = total, functions = functions,
      note = ("%s at %.0f Hz, %.0f samples"):format(tostring(c.event), tonumber(c.hz) or 0, c.samples),
      sentence = sentence, weight = weight or 0,
    }
  end
  return sections, remarks
end

return M
