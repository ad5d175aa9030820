//! AppArmor's restriction of user namespaces (Ubuntu 23.10 and later), and the
//! profile that lifts it for this one program.

use super::check::Check;
use crate::sys::errno::Reader;
use std::path::{Path, PathBuf};

const SWITCH: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

pub(super) fn checks(read: Reader<'_>) -> Vec<Check> {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/coracle"));
    vec![check(read, &program)]
}

fn check(read: Reader<'_>, program: &Path) -> Check {
    const NAME: &str = "AppArmor";
    let label = read("/proc/self/attr/current").unwrap_or_default();
    let confined = label.split_once('\0').map_or(label.as_str(), |(label, _)| label).trim();
    match read(SWITCH).as_deref().map(str::trim) {
        Some("1") if confined.is_empty() || confined == "unconfined" => Check::limited(
            NAME,
            "restricts user namespaces of programs without a profile",
            "containers cannot be started unless a profile allows it",
        )
        .admin(remedy(program)),
        Some(_) => Check::good(NAME, format!("no restriction of this program ({confined})")),
        None => Check::good(NAME, "no restriction of user namespaces"),
    }
}

/// A command that an administrator can paste; the profile grants nothing but
/// what an unconfined program of other hosts may.
fn remedy(program: &Path) -> String {
    format!(
        "sudo tee /etc/apparmor.d/coracle <<'END' && sudo apparmor_parser -r /etc/apparmor.d/coracle\n{}END",
        profile(program)
    )
}

/// Source: apparmor.d(5), `flags=(unconfined)` with the rule `userns`.
fn profile(program: &Path) -> String {
    // A quoted path may hold spaces; what AppArmor takes as a pattern is escaped.
    let mut path = String::new();
    for c in program.to_string_lossy().chars() {
        if matches!(c, '"' | '\\' | '*' | '?' | '[' | ']' | '{' | '}' | '^' | '@') {
            path.push('\\');
        }
        path.push(c);
    }
    format!(
        "abi <abi/4.0>,\ninclude <tunables/global>\n\nprofile coracle \"{path}\" flags=(unconfined) {{\n  userns,\n  \
         include if exists <local/coracle>\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::doctor::{Remedy, Severity};

    #[test]
    fn the_profile_is_for_the_actual_path() {
        let restricted = |path: &str| (path == SWITCH).then(|| "1\n".to_owned());
        let check = check(&restricted, Path::new("/home/ann/my bin/coracle*"));
        assert_eq!(check.severity, Severity::Limited);
        let Some(Remedy::Administrator(text)) = check.remedy else { panic!("{check:?}") };
        assert!(
            text.contains("profile coracle \"/home/ann/my bin/coracle\\*\" flags=(unconfined)"),
            "{text}"
        );
        assert!(text.ends_with("END"));
    }

    #[test]
    fn a_profile_that_is_there_is_enough() {
        let profiled = |path: &str| {
            let text = match path {
                SWITCH => "1\n",
                "/proc/self/attr/current" => "coracle (unconfined)\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        assert!(check(&profiled, Path::new("/usr/bin/coracle")).is_ok());
        assert!(check(&|_| None, Path::new("/x")).is_ok());
    }
}
