#!/bin/sh
# run.sh BUILD_DIR [bench options] - two namespaces joined by a veth pair, then bench.lua between them. All of it lies inside
# namespaces made here, so the machine's network is not touched and nothing outlives it. No root needed.
set -eu
if [ "${KNBL_BENCH_INSIDE:-}" != 1 ]; then
    exec env KNBL_BENCH_INSIDE=1 unshare --user --map-root-user --net --mount --pid --fork --kill-child --mount-proc sh "$0" "$@"
fi
mount -t tmpfs none /run
# netserver takes the write permission off /dev/null: here it is a file of our own, and whoever owns the real one keeps it as it is
: >/run/null
mount --bind /run/null /dev/null
ip link set lo up
ip netns add peer
ip link add veth0 type veth peer name veth0 netns peer
ip addr add 10.99.0.1/24 dev veth0
ip link set veth0 up
ip -n peer addr add 10.99.0.2/24 dev veth0
ip -n peer link set veth0 up
ip -n peer link set lo up
# no exec: the shell is process 1 here, and takes leave of servers that ended
./knbl tests/bench/bench.lua "$@"
