//! What many, slow, half-done and lying connections cost the process of `ottla serve`.

#[allow(dead_code)] // shared with other tests
mod served;
#[allow(dead_code)]
mod wire;
#[allow(dead_code)]
#[path = "groups/world.rs"]
mod world;

use ottla_protocol::{ErrorCode, Request, Response, messages::ApiVersionsRequest};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};
use wire::{Connection, FETCH, fetch, wait_until};
use world::World;

const MIB: u64 = 1 << 20;

/// Raises the soft limit of open files, which the broker inherits, as far as it may; how many connections that is enough for.
fn connections_allowed(wanted: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let spare = 500;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let allowed = maximum.map_or(wanted + spare, |most| most.min(wanted + spare));
    if current.is_some_and(|now| now < allowed) {
        let current = Some(allowed);
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    }
    wanted.min(allowed.saturating_sub(spare))
}

fn versions(connection: &mut Connection) {
    let request = Request::ApiVersions(ApiVersionsRequest::default());
    let Response::ApiVersions(answer) = connection.ask(0, &request).unwrap() else {
        panic!()
    };
    assert_eq!(answer.error_code, ErrorCode::NONE);
}

#[test]
fn five_thousand_idle_connections() {
    let count = connections_allowed(5000);
    if count < 5000 {
        eprintln!("the limit of open files allows {count} connections");
    }
    let world = World::new(&[]);
    let before = world.resident();
    let mut all: Vec<Connection> = Vec::new();
    for _ in 0..count {
        let mut connection = Connection::to(world.address()).unwrap();
        versions(&mut connection);
        all.push(connection);
    }
    let resident = world.resident();
    println!(
        "{count} connections: {:.1} MiB resident, {:.1} MiB before",
        resident as f64 / MIB as f64,
        before as f64 / MIB as f64
    );
    assert!(resident < 100 * MIB, "{resident}");
    // They cost no time either.
    let (begun, cpu) = (Instant::now(), world.cpu());
    thread::sleep(Duration::from_secs(1));
    let (spent, of) = (world.cpu() - cpu, begun.elapsed());
    assert!(spent < of / 5, "{spent:?} of {of:?}");
    // And all of them are there.
    for connection in &mut all {
        versions(connection);
    }
    assert!(world.resident() < 100 * MIB);
}

/// Those that begin a request and don't go on cost what they have sent, whatever size they announce; those that are quiet for too
/// long are closed, and nobody else is.
#[test]
fn half_requests() {
    let count = connections_allowed(2000);
    let world = World::new(&["connections.max.idle.ms=10000"]);
    let mut alive = Connection::to(world.address()).unwrap();
    versions(&mut alive);
    let before = world.resident();
    // 90 MiB announced by each, 1 KiB sent.
    let begun = [&(90 * MIB as u32).to_be_bytes()[..], &[0; 1020]].concat();
    let mut half: Vec<Connection> = Vec::new();
    for _ in 0..count {
        let mut connection = Connection::to(world.address()).unwrap();
        connection.write(&begun).unwrap();
        half.push(connection);
        versions(&mut alive);
    }
    let more = world.resident().saturating_sub(before);
    println!("{count} half requests: {:.1} MiB", more as f64 / MIB as f64);
    assert!(more < 50 * MIB, "{more}");
    for connection in &mut half {
        wait_until("it is closed", || {
            versions(&mut alive);
            connection.is_closed_now()
        });
    }
    versions(&mut alive);
}

/// Clients that ask and don't read hold what bounds allow; others are served meanwhile.
#[test]
fn deaf_clients() {
    let world = World::new(&[]);
    let mut alive = Connection::to(world.address()).unwrap();
    alive.create("t", 1);
    let value = vec![1; 900_000];
    for _ in 0..10 {
        alive.produce("t", 0, &[&value]);
    }
    let before = world.resident();
    let asked = Connection::frame(1, FETCH, &fetch("t", 0, 0, false)).repeat(100);
    let deaf: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(world.address()).unwrap();
            stream.set_nonblocking(true).unwrap();
            // As much as the system takes: each request is answered with nine megabytes.
            let _ = stream.write(&asked);
            stream
        })
        .collect();
    let mut most = 0;
    for _ in 0..100 {
        assert_eq!(alive.values("t", 0, 9, false)[0], value);
        alive.produce("t", 0, &[b"small"]);
        most = most.max(world.resident());
    }
    let more = most.saturating_sub(before);
    println!("100 deaf clients: {:.1} MiB more", more as f64 / MIB as f64);
    // What is fetched is shared; 90,000 MB are asked for.
    assert!(more < 100 * MIB, "{more}");
    drop(deaf);
}

/// What is no request closes its connection, and takes no memory on the strength of a number.
#[test]
fn lies() {
    let world = World::new(&["socket.request.max.bytes=1000000"]);
    let mut alive = Connection::to(world.address()).unwrap();
    versions(&mut alive);
    let before = world.resident();
    let header = |key: i16, version: i16| {
        let key = key.to_be_bytes();
        let version = version.to_be_bytes();
        [&key[..], &version[..], &[0, 0, 0, 1, 0xff, 0xff]].concat()
    };
    let framed = |body: &[u8]| [&(body.len() as u32).to_be_bytes()[..], body].concat();
    let metadata = |count: i32| [&header(3, 1)[..], &count.to_be_bytes()].concat();
    let frames: Vec<(&str, Vec<u8>)> = vec![
        ("larger than allowed", 1_000_001_u32.to_be_bytes().to_vec()),
        ("negative", (-1_i32).to_be_bytes().to_vec()),
        ("the least number", i32::MIN.to_be_bytes().to_vec()),
        ("nothing", framed(&[])),
        ("half a header", framed(&[0, 3, 0])),
        ("an unknown key", framed(&header(9999, 0))),
        ("a negative key", framed(&header(-3, 0))),
        ("a version of the future", framed(&header(3, 99))),
        ("a negative version", framed(&header(3, -1))),
        ("two billion topics", framed(&metadata(i32::MAX))),
        ("topics below zero", framed(&metadata(-7))),
        (
            "HTTP",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ),
        (
            "TLS",
            vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0x5a, 0x5a],
        ),
    ];
    for (what, frame) in &frames {
        for _ in 0..20 {
            let mut connection = Connection::to(world.address()).unwrap();
            connection.write(frame).unwrap();
            assert!(connection.is_closed(), "{what}");
        }
        versions(&mut alive);
    }
    let more = world.resident().saturating_sub(before);
    assert!(more < 20 * MIB, "{more}");
    // One key is answered whatever the version, so that clients can ask which there are.
    let mut stream = TcpStream::connect(world.address()).unwrap();
    let asked = [&header(18, 99)[..], &[0]].concat();
    stream.write_all(&framed(&asked)).unwrap();
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!((answer[7], answer[9]), (1, 35), "UNSUPPORTED_VERSION");
}

/// A peer that is gone without a word is noticed: the system asks after it.
#[test]
fn connections_are_kept_alive() {
    let world = World::new(&[]);
    let mut connection = Connection::to(world.address()).unwrap();
    versions(&mut connection);
    let hex = |address: SocketAddr| format!(":{:04X}", address.port());
    let (here, there) = (hex(connection.local_address()), hex(world.address()));
    wait_until("its timer", || {
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let row = table.lines().find(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields[1].ends_with(&there) && fields[2].ends_with(&here)
        });
        // The sixth field is the timer: 02 is keepalive, 01 an answer that is still on its way.
        let row: Vec<&str> = row.expect("the broker's end").split_whitespace().collect();
        row[5].starts_with("02:")
    });
}
