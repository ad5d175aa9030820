//! Signals by name and number, as `kill -s`, `--stop-signal` and `STOPSIGNAL` write them.

use crate::error::{Error, Result};

/// Names and numbers of signal(7) for this machine.
const NAMES: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// The names, without `SIG`.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

/// The first and last real-time signal as glibc counts them.
const RT: (i32, i32) = (34, 64);

/// `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+3`, `RTMAX-1` as a number.
///
/// # Errors
/// `Invalid` for anything else, 0 and numbers above 64 included.
pub(crate) fn parse(text: &str) -> Result<i32> {
    let invalid = || Error::invalid(format!("invalid signal: {text}")).hint("see `kill -l` for the names");
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=RT.1).contains(&number) { Ok(number) } else { Err(invalid()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let offset = |rest: &str| -> Option<i32> { if rest.is_empty() { Some(0) } else { rest.parse().ok() } };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        offset(rest).and_then(|n| RT.0.checked_add(n))
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        offset(rest).and_then(|n| RT.1.checked_add(n))
    } else {
        None
    };
    number.filter(|n| (RT.0..=RT.1).contains(n)).ok_or_else(invalid)
}

/// `SIGTERM` for 15; real-time signals as `SIGRTMIN+N`.
pub(crate) fn name(number: i32) -> String {
    match NAMES.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => format!("SIG{name}"),
        None if number == RT.0 => "SIGRTMIN".into(),
        None if (RT.0..=RT.1).contains(&number) => format!("SIGRTMIN+{}", number - RT.0),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_understood() {
        for text in ["TERM", "SIGTERM", "sigterm", "15"] {
            assert_eq!(parse(text).expect("valid"), 15, "{text}");
        }
        assert_eq!(parse("RTMIN+3").expect("valid"), 37);
        assert_eq!(parse("SIGRTMAX-1").expect("valid"), 63);
        for bad in ["", "0", "65", "-1", "SIGNOPE", "RTMIN+99", "RTMAX+1", "SIG"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(name(37), "SIGRTMIN+3");
        assert_eq!(name(9), "SIGKILL");
    }
}
