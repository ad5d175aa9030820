//! ICMP: echoes, and the errors that a packet is answered with.

use super::device::Device;
use super::policy::Policy;
use super::wire::{Head, ICMP, ICMP6, Packet, checksum, pseudo_sum};
use std::net::IpAddr;

/// Types of RFC 792 and RFC 4443.
const REQUEST: u8 = 8;
const REPLY: u8 = 0;
const REQUEST6: u8 = 128;
const REPLY6: u8 = 129;

/// Bytes of a packet that an error quotes: RFC 1812 and RFC 4443 allow more.
const QUOTED: usize = 128;

/// Why a packet goes nowhere: code of "destination unreachable", v4 and v6.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unreachable {
    Network,
    Host,
    Port,
    Prohibited,
}

impl Unreachable {
    fn codes(self) -> (u8, u8) {
        match self {
            Self::Network => (0, 0),
            Self::Host => (1, 3),
            Self::Port => (3, 4),
            Self::Prohibited => (13, 1),
        }
    }
}

/// An echo request: its identifier, and the message from its type on.
pub(super) fn echo_request<'a>(packet: &Packet<'a>) -> Option<(u16, &'a [u8])> {
    let request = match packet.protocol {
        ICMP => REQUEST,
        ICMP6 => REQUEST6,
        _ => return None,
    };
    let message = packet.payload;
    let whole = message.len() >= 8 && message[0] == request && message[1] == 0;
    whole.then(|| (u16::from_be_bytes([message[4], message[5]]), message))
}

/// Sends the answer to an echo request: `message` is that or a reply to it, and
/// becomes a reply with identifier `id`.
pub(super) fn reply(device: &Device, from: IpAddr, to: IpAddr, id: u16, message: &[u8]) {
    let Some(rest) = message.get(6..) else { return };
    let [high, low] = id.to_be_bytes();
    let kind = if from.is_ipv4() { REPLY } else { REPLY6 };
    send(device, from, to, [kind, 0, 0, 0, high, low], rest);
}

/// Tells the sender of `packet` that it goes nowhere.
pub(super) fn unreachable(device: &Device, policy: &Policy, packet: &Packet<'_>, why: Unreachable) {
    // Errors are not answered, nor what was for many.
    if [ICMP, ICMP6].contains(&packet.protocol) && echo_request(packet).is_none() || !is_one(packet.source) {
        return;
    }
    let (code, code6) = why.codes();
    let quote = &packet.whole[..packet.whole.len().min(QUOTED)];
    let mut rest = vec![0; 2];
    rest.extend_from_slice(quote);
    match packet.source {
        IpAddr::V4(_) => send(device, policy.gateway().into(), packet.source, [3, code, 0, 0, 0, 0], &rest),
        IpAddr::V6(_) => {
            send(device, Policy::gateway6().into(), packet.source, [1, code6, 0, 0, 0, 0], &rest);
        }
    }
}

fn is_one(address: IpAddr) -> bool {
    !address.is_multicast() && !address.is_unspecified() && !address.is_loopback()
}

fn send(device: &Device, from: IpAddr, to: IpAddr, mut start: [u8; 6], rest: &[u8]) {
    let length = start.len() + rest.len();
    let (protocol, pseudo) = match from {
        IpAddr::V4(_) => (ICMP, 0),
        IpAddr::V6(_) => (ICMP6, pseudo_sum(from, to, ICMP6, length)),
    };
    let sum = checksum(&[&start, rest], pseudo);
    start[2..4].copy_from_slice(&sum.to_be_bytes());
    device.send(&Head::new(from, to, protocol, length, None), (&start, rest));
}
