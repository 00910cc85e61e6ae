-- The pages: the reference is what the code says, the tutorial's snippets run, the annotations have every name.
package.path = "tests/lua/?.lua;" .. package.path
local lu = require "luaunit"
local cluster = require "knbl.cluster"
local core = require "knbl.native"
local fake = require "fake"

TestDocs = {}

local knbl = arg and arg[-1] or os.getenv "KNBL" or "./knbl"

function TestDocs:test_the_reference_is_current()
  local pipe = assert(io.popen(knbl .. " docs/reference.lua"))
  local made = pipe:read "a"
  pipe:close()
  lu.assertTrue(made == fake.read "docs/reference.md", "make it again: ./knbl docs/reference.lua > docs/reference.md")
end

function TestDocs:test_the_schema_is_current()
  local pipe = assert(io.popen(knbl .. " docs/contract.lua"))
  local made = pipe:read "a"
  pipe:close()
  lu.assertTrue(made == fake.read "docs/ledger.schema.json",
    "make it again: ./knbl docs/contract.lua > docs/ledger.schema.json")
end

-- The fields of a class in lua/knbl/meta.lua.
local function fields_of(class)
  local fields, on = {}, false
  for line in fake.read("lua/knbl/meta.lua"):gmatch "[^\n]+" do
    local name = line:match "^%-%-%-@class (%S+)"
    if name then on = name == class end
    local field = on and line:match "^%-%-%-@field ([%w_]+)"
    if field then fields[field] = true end
  end
  return fields
end

function TestDocs:test_every_key_is_annotated()
  local ask = fields_of "knbl.Ask"
  for _, field in ipairs(core.fields()) do lu.assertTrue(ask[field.name], "knbl.Ask lacks " .. field.name) end
  for class, keys in pairs { ["knbl.ClusterOptions"] = cluster.keys.cluster, ["knbl.PodOptions"] = cluster.keys.pod,
    ["knbl.ServiceOptions"] = cluster.keys.service, ["knbl.PolicyOptions"] = cluster.keys.policy } do
    local fields = fields_of(class)
    for key in pairs(keys) do lu.assertTrue(fields[key], class .. " lacks " .. key) end
    for key in pairs(fields) do lu.assertTrue(keys[key], class .. " has " .. key) end
  end
end

function TestDocs:test_every_name_of_the_module_is_annotated()
  local text = fake.read "lua/knbl/meta.lua"
  for name, value in pairs(require "knbl") do
    if type(value) == "function" then lu.assertStrContains(text, ("\nfunction knbl.%s("):format(name)) end
  end
end

function TestDocs:test_every_scenario_is_on_its_page()
  local page = fake.read "docs/scenarios.md"
  local pipe <close> = assert(io.popen "ls scenarios/*.lua")
  for path in pipe:lines() do lu.assertStrContains(page, "`" .. path:match "([%w_]+)%.lua$" .. "`") end
end

