-- knbl.program.scenario - finds scenarios: files, or those that are built in. Files take precedence.
local errors = require "knbl.base.errors"
local file = require "knbl.base.file"

local M = {}

local TEXT_MOST = 16777216

-- The names of the built-in scenarios.
function M.names(core)
  local names = {}
  for _, path in ipairs(core.embedded_list and core.embedded_list() or {}) do
    local name = path:match("^scenarios/([%w_-]+)%.lua$")
    if name then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

-- The text of a scenario and the name of its chunk, or nil and what is wrong. "-" is standard input. `commands` are
-- words that could have been meant too.
function M.find(core, name, commands)
  if name == "-" then
    local given, wrong = file.read_all(io.stdin, "stdin", TEXT_MOST)
    return given, given and "stdin" or wrong
  end
  local text, err, missing = file.read(name, TEXT_MOST)
  if text then return text, name end
  if not missing then return nil, err end
  local base = name:match("^([%w_-]+)$") or name:match("^scenarios/([%w_-]+)%.lua$")
  if base then
    local path = "scenarios/" .. base .. ".lua"
    text = file.read(path, TEXT_MOST)
    if text then return text, path end
    text = core.embedded and core.embedded(path)
    if text then return text, path end
  end
  local words = M.names(core)
  for _, word in ipairs(commands or {}) do words[#words + 1] = word end
  local near = errors.hint(core, base or name, words)
  return nil, ("no scenario '%s': it is neither a file nor built in (`knbl list`), nor a command (`knbl help`)"):format(
    name) .. near
end

-- The question that a scenario answers: its first comment.
function M.question(text)
  local line = text:gsub("^\239\187\191", ""):gsub("^#![^\n]*\n", ""):match("^%s*%-%-%s*([^\n]*)")
  return line and (line:gsub("^scenarios/[%w_]+%.lua:%s*", "")) or nil
end

-- Lets a scenario require modules in its own folder, or in lua/ there.
function M.require_beside(name)
  local folder = name:match("^(.*)/[^/]*$") or "."
  package.path = ("%s/?.lua;%s/lua/?.lua;%s/lua/?/init.lua;%s"):format(folder, folder, folder, package.path)
end

-- The chunk of a scenario, with `env` if given; nil and the message of the parser.
function M.load(text, chunk_name, env)
  if text:sub(1, 1) == "\27" then return nil, chunk_name .. ": compiled Lua is not run" end
  -- without a byte order mark, as Lua itself does
  text = text:gsub("^\239\187\191", ""):gsub("^#[^\n]*", "")
  if rawget(_G, "setfenv") then
    local chunk, err = loadstring(text, "@" .. chunk_name)
    if chunk and env then setfenv(chunk, env) end
    return chunk, err
  end
  if env then return load(text, "@" .. chunk_name, "t", env) end
  return load(text, "@" .. chunk_name, "t")
end

return M
