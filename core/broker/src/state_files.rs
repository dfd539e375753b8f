//! The small files in the data directory beside the partitions: Kafka's own, and two of ours.
//!
//! | file | content |
//! |---|---|
//! | `meta.properties` | Kafka's: cluster id, node id, directory id |
//! | `.kafka_cleanshutdown` | Kafka's: there while the last stop was clean |
//! | `recovery-point-offset-checkpoint`, `replication-offset-checkpoint`, `log-start-offset-checkpoint` | Kafka's checkpoints |
//! | `<topic>-<partition>/partition.metadata` | Kafka's: the topic's id |
//! | `ottla-topics` | ours: the topic registry, see [`StoredTopic`] |
//! | `ottla-producer-ids` | ours: the first producer id that was never handed out to a broker run |
//!
//! Each is written whole: `<name>.tmp`, sync, rename, sync of the directory. Ours are text lines that end with
//! `crc32c <8 hex digits>` over everything before that line; a file that doesn't check is an error at open, never
//! half read.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt::Write;

use ottla_log::storage::{Storage, StorageError, read_file, write_file};
use ottla_protocol::{Str, Uuid};
use ottla_record::crc32c;

use crate::broker::BrokerError;

/// Kafka's identity file.
pub(crate) const META_PROPERTIES: &str = "meta.properties";
/// Kafka's mark of a clean stop.
pub(crate) const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// Offsets up to which partitions are synced.
pub(crate) const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
/// High watermarks.
pub(crate) const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
/// Log start offsets.
pub(crate) const LOG_STARTS: &str = "log-start-offset-checkpoint";
/// The topic registry.
pub(crate) const TOPICS: &str = "ottla-topics";
/// The next block of producer ids.
pub(crate) const PRODUCER_IDS: &str = "ottla-producer-ids";

/// Largest state file that is read; far above what 100,000 partitions need.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// The whole file as text; `None` if there is none.
pub(crate) fn read_text(storage: &dyn Storage, path: &str) -> Result<Option<String>, BrokerError> {
    let Some(bytes) = read_file(storage, path, MAX_FILE_BYTES)? else {
        return Ok(None);
    };
    match core::str::from_utf8(&bytes) {
        Ok(text) => Ok(Some(text.into())),
        Err(_) => Err(BrokerError::Corrupt {
            path: path.into(),
            why: "not UTF-8".into(),
        }),
    }
}

/// Replaces `path` by `text`, wholly or not at all, whatever happens.
pub(crate) fn write_text(
    storage: &dyn Storage,
    path: &str,
    text: String,
) -> Result<(), StorageError> {
    write_file(storage, path, text.as_bytes())
}

fn with_checksum(mut text: String) -> String {
    let crc = crc32c(text.as_bytes());
    let _ = writeln!(text, "crc32c {crc:08x}");
    text
}

fn checked<'a>(path: &str, text: &'a str) -> Result<&'a str, BrokerError> {
    let corrupt = |why: &str| BrokerError::Corrupt {
        path: path.into(),
        why: why.into(),
    };
    let body_len = text
        .trim_end_matches('\n')
        .rfind('\n')
        .map_or(0, |at| at + 1);
    let (body, last) = text.split_at(body_len);
    let stored = last
        .trim_end()
        .strip_prefix("crc32c ")
        .ok_or_else(|| corrupt("no checksum at its end"))?;
    if u32::from_str_radix(stored, 16) != Ok(crc32c(body.as_bytes())) {
        return Err(corrupt("its checksum is wrong"));
    }
    Ok(body)
}

/// What `meta.properties` says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MetaProperties {
    pub(crate) cluster_id: Str,
    pub(crate) node_id: i32,
    pub(crate) directory_id: Uuid,
}

impl MetaProperties {
    pub(crate) fn parse(text: &str) -> Result<Self, BrokerError> {
        let corrupt = |why: &str| BrokerError::Corrupt {
            path: META_PROPERTIES.into(),
            why: why.into(),
        };
        let value = |key: &str| {
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(|line| line.split_once('='))
                .find(|(k, _)| k.trim() == key)
                .map(|(_, v)| v.trim())
        };
        if value("version") != Some("1") {
            return Err(corrupt("only version=1 can be read"));
        }
        Ok(Self {
            cluster_id: value("cluster.id")
                .ok_or_else(|| corrupt("no cluster.id"))?
                .into(),
            node_id: value("node.id")
                .and_then(|v| v.parse().ok())
                .ok_or_else(|| corrupt("no node.id"))?,
            directory_id: value("directory.id")
                .and_then(Uuid::parse)
                .ok_or_else(|| corrupt("no directory.id"))?,
        })
    }

