-- knbl run - a scenario from its text to its verdict: plan it, run it, judge it, write what it found.
local args = require "knbl.base.args"
local compare = require "knbl.results.compare"
local dry_run = require "knbl.program.dry_run"
local errors = require "knbl.base.errors"
local exit_code = require("knbl.base.exit").of
local expect = require "knbl.results.expect"
local json = require "knbl.json"
local ledger = require "knbl.results.ledger"
local narrow = require "knbl.results.narrow"
local output = require "knbl.program.output"
local plan = require "knbl.program.plan"
local progress = require "knbl.program.progress"
local scenario = require "knbl.program.scenario"
local session = require "knbl.measure.session"
local tests = require "knbl.base.tests"
local text = require "knbl.base.text"

local M = {}

-- ---- the settings ----

local function check_nodes(core, settings)
  local nodes = settings.nodes
  if nodes and tonumber(nodes) then
    settings.nodes = tonumber(nodes)
    if settings.nodes < 1 or settings.nodes ~= math.floor(settings.nodes) then
      errors.usage("--nodes: a whole number from 1 on")
    end
  elseif nodes then
    settings.node_names, settings.nodes = args.kinds.list(core, nodes), nil
  end
end

local function check_set(core, settings)
  local names, known = {}, {}
  for i, field in ipairs(core.fields()) do names[i], known[field.name] = field.name, true end
  for _, pair in ipairs(settings.set or {}) do
    local test, key = pair[1]:match("^([%w_]+)%.([%w_]+)$")
    key = key or pair[1]
    if test and not tests.known(test) then
      errors.usage("--set: unknown test '%s'%s", test, errors.hint(core, test, tests.names))
    end
    if not known[key] then
      errors.usage("--set: unknown parameter '%s'%s", key, errors.hint(core, key, names))
    end
  end
end

