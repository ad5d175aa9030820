//! Capabilities: which ones a container gets, and the steps that take the others away.
//!
//! The sets are podman's in effect (read from its `/proc/self/status`). For root
//! permitted, effective and bounding are the container's set, inheritable and
//! ambient are empty (CVE-2022-29162 and its kin). For another user all but
//! bounding are empty; only what `--cap-add` names is handed on by way of
//! the ambient set, which the kernel lets be no larger than the inheritable one.

use crate::error::{Context, Error, Result};
use rustix::io::Errno;
use rustix::thread::{self, CapabilitySet, CapabilitySets};
use std::fmt;

/// The names without `CAP_`, by number: include/uapi/linux/capability.h.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The names, without `CAP_`.
pub(crate) fn names() -> &'static [&'static str] {
    &NAMES
}

/// A set of capabilities: bit n is capability number n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CapSet(pub(crate) u64);

impl CapSet {
    pub(crate) const EMPTY: Self = Self(0);
    /// All that this program knows a name for.
    pub(crate) const ALL: Self = Self((1 << NAMES.len()) - 1);
    pub(crate) const DAC_READ_SEARCH: Self = Self(1 << 2);
    pub(crate) const SYS_MODULE: Self = Self(1 << 16);
    pub(crate) const SYS_RAWIO: Self = Self(1 << 17);
    pub(crate) const SYS_CHROOT: Self = Self(1 << 18);
    pub(crate) const SYS_PTRACE: Self = Self(1 << 19);
    pub(crate) const SYS_PACCT: Self = Self(1 << 20);
    pub(crate) const SYS_ADMIN: Self = Self(1 << 21);
    pub(crate) const SYS_TIME: Self = Self(1 << 25);
    pub(crate) const SYS_TTY_CONFIG: Self = Self(1 << 26);
    pub(crate) const AUDIT_WRITE: Self = Self(1 << 29);
    /// What a container has where nothing else is asked for, as podman 4 and
    /// later: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP
    /// NET_BIND_SERVICE SYS_CHROOT SETFCAP.
    pub(crate) const DEFAULT: Self = Self(0x8004_05fb);

    /// The one capability called `name`: any case, with or without `CAP_`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let short = match name.get(..4) {
            Some(prefix) if prefix.eq_ignore_ascii_case("CAP_") => &name[4..],
            _ => name,
        };
        NAMES.iter().position(|known| known.eq_ignore_ascii_case(short)).map(|number| Self(1 << number))
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    #[must_use]
    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    #[must_use]
    pub(crate) fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The numbers in the set, ascending.
    pub(crate) fn numbers(self) -> impl Iterator<Item = u32> {
        (0..u64::BITS).filter(move |number| self.0 & (1 << number) != 0)
    }

    /// `CAP_CHOWN`, …, for `inspect` and messages.
    pub(crate) fn names(self) -> Vec<String> {
        let name = |number: u32| match NAMES.get(number as usize) {
            Some(name) => format!("CAP_{name}"),
            None => format!("CAP_{number}"),
        };
        self.numbers().map(name).collect()
    }
}

impl fmt::Display for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(" "))
    }
}

/// What was asked for: `--cap-add`, `--cap-drop`, `--privileged`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CapRequest<'a> {
    pub(crate) add: &'a [String],
    pub(crate) drop: &'a [String],
    pub(crate) privileged: bool,
}

/// The sets of a container, before its user is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContainerCaps {
    /// The bounding set; root's permitted and effective set too.
    pub(crate) bounding: CapSet,
    /// Of these, what `--cap-add` names: what another user than root gets.
    pub(crate) added: CapSet,
}

/// The five sets of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessCaps {
    pub(crate) bounding: CapSet,
    /// Permitted and effective.
    pub(crate) permitted: CapSet,
    /// Inheritable and ambient.
    pub(crate) ambient: CapSet,
}

impl ContainerCaps {
    /// Docker's rules: `ALL` may be added or dropped, and the other list then
    /// names the exceptions; a name in both lists is dropped. `available` is what
    /// can be had here at all, see [`available`].
    ///
    /// # Errors
    /// `Invalid` for an unknown name, or one asked for by name that cannot be had.
    pub(crate) fn compute(request: CapRequest<'_>, available: CapSet) -> Result<Self> {
        let (adds_all, named_adds) = parse_list(request.add, "--cap-add")?;
        let (drops_all, named_drops) = parse_list(request.drop, "--cap-drop")?;
        let missing = named_adds.without(available).without(named_drops);
        if missing != CapSet::EMPTY {
            return Err(Error::invalid(format!("{missing} cannot be had here")).hint(
                "the bounding set of this process (CapBnd in /proc/self/status) lacks it; outside of this sandbox it can be had",
            ));
        }
        let base = match (request.privileged || adds_all, drops_all) {
            (true, false) => available,
            (_, true) => CapSet::EMPTY,
            (false, false) => CapSet::DEFAULT,
        };
        let bounding = base.with(named_adds).without(named_drops).common(available);
        let added = if adds_all && !drops_all { bounding } else { named_adds.common(bounding) };
        Ok(Self { bounding, added })
    }

