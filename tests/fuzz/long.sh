#!/bin/sh
# long.sh [HOURS] - fuzzes every target in turn, HOURS (1) in all, and keeps a minimised corpus of each; ledgers, which
# are read by Lua, are changed at random for as long as one target takes. Prints a table of executions and findings.
# Every target is run; it fails where one found something, which is left beside the target's binary.
cd "$(dirname "$0")/../.." || exit 1
B=${B:-build} KNBL=${KNBL:-./knbl} failed=
export B KNBL
mkdir -p "$B/fuzz" || exit 1
set -- "${1:-1}" tests/fuzz/*_fuzz.c
hours=$1; shift
seconds=$(awk -v hours="$hours" -v targets=$(($# + 1)) \
    'BEGIN { s = hours * 3600 / targets; print (s < 1 ? 1 : int(s)) }')
table=$B/fuzz/table.txt
printf '%-20s %14s %9s\n' target executions findings >"$table"
row() { # NAME EXECUTIONS FINDINGS
    printf '%-20s %14s %9s\n' "$1" "${2:-?}" "$3" >>"$table"
    [ "$3" = 0 ] || failed="$failed $1"
}
for source; do
    name=$(basename "$source" _fuzz.c)
    echo "== $name, $seconds s"
    rm -f "$B/fuzz/$name.executions"
    tests/fuzz/minimise.sh "$name" "$seconds"
    code=$?
    row "$name" "$(cat "$B/fuzz/$name.executions" 2>/dev/null)" $((code != 0))
done
echo "== ledgers, $seconds s"
# another seed each time, which a failure names
KNBL_FUZZ_SECONDS=$seconds KNBL_FUZZ_SEED=$(date +%s) "$KNBL" tests/lua/mutation_test.lua \
    -o TAP >"$B/fuzz/ledgers.log" 2>&1
code=$?
cat "$B/fuzz/ledgers.log"
row ledgers "$(sed -n 's/^# \([0-9]*\) changed ledgers.*/\1/p' "$B/fuzz/ledgers.log")" $((code != 0))
awk 'NR > 1 { executions += $2; findings += $3 } END { printf "%-20s %14d %9d\n", "total", executions, findings }' \
    "$table" >>"$table"
echo "== executions and findings, $hours h"
cat "$table"
[ -z "$failed" ] && exit 0
echo "failed:$failed" >&2
exit 1
