# What the scripts in contrib/ share: packages, throw-away users, and a private
# mount namespace in which the devices are as an ordinary Debian has them.
# Sourced by bash; the caller has `set -euo pipefail`.

say() { printf '== %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }

# newuidmap and friends live there; an ordinary user's PATH may lack it.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# as_root COMMAND...: as root or through sudo; fails where neither is possible.
as_root() {
    if is_root; then "$@"
    elif have sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then sudo "$@"
    else return 1
    fi
}

# install_packages COMMAND=PACKAGE...: installs the packages whose command is
# missing (a command with a slash is a file). Says what it does, and goes on
# where it may not: the tests then say what they lack.
install_packages() {
    local pair command missing=()
    for pair in "$@"; do
        command=${pair%%=*}
        case $command in
            */*) [ -e "$command" ] || missing+=("${pair#*=}") ;;
            *) have "$command" || missing+=("${pair#*=}") ;;
        esac
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! have apt-get; then
        say "not installed, and there is no apt-get to install it: ${missing[*]}"
        return 0
    fi
    if ! as_root true; then
        say "not installed, and neither root nor sudo to install it: ${missing[*]}"
        return 0
    fi
    say "installing ${missing[*]}"
    apt_install "${missing[@]}" || { as_root apt-get -qq update </dev/null && apt_install "${missing[@]}"; } ||
        say "apt-get could not install all of it; the tests will say what they lack"
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 \
        --no-install-recommends install "$@" </dev/null >&2
}

# fetch_program DIR PACKAGE PATH: prints the path of a program that need not be
# installed: the system's, or else the one from Debian's package unpacked under
# DIR. Needs no root, and starts no service as installing docker-registry would.
fetch_program() {
    local dir=$1 package=$2 path=$3 work
    if [ -x "/$path" ]; then printf '/%s\n' "$path"; return 0; fi
    if [ ! -x "$dir/$package/$path" ]; then
        have apt-get || return 1
        mkdir -p "$dir"
        work=$(mktemp -d "$dir/fetch.XXXXXX")
        say "fetching $package"
        (cd "$work" && apt-get -qq download "$package" </dev/null >/dev/null 2>&1 && dpkg -x ./*.deb unpacked) ||
            { rm -rf "$work"; return 1; }
        rm -rf "${dir:?}/$package"
        mv "$work/unpacked" "$dir/$package"
        rm -rf "$work"
    fi
    printf '%s\n' "$dir/$package/$path"
}

# add_user NAME HOME subids|no-subids: a throw-away user whose home is HOME.
add_user() {
    local name=$1 home=$2 subids=$3 try
    for try in 1 2 3 4 5; do
        # useradd refuses while another holds the lock of /etc/passwd.
        useradd --create-home --home-dir "$home" --shell /bin/sh "$name" 2>"$home.log" && break
        [ "$try" != 5 ] || { cat "$home.log" >&2; return 1; }
        sleep 1
    done
    rm -f "$home.log"
    case $subids in
        subids)
            # Where login.defs does not hand out ranges by itself.
            grep -qs "^$name:" /etc/subuid || usermod --add-subuids "$(free_subids /etc/subuid)" "$name"
            grep -qs "^$name:" /etc/subgid || usermod --add-subgids "$(free_subids /etc/subgid)" "$name"
            ;;
        no-subids)
            remove_subids "$name" /etc/subuid --del-subuids
            remove_subids "$name" /etc/subgid --del-subgids
            ;;
    esac
}

# The 65536 ids after the last range in FILE, as FIRST-LAST.
free_subids() {
    awk -F: 'BEGIN { next_id = 100000 }
        NF == 3 && $2 + $3 > next_id { next_id = $2 + $3 }
        END { printf "%d-%d\n", next_id, next_id + 65535 }' "$1" 2>/dev/null || echo 100000-165535
}

remove_subids() {
    local range
    range=$(awk -F: -v name="$1" '$1 == name { printf "%d-%d", $2, $2 + $3 - 1; exit }' "$2" 2>/dev/null)
    [ -z "$range" ] || usermod "$3" "$range" "$1"
}

# pids_of USER: every process of the user and of its subordinate ids. What has
# ended and only waits for a slow pid 1 to reap it is none.
pids_of() {
    local uid range
    uid=$(id -u "$1" 2>/dev/null) || return 0
    range=$(awk -F: -v name="$1" '$1 == name { print $2, $2 + $3 - 1; exit }' /etc/subuid 2>/dev/null)
    ps -eo pid=,uid=,stat= --no-headers |
        awk -v uid="$uid" -v range="${range:-1 0}" 'BEGIN { split(range, r, " ") }
            $3 ~ /^Z/ { next }
            $2 == uid || ($2 >= r[1] + 0 && $2 <= r[2] + 0) { print $1 }'
}

# tell_of_stalls FILE SECONDS: until it is killed. Where FILE has not grown for so
# long, says what runs and where that waits in the kernel: a test that hangs would
# only be missing otherwise.
tell_of_stalls() {
    local size=-1 now since=$SECONDS
    while sleep 5 >/dev/null 2>&1; do
        now=$(stat -c %s "$1" 2>/dev/null) || return 0
        if [ "$now" != "$size" ]; then size=$now since=$SECONDS; fi
        [ $((SECONDS - since)) -ge "$2" ] || continue
        since=$SECONDS
        say "no test has ended for $2 s; what runs, and what it waits for:"
        what_waits >&2
    done
}

# what_waits: every thread with its parent and state, what it waits for and, where that
# may be read, the kernel's stack. Not by ps(1): to look at a process that hangs may hang.
what_waits() {
    local task status
    for task in /proc/[0-9]*/task/[0-9]*; do
        status=$(awk -F'\t' '$1 ~ /^(Name|State|PPid|Uid|Kthread):$/ { sub(/ .*/, "", $2); printf "%s ", $2 }' \
            "$task/status" 2>/dev/null) || continue
        # NAME STATE PARENT UID, and where the kernel says so, whether it is its own thread.
        case " $status" in *" 2 0 " | *" 2 0 1 " | *" 0 0 1 ") continue ;; esac
        printf '%s %s%s\n' "${task#/proc/}" "$status" "$(a_look cat "$task/wchan") $(a_look cat "$task/syscall")"
        [ "$task" != "/proc/${task##*/}/task/${task##*/}" ] ||
            a_look tr '\0' ' ' "${task%/task/*}/cmdline" | sed 's/^\(.\{,300\}\).*/    \1\n/'
        case $status in *" D "*) a_look cat "$task/stack" | sed 's/^/    /' ;; esac
    done
}

