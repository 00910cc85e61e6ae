-- knbl.program.starter - what `knbl init` writes. docs/ci.md shows the same jobs; a test holds the two together.
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

knbl.tcp_rr {
  case = "direct", from = client, to = server, duration = opt.duration, rate = opt.rate, expect = "errors == 0",
}
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
# For every pull request: base and head on one cluster and one runner, in turn, so that neither hardware nor drift
# tells them apart. On the main branch: a run more for the history, which knbl trend reads.
name: network
on:
  pull_request:
  push: { branches: [main] }
permissions: { contents: read, pull-requests: write } # to write: the comment
env:
  # Replace it with what puts the version of a checkout on the cluster and waits for it, such as
  # kubectl apply -k deploy && kubectl -n kube-system rollout status daemonset/my-cni
  DEPLOY: "true"
jobs:
  network:
    runs-on: ubuntu-latest # kind and kubectl are there
    steps:
      - uses: actions/checkout@v4
      - run: | # KNBL_RELEASE is the URL of the folder that has the files of the release
          curl -fsSL "${{ vars.KNBL_RELEASE }}/knbl-VERSION-linux-amd64.tar.gz" | tar -xz
          echo "$PWD/knbl-VERSION-linux-amd64" >>"$GITHUB_PATH"
      - run: |
          kind create cluster --config - <<END
          kind: Cluster
          apiVersion: kind.x-k8s.io/v1alpha4
          nodes: [{role: control-plane}, {role: worker}, {role: worker}]
          END
      - uses: actions/cache/restore@v4
        with: { path: history, key: network-history-none, restore-keys: network-history- }
      - if: github.event_name == 'pull_request'
        run: |
          git fetch -q --depth 1 origin "$GITHUB_BASE_REF"
          git worktree add -q base FETCH_HEAD
          code=0
          knbl ab --on k8s network.lua --rounds 8 --a 'cd base && sh -c "$DEPLOY"' --b 'sh -c "$DEPLOY"' \
            --fail-if 'p99 +25%' --fail-if 'throughput -10%' \
            --json ledger.json --junit junit.xml --html report.html --markdown comment.md || code=$?
          [ ! -f comment.md ] || cat comment.md >>"$GITHUB_STEP_SUMMARY"
          [ $code = 98 ] || exit $code # 98: too uncertain to tell, which is no reason to stop
      - if: github.event_name == 'push'
        run: |
          sh -c "$DEPLOY"
          mkdir -p history
          code=0
          knbl --on k8s network.lua --repeats 6 --tag commit="$GITHUB_SHA" \
            --json "history/$GITHUB_RUN_ID-$GITHUB_RUN_ATTEMPT.json" \
            --junit junit.xml --html report.html --markdown comment.md || code=$?
          [ ! -f comment.md ] || cat comment.md >>"$GITHUB_STEP_SUMMARY"
          { echo '```'; knbl trend history --html trend.html; echo '```'; } >>"$GITHUB_STEP_SUMMARY"
          [ $code = 98 ] || exit $code
      - if: always() && github.event_name == 'push'
        uses: actions/cache/save@v4
        with: { path: history, key: "network-history-${{ github.run_id }}-${{ github.run_attempt }}" }
      - if: always() && github.event_name == 'pull_request'
        env: { GH_TOKEN: "${{ github.token }}", PR: "${{ github.event.number }}" }
        run: | # not from a fork, whose token may only read
          [ ! -f comment.md ] || gh pr comment "$PR" --body-file comment.md --edit-last --create-if-none ||
            echo "no comment was written"
      - if: always()
        uses: actions/upload-artifact@v4
        with: { name: network, path: "ledger.json\nhistory\njunit.xml\nreport.html\ntrend.html\ncomment.md" }
]==]

local gitlab = [==[
# Measures the cluster that KUBECONFIG, a variable of the kind "file", names. KNBL_RELEASE is the URL of the folder that
# has the files of the release. For every merge request: base and head on one cluster, in turn. On the default branch: a
# run more for the history, which knbl trend reads.
network:
  image: debian:12
  variables:
    # Replace it with what puts the version of a checkout on the cluster and waits for it.
    DEPLOY: "true"
    GIT_DEPTH: "0"
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH
  script:
    - apt-get update -q && apt-get install -y -q ca-certificates curl git
    - curl -fsSL "$KNBL_RELEASE/knbl-VERSION-linux-amd64.tar.gz" | tar -xz
    - ln -s "$PWD/knbl-VERSION-linux-amd64/knbl" /usr/local/bin/knbl
    - mkdir -p history && code=0
    - |
      if [ -n "$CI_MERGE_REQUEST_IID" ]; then
        git worktree add -q --detach base "$CI_MERGE_REQUEST_DIFF_BASE_SHA"
        knbl ab --on k8s network.lua --rounds 8 --a 'cd base && sh -c "$DEPLOY"' --b 'sh -c "$DEPLOY"' \
          --fail-if 'p99 +25%' --fail-if 'throughput -10%' \
          --json ledger.json --junit junit.xml --html report.html --markdown comment.md || code=$?
      else
        sh -c "$DEPLOY"
        knbl --on k8s network.lua --repeats 6 --tag commit="$CI_COMMIT_SHA" --json "history/$CI_PIPELINE_ID.json" \
          --junit junit.xml --html report.html --markdown comment.md || code=$?
        knbl trend history --html trend.html
      fi
    - | # COMMENT_TOKEN: a token of the project that may write comments
      if [ -n "$COMMENT_TOKEN" ] && [ -n "$CI_MERGE_REQUEST_IID" ] && [ -f comment.md ]; then
        curl -fsS -o /dev/null -H "PRIVATE-TOKEN: $COMMENT_TOKEN" --data-urlencode body@comment.md \
          "$CI_API_V4_URL/projects/$CI_PROJECT_ID/merge_requests/$CI_MERGE_REQUEST_IID/notes" ||
          echo "no comment was written"
      fi
    - exit $code
  cache: { key: network-history, paths: [history], when: always }
  allow_failure: { exit_codes: 98 } # too uncertain to tell
  artifacts:
    when: always
    paths: [ledger.json, history, report.html, trend.html, comment.md]
    reports: { junit: junit.xml }
]==]

local cronjob = [==[
# Measures every night from inside the cluster, as the account of deploy/role.yaml; the verdict is the Job's, the ledger
# is in its log.
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
  local function of(text) return (text:gsub("VERSION", version)) end
  local nightly = cronjob:gsub("SCENARIO", (indented(M.scenario):gsub("%%", "%%%%")))
  return {
    github = { path = ".github/workflows/network.yaml", text = of(github) },
    gitlab = { path = ".gitlab-ci.yml", text = of(gitlab) },
    cronjob = { path = "knbl-cronjob.yaml", text = of(nightly) },
  }
end

return M
