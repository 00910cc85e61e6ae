-- knbl.cluster.opening - from what a script and the command line ask for to the cluster of a provider.
local checks = require "knbl.cluster.check"
local contract = require "knbl.cluster.provider"
local errors = require "knbl.base.errors"
local file = require "knbl.base.file"

local M = {}

-- "k8s:a=b,c" as its name, what follows it, and that as pairs.
local function split_on(text)
  local name, rest = text:match("^([^:]+):?(.*)$")
  local list = {}
  for item in (rest or ""):gmatch("[^,]+") do
    local key, value = item:match("^([^=]+)=(.*)$")
    list[#list + 1] = { key or item, value }
  end
  return name, rest ~= "" and rest or nil, list
end

-- The secret of the agents, and whether the user gave it.
local function token_of(s)
  if s.plan then return "", true end
  local path, token, whose = s.settings.token_file, os.getenv "KNBL_TOKEN", "KNBL_TOKEN"
  if path then
    local text, err = file.read_token(path)
    if not text then errors.usage("--token-file: %s", err) end
    token, whose = text, "--token-file: " .. path
  elseif not token or token == "" then
    return s.core.token(), false
  end
  if #token < 16 then errors.usage("%s: a token has at least 16 characters, got %d", whose, #token) end
  return token, true
end

-- What a provider is told: the keys of the script, what the command line says, and what it works with.
local function options_of(s, t, name, on, pairs_of_on)
  local options = {}
  for key, value in pairs(t) do options[key] = value end
  options.on, options.pairs, options.settings = on, pairs_of_on, s.settings
  options.token, options.token_given = token_of(s)
  options.nodes = s.settings.nodes or options.nodes
  options.core, options.provider, options.plan, options.expected, options.scenario = s.core, name, s.plan, s.expected,
    s.script
  return options
end

-- Refuses what only the provider can judge.
local function check_options(module, options)
  local ok, err
  if module.check then ok, err = module.check(options) else ok = true end
  if ok then return end
  if err.code == "usage" then errors.usage("%s", err.message) end
  errors.misuse("cluster: %s", err.message)
end

local function open_provider(s, module, options, t)
  local reason = checks.misshapen(module, t)
  if reason then
    if s.plan then s.plan:add_cluster(module.name) end
    return contract.nowhere(reason)
  end
  check_options(module, options)
  if not s.plan then return module.open(options) end
  if s.settings.manifests and module.plan then return module.plan(options) end
  return require("knbl.cluster.plan").open(options, module)
end

-- LuaJIT has no lab. Figures of loopback must not pass for those of a network.
local function default_provider()
  if not rawget(_G, "jit") then return "lab" end
  require "knbl.base.say" "knbl: LuaJIT has no lab: this measures over loopback (--on hosts:… names a network)\n"
  return "loopback"
end

-- where: what stands in for --on: "PROVIDER:…"; lone: it is one host, which --nodes is not about. -> the provider's
-- cluster, its module, and the options it was given
function M.open(s, t, where, lone)
  local name, on, pairs_of_on = t.provider, nil, {}
  if where then name, on, pairs_of_on = split_on(where) end
  name = name or default_provider()
  local module = contract.load(s.core, name)
  checks.check_cluster(s.core, module, t)
  s:check_words()
  local options = options_of(s, t, name, on, pairs_of_on)
  options.lone = lone
  local provider, err = open_provider(s, module, options, t)
  if not provider then
    local failure = errors.from(err, "unavailable")
    if failure.code ~= "usage" and failure.code ~= "interrupted" then
      failure = errors.new("unavailable", failure.message)
    end
    errors.raise(failure, "no cluster (" .. name .. ")")
  end
  return provider, module, options
end

return M
