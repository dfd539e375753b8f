//! What the other files' cases leave out: repetitions in one request, values at their bounds, members of one kind of group that ask
//! for another, static members, transactions of both versions.

mod configs;
mod groups;
mod records;
mod topics;
mod transactions;

use super::*;
use ApiKey::*;

pub const CASES: &[Row] = &[
    ("edges: delete topics", DeleteTopics, topics::delete_topics),
    ("edges: metadata", Metadata, topics::metadata),
    (
        "edges: topic settings",
        CreateTopics,
        topics::topic_settings,
    ),
    (
        "edges: far too many partitions",
        CreateTopics,
        topics::far_too_many,
    ),
    (
        "edges: create partitions",
        CreatePartitions,
        topics::partitions,
    ),
    (
        "edges: other settings",
        IncrementalAlterConfigs,
        configs::settings,
    ),
    ("edges: replaced settings", AlterConfigs, configs::replaced),
    (
        "edges: described settings",
        DescribeConfigs,
        configs::described,
    ),
    ("edges: client quotas", AlterClientQuotas, configs::quotas),
    ("edges: elect leaders", ElectLeaders, topics::elect),
    (
        "edges: static classic members",
        JoinGroup,
        groups::static_classic,
    ),
    (
        "edges: static consumers",
        ConsumerGroupHeartbeat,
        groups::static_consumers,
    ),
    (
        "edges: groups of another kind",
        ConsumerGroupHeartbeat,
        groups::kinds,
    ),
    (
        "edges: consumers that go classic",
        JoinGroup,
        groups::goes_classic,
    ),
    ("edges: fetch", Fetch, records::fetch),
    ("edges: list offsets", ListOffsets, records::list),
    ("edges: produce", Produce, records::produce),
    (
        "edges: transactions of version 2",
        EndTxn,
        transactions::second_version,
    ),
    (
        "edges: taken over",
        InitProducerId,
        transactions::taken_over,
    ),
    (
        "edges: an end that was not heard of",
        InitProducerId,
        transactions::unheard,
    ),
];

/// A fetch of a topic's first partition from its beginning.
fn fetch_all(topic: &str, isolation_level: i8) -> Request {
    Request::Fetch(FetchRequest {
        replica_id: -1,
        max_wait_ms: 50,
        min_bytes: 1,
        max_bytes: 1 << 20,
        isolation_level,
        session_epoch: -1,
        topics: vec![fetch::FetchTopic {
            topic: topic.into(),
            partitions: vec![fetch::FetchPartition {
                partition: 0,
                current_leader_epoch: -1,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    })
}
