//! Reading what a JVM Kafka knows of its cluster: the newest snapshot of the metadata log, and the log behind it.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use bytes::Bytes;
use ottla_log::{OpenHow, Storage, join, names};
use ottla_protocol::{Str, Uuid, messages::ClientQuotaRecord};
use ottla_record::{Batches, Limits};

use super::{METADATA_DIR, records::MetadataRecord};
use crate::{
    BrokerError,
    quotas::{
        entities::{Entity, is_known},
        store::StoredQuotas,
    },
};

/// What the name of a snapshot ends with.
const CHECKPOINT: &str = ".checkpoint";
/// `ConfigResource`'s number for topics.
pub(super) const TOPIC_RESOURCE: i8 = 2;
/// One file of the log is read at once; Kafka's own are 1 GiB at most.
const MOST_BYTES: u64 = 2 << 30;

/// A topic of the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MetadataTopic {
    pub(crate) name: Str,
    /// The nodes that have each partition.
    pub(crate) replicas: BTreeMap<i32, Vec<i32>>,
    /// The settings that it was given.
    pub(crate) configs: BTreeMap<Str, Str>,
}

/// The state of the cluster as its metadata log tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClusterMetadata {
    /// The offset behind the last record: it grows with every start of a JVM Kafka.
    pub(crate) end_offset: i64,
    pub(crate) topics: BTreeMap<Uuid, MetadataTopic>,
    /// The first producer id that nobody has had.
    pub(crate) next_producer_id: i64,
    pub(crate) feature_levels: BTreeMap<Str, i16>,
    /// Settings of brokers and of other resources that are no topics, by resource type and name.
    pub(crate) other_configs: BTreeMap<(i8, Str, Str), Str>,
    /// Client quotas.
    pub(crate) quotas: StoredQuotas,
    /// Records that mean nothing here (users, access rights…), as they are, in their order.
    pub(super) others: Vec<Bytes>,
    /// Settings of topics by name: they may stand before the topic.
    topic_configs: BTreeMap<Str, BTreeMap<Str, Str>>,
}

impl ClusterMetadata {
    /// Reads the metadata log of this directory; `None` if there is none, or nothing in it.
    ///
    /// What a crash tore at the log's end is left out, as Kafka leaves it out: on one node all that is whole counts.
    pub(crate) fn read(storage: &dyn Storage) -> Result<Option<Self>, BrokerError> {
        if !storage.exists(METADATA_DIR)? {
            return Ok(None);
        }
        let mut snapshot = None;
        let mut logs = Vec::new();
        for entry in storage.list(METADATA_DIR)? {
            snapshot = snapshot.max(snapshot_end(&entry.name).map(|end| (end, entry.name.clone())));
            if let Some(base) = names::offset_of(&entry.name, names::LOG) {
                logs.push((base, entry.name, entry.len));
            }
        }
        let mut replay = Replay::default();
        if let Some((end, name)) = snapshot {
            replay.file(storage, &name, 0, false)?;
            replay.metadata.end_offset = end;
        }
        let from = replay.metadata.end_offset;
        for (i, (_, name, _)) in logs.iter().enumerate() {
            let whole_before = logs.get(i + 1).is_some_and(|(next, ..)| *next <= from);
            if !whole_before {
                replay.file(storage, name, from, i + 1 == logs.len())?;
            }
        }
        let mut metadata = replay.metadata;
        if metadata.end_offset == 0 {
            return Ok(None);
        }
        for topic in metadata.topics.values_mut() {
            topic.configs = metadata
                .topic_configs
                .get(&topic.name)
                .cloned()
                .unwrap_or_default();
        }
        Ok(Some(metadata))
    }

