# The inside of contrib/bench/overlay, as root of a user namespace: makes the
# lower directories once, mounts, measures, prints the table.
# shellcheck shell=bash disable=SC2317 # the workloads are called by their names
set -euo pipefail

# --- The workloads -----------------------------------------------------------
# workload NAME TITLE MODE LOWERS NATIVE-BOUND FUSE-BOUND [or]
#   MODE    warm: one mount for all rounds, after one round that does not count
#           cold: a new mount, so a new server, each round; the upper stays
#           fresh: a new mount and an empty upper each round
#   LOWERS  lower directories below $disk/lower, the topmost first
#   `or`: either bound will do.
# before_NAME MERGED prepares, unmeasured: for `fresh` each round, else once on
# each driver. run_NAME MERGED is measured; it may set `took` (microseconds)
# where its own duration is not the figure.
names=()
declare -A title mode lowers native_bound fuse_bound either
workload() {
    names+=("$1")
    title[$1]=$2 mode[$1]=$3 lowers[$1]=$4 native_bound[$1]=$5 fuse_bound[$1]=$6 either[$1]=${7:-}
}

workload find-warm 'find, warm' warm root 1.2 3 or
run_find-warm() { find "$1" -xdev >/dev/null; }

workload find-stat-warm 'find with stat, warm' warm root 1.2 3 or
run_find-stat-warm() { find "$1" -xdev -newermt 2200-01-01 >/dev/null; }

workload read-warm 'read all files, warm' warm root 1.2 3 or
run_read-warm() { (cd "$1" && xargs -0 cat <"$disk/files" >/dev/null); }

workload find-cold 'find, cold' cold root 2.5 3
run_find-cold() { find "$1" -xdev >/dev/null; }

workload find-stat-cold 'find with stat, cold' cold root 2.5 3
run_find-stat-cold() { find "$1" -xdev -newermt 2200-01-01 >/dev/null; }

workload read-cold 'read all files, cold' cold root 2.5 3
run_read-cold() { run_read-warm "$1"; }

workload python-warm 'five python starts, warm' warm root 1.2 3 or
run_python-warm() {
    local _
    for _ in 1 2 3 4 5; do
        chroot "$1" /usr/bin/python3 -B -c 'import json, asyncio, http.client, email.message, logging' || return
    done
}

workload git-status 'git status' warm 'repo root' 1.2 3 or
run_git-status() { git -C "$1/repo" status --porcelain >/dev/null; }

workload untar 'untar of /usr/share' fresh root 3 4
run_untar() { mkdir "$1/untar" && tar -xf "$disk/share.tar" -C "$1/untar"; }

workload untar-over 'the same over the lower one' fresh root 3 4
run_untar-over() { tar -xf "$disk/share.tar" -C "$1"; }

workload git-commit 'git init + add + commit' fresh root 3 4
run_git-commit() {
    git -C "$1/usr/share" init -q && git -C "$1/usr/share" add . && git -C "$1/usr/share" commit -q -m all
}

workload rm-upper 'rm -rf of what was untarred' fresh root 3 4
before_rm-upper() { run_untar "$1"; }
run_rm-upper() { rm -rf "$1/untar"; }

workload rm-lower 'rm -rf of the lower /usr/share' fresh root 3 4
run_rm-lower() { rm -rf "$1/usr/share"; }

workload npm '20,000 small files, npm-like' fresh root 3 4
run_npm() { mkdir "$1/node_modules" && "$disk/small-files" "$1/node_modules" 2000 20000 200 8192; }

workload seq-write 'write 1 GiB' fresh root 1.3 1.5
run_seq-write() { dd if=/dev/zero of="$1/big" bs=1M count=1024 status=none; }

workload seq-fsync 'write 1 GiB and fsync' fresh root 1.3 1.5
run_seq-fsync() { dd if=/dev/zero of="$1/big" bs=1M count=1024 conv=fsync status=none; }

workload seq-read-warm 'read 1 GiB, warm' warm root 1.3 1.5
before_seq-read-warm() { run_seq-write "$1"; }
run_seq-read-warm() { dd if="$1/big" of=/dev/null bs=1M status=none; }

