#!/bin/sh
# deps.sh check|install PACKAGE... - names the Debian packages that are missing, or installs them.
mode=$1; shift
missing=
for p; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
if [ "$mode" = check ]; then
    echo "make: these packages are missing:$missing" >&2
    echo "make: 'make deps' installs them (apt-get install$missing)" >&2
    exit 1
fi
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "installing$missing ($sudo apt-get install)" >&2
$sudo apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends $missing >/dev/null
