//! Names in filters: regular expressions, as docker and podman take them
//! (`name=^web-[0-9]+$`). Of Go's syntax: characters, `.`, classes, groups,
//! `|`, `*`, `+`, `?`, `^`, `$`, and `\` before punctuation, `d`, `w` and `s`.
//!
//! A pattern becomes a small program whose states are followed side by side, so
//! that time is the product of both lengths, whatever the pattern.

use crate::error::{Error, Result};
use std::iter::Peekable;
use std::str::Chars;

/// Characters of a pattern, and groups inside of groups.
const MAX_LENGTH: usize = 256;
const MAX_DEPTH: u32 = 32;

/// A pattern of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    program: Vec<Op>,
}

/// A filter of ids: the beginning of one, or a pattern where it has something that
/// no id has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdPattern {
    Beginning(String),
    Pattern(Pattern),
}

impl IdPattern {
    /// # Errors
    /// Those of [`Pattern::parse`].
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self::Beginning(text.to_ascii_lowercase()));
        }
        Pattern::parse(text).map(Self::Pattern)
    }

    pub(crate) fn matches(&self, id: &str) -> bool {
        match self {
            Self::Beginning(beginning) => id.starts_with(beginning),
            Self::Pattern(pattern) => pattern.is_in(id),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Op {
    /// One character: of these ranges, or of none of them.
    One {
        ranges: Vec<(char, char)>,
        negated: bool,
    },
    /// Goes on at both places.
    Split(usize, usize),
    Jump(usize),
    /// `^` and `$`.
    Start,
    End,
    Match,
}

impl Pattern {
    /// # Errors
    /// `Invalid` for what is no regular expression, and beyond 256 characters.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text.chars().count() > MAX_LENGTH {
            return Err(Error::invalid(format!("the pattern has more than {MAX_LENGTH} characters")));
        }
        let mut parser = Parser { rest: text.chars().peekable(), program: Vec::new(), depth: 0 };
        parser.alternatives()?;
        if parser.rest.peek().is_some() {
            return Err(Error::invalid("unexpected )"));
        }
        parser.program.push(Op::Match);
        Ok(Self { program: parser.program })
    }

    /// Whether the pattern is found in `name`, or in `/name`: docker's own names
    /// begin with a slash, and old scripts write it.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.is_in(name) || self.is_in(&format!("/{name}"))
    }

    fn is_in(&self, text: &str) -> bool {
        let mut states = vec![false; self.program.len()];
        let mut characters = text.chars().peekable();
        let mut at_start = true;
        loop {
            let at_end = characters.peek().is_none();
            // It may begin anywhere.
            self.reach(&mut states, 0, (at_start, at_end));
            if self.program.iter().zip(&states).any(|(op, on)| *on && *op == Op::Match) {
                return true;
            }
            let Some(character) = characters.next() else { return false };
            at_start = false;
            let mut next = vec![false; self.program.len()];
            let ends_then = characters.peek().is_none();
            for (at, op) in self.program.iter().enumerate() {
                if states[at] && op.takes(character) {
                    self.reach(&mut next, at + 1, (false, ends_then));
                }
            }
            states = next;
        }
    }

    /// Marks a state, and those behind it that need no character. `edges`: at
    /// the start and at the end of the text.
    fn reach(&self, states: &mut [bool], from: usize, edges: (bool, bool)) {
        let mut pending = vec![from];
        while let Some(at) = pending.pop() {
            if std::mem::replace(&mut states[at], true) {
                continue;
            }
            match &self.program[at] {
                Op::Split(one, two) => pending.extend([*one, *two]),
                Op::Jump(to) => pending.push(*to),
                Op::Start if edges.0 => pending.push(at + 1),
                Op::End if edges.1 => pending.push(at + 1),
                Op::Start | Op::End | Op::One { .. } | Op::Match => {}
            }
        }
    }
}

impl Op {
    fn takes(&self, character: char) -> bool {
        match self {
            Self::One { ranges, negated } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&character)) != *negated
            }
            Self::Split(..) | Self::Jump(_) | Self::Start | Self::End | Self::Match => false,
        }
    }
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    program: Vec<Op>,
    depth: u32,
}

