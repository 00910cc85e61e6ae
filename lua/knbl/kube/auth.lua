-- knbl.kube.auth: the credentials for an API server, from a resolved kubeconfig: certificates, tokens, token files that
-- are read again, exec plugins whose credential is kept until it expires, and the groups of --as.
local core = require "knbl.core"
local file = require "knbl.base.file"
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
      ["insecure-skip-tls-verify"] = config.insecure, ["certificate-authority-data"] = config.ca
        and core.base64(config.ca),
      ["proxy-url"] = config.proxy_url }
  end
  return json.encode { apiVersion = exec.apiVersion, kind = "ExecCredential", spec = spec }
end

-- "2026-01-31T12:00:00Z" as seconds since the epoch; nil for another form.
local function epoch(stamp)
  local y, mo, d, h, mi, s = tostring(stamp):match "^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d)"
  if not y then return end
  local days_from_civil = os.time { year = y, month = mo, day = d, hour = h, min = mi, sec = s }
  local utc = os.time(os.date("!*t", days_from_civil))
  return days_from_civil + (days_from_civil - utc)
end
M.epoch = epoch

local parts = { "token", "clientCertificateData", "clientKeyData", "expirationTimestamp" }

-- What is wrong with a credential's status, or nil.
local function status_fault(status)
  for _, key in ipairs(parts) do
    if status[key] ~= nil and type(status[key]) ~= "string" then
      return ("status.%s must be a string, got a %s"):format(key, type(status[key]))
    end
  end
  local certificate, private = status.clientCertificateData, status.clientKeyData
  if status.token and status.token:find "%c" then return "status.token contains control characters" end
  if certificate and not certificate:find("-----BEGIN", 1, true) then
    return "status.clientCertificateData contains no PEM certificate"
  end
  if private and not private:find("-----BEGIN", 1, true) then return "status.clientKeyData contains no PEM key" end
  if (certificate == nil) ~= (private == nil) then
    return "status has clientCertificateData or clientKeyData without the other"
  end
  if not certificate and (status.token or "") == "" then return "status has neither a token nor a certificate" end
  if status.expirationTimestamp and not epoch(status.expirationTimestamp) then
    return ("status.expirationTimestamp must be a time like 2026-01-31T12:00:00Z, got %q"):format(
      status.expirationTimestamp)
  end
end

-- The status of an ExecCredential that a plugin printed, or nil and what is wrong with it.
local function credential_status(printed, api_version)
  local credential = json.decode(printed)
  if type(credential) ~= "table" or type(credential.status) ~= "table" then
    return nil, "it did not print an ExecCredential with a status"
  end
  if api_version and credential.apiVersion ~= api_version then
    return nil, ("it answered as %s, but the kubeconfig asks for %s"):format(tostring(credential.apiVersion),
      api_version)
  end
  local wrong = status_fault(credential.status)
  if wrong then return nil, wrong end
  return credential.status
end

local function run_plugin(config, exec)
  local argv, env = { exec.command }, {}
  for _, a in ipairs(exec.args or {}) do argv[#argv + 1] = a end
  for _, e in ipairs(exec.env or {}) do env[#env + 1] = e.name .. "=" .. (e.value or "") end
  env[#env + 1] = "KUBERNETES_EXEC_INFO=" .. exec_info(config, exec)
  local out, err = core.kube_plugin(argv, env, PLUGIN_TIMEOUT_S)
  if not out then return plugin_error(exec, err) end
  local status, wrong = credential_status(out, exec.apiVersion)
  if not status then
    return nil, { code = "auth", message = ("credential plugin %s: %s"):format(exec.command, wrong) }
  end
  return status
end

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
    local token = text:gsub("%s+$", "")
    if token == "" or token:find "%c" then
      return nil, { code = "auth", message = ("token file: %s contains no token"):format(self.config.token_file) }
    end
    self.token, self.read_at = token, core.now()
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
