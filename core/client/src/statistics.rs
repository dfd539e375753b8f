//! Counters for the statistics that `statistics.interval.ms` makes the façade emit.

use crate::consumer::Consumer;
use crate::metadata::BrokerAddress;
use crate::network::Network;
use crate::producer::Producer;
use alloc::vec::Vec;
use ottla_protocol::Str;

/// What is counted of a broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BrokerCounters {
    /// Requests sent.
    pub tx: u64,
    /// Answers received.
    pub rx: u64,
    /// Connections that were tried.
    pub connects: u64,
    /// Connections that ended.
    pub disconnects: u64,
    /// Requests that timed out.
    pub request_timeouts: u64,
}

/// Values that were measured since the statistics were taken last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// The least of them, or 0.
    pub min: u32,
    /// The greatest of them, or 0.
    pub max: u32,
}

impl Window {
    pub(crate) fn add(&mut self, value: u32) {
        self.min = if self.count == 0 {
            value
        } else {
            self.min.min(value)
        };
        self.max = self.max.max(value);
        self.sum += u64::from(value);
        self.count += 1;
    }

    /// Their mean, or 0.
    pub fn average(&self) -> u64 {
        self.sum.checked_div(self.count).unwrap_or(0)
    }
}

/// One connection to a broker. A consumer has two to its coordinator: one for data, one for the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerStatistics {
    /// Node id; negative for a bootstrap address.
    pub node: i32,
    /// Whether it is the one for the group.
    pub coordinator: bool,
    /// Where it is.
    pub address: BrokerAddress,
    /// Whether requests can be sent.
    pub up: bool,
    /// Requests without answer.
    pub in_flight: usize,
    /// What was counted.
    pub counters: BrokerCounters,
    /// The throttle times of answers that had one, in ms.
    pub throttled: Window,
}

/// What is counted of a partition that is produced to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionCounters {
    /// Messages sent, repetitions included.
    pub tx_messages: u64,
    /// Bytes of their batches.
    pub tx_bytes: u64,
    /// Batches sent.
    pub tx_batches: u64,
    /// Messages that were acknowledged.
    pub delivered: u64,
    /// Messages that failed.
    pub failed: u64,
}

/// One partition that is produced to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatistics {
    /// The topic.
    pub topic: Str,
    /// The partition.
    pub partition: i32,
    /// The leader's node id, or -1.
    pub leader: i32,
    /// Messages that wait to be sent.
    pub queued: usize,
    /// Messages sent and not answered.
    pub in_flight: usize,
    /// What was counted.
    pub counters: PartitionCounters,
}

/// One partition that is consumed. Offsets are [`offset::INVALID`](crate::consumer::offset::INVALID) while they aren't known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedPartitionStatistics {
    /// The topic.
    pub topic: Str,
    /// The partition.
    pub partition: i32,
    /// Records that were fetched and wait for the application.
    pub queued: usize,
    /// Bytes of their batches.
    pub queued_bytes: usize,
    /// librdkafka's word for what is done about it: `active`, `offset-query`, `offset-wait`, `stopped`.
    pub fetch_state: &'static str,
    /// Where it is fetched next.
    pub next_offset: i64,
    /// The offset behind the last record that the application took.
    pub position: i64,
    /// The offset that the next commit without arguments commits.
    pub stored: i64,
    /// The leader epoch that goes with it; -1 if unknown.
    pub stored_epoch: i32,
    /// What the group has as committed.
    pub committed: i64,
    /// The end that the application was told of.
    pub eof: Option<i64>,
    /// The partition's first offset, as the last answer told it.
    pub low: i64,
    /// Its end, or with `read_committed` the end of what is committed.
    pub high: i64,
    /// Records fetched since it was assigned.
    pub rx_messages: u64,
    /// Bytes of their batches.
    pub rx_bytes: u64,
}

/// What is counted of the producer as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerCounters {
    /// Messages taken by produce().
    pub messages: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Messages sent, repetitions included.
    pub tx_messages: u64,
    /// Bytes of their batches.
    pub tx_bytes: u64,
    /// Batches sent.
    pub tx_batches: u64,
    /// Batches sent again.
    pub retries: u64,
    /// Messages that were acknowledged.
    pub delivered: u64,
    /// Bytes of their keys and values.
    pub delivered_bytes: u64,
}

/// Counters of a client since it was made, and what is queued now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// `msg_cnt`: messages on their way, or whose reports were not taken.
    pub msg_cnt: usize,
    /// `msg_size`: bytes of their keys and values.
    pub msg_size: usize,
    /// Requests sent to all brokers.
    pub tx: u64,
    /// Answers from all brokers.
    pub rx: u64,
    /// The producer's.
    pub producer: ProducerCounters,
    /// By connection.
    pub brokers: Vec<BrokerStatistics>,
    /// By partition that is produced to.
    pub partitions: Vec<PartitionStatistics>,
    /// Producer id and epoch, -1 before they are known; `None` without idempotence.
    pub producer_id: Option<(i64, i16)>,
    /// By partition that is consumed.
    pub consumed: Vec<ConsumedPartitionStatistics>,
    /// Records that the application took.
    pub rx_messages: u64,
    /// Bytes of their batches.
    pub rx_bytes: u64,
    /// Where a consumer stands in its group, in librdkafka's words; `None` without a group.
    pub join_state: Option<&'static str>,
}

impl Statistics {
    pub(crate) fn of(
        net: &mut Network,
        producer: Option<&Producer>,
        consumer: Option<&Consumer>,
    ) -> Self {
        let (rx_messages, rx_bytes) = consumer.map(Consumer::received).unwrap_or_default();
        let brokers: Vec<BrokerStatistics> = net.statistics().collect();
        Self {
            msg_cnt: producer.map_or(0, Producer::queued_messages),
            msg_size: producer.map_or(0, Producer::queued_bytes),
            tx: net.traffic().0,
            rx: net.traffic().1,
            producer: producer.map(Producer::counters).unwrap_or_default(),
            partitions: producer
                .into_iter()
                .flat_map(Producer::partitions)
                .collect(),
            producer_id: producer.and_then(Producer::producer_id),
            consumed: consumer
                .into_iter()
                .flat_map(Consumer::partition_statistics)
                .collect(),
            rx_messages,
            rx_bytes,
            join_state: consumer.map(Consumer::join_state),
            brokers,
        }
    }
}
