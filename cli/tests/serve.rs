//! `ottla serve` as people run it: the program, its arguments, its signals, and kcat.

#[allow(dead_code)] // shared with other tests
mod served;

use served::{Served, has_kcat, left_out, ottla, text};
use std::{
    fs,
    time::{Duration, Instant},
};

fn lines(n: usize) -> String {
    (1..=n).map(|n| format!("{n}\n")).collect()
}

#[test]
fn kcat_produces_and_consumes_and_a_restart_keeps_it() {
    if !has_kcat() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(text(dir.path()), &[]);
    let sent = lines(20_000);
    served.kcat(&["-P", "-t", "plain"], &sent);
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        served.kcat(&["-P", "-t", codec, "-z", codec], &sent);
    }
    let read = |served: &Served, topic: &str| {
        served.kcat(&["-C", "-t", topic, "-o", "beginning", "-e", "-q"], "")
    };
    let topics = ["plain", "gzip", "snappy", "lz4", "zstd"];
    for topic in topics {
        assert!(read(&served, topic) == sent, "{topic}");
    }
    let (code, took, log) = served.stop("-TERM");
    assert_eq!(code, 0, "{log}");
    // Nothing that a client waits for keeps it: that could be half a minute.
    assert!(took < Duration::from_secs(25), "{took:?}");
    assert!(dir.path().join(".kafka_cleanshutdown").exists());

    let served = Served::start(text(dir.path()), &[]);
    for topic in topics {
        assert!(read(&served, topic) == sent, "{topic}");
    }
    assert_eq!(served.stop("-INT").0, 0);
}

#[test]
fn acks_none_one_all_and_idempotence() {
    if !has_kcat() {
        return;
    }
    let served = Served::start("memory:", &[]);
    for (topic, settings) in [
        ("none", "acks=0"),
        ("one", "acks=1"),
        ("all", "acks=all"),
        ("once", "enable.idempotence=true"),
    ] {
        served.kcat(&["-P", "-t", topic, "-X", settings], &lines(5000));
        let read = ["-C", "-t", topic, "-o", "beginning", "-e", "-q"];
        assert!(served.kcat(&read, "") == lines(5000), "{topic}");
    }
}

