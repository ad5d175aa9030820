//! Limits of a container's resources, as flags write them.

use super::size::parse_bytes;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// What was asked for; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Limits {
    /// Bytes.
    pub(crate) memory: Option<u64>,
    /// Bytes that are left alone while others have more than theirs.
    pub(crate) memory_reservation: Option<u64>,
    /// Bytes of memory and swap together; `u64::MAX`: as much swap as there is.
    pub(crate) memory_swap: Option<u64>,
    /// Billionths of a processor.
    pub(crate) nano_cpus: Option<u64>,
    /// Microseconds of `cpu_period` (100,000 where `None`).
    pub(crate) cpu_quota: Option<u64>,
    pub(crate) cpu_period: Option<u64>,
    /// 2 to 262,144; docker's measure, 1,024 is usual.
    pub(crate) cpu_shares: Option<u64>,
    /// `0-3,5`
    pub(crate) cpuset_cpus: Option<String>,
    pub(crate) cpuset_mems: Option<String>,
    /// Processes and threads; `u64::MAX`: no limit.
    pub(crate) pids: Option<u64>,
    /// 10 to 1,000.
    pub(crate) blkio_weight: Option<u64>,
}

/// Docker's least.
const LEAST_MEMORY: u64 = 6 << 20;

impl Limits {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// This, with what `newer` says in its place.
    pub(crate) fn updated(&self, newer: &Self) -> Self {
        let cpu_anew = newer.nano_cpus.is_some() || newer.cpu_quota.is_some();
        Self {
            memory: newer.memory.or(self.memory),
            memory_reservation: newer.memory_reservation.or(self.memory_reservation),
            memory_swap: newer.memory_swap.or(self.memory_swap),
            nano_cpus: if cpu_anew { newer.nano_cpus } else { self.nano_cpus },
            cpu_quota: if cpu_anew { newer.cpu_quota } else { self.cpu_quota },
            cpu_period: newer.cpu_period.or(self.cpu_period),
            cpu_shares: newer.cpu_shares.or(self.cpu_shares),
            cpuset_cpus: newer.cpuset_cpus.clone().or_else(|| self.cpuset_cpus.clone()),
            cpuset_mems: newer.cpuset_mems.clone().or_else(|| self.cpuset_mems.clone()),
            pids: newer.pids.or(self.pids),
            blkio_weight: newer.blkio_weight.or(self.blkio_weight),
        }
    }

    /// Whether the limits go together.
    ///
    /// # Errors
    /// `Invalid`, in docker's words.
    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |text: &str| Err(Error::invalid(text));
        if self.memory.is_some_and(|memory| memory < LEAST_MEMORY) {
            return invalid("minimum memory limit allowed is 6MB");
        }
        match (self.memory, self.memory_swap) {
            (None, Some(swap)) if swap != u64::MAX => {
                return invalid("you should always set the memory limit when using the memory-swap limit");
            }
            (Some(memory), Some(swap)) if swap < memory => {
                return invalid("minimum memory-swap limit should be larger than the memory limit");
            }
            _ => {}
        }
        if let (Some(memory), Some(least)) = (self.memory, self.memory_reservation) {
            if least > memory {
                return invalid("minimum memory limit cannot be less than the memory reservation limit");
            }
        }
        if self.nano_cpus.is_some() && (self.cpu_quota.is_some() || self.cpu_period.is_some()) {
            return invalid("--cpus cannot be used together with --cpu-quota and --cpu-period");
        }
        if self.cpu_period.is_some_and(|period| !(1_000..=1_000_000).contains(&period)) {
            return invalid("--cpu-period is from 1000 to 1000000 microseconds");
        }
        if self.cpu_quota.is_some_and(|quota| quota < 1_000) {
            return invalid("--cpu-quota is 1000 microseconds at least");
        }
        if self.blkio_weight.is_some_and(|weight| !(10..=1000).contains(&weight)) {
            return invalid("range of blkio weight is from 10 to 1000");
        }
        Ok(())
    }
}

/// `1.5` processors as billionths; 0 is no limit.
///
/// # Errors
/// `Invalid` for what is no positive number.
pub(crate) fn parse_cpus(text: &str) -> Result<Option<u64>> {
    let invalid = || Error::invalid(format!("invalid --cpus {text:?}")).hint("a number such as 0.5 or 2");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return Err(invalid());
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
    let fraction: u64 = format!("{fraction:0<9}").parse().map_err(|_| invalid())?;
    let nano = whole.checked_mul(1_000_000_000).and_then(|whole| whole.checked_add(fraction));
    Ok(Some(nano.ok_or_else(invalid)?).filter(|nano| *nano > 0))
}

