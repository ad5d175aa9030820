//! A program that serves an uplink, as a child of this process: how it is
//! started, tells that it is ready, is heard of when it dies, and ends.

use crate::error::{Context, Error, Result, Trouble};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

/// Bytes of its complaints that are kept.
const MAX_COMPLAINT: usize = 4096;

/// How a helper is called. It gets no environment and no fd but these: its
/// stdin, which ends when we do, and what `arguments` names.
pub(super) struct Call<'a> {
    /// By which it is named in errors.
    pub(super) name: &'static str,
    pub(super) program: &'a Path,
    /// Its command line, given the path at which it finds the network namespace
    /// and the number of the fd on which it says that it is ready.
    pub(super) arguments: &'a dyn Fn(&Paths) -> Vec<String>,
    pub(super) netns: BorrowedFd<'a>,
}

/// Fds that the helper inherits, as it finds them.
pub(super) struct Paths {
    pub(super) netns: String,
    pub(super) ready_fd: i32,
}

/// A running helper. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Helper {
    name: &'static str,
    child: Child,
    /// The helper ends when this end is closed, by us or by our death.
    #[expect(dead_code, reason = "held open: its end is the signal")]
    exit: ChildStdin,
    ready: Option<Receiver>,
    complaint: Option<JoinHandle<String>>,
}

impl Helper {
    /// Starts it and returns at once: see [`Helper::ready`]. Needs a tokio
    /// runtime; this process must have no other thread that might start a child
    /// meanwhile.
    pub(super) fn start(call: &Call<'_>) -> Result<Self> {
        let action = || format!("start {}", call.program.display());
        let (ready, child_ready) = pipe_with(PipeFlags::CLOEXEC).context(action)?;
        let netns: OwnedFd = rustix::io::fcntl_dupfd_cloexec(call.netns, 3).context(action)?;
        let paths = Paths {
            netns: format!("/proc/self/fd/{}", netns.as_raw_fd()),
            ready_fd: child_ready.as_raw_fd(),
        };
        let mut command = Command::new(call.program);
        // What it tells of its progress on stdout is not wanted.
        command
            .args((call.arguments)(&paths))
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // One thread: no other child can inherit the fds in between.
        for fd in [&child_ready, &netns] {
            fcntl_setfd(fd, FdFlags::empty()).context(action)?;
        }
        let child = command.spawn();
        drop((child_ready, netns));
        let mut child = child.context(action)?;
        let missing = || Error::failed("its pipes are missing").context(action());
        let exit = child.stdin.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        Ok(Self {
            name: call.name,
            child,
            exit,
            ready: Some(Receiver::from_owned_fd(ready).context(action)?),
            complaint: Some(tokio::spawn(drain(stderr))),
        })
    }

    /// `None` where it has ended and was reaped.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns when it has said that it is ready. Calling it again does nothing.
    /// It may be dropped and called anew.
    ///
    /// # Errors
    /// `Failed` with the helper's own words where it ended instead.
    pub(super) async fn ready(&mut self) -> Result<()> {
        let Some(pipe) = &mut self.ready else { return Ok(()) };
        let mut word = [0; 16];
        let read = pipe.read(&mut word).await.context(|| format!("wait for {}", self.name))?;
        self.ready = None;
        if read == 0 { Err(self.death().await) } else { Ok(()) }
    }

    /// Returns when it has ended, which it should not on its own, with what it
    /// said. It may be dropped and called anew.
    pub(super) async fn death(&mut self) -> Error {
        let status = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let said = match &mut self.complaint {
            Some(task) => task.await.unwrap_or_default(),
            None => String::new(),
        };
        self.complaint = None;
        let name = self.name;
        // pasta says so of each line where there is no system log.
        let says = |line: &&str| !line.is_empty() && !line.ends_with("to syslog");
        // What is wrong with its options stands before the usage text.
        let words =
            said.split("Usage:").next().filter(|before| before.lines().any(|line| says(&line.trim())));
        match words.unwrap_or(&said).lines().rev().map(str::trim).find(says) {
            Some(line) => {
                let line = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(line);
                Error::failed(format!("{name}: {line} ({status})"))
            }
            None => Error::failed(format!("{name} ended: {status}")),
        }
        .see_doctor(Trouble::WayOut)
    }
}

/// Reads to the end, so that the writer never blocks, and keeps the beginning.
async fn drain(mut stream: tokio::process::ChildStderr) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let room = MAX_COMPLAINT - kept.len();
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// A program of that name on the `PATH`, or where Debian has it; cheap: no
/// process is started.
///
/// # Errors
/// `NotFound`, with the package that has it.
pub(super) fn find(name: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .chain(["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok());
    program.ok_or_else(|| {
        Error::not_found(format!("{name} is not installed"))
            .hint(format!("sudo apt install {package}"))
            .see_doctor(Trouble::WayOut)
    })
}

/// Whether a tap device can be made, which every uplink needs.
///
/// # Errors
/// Why not, and what helps.
pub(super) fn check_tap() -> Result<()> {
    match rustix::fs::access("/dev/net/tun", rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::NOENT) => Err(Error::not_found("/dev/net/tun is not there")
            .hint("sudo modprobe tun")
            .see_doctor(Trouble::Tap)),
        Err(_) => Err(Error::failed("/dev/net/tun is not open to you")
            .hint("sudo chmod 0666 /dev/net/tun")
            .see_doctor(Trouble::Tap)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_a_helper_says_before_it_is_ready_becomes_the_error() {
        let script = "echo chatter\necho 'open(/dev/net/tun): no' >&2\nexit 3\n";
        assert_eq!(complaint(script), "slirp4netns: open(/dev/net/tun): no (exit status: 3)");
        let script = "echo \"pasta: unrecognized option '--foo'\" >&2\n\
            for line in 'Failed to send 51 bytes to syslog' 'Usage: pasta [OPTION]...' '  -d, --debug'; do echo \"$line\" >&2; done\n\
            exit 1\n";
        assert_eq!(complaint(script), "slirp4netns: pasta: unrecognized option '--foo' (exit status: 1)");
    }

    /// Of a helper that is this script of sh.
    fn complaint(script: &str) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join("helper");
        let script = format!("#!/bin/sh\n{script}");
        std::fs::write(&program, script).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).expect("executable");
        let netns = std::fs::File::open("/proc/self/ns/net").expect("a namespace");
        let call =
            Call { name: "slirp4netns", program: &program, arguments: &|_| Vec::new(), netns: netns.as_fd() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let error = runtime.block_on(async {
            let mut helper = Helper::start(&call).expect("started");
            helper.ready().await.expect_err("it ends")
        });
        error.to_string()
    }
}
