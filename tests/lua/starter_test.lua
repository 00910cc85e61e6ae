-- knbl init and docs/ci.md: what is written works, what is there stays, and the page shows just that.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local cli = require "knbl.program.cli"
local core = require "knbl.native"
local fake = require "fake"
local args = require "knbl.base.args"
local json = require "knbl.json"
local starter = require "knbl.program.starter"

TestStarter = {}

function TestStarter:setUp()
  self.folder = os.tmpname()
  os.remove(self.folder)
end
function TestStarter:tearDown() os.execute("rm -rf " .. self.folder) end

function TestStarter:test_what_is_written_works()
  for kind, job in pairs(starter.jobs(core.version)) do
    local folder = self.folder .. "/" .. kind
    local code, out, err = fake.knbl(nil, { "init", "--ci", kind, folder })
    lu.assertEquals(code, 0, err)
    lu.assertStrContains(out, "wrote " .. folder .. "/" .. job.path)
    lu.assertEquals(fake.read(folder .. "/" .. job.path), job.text)
    lu.assertEquals(json.decode(fake.read(folder .. "/.luarc.json"))["workspace.library"], { ".knbl" })
    lu.assertStrContains(fake.read(folder .. "/.knbl/meta.lua"), "---@class knbl.Ask")
    code, out, err = fake.knbl(nil, { folder .. "/network.lua", "--dry-run" })
    lu.assertEquals(code, 0, err)
    lu.assertStrContains(out, "3 measurements")
  end
  lu.assertEquals((fake.knbl(nil, { "init", "--ci", "none", self.folder .. "/none" })), 0)
end

function TestStarter:test_what_is_there_stays()
  lu.assertEquals((fake.knbl(nil, { "init", "--ci", "none", self.folder })), 0)
  local function spoil(name)
    local file = assert(io.open(self.folder .. "/" .. name, "w"))
    file:write "mine"
    file:close()
  end
  os.remove(self.folder .. "/.luarc.json")
  spoil "network.lua"
  local code, _, err = fake.knbl(nil, { "init", self.folder })
  lu.assertEquals(code, 2)
  lu.assertStrContains(err, "network.lua exists: nothing was written")
  code, _, err = fake.knbl(nil, { "init", "/proc/self/exe/x" })
  lu.assertEquals({ code, err }, { 2, "knbl: cannot create the folder '/proc/self/exe/x'\n" })
  lu.assertEquals(fake.read(self.folder .. "/network.lua"), "mine")
  lu.assertNil(io.open(self.folder .. "/.luarc.json"), "nothing at all")
end

function TestStarter:test_wrong_words()
  lu.assertEquals((fake.knbl(nil, { "init", "--ci", "jenkins" })), 2)
  lu.assertEquals((fake.knbl(nil, { "init", "a", "b" })), 2)
  lu.assertEquals((fake.knbl(nil, { "init", "/proc/nonexistent/x" })), 2)
end

-- ---- the jobs ----

function TestStarter:test_the_page_has_the_jobs()
  local page = fake.read "docs/ci.md"
  for kind, job in pairs(starter.jobs(core.version)) do
    lu.assertTrue(page:find("```yaml\n" .. job.text .. "```\n", 1, true) ~= nil, kind)
  end
end

-- The words of a shell's line, as far as a job needs them.
local function words_of(line)
  local words, word, quote = {}, nil, nil
  for c in (line .. " "):gmatch "." do
    if quote then
      if c == quote then quote = nil else word = word .. c end
    elseif c == "'" or c == '"' then quote, word = c, word or ""
    elseif c:match "%s" then
      words[#words + 1], word = word, nil
    else word = (word or "") .. c end
  end
  return words
end

-- Every run of knbl in a text, up to what ends a command.
local function commands_of(text)
  local list = {}
  for line in text:gsub("<sup>", ""):gmatch "[^\n]+" do
    -- what quotes hold is not the shell's
    local quoted = line:gsub("'[^']*'", function(word) return (word:gsub("&&", "and")) end)
    for command in quoted:gsub("&&", "\n"):gsub("||", "\n"):gmatch "[^\n]+" do
      local words = words_of(command)
      if words[1] == "[" or words[1] == "test" then words = {} end
      if words[1] == "knbl" then list[#list + 1] = { (table.unpack or unpack)(words, 2) } end
    end
  end
  return list
end

local function texts_in(value, list)
  if type(value) == "string" then list[#list + 1] = value end
  if type(value) == "table" then
    for _, inner in pairs(value) do texts_in(inner, list) end
  end
  return list
end

-- All words are taken as the program takes them, up to where it would look for the files.
local function check(words)
  local command = cli.command(words[1])
  local flags = command and words[1] ~= "run" and command.flags or cli.flags
  if command and command.raw then -- it takes the options of a run too
    flags = { (table.unpack or unpack)(flags) }
    for _, flag in ipairs(cli.flags) do flags[#flags + 1] = flag end
  end
  local values, rest = args.parse(core, flags, words, command and 2 or 1, "a job")
  for _, source in ipairs(values.fail_if or {}) do assert(require("knbl.results.expect").parse_change(core, source)) end
  return rest
end

function TestStarter:test_the_jobs_are_yaml_and_their_commands_are_right()
  local count = 0
  for kind, job in pairs(starter.jobs(core.version)) do
    local documents = assert(json.decode((assert(core.yaml_parse(job.text)))))
    lu.assertTrue(#documents > 0, kind)
    for _, text in ipairs(texts_in(documents, {})) do
      for _, words in ipairs(commands_of(text)) do
        check(words)
        count = count + 1
      end
    end
    for _, document in ipairs(documents) do
      if document.kind == "CronJob" then
        local pod = document.spec.jobTemplate.spec.template.spec
        lu.assertEquals(check(pod.containers[1].args), { "/scenario/network.lua" })
        lu.assertEquals(pod.containers[1].image, "knbl:" .. core.version)
        count = count + 1
      elseif document.kind == "ConfigMap" then
        lu.assertEquals(document.data["network.lua"], starter.scenario)
      end
    end
  end
  lu.assertTrue(count >= 6, count)
end

os.exit(lu.LuaUnit.run())
