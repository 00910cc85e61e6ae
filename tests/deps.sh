#!/bin/sh
# deps.sh list|check|install PACKAGE... - lists the Debian packages that are missing, fails with them, or installs them;
# "NAME:arm64" is one of another architecture.
mode=$1; shift
missing=
for p; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ "$mode" != list ] || echo "$missing"
[ -z "$missing" ] || [ "$mode" = list ] && exit 0
if [ "$mode" = check ]; then
    echo "make: these packages are missing:$missing" >&2
    echo "make: 'make deps' installs them (apt-get install$missing)" >&2
    exit 1
fi
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
for p in $missing; do
    case $p in
    *:*) dpkg --print-foreign-architectures | grep -qx "${p#*:}" || $sudo dpkg --add-architecture "${p#*:}" || exit 1 ;;
    esac
done
echo "installing$missing ($sudo apt-get install)" >&2
$sudo apt-get update -q >/dev/null &&
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends $missing >/dev/null
