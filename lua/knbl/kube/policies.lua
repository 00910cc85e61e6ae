-- knbl.kube.policies: which NetworkPolicies select a pod, for the message of a path that they may block.
local M = {}

local KIND = { api = "networking.k8s.io/v1", kind = "NetworkPolicy" }

local function one_of(values, value)
  for _, known in ipairs(values or {}) do
    if known == value then return true end
  end
  return false
end

-- By its operator: whether a label's value (nil where there is none) fits.
local fits = {
  In = function(value, e) return value ~= nil and one_of(e.values, value) end,
  NotIn = function(value, e) return value == nil or not one_of(e.values, value) end,
  Exists = function(value) return value ~= nil end,
  DoesNotExist = function(value) return value == nil end,
}

-- Whether labels fit a selector (matchLabels, matchExpressions); an empty one fits all.
function M.selects(selector, labels)
  for key, value in pairs(selector and selector.matchLabels or {}) do
    if labels[key] ~= value then return false end
  end
  for _, e in ipairs(selector and selector.matchExpressions or {}) do
    local check = fits[e.operator]
    if not check or not check(labels[e.key], e) then return false end
  end
  return true
end

-- The names of the policies that select any of the endpoints' pods, sorted; empty where they may not be listed.
local function selecting(api, endpoints)
  local list, names, seen = api:list(KIND), {}, {}
  for _, policy in ipairs(list and list.items or {}) do
    for _, endpoint in ipairs(endpoints) do
      local name = policy.metadata.name
      if endpoint.labels and not seen[name] and M.selects(policy.spec.podSelector, endpoint.labels) then
        seen[name], names[#names + 1] = true, name
      end
    end
  end
  table.sort(names)
  return names
end

-- What to add to a message about pods that cannot be reached: "; NetworkPolicies select this pod: NAME…", or "".
function M.explain(api, endpoints)
  local names = selecting(api, endpoints)
  if #names == 0 then return "" end
  return ("; NetworkPolicies select %s: %s; --allow makes one for the run that lets its pods reach each other"):format(
    #endpoints == 1 and "this pod" or "these pods", table.concat(names, ", "))
end

return M
