//! Opening a data directory: identity, topics and their logs, and the replay of what coordinators wrote.

use alloc::{format, string::ToString, sync::Arc, vec::Vec};

use ottla_log::{
    Storage,
    data_dir::{self, MetaProperties},
};
use ottla_protocol::{Str, Uuid};
use ottla_record::{Batches, Limits, Now};

use crate::{
    Broker, BrokerConfig, BrokerError,
    broker::Identity,
    groups::{GroupCoordinator, ReplayedRecord},
    partition::PartitionIndex,
    producer_ids::ProducerIds,
    random::Random,
    state_files,
    topics::{Checkpoints, OFFSETS_TOPIC},
};

/// Bytes read at a time while a partition of `__consumer_offsets` is replayed.
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
    let checkpoints = read_checkpoints(&*storage)?;
    let producer_ids = ProducerIds::open(&*storage)?;

    // The coordinator hashes groups over the partitions that there are, whatever the configuration says by now.
    if let Some(text) = state_files::read_text(&*storage, state_files::TOPICS)? {
        let stored = state_files::parse_topics(&text)?;
        if let Some(offsets) = stored
            .iter()
            .find(|topic| !topic.deleting && topic.name == OFFSETS_TOPIC)
        {
            config.groups.partitions = offsets.partitions;
        }
    }
    let groups = GroupCoordinator::new(config.groups.clone(), random.next_u64());

    let mut broker = Broker::assemble(config, storage, identity, producer_ids, random, groups, now);
    broker.open_topics(now, &checkpoints)?;
    replay_offsets(&mut broker)?;
    broker.groups.replay_finished(now);
    broker.sync_what_was_recovered();
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
    Ok(())
}

fn open_identity(
    config: &BrokerConfig,
    storage: &dyn Storage,
    random: &mut Random,
) -> Result<Identity, BrokerError> {
    let failed = |error| BrokerError::Log { partition: data_dir::META_PROPERTIES.into(), error };
    if let Some(stored) = MetaProperties::read(storage).map_err(failed)? {
        let stored_id = Str::from(stored.cluster_id);
        return match &config.cluster_id {
            Some(configured) if *configured != stored_id => {
                Err(BrokerError::InconsistentClusterId { stored: stored_id, configured: configured.clone() })
            }
            _ => Ok(Identity { cluster_id: stored_id, node_id: stored.node_id }),
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
    Ok(Identity { cluster_id, node_id: config.node_id })
}

/// Reads the checkpoints, and takes the mark of a clean stop away: from here on a crash is a crash.
fn read_checkpoints(storage: &dyn Storage) -> Result<Checkpoints, BrokerError> {
    let read = |path: &str| {
        data_dir::read_offsets(storage, path).map_err(|error| BrokerError::Log { partition: path.into(), error })
    };
    Ok(Checkpoints {
        recovery_points: read(data_dir::RECOVERY_POINTS)?,
        log_starts: read(data_dir::LOG_STARTS)?,
        clean: data_dir::take_clean_shutdown(storage)
            .map_err(|error| BrokerError::Log { partition: data_dir::CLEAN_SHUTDOWN.into(), error })?,
    })
}

/// Hands every record of `__consumer_offsets` to the coordinator, up to the log end, as Kafka does: what a crash left
/// unsynced behind the high watermark is part of the log now and is synced before anything is answered from it.
fn replay_offsets(broker: &mut Broker) -> Result<(), BrokerError> {
    let partitions: Vec<PartitionIndex> = match broker.topics.by_name(OFFSETS_TOPIC) {
        Some(topic) => topic.partitions.clone(),
        None => return Ok(()),
    };
    let limits = Limits { decompressed_bytes: broker.config.max_decompressed_bytes };
    for index in partitions {
        let Some(partition) = broker.partitions.get_mut(index) else {
            continue;
        };
        let name = format!("{}-{}", partition.topic_name, partition.number);
        let corrupt = |why: alloc::string::String| BrokerError::Corrupt {
            path: name.clone(),
            why,
        };
        let end = partition.log.log_end_offset();
        let mut next = partition.log.log_start_offset();
        while next < end {
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
                if batch.header().attributes.is_control() {
                    continue;
                }
                batch.check_crc().map_err(|e| corrupt(e.to_string()))?;
                let mut records = batch.records(limits).map_err(|e| corrupt(e.to_string()))?;
                while let Some(record) = records.next_record() {
                    let record = record.map_err(|e| corrupt(e.to_string()))?;
                    if let Some(key) = record.key
                        && record.offset >= before
                    {
                        broker.groups.replay(ReplayedRecord {
                            partition: partition.number,
                            offset: record.offset,
                            timestamp: record.timestamp,
                            key,
                            value: record.value,
                        });
                    }
                }
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