/// Bytes; 0 is no limit.
///
/// # Errors
/// As [`parse_bytes`].
pub(crate) fn parse_memory(flag: &str, text: &str) -> Result<Option<u64>> {
    let bytes = parse_bytes(text).map_err(|error| error.context(flag.to_owned()))?;
    Ok(Some(bytes).filter(|bytes| *bytes > 0))
}

/// A number that may be -1 for "no limit", which is `u64::MAX`; 0 is as if it
/// was not given.
///
/// # Errors
/// `Invalid` for what is no number.
pub(crate) fn parse_or_unlimited(flag: &str, text: &str) -> Result<Option<u64>> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(Some(u64::MAX)),
        Ok(0) => Ok(None),
        Ok(number @ 1..) => Ok(Some(number as u64)),
        _ => Err(Error::invalid(format!("invalid {flag} {text:?}")).hint("a number, or -1 for no limit")),
    }
}

/// `0-3,5`: a list of processors or memory nodes.
///
/// # Errors
/// `Invalid` for what is no such list.
pub(crate) fn parse_set(flag: &str, text: &str) -> Result<Option<String>> {
    let number = |part: &str| !part.is_empty() && part.len() < 6 && part.bytes().all(|b| b.is_ascii_digit());
    let range = |part: &str| match part.split_once('-') {
        Some((from, to)) => number(from) && number(to),
        None => number(part),
    };
    if text.is_empty() {
        return Ok(None);
    }
    if text.split(',').all(range) {
        return Ok(Some(text.to_owned()));
    }
    Err(Error::invalid(format!("invalid {flag} {text:?}")).hint("a list such as 0-3,5"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_in_billionths() {
        for (text, nano) in [
            ("1.5", Some(1_500_000_000)),
            (".25", Some(250_000_000)),
            ("2", Some(2_000_000_000)),
            ("0", None),
        ] {
            assert_eq!(parse_cpus(text).expect(text), nano);
        }
        for bad in ["", ".", "-1", "1e3", "x", "0.1234567891", "99999999999999999999"] {
            assert!(parse_cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_and_numbers_are_checked() {
        assert_eq!(parse_set("--cpuset-cpus", "0-3,5").expect("valid").as_deref(), Some("0-3,5"));
        for bad in ["a", "1-", "-1", "1,,2", "1-2-3", " 1"] {
            assert!(parse_set("--cpuset-cpus", bad).is_err(), "{bad}");
        }
        assert_eq!(parse_or_unlimited("--pids-limit", "-1").expect("valid"), Some(u64::MAX));
        assert_eq!(parse_or_unlimited("--pids-limit", "0").expect("valid"), None);
        assert!(parse_or_unlimited("--pids-limit", "-2").is_err());
    }

    #[test]
    fn limits_must_go_together() {
        let limits = |change: fn(&mut Limits)| {
            let mut limits = Limits { memory: Some(64 << 20), ..Limits::default() };
            change(&mut limits);
            limits.check()
        };
        assert!(limits(|_| ()).is_ok());
        assert!(limits(|limits| limits.memory = Some(1 << 20)).is_err());
        assert!(limits(|limits| limits.memory_swap = Some(1 << 20)).is_err());
        assert!(limits(|limits| limits.memory_swap = Some(u64::MAX)).is_ok());
        assert!(limits(|limits| limits.memory_reservation = Some(1 << 30)).is_err());
        assert!(limits(|limits| (limits.nano_cpus, limits.cpu_quota) = (Some(1), Some(5000))).is_err());
        assert!(limits(|limits| limits.blkio_weight = Some(5)).is_err());
    }

    #[test]
    fn an_update_changes_what_it_names() {
        let old = Limits { memory: Some(1), nano_cpus: Some(2), pids: Some(3), ..Limits::default() };
        let new = old.updated(&Limits { cpu_quota: Some(5000), pids: Some(4), ..Limits::default() });
        assert_eq!(
            (new.memory, new.nano_cpus, new.cpu_quota, new.pids),
            (Some(1), None, Some(5000), Some(4))
        );
    }
}
