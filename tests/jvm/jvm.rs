//! Running the JVM's programs.

use crate::{Outcome, records::Contents};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// How long a JVM broker may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(120);

/// A Java with Kafka's classes and the test's.
#[derive(Clone)]
pub struct Jvm {
    classpath: String,
    /// What runs classes, from the first one on.
    runner: Arc<Mutex<Option<Runner>>>,
}

/// A process that runs main functions one after the other, `ottla.Runner`.
struct Runner {
    child: Child,
    lines: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Runner {
    fn start(mut command: Command) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let missing = || io::Error::other("no pipe");
        Ok(Self {
            lines: child.stdin.take().ok_or_else(missing)?,
            answers: BufReader::new(child.stdout.take().ok_or_else(missing)?),
            child,
        })
    }

    /// The exit code, and what was written to standard output and to standard error.
    fn run(&mut self, words: &[&str]) -> io::Result<(i32, String, String)> {
        let line = words.join("\t");
        if line.contains('\n') || line.matches('\t').count() + 1 != words.len() {
            return Err(io::Error::other("an argument with a tab or an end of line"));
        }
        writeln!(self.lines, "{line}")?;
        let mut head = String::new();
        self.answers.read_line(&mut head)?;
        let numbers: Vec<i64> = head
            .split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        let [status, out, err] = numbers[..] else {
            return Err(io::Error::other(format!("it answers {head:?}")));
        };
        let mut text = |length: i64| {
            let mut bytes = vec![0; length as usize];
            self.answers.read_exact(&mut bytes)?;
            Ok::<String, io::Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        let (out, err) = (text(out)?, text(err)?);
        Ok((status as i32, out, err))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Jvm {
    pub fn from_environment() -> Outcome<Self> {
        match std::env::var("OTTLA_JVM_CLASSPATH") {
            Ok(classpath) => Ok(Self {
                classpath,
                runner: Arc::default(),
            }),
            Err(_) => Err("OTTLA_JVM_CLASSPATH is missing: run `cargo xtask test jvm`".into()),
        }
    }

    fn command(&self, class: &str) -> Command {
        let mut command = Command::new("java");
        command.args([
            "-Xmx768m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
        ]);
        command.arg(&self.classpath);
        command.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=info"]);
        command.arg(class);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a class to its end; what it printed on standard output, and on standard error.
    pub fn run(&self, class: &str, args: &[&str]) -> Outcome<(String, String)> {
        let failed = |error: io::Error| format!("java: {class} {}: {error}", args.join(" "));
        let mut runner = self.runner.lock().map_err(|error| error.to_string())?;
        let done = match &mut *runner {
            Some(runner) => runner,
            none => none.insert(Runner::start(self.command("ottla.Runner")).map_err(failed)?),
        }
        .run(&[&[class], args].concat());
        let (status, out, err) = done.map_err(|error| {
            // What comes next begins with another.
            *runner = None;
            failed(error)
        })?;
        if status == 0 {
            return Ok((out, err));
        }
        let last: Vec<&str> = err.lines().rev().take(30).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        Err(format!(
            "{class} {} ended with {status}:\n{}",
            args.join(" "),
            last.join("\n")
        ))
    }
}

/// How to start a broker, and clients of it.
pub struct Kafka {
    jvm: Jvm,
    work: PathBuf,
    port: u16,
    controller_port: u16,
}

/// A broker that runs; it is stopped when this is dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Kafka {
    pub fn new(jvm: Jvm, work: &Path) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        // Both are held at a time, so that they differ.
        let port = |fallback| free().map_or(fallback, |address| address.port());
        let port_of_clients = port(19092);
        let mut controller_port = port(19093);
        while controller_port == port_of_clients {
            controller_port = port(19093);
        }
        Self {
            jvm,
            work: work.to_path_buf(),
            port: port_of_clients,
            controller_port,
        }
    }

    /// Where the broker is.
    pub fn bootstrap(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Starts a broker on a directory with the properties that `ottla promote` tells, on ports of its own, and waits until it is up.
    pub fn start(&self, dir: &Path) -> Outcome<Running> {
        let (succeeded, said) = crate::ottla(&["promote", crate::text(dir)])?;
        crate::expect(succeeded, || said.clone())?;
        let told = said.lines().filter_map(|line| line.strip_prefix("  "));
        let mut properties: String = told
            .filter(|line| line.contains('=') && !line.starts_with("bin/"))
            .map(|line| {
                let ports = line.replace("9092", &self.port.to_string());
                ports.replace("9093", &self.controller_port.to_string()) + "\n"
            })
            .collect();
        properties += "log.cleaner.backoff.ms=200\nlog.retention.check.interval.ms=500\n";
        properties += "group.initial.rebalance.delay.ms=0\n";
        let path = self.work.join("server.properties");
        fs::write(&path, properties).map_err(|error| error.to_string())?;
        let log = self.work.join("broker.log");
        let file = File::create(&log).map_err(|error| error.to_string())?;
        let child = self
            .jvm
            .command("ottla.Peer")
            .args(["broker", crate::text(&path)])
            .stdin(Stdio::piped())
            .stdout(file.try_clone().map_err(|error| error.to_string())?)
            .stderr(file)
            .spawn()
            .map_err(|error| format!("java: {error}"))?;
        let mut running = Running { child, log };
        running.wait("started", |log| log.contains("Kafka Server started"))?;
        Ok(running)
    }

    fn client(&self, args: &[&str]) -> Outcome<String> {
        self.jvm.run("ottla.Peer", args).map(|(out, _)| out)
    }

    /// Reads everything.
    pub fn read(&self, isolation: &str) -> Outcome<Contents> {
        let mut contents =
            Contents::parse(&self.client(&["read", &self.bootstrap(), isolation])?)?;
        contents.records.retain(|_, records| !records.is_empty());
        Ok(contents)
    }

    /// What a group has committed.
    pub fn committed(&self, group: &str) -> Outcome<BTreeMap<(String, i32), (i64, String)>> {
        let mut offsets = BTreeMap::new();
        for line in self.client(&["offsets", &self.bootstrap(), group])?.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let ["committed", topic, partition, offset, metadata] = fields[..] else {
                return Err(format!("not understood: {line:?}"));
            };
            let number = |text: &str| text.parse::<i64>().map_err(|error| error.to_string());
            let partition = (topic.to_string(), number(partition)? as i32);
            offsets.insert(partition, (number(offset)?, metadata.to_string()));
        }
        Ok(offsets)
    }

    /// Does what only a JVM Kafka does.
    pub fn write(&self) -> Outcome {
        self.client(&["write", &self.bootstrap()]).map(drop)
    }

    /// Produces more into the topics that are there, in transactions too.
    pub fn write_more(&self) -> Outcome {
        self.client(&["more", &self.bootstrap()]).map(drop)
    }
}

impl Running {
    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn wait(&mut self, what: &str, until: impl Fn(&str) -> bool) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.try_wait().map_err(|error| error.to_string())?;
            if until(&self.log()) {
                return Ok(());
            }
            if ended.is_some() || Instant::now() > deadline {
                let log = self.log();
                let last: Vec<&str> = log.lines().rev().take(40).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                return Err(format!(
                    "the JVM broker was not {what}:\n{}",
                    last.join("\n")
                ));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Kills it.
    pub fn kill(mut self) -> Outcome {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(drop).map_err(|error| error.to_string())
    }

    /// Stops it cleanly; what it logged.
    pub fn stop(mut self) -> Outcome<String> {
        drop(self.child.stdin.take());
        self.wait("stopped", |log| {
            log.contains("] shut down completed") || log.contains("App info kafka.server")
        })?;
        let status = self.child.wait().map_err(|error| error.to_string())?;
        crate::expect(status.success(), || {
            format!("the JVM broker ended with {status}")
        })?;
        Ok(self.log())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An error with every line in which a broker complains about its directory.
pub fn no_complaints(log: &str) -> Outcome {
    let suspicious = [
        " ERROR ",
        "corrupt",
        "Corrupt",
        "Recovering unflushed",
        "Rebuilding producer state",
        "stray",
        "Found ",
        "IllegalState",
        "invalid",
        "mismatch",
    ];
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| suspicious.iter().any(|word| line.contains(word)))
        // What a broker says when a topic grows, whoever made it.
        .filter(|line| !line.contains("to exist, but it was missing. Creating..."))
        .collect();
    crate::expect(lines.is_empty(), || {
        format!("the JVM broker complains:\n{}", lines.join("\n"))
    })
}