    fn apply(&mut self, record: MetadataRecord, value: &Bytes) {
        match record {
            MetadataRecord::Topic(topic) => {
                let of = MetadataTopic {
                    name: topic.name,
                    ..MetadataTopic::default()
                };
                self.topics.insert(topic.topic_id, of);
            }
            MetadataRecord::Partition(partition) => {
                if let Some(topic) = self.topics.get_mut(&partition.topic_id) {
                    let replicas = partition.replicas;
                    topic.replicas.insert(partition.partition_id, replicas);
                }
            }
            MetadataRecord::PartitionChange(change) => {
                if let (Some(replicas), Some(topic)) =
                    (change.replicas, self.topics.get_mut(&change.topic_id))
                {
                    topic.replicas.insert(change.partition_id, replicas);
                }
            }
            MetadataRecord::RemoveTopic(removed) => {
                if let Some(topic) = self.topics.remove(&removed.topic_id) {
                    self.topic_configs.remove(&topic.name);
                }
            }
            MetadataRecord::Config(config) if config.resource_type == TOPIC_RESOURCE => {
                let of = self.topic_configs.entry(config.resource_name).or_default();
                match config.value {
                    Some(value) => of.insert(config.name, value),
                    None => of.remove(&config.name),
                };
            }
            MetadataRecord::Config(config) => {
                let key = (config.resource_type, config.resource_name, config.name);
                match config.value {
                    Some(value) => self.other_configs.insert(key, value),
                    None => self.other_configs.remove(&key),
                };
            }
            MetadataRecord::ClientQuota(quota) => match known_quota(&quota) {
                Some(of) => {
                    let given = (!quota.remove).then_some(quota.value);
                    self.quotas.set(&of, [(quota.key, given)].into_iter());
                }
                None => self.others.push(value.clone()),
            },
            MetadataRecord::FeatureLevel(feature) => {
                self.feature_levels
                    .insert(feature.name, feature.feature_level);
            }
            MetadataRecord::ProducerIds(ids) => {
                self.next_producer_id = self.next_producer_id.max(ids.next_producer_id);
            }
            MetadataRecord::Other => self.others.push(value.clone()),
            MetadataRecord::OfOneRun
            | MetadataRecord::BeginTransaction
            | MetadataRecord::EndTransaction
            | MetadataRecord::AbortTransaction => {}
        }
    }
}

/// Whom a quota is for, if it is one that Ottla has: an address by its name, say, is nobody here.
fn known_quota(quota: &ClientQuotaRecord) -> Option<Entity> {
    let parts = quota.entity.iter();
    let of = Entity::named(parts.map(|part| (&part.entity_type, &part.entity_name))).ok()?;
    is_known(&quota.key, &of).then_some(of)
}

/// The offset that a snapshot goes up to, from its name: `<20 digits>-<10 digits>.checkpoint`.
fn snapshot_end(name: &str) -> Option<i64> {
    let (end, epoch) = name.strip_suffix(CHECKPOINT)?.split_once('-')?;
    let digits = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
    (digits(end, 20) && digits(epoch, 10)).then(|| end.parse().ok())?
}

/// Reads records in their order.
#[derive(Default)]
struct Replay {
    metadata: ClusterMetadata,
    /// The records of a transaction (KIP-868) that hasn't ended.
    pending: Option<Vec<(MetadataRecord, Bytes)>>,
}

impl Replay {
    fn file(
        &mut self,
        storage: &dyn Storage,
        name: &str,
        from: i64,
        may_be_torn: bool,
    ) -> Result<(), BrokerError> {
        let path = join(METADATA_DIR, name);
        let corrupt = |why: String| BrokerError::Corrupt {
            path: path.clone(),
            why,
        };
        let mut file = storage.open(&path, OpenHow::ReadOnly)?;
        let len = file.len();
        if len > MOST_BYTES {
            return Err(corrupt(format!("{len} bytes are too many")));
        }
        file.seal();
        let mut chunks = Vec::new();
        file.read_at(0, len as usize, &mut chunks)?;
        for batch in Batches::new(chunks) {
            let batch = match batch.and_then(|batch| batch.check_crc().map(|()| batch)) {
                Ok(batch) => batch,
                Err(_) if may_be_torn => break,
                Err(error) => return Err(corrupt(error.to_string())),
            };
            let header = batch.header();
            if header.last_offset() < from {
                continue;
            }
            self.metadata.end_offset = self.metadata.end_offset.max(header.next_offset());
            if header.attributes.is_control() {
                continue;
            }
            let mut records = batch
                .records(Limits::default())
                .map_err(|error| corrupt(error.to_string()))?;
            while let Some(record) = records.next_record() {
                let record = record.map_err(|error| corrupt(error.to_string()))?;
                if record.offset < from {
                    continue;
                }
                let (offset, value) = (record.offset, record.value.unwrap_or_default());
                // A copy: what is kept must not hold on to the file.
                let value = Bytes::copy_from_slice(value);
                let parsed = MetadataRecord::parse(value.clone())
                    .map_err(|error| corrupt(format!("the record at offset {offset}: {error}")))?;
                self.record(parsed, value);
            }
        }
        Ok(())
    }

    fn record(&mut self, record: MetadataRecord, value: Bytes) {
        match (record, &mut self.pending) {
            (MetadataRecord::BeginTransaction, pending) => *pending = Some(Vec::new()),
            (MetadataRecord::AbortTransaction, pending) => *pending = None,
            (MetadataRecord::EndTransaction, pending) => {
                for (record, value) in pending.take().into_iter().flatten() {
                    self.metadata.apply(record, &value);
                }
            }
            (record, Some(pending)) => pending.push((record, value)),
            (record, None) => self.metadata.apply(record, &value),
        }
    }
}
