//! What a consumer tells of itself for `stats_cb`.

use super::assignors::TopicPartition;
use super::machine::Consumer;
use super::partition::Phase;
use crate::statistics::ConsumedPartitionStatistics;

impl Consumer {
    /// Each assigned partition.
    pub(crate) fn partition_statistics(
        &self,
    ) -> impl Iterator<Item = ConsumedPartitionStatistics> + '_ {
        self.partitions.iter().map(|(key, partition)| {
            let (topic, number): &TopicPartition = key;
            ConsumedPartitionStatistics {
                topic: topic.clone(),
                partition: *number,
                queued: partition.queued_records,
                queued_bytes: partition.queued_bytes,
                fetch_state: match partition.phase {
                    Phase::NeedsCommitted | Phase::NeedsOffset(_) if !partition.asked => {
                        "offset-query"
                    }
                    Phase::NeedsCommitted | Phase::NeedsOffset(_) | Phase::Asking => "offset-wait",
                    Phase::Fetching => "active",
                    Phase::Stuck => "stopped",
                },
                next_offset: partition.fetch_offset,
                position: partition.shared.position(),
                stored: partition.shared.stored_offset(),
                stored_epoch: partition.shared.stored_epoch(),
                committed: partition.committed,
                eof: partition.eof_at,
                low: partition.low,
                high: partition.high,
                rx_messages: partition.rx.0 + partition.queued_records as u64,
                rx_bytes: partition.rx.1 + partition.queued_bytes as u64,
            }
        })
    }

    /// Records that the application took so far, and bytes of their batches.
    pub(crate) fn received(&self) -> (u64, u64) {
        self.rx
    }
}
