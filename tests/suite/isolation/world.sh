# The world of uplink/world.sh, with an internal network in it and another one.
root=/:O
"$coracle" network create --subnet 10.91.1.0/24 --subnet fd91:1::/64 --internal inside >/dev/null
"$coracle" network create --subnet 10.91.2.0/24 --subnet fd91:2::/64 outside >/dev/null
start() { name=$1; shift; "$coracle" run -d --name "$name" "$@" >/dev/null; }
start out --network outside:ip=10.91.2.9,ip6=fd91:2::9 --rootfs "${guest%/bin/guest}:O" /bin/guest serve 10.91.2.9 7000
start both --network inside:ip=10.91.1.7 --network outside:ip=10.91.2.7 --rootfs "${guest%/bin/guest}:O" /bin/guest sleep
start free --network outside --rootfs "$root" sleep 1000
start in --network inside:ip=10.91.1.5,ip6=fd91:1::5 --cap-add NET_ADMIN --cap-add NET_RAW --rootfs "$root" sleep 1000
tries=0
until "$coracle" logs out | grep -q ready; do tries=$((tries + 1)); [ $tries -lt 600 ] || exit 7; sleep 0.1; done

# The monitor of the first container has started the holder, whose second thread
# lives among the bridges.
monitor=$("$coracle" inspect --format '{{.State.ConmonPid}}' out)
holder=$(for pid in $(cat /proc/$monitor/task/*/children); do ! tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q -e ' --netd' || echo "$pid"; done)
bridges=$(for task in /proc/$holder/task/*; do [ "${task##*/}" = "$holder" ] || echo "$task"; done)
# What of each protocol was sent: net/snmp has a line of names above each of numbers.
column() { perl -ane 'BEGIN { ($kind, $field) = splice @ARGV, 0, 2 } next unless $F[0] eq "$kind:"; if (!$n) { $n++ while $F[$n] ne $field } else { print $F[$n] }' "$2" "$3" "$1/net/snmp"; }
six() { sed -n "s/^$2[[:space:]]*//p" "$1/net/snmp6"; }
sent() {
    echo "host $(column /proc/self Ip OutRequests) $(column /proc/self Tcp ActiveOpens) $(column /proc/self Udp OutDatagrams) $(six /proc/self Udp6OutDatagrams)"
    echo "bridges $(column "$bridges" Ip ForwDatagrams) $(six "$bridges" Ip6OutForwDatagrams)"
}
