//! As much of D-Bus as it takes to ask the user's systemd for a unit: one
//! connection, calls one after the other, and the one signal that a job is done.
//!
//! Blocking and without threads, because it stands in the way of each start: the
//! log-in is answered while the caller prepares its calls, these leave in one
//! write, and while systemd works the caller goes on. D-Bus Specification,
//! "Authentication Protocol"; all that comes is from the user's own manager, and
//! still is bounded and checked ([`super::message`]).

use super::message::{self, Body, ERROR, METHOD_RETURN, Message, Object};
use crate::error::{Context, Error, Result, Trouble};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long systemd may take for one answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of the answer to a log-in that are worth reading.
const GREETING: u64 = 4096;

const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const MANAGER: Object = Object {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: MANAGER_INTERFACE,
};
const PROPERTIES: Object = Object { interface: "org.freedesktop.DBus.Properties", ..MANAGER };
const DAEMON: Object = Object {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// A connection to the user's systemd.
pub(super) struct Bus {
    stream: BufReader<UnixStream>,
    serial: u32,
    /// Calls that are not yet sent.
    pending: Vec<u8>,
    logged_in: bool,
    /// Calls up to this number were to the bus itself.
    greeting: u32,
    /// Answers that nobody has taken yet, and jobs that have ended.
    answers: Vec<Message>,
    jobs: Vec<(String, String)>,
}

/// Where the user's systemd listens: its own socket, which needs no bus, or the
/// session bus, wherever the environment or the custom puts it. `None` where
/// there is no user manager.
pub(super) fn socket(uid: u32) -> Option<PathBuf> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let runtime = variable("XDG_RUNTIME_DIR").into_iter().chain([format!("/run/user/{uid}")]);
    let mut candidates: Vec<PathBuf> = Vec::new();
    for directory in runtime {
        candidates.push(Path::new(&directory).join("systemd/private"));
        candidates.push(Path::new(&directory).join("bus"));
    }
    if let Some(address) = variable("DBUS_SESSION_BUS_ADDRESS") {
        candidates.extend(paths_of(&address));
    }
    candidates.into_iter().find(|path| is_socket_of(path, uid))
}

/// The paths in `unix:path=/run/user/1000/bus,guid=…;…`.
fn paths_of(address: &str) -> Vec<PathBuf> {
    let keys = address.split(';').filter_map(|one| one.strip_prefix("unix:"));
    let paths = keys.flat_map(|keys| keys.split(',')).filter_map(|key| key.strip_prefix("path="));
    paths.filter(|path| path.starts_with('/') && !path.contains('%')).map(PathBuf::from).collect()
}

/// In a user namespace the user is 0: what counts is that it is this process's.
fn is_socket_of(path: &Path, uid: u32) -> bool {
    let own = rustix::process::geteuid().as_raw();
    rustix::fs::stat(path).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Socket
            && (stat.st_uid == uid || stat.st_uid == own)
    })
}

impl Bus {
    /// Connects, and begins to log in.
    ///
    /// # Errors
    /// Where nobody listens.
    pub(super) fn connect(path: &Path) -> Result<Self> {
        Self::begin(path).see_doctor(Trouble::UserManager)
    }

