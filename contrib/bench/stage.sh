#!/usr/bin/env bash
# The inside of contrib/bench/all, as the user who measures: fills the stores,
# runs the measurements, prints the table. The measurements source it for what
# they share; called by hand, they call `all`, which makes the stage first.

# shellcheck disable=SC2034 # used by those who source this
coracle=${BENCH_STAGE:-}/bin/coracle
image=docker.io/library/busybox:latest

# Debian's podman as an ordinary user finds it where there is no systemd. Not
# `vfs`, which it would choose in a home that it used before without overlay;
# its own run directory, so that it joins no namespaces of another podman.
podman=(podman --root "${BENCH_STAGE:-}/disk/podman/storage" --runroot "${BENCH_STAGE:-}/disk/podman/run"
    --storage-driver overlay --cgroup-manager cgroupfs --events-backend file --runtime crun)
have_podman() { [ -e "${BENCH_STAGE:-}/disk/podman/usable" ]; }

# microseconds COMMAND...: how long it takes, on stdout. Its own output is kept
# for the case that it fails.
microseconds() {
    local before=$EPOCHREALTIME after
    "$@" >"$BENCH_STAGE/run/output" 2>&1 || { printf 'failed: %s\n' "$*" >&2; cat "$BENCH_STAGE/run/output" >&2; return 1; }
    after=$EPOCHREALTIME
    printf '%d\n' $((${after/./} - ${before/./}))
}

# timed FUNCTION FILE: adds to FILE how long it takes; `pause` seconds before.
timed() {
    [ -z "${pause:-}" ] || sleep "$pause"
    microseconds "$1" >>"$BENCH_STAGE/run/$2"
}

# pairs COUNT OURS THEIRS: takes turns between two functions; fills the files
# `ours` and `theirs` with their times. THEIRS may be empty. `round` is the number
# of the pair, or `first`.
pairs() {
    local count=${BENCH_PAIRS:-$1} round=first
    : >"$BENCH_STAGE/run/ours"; : >"$BENCH_STAGE/run/theirs"
    # The first of each warms the caches.
    "$2" >/dev/null
    [ -z "$3" ] || "$3" >/dev/null
    for ((round = 0; round < count; round++)); do
        timed "$2" ours
        [ -z "$3" ] || timed "$3" theirs
    done
}

# figures FILE: least and median in milliseconds.
figures() {
    sort -n "$1" | awk '{ v[NR] = $1 }
        END { if (NR) printf "%.2f %.2f\n", v[1] / 1000, v[int((NR + 1) / 2)] / 1000; else print "- -" }'
}

# row WHAT PEER GOAL OUR-MIN OUR-MEDIAN THEIR-MIN THEIR-MEDIAN RATIO
row() { printf '%s\t' "$@" | sed 's/\t$/\n/' >>"$BENCH_STAGE/run/table"; }

# ratio A B: A divided by B, as `1.87x`.
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { if (a > 0 && b > 0) printf "%.2fx", a / b; else printf "-" }'; }

# callback NAME ARGUMENTS: a measurement that is called by hand.
callback() { [ -n "${BENCH_STAGE:-}" ] || exec "$(dirname "$(readlink -f "$0")")/all" "$(basename "$0")"; }

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    . "$BENCH_STAGE/lib/host.sh"
    mkdir -p "$BENCH_STAGE"/disk/{home,data,state,cache,podman}
    "$coracle" load -q -i "$BENCH_STAGE/images/archive.tar" >/dev/null
    if have podman && have crun; then
        if "${podman[@]}" load -q -i "$BENCH_STAGE/images/archive.tar" >/dev/null 2>"$BENCH_STAGE/run/output" &&
            "${podman[@]}" run --cgroups=disabled --rm --network none "$image" true 2>>"$BENCH_STAGE/run/output"; then
            : >"$BENCH_STAGE/disk/podman/usable"
        else
            say "podman does not run here: $(tail -n 1 "$BENCH_STAGE/run/output")"
        fi
    fi
    : >"$BENCH_STAGE/run/table"
    row what 'against' 'goal' min median 'peer min' 'peer median' ratio
    load=$(cut -d' ' -f1-3 /proc/loadavg)
    for name in "$@"; do
        say "measuring $name"
        "$BENCH_STAGE/bench/$name" || say "$name did not come to its end"
    done
    awk -F'\t' '{ for (i = 1; i <= NF; i++) { cell[NR, i] = $i; if (length($i) > width[i]) width[i] = length($i) } n = NF > n ? NF : n }
        END { for (r = 1; r <= NR; r++) { line = ""; for (i = 1; i <= n; i++) line = line sprintf("%-" (width[i] + 2) "s", cell[r, i]); sub(/ +$/, "", line); print line } }' \
        "$BENCH_STAGE/run/table"
    printf '\n%s, Linux %s, %s cpus, load average before %s and after %s\n' "$("$coracle" --version)" \
        "$(uname -r)" "$(nproc)" "$load" "$(cut -d' ' -f1-3 /proc/loadavg)"
    printf 'binary of %d bytes' "$(stat -c %s "$coracle")"
    if have_podman; then printf '; %s, %s' "$(podman --version)" "$(crun --version | head -n 1)"; fi
    if have bwrap; then printf '; %s' "$(bwrap --version)"; fi
    printf '\n'
fi
