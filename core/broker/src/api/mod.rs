//! What the broker answers: one file per API key.
//!
//! A handler is `fn handle(&mut Broker, Now, &RequestContext, XRequest) -> Handled`. To add a key: its field table in
//! `core/protocol`, its file here, its lines in [`SERVED`] and [`dispatch`]. What is not served is not
//! advertised: `ApiVersions` lists what is here, in the versions of `ApiKey::broker_versions`.
//!
//! Each file opens with what the request is for, which versions it serves (a test compares them with the table) and where it departs
//! from Kafka; `docs/deviations.md` has the reasons. What departs everywhere isn't repeated there: an answer that says that something
//! was written waits, with `durability=fsync`, until it is on disk; a partition whose log has failed answers KAFKA_STORAGE_ERROR until
//! the broker is opened again; what changes topics is done when it is answered, so that its `timeout_ms` says nothing; and the one
//! broker is leader, replica, coordinator and controller of everything.

use core::{hash::Hash, ops::RangeInclusive};

use hashbrown::HashSet;
use ottla_protocol::{ApiKey, Request};
use ottla_record::Now;

use crate::{
    Broker, BrokerConfig,
    context::{Handled, RequestContext},
};

mod add_offsets_to_txn;
mod add_partitions_to_txn;
pub(crate) mod alter_client_quotas;
mod alter_configs;
mod alter_share_group_offsets;
pub(crate) mod api_versions;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_share_group_offsets;
mod delete_topics;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_share_group_offsets;
mod describe_topic_partitions;
mod describe_transactions;
mod elect_leaders;
mod end_txn;
#[cfg(test)]
mod every_version;
pub(crate) mod fetch;
mod find_coordinator;
mod get_telemetry_subscriptions;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod list_transactions;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
pub(crate) mod produce;
#[cfg(test)]
mod proportion;
mod push_telemetry;
pub(crate) mod share_acknowledge;
pub(crate) mod share_fetch;
mod share_group_describe;
mod share_group_heartbeat;
mod sync_group;
pub(crate) mod txn_offset_commit;
mod write_txn_markers;

pub(crate) use create_topics::check_count;

/// The keys that are served, in the order of their numbers; [`is_on`] says which of them need a setting.
pub(crate) const SERVED: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::EndTxn,
    ApiKey::WriteTxnMarkers,
    ApiKey::TxnOffsetCommit,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::DescribeLogDirs,
    ApiKey::CreatePartitions,
    ApiKey::DeleteGroups,
    ApiKey::ElectLeaders,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::ListPartitionReassignments,
    ApiKey::OffsetDelete,
    ApiKey::DescribeClientQuotas,
    ApiKey::AlterClientQuotas,
    ApiKey::DescribeCluster,
    ApiKey::DescribeProducers,
    ApiKey::DescribeTransactions,
    ApiKey::ListTransactions,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
    ApiKey::GetTelemetrySubscriptions,
    ApiKey::PushTelemetry,
    ApiKey::ListConfigResources,
    ApiKey::DescribeTopicPartitions,
    ApiKey::ShareGroupHeartbeat,
    ApiKey::ShareGroupDescribe,
    ApiKey::ShareFetch,
    ApiKey::ShareAcknowledge,
    ApiKey::DescribeShareGroupOffsets,
    ApiKey::AlterShareGroupOffsets,
    ApiKey::DeleteShareGroupOffsets,
];

/// The lowest version of `Produce` that is answered.
const PRODUCE_MIN_SERVED: i16 = 3;

/// Whether this broker serves the key, which is one of [`SERVED`].
pub(crate) fn is_on(key: ApiKey, config: &BrokerConfig) -> bool {
    match key {
        ApiKey::GetTelemetrySubscriptions | ApiKey::PushTelemetry => config.client_telemetry,
        _ => true,
    }
}

/// Whether a request of this key and version is answered.
pub(crate) fn is_served(key: ApiKey, version: i16, config: &BrokerConfig) -> bool {
    SERVED.contains(&key)
        && is_on(key, config)
        && key.broker_versions().contains(&version)
        && (key != ApiKey::Produce || version >= PRODUCE_MIN_SERVED)
}

/// The versions that `ApiVersions` tells. `Produce` is told from 0 on, as Kafka does: older clients look at that to learn
/// whether they may compress (KAFKA-18659).
pub(crate) fn advertised_versions(key: ApiKey) -> RangeInclusive<i16> {
    match key {
        ApiKey::Produce => 0..=*key.broker_versions().end(),
        _ => key.broker_versions(),
    }
}

/// How far a consumer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// To the high watermark.
    ReadUncommitted,
    /// To the last stable offset.
    ReadCommitted,
}

/// The isolation level that a request has; `None` of another number, which Kafka answers with UNKNOWN_SERVER_ERROR.
pub(crate) fn isolation(level: i8) -> Option<Isolation> {
    match level {
        0 => Some(Isolation::ReadUncommitted),
        1 => Some(Isolation::ReadCommitted),
        _ => None,
    }
}

/// What is in a list more than once. A long list costs time in proportion to its length, not to its square.
pub(crate) fn repeated<T: Clone + Eq + Hash>(items: impl Iterator<Item = T>) -> HashSet<T> {
    let mut seen = HashSet::new();
    items.filter(|item| !seen.insert(item.clone())).collect()
}

/// How many repetitions one request may have.
const MOST_REPETITIONS: usize = 100;

