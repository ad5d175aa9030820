//! Subordinate ids, the helpers that map them, and the map itself, by doing.

use super::check::{Check, Severity};
use crate::error::Result;
use crate::userns::newidmap::lacks_privilege;
use crate::userns::subid::{SubRange, Subordinate, find_program, login_name};
use crate::userns::{Extent, Outer};
use rustix::fs::StatVfsMountFlags;
use std::path::Path;

const ONE_ID: &str = "only one id inside containers: apt and servers that change their user fail there";

pub(super) fn checks(uid: u32) -> Vec<Check> {
    let found = Subordinate::of(uid);
    let owner = login_name(uid).unwrap_or_else(|| uid.to_string());
    let mut checks = vec![
        ranges("subuid", &found.uids, &owner, "--add-subuids"),
        ranges("subgid", &found.gids, &owner, "--add-subgids"),
    ];
    checks.extend(found.notes.iter().take(3).map(|note| {
        Check::limited("subuid files", note, "the line counts for nothing").admin("mend the line")
    }));
    checks.extend(["newuidmap", "newgidmap"].map(helper));
    checks
}

fn ranges(name: &'static str, ranges: &[SubRange], owner: &str, flag: &str) -> Check {
    let count: u64 = ranges.iter().map(|range| u64::from(range.length)).sum();
    let remedy = format!("sudo usermod {flag} 100000-165535 {owner}");
    match count {
        0 => Check::limited(name, format!("{owner} has no range in /etc/{name}"), ONE_ID).admin(remedy),
        1..65535 => Check::limited(
            name,
            format!("{owner} has {count} in /etc/{name}"),
            "files of higher ids in images are given to one id",
        )
        .admin(remedy),
        _ => Check::good(name, format!("{count} in {} range(s)", ranges.len())),
    }
}

fn helper(name: &'static str) -> Check {
    let Some(program) = find_program(name) else {
        return Check::limited(name, "not installed", ONE_ID).admin("sudo apt install uidmap");
    };
    if let Some(why) = lacks_privilege(&program) {
        return Check::limited(name, why, ONE_ID).admin(format!("sudo chmod u+s {}", program.display()));
    }
    if on_nosuid(&program) {
        let found = format!("{} lies on a file system that is mounted nosuid", program.display());
        return Check::limited(name, found, ONE_ID).admin("install it on a file system without nosuid");
    }
    Check::good(name, program.display().to_string())
}

fn on_nosuid(program: &Path) -> bool {
    rustix::fs::statvfs(program).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::NOSUID))
}

/// What came of entering the user's outer namespace.
pub(super) fn user_namespace(entered: &Result<Outer>) -> Check {
    const NAME: &str = "user namespace";
    match entered {
        Err(error) => Check::failed(NAME, Severity::Broken, error, "no container runs"),
        Ok(outer) => match &outer.extent {
            Extent::Single { reason } => {
                let (why, step) = reason.rsplit_once(": ").unwrap_or((reason, "see above"));
                Check::limited(NAME, format!("one id: {why}"), ONE_ID).admin(step)
            }
            Extent::Ranges => Check::good(NAME, format!("made, with {} ids", outer.uid_map.count())),
            Extent::Privileged => Check::good(NAME, "made, with every id, as root"),
            Extent::Inherited => Check::good(NAME, "inherited: this is the root of one already"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_range_and_a_short_one_name_file_user_and_command() {
        for (length, words) in [(0, "no range in /etc/subuid"), (1, "1 in /etc/subuid")] {
            let given: Vec<SubRange> =
                (length > 0).then_some(SubRange { start: 100_000, length }).into_iter().collect();
            let check = ranges("subuid", &given, "ann", "--add-subuids");
            assert_eq!(check.severity, Severity::Limited);
            assert!(check.found.contains(words), "{check:?}");
            let remedy = serde_json::to_value(&check).expect("JSON")["administrator"].clone();
            assert_eq!(remedy, "sudo usermod --add-subuids 100000-165535 ann");
        }
        assert!(ranges("subuid", &[SubRange { start: 1, length: 65_536 }], "ann", "--add-subuids").is_ok());
    }
}
