//! One client's connection: TCP or a Unix socket, with or without TLS, and the
//! patience that it gets.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long one read or write may take.
const STEP: Duration = Duration::from_secs(30);
/// How long a client may keep a connection without asking anything.
const IDLE: Duration = Duration::from_secs(60);
/// How long the head of a request may take from its first byte.
const HEAD: Duration = Duration::from_secs(10);
/// From then on a body must come faster than [`SLOWEST`].
const GRACE: Duration = Duration::from_secs(30);
/// Bytes a second.
const SLOWEST: u64 = 1024;
/// The first byte of a connection with TLS (RFC 8446, 5.1); no method has it.
const TLS_HANDSHAKE: u8 = 22;

pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn patience(&self, time: Duration) -> io::Result<()> {
        // A zero would be no limit at all.
        let time = Some(time.max(Duration::from_millis(1)));
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(time),
            Self::Unix(stream) => stream.set_read_timeout(time),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buffer),
            Self::Unix(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Channel {
    Plain(Socket),
    Tls(Box<rustls::StreamOwned<rustls::ServerConnection, Socket>>),
}

/// A connection and what was read ahead from it.
pub(super) struct Connection {
    channel: Channel,
    ahead: Vec<u8>,
    /// When the body began, and its bytes so far.
    body: Option<(Instant, u64)>,
}

impl Connection {
    pub(super) fn open(socket: Socket, tls: Option<&Arc<rustls::ServerConfig>>) -> io::Result<Self> {
        match &socket {
            Socket::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(STEP))?;
            }
            Socket::Unix(stream) => stream.set_write_timeout(Some(STEP))?,
        }
        socket.patience(HEAD)?;
        let channel = match tls {
            None => Channel::Plain(socket),
            Some(config) => {
                let server = rustls::ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                Channel::Tls(Box::new(rustls::StreamOwned::new(server, socket)))
            }
        };
        Ok(Self { channel, ahead: Vec::new(), body: None })
    }

    fn socket(&self) -> &Socket {
        match &self.channel {
            Channel::Plain(socket) => socket,
            Channel::Tls(stream) => &stream.sock,
        }
    }

    fn read_channel(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match &mut self.channel {
                Channel::Plain(socket) => socket.read(buffer),
                Channel::Tls(stream) => stream.read(buffer),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Everything up to and with the empty line that ends a head. `None` where
    /// the client has gone, or has asked nothing for long; an error where it
    /// sends more than `most` or takes too long.
    pub(super) fn head(&mut self, most: usize) -> io::Result<Option<Vec<u8>>> {
        self.body = None;
        let mut begun: Option<Instant> = (!self.ahead.is_empty()).then(Instant::now);
        let mut searched = 0_usize;
        loop {
            let from = searched.saturating_sub(3);
            if let Some(at) = self.ahead[from..].windows(4).position(|part| part == b"\r\n\r\n") {
                let rest = self.ahead.split_off(from + at + 4);
                return Ok(Some(std::mem::replace(&mut self.ahead, rest)));
            }
            // A client that begins TLS at a plain server would wait for long: it
            // is told at once that this is HTTP, and may try that.
            if self.ahead.first() == Some(&TLS_HANDSHAKE) {
                return Ok(Some(std::mem::take(&mut self.ahead)));
            }
            searched = self.ahead.len();
            if searched > most {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the head is too large"));
            }
            let left = match begun {
                None => IDLE,
                Some(begun) => HEAD
                    .checked_sub(begun.elapsed())
                    .ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "the head takes too long"))?,
            };
            self.socket().patience(left)?;
            let mut buffer = [0; 4096];
            match self.read_channel(&mut buffer) {
                Ok(0) if begun.is_none() => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    begun.get_or_insert_with(Instant::now);
                    self.ahead.extend_from_slice(&buffer[..count]);
                }
                Err(error)
                    if begun.is_none()
                        && matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Bytes of a body. A client that trickles is let go of.
    pub(super) fn read_body(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = if self.ahead.is_empty() {
            self.socket().patience(STEP)?;
            self.read_channel(buffer)?
        } else {
            let count = buffer.len().min(self.ahead.len());
            buffer[..count].copy_from_slice(&self.ahead[..count]);
            self.ahead.drain(..count);
            count
        };
        let (begun, bytes) = self.body.get_or_insert_with(|| (Instant::now(), 0));
        *bytes += count as u64;
        let time = begun.elapsed();
        if time > GRACE && *bytes < SLOWEST.saturating_mul(time.as_secs()) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the body comes too slowly"));
        }
        Ok(count)
    }

    /// One line of a chunked body, without its end.
    pub(super) fn line(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            if self.read_body(&mut byte)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            line.push(byte[0]);
            if line.ends_with(b"\r\n") {
                line.truncate(line.len() - 2);
                return Ok(line);
            }
            if line.len() > most {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line of the body is too long"));
            }
        }
    }

    /// Ends the connection so that the client reads what was sent: with unread
    /// bytes the kernel would reset it.
    pub(super) fn close(mut self) -> io::Result<()> {
        if let Channel::Tls(stream) = &mut self.channel {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        match self.socket() {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write)?,
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write)?,
        }
        self.socket().patience(Duration::from_millis(500))?;
        let until = Instant::now() + Duration::from_secs(2);
        let mut buffer = [0; 4096];
        while Instant::now() < until && self.read_channel(&mut buffer).is_ok_and(|count| count > 0) {}
        Ok(())
    }
}

impl Write for Connection {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match &mut self.channel {
            Channel::Plain(socket) => socket.write(buffer),
            Channel::Tls(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.channel {
            Channel::Plain(socket) => socket.flush(),
            Channel::Tls(stream) => stream.flush(),
        }
    }
}
