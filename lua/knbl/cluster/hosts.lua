-- knbl.cluster.hosts - machines where `knbl agent` runs: --on hosts:a=ADDR[:PORT],b=ADDR[:PORT]. Each is a node; there are no
-- pods and no Services, so what needs them is skipped. The token is that of --token-file or KNBL_TOKEN.
local agent = require "knbl.agent"

local M = { name = "hosts", default_port = 7099 }

local Provider = {}
Provider.__index = Provider

-- "10.0.0.1", "10.0.0.1:7100", "[2001:db8::1]:7100", "2001:db8::1", "host.example" -> host, port; or nil.
function M.parse_address(text)
  local host, port = text:match("^%[([%x:.]+)%]:?(%d*)$")
  if not host and select(2, text:gsub(":", "")) > 1 then host, port = text:match("^([%x:.]+)$"), "" end
  if not host then host, port = text:match("^([%w._-]+):?(%d*)$") end
  if not host then return nil end
  if port == "" and text:sub(-1) == ":" then return nil end
  port = port ~= "" and tonumber(port) or M.default_port
  if port < 1 or port > 65535 then return nil end
  return host, port
end

local function bracketed(host)
  return host:find(":", 1, true) and "[" .. host .. "]" or host
end

-- Asks the agent who it is; it must answer before a run begins.
local function greet(self, host)
  local url = ("http://%s:%d"):format(bracketed(host.host), host.port)
  local endpoint = {
    kind = "node", name = host.name, node = host.name, port = host.port, token = self.token, control = { url = url },
    addresses = host.host:find(":", 1, true) and { v6 = host.host } or { v4 = host.host },
  }
  local about, err = agent.about(endpoint, self.core)
  if not about then
    local advice = err.code == "auth" and "; the secret of --token-file or KNBL_TOKEN is not the one that it was started with"
      or err.code == "refused" and "; start it there: knbl agent --token-file FILE" or ""
    return nil, { code = err.code, message = ("%s (%s): %s%s"):format(host.name, url, err.message, advice) }
  end
  self.about[host.name], endpoint.agent = about, about.name
  return endpoint
end

function Provider:node(which)
  local host = self.by[which]
  if not host then
    if type(which) == "number" then
      return nil, { code = "skip", message = ("only %d host%s given with --on"):format(#self.hosts, #self.hosts == 1 and " is" or "s are") }
    end
    return nil, { code = "argument", message = "no host of that name is given with --on" }
  end
  if not host.endpoint then
    local endpoint, err = greet(self, host)
    if not endpoint then return nil, err end
    host.endpoint = endpoint
  end
  return host.endpoint
end

function Provider:pod() -- luacheck: no self
  return nil, { code = "skip", message = "hosts have no pods: only paths between nodes can be measured" }
end

function Provider:service() -- luacheck: no self
  return nil, { code = "skip", message = "hosts have no Services" }
end

function Provider:delete() -- luacheck: no self
  return true
end

function Provider:environment()
  local hosts = {}
  for _, host in ipairs(self.hosts) do
    local about = self.about[host.name]
    if not about then
      self:node(host.name)
      about = self.about[host.name]
    end
    hosts[host.name] = about and {
      kernel = about.kernel or "unknown", cpus = about.cpus or "unknown", version = about.version, agent = about.name,
    } or { kernel = "unknown" }
  end
  return { hosts = hosts }
end

function Provider:close() -- luacheck: no self
end

function M.open(options)
  local example = "--on hosts:a=10.0.0.1,b=10.0.0.2"
  if #options.pairs == 0 then return nil, { code = "usage", message = "which hosts? " .. example } end
  if not options.token_given then
    return nil, { code = "usage", message = "hosts need the secret of their agents: --token-file FILE, or KNBL_TOKEN" }
  end
  local self = setmetatable({ hosts = {}, by = {}, about = {}, token = options.token, core = options.core }, Provider)
  for i, pair in ipairs(options.pairs) do
    local name, text = pair[1], pair[2]
    if not text then name, text = "host-" .. i, pair[1] end
    local host, port = M.parse_address(text)
    if not host then return nil, { code = "usage", message = ("'%s' is no address: %s"):format(text, example) } end
    if self.by[name] then return nil, { code = "usage", message = ("two hosts named '%s'"):format(name) } end
    local entry = { name = name, host = host, port = port }
    self.hosts[i], self.by[i], self.by[name] = entry, entry, entry
  end
  self.nodes = #self.hosts
  return self
end

return M