# a_look COMMAND... FILE: with FILE as its input where it may be read, for two seconds at most.
a_look() {
    timeout -s KILL 2 sh -c 'file=$1; shift; exec "$@" <"$file"' sh "${@:$#}" "${@:1:$#-1}" 2>/dev/null || true
}

# remove_user NAME: ends the user's processes one by one, then the user.
remove_user() {
    local pid round
    id -u "$1" >/dev/null 2>&1 || return 0
    for round in 1 2 3 4 5; do
        local pids
        pids=$(pids_of "$1")
        [ -n "$pids" ] || break
        for pid in $pids; do kill -KILL "$pid" 2>/dev/null || true; done
        sleep 0.1
    done
    for round in 1 2 3 4 5; do
        userdel "$1" 2>/dev/null && break
        sleep 1
    done
}

# as_user NAME HOME COMMAND...: with a clean environment, as after a login.
as_user() {
    local name=$1 home=$2; shift 2
    setpriv --reuid "$(id -u "$name")" --regid "$(id -g "$name")" --init-groups \
        env -i HOME="$home" USER="$name" LOGNAME="$name" SHELL=/bin/sh TERM="${TERM:-dumb}" LANG=C.UTF-8 \
        PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin "$@"
}

# open_device PATH MAJOR MINOR USER DIR: in a private mount namespace only. An
# ordinary Debian has /dev/net/tun and /dev/fuse as 0666; where this host has
# not, a node of our own on a tmpfs at DIR is bound over it. The host's node
# keeps its mode.
open_device() {
    local path=$1 major=$2 minor=$3 user=$4 dir=$5
    [ -c "$path" ] || { say "$path does not exist"; return 0; }
    setpriv --reuid "$(id -u "$user")" --regid "$(id -g "$user")" --clear-groups \
        sh -c 'test -r "$1" && test -w "$1"' sh "$path" && return 0
    mountpoint -q "$dir" || { mkdir -p "$dir"; mount -t tmpfs -o mode=0755,size=64k coracle-devices "$dir"; }
    mknod "$dir/${path##*/}" c "$major" "$minor"
    chmod 0666 "$dir/${path##*/}"
    mount --bind "$dir/${path##*/}" "$path"
}

