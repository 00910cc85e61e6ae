-- Servers of others on a real cluster: nginx as an Ingress with TLS and HTTP/2 before two more, and the DNS servers
-- dnsmasq and unbound, in pods of an image that the test makes of this machine's programs.
package.path = "tests/kube/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.core"
local world = require "world"

local NAMESPACE = os.getenv "E2E_NAMESPACE" or "default"
local IMAGE = "knbl-servers:1"
local PROGRAMS = { "sh", "sleep", "nginx", "dnsmasq", "unbound" }
local folder = world.sh "mktemp -d":match "%S+"
local loaded

TestServers = {}

local function write(name, text)
  local f = assert(io.open(folder .. "/" .. name, "w"))
  f:write(text)
  f:close()
end

-- An authority, and a certificate of its for shop.test, which goes into the image.
local function certificates()
  write("names", "subjectAltName=DNS:shop.test\n")
  local said = world.sh(([[(cd %s && mkdir -p root/etc/tls &&
    openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=authority &&
    openssl req -newkey rsa:2048 -nodes -keyout root/etc/tls/key -out csr -subj /CN=shop.test &&
    openssl x509 -req -in csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out root/etc/tls/pem -days 30)]])
    :format(folder))
  lu.assertTrue(world.read(folder .. "/root/etc/tls/pem") ~= "", said)
end

function TestServers.setUp()
  lu.skipIf(not os.getenv "E2E_LOAD", "E2E_LOAD is not given: no way to bring the servers' image")
  for _, program in ipairs(PROGRAMS) do
    lu.skipIf(world.sh("command -v " .. program) == "", program .. " is not installed")
  end
  if not loaded then
    certificates()
    loaded = world.load_image(IMAGE, PROGRAMS, folder .. "/root")
  end
end

