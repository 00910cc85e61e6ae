-- knbl doctor - tries what this machine supports; one line for each check, with the remedy if it fails.
local errors = require "knbl.base.errors"
local json = require "knbl.json"
local machine = require "knbl.base.machine"

local M = {
  summary = "Checks what this machine supports, and what to do about the rest.",
  usage = "knbl doctor [--pmtu [--on PROVIDER]] [--kubeconfig FILE] [--context NAME] [--json]",
  flags = {
    { name = "kubeconfig", value = "FILE", help = "kubeconfig of the cluster to check" },
    { name = "context", value = "NAME", help = "context in the kubeconfig" },
    { name = "pmtu", help = "also measure the path MTU between pods and nodes, which takes some seconds" },
    { name = "on", value = "PROVIDER[:…]", help = "where --pmtu measures, as for knbl run [lab]" },
    { name = "json", help = "print JSON: a list of {name, ok, text, advice}" },
  },
}

-- ---- results of a check ----

local function yes(text) return { ok = true, text = text } end
local function no(text, advice) return { ok = false, text = text, advice = advice } end

-- ---- the checks, in the order of their lines ----

-- Opens a lab; its error message says what is missing.
local function lab(core)
  local started = core.now()
  local opened, err = core.lab "{}"
  if not opened then return no(err.message, "allow user namespaces (man user_namespaces), or run knbl with sudo") end
  local node, why = opened:request '{"op":"node"}'
  local ms = (core.now() - started) * 1000
  opened:close()
  if not node then return no(why.message) end
  return yes(("a lab was ready after %.0f ms"):format(ms))
end

