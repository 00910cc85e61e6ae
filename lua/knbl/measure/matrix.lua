-- knbl.measure.matrix - all combinations of some values, repeats interleaved.
--
--   for c in knbl.matrix { { "path", "direct", "service" }, { "flows", 1, 8 }, repeats = 3 } do … c.path, c.flows,
--   c.round … end
--
-- The last name changes fastest; a repeat is a whole round over all combinations, so that drift affects all alike.
-- Measurements in the loop are labelled with the combination.
local errors = require "knbl.base.errors"
local json = require "knbl.json"

local M = {}

-- The label of a value: of a table its name or its first string.
function M.label(value)
  if type(value) == "boolean" then return tostring(value) end
  if type(value) ~= "table" then return value end
  local label = value.name or value[1]
  return type(label) == "string" and label or nil
end

-- Values with the same label could not be told apart in a table.
local function check_values(row)
  local seen = {}
  for i = 2, #row do
    local label = M.label(row[i])
    if type(label) ~= "string" and type(label) ~= "number" then
      errors.misuse("knbl.matrix: value %d of %s has no label: a table needs a `name`, or a string as its first item",
        i - 1, row[1])
    end
    if type(label) == "number" and not json.is_finite(label) then
      errors.misuse("knbl.matrix: value %d of %s must be a finite number, got %s", i - 1, row[1], tostring(label))
    end
    if seen[tostring(label)] then
      errors.misuse("knbl.matrix: two values of %s have the label '%s'", row[1], tostring(label))
    end
    seen[tostring(label)] = true
  end
end

local function check(rows)
  if type(rows) ~= "table" or #rows == 0 then
    errors.misuse('knbl.matrix takes a list of rows: { { "flows", 1, 8 }, … }')
  end
  local seen = {}
  for i, row in ipairs(rows) do
    if type(row) ~= "table" or type(row[1]) ~= "string" then
      errors.misuse("knbl.matrix: row %d must begin with a name", i)
    end
    if seen[row[1]] or row[1] == "round" then errors.misuse("knbl.matrix: the name '%s' is already used", row[1]) end
    seen[row[1]] = true
    if #row < 2 then errors.misuse("knbl.matrix: %s has no values", row[1]) end
    check_values(row)
  end
  for key in pairs(rows) do
    if type(key) == "string" and key ~= "repeats" then errors.misuse("knbl.matrix: unknown key '%s'", key) end
  end
  local repeats = rows.repeats
  if repeats ~= nil and (type(repeats) ~= "number" or repeats < 1 or repeats ~= math.floor(repeats)) then
    errors.misuse("knbl.matrix: repeats must be a whole number of at least 1")
  end
end

local function combination(rows, number)
  local c = {}
  for i = #rows, 1, -1 do
    local n = #rows[i] - 1
    c[rows[i][1]] = rows[i][number % n + 2]
    number = math.floor(number / n)
  end
  return c
end

-- An iterator over the combinations. `s` is the session. Inside another matrix, --repeats applies to the outer one.
function M.iterate(s, rows)
  check(rows)
  local before, before_case, before_round, number = s.labels, s.labels_case, s.labels_round, 0
  local repeats = not before and s:first_repeats() or rows.repeats or 1
  local since = s.ledger and #s.ledger.data.measurements or 0
  local each = 1
  for _, row in ipairs(rows) do each = each * (#row - 1) end
  if each * repeats > 100000 then
    errors.misuse("knbl.matrix: at most 100000 combinations are allowed, got %d", each * repeats)
  end
  s.used_matrix = true
  local function over()
    s.labels, s.labels_case, s.labels_round = before, before_case, before_round
  end
  local function step()
    if not before and number >= each * repeats and s:wants_more(repeats, since) then repeats = repeats + 1 end
    if number >= each * repeats then
      over()
      return nil
    end
    local c = combination(rows, number % each)
    c.round = math.floor(number / each) + 1
    number = number + 1
    local labels = {}
    for key, value in pairs(before or {}) do labels[key] = value end
    local words = { before_case }
    for _, row in ipairs(rows) do
      local label = M.label(c[row[1]])
      labels[row[1]] = label
      words[#words + 1] = type(label) == "number" and ("%s %.14g"):format(row[1], label) or label
    end
    s.labels, s.labels_case, s.labels_round = labels, table.concat(words, " "), before_round
    setmetatable(c, { __tostring = function() return table.concat(words, " ") end })
    if repeats > 1 then s.labels_round = ((before_round or 1) - 1) * repeats + c.round end
    return c
  end
  -- the fourth value is closed when the loop is left early (Lua 5.4)
  return step, nil, nil, setmetatable({}, { __close = over })
end

return M
