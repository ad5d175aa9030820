//! A registry for tests: std alone, on loopback, that answers from a table and
//! remembers what it was asked.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What is sent for one path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Closes the connection after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// Sent only to requests with this Authorization; others get 401 and `challenge`.
    pub(crate) needs: Option<String>,
    pub(crate) challenge: String,
    /// Answers this many requests with status 503 first.
    pub(crate) busy: usize,
}

impl Answer {
    pub(crate) fn ok(body: &[u8], media_type: &str) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type".into(), media_type.into())],
            body: body.to_vec(),
            ..Self::default()
        }
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self { status: 307, headers: vec![("location".into(), to.into())], ..Self::default() }
    }
}

/// One request, as far as tests look at it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// With the query.
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct FakeRegistry {
    /// `127.0.0.1:PORT`
    pub(crate) host: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    answers: HashMap<String, Answer>,
    asked: Vec<Asked>,
}

impl FakeRegistry {
    /// Serves until the test process ends.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let host = listener.local_addr().expect("address").to_string();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let for_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&for_thread);
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { host, shared }
    }

    pub(crate) fn serve(&self, path: &str, answer: Answer) {
        self.shared.lock().expect("lock").answers.insert(path.to_owned(), answer);
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.lock().expect("lock").asked.clone()
    }
}

fn serve(stream: &TcpStream, shared: &Mutex<Shared>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        // A TLS hello or anything else: closed, as a plain server does.
        let path = line.strip_prefix("GET ")?.split(' ').next()?.to_owned();
        let mut authorization = None;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            if header.trim().is_empty() {
                break;
            }
            let (name, value) = header.split_once(':')?;
            if name.eq_ignore_ascii_case("authorization") {
                authorization = Some(value.trim().to_owned());
            }
        }
        let answer = {
            let mut shared = shared.lock().expect("lock");
            shared.asked.push(Asked { path: path.clone(), authorization: authorization.clone() });
            let key = path.split('?').next()?;
            let answer = shared.answers.get_mut(key);
            let now = answer.as_deref().cloned();
            if let Some(answer) = answer {
                answer.busy = answer.busy.saturating_sub(1);
            }
            now
        };
        reply(stream, answer, authorization.as_deref())?;
    }
}

fn reply(mut stream: &TcpStream, answer: Option<Answer>, authorization: Option<&str>) -> Option<()> {
    let mut answer = answer.unwrap_or(Answer {
        status: 404,
        body: br#"{"errors":[{"code":"NAME_UNKNOWN","message":"not known"}]}"#.to_vec(),
        ..Answer::default()
    });
    if answer.busy > 0 {
        answer = Answer { status: 503, ..Answer::default() };
    }
    if answer.needs.is_some() && answer.needs.as_deref() != authorization {
        answer = Answer {
            status: 401,
            headers: vec![("www-authenticate".into(), answer.challenge.clone())],
            ..Answer::default()
        };
    }
    let mut head = format!("HTTP/1.1 {} x\r\ncontent-length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(b"\r\n").ok()?;
    let body = &answer.body[..answer.cut.unwrap_or(answer.body.len())];
    stream.write_all(body).ok()?;
    if answer.cut.is_some() {
        stream.shutdown(std::net::Shutdown::Both).ok()?;
        return None;
    }
    Some(())
}
