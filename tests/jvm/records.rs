//! What a directory or a broker holds, in a form that can be compared.

use crate::Outcome;
use ottla::{Admin, Config, Event, Handle, Role, TopicPartition};
use std::{
    collections::BTreeMap,
    fmt::Write,
    path::Path,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Topics that a cleaner may work on between two readings.
const COMPACTED: [&str; 2] = ["keyed", "jvm.compacted"];

/// A partition's name.
type Partition = (String, i32);

/// Which records are read.
#[derive(Clone, Copy)]
pub enum Isolation {
    Uncommitted,
    Committed,
}

/// One record; bytes are hexadecimal behind an `x`, null is `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub timestamp: String,
    pub key: String,
    pub value: String,
    pub headers: String,
}

impl Record {
    /// The key, for keys that are ASCII.
    pub fn key_text(&self) -> String {
        let digits = self.key.as_bytes().get(1..).unwrap_or_default();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Vec<u8> = digits.chunks(2).filter_map(byte).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The records of all topics that are not internal, by partition and offset; and where each partition ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub records: BTreeMap<Partition, BTreeMap<i64, Record>>,
    pub ends: BTreeMap<Partition, i64>,
}

impl Contents {
    pub fn count(&self) -> usize {
        self.records.values().map(BTreeMap::len).sum()
    }

    /// What the JVM's client printed.
    pub fn parse(text: &str) -> Outcome<Self> {
        let mut contents = Self::default();
        for line in text.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let bad = || format!("not understood: {line:?}");
            let number = |at: usize| fields.get(at).and_then(|n| n.parse().ok()).ok_or_else(bad);
            match fields[..] {
                ["record", topic, _, _, timestamp, key, value, headers] => {
                    let record = Record {
                        timestamp: timestamp.into(),
                        key: key.into(),
                        value: value.into(),
                        headers: headers.into(),
                    };
                    let partition = (topic.to_string(), number(2)? as i32);
                    let of = contents.records.entry(partition).or_default();
                    of.insert(number(3)?, record);
                }
                ["end", topic, _, _] => {
                    let partition = (topic.to_string(), number(2)? as i32);
                    contents.ends.insert(partition, number(3)?);
                }
                _ => return Err(bad()),
            }
        }
        Ok(contents)
    }

    /// An error that says where they differ. Of compacted topics the other one, which was read later, may have less: but the newest
    /// record of each key.
    pub fn must_be(&self, other: &Self, mine: &str, others: &str) -> Outcome {
        let mut before = self.clone();
        for (partition, records) in &mut before.records {
            let later = other.records.get(partition);
            if COMPACTED.contains(&&*partition.0)
                && let Some(later) = later
            {
                let newest: BTreeMap<String, i64> = records
                    .iter()
                    .map(|(offset, r)| (r.key.clone(), *offset))
                    .collect();
                records.retain(|offset, r| later.contains_key(offset) || newest[&r.key] == *offset);
            }
        }
        before.must_equal(other, mine, others)
    }

    fn must_equal(&self, other: &Self, mine: &str, others: &str) -> Outcome {
        if self == other {
            return Ok(());
        }
        for partition in self.ends.keys().chain(other.ends.keys()) {
            let (a, b) = (self.ends.get(partition), other.ends.get(partition));
            if a != b {
                return Err(format!(
                    "{partition:?} ends at {a:?} in {mine}, at {b:?} in {others}"
                ));
            }
            let none = BTreeMap::new();
            let a = self.records.get(partition).unwrap_or(&none);
            let b = other.records.get(partition).unwrap_or(&none);
            for offset in a.keys().chain(b.keys()) {
                if a.get(offset) != b.get(offset) {
                    return Err(format!(
                        "{partition:?}, offset {offset}: {:?} in {mine}, {:?} in {others}",
                        a.get(offset),
                        b.get(offset)
                    ));
                }
            }
        }
        Err(format!("{mine} and {others} differ"))
    }
}

