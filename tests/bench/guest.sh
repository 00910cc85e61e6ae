#!/bin/sh
# guest.sh [FLOWS [IDLE]] - runs flows.lua in a guest, where root can raise the limit of open files: FLOWS flows of one
# run (65536) and IDLE connections that do nothing (100000), all to one agent. The guest is an initramfs with programs
# of this machine. It needs no root here.
#
# 0 leaves one of them out.
# GUEST: kvm or tcg (the default), which emulates the CPU, so that only ratios of its rates say something.
# KNBL: the program (./knbl); MEMORY: MiB for the guest (8192); LIMIT: seconds until it is ended (2400).
set -eu
flows=${1:-65536} idle=${2:-100000} memory=${MEMORY:-8192} limit=${LIMIT:-2400}
KNBL=${KNBL:-./knbl}
fail() { echo "guest.sh: $1" >&2; exit 1; }
guest=${GUEST:-tcg} modules=/lib/modules
case $guest in
kvm) cpu=host ;;
tcg) cpu=max ;;
*) fail "GUEST must be kvm or tcg, got '$guest'" ;;
esac
for program in qemu-system-x86_64 cpio insmod ip ldd; do
    command -v "$program" >/dev/null || fail "$program is not installed"
done
veth=$(find "$modules" -name 'veth.ko*' | sort | tail -1)
[ -n "$veth" ] || fail "there is no kernel module veth in $modules"
version=${veth#"$modules/"}
kernel=/boot/vmlinuz-${version%%/*}
[ -r "$kernel" ] || fail "cannot read $kernel"

work=$(mktemp -d) pid=
cleanup() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# ---- the initramfs ----

root=$work/root
mkdir -p "$root/dev" "$root/proc" "$root/sys" "$root/run" "$root/tmp" "$root/tests"
for folder in bin sbin lib lib64; do # as in Debian
    mkdir -p "$root/usr/$folder"
    ln -s "usr/$folder" "$root/$folder"
done
add() { # a program and its libraries, at the same paths
    path=$(command -v "$1")
    for file in "$path" $(ldd "$path" 2>/dev/null | grep -o '/[^ ]*'); do
        mkdir -p "$root${file%/*}"
        [ -e "$root$file" ] || cp -L "$file" "$root$file"
    done
}
for program in sh mount ip insmod sysctl mktemp cat ls wc rm sleep head "$KNBL"; do
    add "$program"
done
cp -L "$KNBL" "$root/knbl"
cp -r tests/net tests/bench "$root/tests"
cp "$veth" "$root/veth.ko"
cat >"$root/init" <<INIT
#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin KNBL=./knbl KNBL_TEST_INSIDE=1 HOME=/tmp
mount -t proc none /proc && mount -t sysfs none /sys && mount -t devtmpfs none /dev && mount -t tmpfs none /tmp
insmod /veth.ko
sysctl -qw fs.nr_open=1048576 fs.file-max=4194304 net.ipv4.tcp_mem='1000000 1500000 2000000' \
    net.core.netdev_max_backlog=200000
ulimit -n 1000000
cd / && ./knbl tests/bench/flows.lua $flows $idle $guest
echo "guest: exit \$?"
echo o >/proc/sysrq-trigger
sleep 60
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio --quiet -o -H newc) >"$work/initramfs"
rm -rf "$root"

# ---- the guest ----

# without the mitigations, which cost an emulated CPU half of its speed
qemu-system-x86_64 -machine q35 -accel "$guest" -cpu "$cpu" -m "$memory" -smp 2 -nodefaults -no-reboot -display none \
    -serial stdio \
    -monitor none -kernel "$kernel" -initrd "$work/initramfs" -append "console=ttyS0 quiet panic=-1 mitigations=off" \
    </dev/null >"$work/console" 2>&1 &
pid=$!
seconds=0
while kill -0 "$pid" 2>/dev/null && ! grep -q '^guest: exit' "$work/console"; do
    [ "$seconds" -lt "$limit" ] || fail "the guest took longer than $limit s"
    sleep 1
    seconds=$((seconds + 1))
done
tr -d '\r' <"$work/console" | sed -n '/idle connections$/,/^guest: exit/p'
grep -q '^guest: exit 0' "$work/console" || { tail -20 "$work/console"; fail "the run in the guest failed"; }
