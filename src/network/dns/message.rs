//! The part of RFC 1035 that is needed: reading the question of a query, and
//! writing an answer of addresses or names. What comes is hostile.

use std::net::IpAddr;

pub(crate) const TYPE_A: u16 = 1;
pub(crate) const TYPE_PTR: u16 = 12;
pub(crate) const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;

pub(crate) const HEADER: usize = 12;
/// Bytes of an answer over UDP where the asker does not say more: RFC 1035.
const PLAIN_SIZE: usize = 512;
/// What we take at most of what the asker says, so that nothing is fragmented.
const LARGEST: usize = 4096;
/// Seconds: containers come and go.
const TIME_TO_LIVE: u32 = 0;

/// RCODEs of RFC 1035.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    NoError = 0,
    FormatError = 1,
    ServerFailure = 2,
    NoSuchName = 3,
    NotImplemented = 4,
    Refused = 5,
}

/// A query with one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) id: u16,
    recursion_desired: bool,
    /// Lower case, without the last dot; empty for the root.
    pub(crate) name: String,
    pub(crate) kind: u16,
    class: u16,
    /// The question as it came, case and all.
    question: Vec<u8>,
    /// The size that the asker takes, where it speaks EDNS.
    edns: Option<u16>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Address(IpAddr),
    Name(String),
}

impl Query {
    /// Reads a message.
    ///
    /// # Errors
    /// The answer that it deserves; `None` for what deserves none.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Option<Vec<u8>>> {
        let header = bytes.get(..HEADER).ok_or(None)?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        // An answer is never answered: no two servers shall talk for ever.
        if header[2] & 0x80 != 0 {
            return Err(None);
        }
        let opcode = header[2] >> 3 & 0xf;
        let bare = |code: Code| {
            let mut answer = header.to_vec();
            answer[2] = 0x80 | header[2] & 0x79;
            answer[3] = code as u8;
            answer[4..].fill(0);
            Some(answer)
        };
        if opcode != 0 {
            return Err(bare(Code::NotImplemented));
        }
        if word(4) != 1 || word(6) != 0 {
            return Err(bare(Code::FormatError));
        }
        let (name, end) = read_name(bytes, HEADER).ok_or_else(|| bare(Code::FormatError))?;
        let rest = bytes.get(end..end + 4).ok_or_else(|| bare(Code::FormatError))?;
        let question = bytes[HEADER..end + 4].to_vec();
        Ok(Self {
            id: word(0),
            recursion_desired: header[2] & 1 != 0,
            name,
            kind: u16::from_be_bytes([rest[0], rest[1]]),
            class: u16::from_be_bytes([rest[2], rest[3]]),
            question,
            edns: edns_size(bytes, end + 4),
        })
    }

    pub(crate) fn is_internet(&self) -> bool {
        self.class == CLASS_IN
    }

    /// Whether records of this kind are asked for.
    pub(crate) fn wants(&self, kind: u16) -> bool {
        self.kind == kind || self.kind == TYPE_ANY
    }

    /// The address whose name is asked for: `in-addr.arpa` and `ip6.arpa`.
    pub(crate) fn reverse(&self) -> Option<IpAddr> {
        if let Some(digits) = self.name.strip_suffix(".in-addr.arpa") {
            let octets: Option<Vec<u8>> = digits.split('.').rev().map(|part| part.parse().ok()).collect();
            return <[u8; 4]>::try_from(octets?).ok().map(IpAddr::from);
        }
        let digits = self.name.strip_suffix(".ip6.arpa")?;
        let nibbles: Vec<u8> = digits
            .split('.')
            .rev()
            .filter(|part| part.len() == 1)
            .map_while(|part| u8::from_str_radix(part, 16).ok())
            .collect();
        if nibbles.len() != 32 || digits.split('.').count() != 32 {
            return None;
        }
        let octets: Vec<u8> = nibbles.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
    }

    /// An answer from what we know. Over UDP (`datagram`) it fits into what the
    /// asker takes, or says that it was cut.
    pub(crate) fn answer(&self, code: Code, records: &[Record], datagram: bool) -> Vec<u8> {
        let limit = match (datagram, self.edns) {
            (false, _) => usize::from(u16::MAX),
            (true, Some(size)) => usize::from(size).clamp(PLAIN_SIZE, LARGEST),
            (true, None) => PLAIN_SIZE,
        };
        let opt: &[u8] = if self.edns.is_some() {
            &[0, 0, TYPE_OPT as u8, (LARGEST >> 8) as u8, 0, 0, 0, 0, 0, 0, 0]
        } else {
            &[]
        };
        let mut body = self.question.clone();
        let mut count = 0u16;
        let mut cut = false;
        for record in records {
            let bytes = record.bytes();
            if HEADER + body.len() + bytes.len() + opt.len() > limit || count == u16::MAX {
                cut = true;
                break;
            }
            body.extend(bytes);
            count += 1;
        }
        body.extend(opt);
        // QR, AA, TC, RD; RA and the code.
        let first = 0x84 | u8::from(cut) << 1 | u8::from(self.recursion_desired);
        let mut answer = self.id.to_be_bytes().to_vec();
        answer.extend([first, 0x80 | code as u8, 0, 1]);
        answer.extend(count.to_be_bytes());
        answer.extend([0, 0, 0, u8::from(!opt.is_empty())]);
        answer.extend(body);
        answer
    }

    /// Whether `bytes` answers this query, asked under the number `id`.
    pub(crate) fn is_answered_by(&self, id: u16, bytes: &[u8]) -> bool {
        bytes.len() >= HEADER + self.question.len()
            && bytes[..2] == id.to_be_bytes()
            && bytes[2] & 0x80 != 0
            && bytes[4..6] == [0, 1]
            && bytes[HEADER..HEADER + self.question.len()].eq_ignore_ascii_case(&self.question)
    }
}

