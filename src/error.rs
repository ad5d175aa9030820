//! The one error of the program.
//!
//! A message says what was tried and on what; the cause keeps its own words;
//! hints say what to do next. `Kind` is all that a caller may branch on: it
//! becomes the exit code (and later the HTTP status).

mod trouble;

pub(crate) use trouble::Trouble;

use std::fmt;

/// `std::result::Result` with this crate's [`Error`].
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller may branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The words of the command line are no command: exit 125.
    Usage,
    /// What they ask for is wrong: HTTP 400.
    Invalid,
    /// The thing named does not exist: HTTP 404.
    NotFound,
    /// It exists already, or is in the wrong state: HTTP 409.
    Conflict,
    /// The command is there but cannot be run: exit 126.
    NotExecutable,
    /// The command is not there: exit 127.
    NoCommand,
    /// The kernel, a file, the network or a helper refused: HTTP 500.
    Failed,
}

impl Kind {
    /// Docker's exit code for a failure of this kind in `run`.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Usage | Self::Invalid | Self::NotFound | Self::Conflict | Self::Failed => 125,
            Self::NotExecutable => 126,
            Self::NoCommand => 127,
        }
    }
}

/// An error: its kind, a message, the actions around it, its cause and hints.
#[derive(Debug)]
pub(crate) struct Error {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: Kind,
    /// Outermost action first; the last one is the original message.
    messages: Vec<String>,
    hints: Vec<String>,
    /// Whether the last hint points to `coracle doctor`.
    pointed: Pointed,
    /// The errno of the system call that failed, where one did.
    errno: Option<i32>,
    /// Where docker's exit code is not that of the kind.
    exit_code: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pointed {
    No,
    /// By what the errno means in general.
    Generally,
    /// By who knows what was tried.
    Expressly,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                messages: vec![message.into()],
                hints: Vec::new(),
                pointed: Pointed::No,
                errno: None,
                exit_code: None,
            }),
        }
    }

    /// The words of the command line are no command.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The request itself is wrong.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// The thing named does not exist.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// It exists already or is in the wrong state.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// Something below refused.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// Adds an outer action: `start web: mount overlay: No space left`.
    #[must_use]
    pub(crate) fn context(mut self, action: impl Into<String>) -> Self {
        self.inner.messages.insert(0, action.into());
        self
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        // What helps comes before where to look.
        let end = self.inner.hints.len() - usize::from(self.inner.pointed != Pointed::No);
        self.inner.hints.insert(end, hint.into());
        self
    }

    /// Adds the hints of another error: one that another process met, for example.
    #[must_use]
    pub(crate) fn with_hints(mut self, hints: impl IntoIterator<Item = String>) -> Self {
        self.inner.hints.extend(hints);
        self
    }

    /// Points to the lines of `coracle doctor` that try what has failed here and
    /// say what mends it; once, however many layers do so: the innermost knows best.
    #[must_use]
    pub(crate) fn see_doctor(self, trouble: Trouble) -> Self {
        // Whatever was tried: no file can be opened any more.
        if matches!(self.errno(), Some(libc::EMFILE | libc::ENFILE)) {
            return self;
        }
        self.point(trouble, Pointed::Expressly)
    }

    fn point(mut self, trouble: Trouble, how: Pointed) -> Self {
        match self.inner.pointed {
            Pointed::Expressly => return self,
            Pointed::Generally => drop(self.inner.hints.pop()),
            Pointed::No => {}
        }
        self.inner.hints.push(trouble.pointer());
        self.inner.pointed = how;
        self
    }

    /// The hint for a user; that to look at `coracle doctor` is none to `doctor`.
    pub(crate) fn remedy(&self) -> Option<&str> {
        let end = self.inner.hints.len() - usize::from(self.inner.pointed != Pointed::No);
        self.inner.hints[..end].first().map(String::as_str)
    }

    /// For a warning, which has no hints of its own: the first one in brackets.
    pub(crate) fn in_a_line(&self) -> String {
        let hint = self.hints().first().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{self}{hint}")
    }

    /// The same error with another kind.
    #[must_use]
    pub(crate) fn with_kind(mut self, kind: Kind) -> Self {
        self.inner.kind = kind;
        self
    }

    /// The same error with an exit code of its own.
    #[must_use]
    pub(crate) fn with_exit_code(mut self, code: u8) -> Self {
        self.inner.exit_code = Some(code);
        self
    }

    /// The exit code of its own, where it has one.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        self.inner.exit_code
    }

    pub(crate) fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// The errno of the system call that failed, where one did.
    pub(crate) fn errno(&self) -> Option<i32> {
        self.inner.errno
    }

    pub(crate) fn hints(&self) -> &[String] {
        &self.inner.hints
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.messages.join(": "))
    }
}