workload seq-read-cold 'read 1 GiB, cold' cold root 1.3 1.5
before_seq-read-cold() { run_seq-write "$1"; }
run_seq-read-cold() { run_seq-read-warm "$1"; }

# fio RW ENGINE: 1 GiB of a file of 256 MiB, in blocks of 4 KiB; its own time counts.
random_io() {
    took=$(fio --name=bench --filename="$1/fio" --rw="$2" --ioengine="$3" --bs=4k --size=256M --io_size=1G \
        --randseed=4 --norandommap --output-format=json |
        awk -F '[:,]' '/"runtime"/ && $2 > most { most = $2 } END { print most * 1000 }')
    [ "$took" -gt 0 ]
}
before_random() { dd if=/dev/urandom of="$1/fio" bs=1M count=256 status=none; }

workload fio-read 'random reads of 4 KiB (fio)' warm root 1.3 1.5
before_fio-read() { before_random "$1"; }
run_fio-read() { random_io "$1" randread psync; }

workload fio-write 'random writes of 4 KiB (fio)' warm root 1.3 1.5
before_fio-write() { before_random "$1"; }
run_fio-write() { random_io "$1" randwrite psync; }

workload fio-mmap 'both by mmap (fio)' warm root 1.3 1.5
before_fio-mmap() { before_random "$1"; }
run_fio-mmap() { random_io "$1" randrw mmap; }

workload build 'make -j of 500 C files' fresh 'project root' 1.3 2
run_build() { chroot "$1" /usr/bin/make -s -j "$(nproc)" -C /project; }

# KiB in the place of milliseconds: the kernel's overlay has no process.
workload memory 'KiB resident, 100,000 files found' fresh many - 1
run_memory() {
    find "$1" >/dev/null && find "$1" -newermt 2200-01-01 >/dev/null || return
    took=0
    local pid=${server[${1##*/}]:-}
    [ -z "$pid" ] || took=$(awk '/^VmRSS/ { print $2 * 1000 }' "/proc/$pid/status")
}

# --- Mounts ------------------------------------------------------------------
declare -A server mounted

# merge DRIVER LOWERS: mounts at $BENCH_STAGE/m/DRIVER; the upper is that of
# before, or an empty one after `wipe`.
merge() {
    local driver=$1 at=$BENCH_STAGE/m/$1 below='' lower extra options binary
    mkdir -p "$at" "$disk/run/$driver"/{upper,work}
    for lower in $2; do
        if [ "$lower" = root ]; then below+=:$(root_layers); else below+=:$disk/lower/$lower; fi
    done
    options="lowerdir=${below#:},upperdir=$disk/run/$driver/upper,workdir=$disk/run/$driver/work"
    case $driver in
        native)
            mount -t overlay -o "$options,userxattr${NATIVE_OPTIONS:+,$NATIVE_OPTIONS}" overlay "$at"
            mounted[native]=1
            return
            ;;
        coracle) binary=("$BENCH_STAGE/bin/coracle" overlay) extra=$CORACLE_OPTIONS ;;
        fuse-overlayfs) binary=(fuse-overlayfs) extra=$FUSE_OVERLAYFS_OPTIONS ;;
    esac
    setpriv --pdeathsig KILL "${binary[@]}" -f -o "$options${extra:+,$extra}" "$at" \
        >"$BENCH_STAGE/run/$driver.log" 2>&1 &
    server[$driver]=$!
    until mountpoint -q "$at"; do
        kill -0 "${server[$driver]}" 2>/dev/null || { tail -n 3 "$BENCH_STAGE/run/$driver.log" >&2; return 1; }
        sleep 0.005
    done
    mounted[$driver]=1
}

part() {
    local driver=$1
    [ -n "${mounted[$driver]:-}" ] || return 0
    umount "$BENCH_STAGE/m/$driver" 2>/dev/null || umount -l "$BENCH_STAGE/m/$driver" || true
    mounted[$driver]=
    if [ -n "${server[$driver]:-}" ]; then
        wait "${server[$driver]}" || say "the server of $driver ended with $?: $(tail -n 1 "$BENCH_STAGE/run/$driver.log")"
        server[$driver]=
    fi
}

