//! Debian's docker-registry, started by a test with settings of its own.

use super::process::Running;
use super::sandbox::Sandbox;
use super::wait::until;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The only user of a registry that wants a login, and the password.
pub(crate) const USER: &str = "alice";
pub(crate) const PASSWORD: &str = "open sesame";
/// bcrypt of the password.
const HASH: &str = "$2b$04$9AH7LcXcf8zbkCx.fQ4SzeUvoCXTOvZqYh/acEeSV8yKY0hYoZmdC";

/// What a registry wants of its clients.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wants {
    /// A user and a password.
    pub(crate) login: bool,
    /// https, with a certificate of an authority that this system does not know.
    pub(crate) tls: bool,
    /// A certificate of the client's, from the same authority.
    pub(crate) client_certificate: bool,
}

/// Ends with the test.
pub(crate) struct OwnRegistry {
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
    /// `ca.crt`, `client.cert`, `client.key`.
    pub(crate) certificates: PathBuf,
    child: Child,
}

/// The program that `contrib/test` fetched.
pub(crate) fn program() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CORACLE_TEST_BIN")?).join("docker-registry");
    path.exists().then_some(path)
}

impl OwnRegistry {
    pub(crate) fn start(sandbox: &Sandbox, wants: Wants) -> Self {
        let dir = sandbox.folder("registry");
        let certificates = sandbox.folder("certificates");
        let mut config = format!(
            "version: 0.1\nlog: {{level: info, formatter: json, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: \"127.0.0.1:0\"\n",
            dir.join("data").display()
        );
        if wants.tls {
            make_certificates(sandbox);
            let file = |name: &str| certificates.join(name).display().to_string();
            config += &format!(
                "  tls:\n    certificate: {}\n    key: {}\n",
                file("server.crt"),
                file("server.key")
            );
            if wants.client_certificate {
                config += &format!("    clientcas: [{}]\n", file("ca.crt"));
            }
        }
        if wants.login {
            let file = sandbox.file("registry/htpasswd", format!("{USER}:{HASH}\n"));
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display());
        }
        let config = sandbox.file("registry/config.yml", config);
        let log = dir.join("log");
        let mut command = Command::new(program().unwrap());
        command.arg("serve").arg(config).env_clear().env("OTEL_TRACES_EXPORTER", "none").current_dir(&dir);
        let out = std::fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        let mut child = command.spawn().unwrap();
        let address = until("the registry to listen", || {
            let said = std::fs::read_to_string(&log).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "the registry ended: {said}");
            let port = said.split("listening on 127.0.0.1:").nth(1)?;
            let port: String = port.chars().take_while(char::is_ascii_digit).collect();
            Some(format!("127.0.0.1:{port}"))
        });
        Self { address, certificates, child }
    }

    pub(crate) fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }

    /// A directory for `--cert-dir` with some of the files.
    pub(crate) fn certificate_directory(&self, sandbox: &Sandbox, files: &[&str]) -> PathBuf {
        let dir = sandbox.folder(&format!("certs-{}", files.len()));
        for file in files {
            std::fs::copy(self.certificates.join(file), dir.join(file)).unwrap();
        }
        dir
    }
}

impl Drop for OwnRegistry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An authority (`ca.crt`), and certificates from it for a server on loopback
/// (`server.crt`, `server.key`), which has other names too, and for a client.
pub(crate) fn make_certificates(sandbox: &Sandbox) -> PathBuf {
    let dir = sandbox.folder("certificates");
    let script = r#"
        key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
        openssl req -x509 $key -keyout ca.key -out ca.crt -days 2 -subj /CN=test-authority
        for who in server client; do
            openssl req $key -keyout $who.key -out $who.csr -subj /CN=$who
            echo subjectAltName=DNS:localhost,DNS:registry.example,DNS:index.docker.io,IP:127.0.0.1 >$who.ext
            openssl x509 -req -in $who.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out $who.crt -days 2 -extfile $who.ext
        done
        mv client.crt client.cert"#;
    let mut command = sandbox.command("sh");
    command.args(["-ec", script]).current_dir(&dir);
    Running::start(command).wait().ok();
    dir
}
