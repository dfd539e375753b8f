//! Making a directory ready for a JVM Kafka in KRaft mode: what `kafka-storage format` does to a new directory, with the
//! topics that are there.
//!
//! Kafka begins an empty metadata log with the records of `bootstrap.checkpoint`, whatever they are. So the topics, their
//! partitions and settings and the producer ids that are used up go there, and Kafka itself makes its log of them.

use alloc::{collections::BTreeMap, format, string::String, vec, vec::Vec};
use core::fmt;

use bytes::Bytes;
use ottla_log::{
    LeaderEpochs, Storage, StorageError,
    data_dir::{self, MetaProperties, partition_dir},
    join, names, read_file,
};
use ottla_protocol::{
    EncodeError, Str, Uuid,
    messages::{
        ClientQuotaRecord, ConfigRecord, FeatureLevelRecord, PartitionRecord, ProducerIdsRecord,
        TopicRecord, client_quota_record::EntityData,
    },
};
use ottla_record::Now;

use super::{
    BOOTSTRAP_CHECKPOINT, ClusterMetadata, METADATA_DIR, checkpoint, metadata::TOPIC_RESOURCE,
    records::ToValue,
};
use crate::{
    BrokerError,
    configs::{alter::can_be_set, dynamic::DynamicConfigs},
    producer_ids::ProducerIds,
    quotas::store::StoredQuotas,
    random::Random,
    state_files::{self, StoredTopic},
};

/// The features of a cluster that `kafka-storage format --release-version 4.0` makes: every Kafka 4 starts on it, and
/// `kafka-features upgrade` raises them. 25 is 4.0-IV3.
const FEATURES: [(&str, i16); 3] = [
    ("metadata.version", 25),
    ("group.version", 1),
    ("transaction.version", 2),
];

/// More than a `leader-epoch-checkpoint` has.
const EPOCHS_LIMIT: u64 = 1 << 30;

/// What [`promote`] found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// What happened.
    pub promoted: Promoted,
    /// `cluster.id`.
    pub cluster_id: String,
    /// `node.id`; the JVM Kafka must have the same.
    pub node_id: i32,
    /// Topics, internal ones included.
    pub topics: usize,
    /// Their partitions.
    pub partitions: usize,
    /// The first producer id that the JVM Kafka will hand out.
    pub next_producer_id: i64,
}

/// What [`promote`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promoted {
    /// `bootstrap.checkpoint` was written.
    Now,
    /// A JVM Kafka has its metadata log here and knows all topics: there was nothing to do.
    Already,
    /// A JVM Kafka had its metadata log here, and topics were made, grown or deleted since. Kafka begins its log anew, with the
    /// topics, settings and quotas as they are now; users, access rights and feature levels are taken over.
    Again,
}

/// Why a directory can't be promoted.
#[derive(Debug)]
pub enum PromoteError {
    /// There is no `meta.properties` in it, or no topics' registry: nobody's data directory.
    NotADataDirectory,
    /// It was not closed cleanly.
    NotClosedCleanly,
    /// It can't be read or written.
    Broker(BrokerError),
}

impl From<BrokerError> for PromoteError {
    fn from(error: BrokerError) -> Self {
        Self::Broker(error)
    }
}

impl From<StorageError> for PromoteError {
    fn from(error: StorageError) -> Self {
        Self::Broker(error.into())
    }
}

