#!/bin/sh
# deb.sh BUILD VERSION ARCH PROGRAM OUT - the Debian package: a stripped knbl that uses the system's libraries, and the
# unit of the standing agent. It is built without debhelper, so that nothing but dpkg-dev is needed. The same bytes each
# time: SOURCE_DATE_EPOCH is every file's date.
set -eu
build=$1 version=$2 arch=$3 program=$4 out=$5
work=$build/deb root=$build/deb/root doc=$build/deb/root/usr/share/doc/knbl
umask 022
rm -rf "$work" && mkdir -p "$work/debian"
case $arch in amd64) cpu=x86_64 ;; arm64) cpu=aarch64 ;; esac
"$cpu-linux-gnu-strip" --strip-unneeded -R .comment -R .note -o "$work/knbl" "$program"
sh packaging/root.sh "$work/knbl" "$root" /lib/systemd/system
{
    cat LICENSE && printf '\nLibraries that are inside the program\n\n' && sed 1d docs/licenses.md
    printf '\nOn Debian systems /usr/share/common-licenses has the texts of LGPL-2.1, GPL-2 and GPL-3; %s\n' \
        'third-party/ beside this file has the notices.'
} >"$doc/copyright"
sh packaging/licenses.sh "$doc/third-party"
date=$(date -u -R -d "@$SOURCE_DATE_EPOCH")
printf 'knbl (%s) stable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- %s  %s\n' "$version" "$MAINTAINER" "$date" |
    gzip -9n >"$doc/changelog.gz"
gzip -9nc CHANGELOG.md >"$doc/CHANGELOG.md.gz"
install -D -m 644 packaging/lintian-overrides "$root/usr/share/lintian/overrides/knbl"

# what the program loads, with the versions that have its symbols
printf 'Source: knbl\n\nPackage: knbl\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && DEB_HOST_ARCH=$arch dpkg-shlibdeps -O root/usr/bin/knbl 2>/dev/null |
    sed -n 's/^shlibs:Depends=//p')
mkdir "$root/DEBIAN"
for script in postinst prerm postrm; do install -m 755 "packaging/$script" "$root/DEBIAN/$script"; done
(cd "$root" && find usr lib -type f | LC_ALL=C sort | xargs -d '\n' md5sum) >"$root/DEBIAN/md5sums"
cat >"$root/DEBIAN/control" <<END
Package: knbl
Version: $version
Architecture: $arch
Maintainer: $MAINTAINER
Installed-Size: $(du -sk --apparent-size "$root" | cut -f1)
Depends: $depends, nftables
Recommends: ca-certificates, openssh-client
Suggests: qemu-system-x86, runsc
Section: net
Priority: optional
Description: measures what the network of a Kubernetes cluster costs
 knbl measures the network of a Kubernetes cluster path by path: pod to pod,
 through a Service, from a node, in a sandbox. It has load generators of its
 own, which short Lua scripts drive. Without a cluster it builds one of network
 namespaces on the machine, without root.
 .
 The package has the program, and a systemd unit for an agent that stands on a
 host: knbl-agent.service, which starts once /etc/knbl/token is there.
END
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --build --root-owner-group -Zxz "$root" "$out" >/dev/null
