# What has left a network, by the kernel's counters. Sourced by sh in the world
# of `uplink/world.sh`; needs $coracle, $guest.

# start NAME OPTION...: a container that stays.
start() {
    name=$1; shift
    "$coracle" run -d --name "$name" "$@" --rootfs "${guest%/bin/guest}:O" /bin/guest sleep >/dev/null
}

# inside NAME WORD...: a command of the host's in a container's network.
inside() {
    pid=$("$coracle" inspect -f '{{.State.Pid}}' "$1"); shift
    nsenter -t "$pid" -n "$@"
}

# address NAME NETWORK [Global]: where a container is.
address() {
    "$coracle" inspect -f "{{(index .NetworkSettings.Networks \"$2\").${3:-IPAddress}}}" "$1"
}

# The thread that lives among the bridges: it has a tap, and its process has none.
find_bridges() {
    for task in /proc/[0-9]*/task/*; do
        case $(tr '\0' ' ' <"${task%/task/*}/cmdline" 2>/dev/null) in *--netd*) ;; *) continue ;; esac
        if grep -qs tap0: "$task/net/dev" && grep -qs "br-$(echo "$outside" | cut -c 1-12):" "$task/net/dev"; then
            bridges=$task
        fi
    done
    [ -n "${bridges:-}" ] || { echo "no thread among the bridges" >&2; exit 9; }
    # Each that is turned away is told so, not one a second.
    nsenter --net="$bridges/ns/net" sh -c 'cd /proc/sys/net; echo 0 >ipv4/icmp_ratelimit; echo 0 >ipv6/icmp/ratelimit'
    # Each bridge says twice that it listens to 224.0.0.106 (RFC 3376, RFC 4286): not
    # between two looks at the counters.
    tries=0
    until [ "$(numbers IpExt 4 "$bridges/net/netstat")" -ge $((2 * $(grep -c 6A0000E0 "$bridges/net/igmp"))) ]; do
        tries=$((tries + 1)); [ $tries -lt 300 ] || break; sleep 0.1
    done
}

# counters LINK...: what was sent by the links among the bridges, without what IPv6
# itself says to a group from time to time (who is where, RFC 3810), and what was
# passed on; what was sent by the host.
counters() {
    for link in "$@"; do
        # shellcheck disable=SC2046 # one word a number
        set -- $(sed -n "s/^ *$link: *//p" "$bridges/net/dev")
        of_ipv6=$(field Ip6OutMcastPkts "$bridges/net/dev_snmp6/$link")
        # What was sent, and what was dropped in the queue of the link.
        echo "$link $((${10} + ${12} - of_ipv6))"
    done
    echo "forwarded $(numbers Ip 6 "$bridges/net/snmp")"
    echo "forwarded6 $(field Ip6OutForwDatagrams "$bridges/net/snmp6")"
    echo "host tcp $(numbers Tcp 5 /proc/net/snmp)"
    echo "host udp $(numbers Udp 4 /proc/net/snmp)"
    echo "host udp6 $(field Udp6OutDatagrams /proc/net/snmp6)"
}

# numbers NAME N FILE: the Nth number of a line.
numbers() {
    sed -n "s/^$1: \([0-9]\)/\1/p" "$3" | cut -d ' ' -f "$2"
}

# field NAME FILE: a number behind its name.
field() {
    sed -n "s/^$1[[:space:]]*\([0-9]*\)\$/\1/p" "$2"
}

# attempts NAME ADDRESS...: all that could be a way out, to addresses outside, to
# others here and to resolvers, at once. What they say goes to stderr.
attempts() {
    name=$1 tried=''; shift
    for to in 203.0.113.1 2001:db8:2::1 "$@"; do
        for what in "say tcp $to 7000 10" "say udp $to 7000 10" "resolve $to"; do
            # shellcheck disable=SC2086 # words of a command
            "$coracle" exec "$name" /bin/guest $what >&2 &
            tried="$tried $!"
        done
    done
    for pid in $tried; do wait "$pid" || :; done
}

trap '"$coracle" rm -fat 0 >/dev/null; kill $servers 2>/dev/null || :' EXIT
outside=$("$coracle" network create --ipv6 --subnet 10.207.0.0/24 --subnet fd12:7::/64 outside)
inner=$("$coracle" network create --internal --ipv6 --subnet 10.206.0.0/24 --subnet fd12:6::/64 inner)
second=$("$coracle" network create --internal --subnet 10.208.0.0/24 second)
for id in outside inner second; do
    eval "br_$id=br-\$(echo \"\$$id\" | cut -c 1-12)"
done
start out --network outside
start other --network second
start in --network inner
find_bridges
elsewhere="$(address out outside) $(address out outside GlobalIPv6Address) 10.207.0.1 fd12:7::1"
