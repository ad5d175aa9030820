//! Maps of user and group ids between a user namespace and its parent.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// One line of `/proc/PID/uid_map`: user_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdRange {
    /// First id inside the namespace.
    pub(crate) inside: u32,
    /// First id in the parent namespace.
    pub(crate) outside: u32,
    /// How many ids follow, the first included.
    pub(crate) length: u32,
}

impl IdRange {
    /// `INSIDE:OUTSIDE[:LENGTH]`, as `--uidmap` and `--gidmap` take it; the
    /// length is 1 where it is left out.
    ///
    /// # Errors
    /// `Invalid` for anything else, a length of 0, and ids beyond 2³²-2 (the
    /// number after it is the kernel's "no id").
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::invalid(format!("id map {text:?}: {why}"));
        let number = |field: &str| {
            let digits = !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit());
            let value = if digits { field.parse::<u32>().ok() } else { None };
            value.ok_or_else(|| {
                wrong(&format!("{field:?} is not an id")).hint("the form is CONTAINER_ID:OUTER_ID[:LENGTH]")
            })
        };
        let fields: Vec<&str> = text.split(':').collect();
        let (inside, outside, length) = match fields[..] {
            [inside, outside] => (number(inside)?, number(outside)?, 1),
            [inside, outside, length] => (number(inside)?, number(outside)?, number(length)?),
            _ => {
                return Err(
                    wrong("not two or three numbers").hint("the form is CONTAINER_ID:OUTER_ID[:LENGTH]")
                );
            }
        };
        if length == 0 {
            return Err(wrong("the length is 0"));
        }
        if inside.checked_add(length).is_none() || outside.checked_add(length).is_none() {
            return Err(wrong("it goes beyond the last id, 4294967294"));
        }
        Ok(Self { inside, outside, length })
    }

    /// The first id inside that does not belong to the range any more.
    pub(crate) fn inside_end(&self) -> u64 {
        u64::from(self.inside) + u64::from(self.length)
    }

    /// The first id in the parent that does not belong to the range any more.
    pub(crate) fn outside_end(&self) -> u64 {
        u64::from(self.outside) + u64::from(self.length)
    }
}

/// An id map: disjoint ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdMap(pub(crate) Vec<IdRange>);

impl IdMap {
    pub(crate) fn single(inside: u32, outside: u32) -> Self {
        Self(vec![IdRange { inside, outside, length: 1 }])
    }

    /// The text of `/proc/PID/uid_map` or `gid_map`, parsed; lines that are not
    /// three numbers are passed over.
    pub(crate) fn parse_proc(text: &str) -> Self {
        let ranges = text.lines().filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().map(str::parse::<u32>);
            match (fields.next(), fields.next(), fields.next()) {
                (Some(Ok(inside)), Some(Ok(outside)), Some(Ok(length))) => {
                    Some(IdRange { inside, outside, length })
                }
                _ => None,
            }
        });
        Self(ranges.collect())
    }

    /// The text to write to `/proc/PID/uid_map` or `gid_map`.
    pub(crate) fn proc_text(&self) -> String {
        self.0.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.length)).collect()
    }

    /// The id in the parent; `None` where the id is not mapped.
    pub(crate) fn to_outside(&self, id: u32) -> Option<u32> {
        self.0.iter().find_map(|r| {
            let offset = id.checked_sub(r.inside)?;
            (offset < r.length).then(|| r.outside + offset)
        })
    }

    /// The id inside; `None` where the parent's id is not mapped.
    pub(crate) fn to_inside(&self, id: u32) -> Option<u32> {
        self.0.iter().find_map(|r| {
            let offset = id.checked_sub(r.outside)?;
            (offset < r.length).then(|| r.inside + offset)
        })
    }

    /// How many ids are mapped.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|r| u64::from(r.length)).sum()
    }

    /// The map of the same ids onto themselves: what a nested namespace gets
    /// when it is to see just what its parent sees.
    pub(crate) fn identity_inside(&self) -> Self {
        let ranges = self.0.iter().map(|r| IdRange { inside: r.inside, outside: r.inside, length: r.length });
        Self(ranges.collect())
    }

    /// The map from the inside to the parent of the parent, whose map is `parent`.
    pub(crate) fn through(&self, parent: &Self) -> Self {
        let pairs = self.0.iter().flat_map(|own| parent.0.iter().map(move |theirs| (own, theirs)));
        let ranges = pairs.filter_map(|(own, theirs)| {
            let first = own.outside.max(theirs.inside);
            let end = own.outside_end().min(theirs.inside_end());
            let length = u32::try_from(end.checked_sub(first.into())?).ok().filter(|length| *length > 0)?;
            let inside = own.inside + (first - own.outside);
            Some(IdRange { inside, outside: theirs.outside + (first - theirs.inside), length })
        });
        Self(ranges.collect())
    }

    /// Whether every id is mapped to itself.
    pub(crate) fn is_identity(&self) -> bool {
        self.0.iter().all(|r| r.inside == r.outside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_parsed() {
        let range = |inside, outside, length| IdRange { inside, outside, length };
        assert_eq!(IdRange::parse("0:1:5").unwrap(), range(0, 1, 5));
        assert_eq!(IdRange::parse("1000:0").unwrap(), range(1000, 0, 1));
        assert_eq!(IdRange::parse("4294967294:0:1").unwrap(), range(4_294_967_294, 0, 1));
        for bad in [
            "",
            "0",
            "0:1:2:3",
            "0:1:0",
            "a:1:1",
            ":1:1",
            "0::1",
            "0:1:",
            "-1:0:1",
            "+1:0:1",
            " 0:1:1",
            "0:@1000:1",
            "4294967295:0:1",
            "0:4294967295:1",
            "4294967290:0:6",
            "0:0:4294967296",
        ] {
            assert!(IdRange::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_translate_both_ways() {
        let map = IdMap::parse_proc("         0       1000          1\n         1     100000      65536\n");
        assert_eq!(map.to_outside(0), Some(1000));
        assert_eq!(map.to_outside(1), Some(100_000));
        assert_eq!(map.to_outside(65_536), Some(165_535));
        assert_eq!(map.to_outside(65_537), None);
        assert_eq!(map.to_inside(100_001), Some(2));
        assert_eq!(map.to_inside(7), None);
        assert_eq!(map.count(), 65_537);
        assert!(map.identity_inside().is_identity());
        assert_eq!(map.identity_inside().through(&map), map);
        let one = IdMap::parse_proc("0 5 10\n");
        assert_eq!(one.through(&map), IdMap::parse_proc("0 100004 10\n"));
        assert_eq!(
            IdMap::parse_proc("0 0 3\n9 70000 1\n").through(&map),
            IdMap::parse_proc("0 1000 1\n1 100000 2\n")
        );
    }
}
