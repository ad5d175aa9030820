//! The last steps to a command, which the first process of a container and one
//! that is executed in it later take alike: stdio, credentials, the filter, exec.

use super::capabilities::{self, CapSet, ProcessCaps};
use super::plan::{Process, Stdio};
use super::{rlimits, seccomp};
use crate::error::{Context, Error, Kind, Result, Trouble};
use crate::sys::process;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatVfsMountFlags};
use rustix::process::Signal;
use std::ffi::CString;
use std::os::fd::OwnedFd;

/// The container ends when its monitor does, even by SIGKILL.
pub(super) fn die_with_the_monitor() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context(|| "tie to the monitor")
}

/// The directory must lie inside: CVE-2024-21626 came in through a working
/// directory outside the root, for which getcwd(2) has no absolute answer.
pub(super) fn enter_working_directory(directory: &OwnedFd, path: &str) -> Result<()> {
    let step = || format!("enter the working directory {path}");
    rustix::process::fchdir(directory).context(step)?;
    let cwd = rustix::process::getcwd(Vec::new()).context(step)?;
    if cwd.as_bytes().first() == Some(&b'/') {
        Ok(())
    } else {
        Err(Error::invalid("it is outside the container").context(step()))
    }
}

pub(super) fn set_stdio(stdio: &Stdio, terminal: Option<OwnedFd>) -> Result<()> {
    let step = || "set up stdin, stdout and stderr";
    // The terminal stands for all three; without one, what is missing is /dev/null.
    let only_terminal = terminal.is_some();
    let rest = match terminal {
        Some(terminal) => terminal,
        None => rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context(step)?,
    };
    let pick = |fd: &'static str, given: &Option<OwnedFd>| -> Result<OwnedFd> {
        let source = given.as_ref().filter(|_| !only_terminal).unwrap_or(&rest);
        source.try_clone().context(|| format!("set up {fd}"))
    };
    rustix::stdio::dup2_stdin(pick("stdin", &stdio.stdin)?).context(step)?;
    rustix::stdio::dup2_stdout(pick("stdout", &stdio.stdout)?).context(step)?;
    rustix::stdio::dup2_stderr(pick("stderr", &stdio.stderr)?).context(step)
}

/// What the process keeps over an exec, beside its credentials.
pub(super) fn set_umask_and_personality(process: &Process) -> Result<()> {
    rustix::process::umask(Mode::from_raw_mode(process.umask));
    process.personality.map_or(Ok(()), |personality| {
        process::set_personality(personality.number())
            .context(|| format!("set the personality {personality:?}"))
    })
}

/// Groups, then ids, then what capabilities are left: each step needs the
/// capability that a later one takes away.
pub(super) fn set_credentials(process: &Process) -> Result<()> {
    capabilities::limit_bounding(process.capabilities.bounding)?;
    if let Some(groups) = &process.groups {
        process::set_groups(groups).context(|| format!("set the supplementary groups {groups:?}"))?;
    }
    process::set_gid(process.gid).context(|| format!("become group {}", process.gid))?;
    rustix::thread::set_keep_capabilities(true).context(|| "keep capabilities")?;
    process::set_uid(process.uid).context(|| format!("become user {}", process.uid))?;
    // Loading a filter takes CAP_SYS_ADMIN or no_new_privs: seccomp(2). The
    // former is given up right after that, in `confine`.
    let until_confined = process.capabilities.permitted.with(CapSet::SYS_ADMIN);
    capabilities::set_final(ProcessCaps {
        permitted: until_confined,
        ambient: CapSet::EMPTY,
        ..process.capabilities
    })
}

/// The last step before exec: nothing of what set-up was allowed to do is left.
pub(super) fn confine(process: &Process) -> Result<()> {
    // Not before: set-up has files open that a low limit leaves no room for. None
    // needs a privilege, as no limit of the host's is raised.
    rlimits::apply(&process.rlimits, process.pid_max)?;
    let install = || match &process.seccomp {
        Some(program) => seccomp::install(&program.filter, program.flags),
        None => Ok(()),
    };
    if process.no_new_privileges {
        // The filter needs no capability then, and may forbid capset(2).
        rustix::thread::set_no_new_privs(true).context(|| "set no_new_privs")?;
        capabilities::set_final(process.capabilities)?;
        return install();
    }
    install()?;
    capabilities::set_final(process.capabilities)
}

