use super::*;
use std::io::{Read, Write};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime")
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(body);
    bytes
}

fn client(clients: &mut Clients, role: Role) -> (ClientId, UnixStream) {
    let (here, there) = UnixStream::pair().expect("socket pair");
    there.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    (clients.add(here, role, true).expect("added"), there)
}

fn exit() -> Exit {
    let time = jiff::Timestamp::UNIX_EPOCH;
    Exit { code: 0, started_at: time, finished_at: time, oom_killed: false, error: None }
}

/// Takes the frames apart: kind and length, and the bodies of one kind.
fn body_of(kind: u8, mut bytes: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    while let [k, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        assert!(length <= MAX_FRAME && length <= rest.len(), "a torn frame");
        if *k == kind {
            found.extend(&rest[..length]);
        }
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "a torn frame");
    found
}

#[test]
fn events_come_in_order_from_frames_in_any_pieces() {
    runtime().block_on(async {
        let mut clients = Clients::default();
        let (id, mut there) = client(&mut clients, Role::Guest);
        let bytes = [
            frame(frame::STDIN, b"in"),
            frame(99, b"of a newer client"),
            frame(frame::RESIZE, &[24, 0, 80, 0]),
            frame(frame::SIGNAL, &[15]),
            frame(frame::STDIN_END, b""),
        ]
        .concat();
        let writer = std::thread::spawn(move || {
            for byte in bytes {
                there.write_all(&[byte]).expect("write");
            }
        });
        let expected = [
            ClientEvent::Stdin(b"in".to_vec()),
            ClientEvent::Resize { rows: 24, columns: 80 },
            ClientEvent::Signal(15),
            ClientEvent::StdinEnd,
            ClientEvent::Gone(Role::Guest),
        ];
        for event in expected {
            assert_eq!(clients.next().await, (id, event));
        }
        assert!(clients.is_empty());
        writer.join().expect("no panic");
    });
}

#[test]
fn nonsense_ends_the_connection() {
    for bytes in [
        vec![frame::STDIN, 255, 255, 255, 255],
        frame(frame::RESIZE, b"x"),
        frame(frame::SIGNAL, b""),
        frame(frame::STDIN, &[0; 50_000]).repeat(3),
    ] {
        runtime().block_on(async {
            let mut clients = Clients::default();
            let (_, mut there) = client(&mut clients, Role::Guest);
            let writer = std::thread::spawn(move || there.write_all(&bytes).is_ok());
            loop {
                match clients.next().await.1 {
                    ClientEvent::Gone(_) => break,
                    ClientEvent::Stdin(_) => {}
                    other => panic!("{other:?}"),
                }
            }
            writer.join().expect("no panic");
        });
    }
}

#[test]
fn a_slow_guest_is_dropped_with_a_word_and_holds_nobody_back() {
    runtime().block_on(async {
        let mut clients = Clients::default();
        let (_, mut there) = client(&mut clients, Role::Guest);
        for _ in 0..1000 {
            clients.broadcast(frame::STDOUT, &[b'x'; 10_000]);
            assert!(clients.is_ready());
            assert!(clients.clients[0].waiting() < GUEST_QUEUE + 1000);
        }
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            there.read_to_end(&mut bytes).expect("read");
            bytes
        });
        while !matches!(clients.next().await.1, ClientEvent::Gone(_)) {}
        let bytes = reader.join().expect("no panic");
        assert!(bytes.len() < 2 * GUEST_QUEUE + (1 << 20));
        assert!(String::from_utf8_lossy(&body_of(frame::STDERR, &bytes)).contains("too slow"));
    });
}

#[test]
fn a_slow_foreground_client_holds_output_back_and_loses_nothing() {
    runtime().block_on(async {
        let mut clients = Clients::default();
        let (_, mut there) = client(&mut clients, Role::Foreground);
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let mut buffer = [0; 7000];
            loop {
                std::thread::sleep(Duration::from_micros(100));
                match there.read(&mut buffer).expect("read") {
                    0 => return bytes,
                    count => bytes.extend(&buffer[..count]),
                }
            }
        });
        let total = 4 << 20;
        let mut sent = 0;
        while sent < total {
            if clients.is_ready() {
                let part: Vec<u8> = (sent..sent + 1024).map(|at| (at / 3) as u8).collect();
                clients.broadcast(frame::STDOUT, &part);
                sent += part.len();
            } else {
                assert_eq!(clients.next().await.1, ClientEvent::Progress);
            }
            assert!(clients.clients[0].waiting() <= QUEUE + 1024 + 5);
        }
        clients.finish(&exit(), Duration::from_secs(5)).await.expect("finished");
        let bytes = reader.join().expect("no panic");
        let out = body_of(frame::STDOUT, &bytes);
        assert_eq!(out.len(), total);
        assert!(out.iter().enumerate().all(|(at, byte)| *byte == (at / 3) as u8));
        assert!(!body_of(frame::EXITED, &bytes).is_empty());
    });
}

#[test]
fn a_foreground_client_that_dies_frees_the_container() {
    runtime().block_on(async {
        let mut clients = Clients::default();
        let (id, there) = client(&mut clients, Role::Foreground);
        while clients.is_ready() {
            clients.broadcast(frame::STDOUT, &[b'x'; 10_000]);
        }
        drop(there);
        assert_eq!(clients.next().await, (id, ClientEvent::Gone(Role::Foreground)));
        assert!(clients.is_ready());
    });
}

#[test]
fn the_end_does_not_wait_for_the_dead() {
    runtime().block_on(async {
        let mut clients = Clients::default();
        let (_, _stuck) = client(&mut clients, Role::Guest);
        (0..20).for_each(|_| clients.broadcast(frame::STDOUT, &[b'x'; 10_000]));
        let start = std::time::Instant::now();
        clients.finish(&exit(), Duration::from_millis(50)).await.expect("finished");
        assert!(start.elapsed() < Duration::from_secs(2));
    });
}

#[test]
fn there_is_an_end_to_the_number_of_clients() {
    runtime().block_on(async {
        let mut clients = Clients::default();
        let kept: Vec<_> = (0..MOST_CLIENTS).map(|_| client(&mut clients, Role::Guest)).collect();
        let (here, _there) = UnixStream::pair().expect("socket pair");
        assert!(clients.add(here.try_clone().expect("clone"), Role::Guest, true).is_err());
        clients.clients[0].dismiss("too slow");
        assert!(clients.add(here, Role::Guest, true).is_ok());
        drop(kept);
    });
}