impl Record {
    /// With the question's name, by a pointer to it.
    fn bytes(&self) -> Vec<u8> {
        let (kind, data) = match self {
            Self::Address(IpAddr::V4(address)) => (TYPE_A, address.octets().to_vec()),
            Self::Address(IpAddr::V6(address)) => (TYPE_AAAA, address.octets().to_vec()),
            Self::Name(name) => (TYPE_PTR, encode_name(name)),
        };
        let mut bytes = vec![0xc0, HEADER as u8];
        bytes.extend(kind.to_be_bytes());
        bytes.extend(CLASS_IN.to_be_bytes());
        bytes.extend(TIME_TO_LIVE.to_be_bytes());
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(data);
        bytes
    }
}

/// A name of ours as labels.
fn encode_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| (1..64).contains(&label.len())) {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}

/// The name at `at` and where it ends. A question has no pointers: whoever sends
/// one wants something else. Each step goes forward, so it ends.
fn read_name(bytes: &[u8], mut at: usize) -> Option<(String, usize)> {
    let start = at;
    let mut name = String::new();
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        if length > 63 || at + length - start > 254 {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        // What is no text is kept apart from all text.
        name.extend(bytes.get(at..at + length)?.iter().map(|byte| match byte {
            b'.' | 0x80.. | 0..=0x20 => '\u{fffd}',
            byte => char::from(byte.to_ascii_lowercase()),
        }));
        at += length;
    }
}

/// The size in an OPT record that follows the question at once, as every
/// resolver writes it: RFC 6891.
fn edns_size(bytes: &[u8], at: usize) -> Option<u16> {
    let record = bytes.get(at..at + 11)?;
    let is_opt = record[0] == 0 && record[1..3] == TYPE_OPT.to_be_bytes();
    is_opt.then(|| u16::from_be_bytes([record[3], record[4]]))
}

#[cfg(test)]
pub(crate) fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    bytes.extend(encode_name(name));
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_and_its_answer() {
        let query = Query::parse(&question("Web.Example", TYPE_A)).expect("a query");
        assert_eq!((query.name.as_str(), query.kind, query.is_internet()), ("web.example", TYPE_A, true));
        let answer = query.answer(Code::NoError, &[Record::Address("10.0.0.2".parse().expect("ip"))], true);
        assert_eq!(answer[..8], [0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1]);
        assert_eq!(answer[answer.len() - 4..], [10, 0, 0, 2]);
        assert!(query.is_answered_by(0x1234, &answer));
        assert!(!query.is_answered_by(0x1235, &answer));
    }

    #[test]
    fn names_of_addresses() {
        let reverse = |name: &str| Query::parse(&question(name, TYPE_PTR)).expect("a query").reverse();
        assert_eq!(reverse("2.0.89.10.in-addr.arpa"), "10.89.0.2".parse().ok());
        let long = format!("5.{}1.0.0.0.0.0.d.f.ip6.arpa", "0.".repeat(23));
        assert_eq!(reverse(&long), "fd00:0001::5".parse().ok(), "{long}");
        for bad in
            ["2.0.89.in-addr.arpa", "2.0.89.10.1.in-addr.arpa", "x.0.89.10.in-addr.arpa", "5.ip6.arpa", "web"]
        {
            assert_eq!(reverse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_and_says_so() {
        let query = Query::parse(&question("web", TYPE_A)).expect("a query");
        let records = vec![Record::Address("10.0.0.2".parse().expect("ip")); 100];
        let short = query.answer(Code::NoError, &records, true);
        assert!(short.len() <= 512 && short[2] & 2 != 0, "{}", short.len());
        let whole = query.answer(Code::NoError, &records, false);
        assert!(whole[2] & 2 == 0 && whole[6..8] == [0, 100]);
        let mut bytes = question("web", TYPE_A);
        bytes[11] = 1;
        bytes.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
        let edns = Query::parse(&bytes).expect("a query").answer(Code::NoError, &records, true);
        assert!(edns[2] & 2 == 0 && edns[11] == 1);
    }

    /// Whatever comes: no panic, and no answer to an answer (CVE-2024-8418,
    /// CVE-2026-35406).
    #[test]
    fn hostile_bytes() {
        let good = question("some.name.of.a.container", TYPE_A);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..200_000u32 {
            let mut bytes = if round % 2 == 0 {
                good.clone()
            } else {
                (0..random() % 64).map(|_| random() as u8).collect()
            };
            for _ in 0..random() % 4 {
                if !bytes.is_empty() {
                    let at = random() as usize % bytes.len();
                    bytes[at] = random() as u8;
                }
            }
            bytes.truncate(random() as usize % (bytes.len() + 1));
            match Query::parse(&bytes) {
                Ok(query) => {
                    query.reverse();
                    assert!(query.answer(Code::NoSuchName, &[], true).len() <= 512);
                }
                Err(Some(answer)) => assert!(answer.len() == HEADER && answer[2] & 0x80 != 0),
                Err(None) => assert!(bytes.len() < HEADER || bytes[2] & 0x80 != 0),
            }
        }
        // Pointers, and labels that lead beyond the end.
        for tail in [&[0xc0, 12][..], &[63, 1, 2], &[0x40], &[]] {
            let mut bytes = good[..HEADER].to_vec();
            bytes.extend(tail);
            assert!(Query::parse(&bytes).is_err());
        }
    }
}
