//! Which limits this host lets the user set: for who would rather run a container
//! without one than not at all (`limits.undelegated = "warn"`).

use super::limits::{Setting, cannot, settings};
use super::{delegate, delegation, manager};
use crate::error::{Result, Trouble};
use crate::types::cgroup::CgroupsMode;
use crate::types::limits::Limits;

/// Limits, parted by whether this host lets the user set them.
pub(crate) struct Attainable {
    /// Those that hold.
    pub(crate) limits: Limits,
    /// Those whose controller is not the user's.
    lacking: Vec<Setting>,
}

impl Attainable {
    /// What of `asked` a group of this user's can keep.
    pub(crate) fn of(asked: &Limits, mode: CgroupsMode, uid: u32) -> Self {
        let manager = if mode == CgroupsMode::Split { None } else { manager(uid) };
        let own = manager.map_or_else(|| delegation().attainable(), |manager| manager.controllers());
        Self::among(asked, &own)
    }

    /// What of `asked` these controllers keep.
    fn among(asked: &Limits, own: &[String]) -> Self {
        let mut lacking = settings(asked);
        // What is no controller's is refused by name later.
        lacking.retain(|one| one.controller != "cgroup" && !own.iter().any(|name| name == one.controller));
        let kept = |limits: Limits, one: &Setting| limits.without(one.controller);
        let limits = lacking.iter().fold(asked.clone(), kept);
        // Swap is limited with memory where nobody has asked.
        lacking.retain(|one| one.flag != "--memory-swap" || asked.memory_swap.is_some());
        Self { limits, lacking }
    }

    /// `asked` but for what says that there is no limit, where none can be set: it
    /// needs no controller.
    pub(crate) fn without_idle(asked: &Limits, mode: CgroupsMode, uid: u32) -> Limits {
        if asked.pids != Some(u64::MAX) {
            return asked.clone();
        }
        let none = mode == CgroupsMode::Disabled || delegate::is_off();
        if none || Self::of(asked, mode, uid).limits.pids.is_none() {
            return Limits { pids: None, ..asked.clone() };
        }
        asked.clone()
    }

    /// All of `asked`: what cannot be kept is an error.
    pub(crate) fn all(asked: &Limits) -> Self {
        Self { limits: asked.clone(), lacking: Vec::new() }
    }

    /// # Errors
    /// `Invalid`, naming the controller, where one of them cannot be kept.
    pub(crate) fn check(&self) -> Result<()> {
        let Some(lacking) = self.lacking.first() else { return Ok(()) };
        Err(cannot(lacking, &delegation()))
    }

    /// Whether the same limits do not hold.
    pub(crate) fn lacks_the_same_as(&self, other: &Self) -> bool {
        self.lacking == other.lacking
    }

    /// What the user is to know, where anything does not hold.
    pub(crate) fn warning(&self) -> Option<String> {
        let mut words: Vec<String> =
            self.lacking.iter().map(|one| format!("{} ({})", one.flag, one.controller)).collect();
        words.dedup();
        (!words.is_empty()).then(|| {
            format!(
                "the container runs without limits whose controllers are not delegated to you: {} ({})",
                words.join(", "),
                Trouble::ControlGroups.pointer()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_controller_is_left_out_and_named() {
        let asked = Limits {
            memory: Some(64 << 20),
            cpuset_cpus: Some("0".into()),
            blkio_weight: Some(100),
            conf: vec![("io.max".into(), "x".into()), ("memory.high".into(), "1".into())],
            ..Limits::default()
        };
        let own = ["memory", "pids"].map(str::to_owned);
        let found = Attainable::among(&asked, &own);
        let conf = vec![("memory.high".to_owned(), "1".to_owned())];
        assert_eq!(found.limits, Limits { memory: Some(64 << 20), conf, ..Limits::default() });
        let warning = found.warning().expect("a warning");
        assert!(
            warning.contains("--cpuset-cpus (cpuset), --blkio-weight (io), --cgroup-conf (io)"),
            "{warning}"
        );
        assert!(warning.contains("coracle doctor") && !warning.contains('\n'), "{warning}");
        let none = Attainable::among(&asked, &[]).warning().expect("a warning");
        assert!(none.contains(": --memory (memory), --cpuset-cpus"), "{none}");
        let all = Attainable::among(&asked, &["memory", "cpuset", "io"].map(str::to_owned));
        assert!(all.limits == asked && all.warning().is_none());
        assert!(!found.lacks_the_same_as(&all) && all.lacks_the_same_as(&Attainable::all(&asked)));
    }
}