impl Parser<'_> {
    /// `a|b`
    fn alternatives(&mut self) -> Result<()> {
        let begin = self.program.len();
        self.sequence()?;
        let mut ends = Vec::new();
        while self.rest.next_if_eq(&'|').is_some() {
            self.program.insert(begin, Op::Jump(0));
            self.shift(begin);
            for end in &mut ends {
                *end += 1;
            }
            ends.push(self.program.len());
            self.program.push(Op::Jump(0));
            self.program[begin] = Op::Split(begin + 1, self.program.len());
            self.sequence()?;
        }
        let end = self.program.len();
        for at in ends {
            self.program[at] = Op::Jump(end);
        }
        Ok(())
    }

    /// After an insertion at `at`: what pointed behind it points one further.
    fn shift(&mut self, at: usize) {
        let moved = |to: &mut usize| *to += usize::from(*to >= at);
        for op in &mut self.program[at + 1..] {
            match op {
                Op::Split(one, two) => {
                    moved(one);
                    moved(two);
                }
                Op::Jump(to) => moved(to),
                Op::One { .. } | Op::Start | Op::End | Op::Match => {}
            }
        }
    }

    fn sequence(&mut self) -> Result<()> {
        while let Some(&next) = self.rest.peek() {
            if matches!(next, '|' | ')') {
                break;
            }
            let begin = self.program.len();
            self.atom()?;
            if let Some(&repeat @ ('*' | '+' | '?')) = self.rest.peek() {
                self.rest.next();
                self.repeat(begin, repeat);
                if matches!(self.rest.peek(), Some('*' | '+')) {
                    return Err(Error::invalid("invalid nested repetition operator"));
                }
                // `*?` takes as little as may be: that something is found is the same.
                self.rest.next_if_eq(&'?');
            }
        }
        Ok(())
    }

    fn repeat(&mut self, begin: usize, how: char) {
        if how != '+' {
            self.program.insert(begin, Op::Jump(0));
            self.shift(begin);
        }
        let end = self.program.len();
        match how {
            '*' => {
                self.program.push(Op::Jump(begin));
                self.program[begin] = Op::Split(begin + 1, end + 1);
            }
            '+' => self.program.push(Op::Split(begin, end + 1)),
            _ => self.program[begin] = Op::Split(begin + 1, end),
        }
    }

    fn atom(&mut self) -> Result<()> {
        let one = |ranges: &[(char, char)], negated| Op::One { ranges: ranges.to_vec(), negated };
        let op = match self.rest.next() {
            Some('.') => one(&[], true),
            Some('^') => Op::Start,
            Some('$') => Op::End,
            Some('[') => return self.class(),
            Some('(') => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(Error::invalid("the pattern is nested too deeply"));
                }
                self.alternatives()?;
                self.depth -= 1;
                return match self.rest.next() {
                    Some(')') => Ok(()),
                    _ => Err(Error::invalid("missing closing )")),
                };
            }
            Some('*' | '+' | '?') => {
                return Err(Error::invalid("missing argument to repetition operator"));
            }
            Some('\\') => {
                let (ranges, negated) = self.escape()?;
                Op::One { ranges, negated }
            }
            // Go's counted repetition; names do without.
            Some('{') => return Err(Error::invalid("{ is not understood in patterns of names")),
            Some(other) => one(&[(other, other)], false),
            None => return Ok(()),
        };
        self.program.push(op);
        Ok(())
    }

    fn escape(&mut self) -> Result<(Vec<(char, char)>, bool)> {
        let next = self.rest.next().ok_or_else(|| Error::invalid("trailing backslash"))?;
        let ranges = match next.to_ascii_lowercase() {
            'd' => vec![('0', '9')],
            'w' => vec![('0', '9'), ('A', 'Z'), ('a', 'z'), ('_', '_')],
            's' => vec![('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')],
            punctuation if punctuation.is_ascii_punctuation() => vec![(punctuation, punctuation)],
            other => return Err(Error::invalid(format!("invalid escape sequence \\{other}"))),
        };
        Ok((ranges, next.is_ascii_uppercase()))
    }

    /// `[a-z_]`, `[^0-9]`
    fn class(&mut self) -> Result<()> {
        let missing = || Error::invalid("missing closing ]");
        let negated = self.rest.next_if_eq(&'^').is_some();
        let mut ranges = Vec::new();
        loop {
            let low = match self.rest.next().ok_or_else(missing)? {
                ']' if !ranges.is_empty() => break,
                '\\' => match self.escape()? {
                    (mut escaped, false) => {
                        ranges.append(&mut escaped);
                        continue;
                    }
                    (_, true) => return Err(Error::invalid("a negated class inside of a class")),
                },
                other => other,
            };
            let mut ahead = self.rest.clone();
            let high = match (ahead.next(), ahead.next()) {
                (Some('-'), Some(high)) if high != ']' && high != '\\' => {
                    self.rest = ahead;
                    high
                }
                _ => low,
            };
            if high < low {
                return Err(Error::invalid(format!("invalid character class range {low}-{high}")));
            }
            ranges.push((low, high));
        }
        self.program.push(Op::One { ranges, negated });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_regular_expressions_do() {
        for (pattern, name, expected) in [
            ("", "web", true),
            ("e", "web", true),
            ("web", "my-web-1", true),
            ("^web", "my-web", false),
            ("web$", "web-1", false),
            ("^web$", "web", true),
            ("^/web$", "web", true),
            ("/web", "web", true),
            ("w.b", "wab", true),
            ("w.*b$", "wxxxb", true),
            ("w.*b$", "wxxxc", false),
            ("^we*$", "weee", true),
            ("^a*$", "", true),
            ("^.*$", "x", true),
            ("^a|b$", "xb", true),
            ("^(a|b)$", "xb", false),
            ("^(a|b|cd)$", "cd", true),
            ("^(a|b|cd)$", "cx", false),
            ("^web-[0-9]+$", "web-42", true),
            ("^web-[0-9]+$", "web-", false),
            ("^web-[^0-9]$", "web-x", true),
            ("^web-[^0-9]$", "web-1", false),
            ("^[]a]$", "]", true),
            ("^[a-]$", "-", true),
            ("^(ab)+$", "ababab", true),
            ("^(ab)+$", "aba", false),
            ("^(ab?)*c$", "aabac", true),
            ("^x?y$", "y", true),
            ("^x??y$", "xy", true),
            (r"^a\.b$", "a.b", true),
            (r"^a\.b$", "axb", false),
            (r"^\w+-\d$", "web-1", true),
            (r"^\D$", "1", false),
            ("^(|a)$", "", true),
            ("(a*)*", "b", true),
            ("^((a|b)(c|d)|e)f$", "bdf", true),
            ("^((a|b)(c|d)|e)f$", "ef", true),
            ("^((a|b)(c|d)|e)f$", "bf", false),
        ] {
            assert_eq!(Pattern::parse(pattern).expect(pattern).matches(name), expected, "{pattern} {name}");
        }
        let deep = "(".repeat(100);
        for bad in
            ["a[b", "(a", "a)", "*", "^a**", "+", "a\\", "[b-a]", "\\q", "a{2}", &"x".repeat(300), &deep]
        {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let pattern = Pattern::parse(&"a*".repeat(120)).expect("valid");
        assert!(pattern.matches(&"a".repeat(200)));
        let pattern = Pattern::parse(&format!("^{}b$", "a*".repeat(120))).expect("valid");
        assert!(!pattern.matches(&"a".repeat(200)));
        let pattern =
            Pattern::parse(&format!("^{}(a|a)*{}$", "(".repeat(30), ")+".repeat(30))).expect("valid");
        assert!(pattern.matches(&"a".repeat(200)));
    }

    #[test]
    fn ids_are_given_by_their_beginning_or_a_pattern() {
        let matches = |text: &str| IdPattern::parse(text).expect("valid").matches("12ab34");
        for (text, holds) in [
            ("12", true),
            ("12AB", true),
            ("2a", false),
            ("", true),
            ("^12", true),
            ("^2a", false),
            ("2a.*4$", true),
            ("^[^1]", false),
        ] {
            assert_eq!(matches(text), holds, "{text}");
        }
        assert!(IdPattern::parse("[").is_err());
    }
}
