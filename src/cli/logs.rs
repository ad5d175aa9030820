//! `coracle logs`

use crate::engine::Engine;
use crate::engine::logs::{LogOptions, LogSource, moment, print};
use crate::error::{Error, Result};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io::{stderr, stdout};
use std::os::fd::{AsFd, OwnedFd};

/// Show what a container has printed
#[derive(Debug, clap::Args)]
pub(crate) struct LogsArgs {
    /// Go on until the container has ended
    #[arg(short, long)]
    follow: bool,
    /// Show so many lines from the end, or `all`
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all", allow_hyphen_values = true)]
    tail: String,
    /// Show lines from this time on: a duration before now (10m), a date, or seconds since the epoch
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show lines up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Show the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Accepted for docker's sake: no log has details
    #[arg(long)]
    details: bool,
    /// Name or id
    pub(crate) container: String,
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
            tail: parse_tail(&self.tail)?,
            since: time(&self.since, "--since")?,
            until: time(&self.until, "--until")?,
            timestamps: self.timestamps,
        })
    }
}

/// Shows the log. `find` gives the log of the container of this name or id; it
/// is asked after the flags were understood.
pub(crate) fn run(args: &LogsArgs, find: impl FnOnce(&str) -> Result<LogSource>) -> Result<()> {
    let options = args.options(Timestamp::now())?;
    let source = find(&args.container)?;
    let ended = source.ended.as_ref().map(AsFd::as_fd);
    print(&source.dir, &source.log, &options, ended, &mut stdout().lock(), &mut stderr().lock())
        .map_err(|error| error.context(format!("logs of {}", args.container)))
}

/// `coracle logs`.
///
/// # Errors
/// `Invalid` for wrong flags; `NotFound` where there is no such container.
pub(crate) fn show(args: LogsArgs) -> Result<u8> {
    let find = |name: &str| {
        let engine = Engine::open()?;
        let id = engine.resolve(name)?;
        let log = engine.snapshot(&id)?.record.config.log;
        let ended = engine.end_signal(&id)?.map(OwnedFd::from);
        Ok(LogSource { dir: engine.dirs.container(&id), log, ended })
    };
    run(&args, find)?;
    Ok(0)
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
        };
        let words = ["-ft", "-n", "5", "--since", "10m", "--until=2024-01-01T00:00:00Z", "--details", "web"];
        assert_eq!(options(&words), Some(all));
        assert_eq!(options(&["--tail", "-1", "web"]), Some(LogOptions::default()));
        assert_eq!(options(&["--tail=0", "web"]).and_then(|options| options.tail), Some(0));
    }

    #[test]
    fn bad_flags_are_refused() {
        for words in [
            &["--tail", "x", "web"][..],
            &["--since", "soon", "web"],
            &["--tail", "", "web"],
            &[],
            &["a", "b"],
        ] {
            assert_eq!(options(words), None, "{words:?}");
        }
    }
}
