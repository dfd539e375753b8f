//! The machine: construction, inputs, and what comes of them.

use alloc::{
    collections::{BTreeSet, VecDeque},
    string::String,
    sync::Arc,
    vec::Vec,
};
use core::{fmt, net::IpAddr};

use hashbrown::HashMap;
use ottla_log::{LogError, Recovery, Storage, StorageError};
use ottla_protocol::{ErrorCode, Request, Response, Str, Uuid};
use ottla_record::{Codecs, Now};

use crate::{
    api,
    cleaner::Cleaner,
    config::{BrokerConfig, Durability},
    configs::dynamic::DynamicConfigs,
    context::{ConnId, Endpoint, Handled, Peer, ReplyTo, RequestContext},
    fetch_sessions::FetchSessions,
    groups::{ConsumerGroupSettings, GroupCoordinator, GroupOutput, partition_of},
    housekeeping::Housekeeping,
    metrics::Counters,
    output::{Output, RequestEnvelope, SyncId},
    partition::{Advance, CommitWaiter, PartitionIndex, Partitions},
    producer_ids::ProducerIds,
    purgatory::{Expired, Purgatory, WaitId},
    quotas::Quotas,
    random::Random,
    share_groups::{ShareGroupOutput, ShareGroups},
    share_partitions::{ShareGroupSettings, ShareOutput, SharePartitions},
    state_files::KafkaMark,
    telemetry::{Telemetry, Who},
    topics::{OFFSETS_TOPIC, SHARE_STATE_TOPIC, TRANSACTIONS_TOPIC, Topics},
    transactions::{TransactionCoordinator, TransactionOutput, markers::Markers, waiting::Waiting},
};

/// Bytes that are kept of the name of a client's software, and of its version.
const LONGEST_SOFTWARE: usize = 256;

/// Why a broker can't open or close.
#[derive(Clone, Debug)]
pub enum BrokerError {
    /// The storage said no.
    Storage(StorageError),
    /// A partition's log, or one of Kafka's files at the top of the directory, can't be used.
    Log {
        /// `<topic>-<partition>`, or the file's name.
        partition: String,
        /// Why.
        error: LogError,
    },
    /// A file of the data directory is damaged or of a version that can't be read.
    Corrupt {
        /// The file, relative to the data directory.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The directory belongs to another cluster.
    InconsistentClusterId {
        /// Of the directory.
        stored: Str,
        /// Of the configuration.
        configured: Str,
    },
    /// A setting makes no sense.
    InvalidConfig(String),
    /// A bug.
    Internal(&'static str),
}

impl From<StorageError> for BrokerError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => write!(f, "storage: {error}"),
            Self::Log { partition, error } => write!(f, "{partition}: {error}"),
            Self::Corrupt { path, why } => write!(f, "{path} can't be used: {why}"),
            Self::InconsistentClusterId { stored, configured } => {
                write!(
                    f,
                    "the directory belongs to cluster {stored}, not to {configured}"
                )
            }
            Self::InvalidConfig(why) => write!(f, "configuration: {why}"),
            Self::Internal(what) => write!(f, "internal error: {what}"),
        }
    }
}

impl core::error::Error for BrokerError {}

/// Who this broker is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster_id: Str,
    pub(crate) node_id: i32,
}

