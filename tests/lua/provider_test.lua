-- The contract of providers: one of sixty lines carries out a scenario; one that breaks the contract is refused by
-- name.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local contract = require "knbl.cluster.provider"
local core = require "knbl.native"
local fake = require "fake"
local json = require "knbl.json"

TestProvider = {}

local names = contract.names

function TestProvider:setUp()
  contract.names = { "lab", "k8s", "ssh", "hosts", "loopback", "tiny" }
  package.preload["knbl.cluster.tiny"] = function() return require "tiny_provider" end
end

function TestProvider:tearDown()
  contract.names, package.preload["knbl.cluster.tiny"], package.loaded["knbl.cluster.tiny"] = names, nil, nil
  package.loaded["tiny_provider"] = nil
end

-- For real: the agents answer, over loopback.
function TestProvider:test_a_tiny_provider_carries_out_a_scenario()
  local real = setmetatable({ isatty = function() return false end }, { __index = core })
  local _, out, err = fake.briefly(fake.read "scenarios/pod_to_svc.lua",
    { "--on", "tiny", "--duration", "100ms", "--warmup", "10ms", "--json", "-", "-q" }, real)
  local data = json.decode(out)
  lu.assertEquals(data.provider, "tiny", err)
  lu.assertTrue(#data.measurements > 3)
  for _, m in ipairs(data.measurements) do
    local forbidden = m.error and m.error.code == "permission" -- ICMP, on some machines
    lu.assertTrue(m.ok or forbidden, ("%s %s: %s"):format(m.test, m.case, json.encode(m.error or {})))
    lu.assertTrue(forbidden or m.metrics.throughput_bps ~= nil or m.metrics.rate_per_s ~= nil, m.case)
  end
end

-- What a provider cannot do is skipped with its reason, and planned so.
function TestProvider:test_what_it_cannot_do_is_skipped_with_the_reason()
  local script = 'local knbl = require "knbl" local c <close> = knbl.cluster { provider = "tiny" } '
    .. 'local a, b = c:pair()\n'
    .. 'knbl.tcp_rr { from = a, to = c:pod { runtime = "kata" } } knbl.tcp_rr { from = a, to = b }\n'
    .. 'local made, why = c:create { kind = "X", apiVersion = "v1" } knbl.note(tostring(made) .. ": " .. why)\n'
    .. 'made, why = c:policy { to = b, from = a } knbl.note(tostring(made) .. ": " .. why)\n'
    .. 'knbl.udp_rr { from = a, to = b, skip = "not today" }'
  local code, out, err = fake.knbl(script, { "--json", "-", "-q" })
  lu.assertEquals(code, 0, err)
  local data = json.decode(out)
  lu.assertEquals(data.measurements[1].skipped, "tiny has no runtimes")
  lu.assertTrue(data.measurements[2].ok)
  lu.assertEquals(data.notes[1].text, "nil: tiny creates no objects: it is not Kubernetes")
  lu.assertEquals(data.notes[2].text, "nil: tiny has no policies; the lab and Kubernetes do")
  lu.assertEquals(data.measurements[3].skipped, "not today")
  local _, plan = fake.knbl(script, { "--dry-run" })
  lu.assertStrContains(plan, "skipped: tiny has no runtimes")
end

-- Runs a pair over a provider that was changed.
local function broken(change, text)
  local module = require "tiny_provider"
  local open = module.open
  function module.open(options)
    local cluster = open(options)
    return change(setmetatable({}, { __index = cluster, __gc = function() cluster:close() end }), module) or cluster
  end
  local code, _, err = fake.knbl('local knbl = require "knbl" local c <close> = knbl.cluster { provider = "tiny" }\n'
    .. 'local a, b = c:pair() knbl.tcp_rr { from = a, to = b:service() }', {})
  module.open = open
  lu.assertEquals(code, 1)
  lu.assertStrContains(err, text)
end

function TestProvider:test_a_missing_method_is_refused_by_its_name()
  for _, method in ipairs { "node", "pod", "service", "delete", "environment", "close" } do
    broken(function(cluster)
      local all = getmetatable(cluster).__index
      return setmetatable({}, { __index = function(_, key) if key ~= method then return all[key] end end })
    end, ("cluster of provider tiny: method '%s' must be a function, got nil"):format(method))
  end
end

function TestProvider:test_a_missing_field_of_an_endpoint_is_refused_by_its_name()
  for field, kind in pairs { kind = "string", name = "string", addresses = "table", port = "number", token = "string",
    control = "table" } do
    broken(function(cluster)
      local pod = getmetatable(cluster).__index.pod
      function cluster:pod(t)
        local made = pod(getmetatable(self).__index, t)
        made[field] = nil
        return made
      end
      return cluster
    end, ("of provider tiny: field '%s' must be a %s, got nil"):format(field, kind))
  end
  broken(function(cluster)
    function cluster:service() return { name = "x", addresses = {} } end
    return cluster
  end, "Service 'x' of provider tiny: field 'port' must be a number, got nil")
end

-- The lab's addresses mean other machines outside of it: nothing is sent there.
function TestProvider:test_a_host_beside_the_lab_is_skipped()
  local code, out, err = fake.knbl('local knbl = require "knbl" local c <close> = knbl.cluster { provider = "lab" } '
    .. 'local host = knbl.host "hosts:10.0.0.9" knbl.tcp_rr { from = host, to = c:node(1) }\n'
    .. 'knbl.tcp_rr { from = c:pod {}, to = host } knbl.tcp_rr { from = host, to = host }', { "--dry-run" })
  lu.assertEquals(code, 0, err)
  lu.assertEquals(select(2, out:gsub("skipped: the lab is a network of its own", "")), 2, out)
end

function TestProvider:test_a_firewall_is_no_reason_for_a_permission()
  local hosts = require("knbl.cluster.machines").new({}, {}, {})
  local ends = { {}, { port = 7099, node = "b" } }
  lu.assertStrContains(hosts:explain_path(ends, "timeout"), "port 7099 of b")
  lu.assertNil(hosts:explain_path(ends, "permission"))
end

-- Those that are built in keep it: each names what it lacks.
function TestProvider:test_the_built_in_providers_are_modules_of_the_contract()
  for _, name in ipairs(names) do
    local module = contract.load(core, name)
    lu.assertEquals(module.name, name)
    for what, reason in pairs(module.cannot) do lu.assertTrue(#reason > 10, what) end
  end
end

function TestProvider:test_a_provider_that_takes_no_words()
  local code, _, err = fake.knbl("require('knbl').cluster()", { "--on", "loopback:x", "--dry-run", at = 4 })
  lu.assertEquals(code, 2)
  lu.assertStrContains(err, "--on loopback takes no 'x'")
end

function TestProvider:test_an_unknown_provider()
  local code, _, err = fake.knbl("require('knbl').cluster()", { "--on", "k9s", at = 3 })
  lu.assertEquals(code, 2)
  lu.assertStrContains(err,
    "unknown provider 'k9s'; known are lab, k8s, ssh, hosts, loopback, tiny, did you mean 'k8s'?")
end

os.exit(lu.LuaUnit.run())
