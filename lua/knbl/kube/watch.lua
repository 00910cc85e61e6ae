-- knbl.kube.watch: a list, then what changes, until the caller has seen enough or the time is up. It survives what a watch meets: an
-- expired version (410: listed again, and what differs is told as events), a server that goes away and comes back, expired tokens.
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
  return true
end

local function left(w) return w.deadline - core.now() end

local function open(w)
  local stream, err = w.client:stream(w.kind, w.options, { watch = "true", allowWatchBookmarks = "true", resourceVersion = w.version,
    timeoutSeconds = tostring(math.max(1, math.ceil(math.min(left(w), 300)))) })
  if stream then
    w.stream, w.failures = stream, 0
    return true
  end
  if err.status == 410 then w.version = nil return true end
  if err.status and err.status < 500 and err.status ~= 429 then return nil, err end
  -- a server that is away: again, more and more slowly, until the deadline
  w.failures = (w.failures or 0) + 1
  w.last = err
  local ok, interrupted = core.sleep(math.min(0.1 * 2 ^ w.failures, 5, math.max(left(w), 0)))
  if not ok then return nil, interrupted end
  return true
end

local function take(w, line)
  local ok, event = pcall(json.decode, line)
  if not ok or type(event) ~= "table" or type(event.object) ~= "table" then -- torn off in its middle
    w:hang_up()
    return
  end
  local object = event.object
  if event.type == "ERROR" then
    w.version = object.code ~= 410 and w.version or nil
    w:hang_up()
    return
  end
  w.version = object.metadata.resourceVersion or w.version
  if event.type == "BOOKMARK" then return end
  w.known[key(object)] = event.type ~= "DELETED" and object or nil
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
    end
    if not ok then return nil, err end
  end
end

-- options: namespace, selector, field, all_namespaces, timeout (seconds, 60).
function M.new(client, kind, options)
  options = options or {}
  return setmetatable({ client = client, kind = kind, options = options, known = {}, queue = {},
    deadline = core.now() + (options.timeout or 60) }, Watch)
end

return M
