-- The jobs of docs/ci.md (`knbl init --ci`), run as a runner runs them: each script by `bash -e`, with a repository, a
-- base branch, and a program `knbl` that measures over loopback where the job says --on k8s. What they call besides
-- (curl, kind, apt-get, gh) is replaced.
local lu = require "luaunit"
local core = require "knbl.native"
local json = require "knbl.json"
local shell = require "tests.cli.shell"
local starter = require "knbl.program.starter"

local quote = shell.quote

-- What was deployed is the size of its writes: the throughput of two of them differs by a factor of a thousand.
local scenario = [[
-- How fast is what was deployed?
local knbl = require "knbl"
local cluster <close> = knbl.cluster { provider = "loopback" }
local a, b = cluster:pair()
local file = io.open(os.getenv "DEPLOYED") -- not there while it is planned
local size = file and file:read "l" or "1K"
if file then file:close() end
knbl.tcp_stream { case = "x", from = a, to = b, duration = "100ms", warmup = 0, size = size,
  expect = os.getenv "EXPECT" }
knbl.tcp_rr { case = "x", from = a, to = b, count = 200, warmup = 0 }
]]

local wrapper = [[
#!/bin/sh
for word; do
  shift
  case $word in --on|k8s) ;; *) set -- "$@" "$word" ;; esac
done
exec %s "$@"
]]

-- A folder with a checkout, its remote, and the programs that a job finds.
local function workplace(dir, base, head)
  local bin = dir:file "bin"
  os.execute("mkdir " .. bin)
  shell.write(bin .. "/knbl", wrapper:format(quote(shell.run("realpath " .. quote(shell.knbl)).out:gsub("\n", ""))))
  for _, name in ipairs { "kind", "apt-get", "gh", "tar", "ln" } do
    shell.write(bin .. "/" .. name, ("#!/bin/sh\ncat >/dev/null\necho %s \"$@\" >>%s\n"):format(name,
      dir:file "called"))
  end
  shell.write(bin .. "/curl", ("#!/bin/sh\necho curl \"$@\" >>%s\n"):format(dir:file "called"))
  os.execute("chmod +x " .. bin .. "/*")
  local done = shell.run(([[
    cd %s && export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b
    export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
    git init -q -b main work && cd work && cat >network.lua && echo %s >version && git add . && git commit -q -m base &&
    git clone -q --bare . ../remote && git remote add origin "$PWD/../remote" && git rev-parse HEAD >../base-sha &&
    git checkout -q -b change && echo %s >version && git add . && git commit -q --allow-empty -m head
  ]]):format(dir.path, base, head), scenario)
  lu.assertEquals(done.code, 0, done.err)
  return dir:file "work"
end

