-- knbl.mesh.verdict - what is wrong in a mesh, from the results of its pairs: which nodes, as senders or receivers,
-- which ways between zones, which pairs. At most one of a hundred healthy meshes names anything.
--
--   judge { nodes = { { name, zone?, rack? }… }, results, missing = { [i] = reason }, tests = { name… }, show? }
--     -> { tests = { { test, figures = { … } }… }, outliers, zones, sentences, unsure?, mtu? }
--
-- results are those of knbl.mesh.schedule. An outlier is { kind, name, test, figure, effect, low?, high?, pairs, agree,
-- text }: effect is the relative change of the figure (-0.38), of a loss the share lost beyond the usual (absolute).
local figures = require "knbl.results.figures"
local fit = require "knbl.mesh.fit"
local measures = require "knbl.mesh.measures"
local numbers = require "knbl.mesh.numbers"
local pairs_of = require "knbl.mesh.pairs"
local rough = require "knbl.base.text".rough
local words = require "knbl.mesh.words"

local M = {
  FALSE_ALARMS = 0.01,     -- share of healthy meshes that name an outlier
  NODES_LEAST = 4,         -- a mesh of fewer has too few nodes to compare
  ZONE_ODD = math.log(1.25), -- a way between zones that differs by more from the others of its kind is odd
  FAILED_MOST = 0.5,       -- share of failed runs up to which there is a verdict
  SAME = math.log(1.5),    -- a mean that is worse by no more than this beside its median adds nothing
}

-- ---- models ----