    fn begin(path: &Path) -> Result<Self> {
        let step = || format!("connect to systemd's user manager at {}", path.display());
        let mut stream = UnixStream::connect(path).context(step)?;
        for which in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&stream, which, Some(PATIENCE)).context(step)?;
        }
        // No name of the user: what counts are the credentials that the kernel
        // tells, and in a user namespace no number would be right.
        stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n").context(step)?;
        let mut bus = Self::over(stream);
        if !path.ends_with("systemd/private") {
            bus.queue(DAEMON, "Hello", "", Body::default());
            let mut rule = Body::default();
            rule.string(&format!("type='signal',interface='{MANAGER_INTERFACE}',member='JobRemoved'"));
            bus.greeting = bus.queue(DAEMON, "AddMatch", "s", rule);
        }
        Ok(bus)
    }

    fn over(stream: UnixStream) -> Self {
        Self {
            stream: BufReader::new(stream),
            serial: 0,
            pending: Vec::new(),
            logged_in: false,
            greeting: 0,
            answers: Vec::new(),
            jobs: Vec::new(),
        }
    }

    /// Prepares a call to systemd's manager, which leaves with [`Bus::send`];
    /// [`Bus::answer`] takes what it answers.
    pub(super) fn call(&mut self, member: &str, signature: &str, body: Body) -> u32 {
        self.queue(MANAGER, member, signature, body)
    }

    /// Prepares the question for a property of systemd's manager.
    pub(super) fn get(&mut self, property: &str) -> u32 {
        let mut body = Body::default();
        body.string(MANAGER_INTERFACE);
        body.string(property);
        self.queue(PROPERTIES, "Get", "ss", body)
    }

    fn queue(&mut self, object: Object, member: &str, signature: &str, body: Body) -> u32 {
        self.serial += 1;
        self.pending.extend(message::call(self.serial, object, member, signature, body));
        self.serial
    }

    /// Sends the calls that are prepared.
    ///
    /// # Errors
    /// Where systemd does not let this user in, or does not answer.
    pub(super) fn send(&mut self) -> Result<()> {
        if !self.logged_in {
            self.log_in().see_doctor(Trouble::UserManager)?;
            self.logged_in = true;
        }
        let bytes = std::mem::take(&mut self.pending);
        let sent = self.stream.get_mut().write_all(&bytes).map_err(timeout);
        sent.context(|| "speak to systemd's user manager").see_doctor(Trouble::UserManager)
    }

    /// Waits for `DATA` and `OK`, a line each: the answers to `AUTH` and `DATA`.
    /// Signals may follow them at once: of other jobs, which go to everybody.
    ///
    /// No call may leave before. systemd's end of a connection reads 256 bytes at
    /// once while a client logs in, and a call that came with them whole lies in
    /// its buffer until more arrives (sd-bus: `bus_socket_read_auth` reads it,
    /// `sd_bus_get_events` waits for the socket alone).
    fn log_in(&mut self) -> Result<()> {
        let mut said = self.stream.by_ref().take(GREETING);
        loop {
            let mut line = Vec::new();
            said.read_until(b'\n', &mut line)
                .map_err(timeout)
                .context(|| "log in to systemd's user manager")?;
            match line.strip_suffix(b"\r\n") {
                Some(line) if line.starts_with(b"OK ") => return Ok(()),
                Some(line) if line.starts_with(b"REJECTED") || line.starts_with(b"ERROR") => {
                    return Err(Error::failed("systemd's user manager does not let this user in"));
                }
                Some(_) => {}
                None => return Err(Error::failed("systemd's user manager does not answer a log-in")),
            }
        }
    }

    /// Waits for the answer to the call of this number, and gives its first
    /// text: the path of a job.
    ///
    /// # Errors
    /// `Conflict` for a unit that exists already, `Failed` with systemd's words
    /// for everything else.
    pub(super) fn answer(&mut self, serial: u32) -> Result<String> {
        loop {
            if let Some(at) = self.answers.iter().position(|message| message.reply_to == serial) {
                let message = self.answers.swap_remove(at);
                if message.kind == METHOD_RETURN {
                    return Ok(message.text().unwrap_or_default());
                }
                let mut error = message.refusal();
                if message.error.ends_with(".UnitExists") {
                    error = Error::conflict(error.to_string());
                }
                return Err(error.context("systemd's user manager refuses").see_doctor(Trouble::UserManager));
            }
            self.take_one()?;
        }
    }

    /// Waits for the end of a job.
    ///
    /// # Errors
    /// Where it did not end well.
    pub(super) fn job_done(&mut self, job: &str) -> Result<()> {
        loop {
            if let Some(at) = self.jobs.iter().position(|(path, _)| path == job) {
                let (_, result) = self.jobs.swap_remove(at);
                return match result.as_str() {
                    "done" => Ok(()),
                    other => Err(Error::failed(format!("systemd could not start the unit: {other}"))
                        .see_doctor(Trouble::UserManager)),
                };
            }
            self.take_one()?;
        }
    }

    /// Keeps what came, whichever call it is for: several are under way.
    fn take_one(&mut self) -> Result<()> {
        let message = Message::read(&mut self.stream)
            .map_err(timeout)
            .context(|| "hear from systemd's user manager")
            .see_doctor(Trouble::UserManager)?;
        match message.kind {
            ERROR if message.reply_to <= self.greeting => {
                return Err(message.refusal().context("speak to the user's bus"));
            }
            METHOD_RETURN | ERROR if message.reply_to > self.greeting => self.answers.push(message),
            // Any other's signal is nothing to keep.
            _ => self.jobs.extend(message.ended_job()),
        }
        Ok(())
    }
}

