-- knbl init - writes a scenario with expectations, the library's annotations for editors, and a CI job.
local errors = require "knbl.base.errors"
local script = require "knbl.base.script"
local starter = require "knbl.program.starter"

local M = {
  summary =
    "Writes a scenario, editor settings and a CI job to start from. Existing files are never overwritten.",
  usage = "knbl init [--ci github|gitlab|cronjob|none] [FOLDER]",
  flags = {
    { name = "ci", value = "KIND", choices = { "github", "gitlab", "cronjob", "none" },
      help = "the CI system of the job", default = "github" },
  },
}

local function exists(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

-- The files to write: { path, text }, in the order of the messages.
local function files_of(core, ci)
  local files = {
    { "network.lua", starter.scenario }, { ".luarc.json", starter.luarc },
    { ".knbl/meta.lua", core.embedded("lua/knbl/meta.lua") },
  }
  local job = starter.jobs(core.version)[ci]
  if job then files[#files + 1] = { job.path, job.text } end
  return files
end

function M.run(context, values, words)
  if #words > 1 then errors.usage("unexpected argument '%s'; usage: %s", words[2], M.usage) end
  local folder = words[1] or "."
  local files = files_of(context.core, values.ci or "github")
  for _, file in ipairs(files) do
    if exists(folder .. "/" .. file[1]) then
      errors.usage("%s/%s exists: nothing was written", folder, file[1])
    end
  end
  for _, file in ipairs(files) do
    local path = folder .. "/" .. file[1]
    if not os.execute("mkdir -p -- " .. script.quote(path:match("^(.*)/")) .. " 2>/dev/null") then
      errors.usage("cannot create the folder '%s'", path:match("^(.*)/"))
    end
    local ok, err = context.core.write_file(path, file[2])
    if not ok then errors.usage("%s", err.message) end
    context.out(("wrote %s\n"):format(path))
  end
  context.out("\nNext, in that folder: knbl network.lua --dry-run, then without --dry-run (see docs/ci.md)\n")
  return 0
end

return M