wipe() { rm -rf "$disk/run/$1"; }

# The root as $LAYERS lower directories, the topmost first.
root_layers() {
    local layer out=''
    [ "$LAYERS" -gt 1 ] || { printf '%s' "$disk/lower/root"; return; }
    for ((layer = 1; layer <= LAYERS; layer++)); do out+=:$disk/lower/root.$LAYERS.$layer; done
    printf '%s' "${out#:}"
}

# --- Measuring ---------------------------------------------------------------

# once NAME DRIVER: one figure, or a line that says what went wrong.
once() {
    local name=$1 driver=$2 at=$BENCH_STAGE/m/$2 before after
    if [ "${mode[$name]}" != warm ]; then
        part "$driver"
        if [ "${mode[$name]}" = fresh ]; then wipe "$driver"; fi
        merge "$driver" "${lowers[$name]}" || return
        if [ "${mode[$name]}" = fresh ]; then prepared "$name" "$driver" || return; fi
        # What others wrote is not to be paid for here.
        sync -f "$disk"
        if [ "${mode[$name]}" = cold ] && [ "$COLD" = drop ]; then
            echo >"$BENCH_STAGE/drop"; read -r _ <"$BENCH_STAGE/dropped"
        fi
    fi
    took=
    before=$EPOCHREALTIME
    "run_$name" "$at" >"$BENCH_STAGE/run/output" 2>&1 || { failure "$name" "$driver"; return 1; }
    after=$EPOCHREALTIME
    [ -n "$took" ] || took=$((${after/./} - ${before/./}))
}

prepared() {
    declare -F "before_$1" >/dev/null || return 0
    "before_$1" "$BENCH_STAGE/m/$2" >"$BENCH_STAGE/run/output" 2>&1 || { failure "$1" "$2"; return 1; }
}

failure() {
    printf '%s on %s failed: %s\n' "$1" "$2" "$(tail -n 3 "$BENCH_STAGE/run/output")" >&2
    if [ -s "$BENCH_STAGE/run/$2.log" ]; then tail -n 3 "$BENCH_STAGE/run/$2.log" >&2; fi
}

# measured NAME: all rounds on all drivers, in turn, and the row.
measured() {
    local name=$1 driver round took
    local -A failed=()
    for driver in $DRIVERS; do
        : >"$BENCH_STAGE/run/$driver.figures"
        wipe "$driver"
        if [ "${mode[$name]}" != fresh ]; then
            merge "$driver" "${lowers[$name]}" && prepared "$name" "$driver" || { failed[$driver]=1; continue; }
        fi
        if [ "${mode[$name]}" = warm ]; then once "$name" "$driver" || failed[$driver]=1; fi
    done
    for ((round = 0; round < ROUNDS; round++)); do
        for driver in $DRIVERS; do
            [ -z "${failed[$driver]:-}" ] || continue
            if once "$name" "$driver"; then
                echo "$took" >>"$BENCH_STAGE/run/$driver.figures"
                printf '%s %s %s\n' "$name" "$driver" "$(awk -v us="$took" 'BEGIN { printf "%.2f", us / 1000 }')" >>"$BENCH_STAGE/raw"
            else
                failed[$driver]=1
            fi
        done
    done
    for driver in $DRIVERS; do
        part "$driver"
        wipe "$driver"
        if [ -n "${failed[$driver]:-}" ]; then : >"$BENCH_STAGE/run/$driver.figures"; fi
    done
    print_row "$name"
}

median() {
    local least middle
    read -r least middle < <(if [ -e "$BENCH_STAGE/run/$1.figures" ]; then figures "$BENCH_STAGE/run/$1.figures"; else echo - -; fi)
    echo "$middle"
}

