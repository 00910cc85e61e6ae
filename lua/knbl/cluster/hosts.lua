-- knbl.cluster.hosts - machines where `knbl agent` runs: --on hosts:a=ADDR[:PORT],b=ADDR[:PORT]. Each is a node, and a
-- pod is the machine itself. The token is that of --token-file or KNBL_TOKEN. A data address apart from the one for
-- control follows it: a=CONTROL[:PORT]/DATA[:PORT].
local agent = require "knbl.measure.agent"
local machines = require "knbl.cluster.machines"

local M = { name = "hosts", default_port = 7099, costs = { open = 0.2 }, via = "host", cannot = machines.cannot }

local EXAMPLE = "--on hosts:a=10.0.0.1,b=10.0.0.2"

-- "10.0.0.1", "10.0.0.1:7100", "[2001:db8::1]:7100", "2001:db8::1", "host.example" -> host, port; or nil.
local function parse_address(text)
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

-- What to do about an agent that does not answer as one.
local function advice(err)
  if err.code == "auth" then
    return "; the token of --token-file or KNBL_TOKEN is not the one that it was started with"
  elseif err.code == "refused" then
    return "; start it there: knbl agent --token-file FILE, or use --on ssh:USER@HOST"
  elseif err.code == "protocol" and not err.message:find "not a knbl agent" then
    return "; what answers there is not a knbl agent"
  end
  return ""
end

local Hosts = {}

-- Asks the agent who it is; it must answer before a run begins.
function Hosts:reach(machine)
  local url = ("http://%s:%d"):format(bracketed(machine.host), machine.port)
  local data, port = machine.data or machine.host, machine.data_port or machine.port
  local endpoint = {
    kind = "node", name = machine.name, node = machine.name, port = port, token = self.token, control = { url = url },
    addresses = data:find(":", 1, true) and { v6 = data } or { v4 = data },
  }
  local about, err = agent.about(endpoint, self.core)
  if not about then
    return nil, { code = err.code, message = ("%s (%s): %s%s"):format(machine.name, url, err.message, advice(err)) }
  end
  self:learn(machine, about)
  endpoint.agent, endpoint.cpus = about.name, tonumber(about.cpus)
  return endpoint
end

-- "a=10.0.0.1:7099/192.168.0.1" -> { name, host, port, data?, data_port? } | nil, err
local function machine_of(pair, i)
  local name, text = pair[1], pair[2]
  if not text then name, text = "host-" .. i, pair[1] end
  local address, data = text:match "^([^/]+)/(.+)$"
  local host, port = parse_address(address or text)
  local data_host, data_port
  if data then data_host, data_port = parse_address(data) end
  if not host or data and not data_host then
    return nil, { code = "usage", message = ("--on hosts: '%s' must be ADDRESS[:PORT] or ADDRESS[:PORT]/DATA_ADDRESS, \z
      as in %s"):format(text, EXAMPLE) }
  end
  return { name = name, host = host, port = port, data = data_host,
    data_port = data and (data:find ":%d+$" and data_port or port) }
end

local function list_of(options)
  if #options.pairs == 0 then return nil, { code = "usage", message = "--on hosts needs hosts: " .. EXAMPLE } end
  return machines.list(options, machine_of)
end

M.check = list_of

function M.names_of(options) return machines.names(list_of(options)) end

function M.open(options)
  if not options.token_given then
    return nil, { code = "usage",
      message = "--on hosts needs the token of the agents: --token-file FILE, or KNBL_TOKEN" }
  end
  local list, err = list_of(options)
  if not list then return nil, err end
  return machines.new(list, Hosts, { token = options.token, core = options.core })
end

return M
