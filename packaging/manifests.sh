#!/bin/sh
# manifests.sh VERSION DIST - fills in the Krew manifest and the Homebrew formula. RELEASE_URL is where DIST will be
# published; without it, or without the archives of both architectures, they are left out.
set -eu
version=$1 dist=$2
without() { echo "make: without $1 there is no Krew manifest and no Homebrew formula" >&2; exit 0; }
[ -n "${RELEASE_URL:-}" ] || without "RELEASE_URL=https://..."
sums=
for arch in amd64 arm64; do
    archive=$dist/knbl-$version-linux-$arch.tar.gz
    [ -e "$archive" ] || without "the $arch archive"
    sums="$sums; s|@SHA256_$arch@|$(sha256sum <"$archive" | cut -d' ' -f1)|g"
done
for file in packaging/krew.yaml:knbl.krew.yaml packaging/homebrew.rb:knbl.rb; do
    sed "s|@VERSION@|$version|g; s|@RELEASE@|${RELEASE_URL%/}|g$sums" "${file%%:*}" >"$dist/${file#*:}"
done