local function observations(results, test, measure)
  local obs = {}
  for run, r in ipairs(results) do
    if r.test == test and r.ok then
      local y = measures.value(r, measure)
      if y then obs[#obs + 1] = { i = r.from, j = r.to, y = y, slot = r.slot, run = run } end
    end
  end
  return obs
end

local function fitted_of(job)
  local list, zones = {}, {}
  for i, node in ipairs(job.nodes) do zones[i] = node.zone end
  for _, test in ipairs(job.tests) do
    for _, measure in ipairs(measures.of(test)) do
      local obs = observations(job.results, test, measure)
      if #obs > 0 then
        local model = fit.fit(obs, #job.nodes, zones, measure.noise_least)
        list[#list + 1] = { test = test, measure = measure, model = model }
      end
    end
  end
  return list
end

-- ---- outliers ----

-- Fills in what a script sees of an effect on the scale of the fit.
local function tell(o, one, at, err)
  local middle, half = one.model.middle, fit.half(one.model, err)
  local function change(effect) return measures.change(one.measure, effect, middle) end
  o.test, o.figure, o.absolute = one.test, one.measure.name, one.measure.absolute
  o.effect, o.low, o.high = change(at), change(at - half), change(at + half)
  o.at = at
  return o
end

local function node_outliers(fitted, job)
  local list = {}
  local hypotheses = 2 * #job.nodes * math.max(1, #fitted)
  for _, one in ipairs(fitted) do
    local limit = fit.limit(one.model, fit.FALSE_NODES, hypotheses)
    one.effects = {}
    for _, role in ipairs { "sender", "receiver" } do
      one.effects[role] = fit.nodes(one.model, role, one.measure.worse)
      for i = 1, #job.nodes do
        local found = one.effects[role][i]
        if found and fit.stands_out(found, limit, one.measure.worse) then
          list[#list + 1] = tell({ kind = role, name = job.nodes[i].name, node = i, pairs = found.pairs,
            agree = found.agree, one = one }, one, found.effect, found.error)
        end
      end
    end
  end
  return list
end

-- The share of segments that TCP sends again where a node takes part, and where it is usual: the middle of its runs.
local function resent(job)
  local of_node, all = {}, {}
  for _, r in ipairs(job.results) do
    local share = r.ok and r.metrics and tonumber(r.metrics.resent_ratio)
    if share and measures.kind(r.test) == "bandwidth" then
      all[#all + 1] = share
      for _, i in ipairs { r.from, r.to } do
        of_node[i] = of_node[i] or {}
        table.insert(of_node[i], share)
      end
    end
  end
  local usual = numbers.median(all) or 0
  return function(i)
    local share = of_node[i] and numbers.median(of_node[i]) or 0
    if share < 0.0005 or share < 4 * usual then return "" end
    return ("; its streams retransmit %s %% of their segments, the usual is %s %%"):format(
      rough(share * 100), rough(usual * 100))
  end
end

-- A mean that says what the median beside it says already is left out.
local function without_echoes(list)
  local medians, kept = {}, {}
  for _, o in ipairs(list) do
    if o.figure == "p50" then medians[o.test .. "\31" .. o.kind .. "\31" .. o.node] = o end
  end
  for _, o in ipairs(list) do
    local median = o.figure == "mean" and medians[o.test .. "\31" .. o.kind .. "\31" .. o.node]
    if not median or o.at > median.at + M.SAME then kept[#kept + 1] = o end
  end
  return kept
end

-- Each node in a role has one sentence; where it stands out in both, one for both.
local function say_nodes(list, sentences, job)
  local by_key, again = {}, resent(job)
  local function key(o, kind) return table.concat({ o.test, o.figure, o.node, kind }, "\31") end
  for _, o in ipairs(list) do by_key[key(o, o.kind)] = o end
  for _, o in ipairs(list) do
    local other = by_key[key(o, o.kind == "sender" and "receiver" or "sender")]
    o.text = o.kind == "sender" and words.node(o, other) or other and words.node(other, o) or words.node(o)
    o.text = o.text .. again(o.node)
    if o.kind == "sender" or not other then sentences[#sentences + 1] = o.text end
  end
end

-- ---- zones ----

-- "+310 µs": how much the figure differs, in its own unit.
local function difference(job, one, from, effect)
  local measure = one.measure
  local figure = figures.get(measure.name)
  local function value(y) return measure.from and measure.from(y) or math.exp(y) end
  local change = value(one.model.middle + from + effect) - value(one.model.middle + from)
  local shown = figures.show(job.core, figure, math.abs(change), job.ascii)
  return (change < 0 and "-" or "+") .. shown
end

-- What the other ways of a kind have in common, and how sure that is.
local function others_of(list, way)
  local values = {}
  for _, other in ipairs(list) do
    if other ~= way and other.kind == way.kind then values[#values + 1] = other.effect end
  end
  return #values >= 2 and numbers.median(values) or nil
end

local function zone_findings(fitted, job)
  local zones, odd = {}, {}
  for _, one in ipairs(fitted) do
    local ways, within = fit.ways(one.model)
    local limit = fit.limit(one.model, M.FALSE_ALARMS / 4, math.max(1, #ways * #fitted))
    for _, way in ipairs(ways) do way.kind = way.from == way.to and "within" or "across" end
    for _, way in ipairs(within and one.measure.name ~= "mean" and ways or {}) do
      local others, worse = others_of(ways, way), one.measure.worse
      local beyond = others and (way.effect - others) * worse or 0
      local unusual = beyond > M.ZONE_ODD and beyond > limit * way.error
      local apart = (way.effect - within) * worse
      local told = way.kind == "across" and apart > fit.LEAST and apart > limit * way.error
      if unusual or told then
        local o = tell({ kind = way.kind, from = way.from, to = way.to, pairs = way.pairs, agree = way.pairs,
          expected = not unusual or nil, name = ("zone %s → zone %s"):format(way.from, way.to) }, one,
          way.effect - within, way.error)
        o.text = words.zone(o, difference(job, one, within, way.effect - within))
        zones[#zones + 1] = o
        if unusual then odd[#odd + 1] = o end
      end
    end
  end
  return zones, odd
end

-- ---- what fails ----

local function failure_outliers(job, out, sentences)
  local listed = 0
  for _, found in ipairs(pairs_of.failures(job.results, #job.nodes, job.missing)) do
    local pair = found.kind == "pair"
    local name = pair and pairs_of.name_of(job.nodes, found.i, found.j, found.both) or job.nodes[found.node].name
    local text = words.failure(found, name)
    out[#out + 1] = { kind = found.kind, name = name, node = found.node, test = found.mark.test, figure = "reach",
      effect = -1, pairs = found.of, agree = found.bad, text = text }
    listed = listed + 1
    if listed <= pairs_of.MOST then sentences[#sentences + 1] = text end
  end
  if listed > pairs_of.MOST then
    sentences[#sentences + 1] = ("%d more pairs fail"):format(listed - pairs_of.MOST)
  end
end

local function mtu_outliers(job, out, sentences)
  local results, zones = {}, {}
  for _, r in ipairs(job.results) do
    if measures.kind(r.test) == "mtu" and r.ok then results[#results + 1] = r end
  end
  if #results == 0 then return nil end
  for i, node in ipairs(job.nodes) do zones[i] = node.zone end
  local found, usual, other = pairs_of.mtus(results, #job.nodes, zones)
  for _, one in ipairs(found) do
    local pair = one.kind == "pair"
    local name = pair and pairs_of.name_of(job.nodes, one.i, one.j, one.both) or job.nodes[one.node].name
    local text = words.mtu(one, name, usual)
    out[#out + 1] = { kind = one.kind, name = name, node = one.node, test = results[1].test, figure = "mtu",
      effect = one.mark.black_hole and -1 or one.mark.mtu / usual - 1, pairs = one.of, agree = one.bad, text = text }
    if #sentences < 40 then sentences[#sentences + 1] = text end
  end
  for _, way in ipairs(other) do
    local text = ("zone %s → zone %s has a path MTU of %.0f, usually %.0f"):format(way.from, way.to, way.mtu, usual)
    out[#out + 1] = { kind = "zone", name = ("zone %s → zone %s"):format(way.from, way.to), test = results[1].test,
      figure = "mtu", effect = way.mtu / usual - 1, pairs = way.pairs, agree = way.pairs, text = text }
    sentences[#sentences + 1] = text
  end
  return usual
end

-- ---- the whole ----

local function public(o)
  return { kind = o.kind, name = o.name, from = o.from, to = o.to, test = o.test, figure = o.figure, effect = o.effect,
    low = o.low, high = o.high, pairs = o.pairs, agree = o.agree, expected = o.expected, text = o.text }
end

local function public_list(list)
  local out = {}
  for i, o in ipairs(list) do out[i] = public(o) end
  return out
end

-- If most runs fail, no single node is the cause.
local function most_fail(job)
  local failed, all = 0, 0
  for _, r in ipairs(job.results) do
    if not job.missing[r.from] and not job.missing[r.to] then
      all, failed = all + 1, failed + (r.ok and 0 or 1)
    end
  end
  if failed > M.FAILED_MOST * all then
    return ("%d of %d runs failed: the agents had too little CPU time, or the network is down"):format(failed, all)
  end
end

-- Why no outlier can be named, or nil.
local function too_few(job)
  local there = 0
  for i in ipairs(job.nodes) do
    if not job.missing[i] then there = there + 1 end
  end
  if there < M.NODES_LEAST then
    return ("%d node%s: too few to compare, a mesh needs %d"):format(there, there == 1 and "" or "s", M.NODES_LEAST)
  end
end

-- The same of the pairs: where the effects of nodes and zones are as many as the values, none of them is certain.
local function too_few_pairs(fitted)
  for _, one in ipairs(fitted) do
    if one.model.df > 1 then return nil end
  end
  local one = fitted[1]
  return one and ("%d pairs of %d nodes%s: too few to compare"):format(#one.model.obs, one.model.n,
    #one.model.zone.order > 0 and " in several zones" or "")
end

-- The order of the sentences: the effect that is largest beside the noise comes first.
local function by_effect(a, b)
  local x, y = math.abs(a.at) / a.one.model.deviation, math.abs(b.at) / b.one.model.deviation
  if x ~= y then return x > y end
  return a.node < b.node
end

function M.judge(job)
  local verdict = { outliers = {}, zones = {}, sentences = {}, tests = {}, unsure = too_few(job) }
  local fitted = fitted_of(job)
  verdict.fitted, verdict.unsure = fitted, verdict.unsure or too_few_pairs(fitted)
  local named, skip = {}, {}
  local failing = most_fail(job)
  if failing and #job.nodes >= M.NODES_LEAST then verdict.unsure = verdict.unsure or failing
  else failure_outliers(job, verdict.outliers, verdict.sentences) end
  verdict.mtu = mtu_outliers(job, verdict.outliers, verdict.sentences)
  if not verdict.unsure then
    named = without_echoes(node_outliers(fitted, job))
    table.sort(named, by_effect)
    say_nodes(named, verdict.sentences, job)
    for _, o in ipairs(named) do
      skip[o.node] = true
      table.insert(verdict.outliers, public(o))
    end
    for _, o in ipairs(pairs_of.slow(fitted, skip, job.nodes, M.FALSE_ALARMS / 10)) do
      tell(o, o.one, o.at, o.error)
      o.text = words.pair(o)
      table.insert(verdict.outliers, public(o))
      table.insert(verdict.sentences, o.text)
    end
    local zones, odd = zone_findings(fitted, job)
    for _, o in ipairs(odd) do
      local entry = public(o)
      entry.kind = "zone"
      table.insert(verdict.outliers, entry)
    end
    for _, o in ipairs(zones) do table.insert(verdict.sentences, o.text) end
    verdict.zones = public_list(zones)
    for _, o in ipairs(verdict.zones) do o.kind = "zone" end
  end
  verdict.named = named
  if #verdict.outliers == 0 then
    table.insert(verdict.sentences, 1, verdict.unsure or "nothing stands out")
  elseif verdict.unsure then
    table.insert(verdict.sentences, verdict.unsure)
  end
  return verdict
end

return M
