use super::*;
use crate::error::BestEffort;
use crate::monitor::messages::frame;
use crate::sys::tty::tests::{ONE_AT_A_TIME, is_raw, kill_thread, pty};
use crate::sys::tty::{WindowSize, set_window_size};
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::sync::PoisonError;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

fn exit(code: u8) -> Exit {
    let time = jiff::Timestamp::UNIX_EPOCH;
    Exit { code, started_at: time, finished_at: time, oom_killed: false, error: None }
}

/// The monitor's end.
struct Monitor(UnixStream);

impl Monitor {
    fn send(&mut self, kind: u8, body: &[u8]) {
        let mut bytes = vec![kind];
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(body);
        self.0.write_all(&bytes).expect("send");
    }

    fn send_exit(&mut self, code: u8) {
        let body = serde_json::to_vec(&exit(code)).expect("JSON");
        self.send(frame::EXITED, &body);
    }

    fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 5];
        self.0.read_exact(&mut header).expect("a frame");
        let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
        let mut body = vec![0; length as usize];
        self.0.read_exact(&mut body).expect("a whole frame");
        (header[0], body)
    }
}

fn monitor() -> (Monitor, UnixStream) {
    let (here, there) = UnixStream::pair().expect("socket pair");
    here.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
    (Monitor(here), there)
}

/// Our own stdio in a test.
struct Pipes {
    stdin: PipeWriter,
    stdout: PipeReader,
    stderr: PipeReader,
}

/// Attaches pipes in another thread while `test` plays the monitor.
fn with_pipes(options: &AttachOptions, test: impl FnOnce(&mut Monitor, Pipes)) -> Result<AttachEnd> {
    let (mut monitor, stream) = monitor();
    let ((stdin, in_writer), (out_reader, stdout), (err_reader, stderr)) =
        (pipe().expect("pipe"), pipe().expect("pipe"), pipe().expect("pipe"));
    std::thread::scope(|scope| {
        let attached = scope.spawn(move || {
            let own = Stdio { stdin: stdin.as_fd(), stdout: stdout.as_fd(), stderr: stderr.as_fd() };
            attach_to(stream, options, own)
        });
        test(&mut monitor, Pipes { stdin: in_writer, stdout: out_reader, stderr: err_reader });
        drop(monitor);
        attached.join().expect("no panic")
    })
}

fn all() -> AttachOptions {
    AttachOptions { stdin: true, stdout: true, stderr: true, ..AttachOptions::default() }
}

fn read_all(mut reader: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("read");
    bytes
}

#[test]
fn output_goes_to_its_stream_and_the_exit_is_the_end() {
    let (mut monitor, stream) = monitor();
    let ((_, stdout), (_, stderr)) = (pipe().expect("pipe"), pipe().expect("pipe"));
    let (out_file, err_file) = (tempfile::tempfile().expect("file"), tempfile::tempfile().expect("file"));
    drop((stdout, stderr));
    let null = File::open("/dev/null").expect("/dev/null");
    monitor.send(frame::STDOUT, b"out ");
    monitor.send(frame::STDERR, b"err");
    monitor.send(frame::STDOUT, b"");
    monitor.send(99, b"of a newer monitor");
    monitor.send(frame::STDOUT, b"more");
    monitor.send_exit(3);
    let stdio = Stdio { stdin: null.as_fd(), stdout: out_file.as_fd(), stderr: err_file.as_fd() };
    assert_eq!(attach_to(stream, &all(), stdio).expect("end"), AttachEnd::Exited(exit(3)));
    let text = |file: File| {
        use std::os::unix::fs::FileExt;
        let mut bytes = [0; 100];
        let count = file.read_at(&mut bytes, 0).expect("read");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    assert_eq!((text(out_file), text(err_file)), ("out more".into(), "err".into()));
}

#[test]
fn a_monitor_that_dies_is_noticed_even_in_the_middle_of_a_frame() {
    let end = with_pipes(&all(), |monitor, _pipes| {
        monitor.0.write_all(&[frame::STDOUT, 10, 0, 0, 0, b'x']).expect("send");
        monitor.0.shutdown(std::net::Shutdown::Both).expect("shutdown");
        std::thread::sleep(Duration::from_millis(50));
    });
    assert_eq!(end.expect("end"), AttachEnd::MonitorGone);
}

#[test]
fn a_frame_that_is_too_long_is_an_error() {
    let end = with_pipes(&all(), |monitor, _pipes| {
        monitor.0.write_all(&[frame::STDOUT, 255, 255, 255, 255]).expect("send");
        monitor.0.read_to_end(&mut Vec::new()).or_ignore();
    });
    assert!(end.is_err());
}

#[test]
fn a_slow_reader_gets_every_byte_while_signals_and_input_pass() {
    let options = AttachOptions { sig_proxy: true, ..all() };
    let total = 3 << 20;
    let end = with_pipes(&options, |monitor, mut pipes| {
        let mut sender = Monitor(monitor.0.try_clone().expect("clone"));
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let part: Vec<u8> = (0..=255).collect();
                (0..total / 256 / 64).for_each(|_| sender.send(frame::STDOUT, &part.repeat(64)));
                sender.send_exit(0);
            });
            // Nobody reads yet: the output is stuck, and input is passed on.
            std::thread::sleep(Duration::from_millis(50));
            pipes.stdin.write_all(b"input").expect("input");
            assert_eq!(monitor.receive(), (frame::STDIN, b"input".to_vec()));
            drop(pipes.stdin);
            assert_eq!(monitor.receive(), (frame::STDIN_END, Vec::new()));
            let out = read_all(pipes.stdout);
            assert_eq!(out.len(), total);
            assert!(out.iter().enumerate().all(|(at, byte)| *byte == at as u8));
        });
    });
    assert_eq!(end.expect("end"), AttachEnd::Exited(exit(0)));
}

