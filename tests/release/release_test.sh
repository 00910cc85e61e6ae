#!/bin/sh
# make release twice: the same bytes; each of its files is installed or unpacked, and what comes out of it runs.
B=${B:-build} n=0
[ "$B" = build ] || { echo "ok 1 - release # SKIP only what is built plainly is released"; echo "1..1"; exit 0; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
export RELEASE_URL=https://releases.example/knbl/
# a commit meanwhile changes nothing
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0) && export SOURCE_DATE_EPOCH
chmod 755 "$work"
one=$work/one version=$(./knbl --version | cut -d' ' -f2) arch=$(dpkg --print-architecture) cpu=$(uname -m)
archive=$one/knbl-$version-linux-$arch.tar.gz deb=$one/knbl_${version}_$arch.deb rpm=$one/knbl-$version-1.$cpu.rpm
arm64=$one/knbl-$version-linux-arm64.tar.gz

check() { # check NAME COMMAND...
    name=$1; shift
    n=$((n + 1))
    if "$@" >"$work/out" 2>&1; then echo "ok $n - $name"; else echo "not ok $n - $name"; sed 's/^/# /' "$work/out"; fi
}
check_if() { # check_if CONDITION REASON NAME COMMAND...
    condition=$1 reason=$2; shift 2
    if sh -c "$condition" >/dev/null 2>&1; then check "$@"; else n=$((n + 1)); echo "ok $n - $1 # SKIP $reason"; fi
}

releases() {
    make -j2 --no-print-directory release D="$one" && (cd "$one" && sha256sum -c SHA256SUMS) && [ -s "$one/SHA256SUMS" ]
}
# the programs are linked again; the user's umask, language and time zone do not show
repeats() {
    rm -f build/knbl.in build/knbl.usr build/arm64/knbl build/arm64/knbl.in build/arm64/knbl.usr
    (umask 077 && TZ=Asia/Tokyo LC_ALL=C.UTF-8 make -j2 --no-print-directory release D="$work/two") &&
        diff "$one/SHA256SUMS" "$work/two/SHA256SUMS"
}
as_nobody() { if [ "$(id -u)" = 0 ]; then setpriv --reuid nobody --regid nogroup --clear-groups "$@"; else "$@"; fi; }
archive_runs() {
    mkdir -m 777 "$work/user" && as_nobody tar -C "$work/user" -xzf "$archive" || return 1
    (cd "$work/user"/knbl-* &&
        as_nobody env -i HOME=/nonexistent PATH=/usr/bin:/bin ./knbl pod_to_svc --duration 200ms --requests 100 \
        --json "$work/user/a.json") &&
        grep -q '"tcp_lat"' "$work/user/a.json"
}
# a root that has nothing but the archive: no libc, no nft, no shell
archive_needs_nothing() {
    empty=$work/empty && mkdir -p "$empty" && tar -C "$empty" -xzf "$archive" && mv "$empty"/knbl-* "$empty/knbl" ||
        return 1
    unshare --mount --fork --pid sh -ec '
        mount --bind "$1" "$1" && cd "$1" && mkdir proc dev run tmp etc old && mount -t proc none proc &&
            mount --rbind /dev dev
        pivot_root . old && cd / && export HOME=/nonexistent PATH=/nothing &&
            exec /knbl/knbl pod_to_svc --duration 200ms --requests 100' sh "$empty" |
        grep PodA | grep -q service
}
# the whole program for arm64, in an emulation of that CPU. The launcher prepares it; the machine cannot run it by
# itself
arm64_runs() {
    mkdir "$work/arm64" && tar -C "$work/arm64" -xzf "$arm64" && cd "$work"/arm64/knbl-* || return 1
    qemu-aarch64-static ./knbl --version
    printf '%s\n' 'local knbl = require "knbl"' 'local cluster <close> = knbl.cluster()' 'local a, b = cluster:pair()' \
        'knbl.tcp_rr { case = "round trips", from = a, to = b, count = 100 }' >rr.lua
    qemu-aarch64-static lib/knbl --version | grep -q "knbl $version" &&
        qemu-aarch64-static lib/knbl --on loopback rr.lua --json rr.json &&
        grep -Eq '"errors": ?0[,}]' rr.json &&
        # it wants netlink, which qemu does not emulate
        qemu-aarch64-static lib/loader --library-path lib --list lib/nft | grep -q libnftables
    code=$?
    cd "$here" && return $code
}
arm64_packages_say_so() {
    [ "$(dpkg-deb -f "$one/knbl_${version}_arm64.deb" Architecture)" = arm64 ] &&
        dpkg-deb -f "$one/knbl_${version}_arm64.deb" Depends | grep -q libcurl4 &&
        [ "$(rpm -qp --qf '%{ARCH}' "$one/knbl-$version-1.aarch64.rpm")" = aarch64 ]
}
agents_run() { "$one/knbl-agent-$arch-$version" --help | grep -q token-file; }

