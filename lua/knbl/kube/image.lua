-- knbl.kube.image - the container image: the static agent, for each architecture that this build has one for, and for
-- this machine's architecture, in a layer of its own, the running program with the libraries it has loaded and the
-- certificate authorities (`knbl submit` needs them). One archive that is an OCI layout with an index and what `docker
-- save` writes at once; no daemon, no registry.
local core = require "knbl.core"
local json = require "knbl.json"

local M = {}

local AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
local USER = "65532:65532"

-- ---- tar ----

local function octal(n, width) return ("%0" .. width - 1 .. "o\0"):format(n) end

local function header(name, size, mode, kind, link)
  assert(#name < 100, name)
  local head = table.concat { name, ("\0"):rep(100 - #name), octal(mode, 8), octal(0, 8), octal(0, 8), octal(size, 12),
    octal(0, 12), "        ", kind,
    link or "", ("\0"):rep(100 - #(link or "")), "ustar\0", "00", ("\0"):rep(247) }
  local sum = 0
  for i = 1, 512 do sum = sum + head:byte(i) end
  return head:sub(1, 148) .. ("%06o\0 "):format(sum) .. head:sub(157)
end

-- entries: { name, data } files (mode 0644 or `mode`), { name, link = target } or { name } ending in "/" -> tar text
local function tar(entries)
  local parts = {}
  for _, e in ipairs(entries) do
    local name, data = e[1], e[2] or ""
    if e.link then
      parts[#parts + 1] = header(name, 0, 511, "2", e.link)
    elseif name:sub(-1) == "/" then
      parts[#parts + 1] = header(name, 0, e.mode or 493, "5")
    else
      parts[#parts + 1] = header(name, #data, e.mode or 420, "0")
      parts[#parts + 1] = data
      parts[#parts + 1] = ("\0"):rep(-#data % 512)
    end
  end
  parts[#parts + 1] = ("\0"):rep(1024)
  return table.concat(parts)
end
M.tar = tar

-- ---- what goes in ----

local function read(path)
  local f, err = io.open(path, "rb")
  if not f then return nil, { code = "system", message = err } end
  local data = f:read "a"
  f:close()
  return data
end

-- The agent as tar entries: /usr/bin/knbl-agent, and /usr/bin/knbl where no layer above has the whole program.
local function agent_root(binary)
  return { { "etc/" }, { "etc/passwd", "root:x:0:0:root:/:/\nknbl:x:65532:65532:knbl:/:/\n" }, { "tmp/", mode = 1023 },
    { "usr/" }, { "usr/bin/" }, { "usr/bin/knbl", link = "knbl-agent" }, { "usr/bin/knbl-agent", binary, mode = 493 } }
end

-- The whole program as tar entries.
local function program_root()
  local binary, err = read "/proc/self/exe"
  if not binary then return nil, err end
  local entries = { { "etc/" }, { "etc/ssl/" }, { "etc/ssl/certs/" }, { "usr/" }, { "usr/bin/" },
    { "usr/bin/knbl", binary, mode = 493 }, { "usr/lib/" }, { "lib", link = "usr/lib" }, { "lib64", link = "usr/lib" } }
  local authorities = read(AUTHORITIES)
  if authorities then entries[#entries + 1] = { "etc/ssl/certs/ca-certificates.crt", authorities } end
  for name, file in pairs(core.libraries()) do
    local data
    data, err = read(file)
    if not data then return nil, err end
    entries[#entries + 1] = { "usr/lib/" .. name, data, mode = 493 }
  end
  table.sort(entries, function(a, b) return a[1] < b[1] end)
  return entries
end

-- ---- the archive ----

local MEDIA = "application/vnd.oci.image."
local architectures = { x86_64 = "amd64", aarch64 = "arm64", ppc64le = "ppc64le", s390x = "s390x", riscv64 = "riscv64" }

-- What this machine is called where images are.
function M.machine()
  local name = core.machine()
  return architectures[name] or name
end

-- The architectures that the image has an agent for, this machine's first.
function M.architectures()
  local list = { M.machine() }
  for _, arch in ipairs { "amd64", "arm64" } do
    if arch ~= list[1] and core.agent_binary(arch) then list[#list + 1] = arch end
  end
  return list
end

-- The blobs of an archive: they are files under their digests.
local Blobs = {}
Blobs.__index = Blobs

function Blobs:add(data, kind, more)
  local digest = core.sha256(data)
  if not self[digest] then
    self[digest] = true
    self[#self + 1] = { "blobs/sha256/" .. digest, data }
  end
  local descriptor = more or {}
  descriptor.mediaType, descriptor.digest, descriptor.size = MEDIA .. kind, "sha256:" .. digest, #data
  return descriptor
end

-- Adds a layer of these entries to an image; nil, error where it cannot be compressed.
function Blobs:layer(image, entries)
  local plain = tar(entries)
  local packed, err = core.gzip(plain)
  if not packed then return nil, err end
  image.layers[#image.layers + 1] = self:add(packed, "layer.v1.tar+gzip")
  image.digests[#image.digests + 1] = "sha256:" .. core.sha256(plain)
  return true
end

-- The image for an architecture: its config's and its manifest's descriptors.
function Blobs:image(arch)
  local image = { layers = {}, digests = {} }
  local agent, ok, err = core.agent_binary(arch), true, nil
  if agent then ok, err = self:layer(image, agent_root(agent)) end
  if ok and arch == M.machine() then
    ok, err = program_root()
    if ok then ok, err = self:layer(image, ok) end
  end
  if not ok then return nil, err end
  image.config = self:add(json.encode { architecture = arch, os = "linux",
    config = { Entrypoint = { "/usr/bin/knbl" }, User = USER,
      Env = { "PATH=/usr/bin", "SSL_CERT_FILE=" .. AUTHORITIES },
      Labels = { ["org.opencontainers.image.title"] = "knbl", ["org.opencontainers.image.version"] = core.version } },
    rootfs = { type = "layers", diff_ids = image.digests },
    history = { { created_by = "knbl image save" } } }, "config.v1+json")
  image.manifest = self:add(json.encode { schemaVersion = 2, mediaType = MEDIA .. "manifest.v1+json",
    config = image.config, layers = image.layers }, "manifest.v1+json",
    { platform = { os = "linux", architecture = arch } })
  return image
end

local function path_of(descriptor) return "blobs/sha256/" .. descriptor.digest:match ":(.*)" end

-- What `docker load` reads: this machine's image.
local function docker_manifest(image, name)
  local layers = {}
  for i, layer in ipairs(image.layers) do layers[i] = path_of(layer) end
  return json.encode { { Config = path_of(image.config), RepoTags = { name }, Layers = layers } }
end

-- The archive's bytes for an image of that name ("knbl:0.1.0").
function M.archive(name)
  local blobs, manifests, own = setmetatable({}, Blobs), {}, nil
  for _, arch in ipairs(M.architectures()) do
    local image, err = blobs:image(arch)
    if not image then return nil, err end
    own = own or image
    manifests[#manifests + 1] = image.manifest
  end
  local index = blobs:add(json.encode { schemaVersion = 2, mediaType = MEDIA .. "index.v1+json",
    manifests = manifests }, "index.v1+json", { annotations = {
      ["io.containerd.image.name"] = name:find("/", 1, true) and name or "docker.io/library/" .. name,
      ["org.opencontainers.image.ref.name"] = name:match ":([^:/]+)$" or "latest" } })
  local out = { { "blobs/" }, { "blobs/sha256/" } }
  table.move(blobs, 1, #blobs, #out + 1, out)
  out[#out + 1] = { "index.json", json.encode { schemaVersion = 2, manifests = { index } } }
  out[#out + 1] = { "manifest.json", docker_manifest(own, name) }
  out[#out + 1] = { "oci-layout", json.encode { imageLayoutVersion = "1.0.0" } }
  return tar(out)
end

return M
