//! The consumer's state, what it wants of the network, and what it tells the application.

use super::assignors::TopicPartition;
use super::config::ConsumerConfig;
use super::fetched::Fetched;
use super::fetcher::{FetchTarget, Fetches};
use super::membership::Membership;
use super::partition::Partition;
use super::queries::Query;
use super::subscription::Subscription;
use crate::error::{ErrCode, KafkaError};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use ottla_protocol::{ErrorCode, Request, Response, Str, Uuid};
use ottla_record::Now;

/// A partition with an offset and what may come with it: the argument and the result of most operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOffset {
    /// The topic's name.
    pub topic: Str,
    /// The partition's number.
    pub partition: i32,
    /// An offset, or one of [`crate::consumer::offset`]'s logical ones. For `offsets_for_times` it is the timestamp.
    pub offset: i64,
    /// The leader epoch that goes with the offset; -1 if unknown.
    pub leader_epoch: i32,
    /// The application's text that is committed with the offset.
    pub metadata: Option<Str>,
    /// What became of this partition.
    pub error: ErrCode,
}

impl PartitionOffset {
    /// A partition with an offset and nothing else.
    pub fn new(topic: impl Into<Str>, partition: i32, offset: i64) -> Self {
        Self {
            topic: topic.into(),
            partition,
            offset,
            leader_epoch: -1,
            metadata: None,
            error: ErrCode::NO_ERROR,
        }
    }

    pub(super) fn key(&self) -> TopicPartition {
        (self.topic.clone(), self.partition)
    }

    pub(super) fn with_error(mut self, error: ErrCode) -> Self {
        self.error = error;
        self
    }
}

/// What a rebalance does to this member's partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebalanceKind {
    /// The group gave it these partitions.
    Assign,
    /// It has to give these partitions up; their offsets can still be committed.
    Revoke,
    /// It has lost these partitions already: others may consume them by now, and commits will fail.
    Lost,
}

/// What the consumer tells the application besides records.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// The group rebalances. With `rebalance_by_application` it waits for the application's answer: for
    /// `Assign` `assign` (eager) or `incremental_assign` (cooperative), otherwise `unassign` or `incremental_unassign`.
    Rebalance {
        /// What happens.
        kind: RebalanceKind,
        /// To which partitions.
        partitions: Vec<TopicPartition>,
    },
    /// An asynchronous or automatic commit ended: each partition with its error, or the error of the whole.
    OffsetCommit {
        /// `_NO_OFFSET` if there was nothing to commit.
        error: ErrCode,
        /// What was to be committed.
        offsets: Vec<PartitionOffset>,
    },
    /// An operation that was given an id ended.
    Done {
        /// The operation's id.
        id: u64,
        /// Its result.
        result: Result<OperationResult, KafkaError>,
    },
    /// The consumer is closed; nothing follows.
    Closed,
}

/// What an operation with an id gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationResult {
    /// Commit, committed offsets and offsets for times: the partitions as they were given, each with its offset and error.
    Offsets(Vec<PartitionOffset>),
    /// Watermarks: the log's first offset and its end.
    Watermarks {
        /// The first offset.
        low: i64,
        /// The offset of the next record; with `read_committed` of the first undecided one.
        high: i64,
    },
}

/// What the application consumes, in each partition's order.
#[derive(Debug)]
// A chunk is moved twice; a box would be an allocation for each.
#[allow(clippy::large_enum_variant)]
pub enum Consumed {
    /// Records of one partition.
    Records(Fetched),
    /// The partition's end was reached (`enable.partition.eof`).
    Eof {
        /// The partition.
        partition: TopicPartition,
        /// Its end: the offset of the record to come.
        offset: i64,
    },
    /// Something that concerns the application, with the partition if it concerns one.
    Error {
        /// The partition that it concerns.
        partition: Option<TopicPartition>,
        /// The offset that it concerns, or [`crate::consumer::offset::INVALID`].
        offset: i64,
        /// What happened.
        error: KafkaError,
    },
}

/// Who is to answer a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// The group's coordinator.
    Coordinator,
    /// This broker.
    Node(i32),
}

/// What the machine wants of the network.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // a request is moved once, into a connection
pub(crate) enum Want {
    /// Send this; the answer comes back with the token.
    Send {
        token: u64,
        to: To,
        request: Request,
        timeout_ms: i32,
    },
    /// Learn about these topics, or about all of them if `None`, as soon as possible and then regularly.
    Topics(Option<Vec<Str>>),
    /// What is known of the coordinator is wrong.
    ForgetCoordinator,
}

