//! What people say on the command line.
//!
//! `main` decides the role of this process; `commands` is the tree of docker's
//! command line; each other file holds the flags of some commands, calls one
//! operation of the engine for each, and shows what it gives.

pub(crate) mod archives;
mod arguments;
pub(crate) mod artifact;
pub(crate) mod changes;
mod check;
pub(crate) mod command;
pub(crate) mod commands;
pub(crate) mod complete;
pub(crate) mod container_options;
pub(crate) mod control;
pub(crate) mod copy;
pub(crate) mod df;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod examples;
pub(crate) mod exec;
pub(crate) mod exit;
pub(crate) mod generate;
pub(crate) mod global;
pub(crate) mod healthcheck;
pub(crate) mod help;
pub(crate) mod images;
pub(crate) mod inspect;
pub(crate) mod lifecycle;
mod list_format;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod manifest;
pub(crate) mod mounts;
pub(crate) mod network;
pub(crate) mod overlay;
pub(crate) mod pause;
pub(crate) mod pod;
pub(crate) mod port;
pub(crate) mod preparation;
pub(crate) mod progress;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod reference;
pub(crate) mod registry_options;
pub(crate) mod run;
pub(crate) mod search;
pub(crate) mod secret;
pub(crate) mod selection;
pub(crate) mod serve;
mod stats;
pub(crate) mod system;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod terminal;
pub(crate) mod top;
pub(crate) mod ui;
pub(crate) mod usage;
pub(crate) mod volume;
pub(crate) mod volume_archive;
pub(crate) mod wait;

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::process::ExitCode;

/// The exit code of a process that SIGPIPE ended, as a shell sees it.
const BROKEN_PIPE: u8 = 128 + 13;

/// The program's entry.
#[must_use]
pub fn main() -> ExitCode {
    crate::sys::process::hear_of_children();
    // RLIMIT_FSIZE is a write that fails, not the end of this process without a word, nor
    // of a container whose monitor it is.
    crate::sys::process::ignore_signal(libc::SIGXFSZ);
    // Hidden roles of this binary are decided here, before anything is parsed.
    if let Some(word) = std::env::args_os().nth(1) {
        if word == crate::monitor::ROLE {
            return crate::monitor::main();
        }
        if word == crate::monitor::netd::ROLE {
            return crate::monitor::netd::main();
        }
        if word == crate::monitor::overlay::ROLE {
            return crate::monitor::overlay::main();
        }
        if word == crate::monitor::ports::ROLE {
            return crate::monitor::ports::main();
        }
        if word == crate::network::uplink::builtin::ROLE {
            return crate::network::uplink::builtin::main();
        }
        if word == crate::network::uplink::guard::ROLE {
            return crate::network::uplink::guard::main();
        }
    }
    ExitCode::from(command_line(std::env::args_os().skip(1).collect()))
}

/// Runs a command; the exit code. Nothing fails silently: an error is shown.
fn command_line(words: Vec<OsString>) -> u8 {
    match utf8(words).and_then(commands::run) {
        // Where several things are shown, each reports for itself.
        Ok(_) | Err(_) if ui::stdout_closed() => BROKEN_PIPE,
        Ok(code) => code,
        Err(error) => {
            let error = crate::engine::owners::explain(error);
            ui::error(&error);
            exit::code(&error)
        }
    }
}

fn utf8(words: Vec<OsString>) -> Result<Vec<String>> {
    let utf8 = |word: OsString| {
        word.into_string()
            .map_err(|word| Error::invalid(format!("the argument {:?} is not UTF-8", word.to_string_lossy())))
    };
    words.into_iter().map(utf8).collect()
}