# A root of its own over this machine's (overlayfs, in a mount namespace), which is gone afterwards.
in_overlay() { unshare --mount --fork --pid sh -c '
    mount -t tmpfs none "$1" && mkdir "$1/upper" "$1/work" "$1/root" &&
    mount -t overlay none -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root" &&
    mount -t proc none "$1/root/proc" || exit 1
    mkdir "$1/root/packages" && mount --bind "$2" "$1/root/packages" &&
        exec chroot "$1/root" sh -ec "$3"' sh "$work/overlay" "$one" "$1"; }
mkdir "$work/overlay"

deb_installs() {
    SOURCE_DATE_EPOCH=0 MAINTAINER="A <a@b.org>" sh packaging/deb.sh "$B" 9.0.0 "$arch" ./knbl "$one/next.deb" ||
        return 1
    in_overlay '
        dpkg -i /packages/knbl_*_$(dpkg --print-architecture).deb
        knbl list | grep -q pod_to_svc
        [ "$(stat -c %a /etc/knbl)" = 700 ] && test -e /lib/systemd/system/knbl-agent.service
        echo a-token-of-16-bytes >/etc/knbl/token
        dpkg -i /packages/next.deb
        [ "$(dpkg-query -W -f "\${Version}" knbl)" = 9.0.0 ] && [ -s /etc/knbl/token ]
        dpkg --purge knbl
        ! test -e /usr/bin/knbl && ! test -e /usr/share/doc/knbl && [ -s /etc/knbl/token ]'
    code=$?
    rm -f "$one/next.deb"
    return $code
}
rpm_installs() { in_overlay '
    rpm -i --nodeps --dbpath /tmp/rpm /packages/*.$(uname -m).rpm && /usr/bin/knbl list | grep -q pod_to_svc
    rpm -e --dbpath /tmp/rpm knbl && ! test -e /usr/bin/knbl && ! test -e /usr/lib/knbl'; }
# nothing of the machine is there: neither its libraries nor its loader
rpm_needs_nothing() {
    mkdir "$work/bare" && rpm2cpio "$rpm" | (cd "$work/bare" && cpio -idm --quiet) && mkdir "$work/bare/proc" &&
        unshare --mount --fork --pid sh -c 'mount -t proc none "$1/proc" && chroot "$1" /usr/bin/knbl list &&
            chroot "$1" /usr/lib/knbl/loader --library-path /usr/lib/knbl /usr/lib/knbl/nft --version' \
            sh "$work/bare" >"$work/said" &&
        grep -q pod_to_svc "$work/said" && grep -q nftables "$work/said"
}
lintian_is_silent() { out=$(lintian --allow-root --fail-on error,warning "$deb" 2>&1) || { echo "$out"; return 1; }; }
unit_is_valid() {
    sed "s|/usr/bin/knbl|$PWD/knbl|; /^Documentation/d" packaging/knbl-agent.service >"$work/knbl-agent.service"
    systemd-analyze verify --man=no "$work/knbl-agent.service" &&
        systemd-analyze security --offline=true --threshold=20 "$work/knbl-agent.service"
}

manifests_are_filled_in() {
    for file in "$one/knbl.krew.yaml" "$one/knbl.rb"; do
        for a in amd64 arm64; do
            stem=knbl-$version-linux-$a
            sum=$(sha256sum <"$one/$stem.tar.gz" | cut -d' ' -f1)
            grep -q "$sum" "$file" && grep -q "https://releases.example/knbl/$stem.tar.gz" "$file" || return 1
            tar -tzf "$one/$stem.tar.gz" | grep -q "^$stem/knbl$" || return 1
        done
        ! grep '@[A-Z]' "$file" || return 1
    done
}

# action.yml's own steps, as a runner calls them
action() { # action RELEASE SCENARIO OPTIONS FAIL_IF
    mkdir -p "$work/runner" && (cd "$work/runner" && : >path && : >output &&
        export RUNNER_TEMP="$PWD" GITHUB_PATH="$PWD/path" GITHUB_OUTPUT="$PWD/output" \
        GITHUB_STEP_SUMMARY="$PWD/summary" &&
        RELEASE=$1 VERSION=$version sh "$here/packaging/action/install.sh" && PATH="$(cat path):$PATH" &&
        SCENARIO=$2 OPTIONS=$3 FAIL_IF=$4 sh "$here/packaging/action/run.sh")
}
here=$PWD quick='--duration 200ms --repeats 4'
action_measures() {
    action "file://$one" node_to_node "$quick" "" && grep -q 'exit-code=0' "$work/runner/output" &&
        [ -s "$work/runner/summary" ] || return 1
    mv "$work/runner/knbl-results/ledger.json" "$work/runner/knbl-results/baseline.json"
    before=$(wc -l <"$work/runner/summary")
    action "file://$one" node_to_node "$quick" "$(printf 'p99 +1000000%%\nthroughput -100%%')" &&
        [ "$(wc -l <"$work/runner/summary")" -gt $((before * 3 / 2)) ] &&
        [ -s "$work/runner/knbl-results/comparison.md" ]
}
action_fails() { # an expectation: 99.
    action "file://$one" node_to_node "$quick --expect 'p99 < 1ns'" ""
    [ $? = 99 ] && grep -q 'exit-code=99' "$work/runner/output"
}
action_refuses() { # what is not the archive that was released
    cp -r "$one" "$work/spoiled" && echo >>"$work/spoiled/${archive##*/}" && rm -rf "$work/runner" || return 1
    ! action "file://$work/spoiled" node_to_node "$quick" "" && [ ! -e "$work/runner/knbl/knbl" ] &&
        [ ! -s "$work/runner/path" ]
}
action_is_whole() { # each script that it calls is there, each input that it reads is declared
    for script in $(sed -n 's|.*ACTION_PATH/\([^"]*\)".*|\1|p' action.yml); do [ -f "$script" ] || return 1; done
    for input in $(grep -o 'inputs\.[a-z-]*' action.yml | cut -d. -f2 | sort -u); do
        grep -q "^  $input:" action.yml || { echo "$input"; return 1; }
    done
    grep -q "default: $version" action.yml
}
bases_build() {
    for base in deploy deploy/agents deploy/agents-host; do
        kubectl kustomize $base | grep -q '^kind:' || return 1
    done
}

