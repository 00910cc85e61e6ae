-- knbl.cluster.machines - what clusters of plain machines (hosts, ssh) share: each machine is a node with one agent,
-- and a pod is the machine itself. There are no Services.
local errors = require "knbl.base.errors"

local M = {}

M.cannot = {
  service = "hosts have no Services", exec = "hosts run no programs beside their agents",
  create = "hosts creates no objects: it is not Kubernetes", runtime = "a host has no runtimes",
  image = "a host runs no images", mtu = "the MTU of a host is its own", bandwidth = "a host has no bandwidth limit",
  cpu = "a host has no CPU limit", memory = "a host has no memory limit",
}

local Machines = {}
Machines.__index = Machines

function Machines:node(which)
  local machine = self.by[which]
  if not machine and type(which) == "number" then
    return errors.skip("this needs %d hosts, --on gives %d", which, #self.machines)
  elseif not machine then
    return nil, { code = "argument", message = ("there is no host '%s'; --on gives: %s"):format(which,
      table.concat(M.names(self.machines), ", ")) }
  end
  if not machine.endpoint then
    local endpoint, err = self:reach(machine)
    if not endpoint then return nil, err end
    machine.endpoint = endpoint
  end
  return machine.endpoint
end

-- The first machine that is no pod yet, or the one that is asked for.
local function machine_for_pod(self, node)
  for _, machine in ipairs(self.machines) do
    if not machine.pod and (not node or machine.name == node) then return machine end
  end
  if node then return errors.skip("on host %s one pod can be measured: the host itself", node) end
  return errors.skip("a pod is a host here, and all %d of them are taken", #self.machines)
end

function Machines:pod(t)
  local machine, err = machine_for_pod(self, t.node)
  if not machine then return nil, err end
  local node
  node, err = self:node(machine.name)
  if not node then return nil, err end
  machine.pod = t.name
  local endpoint = {}
  for key, value in pairs(node) do endpoint[key] = value end
  endpoint.kind, endpoint.name, endpoint.node = "pod", t.name, machine.name
  return endpoint
end

function Machines:delete(name)
  for _, machine in ipairs(self.machines) do
    if machine.pod == name then machine.pod = nil end
  end
  return true
end

-- Keeps what a machine's agent says of it.
function Machines:learn(machine, about)
  self.about[machine.name] = about
end

function Machines:environment()
  local hosts = {}
  for _, machine in ipairs(self.machines) do
    if not self.about[machine.name] then self:node(machine.name) end
    local about = self.about[machine.name]
    hosts[machine.name] = about and {
      kernel = about.kernel or "unknown", cpus = about.cpus or "unknown", version = about.version, agent = about.name,
    } or { kernel = "unknown" }
  end
  return { hosts = hosts }
end

-- A firewall is the usual reason why two machines that both can be reached do not reach each other.
function Machines:explain_path(endpoints, code) -- luacheck: no self
  local to = endpoints[2]
  if not to or not to.port or code == "permission" then return nil end -- that is about the sender alone
  return ("; measurements go straight from host to host: a firewall must let TCP and UDP port %d of %s pass"):format(
    to.port, to.node or to.name)
end

function Machines:close() end -- luacheck: no self

-- Those of a list of { name, … } that --nodes chooses: so many, or those with these names. -> list | nil, err
local function chosen_of(list, settings)
  local most, names, by = settings and settings.nodes, settings and settings.node_names, {}
  if not most and not names then return list end
  local chosen, known = {}, M.names(list)
  for _, one in ipairs(list) do by[one.name] = one end
  for i, name in ipairs(names or known) do
    if not by[name] then
      return nil, { code = "usage", message = ("--nodes: there is no host '%s'; --on gives: %s"):format(name,
        table.concat(known, ", ")) }
    end
    if i <= (most or #names) then chosen[i] = by[name] end
  end
  if most and most > #list then
    return nil, { code = "usage", message = ("--nodes %d: --on gives %d"):format(most, #list) }
  end
  return chosen
end

-- The machines of a command line: parse(pair, i) -> { name, … } | nil, err of each.
function M.list(options, parse)
  local list = {}
  for i, pair in ipairs(options.pairs) do
    local machine, err = parse(pair, i)
    if not machine then return nil, err end
    list[i] = machine
  end
  return chosen_of(list, not options.lone and options.settings)
end

function M.names(list)
  local names = {}
  for i, one in ipairs(list) do names[i] = one.name end
  return names
end

-- machines: a list of { name, … }; class: a table with reach(self, machine) -> endpoint | nil, err, and what else
-- differs.
function M.new(machines, class, more)
  setmetatable(class, Machines)
  class.__index = class
  local self = setmetatable({ machines = machines, by = {}, about = {}, nodes = #machines }, class)
  for key, value in pairs(more) do self[key] = value end
  for i, machine in ipairs(machines) do
    if self.by[machine.name] then
      return nil, { code = "usage",
        message = ("two hosts are named '%s'; name them apart: a=…,b=…"):format(machine.name) }
    end
    self.by[i], self.by[machine.name] = machine, machine
  end
  return self
end

return M
