//! Names in filters: a text that a name contains, with `^`, `$`, `.` and `*`
//! as regular expressions have them, as scripts write `name=^web$`.

use crate::error::{Error, Result};

/// A pattern of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// Each atom, and whether it is repeated; `None` is any character.
    atoms: Vec<(Option<char>, bool)>,
    at_end: bool,
}

impl Pattern {
    /// # Errors
    /// `Invalid` for other operators of regular expressions, and beyond 256 characters.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let start = text.strip_prefix('^');
        let rest = start.unwrap_or(text);
        let end = rest.strip_suffix('$');
        // Docker's own names begin with a slash, and old scripts write it.
        let rest = end.unwrap_or(rest);
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        let mut atoms = if start.is_some() { Vec::new() } else { vec![(None, true)] };
        for character in rest.chars() {
            match character {
                '*' => match atoms.last_mut() {
                    Some((_, repeated)) if !*repeated => *repeated = true,
                    _ => return Err(Error::invalid("nothing before * can be repeated")),
                },
                '.' => atoms.push((None, false)),
                '[' | ']' | '(' | ')' | '{' | '}' | '|' | '+' | '?' | '\\' | '^' | '$' => {
                    return Err(Error::invalid(format!("{character} is not understood in names"))
                        .hint("of regular expressions, ^ $ . and * are"));
                }
                other => atoms.push((Some(other), false)),
            }
        }
        if atoms.len() > 256 {
            return Err(Error::invalid("the pattern has more than 256 characters"));
        }
        Ok(Self { atoms, at_end: end.is_some() })
    }

    /// Every state that could have been reached is kept, so time is the product
    /// of both lengths whatever the pattern.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let accept = self.atoms.len();
        let mut states = vec![false; accept + 1];
        self.reach(&mut states, 0);
        for character in name.chars() {
            if states[accept] && !self.at_end {
                return true;
            }
            let mut next = vec![false; accept + 1];
            for (state, (atom, repeated)) in self.atoms.iter().enumerate() {
                if states[state] && atom.is_none_or(|wanted| wanted == character) {
                    self.reach(&mut next, if *repeated { state } else { state + 1 });
                }
            }
            states = next;
        }
        states[accept]
    }

    /// Marks a state, and those behind it that need no character.
    fn reach(&self, states: &mut [bool], from: usize) {
        let mut state = from;
        states[state] = true;
        while self.atoms.get(state).is_some_and(|(_, repeated)| *repeated) {
            state += 1;
            states[state] = true;
        }
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
            ("w.b", "wab", true),
            ("w.*b$", "wxxxb", true),
            ("w.*b$", "wxxxc", false),
            ("^we*$", "weee", true),
            ("^a*$", "", true),
            ("^.*$", "x", true),
        ] {
            assert_eq!(Pattern::parse(pattern).expect(pattern).matches(name), expected, "{pattern} {name}");
        }
        for bad in ["a[b", "a|b", "(a)", "a+", "^*", "a**", &"x".repeat(300)] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let pattern = Pattern::parse(&"a*".repeat(120)).expect("valid");
        assert!(pattern.matches(&"a".repeat(200)));
        let pattern = Pattern::parse(&format!("^{}b$", "a*".repeat(120))).expect("valid");
        assert!(!pattern.matches(&"a".repeat(200)));
    }
}