#[test]
fn a_reader_that_goes_away_ends_the_attachment() {
    let end = with_pipes(&all(), |monitor, pipes| {
        drop(pipes.stdout);
        monitor.send(frame::STDOUT, &[b'x'; 10_000]);
        assert_eq!(read_all(pipes.stderr), b"");
    });
    assert_eq!(end.expect("end"), AttachEnd::ReaderGone);
}

#[test]
fn a_full_disk_is_told_at_the_end() {
    let (mut monitor, stream) = monitor();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let null = File::open("/dev/null").expect("/dev/null");
    monitor.send(frame::STDOUT, b"text");
    monitor.send_exit(0);
    let stdio = Stdio { stdin: null.as_fd(), stdout: full.as_fd(), stderr: full.as_fd() };
    let error = attach_to(stream, &all(), stdio).unwrap_err();
    assert_eq!(error.to_string(), "write to standard output: No space left on device");
}

#[test]
fn output_that_is_not_wanted_is_not_printed() {
    let options = AttachOptions { stdout: false, ..all() };
    let end = with_pipes(&options, |monitor, pipes| {
        monitor.send(frame::STDOUT, b"out");
        monitor.send(frame::STDERR, b"err");
        monitor.send_exit(0);
        assert_eq!(read_all(pipes.stdout), b"");
        assert_eq!(read_all(pipes.stderr), b"err");
    });
    assert_eq!(end.expect("end"), AttachEnd::Exited(exit(0)));
}

#[test]
fn input_that_the_container_does_not_take_stays_within_the_window() {
    let end = with_pipes(&all(), |monitor, pipes| {
        std::thread::scope(|scope| {
            let mut stdin = pipes.stdin;
            let total = 4 * STDIN_WINDOW;
            scope.spawn(move || stdin.write_all(&vec![b'x'; total]).expect("input"));
            monitor.0.set_read_timeout(Some(Duration::from_millis(200))).expect("timeout");
            let mut received = 0;
            while received < STDIN_WINDOW {
                received += monitor.receive().1.len();
            }
            assert_eq!(received, STDIN_WINDOW);
            assert!(monitor.0.read(&mut [0]).is_err(), "more than the window");
            let mut acknowledged = 0;
            while received < total {
                monitor.send(STDIN_TAKEN, &10_000_u32.to_le_bytes());
                acknowledged += 10_000;
                let expected = (acknowledged + STDIN_WINDOW).min(total);
                while received < expected {
                    received += monitor.receive().1.len();
                }
            }
            assert_eq!(monitor.receive(), (frame::STDIN_END, Vec::new()));
            monitor.send_exit(0);
        });
    });
    assert_eq!(end.expect("end"), AttachEnd::Exited(exit(0)));
}

#[test]
fn a_closed_or_odd_stdin_is_the_end_of_input() {
    let directory = File::open("/").expect("/");
    let write_only = std::fs::OpenOptions::new().write(true).open("/dev/null").expect("/dev/null");
    for stdin in [directory, write_only] {
        let (mut monitor, stream) = monitor();
        let null = std::fs::OpenOptions::new().write(true).open("/dev/null").expect("/dev/null");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(monitor.receive(), (frame::STDIN_END, Vec::new()));
                monitor.send_exit(0);
            });
            let stdio = Stdio { stdin: stdin.as_fd(), stdout: null.as_fd(), stderr: null.as_fd() };
            assert_eq!(attach_to(stream, &all(), stdio).expect("end"), AttachEnd::Exited(exit(0)));
        });
    }
}

/// A terminal attached in another thread; what that thread's id is, for signals.
struct Tty<'scope> {
    emulator: OwnedFd,
    program: OwnedFd,
    monitor: Monitor,
    thread: rustix::process::Pid,
    attached: ScopedJoinHandle<'scope, Result<AttachEnd>>,
}

