#!/bin/sh
# run.sh BUILD_DIR [bench options] - connects two namespaces with a veth pair and runs bench.lua between them. It
# changes only namespaces that it creates, which end with it. It needs no root.
set -eu
if [ "${KNBL_BENCH_INSIDE:-}" != 1 ]; then
    exec env KNBL_BENCH_INSIDE=1 unshare --user --map-root-user --net --mount --pid --fork --kill-child \
        --mount-proc sh "$0" "$@"
fi
mount -t tmpfs none /run
# netserver removes the write permission of /dev/null, so here /dev/null is a separate file
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
# rows with thousands of flows, one after the other, would run out of ports to TIME_WAIT
echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse
# no exec: the shell is process 1 here and reaps servers that ended
./knbl tests/bench/bench.lua "$@"
