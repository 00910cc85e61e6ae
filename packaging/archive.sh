#!/bin/sh
# archive.sh BUILD VERSION ARCH NFT OUT - the release archive: the launcher, lib/ with the program (linked with paths
# for the launcher to fill in), the program NFT and each library that they load, the scenarios, the licences. The same
# bytes each time: SOURCE_DATE_EPOCH is every file's date.
set -eu
build=$1 version=$2 arch=$3 nft=$4 out=$5
name=knbl-$version-linux-$arch
root=$build/archive/$name
rm -rf "$build/archive"
mkdir -p "$root/lib"
install -m 755 "$build/launcher" "$root/knbl"
install -m 755 "$build/knbl.in" "$root/lib/knbl.in"
install -m 755 "$nft" "$root/lib/nft"
sh packaging/libraries.sh "$arch" "$root/lib" "$root/licenses" "$build/knbl.in" "$nft"
sh packaging/licenses.sh "$root/licenses"
cp LICENSE README.md "$root"
cp docs/licenses.md "$root/licenses/README.md"
cp -r scenarios deploy "$root"
find "$root" -type f ! -perm -u+x -exec chmod 644 {} +
tar --sort=name --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw --mtime="@$SOURCE_DATE_EPOCH" \
    -C "$build/archive" -c "$name" | gzip -9n >"$out"
