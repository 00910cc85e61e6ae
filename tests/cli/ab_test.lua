-- knbl ab and knbl change: two arms in turn, before and after a command; one ledger, a verdict, and what failed is
-- kept.
local lu = require "luaunit"
local json = require "knbl.json"
local shell = require "tests.cli.shell"

TestAb = {}

-- A scenario over loopback whose CPU for an operation grows with --size.
local scenario = [[
  local knbl = require "knbl"
  local opt = knbl.options { size = { "1", "bytes of a request" } }
  local cluster <close> = knbl.cluster { provider = "loopback" }
  local a, b = cluster:pair()
  knbl.tcp_rr { case = "x", from = a, to = b, count = 400, warmup = 0, size = opt.size }
  knbl.report { rows = "case", columns = { "p50" } }
]]

local function with(check)
  local dir <close> = shell.folder()
  check(dir, shell.write(dir:file "s.lua", scenario))
end

local function ledger_of(dir) return json.decode(shell.read(dir:file "r.json")) end

function TestAb.test_options_of_each_arm()
  with(function(dir, path)
    local got = shell.run(("exec $KNBL ab %s --rounds 5 --a '--size 1' --b '--size 256K' --tag of=ab --json %s \z
      --fail-if 'p50 +50%%'"):format(path, dir:file "r.json"))
    lu.assertEquals(got.code, 99, got.out .. got.err)
    lu.assertStrContains(got.out, "old: a (--size 1), new: b (--size 256K)\n")
    lu.assertStrContains(got.out, " worse ")
    local data = ledger_of(dir)
    lu.assertEquals(data.tags, { of = "ab" })
    lu.assertEquals({ #data.measurements, data.arms[1].rounds, data.arms[2].rounds, data.verdict.exit },
      { 10, 5, 5, 99 })
    local order = {}
    for i, m in ipairs(data.measurements) do order[i] = m.labels.arm .. m.round end
    lu.assertEquals(table.concat(order, " "), "a1 b1 b2 a2 a3 b3 b4 a4 a5 b5")
    lu.assertEquals({ data.arms[1].text, data.arms[2].options.size }, { "--size 1", "256K" })
    lu.assertEquals(data.expectations[1].status, "fail")
    local again = shell.run("exec $KNBL report " .. dir:file "r.json")
    lu.assertEquals(again.code, 0, again.err)
    lu.assertStrMatches(again.out, ".*\nx +a .*\nx +b .*")
  end)
end

-- A label of its own keeps them apart, not that they are arms.
function TestAb.test_why_arms_are_not_compared()
  with(function(dir)
    local labelled = scenario:gsub('case = "x",', 'case = "x", labels = { bytes = opt.size },')
    local path = shell.write(dir:file "l.lua", labelled)
    local got = shell.run(("exec $KNBL ab %s --rounds 1 --a '--size 1' --b '--size 2'"):format(path))
    lu.assertStrContains(got.out, "not compared (label bytes 1, now 2; size 1, now 2): tcp_rr x\n")
  end)
end

function TestAb.test_a_command_before_each_round_of_its_arm()
  with(function(dir, path)
    local order = dir:file "order"
    local got = shell.run(("exec $KNBL ab %s --rounds 2 --a 'echo a >>%s' --b 'echo b >>%s; echo said' --json %s")
      :format(path, order, order, dir:file "r.json"))
    lu.assertEquals(got.code, 0, got.out .. got.err)
    lu.assertEquals(shell.read(order), "a\nb\nb\na\n")
    local data = ledger_of(dir)
    lu.assertEquals({ #data.commands, data.commands[2].arm, data.commands[2].output, data.commands[2].status },
      { 4, "b", "said\n", 0 })
  end)
end

function TestAb.test_a_command_that_fails_ends_it_and_the_rest_is_kept()
  with(function(dir, path)
    local got = shell.run(("exec $KNBL ab %s --a true --b 'echo no such thing; exit 3' --json %s"):format(path,
      dir:file "r.json"))
    lu.assertEquals(got.code, 1, got.out .. got.err)
    lu.assertStrContains(got.err, "knbl: b: the command ended with 3: echo no such thing; exit 3\n")
    lu.assertStrContains(got.out, "b: `echo no such thing; exit 3` ended with 3: no such thing\n")
    local data = ledger_of(dir)
    lu.assertEquals({ #data.measurements, data.commands[2].status, data.verdict.status }, { 1, 3, "error" })
  end)
end

function TestAb.test_another_build_of_knbl_is_an_arm()
  with(function(dir, path)
    local other = shell.write(dir:file "other", "#!/bin/sh\necho used >>" .. dir:file "used" .. "\nexec "
      .. shell.quote(shell.knbl) .. ' "$@"\n')
    os.execute("chmod +x " .. other)
    local got = shell.run(("exec $KNBL ab %s --rounds 1 --a true --agent-b %s"):format(path, other))
    lu.assertEquals(got.code, 0, got.out .. got.err)
    lu.assertEquals(select(2, shell.read(dir:file "used"):gsub("used", "")), 2, "its plan, and its run")
  end)
end

function TestAb.test_what_is_wrong_is_refused_before_anything_is_measured()
  with(function(_, path)
    for words, said in pairs {
      ["ab"] = "which scenario?", ["ab " .. path] = "ab needs --a TEXT",
      ["ab " .. path .. " --a x --b '--sizzle 1'"] = "b: unknown option --sizzle",
      ["ab " .. path .. " --a true --agent-b /bin/true"] = "b: /bin/true is not knbl: it printed no plan",
      ["ab nosuch --a x --b y"] = "a: no scenario 'nosuch'",
      ["ab " .. path .. " --a x --b y --fail-if 'p50 5%'"] = "--fail-if: ",
      ["ab " .. path .. " --a x --b y -- z"] = "ab takes no command after --",
      ["ab " .. path .. " --a x --b y --rounds 0"] = "--rounds must be at least 1, got 0",
      ["ab " .. path .. " --a x --b y --expect 'p99 < 1s'"] = "ab does not take --expect: ",
      ["ab " .. path .. " --a x --b y --dry-run"] = "ab does not take --dry-run: ",
      ["ab " .. path .. " --a x --b '--json here'"] = "arm b does not take --json: ",
      ["change " .. path .. " --baseline x -- true"] = "change does not take --baseline: ",
      ["change " .. path .. " --json-stream x -- true"] = "change does not take --json-stream: ",
      ["change " .. path .. " --probe 5/s -- true"] = "--probe must be 0 or from 100/s to 20k/s, got '5/s'",
      ["change " .. path] = "change needs a command after --",
      ["change -- true"] = "which scenario?",
    } do
      local got = shell.run("exec $KNBL " .. words)
      lu.assertEquals(got.code, 2, words .. got.err)
      lu.assertStrContains(got.err, said)
      lu.assertEquals(got.out, "")
    end
  end)
end

TestChange = {}

function TestChange.test_before_and_after()
  with(function(dir, path)
    local got = shell.run(("exec $KNBL change %s --repeats 4 --settle 0s --on loopback --json %s -- \z
      sh -c 'echo done > %s; echo ok'"):format(path, dir:file "r.json", dir:file "f"))
    lu.assertEquals(got.code, 0, got.out .. got.err)
    lu.assertEquals(shell.read(dir:file "f"), "done\n")
    local data = ledger_of(dir)
    lu.assertEquals({ #data.measurements, data.measurements[4].labels.arm, data.measurements[5].labels.arm },
      { 8, "before", "after" })
    lu.assertEquals({ data.commands[1].output, data.commands[1].status }, { "ok\n", 0 })
    lu.assertEquals({ data.comparison.comparisons[1].old.n, data.comparison.comparisons[1].new.n }, { 4, 4 })
    local seen = data.commands[1].outages
    lu.assertEquals({ #seen, seen[1].total_s, seen[3].error }, { 3, 0, "loopback has no Services" })
    lu.assertStrContains(got.out, "while it ran: pod to pod, other node: no outage\n")
    lu.assertEquals(select(2, got.err:gsub("running: ", "")), 1)
  end)
end

-- The command stops the server for 1.5 s; an attempt waits half a second for its answer.
function TestChange.test_traffic_that_is_gone_while_the_command_runs()
  with(function(dir, path)
    local a <close> = shell.agent()
    local b <close> = shell.agent("--token-file " .. a.token)
    local got = shell.run(("exec $KNBL change %s --repeats 1 --settle 0s --json %s --on "
      .. "hosts:a=127.0.0.1:%d,b=127.0.0.1:%d --token-file %s -- 'kill -STOP %d; sleep 1.5; kill -CONT %d'"):format(
      path, dir:file "r.json", a.port, b.port, a.token, b.pid, b.pid))
    lu.assertEquals(got.code, 0, got.out .. got.err)
    local seen = ledger_of(dir).commands[1].outages
    lu.assertEquals(seen[2].case, "pod to pod, other node")
    lu.assertTrue(seen[2].total_s > 0.05 and seen[2].until_s > 0, json.encode(seen))
    lu.assertStrContains(got.out, "while it ran: pod to pod, other node: gone for ")
  end)
end

function TestChange.test_a_command_that_fails_keeps_the_first_half()
  with(function(dir, path)
    local got = shell.run(("exec $KNBL change %s --repeats 1 --probe 0 --json %s -- 'echo why; false'"):format(path,
      dir:file "r.json"))
    lu.assertEquals(got.code, 1, got.out .. got.err)
    lu.assertStrContains(got.err, "the command ended with 1; the first half is kept")
    lu.assertNotStrContains(got.err, "without probes") -- --probe 0 asks for none
    local data = ledger_of(dir)
    lu.assertEquals({ #data.measurements, data.commands[1].output }, { 1, "why\n" })
  end)
end

os.exit(lu.LuaUnit.run())
