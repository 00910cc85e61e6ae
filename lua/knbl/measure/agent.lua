-- knbl.measure.agent - runs on agents: controlled by HTTP and JSON (src/agent/agent.h), or in this process where the
-- endpoint says so. Both kinds of run have the methods wait, progress, result, stop and close.
local errors = require "knbl.base.errors"
local json = require "knbl.json"
local native = require "knbl.native"
local parallel = require "knbl.base.parallel"

local M = {
  grace = 5,        -- seconds of retries before an agent that does not answer counts as lost
  alive_s = 15,     -- an agent that was not asked for so long is told that its orchestrator is there
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
  local to = request.to
  if to.host then to = { host = to.host, port = to.port, token = request.token, ca = to.ca, source = to.source } end
  local run, err = core.run(json.encode(request.spec), to)
  if not run then return nil, errors.from(err) end
  return setmetatable({ run = run }, Here)
end

-- ---- runs of an agent ----

local codes = { [400] = "argument", [401] = "auth", [403] = "auth", [404] = "lost", [409] = "in_use", [426] = "version",
  [429] = "limit" }

local function error_of(response, who)
  local body = json.decode(response.body or "")
  local given = type(body) == "table" and type(body.error) == "table" and body.error or {}
  local code = given.code or codes[response.status] or "protocol"
  if response.status == 401 and not given.code then code = "auth" end
  return errors.new(code, ("%s: %s"):format(who, given.message
    or ("what answers there is not a knbl agent (HTTP status %s)"):format(tostring(response.status))),
    { status = response.status })
end

-- Sends one request. Returns the answer, or nil and an error: also for any status but 2xx.
local function request_once(core, endpoint, method, path, body, timeout)
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
  local response, err
  if control.fetch then response, err = control.fetch(request) else response, err = parallel.fetch(core, request) end
  if not response then return nil, errors.from(err, "lost") end
  if response.status < 200 or response.status > 299 then return nil, error_of(response, endpoint.name) end
  local value, wrong = json.decode(response.body or "")
  if type(value) ~= "table" then
    local said = ("%s: what answers there is not a knbl agent (%s)"):format(endpoint.name,
      tostring(wrong or response.body))
    return nil, errors.new("protocol", said, { status = response.status })
  end
  return value
end

-- Agents that end by themselves when nobody uses them (knbl agent --idle): endpoint -> { owner, since when }.
local kept = {}

-- While this process asks any agent of anything, the kept ones hear from it too, but for `apart`, a set of endpoints. A
-- thousand of them would be too many requests every 15 s: it is 20 a second at most, and each hears once a minute.
function M.tend(core, apart)
  local now, n = core.now(), 0
  for _ in pairs(kept) do n = n + 1 end
  local every = math.max(M.alive_s, math.min(n / 20, 60))
  for endpoint, entry in pairs(kept) do
    if now - (entry.heard or 0) >= every and not (apart and apart[endpoint]) then
      entry.heard = now
      request_once(core, endpoint, "GET", "/v1/alive", nil, 2)
    end
  end
end

-- One request without a retry, and without a word to others.
function M.once(core, endpoint, ...)
  if kept[endpoint] then kept[endpoint].heard = core.now() end
  return request_once(core, endpoint, ...)
end

local function ask(core, endpoint, ...)
  if next(kept) then M.tend(core) end
  return request_once(core, endpoint, ...)
end

-- Keeps an agent until its owner is gone, or has forgotten the endpoint of that name.
function M.keep(endpoint, owner) kept[endpoint] = { owner = owner } end

function M.forget(owner, name)
  for endpoint, entry in pairs(kept) do
    if entry.owner == owner and (not name or endpoint.name == name) then kept[endpoint] = nil end
  end
end

-- Whether an error may be temporary: the request is retried for the time of grace.
local final = { interrupted = true, argument = true, auth = true, version = true, limit = true, permission = true }
local function is_transient(err)
  if err.status then return err.status == 502 or err.status == 503 or err.status == 504 end
  return not final[err.code]
end
M.is_transient = is_transient

local function ask_patiently(core, endpoint, method, path, body, timeout)
  local grace = endpoint.control.grace or M.grace
  local deadline = core.now() + grace
  while true do
    local value, err = ask(core, endpoint, method, path, body, timeout)
    if value then return value end
    if err.code == "gone" then return nil, errors.new("lost", ("%s is gone: %s"):format(endpoint.name, err.message)) end
    if err.code == "interrupted" or not is_transient(err) then
      if err.status == 404 and method == "GET" then
        err = errors.new("lost", ("%s does not know the run: it was restarted"):format(endpoint.name))
      end
      return nil, err
    end
    if core.now() >= deadline then
      return nil, errors.new("lost", ("%s stopped answering: %s"):format(endpoint.name, err.message))
    end
    local ok, stopped = core.sleep(0.2)
    if not ok then return nil, errors.from(stopped) end
  end
end

local Remote = {}
Remote.__index = Remote

function Remote:wait(seconds)
  local ms = math.max(1, math.floor(seconds * 1000))
  local answer, err = ask_patiently(self.core, self.endpoint, "GET", ("/v1/runs/%s?wait=%d"):format(self.id, ms), nil,
    seconds + 10)
  if not answer then return nil, err end
  self.answer = answer
  return answer.state ~= "running"
end

function Remote:progress() return self.answer and self.answer.progress end

function Remote:result()
  local result = self.answer and self.answer.result
  if type(result) ~= "table" then
    return nil, errors.new("protocol", ("%s sent no result"):format(self.endpoint.name))
  end
  return result
end

-- A request that ends something is not cut short by the interrupt that may be its reason.
local function ask_to_end(core, endpoint, path, timeout)
  core.cleanup(true)
  local answer = ask(core, endpoint, "DELETE", path, nil, timeout)
  core.cleanup(false)
  return answer
end

-- Ends the run: what was measured so far is its result. The agent discards the run.
function Remote:stop()
  if self.over then return end
  self.over = true
  for _ = 1, 5 do
    local answer = ask_to_end(self.core, self.endpoint, "/v1/runs/" .. self.id, 5)
    if answer and answer.result then self.answer = answer end
    if not (answer and answer.state == "running") then return end -- still collecting: asked again
  end
end

Remote.close = Remote.stop

local function start_remote(core, endpoint, request)
  -- the id is chosen here, so that a retry after a lost answer does not start a second run
  local body = json.encode { spec = request.spec, to = request.to, token = request.token, id = core.token():sub(1, 16),
    patience = request.patience }
  local answer, err = ask_patiently(core, endpoint, "POST", "/v1/runs", body, 10)
  if not answer then return nil, err end
  if type(answer.id) ~= "string" then return nil, errors.new("protocol", endpoint.name .. " sent no id for the run") end
  return setmetatable({ core = core, endpoint = endpoint, id = answer.id }, Remote)
end

-- Starts a run on an endpoint's agent. request: { spec, to = { host, port }, token, patience? }, with the token of the
-- target; of several, `to` is a list of { host, port, token, name, share }. The agent goes on for `patience` seconds
-- without being asked, if that is longer than it would. Returns the run, or nil and an error.
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

-- What was recorded, by observer; nil if the agent does not answer.
function Watch:finish()
  return ask_to_end(self.core, self.endpoint, "/v1/observe/" .. self.id, 10)
end

-- Whether an endpoint's agent can be reached for control: LuaJIT has no HTTP.
function M.reachable(endpoint, core)
  local control = endpoint.control
  return (control.fetch or (core or native).fetch and (control.unix or control.url)) and true or false
end

-- Starts an observation by an endpoint's agent, as in { monitor = { interval_ns = 1e9 } }. Returns it, or nil and an
-- error.
function M.observe(endpoint, what, core)
  local answer, err = ask(core, endpoint, "POST", "/v1/observe", json.encode(what), 5)
  if not answer then return nil, err end
  if type(answer.id) ~= "string" then
    return nil, errors.new("protocol", endpoint.name .. " sent no id for the observation")
  end
  return setmetatable({ core = core, endpoint = endpoint, id = answer.id }, Watch)
end

-- An agent's name, version, kernel and CPUs; nil and an error if it does not answer or has another protocol.
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
