-- knbl.results.judge_mesh - the verdict over the meshes of a run.
local M = {}

local FEW = 0.01 -- of a mesh's runs may fail without the run's failing: a verdict needs not every pair

-- Whether an expectation is about a mesh, and about which of its tests (nil: all).
function M.named(mesh, case)
  if not case or case:lower() == "mesh" then return true end
  for _, one in ipairs(mesh.tests) do
    if one.test == case:lower() then return true, one.test end
  end
end

local function mesh_size(mesh)
  local size, seen = #mesh.nodes, {}
  for _, node in ipairs(mesh.nodes) do seen[node.name] = true end
  for _, one in ipairs(mesh.missing) do
    if not seen[one.node] then size = size + 1 end
  end
  return size
end

-- Whether nothing stands out, in all tests or in this one. -> status, reason
function M.judge(mesh, test)
  local found, seen = {}, {}
  for _, o in ipairs(mesh.outliers) do
    if (not test or o.test == test) and not seen[o.text] then seen[o.text], found[#found + 1] = true, o.text end
  end
  local gone = #mesh.missing > 0 and ("; %d of %d nodes missing"):format(#mesh.missing, mesh_size(mesh)) or ""
  if #found > 0 then
    local more = #found > 3 and ("; %d more"):format(#found - 3) or ""
    return "fail", table.concat(found, "; ", 1, math.min(3, #found)) .. more .. gone
  end
  if mesh.unsure then return "inconclusive", mesh.unsure .. gone end
  return "pass", "nothing stands out" .. gone
end

-- What the meshes of a run add to what was measured and what failed, and how many of their nodes are missing.
function M.count(data)
  local measured, failed, missing, size = 0, 0, 0, 0
  for _, mesh in ipairs(data.meshes or {}) do
    local good, bad = 0, 0
    for _, one in ipairs(mesh.tests) do good, bad = good + #one.pairs, bad + #one.failed end
    measured, failed = measured + good, failed + (bad > FEW * (good + bad) and bad or 0)
    missing, size = missing + #mesh.missing, size + mesh_size(mesh)
  end
  return measured, failed, missing, size
end

return M