#[test]
fn a_consumer_group_takes_turns() {
    if !has_kcat() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(text(dir.path()), &["--set", "num.partitions=3"]);
    served.kcat(&["-P", "-t", "t"], &lines(3000));
    let group = |served: &Served| {
        let reset = "auto.offset.reset=earliest";
        let read = served.kcat(&["-X", reset, "-e", "-q", "-G", "g", "t"], "");
        let mut numbers: Vec<usize> = read.lines().map(|line| line.parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(group(&served), (1..=3000).collect::<Vec<_>>());
    served.kcat(&["-P", "-t", "t"], "9999\n");
    assert_eq!(served.stop("-TERM").0, 0);
    let served = Served::start(text(dir.path()), &[]);
    assert_eq!(group(&served), [9999], "its offsets are kept");
}

#[test]
fn a_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(text(dir.path()), &[]);
    let second = ottla()
        .args(["serve", text(dir.path()), "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    let error = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(error.contains(&served.pid().to_string()), "{error}");
    assert!(second.stdout.is_empty());
}

#[test]
fn settings_come_from_a_file_and_from_arguments() {
    if !has_kcat() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.properties");
    let data = dir.path().join("data");
    let properties = format!(
        "# as for Kafka\nprocess.roles=broker,controller\nnode.id = 7\n\
         controller.quorum.voters=7@localhost:9093\n\
         listeners=PLAINTEXT://localhost:0,CONTROLLER://localhost:9093\n\
         controller.listener.names=CONTROLLER\nadvertised.listeners=PLAINTEXT://elsewhere:19092\n\
         some.plugin=x\nlog.dirs={}\nnum.partitions=5\nnum.network.threads=\\\n  1\n",
        data.display()
    );
    fs::write(&file, properties).unwrap();
    let args = ["--config", text(&file), "--set", "num.partitions=6"];
    let served = Served::with("", &args, 1);
    let listing = served.kcat(&["-L", "-t", "made"], "");
    assert!(listing.contains("broker 7 at elsewhere:19092"), "{listing}");
    assert!(listing.contains("\"made\" with 6 partitions"), "{listing}");
    for name in ["some.plugin", "controller.quorum.voters"] {
        served.wait_for_log(&format!("name={name}"));
    }
    assert!(!served.log().contains("name=listeners"));
    assert!(!served.log().contains("name=advertised"));
    assert!(data.join("meta.properties").exists());
}

/// Nothing that was said is passed over without a word.
#[test]
fn what_was_meant_otherwise_is_told() {
    let args = [
        "--set",
        "numPartitions=6",
        "--set",
        "advertised.listeners=PLAINTEXT://elsewhere:19092",
    ];
    let served = Served::start("memory:", &args);
    served.wait_for_log("did you mean num.partitions?");
    served.wait_for_log("name=advertised.listeners");
}

#[test]
fn what_cannot_be_served_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = text(dir.path());
    let cases: [(&[&str], i32, &str); 13] = [
        (&["--listen", "0.0.0.0:0"], 1, "TLS and authentication"),
        (&["--listen", "192.0.2.1:0"], 1, "TLS and authentication"),
        (&["--listen", "nonsense"], 1, "HOST:PORT"),
        (&["--set", "listeners=SSL://localhost:0"], 1, "SSL"),
        (&["--listen", ":9092"], 1, "HOST:PORT"),
        (&["--set", "log.dirs=/a,/b"], 1, "one data directory"),
        (&["--set", "listeners=PLAINTEXT://:0"], 1, "TLS and auth"),
        (&["--set", "num.partitions=many"], 1, "num.partitions"),
        (&["--set", "log.dirs"], 2, "NAME=VALUE"),
        (&["--threads", "0"], 2, "--threads"),
        (&["--metrics", "nonsense"], 2, "--metrics"),
        (&["--wrong"], 2, "--wrong"),
        (&["--config", "/does/not/exist"], 1, "/does/not/exist"),
    ];
    for (args, code, text) in cases {
        let run = ottla().args(["serve", dir]).args(args).output().unwrap();
        let error = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(text), "{args:?}: {error}");
        assert!(run.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn every_listener_is_told() {
    let two = ["--listen", "127.0.0.1:0", "--listen", "[::1]:0"];
    let served = Served::with("memory:", &two, 2);
    assert!(served.addresses[0].is_ipv4() && served.addresses[1].is_ipv6());
    if has_kcat() {
        let six = served.addresses[1].to_string();
        let listing = served.kcat(&["-b", &six, "-L"], "");
        let told = format!("broker 1 at ::1:{}", served.addresses[1].port());
        assert!(listing.contains(&told), "{listing}");
    }
}

#[test]
fn the_log_can_be_json() {
    let served = Served::start("memory:", &["--log-format", "json"]);
    served.wait_for_log("\"message\":\"serving\"");
    let (code, _, log) = served.stop("-TERM");
    assert_eq!(code, 0);
    for line in log.lines() {
        assert!(
            line.starts_with("{\"time\":\"2") && line.ends_with('}'),
            "{line}"
        );
    }
}

#[test]
fn running_out_of_descriptors_is_survived() {
    use std::{net::TcpStream, process::Command, thread};

    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(text(dir.path()), &["--threads", "1"]);
    let limit = format!("--nofile={}", 40);
    let pid = format!("--pid={}", served.pid());
    let limited = Command::new("prlimit").args([&pid, &limit]).status();
    if !limited.is_ok_and(|status| status.success()) {
        left_out("prlimit is not there");
        return;
    }
    let begun = Instant::now();
    let many: Vec<_> = (0..60)
        .map(|_| TcpStream::connect(served.address()).unwrap())
        .collect();
    served.wait_for_log("connections can't be accepted");
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", served.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split(' ').collect();
        fields[12].parse::<u64>().unwrap() + fields[13].parse::<u64>().unwrap()
    };
    let before = ticks();
    thread::sleep(Duration::from_secs(1));
    let (spent, complaints) = (
        ticks() - before,
        served.log().matches("can't be accepted").count(),
    );
    // However long that took: a loop that tried again and again would take all of it.
    let seconds = begun.elapsed().as_secs() + 1;
    assert!(spent < 20 * seconds, "{spent} ticks in {seconds} s");
    assert!(
        complaints < 20 * seconds as usize,
        "{complaints} in {seconds} s"
    );
    drop(many);
    if has_kcat() {
        served.kcat(&["-L"], "");
    }
}

#[test]
fn as_many_files_as_may_be_open_are_allowed() {
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
    };

    let serve =
        "ulimit -S -n 100 && ulimit -H -n 900 && exec \"$0\" serve memory: --listen 127.0.0.1:0";
    let mut child = Command::new("sh")
        .args(["-c", serve, env!("CARGO_BIN_EXE_ottla")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.starts_with("ottla: listening"), "{line:?}");
    let limits = limits.unwrap();
    let files = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let numbers: Vec<&str> = files.unwrap().split_whitespace().take(2).collect();
    assert_eq!(numbers, ["900", "900"]);
}

/// As a program does that embeds the broker and lets others in.
#[test]
fn handles_in_the_process_and_clients_on_sockets_share_a_broker() {
    use ottla::serve::{Listener, ServerConfig, serve};
    use std::process::Command;

    if !has_kcat() {
        return;
    }
    let broker = ottla::Broker::open("memory:shared").unwrap();
    let listener = Listener::at("localhost", 0).unwrap();
    let server = serve(&broker, &[listener], ServerConfig::default()).unwrap();
    let address = server.local_addrs()[0].to_string();
    let producer = ottla::Producer::open(broker.address()).unwrap();
    producer
        .send(ottla::NewRecord::to("t").value(b"from the inside"))
        .unwrap();
    producer.flush(Duration::from_secs(60)).unwrap();
    let read = Command::new("kcat")
        .args(["-b", &address, "-C", "-t", "t", "-e", "-q"])
        .output()
        .unwrap();
    assert_eq!(read.stdout, b"from the inside\n");
    server.stop();
    assert!(!broker.close().unwrap(), "the producer still has it");
}
