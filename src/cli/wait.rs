//! `wait`.

use super::ui;
use crate::engine::Engine;
use crate::engine::logs::moment::parse_duration;
use crate::engine::wait::{Condition, Waiting};
use crate::error::{Error, Kind, Result};
use crate::types::id::ContainerId;
use clap::Args;
use std::time::Duration;

/// How often is looked, where nothing else is said: podman's default.
const INTERVAL: Duration = Duration::from_millis(250);

#[derive(Args, Debug)]
pub(crate) struct WaitArgs {
    /// Wait for this instead of the end: running, healthy, exited, removed, … (several: any of them)
    #[arg(long, value_name = "CONDITION")]
    condition: Vec<String>,
    /// Say -1 of a container that does not exist, and go on
    #[arg(long)]
    ignore: bool,
    /// Look so often, where it takes looking: 250ms, or a number of milliseconds
    #[arg(long, short = 'i', value_name = "TIME")]
    interval: Option<String>,
    /// Wait for the container that was created last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Print the first result alone, of whichever container
    #[arg(long, alias = "exit-first-match")]
    return_first: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Waits for containers, and prints how each has ended.
///
/// # Errors
/// What the engine says; `Invalid` for wrong words.
pub(crate) fn wait(args: WaitArgs) -> Result<u8> {
    let conditions = args
        .condition
        .iter()
        .flat_map(|text| text.split(','))
        .map(Condition::parse)
        .collect::<Result<Vec<_>>>()?;
    let interval = args.interval.as_deref().map_or(Ok(INTERVAL), parse_interval)?;
    if args.containers.is_empty() != args.latest {
        return Err(if args.latest {
            Error::invalid("--latest and containers cannot be used together")
        } else {
            Error::invalid("'coracle wait' requires at least 1 argument")
        });
    }
    let engine = Engine::open()?;
    let mut targets = Vec::new();
    let mut code = 0;
    for target in words(&engine, &args) {
        match target {
            Ok(id) => targets.push(Some(id)),
            Err(error) if error.kind() == Kind::NotFound && args.ignore => targets.push(None),
            Err(error) => {
                ui::error(&error);
                code = super::exit::code(&error);
            }
        }
    }
    if args.return_first {
        return first(&engine, targets, &conditions, interval).map(|()| code);
    }
    for id in targets {
        let ended = match id {
            None => -1,
            Some(id) => match conditions.as_slice() {
                [] | [Condition::NotRunning] => engine.wait_for_exit(&id)?.into(),
                [Condition::NextExit] => engine.wait_for_next_exit(&id, interval)?,
                _ => {
                    // Once it is gone nobody knows how it ended.
                    let ended =
                        if conditions == [Condition::Removed] { Some(engine.wait(&id)?) } else { None };
                    let mut waiting = [engine.waiting(id)?];
                    let (_, code) = engine.wait_for_first(&mut waiting, &conditions, interval)?;
                    ended.map_or(code, |exit| exit.code.into())
                }
            },
        };
        ui::line(&ended.to_string())?;
    }
    Ok(code)
}

fn words(engine: &Engine, args: &WaitArgs) -> Vec<Result<ContainerId>> {
    if args.latest {
        return vec![engine.newest()];
    }
    args.containers.iter().map(|name| engine.resolve(name)).collect()
}

fn first(
    engine: &Engine,
    targets: Vec<Option<ContainerId>>,
    conditions: &[Condition],
    interval: Duration,
) -> Result<()> {
    if targets.is_empty() {
        return Ok(());
    }
    if targets.iter().any(Option::is_none) {
        return ui::line("-1");
    }
    let mut waiting =
        targets.into_iter().flatten().map(|id| engine.waiting(id)).collect::<Result<Vec<Waiting>>>()?;
    let conditions = if conditions.is_empty() { &[Condition::NotRunning] } else { conditions };
    let (_, code) = engine.wait_for_first(&mut waiting, conditions, interval)?;
    ui::line(&code.to_string())
}

/// A duration, or milliseconds.
fn parse_interval(text: &str) -> Result<Duration> {
    let milliseconds = text.parse::<u64>().ok().map(Duration::from_millis);
    let duration = || parse_duration(text).and_then(|duration| Duration::try_from(duration).ok());
    milliseconds.or_else(duration).filter(|interval| !interval.is_zero()).ok_or_else(|| {
        Error::invalid(format!("invalid value {text:?} of --interval")).hint("for example 250ms")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_durations_or_milliseconds() {
        assert_eq!(parse_interval("250").ok(), Some(Duration::from_millis(250)));
        assert_eq!(parse_interval("1.5s").ok(), Some(Duration::from_millis(1500)));
        for bad in ["", "0", "-1s", "x", "5y"] {
            assert!(parse_interval(bad).is_err(), "{bad}");
        }
    }
}
