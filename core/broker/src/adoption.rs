//! Which topics a directory holds: those of Ottla's registry, and what a JVM Kafka made of them since.
//!
//! A JVM Kafka keeps its topics in the metadata log, each partition's directory has its topic's id, and neither knows of
//! Ottla's registry. So at open it is found out whether one ran: its metadata log is longer than the registry remembers, or
//! the mark of the clean stop has the epoch of a broker that it doesn't know. Then the metadata log is what counts, and
//! without one the directories themselves.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use ottla_log::{
    Storage,
    data_dir::{self, parse_partition_dir},
};
use ottla_protocol::{Str, Uuid};

use crate::{
    BrokerError,
    configs::{alter::can_be_set, dynamic::DynamicConfigs},
    kraft::{ClusterMetadata, METADATA_DIR, MetadataTopic},
    quotas::store::StoredQuotas,
    state_files::{self, KafkaMark, Registry, StoredTopic},
    topic_config::TopicConfig,
    topics::{check_topic_name, is_internal_topic},
};

/// What was found.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) registry: Registry,
    /// Whether the registry on storage says something else.
    pub(crate) is_new: bool,
    /// Whether a JVM Kafka had the directory since Ottla did.
    pub(crate) kafka_ran: bool,
    /// What its metadata log says of brokers, groups and client metrics, if it ran.
    pub(crate) configs: Option<DynamicConfigs>,
    /// What it says of client quotas, if it ran.
    pub(crate) quotas: Option<StoredQuotas>,
    /// The first producer id that a JVM Kafka has not handed out.
    pub(crate) next_producer_id: i64,
}

/// Reads the registry, and takes over what a JVM Kafka changed. Writes nothing, so that a directory which can't be opened stays
/// as it is.
pub(crate) fn adopt(storage: &dyn Storage, node_id: i32) -> Result<Adopted, BrokerError> {
    let clean = data_dir::clean_shutdown(storage).map_err(|error| BrokerError::Log {
        partition: data_dir::CLEAN_SHUTDOWN.into(),
        error,
    })?;
    let stored = state_files::read_topics(storage)?;
    let metadata = ClusterMetadata::read(storage)?;
    let known = stored.as_ref().map(|registry| registry.kafka);
    let known = known.unwrap_or_default();
    let kafka = KafkaMark {
        metadata_end: metadata.as_ref().map_or(0, |m| m.end_offset),
        // An unclean stop leaves no epoch, and Ottla keeps the one it found.
        broker_epoch: match clean {
            Some(epoch) if epoch >= 0 => epoch,
            _ => known.broker_epoch,
        },
    };
    let next_producer_id = metadata.as_ref().map_or(0, |m| m.next_producer_id);
    let unchanged = kafka == known;
    let theirs = metadata.as_ref().filter(|_| !unchanged);
    let configs = theirs.map(of_others);
    let quotas = theirs.map(|metadata| metadata.quotas.clone());
    let registry = match stored {
        Some(registry) if unchanged => registry,
        stored => {
            let ours = stored.unwrap_or_default().topics;
            let topics = match metadata {
                Some(metadata) => of_metadata(storage, node_id, metadata, &ours)?,
                None => of_directories(storage, &ours)?,
            };
            Registry { kafka, topics }
        }
    };
    let is_new =
        !unchanged || (!registry.topics.is_empty() && !storage.exists(state_files::TOPICS)?);
    Ok(Adopted {
        registry,
        is_new,
        kafka_ran: !unchanged,
        configs,
        quotas,
        next_producer_id,
    })
}

/// The settings of what isn't a topic. What Ottla doesn't know, or refuses, stays with Kafka.
fn of_others(metadata: &ClusterMetadata) -> DynamicConfigs {
    let mut configs = DynamicConfigs::default();
    for ((resource_type, resource, name), value) in &metadata.other_configs {
        if can_be_set(*resource_type, name, value) {
            let of = (*resource_type, resource.clone());
            let given = configs.resources.entry(of).or_default();
            given.insert(name.clone(), value.clone());
        }
    }
    configs
}

/// The topics of the metadata log, and what lies here without it: made by Ottla after Kafka's last stop, and not seen by it.
fn of_metadata(
    storage: &dyn Storage,
    node_id: i32,
    metadata: ClusterMetadata,
    ours: &[StoredTopic],
) -> Result<Vec<StoredTopic>, BrokerError> {
    let mut topics = Vec::new();
    for (id, topic) in metadata.topics {
        topics.push(of_cluster(id, topic, node_id)?);
    }
    let found = partitions_on_storage(storage)?;
    for topic in ours {
        let by_them = topics.iter().any(|known| known.name == topic.name);
        let is_here = found
            .get(&topic.name)
            .is_some_and(|(id, _)| *id == topic.id);
        if topic.deleting || (!by_them && is_here) {
            topics.push(topic.clone());
        }
    }
    Ok(topics)
}

