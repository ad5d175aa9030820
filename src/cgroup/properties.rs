//! Limits as properties of a unit: systemd.resource-control(5), and for their
//! types on the bus org.freedesktop.systemd1(5).

use super::limits::{io_weight, swap_bytes, weight};
use super::message::Body;
use crate::types::limits::{DeviceLimits, Limits};

/// A property of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Property {
    pub(super) name: &'static str,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Texts(Vec<String>),
    Flag(bool),
    Signal(i32),
    Number(u64),
    Numbers(Vec<u32>),
    Bytes(Vec<u8>),
    /// A device's path and its number.
    Devices(Vec<(String, u64)>),
}

impl Property {
    pub(super) fn new(name: &'static str, value: Value) -> Self {
        Self { name, value }
    }

    /// The name and a variant.
    pub(super) fn write(&self, body: &mut Body) {
        body.string(self.name);
        match &self.value {
            Value::Text(text) => {
                body.signature("s");
                body.string(text);
            }
            Value::Texts(texts) => {
                body.signature("as");
                body.array(4, |array| texts.iter().for_each(|text| array.string(text)));
            }
            Value::Flag(flag) => {
                body.signature("b");
                body.u32(u32::from(*flag));
            }
            Value::Signal(number) => {
                body.signature("i");
                body.u32(number.cast_unsigned());
            }
            Value::Number(number) => {
                body.signature("t");
                body.u64(*number);
            }
            Value::Numbers(numbers) => {
                body.signature("au");
                body.array(4, |array| numbers.iter().for_each(|number| array.u32(*number)));
            }
            Value::Bytes(bytes) => {
                body.signature("ay");
                body.array(1, |array| bytes.iter().for_each(|byte| array.byte(*byte)));
            }
            Value::Devices(devices) => {
                body.signature("a(st)");
                body.array(8, |array| {
                    for (path, number) in devices {
                        array.structure(|item| {
                            item.string(path);
                            item.u64(*number);
                        });
                    }
                });
            }
        }
    }
}

/// What to set for these limits.
pub(super) fn properties(limits: &Limits) -> Vec<Property> {
    let mut list = Vec::new();
    let mut number = |name, value: Option<u64>| {
        list.extend(value.map(|value| Property::new(name, Value::Number(value))));
    };
    number("MemoryMax", limits.memory);
    number("MemoryLow", limits.memory_reservation);
    number("MemorySwapMax", swap_bytes(limits));
    number("CPUWeight", limits.cpu_shares.map(weight));
    number("CPUQuotaPerSecUSec", per_second(limits));
    number("CPUQuotaPeriodUSec", limits.cpu_period);
    number("TasksMax", limits.pids);
    number("IOWeight", limits.blkio_weight.map(io_weight));
    let mut set = |name, text: Option<&String>| {
        list.extend(text.map(|text| Property::new(name, Value::Bytes(bits(text)))));
    };
    set("AllowedCPUs", limits.cpuset_cpus.as_ref());
    set("AllowedMemoryNodes", limits.cpuset_mems.as_ref());
    list.extend(devices(&limits.devices));
    list
}

fn devices(limits: &DeviceLimits) -> Vec<Property> {
    let weights = limits.weights.iter().map(|(path, weight)| (path.clone(), io_weight(*weight))).collect();
    let lists = [
        ("IODeviceWeight", weights),
        ("IOReadBandwidthMax", limits.read_bps.clone()),
        ("IOWriteBandwidthMax", limits.write_bps.clone()),
        ("IOReadIOPSMax", limits.read_iops.clone()),
        ("IOWriteIOPSMax", limits.write_iops.clone()),
    ];
    let filled = lists.into_iter().filter(|(_, list)| !list.is_empty());
    filled.map(|(name, list)| Property::new(name, Value::Devices(list))).collect()
}

/// Microseconds of processor time in each second.
fn per_second(limits: &Limits) -> Option<u64> {
    let quota = |quota: u64| {
        let period = limits.cpu_period.unwrap_or(super::limits::PERIOD).max(1);
        quota.saturating_mul(1_000_000) / period
    };
    limits.nano_cpus.map(|nano| (nano / 1_000).max(1_000)).or_else(|| limits.cpu_quota.map(quota))
}

/// A list such as `0-3,5` as bits, the lowest first.
fn bits(text: &str) -> Vec<u8> {
    let mut bits = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (Ok(from), Ok(to)) = (from.parse::<usize>(), to.parse::<usize>()) else { continue };
        for bit in from..=to {
            if bits.len() <= bit / 8 {
                bits.resize(bit / 8 + 1, 0u8);
            }
            bits[bit / 8] |= 1 << (bit % 8);
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_properties() {
        let limits = Limits {
            memory: Some(100),
            memory_swap: Some(150),
            nano_cpus: Some(500_000_000),
            pids: Some(u64::MAX),
            cpuset_cpus: Some("0-1,9".into()),
            devices: DeviceLimits { read_bps: vec![("/dev/vda".into(), 7)], ..DeviceLimits::default() },
            ..Limits::default()
        };
        let expected = [
            ("MemoryMax", Value::Number(100)),
            ("MemorySwapMax", Value::Number(50)),
            ("CPUQuotaPerSecUSec", Value::Number(500_000)),
            ("TasksMax", Value::Number(u64::MAX)),
            ("AllowedCPUs", Value::Bytes(vec![3, 2])),
            ("IOReadBandwidthMax", Value::Devices(vec![("/dev/vda".into(), 7)])),
        ];
        assert_eq!(properties(&limits), expected.map(|(name, value)| Property::new(name, value)));
        assert!(properties(&Limits::default()).is_empty());
        let limits = Limits { cpu_quota: Some(5000), cpu_period: Some(10_000), ..Limits::default() };
        assert_eq!(properties(&limits)[0], Property::new("CPUQuotaPerSecUSec", Value::Number(500_000)));
    }
}
