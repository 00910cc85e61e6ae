#!/bin/sh
# licenses.sh TO - copies the copyright files of the libraries that are inside knbl and the agents, and of nft
# (docs/licenses.md) into the folder TO.
set -eu
mkdir -p "$1"
for package in liblua5.4-dev lua-cjson-dev libsodium-dev libnl-3-dev libnl-route-3-dev libyaml-dev libjansson-dev \
    libmicrohttpd-dev musl-dev nftables; do
    install -m 644 "/usr/share/doc/$package/copyright" "$1/${package%-dev}"
done
