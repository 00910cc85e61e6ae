#!/bin/sh
# make install into a folder: what is there works from there; make uninstall leaves nothing.
B=${B:-build} n=0
[ "$B" = build ] || { echo "ok 1 - installation # SKIP only what is built plainly is installed"; echo "1..1"; exit 0; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
to=$work/root

check() { # check NAME COMMAND...
    name=$1; shift
    n=$((n + 1))
    if "$@" >"$work/out" 2>&1; then echo "ok $n - $name"; else echo "not ok $n - $name"; sed 's/^/# /' "$work/out"; fi
}

installs() { make --no-print-directory install DESTDIR="$to" PREFIX=/usr; }
program_runs() {
    (cd "$work" && "$to/usr/bin/knbl" list | grep -q pod_to_svc && "$to/usr/bin/knbl" --dry-run ping >/dev/null)
}
manual_reads() {
    man --warnings -E UTF-8 -l "$to/usr/share/man/man1/knbl.1" >"$work/man" 2>"$work/man.err" &&
        [ ! -s "$work/man.err" ] && grep -q "token-file" "$work/man"
}
c_program_builds() {
    flags=$(PKG_CONFIG_SYSROOT_DIR="$to" PKG_CONFIG_PATH="$to/usr/lib/pkgconfig" pkg-config --cflags --libs knbl) &&
        cc -std=c11 -o "$work/example" docs/example.c $flags && LD_LIBRARY_PATH="$to/usr/lib" "$work/example"
}
lua_requires() {
    (cd "$work" && LUA_PATH="$to/usr/share/lua/5.4/?.lua;$to/usr/share/lua/5.4/?/init.lua" \
        LUA_CPATH="$to/usr/lib/lua/5.4/?.so;;" \
        lua5.4 -e 'local knbl = require "knbl"; assert(knbl.tcp_rr and require "knbl.core".version == knbl.version)')
}
luajit_requires() {
    (cd "$work" && LUA_PATH="$to/usr/share/lua/5.1/?.lua;$to/usr/share/lua/5.1/?/init.lua;;" \
        LD_LIBRARY_PATH="$to/usr/lib" \
        luajit -e 'assert(require "knbl".tcp_rr)')
}
uninstalls() {
    make --no-print-directory uninstall DESTDIR="$to" PREFIX=/usr || return 1
    left=$(find "$to" ! -type d)
    [ -z "$left" ] || { echo "$left"; return 1; }
}

check "make install" installs
check "the program runs from where it is" program_runs
command -v man >/dev/null && check "the manual page reads well" manual_reads
check "a C program builds with pkg-config" c_program_builds
check "a stock lua5.4 requires it" lua_requires
command -v luajit >/dev/null && check "LuaJIT requires it" luajit_requires
check "make uninstall leaves nothing" uninstalls
echo "1..$n"