    pub(crate) fn to_text(&self) -> String {
        format!(
            "#\n#written by Ottla\ncluster.id={}\ndirectory.id={}\nnode.id={}\nversion=1\n",
            self.cluster_id, self.directory_id, self.node_id
        )
    }
}

/// A checkpoint file: one offset per partition.
pub(crate) fn checkpoint_text<'a>(entries: impl Iterator<Item = (&'a str, i32, i64)>) -> String {
    let mut lines = String::new();
    let mut count = 0;
    for (topic, partition, offset) in entries {
        let _ = writeln!(lines, "{topic} {partition} {offset}");
        count += 1;
    }
    format!("0\n{count}\n{lines}")
}

/// Reads a checkpoint file. A damaged one is an error, as in Kafka; an empty or missing one has no entries.
pub(crate) fn parse_checkpoint(
    path: &str,
    text: &str,
) -> Result<Vec<(Str, i32, i64)>, BrokerError> {
    let corrupt = |why: String| BrokerError::Corrupt {
        path: path.into(),
        why,
    };
    let mut lines = text.lines();
    match lines.next().map(str::trim) {
        None => return Ok(Vec::new()),
        Some("0") => {}
        Some(version) => return Err(corrupt(format!("version {version} can't be read"))),
    }
    let count: usize = lines
        .next()
        .and_then(|line| line.trim().parse().ok())
        .ok_or_else(|| corrupt("no entry count".to_string()))?;
    let mut entries = Vec::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let entry = (|| {
            let (topic, partition, offset) = (words.next()?, words.next()?, words.next()?);
            Some((
                Str::from(topic),
                partition.parse().ok()?,
                offset.parse().ok()?,
            ))
        })();
        entries.push(entry.ok_or_else(|| corrupt(format!("bad line {line:?}")))?);
    }
    if entries.len() != count {
        return Err(corrupt(format!(
            "{} entries where {count} were written",
            entries.len()
        )));
    }
    Ok(entries)
}

/// `partition.metadata`.
pub(crate) fn partition_metadata_text(topic_id: Uuid) -> String {
    format!("version: 0\ntopic_id: {topic_id}")
}

/// The topic id in a `partition.metadata`.
pub(crate) fn parse_partition_metadata(text: &str) -> Option<Uuid> {
    text.lines()
        .find_map(|line| line.strip_prefix("topic_id:"))
        .and_then(|id| Uuid::parse(id.trim()))
}

/// One topic of the registry.
///
/// ```text
/// ottla-topics 1
/// topic <name> <id> <partition count>
/// config <key> <value>            (of the topic above)
/// deleting <name> <id> <partition count>
/// crc32c <8 hex digits>
/// ```
///
/// A topic under deletion stays as `deleting` until its directories are gone, so that a crash in between leaves nothing behind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredTopic {
    pub(crate) name: Str,
    pub(crate) id: Uuid,
    pub(crate) partitions: i32,
    /// Settings that it was given, sorted by key.
    pub(crate) configs: Vec<(Str, Str)>,
    pub(crate) deleting: bool,
}

/// The registry's text.
pub(crate) fn topics_text<'a>(topics: impl Iterator<Item = &'a StoredTopic>) -> String {
    let mut text = String::from("ottla-topics 1\n");
    for topic in topics {
        let word = if topic.deleting { "deleting" } else { "topic" };
        let _ = writeln!(
            text,
            "{word} {} {} {}",
            topic.name, topic.id, topic.partitions
        );
        for (key, value) in &topic.configs {
            let _ = writeln!(text, "config {key} {value}");
        }
    }
    with_checksum(text)
}

