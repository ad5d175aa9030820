//! A registry on loopback that says whatever a test wants, and remembers what
//! it was asked.

use super::image::hex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// 0 closes the connection without a word.
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Closes the connection after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// Never ends: the body is repeated, and no length is given.
    pub(crate) endless: bool,
    /// The time between each byte of the body and the next.
    pub(crate) drip: Option<Duration>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), cut: None, endless: false, drip: None }
    }

    pub(crate) fn ok(body: &[u8], media_type: &str) -> Self {
        Self { body: body.to_vec(), ..Self::new(200).with("content-type", media_type) }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

/// Serves until the test's process ends.
#[derive(Clone)]
pub(crate) struct FakeRegistry {
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl FakeRegistry {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(None, answer)
    }

    /// Speaks TLS, with the certificate and the key in `dir`.
    pub(crate) fn over_tls(dir: &Path, answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let chain = CertificateDer::pem_file_iter(dir.join("server.crt")).unwrap().map(Result::unwrap);
        let key = PrivateKeyDer::from_pem_file(dir.join("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.collect(), key)
            .unwrap();
        Self::with(Some(Arc::new(config)), answer)
    }

    fn with(
        tls: Option<Arc<rustls::ServerConfig>>,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, kept): (Arc<Answer>, _) = (Arc::new(answer), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, asked) = (Arc::clone(&answer), Arc::clone(&kept));
                let tls = tls.clone();
                std::thread::spawn(move || match tls {
                    None => serve(stream, &*answer, &asked),
                    Some(tls) => {
                        let session = rustls::ServerConnection::new(tls).unwrap();
                        serve(rustls::StreamOwned::new(session, stream), &*answer, &asked)
                    }
                });
            }
        });
        Self { address, asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often a path was asked for with GET.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.asked().iter().filter(|asked| asked.method == "GET" && asked.path == path).count()
    }
}

/// `None` where the client or the test ends the connection.
fn serve(stream: impl Read + Write, answer: &Answer, kept: &Mutex<Vec<Asked>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        // A TLS greeting is no text: closed, as plain servers do.
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut asked = Asked { method, path, headers, body: Vec::new() };
        let length = asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        (&mut reader).take(length).read_to_end(&mut asked.body).ok()?;
        let reply = answer(&asked);
        let head_only = asked.method == "HEAD";
        kept.lock().unwrap().push(asked);
        send(reader.get_mut(), &reply, head_only)?;
    }
}

/// `None` where the connection is to end.
fn send(stream: &mut impl Write, reply: &Reply, head_only: bool) -> Option<()> {
    if reply.status == 0 {
        return None;
    }
    let mut head = format!("HTTP/1.1 {} x\r\n", reply.status);
    if !reply.endless {
        head += &format!("content-length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    if head_only {
        return stream.flush().ok();
    }
    if reply.endless {
        loop {
            stream.write_all(&reply.body).ok()?;
        }
    }
    let body = &reply.body[..reply.cut.unwrap_or(reply.body.len())];
    match reply.drip {
        None => stream.write_all(body).ok()?,
        Some(pause) => {
            for byte in body {
                stream.write_all(&[*byte]).and_then(|()| stream.flush()).ok()?;
                std::thread::sleep(pause);
            }
        }
    }
    stream.flush().ok()?;
    if reply.cut.is_some() { None } else { Some(()) }
}

/// An image of one layer, and what a registry answers that has it as `app:1`.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) layer: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Value,
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

impl Served {
    /// `layer` is a tar archive.
    pub(crate) fn new(layer: Vec<u8>) -> Self {
        let config = serde_json::to_vec(&json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        }))
        .unwrap();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest(&config), "size": config.len()},
            "layers": [{"mediaType": LAYER, "digest": digest(&layer), "size": layer.len()}],
        });
        Self { layer, config, manifest }
    }

    /// The same image, whose layer is on its way in another form.
    pub(crate) fn replace_layer(&mut self, layer: Vec<u8>) {
        self.manifest["layers"][0]["digest"] = json!(digest(&layer));
        self.manifest["layers"][0]["size"] = json!(layer.len());
        self.layer = layer;
    }

    pub(crate) fn layer_path(&self) -> String {
        format!("/v2/app/blobs/{}", digest(&self.layer))
    }

    /// What an honest registry says; parts of blobs too.
    pub(crate) fn answer(&self, asked: &Asked) -> Reply {
        let blob = |bytes: &[u8]| {
            let from =
                asked.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
            match from.and_then(|from| from.parse::<usize>().ok()) {
                Some(from) => {
                    let (last, size) = (bytes.len() - 1, bytes.len());
                    let part = Reply::ok(&bytes[from..], "application/octet-stream");
                    Reply { status: 206, ..part }
                        .with("content-range", &format!("bytes {from}-{last}/{size}"))
                }
                None => Reply::ok(bytes, "application/octet-stream"),
            }
        };
        let manifest = serde_json::to_vec(&self.manifest).unwrap();
        match asked.path.as_str() {
            "/v2/app/manifests/1" => {
                let media_type = self.manifest["mediaType"].as_str().unwrap_or(MANIFEST);
                Reply::ok(&manifest, media_type)
            }
            path if path == self.layer_path() => blob(&self.layer),
            path if path == format!("/v2/app/blobs/{}", digest(&self.config)) => blob(&self.config),
            _ => Reply::new(404),
        }
    }
}
