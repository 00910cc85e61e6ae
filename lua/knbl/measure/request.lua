-- knbl.measure.request - what a verb is called with, checked wholly: unknown keys, units, what a path can be,
-- expectations. What is wrong raises at the script's line, before anything touches the network.
local check = require "knbl.base.check"
local clusters = require "knbl.cluster"
local during = require "knbl.measure.during"
local errors = require "knbl.base.errors"
local expect = require "knbl.results.expect"
local json = require "knbl.json"
local matrix = require "knbl.measure.matrix"
local targets = require "knbl.measure.targets"
local tests = require "knbl.base.tests"

local M = {}

-- Keys of a measurement that are not the engine's.
local own_keys = check.set "case from to shares expect labels monitor profile during settle ca skip"
local CA_LIMIT = 16383 -- bytes; struct kn_target

-- ---- the keys ----

-- The engine's parameters by name, and the names of all keys; made once a session.
local function fields_of(s)
  if s.fields then return s.fields, s.field_names end
  local by_name, names = {}, {}
  for _, field in ipairs(s.core.fields()) do
    local takers = {}
    for _, test in ipairs(field.tests) do takers[test] = true end
    by_name[field.name] = { tests = takers, list = field.tests, each_agent = field.each_agent, kind = field.kind }
    names[#names + 1] = field.name
  end
  for key in pairs(own_keys) do names[#names + 1] = key end
  s.fields, s.field_names = by_name, names
  return by_name, names
end

local function check_keys(s, test, t)
  local fields, names = fields_of(s)
  local aliases = tests.of(test).aliases
  for key in pairs(t) do
    if type(key) ~= "string" then
      errors.misuse("%s: unexpected value %s: every value needs a key", test, tostring(t[key]))
    end
    local field = fields[aliases[key] or key]
    if not own_keys[key] and not field then
      errors.misuse("%s: unknown key '%s'%s", test, key, errors.hint(s.core, key, names))
    elseif field and not field.tests[test] then
      errors.misuse("%s: %s does not apply; it belongs to %s", test, key, table.concat(field.list, ", "))
    end
  end
  return fields
end

-- Labels as texts and numbers, with those of the matrix around.
local function labels_of(s, test, given)
  if given == nil and not s.labels then return nil end
  local labels = {}
  for key, value in pairs(s.labels or {}) do labels[key] = value end
  check.type(test, "labels", given, "table")
  for key, value in pairs(given or {}) do
    if type(key) ~= "string" then errors.misuse("%s: labels must have names, got %s", test, tostring(key)) end
    if type(value) == "table" then value = matrix.label(value) end
    if type(value) ~= "string" and type(value) ~= "number" and type(value) ~= "boolean" then
      errors.misuse("%s: label %s must be a string or a number, or a table with a name", test, key)
    end
    if type(value) == "number" and not json.is_finite(value) then
      errors.misuse("label %s must be a finite number, got %s", key, tostring(value))
    end
    labels[key] = value
  end
  return labels
end

-- What the file `ca` names contains: certificates in PEM form, for the client's agent.
local function authorities(test, fields, t)
  if t.ca == nil then return nil end
  if not fields.tls.tests[test] then errors.misuse("%s: ca does not apply; it belongs to http", test) end
  check.type(test, "ca", t.ca, "string")
  local f, err = io.open(t.ca, "rb")
  local text = f and f:read "a"
  if f then f:close() end
  if not text then errors.misuse("%s: ca: %s", test, tostring(err or t.ca .. " cannot be read")) end
  if #text > CA_LIMIT then
    errors.misuse("%s: ca: %s has %d bytes, the limit is %d: name a file with the server's authority alone", test, t.ca,
      #text, CA_LIMIT)
  end
  if not text:find("-----BEGIN CERTIFICATE-----", 1, true) then
    errors.misuse("%s: ca: %s contains no certificate in PEM form", test, t.ca)
  end
  return text
end

local function check_own_keys(test, t)
  local case = check.case(t)
  if case ~= nil and (type(case) ~= "string" or not case:find "%S") then
    errors.misuse("%s: case must be a non-empty string, got %s", test, type(case) == "string" and '"' .. case .. '"'
      or tostring(case))
  end
  check.type(test, "monitor", t.monitor, "boolean")
  if t.skip ~= nil and (type(t.skip) ~= "string" or not t.skip:find "%S") then
    errors.misuse("%s: skip must be the reason as a non-empty string, got %s", test, tostring(t.skip))
  end
  local hz = t.profile
  if hz ~= nil and type(hz) ~= "boolean" and not (type(hz) == "number" and hz >= 1 and hz % 1 == 0) then
    errors.misuse("%s: profile must be true, false or a number of samples per second, got %s", test, tostring(hz))
  end
end

-- ---- the specification ----

-- "1:256K:*64", { 1, 64, "4K" } and the like as a list of sizes; nil where one size or none is asked for.
local function size_list(core, test, size)
  if type(size) == "table" then
    local list = {}
    for i, item in ipairs(size) do list[i] = item end
    if #list == 0 then errors.misuse("%s: size: the list is empty", test) end
    return list
  end
  if type(size) == "string" and size:find("[:,]") then
    local list, err = core.sizes(size)
    if not list then errors.misuse("%s: size: %s", test, tostring(err)) end
    return list
  end
end

-- What the command line says about every measurement: --duration, --warmup, --set. -> the option that a key is from
local function apply_settings(s, fields, test, spec, meanwhile)
  local settings, by = s.settings, {}
  local function set(key, value, option)
    if fields[key] and fields[key].tests[test] then spec[key], by[key] = value, option end
  end
  -- with settle, the script's code decides when it is over: a duration is its time limit
  if settings.duration and not (meanwhile and meanwhile.settle) then
    set("duration", settings.duration, "--duration")
  end
  if settings.warmup then set("warmup", settings.warmup, "--warmup") end
  for _, pair in ipairs(settings.set or {}) do
    local only, key = pair[1]:match("^([%w_]+)%.([%w_]+)$")
    if not only or only == test then
      local value = pair[2]
      if value == "true" or value == "false" then value = value == "true" end
      set(key or pair[1], value, ("--set %s=%s"):format(pair[1], pair[2]))
    end
  end
  return by
end

-- The complete specification, as the engines understand it; raises what they refuse: at the script's line, or as a
-- mistake of the option of the command line that `by` says the key is from.
local function check_spec(core, test, spec, by)
  local text, err = core.check(json.encode(spec))
  if text then return json.decode(text) end
  local message = tostring(type(err) == "table" and err.message or err)
  local option = by[message:match "^([%w_]+):"]
  if option then errors.usage("%s: %s: %s", option, test, message) end
  errors.misuse("%s: %s", test, message)
end

-- The same for a route: with several targets there are at least as many flows, which may be more than the default.
local function complete(core, test, spec, route, by)
  local n, whole = #targets.of(route), check_spec(core, test, spec, by)
  if n == 1 or tonumber(whole.flows) >= n then return whole end
  if spec.flows ~= nil then
    errors.misuse("%s: to has %d targets, but flows is %d: each target needs a flow", test, n, tonumber(whole.flows))
  end
  local more = { flows = n }
  for key, value in pairs(spec) do more[key] = value end
  return check_spec(core, test, more, by)
end

-- gVisor's network stack drops the SYN of a connection whose addresses and ports it still has in TIME_WAIT: new
-- connections then stall for a minute. Linux takes it if its timestamp is newer, but a client's timestamps have another
-- offset for each address that it connects to. If one server is measured by several addresses, as by its own and its
-- Service's, half of the connections that reuse a port stall for a second. The lab sets tcp_timestamps to prevent that.
local function keeps_time_wait(route)
  for _, one in ipairs(targets.of(route)) do
    local to = one.to or {}
    if to.cluster and to.cluster.module.time_wait then return true end
    for _, thing in ipairs(to.endpoints or { to }) do
      local runtime = tostring(thing.runtime or "")
      if runtime:find "gvisor" or runtime:find "runsc" then return true end
    end
  end
end

-- More flows than the agents behind a route can hold are refused before any is opened. Where each request has a
-- connection of its own, that is gone before it counts.
local function check_flows(fields, spec, route)
  local agents = 0
  for _ in pairs(route.backends or {}) do agents = agents + 1 end
  local each = fields.flows.each_agent[spec.test] or 0
  local most, flows = agents * each, tonumber(spec.flows) or 1
  if agents == 0 or flows <= most or spec.external or tests.of(spec.test).shape == "short" and not spec.keepalive then
    return
  end
  errors.misuse("%s: %d flows are too many for %s: an agent serves %d at once%s", spec.test, flows, route.to_name, each,
    agents > 1 and (", %d of them %d"):format(agents, most) or "")
end

-- `meanwhile` is the script's code that runs meanwhile, or nil: then the time is that which it may take.
local function specs_of(s, test, t, fields, route, meanwhile)
  local spec, aliases = { test = test }, tests.of(test).aliases
  for key, value in pairs(t) do
    key = aliases[key] or key
    if type(value) == "table" and fields[key] and fields[key].kind == "text" then value = table.concat(value, ",") end
    if type(value) == "number" and not json.is_finite(value) then
      errors.misuse("%s: %s must be a finite number, got %s", test, key, tostring(value))
    end
    if not own_keys[key] then spec[key] = value end
  end
  if route.external and fields.external.tests[test] then spec.external = true end
  if route.tls then
    if not fields.tls.tests[test] then
      errors.misuse("%s: to: https is for http only, got '%s'", test, route.to_name)
    end
    spec.tls = true
  end
  if spec.reset == nil and fields.reset.tests[test] and keeps_time_wait(route) then spec.reset = true end
  if route.path and spec.path == nil then spec.path = route.path end
  local by = apply_settings(s, fields, test, spec, meanwhile)
  if meanwhile and spec.duration == nil and spec.count == nil then
    spec.duration, meanwhile.settle = during.duration, meanwhile.settle or during.settle
  end
  local list = size_list(s.core, test, spec.size)
  if not list then return { complete(s.core, test, spec, route, by) }, false end
  local specs = {}
  for i, size in ipairs(list) do
    spec.size = size
    specs[i] = complete(s.core, test, spec, route, by)
  end
  return specs, true
end

-- Checks a call. Returns what is to be done: { test, case, from, route, specs, is_list, labels, expectations, … }.
-- `group` is the code that runs during several measurements at the same time (knbl.measure.during), or nil.
function M.of(s, test, t, group)
  if type(t) ~= "table" or clusters.is(t) then
    errors.misuse("knbl.%s takes a table: knbl.%s { from = a, to = b }", test, test)
  end
  local fields = check_keys(s, test, t)
  check_own_keys(test, t)
  local route = targets.check(test, t, fields.flows.tests[test])
  local labels = labels_of(s, test, t.labels)
  local meanwhile = during.take(s, test, t)
  local specs, is_list = specs_of(s, test, t, fields, route, group or meanwhile)
  check_flows(fields, specs[1], route)
  local texts = type(t.expect) == "table" and { (table.unpack or unpack)(t.expect) } or { t.expect }
  return {
    test = test, case = check.case(t) or s.labels_case or ("%s > %s"):format(t.from.name, route.to_name), from = t.from,
    route = route, specs = specs, is_list = is_list, labels = labels, line = errors.where(),
    expectations = expect.parse_all(s.core, t.expect, test), expect_texts = t.expect and json.array(texts),
    monitor = t.monitor, profile = t.profile, skip = t.skip, during = group or meanwhile,
    ca = authorities(test, fields, t),
  }
end

-- One of several at the same time: a table as a verb takes it, with its `test`.
function M.member(s, i, t, group)
  local what = ("knbl.together: measurement %d"):format(i)
  if type(t) ~= "table" then errors.misuse("%s must be a table, got a %s", what, type(t)) end
  if t.ok ~= nil and t.flags then
    errors.misuse("%s is a result; expected { test = \"%s\", from = …, to = … }, which it measures", what,
      tostring(t.test))
  end
  local options = {}
  for key, value in pairs(t) do options[key] = value end
  options.test = nil
  if t.during ~= nil or t.settle ~= nil then errors.misuse("%s: during and settle belong to knbl.together", what) end
  if t.test == nil then errors.misuse("%s: test is required", what) end
  if not tests.known(t.test) then
    errors.misuse("%s: unknown test '%s'%s", what, tostring(t.test), errors.hint(s.core, tostring(t.test), tests.names))
  end
  local request = M.of(s, t.test, options, group)
  if #request.specs ~= 1 then errors.misuse("%s: takes one size, got %d", what, #request.specs) end
  return request
end

return M
