-- knbl.kube.pods: pods that come up or say why not, and pods that go.
local core = require "knbl.core"
local explain = require "knbl.kube.explain"
local say = require "knbl.base.say"

local M = {}

local READY_S = 90
local EVENTS_S = 3     -- after which, while nothing happens, the pod's events are looked at, and then again
local DOUBT_S = 6      -- in which what looks final may still turn out well
local PICKED_UP_S = 15 -- in which a kubelet takes a pod that was given to it
local GONE_S, FORCE_S = 30, 10
local AT_ONCE = 50     -- pods that are made before the first of them is up

-- The newest thing that went wrong with an object of that name, or nil.
function M.events_of(api, name, probes)
  local list = api:list("Event", { field = "involvedObject.name=" .. name })
  return list and explain.events(list.items, probes)
end

function M.is_ready(pod)
  for _, c in ipairs(pod.status.conditions or {}) do
    if c.type == "Ready" then return c.status == "True" end
  end
  return false
end

-- The kubelet writes startTime first: without it, no kubelet has seen the pod.
local function not_picked_up(pod)
  if pod and pod.spec.nodeName and not pod.status.startTime then
    return ("the pod was assigned to %s, which does not start it; is its kubelet running?"):format(pod.spec.nodeName)
  end
end

-- ---- many pods at a time ----

local Wait = {} -- for one pod
Wait.__index = Wait

local function failed(message) return { code = "pod", message = message } end

-- What an event says. -> the pod, once it is up | nil, err, once it is known that it does not come up | nothing
function Wait:take(event, now)
  local pod = event.object
  self.last, self.quiet_since = pod, now
  if event.type == "DELETED" then return nil, failed "the pod was deleted" end
  if M.is_ready(pod) and pod.status.podIP then return pod end
  self.given = pod.spec.nodeName and not pod.status.startTime and (self.given or now) or nil
  local why, final = explain.pod(pod)
  if pod.status.phase == "Failed" or pod.metadata.deletionTimestamp then return nil, failed(why) end
  if final and not explain.says_less(why, self.reason) then self.reason = why end
  if final then self.doubtful_until = self.doubtful_until or now + DOUBT_S end
end

-- What the time says. reason_of(name, last): the newest thing that went wrong, by the events. -> nil, err | nothing
function Wait:look(now, reason_of)
  if self.doubtful_until and now >= self.doubtful_until then return nil, failed(self.reason) end
  if self.given and now >= self.given + PICKED_UP_S then return nil, failed(not_picked_up(self.last)) end
  if now >= self.limit then
    return nil, failed(("not ready after %d s: %s"):format(READY_S, reason_of(self.name, true) or "no event says why"))
  end
  if not self.doubtful_until and now >= self.quiet_since + EVENTS_S then
    self.quiet_since = now
    self.reason = reason_of(self.name)
    self.doubtful_until = self.reason and now + DOUBT_S
  end
end

-- When it is to be looked at next.
function Wait:next_look()
  return math.min(self.limit, self.doubtful_until or self.quiet_since + EVENTS_S,
    self.given and self.given + PICKED_UP_S or math.huge)
end

local function wait_for(item, made)
  local now = core.now()
  return setmetatable({ item = item, name = made.metadata.name, quiet_since = now, limit = now + READY_S }, Wait)
end

