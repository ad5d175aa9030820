//! The maps of a container's nested namespace, decided and not yet written.
//!
//! All ids on the outer side are ids of the user's outer namespace: 0 is the
//! user, 1 the first subordinate id. The kernel takes a line of a map only if
//! one line of the parent's map holds all of it, so every range here is cut
//! where the outer map is cut.

use super::enter::{Extent, Outer};
use super::newidmap::{MAX_BYTES, MAX_LINES};
use crate::error::{Error, Result, Trouble};
use crate::types::idmap::{IdMap, IdRange};
use crate::types::namespace::UsernsMode;
use serde::{Deserialize, Serialize};

/// Ids of a `--userns=auto` namespace where no size is asked for: podman's least.
const AUTO_SIZE: u32 = 1024;

/// What decides a container's maps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapRequest<'a> {
    pub(crate) mode: &'a UsernsMode,
    /// `--uidmap`, `--gidmap`; empty where not given.
    pub(crate) uid_map: &'a IdMap,
    pub(crate) gid_map: &'a IdMap,
    /// The uid and gid that the container's process will have, in the
    /// container: where one id is all there is, it becomes these.
    pub(crate) user: (u32, u32),
    /// The user's own ids on the host, for `keep-id`.
    pub(crate) host_ids: (u32, u32),
    /// Maps of running containers whose ids `auto` keeps clear of.
    pub(crate) in_use: &'a [ContainerMaps],
}

/// Maps of a nested namespace: `inside` is the container's id, `outside` the
/// outer namespace's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerMaps {
    pub(crate) uid: IdMap,
    pub(crate) gid: IdMap,
}

impl ContainerMaps {
    /// # Errors
    /// `Invalid` where the container's process could not become `user`.
    pub(crate) fn check_user(&self, user: (u32, u32)) -> Result<()> {
        for (what, map, id) in [("user", &self.uid, user.0), ("group", &self.gid, user.1)] {
            if map.to_outside(id).is_none() {
                return Err(Error::invalid(format!("{what} {id} is not mapped in the container")).hint(
                    format!("mapped are {}", describe(map.0.iter().map(|r| (r.inside, r.inside_end())))),
                ));
            }
        }
        Ok(())
    }
}

/// The maps for `request`; `None` for the host mode, which has no nested
/// namespace. `container:` is not decided here: the engine joins that one's.
///
/// # Errors
/// `Invalid` where ids overlap, are not there, or are more than the kernel takes.
pub(crate) fn container_maps(request: &MapRequest<'_>, outer: &Outer) -> Result<Option<ContainerMaps>> {
    let given = !request.uid_map.0.is_empty() || !request.gid_map.0.is_empty();
    if given && *request.mode != UsernsMode::Private {
        return Err(Error::invalid("--uidmap and --gidmap cannot be used together with --userns"));
    }
    if *request.mode == UsernsMode::Host {
        return Ok(None);
    }
    let axes = [Axis::uid(request, outer), Axis::gid(request, outer)];
    let [uid, gid] = &axes;
    let maps = ContainerMaps { uid: uid.map(request.mode)?, gid: gid.map(request.mode)? };
    check_size("uid", &maps.uid)?;
    check_size("gid", &maps.gid)?;
    Ok(Some(maps))
}

/// Users and groups are mapped alike; one of the two.
struct Axis<'a> {
    /// `uid` or `gid`, for messages.
    name: &'static str,
    /// Ids of the outer namespace, as its map is cut.
    outer: Vec<Run>,
    /// Of the flag; of the other flag where this one is not given, as podman has it.
    given: &'a IdMap,
    user: u32,
    /// The id in the container for `keep-id`.
    kept: u32,
    in_use: Vec<Run>,
    /// Why the outer namespace has no more than it has.
    limit: Option<&'a str>,
}

/// Ids from `start` up to but without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    start: u64,
    end: u64,
}

