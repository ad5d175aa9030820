//! As much of D-Bus as it takes to ask the user's systemd for a unit: one
//! connection, calls one after the other, and the one signal that a job is done.
//!
//! Blocking and without threads, because it stands in the way of each start:
//! authentication, greeting and call leave in one write, and while systemd works
//! the caller goes on. D-Bus Specification, "Message Protocol" and
//! "Authentication Protocol"; all that comes is from the user's own manager, and
//! still is bounded and checked.

use crate::error::{Context, Error, Result};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long systemd may take for one answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of one message that is worth reading.
const MAX: usize = 1 << 20;
const MANAGER: &str = "org.freedesktop.systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// Bytes of a message's body, in the machine's order.
#[derive(Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub(super) fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_ne_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.align(8);
        self.0.extend(value.to_ne_bytes());
    }

    pub(super) fn string(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    pub(super) fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// An array whose items are aligned to `alignment`; `fill` writes them.
    pub(super) fn array(&mut self, alignment: usize, fill: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length = self.0.len() - 4;
        self.align(alignment);
        let start = self.0.len();
        fill(self);
        let bytes = (self.0.len() - start) as u32;
        self.0[length..length + 4].copy_from_slice(&bytes.to_ne_bytes());
    }

    /// One item of an array of structures.
    pub(super) fn structure(&mut self, fill: impl FnOnce(&mut Self)) {
        self.align(8);
        fill(self);
    }
}

/// A connection to the user's systemd.
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    /// Not yet sent.
    pending: Vec<u8>,
    greeted: bool,
    /// Calls up to this number were to the bus itself.
    greeting: u32,
    /// Answers that nobody has taken yet, and jobs that have ended.
    answers: Vec<Message>,
    jobs: Vec<(String, String)>,
}

