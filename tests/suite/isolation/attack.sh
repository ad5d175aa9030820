# In a container on an internal network, with NET_ADMIN and NET_RAW: tries to
# get out of it by every trick there is. Words: the gateway's address, that of a
# container which is on this network and on another one; then, of that other
# network, a container's address, the gateway's, and one that nobody has; then the gateway's
# and the other container's of IPv6.
# Says REACHED for all that answers, be it with a refusal.
gateway=$1 both=${2:-} other=${3:-} other_gateway=${4:-} free=${5:-}
six_gateway=${6:-} other_six=${7:-}
world="203.0.113.1 198.51.100.1 198.19.255.2 198.19.255.3 198.19.255.100"
world_six="2001:db8:2::1 2001:db8:1::1 fd00::2 fd00::3"

# TCP and UDP to some ports of each, all at once.
tries() {
    perl -MSocket=:all -MIO::Poll=POLLOUT -MErrno -e '
        my ($poll, %to) = IO::Poll->new;
        for my $host (@ARGV) { for my $port (7000, 53, 80) {
            my ($family, $make) = $host =~ /:/ ? (AF_INET6, \&pack_sockaddr_in6) : (AF_INET, \&pack_sockaddr_in);
            my $where = $make->($port, inet_pton($family, $host));
            socket(my $u, $family, SOCK_DGRAM, 0); send($u, "out", 0, $where);
            socket(my $t, $family, SOCK_STREAM | SOCK_NONBLOCK, 0);
            next unless connect($t, $where) || $!{EINPROGRESS};
            $poll->mask($t => POLLOUT); $to{$t} = [$t, "$host $port"];
        } }
        my $end = time + 2;
        while (%to && time < $end) {
            $poll->poll(0.5);
            for my $t ($poll->handles) {
                next unless $poll->events($t);
                $! = unpack "i", getsockopt($t, SOL_SOCKET, SO_ERROR);
                print "REACHED $to{$t}[1]\n" if !$! || $!{ECONNREFUSED};
                $poll->remove($t); delete $to{$t};
            }
        }' "$@"
}

# A question for a name that only the world knows, from the address $1 to $2.
ask() {
    perl -e '
        $SIG{ALRM} = sub { exit }; alarm 5;
        use Socket qw(:all); my ($from, $server) = @ARGV;
        my $question = "\x12\x34\x01\x00\x00\x01" . "\0" x 6 . "\x04leak\x07example\0\0\x01\0\x01";
        for my $kind (SOCK_DGRAM, SOCK_STREAM) {
            socket(my $s, AF_INET, $kind, 0); bind($s, pack_sockaddr_in(0, inet_aton($from))) or print "no $from\n";
            connect($s, pack_sockaddr_in(53, inet_aton($server))) or print "no answer\n", next;
            syswrite($s, ($kind == SOCK_STREAM ? pack("n", length $question) : "") . $question);
            my $in = ""; vec($in, fileno($s), 1) = 1;
            next unless select($in, undef, undef, 2) and sysread($s, my $answer, 512);
            my $flags = unpack("x" . ($kind == SOCK_STREAM ? 5 : 3) . "C", $answer);
            print "REACHED the answer of a resolver\n" unless $flags & 15;
        }' "$1" "$2"
}

# Frames of our own: UDP from every address to every address, to the bridge and to all.
frames() {
    perl -e '
        use Socket qw(:all); my ($mac, $targets, $sources) = @ARGV;
        socket(my $s, 17, 3, 0x0300) or die "no raw socket: $!";
        open(my $f, "<", "/sys/class/net/eth0/ifindex"); my $index = 0 + <$f>;
        open($f, "<", "/sys/class/net/eth0/address"); chomp(my $own = <$f>);
        my $bytes = sub { pack("H12", shift =~ s/://gr) };
        sub sum { my $n = 0; $n += $_ for unpack("n*", shift); $n = ($n & 0xffff) + ($n >> 16) while $n >> 16; ~$n & 0xffff }
        for my $to (split " ", $targets) { for my $from (split " ", $sources) { for my $port (53, 7000) {
            my $load = "\x12\x34\x01\x00\x00\x01" . "\0" x 6 . "\x04leak\x07example\0\0\x01\0\x01";
            my $udp = pack("nnnn", 5353, $port, 8 + length $load, 0) . $load;
            my @head = (0x45, 0, 20 + length $udp, 1, 0, 64, 17);
            my $ip = pack("CCnnnCCn", @head, 0) . inet_aton($from) . inet_aton($to);
            $ip = pack("CCnnnCCn", @head, sum($ip)) . inet_aton($from) . inet_aton($to);
            for my $where ($bytes->($mac), "\xff" x 6) {
                my $frame = $where . $bytes->($own) . "\x08\x00" . $ip . $udp;
                send($s, $frame, 0, pack("SnlSCCa8", 17, 0x0800, $index, 1, 0, 6, $where)) or print "not sent: $!\n";
            }
        } } }' "$@"
}

# Where nothing is in the way it is seen.
if [ "$gateway" = control ]; then tries 203.0.113.1; exit; fi
# As it is, and through the gateway.
ask 0.0.0.0 "$gateway"
bridge=$(ip neigh show "$gateway" | sed -n 's/.*lladdr \([^ ]*\).*/\1/p')
tries $world $other $other_gateway
ip route replace default via "$gateway"
ip -6 route replace default via "$six_gateway"
tries $world $other $other_gateway
tries $world_six $other_six
# All that is said to be on this link, and to have the bridge's own address.
for target in $world $other $other_gateway; do
    ip route replace "$target" dev eth0
    ip neigh replace "$target" lladdr "$bridge" dev eth0 nud permanent
done
tries $world $other $other_gateway
# Addresses of other networks, and of one that may go out.
ip addr add "$free/32" dev eth0
ip addr add "$other/32" dev eth0
ip addr del "$other/32" dev eth0
ip route replace default via "$gateway" src "$free"
tries $world $other_gateway
frames "$bridge" "$world $other $other_gateway $gateway" \
    "$(ip -4 -o addr show dev eth0 | sed -n 's|.*inet \([^/]*\)/.*|\1|p' | head -n 1) $both $other $free 203.0.113.1"
ask 0.0.0.0 "$gateway"
ip addr add "$both/32" dev eth0
ask "$both" "$gateway"
ip addr del "$both/32" dev eth0
# Of the link alone: what answers there is the bridge, and it serves nothing.
link=$(ip -6 neigh show dev eth0 | sed -n 's/^\(fe80[^ ]*\) .*router.*/\1/p' | head -n 1)
ip -6 route replace default via "${link:-fe80::1}" dev eth0
tries $world_six $other_six
echo over
