//! What a broker measures of itself, at one moment: numbers for whoever shows them. Kafka's JMX beans of the same meaning are named
//! in `docs/internals/metrics.md`.

use alloc::{collections::BTreeMap, vec::Vec};

use ottla_protocol::{Str, messages::ListGroupsRequest};

use crate::{Broker, ClientMetrics, TelemetryMetrics};

/// The numbers of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMetrics {
    /// Its topic.
    pub topic: Str,
    /// Its number.
    pub partition: i32,
    /// Bytes of its log.
    pub size_bytes: u64,
    /// Segments of its log.
    pub segments: usize,
    /// First offset that may be read.
    pub log_start_offset: i64,
    /// Exclusive end of what is committed.
    pub high_watermark: i64,
    /// The offset that the next record gets.
    pub log_end_offset: i64,
    /// Bytes that can't be read since they are damaged, as far as that was found out.
    pub damaged_bytes: u64,
    /// Records appended since the broker was opened.
    pub messages_in: u64,
    /// Bytes appended since then.
    pub bytes_in: u64,
    /// Bytes of records that went to consumers since then.
    pub bytes_out: u64,
    /// How often somebody came to append to it since then, also in vain (Kafka's `TotalProduceRequestsPerSec`): clients, and the
    /// coordinators to their own topics. What is refused before the log is looked at isn't counted, as in Kafka.
    pub produce_requests: u64,
    /// How many of those failed since then (Kafka's `FailedProduceRequestsPerSec`): as there, not those that were too large or damaged,
    /// nor those that found the log out of service.
    pub failed_produces: u64,
    /// Fetches that read this partition since then.
    pub fetches: u64,
    /// A write or sync failed: nothing is served until the broker is opened again.
    pub is_offline: bool,
}

/// What a quota limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaOf {
    /// `producer_byte_rate`.
    Produce,
    /// `consumer_byte_rate`.
    Fetch,
    /// `request_percentage`.
    Request,
}

/// What clients used of a quota that they share, in the windows that it is measured over.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaMetrics {
    /// Which quota.
    pub of: QuotaOf,
    /// Of which user, if it goes by users.
    pub user: Option<Str>,
    /// Of which client id, if it goes by them.
    pub client_id: Option<Str>,
    /// Bytes a second, or percent of a thread's time.
    pub rate: f64,
    /// For how many milliseconds they were told to wait, on average of the answers that said so.
    pub throttle_time_ms: f64,
}

/// The numbers of a broker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BrokerMetrics {
    /// Every partition, by topic and number.
    pub partitions: Vec<PartitionMetrics>,
    /// How many groups are of which type (`classic`, `consumer`, `share`) and in which state.
    pub groups: BTreeMap<(Str, Str), usize>,
    /// Produces that wait for their records to be durable.
    pub waiting_produces: usize,
    /// Fetches that wait for records.
    pub waiting_fetches: usize,
    /// Fetches of share groups that wait for records.
    pub waiting_share_fetches: usize,
    /// Partitions of fetches that were answered with an error since the broker was opened.
    pub failed_fetches: u64,
    /// Incremental fetch sessions.
    pub fetch_sessions: usize,
    /// How it went with what clients push; `None` without `client.telemetry.enable`.
    pub telemetry: Option<TelemetryMetrics>,
    /// What clients pushed, by client instance id.
    pub clients: Vec<ClientMetrics>,
    /// What was used of quotas, by those who share them; nothing of whom none limits.
    pub quotas: Vec<QuotaMetrics>,
}

/// What is counted besides what the partitions count.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) failed_fetches: u64,
}

