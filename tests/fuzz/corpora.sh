#!/bin/sh
# corpora.sh - runs every fuzz target once over its corpus, and prints TAP. The targets are in $B/fuzz (make fuzz).
cd "$(dirname "$0")/../.." || exit 1
log=$(mktemp) && empty=$(mktemp -d) || exit 1
trap 'rm -rf "$log" "$empty"' EXIT
n=0 failed=0
for source in tests/fuzz/*_fuzz.c; do
    name=$(basename "$source" _fuzz.c) n=$((n + 1))
    corpus=tests/fuzz/corpus/$name
    [ -d "$corpus" ] || corpus=$empty
    # the artifact of a crash goes beside the binary, not into whatever folder this runs in
    if timeout 60 "${B:-build}/fuzz/$name" -runs=0 -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="${B:-build}/fuzz/$name-" "$corpus" >"$log" 2>&1; then
        echo "ok $n - $name ($(ls "$corpus" | wc -l) inputs)"
    else
        echo "not ok $n - $name"; tail -n 40 "$log" | sed 's/^/# /'; failed=1
    fi
done
echo "1..$n"
exit $failed
