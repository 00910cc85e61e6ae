-- The agent as a process of its own, over namespaces: what signals, addresses and lost clients do to it.
local inside = require "tests.net.inside"
local core = require "knbl.core"
local json = require "cjson"
local lu = require "luaunit"

local knbl = os.getenv "KNBL" or "./knbl"

local function ask(path, host, method, body)
  local r, err = core.fetch { method = method or "GET",
    url = ("http://%s:%d%s"):format(host or inside.there, inside.port, path), timeout = 20,
    headers = { ["Knbl-Token"] = inside.token }, body = body and json.encode(body) }
  if not r then error(tostring(err), 2) end
  return json.decode(r.body), r.status
end

local function flows() return ask("/v1/agent").flows end

-- An agent of this namespace beside the far one; killed with the test.
local function near_agent(before)
  local pid = inside.start(("%s %s agent --listen [::]:%d --token-file %s/token --name near"):format(before or "", knbl,
    inside.port, inside.dir), "near.log")
  assert(inside.await(function() return inside.listening(inside.port) end), "the near agent did not come up")
  return pid
end
-- Nobody reaps it here: it stays as a zombie.
local function gone(pid)
  return inside.await(function()
    local f <close> = io.open(("/proc/%s/stat"):format(pid))
    return not f or f:read "a":find("%) Z ")
  end, 10) and true
end
local function stop(pid)
  os.execute("kill " .. pid .. " 2>/dev/null")
  lu.assertTrue(gone(pid), "it ends on SIGTERM")
end
local function log(name)
  local f <close> = assert(io.open(inside.dir .. "/" .. name))
  return f:read "a"
end

TestAddresses = {}
function TestAddresses:test_both_families_tcp_and_udp()
  for _, test in ipairs { "tcp_rr", "udp_rr", "udp_stream", "tcp_stream", "tcp_crr" } do
    for _, ip in ipairs { 4, 6 } do
      local _, result = inside.measure { test = test, duration = 0.5, ip = ip }
      lu.assertEquals(result.servers[1].name, "far")
    end
  end
end
-- A machine has many addresses: datagrams come back from the one that was asked.
function TestAddresses:test_a_second_address_answers_as_itself()
  inside.sh "ip -n far addr add 10.98.0.77/24 dev veth0"
  inside.sh "ip -n far addr add fd98::77/64 dev veth0 nodad"
  for _, host in ipairs { "10.98.0.77", "fd98::77" } do
    for _, test in ipairs { "udp_rr", "tcp_rr" } do
      local _, result = inside.measure({ test = test, count = 50, warmup = 0 }, { host = host })
      lu.assertStrContains(result.servers[1].address, host)
    end
  end
end
function TestAddresses:test_where_the_default_route_goes()
  inside.sh "ip -n far link set veth0 mtu 1400 && ip -n far route add default via 10.98.0.1"
  local e = ask("/v1/agent").environment
  inside.sh "ip -n far route del default && ip -n far link set veth0 mtu 1500"
  lu.assertEquals({ e.interface, e.mtu }, { "veth0", 1400 })
end

TestThird = {}
-- As the provider for plain hosts does it: one machine tells another to measure against a third.
function TestThird:test_one_agent_measures_another()
  local pid = near_agent()
  local request = { spec = { test = "udp_rr", duration = 0.2 }, to = { host = inside.there, port = inside.port } }
  local started, status = ask("/v1/runs", inside.here, "POST", request)
  lu.assertEquals(status, 201)
  local run = ask("/v1/runs/" .. started.id .. "?wait=20000", inside.here)
  lu.assertEquals(run.state, "done")
  lu.assertEquals(run.result.servers[1].name, "far")
  stop(pid)
end
function TestThird:test_nobody_there()
  local result = inside.run({ test = "tcp_rr", duration = 0.2, timeout = "500ms" }, { port = 7098 })
  lu.assertEquals({ result.ok, result.error.code }, { false, "refused" })
  result = inside.run({ test = "udp_rr", duration = 0.2, timeout = "200ms" }, { port = 7098 })
  lu.assertFalse(result.ok)
end

TestEnds = {}
function TestEnds:test_sigterm_in_the_middle_of_everything()
  local pid = near_agent()
  for _, test in ipairs { "tcp_stream", "udp_stream", "tcp_crr", "udp_rr", "tcp_rr" } do
    ask("/v1/runs", inside.here, "POST", { spec = { test = test, duration = 60 },
      to = { host = inside.there, port = inside.port } })
  end
  lu.assertTrue(inside.await(function() return flows() >= 4 end, 10), "they run")
  stop(pid)
  -- one that was just opening, by datagrams, is over after ten seconds of silence
  lu.assertTrue(inside.await(function() return flows() == 0 end, 20), "the other side noticed")
end
-- The server ends first: its clients say so, and keep what they measured.
function TestEnds:test_the_server_ends_first()
  local pid = near_agent()
  local run <close> = inside.start_run({ test = "tcp_rr", duration = 60 }, { host = "127.0.0.1" })
  assert(inside.await(function() return json.decode(run:progress()).ops > 100 end, 10))
  stop(pid)
  lu.assertTrue(run:wait(10), "the client ends too")
  local result = json.decode(run:result())
  lu.assertFalse(result.ok)
  lu.assertTrue(result.metrics.rate_per_s > 0, "what was measured is kept")
end
function TestEnds:test_a_client_that_is_killed()
  local pid = near_agent()
  for _, test in ipairs { "tcp_stream", "tcp_rr" } do
    ask("/v1/runs", inside.here, "POST", { spec = { test = test, duration = 60, flows = 4 },
      to = { host = inside.there, port = inside.port } })
  end
  lu.assertTrue(inside.await(function() return flows() == 8 end, 10), "they run")
  os.execute("kill -9 " .. pid)
  lu.assertTrue(inside.await(function() return flows() == 0 end, 10), "eight flows are cleaned up")
  inside.measure { test = "tcp_rr", count = 50, warmup = 0 }
end

-- The soft limit of descriptors is raised as far as it goes.
function TestThird:test_more_flows_than_the_soft_limit()
  local pid = near_agent "ulimit -Sn 64;"
  local _, result = inside.measure({ test = "tcp_rr", duration = 0.3, flows = 100 }, { host = "127.0.0.1" })
  lu.assertEquals(result.servers[1].name, "near")
  stop(pid)
end

TestBad = {}
local function refuses(words, code, says)
  local _, _, got = os.execute(("%s agent %s >%s/bad.log 2>&1"):format(knbl, words, inside.dir))
  lu.assertEquals(got, code, words)
  lu.assertStrContains(log "bad.log", says)
end
function TestBad:test_a_port_in_use()
  local pid = near_agent()
  refuses(("--listen :%d --token-file %s/token"):format(inside.port, inside.dir), 3,
    "port " .. inside.port .. " is in use")
  stop(pid)
end
function TestBad:test_tokens()
  refuses("--listen :7098", 2, "token is required")
  refuses("--listen :7098 --token-file /dev/null", 2, "16")
end
function TestBad:test_a_wrong_token_is_told()
  for _, test in ipairs { "tcp_rr", "tcp_crr", "udp_rr" } do
    local result = inside.run({ test = test, duration = 0.1 }, { token = "somebody else's token" })
    lu.assertEquals({ result.ok, result.error.code }, { false, "auth" }, test)
  end
end

inside.finish(lu.LuaUnit.run())
