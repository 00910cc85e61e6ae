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
local session = require "knbl.session"
local auth = require "knbl.kube.auth"
local watch = require "knbl.kube.watch"

local M = {}
local Client = {}
Client.__index = Client

local MANAGER = "knbl"
local RETRIES_S = 30
local FIRST_S = 3 -- a server that has never answered is not there: no use in asking for long

-- ---- requests --------------------------------------------------------------------------------------------------------

local function escape(text)
  return (tostring(text):gsub("[^%w%-%._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

local function query_text(query)
  local parts = {}
  for k, v in pairs(query or {}) do parts[#parts + 1] = escape(k) .. "=" .. escape(v) end
  table.sort(parts)
  return #parts > 0 and "?" .. table.concat(parts, "&") or ""
end

-- The API's Status as an error; anything else by its status code.
local function status_error(response, what)
  local ok, status = pcall(json.decode, response.body)
  local err = { code = "api", status = response.status }
  if ok and type(status) == "table" and status.kind == "Status" then
    err.reason, err.details, err.message = status.reason, status.details, status.message
  end
  local codes = { [401] = "auth", [403] = "permission", [404] = "not_found", [409] = "conflict", [429] = "limit" }
  err.code = codes[response.status] or err.code
  local text = err.message or response.body:sub(1, 200):gsub("%s+", " ")
  if response.status == 401 then text = text .. ": the credentials are wrong or expired" end
  err.message = ("%s: %s (%d)"):format(what, text ~= "" and text or "no explanation", response.status)
  return setmetatable(err, M.error_meta)
end
M.error_meta = { __tostring = function(e) return e.message end }

-- What a Status in an answer says.
function M.status_text(response) return status_error(response, "the API server").message end

-- The options that every transfer shares: address, credentials, trust.
function Client:transfer(method, path, query, headers)
  local tls = {}
  headers = headers or {}
  headers.Accept = headers.Accept or "application/json"
  headers["User-Agent"] = "knbl/" .. core.version
  local ok, err = self.auth:apply(headers, tls)
  if not ok then return nil, err end
  local config = self.config
  return { method = method, url = config.server:gsub("/$", "") .. path .. query_text(query), headers = headers, ca = config.ca,
    cert = tls.cert, key = tls.key, insecure = config.insecure, server_name = config.tls_server_name, proxy = config.proxy_url }
end

local function show_warnings(client, response)
  local text = response.headers and response.headers.warning
  if not text then return end
  for quoted in text:gmatch '299 %S+ "(.-[^\\])"' do
    local message = quoted:gsub("\\(.)", "%1")
    if not client.warned[message] then
      client.warned[message] = true
      client.on_warning(message)
    end
  end
end

local function pause(response, attempt, deadline)
  local asked = response and tonumber((response.headers or {})["retry-after"] or "")
  local seconds = asked or math.min(0.2 * 2 ^ attempt, 5)
  seconds = seconds * (1 + 0.2 * math.random())
  if core.now() + seconds > deadline then return false end
  return core.sleep(seconds)
end

local function worth_retry(method, response, err)
  if response then return response.status == 429 or response.status >= 500 and response.status ~= 501 end
  return err.code ~= "interrupted" and err.code ~= "argument" and err.code ~= "auth" and (method ~= "POST" or err.code == "refused")
end

-- What kept us from an answer: the server is named once.
local function no_answer(client, err)
  local server = client.config.server
  local text = err.message
  if text:sub(1, #server) == server then text = text:gsub("^%S+: ", "") end
  err.message = ("%s: %s"):format(server, text)
  return err
end

-- One request, repeated where the server asks for it or where it cannot have been done. -> decoded body, response | nil, err
-- options: query, body, headers, content_type, raw, timeout (seconds, of each try), retry (seconds in which it is tried again)
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
      return response.body ~= "" and json.decode(response.body) or {}, response
    end
    if response and response.status == 401 and not renewed and self.auth:renew() then
      renewed = true
    elseif not worth_retry(method, response, err) or not pause(response, attempt, began + (self.reached and patience or math.min(patience, FIRST_S))) then
      if response then return nil, status_error(response, method .. " " .. path) end
      return nil, no_answer(self, err)
    end
  end
end

-- ---- discovery -------------------------------------------------------------------------------------------------------

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
    self.resources[api] = list
  end
  for _, r in ipairs(list.resources) do
    if not r.name:find("/", 1, true) and (r.kind == name or r.name == name or r.singularName == name) then
      return { base = (api:find("/", 1, true) and "/apis/" or "/api/") .. api, plural = r.name, namespaced = r.namespaced, kind = r.kind, api = api }
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
    path = path .. "/namespaces/" .. escape(options.namespace or type(kind) == "table" and kind.metadata and kind.metadata.namespace or self.namespace)
  end
  path = path .. "/" .. r.plural
  if name then path = path .. "/" .. escape(name) end
  return path
end

-- ---- verbs ---------------------------------------------------------------------------------------------------------------

function Client:get(kind, name, options)
  local path, err = self:path(kind, name, options)
  if not path then return nil, err end
  return self:request("GET", path, { retry = options and options.retry })
end

local function selection(options, query)
  query = query or {}
  query.labelSelector, query.fieldSelector = options and options.selector, options and options.field
  return query
end

-- All of them, page by page; an expired continuation begins again without pages.
function Client:list(kind, options)
  local path, err = self:path(kind, nil, options)
  if not path then return nil, err end
  local query, items = selection(options, { limit = "500" }), {}
  while true do
    local page
    page, err = self:request("GET", path, { query = query })
    if not page and err.status == 410 and query.continue then
      query, items = selection(options), {}
    elseif not page then
      return nil, err
    else
      table.move(page.items or {}, 1, #(page.items or {}), #items + 1, items)
      local more = page.metadata and page.metadata.continue
      if not more or more == "" then
        page.items = items
        return page
      end
      query.continue = more
    end
  end
end

local function shallow(t)
  local copy = {}
  for k, v in pairs(t or {}) do copy[k] = v end
  return copy
end

-- Creates an object once, even if the answer gets lost: its name is made here, and an object of that name that carries this call's mark is ours.
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
    if made then return made end
    if why.status and why.status ~= 409 or why.code == "interrupted" then return nil, why end
    local there = self:get(copy, meta.name, options) -- after a conflict, or an answer that never came
    if there and (there.metadata.annotations or {})["knbl.io/created-by-call"] == mark then return there end
    if why.status == 409 or not pause(nil, attempt, deadline) then return nil, why end
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
  local types = { merge = "application/merge-patch+json", strategic = "application/strategic-merge-patch+json", json = "application/json-patch+json" }
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
  local query = { container = options.container, tailLines = options.tail and tostring(options.tail), follow = options.follow and "true",
    previous = options.previous and "true" }
  if options.stream or options.follow then return self:stream("Pod", { name = pod, namespace = options.namespace }, query, "/log") end
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
      response, why = core.fetch(transfer)
      if not response or response.status ~= 401 or not response.body:find('"kind":"Status"', 1, true) or not self.auth:renew() then break end
    end
    return response, why
  end
end

-- options: kubeconfig, context, namespace, as, cluster, user; where they are silent, the command line of the scenario.
-- on_warning(text) gets the API server's warnings.
function M.connect(options)
  options = options or {}
  local line = session.settings()
  local config, err = core.kube_config { kubeconfig = options.kubeconfig or line.kubeconfig,
    context = options.context or line.on and line.on:match "^k8s:(.+)$" or line.context, namespace = options.namespace or line.namespace,
    as = options.as or line.as, cluster = options.cluster, user = options.user }
  if not config then return nil, err end
  config = json.decode(config)
  local client = setmetatable({ config = config, namespace = config.namespace, auth = auth.new(config), resources = {}, warned = {},
    on_warning = options.on_warning or function(text) io.stderr:write("knbl: warning of the API server: ", text, "\n") end }, Client)
  if config.insecure then client.on_warning("the server's certificate is not checked (insecure-skip-tls-verify)") end
  return client
end

-- YAML text -> list of objects, and an object -> YAML text.
function M.parse_yaml(text)
  local out, err = core.yaml_parse(text)
  if not out then return nil, err end
  return json.decode(out)
end
function M.to_yaml(object) return core.yaml_emit(json.encode(object)) end

return M
