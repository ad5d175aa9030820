//! Seccomp: compiles a profile to the filter that the kernel runs before each
//! system call of a container.
//!
//! Built afresh at every start (below 0.1 ms), by init or for it. The program is one
//! section for each architecture that may make system calls, each a binary search by
//! number down to ranges with the same answer; calls whose arguments count end in a
//! chain of comparisons. An architecture without a section is killed: a call
//! made in its name would be judged by the wrong table.

mod bpf;
mod profile;
mod syscalls;
#[cfg(test)]
pub(in crate::runtime) mod testing;

pub(crate) use profile::{Applies, Comparison, Condition, Profile, Rule};

use crate::error::{Context, Error, Kind, Result, Trouble};
use crate::runtime::capabilities::CapSet;
use crate::sys::seccomp::{MAX_INSTRUCTIONS, set_filter};
use bpf::{Assembler, Label, OFFSET_ARCH, OFFSET_NUMBER, Test, Width};
use libc::sock_filter;

/// MAX_ERRNO of include/linux/err.h.
const MAX_ERRNO: u16 = 4095;

/// Marks the numbers of x32: __X32_SYSCALL_BIT of arch/x86/include/uapi/asm/unistd.h.
const X32_BIT: u32 = 0x4000_0000;

/// What happens to a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Allow,
    /// It fails with this errno.
    Errno(u16),
    /// It is done and noted in the kernel's log.
    Log,
    /// A tracer decides, and is told this number; ENOSYS without one.
    Trace(u16),
    /// SIGSYS.
    Trap,
    KillThread,
    KillProcess,
}

impl Action {
    /// What the filter returns: SECCOMP_RET_*.
    fn value(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
            Self::Log => libc::SECCOMP_RET_LOG,
            Self::Trace(number) => libc::SECCOMP_RET_TRACE | u32::from(number),
            Self::Trap => libc::SECCOMP_RET_TRAP,
            Self::KillThread => libc::SECCOMP_RET_KILL_THREAD,
            Self::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }

    /// What becomes of calls newer than this program: a profile that lists what may be
    /// done cannot have meant them, and ENOSYS lets libraries fall back to what they
    /// used before, where EPERM would make them give up.
    fn for_unknown(self) -> Self {
        match self {
            Self::Allow | Self::Log | Self::Trace(_) => self,
            Self::Errno(_) | Self::Trap | Self::KillThread | Self::KillProcess => {
                Self::Errno(libc::ENOSYS as u16)
            }
        }
    }
}

/// A convention for system calls, with its own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arch {
    X86_64,
    /// 32 bits, by `int 0x80`.
    X86,
    /// 32-bit pointers in 64-bit mode; seccomp sees X86_64 and a bit in the number.
    X32,
    Aarch64,
    Arm,
}

impl Arch {
    /// This machine's; `None` where there is no table for it.
    pub(crate) const fn native() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else {
            None
        }
    }

    /// From Go's names, which docker's conditions use.
    fn of_go(name: &str) -> Option<Self> {
        match name {
            "amd64" => Some(Self::X86_64),
            "x86" | "386" => Some(Self::X86),
            "x32" => Some(Self::X32),
            "arm64" => Some(Self::Aarch64),
            "arm" => Some(Self::Arm),
            _ => None,
        }
    }

    fn of_libseccomp(name: &str) -> Option<Self> {
        match name {
            "SCMP_ARCH_X86_64" => Some(Self::X86_64),
            "SCMP_ARCH_X86" => Some(Self::X86),
            "SCMP_ARCH_X32" => Some(Self::X32),
            "SCMP_ARCH_AARCH64" => Some(Self::Aarch64),
            "SCMP_ARCH_ARM" => Some(Self::Arm),
            _ => None,
        }
    }

    /// `seccomp_data.arch`: AUDIT_ARCH_* of include/uapi/linux/audit.h.
    fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    fn width(self) -> Width {
        match self {
            Self::X86_64 | Self::X32 | Self::Aarch64 => Width::Bits64,
            Self::X86 | Self::Arm => Width::Bits32,
        }
    }

    /// Whether programs of `self` run on a machine of `native`.
    fn runs_on(self, native: Self) -> bool {
        match native {
            Self::X86_64 => matches!(self, Self::X86_64 | Self::X86 | Self::X32),
            Self::Aarch64 => matches!(self, Self::Aarch64 | Self::Arm),
            Self::X86 | Self::X32 | Self::Arm => self == native,
        }
    }
}

