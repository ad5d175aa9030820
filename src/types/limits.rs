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
    pub(crate) devices: DeviceLimits,
    /// A size of pages as the kernel writes it (`2MB`), and bytes.
    pub(crate) hugetlb: Vec<(String, u64)>,
    /// Files of the control group, and what to write to them.
    pub(crate) conf: Vec<(String, String)>,
}

/// Limits of block devices: the path of each, and its number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DeviceLimits {
    /// 10 to 1,000.
    pub(crate) weights: Vec<(String, u64)>,
    /// Bytes a second.
    pub(crate) read_bps: Vec<(String, u64)>,
    pub(crate) write_bps: Vec<(String, u64)>,
    /// Operations a second.
    pub(crate) read_iops: Vec<(String, u64)>,
    pub(crate) write_iops: Vec<(String, u64)>,
}

/// What becomes of a limit whose controller is not the user's: `limits.undelegated`
/// of the settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Undelegated {
    /// The container does not start.
    #[default]
    Refuse,
    /// It runs without that limit, and says so.
    Warn,
}

impl Undelegated {
    /// # Errors
    /// `Invalid` for another word.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "warn" => Ok(Self::Warn),
            _ => Err(Error::invalid(format!("invalid limits.undelegated {text:?}")).hint("refuse or warn")),
        }
    }
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
            devices: DeviceLimits {
                weights: changed(&self.devices.weights, &newer.devices.weights),
                read_bps: changed(&self.devices.read_bps, &newer.devices.read_bps),
                write_bps: changed(&self.devices.write_bps, &newer.devices.write_bps),
                read_iops: changed(&self.devices.read_iops, &newer.devices.read_iops),
                write_iops: changed(&self.devices.write_iops, &newer.devices.write_iops),
            },
            hugetlb: changed(&self.hugetlb, &newer.hugetlb),
            conf: changed(&self.conf, &newer.conf),
        }
    }

    /// This, but for the limits that the named controller of control groups keeps.
    #[must_use]
    pub(crate) fn without(mut self, controller: &str) -> Self {
        match controller {
            "memory" => (self.memory, self.memory_reservation, self.memory_swap) = (None, None, None),
            "cpu" => {
                (self.nano_cpus, self.cpu_quota) = (None, None);
                (self.cpu_period, self.cpu_shares) = (None, None);
            }
            "cpuset" => (self.cpuset_cpus, self.cpuset_mems) = (None, None),
            "pids" => self.pids = None,
            "io" => (self.blkio_weight, self.devices) = (None, DeviceLimits::default()),
            "hugetlb" => self.hugetlb.clear(),
            _ => {}
        }
        self.conf.retain(|(key, _)| key.split('.').next() != Some(controller));
        self
    }

    /// The flags by which limits were asked for, for whoever goes without them.
    pub(crate) fn flags(&self) -> Vec<&'static str> {
        let devices = &self.devices;
        let all = [
            (self.memory.is_some(), "--memory"),
            (self.memory_reservation.is_some(), "--memory-reservation"),
            (self.memory_swap.is_some(), "--memory-swap"),
            (self.nano_cpus.is_some(), "--cpus"),
            (self.cpu_quota.is_some(), "--cpu-quota"),
            (self.cpu_period.is_some(), "--cpu-period"),
            (self.cpu_shares.is_some(), "--cpu-shares"),
            (self.cpuset_cpus.is_some(), "--cpuset-cpus"),
            (self.cpuset_mems.is_some(), "--cpuset-mems"),
            (self.pids.is_some(), "--pids-limit"),
            (self.blkio_weight.is_some(), "--blkio-weight"),
            (!devices.weights.is_empty(), "--blkio-weight-device"),
            (!devices.read_bps.is_empty(), "--device-read-bps"),
            (!devices.write_bps.is_empty(), "--device-write-bps"),
            (!devices.read_iops.is_empty(), "--device-read-iops"),
            (!devices.write_iops.is_empty(), "--device-write-iops"),
            (!self.hugetlb.is_empty(), "--hugetlb"),
            (!self.conf.is_empty(), "--cgroup-conf"),
        ];
        all.into_iter().filter(|(asked, _)| *asked).map(|(_, flag)| flag).collect()
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

