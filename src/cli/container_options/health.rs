//! `--health-*`: docker's flags, and podman's startup check.

use crate::engine::logs::moment::parse_duration;
use crate::error::{Error, Result};
use crate::types::health::{
    DISABLED, HealthConfig, Healthcheck, MAX_LOG_COUNT, MAX_LOG_SIZE, OnFailure, StartupCheck,
};
use clap::Args;

/// Nanoseconds: docker takes no shorter time.
const SHORTEST: i64 = 1_000_000;

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct HealthOptions {
    /// Check the container's health with this shell command (a JSON array without a shell; none)
    #[arg(long, alias = "healthcheck-command", value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Check so often (30s; disable for by hand alone)
    #[arg(long, alias = "healthcheck-interval", value_name = "DURATION")]
    health_interval: Option<String>,
    /// Keep results there: local
    #[arg(long, value_name = "PLACE")]
    health_log_destination: Option<String>,
    /// Keep so many results (5; 0 for the most possible)
    #[arg(long, value_name = "NUMBER")]
    health_max_log_count: Option<String>,
    /// Keep so many bytes of a check's output (4096; 0 for the most possible)
    #[arg(long, value_name = "BYTES")]
    health_max_log_size: Option<String>,
    /// When the container becomes unhealthy: none, kill, restart or stop it
    #[arg(long, value_name = "ACTION")]
    health_on_failure: Option<String>,
    /// Take it for unhealthy after so many failures in a row (3)
    #[arg(long, alias = "healthcheck-retries", value_name = "NUMBER")]
    health_retries: Option<String>,
    /// Check so often within the start period (5s)
    #[arg(long, value_name = "DURATION")]
    health_start_interval: Option<String>,
    /// Count no failures so long after the start
    #[arg(long, alias = "healthcheck-start-period", value_name = "DURATION")]
    health_start_period: Option<String>,
    /// Check with this first, until it succeeds
    #[arg(long, value_name = "COMMAND")]
    health_startup_cmd: Option<String>,
    /// Run the startup check so often (30s)
    #[arg(long, value_name = "DURATION")]
    health_startup_interval: Option<String>,
    /// Restart the container after so many failures of the startup check (0: never)
    #[arg(long, value_name = "NUMBER")]
    health_startup_retries: Option<String>,
    /// Successes in a row that end the startup check
    #[arg(long, value_name = "NUMBER")]
    health_startup_success: Option<String>,
    /// Let a startup check take so long (30s)
    #[arg(long, value_name = "DURATION")]
    health_startup_timeout: Option<String>,
    /// Let a check take so long (30s)
    #[arg(long, alias = "healthcheck-timeout", value_name = "DURATION")]
    health_timeout: Option<String>,
    /// Do not check, whatever the image says
    #[arg(long)]
    no_healthcheck: bool,
}

impl HealthOptions {
    /// `None` where no flag was given: the image's check counts.
    ///
    /// # Errors
    /// `Invalid`, naming the flag.
    pub(super) fn config(&self) -> Result<Option<HealthConfig>> {
        if self.no_healthcheck {
            return self.none().map(Some);
        }
        let check = Healthcheck {
            test: self.health_cmd.as_deref().map(parse_command).unwrap_or_default(),
            interval: match self.health_interval.as_deref() {
                Some("disable") => DISABLED,
                text => duration("--health-interval", text)?,
            },
            timeout: duration("--health-timeout", self.health_timeout.as_deref())?,
            start_period: duration("--health-start-period", self.health_start_period.as_deref())?,
            start_interval: duration("--health-start-interval", self.health_start_interval.as_deref())?,
            retries: count("--health-retries", self.health_retries.as_deref())?.unwrap_or(0),
        };
        let config = HealthConfig {
            check,
            on_failure: on_failure(self.health_on_failure.as_deref())?,
            startup: self.startup()?,
            max_log_count: bounded(
                "--health-max-log-count",
                self.health_max_log_count.as_deref(),
                MAX_LOG_COUNT,
            )?,
            max_log_size: bounded(
                "--health-max-log-size",
                self.health_max_log_size.as_deref(),
                MAX_LOG_SIZE,
            )?,
        };
        match self.health_log_destination.as_deref() {
            None | Some("" | "local") => {}
            Some(other) => {
                return Err(Error::invalid(format!(
                    "--health-log-destination {other}: only local is possible"
                ))
                .hint("the results are in `coracle inspect`, under State.Health.Log"));
            }
        }
        Ok((config != HealthConfig::default()).then_some(config))
    }