    /// The sets for a process of `uid` (as the container sees it).
    pub(crate) fn for_user(self, uid: u32) -> ProcessCaps {
        if uid == 0 {
            ProcessCaps { bounding: self.bounding, permitted: self.bounding, ambient: CapSet::EMPTY }
        } else {
            ProcessCaps { bounding: self.bounding, permitted: self.added, ambient: self.added }
        }
    }
}

/// Whether `ALL` is in the list, and the set of the others.
pub(crate) fn parse_list(names: &[String], flag: &str) -> Result<(bool, CapSet)> {
    let mut all = false;
    let mut set = CapSet::EMPTY;
    for name in names {
        if name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL") {
            all = true;
            continue;
        }
        let one = CapSet::named(name).ok_or_else(|| {
            Error::invalid(format!("{flag}: unknown capability {name:?}"))
                .hint("capabilities(7) lists them; with or without CAP_, for example NET_ADMIN")
        })?;
        set = set.with(one);
    }
    Ok((all, set))
}

/// The bounding set of this process: what a container can be given at most.
///
/// To be asked inside the container's user namespace: the kernel makes the set
/// full again for whoever enters one, so what the host took away does not count there
/// (user_namespaces(7)). 41 calls of prctl(2), below 10 µs.
pub(crate) fn available() -> CapSet {
    (0..NAMES.len() as u32)
        .filter(|number| is_bounding(*number))
        .fold(CapSet::EMPTY, |set, number| set.with(CapSet(1 << number)))
}

/// False too for a number that this kernel does not know.
fn is_bounding(number: u32) -> bool {
    thread::capability_is_in_bounding_set(CapabilitySet::from_bits_retain(1 << number)).unwrap_or(false)
}

/// Step 1, while the process still has CAP_SETPCAP: takes everything but `keep`
/// out of the bounding set, those included that this program has no name for.
pub(crate) fn limit_bounding(keep: CapSet) -> Result<()> {
    for number in CapSet(!keep.0).numbers() {
        match thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // Without CAP_SETPCAP, but there is nothing to take away.
            Err(Errno::PERM) if !is_bounding(number) => {}
            // Beyond the last one that this kernel knows.
            Err(Errno::INVAL) if number > 0 => break,
            Err(errno) => {
                return Err(errno).context(|| format!("drop {} from the bounding set", CapSet(1 << number)));
            }
        }
    }
    Ok(())
}

/// Step 3, after the ids have changed: the sets that the program starts with.
pub(crate) fn set_final(caps: ProcessCaps) -> Result<()> {
    let set = |caps: CapSet| CapabilitySet::from_bits_retain(caps.0);
    thread::clear_ambient_capability_set().context(|| "clear the ambient capabilities")?;
    thread::set_capabilities(
        None,
        CapabilitySets {
            effective: set(caps.permitted),
            permitted: set(caps.permitted),
            inheritable: set(caps.ambient),
        },
    )
    .context(|| "set the capabilities")?;
    for number in caps.ambient.numbers() {
        thread::configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << number), true)
            .context(|| format!("raise {} in the ambient set", CapSet(1 << number)))?;
    }
    Ok(())
}

