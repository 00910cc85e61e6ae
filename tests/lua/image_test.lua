-- knbl.kube.image: an index with an image for each architecture, whose parts are what their digests say.
local lu = require "luaunit"
local core = require "knbl.core"
local image = require "knbl.kube.image"
local json = require "knbl.json"

TestImage = {}

local NAME = "registry.invalid/knbl:1"
local ARCHIVE = assert(image.archive(NAME)) -- takes seconds
local PREFIX = "application/vnd.oci.image."

-- The files of a tar: { [name] = bytes }.
local function files_of(archive)
  local files, at = {}, 1
  while archive:byte(at) ~= 0 do
    local name, size = archive:match("^[^\0]+", at), tonumber(archive:sub(at + 124, at + 134), 8)
    files[name] = archive:sub(at + 512, at + 511 + size)
    at = at + 512 + size + -size % 512
  end
  return files
end

local function blob(files, descriptor)
  local data = files["blobs/sha256/" .. descriptor.digest:match ":(.*)"]
  lu.assertEquals("sha256:" .. core.sha256(data), descriptor.digest)
  lu.assertEquals(#data, descriptor.size)
  return data
end

local function index_of(files)
  local top = json.decode(files["index.json"]).manifests
  lu.assertEquals(#top, 1)
  lu.assertEquals(top[1].mediaType, PREFIX .. "index.v1+json")
  return json.decode(blob(files, top[1])), top[1]
end

function TestImage.test_an_index_names_every_architecture()
  local index, descriptor = index_of(files_of(ARCHIVE))
  lu.assertEquals(descriptor.annotations, { ["io.containerd.image.name"] = NAME,
    ["org.opencontainers.image.ref.name"] = "1" })
  local found = {}
  for i, manifest in ipairs(index.manifests) do found[i] = manifest.platform.architecture end
  lu.assertEquals(found, image.architectures())
  lu.assertEquals(found[1], image.machine())
end

function TestImage.test_the_first_layer_is_the_agent_alone()
  local files = files_of(ARCHIVE)
  for i, descriptor in ipairs(index_of(files).manifests) do
    local manifest = json.decode(blob(files, descriptor))
    local config = json.decode(blob(files, manifest.config))
    lu.assertEquals(config.architecture, descriptor.platform.architecture)
    lu.assertEquals(#config.rootfs.diff_ids, #manifest.layers)
    lu.assertEquals(#manifest.layers, i == 1 and 2 or 1) -- knbl itself is there for this machine's architecture
    lu.assertTrue(manifest.layers[1].size < 2e6)
    for _, layer in ipairs(manifest.layers) do blob(files, layer) end
  end
end

function TestImage.test_docker_finds_this_machines_image()
  local files = files_of(ARCHIVE)
  local docker = json.decode(files["manifest.json"])[1]
  lu.assertEquals(docker.RepoTags, { NAME })
  lu.assertEquals(json.decode(files[docker.Config]).architecture, image.machine())
  for _, layer in ipairs(docker.Layers) do lu.assertNotNil(files[layer], layer) end
end

os.exit(lu.LuaUnit.run())
