#!/bin/sh
# rpm.sh BUILD VERSION ARCH NFT OUT - the RPM package. Its libraries, and the loader, are its own (/usr/lib/knbl), so
# that one package serves Fedora, RHEL and openSUSE, whose libraries differ. BUILD/knbl.usr is linked for that folder,
# where the program NFT goes, too. The same bytes each time: SOURCE_DATE_EPOCH is every date.
set -eu
build=$1 version=$2 arch=$3 nft=$4 out=$5
case $arch in
    amd64) cpu=x86_64 ;;
    arm64) cpu=aarch64 ;;
    *) echo "rpm.sh: architecture must be amd64 or arm64, got $arch" >&2; exit 2 ;;
esac
work=$PWD/$build/rpm root=$PWD/$build/rpm/root
umask 022
rm -rf "$work" && mkdir -p "$work"
sh packaging/root.sh "$build/knbl.usr" "$root" /usr/lib/systemd/system
mkdir -p "$root/usr/share/zsh/site-functions"
mv "$root/usr/share/zsh/vendor-completions/_knbl" "$root/usr/share/zsh/site-functions/_knbl"
rmdir "$root/usr/share/zsh/vendor-completions"
sh packaging/libraries.sh "$arch" "$root/usr/lib/knbl" "$root/usr/share/licenses/knbl" "$build/knbl.usr" "$nft"
install -m 755 "$nft" "$root/usr/lib/knbl/nft"
sh packaging/licenses.sh "$root/usr/share/licenses/knbl"
install -m 644 LICENSE "$root/usr/share/licenses/knbl/LICENSE"
cat >"$work/knbl.spec" <<END
Name: knbl
Version: $version
Release: 1
Summary: Measures what the network of a Kubernetes cluster costs
License: MIT AND GPL-2.0-only AND LGPL-2.1-or-later
# what is here was built, stripped and compressed by the Makefile
AutoReqProv: no
%global __os_install_post %{nil}
%global debug_package %{nil}
%description
knbl measures the network of a Kubernetes cluster path by path: pod to pod,
through a Service, from a node, in a sandbox. It has load generators of its own,
which short Lua scripts drive. Without a cluster it builds one of network
namespaces on the machine, without root.
%install
cp -a $root/. %{buildroot}/
%post
[ ! -d /run/systemd/system ] || systemctl daemon-reload >/dev/null 2>&1 || :
[ "\$1" = 1 ] || [ ! -d /run/systemd/system ] || systemctl try-restart knbl-agent.service >/dev/null 2>&1 || :
%preun
[ "\$1" != 0 ] || [ ! -d /run/systemd/system ] || systemctl disable --now knbl-agent.service >/dev/null 2>&1 || :
%postun
[ ! -d /run/systemd/system ] || systemctl daemon-reload >/dev/null 2>&1 || :
%files
%defattr(-,root,root,-)
/usr/bin/knbl
/usr/lib/knbl
/usr/lib/systemd/system/knbl-agent.service
%dir %attr(700,root,root) /etc/knbl
/usr/share/bash-completion/completions/knbl
/usr/share/zsh/site-functions/_knbl
/usr/share/fish/vendor_completions.d/knbl.fish
%doc /usr/share/doc/knbl
%license /usr/share/licenses/knbl
/usr/share/man/man1/knbl.1.gz
END
rpmbuild --quiet -bb --nodeps --target "$cpu" --dbpath "$work/db" -D "_topdir $work" -D "_rpmdir $work" \
    -D '_rpmfilename out.rpm' \
    -D '_buildhost localhost' -D 'use_source_date_epoch_as_buildtime 1' -D 'clamp_mtime_to_source_date_epoch 1' \
    -D 'source_date_epoch_from_changelog 0' -D '_build_id_links none' -D '_binary_payload w10.zstdio' \
    "$work/knbl.spec" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }
mv "$work/out.rpm" "$out"
