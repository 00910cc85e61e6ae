-- knbl lab - a shell in a cluster of namespaces, to use any tool on its paths; `in NAME COMMAND` runs one in a pod or
-- on a node (in shells other than bash, where `in` is reserved: `on NAME COMMAND`).
local args = require "knbl.base.args"
local errors = require "knbl.base.errors"
local json = require "knbl.json"

local M = {
  summary = "Starts a shell in a cluster of namespaces. There, `in NAME COMMAND` runs a program in a pod or on a \z
    node; `on` does too, where the shell reserves `in`.",
  usage = "knbl lab [OPTIONS] [COMMAND…]          e.g. knbl lab in client ping -c 3 server",
  flags = {
    { name = "nodes", value = "N", kind = "count", help = "number of nodes", default = "2" },
    { name = "pods", value = "N", kind = "count",
      help = "make pod-1 to pod-N, on the nodes in turn [a client, a server and a Service]" },
    { name = "mtu", value = "BYTES", kind = "count", help = "MTU between the nodes", default = "1500" },
    { name = "overlay", value = "KIND", choices = { "none", "vxlan" }, help = "overlay of the nodes: none or vxlan",
      default = "none" },
    { name = "families", value = "WHICH", choices = { "dual", "4", "6" }, help = "IP families: dual, 4 or 6" },
    { name = "services", value = "N", kind = "count", help = "number of additional, idle Services", default = "0" },
    { name = "mode", value = "KIND", choices = { "maps", "chains" },
      help = "rules for Services: maps (nftables) or chains (iptables)", default = "maps" },
    { name = "help", short = "-h", help = "print this help" },
  },
  raw = true,       -- the arguments after the first word are the command's, with its options
}

local function parse(core, words)
  local values, i = {}, 1
  while words[i] and words[i]:sub(1, 1) == "-" do
    if words[i] == "--" then return values, table.move(words, i + 1, #words, 1, {}) end
    i = i + (args.take(core, M.flags, words, i, values) or args.unknown(core, M.flags, words[i]))
  end
  return values, table.move(words, i, #words, 1, {})
end

local function ask(lab, request)
  local text, err = lab:request(json.encode(request))
  if not text then errors.raise(errors.from(err), "lab") end
  return json.decode(text)
end

local function populate(lab, values)
  local things, nodes = {}, values.nodes or 2
  for i = 1, nodes do things[i] = ask(lab, { op = "node", name = "node-" .. i }) end
  local function pod(name, on) things[#things + 1] = ask(lab, { op = "pod", name = name, node = "node-" .. on }) end
  for i = 1, values.pods or 0 do pod("pod-" .. i, (i - 1) % nodes + 1) end
  if not values.pods then
    pod("client", 1)
    pod("server", nodes)
    things[#things + 1] = ask(lab, { op = "service", name = "service", endpoints = { "server" }, type = "NodePort" })
  end
  return things
end

local function describe(thing)
  if thing.kind == "pod" then return "pod on " .. thing.node end
  if thing.kind == "service" then return "Service over " .. table.concat(thing.endpoints, ", ") end
  return thing.kind
end

local function banner(things, word)
  local lines, wide, wider = {}, 0, 0
  for _, thing in ipairs(things) do
    wide, wider = math.max(wide, #thing.name), math.max(wider, #describe(thing))
  end
  for _, thing in ipairs(things) do
    local ports = thing.node_port and (", on nodes %d"):format(thing.node_port) or ""
    lines[#lines + 1] = ("  %-" .. wide .. "s  %-" .. wider .. "s  %s port %d%s"):format(thing.name, describe(thing),
      table.concat(thing.ip, " "),
      thing.port, ports)
  end
  lines[#lines + 1] = ("`%s NAME COMMAND` runs a program there; all of them know these names.\n"):format(word)
    .. "The lab ends with the shell."
  return table.concat(lines, "\n") .. "\n"
end

-- From the shell of a lab into one of its pods.
local function enter(context, words)
  if #words < 3 then errors.usage("usage: in NAME COMMAND…") end
  local text, err = context.core.lab_exec(json.encode { op = "exec", ["in"] = words[2],
    argv = table.move(words, 3, #words, 1, {}) })
  if not text then errors.raise(errors.from(err), "in") end
  return json.decode(text).status
end

local function run(context, values, words)
  local options = { token = context.core.token() }
  for _, key in ipairs { "mtu", "overlay", "families", "services", "mode" } do options[key] = values[key] end
  local lab <close>, err = context.core.lab(json.encode(options))
  if not lab and err.code == "argument" then errors.usage("--%s", err.message) end
  if not lab then errors.raise(errors.new("unavailable", err.message), "no lab") end
  local things = populate(lab, values)
  local shell = #words == 0
  -- not in the command line of env(1), which every user of the machine can read
  local env = { PATH = "/run/knbl/bin:" .. (os.getenv "PATH" or "/usr/bin:/bin"), KNBL_TOKEN = options.token,
    BASH_ENV = "/run/knbl/rc" }
  if shell then
    words = { os.getenv "SHELL" or "/bin/sh" }
    local bash = words[1]:match "[^/]*$" == "bash"
    if bash then words = { words[1], "--rcfile", "/run/knbl/rc" } end
    context.err(banner(things, bash and "in" or "on"))
  end
  return ask(lab, { op = "exec", argv = words, env = env, shell = shell }).status
end

function M.run(context, _, words)
  local values, rest = parse(context.core, words)
  if values.help then
    context.out(("%s\n\n  %s\n\n%s\n"):format(M.summary, M.usage, args.help(M.flags)))
    return 0
  end
  for _, key in ipairs { "nodes", "pods" } do
    if values[key] and values[key] < 1 then errors.usage("--%s must be at least 1, got %d", key, values[key]) end
  end
  if rest[1] == "in" and context.core.lab_exec and os.getenv "KNBL_LAB" then return enter(context, rest) end
  return run(context, values, rest)
end

return M