local function parse_expectations(core, settings)
  local list = {}
  for _, source in ipairs(settings.expect or {}) do
    local parsed, wrong = expect.parse(core, source, true)
    if not parsed then errors.usage("--expect: %s", expect.point(wrong)) end
    list[#list + 1] = parsed
  end
  return list
end

local function check_settings(core, settings)
  check_nodes(core, settings)
  if settings.manifests and not settings.dry_run then errors.usage("--manifests belongs to --dry-run") end
  check_set(core, settings)
  if settings.repeats and settings.repeats < 1 then errors.usage("--repeats must be at least 1") end
  if settings["until"] then
    settings.repeats = settings.repeats or narrow.most
    if settings.repeats < narrow.least then
      errors.usage("--until needs at least %d repeats, got --repeats %d", narrow.least, settings.repeats)
    end
  end
  local expectations = parse_expectations(core, settings)
  local baseline
  if settings.baseline then
    baseline = compare.read("--baseline", args.kinds.list(core, settings.baseline))
  end
  return expectations, baseline
end

-- ---- planning ----

local function scenario_help(context, script, question, flags)
  context.out(("%s - %s\n\n  knbl [OPTIONS] %s [ITS OPTIONS]\n\n"):format(script, question or "a scenario", script))
  if flags and #flags > 0 then context.out("Its options:\n" .. args.help(flags) .. "\n\n") end
  context.out("`knbl --help` has the options of every scenario: --duration, --repeats, --on, --json …\n")
end

local function make_plan(context, job, thorough)
  local planned = plan.new()
  local s = session.new(job.settings, {
    core = context.core, script = job.name, words = job.words, plan = planned, shared = context.flags,
  })
  s.help = job.settings.help
  local chunk, err = scenario.load(job.text, job.name, plan.environment(planned, thorough))
  if not chunk then return nil, errors.new("argument", err) end
  local before = session.use(s)
  local ok, wrong = plan.run(planned, chunk)
  s:close()
  session.use(before)
  if not ok then return nil, wrong, s end
  planned.used_matrix = s.used_matrix
  if not planned.partial and #planned.clusters > 0 then s:check_words() end
  return planned, nil, s
end

-- A parameter that none of the measurements has.
local function check_set_against_plan(core, job, planned)
  local takers, tests_of = {}, {}
  for _, item in ipairs(planned.entries) do tests_of[item.entry.test] = true end
  for _, mesh in ipairs(planned.meshes) do
    for _, test in ipairs(mesh.tests) do tests_of[test] = true end
  end
  for _, field in ipairs(core.fields()) do takers[field.name] = field.tests end
  for _, pair in ipairs(next(tests_of) and job.settings.set or {}) do
    local only, key = pair[1]:match("^([%w_]+)%.([%w_]+)$")
    local any = false
    for _, test in ipairs(takers[key or pair[1]]) do
      any = any or tests_of[test] and (not only or only == test)
    end
    if not any then
      errors.usage("--set %s: no measurement of %s takes it; '%s' belongs to %s", pair[1], job.name, key or pair[1],
        table.concat(takers[key or pair[1]], ", "))
    end
  end
end

-- An option for Kubernetes, where the script runs over something else.
local function check_kubernetes(flags, job, planned)
  local where = table.concat(planned.clusters, ", ")
  if where == "" or where:find("k8s", 1, true) then return end
  for _, flag in ipairs(flags) do
    if flag.group == "kubernetes" and flag.name ~= "manifests" and job.settings[flag.name:gsub("-", "_")] then
      errors.usage("--%s belongs to --on k8s, and %s runs on %s", flag.name, job.name, where)
    end
  end
end

-- What the plan shows to be in vain is refused before anything is measured: a pattern, a parameter or a case that
-- matches nothing.
local function check_against_plan(context, job, planned, planning)
  local core = context.core
  if planned.partial then return end
  check_kubernetes(context.flags, job, planned)
  if #planned.entries == 0 and #planned.meshes == 0 and planning.unselected then
    errors.usage("--only %s selects none of %d measurements", table.concat(job.settings.only, " --only "),
      planning.unselected)
  end
  check_set_against_plan(core, job, planned)
  local function known(case, exact)
    for _, mesh in ipairs(planned.meshes) do
      if mesh:knows(case) then return true end
    end
    for _, item in ipairs(planned.entries) do
      if exact and item.entry.case == case or not exact and ledger.matches(item.entry, case) then return true end
    end
  end
  -- a ratio of the script's own whose cases nothing has: of all that is planned, since --only may leave one out
  for _, item in ipairs(job.settings.only and {} or planned.entries) do
    for _, e in ipairs(item.expectations or {}) do
      for _, case in ipairs(e.left.kind == "ratio" and { e.left.a, e.left.b } or {}) do
        if not known(case, true) then
          local cases = {}
          for i, other in ipairs(planned.entries) do cases[i] = other.entry.case end
          error(errors.new("argument", ("%s: expect: no measurement has the case '%s'%s"):format(item.entry.test, case,
            errors.hint(core, case, cases)),
            { position = item.entry.line }), 0)
        end
      end
    end
  end
  for _, e in ipairs(job.expectations) do
    if e.left.kind == "outlier" and #planned.meshes == 0 then
      errors.usage("--expect: %s is about a mesh, and %s has none", e.source, job.name)
    end
    for _, case in ipairs(e.left.kind == "ratio" and { e.left.a, e.left.b } or { e.case }) do
      if not known(case, e.left.kind == "ratio") then
        errors.usage("--expect: no measurement has the case '%s'", case)
      end
    end
  end
end

-- ---- running ----

-- What a script raised: an error of this library as it is; a table of the script's own with what it says.
local function on_error(e)
  if type(e) == "table" and (errors.is(e) or e.code and e.message) then
    if not errors.is(e) then e = errors.new(e.code, e.message) end
    if e.code == "argument" then e.traceback = e.traceback or errors.traceback(2) end
    return e
  end
  local meta = getmetatable(e)
  if type(e) == "table" and not (meta and meta.__tostring) then
    local ok, shown = pcall(json.encode, e)
    e = "the script raised " .. (ok and shown or tostring(e))
  end
  if e == nil then e = "the script raised nil" end
  local message = tostring(e)
  local method = message:match "attempt to call a nil value %(method '([%w_]+)'%)"
  if method then
    local cluster = require "knbl.cluster"
    local owner = cluster.method_of[method]
    message = message .. (owner and (", which %s has"):format(owner)
      or errors.hint(require "knbl.native", method, cluster.methods))
  end
  return errors.new("script", message, { traceback = errors.traceback(2) })
end

-- Runs the chunk as often as repeats ask for; returns the error that ended it, if one did.
local function run_chunk(s, job)
  local rounds = 1
  local round = 1
  while round <= rounds do
    s.round = round
    local chunk = assert(scenario.load(job.text, job.name))
    local ok, err = xpcall(chunk, on_error, (table.unpack or unpack)(job.words))
    if not ok then return err end
    s:close()
    if round == 1 and not s.used_matrix then rounds = s:first_repeats() or 1 end
    if not s.used_matrix and round == rounds and s:wants_more(rounds, 0) then rounds = rounds + 1 end
    round = round + 1
  end
end

local function new_progress(context, settings, planned)
  if settings.quiet then return nil end
  local core = context.core
  local total = planned and not planned.partial and not settings["until"] and #planned.entries or nil
  local rounds = planned and dry_run.rounds(settings, planned) or 1
  local entries = planned and {}
  for i, item in ipairs(planned and planned.entries or {}) do entries[i] = item.entry end
  return progress.new {
    core = core, write = context.live or context.err,
    terminal = core.isatty(2), ascii = output.is_ascii(), columns = core.columns(),
    total = total and total * rounds, seconds = planned and planned.seconds * rounds or 0,
      about = planned and planned.about, planned = entries,
  }
end

local function show_error(context, err)
  if err.code == "interrupted" then
    context.err("knbl: interrupted\n")
    return
  end
  context.err("knbl: " .. tostring(err) .. "\n")
  if err.traceback and err.traceback ~= "" then context.err("traceback:\n" .. err.traceback .. "\n") end
end

local function prepare(context, argv, commands)
  local core = context.core
  local settings, name, words = require("knbl.program.cli").split(core, context.flags, argv)
  local source, found = scenario.find(core, name, commands)
  if not source then errors.usage("%s", found) end
  local job = { settings = settings, name = found, words = words, text = source, question = scenario.question(source) }
  local chunk, err = scenario.load(source, found)
  if not chunk then error(errors.new("argument", err), 0) end
  scenario.require_beside(found)
  return job
end

local function set_arguments(job)
  local list = { [0] = job.name }
  for i, word in ipairs(job.words) do list[i] = word end
  rawset(_G, "arg", list)
end

-- Runs a scenario with the options and arguments of `argv`; `commands` are words that may have been meant by its name.
function M.run(context, argv, commands)
  local limit = os.getenv(output.LIMIT)
  if limit then context.core.alarm(context.core.duration(limit)) end
  local core = context.core
  local job = prepare(context, argv, commands)
  local settings = job.settings
  if settings.version then
    context.out(require("knbl.program.cli").version(core))
    return 0
  end
  job.expectations, job.baseline = check_settings(core, settings)
  local planned, err, planning = make_plan(context, job, settings.dry_run)
  if settings.help and (planned and not planned.partial or err and err.code == "help") then
    scenario_help(context, job.name, job.question, planning and planning.flags)
    return 0
  end
  if not planned then
    show_error(context, err)
    return exit_code(err)
  end
  check_against_plan(context, job, planned, planning)
  if settings.manifests then
    dry_run.manifests(context, job, planned)
    return 0
  end
  if settings.dry_run then return dry_run.show(context, job, planned) end
  if settings.help then table.insert(job.words, "--help") end -- a script that is no scenario: its words are its own
  return M.execute(context, job, planned)
end

-- With a matrix in the script, --repeats is for what is in it; what is not should not pass for repeated.
local function tell_what_was_not_repeated(context, s)
  if not s.used_matrix or (s.settings.repeats or 1) < 2 or s.settings.quiet then return end
  local list, seen = {}, {}
  for _, group in ipairs(ledger.groups(s.ledger.data)) do
    local case = group[1].case
    if #group == 1 and not seen[case] then seen[case], list[#list + 1] = true, text.clean(case) end
  end
  if #list > 3 then list[3] = ("and %d more"):format(#list - 2) end
  if #list > 0 then
    context.err(("knbl: --repeats %d is for the matrix: what stands outside of it was measured once (%s)\n"):format(
      s.settings.repeats,
      table.concat(list, ", ", 1, math.min(#list, 3))))
  end
end

-- What follows a run, however it ended: the cluster goes, the verdict is found, files are written. Returns the exit
-- code.
local function finish(context, job, s, book, before, err)
  -- a call that a signal cut short may have told it as a failure of its own: an agent that does not answer
  if err and context.core.interrupted() then err = errors.new("interrupted", "interrupted") end
  context.core.cleanup(true) -- to the end of the program
  local closed, wrong = pcall(s.close, s)
  session.use(before)
  if not closed then context.err("knbl: while closing the cluster: " .. tostring(wrong) .. "\n") end
  if s.progress then s.progress:close() end
  if not err then tell_what_was_not_repeated(context, s) end
  return output.finish(context, job, book, err, show_error)
end

-- Runs a scenario that was checked, and everything that follows from it.
function M.execute(context, job, planned)
  local core, settings = context.core, job.settings
  local files = output.prepare(core, settings)
  local book = ledger.new { core = core, scenario = job.name, question = job.question }
  book.path = files.json
  book.stream = output.stream(context, settings)
  book:tag(settings.tag)
  local s = session.new(settings, {
    core = core, script = job.name, question = job.question, words = job.words, ledger = book, shared = context.flags,
    expected = planned and { seconds = planned.seconds * dry_run.rounds(settings, planned),
      partial = planned.partial },
    progress = new_progress(context, settings, planned),
  })
  set_arguments(job)
  local before = session.use(s)
  local exit = os.exit
  local function conclude(err)
    os.exit = exit -- luacheck: ignore 122
    return finish(context, job, s, book, before, err)
  end
  -- a script that ends in its middle leaves its results as any other, and nothing else
  os.exit = function(code) -- luacheck: ignore 122
    local verdict = conclude(nil)
    if code == nil or code == true then code = verdict end
    exit(code)
  end
  return conclude(run_chunk(s, job))
end

-- A script that a plain interpreter runs: a session, and what to do when the interpreter ends.
function M.standalone(words, name, flags)
  local core = require "knbl.native"
  local context = {
    core = core, flags = flags, out = output.to_stdout, err = output.to_stderr, live = output.live,
  }
  local settings, rest = {}, {}
  local i = 1
  while i <= #words do
    local taken = words[i]:sub(1, 1) == "-" and args.take(core, flags, words, i, settings)
    if not taken then rest[#rest + 1] = words[i] end
    i = i + (taken or 1)
  end
  local job = { settings = settings, name = name or "script", words = rest, text = "" }
  if settings.dry_run then
    errors.usage("--dry-run takes knbl itself: an interpreter has begun with the script already")
  end
  job.expectations, job.baseline = check_settings(core, settings)
  local files = output.prepare(core, settings)
  local book = ledger.new { core = core, scenario = job.name }
  book.path = files.json
  book.stream = output.stream(context, settings)
  book:tag(settings.tag)
  local s = session.new(settings, {
    core = core, script = job.name, words = rest, ledger = book, shared = flags,
      progress = new_progress(context, settings),
  })
  session.use(s)
  local exit = os.exit
  if settings.help then
    s.on_help = function(declared)
      scenario_help(context, job.name, nil, declared)
      exit(0)
    end
  end
  local function finish_once()
    if os.exit == exit then return 0 end
    os.exit = exit -- luacheck: ignore 122
    -- when LuaJIT ends, what the engines hold is freed before this runs
    if not rawget(_G, "jit") then pcall(s.close, s) end
    return output.finish(context, job, book, nil, show_error)
  end
  os.exit = function(code) -- luacheck: ignore 122
    local verdict = finish_once()
    if code == nil or code == true then code = verdict end
    exit(code)
  end
  return s, finish_once
end

return M
