-- knbl image save FILE [NAME] - writes the agent's image for clusters without a registry.
local errors = require "knbl.base.errors"
local image = require "knbl.kube.image"

local M = {
  summary =
    "Writes the agent's container image, made from this program. To load it into a cluster without a registry, run\n"
    .. "`kind load image-archive FILE`, or `ctr -n k8s.io images import FILE` on each node.",
  usage = "knbl image save FILE [NAME]",
}

function M.run(context, _, words)
  if words[1] ~= "save" or not words[2] or words[4] then errors.usage("usage: %s", M.usage) end
  local name = words[3] or "knbl:" .. context.core.version
  local data, err = image.archive(name)
  local ok = data
  if data then ok, err = context.core.write_file(words[2], data) end
  if not ok then errors.raise(err, "image") end
  context.err(("knbl: wrote %s: image %s, %.1f MB\n"):format(words[2], name, #data / 1e6))
  return 0
end

return M
