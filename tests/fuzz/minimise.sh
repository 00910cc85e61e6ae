#!/bin/sh
# minimise.sh NAME [SECONDS] - fuzzes build/fuzz/NAME for a while (60 s) from its corpus, then keeps the smallest corpus
# that reaches as much. A crash is left beside the binary, and fails. The number of executions goes to
# $B/fuzz/NAME.executions. "0" seconds only minimises.
cd "$(dirname "$0")/../.." || exit 1
[ $# -ge 1 ] || { echo "usage: $0 NAME [SECONDS]" >&2; exit 2; }
name=$1 seconds=${2:-60} B=${B:-build}
corpus=tests/fuzz/corpus/$name
make --no-print-directory "$B/fuzz/$name" || exit 1
mkdir -p "$corpus" "$B/fuzz/found-$name" || exit 1
dictionary=
[ -f "tests/fuzz/$name.dict" ] && dictionary=-dict=tests/fuzz/$name.dict
if [ "$seconds" != 0 ]; then
    "$B/fuzz/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="$B/fuzz/$name-" $dictionary \
        -print_final_stats=1 "$B/fuzz/found-$name" "$corpus" 2>"$B/fuzz/$name.log"
    code=$?
    sed -n 's/^stat::number_of_executed_units: *//p' "$B/fuzz/$name.log" >"$B/fuzz/$name.executions"
    [ $code = 0 ] || { tail -n 40 "$B/fuzz/$name.log" >&2; exit 1; }
    echo "$name: $(cat "$B/fuzz/$name.executions") executions"
fi
small=$(mktemp -d) || exit 1
trap 'rm -rf "$small"' EXIT
"$B/fuzz/$name" -merge=1 -use_counters=0 -timeout=10 "$small" "$B/fuzz/found-$name" "$corpus" 2>"$B/fuzz/$name.log" ||
    { tail -n 20 "$B/fuzz/$name.log" >&2; exit 1; }
rm -rf "$corpus" && mkdir -p "$corpus" && cp "$small"/* "$corpus"/
echo "$corpus: $(ls "$corpus" | wc -l) inputs, $(du -sb "$corpus" | cut -f1) bytes"
