//! Classic BPF for seccomp: one instruction after the other, written from the
//! end to the front, so that every jump knows how far its target is.
//!
//! Sources: Documentation/networking/filter.rst, Documentation/userspace-api/seccomp_filter.rst.

use super::profile::{Comparison, Condition};
use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W,
    sock_filter,
};

/// Offsets into `struct seccomp_data`.
pub(super) const OFFSET_NUMBER: u32 = 0;
pub(super) const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

/// A conditional jump reaches 255 instructions; two are kept for the
/// trampolines that making the other branch near may put in between.
const REACH: usize = 253;

/// A place in the program: how many instructions follow it.
pub(super) type Label = usize;

#[derive(Clone, Copy)]
pub(super) enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
}

/// Which halves of an argument count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Bits32,
    Bits64,
}

#[derive(Default)]
pub(super) struct Assembler {
    /// The last instruction first.
    reversed: Vec<sock_filter>,
    /// The newest return of each value.
    returns: Vec<(u32, Label)>,
}

impl Assembler {
    pub(super) fn finish(mut self) -> Vec<sock_filter> {
        self.reversed.reverse();
        self.reversed
    }

    /// `return value`
    pub(super) fn ret(&mut self, value: u32) -> Label {
        let known = self.returns.iter().position(|(returned, _)| *returned == value);
        match known {
            Some(index) if self.reversed.len() - self.returns[index].1 < REACH => self.returns[index].1,
            _ => self.new_ret(value),
        }
    }

    fn new_ret(&mut self, value: u32) -> Label {
        let label = self.push(BPF_RET | BPF_K, 0, 0, value);
        match self.returns.iter_mut().find(|(returned, _)| *returned == value) {
            Some(entry) => entry.1 = label,
            None => self.returns.push((value, label)),
        }
        label
    }

    /// `A = seccomp_data[offset]; goto then`
    pub(super) fn load(&mut self, offset: u32, then: Label) -> Label {
        self.fall_to(then);
        self.push(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset)
    }

    /// `if A test value goto yes else goto no`
    pub(super) fn jump(&mut self, test: Test, value: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let yes = self.near(yes);
        let no = self.near(no);
        let test = match test {
            Test::Equal => BPF_JEQ,
            Test::Greater => BPF_JGT,
            Test::GreaterOrEqual => BPF_JGE,
        };
        let distance = |label: Label| (self.reversed.len() - 1 - label) as u8;
        let (jt, jf) = (distance(yes), distance(no));
        self.push(BPF_JMP | test | BPF_K, jt, jf, value)
    }

    /// The code for "`condition` holds", to `yes` or `no`. Clobbers A.
    pub(super) fn check(&mut self, condition: Condition, width: Width, yes: Label, no: Label) -> Label {
        let Condition { argument, comparison, value } = condition;
        // Little-endian: the low half comes first. Both architectures are.
        let low = OFFSET_ARGUMENTS + 8 * u32::from(argument);
        let halves = Halves { low, width, value };
        match comparison {
            Comparison::Equal => self.equal(halves, u64::MAX, yes, no),
            Comparison::NotEqual => self.equal(halves, u64::MAX, no, yes),
            Comparison::Masked(mask) => self.equal(halves, mask, yes, no),
            Comparison::GreaterOrEqual => self.above(halves, Test::GreaterOrEqual, yes, no),
            Comparison::Less => self.above(halves, Test::GreaterOrEqual, no, yes),
            Comparison::Greater => self.above(halves, Test::Greater, yes, no),
            Comparison::LessOrEqual => self.above(halves, Test::Greater, no, yes),
        }
    }

    fn equal(&mut self, halves: Halves, mask: u64, yes: Label, no: Label) -> Label {
        let low = self.equal_half(halves.low, (mask as u32, halves.value as u32), yes, no);
        let (mask, value) = ((mask >> 32) as u32, (halves.value >> 32) as u32);
        if halves.width == Width::Bits32 || (mask == 0 && value == 0) {
            return low;
        }
        self.equal_half(halves.low + 4, (mask, value), low, no)
    }

    fn equal_half(&mut self, offset: u32, (mask, value): (u32, u32), yes: Label, no: Label) -> Label {
        let mut test = self.jump(Test::Equal, value, yes, no);
        if mask != u32::MAX {
            self.fall_to(test);
            test = self.push(BPF_ALU | BPF_AND | BPF_K, 0, 0, mask);
        }
        self.load(offset, test)
    }

    fn above(&mut self, halves: Halves, test: Test, yes: Label, no: Label) -> Label {
        let low = self.jump(test, halves.value as u32, yes, no);
        let low = self.load(halves.low, low);
        if halves.width == Width::Bits32 {
            return low;
        }
        let high = (halves.value >> 32) as u32;
        let equal = self.jump(Test::Equal, high, low, no);
        let greater = self.jump(Test::Greater, high, yes, equal);
        self.load(halves.low + 4, greater)
    }

    /// A label for the same code that a conditional jump can reach.
    fn near(&mut self, label: Label) -> Label {
        if self.reversed.len() - label < REACH { label } else { self.goto(label) }
    }

    fn goto(&mut self, label: Label) -> Label {
        let target = self.reversed[label];
        if u32::from(target.code) == BPF_RET | BPF_K {
            return self.ret(target.k);
        }
        self.push(BPF_JMP | BPF_JA, 0, 0, (self.reversed.len() - 1 - label) as u32)
    }

    /// Makes `label` what follows the next instruction.
    fn fall_to(&mut self, label: Label) {
        let distance = self.reversed.len() - 1 - label;
        if distance > 0 {
            self.push(BPF_JMP | BPF_JA, 0, 0, distance as u32);
        }
    }

    fn push(&mut self, code: u32, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(sock_filter { code: code as u16, jt, jf, k });
        self.reversed.len() - 1
    }
}

#[derive(Clone, Copy)]
struct Halves {
    /// Offset of the low half.
    low: u32,
    width: Width,
    value: u64,
}
