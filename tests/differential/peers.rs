//! The two brokers.

use crate::Outcome;
use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicI32, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// How long a broker may take to start.
const PATIENCE: Duration = Duration::from_secs(90);

/// What both are told, so that what differs does so of itself.
const SETTINGS: [(&str, &str); 13] = [
    ("node.id", "1"),
    ("num.partitions", "2"),
    ("offsets.topic.num.partitions", "3"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.num.partitions", "3"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("share.coordinator.state.topic.num.partitions", "3"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("auto.create.topics.enable", "true"),
    // The records are of 2023: retention must not come in between.
    ("log.initial.task.delay.ms", "3600000"),
];

/// A broker that runs; it is stopped when this is dropped.
pub struct Peer {
    pub name: &'static str,
    pub address: SocketAddr,
    child: Child,
    pub correlation: AtomicI32,
}

impl Peer {
    /// A JVM Kafka, one KRaft node, of the classes that `OTTLA_JVM_CLASSPATH` names.
    pub fn kafka(work: &Path, dir: &str) -> Outcome<Self> {
        let classpath = std::env::var("OTTLA_JVM_CLASSPATH").map_err(|_| {
            "OTTLA_JVM_CLASSPATH is missing: run `cargo xtask test differential`".to_string()
        })?;
        let held = [free_port()?, free_port()?];
        let [port, controller] = [port_of(&held[0])?, port_of(&held[1])?];
        drop(held);
        let mut properties: String = SETTINGS.iter().map(|(k, v)| format!("{k}={v}\n")).collect();
        properties += &format!(
            "process.roles=broker,controller\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\nlog.dirs={}\n",
            work.join(dir).display()
        );
        let path = work.join(format!("{dir}.properties"));
        fs::write(&path, properties).map_err(|error| error.to_string())?;
        let java = |class: &str| {
            let mut java = Command::new("java");
            java.args([
                "-Xmx512m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-cp",
            ]);
            java.arg(&classpath).arg(class).stdin(Stdio::null());
            java
        };
        let formatted = java("kafka.tools.StorageTool")
            .args([
                "format",
                "--cluster-id",
                "MkU3OEVBNTcwNTJENDM2Qg",
                "--config",
            ])
            .arg(&path)
            .output()
            .map_err(|error| format!("java: {error}"))?;
        if !formatted.status.success() {
            return Err(format!(
                "format: {}",
                String::from_utf8_lossy(&formatted.stderr)
            ));
        }
        let log = work.join(format!("{dir}.log"));
        let file = File::create(&log).map_err(|error| error.to_string())?;
        let child = java("ottla.Peer")
            .arg("broker")
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(file.try_clone().map_err(|error| error.to_string())?)
            .stderr(file)
            .spawn()
            .map_err(|error| format!("java: {error}"))?;
        let mut peer = Self {
            name: "kafka",
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            child,
            correlation: AtomicI32::new(1),
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if said.contains("Kafka Server started") {
                return Ok(peer);
            }
            if !matches!(peer.child.try_wait(), Ok(None)) || Instant::now() > deadline {
                return Err(format!("the JVM Kafka did not start:\n{said}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// `ottla serve` on a new directory. `other`: with settings that its answers must show.
    pub fn ottla(work: &Path, other: bool) -> Outcome<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
        command.arg("serve").arg(work.join("ottla"));
        command.args(["--listen", "127.0.0.1:0", "--set", "durability=os"]);
        for (key, value) in SETTINGS {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        if other {
            command.args([
                "--set",
                "num.partitions=3",
                "--set",
                "message.max.bytes=1500",
            ]);
        }
        let log = File::create(work.join("ottla.log")).map_err(|error| error.to_string())?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = command.spawn().map_err(|error| format!("ottla: {error}"))?;
        let out = child.stdout.take().ok_or("no standard output")?;
        let mut line = String::new();
        let read = BufReader::new(out).read_line(&mut line);
        let address = read.ok().and_then(|_| {
            line.trim()
                .strip_prefix("ottla: listening on ")?
                .parse()
                .ok()
        });
        match address {
            Some(address) => Ok(Self {
                name: "ottla",
                address,
                child,
                correlation: AtomicI32::new(1),
            }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                let said = fs::read_to_string(work.join("ottla.log")).unwrap_or_default();
                Err(format!("ottla serve did not start: {line}{said}"))
            }
        }
    }

    pub fn next_correlation(&self) -> i32 {
        self.correlation.fetch_add(1, Relaxed)
    }

    /// Whether it still runs.
    pub fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if self.name == "ottla" {
            let _ = Command::new("kill")
                .arg(self.child.id().to_string())
                .status();
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Outcome<TcpListener> {
    TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())
}

fn port_of(listener: &TcpListener) -> Outcome<u16> {
    listener
        .local_addr()
        .map(|address| address.port())
        .map_err(|error| error.to_string())
}
