-- A disk that is full: the figures still come out, and no file is taken for whole that is not.
local lu = require "luaunit"
local json = require "knbl.json"

local knbl = os.getenv "KNBL" or "./knbl"

local function sh(line)
  local pipe = assert(io.popen("{ " .. line .. "; echo code=$?; } 2>&1"))
  local text = pipe:read "a"
  pipe:close()
  return text, tonumber(text:match "code=(%d+)\n$")
end

TestFull = {}

function TestFull:setUp()
  self.ledger = os.tmpname()
  local file = assert(io.open(self.ledger, "w"))
  file:write(json.encode { schema = 1, measurements = {
    { test = "tcp_rr", case = "c", ok = true, metrics = { rate_per_s = 5000 } } } })
  file:close()
end
function TestFull:tearDown() os.remove(self.ledger) end

function TestFull:test_a_file_on_a_full_disk()
  for _, format in ipairs { "json", "csv", "markdown", "junit", "html", "openmetrics" } do
    local text, code = sh(("%s report %s --%s /dev/full"):format(knbl, self.ledger, format))
    lu.assertEquals(code, 1, text)
    lu.assertStrContains(text, "5.00 k/s")
    lu.assertStrContains(text, "--" .. format .. ": cannot write /dev/full: No space left on device")
  end
end

function TestFull:test_a_run_on_a_full_disk()
  local text, code = sh(knbl .. " --on loopback ci_gate --duration 30ms --warmup 0 --json /dev/full --csv /dev/full")
  lu.assertTrue(code == 98 or code == 99 or code == 1, text)
  lu.assertStrContains(text, "\ntcp_rr  pod to pod")
  lu.assertStrContains(text, "No space left on device")
end

function TestFull:test_standard_output()
  local text, code = sh(("%s report %s -q --csv - >/dev/full"):format(knbl, self.ledger))
  lu.assertEquals(code, 1, text)
  lu.assertStrContains(text, "standard output: No space left on device")
end

-- In a namespace of its own, a disk with no room for the new file: the one before stays.
function TestFull:test_what_was_there_stays()
  local line = ([[unshare --user --map-root-user --mount sh -c 'mount -t tmpfs -o size=8k none /mnt &&
    echo before >/mnt/page.html && %s report %s -q --html /mnt/page.html;
    echo code=$?; cat /mnt/page.html; ls /mnt']]):format(knbl, self.ledger)
  local text = sh(line)
  if text:find "unshare" or text:find "mount:" then lu.skip "no user namespaces here" end
  lu.assertStrContains(text, "code=1\nbefore\npage.html\n")
end

os.exit(lu.LuaUnit.run())
