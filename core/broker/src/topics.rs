//! The topics of the broker: look-up by name and id, creation, growth, deletion, and their registry on storage.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use hashbrown::{HashMap, HashSet};
use ottla_log::{
    LogConfig, LogError, OpenOptions, PartitionLog,
    data_dir::{self, Offsets, partition_dir},
    join, names,
};
use ottla_protocol::{ErrorCode, Str, Uuid};
use ottla_record::Now;

use crate::{
    Broker, BrokerConfig,
    adoption::Adopted,
    api::check_count,
    broker::BrokerError,
    config::Durability,
    partition::{Partition, PartitionIndex},
    state_files::{self, Registry, StoredTopic},
    topic_config::{TopicConfig, topic_config_key},
};

/// Where the group coordinator keeps its state.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Where the state of share partitions is kept.
pub(crate) const SHARE_STATE_TOPIC: &str = "__share_group_state";
/// Where the transaction coordinator keeps its state.
pub const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// Longest topic name, as in Kafka: name, dash and partition must fit in a file name.
const MAX_NAME_LEN: usize = 249;

/// Dense number of a topic within one broker run; reused after a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicIndex(u32);

/// One topic.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Str,
    pub(crate) id: Uuid,
    /// Effective settings.
    pub(crate) config: Arc<TopicConfig>,
    /// What it was given, sorted by key.
    pub(crate) configs: Vec<(Str, Str)>,
    /// By partition number.
    pub(crate) partitions: Vec<PartitionIndex>,
    /// Written by the broker only.
    pub(crate) internal: bool,
}

impl Topic {
    /// The partition with this number.
    pub(crate) fn partition(&self, number: i32) -> Option<PartitionIndex> {
        self.partitions.get(usize::try_from(number).ok()?).copied()
    }

    fn stored(&self) -> StoredTopic {
        StoredTopic {
            name: self.name.clone(),
            id: self.id,
            partitions: self.partitions.len() as i32,
            configs: self.configs.clone(),
            deleting: false,
        }
    }

    fn deleted(&self) -> StoredTopic {
        StoredTopic {
            configs: Vec::new(),
            deleting: true,
            ..self.stored()
        }
    }
}

/// All topics.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    slots: Vec<Option<Topic>>,
    free: Vec<TopicIndex>,
    by_name: HashMap<Str, TopicIndex>,
    by_id: HashMap<Uuid, TopicIndex>,
    /// Names with `.` as `_`: Kafka refuses names that differ in these only, since its metrics would collide.
    by_collision: HashMap<String, TopicIndex>,
    /// Deleted, but not all their directories are gone yet.
    deleting: Vec<StoredTopic>,
    /// Those of them whose directories somebody is removing.
    removing: HashSet<Uuid>,
}

impl Topics {
    pub(crate) fn get(&self, index: TopicIndex) -> Option<&Topic> {
        self.slots.get(index.0 as usize)?.as_ref()
    }

    pub(crate) fn index_by_name(&self, name: &str) -> Option<TopicIndex> {
        self.by_name.get(name.as_bytes()).copied()
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Topic> {
        self.get(self.index_by_name(name)?)
    }

    pub(crate) fn index_by_id(&self, id: &Uuid) -> Option<TopicIndex> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn by_id(&self, id: &Uuid) -> Option<&Topic> {
        self.get(self.index_by_id(id)?)
    }

    /// The topic that a request names: by id if it is set, else by name.
    pub(crate) fn by_id_or_name(&self, id: &Uuid, name: &str) -> Result<&Topic, ErrorCode> {
        if id.is_zero() {
            self.by_name(name)
                .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        } else {
            self.by_id(id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
        }
    }

    fn get_mut(&mut self, index: TopicIndex) -> Option<&mut Topic> {
        self.slots.get_mut(index.0 as usize)?.as_mut()
    }

    fn indexes(&self) -> Vec<TopicIndex> {
        let there = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.is_some());
        there.map(|(at, _)| TopicIndex(at as u32)).collect()
    }

    /// In the order of their creation (a deleted topic's place is taken again).
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.slots.iter().flatten()
    }

    /// A topic whose name differs in `.` and `_` only.
    pub(crate) fn colliding(&self, name: &str) -> Option<&Topic> {
        self.get(*self.by_collision.get(collision_name(name).as_str())?)
    }

