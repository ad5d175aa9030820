//! The tool on a terminal of its own.

use super::wait::until;
use rustix::termios::{Termios, Winsize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

/// A command whose three streams are a pseudo terminal.
pub(crate) struct Terminal {
    ours: File,
    theirs: OwnedFd,
    child: Child,
    output: mpsc::Receiver<Vec<u8>>,
    said: Vec<u8>,
}

impl Terminal {
    /// Starts `command` as the leader of a session on a new terminal.
    pub(crate) fn start(mut command: Command, rows: u16, columns: u16) -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let theirs = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty()).unwrap();
        set_size(&ours, rows, columns);
        let end = || Stdio::from(theirs.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        // setsid(1) makes the terminal the controlling one; without unsafe code
        // there is no other way to do so between fork and exec.
        let mut wrapped = Command::new("setsid");
        wrapped.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        if let Some(dir) = command.get_current_dir() {
            wrapped.current_dir(dir);
        }
        wrapped.env_clear();
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                wrapped.env(name, value);
            }
        }
        wrapped.stdin(end()).stdout(end()).stderr(end()).process_group(0);
        let child = wrapped.spawn().unwrap();
        let ours = File::from(ours);
        let output = collect(ours.try_clone().unwrap());
        Self { ours, theirs, child, output, said: Vec::new() }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.ours.write_all(bytes).unwrap();
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        set_size(&self.ours, rows, columns);
    }

    /// The line settings, to compare before and after.
    pub(crate) fn settings(&self) -> Termios {
        rustix::termios::tcgetattr(&self.theirs).unwrap()
    }

    /// Everything said so far.
    pub(crate) fn said(&mut self) -> String {
        self.said.extend(self.output.try_iter().flatten());
        String::from_utf8_lossy(&self.said).into_owned()
    }

    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        let mut last = String::new();
        let end = std::time::Instant::now() + super::wait::DEADLINE;
        while !last.contains(text) {
            assert!(std::time::Instant::now() < end, "the terminal never showed {text:?}, only: {last}");
            std::thread::sleep(std::time::Duration::from_millis(5));
            last = self.said();
        }
    }

    /// Waits for the end; the code and all that was shown.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> (i32, String) {
        let status = until("the command on the terminal to end", || self.child.try_wait().unwrap());
        use std::os::unix::process::ExitStatusExt;
        (status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)), self.all_said())
    }

    /// Everything that was written before now, also what is on its way: what is
    /// written behind it has arrived.
    #[track_caller]
    fn all_said(&mut self) -> String {
        const MARK: &[u8] = b"\x01the end\x01";
        rustix::io::write(&self.theirs, MARK).unwrap();
        until("the last output of the terminal", || {
            self.said();
            let place = self.said.windows(MARK.len()).position(|bytes| bytes == MARK)?;
            self.said.drain(place..place + MARK.len());
            Some(())
        });
        self.said()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

fn set_size(fd: impl std::os::fd::AsFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(fd, size).unwrap();
}

fn collect(mut from: File) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // EIO once the other end is closed.
        while let Ok(n) = from.read(&mut buffer) {
            if n == 0 || sender.send(buffer[..n].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}