impl Broker {
    /// What there is to measure. Takes time in proportion to the number of partitions and groups.
    pub fn metrics(&self) -> BrokerMetrics {
        let mut partitions: Vec<PartitionMetrics> = self
            .partitions
            .iter()
            .map(|(_, partition)| PartitionMetrics {
                topic: partition.topic_name.clone(),
                partition: partition.number,
                size_bytes: partition.log.size_bytes(),
                segments: partition.log.segment_count(),
                log_start_offset: partition.log.log_start_offset(),
                high_watermark: partition.high_watermark(),
                log_end_offset: partition.log.log_end_offset(),
                damaged_bytes: partition.log.damaged_bytes(),
                messages_in: partition.messages_in(),
                bytes_in: partition.bytes_in(),
                bytes_out: partition.bytes_out,
                produce_requests: partition.produce_requests,
                failed_produces: partition.failed_produces,
                fetches: partition.fetches,
                is_offline: partition.is_failed(),
            })
            .collect();
        partitions.sort_unstable_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        let mut groups = BTreeMap::new();
        let all = ListGroupsRequest::default();
        let mut listed = self.groups.list(&all);
        self.share_groups.list(&all, &mut listed);
        for group in listed.groups {
            *groups
                .entry((group.group_type, group.group_state))
                .or_default() += 1;
        }
        let (waiting_produces, waiting_fetches, waiting_share_fetches) = self.purgatory.waiting();
        BrokerMetrics {
            partitions,
            groups,
            waiting_produces,
            waiting_fetches,
            waiting_share_fetches,
            failed_fetches: self.counters.failed_fetches,
            fetch_sessions: self.sessions.len(),
            telemetry: self
                .config
                .client_telemetry
                .then(|| self.telemetry.counted()),
            clients: self.telemetry.clients(),
            quotas: self.quotas.metrics(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Durability,
        testing::{Harness, batch, keyed_batch},
    };
    use ottla_protocol::{
        Records, Request, Str,
        messages::{
            JoinGroupRequest, OffsetCommitRequest, ShareGroupHeartbeatRequest, join_group,
            offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        },
    };
    use ottla_record::FinishOptions;
    use std::{vec, vec::Vec};

    #[test]
    fn groups_of_every_type_are_counted() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        let join = JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 10_000,
            protocol_type: "consumer".into(),
            protocols: vec![join_group::JoinGroupRequestProtocol {
                name: "range".into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        h.ask(2, Request::JoinGroup(join));
        let beat = ShareGroupHeartbeatRequest {
            group_id: "s".into(),
            member_id: "m".into(),
            subscribed_topic_names: Some(vec!["t".into()]),
            ..Default::default()
        };
        h.ask(1, Request::ShareGroupHeartbeat(beat));
        let of = |kind: &str, state: &str| (Str::from(kind), Str::from(state));
        let groups = h.broker.metrics().groups;
        assert_eq!(groups.len(), 2, "{groups:?}");
        assert_eq!(groups[&of("share", "Stable")], 1);
        assert_eq!(groups[&of("classic", "CompletingRebalance")], 1);
    }

    /// As Kafka's ReplicaManager counts them.
    #[test]
    fn produces_are_counted_also_when_they_fail() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[("max.message.bytes", "200")]);
        let sequence = |base_sequence| FinishOptions {
            producer_id: 7,
            producer_epoch: 0,
            base_sequence,
            ..FinishOptions::default()
        };
        let large = "x".repeat(300);
        let mut counted = Vec::new();
        for (partition, records) in [
            (0, batch(&["a"])),
            // No such partition, nothing in it: neither comes as far as the log.
            (9, batch(&["a"])),
            (0, Records::new()),
            (0, batch(&[&large])),
            (0, keyed_batch(None, &["a"], sequence(0))),
            // A repetition.
            (0, keyed_batch(None, &["a"], sequence(0))),
            (0, keyed_batch(None, &["a"], sequence(5))),
        ] {
            h.produce("t", partition, records);
            let metrics = h.broker.metrics();
            let one = metrics
                .partitions
                .iter()
                .find(|p| &*p.topic == "t")
                .unwrap();
            counted.push((one.produce_requests, one.failed_produces));
        }
        assert_eq!(
            counted,
            [(1, 0), (1, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 1)]
        );
        // Nobody but the broker may write to its topics, and that it does counts.
        h.broker.ensure_offsets_topic(h.now).unwrap();
        h.produce("__consumer_offsets", 0, batch(&["a"]));
        let of = |h: &Harness| {
            let all = h.broker.metrics().partitions.into_iter();
            let of_it = all.filter(|p| &*p.topic == "__consumer_offsets");
            of_it.fold((0, 0), |(total, failed), p| {
                (total + p.produce_requests, failed + p.failed_produces)
            })
        };
        assert_eq!(of(&h), (1, 0));
        let commit = OffsetCommitRequest {
            group_id: "g".into(),
            generation_id_or_member_epoch: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: "t".into(),
                partitions: vec![OffsetCommitRequestPartition::default()],
                ..Default::default()
            }],
            ..Default::default()
        };
        h.ask(8, Request::OffsetCommit(commit));
        assert_eq!(of(&h), (2, 0));
    }

    #[test]
    fn records_and_bytes_are_counted_both_ways() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 2, &[]);
        h.produce("t", 0, batch(&["a", "b"]));
        h.produce("t", 0, batch(&["c"]));
        h.produce("none", 0, batch(&["c"]));
        h.fetch("t", 0, 0);
        h.fetch("t", 0, 9);
        let metrics = h.broker.metrics();
        let one = &metrics.partitions[0];
        assert_eq!(
            (one.messages_in, one.produce_requests, one.fetches),
            (3, 2, 1)
        );
        assert_eq!(
            (one.bytes_in, one.bytes_out),
            (one.size_bytes, one.size_bytes)
        );
        assert_eq!(metrics.partitions[1].messages_in, 0);
        assert_eq!((one.failed_produces, metrics.failed_fetches), (0, 1));

        let h = h.restart(false);
        let again = &h.broker.metrics().partitions[0];
        assert_eq!((again.messages_in, again.log_end_offset), (0, 3));
    }
}