fn attach_terminal<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    options: &'scope AttachOptions,
) -> Tty<'scope> {
    let (emulator, program) = pty();
    set_window_size(emulator.as_fd(), WindowSize { rows: 24, columns: 80 }).expect("size");
    let (monitor, stream) = monitor();
    let (sender, receiver) = std::sync::mpsc::channel();
    let fd = program.try_clone().expect("clone");
    let attached = scope.spawn(move || {
        sender.send(rustix::thread::gettid()).expect("send");
        attach_to(stream, options, Stdio { stdin: fd.as_fd(), stdout: fd.as_fd(), stderr: fd.as_fd() })
    });
    let thread = receiver.recv().expect("thread");
    Tty { emulator, program, monitor, thread, attached }
}

fn type_in(emulator: &OwnedFd, keys: &[u8]) {
    assert_eq!(rustix::io::write(emulator, keys).expect("typed"), keys.len());
}

fn tty_options() -> AttachOptions {
    AttachOptions { tty: true, sig_proxy: true, ..all() }
}

#[test]
fn a_terminal_is_raw_has_its_size_and_ends_with_the_detach_keys() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let options = tty_options();
    std::thread::scope(|scope| {
        let mut tty = attach_terminal(scope, &options);
        assert_eq!(tty.monitor.receive(), (frame::RESIZE, vec![24, 0, 80, 0]));
        assert!(is_raw(&tty.program));
        type_in(&tty.emulator, b"\x03a\x10");
        assert_eq!(tty.monitor.receive(), (frame::STDIN, b"\x03a".to_vec()));
        type_in(&tty.emulator, b"b");
        assert_eq!(tty.monitor.receive(), (frame::STDIN, b"\x10b".to_vec()));
        tty.monitor.send(frame::STDOUT, b"line\n");
        let mut buffer = [0; 100];
        let count = rustix::io::read(&tty.emulator, &mut buffer).expect("output");
        assert_eq!(&buffer[..count], b"line\n", "no carriage return is added in raw mode");
        type_in(&tty.emulator, b"\x10\x11");
        assert_eq!(tty.attached.join().expect("no panic").expect("end"), AttachEnd::Detached);
        assert!(!is_raw(&tty.program));
    });
}

#[test]
fn signals_and_sizes_are_passed_on() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let options = tty_options();
    std::thread::scope(|scope| {
        let mut tty = attach_terminal(scope, &options);
        assert_eq!(tty.monitor.receive(), (frame::RESIZE, vec![24, 0, 80, 0]));
        let kill = |signal| kill_thread(tty.thread, signal);
        kill(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(tty.monitor.receive(), (frame::SIGNAL, vec![15]));
        kill(nix::sys::signal::Signal::SIGUSR1);
        assert_eq!(tty.monitor.receive(), (frame::SIGNAL, vec![10]));
        set_window_size(tty.emulator.as_fd(), WindowSize { rows: 300, columns: 100 }).expect("size");
        kill(nix::sys::signal::Signal::SIGWINCH);
        assert_eq!(tty.monitor.receive(), (frame::RESIZE, vec![44, 1, 100, 0]));
        kill(nix::sys::signal::Signal::SIGCONT);
        assert_eq!(tty.monitor.receive(), (frame::RESIZE, vec![44, 1, 100, 0]));
        assert!(is_raw(&tty.program));
        tty.monitor.send_exit(0);
        assert_eq!(tty.attached.join().expect("no panic").expect("end"), AttachEnd::Exited(exit(0)));
        assert!(!is_raw(&tty.program));
    });
}

#[test]
fn a_terminal_that_is_hung_up_detaches() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let options = tty_options();
    std::thread::scope(|scope| {
        let mut tty = attach_terminal(scope, &options);
        assert_eq!(tty.monitor.receive().0, frame::RESIZE);
        drop(tty.emulator);
        assert_eq!(tty.attached.join().expect("no panic").expect("end"), AttachEnd::Detached);
    });
}

#[test]
fn signals_pass_while_the_output_is_stuck_and_the_input_not_taken() {
    let options = AttachOptions { sig_proxy: true, ..all() };
    let (mut monitor, stream) = monitor();
    let ((stdin, mut in_writer), (out_reader, stdout)) = (pipe().expect("pipe"), pipe().expect("pipe"));
    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let options = &options;
        let attached = scope.spawn(move || {
            sender.send(rustix::thread::gettid()).expect("send");
            attach_to(
                stream,
                options,
                Stdio { stdin: stdin.as_fd(), stdout: stdout.as_fd(), stderr: stdout.as_fd() },
            )
        });
        let thread = receiver.recv().expect("thread");
        scope.spawn(move || in_writer.write_all(&vec![b'x'; 4 * STDIN_WINDOW]).or_ignore());
        (0..4).for_each(|_| monitor.send(frame::STDOUT, &vec![b'y'; 50_000]));
        std::thread::sleep(Duration::from_millis(100));
        kill_thread(thread, nix::sys::signal::Signal::SIGTERM);
        let start = Instant::now();
        while monitor.receive() != (frame::SIGNAL, vec![15]) {}
        assert!(start.elapsed() < Duration::from_secs(5));
        drop(out_reader);
        assert_eq!(attached.join().expect("no panic").expect("end"), AttachEnd::ReaderGone);
    });
}
