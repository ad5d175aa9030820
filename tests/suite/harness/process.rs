//! Running the tool: with a time-out, with its output as text.

use super::wait::DEADLINE;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    /// The command line, for messages.
    pub(crate) command: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// The exit code; 128+n for a signal, as a shell says it.
    pub(crate) fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// # Panics
    /// Where the command did not end with this code.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert!(self.code() == code, "expected code {code}: {self}");
        self
    }

    /// # Panics
    /// Where the command failed.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.expect_code(0)
    }

    /// Coracle's own failure: docker's code (125 of `run` and of a command line
    /// that is wrong, else 1), a message on stderr that holds each of `words`,
    /// nothing on stdout, and no panic.
    #[track_caller]
    pub(crate) fn refused(self, words: &[&str]) -> Self {
        assert!([1, 125].contains(&self.code()), "{self}");
        let code = self.code();
        self.fails(code, words)
    }

    /// The same with another code: docker gives 1 where it looked for an image
    /// or an object and did not find it, or must not remove it.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &[&str]) -> Self {
        let this = self.expect_code(code);
        assert!(!this.stderr.trim().is_empty(), "no message: {this}");
        assert!(!this.stderr.contains("panicked"), "a panic: {this}");
        for word in words {
            assert!(this.stderr.contains(word), "the message does not say {word:?}: {this}");
        }
        this
    }

    /// stdout without white space around it.
    pub(crate) fn text(&self) -> &str {
        self.stdout.trim()
    }

    pub(crate) fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n  ended with {}\n", self.command, self.code())?;
        write!(f, "  stdout: {}\n  stderr: {}", shorten(&self.stdout), shorten(&self.stderr))
    }
}

fn shorten(text: &str) -> String {
    const LIMIT: usize = 4000;
    if text.len() <= LIMIT {
        text.trim_end().to_owned()
    } else {
        format!("{}… ({} bytes)", text.chars().take(LIMIT).collect::<String>(), text.len())
    }
}

/// A command that runs beside the test. Dropped, it is killed by its pid.
pub(crate) struct Running {
    child: Child,
    command: String,
    stdout: mpsc::Receiver<Vec<u8>>,
    stderr: mpsc::Receiver<Vec<u8>>,
    said: Vec<u8>,
    complained: Vec<u8>,
}

impl Running {
    /// Starts it with pipes at all three streams.
    pub(crate) fn start(mut command: Command) -> Self {
        let line = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
            .join(" ");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        Self { child, command: line, stdout, stderr, said: Vec::new(), complained: Vec::new() }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(bytes).unwrap();
        stdin.flush().unwrap();
    }

    pub(crate) fn close_stdin(&mut self) {
        self.child.stdin = None;
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until stdout holds `text`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        super::wait::until(&format!("{} to say {text:?}", self.command), || {
            self.said.extend(self.stdout.try_iter().flatten());
            if String::from_utf8_lossy(&self.said).contains(text) {
                return Some(());
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                self.said.extend(self.stdout.iter().flatten());
                self.complained.extend(self.stderr.iter().flatten());
                let said = String::from_utf8_lossy(&self.said);
                assert!(
                    said.contains(text),
                    "{} ended ({status}) before it said {text:?}: {said}{}",
                    self.command,
                    String::from_utf8_lossy(&self.complained)
                );
                return Some(());
            }
            None
        });
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What it has said so far.
    pub(crate) fn said(&mut self) -> String {
        self.said.extend(self.stdout.try_iter().flatten());
        String::from_utf8_lossy(&self.said).into_owned()
    }

    /// Waits until it ends by itself; stdin is closed first.
    #[track_caller]
    pub(crate) fn wait(self) -> Output {
        self.wait_within(DEADLINE)
    }

    /// The same, of what may take another time.
    #[track_caller]
    pub(crate) fn wait_within(mut self, time: std::time::Duration) -> Output {
        self.close_stdin();
        let end = std::time::Instant::now() + time;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if std::time::Instant::now() > end {
                self.said.extend(self.stdout.try_iter().flatten());
                self.complained.extend(self.stderr.try_iter().flatten());
                panic!(
                    "{} did not end in {} s\n  stdout: {}\n  stderr: {}",
                    self.command,
                    time.as_secs(),
                    shorten(&String::from_utf8_lossy(&self.said)),
                    shorten(&String::from_utf8_lossy(&self.complained))
                );
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        drain(&self.stdout, &mut self.said);
        drain(&self.stderr, &mut self.complained);
        Output {
            command: self.command.clone(),
            status,
            stdout: String::from_utf8_lossy(&self.said).into_owned(),
            stderr: String::from_utf8_lossy(&self.complained).into_owned(),
        }
    }
}

/// The rest of a stream. A process that outlives the command and keeps its
/// stream open is a fault of its own: the test must not hang on it.
fn drain(stream: &mpsc::Receiver<Vec<u8>>, into: &mut Vec<u8>) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        match stream.recv_timeout(end.saturating_duration_since(std::time::Instant::now())) {
            Ok(bytes) => into.extend(bytes),
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("a process that was left behind holds the command's output open")
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

fn collect(mut from: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 64 << 10];
        while let Ok(n) = from.read(&mut buffer) {
            if n == 0 || sender.send(buffer[..n].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}
