//! The brokers: a JVM Kafka of one node, and `ottla serve`.

use crate::{Outcome, Tally, within};
use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// How long a broker may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(90);

/// What both brokers are told. Internal topics of one partition, so that what is in them can be compared.
const SETTINGS: [(&str, &str); 7] = [
    ("offsets.topic.num.partitions", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("share.coordinator.state.topic.num.partitions", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
];

/// What only a node that could be one of several needs to be told.
const SETTINGS_OF_KAFKA: &str = "\
process.roles=broker,controller
controller.listener.names=CONTROLLER
transaction.state.log.min.isr=1
share.coordinator.state.topic.min.isr=1
";

/// A Java with the programs' classes.
pub struct Java {
    kafka: String,
    flume: String,
}

impl Java {
    pub fn from_environment() -> Outcome<Self> {
        let built = std::env::var("OTTLA_JAVA_BUILT")
            .map_err(|_| "OTTLA_JAVA_BUILT is missing: run `cargo xtask test java`")?;
        let built = PathBuf::from(built);
        let classpath = |name: &str| {
            let path = built.join(format!("{name}.classpath"));
            let classes = fs::read_to_string(&path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            Ok::<String, String>(classes.trim().to_string())
        };
        let own = built.join("kafka/classes");
        Ok(Self {
            kafka: format!("{}:{}", own.display(), classpath("kafka")?),
            flume: classpath("flume")?,
        })
    }

    /// A program of the tests, whose log goes to this file.
    pub fn command(&self, class: &str, log: &Path) -> Command {
        let mut command = Command::new("java");
        command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
        command.arg(format!(
            "-Dorg.slf4j.simpleLogger.logFile={}",
            log.display()
        ));
        command.arg(format!("-Dottla.flume.classpath={}", self.flume));
        command.arg("-cp").arg(&self.kafka).arg(class);
        command.stdin(Stdio::null());
        command
    }
}

/// A broker that runs; it is stopped when this is dropped.
pub struct Server {
    child: Child,
    /// A JVM Kafka ends with its standard input, Ottla by a signal.
    jvm: bool,
    pub address: String,
    /// Where its page of metrics is, if it has one.
    pub metrics: Option<String>,
    pub data: PathBuf,
    log: PathBuf,
}

fn failed(what: &Path) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{}: {error}", what.display())
}

fn free_ports() -> Outcome<[u16; 2]> {
    let listen = || TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string());
    // Both are held at a time, so that they differ.
    let listeners = [listen()?, listen()?];
    let mut ports = [0; 2];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr().map_err(|e| e.to_string())?.port();
    }
    Ok(ports)
}

impl Server {
    /// A JVM Kafka on a fresh directory below `dir`.
    pub fn kafka(java: &Java, dir: &Path, name: &str) -> Outcome<Self> {
        let dir = dir.join(name);
        fs::create_dir_all(&dir).map_err(failed(&dir))?;
        let (data, log) = (dir.join("data"), dir.join("log"));
        let [port, controller] = free_ports()?;
        let address = format!("127.0.0.1:{port}");
        let mut properties = format!(
            "node.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://{address},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://{address}\nlog.dirs={}\n{SETTINGS_OF_KAFKA}",
            data.display()
        );
        for (setting, value) in SETTINGS {
            properties += &format!("{setting}={value}\n");
        }
        let path = dir.join("server.properties");
        fs::write(&path, properties).map_err(failed(&path))?;
        let out = File::create(dir.join("out")).map_err(failed(&dir))?;
        let child = java
            .command("ottla.Broker", &log)
            .arg(&path)
            .arg(&data)
            // The program's last word counts: the line that says it serves is one of information.
            .env(
                "JDK_JAVA_OPTIONS",
                "-Dorg.slf4j.simpleLogger.log.kafka.server=info",
            )
            .stdin(Stdio::piped())
            .stdout(out.try_clone().map_err(failed(&dir))?)
            .stderr(out)
            .spawn()
            .map_err(|error| format!("java: {error}"))?;
        let mut server = Self {
            child,
            jvm: true,
            address,
            metrics: None,
            data,
            log,
        };
        server.wait_until(|said| said.contains("Kafka Server started"))?;
        Ok(server)
    }

    /// `ottla serve` on a fresh directory below `dir`, with a page of metrics or without.
    pub fn ottla(dir: &Path, name: &str, metrics: bool) -> Outcome<Self> {
        let dir = dir.join(name);
        fs::create_dir_all(&dir).map_err(failed(&dir))?;
        let (data, log, out) = (dir.join("data"), dir.join("log"), dir.join("out"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
        command.arg("serve").arg(&data);
        command.args(["--listen", "127.0.0.1:0"]);
        if metrics {
            command.args(["--metrics", "127.0.0.1:0"]);
        }
        for (setting, value) in SETTINGS {
            command.args(["--set", &format!("{setting}={value}")]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&out).map_err(failed(&out))?)
            .stderr(File::create(&log).map_err(failed(&log))?)
            .spawn()
            .map_err(|error| format!("ottla: {error}"))?;
        let mut server = Self {
            child,
            jvm: false,
            address: String::new(),
            metrics: None,
            data,
            log,
        };
        server.address = within(
            PATIENCE,
            || "ottla serve does not say where it listens".into(),
            || {
                server.lives()?;
                let said = fs::read_to_string(&out).unwrap_or_default();
                let line = said.lines().next().filter(|_| said.contains('\n'));
                Ok(line
                    .and_then(|line| Some(line.strip_prefix("ottla: listening on ")?.to_string())))
            },
        )?;
        // It said so before it said where it listens.
        let said = server.said();
        let page = said.split_once("metrics address=");
        server.metrics = page.and_then(|(_, rest)| Some(rest.split_whitespace().next()?.into()));
        Ok(server)
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn lives(&mut self) -> Outcome {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!(
                "the broker ended with {status}: {}",
                self.last_words()
            )),
            Err(error) => Err(error.to_string()),
        }
    }

    fn last_words(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn wait_until(&mut self, said: impl Fn(&str) -> bool) -> Outcome {
        within(
            PATIENCE,
            || "the broker does not start".into(),
            || {
                self.lives()?;
                Ok(said(&self.said()).then_some(()))
            },
        )
    }

    /// Stops it in good order; that it did not panic on the way, and ends well, is a case of its own.
    pub fn stop(&mut self, part: &str, tally: &mut Tally) -> Outcome {
        if self.jvm {
            drop(self.child.stdin.take());
            within(
                PATIENCE,
                || "the JVM Kafka does not stop".into(),
                || self.ended(),
            )?;
            return Ok(());
        }
        self.lives()?;
        let signal = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        signal.map_err(|error| format!("kill: {error}"))?;
        let status = within(
            PATIENCE,
            || "ottla serve does not stop".into(),
            || self.ended(),
        )?;
        let said = self.said();
        let panicked = said.lines().find(|line| line.contains("panicked"));
        match (status.success(), panicked) {
            (true, None) => tally.passed += 1,
            (_, panicked) => {
                let why = panicked.map_or_else(|| self.last_words(), String::from);
                tally
                    .failed
                    .push(format!("{part}: the broker ended with {status}: {why}"));
            }
        }
        Ok(())
    }

    fn ended(&mut self) -> Outcome<Option<std::process::ExitStatus>> {
        self.child.try_wait().map_err(|error| error.to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
