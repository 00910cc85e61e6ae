-- bench.lua BUILD_DIR [--rows PATTERN[,PATTERN…]] [--pairs N] [--seconds S] [--ledger FILE] [--into FILE] [--table
-- FILE] - alternates knbl and its peers over the same path (A B C A B C …) and prints the median of the ratios with
-- its interval.
-- --rows selects the rows whose name and path match one of the patterns. --into writes them to the ledger of an earlier
-- run, where they replace the same rows, and the table shows all rows.
package.path = "./?.lua;" .. package.path
local core = require "knbl.core"
local cjson = require "cjson"
local peers = require "tests.bench.peers"
local rows = require "tests.bench.rows"

local build = assert(arg[1], "the build folder is missing")
local opt = { pairs = 7, seconds = 2, rows = "." }
for i = 2, #arg, 2 do
  local name = arg[i]:match "^%-%-(%a+)$"
  if not name or not arg[i + 1] then io.stderr:write("bench: what is ", arg[i], "?\n") os.exit(2) end
  opt[name] = tonumber(arg[i + 1]) or arg[i + 1]
end

local dir = io.popen("mktemp -d"):read "l"
local hosts = { lo = "127.0.0.1", veth = "10.99.0.2" }
local token = core.token()

local function write(name, text)
  local f = assert(io.open(dir .. "/" .. name, "w"))
  f:write(text)
  f:close()
end

local function expand(command) return (command:gsub("%%d", dir):gsub("%%b", build)) end
local function installed(name)
  name = expand(name)
  return os.execute("command -v " .. name .. " >/dev/null 2>&1") == true
end

-- ---- servers: one of each in each namespace, one more pinned where a row asks -------------------------------------
local function in_namespace(path, command) return path == "veth" and "ip netns exec peer " .. command or command end
local function pinned(cpu, command) return cpu and ("taskset -c %d %s"):format(cpu, command) or command end

local servers = {}
local function wait_for(path, port)
  if not port then core.sleep(0.3) return end
  for _ = 1, 100 do
    local hex = ("%04X"):format(port)
    for line in io.popen(in_namespace(path, "cat /proc/net/tcp /proc/net/tcp6")):lines() do
      if line:match("^%s*%d+: %x+:" .. hex .. " %x+:%x+ 0A") then return end
    end
    core.sleep(0.05)
  end
  error("nothing listens on port " .. port)
end

-- Only one server of a kind runs at a time in a namespace, because they share a port; one that is pinned to another CPU
-- is ended first.
local function start(name, path, pin, command, port, spins)
  local key, cpu = name .. path, pin and pin[2]
  local old = servers[key]
  if old and old.cpu == cpu then return old.pid end
  if old then
    os.execute(("kill %s; kill -CONT %s"):format(old.pid, old.pid))
    for _ = 1, 100 do
      if not os.execute(("kill -0 %s 2>/dev/null"):format(old.pid)) then break end
      core.sleep(0.02)
    end
  end
  local out = io.popen(("%s >%s/%s.log 2>&1 </dev/null & echo $!"):format(
    in_namespace(path, pinned(cpu, expand(command))), dir, key))
  servers[key] = { pid = out:read "l", cpu = cpu, spins = spins }
  out:close()
  wait_for(path, port)
  return servers[key].pid
end
local function server(name, path, pin)
  local s = peers.servers[name]
  local command = type(s.command) == "function" and s.command(opt.seconds) or s.command
  return start(name, path, pin, command, s.port, s.spins)
end
local function agent(path, pin)
  return start("agent", path, pin, "./knbl agent --listen [::]:7099 --token-file %d/token", 7099), 7099
end

-- Runs servers that spin only while they are measured.
local function only(pid)
  for _, s in pairs(servers) do
    if s.spins then os.execute(("kill -%s %s"):format(s.pid == pid and "CONT" or "STOP", s.pid)) end
  end
end

