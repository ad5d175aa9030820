//! Health checks: what is asked for, and what came of it.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use std::time::Duration;

/// Docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// The interval of `--health-interval=disable`: no check runs by itself.
pub(crate) const DISABLED: i64 = -1;

/// Results that are kept, and bytes of the output of each: docker's numbers.
pub(crate) const LOG_COUNT: usize = 5;
pub(crate) const LOG_SIZE: usize = 4096;
/// What the flags can raise them to.
pub(crate) const MAX_LOG_COUNT: usize = 100;
pub(crate) const MAX_LOG_SIZE: usize = 16 << 10;

/// `HEALTHCHECK` as images and docker write it; the times are nanoseconds, 0
/// means the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Healthcheck {
    /// Empty for the image's; `NONE`; `CMD` and words; `CMD-SHELL` and a line.
    #[serde(deserialize_with = "or_default")]
    pub(crate) test: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) retries: i64,
}

impl Healthcheck {
    /// The command, or `None` where there is no check.
    pub(crate) fn command(&self) -> Option<Vec<String>> {
        let (kind, rest) = self.test.split_first()?;
        let words = match (kind.as_str(), rest) {
            ("CMD", words) => words.to_vec(),
            ("CMD-SHELL", [line, ..]) if !line.is_empty() => {
                vec!["/bin/sh".into(), "-c".into(), line.clone()]
            }
            _ => return None,
        };
        (!words.is_empty()).then_some(words)
    }

    /// What is left open is the image's.
    pub(crate) fn inherit(&mut self, image: &Self) {
        if self.test.is_empty() {
            self.test.clone_from(&image.test);
        }
        let pairs = [
            (&mut self.interval, image.interval),
            (&mut self.timeout, image.timeout),
            (&mut self.start_period, image.start_period),
            (&mut self.start_interval, image.start_interval),
            (&mut self.retries, image.retries),
        ];
        for (own, theirs) in pairs {
            if *own == 0 {
                *own = theirs;
            }
        }
    }

    /// Between two checks; `None` where none runs by itself.
    pub(crate) fn interval(&self) -> Option<Duration> {
        (self.interval >= 0).then(|| duration(self.interval).unwrap_or(INTERVAL))
    }

    pub(crate) fn timeout(&self) -> Duration {
        duration(self.timeout).unwrap_or(TIMEOUT)
    }

    pub(crate) fn start_period(&self) -> Duration {
        duration(self.start_period).unwrap_or_default()
    }

    pub(crate) fn start_interval(&self) -> Duration {
        duration(self.start_interval).unwrap_or(START_INTERVAL)
    }

    pub(crate) fn retries(&self) -> u32 {
        u32::try_from(self.retries).ok().filter(|retries| *retries > 0).unwrap_or(RETRIES)
    }
}

/// Of nanoseconds; an image may say anything.
fn duration(nanoseconds: i64) -> Option<Duration> {
    u64::try_from(nanoseconds).ok().filter(|number| *number > 0).map(Duration::from_nanos)
}

/// What the monitor does with a container that became unhealthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnFailure {
    #[default]
    None,
    Kill,
    Restart,
    Stop,
}

impl OnFailure {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Stop => "stop",
        }
    }
}

/// All that a container's record says of its checks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HealthConfig {
    pub(crate) check: Healthcheck,
    pub(crate) on_failure: OnFailure,
    /// Podman's: until this has succeeded, the check proper does not begin.
    pub(crate) startup: Option<StartupCheck>,
    /// Results that are kept.
    pub(crate) max_log_count: Option<usize>,
    /// Bytes of the output of each.
    pub(crate) max_log_size: Option<usize>,
}

impl HealthConfig {
    /// Whether there is anything to check.
    pub(crate) fn is_active(&self) -> bool {
        self.check.command().is_some()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StartupCheck {
    /// Its `retries` are the failures after which the container is restarted; 0: never.
    pub(crate) check: Healthcheck,
    /// Successes in a row that are needed.
    pub(crate) success: u32,
}

/// How a container is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HealthStatus {
    #[default]
    Starting,
    Healthy,
    Unhealthy,
}

impl HealthStatus {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One check's result; field names are docker's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CheckResult {
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    /// -1 where there was none.
    pub(crate) exit_code: i32,
    pub(crate) output: String,
}

/// `containers/<id>/health.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HealthState {
    pub(crate) version: u32,
    pub(crate) status: HealthStatus,
    pub(crate) failing_streak: u32,
    #[serde(default)]
    pub(crate) log: Vec<CheckResult>,
    /// Of the startup check in this run: successes in a row, failures, and whether it is over.
    #[serde(default)]
    pub(crate) startup: StartupState,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StartupState {
    pub(crate) successes: u32,
    pub(crate) failures: u32,
    pub(crate) done: bool,
}

/// What a result of the startup check asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartupVerdict {
    GoOn,
    Restart,
}

impl HealthState {
    /// A new run: starting, the log kept.
    pub(crate) fn begin(&mut self) {
        self.version = 1;
        self.status = HealthStatus::Starting;
        self.failing_streak = 0;
        self.startup = StartupState::default();
    }

