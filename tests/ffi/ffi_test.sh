#!/bin/sh
# The C ABI and the three ways to require "knbl": the program itself, a stock lua5.4 with knbl.so, LuaJIT with
# libknbl.so.
B=${B:-build} KNBL=${KNBL:-./knbl} CC=${CC:-cc} n=0
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
. tests/ffi/sanitizer.sh # sets PRELOAD where $B holds a sanitizer's build

check() { # check NAME COMMAND...
    name=$1; shift
    n=$((n + 1))
    if "$@" >"$work/out" 2>&1; then echo "ok $n - $name"; else echo "not ok $n - $name"; sed 's/^/# /' "$work/out"; fi
}
skip() { n=$((n + 1)); echo "ok $n - $1 # SKIP $2"; }

cdef_is_current() { sh src/abi/cdef.sh src/knbl.h | diff lua/knbl/cdef.lua -; }

only_knbl_names_leave() {
    nm -D --defined-only "$B/libknbl.so" | awk '{ print $NF }' | sort >"$work/names"
    grep -v '^knbl_' "$work/names" && return 1
    # each function that the header declares, and no other
    sed -n 's/^[a-z].*[ *]\(knbl_[a-z_0-9]*\)(.*/\1/p' src/knbl.h | sort | diff - "$work/names"
}

header_stands_alone() {
    echo '#include "knbl.h"' >"$work/alone.c"
    $CC -std=c99 -Wall -Wextra -pedantic -Werror -Isrc -fsyntax-only "$work/alone.c"
}

example_runs() {
    $CC -std=c11 -Wall -Wextra -Werror -Isrc -o "$work/example" docs/example.c -L"$B" -lknbl \
        -Wl,-rpath,"$B" $SANITIZE || return 1
    "$work/example" >"$work/example.out" || return 1
    grep -q '^p99.9 [1-9][0-9]* ns$' "$work/example.out" && grep -q '"ok":true' "$work/example.out"
}

keys_of() { # keys_of FILE COMMAND...
    file=$1; shift
    "$@" >"$work/$file.all" 2>"$work/$file.err" || { cat "$work/$file.err"; return 1; }
    grep '^= ' "$work/$file.all" >"$work/$file"
}
program_measures() { keys_of program "$KNBL" tests/ffi/measure.lua && [ "$(wc -l <"$work/program")" -gt 50 ]; }
# A busy machine may read the CPU time of a window too late to be told: then both measure once more.
measures_as_the_program() { # measures_as_the_program FILE COMMAND...
    for attempt in 1 2 3 4 5; do
        keys_of "$@" || return 1
        diff "$work/program" "$work/$1" >"$work/differences" && return 0
        program_measures || return 1
    done
    cat "$work/differences"
    return 1
}
lua_measures_the_same() {
    measures_as_the_program lua env $PRELOAD LUA_CPATH="$B/?.so;;" lua5.4 tests/ffi/measure.lua
}
luajit_measures_the_same() {
    measures_as_the_program luajit env $PRELOAD KNBL_LIB="$B/libknbl.so" LUA_PATH="lua/?.lua;lua/?/init.lua;;" \
        luajit tests/ffi/measure.lua
}
luajit_has_the_same_functions() {
    env $PRELOAD KNBL_LIB="$B/libknbl.so" LUA_PATH="lua/?.lua;lua/?/init.lua;;" luajit tests/ffi/values.lua \
        >"$work/jit.values" || return 1
    "$KNBL" tests/ffi/values.lua >"$work/core.values" || return 1
    diff "$work/core.values" "$work/jit.values"
}

# A script that holds what it expects, or not, or ends by itself; asked for its options it measures nothing.
cat >"$work/ends.lua" <<'END'
local knbl = require "knbl"
local opt = knbl.options { most = { "1s", "the bound of the median" }, code = { 0, "to end with" } }
local a, b = knbl.cluster { provider = "loopback" }:pair()
knbl.tcp_rr { from = a, to = b, count = 200, expect = "p50 < " .. opt.most }
if opt.code > 0 then os.exit(opt.code) end
END
ends_with() { # ends_with CODE WORDS; in $run what runs it
    $run "$work/ends.lua" $2 >"$work/ends.out" 2>&1
    [ $? = "$1" ] || { cat "$work/ends.out"; return 1; }
}
exit_codes_are_the_verdict() {
    ends_with 0 "" && ends_with 99 "--most 1ns" && grep -q "1 of 1 expectations failed" "$work/ends.out" &&
        ends_with 7 "--code 7" && grep -q "tcp_rr" "$work/ends.out" && ends_with 1 "--dry-run" &&
        ends_with 0 "--help" &&
        grep -q -- "--most TIME" "$work/ends.out" && ! grep -q "tcp_rr" "$work/ends.out"
}

check "the declarations for LuaJIT are those of knbl.h" cdef_is_current
check "the library exports what knbl.h declares, and nothing else" only_knbl_names_leave
check "knbl.h compiles alone" header_stands_alone
check "the example in C builds and measures" example_runs
check "the program measures" program_measures
check "a stock lua5.4 measures the same" lua_measures_the_same
run="env $PRELOAD LUA_CPATH=$B/?.so;; lua5.4"
check "a stock lua5.4 ends with the verdict" exit_codes_are_the_verdict
if command -v luajit >/dev/null; then
    run="env $PRELOAD KNBL_LIB=$B/libknbl.so LUA_PATH=lua/?.lua;lua/?/init.lua;; luajit"
    check "LuaJIT ends with the verdict" exit_codes_are_the_verdict
    check "LuaJIT measures the same" luajit_measures_the_same
    check "LuaJIT has the same functions with the same answers" luajit_has_the_same_functions
else
    skip "LuaJIT measures the same" "luajit is not installed"
fi
echo "1..$n"
