//! Resource limits of the container's first process.

use crate::error::{Context, Error, Result};
use crate::types::container::Ulimit;
use crate::types::ulimit::UNLIMITED;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the kernel lets processes have open by default at most: fs.nr_open.
const MAX_OPEN_FILES: u64 = 1_048_576;

/// Sets `requested`, and for open files and processes what podman gives where
/// nothing is asked for: the most that can be had, up to 1048576 files, and the
/// system's pid_max (its contents are `pid_max`, where known). All others are inherited.
///
/// # Errors
/// `Invalid` where a limit above the host's hard limit was asked for; unlimited is that limit.
pub(crate) fn apply(requested: &[Ulimit], pid_max: Option<u64>) -> Result<()> {
    for (resource, name, most) in
        [(Resource::Nofile, "nofile", Some(MAX_OPEN_FILES)), (Resource::Nproc, "nproc", pid_max)]
    {
        if let Some(most) = most.filter(|_| requested.iter().all(|limit| limit.name != name)) {
            let value = getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
            let limit = Rlimit { current: Some(value), maximum: Some(value) };
            setrlimit(resource, limit).context(|| format!("set the limit {name} to {value}"))?;
        }
    }
    requested.iter().try_for_each(set)
}

fn set(limit: &Ulimit) -> Result<()> {
    let Ulimit { name, soft, hard } = limit;
    let resource = resource(name).ok_or_else(|| Error::invalid(format!("no limit is called {name:?}")))?;
    let value = |value: u64| Some(value).filter(|value| *value != UNLIMITED);
    let new = Rlimit { current: value(*soft), maximum: value(*hard) };
    let Err(errno) = setrlimit(resource, new) else { return Ok(()) };
    let most = getrlimit(resource).maximum;
    // Podman's -1: as much as there is to have.
    if errno == rustix::io::Errno::PERM && *hard == UNLIMITED {
        let current = Some(most.map_or(*soft, |most| most.min(*soft))).filter(|value| *value != UNLIMITED);
        return setrlimit(resource, Rlimit { current, maximum: most })
            .context(|| format!("set the limit {name}"));
    }
    if errno == rustix::io::Errno::PERM && most.is_some_and(|most| *hard > most) {
        let most = most.unwrap_or(UNLIMITED);
        return Err(Error::invalid(format!("ulimit {name}={hard} is above this user's hard limit, {most}"))
            .hint(format!(
                "ask for at most {most}, or raise it in /etc/security/limits.conf and log in again"
            )));
    }
    Err(errno).context(|| format!("set the limit {name}"))
}

/// By its name in [`crate::types::ulimit::NAMES`].
fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_resource() {
        let all: Vec<u32> = crate::types::ulimit::NAMES
            .iter()
            .map(|name| resource(name).unwrap_or_else(|| panic!("{name}")) as u32)
            .collect();
        let mut once = all.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), all.len());
        assert!(resource("files").is_none());
    }

    /// Not even root may go above fs.nr_open, so this fails for everybody and changes nothing.
    #[test]
    fn what_is_above_the_hard_limit_is_refused_with_that_limit() {
        let hard = getrlimit(Resource::Nofile).maximum.expect("no system leaves open files unlimited");
        let error = set(&Ulimit::parse("nofile=9000000000000").unwrap()).unwrap_err();
        assert!(error.to_string().contains(&hard.to_string()), "{error}");
        set(&Ulimit { name: "nofile".into(), soft: UNLIMITED, hard: UNLIMITED }).unwrap();
        assert_eq!(getrlimit(Resource::Nofile).maximum, Some(hard));
    }
}