print_row() {
    awk -v title="${title[$1]}" -v native="$(median native)" -v ours="$(median coracle)" -v theirs="$(median fuse-overlayfs)" \
        -v most="${native_bound[$1]}" -v least="${fuse_bound[$1]}" -v either="${either[$1]}" '
        function figure(v) { return v == "-" ? "-" : v < 100 ? sprintf("%.1f", v) : sprintf("%.0f", v) }
        function over(a, b) { return a == "-" || b == "-" || b + 0 == 0 ? "-" : sprintf("%.2f", a / b) }
        function verdict(known, ok) { return !known ? "" : ok ? "ok" : "MISS" }
        BEGIN {
            a = over(ours, native); b = over(theirs, ours)
            near = a != "-" && most != "-" && a <= most + 0
            fast = b != "-" && least != "-" && b >= least + 0
            printf "%-32s %9s %9s %9s  %9s %-5s %-4s  %9s %-4s %-4s  %9s\n", title, figure(native), figure(ours), figure(theirs),
                a, most == "-" ? "" : "<" most, verdict(a != "-" && most != "-", near),
                b, least == "-" ? "" : ">" least, verdict(b != "-" && least != "-", fast || (either && near)), over(theirs, native)
        }'
}

# --- The lower directories ---------------------------------------------------

# The root's own programs, run from the lower directory: of one version everywhere.
of_root() {
    local program=$1; shift
    "$root/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu" "$root/usr/bin/$program" "$@"
}

git() {
    GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_TEMPLATE_DIR='' GIT_EXEC_PATH=$root/usr/lib/git-core \
        of_root git -c user.name=bench -c user.email=bench@localhost -c gc.auto=0 -c maintenance.auto=false -c safe.directory='*' \
        -c init.defaultBranch=main "$@"
}

prepare() {
    [ "$(cat "$disk/made" 2>/dev/null)" != "$LAYOUT" ] || return 0
    say "making the lower directories in $disk"
    rm -rf "$disk"/{lower,share.tar,files,small-files,made}
    mkdir -p "$root" "$disk/lower/repo/repo"
    tar -xf "$BENCH_STAGE/root.tar" -C "$root" --exclude='./dev/*'
    compile "$BENCH_STAGE/bench/small-files.c" "$disk/small-files"
    tar -cf "$disk/share.tar" -C "$root" usr/share
    (cd "$root" && find . -xdev -type f -print0) >"$disk/files"
    cp -a "$root/usr/share" "$root/usr/include" "$root"/usr/lib/python3* "$disk/lower/repo/repo/"
    git -C "$disk/lower/repo/repo" init -q
    git -C "$disk/lower/repo/repo" add -f .
    git -C "$disk/lower/repo/repo" commit -q -m all
    sync -f "$disk"
    echo "$LAYOUT" >"$disk/made"
}

# compile SOURCE PROGRAM: a static one, by the root's own compiler.
compile() {
    cp "$1" "$root/tmp/source.c"
    chroot "$root" /usr/bin/gcc -O2 -static -pipe -o /tmp/program /tmp/source.c
    mv "$root/tmp/program" "$2"
    rm "$root/tmp/source.c"
}

# Directories in all layers; each file in the one that its number falls to.
prepare_layers() {
    local layer
    [ "$LAYERS" -gt 1 ] && [ ! -e "$disk/lower/root.$LAYERS.made" ] || return 0
    say "making $LAYERS layers"
    for ((layer = 1; layer <= LAYERS; layer++)); do
        rm -rf "$disk/lower/root.$LAYERS.$layer"
        mkdir -p "$disk/lower/root.$LAYERS.$layer"
        (cd "$root" && { find . -type d -print0; find . ! -type d -print0 |
            awk -v RS='\0' -v ORS='\0' -v n="$LAYERS" -v k="$layer" 'NR % n == k % n'; } |
            tar -cf - --null --no-recursion -T -) | tar -xf - -C "$disk/lower/root.$LAYERS.$layer"
    done
    : >"$disk/lower/root.$LAYERS.made"
}

prepare_many() {
    local folder
    chosen memory && [ ! -e "$disk/lower/many.made" ] || return 0
    rm -rf "$disk/lower/many"
    for folder in {1..100}; do
        mkdir -p "$disk/lower/many/$folder"
        (cd "$disk/lower/many/$folder" && seq 1000 | xargs touch)
    done
    : >"$disk/lower/many.made"
}

