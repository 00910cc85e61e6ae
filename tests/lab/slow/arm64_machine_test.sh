#!/bin/sh
# A whole arm64 machine: Debian's kernel in qemu-system-aarch64, without KVM, with the static arm64 agent as its first
# process. Each test that an agent has is measured from this machine's agent to it, and over TCP the other way too.
B=${B:-build} KNBL=${KNBL:-./knbl} n=0
skip() { echo "ok 1 - an arm64 machine # SKIP $1"; echo "1..1"; exit 0; }
[ "$B" = build ] || skip "the static agent is built plainly only"
[ -x build/agent-arm64 ] || skip "build/agent-arm64 was not built"
command -v qemu-system-aarch64 >/dev/null || skip "qemu-system-aarch64 is not installed (qemu-system-arm)"
command -v cpio >/dev/null || skip "cpio is not installed"
kernel=$(ls build/arm64-kernel/boot/vmlinuz-* 2>/dev/null | tail -1)
[ -n "$kernel" ] || skip "there is no kernel for arm64 (make build/arm64-kernel fetches Debian's)"

work=$(mktemp -d) qemu= agent=
cleanup() { [ -z "$qemu$agent" ] || kill $qemu $agent 2>/dev/null; wait; rm -rf "$work"; }
trap cleanup EXIT
trap 'exit 1' INT TERM
modules="drivers/virtio/virtio_ring drivers/virtio/virtio drivers/virtio/virtio_pci_legacy_dev
    drivers/virtio/virtio_pci_modern_dev drivers/virtio/virtio_pci net/core/failover drivers/net/net_failover
    drivers/net/virtio_net"
token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
port=$(awk 'BEGIN { srand(); print 20000 + int(rand() * 10000) }')
port=$((port + $$ % 1000))

initramfs() {
    root=$work/root list='' i=0
    mkdir -p "$root/dev" "$root/proc" "$root/sys" "$root/run" "$root/tmp" "$root/modules"
    cp build/agent-arm64 "$root/init"
    for module in $modules; do
        cp build/arm64-kernel/lib/modules/*/kernel/$module.ko "$root/modules/$i.ko" || return 1
        list="$list${list:+,}\"$module.ko\"" i=$((i + 1))
    done
    printf '{"name":"arm","node":"arm","token":"%s","port":7099,"v6":false,"mtu":1500,"ip":["10.0.2.15"],' "$token" \
        >"$root/knbl.json"
    printf '"gateway":["10.0.2.2"],"modules":[%s]}' "$list" >>"$root/knbl.json"
    (cd "$root" && find . | cpio --quiet -o -H newc) >"$work/initramfs"
}
# qemu's own network stands between: 127.0.0.1:PORT here is port 7099 there, 10.0.2.2 there is 127.0.0.1 here
boot() {
    qemu-system-aarch64 -machine virt -cpu cortex-a72 -accel tcg -m 512M -smp 2 -nodefaults -no-reboot -display none \
        -serial stdio -monitor none \
        -kernel "$kernel" -initrd "$work/initramfs" -append "console=ttyAMA0 quiet panic=-1 rdinit=/init -- guest" \
        -device virtio-net-pci,netdev=n,romfile= \
        -netdev "user,id=n,hostfwd=tcp:127.0.0.1:$port-:7099,hostfwd=udp:127.0.0.1:$port-:7099" >"$work/console" 2>&1 \
        </dev/null &
    qemu=$!
    for _ in $(seq 1800); do
        grep -q '^knbl: ' "$work/console" && break
        kill -0 "$qemu" 2>/dev/null || break
        sleep 0.1
    done
    grep -q '^knbl: ready' "$work/console" || { cat "$work/console"; return 1; }
}
start_agent() {
    echo "$token" >"$work/token"
    "$KNBL" agent --listen 127.0.0.1:0 --token-file "$work/token" 2>"$work/agent" & agent=$!
    for _ in $(seq 200); do
        here=$(sed -n 's/.*listening on [^ ]*:\([0-9]*\).*/\1/p' "$work/agent")
        [ -z "$here" ] || return 0
        sleep 0.1
    done
    cat "$work/agent"; return 1
}
measure() {
    cat >"$work/measure.lua" <<'END'
local knbl = require "knbl"
local cluster <close> = knbl.cluster()
local here, arm = cluster:nodes(2)
local good, all = 0, 0
local function say(r)
  local m = r.metrics or {}
  all = all + 1
  if r.ok and m.errors == 0 and ((m.ops or 0) > 0 or (m.bytes or 0) > 0) then good = good + 1 end
end
for _, test in ipairs { "tcp_stream", "tcp_sendfile", "tcp_rr", "tcp_crr", "tcp_bw", "tcp_lat", "udp_rr", "http" } do
  say(knbl[test] { case = test, from = here, to = arm, duration = "2s" })
end
for _, test in ipairs { "tcp_stream", "tcp_rr", "tcp_crr" } do
  say(knbl[test] { case = test .. " back", from = arm, to = here, duration = "2s" })
end
print(good .. " of " .. all)
END
    "$KNBL" --on "hosts:here=127.0.0.1:$here/10.0.2.2:$here,arm=127.0.0.1:$port" --token-file "$work/token" \
        --json "$work/ledger.json" \
        "$work/measure.lua" >"$work/table" 2>&1
    cat "$work/table"
    grep -q '^11 of 11$' "$work/table"
}
is_arm() { grep -q 'cloud-arm64' "$work/ledger.json"; }
lives() { kill -0 "$qemu" && ! grep -qiE 'panic|oops|segfault|BUG' "$work/console"; }

check() { # check NAME COMMAND...
    name=$1; shift
    n=$((n + 1))
    if "$@" >"$work/out" 2>&1; then echo "ok $n - $name"; else echo "not ok $n - $name"; fi
    sed 's/^/# /' "$work/out"
}
check "its initramfs is the agent and the modules" initramfs
check "it boots, and the agent is ready" boot
check "an agent here" start_agent
check "both measure, in both directions" measure
check "the ledger has its kernel" is_arm
check "it goes on, and its kernel has not complained" lives
echo "1..$n"
