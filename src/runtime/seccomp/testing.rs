//! An interpreter of compiled filters and a naive reading of profiles, to compare
//! the two.

use super::{
    Action, Applies, Arch, Comparison, Condition, Host, Profile, Rule, X32_BIT, applies, compile, syscalls,
};
use crate::runtime::capabilities::CapSet;
use libc::sock_filter;
use std::collections::HashMap;

pub(in crate::runtime) use super::syscalls::names;

pub(in crate::runtime) const X86_64: Host = Host { arch: Arch::X86_64, kernel: (6, 1) };
pub(in crate::runtime) const AARCH64: Host = Host { arch: Arch::Aarch64, kernel: (6, 1) };

/// A system call as the filter sees it.
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime) struct Call {
    pub(in crate::runtime) audit: u32,
    pub(in crate::runtime) number: u32,
    pub(in crate::runtime) arguments: [u64; 6],
}

impl Call {
    /// `None` where the architecture lacks the call.
    pub(in crate::runtime) fn named(name: &str, arch: Arch, arguments: &[u64]) -> Option<Self> {
        let number = syscalls::number(name, arch)?;
        let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        Some(Self { audit: arch.audit(), number: number | bit, arguments: all })
    }

    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.audit,
            16..64 if offset.is_multiple_of(4) => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
            _ => panic!("load of offset {offset}"),
        }
    }
}

/// What the kernel would do: net/core/filter.c, for the instructions that the compiler uses.
pub(in crate::runtime) fn interpret(program: &[sock_filter], call: &Call) -> u32 {
    let mut accumulator = 0_u32;
    let mut at = 0;
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        let branch = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = call.word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += branch(accumulator == k),
            0x25 => at += branch(accumulator > k),
            0x35 => at += branch(accumulator >= k),
            0x06 => return k,
            _ => panic!("instruction {code:#x}"),
        }
    }
}

/// The same by reading the profile from top to bottom.
struct Reading<'p> {
    profile: &'p Profile,
    host: Host,
    /// By architecture and number, which rules apply.
    rules: HashMap<(u32, u32), Vec<&'p Rule>>,
}

const ARCHES: [Arch; 5] = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm];

impl<'p> Reading<'p> {
    fn new(profile: &'p Profile, capabilities: CapSet, host: Host) -> Self {
        let mut rules: HashMap<_, Vec<&Rule>> = HashMap::new();
        for rule in profile.rules.iter().filter(|rule| applies(&rule.only, capabilities, host)) {
            for (name, arch) in rule.names.split(' ').flat_map(|name| ARCHES.map(|arch| (name, arch))) {
                if let Some(call) = Call::named(name, arch, &[]) {
                    rules.entry((call.audit, call.number)).or_default().push(rule);
                }
            }
        }
        Self { profile, host, rules }
    }

    fn evaluate(&self, call: &Call) -> u32 {
        let x32 = call.audit == Arch::X86_64.audit() && call.number & X32_BIT != 0;
        let default = self.profile.default;
        let arch = ARCHES
            .into_iter()
            .filter(|arch| *arch == self.host.arch || self.profile.architectures.contains(arch))
            .find(|arch| {
                arch.runs_on(self.host.arch) && arch.audit() == call.audit && (*arch == Arch::X32) == x32
            });
        let Some(arch) = arch else {
            let skipped = self.host.arch.audit() == call.audit && call.number == u32::MAX;
            return if skipped { default.for_unknown() } else { Action::KillProcess }.value();
        };
        let rules = self.rules.get(&(call.audit, call.number)).into_iter().flatten();
        if let Some(rule) = rules.into_iter().find(|rule| holds(&rule.conditions, arch, call)) {
            return rule.action.value();
        }
        let number = if x32 { call.number & !X32_BIT } else { call.number };
        if number <= syscalls::NEWEST { default } else { default.for_unknown() }.value()
    }
}

fn holds(conditions: &[Condition], arch: Arch, call: &Call) -> bool {
    let limit = if matches!(arch, Arch::X86 | Arch::Arm) { u64::from(u32::MAX) } else { u64::MAX };
    conditions.iter().all(|condition| {
        let argument = call.arguments[usize::from(condition.argument)] & limit;
        let value = condition.value & limit;
        match condition.comparison {
            Comparison::Equal => argument == value,
            Comparison::NotEqual => argument != value,
            Comparison::Less => argument < value,
            Comparison::LessOrEqual => argument <= value,
            Comparison::GreaterOrEqual => argument >= value,
            Comparison::Greater => argument > value,
            Comparison::Masked(mask) => argument & mask & limit == value,
        }
    })
}