/// Reads the registry.
pub(crate) fn parse_topics(text: &str) -> Result<Vec<StoredTopic>, BrokerError> {
    let corrupt = |why: String| BrokerError::Corrupt {
        path: TOPICS.into(),
        why,
    };
    let mut lines = checked(TOPICS, text)?.lines();
    if lines.next() != Some("ottla-topics 1") {
        return Err(corrupt("its version can't be read".to_string()));
    }
    let mut topics: Vec<StoredTopic> = Vec::new();
    for line in lines {
        let bad = || corrupt(format!("bad line {line:?}"));
        let (word, rest) = line.split_once(' ').ok_or_else(bad)?;
        match word {
            "topic" | "deleting" => {
                let mut words = rest.split(' ');
                let topic = (|| {
                    let (name, id, partitions) = (words.next()?, words.next()?, words.next()?);
                    Some(StoredTopic {
                        name: name.into(),
                        id: Uuid::parse(id)?,
                        partitions: partitions.parse().ok().filter(|n| *n > 0)?,
                        configs: Vec::new(),
                        deleting: word == "deleting",
                    })
                })();
                topics.push(topic.ok_or_else(bad)?);
            }
            "config" => {
                let (key, value) = rest.split_once(' ').ok_or_else(bad)?;
                topics
                    .last_mut()
                    .ok_or_else(bad)?
                    .configs
                    .push((key.into(), value.into()));
            }
            _ => return Err(bad()),
        }
    }
    Ok(topics)
}

/// `ottla-producer-ids`: the first id of the next block.
pub(crate) fn producer_ids_text(next: i64) -> String {
    with_checksum(format!("ottla-producer-ids 1\nnext {next}\n"))
}

/// Reads `ottla-producer-ids`.
pub(crate) fn parse_producer_ids(text: &str) -> Result<i64, BrokerError> {
    checked(PRODUCER_IDS, text)?
        .strip_prefix("ottla-producer-ids 1\nnext ")
        .and_then(|rest| rest.trim_end().parse().ok())
        .filter(|next| *next >= 0)
        .ok_or_else(|| BrokerError::Corrupt {
            path: PRODUCER_IDS.into(),
            why: "can't be read".into(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn registry_and_back() {
        let topics = vec![
            StoredTopic {
                name: "orders".into(),
                id: Uuid::from_random(7),
                partitions: 3,
                configs: vec![
                    ("cleanup.policy".into(), "compact,delete".into()),
                    ("retention.ms".into(), "-1".into()),
                ],
                deleting: false,
            },
            StoredTopic {
                name: "old".into(),
                id: Uuid::from_random(9),
                partitions: 1,
                configs: vec![],
                deleting: true,
            },
        ];
        let text = topics_text(topics.iter());
        assert_eq!(parse_topics(&text).unwrap(), topics);
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            if let Ok(damaged) = String::from_utf8(damaged) {
                assert!(parse_topics(&damaged).is_err(), "byte {at}");
            }
            assert!(
                at == text.len() - 1 || parse_topics(&text[..at]).is_err(),
                "cut at {at}"
            );
        }
        assert_eq!(parse_producer_ids(&producer_ids_text(3000)).unwrap(), 3000);
        assert!(parse_producer_ids("ottla-producer-ids 1\nnext 5\ncrc32c 00000000\n").is_err());
    }

    #[test]
    fn checkpoints_are_kafkas() {
        let text = checkpoint_text([("a", 0, 5), ("b.c", 12, 0)].into_iter());
        assert_eq!(text, "0\n2\na 0 5\nb.c 12 0\n");
        assert_eq!(
            parse_checkpoint("x", &text).unwrap(),
            vec![("a".into(), 0, 5), ("b.c".into(), 12, 0)]
        );
        assert_eq!(parse_checkpoint("x", "").unwrap(), vec![]);
        assert!(parse_checkpoint("x", "0\n3\na 0 5\n").is_err());
        assert!(parse_checkpoint("x", "1\n0\n").is_err());
    }

    #[test]
    fn identity_and_back() {
        let meta = MetaProperties {
            cluster_id: "c".into(),
            node_id: 3,
            directory_id: Uuid::from_random(1),
        };
        assert_eq!(MetaProperties::parse(&meta.to_text()).unwrap(), meta);
        let id = Uuid::from_random(5);
        assert_eq!(
            parse_partition_metadata(&partition_metadata_text(id)),
            Some(id)
        );
    }
}