-- ---- one run of one tool ------------------------------------------------------------------------------------------
local function spawn(command, pid_of_server, pin)
  local args = {}
  if pid_of_server then args[#args + 1] = "-s " .. pid_of_server end
  if pin then args[#args + 1] = "-c " .. pin[1] end
  only(pid_of_server)
  local out = io.popen(("%s/bench/spawn %s %s"):format(build, table.concat(args, " "), expand(command)))
  local got = cjson.decode(out:read "a")
  out:close()
  return got
end

local streams = { tcp_stream = true, tcp_sendfile = true, udp_stream = true, tcp_bw = true }

-- A run of knbl. Where the row has a `server`, that is somebody else's.
local function run_spec(row, asked, seconds)
  local spec = { duration = seconds }
  for k, v in pairs(asked) do spec[k] = v end
  local pid, port
  if row.server then
    pid, port = server(row.server, row.path, row.pin), row.port
  else
    pid, port = agent(row.path, row.pin)
  end
  local got = spawn(("./knbl tests/bench/one.lua '%s' %s %d %s"):format(cjson.encode(spec), hosts[row.path], port,
    token), pid, row.pin)
  local ok, result = pcall(cjson.decode, got.output)
  if not ok or not result.ok then return nil, ok and result.error.message or got.output end
  local m = result.metrics
  local rate = streams[row.spec.test] and m.throughput_bps or m.rate_per_s
  if row.spec.test == "tcp_lat" then rate = 1e9 / (2 * m.latency_ns.mean) end
  local cpu
  if row.server or row.processes then -- somebody else's server, or beside one: both ends by their processes
    cpu = (got.client_cpu_s + got.server_cpu_s) / (rate * (m.duration_s + (result.params.warmup or 0)))
  elseif m.cpu and m.cpu.client_process and m.cpu.server_process then
    cpu = (m.cpu.client_process + m.cpu.server_process) / rate
  end
  return { rate = row.p99 and 1e9 / m.latency_ns.p99 or rate, cpu = cpu, intervals = m.intervals,
    chosen = result.chosen, operations = rate }
end

-- Where a row asks for half of the rate (`half`), that is measured once.
local function run_knbl(row, seconds)
  local spec = {}
  for k, v in pairs(row.spec) do spec[k] = v end
  if row.half then
    if not row.full then
      local full, why = run_spec(row, spec, seconds)
      if not full then return nil, why end
      row.full = full.operations
    end
    spec.rate = row.full / 2
  end
  return run_spec(row, spec, seconds)
end

local function run_peer(row, peer, seconds)
  if peer.spec then
    return run_spec({ path = row.path, spec = peer.spec, server = peer.server, port = peer.port },
      peer.spec, seconds)
  end
  local pid = peer.server and server(peer.server, row.path, row.pin)
  local got = spawn(peer.command(hosts[row.path], seconds), pid, row.pin)
  local rate, figure = peer.read(got.output)
  if not rate or rate == 0 then return nil, got.output end
  return { rate = figure or rate, cpu = (got.client_cpu_s + got.server_cpu_s) / (rate * math.ceil(seconds)) }
end

-- ---- a row --------------------------------------------------------------------------------------------------------
local function median(list)
  local m, low, high = core.median_interval(list, 0.95)
  return m, low, high
end
local function column(list, key)
  local out = {}
  for i, v in ipairs(list) do out[i] = v[key] end
  return out
end

local function itself(row)
  local mine, why = run_knbl(row, row.itself)
  if not mine then return { error = why } end
  local n, first, last = #mine.intervals, 0, 0
  for i = 1, 3 do
    first, last = first + mine.intervals[i].ops_per_s, last + mine.intervals[n - 3 + i].ops_per_s
  end
  return { rate = last / 3, against = "itself", peer_rate = first / 3, ratio = last / first }
end

local function against(row)
  local mine, theirs, missing = {}, {}, {}
  for _, peer in ipairs(row.peers) do
    if installed(peer.needs) then
      theirs[#theirs + 1] = { peer = peer, runs = {} }
    else
      missing[#missing + 1] = peer.name
    end
  end
  if #theirs == 0 then return { skipped = "not installed: " .. table.concat(missing, ", ") } end
  for _ = 1, opt.pairs do
    local got, why = run_knbl(row, opt.seconds)
    if not got then return { error = why } end
    mine[#mine + 1] = got
    for _, t in ipairs(theirs) do
      local peer_got, peer_why = run_peer(row, t.peer, opt.seconds)
      if not peer_got then return { error = t.peer.name .. ": " .. peer_why } end
      t.runs[#t.runs + 1] = peer_got
    end
  end
  table.sort(theirs, function(a, b) return median(column(a.runs, "rate")) > median(column(b.runs, "rate")) end)
  local best = theirs[1]
  local ratios, cpu_ratios = {}, {}
  for i, m in ipairs(mine) do
    ratios[i] = m.rate / best.runs[i].rate
    if m.cpu and best.runs[i].cpu > 0 then cpu_ratios[#cpu_ratios + 1] = m.cpu / best.runs[i].cpu end
  end
  local result = { against = best.peer.name, rate = median(column(mine, "rate")),
    peer_rate = median(column(best.runs, "rate")), missing = missing,
    pairs = #ratios, chosen = mine[#mine].chosen }
  result.ratio, result.low, result.high = median(ratios)
  if #cpu_ratios > 0 then result.cpu_ratio, result.cpu_low, result.cpu_high = median(cpu_ratios) end
  return result
end

-- ---- the table ----------------------------------------------------------------------------------------------------
local function rate_text(row, rate)
  return streams[row.spec.test] and core.format_bits(rate) or core.format_rate(rate)
end
local function bound(value, limit, above)
  if not value then return "-" end
  local ok = above and value >= limit or not above and value <= limit
  return ("%.2f %s"):format(value, ok and "ok" or above and "too low" or "too high")
end

write("token", token)
write("f", ("x"):rep(44) .. "\n")
do
  local f = assert(io.open(dir .. "/file", "w"))
  for _ = 1, 64 do f:write(("k"):rep(1 << 20)) end
  f:close()
end
local has_certificate = os.execute(("openssl req -x509 -newkey rsa:2048 -nodes -keyout %s/key.pem -out %s/cert.pem \z
  -days 1 -subj /CN=bench.test >/dev/null 2>&1"):format(dir, dir))
write("nginx.conf", ([[
worker_processes 1; pid %s/nginx.pid; error_log %s/nginx-error.log; daemon off; user root;
events { worker_connections 32768; }
http { access_log off; keepalive_requests 1000000000; client_body_temp_path %s/b; proxy_temp_path %s/p;
  fastcgi_temp_path %s/c; uwsgi_temp_path %s/u; scgi_temp_path %s/s; server { listen 28080 backlog=16384; root %s; }
  server { listen 28082 http2; root %s; }
  HTTPS } }
]]):gsub("HTTPS }", has_certificate and "server { listen 28443 ssl http2; root %%s; ssl_certificate %%s/cert.pem; \z
  ssl_certificate_key %%s/key.pem; }" or ""):gsub("%%s", dir))
do -- as many workers as an agent has loops, 45 bytes
  local in_file = assert(io.open(dir .. "/nginx.conf"))
  local text = in_file:read "a":gsub("worker_processes 1;", "worker_processes auto;"):gsub("nginx%.pid", "workers.pid")
  in_file:close()
  write("nginx-workers.conf", (text:gsub("listen 28080 ", "listen 28081 "):gsub("server { listen 2808[^1].*", "}\n")))
end
do
  local names, queries = {}, {}
  for i = 1, 100 do
    names[i] = ('local-data: "host-%d.bench.test. 60 IN A 192.0.2.%d"'):format(i, i)
    queries[i] = ("host-%d.bench.test A"):format(i)
  end
  write("queries", table.concat(queries, "\n") .. "\n")
  write("unbound.conf", ([[
server:
  interface: 0.0.0.0
  port: 5311
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "%s"
  pidfile: ""
  use-syslog: no
  access-control: 0.0.0.0/0 allow
  module-config: "iterator"
  local-zone: "bench.test." static
  %s
remote-control:
  control-enable: no
]]):format(dir, table.concat(names, "\n  ")))
end
os.execute(("chmod 755 %s"):format(dir))

local report = { started = core.wall(), knbl = core.version, pairs = opt.pairs, seconds = opt.seconds, rows = {} }
local f = io.popen "uname -r; nproc; grep -m1 'model name' /proc/cpuinfo | cut -d: -f2"
report.kernel, report.cpus, report.cpu = f:read "l", f:read "n", (f:read "l" and f:read "l" or ""):gsub("^%s+", "")
f:close()

local function key_of(row)
  local names = {}
  for i, peer in ipairs(row.peers or {}) do names[i] = peer.name end
  return ("%s, %s, %s"):format(row[1], row.path, table.concat(names, " "))
end
local function asked_for(row)
  for pattern in tostring(opt.rows):gmatch "[^,]+" do
    if (row[1] .. " " .. row.path):match(pattern) then return true end
  end
  return false
end

local function line_of(row, r)
  local cells
  if r.ratio then
    local interval = r.low and (" (%.2f-%.2f)"):format(r.low, r.high) or ""
    local cpu_interval = r.cpu_low and (" (%.2f-%.2f)"):format(r.cpu_low, r.cpu_high) or ""
    cells = { row[1], row.path, rate_text(row, r.rate), r.against, rate_text(row, r.peer_rate),
      bound(r.ratio, row.rate, true) .. interval, row.rate,
      row.cpu and bound(r.cpu_ratio, row.cpu, false) .. cpu_interval or r.cpu_ratio and ("%.2f"):format(r.cpu_ratio)
        or "-", row.cpu or "-" }
  else
    cells = { row[1], row.path, r.skipped or "failed: " .. tostring(r.error):gsub("%s+", " "):sub(1, 200), "-", "-",
      "-", row.rate, "-", row.cpu or "-" }
  end
  for i, c in ipairs(cells) do cells[i] = tostring(c) end
  return "| " .. table.concat(cells, " | ") .. " |"
end

-- key -> result, including those of an earlier run
local found = {}
if opt.into then
  local old = io.open(opt.into)
  if old then
    local earlier = cjson.decode(old:read "a")
    old:close()
    if earlier.kernel ~= report.kernel or earlier.cpu ~= report.cpu or earlier.pairs ~= report.pairs
      or earlier.seconds ~= report.seconds then
      io.stderr:write("bench: ", opt.into, " is of another machine, or of other pairs\n") os.exit(2)
    end
    for _, r in ipairs(earlier.rows) do found[r.key] = r end
  end
end

for _, row in ipairs(rows) do
  if asked_for(row) then
    io.stderr:write("bench: ", row[1], ", ", row.path, "\n")
    local started = core.wall()
    local r = row.itself and itself(row) or against(row)
    r.key, r.row, r.path, r.labelled_mode, r.asked_rate, r.asked_cpu, r.started = key_of(row), row[1], row.path,
      row.mode, row.rate, row.cpu, started
    r.group = row.group
    found[r.key] = r
    io.stderr:write(line_of(row, r), "\n")
  end
end

-- rows of one group have a bound on their geometric mean too
local lines = { "| row | path | knbl | best peer | its figure | rate ratio (95 %) | asked | CPU ratio (95 %) | asked |",
  "|-|-|-|-|-|-|-|-|-|" }
local groups, first, last = {}, nil, nil
if not next(found) then
  io.stderr:write("bench: --rows '", tostring(opt.rows), "' matches no row\n") os.exit(2)
end
for _, row in ipairs(rows) do
  local r = found[key_of(row)]
  if r then
    report.rows[#report.rows + 1] = r
    lines[#lines + 1] = line_of(row, r)
    if not first or r.started < first then first = r.started end -- ISO 8601 sorts as it is
    if not last or r.started > last then last = r.started end
  end
  if r and row.group and r.ratio then
    local g = groups[row.group] or { log = 0, cpu = 0, n = 0, row = row }
    groups[row.group] = g
    g.log, g.cpu, g.n = g.log + math.log(r.ratio), g.cpu + (r.cpu_ratio or 0), g.n + 1
  end
end
for name, g in pairs(groups) do
  lines[#lines + 1] = ("| %s, all sizes: geometric mean | %s | | | | %s | %s | %s | %s |"):format(name, g.row.path,
    bound(math.exp(g.log / g.n), g.row.group_rate, true), g.row.group_rate, bound(g.cpu / g.n, g.row.cpu, false),
      g.row.cpu)
end

local when = first == last and first or ("%s to %s"):format(first, last)
local text = ("Measured %s on %d x %s, Linux %s, knbl %s: medians of %d pairs of %g s, in turn.\n\n%s\n"):format(when,
  report.cpus, report.cpu,
  report.kernel, report.knbl, opt.pairs, opt.seconds, table.concat(lines, "\n"))
print(text)
if opt.ledger then core.write_file(opt.ledger, cjson.encode(report)) end
if opt.table then core.write_file(opt.table, text) end
for _, s in pairs(servers) do os.execute(("kill %s 2>/dev/null; kill -CONT %s 2>/dev/null"):format(s.pid, s.pid)) end
os.execute("rm -rf " .. dir)
