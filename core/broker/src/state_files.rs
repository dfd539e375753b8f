//! The files in the data directory that are ours and not Kafka's (for those see `ottla_log::data_dir`):
//! `ottla-topics`, the topic registry, and `ottla-producer-ids`, the first producer id that no broker run has claimed. `ottla-configs` is
//! `configs::dynamic`'s, `ottla-quotas` is `quotas::store`'s.
//!
//! They are text lines that end with `crc32c <8 hex digits>` over everything before that line, and are replaced as a whole
//! (`ottla_log::write_file`). A file that doesn't check is an error at open, never half read.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt::Write;

use ottla_log::{Storage, StorageError, StorageErrorKind, read_file, write_file};
use ottla_protocol::{Str, Uuid};
use ottla_record::crc32c;

use crate::broker::BrokerError;

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

/// Replaces `path` by `text`, wholly or not at all, whatever happens. What could not be read again is not written.
pub(crate) fn write_text(
    storage: &dyn Storage,
    path: &str,
    text: String,
) -> Result<(), StorageError> {
    if text.len() as u64 > MAX_FILE_BYTES {
        let why = format!("it would have more than the {MAX_FILE_BYTES} bytes that are read again");
        return Err(StorageError::new(StorageErrorKind::Full, why).on(path));
    }
    write_file(storage, path, text.as_bytes())
}

pub(crate) fn with_checksum(mut text: String) -> String {
    let crc = crc32c(text.as_bytes());
    let _ = writeln!(text, "crc32c {crc:08x}");
    text
}

pub(crate) fn checked<'a>(path: &str, text: &'a str) -> Result<&'a str, BrokerError> {
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
        .strip_suffix('\n')
        .and_then(|line| line.strip_prefix("crc32c "))
        .ok_or_else(|| corrupt("no checksum at its end"))?;
    if u32::from_str_radix(stored, 16) != Ok(crc32c(body.as_bytes())) {
        return Err(corrupt("its checksum is wrong"));
    }
    Ok(body)
}

/// The registry.
///
/// ```text
/// ottla-topics 1
/// kafka <metadata end offset> <broker epoch>
/// topic <name> <id> <partition count>
/// config <key> <value>            (of the topic above)
/// deleting <name> <id> <partition count>
/// crc32c <8 hex digits>
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Registry {
    /// What a JVM Kafka had made of the directory when its topics were last taken over; no line if none ever ran on it.
    pub(crate) kafka: KafkaMark,
    pub(crate) topics: Vec<StoredTopic>,
}

/// How far a JVM Kafka was when it last stopped: either number grows when one runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KafkaMark {
    /// The end of its metadata log, 0 without one.
    pub(crate) metadata_end: i64,
    /// The epoch of its broker, from the mark of a clean stop; -1 if there is none.
    pub(crate) broker_epoch: i64,
}

impl Default for KafkaMark {
    fn default() -> Self {
        Self {
            metadata_end: 0,
            broker_epoch: -1,
        }
    }
}

/// One topic of the registry. A topic under deletion stays as `deleting` until its directories are gone, so that a crash in between leaves nothing behind.
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
pub(crate) fn topics_text(registry: &Registry) -> String {
    let mut text = String::from("ottla-topics 1\n");
    if registry.kafka != KafkaMark::default() {
        let KafkaMark {
            metadata_end,
            broker_epoch,
        } = registry.kafka;
        let _ = writeln!(text, "kafka {metadata_end} {broker_epoch}");
    }
    for topic in &registry.topics {
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

/// Reads the registry; `None` if there is none.
pub(crate) fn read_topics(storage: &dyn Storage) -> Result<Option<Registry>, BrokerError> {
    match read_text(storage, TOPICS)? {
        Some(text) => parse_topics(&text).map(Some),
        None => Ok(None),
    }
}

fn parse_topics(text: &str) -> Result<Registry, BrokerError> {
    let corrupt = |why: String| BrokerError::Corrupt {
        path: TOPICS.into(),
        why,
    };
    let mut lines = checked(TOPICS, text)?.lines();
    if lines.next() != Some("ottla-topics 1") {
        return Err(corrupt("its version can't be read".to_string()));
    }
    let mut kafka = KafkaMark::default();
    let mut topics: Vec<StoredTopic> = Vec::new();
    for line in lines {
        let bad = || corrupt(format!("bad line {line:?}"));
        let (word, rest) = line.split_once(' ').ok_or_else(bad)?;
        match word {
            "kafka" => {
                let (end, epoch) = rest.split_once(' ').ok_or_else(bad)?;
                kafka = KafkaMark {
                    metadata_end: end.parse().map_err(|_| bad())?,
                    broker_epoch: epoch.parse().map_err(|_| bad())?,
                };
            }
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
    Ok(Registry { kafka, topics })
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
    fn what_could_not_be_read_again_is_not_written() {
        let storage = ottla_log::MemoryStorage::new();
        write_text(&storage, TOPICS, "small".into()).unwrap();
        let large = "x".repeat(MAX_FILE_BYTES as usize + 1);
        let error = write_text(&storage, TOPICS, large).unwrap_err();
        assert!(error.message.starts_with(TOPICS), "{error}");
        let kept = read_text(&storage, TOPICS).unwrap();
        assert_eq!(kept.as_deref(), Some("small"));
    }

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
        let mut registry = Registry {
            topics,
            ..Registry::default()
        };
        assert_eq!(parse_topics(&topics_text(&registry)).unwrap(), registry);
        registry.kafka = KafkaMark {
            metadata_end: 812,
            broker_epoch: 7,
        };
        let text = topics_text(&registry);
        assert_eq!(parse_topics(&text).unwrap(), registry);
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            if let Ok(damaged) = String::from_utf8(damaged) {
                assert!(parse_topics(&damaged).is_err(), "byte {at}");
            }
            assert!(parse_topics(&text[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(parse_producer_ids(&producer_ids_text(3000)).unwrap(), 3000);
        assert!(parse_producer_ids("ottla-producer-ids 1\nnext 5\ncrc32c 00000000\n").is_err());
    }
}
