//! The order of names with numbers in them: `volume-2` before `volume-10`.
//!
//! Source: fvbommel/sortorder, NaturalLess, by which docker sorts.

use std::cmp::Ordering;

/// Numbers by their value, digits before other characters, the rest by bytes.
pub(crate) fn compare(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    loop {
        let (Some(a), Some(b)) = (one.first(), other.first()) else {
            return one.len().cmp(&other.len());
        };
        match (a.is_ascii_digit(), b.is_ascii_digit()) {
            (true, true) => {
                let (first, second) = (number(one), number(other));
                let order = (first.digits.len(), first.digits, first.zeros).cmp(&(
                    second.digits.len(),
                    second.digits,
                    second.zeros,
                ));
                if order.is_ne() {
                    return order;
                }
                (one, other) = (first.rest, second.rest);
            }
            (false, false) if a == b => (one, other) = (&one[1..], &other[1..]),
            (false, false) => return a.cmp(b),
            (is_digit, _) => return if is_digit { Ordering::Less } else { Ordering::Greater },
        }
    }
}

struct Number<'a> {
    zeros: usize,
    /// Without those.
    digits: &'a [u8],
    rest: &'a [u8],
}

fn number(text: &[u8]) -> Number<'_> {
    let zeros = text.iter().take_while(|byte| **byte == b'0').count();
    let length = text[zeros..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text[zeros..].split_at(length);
    Number { zeros, digits, rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_by_their_value() {
        let sorted = [
            "",
            "1",
            "01",
            "2",
            "10",
            "99999999999999999999999",
            "a",
            "a1b",
            "a1c",
            "a01b",
            "a2",
            "a10",
            "a10b",
            "aa",
            "b",
        ];
        for (position, one) in sorted.iter().enumerate() {
            for (place, other) in sorted.iter().enumerate() {
                assert_eq!(compare(one, other), position.cmp(&place), "{one} {other}");
            }
        }
    }
}
