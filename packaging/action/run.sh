#!/bin/sh
# run.sh - of action.yml: runs SCENARIO with OPTIONS and writes the step summary. With ARM_A and ARM_B it is `knbl ab`;
# else it compares with knbl-results/baseline.json where that is there. Ends with the exit code of the run; if that is
# 0, with the comparison's, except 98: too uncertain a difference stops nobody.
set -u
mkdir -p knbl-results
limits() { # limits COMMAND…: runs it with a --fail-if for each line of FAIL_IF
    while IFS= read -r change; do [ -z "$change" ] || set -- "$@" --fail-if "$change"; done <<END
$FAIL_IF
END
    "$@"
}
eval "set -- $OPTIONS"
set -- "$SCENARIO" "$@" --json knbl-results/ledger.json --junit knbl-results/junit.xml --html knbl-results/report.html \
    --markdown knbl-results/summary.md
if [ -n "${ARM_A:-}" ]; then
    limits knbl ab "$@" --a "$ARM_A" --b "${ARM_B:-}"
    code=$?
    [ "$code" != 98 ] || code=0
else
    knbl "$@"
    code=$?
fi
[ ! -f knbl-results/summary.md ] || cat knbl-results/summary.md >>"$GITHUB_STEP_SUMMARY"
if [ -z "${ARM_A:-}" ] && [ -f knbl-results/baseline.json ] && [ -f knbl-results/ledger.json ]; then
    limits knbl compare knbl-results/baseline.json knbl-results/ledger.json --markdown knbl-results/comparison.md
    compared=$?
    [ ! -f knbl-results/comparison.md ] || cat knbl-results/comparison.md >>"$GITHUB_STEP_SUMMARY"
    [ "$code" != 0 ] || [ "$compared" = 98 ] || code=$compared
fi
echo "exit-code=$code" >>"$GITHUB_OUTPUT"
exit "$code"
