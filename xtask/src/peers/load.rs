//! The load: the same programs against either broker.

use super::broker::Broker;
use crate::{
    setup,
    shell::{Outcome, cargo, command, output, root, run, target_dir},
    test,
};
use serde_json::Value;
use std::{fmt, path::PathBuf, process::Command};

/// What makes the load.
pub struct Generators {
    pub work: PathBuf,
    pub classpath: String,
    pub ottla: PathBuf,
    endtoend: PathBuf,
    librdkafka: PathBuf,
}

impl Generators {
    /// Builds and fetches all of it.
    pub fn prepare() -> Outcome<Self> {
        let classpath = test::jvm_classpath("bench peers")?
            .ok_or("bench peers compares with a JVM Kafka: install java and mvn")?;
        run(cargo().args(["build", "--quiet", "--release", "--package", "ottla-cli"]))?;
        setup::c_compiler()?;
        setup::programs(&[("kcat", "kcat")])?; // brings librdkafka.so.1, the load generator
        let work = target_dir().join("bench/peers");
        std::fs::create_dir_all(&work).map_err(|e| format!("{}: {e}", work.display()))?;
        // librdkafka's library is Debian's; its header is our own, which declares the same.
        let compile = |name: &str| -> Outcome<PathBuf> {
            let program = work.join(name);
            output(
                command("cc")
                    .args(["-O2", "-Wall", "-pthread", "-o"])
                    .arg(&program)
                    .arg(root().join("benches").join(format!("{name}.c")))
                    .arg(format!("-I{}", root().join("include").display()))
                    .arg("-l:librdkafka.so.1"),
            )?;
            Ok(program)
        };
        Ok(Self {
            endtoend: compile("endtoend")?,
            librdkafka: compile("bench")?,
            classpath,
            ottla: target_dir().join("release/ottla"),
            work,
        })
    }

    /// One of Kafka's classes.
    pub fn java(&self, class: &str) -> Command {
        let mut java = command("java");
        java.args([
            "-Xmx512M",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
            "-cp",
        ]);
        java.arg(&self.classpath).arg(class);
        java
    }

    pub fn create_topic(&self, broker: &Broker, topic: &str, partitions: usize) -> Outcome {
        let partitions = partitions.to_string();
        self.topics(
            broker,
            &["--create", "--topic", topic, "--partitions", &partitions],
        )
    }

    fn delete_topic(&self, broker: &Broker, topic: &str) -> Outcome {
        self.topics(broker, &["--delete", "--topic", topic])
    }

    fn topics(&self, broker: &Broker, what: &[&str]) -> Outcome {
        output(
            self.java("org.apache.kafka.tools.TopicCommand")
                .args(["--bootstrap-server", &broker.bootstrap()])
                .args(what),
        )
        .map(drop)
    }
}

/// Which generator, and which way.
#[derive(Clone, Copy, PartialEq)]
enum Tool {
    /// Kafka's producer perf test.
    Producer,
    /// Kafka's consumer perf test, on what the producer wrote.
    Consumer,
    /// librdkafka, producing with delivery reports.
    Librdkafka,
}

/// One measurement.
pub struct Load {
    tool: Tool,
    size: usize,
    partitions: usize,
    acks: &'static str,
    codec: &'static str,
    messages: usize,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tool = match self.tool {
            Tool::Producer => "produce",
            Tool::Consumer => "consume",
            Tool::Librdkafka => "librdkafka",
        };
        write!(f, "{tool} {}", self.corner())
    }
}

/// What one gave.
pub struct Measured {
    pub per_second: f64,
    /// The broker's CPU time for each message.
    pub cpu_us: f64,
}

impl Load {
    /// What is done once before anything counts: each way of loading, with other topics.
    pub fn warm_up() -> impl Iterator<Item = Self> {
        [Tool::Producer, Tool::Consumer, Tool::Librdkafka]
            .into_iter()
            .map(|tool| Self {
                tool,
                size: 200,
                partitions: 3,
                acks: "all",
                codec: "none",
                messages: 1_000_000,
            })
    }

    /// All of them; `quick`: the corners.
    pub fn all(quick: bool) -> Vec<Self> {
        let mut all = Vec::new();
        for size in [100, 1024] {
            for partitions in [1, 12] {
                for acks in ["1", "all"] {
                    for codec in ["none", "lz4"] {
                        let corner = partitions == 1 && acks == "all" && codec == "none";
                        if quick && !corner {
                            continue;
                        }
                        for tool in [Tool::Producer, Tool::Consumer, Tool::Librdkafka] {
                            // A consumer doesn't see how its records were acknowledged.
                            if tool == Tool::Consumer && acks == "1" {
                                continue;
                            }
                            all.push(Self {
                                tool,
                                size,
                                partitions,
                                acks,
                                codec,
                                messages: if size == 100 { 1_000_000 } else { 250_000 },
                            });
                        }
                    }
                }
            }
        }
        all
    }

    /// Which records, and how they are sent; without the tool.
    pub fn corner(&self) -> String {
        let Self {
            size,
            partitions,
            acks,
            codec,
            ..
        } = self;
        format!("{size} B, {partitions} partitions, acks={acks}, {codec}")
    }

    fn topic(&self) -> String {
        // The consumer reads what the producer wrote.
        let tool = if self.tool == Tool::Librdkafka {
            "librdkafka"
        } else {
            "perf"
        };
        // A topic's name has none of what is between the words of a corner.
        let words = self.corner().replace(", ", "-").replace([' ', '='], "-");
        format!("{tool}-{words}")
    }

