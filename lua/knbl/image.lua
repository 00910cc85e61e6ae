-- knbl.image - the agent's container image, made of the running program itself: the binary, the libraries it has loaded, the certificate
-- authorities, nothing else. One archive that is an OCI layout and what `docker save` writes at once; no daemon, no registry.
local core = require "knbl.core"
local json = require "knbl.json"

local M = {}

local AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
local USER = "65532:65532"

-- ---- tar ---------------------------------------------------------------------------------------------------------------

local function octal(n, width) return ("%0" .. width - 1 .. "o\0"):format(n) end

local function header(name, size, mode, kind, link)
  assert(#name < 100, name)
  local head = table.concat { name, ("\0"):rep(100 - #name), octal(mode, 8), octal(0, 8), octal(0, 8), octal(size, 12), octal(0, 12), "        ", kind,
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

-- ---- what goes in --------------------------------------------------------------------------------------------------------

local function read(path)
  local f, err = io.open(path, "rb")
  if not f then return nil, { code = "system", message = err } end
  local data = f:read "a"
  f:close()
  return data
end

-- -> list of tar entries
local function root()
  local binary, err = read "/proc/self/exe"
  if not binary then return nil, err end
  local entries = { { "etc/" }, { "etc/passwd", "root:x:0:0:root:/:/\nknbl:x:65532:65532:knbl:/:/\n" }, { "etc/ssl/" }, { "etc/ssl/certs/" },
    { "usr/" }, { "usr/bin/" }, { "usr/bin/knbl", binary, mode = 493 }, { "usr/lib/" }, { "lib", link = "usr/lib" }, { "lib64", link = "usr/lib" },
    { "tmp/", mode = 1023 } }
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

-- ---- the archive ----------------------------------------------------------------------------------------------------------

local architectures = { x86_64 = "amd64", aarch64 = "arm64", ppc64le = "ppc64le", s390x = "s390x", riscv64 = "riscv64" }

-- What this machine is called where images are.
function M.machine()
  local name = core.machine()
  return architectures[name] or name
end

-- The archive's bytes for an image of that name ("knbl:0.1.0").
function M.archive(name)
  local entries, err = root()
  if not entries then return nil, err end
  local plain = tar(entries)
  local layer
  layer, err = core.gzip(plain)
  if not layer then return nil, err end
  local blobs = {}
  local function blob(data)
    local digest = core.sha256(data)
    blobs[#blobs + 1] = { "blobs/sha256/" .. digest, data }
    return { digest = "sha256:" .. digest, size = #data }
  end
  local config = blob(json.encode { architecture = M.machine(), os = "linux", config = { Entrypoint = { "/usr/bin/knbl" }, User = USER,
      Env = { "PATH=/usr/bin", "SSL_CERT_FILE=" .. AUTHORITIES }, Labels = { ["org.opencontainers.image.title"] = "knbl",
        ["org.opencontainers.image.version"] = core.version } },
    rootfs = { type = "layers", diff_ids = { "sha256:" .. core.sha256(plain) } }, history = { { created_by = "knbl image save" } } })
  local part = blob(layer)
  local full = name:find("/", 1, true) and name or "docker.io/library/" .. name
  config.mediaType, part.mediaType = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"
  local manifest = blob(json.encode { schemaVersion = 2, mediaType = "application/vnd.oci.image.manifest.v1+json", config = config, layers = { part } })
  manifest.mediaType = "application/vnd.oci.image.manifest.v1+json"
  manifest.annotations = { ["io.containerd.image.name"] = full, ["org.opencontainers.image.ref.name"] = name:match ":([^:/]+)$" or "latest" }
  local out = { { "blobs/" }, { "blobs/sha256/" } }
  table.move(blobs, 1, #blobs, #out + 1, out)
  out[#out + 1] = { "index.json", json.encode { schemaVersion = 2, manifests = { manifest } } }
  out[#out + 1] = { "manifest.json", json.encode { { Config = blobs[1][1], RepoTags = { name }, Layers = { blobs[2][1] } } } }
  out[#out + 1] = { "oci-layout", json.encode { imageLayoutVersion = "1.0.0" } }
  return tar(out)
end

return M