-- Runs scripts as one runner does, one after the other; stops at the first that fails. Returns its exit code.
local function run(dir, scripts, environment)
  local exports = { 'DEPLOY=\'cp version "$DEPLOYED"\'', "DEPLOYED=" .. dir:file "deployed",
    "GIT_CONFIG_GLOBAL=/dev/null", "GITHUB_PATH=" .. dir:file "path",
    "GITHUB_STEP_SUMMARY=" .. dir:file "summary.md", "KNBL_RELEASE=x",
    "PATH=" .. dir:file "bin" .. ':"$PATH"' }
  for name, value in pairs(environment) do exports[#exports + 1] = name .. "=" .. quote(value) end
  local got
  for _, script in ipairs(scripts) do
    local path = shell.write(dir:file "step", script)
    got = shell.run(("cd %s && export %s && exec bash -e %s"):format(dir:file "work", table.concat(exports, " "), path))
    if got.code ~= 0 then break end
  end
  return got.code, got.out .. got.err
end

local function yaml(kind)
  return json.decode((assert(core.yaml_parse(starter.jobs(core.version)[kind].text))))[1]
end

-- The scripts of the GitHub job for an event, and those that run in any case, after a failure too.
local function github(event)
  local scripts, always = {}, {}
  for _, step in ipairs(yaml("github").jobs.network.steps) do
    local condition = step["if"] or ""
    local meant = not condition:find "event_name" or condition:find("'" .. event .. "'", 1, true)
    if step.run and meant then
      table.insert(condition:find "always" and always or scripts, (step.run:gsub("%$%{%{.-%}%}", "x")))
    end
  end
  return scripts, always
end

local function read(dir, name) return shell.read(dir:file("work/" .. name)) end

TestGithub = {}

local function pull_request(dir, base, head)
  workplace(dir, base, head)
  local scripts, always = github "pull_request"
  local code, said = run(dir, scripts, { GITHUB_BASE_REF = "main", GITHUB_EVENT_NAME = "pull_request" })
  lu.assertEquals(run(dir, always, { PR = "7" }), 0)
  for _, name in ipairs { "ledger.json", "junit.xml", "report.html", "comment.md" } do
    lu.assertNotNil(read(dir, name), name .. ": " .. said)
  end
  lu.assertStrContains(shell.read(dir:file "summary.md"), read(dir, "comment.md"))
  lu.assertStrContains(shell.read(dir:file "called"), "gh pr comment 7 --body-file comment.md")
  return code, json.decode(read(dir, "ledger.json")), said
end

function TestGithub.test_a_change_without_a_difference_passes()
  local dir <close> = shell.folder()
  local code, ledger, said = pull_request(dir, "128K", "128K")
  -- a busy machine may show a difference; whatever the verdict is, the job says the same
  lu.assertEquals(code, ledger.verdict.exit == 98 and 0 or ledger.verdict.exit, said)
  lu.assertEquals({ #ledger.measurements, ledger.arms[1].rounds }, { 32, 8 })
  lu.assertStrContains(read(dir, "comment.md"), "throughput")
end

function TestGithub.test_a_regression_fails_and_is_told_everywhere()
  local dir <close> = shell.folder()
  local code, ledger, said = pull_request(dir, "128K", "1")
  lu.assertEquals(code, 99, said)
  lu.assertEquals(ledger.verdict.status, "fail")
  lu.assertStrContains(read(dir, "junit.xml"), "<failure")
  lu.assertStrContains(read(dir, "comment.md"), "throughput -10%")
end

local function push(dir, run_id, environment)
  environment.GITHUB_EVENT_NAME, environment.GITHUB_SHA = "push", "abc" .. run_id
  environment.GITHUB_RUN_ID, environment.GITHUB_RUN_ATTEMPT = run_id, "1"
  return run(dir, (github "push"), environment)
end

-- 98 does not fail the job, 99 does; each run is in the history, one of another machine too, and trend reads it.
function TestGithub.test_the_history_grows_whatever_the_verdict()
  local dir <close> = shell.folder()
  workplace(dir, "1K", "1K")
  lu.assertEquals(push(dir, "1", {}), 0)
  lu.assertEquals(push(dir, "2", { EXPECT = "p99 < 1ns" }), 0, "a stream has none: inconclusive")
  lu.assertEquals(push(dir, "3", { EXPECT = "throughput > 1Tbit/s" }), 99)
  local other = json.decode(read(dir, "history/1-1.json"))
  other.environment.cpu_model = "Another CPU"
  shell.write(dir:file "work/history/0-1.json", json.encode(other))
  local code, said = push(dir, "4", {})
  lu.assertEquals(code, 0, said)
  for i = 1, 4 do
    lu.assertEquals(json.decode(read(dir, ("history/%d-1.json"):format(i))).tags.commit, "abc" .. i)
  end
  lu.assertEquals(json.decode(read(dir, "history/2-1.json")).verdict.exit, 98)
  lu.assertStrContains(read(dir, "trend.html"), "Another CPU")
  lu.assertStrContains(shell.read(dir:file "summary.md"), "5 runs")
end

TestGitlab = {}

local function gitlab(dir, environment)
  local job = yaml("gitlab").network
  local code, said = run(dir, { table.concat(job.script, "\n") }, environment)
  lu.assertEquals({ job.allow_failure.exit_codes, job.cache.when, job.artifacts.when }, { 98, "always", "always" })
  return code, said
end

function TestGitlab.test_a_merge_request_with_a_regression()
  local dir <close> = shell.folder()
  workplace(dir, "128K", "1")
  local code, said = gitlab(dir, { CI_MERGE_REQUEST_IID = "5", COMMENT_TOKEN = "t", CI_API_V4_URL = "https://x/api",
    CI_PROJECT_ID = "3", CI_MERGE_REQUEST_DIFF_BASE_SHA = shell.read(dir:file "base-sha"):gsub("\n", "") })
  lu.assertEquals(code, 99, said)
  for _, name in ipairs { "ledger.json", "junit.xml", "report.html", "comment.md" } do
    lu.assertNotNil(read(dir, name), name .. ": " .. said)
  end
  lu.assertStrContains(shell.read(dir:file "called"), "https://x/api/projects/3/merge_requests/5/notes")
end

function TestGitlab.test_the_default_branch()
  local dir <close> = shell.folder()
  workplace(dir, "1K", "1K")
  lu.assertEquals((gitlab(dir, { CI_PIPELINE_ID = "1", CI_COMMIT_SHA = "a" })), 0)
  lu.assertEquals((gitlab(dir, { CI_PIPELINE_ID = "2", CI_COMMIT_SHA = "b", EXPECT = "p99 < 1ns" })), 98)
  lu.assertEquals((gitlab(dir, { CI_PIPELINE_ID = "3", CI_COMMIT_SHA = "c", EXPECT = "throughput > 1Tbit/s" })), 99)
  for i = 1, 3 do lu.assertNotNil(read(dir, ("history/%d.json"):format(i))) end
  lu.assertNotNil(read(dir, "trend.html"))
end

os.exit(lu.LuaUnit.run())
