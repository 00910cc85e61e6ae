-- The peers: how to start each server, run each client and parse its output. A client gives its rate (operations or
-- bits per second) and its units of work, from which the bench computes CPU per unit.
local M = {}

-- servers: name -> command; %d is the folder for files. `at` is the address to wait for (nil for UDP). A server that
-- spins uses a whole CPU while idle, so it is stopped while others are measured.
M.servers = {
  netserver = { command = "netserver -D -4 -p 22865", port = 22865, needs = "netserver" },
  qperf = { command = "qperf -lp 19765", port = 19765, needs = "qperf" },
  iperf3 = { command = "iperf3 -s -p 5301", port = 5301, needs = "iperf3" },
  sockperf_tcp_nb = { command = "sockperf sr --tcp --nonblocked -i 0.0.0.0 -p 24112", port = 24112, needs = "sockperf",
    spins = true },
  sockperf_udp_nb = { command = "sockperf sr --nonblocked -i 0.0.0.0 -p 24113", needs = "sockperf", spins = true },
  unbound = { command = "unbound -d -c %d/unbound.conf", port = 5311, needs = "unbound" },
  nginx = { command = "nginx -c %d/nginx.conf -p %d", port = 28080, needs = "nginx" },
  nginx_workers = { command = "nginx -c %d/nginx-workers.conf -p %d", port = 28081, needs = "nginx" },
}

local function number(text, pattern)
  return tonumber((text:match(pattern)))
end

local function netperf(test, options, fields)
  return {
    name = "netperf", server = "netserver", needs = "netperf",
    command = function(host, seconds)
      return ("netperf -4 -p 22865 -H %s -l %d -t %s %s -- -k %s %s"):format(host, math.ceil(seconds), test,
        test == "TCP_SENDFILE" and "-F %d/file" or "", fields or "THROUGHPUT", options)
    end,
    read = function(out)
      local rate = number(out, (fields and "REMOTE_RECV_THROUGHPUT" or "THROUGHPUT") .. "=([%d.]+)")
      if rate and (test:match "STREAM" or test:match "SENDFILE") then rate = rate * 1e6 end
      return rate
    end,
  }
end
M.netperf = netperf

function M.iperf3(options)
  return {
    name = "iperf3", server = "iperf3", needs = "iperf3",
    command = function(host, seconds)
      return ("iperf3 -c %s -p 5301 -t %d -J %s"):format(host, math.ceil(seconds), options)
    end,
    read = function(out) -- what arrived, also for UDP
      local sum = out:match '"sum_received":%s*(%b{})'
      return sum and number(sum, '"bits_per_second":%s*([%d.e+]+)')
    end,
  }
end

-- qperf's test and message size; -uu gives plain bytes and nanoseconds; its latency is half a round trip
function M.qperf(test, size)
  return {
    name = "qperf", server = "qperf", needs = "qperf",
    command = function(host, seconds)
      return ("qperf -uu -lp 19765 -ip 19766 -t %d -m %d %s %s"):format(math.ceil(seconds), size, host, test)
    end,
    read = function(out)
      if test:match "_bw" then
        local bytes = number(out, "recv_bw%s*=%s*(%d+) bytes/sec") or number(out, "bw%s*=%s*(%d+) bytes/sec")
        return bytes and bytes * 8
      end
      local ns = number(out, "latency%s*=%s*(%d+) ns")
      return ns and 1e9 / (2 * ns)
    end,
  }
end

function M.sockperf(tcp)
  return {
    name = "sockperf --nonblocked", server = tcp and "sockperf_tcp_nb" or "sockperf_udp_nb", needs = "sockperf",
    command = function(host, seconds)
      return ("sockperf pp %s --nonblocked -i %s -p %d -t %d -m 14"):format(tcp and "--tcp" or "", host,
        tcp and 24112 or 24113,
        math.ceil(seconds))
    end,
    read = function(out) -- round trips that were made; its latency leaves out what it does between them
      local seconds,
        received = out:match "Valid Duration%] RunTime=([%d.]+) sec; SentMessages=%d+; ReceivedMessages=(%d+)"
      return seconds and tonumber(received) / tonumber(seconds)
    end,
  }
end

function M.wrk(threads, connections)
  return {
    name = "wrk -t" .. threads, server = "nginx", needs = "wrk",
    command = function(host, seconds)
      return ("wrk -t%d -c%d -d%ds http://%s:28080/f"):format(threads, connections or 100, math.ceil(seconds),
        host)
    end,
    read = function(out) return number(out, "Requests/sec:%s*([%d.]+)") end,
  }
end

