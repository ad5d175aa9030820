//! A seccomp profile: rules over names of system calls, and docker's JSON form of it.
//!
//! Format: docker's `default.json`, and `linux.seccomp` of the OCI runtime
//! specification, which is the same without conditions.

use super::{Action, Arch, MAX_ERRNO};
use crate::error::{Context, Error, Result};
use crate::runtime::capabilities::CapSet;
use serde::Deserialize;
use std::borrow::Cow;

/// Bytes of JSON that are read at most; docker's own default has 15,000.
const MAX_TEXT: usize = 1 << 20;

/// What to do with which system call. The first rule that matches decides.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    /// Where no rule matches.
    pub(crate) default: Action,
    /// Which architectures besides the machine's own may make system calls.
    pub(crate) architectures: Cow<'static, [Arch]>,
    pub(crate) rules: Cow<'static, [Rule]>,
    /// SECCOMP_FILTER_FLAG_* for the load.
    pub(crate) flags: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// Names of system calls with spaces between; ones that this machine lacks are passed over.
    pub(crate) names: Cow<'static, str>,
    pub(crate) action: Action,
    /// All must hold.
    pub(crate) conditions: Cow<'static, [Condition]>,
    pub(crate) only: Applies,
}

/// Compares an argument of the system call with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// 0 to 5.
    pub(crate) argument: u8,
    pub(crate) comparison: Comparison,
    pub(crate) value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    GreaterOrEqual,
    Greater,
    /// `argument & mask == value`
    Masked(u64),
}

/// In which containers and on which machines a rule applies.
#[derive(Clone, Debug)]
pub(crate) struct Applies {
    /// The container has all of these capabilities …
    pub(crate) with: CapSet,
    /// … and none of these.
    pub(crate) without: CapSet,
    /// The machine is one of these, where there is a list …
    pub(crate) on: Option<Cow<'static, [Arch]>>,
    /// … and none of these.
    pub(crate) not_on: Cow<'static, [Arch]>,
    /// Kernel version (major, minor): at least …
    pub(crate) since: Option<(u32, u32)>,
    /// … and below.
    pub(crate) before: Option<(u32, u32)>,
}

impl Applies {
    pub(crate) const ALWAYS: Self = Self {
        with: CapSet::EMPTY,
        without: CapSet::EMPTY,
        on: None,
        not_on: Cow::Borrowed(&[]),
        since: None,
        before: None,
    };
}

