//! For how long an answer tells its client to wait.

use crate::Response;

/// The field of an answer, by a pattern that binds the answer; `$none` where there is none.
macro_rules! throttle_field {
    ($response:expr, $answer:ident => $field:expr, $none:expr) => {
        throttle_field!(
            $response, $answer => $field, $none,
            Produce, Fetch, ListOffsets, Metadata, OffsetCommit, OffsetFetch, FindCoordinator, JoinGroup, Heartbeat,
            LeaveGroup, SyncGroup, DescribeGroups, ListGroups, ApiVersions, CreateTopics, DeleteTopics, DeleteRecords,
            InitProducerId, OffsetForLeaderEpoch, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn, TxnOffsetCommit,
            DescribeConfigs, AlterConfigs, DescribeLogDirs, CreatePartitions, DeleteGroups, ElectLeaders,
            IncrementalAlterConfigs, ListPartitionReassignments, OffsetDelete, DescribeClientQuotas, AlterClientQuotas,
            DescribeCluster, DescribeProducers, DescribeTransactions, ListTransactions, ConsumerGroupHeartbeat,
            ConsumerGroupDescribe, ListConfigResources, DescribeTopicPartitions, ShareGroupHeartbeat,
            ShareGroupDescribe, ShareFetch, ShareAcknowledge, DescribeShareGroupOffsets, AlterShareGroupOffsets,
            GetTelemetrySubscriptions, PushTelemetry,
            DeleteShareGroupOffsets
        )
    };
    ($response:expr, $answer:ident => $field:expr, $none:expr, $($name:ident),*) => {
        match $response {
            $(Response::$name($answer) => $field,)*
            // What is between brokers, which quotas are not for (WriteTxnMarkers).
            _ => $none,
        }
    };
}

impl Response {
    /// For how many milliseconds its client is to wait, because it has used up a quota (KIP-219); 0 if it isn't to, or if such answers
    /// don't tell.
    pub fn throttle_time_ms(&self) -> u32 {
        let throttle_ms = throttle_field!(self, answer => answer.throttle_time_ms, 0);
        u32::try_from(throttle_ms).unwrap_or(0)
    }

    /// The field itself, to be set. `None` if such answers have none.
    pub fn throttle_time_ms_mut(&mut self) -> Option<&mut i32> {
        throttle_field!(self, answer => Some(&mut answer.throttle_time_ms), None)
    }
}
