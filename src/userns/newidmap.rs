//! The outer namespace's maps: which ids go into them, and who writes them.
//!
//! Kernel: user_namespaces(7). A map of more than one's own id needs a writer
//! with CAP_SETUID (CAP_SETGID) in the *parent* namespace: newuidmap(1) and
//! newgidmap(1), or a child of a privileged caller that stayed behind there.

use super::subid::{SubRange, Subordinate, find_program};
use crate::error::{Cause, Context, Error, Result, Trouble};
use crate::sys::errno;
use crate::sys::namespace::{Deed, Deferred, Ended};
use crate::types::idmap::{IdMap, IdRange};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Lines that the kernel takes (`UID_GID_MAP_MAX_EXTENTS`).
pub(crate) const MAX_LINES: usize = 340;

/// The kernel takes less than a page.
pub(crate) const MAX_BYTES: usize = 4095;

/// One's own id as 0, and the subordinate ids above it. Ranges that overlap an
/// earlier one (or hold one's own id) are left out: the kernel refuses them.
pub(crate) fn ranged_map(own: u32, subordinate: &[SubRange]) -> IdMap {
    let mut map = IdMap::single(0, own);
    let mut next = 1u32;
    for range in subordinate {
        let end = u64::from(range.start) + u64::from(range.length);
        let overlaps =
            map.0.iter().any(|r| u64::from(range.start) < r.outside_end() && u64::from(r.outside) < end);
        let Some(after) = next.checked_add(range.length) else { break };
        if overlaps {
            continue;
        }
        map.0.push(IdRange { inside: next, outside: range.start, length: range.length });
        if map.0.len() > MAX_LINES || map.proc_text().len() > MAX_BYTES {
            map.0.pop();
            break;
        }
        next = after;
    }
    map
}

/// Two children, still outside, that write the two maps of this process when
/// they are released; and a name for each.
pub(crate) struct Writers {
    uid: Deferred,
    gid: Deferred,
}

/// Why maps could not be written: one line.
pub(crate) struct Refusal {
    /// Whether the user map was written nevertheless.
    pub(crate) uid_map_written: bool,
    /// Whether the group map was.
    pub(crate) gid_map_written: bool,
    pub(crate) reason: String,
    /// The kernel's errno, where a child of ours met it.
    pub(crate) errno: Option<i32>,
}

fn not_forked(error: std::io::Error) -> Error {
    let explained = errno::explain("fork", error.raw_os_error().unwrap_or(0), &errno::read_host);
    let error = error.into_error().context("start a process").see_doctor(Trouble::Processes);
    match explained {
        Some(explanation) => error.hint(explanation.fix),
        None => error,
    }
}

impl Writers {
    /// newuidmap and newgidmap, ready to run side by side.
    ///
    /// # Errors
    /// The outer one where forking fails; the inner one, a reason, where there
    /// are no ranges or no helpers.
    pub(crate) fn helpers(uid: u32, gid: u32) -> Result<Result<Self, String>> {
        let subordinate = Subordinate::of(uid);
        if subordinate.uids.is_empty() || subordinate.gids.is_empty() {
            return Ok(Err(no_ranges(uid, &subordinate)));
        }
        let (Some(uid_helper), Some(gid_helper)) = (find_program("newuidmap"), find_program("newgidmap"))
        else {
            return Ok(Err("newuidmap and newgidmap are not installed: sudo apt install uidmap".into()));
        };
        let fork = |program: &Path, map: &IdMap| {
            let deed = helper(program, map);
            Deferred::fork(&deed).map_err(not_forked)
        };
        Ok(Ok(Self {
            uid: fork(&uid_helper, &ranged_map(uid, &subordinate.uids))?,
            gid: fork(&gid_helper, &ranged_map(gid, &subordinate.gids))?,
        }))
    }

    /// For a caller that may write maps itself: everything onto itself.
    pub(crate) fn privileged(uid_map: &IdMap, gid_map: &IdMap) -> Result<Self> {
        let fork = |file: &str, map: &IdMap| {
            let path = format!("/proc/{}/{file}", std::process::id());
            let path = CString::new(path).map_err(std::io::Error::from).context(|| "name a map")?;
            Deferred::fork(&Deed::Write(vec![(path, map.identity_inside().proc_text().into_bytes())]))
                .map_err(not_forked)
        };
        Ok(Self { uid: fork("uid_map", uid_map)?, gid: fork("gid_map", gid_map)? })
    }