impl fmt::Display for PromoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADataDirectory => f.write_str(
                "it is no data directory: meta.properties is missing; name the directory that stands behind file://",
            ),
            Self::NotClosedCleanly => f.write_str(
                "it was not closed cleanly: open it once more with any program that uses Ottla, which mends it, and let that end",
            ),
            Self::Broker(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for PromoteError {}

/// Prepares the data directory behind `storage` for a JVM Kafka in KRaft mode that is broker and controller in one.
///
/// The caller owns the directory. Nothing of what Ottla reads is changed: it may open the directory again, before and after.
/// Doing it twice changes nothing.
pub fn promote(storage: &dyn Storage, now: Now, seed: u64) -> Result<Promotion, PromoteError> {
    let failed = |error| BrokerError::Log {
        partition: data_dir::META_PROPERTIES.into(),
        error,
    };
    let Some(mut meta) = MetaProperties::read(storage).map_err(failed)? else {
        return Err(PromoteError::NotADataDirectory);
    };
    if !storage.exists(data_dir::CLEAN_SHUTDOWN)? {
        return Err(PromoteError::NotClosedCleanly);
    }
    let metadata = ClusterMetadata::read(storage)?;
    let registry = state_files::read_topics(storage)?;
    let mut promotion = Promotion {
        promoted: Promoted::Now,
        cluster_id: meta.cluster_id.clone(),
        node_id: meta.node_id,
        topics: 0,
        partitions: 0,
        next_producer_id: ProducerIds::open(storage)?.claimed(),
    };
    let topics: Vec<StoredTopic> = match (&registry, &metadata) {
        // A JVM Kafka's own, or one that it has used since Ottla last did: it knows best.
        (None, Some(theirs)) => return Ok(already(promotion, theirs)),
        (Some(ours), Some(theirs)) if ours.kafka.metadata_end < theirs.end_offset => {
            return Ok(already(promotion, theirs));
        }
        (None, None) => Vec::new(),
        (Some(ours), _) => {
            let there = |topic: &&StoredTopic| !topic.deleting;
            ours.topics.iter().filter(there).cloned().collect()
        }
    };
    promotion.topics = topics.len();
    promotion.partitions = topics.iter().map(|t| t.partitions as usize).sum();
    let theirs = metadata.unwrap_or_default();
    let others = other_configs(&DynamicConfigs::read(storage)?, &theirs);
    let quotas = StoredQuotas::read(storage)?;
    if theirs.end_offset > 0 {
        if same_topics(&topics, &theirs)
            && others == theirs.other_configs
            && quotas == theirs.quotas
            && promotion.next_producer_id <= theirs.next_producer_id
        {
            return Ok(already(promotion, &theirs));
        }
        promotion.promoted = Promoted::Again;
        promotion.next_producer_id = promotion.next_producer_id.max(theirs.next_producer_id);
    }

    let directory_id = match meta.directory_id.as_deref().and_then(Uuid::parse) {
        Some(id) => id,
        None => {
            let id = Uuid::from_random(Random::new(seed).next_u128());
            meta.directory_id = Some(format!("{id}"));
            meta.write(storage, "written by Ottla").map_err(failed)?;
            id
        }
    };
    let mut values = cluster_records(&theirs, &others, &quotas, &promotion).map_err(too_long)?;
    for topic in &topics {
        let epochs = (0..topic.partitions)
            .map(|number| leader_epoch(storage, &topic.name, number))
            .collect::<Result<Vec<i32>, _>>()?;
        topic_records(&mut values, topic, &epochs, meta.node_id, directory_id).map_err(too_long)?;
    }
    checkpoint::write(storage, BOOTSTRAP_CHECKPOINT, &values, now)?;
    if promotion.promoted == Promoted::Again {
        // Kafka reads the records above only if its log is empty. After a crash in between this comes again.
        storage.remove_dir(METADATA_DIR)?;
        storage.sync_dir("")?;
    }
    Ok(promotion)
}

fn already(promotion: Promotion, theirs: &ClusterMetadata) -> Promotion {
    Promotion {
        promoted: Promoted::Already,
        topics: theirs.topics.len(),
        partitions: theirs.topics.values().map(|t| t.replicas.len()).sum(),
        next_producer_id: theirs.next_producer_id,
        ..promotion
    }
}

fn too_long(error: EncodeError) -> BrokerError {
    BrokerError::Corrupt {
        path: state_files::TOPICS.into(),
        why: format!("it has what no metadata record can hold: {error}"),
    }
}

/// Whether the metadata log knows just these topics, with these partitions and settings.
fn same_topics(ours: &[StoredTopic], theirs: &ClusterMetadata) -> bool {
    ours.len() == theirs.topics.len()
        && ours.iter().all(|topic| {
            theirs.topics.get(&topic.id).is_some_and(|known| {
                known.name == topic.name
                    && known.replicas.len() == topic.partitions as usize
                    // They may have settings that Ottla doesn't know.
                    && topic
                        .configs
                        .iter()
                        .all(|(key, value)| known.configs.get(key) == Some(&kafkas(key, value)))
            })
        })
}

/// Settings of what isn't a topic, by resource type and name.
pub(super) type OtherConfigs = BTreeMap<(i8, Str, Str), Str>;

/// What Ottla has now, and of an earlier metadata log what Ottla doesn't know or refuses.
pub(super) fn other_configs(ours: &DynamicConfigs, theirs: &ClusterMetadata) -> OtherConfigs {
    let mut all = theirs.other_configs.clone();
    all.retain(|(resource_type, _, name), value| !can_be_set(*resource_type, name, value));
    for ((resource_type, resource), given) in &ours.resources {
        for (name, value) in given {
            let value = kafkas(name, value);
            all.insert((*resource_type, resource.clone(), name.clone()), value);
        }
    }
    all
}

/// Features, producer ids, and what an earlier metadata log had besides topics.
fn cluster_records(
    theirs: &ClusterMetadata,
    others: &OtherConfigs,
    quotas: &StoredQuotas,
    promotion: &Promotion,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut features: BTreeMap<Str, i16> = FEATURES
        .iter()
        .map(|&(name, level)| (Str::from_static(name), level))
        .collect();
    if theirs.end_offset > 0 {
        features = theirs.feature_levels.clone();
    }
    let mut values = Vec::new();
    // `metadata.version` says how to read what follows.
    let first = Str::from_static("metadata.version");
    let level = features.remove(&first).unwrap_or(FEATURES[0].1);
    for (name, feature_level) in [(first, level)].into_iter().chain(features) {
        let record = FeatureLevelRecord {
            name,
            feature_level,
        };
        values.push(record.to_value()?);
    }
    for ((resource_type, resource_name, name), value) in others {
        let record = ConfigRecord {
            resource_type: *resource_type,
            resource_name: resource_name.clone(),
            name: name.clone(),
            value: Some(value.clone()),
        };
        values.push(record.to_value()?);
    }
    for (of, given) in &quotas.entities {
        for (key, value) in given {
            let parts = of.parts().map(|(entity_type, name)| EntityData {
                entity_type: entity_type.into(),
                entity_name: name.cloned(),
            });
            let record = ClientQuotaRecord {
                entity: parts.collect(),
                key: key.clone(),
                value: *value,
                remove: false,
            };
            values.push(record.to_value()?);
        }
    }
    values.extend(theirs.others.iter().cloned());
    if promotion.next_producer_id > 0 {
        let record = ProducerIdsRecord {
            broker_id: promotion.node_id,
            broker_epoch: -1,
            next_producer_id: promotion.next_producer_id,
        };
        values.push(record.to_value()?);
    }
    Ok(values)
}

/// A topic as it is when the last broker that has it is down: in sync, and without a leader until that broker is back.
fn topic_records(
    values: &mut Vec<Bytes>,
    topic: &StoredTopic,
    epochs: &[i32],
    node_id: i32,
    directory_id: Uuid,
) -> Result<(), EncodeError> {
    let record = TopicRecord {
        name: topic.name.clone(),
        topic_id: topic.id,
    };
    values.push(record.to_value()?);
    for (partition_id, &leader_epoch) in (0..).zip(epochs) {
        let record = PartitionRecord {
            partition_id,
            topic_id: topic.id,
            replicas: vec![node_id],
            isr: vec![node_id],
            leader: -1,
            leader_epoch,
            partition_epoch: 0,
            directories: vec![directory_id],
            ..PartitionRecord::default()
        };
        values.push(record.to_value()?);
    }
    for (name, value) in &topic.configs {
        let record = ConfigRecord {
            resource_type: TOPIC_RESOURCE,
            resource_name: topic.name.clone(),
            name: name.clone(),
            value: Some(kafkas(name, value)),
        };
        values.push(record.to_value()?);
    }
    Ok(())
}

/// A setting's value as Kafka takes it: where Ottla's bounds are wider, the nearest. Kafka 4 doesn't start with `segment.bytes`
/// below 1 MiB (KIP-1030).
fn kafkas(name: &Str, value: &Str) -> Str {
    match value.parse::<i64>() {
        Ok(bytes)
            if (*name == "segment.bytes" || *name == "log.segment.bytes") && bytes < 1 << 20 =>
        {
            Str::from_static("1048576")
        }
        _ => value.clone(),
    }
}

/// The newest epoch in a partition's log; Kafka's next leader gets the one above.
fn leader_epoch(storage: &dyn Storage, topic: &str, number: i32) -> Result<i32, BrokerError> {
    let dir = partition_dir(topic, number);
    let path = join(&dir, names::LEADER_EPOCHS);
    let Some(bytes) = read_file(storage, &path, EPOCHS_LIMIT)? else {
        return Ok(0);
    };
    let epochs = LeaderEpochs::from_text(&String::from_utf8_lossy(&bytes)).map_err(|error| {
        BrokerError::Log {
            partition: dir,
            error,
        }
    })?;
    Ok(epochs.latest().unwrap_or(0))
}
