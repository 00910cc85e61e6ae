#!/bin/sh
# libraries.sh ARCH LIB LICENSES PROGRAM... - copies the loader and each library that the PROGRAMs load into LIB, and
# their licences into LICENSES. It reads the programs and does not run them, so that they may be of another
# architecture, whose libraries Debian installs beside this one's.
set -eu
arch=$1 lib=$2 licenses=$3
shift 3
case $arch in amd64) cpu=x86_64 loader=ld-linux-x86-64.so.2 ;; arm64) cpu=aarch64 loader=ld-linux-aarch64.so.1 ;; esac
mkdir -p "$lib" "$licenses"
needs() { readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p'; }
take() { # take FILE: what it needs, and what that needs
    for soname in $(needs "$1"); do
        [ "$soname" != "$loader" ] && [ ! -e "$lib/$soname" ] || continue
        file=
        for folder in "/lib/$cpu-linux-gnu" "/usr/lib/$cpu-linux-gnu"; do
            [ ! -e "$folder/$soname" ] || file=$folder/$soname
        done
        [ -n "$file" ] || { echo "libraries.sh: $1 needs $soname for $arch, which is not installed" >&2; exit 1; }
        install -m 755 "$file" "$lib/$soname"
        package=$(dpkg -S "$(readlink -f "$file")" "$file" 2>/dev/null | head -1 | cut -d: -f1)
        [ -z "$package" ] || [ ! -e "/usr/share/doc/$package/copyright" ] ||
            cp "/usr/share/doc/$package/copyright" "$licenses/$package"
        take "$lib/$soname"
    done
}
for program; do take "$program"; done
install -m 755 "/lib/$cpu-linux-gnu/$loader" "$lib/loader"
