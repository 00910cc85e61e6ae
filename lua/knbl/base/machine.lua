-- knbl.base.machine - facts about this machine, from /proc.
local M = {}

-- The match of a pattern in the first line that has one; without a pattern, the first line. nil if there is none.
function M.line(path, pattern)
  local file = io.open(path, "r")
  if not file then return nil end
  local found
  for line in file:lines() do
    found = line:match(pattern or ".*")
    if found then break end
  end
  file:close()
  return found
end

local function count_cpus()
  local file, n = io.open("/proc/stat", "r"), 0
  if not file then return nil end
  for line in file:lines() do
    if line:match "^cpu%d" then n = n + 1 end
  end
  file:close()
  return n
end

-- As in the environment of a ledger.
function M.environment()
  return {
    kernel = M.line "/proc/sys/kernel/osrelease" or "unknown", cpus = count_cpus() or "unknown",
    cpu_model = M.line("/proc/cpuinfo", "^model name%s*:%s*(.+)$") or "unknown",
    congestion_control = M.line "/proc/sys/net/ipv4/tcp_congestion_control" or "unknown",
  }
end

return M
