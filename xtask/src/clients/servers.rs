//! The brokers that the clients are run against: `ottla serve`, and a JVM Kafka as a peer.

use super::list::End;
use crate::shell::{Outcome, cargo, command, output, root, run, target_dir};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

/// How long a broker may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(90);

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ottla,
    Jvm,
}

/// What both brokers are told: groups that move at once, and heartbeats that don't make a test wait.
const SETTINGS: &[&str] = &[
    "auto.create.topics.enable=false",
    "group.consumer.heartbeat.interval.ms=500",
    "group.consumer.min.heartbeat.interval.ms=500",
    "group.consumer.min.session.timeout.ms=6000",
    "group.consumer.session.timeout.ms=6000",
    "group.initial.rebalance.delay.ms=0",
    "group.share.heartbeat.interval.ms=500",
    "group.share.min.heartbeat.interval.ms=500",
    "log.retention.ms=-1",
];

/// What a JVM Kafka needs to be alone.
const JVM_SETTINGS: &[&str] = &[
    "controller.listener.names=CONTROLLER",
    "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "node.id=1",
    "offsets.topic.num.partitions=4",
    "offsets.topic.replication.factor=1",
    "process.roles=broker,controller",
    "share.coordinator.state.topic.min.isr=1",
    "share.coordinator.state.topic.num.partitions=4",
    "share.coordinator.state.topic.replication.factor=1",
    "transaction.state.log.min.isr=1",
    "transaction.state.log.num.partitions=4",
    "transaction.state.log.replication.factor=1",
];

/// A broker that can be started again on the same port; it is stopped when this is dropped.
pub struct Server {
    kind: Kind,
    dir: PathBuf,
    port: u16,
    program: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// Starts one on an empty directory and a free port; `ottla` is the program, built if there is none.
    pub fn start(kind: Kind, name: &str, more: &[String], ottla: Option<&Path>) -> Outcome<Self> {
        let dir = target_dir().join("test/clients").join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let [port, controller] = free_ports()?;
        let settings = SETTINGS.iter().map(|s| s.to_string());
        let settings: Vec<String> = settings.chain(more.iter().cloned()).collect();
        let program = match kind {
            Kind::Ottla => ottla_program(&dir, port, &settings, ottla)?,
            Kind::Jvm => jvm_program(&dir, port, controller, &settings)?,
        };
        let mut server = Self {
            kind,
            dir,
            port,
            program,
            child: None,
        };
        server.up()?;
        Ok(server)
    }

    /// Where clients find it.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where its partitions are.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Stops or kills it, and starts it again.
    pub fn restart(&mut self, end: End) -> Outcome {
        match end {
            End::Stopped => self.down()?,
            End::Killed => self.kill()?,
        }
        self.up()
    }

    /// Ends it as `kill -9` does; nothing of it may have ended before.
    fn kill(&mut self) -> Outcome {
        let mut child = self.child.take().ok_or("no broker runs")?;
        child.kill().map_err(|e| e.to_string())?;
        let status = child.wait().map_err(|e| e.to_string())?;
        match status.signal() {
            Some(9) => Ok(()),
            _ => Err(format!(
                "the broker had ended with {status}; its log: {}",
                self.dir.join("log").display()
            )),
        }
    }

