//! Kafka's files at the top of a data directory: `meta.properties`, the offset checkpoints, the mark of a clean stop, and
//! the topic id inside a partition's directory.

use crate::{
    error::LogError,
    names::PARTITION_METADATA,
    storage::{Storage, join, read_file, write_file, write_file_unsynced},
};
use alloc::{
    borrow::ToOwned,
    collections::BTreeMap,
    format,
    string::{String, ToString},
};
use core::fmt::Write;

/// Up to where each partition is known to be on disk.
pub const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
/// High watermarks.
pub const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
/// First offsets that consumers may read.
pub const LOG_STARTS: &str = "log-start-offset-checkpoint";
/// First offsets that compaction has not seen yet.
pub const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";
/// Written last on a clean stop, removed at the start.
pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// Who the directory belongs to.
pub const META_PROPERTIES: &str = "meta.properties";
/// More than any of these files needs.
const LIMIT: u64 = 64 << 20;

/// A checkpoint's entries by topic and partition.
pub type Offsets = BTreeMap<(String, i32), i64>;

fn text_of(storage: &dyn Storage, path: &str) -> Result<Option<String>, LogError> {
    let Some(bytes) = read_file(storage, path, LIMIT)? else {
        return Ok(None);
    };
    match core::str::from_utf8(&bytes) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err(LogError::Damaged(format!("{path} is not text"))),
    }
}

/// Reads an offset checkpoint; a missing or empty file has no entries.
pub fn read_offsets(storage: &dyn Storage, path: &str) -> Result<Offsets, LogError> {
    let Some(text) = text_of(storage, path)? else {
        return Ok(Offsets::new());
    };
    let damaged = || LogError::Damaged(format!("{path} is damaged"));
    let mut words = text.split_ascii_whitespace();
    let Some(version) = words.next() else {
        return Ok(Offsets::new());
    };
    let count: usize = words
        .next()
        .and_then(|n| n.parse().ok())
        .ok_or_else(damaged)?;
    let mut offsets = Offsets::new();
    while let Some(topic) = words.next() {
        let partition = words.next().and_then(|n| n.parse().ok());
        let offset = words.next().and_then(|n| n.parse().ok());
        let (Some(partition), Some(offset)) = (partition, offset) else {
            return Err(damaged());
        };
        offsets.insert((topic.to_owned(), partition), offset);
    }
    if version == "0" && offsets.len() == count {
        Ok(offsets)
    } else {
        Err(damaged())
    }
}

/// Replaces an offset checkpoint.
pub fn write_offsets(storage: &dyn Storage, path: &str, offsets: &Offsets) -> Result<(), LogError> {
    let mut text = format!("0\n{}\n", offsets.len());
    for ((topic, partition), offset) in offsets {
        let _ = writeln!(text, "{topic} {partition} {offset}");
    }
    Ok(write_file(storage, path, text.as_bytes())?)
}

/// `meta.properties`, version 1 (KIP-858).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    /// 22 characters of URL-safe base64.
    pub cluster_id: String,
    /// The broker's id.
    pub node_id: i32,
    /// This directory's id, as the cluster's is written.
    pub directory_id: Option<String>,
}

impl MetaProperties {
    /// Reads it; `None` in a new directory. Version 0, with `broker.id`, is accepted.
    pub fn read(storage: &dyn Storage) -> Result<Option<Self>, LogError> {
        let Some(text) = text_of(storage, META_PROPERTIES)? else {
            return Ok(None);
        };
        let properties: BTreeMap<&str, &str> = text
            .lines()
            .filter(|line| !line.starts_with(['#', '!']))
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.trim(), value.trim()))
            .collect();
        let number = |name: &str| properties.get(name).and_then(|value| value.parse().ok());
        match (
            number("version"),
            number("node.id").or(number("broker.id")),
            properties.get("cluster.id"),
        ) {
            (Some(0 | 1), Some(node_id), Some(cluster_id)) => Ok(Some(Self {
                cluster_id: (*cluster_id).to_string(),
                node_id,
                directory_id: properties.get("directory.id").map(|id| (*id).to_string()),
            })),
            (Some(version @ 2..), ..) => Err(LogError::Damaged(format!(
                "{META_PROPERTIES} is of version {version}: the directory was written by a newer program; use that one"
            ))),
            _ => Err(LogError::Damaged(format!(
                "{META_PROPERTIES} has no usable version, node.id and cluster.id"
            ))),
        }
    }

    /// Writes it; `date` is the comment that Java's properties have.
    pub fn write(&self, storage: &dyn Storage, date: &str) -> Result<(), LogError> {
        let mut text = format!("#\n#{date}\ncluster.id={}\n", self.cluster_id);
        if let Some(id) = &self.directory_id {
            let _ = writeln!(text, "directory.id={id}");
        }
        let _ = write!(text, "node.id={}\nversion=1\n", self.node_id);
        Ok(write_file(storage, META_PROPERTIES, text.as_bytes())?)
    }
}

