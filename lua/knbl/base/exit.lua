-- knbl.base.exit - the exit codes. src/process.h has the same numbers for `knbl agent`, which runs without Lua; a test
-- holds them together.
local M = { ok = 0, script = 1, usage = 2, no_cluster = 3, inconclusive = 98, failed = 99, interrupted = 130 }

-- As --help and docs/reference.md list them.
M.list = {
  { M.ok, "everything was measured, and every expectation held" },
  { M.script, "the script or a measurement failed" },
  { M.usage, "the command line is wrong" },
  { M.no_cluster, "the cluster or lab is not available, or an agent was lost" },
  { M.inconclusive, "inconclusive: too few samples, or what an expectation is about was skipped" },
  { M.failed, "an expectation failed" },
  { M.interrupted, "interrupted; what was measured until then is kept" },
}

-- An error that ends a run, by its code. A measurement that fails is a result, so what is raised with one of the
-- network's codes concerns the cluster.
local codes = { usage = M.usage, interrupted = M.interrupted }
for code in ("unavailable lost auth version refused resolve unreachable timeout permission unsupported"):gmatch "%S+" do
  codes[code] = M.no_cluster
end

function M.of(err) return codes[err.code] or M.script end

return M
