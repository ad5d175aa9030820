//! Which subordinate ids the user has: subuid(5), subgid(5), getsubids(1).

use crate::error::{Context, Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes of `/etc/subuid`, `/etc/subgid` and `/etc/passwd` that are read.
const MAX_FILE: u64 = 8 << 20;

/// Bytes of a helper's output that are read.
const MAX_OUTPUT: u64 = 64 << 10;

/// How long a helper that may ask a directory server gets.
const HELPER_TIME: Duration = Duration::from_secs(10);

/// A run of ids of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubRange {
    pub(crate) start: u32,
    pub(crate) length: u32,
}

/// What the host's files say about one user, and what was odd in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subordinate {
    pub(crate) uids: Vec<SubRange>,
    pub(crate) gids: Vec<SubRange>,
    /// Remarks about malformed lines, at most [`MAX_NOTES`] a file.
    pub(crate) notes: Vec<String>,
}

/// A malformed file must not fill the screen.
const MAX_NOTES: usize = 5;

impl Subordinate {
    /// The user's ranges, from the files and, where both files are silent on
    /// one kind, from getsubids(1). Never an error: a user without ranges is
    /// an ordinary case.
    pub(crate) fn of(uid: u32) -> Self {
        let name = login_name(uid);
        let mut found = Self::default();
        found.uids = from_file("/etc/subuid", name.as_deref(), uid, &mut found.notes);
        found.gids = from_file("/etc/subgid", name.as_deref(), uid, &mut found.notes);
        if (found.uids.is_empty() || found.gids.is_empty())
            && let Some(program) = find_program("getsubids")
        {
            let owner = name.unwrap_or_else(|| uid.to_string());
            // Both are started before either is waited for.
            let uids = found.uids.is_empty().then(|| start_helper(&program, &[&owner]));
            let gids = found.gids.is_empty().then(|| start_helper(&program, &["-g", &owner]));
            if let Some(helper) = uids {
                found.uids = getsubids_answer(&program, helper);
            }
            if let Some(helper) = gids {
                found.gids = getsubids_answer(&program, helper);
            }
        }
        found
    }
}

fn from_file(path: &str, name: Option<&str>, uid: u32, notes: &mut Vec<String>) -> Vec<SubRange> {
    let Some(text) = read_bounded(Path::new(path), notes) else { return Vec::new() };
    parse(path, &text, name, uid, notes)
}

/// The ranges of one owner, given by login name or by number, in the order of
/// the file. Lines of others are not looked at beyond their owner.
fn parse(path: &str, text: &str, name: Option<&str>, uid: u32, notes: &mut Vec<String>) -> Vec<SubRange> {
    let number = uid.to_string();
    let mut ranges = Vec::new();
    let mut bad = 0;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let Some((owner, rest)) = line.split_once(':') else { continue };
        if line.starts_with('#') || (Some(owner) != name && owner != number) {
            continue;
        }
        match parse_range(rest) {
            Ok(range) => ranges.push(range),
            Err(why) => {
                bad += 1;
                if bad <= MAX_NOTES {
                    notes.push(format!("{path} line {}: {why}", index + 1));
                }
            }
        }
    }
    ranges
}

/// `START:COUNT`
fn parse_range(text: &str) -> Result<SubRange, &'static str> {
    let (start, length) = text.split_once(':').ok_or("not three fields")?;
    range_of(start, length)
}

fn range_of(start: &str, length: &str) -> Result<SubRange, &'static str> {
    let number = |field: &str| {
        let digits = !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit());
        if digits { field.parse::<u32>().ok() } else { None }
    };
    let start = number(start).ok_or("the start is not an id")?;
    let length = number(length).ok_or("the count is not a number")?;
    if length == 0 {
        return Err("the count is 0");
    }
    if start.checked_add(length).is_none() {
        return Err("the range goes beyond the last id");
    }
    Ok(SubRange { start, length })
}

/// The output of getsubids(1): `0: NAME START COUNT` a line.
fn parse_getsubids(text: &str) -> Vec<SubRange> {
    let ranges = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        match fields[..] {
            [_, _, start, length] => range_of(start, length).ok(),
            _ => None,
        }
    });
    ranges.collect()
}

fn getsubids_answer(program: &Path, helper: Result<Child>) -> Vec<SubRange> {
    // An unknown user is a failure of getsubids, and means the same to us.
    helper
        .and_then(|child| finish_helper(program, child))
        .map(|text| parse_getsubids(&text))
        .unwrap_or_default()
}

/// The login name of `uid`: from `/etc/passwd`, else from `getent passwd`, which
/// asks the name services that a static program cannot load.
pub(crate) fn login_name(uid: u32) -> Option<String> {
    let mut notes = Vec::new();
    if let Some(name) =
        read_bounded(Path::new("/etc/passwd"), &mut notes).and_then(|t| name_in_passwd(&t, uid))
    {
        return Some(name);
    }
    let text = run_helper(&find_program("getent")?, &["passwd", &uid.to_string()]).ok()?;
    name_in_passwd(&text, uid)
}

