//! Opening a data directory: identity, topics and their logs, and the replay of what coordinators wrote.

use alloc::{format, string::ToString, sync::Arc, vec::Vec};

use ottla_log::{
    LogError, Storage,
    data_dir::{self, MetaProperties, Offsets},
};
use ottla_protocol::{Str, Uuid};
use ottla_record::{BatchHeader, Batches, Limits, Now, RecordRef, control::EndTxnMarker};

use crate::{
    Broker, BrokerConfig, BrokerError, adoption,
    broker::Identity,
    configs::dynamic::DynamicConfigs,
    groups::GroupCoordinator,
    partition::PartitionIndex,
    producer_ids::ProducerIds,
    quotas::{Quotas, store::StoredQuotas},
    random::Random,
    state_files,
    topics::{Checkpoints, OFFSETS_TOPIC, SHARE_STATE_TOPIC, TRANSACTIONS_TOPIC},
};

/// Bytes read at a time while a partition of a coordinator's topic is replayed.
const REPLAY_READ_BYTES: usize = 1 << 20;

/// See [`Broker::open`].
pub(crate) fn open(
    mut config: BrokerConfig,
    storage: Arc<dyn Storage>,
    now: Now,
    seed: u64,
) -> Result<Broker, BrokerError> {
    check(&config)?;
    let mut random = Random::new(seed);
    let identity = open_identity(&config, &*storage, &mut random)?;
    let mut producer_ids = ProducerIds::open(&*storage)?;
    let adopted = adoption::adopt(&*storage, identity.node_id)?;
    producer_ids.pass(adopted.next_producer_id);
    let checkpoints = read_checkpoints(&*storage)?;

    // The coordinator hashes groups over the partitions that there are, whatever the configuration says by now.
    let topics = &adopted.registry.topics;
    if let Some(offsets) = topics
        .iter()
        .find(|topic| !topic.deleting && topic.name == OFFSETS_TOPIC)
    {
        config.groups.partitions = offsets.partitions;
    }
    if let Some(state) = topics
        .iter()
        .find(|topic| !topic.deleting && topic.name == SHARE_STATE_TOPIC)
    {
        config.share.state_partitions = state.partitions;
    }
    if let Some(state) = topics
        .iter()
        .find(|topic| !topic.deleting && topic.name == TRANSACTIONS_TOPIC)
    {
        config.transactions.partitions = state.partitions;
    }
    let groups = GroupCoordinator::new(config.groups.clone(), random.next_u64());
    // A directory keeps its id, and settings of a broker go by it.
    config.node_id = identity.node_id;

    let configs = match &adopted.configs {
        Some(theirs) => {
            theirs.write(&*storage)?;
            theirs.clone()
        }
        None => DynamicConfigs::read(&*storage)?,
    };
    let quotas = match &adopted.quotas {
        Some(theirs) => {
            theirs.write(&*storage)?;
            theirs.clone()
        }
        None => StoredQuotas::read(&*storage)?,
    };
    let quotas = Quotas::new(quotas, &config);
    let mut broker = Broker::assemble(
        (config, configs),
        storage,
        identity,
        producer_ids,
        random,
        groups,
        now,
    );
    broker.quotas = quotas;
    broker.put_groups_in_force();
    broker.put_subscriptions_in_force();
    broker.open_topics(now, &checkpoints, adopted)?;
    broker.sync_what_was_recovered();
    broker.open_cleaner(now);
    replay(&mut broker, OFFSETS_TOPIC, replay_offsets)?;
    replay(&mut broker, SHARE_STATE_TOPIC, replay_share_state)?;
    let Broker {
        groups,
        share_groups,
        share,
        topics,
        config,
        ..
    } = &mut broker;
    for topic in topics.iter() {
        groups.handle_topic_changed(&topic.name, topic.id, topic.partitions.len() as i32);
    }
    groups.replay_finished(now, |name| topics.by_name(name).is_some());
    share_groups.replay_finished(
        now,
        &config.share,
        |id| topics.by_id(id).is_some(),
        |key| share.describe(key).is_some(),
    );
    share.replay_finished(now, |key| {
        topics.by_id(&key.topic_id).is_some()
            && share_groups.knows(&key.group, &key.topic_id, key.partition)
    });
    replay(&mut broker, TRANSACTIONS_TOPIC, replay_transactions)?;
    if let Some(id) = broker.transactions.max_producer_id() {
        broker.producer_ids.pass(id.saturating_add(1));
    }
    broker.transactions.replay_finished(now);
    broker.end_hanging_transactions(now, 0);
    broker.settle(now);
    Ok(broker)
}