    fn up(&mut self) -> Outcome {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .map_err(|e| e.to_string())?;
        let out = match self.kind {
            Kind::Ottla => Stdio::piped(),
            Kind::Jvm => Stdio::from(log.try_clone().map_err(|e| e.to_string())?),
        };
        let mut child = command(&self.program[0])
            .args(&self.program[1..])
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log)
            .spawn()
            .map_err(|e| format!("{}: {e}", self.program[0]))?;
        let said = child.stdout.take();
        self.child = Some(child);
        if let Some(said) = said {
            let mut line = String::new();
            BufReader::new(said)
                .read_line(&mut line)
                .map_err(|e| e.to_string())?;
            if line.trim() != format!("ottla: listening on {}", self.bootstrap()) {
                return Err(format!(
                    "ottla serve says {line:?}; its log: {}",
                    self.dir.join("log").display()
                ));
            }
            return Ok(());
        }
        self.wait("start", |server| {
            let log = fs::read_to_string(server.dir.join("log")).unwrap_or_default();
            let started = log.matches("Kafka Server started").count();
            let stopped = log.matches("shut down completed").count();
            started > 0
                && (stopped == 0
                    || log.rfind("Kafka Server started") > log.rfind("shut down completed"))
                && TcpStream::connect(server.bootstrap()).is_ok()
        })
    }

    /// Stops it as a signal does, and waits for it.
    pub fn down(&mut self) -> Outcome {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        run(command("kill").args(["-TERM", &child.id().to_string()]))?;
        let end = Instant::now() + PATIENCE;
        loop {
            match child.try_wait().map_err(|e| e.to_string())? {
                // 143 is what a JVM ends with when it was asked to.
                Some(status) if status.success() || status.code() == Some(143) => return Ok(()),
                Some(status) => {
                    return Err(format!(
                        "the broker ended with {status}; its log: {}",
                        self.dir.join("log").display()
                    ));
                }
                None if Instant::now() > end => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err("the broker does not stop".into());
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn wait(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Outcome {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            let ended = match &mut self.child {
                Some(child) => child.try_wait().map_err(|e| e.to_string())?,
                None => None,
            };
            if ended.is_some() || Instant::now() > end {
                let log = self.dir.join("log");
                return Err(format!(
                    "the broker does not {what}; its log: {}",
                    log.display()
                ));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_ports() -> Outcome<[u16; 2]> {
    // Both are held at a time, so that they differ.
    let listen = || TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string());
    let (a, b) = (listen()?, listen()?);
    let port = |listener: &TcpListener| listener.local_addr().map_err(|e| e.to_string());
    Ok([port(&a)?.port(), port(&b)?.port()])
}

fn ottla_program(
    dir: &Path,
    port: u16,
    settings: &[String],
    ottla: Option<&Path>,
) -> Outcome<Vec<String>> {
    let built;
    let ottla = match ottla {
        Some(there) => there,
        None => {
            run(cargo().args(["build", "--quiet", "--release", "--package", "ottla-cli"]))?;
            built = target_dir().join("release/ottla");
            &built
        }
    };
    let mut program = vec![
        ottla.display().to_string(),
        "serve".to_string(),
        dir.join("data").display().to_string(),
        "--listen".to_string(),
        format!("127.0.0.1:{port}"),
    ];
    for setting in settings {
        program.extend(["--set".to_string(), setting.clone()]);
    }
    Ok(program)
}

fn jvm_program(
    dir: &Path,
    port: u16,
    controller: u16,
    settings: &[String],
) -> Outcome<Vec<String>> {
    let classpath = target_dir().join("test/clients/classpath");
    run(command("mvn")
        .args(["--batch-mode", "--quiet", "--file", "tests/jvm/pom.xml"])
        .arg("dependency:build-classpath")
        .arg(format!(
            "-Dottla.target={}",
            target_dir().join("jvm").display()
        ))
        .arg(format!("-Dmdep.outputFile={}", classpath.display())))?;
    let classes = fs::read_to_string(&classpath).map_err(|e| e.to_string())?;
    let mut properties: String = JVM_SETTINGS
        .iter()
        .map(|s| s.to_string())
        .chain(settings.iter().cloned())
        .map(|setting| setting + "\n")
        .collect();
    properties += &format!(
        "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller}\nlog.dirs={}\n",
        dir.join("data").display()
    );
    let path = dir.join("server.properties");
    fs::write(&path, properties).map_err(|e| e.to_string())?;
    let java = |class: &str| {
        [
            "java",
            "-Xmx768m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
        ]
        .into_iter()
        .chain(["-Dorg.slf4j.simpleLogger.defaultLogLevel=info", "-cp"])
        .chain([classes.trim(), class])
        .map(str::to_string)
        .collect::<Vec<_>>()
    };
    let format = java("kafka.tools.StorageTool");
    output(
        command(&format[0])
            .args(&format[1..])
            .args(["format", "--standalone"])
            .args(["--cluster-id", "MkU3OEVBNTcwNTJENDM2Qg", "--config"])
            .arg(&path)
            .current_dir(root()),
    )?;
    let mut program = java("kafka.Kafka");
    program.push(path.display().to_string());
    Ok(program)
}