-- A line for each runtime of the lab's pods: how it runs here, or why it does not.
local function runtimes(core)
  local opened, err = core.lab "{}"
  if not opened then return { no("requires a lab: " .. err.message) } end
  local answer, why = opened:request '{"op":"runtimes"}'
  opened:close()
  if not answer then return { no(why.message) } end
  local findings = {}
  for i, r in ipairs(json.decode(answer).runtimes) do
    local words = {}
    for _, key in ipairs { "version", "platform", "network" } do words[#words + 1] = r[key] end
    if r.limits then words[#words + 1] = "limits for pods: " .. r.limits end
    findings[i] = r.ok and yes(table.concat(words, ", ")) or no(r.reason)
    findings[i].name, findings[i].advice = r.name, r.advice
  end
  return findings
end

local function profiles(core)
  local ok, err = core.probe "perf"
  if not ok then return no(err.message) end
  return yes("sampling with kernel stacks" .. (core.probe "counters" and ", hardware counters"
    or "; no hardware counters"))
end

local function ping(core)
  if core.probe "icmp" then return yes "ICMP sockets" end
  if core.probe "raw" then return yes "raw sockets (ICMP sockets are not permitted)" end
  local _, err = core.probe "icmp"
  return no(err.message, "run sudo sysctl net.ipv4.ping_group_range='0 2147483647', or give knbl CAP_NET_RAW")
end

local function ipv6(core)
  local ok, err = core.probe "ipv6"
  if not ok then return no(err.message, "the kernel has it disabled; only IPv4 can be measured") end
  local addresses = machine.line "/proc/net/if_inet6"
  return addresses and yes "available" or no("no interface has an address",
    "check sysctl net.ipv6.conf.all.disable_ipv6")
end

local function conntrack()
  local most = tonumber(machine.line "/proc/sys/net/netfilter/nf_conntrack_max" or "")
  local count = tonumber(machine.line "/proc/sys/net/netfilter/nf_conntrack_count" or "")
  if not most or not count then
    return no("cannot read its table", "load it with modprobe nf_conntrack; in a container it may be hidden")
  end
  local text = ("%d of %d entries in use"):format(count, most)
  if count > 0.8 * most then return no(text, "run sudo sysctl net.netfilter.nf_conntrack_max=" .. most * 4) end
  return yes(text)
end

local function cpus(core)
  local n, quota = core.cpus()
  local text = ("%d for this process%s"):format(n, quota and (", a quota of %.4g"):format(quota) or ", no quota")
  if n < 2 then return no(text, "client and server share one CPU, so each slows the other down") end
  return yes(text)
end

-- Whether this release's scheduler may let processes wait for seconds while others wake each other, as 6.18.44 does. By
-- its history reweight_entity() places the running group again since 6.13 (6d71a9c61604) until 6.18.45 (101f3498b4bd).
-- Older series may have got it too; those are not told.
function M.starves(release)
  local major, minor, patch = release:match "^(%d+)%.(%d+)%.?(%d*)"
  local n = (tonumber(major) or 0) * 1000 + (tonumber(minor) or 0)
  return n >= 6013 and (n < 6018 or n == 6018 and (tonumber(patch) or 0) < 45)
end

local function scheduler()
  local release = machine.line "/proc/sys/kernel/osrelease" or "unknown"
  if not M.starves(release) then return yes("Linux " .. release) end
  return no(("Linux %s can starve a process for seconds while the pods of one node wake each other"):format(release),
    "use 6.18.45 or newer; sysctl kernel.sched_autogroup_enabled=0 helps beside a lab")
end

local function congestion()
  local now = machine.line "/proc/sys/net/ipv4/tcp_congestion_control"
  if not now then return no("cannot read net.ipv4.tcp_congestion_control") end
  return yes(("%s (available: %s)"):format(now, machine.line "/proc/sys/net/ipv4/tcp_available_congestion_control"
    or now))
end

local function cluster(_, values)
  local api, err = require("knbl.kube").connect { kubeconfig = values.kubeconfig, context = values.context,
    on_warning = function() end }
  if not api then return no(err.message) end
  local version, why = api:request("GET", "/version", { retry = 0, timeout = 3 })
  if not version then
    return no(why.message, "check the connection to its API server, and the credentials")
  end
  return yes(("%s answers, %s"):format(api.config.server, version.gitVersion or "unknown version"))
end

-- A line for each path and direction of the scenario pmtu: what passes, and whether larger packets vanish.
local function pmtu(_, values)
  if not values.pmtu then return {} end
  local words = { "scenarios/pmtu.lua" }
  for _, flag in ipairs { "on", "kubeconfig", "context" } do
    if values[flag] then table.move({ "--" .. flag, values[flag] }, 1, 2, #words + 1, words) end
  end
  local data, _, said = require("knbl.program.arms").measure({}, words)
  if not data then return no(said) end
  local findings = {}
  for _, m in ipairs(data.measurements) do
    for _, way in ipairs { "forward", "backward" } do
      local found = m.ok and m.metrics[way]
      if found then
        findings[#findings + 1] = (found.black_hole and no or yes)(("%s, %s: %s"):format(m.case, way, found.summary))
      end
    end
    if not m.ok then
      findings[#findings + 1] = no(("%s: %s"):format(m.case, m.skipped or m.error and m.error.message or "no result"))
    end
  end
  return #findings > 0 and findings or no(said)
end

local probes = {
  { "lab", lab }, { "runtimes", runtimes }, { "cluster", cluster }, { "profiles", profiles }, { "ping", ping },
  { "ipv6", ipv6 }, { "conntrack", conntrack }, { "cpus", cpus }, { "scheduler", scheduler },
  { "congestion", congestion },
  { "pmtu", pmtu },
}

-- Calls `tell` with each finding as soon as it is known. An unexpected error is a finding too.
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
  if words[1] then errors.usage("unexpected argument '%s'", words[1]) end
  if values.on and not values.pmtu then errors.usage("--on is where --pmtu measures: give both") end
  if values.on then require("knbl.cluster.provider").load(context.core, values.on:match "^[^:]*") end
  if values.json then
    local findings = json.array {}
    examine(context.core, values, function(f) findings[#findings + 1] = f end)
    context.out(json.encode(findings) .. "\n")
    return 0
  end
  examine(context.core, values, function(f)
    context.out(("%-11s %-4s %s%s\n"):format(f.name, f.ok and "yes" or "no", f.text,
      f.advice and "; " .. f.advice or ""))
    io.stdout:flush() -- trying runtimes takes seconds
  end)
  return 0
end

return M