root='[ $(id -u) = 0 ] && unshare --mount --fork --pid true'
check "make release" releases
check "the same bytes the second time, whatever the umask, the language and the time zone" repeats
check "the archive runs right after unpacking, as an ordinary user" archive_runs
check_if "$root" "needs root" "the archive measures in a root that has nothing else" archive_needs_nothing
check "the agent is a program of its own" agents_run
check_if "[ -e $arm64 ] && command -v qemu-aarch64-static" "needs the packages for arm64 and qemu-user-static" \
    "the archive for arm64 measures, emulated" arm64_runs
check_if "[ -e $arm64 ] && command -v rpm" "needs the packages for arm64 and rpm" \
    "the packages for arm64 are for arm64" arm64_packages_say_so
check_if "command -v lintian" "lintian is not installed" "lintian finds nothing in the .deb but what is overridden" \
    lintian_is_silent
check_if "$root" "needs root" "the .deb installs, upgrades and is removed; the token stays" deb_installs
check_if "$root && command -v rpm" "needs root and rpm" "the .rpm installs and is removed" rpm_installs
check_if "$root && command -v rpm2cpio && command -v cpio" "needs root, rpm2cpio and cpio" \
    "what the .rpm installs runs without the system's libraries" rpm_needs_nothing
check_if "command -v systemd-analyze" "systemd is not installed" \
    "the unit is valid and its sandbox leaves little exposed" unit_is_valid
check_if "[ -e $arm64 ]" "needs the packages for arm64" \
    "the Krew manifest and the formula name the archives and their sums" manifests_are_filled_in
check "action.yml has its scripts and declares its inputs" action_is_whole
check "the action installs, measures, and compares with the last ledger" action_measures
check "the action fails as the run does" action_fails
check "the action refuses an archive whose sum is another" action_refuses
check_if "command -v kubectl" "kubectl is not installed" "the kustomize bases build" bases_build
echo "1..$n"
