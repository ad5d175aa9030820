//! A sandbox: private XDG folders, the tool in them, and at the end the check
//! that nothing is left.

use super::leaks;
use super::needs::{self, Need};
use super::process::{Output, Running};
use super::report::Report;
use super::wait::until;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folders of one test. Dropped, it removes its containers and then fails
/// the test that left a process, a mount or a file behind.
pub(crate) struct Sandbox {
    /// Short, because sockets lie below it (108 bytes, unix(7)).
    root: tempfile::TempDir,
    /// Set on every command, on top of the sandbox's own.
    environment: Vec<(String, String)>,
}

/// A sandbox with the images among `needs` loaded, or `None` (and the reason
/// said) where the host lacks something.
#[track_caller]
pub(crate) fn sandbox(needs: &[Need]) -> Option<Sandbox> {
    if !needs::host_has(&[Need::UserNamespaces]) || !needs::host_has(needs) {
        return None;
    }
    let sandbox = Sandbox::new();
    for need in needs {
        if let Need::Image(name) = need {
            sandbox.load(&needs::archive(name).unwrap());
        }
    }
    Some(sandbox)
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let base =
            std::env::var_os("CORACLE_TEST_TMP").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let root = tempfile::Builder::new().prefix("sb-").rand_bytes(8).tempdir_in(base).unwrap();
        for folder in ["home", "config", "data", "state", "cache", "run", "work"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
        }
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(root.path().join("run"), std::fs::Permissions::from_mode(0o700)).unwrap();
        Self { root, environment: Vec::new() }
    }

    /// Sets a variable for all commands that follow.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A folder to give to containers, made new.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.path("work").join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// A file in the sandbox's work folder.
    pub(crate) fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path("work").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, contents).unwrap();
        path
    }

    /// `$XDG_STATE_HOME/coracle` and so on.
    pub(crate) fn state(&self) -> PathBuf {
        self.path("state/coracle")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data/coracle")
    }

    /// Any command with the sandbox's environment and nothing of the test's own.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.path("work"));
        for name in ["PATH", "LANG", "RUST_BACKTRACE", "CORACLE_STORAGE_DRIVER"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("HOME", self.path("home"))
            .env("USER", needs::user_name().unwrap_or_default())
            .env("TERM", "xterm")
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("CORACLE_TEST_SANDBOX", self.root());
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }

    /// The tool, not yet started.
    pub(crate) fn tool<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = self.command(binary());
        command.args(arguments);
        command
    }

    /// Runs the tool to its end, with an empty stdin.
    #[track_caller]
    pub(crate) fn coracle<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Output {
        self.spawn(arguments).wait()
    }

    /// Runs the tool and gives its stdout without white space around it.
    ///
    /// # Panics
    /// Where it fails.
    #[track_caller]
    pub(crate) fn ok<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> String {
        self.coracle(arguments).ok().text().to_owned()
    }

    /// The first command of the README, as far as a machine without a terminal goes.
    ///
    /// # Panics
    /// Where it does not say what it should.
    #[track_caller]
    pub(crate) fn runs_the_readme_s_first_command(&self) {
        let output = self
            .coracle([
                "run",
                "--rm",
                "--network",
                "none",
                "--rootfs",
                "/:O",
                "/bin/sh",
                "-c",
                "echo in; id -u",
            ])
            .ok();
        assert_eq!(output.lines(), ["in", "0"], "{output}");
    }

    /// Runs the tool with `input` as its stdin.
    #[track_caller]
    pub(crate) fn coracle_with<I: AsRef<OsStr>>(
        &self,
        input: &[u8],
        arguments: impl IntoIterator<Item = I>,
    ) -> Output {
        let mut running = self.spawn(arguments);
        running.write(input);
        running.wait()
    }

    /// Starts the tool beside the test.
    pub(crate) fn spawn<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Running {
        Running::start(self.tool(arguments))
    }

    /// Loads an archive into the store.
    #[track_caller]
    pub(crate) fn load(&self, archive: &Path) -> Output {
        self.coracle([OsStr::new("load"), OsStr::new("-i"), archive.as_os_str()]).ok()
    }

    /// `run --rm --network none WORDS...`, without need of slirp4netns.
    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.coracle([&["run", "--rm", "--network", "none"], words].concat())
    }

    /// `run -d --network none --name NAME WORDS...`.
    #[track_caller]
    pub(crate) fn start(&self, name: &str, words: &[&str]) -> String {
        self.ok([&["run", "-d", "--network", "none", "--name", name], words].concat())
    }

    /// `run --rm OPTIONS guest report`, read.
    #[track_caller]
    pub(crate) fn report(&self, options: &[&str]) -> Report {
        Report::parse(
            &self
                .coracle([&["run", "--rm", "--network", "none"], options, &["guest", "report"]].concat())
                .ok(),
        )
    }

    /// `inspect`, the first document.
    #[track_caller]
    pub(crate) fn inspect(&self, name: &str) -> serde_json::Value {
        let output = self.coracle(["inspect", name]).ok();
        let documents: serde_json::Value =
            serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"));
        documents[0].clone()
    }

    /// `{{.State.Status}}` of a container.
    #[track_caller]
    pub(crate) fn status(&self, name: &str) -> String {
        self.ok(["inspect", "--format", "{{.State.Status}}", name])
    }

    #[track_caller]
    pub(crate) fn wait_for_status(&self, name: &str, status: &str) {
        // Not there yet is one of the things that it may be.
        until(&format!("{name} to be {status}"), || {
            let output = self.coracle(["inspect", "--format", "{{.State.Status}}", name]);
            (output.stdout.trim() == status).then_some(())
        });
    }

    /// Waits until the container's log holds `text`.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, name: &str, text: &str) {
        until(&format!("{text:?} in the log of {name}"), || {
            let output = self.coracle(["logs", name]);
            (output.stdout.contains(text) || output.stderr.contains(text)).then_some(())
        });
    }

    /// The pid of a running container's first process, as the host counts.
    #[track_caller]
    pub(crate) fn init_pid(&self, name: &str) -> i32 {
        self.ok(["inspect", "--format", "{{.State.Pid}}", name]).parse().unwrap()
    }

    /// The pids of the container's monitors: the tool's own processes of this sandbox.
    pub(crate) fn monitors(&self) -> Vec<i32> {
        self.processes_with("--monitor")
    }

    /// The pids of the servers of its FUSE overlays.
    pub(crate) fn servers(&self) -> Vec<i32> {
        self.processes_with("--overlay")
    }

    pub(crate) fn processes_with(&self, role: &str) -> Vec<i32> {
        leaks::processes_of(self.root())
            .into_iter()
            .filter(|process| process.command.split('\0').any(|word| word == role))
            .map(|process| process.pid)
            .collect()
    }

    fn remove_containers(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.state().join("containers").exists() {
            return faults;
        }
        if self.state().join("pods").exists() {
            let removed = self.coracle(["pod", "rm", "-f", "-a", "-t", "0"]);
            if removed.code() != 0 {
                faults.push(format!("pod rm -f: {removed}"));
            }
        }
        let listed = self.coracle(["ps", "-a", "-q", "--no-trunc"]);
        if listed.code() != 0 {
            faults.push(format!("ps -a: {listed}"));
        }
        let ids = listed.lines();
        if !ids.is_empty() {
            let mut words = vec!["rm", "-f", "-v", "-t", "0"];
            words.extend(ids);
            let removed = self.coracle(words);
            if removed.code() != 0 {
                faults.push(format!("rm -f: {removed}"));
            }
        }
        faults
    }

    fn remove_files(&self) {
        if std::fs::remove_dir_all(self.root()).is_err() {
            // Files of subordinate ids.
            let mut command = Command::new("unshare");
            command.args(["--map-root-user", "--map-auto", "rm", "-rf"]).arg(self.root());
            command.output().ok();
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let removed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.remove_containers()));
        let mut faults = removed.unwrap_or_else(|_| vec!["the containers could not be removed".into()]);
        faults.extend(leaks::check_processes(self.root()));
        faults.extend(leaks::check_mounts(self.root()));
        faults.extend(leaks::check_files(self.root()));
        if !(failed && std::env::var_os("CORACLE_TEST_KEEP").is_some()) {
            self.remove_files();
        }
        if failed {
            for fault in faults {
                eprintln!("also: {fault}");
            }
        } else {
            assert!(faults.is_empty(), "left behind:\n  {}", faults.join("\n  "));
        }
    }
}

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("CORACLE_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_coracle")), PathBuf::from)
}
