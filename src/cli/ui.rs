//! What people see: results on stdout; errors, hints and warnings on stderr.
//! The only place of the command line that prints.
#![allow(clippy::print_stderr)]

use crate::error::{Context, Error, Result};
use std::io::{IsTerminal, Write};
use std::path::Path;
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

/// Closes stdout and stderr for whoever reads them: what stays in the background
/// has no more to say.
///
/// # Errors
/// Where there is no /dev/null.
pub(crate) fn let_go_of_output() -> Result<()> {
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null").context(|| "open /dev/null")?;
    rustix::stdio::dup2_stdout(&null).context(|| "close stdout")?;
    rustix::stdio::dup2_stderr(&null).context(|| "close stderr")
}

/// Stdout for what writes archives: a reader that goes away is remembered.
pub(crate) struct Stdout;

impl Write for Stdout {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let result = std::io::stdout().lock().write(buffer);
        if result.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
            STDOUT_CLOSED.store(true, Ordering::Relaxed);
        }
        result
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stdout().lock().flush()
    }
}

/// Sends stdout, also that of attached containers, to a file instead.
///
/// # Errors
/// Where the file cannot be written.
pub(crate) fn redirect_stdout(path: &Path) -> Result<()> {
    let file = std::fs::File::create(path).context(|| format!("open {}", path.display()))?;
    rustix::stdio::dup2_stdout(&file).context(|| format!("write to {}", path.display()))
}

/// An error with its hints. Not once the reader of stdout has gone, which would
/// have ended another program without a word.
pub(crate) fn error(error: &Error) {
    if stdout_closed() {
        return;
    }
    eprint(&render(error, paint()));
}

/// A remark that does not change what happens.
pub(crate) fn warning(text: &str) {
    if !ERRORS_ONLY.load(Ordering::Relaxed) {
        let label = if paint() { "\x1b[33mWARNING:\x1b[0m" } else { "WARNING:" };
        eprint(&format!("{label} {}\n", printable(text)));
    }
}

/// What a list leaves out, a warning each.
pub(crate) fn warnings(notes: &[Error]) {
    for note in notes {
        warning(&note.in_a_line());
    }
}

/// A line of progress or of a question, on stderr as it is.
pub(crate) fn note(text: &str) {
    eprint(&format!("{}\n", printable(text)));
}

/// A question, whose answer is typed on the same line.
pub(crate) fn prompt(text: &str) {
    eprint(&printable(text));
}

/// Where progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(crate) fn is_terminal(self) -> bool {
        match self {
            Self::Stdout => std::io::stdout().is_terminal(),
            Self::Stderr => std::io::stderr().is_terminal(),
        }
    }

    /// A line of progress.
    pub(crate) fn note(self, text: &str) {
        self.print(&format!("{}\n", printable(text)));
    }

    /// Takes back the last `lines` lines on a terminal, for others in their place.
    pub(crate) fn rewind(self, lines: usize) {
        self.print(&format!("\x1b[{lines}A\r\x1b[J"));
    }

    /// A transfer goes on where nobody hears of it: its result tells.
    fn print(self, text: &str) {
        match self {
            Self::Stdout => crate::error::BestEffort::or_ignore(write(text.as_bytes())),
            Self::Stderr => eprint(text),
        }
    }
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

/// Colour only for people: on a terminal that has any.
fn paint() -> bool {
    let set = |name: &str| std::env::var_os(name).and_then(|value| value.into_string().ok());
    wants_colour(set, std::io::stderr().is_terminal())
}

/// NO_COLOR (no-color.org) goes before CLICOLOR_FORCE, that before the terminal.
fn wants_colour(set: impl Fn(&str) -> Option<String>, terminal: bool) -> bool {
    let has = |name: &str| set(name).is_some_and(|value| !value.is_empty() && value != "0");
    if set("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return false;
    }
    has("CLICOLOR_FORCE")
        || (terminal
            && set("CLICOLOR").is_none_or(|value| value != "0")
            && set("TERM").is_none_or(|term| term != "dumb"))
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
    fn colours_are_for_terminals_whose_owner_wants_them() {
        let paints = |variables: &[(&str, &str)], terminal| {
            let set = |name: &str| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            };
            wants_colour(set, terminal)
        };
        assert!(paints(&[], true) && !paints(&[], false));
        assert!(!paints(&[("NO_COLOR", "1")], true) && paints(&[("NO_COLOR", "")], true));
        assert!(!paints(&[("NO_COLOR", "0")], true), "no-color.org: whatever the value");
        assert!(!paints(&[("TERM", "dumb")], true) && !paints(&[("CLICOLOR", "0")], true));
        assert!(paints(&[("CLICOLOR_FORCE", "1")], false) && !paints(&[("CLICOLOR_FORCE", "0")], false));
        assert!(!paints(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], true));
    }

    #[test]
    fn escape_sequences_of_others_do_not_reach_the_terminal() {
        let error = Error::failed("evil \x1b]0;title\x07 text");
        assert!(!render(&error, false).contains(['\x1b', '\x07']));
    }
}