/// A socket's time-out says "try again".
fn timeout(error: std::io::Error) -> std::io::Error {
    if error.kind() == ErrorKind::WouldBlock {
        let text = format!("no answer in {} seconds", PATIENCE.as_secs());
        return std::io::Error::new(ErrorKind::TimedOut, text);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::message::{SIGNAL, said};

    /// A manager that has said this, of which the log-in is over.
    fn peer(said: &[u8]) -> Bus {
        let (here, mut there) = UnixStream::pair().expect("a pair");
        there.write_all(said).expect("says it");
        Bus { logged_in: true, serial: 2, ..Bus::over(here) }
    }

    fn texts(texts: &[&str]) -> Body {
        let mut body = Body::default();
        for text in texts {
            body.string(text);
        }
        body
    }

    fn removed(job: &str) -> Vec<u8> {
        let mut body = Body::default();
        body.u32(7);
        for text in [job, "a.scope", "done"] {
            body.string(text);
        }
        said(SIGNAL, &[(3, "s", "JobRemoved")], 0, "uoss", body)
    }

    #[test]
    fn no_call_leaves_before_the_log_in_is_answered() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("systemd/private");
        std::fs::create_dir(directory.path().join("systemd")).expect("a directory");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        let mut bus = Bus::connect(&path).expect("a connection");
        let (mut there, _) = listener.accept().expect("a client");
        bus.get("SystemState");
        // It reads all that there is at once, as systemd does.
        let mut heard = [0; 256];
        let count = there.read(&mut heard).expect("a log-in");
        assert!(heard[..count].ends_with(b"BEGIN\r\n"), "{:?}", &heard[..count]);
        there.set_nonblocking(true).expect("set");
        assert!(there.read(&mut heard).is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
        // The answer may come in pieces.
        there.write_all(b"DATA\r\nOK 0123456789").expect("answers");
        let late = std::thread::spawn(move || {
            there.write_all(b"abcdef\r\n").expect("answers");
            there.set_nonblocking(false).expect("set");
            let count = there.read(&mut heard).expect("a call");
            (count, heard[0])
        });
        bus.send().expect("let in");
        let (count, first) = late.join().expect("no panic");
        assert!(count > 100 && first.is_ascii_alphabetic(), "{count} {first}");
    }

    #[test]
    fn signals_of_other_jobs_may_come_with_the_answer_to_the_log_in() {
        let mut words = b"DATA\r\nOK 0123456789abcdef\r\n".to_vec();
        words.extend(removed("/job/3"));
        words.extend(said(METHOD_RETURN, &[], 1, "o", texts(&["/job/7"])));
        let (here, mut there) = UnixStream::pair().expect("a pair");
        there.write_all(&words).expect("says it");
        let mut bus = Bus::over(here);
        let serial = bus.get("SystemState");
        bus.send().expect("let in");
        assert_eq!(bus.answer(serial).expect("an answer"), "/job/7");
        bus.job_done("/job/3").expect("noted");
        drop(there);
    }

    #[test]
    fn who_is_not_let_in_is_told() {
        for (words, told) in [("REJECTED EXTERNAL\r\n", "let this user in"), ("220 smtp\r\n", "log-in")] {
            let mut bus = Bus { logged_in: false, ..peer(words.as_bytes()) };
            let error = bus.send().expect_err(words).to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn the_job_s_end_may_come_before_its_answer() {
        let mut words = removed("/job/7");
        words.extend(said(METHOD_RETURN, &[], 1, "o", texts(&["/job/7"])));
        let mut bus = peer(&words);
        let job = bus.answer(1).expect("an answer");
        assert_eq!(job, "/job/7");
        bus.job_done(&job).expect("done");
    }

    #[test]
    fn answers_to_several_calls_are_kept_for_who_asks() {
        let mut words = said(METHOD_RETURN, &[], 1, "o", texts(&["/job/7"]));
        words.extend(said(METHOD_RETURN, &[], 2, "o", texts(&["/job/8"])));
        words.extend(removed("/job/7"));
        words.extend(removed("/job/8"));
        let mut bus = peer(&words);
        // The second's answer comes while the first's job is waited for.
        for serial in [1, 2] {
            let job = bus.answer(serial).expect("an answer");
            bus.job_done(&job).expect("done");
        }
    }

    #[test]
    fn a_refusal_is_told_in_systemd_s_words() {
        let name = "org.freedesktop.systemd1.UnitExists";
        let words = said(ERROR, &[(4, "s", name)], 1, "s", texts(&["Unit x.scope was already loaded"]));
        let error = peer(&words).answer(1).expect_err("refused");
        assert_eq!(error.kind(), crate::error::Kind::Conflict);
        assert!(error.to_string().contains("already loaded"), "{error}");
    }

    #[test]
    fn addresses() {
        let address = "tcp:host=x;unix:path=/run/user/5/bus,guid=0;unix:abstract=/x";
        assert_eq!(paths_of(address), [PathBuf::from("/run/user/5/bus")]);
        assert!(paths_of("unix:path=relative").is_empty());
    }
}
