//! A proxy on loopback that takes CONNECT, leads all names to one place, and
//! remembers what it was asked for.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Runs until the test's process ends.
pub(crate) struct ConnectProxy {
    /// `http://127.0.0.1:PORT`, for `HTTPS_PROXY`.
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    /// Every connection goes to `address`, whatever name it is for.
    pub(crate) fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (address, kept) = (address.to_owned(), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (address, kept) = (address.clone(), Arc::clone(&kept));
                std::thread::spawn(move || connect(stream, &address, &kept));
            }
        });
        Self { url, asked }
    }

    /// The first line of each request: `CONNECT registry.example:443`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Leads connections to `address` as they are, and ends the first one that has
/// sent so many bytes: its address.
pub(crate) fn cutting_relay(address: &str, after: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().to_string();
    let address = address.to_owned();
    let cut = Arc::new(AtomicBool::new(false));
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (address, cut) = (address.clone(), Arc::clone(&cut));
            std::thread::spawn(move || -> Option<()> {
                let mut server = TcpStream::connect(address).ok()?;
                let (mut back, mut from) = (client.try_clone().ok()?, server.try_clone().ok()?);
                std::thread::spawn(move || std::io::copy(&mut from, &mut back));
                let sent = std::io::copy(&mut (&mut client).take(after), &mut server).ok()?;
                if sent == after && cut.swap(true, Ordering::SeqCst) {
                    std::io::copy(&mut client, &mut server).ok()?;
                }
                client.shutdown(Shutdown::Both).ok();
                server.shutdown(Shutdown::Both).ok()
            });
        }
    });
    own
}

/// `None` where one of the three ends it.
fn connect(mut client: TcpStream, address: &str, kept: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    let mut words = first.split(' ');
    kept.lock().unwrap().push(words.by_ref().take(2).collect::<Vec<_>>().join(" "));
    if !first.starts_with("CONNECT ") {
        return client.write_all(b"HTTP/1.1 405 x\r\ncontent-length: 0\r\n\r\n").ok();
    }
    let mut server = TcpStream::connect(address).ok()?;
    client.write_all(b"HTTP/1.1 200 x\r\n\r\n").ok()?;
    let mut to_client = client.try_clone().ok()?;
    let mut from_server = server.try_clone().ok()?;
    let back = std::thread::spawn(move || {
        std::io::copy(&mut from_server, &mut to_client).ok();
        to_client.shutdown(Shutdown::Write).ok();
    });
    std::io::copy(&mut reader, &mut server).ok();
    server.shutdown(Shutdown::Write).ok();
    back.join().ok()
}