/// Whether the directory was closed cleanly: then the mark's broker epoch, which a JVM Kafka compares with the one that its
/// controller knows; -1 if it says none.
pub fn clean_shutdown(storage: &dyn Storage) -> Result<Option<i64>, LogError> {
    if !storage.exists(CLEAN_SHUTDOWN)? {
        return Ok(None);
    }
    // Older ones are empty.
    let text = text_of(storage, CLEAN_SHUTDOWN).ok().flatten();
    let epoch = text.as_deref().and_then(|text| {
        let (_, rest) = text.split_once("\"brokerEpoch\":")?;
        let end = rest.find([',', '}']).unwrap_or(rest.len());
        rest[..end].trim().parse().ok()
    });
    Ok(Some(epoch.unwrap_or(-1)))
}

/// As [`clean_shutdown`]; removes the mark, durably, so that a crash from here on is seen.
pub fn take_clean_shutdown(storage: &dyn Storage) -> Result<Option<i64>, LogError> {
    let clean = clean_shutdown(storage)?;
    if clean.is_some() {
        storage.remove_file(CLEAN_SHUTDOWN)?;
    }
    // Without a mark, too: it may have been removed by a start that failed before this was durable.
    storage.sync_dir("")?;
    Ok(clean)
}

/// Leaves the mark of a clean stop, with the epoch that the mark had before.
pub fn mark_clean_shutdown(storage: &dyn Storage, broker_epoch: i64) -> Result<(), LogError> {
    let text = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
    Ok(write_file(storage, CLEAN_SHUTDOWN, text.as_bytes())?)
}

/// The topic id in a partition's directory, as text. A file without contents or cut short, as a power cut may leave it, counts
/// as none.
pub fn read_topic_id(storage: &dyn Storage, dir: &str) -> Result<Option<String>, LogError> {
    let path = join(dir, PARTITION_METADATA);
    let Some(text) = text_of(storage, &path)? else {
        return Ok(None);
    };
    if text.bytes().all(|b| b == 0) || "version: 0\ntopic_id:".starts_with(text.trim_end()) {
        return Ok(None);
    }
    let id = text.lines().find_map(|line| line.strip_prefix("topic_id:"));
    match id.map(str::trim) {
        Some(id) if is_id(id) && text.lines().any(|line| line.trim() == "version: 0") => {
            Ok(Some(id.to_owned()))
        }
        Some(id) if id.len() < 22 => Ok(None),
        _ => Err(LogError::Damaged(format!("{path} is damaged"))),
    }
}

/// 16 bytes in the URL-safe base64 alphabet.
fn is_id(id: &str) -> bool {
    let in_alphabet = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    id.len() == 22 && id.bytes().all(in_alphabet)
}

/// Writes the topic id; must be there before the first record is. Not synced: the broker's own registry has the id too, and
/// writes the file again if a power cut took it.
pub fn write_topic_id(storage: &dyn Storage, dir: &str, topic_id: &str) -> Result<(), LogError> {
    let text = format!("version: 0\ntopic_id: {topic_id}");
    write_file_unsynced(storage, &join(dir, PARTITION_METADATA), text.as_bytes())?;
    Ok(())
}

