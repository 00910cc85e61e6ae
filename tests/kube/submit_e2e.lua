-- Scenarios inside a real cluster: `knbl submit`, and the Job in deploy/.
package.path = "tests/kube/?.lua;" .. package.path
local lu = require "luaunit"
local core = require "knbl.core"
local json = require "knbl.json"
local world = require "world"

TestSubmit = {}

function TestSubmit.test_results_come_home()
  local run = world.submit { "scenarios/ping.lua", "--", "--pings", "3" }
  lu.assertEquals(run.code, 0, run.said)
  lu.assertEquals(#run.ledger.measurements, 7)
  for _, m in ipairs(run.ledger.measurements) do
    lu.assertTrue(m.ok, m.case)
    lu.assertEquals(m.metrics.received, 3)
  end
  lu.assertStrContains(run.out, "PodA-1>PodB-2") -- the tables, as at home
  lu.assertStrContains(run.err, "[7/7]")         -- the log, as it went
  lu.assertNotStrContains(run.err, "----")      -- and no tables a second time
  lu.assertEquals(world.left(), "")
end

-- A missing namespace is created and removed again.
function TestSubmit.test_namespace_of_its_own()
  local run = world.submit { "scenarios/ping.lua", "--namespace", "knbl-submit", "--", "--pings", "2" }
  lu.assertEquals(run.code, 0, run.said)
  local deadline = core.now() + 40
  while world.kubectl "get namespace knbl-submit -o name" == "namespace/knbl-submit\n" and core.now() < deadline do
    core.sleep(0.3)
  end
  lu.assertStrContains(world.kubectl "get namespace knbl-submit", "NotFound")
end

function TestSubmit.test_its_failure_is_ours()
  local script = world.script "error 'on purpose'"
  local run = world.run({ "submit", script }, { ledger = false })
  lu.assertEquals(run.code, 1, run.said)
  lu.assertStrContains(run.err, "on purpose")
  lu.assertEquals(world.left(), "")
  os.remove(script)
end

function TestSubmit.test_image_that_is_not_there()
  local run = world.run({ "submit", "scenarios/ping.lua", "--image", "localhost:1/none:1" }, { ledger = false })
  lu.assertEquals(run.code, 3, run.said)
  lu.assertStrContains(run.err, "cannot be pulled")
  lu.assertEquals(world.left(), "")
end

-- The measurements until then are returned.
function TestSubmit.test_its_time_is_over()
  local run = world.submit { "scenarios/pod_to_svc.lua", "--timeout", "20s" }
  lu.assertEquals(run.code, 130, run.said)
  lu.assertStrContains(run.err, "ended after 20 s, its timeout")
  lu.assertTrue(#run.ledger.measurements > 0)
  lu.assertEquals(world.left(), "")
end

function TestSubmit.test_interrupted()
  local p = world.start({ "submit", "scenarios/pod_to_svc.lua" }, { ledger = false })
  core.sleep(5)
  p:kill "INT"
  lu.assertEquals(p:wait(30).code, 130, p.said)
  local deadline = core.now() + 30 -- what the Job's run made is owned by what was deleted
  while world.left() ~= "" and core.now() < deadline do core.sleep(0.5) end
  lu.assertEquals(world.left(), "")
end

-- Uses deploy/ unchanged, in a separate namespace.
-- The log of a Job from deploy/ that has completed, and the output of kubectl.
local function job_of_deploy(namespace)
  world.kubectl("create namespace " .. namespace)
  local applied = world.sh(
    ("sed 's/duration = \"5s\"/duration = \"100ms\"/; s/--on, k8s,/--on, k8s, --nodes, \"node-a,node-b\",/' \z
      deploy/job.yaml |"
    .. " kubectl -n %s apply -f deploy/role.yaml -f -"):format(namespace))
  local done = world.kubectl(("-n %s wait --for=condition=complete job/knbl --timeout=60s"):format(namespace))
  local log = world.kubectl(("-n %s logs job/knbl"):format(namespace))
  world.kubectl(("delete namespace %s --wait=false"):format(namespace))
  lu.assertStrContains(done, "condition met", applied .. log)
  return log
end

-- Two kubelets on one machine share /var/log/pods, and each sometimes removes unknown logs, so a missing log is not an
-- error of knbl.
function TestSubmit.test_the_job_of_deploy()
  local log, ledger
  for i = 1, 3 do
    log = job_of_deploy("knbl-job-" .. i)
    ledger = json.decode(log)
    if ledger then break end
  end
  lu.assertNotNil(ledger, log)
  lu.assertEquals(#ledger.measurements, 2)
  for _, m in ipairs(ledger.measurements) do lu.assertTrue(m.ok, m.case) end
end

os.exit(lu.LuaUnit.run())
