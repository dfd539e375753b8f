//! Appends of a produce request that are done beside the broker, not in it: by a thread of the caller's, without the broker, while
//! other threads do the same with other partitions.
//!
//! A partition is a value that needs nothing else to check a batch and write it. So a request takes its partitions along
//! ([`Broker::begin_produce`]), whoever runs it appends to them ([`ProduceJob::run`]), and the broker gets them back
//! ([`Broker::handle_appended`]). In between nothing is to be asked of the broker but the same for other partitions
//! ([`Broker::has_lent`]); the driver sees to that. So everything else in the broker may take it that all partitions are there.
//!
//! Requests of transactions, and those that can't all be done, are handled as any other: [`Broker::handle_request`].

use alloc::{boxed::Box, collections::BTreeSet, sync::Arc, vec::Vec};
use core::fmt;

use ottla_protocol::{
    ApiKey, ErrorCode, Records, Request, Str, Uuid, messages::produce::ProduceRequest,
};
use ottla_record::{Codecs, Now};

use crate::{
    Broker, RequestEnvelope,
    api::{
        self,
        produce::{self, Refusals},
    },
    append::{Appended, ProduceRules, Refusal},
    context::{ConnId, Handled, ReplyTo},
    partition::{Partition, PartitionIndex, Partitions},
    topic_config::TopicConfig,
};

/// A produce request amid its work.
pub struct ProduceJob {
    pub(crate) reply: ReplyTo,
    pub(crate) rules: ProduceRules,
    pub(crate) acks: i16,
    pub(crate) timeout_ms: i32,
    pub(crate) throttle_time_ms: i32,
    pub(crate) topics: Vec<TopicAppends>,
    /// The partitions that it has with it, in the order of the appends; none if it is done in the broker.
    pub(crate) lent: Vec<(PartitionIndex, Box<Partition>)>,
}

/// What goes to the partitions of a topic.
pub(crate) struct TopicAppends {
    /// As the request has it.
    pub(crate) name: Str,
    pub(crate) topic_id: Uuid,
    pub(crate) appends: Vec<Append>,
}

/// What goes to a partition.
pub(crate) struct Append {
    /// The partition's, in its topic.
    pub(crate) number: i32,
    pub(crate) state: Appending,
}

/// How far it is.
pub(crate) enum Appending {
    /// It isn't in the log yet.
    Wanted(Target, Records),
    Done(PartitionIndex, Appended),
    /// The partition refused it.
    Failed(PartitionIndex, Refusal),
    /// It is for no partition that could take it.
    Refused(Refusal),
}

/// Where a batch goes.
pub(crate) struct Target {
    pub(crate) index: PartitionIndex,
    /// The topic's.
    pub(crate) config: Arc<TopicConfig>,
}

impl fmt::Debug for ProduceJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProduceJob")
            .field("reply", &self.reply)
            .field("partitions", &self.lent.len())
            .finish_non_exhaustive()
    }
}

/// Where the partitions of appends are.
pub(crate) trait Lender {
    /// The one that the append number `nth` (from 0) of a request goes to. `None` if it isn't there any more.
    fn partition(&mut self, nth: usize, target: &Target) -> Option<&mut Partition>;
}

/// They stay in the broker.
impl Lender for Partitions {
    fn partition(&mut self, _nth: usize, target: &Target) -> Option<&mut Partition> {
        self.get_mut(target.index)
    }
}

/// They are with the request.
impl Lender for [(PartitionIndex, Box<Partition>)] {
    fn partition(&mut self, nth: usize, target: &Target) -> Option<&mut Partition> {
        let (index, partition) = self.get_mut(nth)?;
        (*index == target.index).then_some(partition)
    }
}

/// Appends what is to be appended.
pub(crate) fn append(
    topics: &mut [TopicAppends],
    rules: &ProduceRules,
    lender: &mut (impl Lender + ?Sized),
    codecs: &mut Codecs,
) {
    let mut nth = 0;
    for append in topics.iter_mut().flat_map(|topic| &mut topic.appends) {
        let Appending::Wanted(target, records) = &mut append.state else {
            continue;
        };
        let index = target.index;
        // Should the append panic, it stays one that was wanted: whoever ends the request sees that.
        let records = core::mem::take(records);
        let appended = match lender.partition(nth, target) {
            Some(partition) => partition.append_produced(&target.config, codecs, rules, records),
            None => Err(Refusal::bare(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)),
        };
        append.state = match appended {
            Ok(appended) => Appending::Done(index, appended),
            Err(refusal) => Appending::Failed(index, refusal),
        };
        nth += 1;
    }
}

impl ProduceJob {
    /// Appends what is to be appended to the partitions that it has with it. `codecs` is the caller's: what compression and
    /// decompression keep between batches. If this panics, the job is still to be handed back: what it didn't come to is an error then.
    pub fn run(&mut self, codecs: &mut Codecs) {
        append(&mut self.topics, &self.rules, &mut *self.lent, codecs);
    }
}