# A program of 500 sources: each a few functions that use those of the last.
prepare_project() {
    local number at=$disk/lower/project/project
    chosen build && [ ! -e "$disk/lower/project.made" ] || return 0
    rm -rf "$disk/lower/project"
    mkdir -p "$at"
    {
        printf 'objects = $(patsubst %%.c,%%.o,$(wildcard *.c))\nprogram: $(objects)\n\t$(CC) -o $@ $(objects)\n'
        printf '%%.o: %%.c all.h\n\t$(CC) -O1 -c -o $@ $<\n'
    } >"$at/Makefile"
    for ((number = 0; number < 500; number++)); do printf 'int f%d(int, char *, int);\n' "$number"; done >"$at/all.h"
    for ((number = 0; number < 500; number++)); do
        printf '#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include "all.h"\n'
        printf 'static int count(const char *s) { int n = 0; while (*s) n += *s++ == %d; return n; }\n' "$number"
        printf 'int f%d(int a, char *s, int room) {\n    snprintf(s, room, "%%d of %%d", a, count(s));\n' "$number"
        printf '    return (int)strlen(s) + (a > 0 ? f%d(a - 1, s, room) : atoi(s));\n}\n' "$(((number + 499) % 500))"
        [ "$number" != 0 ] || printf 'int main(void) { char s[64] = ""; return f0(9, s, 64) == 0; }\n'
    done | awk -v at="$at" '/^#include <stdio/ { file = sprintf("%s/f%03d.c", at, n++) } { print > file }'
    : >"$disk/lower/project.made"
}

# --- Here it begins ----------------------------------------------------------

chosen() {
    local only
    [ -n "$ONLY" ] || return 0
    for only in $ONLY; do case $1 in "$only"*) return 0 ;; esac; done
    return 1
}

if [ "${1:-}" = --list ]; then
    for name in "${names[@]}"; do printf '%-16s %s\n' "$name" "${title[$name]}"; done
    exit 0
fi
. "$BENCH_STAGE/lib/host.sh"
. "$BENCH_STAGE/bench/stage.sh"
disk=$(readlink -f "$BENCH_STAGE/disk")
root=$disk/lower/root
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
trap 'for driver in $DRIVERS; do part "$driver"; done' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

usable=
for driver in $DRIVERS; do
    case $driver in native | coracle | fuse-overlayfs) ;; *) die "what is the driver $driver?" ;; esac
    if [ "$driver" = fuse-overlayfs ] && ! have fuse-overlayfs; then say "no fuse-overlayfs (apt-get install fuse-overlayfs)"; continue; fi
    usable+=" $driver"
done
DRIVERS=$usable usable=
prepare
prepare_layers
prepare_many
prepare_project
rm -rf "$disk/run"
for driver in $DRIVERS; do
    if merge "$driver" root; then usable+=" $driver"; else say "$driver does not mount here; left out"; fi
    part "$driver"
done
DRIVERS=$usable
[ "$COLD" = drop ] || { (cd "$root" && xargs -0 cat <"$disk/files" >/dev/null); }

load=$(cut -d' ' -f1-3 /proc/loadavg)
printf '%-32s %9s %9s %9s  %-20s  %-20s  %9s\n' 'milliseconds, medians' native coracle fuse-ovl \
    '   coracle/native' '  fuse-ovl/coracle' 'fuse-ovl/native'
for name in "${names[@]}"; do
    if chosen "$name"; then measured "$name"; fi
done
printf '\n%s rounds, %s lower director%s of the root on %s, Linux %s, %s cpus, load average before %s and after %s\n' "$ROUNDS" \
    "$LAYERS" "$([ "$LAYERS" = 1 ] && echo y || echo ies)" "$(stat -f -c %T "$disk")" "$(uname -r)" "$(nproc)" "$load" "$(cut -d' ' -f1-3 /proc/loadavg)"
case " $DRIVERS " in *' fuse-overlayfs '*) fuse-overlayfs --version 2>/dev/null | sed -n '/^fuse-overlayfs/p' ;; esac
