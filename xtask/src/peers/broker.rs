//! The brokers that are compared, as processes: how long they take to start, what they use.

use super::load::Generators;
use crate::shell::{Outcome, command};
use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

#[derive(Clone, Copy)]
pub enum Kind {
    /// A KRaft node with the heap and collector that Kafka's start script gives it.
    Kafka,
    /// `ottla serve` with `durability=os`, which is what Kafka does.
    Ottla,
}

/// A broker that runs; it is stopped when this is dropped.
pub struct Broker {
    child: Child,
    pub address: SocketAddr,
    /// From the start of the process to its first answer.
    pub start_ms: f64,
}

impl Broker {
    /// Starts one on a new directory. With `partitions` it is started, given a topic with so many, stopped and started again.
    pub fn start(kind: Kind, generators: &Generators, partitions: usize) -> Outcome<Self> {
        let name = match kind {
            Kind::Kafka => "kafka",
            Kind::Ottla => "ottla",
        };
        let dir = generators.work.join(format!("{name}-{partitions}"));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let broker = Self::start_on(kind, generators, &dir)?;
        if partitions == 0 {
            return Ok(broker);
        }
        generators.create_topic(&broker, "many", partitions)?;
        drop(broker); // stops it
        Self::start_on(kind, generators, &dir)
    }

    fn start_on(kind: Kind, generators: &Generators, dir: &Path) -> Outcome<Self> {
        let ports = [free_port()?, free_port()?];
        let [port, controller] = ports;
        let log = dir.with_extension("log");
        let log = File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let mut run = match kind {
            Kind::Kafka => {
                let path = dir.with_extension("properties");
                let properties = format!(
                    "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
                     listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
                     controller.listener.names=CONTROLLER\noffsets.topic.replication.factor=1\n\
                     group.initial.rebalance.delay.ms=0\nlog.dirs={}\n",
                    dir.display()
                );
                fs::write(&path, properties).map_err(|e| format!("{}: {e}", path.display()))?;
                if !dir.join("meta.properties").exists() {
                    let format = [
                        "format",
                        "--cluster-id",
                        "MkU3OEVBNTcwNTJENDM2Qg",
                        "--config",
                    ];
                    crate::shell::run_quietly(
                        generators
                            .java("kafka.tools.StorageTool")
                            .args(format)
                            .arg(&path),
                    )?;
                }
                let mut run = command("java");
                // As bin/kafka-server-start.sh has it.
                run.args([
                    "-Xmx1G",
                    "-Xms1G",
                    "-server",
                    "-XX:+UseG1GC",
                    "-XX:MaxGCPauseMillis=20",
                ]);
                run.args([
                    "-XX:InitiatingHeapOccupancyPercent=35",
                    "-XX:+ExplicitGCInvokesConcurrent",
                ]);
                run.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]);
                run.arg(&generators.classpath).arg("kafka.Kafka").arg(&path);
                run
            }
            Kind::Ottla => {
                let mut run = command(&generators.ottla);
                run.arg("serve")
                    .arg(dir)
                    .args(["--listen", &format!("127.0.0.1:{port}")]);
                run.args(["--set", "durability=os"]);
                run
            }
        };
        let stdout = log.try_clone().map_err(|e| e.to_string())?;
        let began = Instant::now();
        let child = run
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(log)
            .spawn()
            .map_err(|e| format!("{run:?}: {e}"))?;
        let mut broker = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            start_ms: 0.0,
        };
        while !broker.answers() {
            if !matches!(broker.child.try_wait(), Ok(None))
                || began.elapsed() > Duration::from_secs(120)
            {
                return Err(format!(
                    "a broker did not start: see {}",
                    dir.with_extension("log").display()
                ));
            }
            thread::sleep(Duration::from_millis(1));
        }
        broker.start_ms = began.elapsed().as_secs_f64() * 1e3;
        Ok(broker)
    }

    /// Whether ApiVersions (version 0) is answered.
    fn answers(&self) -> bool {
        let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
        let mut size = [0; 4];
        TcpStream::connect(self.address).is_ok_and(|mut stream| {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            stream.write_all(&request).is_ok() && stream.read_exact(&mut size).is_ok()
        })
    }

    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// CPU seconds that the process has used.
    pub fn cpu_seconds(&self) -> f64 {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |at: usize| {
            fields
                .get(at)
                .and_then(|f| f.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        // utime and stime, in the 1/100 s that Linux shows on every machine.
        (ticks(11) + ticks(12)) / 100.0
    }

    /// Resident memory.
    pub fn resident_mib(&self) -> f64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        };
        // What is the process's own: mapped log files are the page cache's, for either.
        let own = kib("RssAnon:").unwrap_or(0.0) + kib("RssShmem:").unwrap_or(0.0);
        own / 1024.0
    }

    fn end(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return; // it is stopped already
        }
        let _ = command("kill").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
    }
}

fn free_port() -> Outcome<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    listener
        .local_addr()
        .map(|address| address.port())
        .map_err(|e| e.to_string())
}
