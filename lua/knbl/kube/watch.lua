-- knbl.kube.watch: a list, then what changes, until the caller has seen enough or the time is up. It survives what a
-- watch meets: an expired version (410: listed again, and what differs is told as events), a server that goes away and
-- comes back, expired tokens.
local core = require "knbl.core"
local json = require "knbl.json"

local M = {}

local function key(object)
  local meta = object.metadata
  return (meta.namespace or "") .. "/" .. meta.name .. "/" .. (meta.uid or "")
end

-- Lists, and queues an event for each thing that differs from what is known.
local function relist(w)
  local list, err = w.client:list(w.kind, w.options)
  if not list then return nil, err end
  local seen = {}
  for _, object in ipairs(list.items) do
    local k = key(object)
    seen[k] = true
    local old = w.known[k]
    if not old then
      w.queue[#w.queue + 1] = { type = "ADDED", object = object }
    elseif old.metadata.resourceVersion ~= object.metadata.resourceVersion then
      w.queue[#w.queue + 1] = { type = "MODIFIED", object = object }
    end
    w.known[k] = object
  end
  for k, object in pairs(w.known) do
    if not seen[k] then
      w.queue[#w.queue + 1] = { type = "DELETED", object = object }
      w.known[k] = nil
    end
  end
  w.version = list.metadata.resourceVersion
  if type(w.version) ~= "string" then
    return nil, { code = "protocol", message = "the API server gave a list without a resourceVersion" }
  end
  return true
end

local LONG_S = 1 -- a stream that was open so long has done its work, even without an event

local function left(w) return w.deadline - core.now() end

-- Before the server is asked again after a stream that brought nothing, or none at all: longer each time, until an
-- event comes. -> true | nil, err where it was interrupted
local function back_off(w)
  w.failures = w.failures + 1
  return core.sleep(math.min(0.1 * 2 ^ w.failures, 5, math.max(left(w), 0)))
end

local function open(w)
  local stream, err = w.client:stream(w.kind, w.options,
    { watch = "true", allowWatchBookmarks = "true", resourceVersion = w.version,
      timeoutSeconds = tostring(math.max(1, math.ceil(math.min(left(w), 300)))) })
  if stream then
    w.stream, w.opened = stream, core.now()
    return true
  end
  if err.code == "interrupted" then return nil, err end
  if err.status == 410 then
    w.version = nil
  elseif err.status and err.status < 500 and err.status ~= 429 then
    return nil, err
  else
    w.last = err -- the server is away: it is asked again until the deadline
  end
  return back_off(w)
end

local function is_object(object, kind)
  local meta = type(object) == "table" and object.metadata
  return type(meta) == "table" and (kind == "BOOKMARK" or type(meta.name) == "string")
end

-- The event of a line, or nil; a line that is none (cut off, an error) ends the stream.
local function take(w, line)
  local event = json.decode(line)
  local object = type(event) == "table" and event.object
  if type(object) == "table" and event.type == "ERROR" then
    w.version = object.code ~= 410 and w.version or nil
    return w:hang_up()
  end
  if not is_object(object, object and event.type) then return w:hang_up() end
  w.version = object.metadata.resourceVersion or w.version
  if event.type == "BOOKMARK" then return end
  w.known[key(object)] = event.type ~= "DELETED" and object or nil
  w.failures = 0
  return event
end

local Watch = {}
Watch.__index = Watch

function Watch:hang_up()
  if self.stream then self.stream:close() self.stream = nil end
end
Watch.close = Watch.hang_up
Watch.__close, Watch.__gc = Watch.hang_up, Watch.hang_up

-- The next event, or nil and an error; at the deadline code "timeout".
function Watch:next()
  while true do
    if self.queue[1] then return table.remove(self.queue, 1) end
    if left(self) <= 0 then
      self:hang_up()
      return nil, { code = "timeout", message = self.last and self.last.message or "nothing more happened in time" }
    end
    local ok, err = true, nil
    if not self.version then
      ok, err = relist(self)
    elseif not self.stream then
      ok, err = open(self)
    else
      local line, why = self.stream:line(math.min(left(self), 30))
      if line and line ~= "" then
        local event = take(self, line)
        if event then return event end
      elseif not line and not (why and why.code == "timeout") then
        self:hang_up()
        if why and why.code == "interrupted" then return nil, why end
      end
      if not self.stream then
        if core.now() - self.opened >= LONG_S then self.failures = 0 end
        ok, err = back_off(self)
      end
    end
    if not ok then return nil, err end
  end
end

-- options: namespace, selector, field, all_namespaces, timeout (seconds, 60), since (a resourceVersion: nothing is
-- listed first, only what changes from there on is told).
function M.new(client, kind, options)
  options = options or {}
  return setmetatable({ client = client, kind = kind, options = options, known = {}, queue = {}, failures = 0,
    version = options.since, deadline = core.now() + (options.timeout or 60) }, Watch)
end

return M