# in_stage USER DIR COMMAND...: as USER, in a private mount namespace where
# /dev/net/tun and /dev/fuse are as on an ordinary Debian, and /sys/fs/cgroup is a
# fresh cgroup2, without which crun refuses a host of mixed cgroups. DIR is
# readable for USER, has this file below lib/, and the runtime directory run/.
in_stage() {
    unshare --mount --propagation private bash -c '
        set -euo pipefail
        . "$2/lib/host.sh"; user=$1 stage=$2; shift 2
        open_device /dev/net/tun 10 200 "$user" "$stage/devices"
        open_device /dev/fuse 10 229 "$user" "$stage/devices"
        umount -R /sys/fs/cgroup 2>/dev/null || true
        mount -t cgroup2 none /sys/fs/cgroup || say "no cgroup2: podman may not run"
        mount -t tmpfs -o "mode=0700,uid=$(id -u "$user"),gid=$(id -g "$user")" coracle-run "$stage/run"
        [ ! -e "$stage/disk.ext4" ] || mount -o loop "$stage/disk.ext4" "$stage/disk"
        chown "$(id -u "$user"):$(id -g "$user")" "$stage/disk"
        install -d -o "$user" "$stage/disk/home"
        as_user "$user" "$stage/disk/home" "$@"' bash "$@" </dev/null
}

# as_throw_away_user SCRIPT ARGUMENT...: calls a measurement of contrib/bench, which
# root has called, once more as a user who goes when it has ended. CORACLE_BIN is
# copied to where that user finds it, and given to it with what else is in `passed`.
as_throw_away_user() {
    local script=$1 stage user code=0; shift
    [ -n "${CORACLE_BIN:-}" ] || die "CORACLE_BIN names no binary"
    stage=$(mktemp -d /var/tmp/cb.XXXXXX) user=coracle-b$$
    # shellcheck disable=SC2064 # as they are now
    trap "remove_user $user; rm -rf $stage" EXIT
    chmod 755 "$stage"
    mkdir -p "$stage"/{bin,lib,bench,run,disk}
    install -m 755 "$CORACLE_BIN" "$stage/bin/coracle"
    cp "${BASH_SOURCE[0]%/*}"/*.sh "$stage/lib/"
    cp "$script" "$stage/bench/"
    add_user "$user" "$stage/user" subids
    cd "$stage"
    in_stage "$user" "$stage" "CORACLE_BIN=$stage/bin/coracle" "XDG_RUNTIME_DIR=$stage/run" ${passed[@]+"${passed[@]}"} \
        bash "$stage/bench/${script##*/}" "$@" || code=$?
    exit "$code"
}

# own_cgroup NAME MOUNT: moves this shell into a control group of version 2 that
# belongs to NAME, in a mount of this private namespace, as a user manager of
# systemd would give one. Where the kernel has none, there is none.
own_cgroup() {
    cgroup_mount=$2 cgroup=
    mkdir -p "$cgroup_mount"
    mount -t cgroup2 none "$cgroup_mount" 2>/dev/null || return 0
    cgroup=$cgroup_mount/coracle-tests-$$
    if ! mkdir "$cgroup" "$cgroup/session" 2>/dev/null; then cgroup=; return 0; fi
    local controller
    for controller in memory pids cpu; do
        echo "+$controller" >"$cgroup/cgroup.subtree_control"
    done 2>/dev/null || true
    chown "$1" "$cgroup" "$cgroup"/cgroup.{procs,subtree_control,threads} \
        "$cgroup/session" "$cgroup/session"/cgroup.{procs,subtree_control,threads}
    echo $$ >"$cgroup/session/cgroup.procs"
}

# leave_cgroup: out of it again, and nothing of it stays.
leave_cgroup() {
    [ -n "$cgroup" ] || return 0
    echo $$ >"$cgroup_mount/cgroup.procs"
    find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || say "the control group $cgroup could not be removed"
}