fn check(config: &BrokerConfig) -> Result<(), BrokerError> {
    let bad = |why: &str| Err(BrokerError::InvalidConfig(why.to_string()));
    if config.node_id < 0 {
        return bad("node.id must be at least 0");
    }
    if config.num_partitions < 1 {
        return bad("num.partitions must be at least 1");
    }
    if config.groups.partitions < 1 {
        return bad("offsets.topic.num.partitions must be at least 1");
    }
    if config.transactions.partitions < 1 {
        return bad("transaction.state.log.num.partitions must be at least 1");
    }
    if config.transactions.max_timeout_ms < 1 {
        return bad("transaction.max.timeout.ms must be at least 1");
    }
    Ok(())
}

fn open_identity(
    config: &BrokerConfig,
    storage: &dyn Storage,
    random: &mut Random,
) -> Result<Identity, BrokerError> {
    let failed = |error| BrokerError::Log {
        partition: data_dir::META_PROPERTIES.into(),
        error,
    };
    if let Some(stored) = MetaProperties::read(storage).map_err(failed)? {
        let stored_id = Str::from(stored.cluster_id);
        return match &config.cluster_id {
            Some(configured) if *configured != stored_id => {
                Err(BrokerError::InconsistentClusterId {
                    stored: stored_id,
                    configured: configured.clone(),
                })
            }
            _ => Ok(Identity {
                cluster_id: stored_id,
                node_id: stored.node_id,
            }),
        };
    }
    if storage.exists(state_files::TOPICS)? {
        return Err(BrokerError::Corrupt {
            path: data_dir::META_PROPERTIES.into(),
            why: format!("it is missing, but {} is there", state_files::TOPICS),
        });
    }
    let cluster_id = match &config.cluster_id {
        Some(id) => id.clone(),
        None => Str::from(Uuid::from_random(random.next_u128()).to_string()),
    };
    let made = MetaProperties {
        cluster_id: cluster_id.to_string(),
        node_id: config.node_id,
        directory_id: Some(Uuid::from_random(random.next_u128()).to_string()),
    };
    made.write(storage, "written by Ottla").map_err(failed)?;
    Ok(Identity {
        cluster_id,
        node_id: config.node_id,
    })
}

/// Reads the checkpoints, and takes the mark of a clean stop away: from here on a crash is a crash.
///
/// A damaged checkpoint is begun anew, as in Kafka: logs have their own marks of what is durable, and begin with their first
/// segment. What was deleted and is still in that segment is seen again.
fn read_checkpoints(storage: &dyn Storage) -> Result<Checkpoints, BrokerError> {
    let read = |path: &str| match data_dir::read_offsets(storage, path) {
        Err(LogError::Damaged(_)) => Ok(Offsets::new()),
        read => read.map_err(|error| BrokerError::Log {
            partition: path.into(),
            error,
        }),
    };
    Ok(Checkpoints {
        recovery_points: read(data_dir::RECOVERY_POINTS)?,
        log_starts: read(data_dir::LOG_STARTS)?,
        clean: data_dir::take_clean_shutdown(storage)
            .map_err(|error| BrokerError::Log {
                partition: data_dir::CLEAN_SHUTDOWN.into(),
                error,
            })?
            .is_some(),
    })
}

/// A record of `__consumer_offsets`, with the number of its partition and the header of its batch.
fn replay_offsets(
    broker: &mut Broker,
    partition: i32,
    header: &BatchHeader,
    record: &RecordRef<'_>,
) {
    let Some(key) = record.key else { return };
    let attributes = header.attributes;
    if attributes.is_control() {
        let marker = record.value.map(|value| EndTxnMarker::parse(key, value));
        if let Some(Ok(Some(marker))) = marker {
            let producer_id = header.producer_id;
            broker
                .groups
                .complete_transaction(partition, producer_id, marker.committed);
        }
    } else if attributes.is_transactional() {
        broker
            .groups
            .replay_transactional(header.producer_id, key, record.value);
    } else if !broker.share_groups.replay(key, record.value) {
        broker.groups.replay(key, record.value);
    }
}

