//! Limits of a container's resources: flags of `run`, `create` and `update`.

use crate::error::{Error, Result};
use crate::types::limits::{
    DeviceLimits, Limits, parse_conf, parse_count, parse_cpus, parse_device, parse_hugetlb, parse_memory,
    parse_or_unlimited, parse_set,
};
use crate::types::size::parse_bytes;
use clap::Args;

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ResourceOptions {
    /// Set the share of block I/O (10 to 1000)
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<String>,
    /// Set the share of block I/O of one device (10 to 1000)
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    blkio_weight_device: Vec<String>,
    /// Limit the bytes a second read from a device
    #[arg(long, value_name = "DEVICE:BYTES")]
    device_read_bps: Vec<String>,
    /// Limit the reads a second from a device
    #[arg(long, value_name = "DEVICE:NUMBER")]
    device_read_iops: Vec<String>,
    /// Limit the bytes a second written to a device
    #[arg(long, value_name = "DEVICE:BYTES")]
    device_write_bps: Vec<String>,
    /// Limit the writes a second to a device
    #[arg(long, value_name = "DEVICE:NUMBER")]
    device_write_iops: Vec<String>,
    /// Write to a file of the control group
    #[arg(long, value_name = "KEY=VALUE")]
    cgroup_conf: Vec<String>,
    /// Limit huge pages of a size, such as 2MB=64m
    #[arg(long, value_name = "SIZE=BYTES")]
    hugetlb: Vec<String>,
    /// Set the period of --cpu-quota, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<String>,
    /// Limit processor time in each period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_quota: Option<String>,
    /// Set the share of processor time (1024 is usual)
    #[arg(long, short = 'c', value_name = "SHARES")]
    cpu_shares: Option<String>,
    /// Limit the number of processors, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// Run on these processors, such as 0-3,5
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Use memory of these nodes
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Limit memory
    #[arg(long, short = 'm', value_name = "BYTES")]
    memory: Option<String>,
    /// Leave this much memory alone while others have more than theirs
    #[arg(long, value_name = "BYTES")]
    memory_reservation: Option<String>,
    /// Limit memory and swap together (-1 for any amount of swap)
    #[arg(long, value_name = "BYTES")]
    memory_swap: Option<String>,
    /// Limit the number of processes and threads (-1 for any number)
    #[arg(long, value_name = "NUMBER")]
    pids_limit: Option<String>,
}

impl ResourceOptions {
    /// # Errors
    /// `Invalid`, naming the flag.
    pub(crate) fn limits(&self) -> Result<Limits> {
        let memory = |flag: &str, text: &Option<String>| match text.as_deref() {
            None => Ok(None),
            Some("-1") => Ok(Some(u64::MAX)),
            Some(text) => parse_memory(flag, text),
        };
        let number = |flag: &str, text: &Option<String>| -> Result<Option<u64>> {
            let parse = |text: &String| {
                text.parse::<u64>()
                    .map_err(|_| Error::invalid(format!("invalid {flag} {text:?}")).hint("a number"))
            };
            Ok(text.as_ref().map(parse).transpose()?.filter(|number| *number > 0))
        };
        let set = |flag: &str, text: &Option<String>| {
            text.as_deref().map_or(Ok(None), |text| parse_set(flag, text))
        };
        let quota = |text: &Option<String>| {
            let quota = text.as_deref().map_or(Ok(None), |text| parse_or_unlimited("--cpu-quota", text))?;
            Ok::<_, Error>(quota.filter(|quota| *quota != u64::MAX))
        };
        let limits = Limits {
            memory: memory("--memory", &self.memory)?.filter(|bytes| *bytes != u64::MAX),
            memory_reservation: memory("--memory-reservation", &self.memory_reservation)?,
            memory_swap: memory("--memory-swap", &self.memory_swap)?,
            nano_cpus: self.cpus.as_deref().map_or(Ok(None), parse_cpus)?,
            cpu_quota: quota(&self.cpu_quota)?,
            cpu_period: number("--cpu-period", &self.cpu_period)?,
            cpu_shares: number("--cpu-shares", &self.cpu_shares)?,
            cpuset_cpus: set("--cpuset-cpus", &self.cpuset_cpus)?,
            cpuset_mems: set("--cpuset-mems", &self.cpuset_mems)?,
            pids: self
                .pids_limit
                .as_deref()
                .map_or(Ok(None), |text| parse_or_unlimited("--pids-limit", text))?,
            blkio_weight: number("--blkio-weight", &self.blkio_weight)?,
            devices: self.devices()?,
            hugetlb: self.hugetlb.iter().map(|text| parse_hugetlb(text)).collect::<Result<_>>()?,
            conf: self.cgroup_conf.iter().map(|text| parse_conf(text)).collect::<Result<_>>()?,
        };
        Ok(limits)
    }

    fn devices(&self) -> Result<DeviceLimits> {
        let list = |flag: &str, texts: &[String], parse: fn(&str) -> Result<u64>| {
            texts.iter().map(|text| parse_device(flag, text, parse)).collect::<Result<Vec<_>>>()
        };
        let weight = |text: &str| match parse_count(text)? {
            number @ 10..=1000 => Ok(number),
            _ => Err(Error::invalid("the range of a weight is from 10 to 1000")),
        };
        Ok(DeviceLimits {
            weights: list("--blkio-weight-device", &self.blkio_weight_device, weight)?,
            read_bps: list("--device-read-bps", &self.device_read_bps, parse_bytes)?,
            write_bps: list("--device-write-bps", &self.device_write_bps, parse_bytes)?,
            read_iops: list("--device-read-iops", &self.device_read_iops, parse_count)?,
            write_iops: list("--device-write-iops", &self.device_write_iops, parse_count)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_limit_and_nonsense_is_refused() {
        let memory =
            |text: &str| ResourceOptions { memory: Some(text.into()), ..ResourceOptions::default() }.limits();
        assert!(memory("0").expect("valid").is_empty());
        assert_eq!(memory("64m").expect("valid").memory, Some(64 << 20));
        assert!(memory("lots").is_err());
        let pids = ResourceOptions { pids_limit: Some("-1".into()), ..ResourceOptions::default() };
        assert_eq!(pids.limits().expect("valid").pids, Some(u64::MAX));
    }
}