/// The old list with the newer's entries in the place of those of the same name.
fn changed<T: Clone>(old: &[(String, T)], newer: &[(String, T)]) -> Vec<(String, T)> {
    let kept = old.iter().filter(|(name, _)| newer.iter().all(|(other, _)| other != name));
    kept.chain(newer).cloned().collect()
}

/// `/dev/sda:1mb`: a device, and a number that `parse` reads.
///
/// # Errors
/// `Invalid` for what is no absolute path and a number above zero.
pub(crate) fn parse_device(
    flag: &str,
    text: &str,
    parse: impl Fn(&str) -> Result<u64>,
) -> Result<(String, u64)> {
    let invalid = |why: &str| {
        Error::invalid(format!("invalid {flag} {text:?}: {why}")).hint("a device and a number: /dev/sda:1mb")
    };
    let (path, number) = text.rsplit_once(':').ok_or_else(|| invalid("no colon"))?;
    if !path.starts_with('/') || path.contains(['\0', ' ', '\n']) {
        return Err(invalid("the device is an absolute path"));
    }
    match parse(number) {
        Ok(number @ 1..) => Ok((path.to_owned(), number)),
        Ok(0) => Err(invalid("the number is above zero")),
        Err(error) => Err(invalid(&error.to_string())),
    }
}

/// A whole number, such as of operations a second.
///
/// # Errors
/// `Invalid` for everything else.
pub(crate) fn parse_count(text: &str) -> Result<u64> {
    text.parse().map_err(|_| Error::invalid(format!("{text:?} is no number")))
}

/// `2MB=1g`: the size of a page as the kernel writes it, and bytes.
///
/// # Errors
/// `Invalid` for everything else.
pub(crate) fn parse_hugetlb(text: &str) -> Result<(String, u64)> {
    let invalid = || {
        Error::invalid(format!("invalid --hugetlb {text:?}")).hint("a size of pages and an amount: 2MB=64m")
    };
    let (size, bytes) = text.split_once('=').ok_or_else(invalid)?;
    let digits = size.strip_suffix("KB").or(size.strip_suffix("MB")).or(size.strip_suffix("GB"));
    if !digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(invalid());
    }
    Ok((size.to_owned(), parse_bytes(bytes).map_err(|error| error.context("--hugetlb"))?))
}

/// `memory.high=1G`: a file of the control group, and what to write to it.
///
/// # Errors
/// `Invalid` for what is no such pair, and for files that are no limits.
pub(crate) fn parse_conf(text: &str) -> Result<(String, String)> {
    let invalid = |why: &str| {
        Error::invalid(format!("invalid --cgroup-conf {text:?}: {why}"))
            .hint("such as memory.high=1073741824")
    };
    let (key, value) = text.split_once('=').ok_or_else(|| invalid("KEY=VALUE"))?;
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.' || byte == b'_';
    let controller = key.split('.').next().unwrap_or_default();
    if controller.is_empty() || controller == key || !key.bytes().all(good) || key.contains("..") {
        return Err(invalid("the key is the name of a file of the control group"));
    }
    if controller == "cgroup" && !key.starts_with("cgroup.max.") {
        return Err(invalid("that file is no limit"));
    }
    if value.is_empty() || value.len() > 4096 || value.contains(['\0', '\n']) {
        return Err(invalid("the value is one line"));
    }
    Ok((key.to_owned(), value.to_owned()))
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
    fn devices_pages_and_files() {
        let device = |text: &str| parse_device("--device-read-bps", text, parse_bytes);
        assert_eq!(device("/dev/sda:1mb").expect("valid"), ("/dev/sda".to_owned(), 1 << 20));
        for bad in ["/dev/sda", "sda:1", "/dev/sda:0", "/dev/sda:x", "/dev/s a:1"] {
            assert!(device(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_hugetlb("2MB=64m").expect("valid"), ("2MB".to_owned(), 64 << 20));
        for bad in ["2MB", "MB=1", "2=1", "2mb=1", "../2MB=1"] {
            assert!(parse_hugetlb(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_conf("memory.high=max").expect("valid"), ("memory.high".into(), "max".into()));
        for bad in ["memory.high", "memory=1", "../x.y=1", "memory.high=", "cgroup.procs=1", "memory..x=1"] {
            assert!(parse_conf(bad).is_err(), "{bad}");
        }
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
