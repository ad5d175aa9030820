//! /proc/PID/stat: proc_pid_stat(5).

use std::io::Read;
use std::ops::Range;

/// The line of one process or thread.
pub(crate) struct Stat {
    line: Vec<u8>,
    name: Range<usize>,
}

/// The line has some 300 bytes; this holds the longest.
const ROOM: usize = 1024;

impl Stat {
    /// Of a process, or of a thread by its own number; `None` where there is none.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        // One call, since lists of containers come here once for each.
        let mut line = [0; ROOM];
        let length = std::fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut line).ok()?;
        Self::parse(&line[..length])
    }

    /// Of a line that was read already. The second field is a name in parentheses,
    /// which the process chooses: any bytes, parentheses and blanks among them. So
    /// fields count from the last `)`.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let open = line.iter().position(|byte| *byte == b'(')?;
        let close = line.iter().rposition(|byte| *byte == b')').filter(|close| *close > open)?;
        Some(Self { line: line.to_vec(), name: open + 1..close })
    }

    pub(crate) fn name(&self) -> String {
        String::from_utf8_lossy(&self.line[self.name.clone()]).into_owned()
    }

    /// A field behind the name, by its number in the manual: from 3 on.
    pub(crate) fn field(&self, number: usize) -> Option<&str> {
        let behind = std::str::from_utf8(&self.line[self.name.end + 1..]).ok()?;
        behind.split_ascii_whitespace().nth(number.checked_sub(3)?)
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, number: usize) -> Option<T> {
        self.field(number)?.parse().ok()
    }

    /// Field 3: a letter.
    pub(crate) fn state(&self) -> Option<char> {
        self.field(3)?.chars().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_count_from_behind_the_name_whatever_it_is() {
        let behind: Vec<String> = (4..=52).map(|number| number.to_string()).collect();
        let behind = format!(") S {}", behind.join(" "));
        for name in [&b"sh"[..], b"(a) b) R 7", b") (", b"", b"\xff\xfe x", b"two\nlines"] {
            let stat = Stat::parse(&[b"12 (", name, behind.as_bytes()].concat()).expect("valid");
            assert_eq!(stat.name(), String::from_utf8_lossy(name));
            assert_eq!((stat.state(), stat.number(4), stat.number(39)), (Some('S'), Some(4), Some(39)));
            assert_eq!((stat.field(52), stat.field(53), stat.field(2)), (Some("52"), None, None));
        }
    }

    #[test]
    fn what_is_no_such_line_has_no_fields() {
        for bad in ["", "12", "7 (a", "7 )("] {
            assert!(Stat::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        assert_eq!(Stat::parse(b"12 (a) R 1 2").expect("short").number::<u32>(39), None);
        let own = Stat::of(std::process::id()).expect("this process");
        assert_eq!(own.number(4), Some(std::os::unix::process::parent_id()));
    }
}