    fn none(&self) -> Result<HealthConfig> {
        let given = self.health_cmd.is_some()
            || self.health_interval.is_some()
            || self.health_retries.is_some()
            || self.health_start_interval.is_some()
            || self.health_start_period.is_some()
            || self.health_startup_cmd.is_some()
            || self.health_timeout.is_some();
        if given {
            return Err(Error::invalid("--no-healthcheck conflicts with --health-* options"));
        }
        let check = Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() };
        Ok(HealthConfig { check, ..HealthConfig::default() })
    }

    fn startup(&self) -> Result<Option<StartupCheck>> {
        let check = Healthcheck {
            test: self.health_startup_cmd.as_deref().map(parse_command).unwrap_or_default(),
            interval: duration("--health-startup-interval", self.health_startup_interval.as_deref())?,
            timeout: duration("--health-startup-timeout", self.health_startup_timeout.as_deref())?,
            retries: count("--health-startup-retries", self.health_startup_retries.as_deref())?.unwrap_or(0),
            ..Healthcheck::default()
        };
        let success = count("--health-startup-success", self.health_startup_success.as_deref())?.unwrap_or(0);
        let startup = StartupCheck { check, success: u32::try_from(success).unwrap_or(u32::MAX) };
        if startup == StartupCheck::default() {
            return Ok(None);
        }
        if startup.check.command().is_none() {
            return Err(Error::invalid("--health-startup-* needs --health-startup-cmd"));
        }
        if self.health_cmd.is_none() {
            return Err(Error::invalid("--health-startup-cmd needs --health-cmd")
                .hint("the startup check comes before the check proper"));
        }
        Ok(Some(startup))
    }
}

/// A line for the shell; podman's JSON array and `none`.
fn parse_command(text: &str) -> Vec<String> {
    if text == "none" {
        return vec!["NONE".into()];
    }
    if let (true, Ok(words)) = (text.trim_start().starts_with('['), serde_json::from_str::<Vec<String>>(text))
    {
        let named = matches!(words.first().map(String::as_str), Some("CMD" | "CMD-SHELL" | "NONE"));
        return if named { words } else { std::iter::once("CMD".to_owned()).chain(words).collect() };
    }
    vec!["CMD-SHELL".into(), text.to_owned()]
}

/// Nanoseconds; 0 where the default is meant.
fn duration(flag: &str, text: Option<&str>) -> Result<i64> {
    let Some(text) = text else { return Ok(0) };
    let parsed = parse_duration(text).and_then(|duration| i64::try_from(duration.as_nanos()).ok());
    match parsed {
        None => Err(Error::invalid(format!("invalid value {text:?} of {flag}"))
            .hint("write it with its unit: 30s, 1m30s, 500ms")),
        Some(number) if number < 0 => Err(Error::invalid(format!("{flag} cannot be negative"))),
        Some(number) if number != 0 && number < SHORTEST => {
            Err(Error::invalid(format!("{flag} cannot be less than 1ms")))
        }
        Some(number) => Ok(number),
    }
}

fn count(flag: &str, text: Option<&str>) -> Result<Option<i64>> {
    let Some(text) = text else { return Ok(None) };
    match text.parse::<i32>() {
        Ok(number) if number < 0 => Err(Error::invalid(format!("{flag} cannot be negative"))),
        Ok(number) => Ok(Some(number.into())),
        Err(_) => Err(Error::invalid(format!("invalid value {text:?} of {flag}: not a number"))),
    }
}

