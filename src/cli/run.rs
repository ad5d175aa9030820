//! `coracle run` and `coracle create`.

use super::container_options::{ContainerOptions, Host, Words};
use super::lifecycle::{attached_exit, detach_keys};
use super::{progress, terminal, ui};
use crate::engine::attach::{AttachEnd, AttachOptions};
use crate::engine::{Engine, rmi};
use crate::error::{BestEffort, Error, Result};
use crate::types::boolean;
use crate::types::container::{CreateRequest, RecordedRoot};
use crate::types::id::ContainerId;
use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    container: ContainerOptions,
    /// The image's name or id
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
    /// The command to run instead of the image's, and its arguments
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    create: CreateArgs,
    /// Run in the background and print the container's id
    #[arg(long, short = 'd')]
    detach: bool,
    /// Leave the container running when these keys are typed
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Remove the container when it ends, and then its image, unless another container uses it
    #[arg(long)]
    rmi: bool,
    /// Pass signals on to the container
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    sig_proxy: Option<String>,
}

/// Creates a container, and prints its id.
///
/// # Errors
/// `Invalid` for wrong flags; what the engine says.
pub(crate) fn create(args: CreateArgs) -> Result<u8> {
    let quiet = args.container.quiet;
    let registry = args.container.registry.options()?;
    let request = args.into_request("create")?;
    let engine = Engine::with_registry(registry)?;
    let id = engine.create(&request, &mut progress::on_stderr(quiet))?;
    engine.store.sync(&id)?;
    // The start will do what could not be done here, or say why not.
    if let Err(error) = engine.fill_volumes(&id) {
        ui::warning(&format!("the container's volumes are not filled yet: {error}"));
    }
    ui::line(id.as_str())?;
    Ok(0)
}

/// Creates a container and runs it: the exit code of its command, or 0 where it
/// is left in the background.
///
/// # Errors
/// `Invalid` for wrong flags; what the engine says.
pub(crate) fn run(mut args: RunArgs) -> Result<u8> {
    let quiet = args.create.container.quiet;
    let attach = args.attach_options()?;
    let removes_image = args.removes_image()?;
    let registry = args.create.container.registry.options()?;
    let detached = args.detach;
    let mut request = args.create.into_request("run")?;
    request.config.detached = detached;
    if let Some(options) = &attach {
        terminal::check_stdin(options.stdin, options.tty)?;
    }
    let engine = Engine::with_registry(registry)?;
    engine.check_settings(&request.config)?;
    let id = engine.create(&request, &mut progress::on_stderr(quiet))?;
    let image = engine.store.record(&id)?.root;
    if attach.as_ref().is_some_and(AttachOptions::shows_nothing) {
        // Docker's: ID=$(echo input | coracle run -i -a stdin IMAGE).
        ui::line(id.as_str())?;
    }
    let started = engine.start(&id, attach.as_ref(), &mut |text| ui::warning(text));
    match started {
        Err(error) => {
            forget(&engine, &id, &request);
            Err(error)
        }
        Ok(None) => {
            ui::line(id.as_str())?;
            Ok(0)
        }
        Ok(Some(end)) => {
            let gone = matches!(end, AttachEnd::Exited(_));
            let code = attached_exit(&engine, &id, end)?;
            if removes_image && gone {
                remove_image(&engine, &image);
            }
            Ok(code)
        }
    }
}

/// `--rmi`. The exit code is the command's: what keeps the image is only said.
fn remove_image(engine: &Engine, root: &RecordedRoot) {
    let RecordedRoot::Image { reference, .. } = root else { return };
    let mut notes = Vec::new();
    let removed = rmi::remove(&engine.dirs, reference, false, &|| engine.images_in_use(), &mut notes);
    notes.extend(removed.err());
    for note in notes {
        ui::warning(&format!("the image is kept: {note}"));
    }
}

/// A container that never ran and was to be removed after its run.
fn forget(engine: &Engine, id: &ContainerId, request: &CreateRequest) {
    if request.config.auto_remove {
        // The monitor may have been there first; then there is nothing to do.
        engine
            .remove(id, &crate::engine::remove::RemoveOptions { force: true, ..Default::default() })
            .or_ignore();
    }
}

impl CreateArgs {
    fn into_request(self, command: &str) -> Result<CreateRequest> {
        let words = Words { first: self.image, rest: self.command };
        self.container.into_request(command, words, &Host::here())
    }
}