impl Broker {
    /// Begins a produce request whose appends are done by the caller. The envelope comes back if that can't be: it is another
    /// request, part of a transaction, or for a partition that isn't there or lent already. It is for [`Broker::handle_request`] then,
    /// once nothing is lent. Worth it if the appends take much longer than a lock: from about 1 KiB of records on.
    ///
    /// The job is to be run and then handed back with [`Broker::handle_appended`], whatever became of it. Until all that is
    /// [lent](Broker::has_lent) is back, only these two and [`Broker::poll_output`] may be called.
    // The envelope is moved once, as into `handle_request`.
    #[allow(clippy::result_large_err)]
    pub fn begin_produce(
        &mut self,
        now: Now,
        conn: ConnId,
        envelope: RequestEnvelope,
    ) -> Result<ProduceJob, RequestEnvelope> {
        let Request::Produce(request) = &envelope.request else {
            return Err(envelope);
        };
        let served = api::is_served(ApiKey::Produce, envelope.api_version, &self.config);
        if self.closed || !served || request.transactional_id.is_some() {
            return Err(envelope);
        }
        if !self.can_lend(envelope.api_version, request) {
            return Err(envelope);
        }
        match (self.context_of(now, conn, &envelope), envelope.request) {
            (Some(context), Request::Produce(request)) => {
                let mut job = produce::begin(self, now, &context, request, &Refusals::new());
                // Last of all, since nothing may come between: what is lent must come back.
                for index in wanted(&job.topics) {
                    job.lent
                        .extend(self.partitions.lend(index).map(|lent| (index, lent)));
                }
                Ok(job)
            }
            (_, request) => Err(RequestEnvelope {
                request,
                ..envelope
            }),
        }
    }

    /// A job is back: it is answered, and followed up on as soon as nothing is lent any more.
    pub fn handle_appended(&mut self, now: Now, mut job: ProduceJob) {
        for (index, partition) in core::mem::take(&mut job.lent) {
            self.partitions.give_back(index, partition);
        }
        let reply = job.reply;
        match produce::end(self, now, job) {
            // Its waiting fetches may be for what is lent.
            Handled::Disconnect if self.has_lent() => self.disconnect_later(reply.conn),
            handled => self.finish(now, reply, handled),
        }
        if !self.has_lent() {
            self.settle(now);
        }
    }

    /// Whether jobs have partitions with them. Then nothing is to be asked of the broker but what [`Broker::begin_produce`] says.
    pub fn has_lent(&self) -> bool {
        self.partitions.any_lent()
    }

    /// Whether somebody waits for what came of a job that is back. If so nothing more should be lent before all is back, or they
    /// would wait for as long as others produce.
    pub fn wants_all_back(&self) -> bool {
        self.has_lent() && self.is_unsettled()
    }

    /// Whether all partitions that a request is for are here, and none is named twice.
    fn can_lend(&self, version: i16, request: &ProduceRequest) -> bool {
        let rules = (version, request.acks);
        let mut named = BTreeSet::new();
        request.topic_data.iter().all(|topic| {
            topic.partition_data.iter().all(|data| {
                let (name, id) = (&topic.name, topic.topic_id);
                let found = produce::destination(self, rules, name, id, data.index);
                found.is_ok_and(|(index, _)| {
                    self.partitions.get(index).is_some() && named.insert(index)
                })
            })
        })
    }
}

