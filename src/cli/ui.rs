//! What people see: results on stdout; errors, hints and warnings on stderr.
//! The only place of the command line that prints.
#![allow(clippy::print_stderr)]

use crate::error::{Context, Error, Result};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// The reader of stdout has gone (`coracle ps | head -1`): no reason to complain.
static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// `--log-level error`: warnings are not shown.
static ERRORS_ONLY: AtomicBool = AtomicBool::new(false);

/// Shows no warnings from now on.
pub(crate) fn silence_warnings() {
    ERRORS_ONLY.store(true, Ordering::Relaxed);
}

/// Whether output could not be written because nobody reads it any more.
pub(crate) fn stdout_closed() -> bool {
    STDOUT_CLOSED.load(Ordering::Relaxed)
}

/// Writes a line to stdout.
///
/// # Errors
/// Where stdout cannot be written; [`stdout_closed`] tells a reader that went away.
pub(crate) fn line(text: &str) -> Result<()> {
    write(format!("{text}\n").as_bytes())
}

/// Writes bytes to stdout, and nothing else.
///
/// # Errors
/// As [`line()`].
pub(crate) fn write(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let result = stdout.write_all(bytes).and_then(|()| stdout.flush());
    if result.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
        STDOUT_CLOSED.store(true, Ordering::Relaxed);
    }
    result.context(|| "write to stdout")
}

/// An error with its hints.
pub(crate) fn error(error: &Error) {
    eprint(&render(error, paint()));
}

/// A remark that does not change what happens.
pub(crate) fn warning(text: &str) {
    if !ERRORS_ONLY.load(Ordering::Relaxed) {
        let label = if paint() { "\x1b[33mWARNING:\x1b[0m" } else { "WARNING:" };
        eprint(&format!("{label} {}\n", printable(text)));
    }
}

/// A line of progress or of a question, on stderr as it is.
pub(crate) fn note(text: &str) {
    eprint(&format!("{}\n", printable(text)));
}

/// `Error:` as docker and podman say it: scripts look for the word.
fn render(error: &Error, paint: bool) -> String {
    let (red, cyan, plain) = if paint { ("\x1b[31m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
    let mut text = format!("{red}Error:{plain} {}\n", printable(&error.to_string()));
    for hint in error.hints() {
        text.push_str(&format!("{cyan}hint:{plain} {}\n", printable(hint)));
    }
    text
}

/// Text of images, registries and containers may hold escape sequences, which
/// must not reach a terminal.
fn printable(text: &str) -> String {
    let escape = |c: char| -> String {
        if c.is_control() && c != '\n' && c != '\t' { c.escape_default().to_string() } else { c.to_string() }
    };
    text.chars().map(escape).collect()
}

/// Colour only for people: on a terminal, and not with NO_COLOR (no-color.org).
fn paint() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// One write, so that lines of several processes do not mix. A stderr that
/// cannot be written leaves nobody to tell.
fn eprint(text: &str) {
    crate::error::BestEffort::or_ignore(std::io::stderr().lock().write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_their_hints_below_them() {
        let error = Error::invalid("unknown flag: --foo").hint("see `coracle run --help`");
        assert_eq!(render(&error, false), "Error: unknown flag: --foo\nhint: see `coracle run --help`\n");
        assert!(render(&error, true).starts_with("\x1b[31mError:\x1b[0m "));
    }

    #[test]
    fn escape_sequences_of_others_do_not_reach_the_terminal() {
        let error = Error::failed("evil \x1b]0;title\x07 text");
        assert!(!render(&error, false).contains(['\x1b', '\x07']));
    }
}