impl RunArgs {
    /// `--rmi`, which is `--rm` too.
    fn removes_image(&mut self) -> Result<bool> {
        let options = &mut self.create.container;
        if self.rmi && self.detach {
            return Err(Error::invalid("--rmi cannot be used together with -d: nobody waits for the end")
                .hint("leave out -d, or remove the image when it has ended: coracle wait, coracle rmi"));
        }
        if self.rmi && options.rootfs.is_some() {
            return Err(Error::invalid("--rmi: with --rootfs there is no image"));
        }
        if self.rmi && options.removes_itself()? == Some(false) {
            return Err(Error::invalid("the --rmi option does not work without --rm")
                .hint("an image goes after its container alone: leave out --rm=false"));
        }
        if self.rmi {
            options.rm = Some("true".to_owned());
        }
        Ok(self.rmi)
    }

    /// `None` with `-d`.
    fn attach_options(&self) -> Result<Option<AttachOptions>> {
        let options = &self.create.container;
        let keys = detach_keys(self.detach_keys.as_deref())?;
        let sig_proxy =
            self.sig_proxy.as_deref().map_or(Ok(true), |text| boolean::parse("--sig-proxy", text))?;
        if self.detach {
            if !options.attach.is_empty() {
                return Err(Error::invalid(
                    "conflicting options: cannot attach streams of a container in the background",
                )
                .hint("leave out -a or -d"));
            }
            return Ok(None);
        }
        let streams: Vec<String> = options.attach.iter().map(|stream| stream.to_ascii_lowercase()).collect();
        let wanted = |stream: &str| {
            streams.is_empty() || streams.iter().any(|other| other.split(',').any(|s| s == stream))
        };
        Ok(Some(AttachOptions {
            stdin: options.interactive && wanted("stdin"),
            tty: options.tty,
            sig_proxy,
            detach_keys: keys,
            stdout: wanted("stdout"),
            stderr: wanted("stderr"),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::{Flags, normalise};
    use clap::{Command, FromArgMatches};

    fn parsed(words: &[&str]) -> RunArgs {
        let command = crate::cli::command::with_help(RunArgs::augment_args(Command::new("run")));
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let words = normalise(&command, words, Flags::First).expect("valid");
        let matches =
            command.try_get_matches_from(std::iter::once("run".to_owned()).chain(words)).expect("valid");
        RunArgs::from_arg_matches(&matches).expect("valid")
    }

    #[test]
    fn words_after_the_image_are_the_containers() {
        let args = parsed(&["--rm", "-it", "-e", "A=1", "busybox", "ls", "--rm", "-l", "--", "-x"]);
        assert_eq!(args.create.image.as_deref(), Some("busybox"));
        assert_eq!(args.create.command, ["ls", "--rm", "-l", "--", "-x"]);
        assert!(
            args.create.container.rm.is_some()
                && args.create.container.tty
                && args.create.container.interactive
        );
        let args = parsed(&["busybox", "--rm"]);
        assert!(args.create.container.rm.is_none());
        assert_eq!(args.create.command, ["--rm"]);
        let args = parsed(&["--entrypoint", "", "--stop-timeout", "-1", "-h", "web", "busybox"]);
        assert_eq!(args.create.container.entrypoint.as_deref(), Some(""));
        assert_eq!(args.create.container.stop_timeout.as_deref(), Some("-1"));
        assert_eq!(args.create.container.hostname.as_deref(), Some("web"));
        let args = parsed(&["--read-only-tmpfs=false", "--sig-proxy=false", "busybox"]);
        assert_eq!(args.create.container.read_only_tmpfs.as_deref(), Some("false"));
        assert!(!args.attach_options().expect("valid").expect("attached").sig_proxy);
    }

    #[test]
    fn streams_are_attached_as_flags_say() {
        let options = |words: &[&str]| parsed(words).attach_options().expect("valid");
        assert!(options(&["-d", "x"]).is_none());
        let default = options(&["x"]).expect("attached");
        assert!(!default.stdin && default.stdout && default.stderr && default.sig_proxy);
        let only = options(&["-i", "-a", "stdin", "-a", "STDERR", "x"]).expect("attached");
        assert!(only.stdin && !only.stdout && only.stderr);
        assert!(parsed(&["-d", "-a", "stdin", "x"]).attach_options().is_err());
        assert!(parsed(&["--detach-keys", "ctrl-?", "x"]).attach_options().is_err());
    }
}
