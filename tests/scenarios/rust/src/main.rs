//! The scenarios' interpreter for the Rust API: runs a plan, prints a line of JSON for each step that has a result.
//!
//!     ottla-scenarios PLAN
//!
//! What a plan's lines mean is in docs/internals/scenarios.md.

use ottla::{
    Config, Consumer, Event, FetchedBatch, Handle, Header, KafkaError, ProduceRecord, Record, Role,
    TopicPartition, offset,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    process::ExitCode,
    time::{Duration, Instant},
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

type Outcome<T = Value> = Result<T, KafkaError>;

fn main() -> ExitCode {
    let Some(plan) = std::env::args().nth(1) else {
        eprintln!("usage: ottla-scenarios PLAN");
        return ExitCode::from(2);
    };
    let plan = match std::fs::read_to_string(&plan) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{plan}: {error}");
            return ExitCode::from(2);
        }
    };
    let mut scenario = Scenario::default();
    for line in plan.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields[..] {
            ["scenario", name, servers] => scenario = Scenario::new(name, servers),
            ["done"] => scenario = Scenario::default(),
            ["record", _, ref record @ ..] => scenario.produce(record),
            [verb, step, ref arguments @ ..] => {
                let result = scenario
                    .step(verb, arguments)
                    .unwrap_or_else(|error| error_value(&error));
                println!(
                    "{}",
                    json!({"scenario": scenario.name, "step": number(step), "result": result})
                );
            }
            _ => panic!("not a line of a plan: {line}"),
        }
    }
    ExitCode::SUCCESS
}

/// What a scenario has open.
#[derive(Default)]
struct Scenario {
    name: String,
    servers: String,
    /// All of them: a broker in memory lives as long as one is there. The last is the one to produce with.
    producers: Vec<Handle>,
    /// What became of the records since the last `deliver`.
    deliveries: Vec<Value>,
    consumer: Option<Reader>,
}

impl Scenario {
    fn new(name: &str, servers: &str) -> Self {
        Self {
            name: name.into(),
            servers: servers.into(),
            ..Self::default()
        }
    }

    fn config(&self, properties: &[&str]) -> Outcome<Config> {
        let mut config = Config::new().with("bootstrap.servers", &self.servers)?;
        for property in properties {
            let (name, value) = property.split_once('=').expect("a property is name=value");
            config.set(name, value)?;
        }
        Ok(config)
    }

    fn step(&mut self, verb: &str, arguments: &[&str]) -> Outcome {
        match (verb, arguments) {
            ("producer", properties) => {
                let producer = Handle::new(Role::Producer, self.config(properties)?)?;
                self.producers.push(producer);
                Ok(json!({"ok": true}))
            }
            ("deliver", []) => self.deliver(),
            ("consumer", properties) => {
                let consumer = Consumer::new(self.config(properties)?)?;
                self.consumer = Some(Reader::new(consumer));
                Ok(json!({"ok": true}))
            }
            ("close", []) => match self.consumer.take() {
                Some(reader) => {
                    reader.consumer.close(PATIENCE)?;
                    Ok(json!({"ok": true}))
                }
                None => Err(state("there is no consumer")),
            },
            _ => match &mut self.consumer {
                Some(reader) => reader.step(verb, arguments),
                None => Err(state("there is no consumer")),
            },
        }
    }

    /// Produces a record; what `produce` itself refuses is noted as its delivery.
    fn produce(&mut self, record: &[&str]) {
        let [topic, partition, timestamp, key, value, headers @ ..] = record else {
            panic!("not a record: {record:?}");
        };
        let index = self.deliveries.len();
        let result = self.producers.last().map_or_else(
            || Err(state("there is no producer")),
            |producer| {
                let (key, value) = (bytes(key), bytes(value));
                let values: Vec<(&str, Option<Vec<u8>>)> = headers
                    .iter()
                    .map(|header| match header.split_once('=') {
                        Some((name, value)) => (name, bytes(value)),
                        None => (*header, None),
                    })
                    .collect();
                let headers: Vec<Header> = values
                    .iter()
                    .map(|(name, value)| Header::new(name, value.as_deref()))
                    .collect();
                producer.produce(&ProduceRecord {
                    topic: producer.topic(topic)?,
                    partition: number(partition) as i32,
                    key: key.as_deref(),
                    value: value.as_deref(),
                    headers: &headers,
                    timestamp: number(timestamp),
                    opaque: index,
                    payload_addr: 0,
                })
            },
        );
        self.deliveries
            .push(result.map_or_else(|error| error_value(&error), |()| Value::Null));
    }