    /// How often it is run: each time is over in seconds, and says little alone.
    pub const ROUNDS: usize = 3;

    /// Makes its topic, unless it is there.
    pub fn prepare(&self, generators: &Generators, brokers: [&Broker; 2]) -> Outcome {
        if self.tool == Tool::Consumer {
            return Ok(());
        }
        brokers
            .into_iter()
            .try_for_each(|broker| generators.create_topic(broker, &self.topic(), self.partitions))
    }

    /// Deletes its topic, unless it is still needed: it would be gigabytes at the end.
    pub fn tidy_up(&self, generators: &Generators, brokers: [&Broker; 2]) -> Outcome {
        if self.tool == Tool::Producer && self.acks == "all" {
            return Ok(());
        }
        brokers
            .into_iter()
            .try_for_each(|broker| generators.delete_topic(broker, &self.topic()))
    }

    /// Runs it against a broker that does nothing else.
    pub fn run(&self, generators: &Generators, broker: &mut Broker) -> Outcome<Measured> {
        let topic = self.topic();
        let before = broker.cpu_seconds();
        let per_second = match self.tool {
            Tool::Producer => self.produce(generators, broker, &topic)?,
            Tool::Consumer => self.consume(generators, broker, &topic)?,
            Tool::Librdkafka => self.librdkafka(generators, broker, &topic)?,
        };
        let used = broker.cpu_seconds() - before;
        Ok(Measured {
            per_second,
            cpu_us: used / self.messages as f64 * 1e6,
        })
    }

    fn produce(&self, generators: &Generators, broker: &Broker, topic: &str) -> Outcome<f64> {
        let count = self.messages.to_string();
        let size = self.size.to_string();
        let said = output(
            generators
                .java("org.apache.kafka.tools.ProducerPerformance")
                .args([
                    "--topic",
                    topic,
                    "--num-records",
                    &count,
                    "--record-size",
                    &size,
                ])
                .args(["--throughput", "-1", "--producer-props"])
                .arg(format!("bootstrap.servers={}", broker.bootstrap()))
                .arg(format!("acks={}", self.acks))
                .arg(format!("compression.type={}", self.codec)),
        )?;
        // "2000000 records sent, 712345.6 records/sec (67.9 MB/sec), …": the last such line is the whole run.
        let line = said.lines().rev().find(|line| line.contains("records/sec"));
        let rate = line.and_then(|line| line.split(", ").nth(1)?.split(' ').next()?.parse().ok());
        rate.ok_or_else(|| format!("not understood: {said}"))
    }

    fn consume(&self, generators: &Generators, broker: &Broker, topic: &str) -> Outcome<f64> {
        let count = self.messages.to_string();
        let said = output(
            generators
                .java("org.apache.kafka.tools.ConsumerPerformance")
                .args(["--bootstrap-server", &broker.bootstrap(), "--topic", topic])
                .args(["--messages", &count, "--hide-header", "--timeout", "60000"]),
        )?;
        // The last column: messages a second of fetching, the time of joining the group left out.
        let line = said.lines().rev().find(|line| line.contains(", "));
        let rate = line.and_then(|line| line.rsplit(", ").next()?.trim().parse().ok());
        rate.ok_or_else(|| format!("not understood: {said}"))
    }

    fn librdkafka(&self, generators: &Generators, broker: &Broker, topic: &str) -> Outcome<f64> {
        let said = output(
            command(&generators.librdkafka)
                .args(["produce", &broker.bootstrap(), &self.messages.to_string()])
                .arg(self.size.to_string())
                .arg(format!("acks={}", self.acks))
                .arg(format!("compression.codec={}", self.codec))
                .env("BENCH_TOPIC", topic),
        )?;
        let parsed: Value =
            serde_json::from_str(said.trim()).map_err(|e| format!("{e}: {said}"))?;
        let seconds = parsed["seconds"].as_f64().unwrap_or(f64::NAN);
        Ok(self.messages as f64 / seconds)
    }
}

/// How 20,000 messages a second fared for a few seconds.
pub struct Latency {
    /// The 99th percentile of a message's way, in microseconds.
    pub p99_us: f64,
    /// The broker's CPU time for each message.
    pub cpu_us: f64,
}

/// Measures it on a topic of its own.
pub fn latency(
    generators: &Generators,
    broker: &mut Broker,
    linger: &str,
    round: usize,
) -> Outcome<Latency> {
    const RATE: u32 = 20_000;
    const SECONDS: u32 = 5;
    let topic = format!("latency-{linger}-{round}");
    generators.create_topic(broker, &topic, 1)?;
    let before = broker.cpu_seconds();
    let said = output(
        command(&generators.endtoend)
            .args([&broker.bootstrap(), &topic])
            .args([&RATE.to_string(), &SECONDS.to_string(), "100"])
            .arg(format!("linger.ms={linger}")),
    )?;
    let used = broker.cpu_seconds() - before;
    let parsed: Value = serde_json::from_str(said.trim()).map_err(|e| format!("{e}: {said}"))?;
    let p99_us = parsed["p99_us"].as_f64();
    Ok(Latency {
        p99_us: p99_us.ok_or_else(|| format!("not understood: {said}"))?,
        cpu_us: used / f64::from(RATE * SECONDS) * 1e6,
    })
}
