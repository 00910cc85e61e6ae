-- knbl.kube.auth: who we are to an API server, from a resolved kubeconfig: certificates, tokens, token files that are read
-- again, plugins whose answer is kept until it expires, and the groups of --as.
local core = require "knbl.core"
local file = require "knbl.file"
local json = require "knbl.json"

local M = {}
local Auth = {}
Auth.__index = Auth

local REREAD_S = 60
local PLUGIN_TIMEOUT_S = 60

function M.new(config)
  return setmetatable({ config = config, read_at = -math.huge }, Auth)
end

local function plugin_error(exec, err)
  local hint = exec.installHint
  if hint and err.code == "argument" then err.message = err.message .. "\n" .. hint end
  return nil, err
end

-- The plugin's input: what it is asked for, and which cluster where it wants to know.
local function exec_info(config, exec)
  local spec = { interactive = false }
  if exec.provideClusterInfo then
    spec.cluster = { server = config.server, ["tls-server-name"] = config.tls_server_name,
      ["insecure-skip-tls-verify"] = config.insecure, ["certificate-authority-data"] = config.ca and core.base64(config.ca),
      ["proxy-url"] = config.proxy_url }
  end
  return json.encode { apiVersion = exec.apiVersion, kind = "ExecCredential", spec = spec }
end

local function run_plugin(config, exec)
  local argv, env = { exec.command }, {}
  for _, a in ipairs(exec.args or {}) do argv[#argv + 1] = a end
  for _, e in ipairs(exec.env or {}) do env[#env + 1] = e.name .. "=" .. e.value end
  env[#env + 1] = "KUBERNETES_EXEC_INFO=" .. exec_info(config, exec)
  local out, err = core.kube_plugin(argv, env, PLUGIN_TIMEOUT_S)
  if not out then return plugin_error(exec, err) end
  local ok, credential = pcall(json.decode, out)
  if not ok or type(credential) ~= "table" or type(credential.status) ~= "table" then
    return nil, { code = "auth", message = ("credential plugin %s: it printed no ExecCredential"):format(exec.command) }
  end
  if exec.apiVersion and credential.apiVersion ~= exec.apiVersion then
    return nil, { code = "auth", message = ("credential plugin %s: it answers as %s, the kubeconfig asks for %s"):format(exec.command,
      tostring(credential.apiVersion), exec.apiVersion) }
  end
  return credential.status
end

-- "2026-01-31T12:00:00Z" as seconds since the epoch; nil for another form.
local function epoch(stamp)
  local y, mo, d, h, mi, s = (stamp or ""):match "^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)"
  if not y then return end
  local days_from_civil = os.time { year = y, month = mo, day = d, hour = h, min = mi, sec = s }
  local utc = os.time(os.date("!*t", days_from_civil))
  return days_from_civil + (days_from_civil - utc)
end
M.epoch = epoch

function Auth:plugin_credential()
  local kept = self.credential
  if kept and (not kept.expires or kept.expires > os.time() + 10) then return kept end
  local status, err = run_plugin(self.config, self.config.exec)
  if not status then return nil, err end
  self.credential = { token = status.token, cert = status.clientCertificateData, key = status.clientKeyData,
    expires = epoch(status.expirationTimestamp) }
  return self.credential
end

function Auth:file_token()
  if core.now() - self.read_at > REREAD_S then
    local text, why = file.read(self.config.token_file, 1048576)
    if not text then return nil, { code = "auth", message = "token file: " .. why } end
    self.token = text:gsub("%s+$", "")
    self.read_at = core.now()
  end
  return self.token
end

-- What a request carries: headers, and a certificate where there is one.
function Auth:apply(headers, tls)
  local config = self.config
  tls.cert, tls.key = config.cert, config.key
  local token, err = config.token, nil
  if config.token_file then
    token, err = self:file_token()
    if not token then return nil, err end
  elseif config.exec and not token then
    local credential
    credential, err = self:plugin_credential()
    if not credential then return nil, err end
    token = credential.token
    if credential.cert then tls.cert, tls.key = credential.cert, credential.key end
  end
  if token then
    headers.Authorization = "Bearer " .. token
  elseif config.username then
    headers.Authorization = "Basic " .. core.base64(config.username .. ":" .. (config.password or ""))
  end
  if config.as then headers["Impersonate-User"] = config.as end
  for i, group in ipairs(config.as_groups or {}) do headers[i] = "Impersonate-Group: " .. group end -- a header for each
  return true
end

-- After a 401: forget what can be had anew. False: there is nothing to try again with.
function Auth:renew()
  if self.config.token_file then
    local old = self.token
    self.read_at = -math.huge
    return self:file_token() ~= nil and self.token ~= old
  elseif self.config.exec and self.credential then
    self.credential = nil
    return true
  end
  return false
end

return M