impl<'a> Axis<'a> {
    fn uid(request: &MapRequest<'a>, outer: &'a Outer) -> Self {
        let kept = match request.mode {
            UsernsMode::KeepId { uid: Some(uid), .. } => *uid,
            _ => request.host_ids.0,
        };
        let given = if request.uid_map.0.is_empty() { request.gid_map } else { request.uid_map };
        let in_use = request.in_use.iter().flat_map(|maps| outside_runs(&maps.uid)).collect();
        Self::new("uid", &outer.uid_map, (given, request.user.0, kept, in_use), outer)
    }

    fn gid(request: &MapRequest<'a>, outer: &'a Outer) -> Self {
        let kept = match request.mode {
            UsernsMode::KeepId { gid: Some(gid), .. } => *gid,
            _ => request.host_ids.1,
        };
        let given = if request.gid_map.0.is_empty() { request.uid_map } else { request.gid_map };
        let in_use = request.in_use.iter().flat_map(|maps| outside_runs(&maps.gid)).collect();
        Self::new("gid", &outer.gid_map, (given, request.user.1, kept, in_use), outer)
    }

    fn new(
        name: &'static str,
        map: &IdMap,
        (given, user, kept, in_use): (&'a IdMap, u32, u32, Vec<Run>),
        outer: &'a Outer,
    ) -> Self {
        let runs = map.0.iter().map(|r| Run { start: r.inside.into(), end: r.inside_end() }).collect();
        let limit = match &outer.extent {
            Extent::Single { reason } => Some(reason.as_str()),
            Extent::Ranges | Extent::Privileged | Extent::Inherited => None,
        };
        Self { name, outer: runs, given, user, kept, in_use, limit }
    }

    fn map(&self, mode: &UsernsMode) -> Result<IdMap> {
        let single = self.outer.iter().map(|run| run.end - run.start).sum::<u64>() == 1;
        match mode {
            _ if !self.given.0.is_empty() => self.as_given(),
            UsernsMode::Private if single => Ok(IdMap::single(self.user, self.outer[0].start as u32)),
            UsernsMode::Private => Ok(IdMap(self.outer.iter().map(|run| range(run.start, *run)).collect())),
            UsernsMode::KeepId { .. } => self.keep_id(),
            UsernsMode::NoMap => self.without_user(),
            UsernsMode::Auto { size } => self.slice(*size),
            UsernsMode::Host | UsernsMode::Container(_) => {
                Err(Error::invalid("this user namespace is another's: it has no maps of its own"))
            }
        }
    }

    /// Podman's rootless meaning: the outer side counts in the outer namespace.
    fn as_given(&self) -> Result<IdMap> {
        let ranges = &self.given.0;
        for (index, a) in ranges.iter().enumerate() {
            for b in &ranges[index + 1..] {
                let inside = a.inside_end() > b.inside.into() && b.inside_end() > a.inside.into();
                let outside = a.outside_end() > b.outside.into() && b.outside_end() > a.outside.into();
                if inside || outside {
                    let (a, b) = (describe_range(a), describe_range(b));
                    return Err(Error::invalid(format!("--{}map {a} and {b} overlap", self.name)));
                }
            }
        }
        let mut map = IdMap::default();
        for wanted in ranges {
            let cut = self.cut(wanted);
            if cut.iter().map(|r| u64::from(r.length)).sum::<u64>() != u64::from(wanted.length) {
                return Err(self.not_there(&format!("--{}map {}", self.name, describe_range(wanted))));
            }
            map.0.extend(cut);
        }
        Ok(map)
    }

    /// `wanted` in pieces, each within one line of the outer map; ids that the
    /// outer namespace lacks are missing.
    fn cut(&self, wanted: &IdRange) -> Vec<IdRange> {
        let mut pieces: Vec<IdRange> = Vec::new();
        for run in &self.outer {
            let start = run.start.max(wanted.outside.into());
            let end = run.end.min(wanted.outside_end());
            if start < end {
                let inside = u64::from(wanted.inside) + (start - u64::from(wanted.outside));
                pieces.push(range(inside, Run { start, end }));
            }
        }
        pieces.sort_by_key(|piece| piece.inside);
        pieces
    }

    /// The user keeps an id: the container's ids below and above it are the
    /// subordinate ones in order.
    #[allow(clippy::unnecessary_wraps, reason = "the same shape as its siblings")]
    fn keep_id(&self) -> Result<IdMap> {
        let mut map = IdMap::single(self.kept, 0);
        let mut below = u64::from(self.kept);
        let mut next = 0;
        for mut run in self.others() {
            if below > 0 {
                let end = run.end.min(run.start + below);
                map.0.push(range(next, Run { start: run.start, end }));
                (below, next) = (below - (end - run.start), next + (end - run.start));
                run.start = end;
            }
            if below == 0 && run.start < run.end {
                let first = next.max(u64::from(self.kept) + 1);
                let length = (run.end - run.start).min(u64::from(u32::MAX).saturating_sub(first));
                if length > 0 {
                    map.0.push(range(first, Run { start: run.start, end: run.start + length }));
                }
                next = first + length;
            }
        }
        map.0.sort_by_key(|r| r.inside);
        Ok(map)
    }

    fn without_user(&self) -> Result<IdMap> {
        let mut map = IdMap::default();
        let mut next = 0;
        for run in self.others() {
            map.0.push(range(next, run));
            next += run.end - run.start;
        }
        if map.0.is_empty() { Err(self.not_there("--userns=nomap: any id beside your own")) } else { Ok(map) }
    }

    /// The first ids that no other container uses; the user's own is left out.
    fn slice(&self, size: Option<u32>) -> Result<IdMap> {
        let size = u64::from(size.unwrap_or_else(|| AUTO_SIZE.max(self.user.saturating_add(1))));
        let mut map = IdMap::default();
        let mut next = 0;
        for run in self.others().into_iter().flat_map(|run| without(run, &self.in_use)) {
            let length = (run.end - run.start).min(size - next);
            map.0.push(range(next, Run { start: run.start, end: run.start + length }));
            next += length;
            if next == size {
                return Ok(map);
            }
        }
        Err(Error::invalid(format!("--userns=auto: {size} free {}s are needed and {next} are there", self.name))
            .hint("ask for fewer with --userns=auto:size=N, or for more subordinate ids in /etc/subuid and /etc/subgid")
            .see_doctor(Trouble::Ids))
    }

    /// The outer ids but for the user's own, 0.
    fn others(&self) -> Vec<Run> {
        self.outer.iter().flat_map(|run| without(*run, &[Run { start: 0, end: 1 }])).collect()
    }

    fn not_there(&self, what: &str) -> Error {
        let have = describe(self.outer.iter().map(|run| (run.start as u32, run.end)));
        let error =
            Error::invalid(format!("{what}: not in your user namespace, which has {}s {have}", self.name));
        match self.limit {
            Some(reason) => error.hint(reason),
            None => error.hint("more come with a larger range in /etc/subuid and /etc/subgid"),
        }
        .see_doctor(Trouble::Ids)
    }
}

/// `run` without what `taken` holds, in pieces.
fn without(run: Run, taken: &[Run]) -> Vec<Run> {
    let mut pieces = vec![run];
    for hole in taken {
        pieces = pieces
            .into_iter()
            .flat_map(|piece| {
                [
                    Run { start: piece.start, end: piece.end.min(hole.start) },
                    Run { start: piece.start.max(hole.end), end: piece.end },
                ]
            })
            .filter(|piece| piece.start < piece.end)
            .collect();
        pieces.dedup();
    }
    pieces
}

/// Ids from `inside` on the container's side, for the run on the outer side.
/// Both are below 2³²: they come from maps of the kernel or of `IdRange::parse`.
fn range(inside: u64, run: Run) -> IdRange {
    IdRange { inside: inside as u32, outside: run.start as u32, length: (run.end - run.start) as u32 }
}

fn outside_runs(map: &IdMap) -> Vec<Run> {
    map.0.iter().map(|r| Run { start: r.outside.into(), end: r.outside_end() }).collect()
}

/// The kernel's limits, checked here so that the reason has words
/// (and CVE-2021-43784: no map is ever cut to fit a message).
fn check_size(name: &str, map: &IdMap) -> Result<()> {
    if map.0.len() > MAX_LINES || map.proc_text().len() > MAX_BYTES {
        return Err(Error::invalid(format!("the {name} map has {} lines", map.0.len()))
            .hint(format!("the kernel takes {MAX_LINES} lines and {MAX_BYTES} bytes")));
    }
    Ok(())
}

fn describe_range(r: &IdRange) -> String {
    format!("{}:{}:{}", r.inside, r.outside, r.length)
}

/// `0, 5-9`; at most four of them.
fn describe(runs: impl Iterator<Item = (u32, u64)>) -> String {
    let mut texts: Vec<String> = runs
        .take(5)
        .map(|(start, end)| match end - 1 {
            last if last == u64::from(start) => start.to_string(),
            last => format!("{start}-{last}"),
        })
        .collect();
    if let Some(fifth) = texts.get_mut(4) {
        "…".clone_into(fifth);
    }
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> IdMap {
        IdMap::parse_proc(text)
    }

    fn outer(text: &str) -> Outer {
        let (uid_map, gid_map) = (map(text), map(text));
        let extent = match uid_map.count() {
            1 => Extent::Single { reason: "no ranges".into() },
            _ => Extent::Ranges,
        };
        Outer { uid_map, gid_map, extent, created: true }
    }

    const RANGES: &str = "0 1000 1\n1 100000 65536\n";
    const TWO: &str = "0 1000 1\n1 100000 10\n11 300000 10\n";
    const SINGLE: &str = "0 1000 1\n";
    const HOST: &str = "0 0 4294967295\n";

    fn uid_map(mode: &UsernsMode, given: &[&str], outer_text: &str) -> Result<String> {
        let given = IdMap(given.iter().map(|text| IdRange::parse(text).expect("a range")).collect());
        let request = MapRequest {
            mode,
            uid_map: &given,
            gid_map: &IdMap::default(),
            user: (7, 8),
            host_ids: (1000, 1000),
            in_use: &[],
        };
        Ok(container_maps(&request, &outer(outer_text))?.expect("nested").uid.proc_text())
    }

    fn keep(uid: u32) -> UsernsMode {
        UsernsMode::KeepId { uid: Some(uid), gid: None }
    }

    #[test]
    fn each_mode_over_each_outer_map() {
        let auto = |size| UsernsMode::Auto { size };
        let cases: &[(UsernsMode, &str, &str)] = &[
            (UsernsMode::Private, RANGES, "0 0 1\n1 1 65536\n"),
            (UsernsMode::Private, SINGLE, "7 0 1\n"),
            (UsernsMode::Private, HOST, "0 0 4294967295\n"),
            (keep(1000), RANGES, "0 1 1000\n1000 0 1\n1001 1001 64536\n"),
            (keep(0), RANGES, "0 0 1\n1 1 65536\n"),
            (keep(1), RANGES, "0 1 1\n1 0 1\n2 2 65535\n"),
            (keep(10), TWO, "0 1 10\n10 0 1\n11 11 10\n"),
            (keep(15), TWO, "0 1 10\n10 11 5\n15 0 1\n16 16 5\n"),
            (keep(100_000), RANGES, "0 1 65536\n100000 0 1\n"),
            (keep(1000), SINGLE, "1000 0 1\n"),
            (keep(1000), HOST, "0 1 1000\n1000 0 1\n1001 1001 4294966294\n"),
            (UsernsMode::KeepId { uid: None, gid: None }, SINGLE, "1000 0 1\n"),
            (UsernsMode::NoMap, RANGES, "0 1 65536\n"),
            (UsernsMode::NoMap, TWO, "0 1 10\n10 11 10\n"),
            (auto(None), RANGES, "0 1 1024\n"),
            (auto(Some(12)), TWO, "0 1 10\n10 11 2\n"),
        ];
        for (mode, outer, expected) in cases {
            assert_eq!(&uid_map(mode, &[], outer).expect("decided"), expected, "{mode:?} over {outer:?}");
        }
        for (mode, outer) in [(UsernsMode::NoMap, SINGLE), (auto(None), TWO), (auto(Some(1)), SINGLE)] {
            assert!(uid_map(&mode, &[], outer).is_err(), "{mode:?} over {outer:?}");
        }
    }

    #[test]
    fn groups_are_mapped_by_their_own_numbers() {
        let mode = UsernsMode::KeepId { uid: Some(5), gid: Some(6) };
        let empty = IdMap::default();
        let request = MapRequest {
            mode: &mode,
            uid_map: &empty,
            gid_map: &empty,
            user: (5, 6),
            host_ids: (1000, 1000),
            in_use: &[],
        };
        let maps = container_maps(&request, &outer(RANGES)).expect("decided").expect("nested");
        assert_eq!(maps.gid.proc_text(), "0 1 6\n6 0 1\n7 7 65530\n");
        assert_eq!(maps.uid.to_outside(5), Some(0));
    }

    #[test]
    fn maps_given_by_hand_are_cut_where_the_outer_map_is() {
        let private = UsernsMode::Private;
        let given = |ranges: &[&str], outer| uid_map(&private, ranges, outer);
        assert_eq!(given(&["0:0:1", "1:1:9"], RANGES).expect("there"), "0 0 1\n1 1 9\n");
        assert_eq!(given(&["0:0:65537"], RANGES).expect("there"), "0 0 1\n1 1 65536\n");
        assert_eq!(given(&["100:5:10"], TWO).expect("there"), "100 5 6\n106 11 4\n");
        for (bad, named) in [
            (&["0:0:5", "4:100:1"][..], "0:0:5 and 4:100:1 overlap"),
            (&["0:10:5", "100:14:1"], "0:10:5 and 100:14:1 overlap"),
            (&["0:65530:8"], "0:65530:8: not in your user namespace, which has uids 0, 1-65536"),
            (&["0:4294967294:1"], "not in your user namespace"),
        ] {
            let error = given(bad, RANGES).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        assert!(given(&["0:1:1"], SINGLE).unwrap_err().hints().contains(&"no ranges".to_owned()));
        assert!(uid_map(&UsernsMode::NoMap, &["0:1:1"], RANGES).is_err());
    }

    #[test]
    fn cve_2021_43784_a_long_map_is_refused_not_cut() {
        let ranges: Vec<String> = (0..341).map(|i| format!("{}:{}:1", i * 2, i * 2)).collect();
        let ranges: Vec<&str> = ranges.iter().map(String::as_str).collect();
        assert!(uid_map(&UsernsMode::Private, &ranges, RANGES).is_err());
        assert!(uid_map(&UsernsMode::Private, &ranges[..300], RANGES).is_ok());
    }

    #[test]
    fn auto_keeps_clear_of_others() {
        let empty = IdMap::default();
        let mode = UsernsMode::Auto { size: Some(4) };
        let others = [
            ContainerMaps { uid: map("0 1 2\n"), gid: map("0 1 2\n") },
            ContainerMaps { uid: map("0 4 5\n"), gid: map("0 4 5\n") },
        ];
        let request = MapRequest {
            mode: &mode,
            uid_map: &empty,
            gid_map: &empty,
            user: (0, 0),
            host_ids: (1000, 1000),
            in_use: &others,
        };
        let maps = container_maps(&request, &outer(TWO)).expect("decided").expect("nested");
        assert_eq!(maps.uid.proc_text(), "0 3 1\n1 9 2\n3 11 1\n");
    }

    #[test]
    fn a_user_without_a_map_is_named() {
        let maps = ContainerMaps { uid: map("0 0 1\n1 1 9\n"), gid: map("0 0 1\n1 1 9\n") };
        maps.check_user((9, 0)).expect("mapped");
        let error = maps.check_user((10, 0)).unwrap_err();
        assert_eq!(error.to_string(), "user 10 is not mapped in the container");
        assert_eq!(error.hints(), ["mapped are 0, 1-9"]);
        assert!(maps.check_user((0, 10)).unwrap_err().to_string().starts_with("group 10"));
    }

    #[test]
    fn host_mode_has_no_maps() {
        let empty = IdMap::default();
        let request = MapRequest {
            mode: &UsernsMode::Host,
            uid_map: &empty,
            gid_map: &empty,
            user: (0, 0),
            host_ids: (1000, 1000),
            in_use: &[],
        };
        assert_eq!(container_maps(&request, &outer(RANGES)).expect("decided"), None);
    }
}
