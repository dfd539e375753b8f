//! A coordinator with a log and markers of its own, for the tests of the flows.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec,
    vec::Vec,
};
use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::{
        add_partitions_to_txn::{
            AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResponse,
            AddPartitionsToTxnTopicResult,
        },
        end_txn::{EndTxnRequest, EndTxnResponse},
        init_producer_id::InitProducerIdRequest,
    },
};
use ottla_record::Now;

use super::{
    Admission, Decision, Member, TransactionConfig, TransactionCoordinator, TransactionOutput,
    TransactionToken,
    add_partitions::AddPart,
    transaction::{Metadata, State},
};
use crate::{
    context::{ConnId, ReplyTo, RequestContext},
    groups::CoordinatorRecord,
};

/// The topic that the tests add partitions of.
pub(super) const TOPIC: Str = Str::from_static("t");

/// Wall clock at monotonic 0, milliseconds.
const EPOCH_MS: i64 = 1_700_000_000_000;

pub(super) fn config() -> TransactionConfig {
    TransactionConfig {
        partitions: 4,
        segment_bytes: 100 << 20,
        max_timeout_ms: 60_000,
        id_expiration_ms: 7 * 24 * 3_600_000,
        abort_timed_out_interval_ms: 10_000,
        remove_expired_interval_ms: 3_600_000,
    }
}

pub(super) struct Coordinator {
    pub coordinator: TransactionCoordinator,
    pub now: Now,
    /// Committed records in the order of their commit.
    pub log: Vec<CoordinatorRecord>,
    /// Set: appends wait in `appends` for the test to decide.
    pub hold: bool,
    pub appends: VecDeque<(CoordinatorRecord, TransactionToken)>,
    /// Set: markers wait in `decisions`.
    pub hold_markers: bool,
    pub decisions: VecDeque<Decision>,
    /// Whose markers are written.
    pub done: Vec<Decision>,
    pub moved: Vec<Str>,
    answers: BTreeMap<i32, Response>,
    open: Vec<i32>,
    next_id: i32,
    next_producer_id: i64,
}

impl Coordinator {
    pub fn new(config: TransactionConfig) -> Self {
        Self {
            coordinator: TransactionCoordinator::new(config),
            now: Now::new(0, EPOCH_MS),
            log: Vec::new(),
            hold: false,
            appends: VecDeque::new(),
            hold_markers: false,
            decisions: VecDeque::new(),
            done: Vec::new(),
            moved: Vec::new(),
            answers: BTreeMap::new(),
            open: Vec::new(),
            next_id: 0,
            next_producer_id: 1000,
        }
    }