/// Compares both over every number and arguments around each value in the profile.
pub(in crate::runtime) fn assert_agrees(profile: &Profile, capabilities: CapSet, host: Host) {
    let program = compile(profile, capabilities, host).unwrap();
    assert_well_formed(&program);
    let reading = Reading::new(profile, capabilities, host);
    let mut values = vec![0, 1, u64::MAX, 1 << 32];
    for condition in profile.rules.iter().flat_map(|rule| rule.conditions.iter()) {
        for value in [condition.value, condition.value ^ (1 << 32), condition.value << 32] {
            values.extend([value.wrapping_sub(1), value, value.wrapping_add(1), value | 1 << 63]);
        }
    }
    values.sort_unstable();
    values.dedup();
    let numbers = (0..600).chain([0xf_0000, 0xf_0005, 0xf_0007, X32_BIT - 1]);
    let numbers: Vec<u32> =
        numbers.chain((0..600).map(|number| number | X32_BIT)).chain([u32::MAX - 1, u32::MAX]).collect();
    for audit in [0xc000_003e, 0x4000_0003, 0xc000_00b7, 0x4000_0028, 0, u32::MAX] {
        for number in &numbers {
            for (index, value) in values.iter().enumerate() {
                let other = values[(index * 7 + *number as usize) % values.len()];
                let call =
                    Call { audit, number: *number, arguments: [*value, other, other, *value, *value, other] };
                let (expected, got) = (reading.evaluate(&call), interpret(&program, &call));
                assert_eq!(expected, got, "{call:x?}");
            }
        }
    }
}

/// What the kernel's checker demands: known instructions, jumps inside, a return at the end.
fn assert_well_formed(program: &[sock_filter]) {
    assert_eq!(program.last().map(|last| last.code), Some(0x06));
    for (at, instruction) in program.iter().enumerate() {
        let farthest = match instruction.code {
            0x05 => instruction.k as usize,
            0x15 | 0x25 | 0x35 => usize::from(instruction.jt.max(instruction.jf)),
            _ => 0,
        };
        assert!(at + farthest + 1 < program.len() || instruction.code == 0x06, "jump at {at}");
    }
}

#[test]
fn compiled_and_read_profiles_agree() {
    let text = |default: &str| {
        format!(
            r#"{{"defaultAction":"{default}","defaultErrnoRet":1,"architectures":["SCMP_ARCH_X86","SCMP_ARCH_ARM"],"syscalls":[
            {{"names":["read","write","openat","nonsense"],"action":"SCMP_ACT_ALLOW"}},
            {{"names":["clone"],"action":"SCMP_ACT_TRAP","args":[{{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}}]}},
            {{"names":["ioctl"],"action":"SCMP_ACT_ERRNO","args":[{{"index":1,"value":21522,"op":"SCMP_CMP_EQ"}},{{"index":2,"value":4294967299,"op":"SCMP_CMP_GT"}}]}},
            {{"names":["ioctl","socket"],"action":"SCMP_ACT_LOG","args":[{{"index":1,"value":8589934593,"op":"SCMP_CMP_GE"}}]}},
            {{"names":["socket"],"action":"SCMP_ACT_TRACE","args":[{{"index":0,"value":38,"op":"SCMP_CMP_LT"}},{{"index":0,"value":40,"op":"SCMP_CMP_LE"}}]}},
            {{"names":["socket"],"action":"SCMP_ACT_KILL","args":[{{"index":5,"value":4294967295,"op":"SCMP_CMP_NE"}}]}},
            {{"names":["kill"],"action":"SCMP_ACT_KILL_PROCESS","includes":{{"caps":["CAP_KILL"]}}}},
            {{"names":["tkill"],"action":"SCMP_ACT_LOG","includes":{{"minKernel":"6.1","arches":["amd64"]}}}},
            {{"names":["tgkill"],"action":"SCMP_ACT_LOG","excludes":{{"minKernel":"6.1"}}}}
            ]}}"#
        )
    };
    for default in ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"] {
        let profile = Profile::parse(&text(default)).unwrap();
        assert_agrees(&profile, CapSet::ALL, X86_64);
        assert_agrees(&profile, CapSet::EMPTY, AARCH64);
    }
}

/// Long chains push the ends of the search tree out of a conditional jump's reach.
#[test]
fn far_jumps_get_trampolines() {
    let names: Vec<String> = syscalls::names().step_by(5).collect();
    let conditions = |count: u64| -> Vec<Condition> {
        (0..count)
            .map(|index| Condition {
                argument: index as u8 % 6,
                comparison: [Comparison::Greater, Comparison::Masked(0xff_0000_00ff), Comparison::NotEqual]
                    [index as usize % 3],
                value: index << 30 | index,
            })
            .collect()
    };
    let rules: Vec<Rule> = names
        .iter()
        .enumerate()
        .map(|(index, name)| Rule {
            names: name.clone().into(),
            action: Action::Errno(index as u16),
            conditions: conditions(index as u64 % 6 + 1).into(),
            only: Applies::ALWAYS,
        })
        .collect();
    let profile = Profile {
        default: Action::Allow,
        architectures: vec![Arch::X86].into(),
        rules: rules.into(),
        flags: 0,
    };
    let program = compile(&profile, CapSet::EMPTY, X86_64).unwrap();
    assert!(program.len() > 1500 && program.iter().any(|instruction| instruction.code == 0x05));
    assert_agrees(&profile, CapSet::EMPTY, X86_64);
}

#[test]
fn a_program_too_long_for_the_kernel_is_an_error() {
    let mut text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":["#.to_owned();
    for value in 0..3000 {
        text += &format!(
            r#"{{"name":"read","action":"SCMP_ACT_LOG","args":[{{"index":0,"value":{value},"op":"SCMP_CMP_EQ"}}]}},"#
        );
    }
    let text = text.trim_end_matches(',').to_owned() + "]}";
    assert!(compile(&Profile::parse(&text).unwrap(), CapSet::EMPTY, X86_64).is_err());
}