/// What came.
#[derive(Debug)]
struct Message {
    kind: u8,
    reply_to: u32,
    member: String,
    error: String,
    signature: String,
    body: Vec<u8>,
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
    /// # Errors
    /// Where nobody listens.
    pub(super) fn connect(path: &Path) -> Result<Self> {
        let step = || format!("connect to systemd's user manager at {}", path.display());
        let stream = UnixStream::connect(path).context(step)?;
        for which in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&stream, which, Some(PATIENCE)).context(step)?;
        }
        let mut bus = Self {
            stream,
            serial: 0,
            pending: Vec::new(),
            greeted: false,
            greeting: 0,
            answers: Vec::new(),
            jobs: Vec::new(),
        };
        // No name of the user: what counts are the credentials that the kernel
        // tells, and in a user namespace no number would be right.
        bus.pending.extend(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
        if path.ends_with("bus") || !path.ends_with("systemd/private") {
            let daemon = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus");
            bus.queue(daemon, "Hello", "", Body::default());
            let mut rule = Body::default();
            rule.string(&format!("type='signal',interface='{MANAGER_INTERFACE}',member='JobRemoved'"));
            bus.greeting = bus.queue(daemon, "AddMatch", "s", rule);
        }
        Ok(bus)
    }

    /// Sends a call to systemd's manager; [`Bus::answer`] takes what it answers.
    pub(super) fn call(&mut self, member: &str, signature: &str, body: Body) -> Result<u32> {
        let manager = (MANAGER, "/org/freedesktop/systemd1", MANAGER_INTERFACE);
        let serial = self.queue(manager, member, signature, body);
        self.send()?;
        Ok(serial)
    }

    /// Asks for a property of systemd's manager; [`Bus::answer`] takes it.
    pub(super) fn get(&mut self, property: &str) -> Result<u32> {
        let properties = (MANAGER, "/org/freedesktop/systemd1", "org.freedesktop.DBus.Properties");
        let mut body = Body::default();
        body.string(MANAGER_INTERFACE);
        body.string(property);
        let serial = self.queue(properties, "Get", "ss", body);
        self.send()?;
        Ok(serial)
    }

    fn send(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.pending);
        self.stream.write_all(&bytes).context(|| "speak to systemd's user manager")
    }

    fn queue(&mut self, to: (&str, &str, &str), member: &str, signature: &str, body: Body) -> u32 {
        self.serial += 1;
        let (destination, path, interface) = to;
        let mut head = Body::default();
        head.0.extend([if cfg!(target_endian = "little") { b'l' } else { b'B' }, METHOD_CALL, 0, 1]);
        head.u32(body.0.len() as u32);
        head.u32(self.serial);
        head.array(8, |fields| {
            let texts = [(1, "o", path), (2, "s", interface), (3, "s", member), (6, "s", destination)];
            for (code, kind, text) in texts {
                fields.structure(|field| {
                    field.byte(code);
                    field.signature(kind);
                    field.string(text);
                });
            }
            if !signature.is_empty() {
                fields.structure(|field| {
                    field.byte(8);
                    field.signature("g");
                    field.signature(signature);
                });
            }
        });
        head.align(8);
        self.pending.extend(head.0);
        self.pending.extend(body.0);
        self.serial
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
                let said = text_of(&message);
                if message.kind == METHOD_RETURN {
                    return Ok(said.unwrap_or_default());
                }
                let said = said.unwrap_or_else(|| message.error.clone());
                let error = if message.error.ends_with(".UnitExists") {
                    Error::conflict(said)
                } else {
                    Error::failed(said)
                };
                return Err(error.context("systemd's user manager refuses"));
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
                    other => Err(Error::failed(format!("systemd could not start the unit: {other}"))),
                };
            }
            self.take_one()?;
        }
    }

    /// Keeps what came, whichever call it is for: several are under way.
    fn take_one(&mut self) -> Result<()> {
        let message = self.receive()?;
        match message.kind {
            ERROR if message.reply_to <= self.greeting => {
                let said = text_of(&message).unwrap_or(message.error);
                return Err(Error::failed(said).context("speak to the user's bus"));
            }
            METHOD_RETURN | ERROR if message.reply_to > self.greeting => self.answers.push(message),
            _ => self.note(&message),
        }
        Ok(())
    }

    /// `JobRemoved` has a number, the path of the job, the unit, and the result.
    fn note(&mut self, message: &Message) {
        if message.kind == SIGNAL && message.member == "JobRemoved" && message.signature == "uoss" {
            let mut reader = Reader { bytes: &message.body, at: 0 };
            let mut read = || {
                reader.u32()?;
                let job = reader.string()?;
                reader.string()?;
                Some((job, reader.string()?))
            };
            if let Some(job) = read() {
                self.jobs.push(job);
            }
        }
    }

    fn receive(&mut self) -> Result<Message> {
        let step = || "hear from systemd's user manager";
        if !self.greeted {
            self.greeted = true;
            self.read_greeting()?;
        }
        let mut head = [0; 16];
        self.stream.read_exact(&mut head).map_err(timeout).context(step)?;
        let bad = || Error::failed("systemd's user manager does not speak D-Bus");
        let number = |at: usize| {
            head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
                as usize
        };
        let own = if cfg!(target_endian = "little") { b'l' } else { b'B' };
        let (body, fields) = (number(4), number(12));
        if head[0] != own || head[3] != 1 || body > MAX || fields > MAX {
            return Err(bad());
        }
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        self.stream.read_exact(&mut rest).map_err(timeout).context(step)?;
        let body = rest.split_off(fields.next_multiple_of(8));
        rest.truncate(fields);
        parse(head[1], &rest, body).ok_or_else(bad)
    }

    /// `DATA` and `OK` in answer to `AUTH` and `DATA`: a line each.
    fn read_greeting(&mut self) -> Result<()> {
        let mut line = Vec::new();
        for _ in 0..4096 {
            let mut byte = [0];
            self.stream
                .read_exact(&mut byte)
                .map_err(timeout)
                .context(|| "log in to systemd's user manager")?;
            line.push(byte[0]);
            if line.ends_with(b"\r\n") {
                if line.starts_with(b"OK ") {
                    return Ok(());
                }
                if line.starts_with(b"REJECTED") || line.starts_with(b"ERROR") {
                    break;
                }
                line.clear();
            }
        }
        Err(Error::failed("systemd's user manager does not let this user in"))
    }
}

/// A socket's time-out says "try again".
fn timeout(error: std::io::Error) -> std::io::Error {
    if error.kind() == std::io::ErrorKind::WouldBlock {
        return std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer in {} seconds", PATIENCE.as_secs()),
        );
    }
    error
}

/// The first value of the body, where it is a text or a path, or a variant of one.
fn text_of(message: &Message) -> Option<String> {
    let mut reader = Reader { bytes: &message.body, at: 0 };
    let kind = if message.signature == "v" { reader.signature()? } else { message.signature.clone() };
    if kind.starts_with(['s', 'o']) { reader.string() } else { None }
}