-- A script whose pods are servers: server(name, node, port, "nginx" or another, its configuration).
local start = ([[
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local client = cluster:pod { name = "client", node = 1 }
local commands = { nginx = "nginx -e /dev/stderr -c /tmp/conf", unbound = "unbound -d -c /tmp/conf",
  dnsmasq = "dnsmasq -k -C /tmp/conf" }
local function server(name, node, port, program, conf)
  return cluster:pod { name = name, node = node, port = port, image = "IMAGE", env = { CONF = conf },
    command = { "sh", "-c", "printf %%s \"$CONF\" >/tmp/conf; exec " .. commands[program] } }
end
local function nginx(name, node, port, conf)
  return server(name, node, port, "nginx", ("daemon off; user root root; pid /tmp/pid; events {} \z
    http { access_log off; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; \z
    uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s; server { %%s } }"):format(conf))
end
]]):gsub("IMAGE", IMAGE):gsub("%%%%", "%%")

local function run(body, words, options)
  local all = { "--on", "k8s", "--namespace", NAMESPACE, world.script(start .. body) }
  table.move(words or {}, 1, #(words or {}), #all + 1, all)
  local r = world.run(all, options or { seconds = 150 })
  lu.assertNotNil(r.ledger, r.said .. loaded)
  lu.assertEquals(world.left(NAMESPACE), "")
  return r, r.ledger.measurements
end

-- ---- an Ingress ----

local ingress = [[
local function web(i)
  return nginx("web-" .. i, i, 8080, ('listen 8080; return 200 "%s";'):format(("x"):rep(i * 100)))
end
local service = cluster:service { endpoints = { web(1), web(2) }, port = 80 }
local gate = nginx("gate", 2, 8443, ([=[listen 8443 ssl http2;
  ssl_certificate /etc/tls/pem; ssl_certificate_key /etc/tls/key;
  location / { proxy_pass http://%s; }]=]):format(service.addresses.v4))
local front = gate:service { type = "NodePort", port = 443 }
local url = ("https://%s:%d/"):format(cluster:node(1).addresses.v4, front.node_port)
local function ask(t)
  t.ca, t.host, t.count, t.flows, t.warmup = CA, t.host or "shop.test", 200, 4, 0
  knbl.http(t)
end
]]

-- From a pod of knbl's own image, which has OpenSSL, and from this host.
function TestServers.test_an_ingress_by_its_url_with_https_and_http2()
  local _, address = world.addresses()
  lu.skipIf(not address or not core.fetch, "needs an address that the cluster can reach")
  local token = core.token()
  write("token", token .. "\n")
  world.sh(("%s agent --listen %s:29099 --token-file %s/token >%s/agent.log 2>&1 </dev/null & echo $! >%s/pid"):format(
    world.knbl, address, folder, folder, folder))
  local r, list = run(("local CA = %q\n"):format(folder .. "/ca.pem") .. ingress .. ([[
-- by the Service first, for which it waits until the nodes' proxies know it
ask { case = "node port", from = client, to = front:on(1), tls = true, keepalive = false }
for _, from in ipairs { client, knbl.host "hosts:me=%s:29099" } do
  ask { case = "HTTP/1.1", from = from, to = url }
  ask { case = "HTTP/2", from = from, to = url, http2 = true, streams = 8 }
end
ask { case = "wrong name", from = client, to = url, host = "other.test" }
]]):format(address), { "--image", os.getenv "E2E_IMAGE" or "knbl:" .. core.version, "--token-file",
    folder .. "/token" })
  world.sh("kill $(cat " .. folder .. "/pid)")
  for i = 1, 5 do
    local m = list[i]
    lu.assertTrue(m.ok, m.case .. ": " .. tostring(m.error and m.error.message or m.skipped))
    local n = m.metrics
    lu.assertEquals({ n.ops, n.errors, n.timeouts, n.connect_errors or 0 }, { 200, 0, 0, 0 }, m.case)
    lu.assertTrue(m.metrics.tls.verified, m.case)
    lu.assertEquals(m.chosen.alpn, m.case == "HTTP/2" and "h2" or "http/1.1")
    -- the two behind it have answers of 100 and 200 bytes
    lu.assertTrue(m.metrics.bytes > 20000 and m.metrics.bytes < 40000, m.case)
  end
  lu.assertEquals(list[1].metrics.tls.handshakes, 200)
  lu.assertStrContains(list[6].error.message, "not valid for other.test", nil, r.said)
end

function TestServers.test_an_injected_agent_says_that_it_has_no_tls()
  local _, list = run(("local CA = %q\n"):format(folder .. "/ca.pem")
    .. 'knbl.http { from = client, to = "https://192.0.2.1/", ca = CA, count = 1 }', { "--inject" })
  lu.assertStrContains(list[1].error.message,
    "https to 192.0.2.1: the static agent has no TLS; use the image (--image) on Kubernetes")
end

-- ---- two versions at once ----

-- The versions answer with 100 and 200 bytes, so that the bytes tell how often each was asked.
function TestServers.test_targets_without_agents_by_share()
  local _, list = run([[
local function version(name, i)
  local pod = nginx(name .. "-pod", i, 8080, ('listen 8080; return 200 "%s";'):format(("x"):rep(i * 100)))
  return pod:service { name = name }
end
local stable, canary = version("stable", 1), version("canary", 2)
local function url(service) return ("http://%s:%d/"):format(service.addresses.v4, service.port) end
-- by the Services first, for which it waits until the nodes' proxies know them
for _, to in ipairs { { stable, canary }, { url(stable), url(canary) } } do
  knbl.http { case = type(to[1]) == "string" and "URLs" or "Services", from = client, to = to, shares = { 3, 1 },
    count = 400, flows = 8, warmup = 0 }
end
]])
  lu.assertEquals(#list, 2)
  for _, m in ipairs(list) do
    lu.assertTrue(m.ok, m.case .. ": " .. tostring(m.error and m.error.message or m.skipped))
    local n, to = m.metrics, m.path.targets
    lu.assertEquals({ n.ops, n.errors, n.timeouts, n.connect_errors or 0 }, { 400, 0, 0, 0 }, m.case)
    lu.assertEquals({ n.targets[to[1].name].ops, n.targets[to[2].name].ops }, { 300, 100 }, m.case)
    lu.assertEquals(n.bytes, 300 * 100 + 100 * 200, m.case)
  end
end

-- ---- DNS ----

local servers = [[
local masq = server("masq", 1, 53, "dnsmasq", "no-resolv\nno-hosts\nuser=root\npid-file=\nbind-interfaces\n\z
  address=/default.svc.cluster.local/10.96.0.7\n\z
  address=/kubernetes.default/10.96.0.1\naddress=/kubernetes.default/fd00::1\n\z
  address=/example.com/192.0.2.9\naddress=/example.com/2001:db8::9\n\z
  srv-host=_http._tcp.web,web.default.svc.cluster.local,80\n\z
  ptr-record=7.0.96.10.in-addr.arpa,web.default.svc.cluster.local\n")
]]

function TestServers.test_dns_against_dnsmasq_and_unbound()
  local _, list = run(servers .. [[
local bound = server("bound", 2, 53, "unbound", 'server:\n interface: 0.0.0.0\n username: ""\n chroot: ""\n \z
  directory: "/tmp"\n pidfile: ""\n use-syslog: no\n access-control: 0.0.0.0/0 allow\n module-config: "iterator"\n \z
  local-zone: "cluster.local." static\n local-data: "web.default.svc.cluster.local. A 10.96.0.7"\n \z
  local-data: "_http._tcp.web.cluster.local. SRV 0 0 80 web.default.svc.cluster.local."\n')
local both = cluster:service { endpoints = { masq, bound }, port = 53 }
for _, proto in ipairs { "udp", "tcp" } do
  for _, to in ipairs { masq, bound, both } do
    knbl.dns { from = client, to = to, names = "web.default.svc.cluster.local", proto = proto, count = 200,
      flows = 8, warmup = 0 }
  end
end
knbl.dns { case = "SRV", from = client, to = bound, names = "_http._tcp.web.cluster.local", type = "SRV",
  count = 50, warmup = 0 }
knbl.dns { case = "PTR", from = client, to = masq, names = "7.0.96.10.in-addr.arpa", type = "PTR",
  count = 50, warmup = 0 }
knbl.dns { case = "rate", from = client, to = both, names = "web.default.svc.cluster.local", rate = "500/s",
  count = 200, warmup = 0 }
]], { "--image", os.getenv "E2E_IMAGE" or "knbl:" .. core.version })
  for _, m in ipairs(list) do
    lu.assertTrue(m.ok, m.case .. ": " .. tostring(m.error and m.error.message or m.skipped))
    lu.assertEquals(m.metrics.lookup.rcodes, { NOERROR = m.metrics.ops }, m.case .. " " .. m.params.proto)
    lu.assertTrue(m.metrics.ops >= 50, m.case)
    lu.assertEquals(m.metrics.lookup.empty, 0, m.case)
  end
  lu.assertEquals({ #list, list[3].via }, { 9, "service" })
end

-- The scenario asks the pod that the other script has made, and keeps until it is asked to end.
function TestServers.test_the_scenario_dns()
  local holder = world.start { "--on", "k8s", "--namespace", NAMESPACE, world.script(start .. servers .. ([[
local f = io.open("%s/address", "w") f:write(masq.addresses.v4, "\n") f:close()
repeat f = io.open "%s/done" until f or not require "knbl.core".sleep(0.1)
]]):format(folder, folder)) }
  local deadline, address = core.now() + 60, nil
  repeat address = world.read(folder .. "/address"):match "(.*)\n" until address or core.now() > deadline
    or not core.sleep(0.05)
  local r = address and world.scenario("scenarios/dns.lua", { "--server", address, "--namespace", NAMESPACE })
  write("done", "")
  holder:wait(60)
  lu.assertNotNil(r, holder.said)
  for _, m in ipairs(r.ledger.measurements) do lu.assertTrue(m.ok, r.said) end
  lu.assertEquals(#r.ledger.measurements, 8)
  -- 98: in so short a time, too few lookups for a verdict
  lu.assertTrue(r.code == 0 or r.code == 98, r.said)
  lu.assertEquals(world.left(NAMESPACE), "")
end

local code = lu.LuaUnit.run()
os.execute("rm -rf " .. folder)
os.exit(code)