local function snippets(kind, page)
  local list = {}
  for block in fake.read(page or "docs/tutorial.md"):gmatch("```" .. kind .. "\n(.-)```") do list[#list + 1] = block end
  return list
end

-- Engines that are thought of, over the lab that is planned: every line is run, nothing is measured. tests/lab runs
-- them for real.
function TestDocs:test_the_tutorial_s_snippets_are_right()
  local list = snippets "lua"
  lu.assertTrue(#list >= 6)
  for _, snippet in ipairs(list) do
    local code, out, err = fake.knbl(snippet, { "--dry-run", "--duration", "100ms" })
    lu.assertEquals(code, 0, err)
    lu.assertStrContains(out, "measurement")
    lu.assertEquals(out:find("the plan ends here", 1, true) ~= nil, snippet:find(":exec", 1, true) ~= nil)
  end
end

function TestDocs:test_the_tutorial_s_commands_are_right()
  local list, plan = snippets "lua", os.tmpname()
  local scripts = { ["first.lua"] = list[1], ["sizes.lua"] = list[3], ["gate.lua"] = list[5], ["shape.lua"] = list[6] }
  for _, block in ipairs(snippets "sh") do
    for line in block:gmatch "[^\n]+" do
      local argv, at, script = {}, nil, nil
      for word in line:gsub("'([^']*)'", function(s) return (s:gsub(" ", "\1")) end):gmatch "%S+" do
        word = word:gsub("\1", " ")
        if word == "first.json" then word = plan end
        if word:match "%.lua$" then at, script = #argv, assert(scripts[word], word)
        elseif word == "node_to_node" then argv[#argv + 1] = word
        elseif word ~= "knbl" and word ~= "last.json" and word ~= "--baseline" then argv[#argv + 1] = word end
      end
      argv.at = at and at + 1
      argv[#argv + 1] = "--dry-run"
      local code, _, err = fake.knbl(script, argv)
      lu.assertEquals(code, 0, line .. ": " .. err)
    end
  end
  os.remove(plan)
end

function TestDocs:test_the_page_about_profiles_is_right()
  local code, out, err = fake.knbl(snippets("lua", "docs/profiles.md")[1], { "--dry-run", "--duration", "100ms" })
  lu.assertEquals(code, 0, err)
  lu.assertStrContains(out, "2 measurements")
  local ledger = os.tmpname()
  local script = snippets("lua", "docs/profiles.md")[1]:gsub("knbl.cluster%(%)",
    'knbl.cluster { provider = "loopback" }'):gsub(", server:service%(%)", "")
  code, out, err = fake.knbl(script, { "--json", ledger })
  lu.assertEquals(code, 0, err)
  for line in snippets("sh", "docs/profiles.md")[1]:gmatch "[^\n]+" do
    local argv = { at = line:match "why%.lua" and 1 }
    for word in line:gmatch "%S+" do
      if word:match "^why%.json$" then word = ledger elseif word:match "^why%..*" then word = "/dev/null" end
      if word ~= "knbl" and not (argv.at and #argv == 0 and word == "/dev/null") then argv[#argv + 1] = word end
    end
    code, out, err = fake.knbl(argv.at and script, argv)
    lu.assertEquals(code, 0, line .. ": " .. err)
  end
  os.remove(ledger)
end

local function lines_of(command)
  local list, pipe <close> = {}, io.popen(command)
  for line in pipe:lines() do list[#list + 1] = line end
  return list
end

-- The commands of a page: lines of its blocks that begin with knbl, without what is for the shell.
local function commands_of(page)
  local list = {}
  local text = fake.read(page):gsub("```[^\n]*\n(.-)```", function(block) return block:gsub("%f[^\n]", "    ") end)
  for line in text:gsub("\\\n%s*", " "):gmatch "\n    %s*%.?/?(knbl [^\n]*)" do
    line = line:gsub("%s+#.*", ""):gsub("%s*>%S+$", ""):gsub(" ||.*", "")
    if not line:find "[%[…]" and not line:find "%f[%w]SCENARIO%f[%W]" then list[#list + 1] = line end
  end
  return list
end

-- Every command that the pages show has options that exist: with --help nothing else is done.
function TestDocs:test_commands_have_options_that_exist()
  local checked = 0
  for _, page in ipairs(lines_of "ls README.md CONTRIBUTING.md docs/*.md") do
    for _, line in ipairs(page ~= "docs/tutorial.md" and commands_of(page) or {}) do
      local own = line:gsub("^knbl", knbl):gsub("%S+%.lua", function(name)
        return not io.open(name) and "ping" or nil
      end)
      local before, behind = own:match "^(.-)( %-%- .*)$"
      local pipe = assert(io.popen(("(%s --help%s) 2>&1 </dev/null"):format(before or own, behind or "")))
      local said = pipe:read "a"
      lu.assertEquals({ pipe:close() }, { true, "exit", 0 }, page .. ": " .. line .. ": " .. said)
      lu.assertStrContains(said, "knbl", line)
      checked = checked + 1
    end
  end
  lu.assertTrue(checked >= 25, checked .. " commands")
end

-- Links between the pages: the file exists, and where a heading is named, it has it.
function TestDocs:test_links_lead_somewhere()
  local pages, checked = lines_of "ls README.md CONTRIBUTING.md CHANGELOG.md docs/*.md", 0
  lu.assertTrue(#pages >= 10)
  for _, page in ipairs(pages) do
    local folder = page:match "^(.*/)" or ""
    for link in fake.read(page):gsub("```.-```", ""):gmatch "%]%(([^)%s]+)%)" do
      local path, heading = link:match "^([^#]*)#?(.*)$"
      if not path:find "^https?:" then
        local file = path == "" and page or folder .. path
        local text = fake.read(file)
        if heading ~= "" then
          local wanted = "\n#+ " .. heading:gsub("%-", "[ -]") .. "\n"
          lu.assertNotNil(("\n" .. text):lower():find(wanted), page .. ": " .. link)
        end
        checked = checked + 1
      end
    end
  end
  lu.assertTrue(checked >= 20)
end

-- The page on the architecture names the folders that there are, and no others.
function TestDocs:test_the_architecture_s_folders_exist()
  local page = fake.read "docs/architecture.md"
  for root, pattern in pairs { src = "\n| `src/(%l+)` |", ["lua/knbl"] = "\n| `(%l+)` |" } do
    local named = {}
    for name in page:gmatch(pattern) do named[#named + 1] = name end
    table.sort(named)
    lu.assertEquals(named, lines_of(("cd %s && ls -d */ | tr -d / | LC_ALL=C sort"):format(root)))
  end
end

-- The picture in the README is a well-formed SVG of a run of today's scenario.
function TestDocs:test_the_picture_is_made_by_docs_picture_lua()
  local scenario, ledger = fake.read "scenarios/ping.lua", os.tmpname()
  local code, _, err = fake.knbl(scenario, { "--json", ledger, "--on", "loopback", "--only", "PodB-1>PodB-1",
    "--pings", "3" })
  lu.assertEquals(code, 0, err)
  local pipe = assert(io.popen(("%s docs/picture.lua <%s"):format(knbl, ledger)))
  local made = pipe:read "a"
  pipe:close()
  os.remove(ledger)
  for _, picture in ipairs { made, fake.read "docs/report.svg" } do
    lu.assertStrMatches(picture, "<svg .*</svg>\n")
    local depth = 0
    for close, name, alone in picture:gmatch "<(/?)(%l+)[^<>]-(/?)>" do
      lu.assertNotEquals(name, "")
      depth = depth + (close == "/" and -1 or alone == "/" and 0 or 1)
    end
    lu.assertEquals(depth, 0)
  end
  lu.assertStrContains(made, ">PodB-1&gt;PodB-1")
end

os.exit(lu.LuaUnit.run())
