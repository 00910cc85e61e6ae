-- knbl.measure - one call of a verb: checked wholly, then run over two endpoints, then entered into the ledger.
--
-- Nothing touches the network before all of it was checked: unknown keys, units, what a path can be, expectations. What is
-- wrong raises at the script's line. A failure of the measurement itself is its result (`ok` false, `error`); an agent that is
-- lost, a secret that is refused and an interruption raise.
local agent = require "knbl.agent"
local ceiling = require "knbl.ceiling"
local clusters = require "knbl.cluster"
local doubt = require "knbl.doubt"
local errors = require "knbl.errors"
local expect = require "knbl.expect"
local json = require "knbl.json"
local observe = require "knbl.observe"
local outside = require "knbl.outside"
local path = require "knbl.path"

local M = {}

-- Keys of a measurement that are not the engine's.
local own_keys = { case = true, from = true, to = true, expect = true, labels = true, monitor = true, profile = true }

-- ---- the keys ----

-- Other names for a parameter, as the specification has them.
local aliases = {
  http = { requests = "count", connections = "flows" }, tcp_rr = { request = "size" }, udp_rr = { request = "size" }, tcp_crr = { request = "size" },
  ping = { interval = "every" },
}

-- The engine's parameters by name, and the names of all keys; made once a session.
local function fields_of(s)
  if s.fields then return s.fields, s.field_names end
  local by_name, names = {}, {}
  for _, field in ipairs(s.core.fields()) do
    local tests = {}
    for _, test in ipairs(field.tests) do tests[test] = true end
    by_name[field.name] = { tests = tests, list = field.tests, each_agent = field.each_agent }
    names[#names + 1] = field.name
  end
  for key in pairs(own_keys) do names[#names + 1] = key end
  s.fields, s.field_names = by_name, names
  return by_name, names
end

local function check_keys(s, test, t)
  local fields, names = fields_of(s)
  for key in pairs(t) do
    if type(key) ~= "string" then errors.misuse("%s: unexpected value %s: every value has a key", test, tostring(t[key])) end
    local field = fields[aliases[test] and aliases[test][key] or key]
    if not own_keys[key] and not field then
      errors.misuse("%s: unknown key '%s'%s", test, key, errors.hint(s.core, key, names))
    elseif field and not field.tests[test] then
      errors.misuse("%s has no '%s'; it belongs to %s", test, key, table.concat(field.list, ", "))
    end
  end
  return fields
end

local function check_labels(t)
  if t == nil then return nil end
  if type(t) ~= "table" then errors.misuse("labels are a table of names and values") end
  local labels = {}
  for key, value in pairs(t) do
    if type(key) ~= "string" then errors.misuse("labels are a table of names and values") end
    if type(value) == "table" and value.name then value = value.name end
    if type(value) == "table" then value = tostring(value) end
    labels[key] = value
  end
  return labels
end

-- ---- the specification ----

-- "1:256K:*64", { 1, 64, "4K" } and the like as a list of sizes; nil where one size or none is asked for.
local function size_list(core, test, size)
  if type(size) == "table" then
    local list = {}
    for i, item in ipairs(size) do list[i] = item end
    if #list == 0 then errors.misuse("%s: size: an empty list", test) end
    return list
  end
  if type(size) == "string" and size:find("[:,]") then
    local list, err = core.sizes(size)
    if not list then errors.misuse("%s: size: %s", test, tostring(err)) end
    return list
  end
end

-- What the command line says about every measurement: --duration, --warmup, --set.
local function apply_settings(s, fields, test, spec)
  local settings = s.settings
  local function set(key, value)
    if fields[key] and fields[key].tests[test] then spec[key] = value end
  end
  if settings.duration then set("duration", settings.duration) end
  if settings.warmup then set("warmup", settings.warmup) end
  for _, pair in ipairs(settings.set or {}) do
    local only, key = pair[1]:match("^([%w_]+)%.([%w_]+)$")
    if not only or only == test then
      local value = pair[2]
      if value == "true" or value == "false" then value = value == "true" end
      set(key or pair[1], value)
    end
  end
end

-- The complete specification, as the engines understand it; raises what they refuse.
local function complete(core, test, spec)
  local text, err = core.check(json.encode(spec))
  if not text then errors.misuse("%s: %s", test, tostring(type(err) == "table" and err.message or err)) end
  return json.decode(text)
end

-- More flows than the agents behind a route can hold are refused before any is opened. A connection for each request is gone before it counts.
local function check_flows(fields, spec, route)
  local agents = 0
  for _ in pairs(route.backends or {}) do agents = agents + 1 end
  local most, flows = agents * fields.flows.each_agent, tonumber(spec.flows) or 1
  if agents == 0 or flows <= most or spec.external or spec.test == "tcp_crr" or spec.test == "http" and not spec.keepalive then return end
  errors.misuse("%s: flows: %d are too many for %s: an agent serves %d at once%s", spec.test, flows, route.to_name, fields.flows.each_agent,
    agents > 1 and (", %d of them %d"):format(agents, most) or "")
end

local function specs_of(s, test, t, fields, route)
  local spec = { test = test }
  for key, value in pairs(t) do
    if not own_keys[key] then spec[aliases[test] and aliases[test][key] or key] = value end
  end
  if route.external and fields.external.tests[test] then spec.external = true end
  if route.path and spec.path == nil then spec.path = route.path end
  apply_settings(s, fields, test, spec)
  local list = size_list(s.core, test, spec.size)
  if not list then return { complete(s.core, test, spec) }, false end
  local specs = {}
  for i, size in ipairs(list) do
    spec.size = size
    specs[i] = complete(s.core, test, spec)
  end
  return specs, true
end

-- Checks a call wholly. Returns what is to be done: { test, case, route, specs, is_list, labels, expectations }.
local function check(s, test, t)
  if type(t) ~= "table" or clusters.is(t) then errors.misuse("knbl.%s takes a table: knbl.%s { from = a, to = b }", test, test) end
  local fields = check_keys(s, test, t)
  if t.case ~= nil and (type(t.case) ~= "string" or not t.case:find "%S") then errors.misuse("%s: case is a text, and says something", test) end
  if t.monitor ~= nil and type(t.monitor) ~= "boolean" then errors.misuse("%s: monitor is true or false", test) end
  if t.profile ~= nil and type(t.profile) ~= "boolean" and not (type(t.profile) == "number" and t.profile >= 1 and t.profile % 1 == 0) then
    errors.misuse("%s: profile is true, false, or how many samples are taken a second", test)
  end
  local route = path.check(test, t.from, t.to, t.ip)
  local labels = check_labels(t.labels)
  for key, value in pairs(s.labels or {}) do
    labels = labels or {}
    if labels[key] == nil then labels[key] = value end
  end
  local case = t.case or s.labels_case or ("%s > %s"):format(t.from.name, route.to_name)
  local specs, is_list = specs_of(s, test, t, fields, route)
  check_flows(fields, specs[1], route)
  local expected = expect.parse_all(s.core, t.expect, test)
  return {
    test = test, case = case, from = t.from, route = route, specs = specs, is_list = is_list, labels = labels, line = errors.where(),
    expectations = expected, monitor = t.monitor, profile = t.profile,
    expect_texts = t.expect and json.array(type(t.expect) == "table" and { (table.unpack or unpack)(t.expect) } or { t.expect }),
  }
end

-- ---- running ----

local function selected(s, request)
  if not s.settings.only then return true end
  local subject = request.case .. "\n" .. request.test
  for key, value in pairs(request.labels or {}) do subject = subject .. "\n" .. key .. "=" .. tostring(value) end
  for _, pattern in ipairs(s.settings.only) do
    for line in (subject .. "\n"):gmatch("(.-)\n") do
      if line:lower():find(M.glob(pattern)) then return true end
    end
  end
  return false
end

-- "*svc?" as a Lua pattern, found anywhere in a text, whatever the case of its letters.
function M.glob(pattern)
  local lua = pattern:lower():gsub("[%^%$%(%)%%%.%[%]%+%-]", "%%%0"):gsub("%*", ".*"):gsub("%?", ".")
  return lua
end

-- How long a measurement will take, in seconds, and whether that is known.
local function expected_time(spec)
  local warmup = tonumber(spec.warmup) or 0
  local duration = tonumber(spec.duration) or 0
  if duration > 0 then return warmup + duration + 0.1, true end
  if spec.test == "ping" and tonumber(spec.every) and tonumber(spec.count) then
    return warmup + spec.every * spec.count + 0.1, true
  end
  return warmup + 2, false
end
M.expected_time = expected_time

local function target_of(request, spec)
  local route = request.route
  if route.url_host then return { host = route.url_host, port = route.url_port }, "" end
  local host = path.address(route, spec.ip)
  if not host then
    return nil, ("%s has no IPv%s address"):format(route.to_name, tonumber(spec.ip) == 6 and "6" or "4")
  end
  return { host = host, port = route.port }, route.token
end

-- Waits for a run's end. Returns its result, or nil and an error; `stopped` says that it was interrupted.
local function follow(s, run, seconds, known, observation)
  local core = s.core
  local deadline = known and core.now() + seconds + 60 or nil
  while true do
    local over, err = run:wait(s.poll or 0.25)
    if over then return run:result() end
    if core.interrupted() or over == nil and err and err.code == "interrupted" then
      run:stop()
      local result = run:result()
      return result, errors.new("interrupted", "interrupted")
    end
    if over == nil then return nil, errors.from(err) end
    if s.progress then s.progress:running(run:progress()) end
    if observation then observation:keep() end
    if deadline and core.now() > deadline then
      run:stop()
      return nil, errors.new("timeout", "the run did not end in its time")
    end
  end
end

-- Errors that end the script: there is no point in going on.
local fatal = { lost = true, auth = true, version = true, interrupted = true }

local function perform(s, request, spec, target, token)
  local endpoint = request.from.endpoint
  local seconds, known = expected_time(spec)
  local observation = observe.begin(s, request, spec, known and seconds or 0)
  local run, err = agent.start(endpoint, { spec = spec, to = target, token = token }, s.core)
  local ok, result, wrong = true, nil, err
  if run then
    ok, result, wrong = pcall(follow, s, run, seconds, known, observation)
    run:close()
  end
  local seen = observation and observation:finish(result and ok and result.opened_ns)
  if not ok then error(result, 0) end
  return result, wrong, seen
end

-- A fresh Service may refuse until every node's proxy has heard of it: tried again for as long as the provider says. (A packet that netfilter
-- rejects on its way out is "not permitted" to its sender.)
local settles = { refused = true, unreachable = true, timeout = true, no_data = true, permission = true }

local function perform_patiently(s, request, spec, target, token)
  local settled = request.route.settled
  while true do
    local result, err, seen = perform(s, request, spec, target, token)
    local code = err and err.code or result and not result.ok and result.error and result.error.code
    if not (settled and settles[code] and s.core.now() < settled) then return result, err, seen end
    local ok, stopped = s.core.sleep(0.3)
    if not ok then return nil, errors.from(stopped) end
  end
end

local function entry_of(s, request, spec)
  local route, from = request.route, request.from
  return {
    test = request.test, case = request.case, from = from.name, to = route.to_name, via = route.via, labels = request.labels,
    round = s.labels_round or (s.settings.repeats or 1) > 1 and s.round or nil, params = spec, line = request.line, ok = false, started = s.core.wall(),
    path = path.describe(from, route, spec.ip), expect = request.expect_texts,
  }
end

local function drop(flags, name)
  for i = #flags, 1, -1 do
    if flags[i] == name then table.remove(flags, i) end
  end
end

local function doubt_backends(request, result, flags)
  local expected = request.route.backends
  if not expected or type(result.servers) ~= "table" then return end
  for _, server in ipairs(result.servers) do
    if type(server) == "table" and server.name and not expected[server.name] then
      table.insert(flags, "wrong_backend")
      return
    end
  end
  drop(flags, "several_backends") -- several of those that the script gave the Service are no surprise
end

-- Whether what else runs on the machines is a part of what was asked for: the other measurements at this time, the sandboxes of the ends.
local function shares_cpus(request)
  local to = request.route.to or {}
  local runtimes = { request.from.runtime, to.runtime }
  for _, endpoint in ipairs(to.endpoints or {}) do runtimes[#runtimes + 1] = endpoint.runtime end
  for _, runtime in pairs(runtimes) do
    if runtime ~= "runc" and runtime ~= "host" then return true end
  end
  return request.beside
end

-- Fills a ledger's entry from what the engines gave.
local function fill(entry, request, result, err, seen)
  if result then
    entry.ok = result.ok == true and not err
    entry.metrics, entry.flags, entry.chosen, entry.servers = result.metrics or {}, result.flags or {}, result.chosen, result.servers
    for _, list in ipairs { entry.metrics.intervals or {}, entry.servers or {} } do json.array(list) end
    entry.latency_histogram = result.latency_histogram
    for _, key in ipairs { "connect_histogram", "first_byte_histogram", "meter" } do entry[key] = result[key] end
    if result.error then entry.error = { code = result.error.code, message = result.error.message } end
    doubt_backends(request, result, entry.flags)
    if shares_cpus(request) then drop(entry.flags, "other_work") end
  end
  for name, list in pairs(seen or {}) do entry[name] = json.array(list) end
  if entry.flags then doubt.add(entry) end
  if err then entry.error = { code = err.code or "system", message = err.message or tostring(err) } end
  if not entry.ok and not entry.error then entry.error = { code = "protocol", message = "the engine gave no reason" } end
  return entry
end

local function skip(s, entry, reason)
  entry.skipped = reason
  if s.ledger then s.ledger:add(entry) end
  if s.progress then s.progress:done(entry) end
  return entry
end

-- An endpoint that is made at its first use (a node's agent on a real cluster). Returns why it cannot be had, or nil.
local function unprepared(thing)
  local endpoint = thing and thing.endpoint
  if not (endpoint and endpoint.prepare) then return nil end
  local ok, err = endpoint:prepare()
  if ok then return nil end
  if err.code ~= "skip" then errors.raise(err, thing.kind .. " " .. thing.name) end
  thing.skip = err.message
  return thing.skip
end

-- Why a request cannot be carried out here, and where it goes; nil, target, token where it can.
local function obstacle(request, spec)
  local reason = request.from.skip or request.route.skip or unprepared(request.from) or unprepared(request.route.to)
  if reason then return reason end
  path.renew(request.route)
  local target, token = target_of(request, spec)
  if not target then return token end
  return nil, target, token
end

local function planned(s, entry, request, group)
  local reason = request.from.skip or request.route.skip or unprepared(request.from) or unprepared(request.route.to)
  return s.plan:add(entry, request, reason, group, not reason and not group and ceiling.time(s, request, entry.params) or 0)
end

local function unselected(s, entry)
  entry.skipped, entry.metrics, entry.flags = "not selected by --only", {}, {}
  s.unselected = (s.unselected or 0) + 1
  return entry
end

local function one(s, request, spec)
  local entry = entry_of(s, request, spec)
  if not selected(s, request) then return unselected(s, entry) end
  if s.plan then return planned(s, entry, request) end
  local reason, target, token = obstacle(request, spec)
  if reason then return skip(s, entry, reason) end
  if s.progress then s.progress:start(entry, expected_time(spec)) end
  local before = outside.read(s.core, request)
  local result, err, seen = perform_patiently(s, request, spec, target, token)
  local after = outside.read(s.core, request)
  local gone = (err or not result.ok) and outside.obituary(request)
  if gone then err = errors.new(err and err.code or "lost", gone) end
  fill(entry, request, result, err, seen)
  if entry.metrics then outside.add(entry.metrics, before, after) end
  if entry.ok and ceiling.wanted(s, spec) then entry.ceiling = ceiling.of(s, request, spec, follow) end
  s.ledger:add(entry)
  if s.progress then s.progress:done(entry) end
  if err and fatal[err.code] then errors.raise(err, err.code ~= "interrupted" and request.case or nil) end
  return entry
end

-- Takes a look at each run in turn until all are over: run -> what to do with its result and error, which gives what ends the script;
-- `observations` of them all. Returns that they were interrupted, and what else ends the script.
local function follow_all(s, active, observations)
  local failed
  while next(active) do
    for _, observation in ipairs(observations) do observation:keep() end
    for run, finish in pairs(active) do
      local over, err = run:wait(0.05)
      if over then
        active[run] = nil
        failed = finish(run:result()) or failed
        run:close()
      elseif over == nil then
        active[run] = nil
        failed = finish(nil, err.code == "interrupted" and errors.new("interrupted", "interrupted") or errors.from(err)) or failed
        run:close()
      end
    end
    if s.core.interrupted() then return errors.new("interrupted", "interrupted"), failed end
  end
  return nil, failed
end

-- Those at the same time cannot each be tried again: whether a fresh Service answers is found out before, by a short one of its kind.
local function await_service(s, request, spec, target, token)
  local settled = request.route.settled
  if not settled or s.core.now() >= settled then return end
  local short = {}
  for key, value in pairs(spec) do short[key] = value end
  short.count, short.duration, short.warmup = nil, 0.05, 0
  local asked = setmetatable({ monitor = false, profile = false }, { __index = request })
  perform_patiently(s, asked, short, target, token)
end

-- One of several at the same time is started: into `active`, with what is to be done at its end.
local function start(s, request, entry, target, token, active)
  local seconds, known = expected_time(entry.params)
  local observation = observe.begin(s, request, entry.params, known and seconds or 0)
  local function finish(result, err)
    fill(entry, request, result, err, observation and observation:finish(result and result.opened_ns))
    if s.progress then s.progress:done(entry) end
    return err and fatal[err.code] and err
  end
  local run, err = agent.start(request.from.endpoint, { spec = entry.params, to = target, token = token }, s.core)
  if not run then return observation, finish(nil, err) end
  active[run] = finish
  return observation
end

-- One of several at the same time, checked: a table as a verb takes it, with its `test`.
local function check_member(s, i, t)
  local options = {}
  for key, value in pairs(type(t) == "table" and t or errors.misuse("knbl.together: measurement %d is no table", i)) do options[key] = value end
  options.test = nil
  local tests = fields_of(s).duration
  if t.test == nil then errors.misuse("knbl.together: measurement %d has no 'test'", i) end
  if not tests.tests[t.test] then
    errors.misuse("knbl.together: measurement %d: unknown test '%s'%s", i, tostring(t.test), errors.hint(s.core, tostring(t.test), tests.list))
  end
  local request = check(s, t.test, options)
  if #request.specs ~= 1 then errors.misuse("knbl.together: measurement %d has several sizes", i) end
  return request
end

-- Planned, left out, skipped, or started into `active`. Returns its entry, its observation, and what ends the script.
local function begin(s, request, group, active)
  local entry = entry_of(s, request, request.specs[1])
  if not selected(s, request) then return unselected(s, entry) end
  if s.plan then return planned(s, entry, request, group) end
  local reason, target, token = obstacle(request, entry.params)
  if not reason then return entry, start(s, request, entry, target, token, active) end
  entry.skipped = reason
  if s.progress then s.progress:done(entry) end
  return entry
end

-- Runs measurements at the same time. Returns their results in the same order, in which the ledger has them too, whichever ends first. All are
-- checked before one is started.
function M.together(s, list)
  if type(list) ~= "table" or #list == 0 then errors.misuse("knbl.together takes a list of measurements") end
  s:check_words()
  local requests, results, active, observations, failed = {}, {}, {}, {}, nil
  for i, t in ipairs(list) do
    requests[i] = check_member(s, i, t)
    requests[i].beside = #list > 1
  end
  for _, request in ipairs(requests) do
    if selected(s, request) and not s.plan then
      local reason, target, token = obstacle(request, request.specs[1])
      if not reason then await_service(s, request, request.specs[1], target, token) end
    end
  end
  local group, longest = { seconds = 0 }, 0
  for _, request in ipairs(requests) do longest = math.max(longest, (expected_time(request.specs[1]))) end
  if s.progress then s.progress:start({ test = "together", case = ("%d at the same time"):format(#list) }, longest) end
  for i, request in ipairs(requests) do
    local observation, err
    results[i], observation, err = begin(s, request, group, active)
    observations[#observations + 1], failed = observation, failed or err
  end
  local stopped, lost = follow_all(s, active, observations)
  failed = failed or lost
  for run, finish in pairs(active) do
    run:stop()
    finish(run:result(), stopped)
    run:close()
  end
  for i, entry in ipairs(results) do
    if not s.plan and selected(s, requests[i]) then s.ledger:add(entry) end
  end
  if failed or stopped then errors.raise(stopped or failed) end
  return results
end

-- Runs what a verb asks for. One size: the result; a list of sizes: a list of results, whose `ok` says that all went well.
function M.run(s, test, t)
  local request = check(s, test, t)
  s:check_words()
  local results = {}
  for i, spec in ipairs(request.specs) do
    results[i] = one(s, request, spec)
  end
  if not request.is_list then return results[1] end
  results.ok = true
  for _, result in ipairs(results) do results.ok = results.ok and result.ok end
  return results
end

return M