/// What the machine has to know of the cluster.
pub(crate) trait Cluster {
    /// Changes whenever any of the answers may have.
    fn version(&self) -> u64;
    /// How many partitions the topic has; `None` if it isn't known to exist.
    fn partition_count(&self, topic: &Str) -> Option<i32>;
    /// The error with which the brokers answered for this topic; `NONE` if they didn't.
    fn topic_error(&self, topic: &Str) -> ErrorCode;
    /// The partition's leader and leader epoch, if there is one.
    fn leader(&self, topic: &Str, partition: i32) -> Option<(i32, i32)>;
    /// The topic's id, zero if it has none.
    fn topic_id(&self, topic: &Str) -> Uuid;
    /// The topic with this id.
    fn topic_name(&self, id: Uuid) -> Option<Str>;
    /// All topics that are known to exist, without the internal ones.
    fn topic_names(&self) -> Vec<Str>;
}

/// What a request was sent for.
#[derive(Debug)]
pub(super) enum Purpose {
    Join,
    Sync,
    Heartbeat,
    Leave,
    StartOffsets(Vec<(TopicPartition, u32)>),
    ResetOffsets(Vec<(TopicPartition, u32)>),
    Fetch {
        node: i32,
        targets: Vec<FetchTarget>,
    },
    Commit(super::commit::Commit),
    Query {
        query: u64,
        partitions: Vec<TopicPartition>,
        timestamp: i64,
    },
}

/// What waits to be polled by the application, besides what lies in the partitions' own queues.
pub(super) enum Ready {
    /// The head of this partition's queue.
    Of(TopicPartition),
    /// An error of the consumer as a whole.
    Error(Option<TopicPartition>, i64, KafkaError),
}

/// The consumer of one client: a passive state machine.
pub(crate) struct Consumer {
    pub(super) config: ConsumerConfig,
    pub(super) partitions: BTreeMap<TopicPartition, Partition>,
    pub(super) subscription: Subscription,
    pub(super) membership: Option<Membership>,
    pub(super) fetches: Fetches,
    pub(super) ready: VecDeque<Ready>,
    pub(super) queued_records: usize,
    pub(super) queued_bytes: usize,
    pub(super) queries: BTreeMap<u64, Query>,
    pub(super) next_auto_commit: Option<u64>,
    pub(super) retry_commits: Vec<(u64, super::commit::Commit)>,
    pub(super) closing: bool,
    pub(super) closed: bool,
    pub(super) fatal: Option<KafkaError>,
    wanted_topics: Option<Option<Vec<Str>>>,
    pub(super) cluster_version: Option<u64>,
    pub(super) in_flight: BTreeMap<u64, Purpose>,
    next_token: u64,
    /// Records that the application took, and bytes of their batches.
    pub(super) rx: (u64, u64),
    wants: VecDeque<Want>,
    events: VecDeque<ConsumerEvent>,
}

impl Consumer {
    /// A consumer that is neither subscribed nor assigned anything.
    pub(crate) fn new(config: ConsumerConfig, now: Now) -> Self {
        let membership = config
            .group_id
            .clone()
            .map(|group| Membership::new(group, now));
        Self {
            next_auto_commit: None,
            config,
            partitions: BTreeMap::new(),
            subscription: Subscription::default(),
            membership,
            fetches: Fetches::default(),
            ready: VecDeque::new(),
            queued_records: 0,
            queued_bytes: 0,
            queries: BTreeMap::new(),
            retry_commits: Vec::new(),
            closing: false,
            closed: false,
            fatal: None,
            wanted_topics: None,
            cluster_version: None,
            in_flight: BTreeMap::new(),
            next_token: 0,
            rx: (0, 0),
            wants: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The next thing to do for it.
    pub(crate) fn poll_want(&mut self) -> Option<Want> {
        self.wants.pop_front()
    }

    /// The next event for the application.
    pub(crate) fn poll_event(&mut self) -> Option<ConsumerEvent> {
        self.events.pop_front()
    }

    /// The answer to a request, or why there is none. `poll` must follow.
    pub(crate) fn handle_reply(
        &mut self,
        now: Now,
        token: u64,
        reply: Result<Response, KafkaError>,
        cluster: &dyn Cluster,
    ) {
        let Some(purpose) = self.in_flight.remove(&token) else {
            return;
        };
        match purpose {
            Purpose::Join => self.joined(now, token, reply),
            Purpose::Sync => self.synced(now, token, reply),
            Purpose::Heartbeat => self.heartbeat_answered(now, reply),
            Purpose::Leave => self.left(now, token),
            Purpose::StartOffsets(keys) => self.start_offsets_fetched(now, keys, reply),
            Purpose::ResetOffsets(keys) => self.reset_offsets_listed(now, keys, reply),
            Purpose::Fetch { node, targets } => {
                self.fetched(now, token, node, targets, reply, cluster)
            }
            Purpose::Commit(commit) => self.commit_answered(now, commit, reply),
            Purpose::Query {
                query,
                partitions,
                timestamp,
            } => {
                self.query_answered(now, query, partitions, timestamp, reply);
            }
        }
    }

    /// Does whatever can be done now. To be called after every input and command and when [`Self::poll_timeout`] is due.
    pub(crate) fn serve(&mut self, now: Now, cluster: &dyn Cluster) {
        if self.closed {
            return;
        }
        if self.cluster_version != Some(cluster.version()) {
            self.cluster_version = Some(cluster.version());
            self.cluster_changed(now, cluster);
        }
        self.serve_membership(now, cluster);
        self.serve_commits(now);
        self.serve_offsets(now, cluster);
        self.serve_queries(now, cluster);
        self.serve_fetches(now, cluster);
        self.serve_close();
    }

    /// When [`Self::serve`] must be called at the latest, in monotonic microseconds.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        if self.closed {
            return None;
        }
        let commits = self
            .retry_commits
            .iter()
            .map(|(at, _)| *at)
            .chain(self.next_auto_commit);
        let queries = self.queries.values().map(Query::due);
        let partitions = self.partitions.values().filter_map(Partition::due);
        self.membership_due()
            .into_iter()
            .chain(self.fetches.due())
            .chain(commits)
            .chain(queries)
            .chain(partitions)
            .min()
    }