    fn insert(&mut self, topic: Topic) -> TopicIndex {
        let at = self
            .free
            .pop()
            .map_or(self.slots.len(), |index| index.0 as usize);
        let index = TopicIndex(at as u32);
        self.by_name.insert(topic.name.clone(), index);
        self.by_id.insert(topic.id, index);
        self.by_collision.insert(collision_name(&topic.name), index);
        if at == self.slots.len() {
            self.slots.push(Some(topic));
        } else {
            self.slots[at] = Some(topic);
        }
        index
    }

    fn remove(&mut self, index: TopicIndex) -> Option<Topic> {
        let topic = self.slots.get_mut(index.0 as usize)?.take()?;
        self.free.push(index);
        self.by_name.remove(topic.name.as_bytes().as_ref());
        self.by_id.remove(&topic.id);
        self.by_collision.remove(&collision_name(&topic.name));
        Some(topic)
    }

    /// Hands on each deleted topic whose directories nobody is removing yet; `take` says whether somebody is from then on.
    pub(crate) fn each_to_remove(&mut self, mut take: impl FnMut(&StoredTopic) -> bool) {
        for topic in &self.deleting {
            if !self.removing.contains(&topic.id) && take(topic) {
                self.removing.insert(topic.id);
            }
        }
    }

    /// Nothing is left of these. Whether one of them was known to be under deletion.
    pub(crate) fn forget_deleted(&mut self, gone: &[Uuid]) -> bool {
        let before = self.deleting.len();
        self.deleting.retain(|topic| !gone.contains(&topic.id));
        gone.iter().for_each(|id| {
            self.removing.remove(id);
        });
        self.deleting.len() < before
    }

    fn stored(&self) -> Vec<StoredTopic> {
        let mut all: Vec<StoredTopic> = self.iter().map(Topic::stored).collect();
        all.extend(self.deleting.iter().cloned());
        all
    }
}

fn collision_name(name: &str) -> String {
    name.replace('.', "_")
}