/// The machine that the filter is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    pub(crate) arch: Arch,
    /// Major and minor version of the kernel.
    pub(crate) kernel: (u32, u32),
}

impl Host {
    /// # Errors
    /// `Invalid` on an architecture that this program has no table for.
    pub(crate) fn running() -> Result<Self> {
        let arch = Arch::native().ok_or_else(|| {
            Error::invalid(format!("no table of system calls for {}", std::env::consts::ARCH))
                .hint("run without a filter: --security-opt seccomp=unconfined")
        })?;
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy();
        let mut numbers =
            release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
        Ok(Self { arch, kernel: (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) })
    }
}

/// The filter for a container with `capabilities` (its bounding set) on `host`.
///
/// # Errors
/// `Invalid` where the program is longer than the kernel takes.
pub(crate) fn compile(profile: &Profile, capabilities: CapSet, host: Host) -> Result<Vec<sock_filter>> {
    let mut tables: Vec<Table> = vec![Table::new(host.arch)];
    for arch in profile.architectures.iter() {
        if arch.runs_on(host.arch) && tables.iter().all(|table| table.arch != *arch) {
            tables.push(Table::new(*arch));
        }
    }
    for (index, rule) in profile.rules.iter().enumerate() {
        if applies(&rule.only, capabilities, host) {
            for name in rule.names.split_ascii_whitespace() {
                if let Some(numbers) = syscalls::numbers(name) {
                    for table in &mut tables {
                        table.add(numbers, index);
                    }
                }
            }
        }
    }
    let program = Compiler { profile, assembler: Assembler::default() }.program(&mut tables);
    if program.len() > MAX_INSTRUCTIONS {
        let message = format!("the seccomp profile needs {} instructions", program.len());
        return Err(Error::invalid(message)
            .hint(format!("the kernel takes {MAX_INSTRUCTIONS}: use fewer rules with args")));
    }
    Ok(program)
}

/// Puts the filter in force for this thread: the last step before exec, as it may
/// refuse any call of the steps before.
pub(crate) fn install(program: &[sock_filter], flags: u32) -> Result<()> {
    let result = set_filter(program, flags).context(|| "load the seccomp filter");
    result.map_err(|error| match error.errno() {
        Some(libc::ENOSYS | libc::EINVAL) => error
            .with_kind(Kind::Failed)
            .hint("the kernel may lack CONFIG_SECCOMP_FILTER: --security-opt seccomp=unconfined runs without")
            .see_doctor(Trouble::Seccomp),
        _ => error.see_doctor(Trouble::Seccomp),
    })
}

fn applies(only: &Applies, capabilities: CapSet, host: Host) -> bool {
    capabilities.contains(only.with)
        && !capabilities.intersects(only.without)
        && only.on.as_ref().is_none_or(|list| list.contains(&host.arch))
        && !only.not_on.contains(&host.arch)
        && only.since.is_none_or(|version| host.kernel >= version)
        && only.before.is_none_or(|version| host.kernel < version)
}

/// Which rules speak of which number of one architecture.
struct Table {
    arch: Arch,
    /// Number of the call, index of the rule.
    entries: Vec<(u32, u32)>,
}

impl Table {
    fn new(arch: Arch) -> Self {
        Self { arch, entries: Vec::with_capacity(512) }
    }

    fn add(&mut self, numbers: &[i32; 5], rule: usize) {
        if let Ok(number) = u32::try_from(numbers[self.arch as usize]) {
            self.entries.push((number | self.bit(), rule as u32));
        }
    }

    /// By number, then in the order of the rules.
    fn sort(&mut self) {
        self.entries.sort_unstable();
        self.entries.dedup();
    }

    fn bit(&self) -> u32 {
        if self.arch == Arch::X32 { X32_BIT } else { 0 }
    }
}

