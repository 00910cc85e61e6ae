-- knbl.kube: the Kubernetes API for scripts. Any kind, core or not, found by discovery; objects are plain tables.
--
--   local kube = require "knbl.kube"
--   local api = assert(kube.connect { namespace = "bench" })
--   for _, node in ipairs(api:list "Node".items) do print(node.metadata.name) end
--   api:patch({ api = "apps/v1", kind = "Deployment" }, "web", { spec = { replicas = 3 } })
--
-- What fails returns nil and an error: code, message, and where the server said so its status, reason and details.
local core = require "knbl.core"
local json = require "knbl.json"
local parallel = require "knbl.base.parallel"
local session = require "knbl.measure.session"
local auth = require "knbl.kube.auth"
local say = require "knbl.base.say"
local text = require "knbl.base.text"
local rollout = require "knbl.kube.rollout"
local watch = require "knbl.kube.watch"

local M = {}
local Client = { pages_most = 1000 } -- of one list: it must end
Client.__index = Client

local MANAGER = "knbl"
local RETRIES_S = 30
local FIRST_S = 3 -- of a server that has never answered: it does not exist, and is not asked for long
local LEAST_PAUSE_S = 0.1 -- before a request is repeated, even where the server says "at once"
local LIST_BYTES_MOST = 536870912

-- ---- requests ----

