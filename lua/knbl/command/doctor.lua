-- knbl doctor - what this machine can do, found out by trying; a line each, and what to do about a no.
local errors = require "knbl.errors"
local json = require "knbl.json"
local machine = require "knbl.machine"

local M = {
  summary = "What this machine can do, and what to do about the rest.",
  usage = "knbl doctor [--kubeconfig FILE] [--context NAME] [--json]",
  flags = {
    { name = "kubeconfig", value = "FILE", help = "the cluster of this kubeconfig" },
    { name = "context", value = "NAME", help = "a context of it" },
    { name = "json", help = "as JSON: a list of {name, ok, text, advice}" },
  },
}

-- ---- what probes share ----

local function yes(text) return { ok = true, text = text } end
local function no(text, advice) return { ok = false, text = text, advice = advice } end

-- ---- the probes, in the order of their lines ----

-- A whole lab, for that is what it is for; its own words say what forbids one.
local function lab(core)
  local started = core.now()
  local opened, err = core.lab "{}"
  if not opened then return no(err.message, "see user namespaces in the manual, or run knbl with sudo") end
  local node, why = opened:request '{"op":"node"}'
  local ms = (core.now() - started) * 1000
  opened:close()
  if not node then return no(why.message) end
  return yes(("a lab stood after %.0f ms"):format(ms))
end

-- A line for each runtime of the lab's pods: how it would run here, or why it cannot.
local function runtimes(core)
  local opened, err = core.lab "{}"
  if not opened then return { no("needs a lab: " .. err.message) } end
  local answer, why = opened:request '{"op":"runtimes"}'
  opened:close()
  if not answer then return { no(why.message) } end
  local findings = {}
  for i, r in ipairs(json.decode(answer).runtimes) do
    local words = {}
    for _, key in ipairs { "version", "platform", "network" } do words[#words + 1] = r[key] end
    if r.limits then words[#words + 1] = "limits of its pods: " .. r.limits end
    findings[i] = r.ok and yes(table.concat(words, ", ")) or no(r.reason)
    findings[i].name, findings[i].advice = r.name, r.advice
  end
  return findings
end

local function profiles(core)
  local ok, err = core.probe "perf"
  if not ok then return no(err.message) end -- which says what to do
  return yes("sampling with kernel stacks" .. (core.probe "counters" and ", hardware counters" or "; no hardware counters here"))
end

local function ping(core)
  if core.probe "icmp" then return yes "ICMP sockets" end
  if core.probe "raw" then return yes "raw sockets (ICMP sockets are not allowed here)" end
  local _, err = core.probe "icmp"
  return no(err.message, "as root: sysctl -w net.ipv4.ping_group_range='0 2147483647', or give knbl CAP_NET_RAW")
end

local function ipv6(core)
  local ok, err = core.probe "ipv6"
  if not ok then return no(err.message, "the kernel has it switched off; measurements keep to IPv4") end
  local addresses = machine.line "/proc/net/if_inet6"
  return addresses and yes "is there" or no("no interface has an address", "sysctl net.ipv6.conf.all.disable_ipv6 says whether it is off")
end

local function conntrack()
  local most = tonumber(machine.line "/proc/sys/net/netfilter/nf_conntrack_max" or "")
  local count = tonumber(machine.line "/proc/sys/net/netfilter/nf_conntrack_count" or "")
  if not most or not count then return no("its table cannot be read", "it is not loaded (modprobe nf_conntrack), or hidden here") end
  local text = ("%d of %d entries in use"):format(count, most)
  if count > 0.8 * most then return no(text, "as root: sysctl -w net.netfilter.nf_conntrack_max=" .. most * 4) end
  return yes(text)
end

local function cpus(core)
  local n, quota = core.cpus()
  local text = ("%d for this process%s"):format(n, quota and (", a quota of %.4g"):format(quota) or ", no quota")
  if n < 2 then return no(text, "client and server will share one CPU: their figures are of both") end
  return yes(text)
end

local function congestion()
  local now = machine.line "/proc/sys/net/ipv4/tcp_congestion_control"
  if not now then return no("cannot be read") end
  return yes(("%s (there are: %s)"):format(now, machine.line "/proc/sys/net/ipv4/tcp_available_congestion_control" or now))
end

local function cluster(_, values)
  local api, err = require("knbl.kube").connect { kubeconfig = values.kubeconfig, context = values.context, on_warning = function() end }
  if not api then return no(err.message) end -- which says what to do
  local version, why = api:request("GET", "/version", { retry = 0, timeout = 3 })
  if not version then return no(why.message, "see that its API server can be reached from here, and the credentials are good") end
  return yes(("%s answers, %s"):format(api.config.server, version.gitVersion or "of an unknown version"))
end

local probes = {
  { "lab", lab }, { "runtimes", runtimes }, { "cluster", cluster }, { "profiles", profiles }, { "ping", ping }, { "ipv6", ipv6 },
  { "conntrack", conntrack }, { "cpus", cpus }, { "congestion", congestion },
}

-- What fails without having been foreseen is a line as well: a doctor does not fall ill. `tell` hears of each finding as soon as it is made.
local function examine(core, values, tell)
  for _, probe in ipairs(probes) do
    local ok, found = pcall(probe[2], core, values)
    if not ok then found = no(tostring(type(found) == "table" and found.message or found)) end
    for _, finding in ipairs(found.text and { found } or found) do
      finding.name = finding.name or probe[1]
      tell(finding)
    end
  end
end

function M.run(context, values, words)
  if words[1] then errors.usage("'%s' is too much: knbl doctor takes options only", words[1]) end
  if values.json then
    local findings = json.array {}
    examine(context.core, values, function(f) findings[#findings + 1] = f end)
    context.out(json.encode(findings) .. "\n")
    return 0
  end
  examine(context.core, values, function(f)
    context.out(("%-11s %-4s %s%s\n"):format(f.name, f.ok and "yes" or "no", f.text, f.advice and "; " .. f.advice or ""))
    io.stdout:flush() -- runtimes take seconds to try
  end)
  return 0
end

return M