/// A Kafka broker as a passive state machine: it is handed inputs (`handle_*`) and says what must happen next
/// ([`Broker::poll_output`], [`Broker::poll_timeout`]). It owns no thread, socket or clock; its storage is a trait.
///
/// After every `handle_*` drain `poll_output` and ask `poll_timeout` again.
pub struct Broker {
    /// What is in force: [`Broker::start_config`] with what was changed since.
    pub(crate) config: BrokerConfig,
    /// What the broker was opened with.
    pub(crate) start_config: BrokerConfig,
    /// Settings that were changed while it ran, this time or before; those of topics are with them.
    pub(crate) configs: DynamicConfigs,
    pub(crate) quotas: Quotas,
    pub(crate) telemetry: Telemetry,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) identity: Identity,
    /// How far a JVM Kafka had come on this directory when its topics were taken over.
    pub(crate) kafka: KafkaMark,
    pub(crate) random: Random,
    pub(crate) topics: Topics,
    pub(crate) partitions: Partitions,
    pub(crate) sessions: FetchSessions,
    pub(crate) purgatory: Purgatory,
    pub(crate) groups: GroupCoordinator,
    pub(crate) share_groups: ShareGroups,
    pub(crate) share: SharePartitions<api::share_fetch::SharePlan>,
    pub(crate) transactions: TransactionCoordinator,
    pub(crate) markers: Markers,
    pub(crate) waiting: Waiting,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) housekeeping: Housekeeping,
    pub(crate) cleaner: Cleaner,
    /// State of the compression codecs, kept between batches.
    pub(crate) codecs: Codecs,
    pub(crate) counters: Counters,
    connections: HashMap<ConnId, Peer>,
    /// What open had to cut off, by partition directory.
    pub(crate) recoveries: Vec<(String, Recovery)>,
    /// Those that no client was told of.
    pub(crate) untold: Vec<(String, Recovery)>,
    pub(crate) outputs: VecDeque<Output>,
    last_sync_id: u64,
    syncing: HashMap<SyncId, PartitionIndex>,
    /// Partitions with records to sync and no sync under way.
    to_sync: Vec<PartitionIndex>,
    /// Those whose sync waits for company, by when it has to begin, in monotonic microseconds ([`crate::group_commit`]).
    syncs_that_wait: BTreeSet<(u64, PartitionIndex)>,
    /// Partitions whose high watermark moved, or that failed, with waiters to look at.
    advanced: Vec<PartitionIndex>,
    woken: VecDeque<Woken>,
    pub(crate) closed: bool,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("identity", &self.identity)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Broker {
    /// Opens the data directory behind `storage`, or makes it, and reads everything back: identity, topics, logs,
    /// consumer groups, transactions. The same storage, `now` and `seed` give the same broker.
    ///
    /// # Errors
    /// The directory is damaged, of another cluster, or can't be read.
    pub fn open(
        config: BrokerConfig,
        storage: Arc<dyn Storage>,
        now: Now,
        seed: u64,
    ) -> Result<Self, BrokerError> {
        crate::opening::open(config, storage, now, seed)
    }

    pub(crate) fn assemble(
        (start_config, configs): (BrokerConfig, DynamicConfigs),
        storage: Arc<dyn Storage>,
        identity: Identity,
        producer_ids: ProducerIds,
        random: Random,
        groups: GroupCoordinator,
        now: Now,
    ) -> Self {
        let config = configs.over(&start_config);
        Self {
            transactions: TransactionCoordinator::new(config.transactions.clone()),
            markers: Markers::default(),
            waiting: Waiting::default(),
            sessions: FetchSessions::new(config.fetch_session_slots),
            housekeeping: Housekeeping::new(&config, now),
            cleaner: Cleaner::open(&*storage),
            share_groups: ShareGroups::default(),
            share: SharePartitions::new(&config.share),
            config,
            start_config,
            configs,
            quotas: Quotas::default(),
            telemetry: Telemetry::default(),
            storage,
            identity,
            kafka: KafkaMark::default(),
            random,
            topics: Topics::default(),
            partitions: Partitions::default(),
            purgatory: Purgatory::default(),
            groups,
            producer_ids,
            codecs: Codecs::new(),
            counters: Counters::default(),
            connections: HashMap::new(),
            recoveries: Vec::new(),
            untold: Vec::new(),
            outputs: VecDeque::new(),
            last_sync_id: 0,
            syncing: HashMap::new(),
            to_sync: Vec::new(),
            syncs_that_wait: BTreeSet::new(),
            advanced: Vec::new(),
            woken: VecDeque::new(),
            closed: false,
        }
    }

    /// The partitions (`<topic>-<partition>`) from whose logs open had to cut a torn end, and what it cut; nothing of that was
    /// acknowledged with [`Durability::Fsync`]. Also those with damage that was found while they were opened. The
    /// first client that connects gets them as warnings.
    pub fn recoveries(&self) -> &[(String, Recovery)] {
        &self.recoveries
    }

    /// The partitions (topic, number) of whose logs something is damaged, and how many bytes: as far as opening or readers came upon
    /// it. Nothing of that is served; consumers see a gap. For metrics: it walks over all segments.
    pub fn damaged_bytes(&self) -> impl Iterator<Item = (&Str, i32, u64)> {
        self.partitions.iter().filter_map(|(_, partition)| {
            let bytes = partition.log.damaged_bytes();
            (bytes > 0).then_some((&partition.topic_name, partition.number, bytes))
        })
    }

    /// Id of the cluster.
    pub fn cluster_id(&self) -> &Str {
        &self.identity.cluster_id
    }

    /// Id of this broker.
    pub fn node_id(&self) -> i32 {
        self.identity.node_id
    }

    /// A client connected. `client_host` is its address without port, or what an embedded handle is to be called.
    /// It is told that this broker is at [`BrokerConfig::host`] and [`BrokerConfig::port`].
    pub fn handle_connect(&mut self, now: Now, conn: ConnId, client_host: &str) {
        let endpoint = Endpoint {
            host: self.config.host.clone(),
            port: self.config.port,
        };
        self.handle_accept(now, conn, client_host, None, endpoint);
    }

    /// As [`Broker::handle_connect`], for a client that came from a port to a listener with an advertised address of its own.
    pub fn handle_accept(
        &mut self,
        _now: Now,
        conn: ConnId,
        client_host: &str,
        client_port: Option<u16>,
        endpoint: Endpoint,
    ) {
        let peer = Peer {
            host: client_host.into(),
            port: client_port,
            endpoint,
            client_id: Str::new(),
            software: None,
        };
        self.connections.insert(conn, peer);
        // Whoever comes first is told what open found; before, nobody was there to be told.
        for (partition, recovery) in self.untold.drain(..) {
            let text = alloc::format!("{partition}: {recovery}");
            self.outputs.push_back(Output::Warn(text));
        }
    }

    /// A connection is gone: its waiting fetches are dropped, its produces stay and lose their answers.
    pub fn handle_disconnect(&mut self, now: Now, conn: ConnId) {
        if self.connections.remove(&conn).is_none() {
            return;
        }
        self.drop_waiting_of(conn);
        self.telemetry.handle_disconnect(conn);
        for id in self.purgatory.fetches_of(conn) {
            if self.purgatory.is_share_fetch(id) {
                if let Some(fetch) = self.purgatory.take_share_fetch(id) {
                    self.unwatch(id, &fetch.partitions);
                }
            } else if let Some(fetch) = self.purgatory.take_fetch(id) {
                self.unwatch(id, &fetch.partitions);
            }
        }
        if !self.closed {
            let Self {
                share,
                share_groups,
                config,
                ..
            } = self;
            share.handle_disconnect(now, conn, |group| {
                share_groups.settings_of(group, &config.share)
            });
            self.settle(now);
        }
    }

    /// A request came in. One of a key or version that isn't served ends the connection, as in Kafka (but an
    /// `ApiVersions` of an unknown version is answered). Requests of connections that are gone are dropped.
    pub fn handle_request(&mut self, now: Now, conn: ConnId, envelope: RequestEnvelope) {
        let Some(context) = self.context_of(now, conn, &envelope) else {
            return;
        };
        let (reply, request) = (context.reply, envelope.request);
        if self.closed || !api::is_served(request.api_key(), reply.api_version, &self.config) {
            if !self.closed && matches!(request, Request::ApiVersions(_)) {
                let reply = ReplyTo {
                    api_version: 0,
                    ..reply
                };
                let answer = api::api_versions::unsupported_version(&self.config);
                self.respond(reply, answer);
                return;
            }
            self.handle_disconnect(now, conn);
            self.outputs.push_back(Output::Disconnect(conn));
            return;
        }
        let handled = api::dispatch(self, now, &context, request);
        self.finish(now, reply, handled);
        self.settle(now);
    }

    /// Who sent a request, and when that was. `None` if its connection is gone.
    pub(crate) fn context_of(
        &mut self,
        now: Now,
        conn: ConnId,
        envelope: &RequestEnvelope,
    ) -> Option<RequestContext> {
        let peer = self.connections.get_mut(&conn)?;
        self.quotas.note_time(now);
        if self.quotas.limits_time() {
            peer.client_id = envelope.client_id.clone().unwrap_or_default();
        }
        Some(RequestContext {
            reply: ReplyTo {
                conn,
                correlation_id: envelope.correlation_id,
                api_version: envelope.api_version,
            },
            api_version: envelope.api_version,
            client_id: envelope.client_id.clone(),
            client_host: peer.host.clone(),
            endpoint: peer.endpoint.clone(),
        })
    }

    /// Ends a connection once nothing is lent.
    pub(crate) fn disconnect_later(&mut self, conn: ConnId) {
        self.woken.push_back(Woken::Disconnect(conn));
    }

    /// Whether there is something to follow up on, once nothing is lent.
    pub(crate) fn is_unsettled(&self) -> bool {
        !(self.advanced.is_empty() && self.woken.is_empty() && self.to_sync.is_empty())
    }

    /// Whether the broker is to be told how long requests take ([`Broker::handle_time_used`]): there is a quota for it.
    pub fn limits_request_time(&self) -> bool {
        self.quotas.limits_time()
    }

    /// So much of a thread's time, in microseconds, was spent on requests of this connection: to read, handle and answer them. It
    /// counts for `request_percentage` of whom the last of them came from (KIP-124), and for the answers that leave from now on: to be
    /// called before [`Broker::poll_output`], so that a request's own answer is among them.
    pub fn handle_time_used(&mut self, now: Now, conn: ConnId, used_us: u64) {
        self.quotas.note_time(now);
        if let Some(peer) = self.connections.get(&conn) {
            self.quotas.time_used(now, &peer.client_id, used_us);
        }
    }

    /// Somebody wants to connect from this address. If there were too many connections from there (`connection_creation_rate`,
    /// KIP-612), after how many milliseconds this one is to be closed; it is not counted then, nor is [`Broker::handle_accept`] to be
    /// called for it.
    pub fn connection_throttle_ms(&mut self, now: Now, address: IpAddr) -> Option<u32> {
        let throttle_ms = self.quotas.connecting(now, address).err()?;
        u32::try_from(throttle_ms).ok()
    }

    /// What a client says that it is, with an `ApiVersions`.
    pub(crate) fn note_software(&mut self, conn: ConnId, (name, version): (Str, Str)) {
        // Nobody else asks for it, and there may be very many connections.
        if self.config.client_telemetry
            && let Some(peer) = self.connections.get_mut(&conn)
        {
            let kept = |word: Str| Str::from(&word[..word.floor_char_boundary(LONGEST_SOFTWARE)]);
            peer.software = Some((kept(name), kept(version)));
        }
    }

    /// Who a client that has to do with telemetry is.
    pub(crate) fn who(&self, context: &RequestContext, instance_id: Uuid) -> Who {
        let peer = self.connections.get(&context.reply.conn);
        let software = peer.and_then(|peer| peer.software.clone());
        // What Kafka says of clients that don't say it.
        let unknown = || (Str::from_static("unknown"), Str::from_static("unknown"));
        let (software_name, software_version) = software.unwrap_or_else(unknown);
        let address = &*context.client_host;
        Who {
            instance_id,
            client_id: context.client_id.clone(),
            software_name,
            software_version,
            source_address: address.strip_prefix('/').unwrap_or(address).into(),
            source_port: peer.and_then(|peer| peer.port),
        }
    }

    /// Does what a handler says.
    pub(crate) fn finish(&mut self, now: Now, reply: ReplyTo, handled: Handled) {
        match handled {
            Handled::Respond(response) => self.respond(reply, response),
            Handled::Deferred | Handled::NoResponse => {}
            Handled::Disconnect => {
                self.handle_disconnect(now, reply.conn);
                self.outputs.push_back(Output::Disconnect(reply.conn));
            }
        }
    }

    /// The sync `id` is done. A failed one is never tried again: what is in memory of the operating system may be gone,
    /// so that the partition answers `KAFKA_STORAGE_ERROR` until the broker is opened anew. One for which there were no descriptors
    /// has not been tried yet: who waits for it goes on waiting.
    pub fn handle_synced(&mut self, now: Now, id: SyncId, result: Result<(), StorageError>) {
        let Some(index) = self.syncing.remove(&id).filter(|_| !self.closed) else {
            return;
        };
        self.quotas.note_time(now);
        let Some(partition) = self.partitions.get_mut(index) else {
            return;
        };
        match result {
            Ok(()) => {
                let commits = self.config.durability == Durability::Fsync;
                if let Some((up_to, advance)) = partition.sync_done(now, id, commits) {
                    partition.log.mark_synced(up_to);
                    partition.unsynced_since_us = None;
                    let more = partition.log.log_end_offset() > up_to;
                    self.note_advance(index, &advance);
                    if more {
                        self.note_unsynced(index);
                    }
                }
            }
            Err(error) if error.is_passing() => {
                partition.sync_put_off(id);
                self.housekeeping.sync_again(index, now);
            }
            Err(error) => {
                partition.log.fail(&error);
                self.fail_partition(index);
            }
        }
        self.settle(now);
    }

    /// Whatever is due at `now`: deadlines of waiting requests, group timers, retention, checkpoints.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.closed {
            return;
        }
        self.quotas.note_time(now);
        while let Some(expired) = self.purgatory.next_expired(now.mono_us) {
            match expired {
                Expired::Produce(produce) => {
                    self.respond(produce.reply, Response::Produce(produce.response))
                }
                Expired::Fetch(id, fetch) => {
                    self.unwatch(id, &fetch.partitions);
                    api::fetch::complete(self, now, fetch.plan);
                }
                Expired::ShareFetch(id, fetch) => {
                    self.unwatch(id, &fetch.partitions);
                    api::share_fetch::proceed(self, now, fetch.request, true);
                }
            }
        }
        if self
            .groups
            .poll_timeout()
            .is_some_and(|at| at <= now.mono_us)
        {
            self.groups.handle_timeout(now);
        }
        self.share_due(now);
        self.telemetry.handle_timeout(now);
        self.transactions.handle_timeout(now);
        self.expire_waiting(now);
        self.end_waits_for_company(now);
        self.keep_house(now);
        self.clean(now);
        self.settle(now);
    }

    /// When [`Broker::handle_timeout`] must be called, in monotonic microseconds; `None` if nothing is to come.
    pub fn poll_timeout(&self) -> Option<u64> {
        if self.closed {
            return None;
        }
        [
            self.purgatory.next_deadline_us(),
            self.groups.poll_timeout(),
            self.share_groups.poll_timeout(),
            self.share.poll_timeout(),
            self.telemetry.poll_timeout(),
            self.transactions.poll_timeout(),
            self.waiting.next_deadline_us(),
            self.housekeeping.next_us(),
            self.cleaner.next_us(),
            self.next_waiting_sync_us(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        let mut output = self.outputs.pop_front()?;
        if self.quotas.limits_time()
            && let Output::Respond { conn, response, .. } = &mut output
            && let Some(field) = response.throttle_time_ms_mut()
            && let Some(peer) = self.connections.get(conn)
        {
            *field = (*field).max(self.quotas.answer_throttle_ms(&peer.client_id));
        }
        Some(output)
    }

    /// Sends an answer, unless its connection is gone.
    pub(crate) fn respond(&mut self, to: ReplyTo, response: Response) {
        if self.connections.contains_key(&to.conn) {
            self.outputs.push_back(Output::Respond {
                conn: to.conn,
                correlation_id: to.correlation_id,
                api_version: to.api_version,
                response,
            });
        }
    }

    /// To be called after an append of `bytes` bytes: the high watermark moves, or a sync is asked for.
    pub(crate) fn note_appended(&mut self, now: Now, index: PartitionIndex, bytes: usize) {
        let Some(partition) = self.partitions.get_mut(index) else {
            return;
        };
        partition.count_appended(bytes);
        if self.cleaner.is_idle() && partition.log.config().compact && self.config.cleaner.enable {
            self.cleaner.check_in(self.config.cleaner.backoff_ms, now);
        }
        self.housekeeping.note_appended(&self.config, now);
        match self.config.durability {
            Durability::Os => {
                let advance = partition.commit_all();
                self.note_advance(index, &advance);
                self.note_flush_due(now, index);
            }
            Durability::Fsync => self.note_unsynced(index),
        }
    }

    /// `Durability::Os`: a segment that is full is synced, as in Kafka, so that recovery after a crash has no more than one to
    /// read; besides, `flush.messages` and `flush.ms` of the topic.
    fn note_flush_due(&mut self, now: Now, index: PartitionIndex) {
        let Some(partition) = self.partitions.get_mut(index) else {
            return;
        };
        let Some(config) = self.topics.get(partition.topic).map(|topic| &topic.config) else {
            return;
        };
        if partition.note_new_segment() {
            self.note_unsynced(index);
            return;
        }
        if config.flush_messages == i64::MAX && config.flush_ms == i64::MAX {
            return;
        }
        let unsynced = partition.log.log_end_offset() - partition.log.synced_offset();
        if unsynced >= config.flush_messages {
            self.note_unsynced(index);
        } else if config.flush_ms != i64::MAX && partition.unsynced_since_us.is_none() {
            partition.unsynced_since_us = Some(now.mono_us);
            self.housekeeping.flush_at(now.after_ms(config.flush_ms));
        }
    }

    pub(crate) fn note_unsynced(&mut self, index: PartitionIndex) {
        if let Some(partition) = self.partitions.get_mut(index)
            && !partition.queued_for_sync
            && !partition.is_syncing()
            && !partition.is_failed()
        {
            partition.queued_for_sync = true;
            self.to_sync.push(index);
        }
    }

    fn note_advance(&mut self, index: PartitionIndex, advance: &Advance) {
        let Some(partition) = self.partitions.get_mut(index) else {
            return;
        };
        partition.advanced_bytes += advance.bytes;
        partition.advanced_stable_bytes += advance.stable_bytes;
        let someone_waits = partition.has_commit_waiters() || !partition.fetch_waiters.is_empty();
        if !someone_waits {
            partition.advanced_bytes = 0;
            partition.advanced_stable_bytes = 0;
        } else if !partition.queued_as_advanced {
            partition.queued_as_advanced = true;
            self.advanced.push(index);
        }
    }

    /// Parks `waiter` until `partition` is committed up to `end`; if it is already, it is woken by the next `settle`.
    pub(crate) fn wait_for_commit(
        &mut self,
        index: PartitionIndex,
        end: i64,
        waiter: CommitWaiter,
    ) {
        if let Some(partition) = self.partitions.get_mut(index) {
            partition.wait_for_commit(end, waiter);
            if partition.high_watermark() >= end {
                self.note_advance(index, &Advance::default());
            }
        }
    }

    /// A clean close synced the partition's log to its end.
    pub(crate) fn note_closed(&mut self, index: PartitionIndex) {
        if let Some(partition) = self.partitions.get_mut(index) {
            let advance = partition.commit_all();
            self.note_advance(index, &advance);
        }
    }

    /// The last step of open: what a crash left behind the last sync is part of the log now, so it is made durable before
    /// anyone sees it. Otherwise acknowledged records could be missing until a sync is through.
    ///
    /// With [`Durability::Os`] nothing waits for syncs, this neither.
    pub(crate) fn sync_what_was_recovered(&mut self) {
        if self.config.durability == Durability::Os {
            return;
        }
        let (mut failed, mut put_off) = (Vec::new(), Vec::new());
        for (index, partition) in self.partitions.iter_mut() {
            if partition.log.synced_offset() >= partition.log.log_end_offset() {
                continue;
            }
            let synced = match partition.log.sync_targets() {
                Ok(Some(job)) => job.run().map(|()| partition.log.mark_synced(job.up_to)),
                Ok(None) => Ok(()),
                Err(_) => {
                    failed.push(index);
                    continue;
                }
            };
            match synced {
                Ok(()) => {
                    partition.commit_synced();
                }
                // What is not durable isn't visible before it is.
                Err(error) if error.is_passing() => put_off.push(index),
                Err(error) => {
                    partition.log.fail(&error);
                    failed.push(index);
                }
            }
        }
        for index in put_off {
            self.note_unsynced(index);
        }
        for index in failed {
            self.fail_partition(index);
        }
    }

    /// Stops a partition for good and tells everyone who waits for it.
    pub(crate) fn fail_partition(&mut self, index: PartitionIndex) {
        if let Some(partition) = self.partitions.get_mut(index) {
            partition.fail();
            if partition.topic_name == TRANSACTIONS_TOPIC {
                self.transactions.log_failed(partition.number);
            }
            self.abandon_waiters(index, ErrorCode::KAFKA_STORAGE_ERROR);
        }
    }

    /// Answers everyone who waits for this partition with `error`; fetches are woken and find out themselves.
    pub(crate) fn abandon_waiters(&mut self, index: PartitionIndex, error: ErrorCode) {
        let Some(partition) = self.partitions.get_mut(index) else {
            return;
        };
        while let Some(waiter) = partition.next_abandoned() {
            self.woken.push_back(Woken::Commit(index, waiter, error));
        }
        for &fetch in &partition.fetch_waiters {
            self.woken.push_back(Woken::Fetch(fetch));
        }
    }

    /// Takes the fetch `id` off the lists of the partitions that it watched.
    pub(crate) fn unwatch(&mut self, id: WaitId, partitions: &[PartitionIndex]) {
        for &index in partitions {
            if let Some(partition) = self.partitions.get_mut(index)
                && let Some(at) = partition
                    .fetch_waiters
                    .iter()
                    .position(|waiter| *waiter == id)
            {
                partition.fetch_waiters.swap_remove(at);
            }
        }
    }

    /// Follows up on what an input did until nothing more comes of it: wakes who waited for a partition, does what the
    /// group coordinator wants; then asks for syncs. Everything one input did is seen by a woken fetch at once.
    pub(crate) fn settle(&mut self, now: Now) {
        assert!(!self.partitions.any_lent(), "some partitions are lent");
        loop {
            if let Some(index) = self.advanced.pop() {
                self.collect_woken(index);
            } else if let Some(woken) = self.woken.pop_front() {
                self.wake(now, woken);
            } else if let Some(output) = self.groups.poll_output() {
                match output {
                    GroupOutput::Respond { to, response } => {
                        if let Some(response) = self.share_groups.merge_deletion(to, response) {
                            self.respond(to, response);
                        }
                    }
                    GroupOutput::Append {
                        partition,
                        records,
                        producer,
                        token,
                    } if !self.closed => {
                        self.append_for_group(now, partition, &records, producer, token);
                    }
                    GroupOutput::Append { token, .. } => {
                        self.groups
                            .handle_appended(now, token, Err(ErrorCode::NOT_COORDINATOR));
                    }
                }
            } else if let Some(output) = self.share.poll_output() {
                self.follow_share(now, output);
            } else if let Some(output) = self.share_groups.poll_output() {
                self.follow_share_group(now, output);
            } else if let Some(output) = self.transactions.poll_output() {
                self.do_for_transactions(now, output);
            } else {
                break;
            }
        }
        self.start_syncs(now);
    }

    fn do_for_transactions(&mut self, now: Now, output: TransactionOutput) {
        match output {
            TransactionOutput::Respond { to, response } => self.respond(to, response),
            TransactionOutput::Append { token, .. } if self.closed => {
                let error = Err(ErrorCode::NOT_COORDINATOR);
                self.transactions.handle_appended(now, token, error);
            }
            TransactionOutput::Append {
                partition,
                record,
                token,
            } => self.append_for_transaction(now, partition, record, token),
            // The next start writes them.
            TransactionOutput::WriteMarkers(_) if self.closed => {}
            TransactionOutput::WriteMarkers(decision) => self.write_markers(now, decision),
            TransactionOutput::Moved(id) => self.transaction_moved(now, &id),
            TransactionOutput::NotWritten(id) => self.refuse_waiting_of(now, &id),
        }
    }

    fn collect_woken(&mut self, index: PartitionIndex) {
        let Some(partition) = self.partitions.get_mut(index) else {
            return;
        };
        partition.queued_as_advanced = false;
        while let Some(waiter) = partition.next_committed() {
            self.woken
                .push_back(Woken::Commit(index, waiter, ErrorCode::NONE));
        }
        let bytes = core::mem::take(&mut partition.advanced_bytes);
        let stable_bytes = core::mem::take(&mut partition.advanced_stable_bytes);
        for &fetch in &partition.fetch_waiters {
            if self.purgatory.feed_fetch(fetch, bytes, stable_bytes) {
                self.woken.push_back(Woken::Fetch(fetch));
            }
        }
    }

    fn wake(&mut self, now: Now, woken: Woken) {
        match woken {
            Woken::Commit(index, CommitWaiter::Produce(id), error) => {
                if let Some(produce) = self.purgatory.resolve_produce(id, index, error) {
                    self.respond(produce.reply, Response::Produce(produce.response));
                }
            }
            Woken::Commit(_, CommitWaiter::Group(token), error) => {
                self.groups.handle_appended(now, token, committed(error));
            }
            Woken::Commit(_, CommitWaiter::ShareGroup(token), error) => {
                self.share_groups.handle_appended(token, committed(error));
            }
            Woken::Commit(_, CommitWaiter::ShareState(token), error) => {
                self.share.handle_appended(token, committed(error));
            }
            Woken::Fetch(id) if self.purgatory.is_share_fetch(id) => {
                if let Some(fetch) = self.purgatory.take_share_fetch(id) {
                    self.unwatch(id, &fetch.partitions);
                    api::share_fetch::proceed(self, now, fetch.request, false);
                }
            }
            Woken::Commit(_, CommitWaiter::Transaction(token), error) => {
                self.transactions
                    .handle_appended(now, token, committed(error));
            }
            Woken::Commit(_, CommitWaiter::Marker(id), error) => {
                self.marker_settled(now, id, error);
            }
            Woken::Disconnect(conn) => {
                self.handle_disconnect(now, conn);
                self.outputs.push_back(Output::Disconnect(conn));
            }
            Woken::Fetch(id) => {
                if let Some(fetch) = self.purgatory.take_fetch(id) {
                    self.unwatch(id, &fetch.partitions);
                    api::fetch::complete(self, now, fetch.plan);
                }
            }
        }
    }

    /// The settings in force for a share group.
    pub(crate) fn share_settings(&self, group: &Str) -> ShareGroupSettings {
        self.share_groups.settings_of(group, &self.config.share)
    }

    /// Sets what a share group has for itself; `None` goes back to [`BrokerConfig::share`].
    pub fn set_share_group_settings(&mut self, group: &Str, settings: Option<ShareGroupSettings>) {
        self.share_groups.set_settings(group, settings);
    }

    /// Sets what a consumer group (KIP-848) has for itself; `None` goes back to [`BrokerConfig::groups`]. It counts from the next
    /// heartbeat of each member on.
    pub fn set_consumer_group_settings(
        &mut self,
        group: &Str,
        settings: Option<ConsumerGroupSettings>,
    ) {
        self.groups.set_consumer_group_settings(group, settings);
    }

    /// Sessions and locks that end, and what `__share_group_state` doesn't need any more.
    fn share_due(&mut self, now: Now) {
        if self
            .share_groups
            .poll_timeout()
            .is_some_and(|at| at <= now.mono_us)
        {
            self.share_groups.handle_timeout(now);
        }
        if self
            .share
            .poll_timeout()
            .is_some_and(|at| at <= now.mono_us)
        {
            let Self {
                share,
                share_groups,
                config,
                ..
            } = self;
            share.handle_timeout(now, |group| share_groups.settings_of(group, &config.share));
            if share.prune_is_due(now) {
                self.prune_share_state(now);
            }
        }
    }

    fn prune_share_state(&mut self, now: Now) {
        let topic = self.topics.by_name(SHARE_STATE_TOPIC);
        let indexes = topic.map_or_else(Vec::new, |t| t.partitions.clone());
        let ends: Vec<i64> = indexes
            .iter()
            .map(|index| {
                self.partitions
                    .get(*index)
                    .map_or(0, |p| p.high_watermark())
            })
            .collect();
        let needed = self.share.prune(now, &ends);
        for (index, from) in indexes.into_iter().zip(needed) {
            let Some(partition) = self.partitions.get_mut(index) else {
                continue;
            };
            if partition.is_failed() || from <= partition.log.log_start_offset() {
                continue;
            }
            if partition.log.advance_start(from).is_err() {
                self.fail_partition(index);
            } else {
                self.housekeeping.remove_deleted_at(now);
                self.housekeeping.note_appended(&self.config, now);
            }
        }
    }

    fn follow_share(&mut self, now: Now, output: ShareOutput) {
        match output {
            ShareOutput::Append { token, .. } if self.closed => {
                self.share
                    .handle_appended(token, Err(ErrorCode::NOT_COORDINATOR));
            }
            ShareOutput::Append {
                partition,
                record,
                token,
            } => {
                let appended = self.ensure_share_state_topic(now).and_then(|_| {
                    self.append_for_coordinator(now, SHARE_STATE_TOPIC, partition, &[record])
                });
                match appended {
                    Ok((index, end)) => {
                        self.share.note_offset(token, end - 1);
                        self.wait_for_commit(index, end, CommitWaiter::ShareState(token));
                    }
                    Err(code) => self.share.handle_appended(token, Err(code)),
                }
            }
            ShareOutput::Wake {
                topic_id,
                partition,
            } => {
                let topic = self.topics.by_id(&topic_id);
                let index = topic.and_then(|topic| topic.partition(partition));
                let partition = index.and_then(|index| self.partitions.get(index));
                let waiters = partition.map_or(&[][..], |p| &p.fetch_waiters);
                for id in waiters {
                    if self.purgatory.is_share_fetch(*id) {
                        self.woken.push_back(Woken::Fetch(*id));
                    }
                }
            }
            ShareOutput::Written(id) => match self.share.request_mut(id) {
                Some(request) if request.fetch.is_some() => api::share_fetch::finish(self, id),
                Some(_) => api::share_acknowledge::finish(self, id),
                None => {}
            },
            ShareOutput::Done(ticket, result) => self.share_groups.state_written(ticket, result),
        }
    }

    fn follow_share_group(&mut self, now: Now, output: ShareGroupOutput) {
        match output {
            ShareGroupOutput::Respond { to, response } => self.respond(to, response),
            ShareGroupOutput::Append { token, .. } if self.closed => {
                self.share_groups
                    .handle_appended(token, Err(ErrorCode::NOT_COORDINATOR));
            }
            ShareGroupOutput::Append {
                group,
                records,
                token,
            } => {
                let appended = self.ensure_offsets_topic(now).and_then(|partitions| {
                    let partition = partition_of(&group, partitions);
                    self.append_for_coordinator(now, OFFSETS_TOPIC, partition, &records)
                });
                match appended {
                    Ok((index, end)) => {
                        self.wait_for_commit(index, end, CommitWaiter::ShareGroup(token));
                    }
                    Err(code) => self.share_groups.handle_appended(token, Err(code)),
                }
            }
            ShareGroupOutput::Initialize {
                group,
                topic_id,
                partitions,
                state_epoch,
            } => {
                let partitions = partitions.into_iter();
                self.share
                    .initialize(now, &group, topic_id, partitions, state_epoch);
            }
        }
    }

    /// When the first of the syncs that wait for company has to begin, in monotonic microseconds.
    pub(crate) fn next_waiting_sync_us(&self) -> Option<u64> {
        self.syncs_that_wait.first().map(|&(by_us, _)| by_us)
    }

    /// Asks for the syncs that have waited for company long enough.
    fn end_waits_for_company(&mut self, now: Now) {
        while let Some(&(by_us, index)) = self.syncs_that_wait.first()
            && by_us <= now.mono_us
        {
            self.syncs_that_wait.pop_first();
            self.note_unsynced(index);
        }
    }

    fn start_syncs(&mut self, now: Now) {
        for index in core::mem::take(&mut self.to_sync) {
            let Some(partition) = self.partitions.get_mut(index) else {
                continue;
            };
            partition.queued_for_sync = false;
            if partition.is_failed() || partition.is_syncing() {
                continue;
            }
            let by = (partition.sync_by_us(), index);
            if partition.sync_should_wait(now) {
                self.syncs_that_wait.insert(by);
                continue;
            }
            self.syncs_that_wait.remove(&by);
            match partition.log.sync_targets() {
                Ok(Some(job)) => {
                    self.last_sync_id += 1;
                    let id = SyncId(self.last_sync_id);
                    partition.sync_started(now, id, job.up_to);
                    self.syncing.insert(id, index);
                    self.outputs.push_back(Output::Sync { id, job });
                }
                Ok(None) => {}
                Err(_) => self.fail_partition(index),
            }
        }
    }
}

/// What a coordinator is told of an append.
fn committed(error: ErrorCode) -> Result<(), ErrorCode> {
    match error {
        ErrorCode::NONE => Ok(()),
        error => Err(error),
    }
}

/// Someone whose wait is over.
#[derive(Debug)]
enum Woken {
    /// What it wrote to the partition is committed, or never will be.
    Commit(PartitionIndex, CommitWaiter, ErrorCode),
    /// A fetch with enough to read, or with an error to tell.
    Fetch(WaitId),
    /// A connection that is to be closed.
    Disconnect(ConnId),
}
