//! `coracle exec`.

use super::container_options::read_text;
use super::lifecycle::detach_keys;
use super::selection::read_id;
use super::terminal;
use crate::engine::Engine;
use crate::engine::attach::{AttachEnd, AttachOptions};
use crate::engine::start::terminal_size;
use crate::error::{Error, Kind, Result};
use crate::types::env::{Environment, MAX_FILE};
use crate::types::exec::ExecRequest;
use crate::types::mount::clean_path;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct ExecArgs {
    /// In the container whose id is in this file, instead of a named one
    #[arg(long, value_name = "FILE", conflicts_with = "latest")]
    cidfile: Option<PathBuf>,
    /// Leave the command in the background
    #[arg(long, short = 'd')]
    detach: bool,
    /// Leave the command running when these keys are typed
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Set a variable, or pass on this one of the host's
    #[arg(long, short = 'e', value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// Set the variables of a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// Pass on stdin
    #[arg(long, short = 'i')]
    interactive: bool,
    /// In the container that was created last, instead of a named one
    #[arg(long, short = 'l')]
    latest: bool,
    /// Pass on so many fds: refused, see the error
    #[arg(long, value_name = "N", default_value = "0")]
    preserve_fds: String,
    /// Give the command all capabilities of the container, whoever runs it; all there are only if the container is privileged
    #[arg(long)]
    privileged: bool,
    /// Give the command a terminal
    #[arg(long, short = 't')]
    tty: bool,
    /// Run as this user: NAME|UID[:GROUP|GID]
    #[arg(long, short = 'u', value_name = "USER")]
    user: Option<String>,
    /// Run in this directory of the container
    #[arg(long, short = 'w', value_name = "DIR")]
    workdir: Option<String>,
    /// The container, the command and its arguments
    #[arg(value_name = "CONTAINER COMMAND")]
    words: Vec<String>,
}

/// Runs a command in a running container; its exit code.
///
/// # Errors
/// `Invalid` for wrong flags; what the engine says.
pub(crate) fn exec(args: ExecArgs) -> Result<u8> {
    if args.preserve_fds.trim() != "0" {
        return Err(Error::invalid("--preserve-fds: no fd of the host is handed into a running container").hint(
            "a directory or terminal of the host would be a way out of it; pass data through stdin (-i), or mount a file when the container is created",
        ));
    }
    terminal::check_stdin(args.interactive && !args.detach, args.tty)?;
    let engine = Engine::open()?;
    let of_file = args.cidfile.as_deref().map(|path| read_id("cidfile", path)).transpose()?;
    let named = !args.latest && of_file.is_none();
    let (name, command) = match (&of_file, args.words.split_first()) {
        (None, Some((name, command))) if named => (Some(name.as_str()), command),
        (None, None) if named => (Some(""), args.words.as_slice()),
        (of_file, _) => (of_file.as_deref(), args.words.as_slice()),
    };
    if command.is_empty() {
        let least = if named { "2 arguments" } else { "1 argument" };
        return Err(Error::invalid(format!("'coracle exec' requires at least {least}"))
            .hint("usage: coracle exec [OPTIONS] CONTAINER COMMAND [ARG...]"));
    }
    let options = args.attach_options()?;
    let request = args.request(command)?;
    let id = match name {
        Some(name) => engine.resolve(name)?,
        None => engine.newest()?,
    };
    let result = engine.exec(&id, request, options.as_ref());
    match result {
        // Nobody waits for a code: what fails here is the request. Podman's 125.
        Err(error) if args.detach => Err(error.with_kind(Kind::Failed)),
        Err(error) => Err(error),
        Ok(None | Some(AttachEnd::Detached)) => Ok(0),
        Ok(Some(AttachEnd::Exited(exit))) => Ok(exit.code),
        Ok(Some(AttachEnd::ReaderGone)) => Ok(super::BROKEN_PIPE),
        Ok(Some(AttachEnd::Forced)) => Err(Error::failed("got 3 SIGTERM/SIGINTs, forcefully exiting")),
        Ok(Some(AttachEnd::MonitorGone | AttachEnd::Dropped)) => {
            Err(Error::failed("the container's monitor died before the command's end"))
        }
    }
}

impl ExecArgs {
    fn request(&self, command: &[String]) -> Result<ExecRequest> {
        let mut environment = Environment::default();
        if !self.env.is_empty() || !self.env_file.is_empty() {
            let utf8 = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
                Some((key.into_string().ok()?, value.into_string().ok()?))
            };
            let host: Vec<(String, String)> = std::env::vars_os().filter_map(utf8).collect();
            for path in &self.env_file {
                environment.add_file(&read_text("--env-file", path, MAX_FILE)?, path, &host)?;
            }
            for text in &self.env {
                environment.add_flag(text, &host)?;
            }
        }
        Ok(ExecRequest {
            args: command.to_vec(),
            env: environment.set,
            unset_env: environment.unset,
            workdir: self
                .workdir
                .as_deref()
                .filter(|dir| !dir.is_empty())
                .map(clean_path)
                .transpose()
                .map_err(|error| error.context("--workdir"))?,
            user: self.user.clone(),
            interactive: self.interactive,
            tty: self.tty,
            detach: self.detach,
            privileged: self.privileged,
            size: if self.tty { terminal_size() } else { None },
        })
    }

    /// `None` with `-d`.
    fn attach_options(&self) -> Result<Option<AttachOptions>> {
        let detach_keys = detach_keys(self.detach_keys.as_deref())?;
        Ok((!self.detach).then_some(AttachOptions {
            stdin: self.interactive,
            tty: self.tty,
            sig_proxy: true,
            detach_keys,
            stdout: true,
            stderr: true,
        }))
    }
}
