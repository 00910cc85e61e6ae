-- knbl.program.dry_run - a plan as --dry-run prints it: in lines, as data, or as the objects of Kubernetes that the run
-- would make.
local errors = require "knbl.base.errors"
local json = require "knbl.json"
local ledger = require "knbl.results.ledger"
local narrow = require "knbl.results.narrow"
local output = require "knbl.program.output"
local progress = require "knbl.program.progress"
local text = require "knbl.base.text"

local M = {}

-- What a plan makes, as texts: each thing once, with how often where a script makes it again and again.
local function made(planned)
  local list, times = {}, {}
  for _, thing in ipairs(planned.things) do
    local name = ("%s %s"):format(thing.kind, thing.name)
    if not times[name] then list[#list + 1] = name end
    times[name] = (times[name] or 0) + 1
  end
  for i, name in ipairs(list) do list[i] = times[name] > 1 and ("%s (%d times)"):format(name, times[name]) or name end
  return list
end

-- The same where it is much: how many of each kind.
local function counted(planned)
  local count, kinds = {}, {}
  for _, thing in ipairs(planned.things) do
    if not count[thing.kind] then count[thing.kind], kinds[#kinds + 1] = 0, thing.kind end
    count[thing.kind] = count[thing.kind] + 1
  end
  for i, kind in ipairs(kinds) do kinds[i] = ("%d %ss"):format(count[kind], kind) end
  return kinds
end

-- How often all that was planned is done. With --until a matrix was planned for the least repeats, and more may
-- follow.
function M.rounds(settings, planned)
  if not planned.used_matrix then return settings.repeats or 1 end
  return settings["until"] and settings.repeats / narrow.least or 1
end

-- The plan of a mesh in lines.
local function mesh_lines(core, job)
  local p, tests = job.plan, {}
  for i, name in ipairs(job.tests) do
    tests[i] = ("%s (%d at a time)"):format(name, p.at_once[name] or 0)
  end
  local out = { ("  mesh of %d nodes, plan \"%s\"%s: %d directed pairs, %s"):format(#job.nodes, p.kind,
    p.partners and (", %d random partners of each"):format(p.partners) or "", p.pairs, table.concat(tests, ", ")),
    ("    %d slots, %s, at most %s on the wire, at most %d API requests"):format(#p.slots,
    progress.duration(p.seconds), core.format_size(p.bytes), p.requests) }
  for _, note in ipairs(p.notes) do out[#out + 1] = "    " .. note end
  return out
end

-- Where a planned measurement goes; of several targets with the share of each.
local function goal(entry)
  local parts = {}
  for i, target in ipairs((entry.path or {}).targets or {}) do
    parts[i] = ("%s %.3g %%"):format(target.name, 100 * target.share)
  end
  return #parts > 0 and table.concat(parts, ", ") or entry.to
end

local function shares_of(entry)
  local shares
  for i, target in ipairs((entry.path or {}).targets or {}) do
    shares = shares or {}
    shares[i] = target.share
  end
  return shares
end

local function print_plan(context, job, planned)
  local out = {}
  local where = planned.clusters[1] or "no cluster"
  local rounds = M.rounds(job.settings, planned)
  local setup = planned.setup * rounds
  local times, about = "", planned.about and "about " or ""
  local what = ("%d measurements"):format(#planned.entries)
  if #planned.meshes > 0 then
    what = (#planned.entries > 0 and what .. " and " or "")
      .. ("%d mesh%s"):format(#planned.meshes, #planned.meshes == 1 and "" or "es")
  end
  if job.settings["until"] then
    times, about = (", repeated until ±%g%%"):format(job.settings["until"] * 100), "at most " .. about
  elseif rounds > 1 then times = (", %d times"):format(rounds) end
  out[#out + 1] = ("%s on %s: %s%s, %s%s%s"):format(job.name, where, what, times, about,
    progress.duration(planned.seconds * rounds), setup > 0
      and (", and about %s to make what it needs"):format(progress.duration(math.max(setup, 1))) or "")
  local things = made(planned)
  if #things > 50 then things = counted(planned) end
  if #things > 0 then
    for i, line in ipairs(text.wrap("makes " .. table.concat(things, ", "), 110)) do
      out[#out + 1] = (i == 1 and "  " or "    ") .. line
    end
  end
  for _, mesh in ipairs(planned.meshes) do
    for _, line in ipairs(mesh_lines(context.core, mesh)) do out[#out + 1] = line end
  end
  for i, item in ipairs(planned.entries) do
    local e = item.entry
    out[#out + 1] = ("  %3d  %-12s %s  %s -> %s (%s)  %s%.1fs"):format(i, e.test, ledger.subject(e), e.from, goal(e),
      e.via,
      item.known and "" or "about ", item.seconds)
    if item.beside then out[#out] = ("%s  together with %d"):format(out[#out], item.beside) end
    if item.skipped then out[#out] = out[#out] .. "  skipped: " .. item.skipped end
  end
  if planned.partial then
    out[#out + 1] = "  the plan ends here: the rest of the script cannot be planned without running it"
      .. (planned.reason and " (" .. planned.reason .. ")" or "")
  end
  for i, line in ipairs(out) do out[i] = text.clean(line) end
  context.out(table.concat(out, "\n") .. "\n")
end

-- Seconds without what is left of sums of fractions: 2.4, not 2.4000000000000004.
local function to_ms(seconds) return math.floor(seconds * 1000 + 0.5) / 1000 end

-- The plan as data, for tests of a scenario: --dry-run --json FILE.
local function plan_data(job, planned)
  local rounds = M.rounds(job.settings, planned)
  local data = json.ordered({ scenario = job.name, question = job.question, provider = planned.clusters[1],
    rounds = rounds, seconds = to_ms(planned.seconds * rounds), about = planned.about or false,
    partial = planned.partial or false, reason = planned.reason, makes = json.array(made(planned)),
    measurements = json.array() }, { "scenario", "question", "provider", "rounds", "seconds", "about", "partial",
    "reason", "makes", "meshes", "measurements" })
  for _, mesh in ipairs(planned.meshes) do
    local p = mesh.plan
    data.meshes = data.meshes or json.array()
    table.insert(data.meshes, { nodes = #mesh.nodes, tests = json.array(mesh.tests), kind = p.kind,
      partners = p.partners, pairs = p.pairs, slots = #p.slots, seconds = p.seconds, bytes = p.bytes,
      requests = p.requests, at_once = p.at_once, notes = json.array(p.notes) })
  end
  for i, item in ipairs(planned.entries) do
    local e = item.entry
    data.measurements[i] = json.ordered({ test = e.test, case = e.case, from = e.from, to = e.to, via = e.via,
      labels = e.labels, round = e.round, params = e.params, expect = e.expect, shares = shares_of(e),
      seconds = item.seconds and to_ms(item.seconds), skipped = item.skipped, beside = item.beside, line = e.line },
      { "test", "case", "from", "to", "shares", "via", "labels", "round", "params", "expect", "seconds", "skipped" })
  end
  return data
end

-- Prints the plan, or writes it where --json says. -> exit code
function M.show(context, job, planned)
  local path = job.settings.json
  if path ~= "-" then print_plan(context, job, planned) end
  if not path then return 0 end
  return output.put(context, "json", path, json.encode(plan_data(job, planned), true) .. "\n") and 0 or 1
end

-- Every object that the run would make, as YAML for `kubectl apply -f -`; what to know of them is told in comments.
function M.manifests(context, job, planned)
  if #planned.objects == 0 then
    errors.usage("--manifests: %s would make no objects of Kubernetes%s", job.name,
      planned.reason and ": " .. planned.reason or "; use it with --on k8s")
  end
  local run = planned.objects[1].metadata.labels[require("knbl.kube.manifest").RUN]
  local out = {
    ("# %s: all that it would make. Once applied, it runs over them: knbl --on k8s --agents knbl.io/run=%s …"):format(
    text.clean(job.name), run) }
  for _, remark in ipairs(planned.remarks) do out[#out + 1] = "# " .. remark end
  if planned.partial then
    out[#out + 1] = "# the plan ends here: what the rest of the script would make is not known without running it"
      .. (planned.reason and " (" .. text.clean(planned.reason) .. ")" or "")
  end
  for _, object in ipairs(planned.objects) do
    out[#out + 1] = "---\n" .. require("knbl.kube").to_yaml(object):gsub("^%-%-%-\n", ""):gsub("\n$", "")
  end
  context.out(table.concat(out, "\n") .. "\n")
end

return M