/// passwd(5): `name:password:uid:…`
fn name_in_passwd(text: &str, uid: u32) -> Option<String> {
    let number = uid.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    })
}

pub(super) fn read_bounded(path: &Path, notes: &mut Vec<String>) -> Option<String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > MAX_FILE {
        notes.push(format!("{}: only the first 8 MiB are read", path.display()));
        bytes.truncate(MAX_FILE as usize);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The program `name` in `PATH`, or where Debian and others keep those for
/// administration, which an ordinary `PATH` may lack.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .chain(usual)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok())
}

/// Runs a helper and returns what it says, within bounded time and memory.
pub(super) fn run_helper(program: &Path, arguments: &[&str]) -> Result<String> {
    finish_helper(program, start_helper(program, arguments)?)
}

fn start_helper(program: &Path, arguments: &[&str]) -> Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().context(|| format!("run {}", program.display()))
}

fn finish_helper(program: &Path, mut child: Child) -> Result<String> {
    let action = || format!("run {}", program.display());
    let output = child.stdout.take().and_then(read_until_deadline);
    if output.is_none() {
        child.kill().context(action)?;
    }
    let status = child.wait().context(action)?;
    match output {
        Some(bytes) if status.success() => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Some(_) => Err(Error::failed(format!("{}: {status}", program.display()))),
        None => Err(Error::failed(format!("{} did not answer in time", program.display()))),
    }
}

/// `None` where the output did not end in time or was too long.
fn read_until_deadline(mut stream: std::process::ChildStdout) -> Option<Vec<u8>> {
    let deadline = Instant::now() + HELPER_TIME;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.checked_duration_since(Instant::now())?;
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&stream, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return None,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Some(bytes),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
        if bytes.len() as u64 > MAX_OUTPUT {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u32, length: u32) -> SubRange {
        SubRange { start, length }
    }

    #[test]
    fn ranges_by_name_and_by_number_in_the_order_of_the_file() {
        let text =
            "root:1:2\nann:100000:65536\n# ann:5:5\n1000:300000:10\nanne:7:7\nann:400000:1\n10000:9:9\n";
        let mut notes = Vec::new();
        let ranges = parse("f", text, Some("ann"), 1000, &mut notes);
        assert_eq!(ranges, [range(100_000, 65_536), range(300_000, 10), range(400_000, 1)]);
        assert!(notes.is_empty());
        assert_eq!(parse("f", text, None, 1000, &mut notes), [range(300_000, 10)]);
    }

    #[test]
    fn malformed_lines_are_passed_over_with_a_remark() {
        let bad = [
            "ann:",
            "ann:1",
            "ann::1",
            "ann:1:",
            "ann:a:1",
            "ann:1:b",
            "ann:-1:1",
            "ann:+1:1",
            "ann:1:0",
            "ann:4294967295:1",
            "ann:4294967296:1",
            "ann:1:2:3",
            "ann: 1:2",
        ];
        for line in bad {
            let mut notes = Vec::new();
            let text = format!("{line}\nann:5:6\n");
            assert_eq!(parse("/etc/subuid", &text, Some("ann"), 1, &mut notes), [range(5, 6)], "{line}");
            assert_eq!(notes.len(), 1, "{line}");
            assert!(notes[0].starts_with("/etc/subuid line 1: "), "{}", notes[0]);
        }
        let mut notes = Vec::new();
        parse("f", &"ann:x:y\n".repeat(1000), Some("ann"), 1, &mut notes);
        assert_eq!(notes.len(), MAX_NOTES);
    }

    #[test]
    fn output_of_getsubids() {
        let text = "0: ann 100000 65536\n1: ann 300000 10\nError fetching ranges\n2: ann x 1\n";
        assert_eq!(parse_getsubids(text), [range(100_000, 65_536), range(300_000, 10)]);
    }

    #[test]
    fn names_of_users() {
        let text = "root:x:0:0::/:/bin/sh\n:x:7:7::/:\nbroken\nann:x:1000:7::/:/bin/sh\nbob:x:100:1000:::\n";
        assert_eq!(name_in_passwd(text, 1000).as_deref(), Some("ann"));
        assert_eq!(name_in_passwd(text, 100).as_deref(), Some("bob"));
        assert_eq!(name_in_passwd(text, 7), None);
    }

    #[test]
    fn a_helper_is_bounded_and_its_failure_seen() {
        let shell = Path::new("/bin/sh");
        assert_eq!(run_helper(shell, &["-c", "echo a"]).expect("runs"), "a\n");
        assert!(run_helper(shell, &["-c", "echo a; exit 3"]).is_err());
        assert!(
            run_helper(shell, &["-c", "while echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; do :; done"]).is_err()
        );
    }
}