local function escape(word)
  return (tostring(word):gsub("[^%w%-%._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

local function query_text(query)
  local parts = {}
  for k, v in pairs(query or {}) do parts[#parts + 1] = escape(k) .. "=" .. escape(v) end
  table.sort(parts)
  return #parts > 0 and "?" .. table.concat(parts, "&") or ""
end

local error_meta = { __tostring = function(e) return e.message end }

-- The API's Status as an error; anything else by its status code.
local function status_error(response, what)
  local ok, status = pcall(json.decode, response.body)
  local err = { code = "api", status = response.status }
  if ok and type(status) == "table" and status.kind == "Status" then
    err.reason, err.details, err.message = status.reason, status.details, status.message
  end
  local codes = { [401] = "auth", [403] = "permission", [404] = "not_found", [409] = "conflict", [429] = "limit" }
  err.code = codes[response.status] or err.code
  local said = type(err.message) == "string" and err.message or response.body:sub(1, 200):gsub("%s+", " ")
  if response.status == 401 then said = said .. ": the credentials are wrong or expired" end
  err.message = ("%s: %s (%d)"):format(what, said ~= "" and said or "no explanation", response.status)
  return setmetatable(err, error_meta)
end

-- A successful answer that an API server does not give: a login page, a proxy's greeting, an object without its parts.
local function not_the_api(what, detail)
  return setmetatable({ code = "protocol", status = 200, message =
    ("%s: the response is not one of a Kubernetes API server: %s"):format(what, detail) }, error_meta)
end

-- The JSON object of an answer, or nil and an error.
local function object_of(response, what)
  local value, wrong = json.decode(response.body)
  if type(value) == "table" and not json.is_array(value) then return value end
  local detail = response.body == "" and "it is empty" or ("%s: %s"):format(
    value == nil and "not JSON (" .. wrong .. ")" or "not a JSON object", response.body:sub(1, 80):gsub("%s+", " "))
  return nil, not_the_api(what, detail)
end

-- The same, where it must be a resource: it has metadata.
local function resource_of(value, err, what)
  if not value then return nil, err end
  if type(value.metadata) ~= "table" then return nil, not_the_api(what, "an object without metadata") end
  return value
end

-- What a Status in an answer says.
function M.status_text(response) return status_error(response, "the API server").message end

-- Credentials go over TLS alone, as with kubectl: over plain http anybody on the way could read and use them.
local function is_https(config) return config.server:lower():find("^https://") ~= nil end

-- The options that every transfer shares: address, credentials, trust.
function Client:transfer(method, path, query, headers)
  local tls = {}
  headers = headers or {}
  headers.Accept = headers.Accept or "application/json"
  headers["User-Agent"] = "knbl/" .. core.version
  local config = self.config
  if is_https(config) then
    local ok, err = self.auth:apply(headers, tls)
    if not ok then return nil, err end
  end
  return { method = method, url = config.server:gsub("/$", "") .. path .. query_text(query), headers = headers,
    ca = config.ca, cert = tls.cert, key = tls.key, insecure = config.insecure, server_name = config.tls_server_name,
    proxy = config.proxy_url }
end

local function show_warnings(client, response)
  local header = response.headers and response.headers.warning
  if not header then return end
  for quoted in header:gmatch '299 %S+ "(.-[^\\])"' do
    local message = quoted:gsub("\\(.)", "%1")
    if not client.warned[message] then
      client.warned[message] = true
      client.on_warning(message)
    end
  end
end

-- Waits as long as the server asks (a number of seconds; a date is not looked at), else longer each time. -> true |
-- false where that would be too late | nil, err where it was interrupted
local function pause(response, attempt, deadline)
  local asked = response and tonumber(((response.headers or {})["retry-after"] or ""):match "^%d+$")
  local seconds = math.max(asked or math.min(0.2 * 2 ^ attempt, 5), LEAST_PAUSE_S)
  seconds = seconds * (1 + 0.2 * math.random())
  if core.now() + seconds > deadline then return false end
  return core.sleep(seconds)
end

-- Not what would be the same again: misuse, an interrupt, a response that is too long.
local never_again = { interrupted = true, argument = true, auth = true, limit = true, unsupported = true }

local function worth_retry(method, response, err)
  if response then return response.status == 429 or response.status >= 500 and response.status ~= 501 end
  return not never_again[err.code] and (method ~= "POST" or err.code == "refused")
end

-- What kept us from an answer: the server is named once.
local function no_answer(client, err)
  local server = client.config.server
  local said = err.message
  if said:sub(1, #server) == server then said = said:gsub("^%S+: ", "") end
  err.message = ("%s: %s"):format(server, said)
  return err
end

-- One request, repeated where the server asks for it or where it cannot have been done. -> the JSON object, response |
-- nil, err. options: query, body, headers, content_type, raw (the body as it is), timeout (seconds, of each try), retry
-- (seconds in which it is tried again)
function Client:request(method, path, options)
  options = options or {}
  local patience = options.retry or self.patience or RETRIES_S
  local began = core.now()
  local renewed = false
  for attempt = 0, math.huge do
    local headers = { ["Content-Type"] = options.body and (options.content_type or "application/json") or nil }
    for k, v in pairs(options.headers or {}) do headers[k] = v end
    local transfer, err = self:transfer(method, path, options.query, headers)
    if not transfer then return nil, err end
    transfer.body = options.body and (type(options.body) == "string" and options.body or json.encode(options.body))
    transfer.timeout = math.min(options.timeout or 30, math.max(self.patience or 30, 1))
    local response
    response, err = core.fetch(transfer)
    if response then
      self.reached = true
      show_warnings(self, response)
    end
    if response and response.status < 300 then
      if options.raw then return response.body, response end
      local object, wrong = object_of(response, ("%s %s"):format(method, transfer.url))
      return object, object and response or wrong
    end
    if response and response.status == 401 and not renewed and self.auth:renew() then
      renewed = true
    else
      local deadline = began + (self.reached and patience or math.min(patience, FIRST_S))
      local again, interrupted = worth_retry(method, response, err), nil
      if again then again, interrupted = pause(response, attempt, deadline) end
      if interrupted then return nil, interrupted end
      if not again and response then return nil, status_error(response, method .. " " .. path) end
      if not again then return nil, no_answer(self, err) end
    end
  end
end

-- Whether it is a list of objects that each have a string of this name.
local function is_list_of(list, name)
  if type(list) ~= "table" then return false end
  for i = 1, #list do
    if type(list[i]) ~= "table" or type(list[i][name]) ~= "string" then return false end
  end
  return true
end

-- ---- discovery ----

-- "Pod", "pods", { api = "apps/v1", kind = "Deployment" } or an object -> its resource: base path, plural, namespaced
function Client:resource(kind)
  local api, name = "v1", kind
  if type(kind) == "table" then api, name = kind.api or kind.apiVersion or "v1", kind.kind end
  local list = self.resources[api]
  if not list then
    local err
    list, err = self:request("GET", (api:find("/", 1, true) and "/apis/" or "/api/") .. api)
    if not list then
      if err.status == 404 then err.message = ("this cluster has no API %s"):format(api) end
      return nil, err
    end
    if not is_list_of(list.resources, "name") then
      return nil, not_the_api(api, "an API group without a list of resources")
    end
    self.resources[api] = list
  end
  for _, r in ipairs(list.resources) do
    if not r.name:find("/", 1, true) and (r.kind == name or r.name == name or r.singularName == name) then
      return { base = (api:find("/", 1, true) and "/apis/" or "/api/") .. api, plural = r.name,
        namespaced = r.namespaced, kind = r.kind, api = api }
    end
  end
  return nil, { code = "argument", message = ("this cluster has no kind %s in %s"):format(name, api) }
end

function Client:path(kind, name, options)
  local r, err = self:resource(kind)
  if not r then return nil, err end
  options = options or {}
  local path = r.base
  if r.namespaced and not options.all_namespaces then
    path = path .. "/namespaces/" .. escape(options.namespace or type(kind) == "table" and kind.metadata
      and kind.metadata.namespace or self.namespace)
  end
  path = path .. "/" .. r.plural
  if name then path = path .. "/" .. escape(name) end
  return path
end

-- ---- verbs ----

function Client:get(kind, name, options)
  local path, err = self:path(kind, name, options)
  if not path then return nil, err end
  local object, why = self:request("GET", path, { retry = options and options.retry })
  return resource_of(object, why, path)
end

local function selection(options, query)
  query = query or {}
  query.labelSelector, query.fieldSelector = options and options.selector, options and options.field
  return query
end

-- What is wrong with a page of a list, or nil. Go writes an empty list as null.
local function page_fault(page)
  if type(page.metadata) ~= "table" then return "a list without metadata" end
  local more = page.metadata.continue
  if more ~= nil and type(more) ~= "string" then return "a list whose continue is not a string" end
  if page.items == nil then return nil end
  if type(page.items) ~= "table" then return "a list whose items are not a list" end
  for _, item in ipairs(page.items) do
    local meta = type(item) == "table" and item.metadata
    if type(meta) ~= "table" or type(meta.name) ~= "string" then return "a list with an item that has no name" end
  end
end

-- All of them, page by page; an expired continuation begins again without pages.
function Client:list(kind, options)
  local path, err = self:path(kind, nil, options)
  if not path then return nil, err end
  local query, items, bytes = selection(options, { limit = "500" }), {}, 0
  for _ = 1, self.pages_most do
    local page, response = self:request("GET", path, { query = query })
    if not page and response.status == 410 and query.continue then
      query, items = selection(options), {}
    elseif not page then
      return nil, response
    else
      local fault = page_fault(page)
      if fault then return nil, not_the_api(path, fault) end
      table.move(page.items or {}, 1, #(page.items or {}), #items + 1, items)
      local more = page.metadata.continue
      if not more or more == "" then
        page.items = items
        return page
      end
      bytes = bytes + #response.body
      if more == query.continue or bytes > LIST_BYTES_MOST then break end
      query.continue = more
    end
  end
  return nil, not_the_api(path, ("a list that does not end (%d items, %d MB so far)"):format(#items, bytes // 1000000))
end

local function shallow(t)
  local copy = {}
  for k, v in pairs(t or {}) do copy[k] = v end
  return copy
end

-- Creates an object once, even if the answer gets lost: its name is made here, and an object of that name that carries
-- this call's mark is ours.
function Client:create(object, options)
  local copy, meta = shallow(object), shallow(object.metadata)
  copy.metadata = meta
  if not meta.name then
    meta.name = (meta.generateName or "knbl-") .. core.token():sub(1, 8)
    meta.generateName = nil
  end
  local mark = core.token():sub(1, 16)
  meta.annotations = shallow(meta.annotations)
  meta.annotations["knbl.io/created-by-call"] = mark
  local path, err = self:path(copy, nil, options)
  if not path then return nil, err end
  local deadline = core.now() + RETRIES_S
  for attempt = 0, math.huge do
    local made, why = self:request("POST", path, { body = copy })
    if made then return resource_of(made, nil, path) end
    if why.status and why.status ~= 409 or never_again[why.code] then return nil, why end
    local there = self:get(copy, meta.name, options) -- after a conflict, or an answer that never came
    if there and (there.metadata.annotations or {})["knbl.io/created-by-call"] == mark then return there end
    local again, interrupted = false, nil
    if why.status ~= 409 then again, interrupted = pause(nil, attempt, deadline) end
    if not again then return nil, interrupted or why end
  end
end

-- Server-side apply.
function Client:apply(object, options)
  local path, err = self:path(object, object.metadata.name, options)
  if not path then return nil, err end
  return self:request("PATCH", path, { body = object, content_type = "application/apply-patch+yaml",
    query = { fieldManager = MANAGER, force = "true" } })
end

-- kind_of_patch: "merge" (default), "strategic" or "json".
function Client:patch(kind, name, patch, options)
  local types = { merge = "application/merge-patch+json", strategic = "application/strategic-merge-patch+json",
    json = "application/json-patch+json" }
  local path, err = self:path(kind, name, options)
  if not path then return nil, err end
  return self:request("PATCH", path, { body = patch, content_type = types[options and options.type or "merge"] })
end

-- Gone already is as good as deleted.
function Client:delete(kind, name, options)
  local path, err = self:path(kind, name, options)
  if not path then return nil, err end
  local gone, why = self:request("DELETE", path, { body = { apiVersion = "v1", kind = "DeleteOptions",
    propagationPolicy = options and options.propagation or "Background", gracePeriodSeconds = options and options.grace,
    preconditions = options and options.uid and { uid = options.uid } } })
  if not gone and why.status == 404 then return true end
  return gone and true, why
end

-- An open answer that is read as it comes: watches and logs.
function Client:stream(kind, options, query, subpath)
  local path, err = self:path(kind, options and options.name, options)
  if not path then return nil, err end
  local transfer
  for _ = 1, 2 do
    transfer, err = self:transfer("GET", path .. (subpath or ""), selection(options, query))
    if not transfer then return nil, err end
    transfer.timeout = 10
    local stream
    stream, err = core.fetch_open(transfer)
    if not stream then return nil, no_answer(self, err) end
    if stream:status() < 300 then return stream end
    local response = { status = stream:status(), body = stream:read(5) or "" }
    stream:close()
    err = status_error(response, "GET " .. path)
    if response.status ~= 401 or not self.auth:renew() then return nil, err end
  end
  return nil, err
end

-- A watch to take events from: w:next() -> { type, object } | nil, err. Close it.
function Client:watch(kind, options) return watch.new(self, kind, options) end

-- A pod's log as text, or with stream = true or follow = true as a stream: s:line(seconds) gives a line.
function Client:logs(pod, options)
  options = options or {}
  local query = { container = options.container, tailLines = options.tail and tostring(options.tail),
    follow = options.follow and "true",
    previous = options.previous and "true" }
  if options.stream or options.follow then
    return self:stream("Pod", { name = pod, namespace = options.namespace }, query, "/log")
  end
  local path, err = self:path("Pod", pod, options)
  if not path then return nil, err end
  return self:request("GET", path .. "/log", { query = query, raw = true, headers = { Accept = "*/*" } })
end

-- A function like core.fetch that reaches a port of a pod through the API server; the request's url is the path there.
function Client:proxy(pod, port, options)
  local base, err = self:path("Pod", nil, options)
  if not base then return nil, err end
  base = ("%s/%s:%d/proxy"):format(base, escape(pod), port)
  return function(request)
    local response, why
    for _ = 1, 2 do
      local transfer
      transfer, why = self:transfer(request.method, base .. request.url, nil, request.headers)
      if not transfer then return nil, why end
      transfer.body, transfer.timeout = request.body, request.timeout
      response, why = parallel.fetch(core, transfer)
      if not response or response.status ~= 401 or not response.body:find('"kind":"Status"', 1, true)
        or not self.auth:renew() then
        break
      end
    end
    return response, why
  end
end

for name, method in pairs(rollout) do Client[name] = method end

-- options: kubeconfig, context, namespace, as, cluster, user; where they are silent, the command line of the scenario.
-- on_warning(text) gets the API server's warnings.
function M.connect(options)
  options = options or {}
  local line = session.settings()
  local config, err = core.kube_config { kubeconfig = options.kubeconfig or line.kubeconfig,
    context = options.context or line.on and line.on:match "^k8s:(.+)$" or line.context,
      namespace = options.namespace or line.namespace,
    as = options.as or line.as, cluster = options.cluster, user = options.user }
  if not config then return nil, err end
  config = json.decode(config)
  local client = setmetatable({ config = config, namespace = config.namespace, auth = auth.new(config), resources = {},
    warned = {},
    on_warning = options.on_warning or function(warning)
      say(("knbl: warning from the API server: %s\n"):format(text.clean(warning)))
    end }, Client)
  if config.insecure then client.on_warning("the server's certificate is not checked (insecure-skip-tls-verify)") end
  if not is_https(config) and config.user then
    client.on_warning(("%s is plain http: no credentials are sent"):format(config.server))
  end
  return client
end

-- YAML text -> list of objects, and an object -> YAML text.
function M.parse_yaml(source)
  local out, err = core.yaml_parse(source)
  if not out then return nil, err end
  return json.decode(out)
end
function M.to_yaml(object) return core.yaml_emit(json.encode(object)) end

return M