fn of_cluster(id: Uuid, topic: MetadataTopic, node_id: i32) -> Result<StoredTopic, BrokerError> {
    let name = topic.name;
    let refused = |why: String| BrokerError::Corrupt {
        path: METADATA_DIR.into(),
        why,
    };
    check_topic_name(&name).map_err(&refused)?;
    let elsewhere = topic
        .replicas
        .iter()
        .find(|(_, nodes)| !nodes.contains(&node_id));
    if let Some((number, nodes)) = elsewhere {
        return Err(refused(format!(
            "this is node {node_id} of a cluster of several: partition {number} of topic {name} is on {nodes:?}; \
             Ottla opens directories that have all of their topics' partitions",
        )));
    }
    let partitions = topic.replicas.len() as i32;
    if partitions == 0 || topic.replicas.keys().next_back() != Some(&(partitions - 1)) {
        return Err(refused(format!("topic {name} lacks partitions")));
    }
    let mut configs: Vec<(Str, Str)> = topic.configs.into_iter().collect();
    // What Ottla doesn't know, or refuses, stays with Kafka.
    configs.retain(|(key, value)| TopicConfig::default().set(key, value).is_ok());
    Ok(StoredTopic {
        name,
        id,
        partitions,
        configs,
        deleting: false,
    })
}

/// The topics of our registry that still are here, and those that only their directories tell of.
fn of_directories(
    storage: &dyn Storage,
    ours: &[StoredTopic],
) -> Result<Vec<StoredTopic>, BrokerError> {
    let mut topics: Vec<StoredTopic> = Vec::new();
    let found = partitions_on_storage(storage)?;
    for topic in ours {
        let is_here = found
            .get(&topic.name)
            .is_some_and(|(id, _)| *id == topic.id);
        if topic.deleting || is_here {
            topics.push(topic.clone());
        }
    }
    for (name, (id, mut numbers)) in found {
        numbers.sort_unstable();
        if let Some(known) = topics.iter_mut().find(|t| t.name == name && !t.deleting) {
            known.partitions = known.partitions.max(numbers.len() as i32);
            continue;
        }
        if let Some(gap) = (0..)
            .zip(&numbers)
            .find(|(expected, number)| expected != *number)
        {
            return Err(BrokerError::Corrupt {
                path: format!("{name}-{}", gap.0),
                why: format!(
                    "it is missing, but {name}-{} is there: Ottla opens directories that have all of their topics' partitions",
                    gap.1
                ),
            });
        }
        topics.push(StoredTopic {
            partitions: numbers.len() as i32,
            configs: settings_unknown(&name),
            name,
            id,
            deleting: false,
        });
    }
    Ok(topics)
}

/// Settings for a topic of which nothing is known but its records: they are kept, until somebody says otherwise.
fn settings_unknown(name: &str) -> Vec<(Str, Str)> {
    let settings: &[(&'static str, &'static str)] = if is_internal_topic(name) {
        &[
            ("cleanup.policy", "compact"),
            ("compression.type", "producer"),
        ]
    } else {
        &[("retention.bytes", "-1"), ("retention.ms", "-1")]
    };
    settings
        .iter()
        .map(|&(key, value)| (Str::from_static(key), Str::from_static(value)))
        .collect()
}

/// The partitions that have a directory with a topic's id, by topic.
fn partitions_on_storage(
    storage: &dyn Storage,
) -> Result<BTreeMap<Str, (Uuid, Vec<i32>)>, BrokerError> {
    let mut found: BTreeMap<Str, (Uuid, Vec<i32>)> = BTreeMap::new();
    for entry in storage.list("")? {
        let Some((topic, number)) = parse_partition_dir(&entry.name) else {
            continue;
        };
        if !entry.is_dir || entry.name == METADATA_DIR || check_topic_name(topic).is_err() {
            continue;
        }
        let id =
            data_dir::read_topic_id(storage, &entry.name).map_err(|error| BrokerError::Log {
                partition: entry.name.clone(),
                error,
            })?;
        // Kafka writes the id before the first record.
        let Some(id) = id.as_deref().and_then(Uuid::parse) else {
            continue;
        };
        let (of, numbers) = found.entry(topic.into()).or_insert((id, Vec::new()));
        if *of != id {
            return Err(BrokerError::Corrupt {
                path: entry.name.clone(),
                why: format!("it belongs to topic id {id}, but others of {topic} to {of}"),
            });
        }
        numbers.push(number);
    }
    Ok(found)
}
