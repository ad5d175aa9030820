//! `coracle logs`

use super::selection::{Target, Wanted};
use crate::engine::Engine;
use crate::engine::logs::{Direct, Label, LogOptions, LogSource, moment, print};
use crate::error::{Error, Result};
use crate::types::container::ContainerRecord;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fs::FileType;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

/// Show what a container has printed
#[derive(Debug, Default, clap::Args)]
pub(crate) struct LogsArgs {
    /// Go on until the container has ended
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Show so many lines from the end, or `all`
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all", allow_hyphen_values = true)]
    pub(super) tail: String,
    /// Show lines from this time on: a duration before now (10m), a date, or seconds since the epoch
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// Show lines up to this time
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
    /// Show the time of each line
    #[arg(short, long)]
    pub(super) timestamps: bool,
    /// Show what --log-opt labels, env and tag put into the log, before each line
    #[arg(long)]
    pub(super) details: bool,
    /// Put the name of the container before each line
    #[arg(long)]
    pub(super) names: bool,
    /// Show each container in a colour of its own
    #[arg(long)]
    pub(super) color: bool,
    /// Of the container that was made last
    #[arg(long, short = 'l')]
    pub(super) latest: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    pub(super) containers: Vec<String>,
}

impl LogsArgs {
    /// # Errors
    /// `Invalid` for a number or time that is none.
    fn options(&self, now: Timestamp) -> Result<LogOptions> {
        let time = |text: &Option<String>, flag: &str| match text.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => {
                moment::parse(text, now, TimeZone::system).map(Some).map_err(|error| error.context(flag))
            }
        };
        Ok(LogOptions {
            follow: self.follow,
            details: self.details,
            tail: parse_tail(&self.tail)?,
            since: time(&self.since, "--since")?,
            until: time(&self.until, "--until")?,
            timestamps: self.timestamps,
            one_output: false,
            label: None,
        })
    }

    /// What tells the lines of container number `index` of `count` apart:
    /// nothing where there is one.
    fn label(&self, record: &ContainerRecord, index: usize, count: usize) -> Option<Label> {
        let text = match () {
            () if self.names => format!("{} ", record.name),
            () if count > 1 => format!("{} ", record.id.short()),
            () => String::new(),
        };
        // Red to cyan; black and white are the terminal's.
        let colour = self.color.then_some(31 + (index % 6) as u8);
        (!text.is_empty() || colour.is_some()).then_some(Label { text, colour })
    }
}

/// `coracle logs`: of several containers one after the other; with `--follow`
/// all together.
///
/// # Errors
/// `Invalid` for wrong flags; `NotFound` where there is no such container.
pub(crate) fn show(args: LogsArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let wanted = Wanted { names: &args.containers, latest: args.latest, ..Wanted::default() };
    show_of(&engine, wanted.targets(&engine, "logs", &|_| true)?, &args)
}

/// Shows the logs of these containers, as the flags of `args` say.
///
/// # Errors
/// As [`show`].
pub(super) fn show_of(engine: &Engine, targets: Vec<Target>, args: &LogsArgs) -> Result<u8> {
    let options = args.options(Timestamp::now())?;
    let count = targets.len();
    let mut jobs = Vec::new();
    for (index, target) in targets.into_iter().enumerate() {
        let id = target.id?;
        let record = engine.snapshot(&id)?.record;
        let ended = engine.end_signal(&id)?.map(OwnedFd::from);
        let label = args.label(&record, index, count);
        let options = LogOptions { label, one_output: one_output(), ..options.clone() };
        let source = LogSource { dir: engine.dirs.container(&id), log: record.config.log, ended };
        jobs.push((target.word, source, options));
    }
    let turn = Mutex::new(());
    let show = |(word, source, options): &(String, LogSource, LogOptions)| {
        let mut out = Direct { fd: rustix::stdio::stdout(), turn: &turn };
        let mut err = Direct { fd: rustix::stdio::stderr(), turn: &turn };
        let ended = source.ended.as_ref().map(AsFd::as_fd);
        print(&source.dir, &source.log, options, ended, &mut out, &mut err)
            .map_err(|error| error.context(format!("logs of {word}")))
    };
    if !options.follow || jobs.len() == 1 {
        jobs.iter().try_for_each(show)?;
        return Ok(0);
    }
    let show = &show;
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = jobs.iter().map(|job| scope.spawn(move || show(job))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    })?;
    Ok(0)
}

/// Whether stdout and stderr are the same terminal, pipe or socket. (Two ends
/// of one regular file may each have a place of their own in it.)
fn one_output() -> bool {
    let (Ok(out), Ok(err)) =
        (rustix::fs::fstat(rustix::stdio::stdout()), rustix::fs::fstat(rustix::stdio::stderr()))
    else {
        return false;
    };
    (out.st_dev, out.st_ino) == (err.st_dev, err.st_ino)
        && FileType::from_raw_mode(out.st_mode) != FileType::RegularFile
}

/// A number of lines; `all` and negative numbers, as in docker, are all of them.
fn parse_tail(text: &str) -> Result<Option<u64>> {
    if text == "all" {
        return Ok(None);
    }
    match text.parse::<i64>() {
        Ok(count) => Ok(u64::try_from(count).ok()),
        Err(_) => Err(Error::invalid(format!("--tail: {text:?} is neither a number of lines nor `all`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: LogsArgs,
    }

    fn options(words: &[&str]) -> Option<LogOptions> {
        let words = std::iter::once("logs").chain(words.iter().copied());
        Cli::try_parse_from(words).ok()?.args.options(Timestamp::constant(1_700_000_000, 0)).ok()
    }

    #[test]
    fn flags_become_options() {
        assert_eq!(options(&["web"]), Some(LogOptions::default()));
        let all = LogOptions {
            follow: true,
            tail: Some(5),
            since: "2023-11-14T22:03:20Z".parse().ok(),
            until: "2024-01-01T00:00:00Z".parse().ok(),
            timestamps: true,
            details: true,
            one_output: false,
            label: None,
        };
        let words = ["-ft", "-n", "5", "--since", "10m", "--until=2024-01-01T00:00:00Z", "--details", "web"];
        assert_eq!(options(&words), Some(all));
        assert_eq!(options(&["--tail", "-1", "web"]), Some(LogOptions::default()));
        assert_eq!(options(&["--tail=0", "web"]).and_then(|options| options.tail), Some(0));
    }

    #[test]
    fn bad_flags_are_refused() {
        for words in [&["--tail", "x", "web"][..], &["--since", "soon", "web"], &["--tail", "", "web"]] {
            assert_eq!(options(words), None, "{words:?}");
        }
    }
}