    /// Waits for the reports of what was produced.
    fn deliver(&mut self) -> Outcome {
        let mut deliveries = std::mem::take(&mut self.deliveries);
        if let Some(producer) = self.producers.last() {
            producer.flush_serving(PATIENCE, &mut |event| {
                let Event::Delivery(mut batch) = event else {
                    return;
                };
                let partition = batch.partition();
                let error = batch.error().map(error_value);
                while let Some(report) = batch.next() {
                    deliveries[report.opaque] = match &error {
                        Some(error) => error.clone(),
                        None => json!({"partition": partition, "offset": (report.offset >= 0).then_some(report.offset)}),
                    };
                }
            })?;
        }
        Ok(json!({"deliveries": deliveries}))
    }
}

/// A consumer and what it has fetched.
struct Reader {
    consumer: Consumer,
    /// Records that no step has asked for yet.
    fetched: Option<FetchedBatch>,
    /// Partitions whose end was reached, with the offset, and not left again.
    ends: Vec<(String, i32, i64)>,
}

impl Reader {
    fn new(consumer: Consumer) -> Self {
        Self {
            consumer,
            fetched: None,
            ends: Vec::new(),
        }
    }

    fn step(&mut self, verb: &str, arguments: &[&str]) -> Outcome {
        let handle = self.consumer.handle().clone();
        match (verb, arguments) {
            ("assign", triples) => {
                let partitions = triples
                    .chunks_exact(3)
                    .map(|triple| self.start(triple))
                    .collect::<Outcome<Vec<_>>>()?;
                self.consumer.assign(&partitions)?;
            }
            ("subscribe", topics) => self.consumer.subscribe(topics)?,
            ("take", [count]) => return self.read(number(count) as usize, 0, PATIENCE),
            ("end", [partitions, _]) => {
                return self.read(usize::MAX, number(partitions) as usize, PATIENCE);
            }
            ("idle", [ms]) => {
                return self.read(usize::MAX, 0, Duration::from_millis(number(ms) as u64));
            }
            ("error", []) => {
                self.read(usize::MAX, usize::MAX, PATIENCE)?;
                return Err(state("no error came"));
            }
            ("pause", [topic, numbers @ ..]) => {
                let mut partitions = all(topic, numbers);
                handle.pause(&mut partitions)?;
                each(&partitions)?;
            }
            ("resume", [topic, numbers @ ..]) => {
                let mut partitions = all(topic, numbers);
                handle.resume(&mut partitions)?;
                each(&partitions)?;
            }
            ("seek", [topic, partition, _]) => {
                let mut partitions = [self.start(arguments)?];
                handle.seek(&mut partitions)?;
                each(&partitions)?;
                self.ends
                    .retain(|(t, p, _)| !(t == topic && *p == number(partition) as i32));
            }
            ("commit", []) => each(&self.consumer.commit(PATIENCE)?)?,
            ("committed", [topic, partition]) => {
                let mut partitions = all(topic, &[partition]);
                handle.committed(&mut partitions, PATIENCE)?;
                each(&partitions)?;
                return Ok(offsets(&[partitions[0].offset]));
            }
            ("position", [topic, partition]) => {
                let mut partitions = all(topic, &[partition]);
                handle.position(&mut partitions)?;
                each(&partitions)?;
                return Ok(offsets(&[partitions[0].offset]));
            }
            ("watermarks", [topic, partition]) => {
                let (low, high) =
                    handle.query_watermark_offsets(topic, number(partition) as i32, PATIENCE)?;
                return Ok(offsets(&[low, high]));
            }
            ("time", [topic, partition, ms]) => {
                return Ok(offsets(&[self.at_time(
                    topic,
                    number(partition) as i32,
                    number(ms),
                )?]));
            }
            _ => panic!("not a step: {verb} {arguments:?}"),
        }
        Ok(json!({"ok": true}))
    }