    /// To be called inside the new namespace.
    pub(crate) fn write(mut self) -> Result<Result<(), Refusal>> {
        self.uid.release().context(|| "wake newuidmap")?;
        self.gid.release().context(|| "wake newgidmap")?;
        let uid = self.uid.wait().context(|| "wait for newuidmap")?;
        let gid = self.gid.wait().context(|| "wait for newgidmap")?;
        if uid.code == 0 && gid.code == 0 {
            return Ok(Ok(()));
        }
        let (name, ended) = if uid.code == 0 { ("newgidmap", &gid) } else { ("newuidmap", &uid) };
        Ok(Err(Refusal {
            uid_map_written: uid.code == 0,
            gid_map_written: gid.code == 0,
            reason: why_refused(name, ended),
            errno: ended.errno,
        }))
    }
}

/// `newuidmap PID INSIDE OUTSIDE LENGTH …` for this process.
fn helper(program: &Path, map: &IdMap) -> Deed {
    let numbers = map.0.iter().flat_map(|r| [r.inside, r.outside, r.length]);
    let words = [program.as_os_str().as_bytes().to_vec(), std::process::id().to_string().into_bytes()]
        .into_iter()
        .chain(numbers.map(|number| number.to_string().into_bytes()));
    // A path from `PATH` has no NUL: it came through the environment.
    let arguments: Vec<CString> = words.filter_map(|word| CString::new(word).ok()).collect();
    Deed::Exec { program: arguments[0].clone(), arguments }
}

fn no_ranges(uid: u32, subordinate: &Subordinate) -> String {
    let owner = super::subid::login_name(uid).unwrap_or_else(|| uid.to_string());
    let files = match (subordinate.uids.is_empty(), subordinate.gids.is_empty()) {
        (true, true) => "/etc/subuid and /etc/subgid",
        (true, false) => "/etc/subuid",
        _ => "/etc/subgid",
    };
    let notes: String = subordinate.notes.iter().map(|note| format!(" ({note})")).collect();
    format!(
        "{owner} has no entry in {files}{notes}: \
         sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {owner}"
    )
}

/// What the helper said, and what is known to make it say so.
fn why_refused(name: &str, ended: &Ended) -> String {
    let said = ended.stderr.lines().next().map(str::trim).filter(|line| !line.is_empty());
    let said = said.map_or_else(|| format!("{name} ended with {}", ended.code), str::to_owned);
    match find_program(name).and_then(|program| lacks_privilege(&program)) {
        Some(why) => format!("{said} ({why})"),
        None => said,
    }
}

/// Why `program` (newuidmap, newgidmap) cannot do its work, where that is seen.
pub(crate) fn lacks_privilege(program: &Path) -> Option<String> {
    let status = crate::sys::errno::read_host("/proc/self/status").unwrap_or_default();
    if status.lines().any(|line| line.strip_prefix("NoNewPrivs:").is_some_and(|value| value.trim() == "1")) {
        return Some("no_new_privs is set on this process, so it got no privileges".into());
    }
    let setuid = std::fs::metadata(program).is_ok_and(|meta| meta.permissions().mode() & 0o4000 != 0);
    let mut buffer = [0u8; 64];
    let capable = rustix::fs::getxattr(program, "security.capability", &mut buffer[..]).is_ok();
    (!setuid && !capable).then(|| {
        let path = program.display();
        format!("{path} is neither setuid root nor has file capabilities: sudo chmod u+s {path}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sub(start: u32, length: u32) -> SubRange {
        SubRange { start, length }
    }

    #[test]
    fn own_id_first_then_the_ranges_without_overlap() {
        let map = ranged_map(
            1000,
            &[sub(100_000, 65_536), sub(300_000, 10), sub(165_535, 5), sub(999, 2), sub(5, 1)],
        );
        assert_eq!(map.proc_text(), "0 1000 1\n1 100000 65536\n65537 300000 10\n65547 5 1\n");
    }

    #[test]
    fn a_map_stays_within_what_the_kernel_takes() {
        let many: Vec<SubRange> = (0..1000).map(|i| sub(100_000 + i * 10, 5)).collect();
        let map = ranged_map(1000, &many);
        assert!(map.0.len() <= MAX_LINES && map.proc_text().len() <= MAX_BYTES);
        assert!(map.0.len() > 200, "{}", map.0.len());
    }
}