/// The command, with everything allocated that exec needs.
pub(super) struct Exec {
    /// Where to look, in this order; the first that exists counts.
    candidates: Vec<CString>,
    args: Vec<CString>,
    env: Vec<CString>,
    /// As the user wrote it.
    name: String,
}

impl Exec {
    pub(super) fn prepare(process: &Process) -> Result<Self> {
        let name = process.args.first().cloned().unwrap_or_default();
        if name.is_empty() {
            return Err(Error::invalid("no command: neither the image nor the command line names one"));
        }
        let c_string = |text: &String| {
            CString::new(text.as_bytes())
                .map_err(|_| Error::invalid(format!("{text:?} has a NUL byte in it")))
        };
        let candidates: Vec<String> = if name.contains('/') {
            vec![name.clone()]
        } else {
            search_path(&process.env).map(|dir| format!("{dir}/{name}")).collect()
        };
        Ok(Self {
            candidates: candidates.iter().map(c_string).collect::<Result<_>>()?,
            args: process.args.iter().map(c_string).collect::<Result<_>>()?,
            env: process.env.iter().map(c_string).collect::<Result<_>>()?,
            name,
        })
    }

    /// Tries each place; says why none would do.
    pub(super) fn run(self) -> Error {
        let mut refused = None;
        for path in &self.candidates {
            let error = process::execve(path, &self.args, &self.env);
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                // A directory or a file without x further on the path may still
                // be followed by the right one: execvp(3).
                Some(libc::EACCES) => refused = Some((path, error)),
                _ => return Self::cannot_run(path, &error),
            }
        }
        match refused {
            Some((path, error)) => Self::cannot_run(path, &error),
            None => self.not_found(),
        }
    }

    fn cannot_run(path: &CString, error: &std::io::Error) -> Error {
        let is_directory = rustix::fs::statat(CWD, path.as_c_str(), AtFlags::empty())
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
        let why = match error.raw_os_error() {
            Some(libc::EACCES) if is_directory => "is a directory: permission denied".to_owned(),
            Some(libc::EACCES) => "permission denied".to_owned(),
            Some(libc::ENOEXEC) => "exec format error".to_owned(),
            errno => std::io::Error::from_raw_os_error(errno.unwrap_or(libc::EINVAL)).to_string(),
        };
        let failure = Error::new(Kind::NotExecutable, format!("exec: {:?}: {why}", path.to_string_lossy()));
        if error.raw_os_error() == Some(libc::ENOEXEC) {
            return failure.hint(
                "it is not a program for this machine: see its architecture with `file`, or a script without a #! line",
            );
        }
        let is_noexec = || {
            rustix::fs::statvfs(path.as_c_str())
                .is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::NOEXEC))
        };
        if error.raw_os_error() == Some(libc::EACCES) && !is_directory && is_noexec() {
            return failure.hint("it lies on a mount with noexec").see_doctor(Trouble::NoExec);
        }
        failure
    }

    /// In docker's words, which scripts look for.
    fn not_found(&self) -> Error {
        let name = &self.name;
        let exists = self
            .candidates
            .iter()
            .any(|path| rustix::fs::statat(CWD, path.as_c_str(), AtFlags::empty()).is_ok());
        let why = if exists {
            "no such file or directory: its interpreter is not in the container"
        } else if name.contains('/') {
            "no such file or directory"
        } else {
            "executable file not found in $PATH"
        };
        let error = Error::new(Kind::NoCommand, format!("exec: {name:?}: {why}"));
        if exists {
            return error.hint("the #! line of the script, or the dynamic loader of the program, names a file that the image lacks");
        }
        error
    }
}

/// The directories of `PATH`, or the ones execvp(3) takes without it.
fn search_path(env: &[String]) -> impl Iterator<Item = &str> {
    env.iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .split(':')
        .map(|dir| if dir.is_empty() { "." } else { dir })
}