/// The partitions of the appends that are still to be done.
fn wanted(topics: &[TopicAppends]) -> impl Iterator<Item = PartitionIndex> {
    let appends = topics.iter().flat_map(|topic| &topic.appends);
    appends.filter_map(|append| match &append.state {
        Appending::Wanted(target, _) => Some(target.index),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Durability,
        testing::{CONN, Harness, batch, fetch_request, produce_request, produced, values},
    };
    use ottla_protocol::Response;
    use std::vec;

    fn harness(durability: Durability) -> Harness {
        let mut h = Harness::new(durability);
        h.create_topic("t", 3, &[]);
        h
    }

    fn begin(h: &mut Harness, partition: i32, words: &[&str]) -> (i32, ProduceJob) {
        let begun = h.begin_produce(9, produce_request("t", partition, -1, batch(words)));
        (begun.0, begun.1.expect("it can be lent"))
    }

    #[test]
    fn two_requests_append_beside_each_other_and_are_answered_as_they_end() {
        let mut h = harness(Durability::Os);
        let (first, mut a) = begin(&mut h, 0, &["a"]);
        let (second, mut b) = begin(&mut h, 1, &["b", "c"]);
        let mut codecs = Codecs::new();
        b.run(&mut codecs);
        a.run(&mut codecs);
        assert!(h.take_answer(second).is_none());
        h.end_produce(b);
        assert!(h.broker.has_lent());
        assert_eq!(produced(h.take_answer(second).unwrap()).base_offset, 0);
        assert!(h.take_answer(first).is_none());
        h.end_produce(a);
        assert!(!h.broker.has_lent());
        assert_eq!(produced(h.take_answer(first).unwrap()).base_offset, 0);
        assert_eq!(values(&h.fetch("t", 0, 0).records), ["a"]);
        assert_eq!(values(&h.fetch("t", 1, 0).records), ["b", "c"]);
        let metrics = h.broker.metrics();
        let batches = metrics.partitions.iter().map(|p| p.produce_requests);
        assert_eq!(batches.sum::<u64>(), 2);
    }

    #[test]
    fn who_waits_for_records_is_woken_when_everything_is_back() {
        let mut h = harness(Durability::Os);
        let fetch = h.send(11, fetch_request("t", 0, 0, 10_000));
        let (_, mut a) = begin(&mut h, 0, &["a"]);
        let (_, b) = begin(&mut h, 1, &["b"]);
        assert!(!h.broker.wants_all_back());
        a.run(&mut Codecs::new());
        h.end_produce(a);
        assert!(h.broker.wants_all_back());
        assert!(h.take_answer(fetch).is_none());
        h.end_produce(b);
        assert!(!h.broker.wants_all_back());
        let Some(Response::Fetch(answer)) = h.take_answer(fetch) else {
            panic!("it waits for ever")
        };
        assert_eq!(values(&answer.responses[0].partitions[0].records), ["a"]);
    }

    #[test]
    fn syncs_begin_when_everything_is_back() {
        let mut h = harness(Durability::Fsync);
        let (first, mut a) = begin(&mut h, 0, &["a"]);
        let (second, mut b) = begin(&mut h, 1, &["b"]);
        a.run(&mut Codecs::new());
        h.end_produce(a);
        assert!(h.syncs.is_empty());
        b.run(&mut Codecs::new());
        h.end_produce(b);
        assert_eq!(h.syncs.len(), 2);
        h.sync_all();
        for id in [first, second] {
            let answer = produced(h.take_answer(id).unwrap());
            assert_eq!(answer.error_code, ErrorCode::NONE);
        }
    }

    #[test]
    fn what_is_lent_twice_unknown_or_of_a_transaction_comes_back() {
        let mut h = harness(Durability::Os);
        let (_, mut job) = begin(&mut h, 0, &["a"]);
        let refused = |h: &mut Harness, request| h.begin_produce(9, request).1.is_err();
        assert!(refused(&mut h, produce_request("t", 0, -1, batch(&["b"]))));
        assert!(refused(&mut h, produce_request("t", 7, -1, batch(&["b"]))));
        assert!(refused(&mut h, produce_request("x", 0, -1, batch(&["b"]))));
        assert!(refused(&mut h, produce_request("t", 1, 7, batch(&["b"]))));
        assert!(refused(&mut h, fetch_request("t", 1, 0, 0)));
        let Request::Produce(mut twice) = produce_request("t", 1, -1, batch(&["b"])) else {
            panic!()
        };
        let again = twice.topic_data[0].partition_data[0].clone();
        twice.topic_data[0].partition_data.push(again);
        assert!(refused(&mut h, Request::Produce(twice)));
        let Request::Produce(mut of_transaction) = produce_request("t", 1, -1, batch(&["b"]))
        else {
            panic!()
        };
        of_transaction.transactional_id = Some("id".into());
        assert!(refused(&mut h, Request::Produce(of_transaction)));
        // All of them are where they were.
        job.run(&mut Codecs::new());
        h.end_produce(job);
        assert!(!h.broker.has_lent());
        for partition in 0..3 {
            let answer = h.produce("t", partition, batch(&["c"]));
            assert_eq!(answer.error_code, ErrorCode::NONE);
        }
    }

    #[test]
    fn a_job_that_was_not_done_fails_its_partitions() {
        let mut h = harness(Durability::Os);
        let (id, job) = begin(&mut h, 0, &["a"]);
        h.end_produce(job);
        let answer = produced(h.take_answer(id).unwrap());
        assert_eq!(answer.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
        let after = h.produce("t", 0, batch(&["b"]));
        assert_eq!(after.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
        assert_eq!(h.produce("t", 1, batch(&["b"])).error_code, ErrorCode::NONE);
    }

    #[test]
    fn a_connection_that_is_to_end_ends_when_everything_is_back() {
        let mut h = harness(Durability::Os);
        let (_, mut other) = begin(&mut h, 1, &["b"]);
        let corrupt = Records::from(bytes::Bytes::from_static(b"no batch at all"));
        let (_, bad) = h.begin_produce(9, produce_request("t", 0, 0, corrupt));
        let mut bad = bad.unwrap();
        bad.run(&mut Codecs::new());
        h.end_produce(bad);
        assert_eq!(h.disconnected, vec![]);
        other.run(&mut Codecs::new());
        h.end_produce(other);
        assert_eq!(h.disconnected, [CONN]);
    }

    #[test]
    #[should_panic(expected = "some partitions are lent")]
    fn nothing_else_goes_on_meanwhile() {
        let mut h = harness(Durability::Os);
        let _job = begin(&mut h, 0, &["a"]);
        h.produce("t", 1, batch(&["b"]));
    }
}