/// A message from its header's fields, which begin at the 16th byte and so are
/// aligned as they are here.
fn parse(kind: u8, fields: &[u8], body: Vec<u8>) -> Option<Message> {
    let mut message = Message {
        kind,
        reply_to: 0,
        member: String::new(),
        error: String::new(),
        signature: String::new(),
        body,
    };
    let mut reader = Reader { bytes: fields, at: 0 };
    while reader.at < fields.len() {
        reader.align(8);
        let code = reader.byte()?;
        match (code, reader.signature()?.as_str()) {
            (5, "u") => message.reply_to = reader.u32()?,
            (3, "s") => message.member = reader.string()?,
            (4, "s") => message.error = reader.string()?,
            (8, "g") => message.signature = reader.signature()?,
            (_, "s" | "o") => drop(reader.string()?),
            (_, "g") => drop(reader.signature()?),
            (_, "u") => drop(reader.u32()?),
            _ => return None,
        }
    }
    Some(message)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_ne_bytes(self.take(4)?.try_into().ok()?))
    }

    fn string(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()? as usize;
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager that greets and then says what it was given.
    fn peer(said: Vec<u8>) -> Bus {
        let (here, mut there) = UnixStream::pair().expect("a pair");
        there.write_all(b"DATA\r\nOK 0123456789abcdef\r\n").expect("greets");
        there.write_all(&said).expect("says it");
        Bus {
            stream: here,
            serial: 2,
            pending: Vec::new(),
            greeted: false,
            greeting: 0,
            answers: Vec::new(),
            jobs: Vec::new(),
        }
    }

    fn message(kind: u8, fields: &[(u8, &str, &str)], reply_to: u32, signature: &str, body: Body) -> Vec<u8> {
        let mut head = Body::default();
        head.0.extend([b'l', kind, 0, 1]);
        head.u32(body.0.len() as u32);
        head.u32(9);
        head.array(8, |list| {
            for (code, kind, text) in fields {
                list.structure(|field| {
                    field.byte(*code);
                    field.signature(kind);
                    field.string(text);
                });
            }
            list.structure(|field| {
                field.byte(5);
                field.signature("u");
                field.u32(reply_to);
            });
            list.structure(|field| {
                field.byte(8);
                field.signature("g");
                field.signature(signature);
            });
        });
        head.align(8);
        head.0.extend(body.0);
        head.0
    }

    fn texts(texts: &[&str]) -> Body {
        let mut body = Body::default();
        for text in texts {
            body.string(text);
        }
        body
    }

    #[test]
    fn the_job_s_end_may_come_before_its_answer() {
        let mut removed = Body::default();
        removed.u32(7);
        for text in ["/job/7", "a.scope", "done"] {
            removed.string(text);
        }
        let mut said = message(SIGNAL, &[(3, "s", "JobRemoved")], 0, "uoss", removed);
        said.extend(message(METHOD_RETURN, &[], 1, "o", texts(&["/job/7"])));
        let mut bus = peer(said);
        let job = bus.answer(1).expect("an answer");
        assert_eq!(job, "/job/7");
        bus.job_done(&job).expect("done");
    }

    #[test]
    fn answers_to_several_calls_are_kept_for_who_asks() {
        let mut said = message(METHOD_RETURN, &[], 1, "o", texts(&["/job/7"]));
        said.extend(message(METHOD_RETURN, &[], 2, "o", texts(&["/job/8"])));
        for (number, job) in [(7, "/job/7"), (8, "/job/8")] {
            let mut removed = Body::default();
            removed.u32(number);
            for text in [job, "a.scope", "done"] {
                removed.string(text);
            }
            said.extend(message(SIGNAL, &[(3, "s", "JobRemoved")], 0, "uoss", removed));
        }
        let mut bus = peer(said);
        // The second's answer comes while the first's job is waited for.
        for serial in [1, 2] {
            let job = bus.answer(serial).expect("an answer");
            bus.job_done(&job).expect("done");
        }
    }

    #[test]
    fn a_refusal_is_told_in_systemd_s_words() {
        let name = "org.freedesktop.systemd1.UnitExists";
        let said = message(ERROR, &[(4, "s", name)], 1, "s", texts(&["Unit x.scope was already loaded"]));
        let error = peer(said).answer(1).expect_err("refused");
        assert_eq!(error.kind(), crate::error::Kind::Conflict);
        assert!(error.to_string().contains("already loaded"), "{error}");
    }

    #[test]
    fn nonsense_is_an_error() {
        let good = message(METHOD_RETURN, &[], 1, "o", texts(&["/job/7"]));
        for at in 0..good.len() {
            for byte in [0, 0xff] {
                let mut bad = good.clone();
                bad[at] = byte;
                // Whatever it makes of it, it ends: the peer is gone.
                drop(peer(bad).answer(1));
            }
            assert!(peer(good[..at].to_vec()).answer(1).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn addresses() {
        let address = "tcp:host=x;unix:path=/run/user/5/bus,guid=0;unix:abstract=/x";
        assert_eq!(paths_of(address), [PathBuf::from("/run/user/5/bus")]);
        assert!(paths_of("unix:path=relative").is_empty());
    }
}
