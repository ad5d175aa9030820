//! `doctor --fix`: what a user may do without an administrator, and no more.

use super::check::{Check, Mend};
use crate::dirs::create_private;
use crate::error::{Context, Error, Result};
use crate::userns::subid::find_program;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// Does what `checks` say can be done, each once. A line for each deed; the
/// failures after it.
pub(crate) fn mend(checks: &[Check]) -> (Vec<String>, Vec<Error>) {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    let mut seen: Vec<&Mend> = Vec::new();
    for mend in checks.iter().filter_map(|check| check.mend.as_ref()) {
        if seen.contains(&mend) {
            continue;
        }
        seen.push(mend);
        match apply(mend) {
            Ok(text) => done.push(text),
            Err(error) => failed.push(error),
        }
    }
    (done, failed)
}

fn apply(mend: &Mend) -> Result<String> {
    match mend {
        Mend::Private(path) => {
            create_private(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
                .context(|| format!("close {} to others", path.display()))?;
            Ok(format!("{} is now closed to others (mode 700)", path.display()))
        }
        Mend::Linger => {
            let program = find_program("loginctl").ok_or_else(|| {
                Error::failed("there is no loginctl on this host, so lingering cannot be switched on")
            })?;
            let output = Command::new(program)
                .args(["--no-ask-password", "enable-linger"])
                .stdin(Stdio::null())
                .output()
                .context(|| "run loginctl enable-linger")?;
            if output.status.success() {
                return Ok(
                    "systemd's manager of yours now outlives your sessions (loginctl enable-linger)".into()
                );
            }
            let said = String::from_utf8_lossy(&output.stderr);
            Err(Error::failed(format!(
                "loginctl enable-linger: {}",
                said.lines().next().unwrap_or("refused").trim()
            ))
            .hint("ask an administrator: sudo loginctl enable-linger $USER"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::doctor::check::Severity;

    #[test]
    fn a_folder_is_closed_to_others_and_the_same_deed_is_done_once() {
        let place = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let check =
            Check::limited("data folder", "open", "seen").mended_by(Mend::Private(place.path().to_owned()));
        let (done, failed) = mend(&[check.clone(), check, Check::good("x", "y")]);
        assert_eq!((done.len(), failed.len()), (1, 0), "{done:?} {failed:?}");
        let mode = std::fs::metadata(place.path()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(Severity::Broken > Severity::Limited);
    }
}
