-- knbl.starter - what `knbl init` writes. docs/ci.md shows the same jobs; a test holds the two together.
local M = {}

M.scenario = [==[
-- May this change be merged: does the Service path answer in time, and how far is it from the direct one?
local knbl = require "knbl"
local opt = knbl.options {
  duration = { "2s", "time for each measurement" },
  rate = { "2k/s", "requests a second: an open loop, which a slow answer cannot slow down" },
}

local cluster <close> = knbl.cluster() -- a lab on this machine, or what --on names
local client, server = cluster:pair()  -- two pods on two nodes

knbl.tcp_rr { case = "direct", from = client, to = server, duration = opt.duration, rate = opt.rate, expect = "errors == 0" }
knbl.tcp_rr {
  case = "service", from = client, to = server:service(), duration = opt.duration, rate = opt.rate,
  expect = { "errors == 0", "p99 < 50ms", 'p50 "service" / "direct" < 2' },
}
knbl.tcp_stream { case = "direct", from = client, to = server, duration = opt.duration }

knbl.report { rows = "case", columns = { "p50", "p99", { "throughput", test = "tcp_stream", show = "throughput" } } }
]==]

M.luarc = [==[
{
  "runtime.version": "Lua 5.4",
  "workspace.library": [".knbl"],
  "workspace.checkThirdParty": false
}
]==]

local github = [==[
# Measures the cluster's network on kind for every pull request, and compares with the last run on the main branch.
name: network
on:
  pull_request:
  push: { branches: [main] }
jobs:
  network:
    runs-on: ubuntu-latest # kind and kubectl are there
    steps:
      - uses: actions/checkout@v4
      - uses: actions/checkout@v4
        with: { repository: "${{ vars.KNBL_REPOSITORY }}", path: knbl }
      - run: make -C knbl deps all && sudo make -C knbl install
      - run: |
          kind create cluster --config - <<END
          {kind: Cluster, apiVersion: kind.x-k8s.io/v1alpha4, nodes: [{role: control-plane}, {role: worker}, {role: worker}]}
          END
          knbl image save knbl.tar && kind load image-archive knbl.tar
      - run: >
          knbl --on k8s network.lua --repeats 6 --json new.json --junit junit.xml --html report.html --markdown "$GITHUB_STEP_SUMMARY"
      - uses: actions/cache/restore@v4
        with: { path: old.json, key: network-none, restore-keys: network- }
      - run: | # 99 is a regression; 98, too uncertain or another machine, is no reason to stop
          [ ! -f old.json ] || knbl compare old.json new.json --fail-if 'p99 +25%' --fail-if 'throughput -10%' || [ $? = 98 ]
      - if: github.ref == 'refs/heads/main'
        run: mv new.json old.json
      - if: github.ref == 'refs/heads/main'
        uses: actions/cache/save@v4
        with: { path: old.json, key: "network-${{ github.run_id }}" }
      - if: always()
        uses: actions/upload-artifact@v4
        with: { name: network, path: "*.json\njunit.xml\nreport.html" }
]==]

local gitlab = [==[
# Measures the cluster that KUBECONFIG, a variable of the kind "file", names. The image of the agents has to be where its nodes find it.
network:
  image: debian:12
  script:
    - apt-get update -q && apt-get install -y -q git make
    - git clone --depth 1 "$KNBL_REPOSITORY" knbl && make -C knbl deps all install
    - knbl --on k8s network.lua --repeats 6 --json new.json --junit junit.xml --html report.html
    - test ! -f old.json || knbl compare old.json new.json --fail-if 'p99 +25%' --fail-if 'throughput -10%'
    - cp new.json old.json
  cache: { key: network, paths: [old.json] }
  allow_failure: { exit_codes: 98 } # the samples do not tell
  artifacts:
    when: always
    paths: [new.json, report.html]
    reports: { junit: junit.xml }
]==]

local cronjob = [==[
# Measures every night from inside the cluster, as the account of deploy/role.yaml; the verdict is the Job's, the ledger is in its log.
apiVersion: v1
kind: ConfigMap
metadata:
  name: knbl-nightly
data:
  network.lua: |
SCENARIO---
apiVersion: batch/v1
kind: CronJob
metadata:
  name: knbl-nightly
spec:
  schedule: "17 3 * * *"
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      backoffLimit: 0
      activeDeadlineSeconds: 1800
      template:
        spec:
          serviceAccountName: knbl
          restartPolicy: Never
          securityContext:
            runAsNonRoot: true
            seccompProfile: {type: RuntimeDefault}
          containers:
          - name: knbl
            image: knbl:VERSION
            imagePullPolicy: IfNotPresent
            args: [--on, k8s, --repeats, "6", --json, "-", /scenario/network.lua]
            resources:
              requests: {cpu: 100m, memory: 64Mi}
            securityContext:
              allowPrivilegeEscalation: false
              readOnlyRootFilesystem: true
              runAsUser: 65532
              runAsGroup: 65532
              capabilities: {drop: [ALL]}
            volumeMounts:
            - {name: scenario, mountPath: /scenario, readOnly: true}
          volumes:
          - name: scenario
            configMap: {name: knbl-nightly}
]==]

local function indented(text)
  return (text:gsub("[^\n]+", "    %0"))
end

-- The jobs by what they are for: { path, text }.
function M.jobs(version)
  local nightly = cronjob:gsub("SCENARIO", (indented(M.scenario):gsub("%%", "%%%%"))):gsub("knbl:VERSION", "knbl:" .. version)
  return {
    github = { path = ".github/workflows/network.yaml", text = github }, gitlab = { path = ".gitlab-ci.yml", text = gitlab },
    cronjob = { path = "knbl-cronjob.yaml", text = nightly },
  }
end

return M