    /// Takes in a result of the check proper, by docker's rules; whether the
    /// status has changed.
    pub(crate) fn take(&mut self, result: CheckResult, config: &HealthConfig, started: Timestamp) -> bool {
        let before = self.status;
        let age = result.start.duration_since(started);
        let spared = before == HealthStatus::Starting
            && Duration::try_from(age).unwrap_or_default() < config.check.start_period();
        if result.exit_code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if !spared {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= config.check.retries() {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.keep(result, config);
        self.status != before
    }

    /// Takes in a result of the startup check, by podman's rules.
    pub(crate) fn take_startup(&mut self, result: CheckResult, config: &HealthConfig) -> StartupVerdict {
        let Some(startup) = &config.startup else { return StartupVerdict::GoOn };
        let state = &mut self.startup;
        let failed = result.exit_code != 0;
        if failed {
            state.successes = 0;
            state.failures = state.failures.saturating_add(1);
        } else {
            state.successes += 1;
            state.done = state.successes >= startup.success.max(1);
        }
        let limit = u32::try_from(startup.check.retries).unwrap_or(0);
        let restart = failed && limit > 0 && state.failures >= limit;
        self.keep(result, config);
        if restart { StartupVerdict::Restart } else { StartupVerdict::GoOn }
    }

    fn keep(&mut self, result: CheckResult, config: &HealthConfig) {
        self.log.push(result);
        let count = config.max_log_count.unwrap_or(LOG_COUNT).clamp(1, MAX_LOG_COUNT);
        self.log.drain(..self.log.len().saturating_sub(count));
    }
}

/// `null` is the default.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::constant(1_700_000_000 + second, 0)
    }

    fn result(second: i64, exit_code: i32) -> CheckResult {
        CheckResult { start: at(second), end: at(second), exit_code, output: String::new() }
    }

    fn config(retries: i64, start_period: i64) -> HealthConfig {
        let test = vec!["CMD-SHELL".into(), "true".into()];
        let check = Healthcheck { test, start_period, retries, ..Healthcheck::default() };
        HealthConfig { check, ..HealthConfig::default() }
    }

    #[test]
    fn the_state_machine_is_dockers() {
        use HealthStatus::{Healthy, Starting, Unhealthy};
        let config = config(2, 10_000_000_000);
        let mut state = HealthState::default();
        state.begin();
        // (second, exit code, status, streak)
        for (second, code, status, streak) in [
            (1, 1, Starting, 0),
            (5, 1, Starting, 0),
            (11, 1, Starting, 1),
            (12, 1, Unhealthy, 2),
            (13, 1, Unhealthy, 3),
            (14, 0, Healthy, 0),
            (15, 1, Healthy, 1),
            (16, 0, Healthy, 0),
            (17, -1, Healthy, 1),
            (18, 137, Unhealthy, 2),
        ] {
            let before = state.status;
            let changed = state.take(result(second, code), &config, at(0));
            assert_eq!((state.status, state.failing_streak), (status, streak), "at {second}");
            assert_eq!(changed, before != status);
        }
        assert_eq!(state.log.len(), LOG_COUNT);
        assert_eq!(state.log.last().map(|result| result.exit_code), Some(137));
        state.begin();
        assert_eq!((state.status, state.failing_streak, state.log.len()), (Starting, 0, 5));
        // A success within the start period ends it.
        state.take(result(1, 0), &config, at(0));
        state.take(result(2, 1), &config, at(0));
        assert_eq!((state.status, state.failing_streak), (Healthy, 1));
    }

    #[test]
    fn a_startup_check_counts_successes_in_a_row() {
        let mut config = config(3, 0);
        let check = Healthcheck { retries: 3, ..config.check.clone() };
        config.startup = Some(StartupCheck { check, success: 2 });
        let mut state = HealthState::default();
        state.begin();
        for (code, done, verdict) in [
            (0, false, StartupVerdict::GoOn),
            (1, false, StartupVerdict::GoOn),
            (0, false, StartupVerdict::GoOn),
            (1, false, StartupVerdict::GoOn),
            (1, false, StartupVerdict::Restart),
            (0, false, StartupVerdict::GoOn),
            (0, true, StartupVerdict::GoOn),
        ] {
            assert_eq!((state.take_startup(result(1, code), &config), state.startup.done), (verdict, done));
        }
        assert_eq!(state.status, HealthStatus::Starting);
    }

    #[test]
    fn tests_become_commands() {
        let command = |words: &[&str]| {
            let test = words.iter().map(|word| (*word).to_owned()).collect();
            Healthcheck { test, ..Healthcheck::default() }.command()
        };
        for none in [&[][..], &["NONE"], &["CMD"], &["CMD-SHELL"], &["CMD-SHELL", ""], &["what", "x"]] {
            assert_eq!(command(none), None, "{none:?}");
        }
        assert_eq!(command(&["CMD", "a", "b"]), Some(vec!["a".into(), "b".into()]));
        assert_eq!(
            command(&["CMD-SHELL", "a b"]).map(|words| words.join("|")),
            Some("/bin/sh|-c|a b".into())
        );
        let hostile: Healthcheck = serde_json::from_str(
            r#"{"Test": null, "Interval": -5, "Timeout": 9223372036854775807, "Retries": -1}"#,
        )
        .expect("JSON");
        assert_eq!((hostile.interval(), hostile.retries()), (None, RETRIES));
        assert!(hostile.timeout() > Duration::from_secs(1 << 30));
    }

    #[test]
    fn what_is_open_is_the_images() {
        let image = Healthcheck {
            test: vec!["CMD".into(), "x".into()],
            interval: 5,
            retries: 7,
            ..Healthcheck::default()
        };
        let mut own = Healthcheck { retries: 2, ..Healthcheck::default() };
        own.inherit(&image);
        assert_eq!((own.test.len(), own.interval, own.retries), (2, 5, 2));
        let mut none = Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() };
        none.inherit(&image);
        assert_eq!(none.command(), None);
    }
}