fn bounded(flag: &str, text: Option<&str>, most: usize) -> Result<Option<usize>> {
    match count(flag, text)? {
        None => Ok(None),
        Some(0) => Ok(Some(most)),
        Some(number) => usize::try_from(number)
            .ok()
            .filter(|number| *number <= most)
            .map(Some)
            .ok_or_else(|| Error::invalid(format!("{flag} cannot be more than {most}"))),
    }
}

fn on_failure(text: Option<&str>) -> Result<OnFailure> {
    match text {
        None | Some("" | "none") => Ok(OnFailure::None),
        Some("kill") => Ok(OnFailure::Kill),
        Some("restart") => Ok(OnFailure::Restart),
        Some("stop") => Ok(OnFailure::Stop),
        Some(other) => Err(Error::invalid(format!("invalid value {other:?} of --health-on-failure"))
            .hint("it is one of none, kill, restart and stop")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        options: HealthOptions,
    }

    fn config(words: &[&str]) -> std::result::Result<Option<HealthConfig>, String> {
        let cli = Cli::try_parse_from(std::iter::once("x").chain(words.iter().copied())).expect("words");
        cli.options.config().map_err(|error| error.to_string())
    }

    #[test]
    fn flags_become_a_check() {
        assert_eq!(config(&[]), Ok(None));
        let some = config(&["--health-cmd=test -f /ok", "--health-interval=1m30s", "--health-retries=2"]);
        let some = some.expect("valid").expect("a check");
        assert_eq!(some.check.test, ["CMD-SHELL", "test -f /ok"]);
        assert_eq!((some.check.interval, some.check.retries), (90_000_000_000, 2));
        let words = config(&["--health-cmd", r#"["a","b c"]"#, "--health-on-failure=kill"]).expect("valid");
        let words = words.expect("a check");
        assert_eq!((words.check.test.join("|"), words.on_failure), ("CMD|a|b c".into(), OnFailure::Kill));
        let none = config(&["--no-healthcheck"]).expect("valid").expect("none");
        assert_eq!(none.check.test, ["NONE"]);
        let disabled = config(&["--health-interval=disable"]).expect("valid").expect("a check");
        assert_eq!(disabled.check.interval(), None);
        let most = config(&["--health-max-log-count=0"]).expect("valid").expect("a check");
        assert_eq!(most.max_log_count, Some(MAX_LOG_COUNT));
        let startup = config(&["--health-cmd=a", "--health-startup-cmd=b", "--health-startup-success=2"]);
        assert_eq!(startup.expect("valid").expect("a check").startup.map(|startup| startup.success), Some(2));
    }

    #[test]
    fn wrong_flags_are_named() {
        for (words, text) in [
            (
                &["--no-healthcheck", "--health-cmd=x"][..],
                "--no-healthcheck conflicts with --health-* options",
            ),
            (&["--health-interval=-1s"], "--health-interval cannot be negative"),
            (&["--health-interval=1us"], "--health-interval cannot be less than 1ms"),
            (&["--health-timeout=5"], "invalid value \"5\" of --health-timeout"),
            (&["--health-retries=-1"], "--health-retries cannot be negative"),
            (&["--health-retries=x"], "invalid value \"x\" of --health-retries: not a number"),
            (&["--health-on-failure=explode"], "invalid value \"explode\" of --health-on-failure"),
            (&["--health-startup-interval=1s"], "--health-startup-* needs --health-startup-cmd"),
            (&["--health-startup-cmd=x"], "--health-startup-cmd needs --health-cmd"),
            (&["--health-max-log-count=101"], "--health-max-log-count cannot be more than 100"),
            (&["--health-log-destination=/x"], "--health-log-destination /x: only local is possible"),
        ] {
            assert_eq!(config(words), Err(text.to_owned()), "{words:?}");
        }
    }
}