/// From `start` up to the next segment's.
struct Segment<'a> {
    start: u32,
    answer: Answer<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer<'a> {
    Always(Action),
    /// The rules (entries of a table) to try in order.
    Depends(&'a [(u32, u32)]),
}

struct Compiler<'p> {
    profile: &'p Profile,
    assembler: Assembler,
}

impl Compiler<'_> {
    fn program(mut self, tables: &mut [Table]) -> Vec<sock_filter> {
        tables.iter_mut().for_each(Table::sort);
        let mut section = self.assembler.ret(Action::KillProcess.value());
        for table in tables.iter().rev().filter(|table| table.arch != Arch::X32) {
            let mut segments = Vec::with_capacity(256);
            self.segments(table, &mut segments);
            if table.arch == Arch::X86_64 {
                match tables.iter().find(|table| table.arch == Arch::X32) {
                    Some(x32) => self.segments(x32, &mut segments),
                    None => push(&mut segments, X32_BIT, Answer::Always(Action::KillProcess)),
                }
                // What a tracer that skips a call leaves as its number.
                push(&mut segments, u32::MAX, Answer::Always(self.profile.default.for_unknown()));
            }
            let search = self.search(&segments, table.arch.width());
            let search = self.assembler.load(OFFSET_NUMBER, search);
            section = self.assembler.jump(Test::Equal, table.arch.audit(), search, section);
        }
        self.assembler.load(OFFSET_ARCH, section);
        self.assembler.finish()
    }

    /// The answers for all numbers of the table's architecture, appended in ascending order.
    fn segments<'a>(&self, table: &'a Table, segments: &mut Vec<Segment<'a>>) {
        // One past the newest call known: from there on calls are unknown.
        let end = (syscalls::NEWEST | table.bit()) + 1;
        let default = self.profile.default;
        let silence = |segments: &mut Vec<Segment<'a>>, from: u32, until: u32| {
            if from < until.min(end) {
                push(segments, from, Answer::Always(default));
            }
            if from.max(end) < until {
                push(segments, from.max(end), Answer::Always(default.for_unknown()));
            }
        };
        let mut next = table.bit();
        for rules in table.entries.chunk_by(|a, b| a.0 == b.0) {
            let number = rules[0].0;
            silence(segments, next, number);
            push(segments, number, self.answer(rules));
            next = number + 1;
        }
        silence(segments, next, u32::MAX);
    }

    fn answer<'a>(&self, rules: &'a [(u32, u32)]) -> Answer<'a> {
        let rule = &self.profile.rules[rules[0].1 as usize];
        if rule.conditions.is_empty() { Answer::Always(rule.action) } else { Answer::Depends(rules) }
    }

    /// With A = the number of the call.
    fn search(&mut self, segments: &[Segment<'_>], width: Width) -> Label {
        match segments {
            [] => self.assembler.ret(self.profile.default.value()),
            [segment] => match segment.answer {
                Answer::Always(action) => self.assembler.ret(action.value()),
                Answer::Depends(rules) => self.chain(rules, width),
            },
            _ => {
                let (left, right) = segments.split_at(segments.len() / 2);
                let above = self.search(right, width);
                let below = self.search(left, width);
                self.assembler.jump(Test::GreaterOrEqual, right[0].start, above, below)
            }
        }
    }

    /// One rule after the other; each loads what it compares.
    fn chain(&mut self, rules: &[(u32, u32)], width: Width) -> Label {
        let mut next = self.assembler.ret(self.profile.default.value());
        for (_, index) in rules.iter().rev() {
            let rule = &self.profile.rules[*index as usize];
            let mut label = self.assembler.ret(rule.action.value());
            for condition in rule.conditions.iter().rev() {
                label = self.assembler.check(*condition, width, label, next);
            }
            next = label;
        }
        next
    }
}

/// Appends a segment, or lets the one before go on where the answer is the same.
fn push<'a>(segments: &mut Vec<Segment<'a>>, start: u32, answer: Answer<'a>) {
    if segments.last().is_none_or(|last| last.answer != answer) {
        segments.push(Segment { start, answer });
    }
}
