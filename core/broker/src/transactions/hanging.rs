//! Hanging transactions: open in a partition's log, and unknown to the coordinator, so that nobody would ever end them and
//! `read_committed` would stand still there. A JVM Kafka of before KIP-890 can have left them, or a damaged
//! `__transaction_state`, or a damaged batch of which the header says so (below the durable mark nobody reads more than that).
//!
//! Here none can come about: records are let in only while the coordinator, in the same machine, has their partition in an open
//! transaction. So one that it doesn't have is ended with an abort, when the broker opens, and, to be on the safe side only after
//! the longest time that a transaction may take, with each retention check. Where `__transaction_state` can't be read as a
//! whole nothing is ended, since what it would say of the transaction may be lost: then `WriteTxnMarkers` is up to the
//! administrator, who finds them with `DescribeProducers`.

use alloc::{collections::BTreeSet, format, vec::Vec};
use ottla_protocol::Str;
use ottla_record::Now;

use super::markers::{DecidedBy, Marker};
use crate::{Broker, output::Output, topics::TRANSACTIONS_TOPIC};

impl Broker {
    /// Ends the transactions that hang, of those that have not written for `idle_ms`.
    pub(crate) fn end_hanging_transactions(&mut self, now: Now, idle_ms: i64) {
        if self.transactions.is_incomplete() || self.is_state_damaged() {
            return;
        }
        let is_open = |partition: &crate::partition::Partition| {
            !partition.is_failed() && partition.log.first_undecided_offset().is_some()
        };
        if !self.partitions.iter().any(|(_, p)| is_open(p)) {
            return;
        }
        let known: BTreeSet<(i64, Str, i32)> =
            self.transactions.open_partitions().into_iter().collect();
        let mut hanging = Vec::new();
        for (_, partition) in self.partitions.iter().filter(|(_, p)| is_open(p)) {
            for producer in partition.log.producers().open_transactions() {
                let topic = &partition.topic_name;
                let key = (producer.producer_id, topic.clone(), partition.number);
                let is_idle =
                    producer.last_timestamp.saturating_add(idle_ms) <= now.wall_ms || idle_ms == 0;
                if is_idle && !known.contains(&key) {
                    hanging.push((topic.clone(), partition.number, producer));
                }
            }
        }
        for (topic, partition, producer) in hanging {
            let marker = Marker {
                producer_id: producer.producer_id,
                producer_epoch: producer.epoch,
                committed: false,
                decided_by: DecidedBy::Administrator,
                epoch_was_bumped: false,
            };
            let written = self.write_lone_marker(now, &topic, partition, marker);
            let what = match written {
                Ok(()) => "aborted",
                Err(_) => "could not abort",
            };
            let text = format!(
                "{topic}-{partition}: {what} the transaction of producer {} from offset {} on, which no transactional id has",
                producer.producer_id,
                producer.transaction_start.unwrap_or(-1),
            );
            self.outputs.push_back(Output::Warn(text));
        }
    }

    /// Whether some of `__transaction_state` can't be read.
    fn is_state_damaged(&self) -> bool {
        let topic = self.topics.by_name(TRANSACTIONS_TOPIC);
        let mut partitions = topic.into_iter().flat_map(|topic| &topic.partitions);
        partitions.any(|index| {
            let partition = self.partitions.get(*index);
            partition.is_none_or(|p| p.is_failed() || p.log.damaged_bytes() > 0)
        })
    }
}