-- The events of one pod by its name; of many by one list for all of them, which is used for EVENTS_S.
local function events_by_name(api, many)
  local list, listed
  return function(name, probes)
    if not many() then return M.events_of(api, name, probes) end
    if not listed or core.now() >= listed + EVENTS_S then
      local all = api:list("Event", { field = "involvedObject.kind=Pod" })
      list, listed = all and all.items or {}, core.now()
    end
    local own = {}
    for _, event in ipairs(list) do
      if (event.involvedObject or {}).name == name then own[#own + 1] = event end
    end
    return explain.events(own, probes)
  end
end

local function watch_from(api, first, selector)
  local meta = first.metadata
  return api:watch("Pod", { selector = selector, field = not selector and "metadata.name=" .. meta.name or nil,
    timeout = READY_S, since = meta.resourceVersion })
end

-- The pods that are waited for, by name.
local Batch = {}
Batch.__index = Batch

-- Creates the pods of the next items while fewer than AT_ONCE are waited for.
function Batch:fill()
  while self.items[self.next] and self.count < AT_ONCE do
    local item = self.items[self.next]
    self.next = self.next + 1
    local made, err = self.make(item)
    if made then
      self.waits[made.metadata.name], self.count = wait_for(item, made), self.count + 1
      self.watch = self.watch or watch_from(self.api, made, #self.items > 1 and self.selector or nil)
    else
      self.came(item, nil, err)
    end
  end
end

function Batch:settle(wait, pod, err)
  if not pod and not err then return end
  self.waits[wait.name], self.count = nil, self.count - 1
  self.came(wait.item, pod, err)
end

function Batch:fail(err)
  for _, wait in pairs(self.waits) do self.came(wait.item, nil, err) end
  for i = self.next, #self.items do self.came(self.items[i], nil, err) end
  self.waits, self.count, self.next = {}, 0, #self.items + 1
end

-- Waits for an event, or until one of the pods is to be looked at; that ends the watch, so at most once a second.
function Batch:step(reason_of)
  local look = math.huge
  for _, wait in pairs(self.waits) do look = math.min(look, wait:next_look()) end
  self.watch.deadline = math.max(look, self.looked + 1, core.now() + 0.05)
  local event, err = self.watch:next()
  if not event and err.code ~= "timeout" then return self:fail(err) end
  if event then
    local wait = self.waits[event.object.metadata.name]
    if wait then self:settle(wait, wait:take(event, core.now())) end
  else
    self.looked = core.now()
    for _, wait in pairs(self.waits) do self:settle(wait, wait:look(core.now(), reason_of)) end
  end
end

-- Makes a pod of each item by make(item) -> the object as created | nil, err, and calls came(item, pod | nil, err) once
-- it is up, or once it is known for sure that it does not come up (err.code "pod"). selector finds all of them.
function M.bring_up(api, selector, items, make, came)
  local batch = setmetatable({ api = api, selector = selector, items = items, make = make, came = came, waits = {},
    count = 0, next = 1, looked = 0 }, Batch)
  local reason_of = events_by_name(api, function() return batch.count > 1 end)
  local _ <close> = setmetatable({}, { __close = function() if batch.watch then batch.watch:close() end end })
  batch:fill()
  while batch.count > 0 do
    batch:step(reason_of)
    batch:fill()
  end
end

function M.addresses(pod)
  local addresses = {}
  for _, ip in ipairs(pod.status.podIPs or { { ip = pod.status.podIP } }) do
    addresses[ip.ip:find(":", 1, true) and "v6" or "v4"] = ip.ip
  end
  return addresses
end

-- Its containers have ended, or never began: nothing of it can be cut short.
local function is_over(pod)
  if pod.status.phase == "Succeeded" or pod.status.phase == "Failed" then return true end
  for _, status in ipairs(pod.status.containerStatuses or {}) do
    if status.state.running or status.state.terminated then return false end
  end
  return true
end

-- Deletes { kind, name }… from the last to the first and waits until no pod with that label runs any more; a kubelet
-- that is slow to report it, or dead, is not waited for. -> nil, or what went wrong. All of it is bounded: a server
-- that is gone is asked for at most GONE_S.
local function remove(api, made, selector)
  local deadline = core.now() + GONE_S
  local force_at = core.now() + FORCE_S
  local failed, pause, forced = nil, 0.1, {}
  for i = #made, 1, -1 do
    if not made[i].later then
      api.patience = math.max(deadline - core.now(), 0)
      local ok, err = api:delete(made[i].kind, made[i].name)
      if not ok and not err.status then return err end -- no server: the rest would not be deleted either
      if not ok then failed = failed or err end
    end
  end
  while true do
    api.patience = math.max(deadline - core.now(), 1)
    local left, err = api:list("Pod", { selector = selector })
    if not left then return err end
    if #left.items == 0 or failed then return failed end
    if core.now() > deadline then
      return { message = ("%d pods are still terminating after %d s"):format(#left.items, GONE_S) }
    end
    for _, pod in ipairs(left.items) do
      local name, late = pod.metadata.name, core.now() > force_at
      if not forced[name] and is_over(pod) or late and forced[name] ~= "late" then
        forced[name] = late and "late" or "over"
        api:delete("Pod", name, { grace = 0 })
      end
    end
    core.sleep(pause)
    pause = math.min(pause * 1.5, 1)
  end
end

-- The same, which an interrupt does not cut short.
function M.remove(api, made, selector)
  core.cleanup(true)
  if core.interrupted() then
    say "knbl: interrupted; removing what the run made (a second interrupt leaves it to `knbl clean`)\n"
  end
  local failed = remove(api, made, selector)
  core.cleanup(false)
  return failed
end

return M
