-- knbl.program.meanwhile - what happens to traffic while the command of `knbl change` runs: a run of its own probes the
-- paths from pod to pod and to a Service, and starts the command once the probes go.
local args = require "knbl.base.args"
local arms = require "knbl.program.arms"
local file = require "knbl.base.file"
local json = require "knbl.json"

local M = { most = "55m", settle = "3s" } -- an agent's limit is an hour

-- The scenario. Its values: the paths of the command's script, output and status; settle, rate and the longest time.
local SCENARIO = [==[
-- How long is traffic gone while the command runs?
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local client, server = cluster:pair()
local near = cluster:pod { name = "near", node = client.node }
local list = { during = function(mark)
  mark "command begins"
  os.execute("{ sh %s >%s 2>&1 </dev/null; echo $? >%s.new; mv %s.new %s; } &")
  local status
  repeat
    mark.wait "100ms"
    status = io.open(%q)
  until status
  status:close()
  mark "command ended"
end, settle = %q }
local function probe(case, to)
  list[#list + 1] = { test = "probe", case = case, from = client, to = to, kind = "connect", rate = %q, duration = %q }
end
probe("pod to pod, same node", near)
probe("pod to pod, other node", server)
probe("pod to Service", server:service())
knbl.together(list)
]==]

-- The words that are options of `knbl run`: those that the scenario and its own options leave.
local function run_options(core, words)
  local flags, list, i = require("knbl.program.cli").flags, {}, 1
  while i <= #words do
    local taken = words[i]:sub(1, 1) == "-" and words[i] ~= "-" and args.take(core, flags, words, i, {})
    local flag = taken and args.match(flags, words[i])
    for k = i, taken and flag.group ~= "what" and flag.group ~= "verdict" and i + taken - 1 or i - 1 do
      list[#list + 1] = words[k]
    end
    i = i + (taken or 1)
  end
  return list
end

local function write(path, text)
  local out = assert(io.open(path, "w"))
  out:write(text)
  out:close()
end

-- Runs the command with probes around it. Returns what arms.command does, and the data of the probes' ledger; nil and
-- why where there were no probes, and then the command was not run.
function M.command(core, arm, line, words, rate)
  local base = os.tmpname()
  local script, output, status = base .. ".sh", base .. ".out", base .. ".status"
  write(base, SCENARIO:format(script, output, status, status, status, status, M.settle, rate, M.most))
  write(script, line .. "\n")
  local options = run_options(core, words)
  table.insert(options, 1, base)
  local data, _, said = arms.measure({ name = arm }, options)
  local done, text = file.read(status, 64), file.read(output, 1073741824) or ""
  for _, path in ipairs { base, script, output, status } do os.remove(path) end
  if not done then return nil, nil, said end
  local first = data and data.measurements[1]
  local marks = first and first.marks or {}
  local begun, ended = marks[1] and marks[1].t or 0, marks[2] and marks[2].t or 0
  return { arm = arm, command = line, status = tonumber(done) or 1, output = text, seconds = ended - begun,
    started = first and first.started or core.wall() }, data
end

-- What the probes saw on each path: { case, total_s, longest_s, until_s }, or { case, error }. `until_s`: seconds from
-- the command's start to the last failure.
function M.outages(data)
  local list = json.array()
  for i, m in ipairs(data.measurements) do
    local x = m.metrics
    if m.ok and x.outage_total then
      local after = (x.after_mark or {})["command begins"] or {}
      list[i] = { case = m.case, total_s = x.outage_total, longest_s = x.outage_longest, until_s = after.last_fail }
    else
      list[i] = { case = m.case, error = m.skipped or m.error and m.error.message or "no figures" }
    end
  end
  return list
end

-- An outage in words.
function M.line(core, outage)
  local function show(seconds) return core.format_duration(seconds * 1e9) end
  if outage.error then return ("%s: not probed: %s"):format(outage.case, outage.error) end
  if outage.total_s == 0 then return outage.case .. ": no outage" end
  return ("%s: gone for %s, %s at most at once%s"):format(outage.case, show(outage.total_s), show(outage.longest_s),
    outage.until_s and (", the last failure %s after the command began"):format(show(outage.until_s)) or "")
end

return M