/// A record of `__share_group_state`.
fn replay_share_state(broker: &mut Broker, _: i32, header: &BatchHeader, record: &RecordRef<'_>) {
    if let Some(key) = record.key
        && !header.attributes.is_control()
    {
        broker.share.replay(record.offset, key, record.value);
    }
}

/// A record of `__transaction_state`.
fn replay_transactions(broker: &mut Broker, _: i32, header: &BatchHeader, record: &RecordRef<'_>) {
    if let Some(key) = record.key
        && !header.attributes.is_control()
    {
        broker.transactions.replay(key, record.value);
    }
}

/// Hands every record of a coordinator's topic to it, up to the log end, as Kafka does: what a crash left unsynced behind the
/// high watermark is part of the log now, and was synced just before.
fn replay(
    broker: &mut Broker,
    topic: &str,
    mut each: impl FnMut(&mut Broker, i32, &BatchHeader, &RecordRef<'_>),
) -> Result<(), BrokerError> {
    let partitions: Vec<PartitionIndex> = match broker.topics.by_name(topic) {
        Some(topic) => topic.partitions.clone(),
        None => return Ok(()),
    };
    let limits = Limits {
        decompressed_bytes: broker.config.max_decompressed_bytes,
    };
    for index in partitions {
        let Some(partition) = broker.partitions.get(index) else {
            continue;
        };
        let number = partition.number;
        let name = format!("{}-{}", partition.topic_name, partition.number);
        let corrupt = |why: alloc::string::String| BrokerError::Corrupt {
            path: name.clone(),
            why,
        };
        let end = partition.log.log_end_offset();
        let mut next = partition.log.log_start_offset();
        while next < end {
            let Some(partition) = broker.partitions.get_mut(index) else {
                break;
            };
            let slice = partition
                .log
                .read(next, REPLAY_READ_BYTES, true, end)
                .map_err(|error| BrokerError::Log {
                    partition: name.clone(),
                    error,
                })?;
            let before = next;
            for batch in Batches::new(slice.chunks) {
                let batch = batch.map_err(|e| corrupt(e.to_string()))?;
                next = batch.header().next_offset();
                batch.check_crc().map_err(|e| corrupt(e.to_string()))?;
                let mut records = batch.records(limits).map_err(|e| corrupt(e.to_string()))?;
                while let Some(record) = records.next_record() {
                    let record = record.map_err(|e| corrupt(e.to_string()))?;
                    if record.offset >= before {
                        each(broker, number, batch.header(), &record);
                    }
                }
            }
            let damaged = broker.partitions.get(index);
            let damaged = damaged.map_or(0, |partition| partition.log.damaged_bytes());
            if next == before && damaged > 0 {
                // All that is left of it is damaged, and noted as such; the groups go on with what there was before.
                break;
            }
            if next == before {
                return Err(corrupt(format!(
                    "nothing can be read at offset {next}, before the log end {end}"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Durability,
        testing::{Harness, START_MS, batch, values},
    };
    use ottla_log::{MemoryStorage, OpenHow};
    use std::vec;

    fn open_again(h: &Harness, config: BrokerConfig) -> Result<Broker, BrokerError> {
        Broker::open(config, h.storage.clone(), Now::new(0, START_MS), 7)
    }

    #[test]
    fn a_directory_keeps_its_identity() {
        let h = Harness::new(Durability::Os);
        let cluster_id = h.broker.cluster_id().clone();
        let other = BrokerConfig {
            node_id: 5,
            ..BrokerConfig::default()
        };
        let again = open_again(&h, other).unwrap();
        assert_eq!((again.cluster_id(), again.node_id()), (&cluster_id, 1));
        let wrong = BrokerConfig {
            cluster_id: Some("other".into()),
            ..BrokerConfig::default()
        };
        assert!(matches!(
            open_again(&h, wrong),
            Err(BrokerError::InconsistentClusterId { .. })
        ));
    }

    #[test]
    fn damage_is_an_error_not_a_guess() {
        for path in [
            state_files::TOPICS,
            state_files::PRODUCER_IDS,
            data_dir::META_PROPERTIES,
        ] {
            let mut h = Harness::new(Durability::Os);
            h.create_topic("t", 1, &[]);
            h.broker.producer_ids.take(&*h.storage).unwrap();
            h.broker.close(h.now).unwrap();
            let mut file = h.storage.open(path, OpenHow::Existing).unwrap();
            let half = file.len() / 2;
            file.truncate(half).unwrap();
            assert!(open_again(&h, BrokerConfig::default()).is_err(), "{path}");
        }
        for path in [data_dir::RECOVERY_POINTS, data_dir::LOG_STARTS] {
            let mut h = Harness::new(Durability::Os);
            h.create_topic("t", 1, &[]);
            h.produce("t", 0, batch(&["there"]));
            h.broker.close(h.now).unwrap();
            let mut file = h.storage.open(path, OpenHow::Existing).unwrap();
            file.write_at(0, &[0xff, b'x']).unwrap();
            drop(file);
            let mut h = h.restart(false);
            assert_eq!(values(&h.fetch("t", 0, 0).records), ["there"], "{path}");
        }
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        h.storage.remove_file(data_dir::META_PROPERTIES).unwrap();
        assert!(
            open_again(&h, BrokerConfig::default()).is_err(),
            "topics without an identity"
        );
    }

    #[test]
    fn damage_is_counted_by_partition() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 2, &[]);
        for value in ["first", "second", "third"] {
            h.produce("t", 1, batch(&[value]));
        }
        h.broker.close(h.now).unwrap();
        let path = "t-1/00000000000000000000.log";
        let mut file = h.storage.open(path, OpenHow::Existing).unwrap();
        let third = file.len() / 3;
        file.write_at(third + 68, b"?").unwrap();
        drop(file);
        let mut h = h.restart(false);
        assert_eq!(values(&h.fetch("t", 1, 0).records), ["first"]);
        assert_eq!(values(&h.fetch("t", 1, 1).records), ["third"]);
        let damaged: Vec<_> = h.broker.damaged_bytes().collect();
        assert_eq!(damaged.len(), 1);
        let (topic, partition, bytes) = damaged[0];
        assert_eq!((&**topic, partition), ("t", 1));
        assert!(bytes.abs_diff(third) < 3, "{bytes} of {third}");
    }

    #[test]
    fn a_torn_end_is_cut_and_reported() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        h.produce("t", 0, batch(&["whole"]));
        let torn = batch(&["torn"]).to_bytes();
        let mut file = h
            .storage
            .open("t-0/00000000000000000000.log", OpenHow::Existing)
            .unwrap();
        file.append(&[torn.slice(..torn.len() - 3)]).unwrap();
        drop(file);
        let mut h = h.restart(false);
        assert_eq!(h.broker.recoveries().len(), 1);
        assert_eq!(h.broker.recoveries()[0].0, "t-0");
        let told = h.warnings.concat();
        assert!(told.contains("t-0: cut "), "{told}");
        assert_eq!(values(&h.fetch("t", 0, 0).records), ["whole"]);
        assert_eq!(h.produce("t", 0, batch(&["next"])).base_offset, 1);
    }

    #[test]
    fn bad_settings() {
        for config in [
            BrokerConfig {
                node_id: -1,
                ..BrokerConfig::default()
            },
            BrokerConfig {
                num_partitions: 0,
                ..BrokerConfig::default()
            },
        ] {
            let opened = Broker::open(config, Arc::new(MemoryStorage::new()), Now::default(), 1);
            assert!(matches!(opened, Err(BrokerError::InvalidConfig(_))));
        }
    }

    #[test]
    fn the_same_inputs_give_the_same_outputs() {
        let run = || {
            let mut h = Harness::new(Durability::Fsync);
            let mut seen = vec![alloc::format!("{:?}", h.broker.cluster_id())];
            h.create_topic("t", 3, &[]);
            for i in 0..30 {
                h.send_produce("t", i % 3, -1, batch(&["v"]));
                h.send(11, crate::testing::fetch_request("t", i % 3, 0, 100));
                if i % 4 == 0 {
                    h.sync_all();
                }
                h.pass_ms(30);
            }
            seen.extend(h.answers.iter().map(|answer| alloc::format!("{answer:?}")));
            seen
        };
        assert_eq!(run(), run());
    }
}