/// Whether a request names things again more often than anybody has a reason to. What is named twice is told twice, as in Kafka; but a
/// name of a few bytes can stand for an answer of many, and memory is to stay in proportion to what was sent. Such a request ends its
/// connection.
pub(crate) fn repeats_itself<T: Eq + Hash>(items: impl Iterator<Item = T>) -> bool {
    let mut seen = HashSet::new();
    let mut again = items.filter_map(|item| (!seen.insert(item)).then_some(()));
    again.nth(MOST_REPETITIONS).is_some()
}

/// Hands a request to its file.
pub(crate) fn dispatch(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: Request,
) -> Handled {
    match request {
        Request::Produce(r) => produce::handle(broker, now, context, r),
        Request::Fetch(r) => fetch::handle(broker, now, context, r),
        Request::ListOffsets(r) => list_offsets::handle(broker, now, context, r),
        Request::Metadata(r) => metadata::handle(broker, now, context, r),
        Request::OffsetCommit(r) => offset_commit::handle(broker, now, context, r),
        Request::OffsetFetch(r) => offset_fetch::handle(broker, now, context, r),
        Request::FindCoordinator(r) => find_coordinator::handle(broker, now, context, r),
        Request::JoinGroup(r) => join_group::handle(broker, now, context, r),
        Request::Heartbeat(r) => heartbeat::handle(broker, now, context, r),
        Request::LeaveGroup(r) => leave_group::handle(broker, now, context, r),
        Request::SyncGroup(r) => sync_group::handle(broker, now, context, r),
        Request::DescribeGroups(r) => describe_groups::handle(broker, now, context, r),
        Request::ListGroups(r) => list_groups::handle(broker, now, context, r),
        Request::ApiVersions(r) => api_versions::handle(broker, now, context, r),
        Request::CreateTopics(r) => create_topics::handle(broker, now, context, r),
        Request::DeleteTopics(r) => delete_topics::handle(broker, now, context, r),
        Request::InitProducerId(r) => init_producer_id::handle(broker, now, context, r),
        Request::DeleteRecords(r) => delete_records::handle(broker, now, context, r),
        Request::DescribeClientQuotas(r) => describe_client_quotas::handle(broker, now, context, r),
        Request::AlterClientQuotas(r) => alter_client_quotas::handle(broker, now, context, r),
        Request::AlterConfigs(r) => alter_configs::handle(broker, now, context, r),
        Request::IncrementalAlterConfigs(r) => {
            incremental_alter_configs::handle(broker, now, context, r)
        }
        Request::ListConfigResources(r) => list_config_resources::handle(broker, now, context, r),
        Request::DescribeConfigs(r) => describe_configs::handle(broker, now, context, r),
        Request::CreatePartitions(r) => create_partitions::handle(broker, now, context, r),
        Request::DeleteGroups(r) => delete_groups::handle(broker, now, context, r),
        Request::OffsetDelete(r) => offset_delete::handle(broker, now, context, r),
        Request::DescribeCluster(r) => describe_cluster::handle(broker, now, context, r),
        Request::OffsetForLeaderEpoch(r) => {
            offset_for_leader_epoch::handle(broker, now, context, r)
        }
        Request::DescribeLogDirs(r) => describe_log_dirs::handle(broker, now, context, r),
        Request::ElectLeaders(r) => elect_leaders::handle(broker, now, context, r),
        Request::ListPartitionReassignments(r) => {
            list_partition_reassignments::handle(broker, now, context, r)
        }
        Request::DescribeTopicPartitions(r) => {
            describe_topic_partitions::handle(broker, now, context, r)
        }
        Request::GetTelemetrySubscriptions(r) => {
            get_telemetry_subscriptions::handle(broker, now, context, r)
        }
        Request::PushTelemetry(r) => push_telemetry::handle(broker, now, context, r),
        Request::ShareGroupHeartbeat(r) => share_group_heartbeat::handle(broker, now, context, r),
        Request::ShareGroupDescribe(r) => share_group_describe::handle(broker, now, context, r),
        Request::ShareFetch(r) => share_fetch::handle(broker, now, context, r),
        Request::ShareAcknowledge(r) => share_acknowledge::handle(broker, now, context, r),
        Request::DescribeShareGroupOffsets(r) => {
            describe_share_group_offsets::handle(broker, now, context, r)
        }
        Request::AlterShareGroupOffsets(r) => {
            alter_share_group_offsets::handle(broker, now, context, r)
        }
        Request::DeleteShareGroupOffsets(r) => {
            delete_share_group_offsets::handle(broker, now, context, r)
        }
        Request::ConsumerGroupHeartbeat(r) => {
            consumer_group_heartbeat::handle(broker, now, context, r)
        }
        Request::ConsumerGroupDescribe(r) => {
            consumer_group_describe::handle(broker, now, context, r)
        }
        Request::AddPartitionsToTxn(r) => add_partitions_to_txn::handle(broker, now, context, r),
        Request::AddOffsetsToTxn(r) => add_offsets_to_txn::handle(broker, now, context, r),
        Request::EndTxn(r) => end_txn::handle(broker, now, context, r),
        Request::WriteTxnMarkers(r) => write_txn_markers::handle(broker, now, context, r),
        Request::TxnOffsetCommit(r) => txn_offset_commit::handle(broker, now, context, r),
        Request::DescribeProducers(r) => describe_producers::handle(broker, now, context, r),
        Request::DescribeTransactions(r) => describe_transactions::handle(broker, now, context, r),
        Request::ListTransactions(r) => list_transactions::handle(broker, now, context, r),
        // `is_served` let none of the others through.
        _ => Handled::Disconnect,
    }
}