    pub(super) fn send(
        &mut self,
        to: To,
        request: Request,
        timeout_ms: i32,
        purpose: Purpose,
    ) -> u64 {
        self.next_token += 1;
        let token = self.next_token;
        self.in_flight.insert(token, purpose);
        self.wants.push_back(Want::Send {
            token,
            to,
            request,
            timeout_ms,
        });
        token
    }

    pub(super) fn event(&mut self, event: ConsumerEvent) {
        self.events.push_back(event);
    }

    pub(super) fn forget_coordinator(&mut self) {
        self.wants.push_back(Want::ForgetCoordinator);
    }

    /// Asks for metadata of what is subscribed to, assigned or queried. Repeated wishes cost nothing.
    pub(super) fn want_topics(&mut self, also: &[Str], again: bool) {
        let mut topics = None;
        if !self.subscription.has_patterns() {
            let assigned = self.partitions.keys().map(|(topic, _)| topic);
            let queried = self.queries.values().flat_map(Query::topics);
            let all = self
                .subscription
                .names()
                .iter()
                .chain(assigned)
                .chain(queried)
                .chain(also)
                .cloned();
            let mut all: Vec<Str> = all.collect();
            all.sort();
            all.dedup();
            topics = Some(all);
        }
        if again || self.wanted_topics.as_ref() != Some(&topics) {
            self.wanted_topics = Some(topics.clone());
            self.wants.push_back(Want::Topics(topics));
        }
    }

    /// An error for the application, in line with the records.
    pub(super) fn error(
        &mut self,
        partition: Option<TopicPartition>,
        offset: i64,
        error: KafkaError,
    ) {
        self.ready.push_back(Ready::Error(partition, offset, error));
    }

    /// The group's id, or librdkafka's error for operations that need one.
    pub(super) fn group_id(&self) -> Result<Str, KafkaError> {
        let none = || KafkaError::new(ErrCode::UNKNOWN_GROUP, "group.id is not configured");
        self.config.group_id.clone().ok_or_else(none)
    }

    /// The next thing to consume.
    pub(crate) fn poll_fetched(&mut self, now: Now) -> Option<Consumed> {
        self.application_polls(now);
        while let Some(ready) = self.ready.pop_front() {
            match ready {
                Ready::Error(partition, offset, error) => {
                    return Some(Consumed::Error {
                        partition,
                        offset,
                        error,
                    });
                }
                Ready::Of(key) => {
                    let Some(partition) = self.partitions.get_mut(&key) else {
                        continue;
                    };
                    if partition.forwarded {
                        continue;
                    }
                    if let Some(consumed) =
                        partition.take(&mut self.queued_records, &mut self.queued_bytes)
                    {
                        self.count(&consumed);
                        return Some(consumed);
                    }
                }
            }
        }
        None
    }

    /// The next thing to consume of one partition that is forwarded to a queue of its own.
    pub(crate) fn poll_fetched_of(&mut self, now: Now, key: &TopicPartition) -> Option<Consumed> {
        self.application_polls(now);
        let partition = self.partitions.get_mut(key)?;
        let consumed = partition.take(&mut self.queued_records, &mut self.queued_bytes)?;
        self.count(&consumed);
        Some(consumed)
    }

    fn count(&mut self, consumed: &Consumed) {
        if let Consumed::Records(fetched) = consumed {
            self.rx.0 += fetched.record_count() as u64;
            self.rx.1 += fetched.size_in_bytes() as u64;
        }
    }

    /// Whether [`Self::poll_fetched`] has something.
    pub(crate) fn has_fetched(&self) -> bool {
        self.ready.iter().any(|ready| match ready {
            Ready::Error(..) => true,
            Ready::Of(key) => self
                .partitions
                .get(key)
                .is_some_and(|p| !p.forwarded && !p.queue.is_empty()),
        })
    }
}