impl Profile {
    /// Reads docker's JSON.
    ///
    /// As with libseccomp, which docker and podman use, a rule without conditions
    /// beats one with, wherever it stands; of two such the first decides. Several
    /// conditions on one argument are alternatives, which is odd but what
    /// `runc` and `crun` have always done.
    ///
    /// # Errors
    /// `Invalid` where the text is not such a profile or needs what is not supported
    /// (SCMP_ACT_NOTIFY); unknown names of system calls are no error.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text.len() > MAX_TEXT {
            return Err(Error::invalid("the seccomp profile is larger than 1 MiB"));
        }
        let json: ProfileJson = serde_json::from_str(text).context(|| "read the seccomp profile")?;
        json.profile().context(|| "seccomp profile")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileJson {
    default_action: String,
    default_errno_ret: Option<u32>,
    default_errno: Option<String>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchMapJson>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<RuleJson>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMapJson {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleJson {
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    name: Option<String>,
    action: String,
    errno_ret: Option<u32>,
    errno: Option<String>,
    #[serde(default)]
    args: Option<Vec<ConditionJson>>,
    #[serde(default)]
    includes: Option<FilterJson>,
    #[serde(default)]
    excludes: Option<FilterJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConditionJson {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct FilterJson {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl ProfileJson {
    fn profile(self) -> Result<Profile> {
        if self.listener_path.is_some_and(|path| !path.is_empty()) {
            return Err(Error::invalid("listenerPath (notification) is not supported"));
        }
        let default = action(&self.default_action, self.default_errno_ret, self.default_errno.as_deref())?;
        let mut rules = Vec::new();
        for rule in self.syscalls.unwrap_or_default() {
            rule.rules(&mut rules).context(|| "syscalls")?;
        }
        rules.sort_by_key(|rule| !rule.conditions.is_empty());
        let mut flags = 0;
        for flag in self.flags.unwrap_or_default() {
            flags |= match flag.as_str() {
                "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG as u32,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32,
                // All of init's threads: it has one.
                "SECCOMP_FILTER_FLAG_TSYNC" | "" => 0,
                _ => return Err(Error::invalid(format!("unknown flag {flag:?}"))),
            };
        }
        let named = self.architectures.unwrap_or_default();
        let map = self.arch_map.unwrap_or_default();
        if !named.is_empty() && !map.is_empty() {
            return Err(Error::invalid("both architectures and archMap are given"));
        }
        let mut architectures: Vec<Arch> =
            named.iter().filter_map(|name| Arch::of_libseccomp(name)).collect();
        for entry in map.iter().filter(|entry| Arch::of_libseccomp(&entry.architecture) == Arch::native()) {
            let others = entry.sub_architectures.iter().flatten();
            architectures.extend(others.filter_map(|name| Arch::of_libseccomp(name)));
        }
        Ok(Profile { default, architectures: architectures.into(), rules: rules.into(), flags })
    }
}

impl RuleJson {
    fn rules(self, rules: &mut Vec<Rule>) -> Result<()> {
        let names = match (self.name, self.names.unwrap_or_default()) {
            (Some(_), names) if !names.is_empty() => {
                return Err(Error::invalid("both name and names are given"));
            }
            (Some(name), _) => vec![name],
            (None, names) => names,
        };
        let word = |name: &String| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if let Some(name) = names.iter().find(|name| !word(name)) {
            return Err(Error::invalid(format!("{name:?} is not the name of a system call")));
        }
        let action = action(&self.action, self.errno_ret, self.errno.as_deref())?;
        let only = applies(self.includes.unwrap_or_default(), self.excludes.unwrap_or_default())?;
        let names: Cow<'static, str> = names.join(" ").into();
        let conditions: Vec<Condition> =
            self.args.unwrap_or_default().iter().map(ConditionJson::condition).collect::<Result<_>>()?;
        let mut seen = [0_u8; 6];
        for condition in &conditions {
            seen[usize::from(condition.argument)] = seen[usize::from(condition.argument)].saturating_add(1);
        }
        if seen.iter().any(|count| *count > 1) {
            rules.extend(conditions.iter().map(|condition| Rule {
                names: names.clone(),
                action,
                conditions: vec![*condition].into(),
                only: only.clone(),
            }));
        } else {
            rules.push(Rule { names, action, conditions: conditions.into(), only });
        }
        Ok(())
    }
}

impl ConditionJson {
    fn condition(&self) -> Result<Condition> {
        let argument = u8::try_from(self.index).ok().filter(|index| *index < 6);
        let argument =
            argument.ok_or_else(|| Error::invalid(format!("argument index {} above 5", self.index)))?;
        let (comparison, value) = match self.op.as_str() {
            "SCMP_CMP_EQ" => (Comparison::Equal, self.value),
            "SCMP_CMP_NE" => (Comparison::NotEqual, self.value),
            "SCMP_CMP_LT" => (Comparison::Less, self.value),
            "SCMP_CMP_LE" => (Comparison::LessOrEqual, self.value),
            "SCMP_CMP_GE" => (Comparison::GreaterOrEqual, self.value),
            "SCMP_CMP_GT" => (Comparison::Greater, self.value),
            "SCMP_CMP_MASKED_EQ" => (Comparison::Masked(self.value), self.value_two),
            other => return Err(Error::invalid(format!("unknown comparison {other:?}"))),
        };
        Ok(Condition { argument, comparison, value })
    }
}

fn applies(includes: FilterJson, excludes: FilterJson) -> Result<Applies> {
    let arches = |names: Vec<String>| names.iter().filter_map(|name| Arch::of_go(name)).collect::<Vec<_>>();
    let kernel = |text: Option<String>| text.filter(|text| !text.is_empty()).map(|text| version(&text));
    Ok(Applies {
        with: capabilities(includes.caps.as_ref())?,
        without: capabilities(excludes.caps.as_ref())?,
        // A list of machines of which this program knows none still excludes this one.
        on: includes.arches.filter(|names| !names.is_empty()).map(|names| arches(names).into()),
        not_on: arches(excludes.arches.unwrap_or_default()).into(),
        since: kernel(includes.min_kernel).transpose()?,
        before: kernel(excludes.min_kernel).transpose()?,
    })
}

fn capabilities(names: Option<&Vec<String>>) -> Result<CapSet> {
    names.into_iter().flatten().try_fold(CapSet::EMPTY, |set, name| {
        let one =
            CapSet::named(name).ok_or_else(|| Error::invalid(format!("unknown capability {name:?}")))?;
        Ok(set.with(one))
    })
}

/// `4.8`, as in `minKernel`.
fn version(text: &str) -> Result<(u32, u32)> {
    let parsed =
        text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    parsed.ok_or_else(|| Error::invalid(format!("minKernel {text:?} is not MAJOR.MINOR")))
}

fn action(name: &str, number: Option<u32>, errno: Option<&str>) -> Result<Action> {
    let value = || -> Result<u16> {
        let number = match (number, errno) {
            (Some(number), _) => number,
            (None, Some(name)) if !name.is_empty() => errno_number(name)?,
            (None, _) => libc::EPERM as u32,
        };
        let value = u16::try_from(number).ok().filter(|value| *value <= MAX_ERRNO);
        value.ok_or_else(|| Error::invalid(format!("errno {number} is above {MAX_ERRNO}")))
    };
    match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Ok(Action::KillThread),
        "SCMP_ACT_KILL_PROCESS" => Ok(Action::KillProcess),
        "SCMP_ACT_TRAP" => Ok(Action::Trap),
        "SCMP_ACT_ERRNO" => value().map(Action::Errno),
        "SCMP_ACT_TRACE" => value().map(Action::Trace),
        "SCMP_ACT_LOG" => Ok(Action::Log),
        "SCMP_ACT_ALLOW" => Ok(Action::Allow),
        "SCMP_ACT_NOTIFY" => Err(Error::invalid("SCMP_ACT_NOTIFY is not supported")),
        other => Err(Error::invalid(format!("unknown action {other:?}"))),
    }
}

/// The names that profiles in use have; others must be given as a number.
fn errno_number(name: &str) -> Result<u32> {
    let number = match name {
        "EPERM" => libc::EPERM,
        "ENOENT" => libc::ENOENT,
        "EACCES" => libc::EACCES,
        "EINVAL" => libc::EINVAL,
        "ENOSYS" => libc::ENOSYS,
        "ENOTSUP" | "EOPNOTSUPP" => libc::EOPNOTSUPP,
        "EAFNOSUPPORT" => libc::EAFNOSUPPORT,
        _ => {
            return Err(Error::invalid(format!("unknown errno {name:?}"))
                .hint("give the number as errnoRet or defaultErrnoRet"));
        }
    };
    Ok(number as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_profiles_are_refused() {
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"defaultAction":"ALLOW"}"#,
            r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":4096}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":-1}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"EWHAT"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["X"]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"]}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["re ad"],"action":"SCMP_ACT_ALLOW"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","action":"SCMP_ACT_LOG","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","action":"SCMP_ACT_LOG","args":[{"index":0,"value":1,"op":"EQ"}]}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","action":"SCMP_ACT_LOG","includes":{"caps":["NOPE"]}}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","action":"SCMP_ACT_LOG","includes":{"minKernel":"4"}}]}"#,
        ] {
            assert!(Profile::parse(bad).is_err(), "{bad}");
        }
        assert!(Profile::parse(&" ".repeat(MAX_TEXT + 1)).is_err());
    }

    #[test]
    fn a_profile_is_read() {
        let profile = Profile::parse(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"ENOSYS","flags":["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls":[
                {"names":["a"],"action":"SCMP_ACT_ERRNO","errnoRet":7,"args":[
                    {"index":1,"value":2,"op":"SCMP_CMP_GE"},{"index":1,"value":6,"valueTwo":4,"op":"SCMP_CMP_MASKED_EQ"}]},
                {"names":["b","c"],"action":"SCMP_ACT_ALLOW","args":null,
                 "includes":{"caps":["CAP_SYS_ADMIN"],"minKernel":"4.8"},"excludes":{"arches":["s390x","amd64"]}}]}"#,
        )
        .unwrap();
        assert_eq!(profile.default, Action::Errno(38));
        assert_eq!(profile.flags, 2);
        let names: Vec<&str> = profile.rules.iter().map(|rule| &*rule.names).collect();
        assert_eq!(names, ["b c", "a", "a"]);
        assert_eq!(profile.rules[0].only.with, CapSet::SYS_ADMIN);
        assert_eq!(profile.rules[0].only.since, Some((4, 8)));
        assert_eq!(&*profile.rules[0].only.not_on, [Arch::X86_64]);
        let masked = Condition { argument: 1, comparison: Comparison::Masked(6), value: 4 };
        assert_eq!(&*profile.rules[2].conditions, [masked]);
    }
}
