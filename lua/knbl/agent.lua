-- knbl.agent - a run on an agent, followed from here: control by HTTP and JSON (src/agent/agent.h), or the engines of this
-- very process where the endpoint says so. Both give the same object: wait, progress, result, stop, close.
local errors = require "knbl.errors"
local json = require "knbl.json"
local native = require "knbl.native"

local M = {
  grace = 5,        -- seconds in which an agent that does not answer is asked again, before it counts as lost
}

-- ---- runs of this process ----

local Here = {}
Here.__index = Here

function Here:wait(seconds) return self.run:wait(seconds) end
function Here:stop() self.run:stop() end
function Here:close() self.run:close() end

function Here:progress()
  local text = self.run:progress()
  return text and json.decode(text)
end

function Here:result()
  local text, err = self.run:result()
  if not text then return nil, errors.from(err) end
  return json.decode(text)
end

local function start_here(core, request)
  local run, err = core.run(json.encode(request.spec), { host = request.to.host, port = request.to.port, token = request.token })
  if not run then return nil, errors.from(err) end
  return setmetatable({ run = run }, Here)
end

-- ---- runs of an agent ----

local codes = { [400] = "argument", [401] = "auth", [403] = "auth", [404] = "lost", [409] = "in_use", [426] = "version", [429] = "limit" }

local function error_of(response, who)
  local body = json.decode(response.body or "")
  local given = type(body) == "table" and type(body.error) == "table" and body.error or {}
  local code = given.code or codes[response.status] or "protocol"
  if response.status == 401 and not given.code then code = "auth" end
  return errors.new(code, ("%s: %s"):format(who, given.message or ("HTTP status %s"):format(tostring(response.status))), { status = response.status })
end

-- One request; nil and an error for what did not come through, and for any status but 2xx.
local function ask(core, endpoint, method, path, body, timeout)
  local control = endpoint.control
  local headers = {}
  for name, value in pairs(control.headers or {}) do headers[name] = value end
  headers["Knbl-Token"] = endpoint.token
  headers["Knbl-Protocol"] = tostring(core.protocol)
  if body then headers["Content-Type"] = "application/json" end
  local request = {
    method = method, url = (control.url or "http://agent") .. path, unix = control.unix, headers = headers, body = body,
    timeout = timeout or 10,
  }
  for _, key in ipairs { "ca", "cert", "key", "server_name", "insecure", "proxy" } do request[key] = control[key] end
  local response, err = (control.fetch or core.fetch)(request)
  if not response then return nil, errors.from(err, "lost") end
  if response.status < 200 or response.status > 299 then return nil, error_of(response, endpoint.name) end
  local value, wrong = json.decode(response.body or "")
  if type(value) ~= "table" then
    local said = ("%s answers nonsense: %s"):format(endpoint.name, tostring(wrong or response.body))
    return nil, errors.new("protocol", said, { status = response.status })
  end
  return value
end

-- What does not say that the agent is gone for good: asked again until the grace has passed.
local final = { interrupted = true, argument = true, auth = true, version = true, limit = true, permission = true }
local function is_transient(err)
  if err.status then return err.status == 502 or err.status == 503 or err.status == 504 end
  return not final[err.code]
end

local function ask_patiently(core, endpoint, method, path, body, timeout)
  local grace = endpoint.control.grace or M.grace
  local deadline = core.now() + grace
  while true do
    local value, err = ask(core, endpoint, method, path, body, timeout)
    if value then return value end
    if err.code == "gone" then return nil, errors.new("lost", ("%s is gone: %s"):format(endpoint.name, err.message)) end
    if err.code == "interrupted" or not is_transient(err) then
      if err.status == 404 and method == "GET" then err = errors.new("lost", ("%s has forgotten the run: it was restarted"):format(endpoint.name)) end
      return nil, err
    end
    if core.now() >= deadline then
      return nil, errors.new("lost", ("%s does not answer any more: %s"):format(endpoint.name, err.message))
    end
    local ok, stopped = core.sleep(0.2)
    if not ok then return nil, errors.from(stopped) end
  end
end

local Remote = {}
Remote.__index = Remote

function Remote:wait(seconds)
  local ms = math.max(1, math.floor(seconds * 1000))
  local answer, err = ask_patiently(self.core, self.endpoint, "GET", ("/v1/runs/%s?wait=%d"):format(self.id, ms), nil, seconds + 10)
  if not answer then return nil, err end
  self.answer = answer
  return answer.state ~= "running"
end

function Remote:progress() return self.answer and self.answer.progress end

function Remote:result()
  local result = self.answer and self.answer.result
  if type(result) ~= "table" then
    return nil, errors.new("protocol", ("%s gave no result"):format(self.endpoint.name))
  end
  return result
end

-- Ends the run; what was measured until then is its result. The run is forgotten by its agent.
function Remote:stop()
  if self.over then return end
  self.over = true
  local answer = ask(self.core, self.endpoint, "DELETE", "/v1/runs/" .. self.id, nil, 5)
  if answer and answer.result then self.answer = answer end
end

Remote.close = Remote.stop

local function start_remote(core, endpoint, request)
  -- with an id of ours: where the answer was lost it is asked again, and not done twice
  local body = json.encode { spec = request.spec, to = request.to, token = request.token, id = core.token():sub(1, 16) }
  local answer, err = ask_patiently(core, endpoint, "POST", "/v1/runs", body, 10)
  if not answer then return nil, err end
  if type(answer.id) ~= "string" then return nil, errors.new("protocol", endpoint.name .. " gave the run no id") end
  return setmetatable({ core = core, endpoint = endpoint, id = answer.id }, Remote)
end

-- Starts a run on an endpoint's agent. request: { spec = table, to = { host, port }, token = the target's }.
-- Returns the run, or nil and an error.
function M.start(endpoint, request, core)
  core = core or native
  if endpoint.control.here then return start_here(core, request) end
  return start_remote(core, endpoint, request)
end

-- ---- observations ----

local Watch = {}
Watch.__index = Watch

function Watch:keep()
  ask(self.core, self.endpoint, "GET", "/v1/observe/" .. self.id, nil, 2)
end

-- What was seen, by observer; nil where the agent does not say.
function Watch:finish()
  return (ask(self.core, self.endpoint, "DELETE", "/v1/observe/" .. self.id, nil, 10))
end

-- Whether an endpoint's agent can be asked at all: LuaJIT has no HTTP.
function M.reachable(endpoint, core)
  local control = endpoint.control
  return (control.fetch or (core or native).fetch and (control.unix or control.url)) and true or false
end

-- Lets an endpoint's agent watch, as in { monitor = { interval_ns = 1e9 } }. Returns the observation, or nil and an error.
function M.observe(endpoint, what, core)
  local answer, err = ask(core, endpoint, "POST", "/v1/observe", json.encode(what), 5)
  if not answer then return nil, err end
  if type(answer.id) ~= "string" then return nil, errors.new("protocol", endpoint.name .. " gave the observation no id") end
  return setmetatable({ core = core, endpoint = endpoint, id = answer.id }, Watch)
end

-- Who an agent is: its name, version, kernel, CPUs. nil and an error where it does not answer or is of another protocol.
function M.about(endpoint, core)
  core = core or native
  local about, err = ask(core, endpoint, "GET", "/v1/agent", nil, 5)
  if not about then return nil, err end
  if about.protocol and about.protocol ~= core.protocol then
    return nil, errors.new("version", ("its agent is knbl %s (protocol %s), this is %s (protocol %s)"):format(
      tostring(about.version), tostring(about.protocol), core.version, tostring(core.protocol)))
  end
  return about
end

return M
