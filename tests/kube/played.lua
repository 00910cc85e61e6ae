-- An API server that a test plays (faulty.lua): which answers it gives, what it was asked, and a client of it.
local core = require "knbl.core"
local json = require "knbl.json"
local kube = require "knbl.kube"
local shell = require "tests.cli.shell"

local M = { knbl = os.getenv "KNBL" or "./knbl" }

local server, began

function M.close()
  for _, thing in ipairs { server, M.dir } do getmetatable(thing).__close(thing) end
  M.dir = nil
end

-- Writes a file beside it; returns its path.
function M.put(name, text) return shell.write(M.dir:file(name), text) end

-- A client with this user's credentials.
function M.user_of(user)
  local path = M.put("config", json.encode { apiVersion = "v1", kind = "Config", ["current-context"] = "x",
    contexts = { { name = "x", context = { cluster = "c", user = "u" } } }, users = { { name = "u", user = user } },
    clusters = { { name = "c", cluster = { server = "https://127.0.0.1:" .. shell.read(M.dir:file "port"),
      ["certificate-authority"] = M.dir:file "ca.pem" } } } })
  return assert(kube.connect { kubeconfig = path, on_warning = function(text)
    M.warnings[#M.warnings + 1] = text
  end })
end

-- Sets the server's next answers: a Lua list as text (see faulty.lua).
function M.serve(text)
  os.remove(M.dir:file "asked")
  M.put("answers.lua", "return {\n" .. text .. "\n}")
end

-- The requests since then.
function M.asked()
  local list = {}
  for line in shell.read(M.dir:file "asked"):gmatch "[^\n]+" do list[#list + 1] = json.decode(line) end
  return list
end

-- Before each test. -> a client, the folder of the server
function M.set_up()
  if M.dir and core.now() - began > 20 then M.close() end -- a process of the tests ends after a minute
  if not M.dir then
    M.dir, began = shell.folder(), core.now()
    server = shell.start(("%s tests/kube/faulty.lua %s"):format(M.knbl, M.dir.path))
    shell.wait_for("the server", function() return shell.read(M.dir:file "port") end)
  end
  M.warnings = {}
  return M.user_of { token = "t" }, M.dir
end

return M