/// Kafka's rules for topic names; they also keep a name from leaving the data directory. The error says what is wrong.
pub(crate) fn check_topic_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("Topic name is invalid: the empty string is not allowed".to_string());
    }
    if name == "." || name == ".." {
        return Err(format!("Topic name is invalid: '{name}' is not allowed"));
    }
    if name.len() > MAX_NAME_LEN {
        return Err(format!(
            "Topic name is invalid: its length is {}, longer than {MAX_NAME_LEN}",
            name.len()
        ));
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    {
        return Err(format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}

/// Topics that only the broker writes.
pub(crate) fn is_internal_topic(name: &str) -> bool {
    matches!(name, OFFSETS_TOPIC | TRANSACTIONS_TOPIC | SHARE_STATE_TOPIC)
}

/// Checks settings, each for itself, and makes them effective over the broker's defaults; the stored form is canonical and sorted.
pub(crate) fn effective_config<'a>(
    defaults: &TopicConfig,
    configs: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(TopicConfig, Vec<(Str, Str)>), String> {
    let mut config = defaults.clone();
    let mut keys = Vec::new();
    for (name, value) in configs {
        config.set(name, value)?;
        keys.extend(topic_config_key(name));
    }
    keys.sort_unstable_by_key(|key| key.name);
    keys.dedup_by_key(|key| key.name);
    let stored = keys
        .iter()
        .map(|key| (Str::from_static(key.name), key.value(&config)))
        .collect();
    Ok((config, stored))
}

/// What is known of partitions from the checkpoint files of the last run.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    pub(crate) clean: bool,
    pub(crate) recovery_points: Offsets,
    pub(crate) log_starts: Offsets,
}

impl Broker {
    /// Opens every partition of the topics that there are; finishes interrupted deletions.
    pub(crate) fn open_topics(
        &mut self,
        now: Now,
        checkpoints: &Checkpoints,
        adopted: Adopted,
    ) -> Result<(), BrokerError> {
        self.kafka = adopted.registry.kafka;
        for stored in adopted.registry.topics {
            if check_topic_name(&stored.name).is_err() {
                return Err(BrokerError::Corrupt {
                    path: state_files::TOPICS.into(),
                    why: format!("bad topic name {:?}", stored.name),
                });
            }
            if stored.deleting {
                self.topics.deleting.push(stored);
                continue;
            }
            let configs = stored.configs.iter().map(|(k, v)| (&**k, &**v));
            let (config, configs) = effective_config(&self.config.topic_defaults, configs)
                .map_err(|why| BrokerError::Corrupt {
                    path: state_files::TOPICS.into(),
                    why,
                })?;
            let index = self.topics.insert(Topic {
                internal: is_internal_topic(&stored.name),
                name: stored.name.clone(),
                id: stored.id,
                config: Arc::new(config),
                configs,
                partitions: Vec::new(),
            });
            for number in 0..stored.partitions {
                if adopted.kafka_ran {
                    self.forget_durable_mark(&partition_dir(&stored.name, number))?;
                }
                let partition = self.open_partition(now, index, number, Some(checkpoints))?;
                self.attach(index, partition);
            }
        }
        let ends: BTreeMap<(&str, i32), i64> = self
            .partitions
            .iter()
            .map(|(_, p)| ((&*p.topic_name, p.number), p.log.log_end_offset()))
            .collect();
        // Of partitions that are no more, or beyond what damage has left.
        self.housekeeping.has_stale_checkpoints = checkpoints
            .recovery_points
            .iter()
            .chain(&checkpoints.log_starts)
            .any(|((topic, number), offset)| {
                ends.get(&(&**topic, *number))
                    .is_none_or(|end| offset > end)
            });
        self.replace_stale_checkpoints()?;
        if !self.topics.deleting.is_empty() {
            self.remove_deleted_directories_now();
            self.write_registry()?;
        } else if adopted.is_new {
            self.write_registry()?;
        }
        Ok(())
    }

    /// A JVM Kafka writes, compacts and cuts logs without telling Ottla's mark of what is durable and whole.
    fn forget_durable_mark(&self, dir: &str) -> Result<(), BrokerError> {
        let path = join(dir, names::DURABLE_MARK);
        if self.storage.exists(&path)? {
            self.storage.remove_file(&path)?;
            self.storage.sync_dir(dir)?;
        }
        Ok(())
    }

    fn attach(&mut self, index: TopicIndex, partition: Partition) {
        let at = self.partitions.insert(partition);
        if let Some(topic) = self
            .topics
            .slots
            .get_mut(index.0 as usize)
            .and_then(Option::as_mut)
        {
            topic.partitions.push(at);
        }
    }

    /// Opens or creates the log of one partition.
    fn open_partition(
        &mut self,
        now: Now,
        index: TopicIndex,
        number: i32,
        checkpoints: Option<&Checkpoints>,
    ) -> Result<Partition, BrokerError> {
        let topic = self
            .topics
            .get(index)
            .ok_or(BrokerError::Internal("a partition without its topic"))?;
        let dir = partition_dir(&topic.name, number);
        let failed = |error| BrokerError::Log {
            partition: dir.clone(),
            error,
        };
        self.storage.create_dir(&dir)?;
        let id = topic.id.to_string();
        let found = match data_dir::read_topic_id(&*self.storage, &dir) {
            // The file is not synced; the registry, which names this partition, tells what a power cut tore.
            Err(LogError::Damaged(_)) if checkpoints.is_some() => None,
            found => found.map_err(failed)?,
        };
        match found {
            Some(found) if found == id => {}
            Some(found) => {
                return Err(BrokerError::Corrupt {
                    why: format!(
                        "it belongs to topic id {found}, but {} has {id}",
                        topic.name
                    ),
                    path: ottla_log::join(&dir, ottla_log::names::PARTITION_METADATA),
                });
            }
            None => data_dir::write_topic_id(&*self.storage, &dir, &id).map_err(failed)?,
        }
        let options = match checkpoints {
            Some(c) => {
                let of = |offsets: &Offsets| {
                    offsets
                        .get(&(String::from(&*topic.name), number))
                        .copied()
                        .unwrap_or(0)
                };
                OpenOptions {
                    clean: c.clean,
                    recovery_point: of(&c.recovery_points),
                    log_start_offset: of(&c.log_starts),
                }
            }
            None => OpenOptions::default(),
        };
        let config = self.log_config(&topic.config);
        let (log, recovery) =
            PartitionLog::open(self.storage.clone(), &dir, config, now, options).map_err(failed)?;
        let high_watermark = match self.config.durability {
            Durability::Fsync => log.synced_offset(),
            Durability::Os => log.log_end_offset(),
        };
        let partition = Partition::new(index, topic.name.clone(), number, log, high_watermark);
        if recovery.cut_bytes > 0 || recovery.unreadable_bytes > 0 {
            self.untold.push((dir.clone(), recovery.clone()));
            self.recoveries.push((dir, recovery));
        }
        Ok(partition)
    }

    /// What a partition's log needs of its topic's settings.
    fn log_config(&self, config: &TopicConfig) -> LogConfig {
        LogConfig {
            segment_bytes: config.segment_bytes as u64,
            segment_ms: config.segment_ms,
            segment_jitter_ms: config.segment_jitter_ms,
            segment_index_bytes: config.segment_index_bytes as u64,
            index_interval_bytes: config.index_interval_bytes as u64,
            retention_ms: config.retention_ms,
            retention_bytes: config.retention_bytes,
            log_append_time: config.log_append_time,
            compact: config.cleanup_compact,
            delete_retention_ms: config.delete_retention_ms,
            min_compaction_lag_ms: config.min_compaction_lag_ms,
            max_compaction_lag_ms: config.max_compaction_lag_ms,
            file_delete_delay_ms: config.file_delete_delay_ms,
            producer_id_expiration_ms: self.config.producer_id_expiration_ms,
        }
    }

    /// Changes what topics were given, which has been checked. The registry is written once.
    pub(crate) fn set_topic_configs(
        &mut self,
        now: Now,
        changes: Vec<(TopicIndex, Vec<(Str, Str)>)>,
    ) -> Result<(), BrokerError> {
        let mut given: BTreeMap<Uuid, &[(Str, Str)]> = BTreeMap::new();
        for (index, configs) in &changes {
            let topic = self.topics.get(*index);
            let topic = topic.ok_or(BrokerError::Internal("a topic that is gone"))?;
            given.insert(topic.id, configs);
        }
        let mut stored = self.topics.stored();
        for topic in stored.iter_mut().filter(|topic| !topic.deleting) {
            if let Some(configs) = given.get(&topic.id) {
                topic.configs = configs.to_vec();
            }
        }
        self.write_stored(&stored)?;
        for (index, configs) in changes {
            let pairs = configs.iter().map(|(k, v)| (&**k, &**v));
            let effective = effective_config(&self.config.topic_defaults, pairs);
            if let Some(topic) = self.topics.get_mut(index) {
                topic.configs = configs;
            }
            if let Ok((config, _)) = effective {
                self.put_in_force(now, index, config);
            }
        }
        Ok(())
    }

    /// Makes settings a topic's, and its logs'.
    fn put_in_force(&mut self, now: Now, index: TopicIndex, config: TopicConfig) {
        let of_log = self.log_config(&config);
        let Some(topic) = self.topics.get_mut(index) else {
            return;
        };
        let compacts = config.cleanup_compact && !topic.config.cleanup_compact;
        topic.config = Arc::new(config);
        for &partition in &topic.partitions {
            if let Some(partition) = self.partitions.get_mut(partition) {
                partition.log.set_config(of_log.clone());
            }
        }
        if compacts && self.config.cleaner.enable {
            self.cleaner.check_in(self.config.cleaner.backoff_ms, now);
        }
    }

    /// Makes a configuration the broker's, and its topics'.
    pub(crate) fn reconfigure(&mut self, now: Now, config: BrokerConfig) {
        self.config = config;
        for index in self.topics.indexes() {
            let Some(topic) = self.topics.get(index) else {
                continue;
            };
            let given = topic.configs.iter().map(|(k, v)| (&**k, &**v));
            // They were checked when they were set.
            if let Ok((config, _)) = effective_config(&self.config.topic_defaults, given) {
                self.put_in_force(now, index, config);
            }
        }
    }

    /// Creates a topic that has been checked. On an error nothing of it is left that counts.
    pub(crate) fn create_topic(
        &mut self,
        now: Now,
        name: Str,
        partitions: i32,
        config: TopicConfig,
        configs: Vec<(Str, Str)>,
    ) -> Result<TopicIndex, BrokerError> {
        let index = self.begin_topic(name, config, configs);
        let made = self.make_topics(now, &[(index, partitions)]);
        made.into_iter().collect::<Result<(), _>>()?;
        Ok(index)
    }

    /// Takes the name of a topic that has been checked. It has no partitions, and is nowhere but in memory, before
    /// [`Self::make_topics`], which must follow.
    pub(crate) fn begin_topic(
        &mut self,
        name: Str,
        config: TopicConfig,
        configs: Vec<(Str, Str)>,
    ) -> TopicIndex {
        let id = loop {
            let id = Uuid::from_random(self.random.next_u128());
            if !self.topics.by_id.contains_key(&id) {
                break id;
            }
        };
        self.topics.insert(Topic {
            internal: is_internal_topic(&name),
            name,
            id,
            config: Arc::new(config),
            configs,
            partitions: Vec::new(),
        })
    }

    /// Makes topics that were begun, each with so many partitions: what came of each, in their order. On an error nothing of that
    /// topic is left that counts. However many there are, the registry is written once, or twice after an error.
    pub(crate) fn make_topics(
        &mut self,
        now: Now,
        begun: &[(TopicIndex, i32)],
    ) -> Vec<Result<(), BrokerError>> {
        let made = self.grow(now, begun);
        let mut any_failed = false;
        for (&(index, partitions), made) in begun.iter().zip(&made) {
            if made.is_err()
                && let Some(topic) = self.topics.remove(index)
            {
                any_failed = true;
                // Some of its directories may be there.
                self.topics.deleting.push(StoredTopic {
                    partitions,
                    ..topic.deleted()
                });
            }
        }
        if any_failed {
            self.remove_deleted_directories();
            // What matters is that the topic is not in the registry; if even that can't be written, the old one stands.
            let _ = self.write_registry();
        }
        made
    }

    /// Adds partitions to topics, to each so many: first in the registry, so that directories without an entry are never ours, then on
    /// storage. What came of each, in their order.
    pub(crate) fn grow(
        &mut self,
        now: Now,
        additions: &[(TopicIndex, i32)],
    ) -> Vec<Result<(), BrokerError>> {
        if additions.is_empty() {
            return Vec::new();
        }
        let failed = |error: BrokerError| additions.iter().map(|_| Err(error.clone())).collect();
        if let Err(error) = self.replace_stale_checkpoints() {
            return failed(error);
        }
        let mut counts: BTreeMap<Uuid, i32> = BTreeMap::new();
        for (index, count) in additions {
            let Some(topic) = self.topics.get(*index) else {
                return failed(BrokerError::Internal("a topic that is gone"));
            };
            counts.insert(topic.id, topic.partitions.len() as i32 + count);
        }
        let mut stored = self.topics.stored();
        for topic in stored.iter_mut().filter(|topic| !topic.deleting) {
            if let Some(count) = counts.get(&topic.id) {
                topic.partitions = *count;
            }
        }
        if let Err(error) = self.write_stored(&stored) {
            return failed(error);
        }
        let mut opened: Vec<Result<Vec<Partition>, BrokerError>> = Vec::new();
        for (index, count) in additions {
            let old = self.topics.get(*index).map_or(0, |t| t.partitions.len()) as i32;
            let partitions = old..old + count;
            opened.push(
                partitions
                    .map(|number| self.open_partition(now, *index, number, None))
                    .collect(),
            );
        }
        if let Err(error) = self.storage.sync_dir("") {
            return failed(error.into());
        }
        let mut results = Vec::with_capacity(opened.len());
        let mut any_failed = false;
        for ((index, count), opened) in additions.iter().zip(opened) {
            results.push(match opened {
                Ok(partitions) => {
                    for partition in partitions {
                        self.attach(*index, partition);
                    }
                    if let Some(topic) = self.topics.get(*index) {
                        let partitions = topic.partitions.len() as i32;
                        self.groups
                            .handle_topic_changed(&topic.name, topic.id, partitions);
                    }
                    Ok(())
                }
                Err(error) => {
                    // A topic that is being created goes altogether; see there. Of one that grows the new directories go, or they would
                    // be in the way of a later topic of its name.
                    if let Some(topic) = self.topics.get(*index)
                        && !topic.partitions.is_empty()
                    {
                        any_failed = true;
                        let old = topic.partitions.len() as i32;
                        for number in old..old + count {
                            let dir = partition_dir(&topic.name, number);
                            if self.storage.exists(&dir).unwrap_or(false) {
                                let _ = self.storage.remove_dir(&dir);
                            }
                        }
                    }
                    Err(error)
                }
            });
        }
        if any_failed {
            let _ = self.write_registry();
        }
        results
    }

    /// Deletes topics: from now on nobody sees them. Their directories get another name, and go beside the requests. However many
    /// there are, the registry is written once, and once more when the directories are gone.
    pub(crate) fn delete_topics(
        &mut self,
        now: Now,
        indexes: &[TopicIndex],
    ) -> Result<(), BrokerError> {
        for &index in indexes {
            let Some(topic) = self.drop_topic(index) else {
                continue;
            };
            self.groups.handle_topic_deleted(now, &topic.name, topic.id);
            self.share_groups.handle_topic_deleted(topic.id);
            self.share.delete(now, None, Some(topic.id), None);
        }
        self.write_registry()?;
        self.remove_deleted_directories();
        Ok(())
    }

    /// Takes a topic out of memory and answers who waits for it.
    fn drop_topic(&mut self, index: TopicIndex) -> Option<Topic> {
        let topic = self.topics.remove(index)?;
        self.topics.deleting.push(topic.deleted());
        for &partition in &topic.partitions {
            self.abandon_waiters(partition, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            self.partitions.remove(partition);
        }
        self.housekeeping.has_stale_checkpoints = true;
        self.forget_cleaned(&topic.name, &topic.partitions);
        Some(topic)
    }

    pub(crate) fn write_registry(&self) -> Result<(), BrokerError> {
        self.write_stored(&self.topics.stored())
    }

    fn write_stored(&self, stored: &[StoredTopic]) -> Result<(), BrokerError> {
        // Those that are begun and not made yet are not in it: they have no partitions.
        let made = stored.iter().filter(|topic| topic.partitions > 0);
        let registry = Registry {
            kafka: self.kafka,
            topics: made.cloned().collect(),
        };
        Ok(state_files::write_text(
            &*self.storage,
            state_files::TOPICS,
            state_files::topics_text(&registry),
        )?)
    }

    /// `__share_group_state`, created when it is first needed. Returns its partition count.
    pub(crate) fn ensure_share_state_topic(&mut self, now: Now) -> Result<i32, ErrorCode> {
        if let Some(topic) = self.topics.by_name(SHARE_STATE_TOPIC) {
            return Ok(topic.partitions.len() as i32);
        }
        // Not compacted: an update would replace another that says something else. It is kept short by what no snapshot needs.
        let settings = [
            ("cleanup.policy", "delete"),
            ("compression.type", "producer"),
            ("retention.bytes", "-1"),
            ("retention.ms", "-1"),
            ("segment.bytes", "104857600"),
        ];
        let (config, configs) = effective_config(&self.config.topic_defaults, settings.into_iter())
            .map_err(|_| ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        let partitions = check_count(self.config.share.state_partitions)
            .map_err(|_| ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        let name = Str::from_static(SHARE_STATE_TOPIC);
        self.create_topic(now, name, partitions, config, configs)
            .map_err(|_| ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        Ok(partitions)
    }

    /// `__consumer_offsets`, created when it is first needed. Returns its partition count.
    pub(crate) fn ensure_offsets_topic(&mut self, now: Now) -> Result<i32, ErrorCode> {
        if let Some(topic) = self.topics.by_name(OFFSETS_TOPIC) {
            return Ok(topic.partitions.len() as i32);
        }
        let segment_bytes = self.config.offsets_segment_bytes.to_string();
        let settings = [
            ("cleanup.policy", "compact"),
            ("compression.type", "producer"),
            ("segment.bytes", &*segment_bytes),
        ];
        let partitions = self.config.groups.partitions;
        self.ensure_internal_topic(now, OFFSETS_TOPIC, partitions, &settings)
    }

    /// `__transaction_state`, created when it is first needed. Returns its partition count.
    pub(crate) fn ensure_transactions_topic(&mut self, now: Now) -> Result<i32, ErrorCode> {
        if let Some(topic) = self.topics.by_name(TRANSACTIONS_TOPIC) {
            return Ok(topic.partitions.len() as i32);
        }
        let segment_bytes = self.config.transactions.segment_bytes.to_string();
        let settings = [
            ("cleanup.policy", "compact"),
            ("compression.type", "uncompressed"),
            ("min.insync.replicas", "1"),
            ("segment.bytes", &*segment_bytes),
            ("unclean.leader.election.enable", "false"),
        ];
        let partitions = self.config.transactions.partitions;
        self.ensure_internal_topic(now, TRANSACTIONS_TOPIC, partitions, &settings)
    }

    fn ensure_internal_topic(
        &mut self,
        now: Now,
        name: &'static str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Result<i32, ErrorCode> {
        let settings = settings.iter().copied();
        let (config, configs) = effective_config(&self.config.topic_defaults, settings)
            .map_err(|_| ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        check_count(partitions).map_err(|_| ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        let name = Str::from_static(name);
        self.create_topic(now, name, partitions, config, configs)
            .map_err(|_| ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        Ok(partitions)
    }
}