impl std::error::Error for Error {}

/// A foreign error that can be the cause of ours. There is no `From`: a foreign
/// error becomes ours only together with the action that met it.
pub(crate) trait Cause {
    fn into_error(self) -> Error;
}

impl Cause for Error {
    fn into_error(self) -> Error {
        self
    }
}

impl Cause for std::io::Error {
    fn into_error(self) -> Error {
        let kind = match self.kind() {
            std::io::ErrorKind::NotFound => Kind::NotFound,
            _ => Kind::Failed,
        };
        let mut error = Error::new(kind, describe_io(&self));
        error.inner.errno = self.raw_os_error();
        let error = match self.raw_os_error().and_then(trouble::raise_limit) {
            Some(step) => error.hint(step),
            None => error,
        };
        match self.raw_os_error().and_then(Trouble::of_errno) {
            Some(trouble) => error.point(trouble, Pointed::Generally),
            None => error,
        }
    }
}

/// The text of an I/O error without Rust's "(os error N)".
fn describe_io(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

impl Cause for rustix::io::Errno {
    fn into_error(self) -> Error {
        std::io::Error::from_raw_os_error(self.raw_os_error()).into_error()
    }
}

impl Cause for nix::errno::Errno {
    fn into_error(self) -> Error {
        std::io::Error::from_raw_os_error(self as i32).into_error()
    }
}

impl Cause for serde_json::Error {
    fn into_error(self) -> Error {
        Error::invalid(format!("not the JSON expected: {self}"))
    }
}

impl Cause for std::str::Utf8Error {
    fn into_error(self) -> Error {
        Error::invalid(format!("not UTF-8: {self}"))
    }
}

/// `open(path).context(|| format!("open rootfs {}", path.display()))?`
pub(crate) trait Context<T> {
    /// Turns the failure into an [`Error`] that says which action met it.
    fn context<S: Into<String>>(self, action: impl FnOnce() -> S) -> Result<T>;
    /// As [`Error::see_doctor`], of the failure.
    fn see_doctor(self, trouble: Trouble) -> Result<T>;
}

impl<T, E: Cause> Context<T> for std::result::Result<T, E> {
    fn context<S: Into<String>>(self, action: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|cause| cause.into_error().context(action()))
    }

    fn see_doctor(self, trouble: Trouble) -> Result<T> {
        self.map_err(|cause| cause.into_error().see_doctor(trouble))
    }
}

/// For clean-up: the step may fail, the next is still done, and the failure is
/// kept for one report at the end. There is no `let _ =` on a `Result` here.
pub(crate) trait BestEffort {
    fn or_note<S: Into<String>>(self, notes: &mut Vec<Error>, action: impl FnOnce() -> S);
    /// For a step whose failure means nothing (the thing is gone already).
    fn or_ignore(self);
}

impl<T, E: Cause> BestEffort for std::result::Result<T, E> {
    fn or_note<S: Into<String>>(self, notes: &mut Vec<Error>, action: impl FnOnce() -> S) {
        if let Err(cause) = self {
            notes.push(cause.into_error().context(action()));
        }
    }

    fn or_ignore(self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_goes_outside_and_keeps_kind_and_errno() {
        let result: Result<()> =
            Err(std::io::Error::from_raw_os_error(libc::ENOSPC)).context(|| "mount overlay on /m");
        let error = result.context(|| "start web").unwrap_err().hint("see sysctl fs.mount-max");
        assert_eq!(error.to_string(), "start web: mount overlay on /m: No space left on device");
        assert_eq!(error.errno(), Some(libc::ENOSPC));
        assert_eq!(error.kind(), Kind::Failed);
        assert_eq!(error.hints()[0], "see sysctl fs.mount-max");
        assert_eq!(error.remedy(), Some("see sysctl fs.mount-max"));
    }

    #[test]
    fn doctor_is_pointed_to_once_and_last() {
        let full = || std::io::Error::from_raw_os_error(libc::ENOSPC).into_error();
        let pointer = |error: &Error| error.hints().last().cloned().expect("one");
        assert_eq!(pointer(&full()), "see `coracle doctor`, which looks at: room, mounts");
        assert_eq!(full().remedy(), None);
        // Who knows the call knows better, and of these the innermost.
        let error = full().see_doctor(Trouble::Terminals).see_doctor(Trouble::Fuse).hint("do this");
        assert_eq!(error.hints().len(), 2, "{error:?}");
        assert_eq!(pointer(&error), Trouble::Terminals.pointer());
        assert_eq!(error.remedy(), Some("do this"));
        let plain = std::io::Error::from_raw_os_error(libc::EACCES).into_error();
        assert!(plain.hints().is_empty());
    }
}