    /// Reads until there are `count` records, until `ends` partitions are at their end, or for as long as `timeout`.
    fn read(&mut self, count: usize, ends: usize, timeout: Duration) -> Outcome {
        let until = Instant::now() + timeout;
        let mut records = Vec::new();
        while records.len() < count && (ends == 0 || self.ends.len() < ends) {
            let taken = self
                .fetched
                .as_mut()
                .and_then(|batch| batch.next().map(|r| r.map(|r| owned(&r)).map_err(|e| e.1)));
            if let Some(record) = taken {
                let batch = self.fetched.as_ref().expect("a record came out of it");
                let (topic, partition) = (batch.topic().to_string(), batch.partition());
                self.ends
                    .retain(|(t, p, _)| !(*t == topic && *p == partition));
                let mut record = record?;
                record["topic"] = topic.into();
                record["partition"] = partition.into();
                records.push(record);
                continue;
            }
            self.fetched = None;
            let left = until.saturating_duration_since(Instant::now());
            match self.consumer.handle().consumer_queue().poll(left) {
                Some(Event::Fetched(batch)) => self.fetched = Some(batch),
                Some(Event::PartitionEof {
                    topic,
                    partition,
                    offset,
                }) => self.ends.push((topic.to_string(), partition, offset)),
                Some(Event::ConsumerError { error, .. } | Event::Error(error)) => {
                    return Err(error);
                }
                Some(_) => {}
                None => break,
            }
        }
        let ends: BTreeSet<_> = self.ends.iter().collect();
        let ends: Vec<Value> = ends.into_iter().map(|(t, p, o)| json!([t, p, o])).collect();
        Ok(json!({"records": records, "ends": ends}))
    }

    /// A partition and where to begin.
    fn start(&self, triple: &[&str]) -> Outcome<TopicPartition> {
        let [topic, partition, start] = *triple else {
            panic!("not a partition with its start: {triple:?}");
        };
        let partition = number(partition) as i32;
        let from = match start {
            "beginning" => offset::BEGINNING,
            "end" => offset::END,
            "stored" => offset::STORED,
            _ => match (start.strip_prefix('@'), start.strip_prefix("tail:")) {
                (Some(ms), _) => self.at_time(topic, partition, number(ms))?,
                (_, Some(n)) => offset::tail(number(n)),
                _ => number(start),
            },
        };
        Ok(TopicPartition::new(topic, partition, from))
    }

    fn at_time(&self, topic: &str, partition: i32, ms: i64) -> Outcome<i64> {
        let mut times = [TopicPartition::new(topic, partition, ms)];
        self.consumer
            .handle()
            .offsets_for_times(&mut times, PATIENCE)?;
        each(&times)?;
        Ok(times[0].offset)
    }
}

fn owned(record: &Record<'_>) -> Value {
    let headers = |header: Header<'_>| json!([header.key_str(), header.value.map(hex)]);
    json!({
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": record.key.map(hex),
        "value": record.value.map(hex),
        "headers": record.headers.map(headers).collect::<Vec<_>>(),
    })
}

fn all(topic: &str, partitions: &[&str]) -> Vec<TopicPartition> {
    let one =
        |partition: &&str| TopicPartition::new(topic, number(partition) as i32, offset::INVALID);
    partitions.iter().map(one).collect()
}

/// The first error of the partitions.
fn each(partitions: &[TopicPartition]) -> Outcome<()> {
    match partitions.iter().find(|p| p.error.0 != 0) {
        Some(failed) => Err(failed.error.into()),
        None => Ok(()),
    }
}

/// Logical offsets are null, but for the end.
fn offsets(offsets: &[i64]) -> Value {
    let one = |&o: &i64| match o {
        offset::END => json!("end"),
        o => json!((o >= 0).then_some(o)),
    };
    json!({"offsets": offsets.iter().map(one).collect::<Vec<_>>()})
}

fn error_value(error: &KafkaError) -> Value {
    json!({"error": {"code": error.code.to_string(), "message": error.message}})
}

fn state(message: &'static str) -> KafkaError {
    KafkaError::new(ottla::ErrCode::STATE, message)
}

fn number(text: &str) -> i64 {
    text.parse().expect("a number")
}

/// Bytes from hexadecimal digits; `-` is null.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |d: u8| (d as char).to_digit(16).expect("a hexadecimal digit") as u8;
    let pair = |pair: &[u8]| digit(pair[0]) << 4 | digit(pair[1]);
    (text != "-").then(|| text.as_bytes().chunks_exact(2).map(pair).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