fn hex(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else {
        return "-".into();
    };
    bytes.iter().fold(String::from("x"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The configuration of a handle on a directory.
pub fn config(dir: &Path) -> Outcome<Config> {
    Config::new()
        .with("bootstrap.servers", &format!("file://{}", dir.display()))
        .map_err(|error| error.to_string())
}

/// Reads a directory with Ottla.
pub fn read(dir: &Path, isolation: Isolation) -> Outcome<Contents> {
    read_all(dir, isolation).map_err(|error| format!("Ottla reads {}: {error}", dir.display()))
}

fn read_all(dir: &Path, isolation: Isolation) -> Outcome<Contents> {
    let failed = |error: ottla::KafkaError| error.to_string();
    let isolation = match isolation {
        Isolation::Uncommitted => "read_uncommitted",
        Isolation::Committed => "read_committed",
    };
    let config = [
        ("group.id", "reads everything"),
        ("enable.auto.commit", "false"),
        ("enable.partition.eof", "true"),
        ("isolation.level", isolation),
    ]
    .iter()
    .try_fold(config(dir)?, |config, (name, value)| {
        config.with(name, value)
    })
    .map_err(|error| error.to_string())?;
    let handle = Handle::new(Role::Consumer, config).map_err(failed)?;
    handle.poll_set_consumer().map_err(failed)?;
    let metadata = handle.metadata(None, PATIENCE).map_err(failed)?;
    let mut assignment = Vec::new();
    for topic in metadata.topics {
        if !topic.name.starts_with("__") {
            let partitions = topic.partitions.iter();
            assignment.extend(
                partitions.map(|p| {
                    TopicPartition::new(topic.name.clone(), p.id, ottla::offset::BEGINNING)
                }),
            );
        }
    }
    handle.assign(&assignment).map_err(failed)?;
    let mut contents = Contents::default();
    let queue = handle.consumer_queue();
    let deadline = Instant::now() + PATIENCE;
    while contents.ends.len() < assignment.len() {
        if Instant::now() > deadline {
            return Err(format!(
                "only {} of {} partitions",
                contents.ends.len(),
                assignment.len()
            ));
        }
        match queue.poll(Duration::from_secs(1)) {
            Some(Event::Fetched(mut batch)) => {
                let partition = (batch.topic().to_string(), batch.partition());
                let of = contents.records.entry(partition).or_default();
                while let Some(record) = batch.next() {
                    let record =
                        record.map_err(|(offset, error)| format!("offset {offset}: {error}"))?;
                    let headers = record.headers;
                    let headers = headers.map(|header| {
                        format!(
                            "{}={};",
                            String::from_utf8_lossy(header.key),
                            hex(header.value)
                        )
                    });
                    let read = Record {
                        timestamp: record.timestamp.to_string(),
                        key: hex(record.key),
                        value: hex(record.value),
                        headers: headers.collect(),
                    };
                    of.insert(record.offset, read);
                }
            }
            Some(Event::PartitionEof {
                topic,
                partition,
                offset,
            }) => {
                contents.ends.insert((topic.to_string(), partition), offset);
            }
            Some(Event::ConsumerError { error, .. } | Event::Error(error)) => {
                return Err(failed(error));
            }
            _ => {}
        }
    }
    contents.records.retain(|_, records| !records.is_empty());
    Ok(contents)
}

/// What a group has committed, as Ottla tells it: by partition, offset and metadata.
pub fn committed(dir: &Path, group: &str) -> Outcome<BTreeMap<Partition, (i64, String)>> {
    let failed = |error: ottla::KafkaError| format!("offsets of {group}: {error}");
    let admin = Admin::new(config(dir)?).map_err(failed)?;
    let offsets = admin
        .list_group_offsets(group, None, PATIENCE)
        .map_err(failed)?;
    Ok(offsets
        .into_iter()
        .map(|of| {
            let metadata = of
                .metadata
                .map_or_else(String::new, |text| text.to_string());
            ((of.topic.to_string(), of.partition), (of.offset, metadata))
        })
        .collect())
}
