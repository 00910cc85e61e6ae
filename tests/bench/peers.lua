-- The peers: how each is started as a server, run as a client, and read. A client's figure is its rate (operations or bits a
-- second) and how many units of work it did, so that CPU per unit can be told.
local M = {}

-- servers: name -> command; %d is the folder for files. `at` is the address to wait for (nil: UDP, nothing to wait for). One that spins
-- takes a whole CPU when nobody asks it anything, so it is stopped while others are measured.
M.servers = {
  netserver = { command = "netserver -D -4 -p 22865", port = 22865, needs = "netserver" },
  qperf = { command = "qperf -lp 19765", port = 19765, needs = "qperf" },
  iperf3 = { command = "iperf3 -s -p 5301", port = 5301, needs = "iperf3" },
  sockperf_tcp_nb = { command = "sockperf sr --tcp --nonblocked -i 0.0.0.0 -p 24112", port = 24112, needs = "sockperf", spins = true },
  sockperf_udp_nb = { command = "sockperf sr --nonblocked -i 0.0.0.0 -p 24113", needs = "sockperf", spins = true },
  nginx = { command = "nginx -c %d/nginx.conf -p %d", port = 28080, needs = "nginx" },
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
      return ("sockperf pp %s --nonblocked -i %s -p %d -t %d -m 14"):format(tcp and "--tcp" or "", host, tcp and 24112 or 24113,
        math.ceil(seconds))
    end,
    read = function(out) -- round trips that were made; its latency leaves out what it does between them
      local seconds, received = out:match "Valid Duration%] RunTime=([%d.]+) sec; SentMessages=%d+; ReceivedMessages=(%d+)"
      return seconds and tonumber(received) / tonumber(seconds)
    end,
  }
end

function M.wrk(threads)
  return {
    name = "wrk -t" .. threads, server = "nginx", needs = "wrk",
    command = function(host, seconds)
      return ("wrk -t%d -c100 -d%ds http://%s:28080/f"):format(threads, math.ceil(seconds), host)
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

function M.bare_loop(ends)
  return {
    name = ends == 1 and "one thread, both ends" or "two threads, no more than the calls", needs = "%b/bench/bare_loop",
    command = function(_, seconds) return ("%%b/bench/bare_loop %g %d"):format(seconds, ends) end,
    read = function(out) return number(out, "([%d.]+)") end,
  }
end

return M