/// The directory of a partition.
pub fn partition_dir(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// The topic and partition of a directory; `None` for one that is something else.
pub fn parse_partition_dir(name: &str) -> Option<(&str, i32)> {
    let (topic, partition) = name.rsplit_once('-')?;
    let number: i32 = partition.parse().ok()?;
    (!topic.is_empty() && number >= 0 && number.to_string() == partition).then_some((topic, number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStorage;

    #[test]
    fn checkpoints() {
        let storage = MemoryStorage::new();
        assert!(read_offsets(&storage, RECOVERY_POINTS).unwrap().is_empty());
        let offsets = Offsets::from([(("a".into(), 0), 5), (("b-c".into(), 12), i64::MAX)]);
        write_offsets(&storage, RECOVERY_POINTS, &offsets).unwrap();
        let text = read_file(&storage, RECOVERY_POINTS, 999).unwrap().unwrap();
        assert_eq!(text, "0\n2\na 0 5\nb-c 12 9223372036854775807\n".as_bytes());
        assert_eq!(read_offsets(&storage, RECOVERY_POINTS).unwrap(), offsets);
        for bad in ["0\n1\n", "1\n0\n", "0\n1\na 0\n", "0\n1\na x 5\n", "zero"] {
            write_file(&storage, RECOVERY_POINTS, bad.as_bytes()).unwrap();
            assert!(read_offsets(&storage, RECOVERY_POINTS).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn meta_properties() {
        let storage = MemoryStorage::new();
        assert_eq!(MetaProperties::read(&storage).unwrap(), None);
        let meta = MetaProperties {
            cluster_id: "5L6g3nShT-eMCtK--X86sw".into(),
            node_id: 1,
            directory_id: Some("AAAAAAAAAAAAAAAAAAAAAQ".into()),
        };
        meta.write(&storage, "Thu Jan 01 00:00:00 UTC 1970")
            .unwrap();
        assert_eq!(MetaProperties::read(&storage).unwrap(), Some(meta));
        write_file(
            &storage,
            META_PROPERTIES,
            b"version=2\ncluster.id=x\nnode.id=1\n",
        )
        .unwrap();
        assert!(
            MetaProperties::read(&storage)
                .unwrap_err()
                .to_string()
                .contains("newer")
        );
        write_file(&storage, META_PROPERTIES, b"version=1\n").unwrap();
        assert!(MetaProperties::read(&storage).is_err());
    }

    #[test]
    fn clean_mark_topic_ids_and_names() {
        let storage = MemoryStorage::new();
        assert_eq!(take_clean_shutdown(&storage).unwrap(), None);
        for epoch in [-1, 11] {
            mark_clean_shutdown(&storage, epoch).unwrap();
            assert_eq!(take_clean_shutdown(&storage).unwrap(), Some(epoch));
            assert_eq!(take_clean_shutdown(&storage).unwrap(), None);
        }
        write_file(&storage, CLEAN_SHUTDOWN, b"").unwrap();
        assert_eq!(take_clean_shutdown(&storage).unwrap(), Some(-1));
        storage.create_dir("t-0").unwrap();
        assert_eq!(read_topic_id(&storage, "t-0").unwrap(), None);
        write_topic_id(&storage, "t-0", "5L6g3nShT-eMCtK--X86sw").unwrap();
        assert_eq!(
            read_topic_id(&storage, "t-0").unwrap().unwrap(),
            "5L6g3nShT-eMCtK--X86sw"
        );
        write_file(&storage, "t-0/partition.metadata", &[0; 43]).unwrap();
        assert_eq!(read_topic_id(&storage, "t-0").unwrap(), None);
        write_topic_id(&storage, "t-0", "cut-short").unwrap();
        assert_eq!(read_topic_id(&storage, "t-0").unwrap(), None);
        write_topic_id(&storage, "t-0", "5L6g3nShT-eMCtK\0\0\0\0\0\0\0").unwrap();
        assert!(read_topic_id(&storage, "t-0").is_err());
        write_topic_id(&storage, "t-0", "longer than a topic id is").unwrap();
        assert!(read_topic_id(&storage, "t-0").is_err());
        assert_eq!(
            parse_partition_dir(&partition_dir("a-b", 3)),
            Some(("a-b", 3))
        );
        for other in ["a", "a-", "-1", "a-01", "a-+1", "a-1.abc-delete"] {
            assert_eq!(parse_partition_dir(other), None, "{other}");
        }
    }
}
