//! Docker's exit codes.
//!
//! | code | when |
//! |---|---|
//! | 125 | the words of the command line are wrong; `run` and `create` have failed; an image could not be moved; a verb of `pod` has failed |
//! | 126, 127 | the command in the container cannot be run, is not there |
//! | 64 | a bad template, of a command that shows documents |
//! | 1 | any other command has failed: an unknown container, a wrong state, … |
//!
//! Moving an image (`pull`, `push`, `load`, …) is half of what `run` does, and a
//! script sees the same code of both, which is podman's as well; docker has 1.
//! Docker has no pods: theirs are podman's codes, with which a `pod rm` that finds no
//! such pod has 1.

use crate::error::{Error, Kind};
use std::sync::atomic::{AtomicBool, Ordering};

/// This process is a `run` or another command that fails as it does.
static RUNS: AtomicBool = AtomicBool::new(false);

/// Takes notice of the command that `words`, which follow `coracle`, name.
pub(super) fn remember(words: &[String]) {
    let mut words = words.iter().map(String::as_str);
    let verb = match words.next() {
        Some("container" | "image") => words.next(),
        other => other,
    };
    RUNS.store(verb.is_some_and(fails_as_run), Ordering::Relaxed);
}

fn fails_as_run(verb: &str) -> bool {
    matches!(
        verb,
        "run"
            | "create"
            | "pod"
            | "healthcheck"
            | "pull"
            | "push"
            | "load"
            | "save"
            | "import"
            | "login"
            | "search"
    )
}

/// The exit code of a command that failed so.
pub(super) fn code(error: &Error) -> u8 {
    error.exit_code().unwrap_or_else(|| code_of(error.kind(), RUNS.load(Ordering::Relaxed)))
}

/// Shows what has failed while the rest was done; the exit code of the last.
pub(super) fn after(failures: &[Error]) -> u8 {
    failures.iter().for_each(super::ui::error);
    failures.last().map_or(0, code)
}

fn code_of(kind: Kind, runs: bool) -> u8 {
    match kind {
        Kind::Invalid | Kind::NotFound | Kind::Conflict | Kind::Failed if !runs => 1,
        _ => kind.exit_code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dockers() {
        assert_eq!(code_of(Kind::NotFound, false), 1);
        assert_eq!(code_of(Kind::NotFound, true), 125);
        assert_eq!(code_of(Kind::Usage, false), 125);
        assert_eq!(code_of(Kind::NoCommand, false), 127);
        assert_eq!(code_of(Kind::NotExecutable, true), 126);
    }
}