M.ab = {
  name = "ab -k", server = "nginx", needs = "ab",
  command = function(host, seconds)
    return ("ab -q -k -t %d -c 100 -n 10000000 http://%s:28080/f"):format(math.ceil(seconds), host)
  end,
  read = function(out) return number(out, "Requests per second:%s*([%d.]+)") end,
}

-- Tools that Debian does not have are built by whoever asks for them: NEPER is the (absolute) folder of neper's
-- programs, IPERF3 a newer iperf3. neper's server ends with its client, and wants the same options: one for each kind
-- of run, started again and again, on ports of its own. It writes a log into the folder that it is started in.
local neper_ports = 13000
function M.neper(test, flows, threads, size, p99)
  local dir = os.getenv "NEPER"
  local program = (dir or "neper") .. "/" .. test
  local name = ("neper_%s_%d_%d_%d%s"):format(test, flows, threads, size or 1, p99 and "_p99" or "")
  neper_ports = neper_ports + 2
  local options = ("-C %d -P %d -F %d -T %d -Q %d -R %d%s"):format(neper_ports, neper_ports + 1, flows, threads,
    size or 1, size or 1, p99 and " -p 99" or "")
  local server = ("sh -c 'while :; do env -C %%d %s %s -l $SECONDS >/dev/null 2>&1; done'"):format(program, options)
  local seconds_of_server
  M.servers[name] = { port = neper_ports, needs = program,
    command = function(seconds)
      seconds_of_server = seconds_of_server or math.ceil(seconds)
      return (server:gsub("%$SECONDS", tostring(seconds_of_server)))
    end }
  return {
    name = ("neper -F %d -T %d"):format(flows, threads), server = name, needs = program,
    command = function(host, seconds)
      return ("env -C %%d %s -c -H %s %s -l %d"):format(program, host, options, math.ceil(seconds))
    end,
    read = function(out)
      local p99_s = p99 and number(out, "\nlatency_p99=([%d.]+)")
      return number(out, "\nthroughput=([%d.]+)"), p99_s and 1 / p99_s
    end,
  }
end

-- The iperf3 of IPERF3, else Debian's, as a second server on a port of its own.
function M.newer_iperf3(options)
  local program = os.getenv "IPERF3" or "iperf3"
  M.servers.newer_iperf3 = { command = program .. " -s -p 5302", port = 5302, needs = program }
  local peer = M.iperf3(options)
  local command = peer.command
  peer.name, peer.server, peer.needs = "iperf3 " .. options, "newer_iperf3", program
  peer.command = function(host, seconds)
    return (command(host, seconds):gsub("^iperf3 ", program .. " "):gsub("-p 5301", "-p 5302"))
  end
  return peer
end

function M.h2load(connections)
  return {
    name = "h2load --h1", server = "nginx", needs = "h2load",
    command = function(host, seconds)
      return ("h2load --h1 -c %d -t 1 -D %d http://%s:28080/f"):format(connections, math.ceil(seconds), host)
    end,
    read = function(out) return number(out, "finished in [%d.]+%a+, ([%d.]+) req/s") end,
  }
end
function M.h2load_streams(port, connections, streams)
  local scheme = port == 28443 and "https" or "http"
  return {
    name = "h2load", server = "nginx", needs = "h2load",
    command = function(host, seconds)
      return ("h2load -c %d -m %d -t 1 -D %d %s://%s:%d/f"):format(connections, streams, math.ceil(seconds), scheme,
        host, port)
    end,
    read = function(out) return number(out, "finished in [%d.]+%a+, ([%d.]+) req/s") end,
  }
end

-- knbl's http against a nginx: what differs is the server.
function M.nginx(connections)
  return {
    name = "nginx, as many workers", server = "nginx_workers", needs = "nginx",
    spec = { test = "http", external = true, path = "/f", flows = connections }, port = 28081,
  }
end

M.dnsperf = {
  name = "dnsperf", server = "unbound", needs = "dnsperf",
  command = function(host, seconds)
    return ("dnsperf -s %s -p 5311 -d %%d/queries -c 1 -T 1 -q 100 -l %d"):format(host, math.ceil(seconds))
  end,
  read = function(out) return number(out, "Queries per second:%s*([%d.]+)") end,
}

function M.bare_loop(ends)
  return {
    name = ends == 1 and "one thread, both ends" or "two threads, no more than the calls", needs = "%b/bench/bare_loop",
    command = function(_, seconds) return ("%%b/bench/bare_loop %g %d"):format(seconds, ends) end,
    read = function(out) return number(out, "([%d.]+)") end,
  }
end

return M
