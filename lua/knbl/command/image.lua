-- knbl image save FILE [NAME] - writes the agent's image, so that a cluster without a registry can be given it.
local core = require "knbl.core"
local image = require "knbl.image"

local M = { usage = "image save FILE [NAME]", help = "write the agent's image: kind load image-archive FILE, ctr -n k8s.io images import FILE" }

function M.run(words)
  if words[1] ~= "save" or not words[2] or words[4] then
    io.stderr:write("knbl: usage: knbl ", M.usage, "\n")
    return 2
  end
  local name = words[3] or "knbl:" .. core.version
  local data, err = image.archive(name)
  local ok = data
  if data then ok, err = core.write_file(words[2], data) end
  if not ok then
    io.stderr:write("knbl: image: ", err.message, "\n")
    return err.code == "argument" and 2 or 1
  end
  io.stderr:write(("knbl: %s holds %s, %.1f MB\n"):format(words[2], name, #data / 1e6))
  return 0
end

return M