    fn context(&mut self, version: i16) -> RequestContext {
        self.next_id += 1;
        self.open.push(self.next_id);
        RequestContext {
            reply: ReplyTo {
                conn: ConnId(1),
                correlation_id: self.next_id,
                api_version: version,
            },
            api_version: version,
            client_id: None,
            client_host: "/h".into(),
            endpoint: crate::Endpoint {
                host: "localhost".into(),
                port: 9092,
            },
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.coordinator.poll_output() {
            match output {
                TransactionOutput::Respond { to, response } => {
                    let open = self.open.iter().position(|id| *id == to.correlation_id);
                    self.open.remove(open.expect("answered once"));
                    self.answers.insert(to.correlation_id, response);
                }
                TransactionOutput::Append {
                    partition,
                    record,
                    token,
                } => {
                    assert!((0..4).contains(&partition));
                    self.appends.push_back((record, token));
                    if !self.hold {
                        self.finish_append(Ok(()));
                    }
                }
                TransactionOutput::WriteMarkers(decision) => {
                    self.decisions.push_back(decision);
                    if !self.hold_markers {
                        self.finish_markers();
                    }
                }
                TransactionOutput::Moved(id) | TransactionOutput::NotWritten(id) => {
                    self.moved.push(id);
                }
            }
        }
    }

    /// Ends the oldest append.
    pub fn finish_append(&mut self, result: Result<(), ErrorCode>) {
        let Some((record, token)) = self.appends.pop_front() else {
            return;
        };
        if result.is_ok() {
            self.log.push(record);
        }
        self.coordinator.handle_appended(self.now, token, result);
        self.drain();
    }

    /// Writes all markers that wait.
    pub fn finish_markers(&mut self) {
        while let Some(decision) = self.decisions.pop_front() {
            let id = decision.transactional_id.clone();
            self.done.push(decision);
            self.coordinator.handle_markers_written(self.now, &id);
            self.drain();
        }
    }

    /// A new coordinator reads what was committed.
    pub fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// The same, after these partitions of the log could not be synced.
    pub fn restart_with(&mut self, failed: &[i32]) {
        self.coordinator = TransactionCoordinator::new(self.coordinator.out.config.clone());
        failed.iter().for_each(|p| self.coordinator.log_failed(*p));
        self.appends.clear();
        self.decisions.clear();
        self.open.clear();
        self.answers.clear();
        for record in &self.log {
            self.coordinator
                .replay(&record.key, record.value.as_deref());
        }
        self.coordinator.replay_finished(self.now);
        self.drain();
    }

    /// Lets time pass, doing what is due when it is due.
    pub fn advance(&mut self, ms: u64) {
        let end = self.now.mono_us + ms * 1000;
        while let Some(at) = self.coordinator.poll_timeout().filter(|at| *at <= end) {
            self.set_time(at.max(self.now.mono_us));
            self.coordinator.handle_timeout(self.now);
            self.drain();
            let next = self.coordinator.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now.mono_us));
        }
        self.set_time(end);
    }

    fn set_time(&mut self, mono_us: u64) {
        self.now = Now::new(mono_us, EPOCH_MS + (mono_us / 1000) as i64);
    }

    pub fn present(&self, id: &str) -> &Metadata {
        self.coordinator.present(&Str::from(id)).expect("a state")
    }

    pub fn state(&self, id: &str) -> Option<State> {
        self.coordinator.present(&Str::from(id)).map(|m| m.state)
    }

    /// As if the producer had been started often.
    pub fn set_epoch(&mut self, id: &str, epoch: i16) {
        let transaction = self.coordinator.transactions.get_mut(&Str::from(id));
        let present = transaction.and_then(|t| t.present.as_mut()).unwrap();
        present.epoch = epoch;
    }

    pub fn send_init(
        &mut self,
        version: i16,
        id: &str,
        timeout_ms: i32,
        expected: Option<(i64, i16)>,
    ) -> i32 {
        let context = self.context(version);
        let (producer_id, producer_epoch) = expected.unwrap_or((-1, -1));
        let request = InitProducerIdRequest {
            transactional_id: Some(id.into()),
            transaction_timeout_ms: timeout_ms,
            producer_id,
            producer_epoch,
        };
        let next = &mut self.next_producer_id;
        let mut new_id = || {
            *next += 1;
            Ok(*next - 1)
        };
        let id = Str::from(id);
        let coordinator = &mut self.coordinator;
        coordinator.init_producer_id(self.now, &context, &id, &request, &mut new_id);
        self.drain();
        self.next_id
    }

    pub fn initialised(&mut self, id: i32) -> Option<Result<(i64, i16), ErrorCode>> {
        let response = self.answers.remove(&id)?;
        let Response::InitProducerId(response) = response else {
            panic!("{response:?}")
        };
        Some(match response.error_code {
            ErrorCode::NONE => Ok((response.producer_id, response.producer_epoch)),
            error => Err(error),
        })
    }

    pub fn init_with(
        &mut self,
        version: i16,
        id: &str,
        timeout_ms: i32,
        expected: Option<(i64, i16)>,
    ) -> Result<(i64, i16), ErrorCode> {
        let id = self.send_init(version, id, timeout_ms, expected);
        self.initialised(id).expect("an answer at once")
    }

    /// A producer begins, with a timeout of a minute.
    pub fn init(&mut self, id: &str) -> Result<(i64, i16), ErrorCode> {
        self.init_with(4, id, 60_000, None)
    }

    pub fn send_add(
        &mut self,
        version: i16,
        id: &str,
        producer: (i64, i16),
        partitions: &[i32],
    ) -> i32 {
        let reply = self.context(version).reply;
        let results = partitions
            .iter()
            .map(|p| AddPartitionsToTxnPartitionResult {
                partition_index: *p,
                partition_error_code: ErrorCode::NONE,
            });
        let response = AddPartitionsToTxnResponse {
            results_by_topic_v3_and_below: vec![AddPartitionsToTxnTopicResult {
                name: TOPIC,
                results_by_partition: results.collect(),
            }],
            ..Default::default()
        };
        let part = AddPart {
            transactional_id: id.into(),
            producer_id: producer.0,
            producer_epoch: producer.1,
            verify_only: false,
            partitions: partitions.iter().map(|p| (TOPIC, *p)).collect(),
            at: 0,
        };
        let client_version = if version >= 5 { 2 } else { 0 };
        let coordinator = &mut self.coordinator;
        coordinator.add_partitions(self.now, reply, client_version, response, vec![part]);
        self.drain();
        self.next_id
    }

    pub fn added(&mut self, id: i32) -> Option<ErrorCode> {
        let response = self.answers.remove(&id)?;
        let Response::AddPartitionsToTxn(mut response) = response else {
            panic!("{response:?}")
        };
        let results = super::add_partitions::results_at(&mut response, 0);
        Some(results[0].results_by_partition[0].partition_error_code)
    }

    pub fn add_with(
        &mut self,
        version: i16,
        id: &str,
        producer: (i64, i16),
        partitions: &[i32],
    ) -> ErrorCode {
        let id = self.send_add(version, id, producer, partitions);
        self.added(id).expect("an answer at once")
    }

    pub fn add(&mut self, id: &str, producer: (i64, i16), partitions: &[i32]) -> ErrorCode {
        self.add_with(3, id, producer, partitions)
    }

    pub fn admit(
        &mut self,
        id: &str,
        (producer_id, producer_epoch): (i64, i16),
        partitions: &[(Str, i32)],
        add: bool,
    ) -> Admission {
        let transactional_id = &Str::from(id);
        let member = Member {
            transactional_id,
            producer_id,
            producer_epoch,
        };
        let admission = self.coordinator.admit(self.now, member, partitions, add);
        self.drain();
        admission
    }

    pub fn send_end(
        &mut self,
        version: i16,
        id: &str,
        (producer_id, producer_epoch): (i64, i16),
        committed: bool,
    ) -> i32 {
        let reply = self.context(version).reply;
        let request = EndTxnRequest {
            transactional_id: id.into(),
            producer_id,
            producer_epoch,
            committed,
        };
        let next = &mut self.next_producer_id;
        let mut new_id = || {
            *next += 1;
            Ok(*next - 1)
        };
        self.coordinator.end(self.now, reply, &request, &mut new_id);
        self.drain();
        self.next_id
    }

    pub fn ended(&mut self, id: i32) -> Option<EndTxnResponse> {
        let response = self.answers.remove(&id)?;
        let Response::EndTxn(response) = response else {
            panic!("{response:?}")
        };
        Some(response)
    }

    /// Ends the transaction of a client from before KIP-890.
    pub fn end(&mut self, id: &str, producer: (i64, i16), committed: bool) -> ErrorCode {
        let id = self.send_end(3, id, producer, committed);
        self.ended(id).expect("an answer at once").error_code
    }
}
