# A small world in namespaces of its own: an interface with a default route, an
# "outside" address of each family, a resolver of its own. Sourced by sh in
# `unshare -Urnm`; needs $guest and $here (a directory for scratch).
set -eu
ip link set lo up
ip link add wide type veth peer name far
ip link set far up
ip addr add 198.51.100.1/24 dev wide
ip -6 addr add 2001:db8:1::1/64 dev wide nodad
ip link set wide up
ip addr add 203.0.113.1/32 dev lo
ip -6 addr add 2001:db8:2::1/128 dev lo nodad
ip route add default via 198.51.100.254
ip -6 route add default via 2001:db8:1::254
# Nobody is there: found out at once, not after the patience of TCP.
ip route add unreachable 198.51.100.254/32
mkdir -p "$here/etc"
printf 'nameserver 203.0.113.1\nsearch one.test\n' >"$here/etc/resolv.conf"
printf '127.0.0.1 localhost\n' >"$here/etc/hosts"
printf 'root:x:0:0::/:/bin/sh\n' >"$here/etc/passwd"
mount --bind "$here/etc" /etc
servers=
trap 'kill $servers 2>/dev/null || :' EXIT

# server WORD...: a server of the guest program; returns when it is ready.
server() {
    mkfifo "$here/ready"
    "$guest" "$@" >"$here/ready" &
    servers="$servers $!"
    read -r word <"$here/ready"
    rm "$here/ready"
    [ "$word" = ready ] || { echo "no server: $word" >&2; exit 9; }
}
server serve 203.0.113.1 7000
server serve 2001:db8:2::1 7000
server serve 127.0.0.1 7001
server names 203.0.113.1 192.0.2.53
