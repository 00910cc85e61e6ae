-- A faulty API server for tests: ./knbl tests/kube/faulty.lua FOLDER [ADDRESS PORT [plain]]. It speaks HTTPS
-- (build/tests/kube/https.so), or with "plain" HTTP, one request a connection. FOLDER/answers.lua returns the answers,
-- in order; the last one is repeated. An answer is a table, or a function of the request:
--   { status =, headers =, body = }
--   { reset = true }: resets the connection before an answer
--   { silent = true }: sends nothing until the client disconnects
--   { cut = text }: breaks in the middle of this body
--   { lines = { … }, after = "close" | "reset" | "hold" }: a stream of lines, and then what happens
-- It exits when FOLDER/port is removed. It writes each request to FOLDER/asked as a line of JSON, and its certificate
-- to FOLDER/ca.pem.
package.cpath = (os.getenv "B" or "build") .. "/tests/kube/?.so;" .. package.cpath
local https = require "https"
local json = require "knbl.json"

local folder, address, fixed_port, plain = ...

local function read(name)
  local f = io.open(folder .. "/" .. name)
  local text = f and f:read "a"
  if f then f:close() end
  return text
end

local function write(name, text, mode)
  local f = assert(io.open(folder .. "/" .. name, mode or "w"))
  f:write(text)
  f:close()
end

-- ---- functions for answers ----

local words = setmetatable({ json = json, folder = folder, write = write }, { __index = _G })
function words.ok(object) return { status = 200, body = json.encode(object) } end
function words.status(code, reason, message, headers)
  return { status = code, headers = headers, body = json.encode { kind = "Status", apiVersion = "v1",
    status = "Failure", code = code, reason = reason, message = message } }
end
function words.event(kind, object) return json.encode { type = kind, object = object } end
function words.object(name, version) return { metadata = { name = name, uid = name, resourceVersion = version } } end
function words.list(version, items, more)
  return words.ok { metadata = { resourceVersion = version, continue = more }, items = json.array(items) }
end

-- The discovery document of a group.
function words.kinds(...)
  local list = json.array {}
  for _, kind in ipairs { ... } do
    list[#list + 1] = { name = kind:lower() .. "s", kind = kind, namespaced = kind ~= "Namespace" and kind ~= "Node" }
    list[#list + 1] = { name = kind:lower() .. "s/status", kind = kind, namespaced = list[#list].namespaced }
  end
  return words.ok { kind = "APIResourceList", resources = list }
end

local core_group = words.kinds("ConfigMap", "Event", "Namespace", "Node", "Pod", "Secret", "ServiceAccount")

-- ---- one request ----

local function take_request(conn)
  local text = ""
  while not text:find("\r\n\r\n", 1, true) do
    local more = conn:read(10)
    if not more then return nil end
    text = text .. more
  end
  local head, body = text:match "^(.-\r\n)\r\n(.*)$"
  local method, path = head:match "^(%S+) (%S+)"
  local headers = {}
  for name, value in head:gmatch "\n([^:\r\n]+): *([^\r\n]*)" do
    name = name:lower()
    headers[name] = headers[name] and headers[name] .. " & " .. value or value
  end
  while #body < (tonumber(headers["content-length"]) or 0) do
    local more = conn:read(10)
    if not more then return nil end
    body = body .. more
  end
  return { method = method, path = path, headers = headers, body = body,
    object = body ~= "" and json.decode(body) or nil }
end

local function head_of(answer, length)
  local lines = { ("HTTP/1.1 %d X"):format(answer.status or 200), "Content-Type: application/json",
    "Connection: close" }
  if length then lines[#lines + 1] = "Content-Length: " .. length end
  for name, value in pairs(answer.headers or {}) do
    for _, v in ipairs(type(value) == "table" and value or { value }) do lines[#lines + 1] = name .. ": " .. v end
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

local function give(conn, answer)
  if answer.reset then return conn:reset() end
  if answer.silent then
    conn:read(60)
    return conn:close()
  end
  if answer.cut then
    conn:write(head_of(answer, #answer.cut + 100) .. answer.cut)
    return conn:reset()
  end
  if not answer.lines then
    conn:write(head_of(answer, #answer.body) .. answer.body)
    return conn:close()
  end
  conn:write(head_of(answer))
  for i, line in ipairs(answer.lines) do conn:write(line .. (i == #answer.lines and answer.torn and "" or "\n")) end
  if answer.after == "reset" then return conn:reset() end
  if answer.after == "hold" then conn:read(20) end
  conn:close()
end

local text, answers, at

local function answer_to(request)
  if request.path:match "^/api/v1$" then return core_group end
  local now = read "answers.lua"
  if now ~= text then
    text, at = now, 0
    answers = assert(load(now, "answers", "t", words))()
  end
  at = at + 1
  write("asked", json.encode(request) .. "\n", "a")
  local answer = answers[math.min(at, #answers)]
  if type(answer) == "function" then answer = answer(request) end
  return answer
end

local listener, pem = https.listen(address or "127.0.0.1", tonumber(fixed_port), plain)
write("ca.pem", pem)
write("port.new", tostring(listener:port()))
os.rename(folder .. "/port.new", folder .. "/port")
while read "port" do
  local conn = listener:accept(0.2)
  local request = conn and take_request(conn)
  if request then give(conn, answer_to(request)) elseif conn then conn:close() end
end