/// All steps at once, for a process whose ids do not change any more.
#[cfg(test)]
pub(crate) fn apply(caps: ProcessCaps) -> Result<()> {
    limit_bounding(caps.bounding)?;
    set_final(caps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compute(add: &[&str], drop: &[&str], privileged: bool) -> Result<ContainerCaps> {
        let own = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        ContainerCaps::compute(CapRequest { add: &own(add), drop: &own(drop), privileged }, CapSet::ALL)
    }

    #[test]
    fn the_default_set_is_podmans() {
        let names = [
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "NET_BIND_SERVICE",
            "SETFCAP",
            "SETGID",
            "SETPCAP",
            "SETUID",
            "SYS_CHROOT",
        ];
        let set = names.iter().fold(CapSet::EMPTY, |set, name| set.with(CapSet::named(name).unwrap()));
        assert_eq!(set, CapSet::DEFAULT);
        assert_eq!(CapSet::ALL.0, 0x1ff_ffff_ffff);
        for (set, name) in [
            (CapSet::DAC_READ_SEARCH, "dac_read_search"),
            (CapSet::SYS_MODULE, "CAP_SYS_MODULE"),
            (CapSet::SYS_RAWIO, "sys_rawio"),
            (CapSet::SYS_CHROOT, "Cap_Sys_Chroot"),
            (CapSet::SYS_PTRACE, "SYS_PTRACE"),
            (CapSet::SYS_PACCT, "SYS_PACCT"),
            (CapSet::SYS_ADMIN, "SYS_ADMIN"),
            (CapSet::SYS_TIME, "SYS_TIME"),
            (CapSet::SYS_TTY_CONFIG, "SYS_TTY_CONFIG"),
            (CapSet::AUDIT_WRITE, "AUDIT_WRITE"),
        ] {
            assert_eq!(CapSet::named(name), Some(set), "{name}");
        }
    }

    #[test]
    fn adding_and_dropping_follow_docker() {
        let admin = CapSet::SYS_ADMIN;
        let raw = CapSet::named("NET_RAW").unwrap();
        for (add, drop, privileged, bounding, added) in [
            (&[][..], &[][..], false, CapSet::DEFAULT, CapSet::EMPTY),
            (&["sys_admin"], &[], false, CapSet::DEFAULT.with(admin), admin),
            (&[], &["CAP_SYS_CHROOT"], false, CapSet::DEFAULT.without(CapSet::SYS_CHROOT), CapSet::EMPTY),
            (&["NET_RAW"], &["ALL"], false, raw, raw),
            (&["ALL"], &["SYS_ADMIN"], false, CapSet::ALL.without(admin), CapSet::ALL.without(admin)),
            (&["SYS_ADMIN"], &["SYS_ADMIN"], false, CapSet::DEFAULT, CapSet::EMPTY),
            (&[], &["all"], false, CapSet::EMPTY, CapSet::EMPTY),
            (&["ALL"], &["ALL"], false, CapSet::EMPTY, CapSet::EMPTY),
            (&[], &[], true, CapSet::ALL, CapSet::EMPTY),
            (&[], &["SYS_ADMIN"], true, CapSet::ALL.without(admin), CapSet::EMPTY),
        ] {
            let caps = compute(add, drop, privileged).unwrap();
            assert_eq!(caps, ContainerCaps { bounding, added }, "{add:?} {drop:?} {privileged}");
        }
        for bad in ["", "NOPE", "CAP_", "CAP_CAP_CHOWN", "CHOWN ", "CHOWN,KILL", "41", "cäp_chown"] {
            assert!(compute(&[bad], &[], false).is_err(), "{bad:?}");
            assert!(compute(&[], &[bad], true).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_cannot_be_had_is_refused_by_name_and_left_out_of_all() {
        let some = CapSet::DEFAULT.without(CapSet::SYS_CHROOT);
        let own = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let request = |add: &[&str]| {
            ContainerCaps::compute(CapRequest { add: &own(add), ..CapRequest::default() }, some)
        };
        assert_eq!(request(&[]).unwrap().bounding, some);
        assert_eq!(request(&["ALL"]).unwrap().bounding, some);
        let error = request(&["SYS_CHROOT"]).unwrap_err();
        assert!(error.to_string().contains("CAP_SYS_CHROOT"), "{error}");
    }

    /// CVE-2022-29162, 2022-27649, 2022-24769: inheritable stays empty unless asked for.
    #[test]
    fn another_user_gets_only_what_was_added() {
        let caps = compute(&["NET_RAW"], &[], false).unwrap();
        let raw = CapSet::named("NET_RAW").unwrap();
        assert_eq!(caps.for_user(0).permitted, CapSet::DEFAULT.with(raw));
        assert_eq!(caps.for_user(0).ambient, CapSet::EMPTY);
        assert_eq!(caps.for_user(1000).permitted, raw);
        assert_eq!(caps.for_user(1000).ambient, raw);
        let caps = compute(&[], &[], true).unwrap();
        assert_eq!(caps.for_user(1000).permitted, CapSet::EMPTY);
        assert_eq!(caps.for_user(1000).ambient, CapSet::EMPTY);
    }

    /// Sets belong to a thread, so a thread can lose its own.
    #[test]
    fn the_steps_leave_what_status_then_shows() {
        let status = std::thread::spawn(|| {
            let may_limit = thread::capabilities(None).unwrap().effective.contains(CapabilitySet::SETPCAP);
            let bounding = if may_limit { CapSet::DEFAULT.common(available()) } else { available() };
            let permitted = if may_limit { bounding } else { CapSet::EMPTY };
            apply(ProcessCaps { bounding, permitted, ambient: CapSet::EMPTY }).unwrap();
            assert_eq!(available(), bounding);
            (permitted, bounding, std::fs::read_to_string("/proc/thread-self/status").unwrap())
        });
        let (permitted, bounding, status) = status.join().unwrap();
        for (field, expected) in [
            ("CapInh:", CapSet::EMPTY),
            ("CapPrm:", permitted),
            ("CapEff:", permitted),
            ("CapBnd:", bounding),
            ("CapAmb:", CapSet::EMPTY),
        ] {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
            assert_eq!(line.trim(), format!("{:016x}", expected.0), "{field}");
        }
    }

    #[test]
    fn the_bounding_set_can_be_read() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
        let bits = u64::from_str_radix(line.trim(), 16).unwrap();
        assert_eq!(available().0, bits & CapSet::ALL.0);
    }
}
