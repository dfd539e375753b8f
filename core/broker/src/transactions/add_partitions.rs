//! Partitions join a transaction: `AddPartitionsToTxn` and `AddOffsetsToTxn` of clients that say so beforehand, and the
//! records of clients of transaction version 2, which are the saying. Records of the others are checked against it.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::{
        add_offsets_to_txn::AddOffsetsToTxnResponse,
        add_partitions_to_txn::{AddPartitionsToTxnResponse, AddPartitionsToTxnTopicResult},
    },
};
use ottla_record::Now;

use super::{
    TransactionCoordinator,
    outbox::Then,
    transaction::{Metadata, State},
};
use crate::context::ReplyTo;

/// From this version on a producer that is shut out gets PRODUCER_FENCED; before, INVALID_PRODUCER_EPOCH. Of both keys.
const WITH_PRODUCER_FENCED: i16 = 2;
/// From this version of `AddPartitionsToTxn` on clients know TRANSACTION_ABORTABLE.
const WITH_TRANSACTION_ABORTABLE: i16 = 4;

/// Who speaks for a transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) transactional_id: &'a Str,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
}

/// Whether records of a transaction may be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Yes.
    Granted,
    /// Not yet: ask again when the coordinator says that the transactional id has moved.
    Wait,
    /// These partitions are not in the transaction.
    Missing(BTreeSet<(Str, i32)>),
    /// No.
    Refused(ErrorCode),
}

/// An `AddPartitionsToTxn` that was taken in: one part for each transactional id.
#[derive(Debug)]
pub(crate) struct AddPart {
    pub(crate) transactional_id: Str,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) verify_only: bool,
    pub(crate) partitions: Vec<(Str, i32)>,
    /// Where its answer lies; in each answer NONE stands so far where nothing else does.
    pub(crate) at: usize,
}

/// One with records under way.
#[derive(Debug)]
pub(super) struct AddUnderWay {
    reply: ReplyTo,
    response: AddPartitionsToTxnResponse,
    /// Which transactional id's answer lies where.
    left: BTreeMap<Str, usize>,
}

impl TransactionCoordinator {
    /// Adds partitions to transactions, or (`verify_only`) checks that they are in them. `response` has the errors that are
    /// known already. The answer comes through [`super::TransactionOutput::Respond`].
    pub(crate) fn add_partitions(
        &mut self,
        now: Now,
        reply: ReplyTo,
        client_version: i16,
        mut response: AddPartitionsToTxnResponse,
        parts: Vec<AddPart>,
    ) {
        let request = self.next_add;
        self.next_add += 1;
        let mut left = BTreeMap::new();
        for part in parts {
            let member = Member {
                transactional_id: &part.transactional_id,
                producer_id: part.producer_id,
                producer_epoch: part.producer_epoch,
            };
            if part.verify_only {
                let missing = match self.verify(member, &part.partitions) {
                    Admission::Granted => continue,
                    Admission::Missing(missing) => missing,
                    Admission::Wait => {
                        let error = ErrorCode::CONCURRENT_TRANSACTIONS;
                        set_error(&mut response, part.at, error, |_, _| true);
                        continue;
                    }
                    Admission::Refused(error) => {
                        set_error(&mut response, part.at, error, |_, _| true);
                        continue;
                    }
                };
                let error = match reply.api_version >= WITH_TRANSACTION_ABORTABLE {
                    true => ErrorCode::TRANSACTION_ABORTABLE,
                    false => ErrorCode::INVALID_TXN_STATE,
                };
                set_error(&mut response, part.at, error, |topic, partition| {
                    missing.contains(&(topic.clone(), partition))
                });
                continue;
            }
            match self.decide_add(now, member, &part.partitions, client_version) {
                Ok(None) => {}
                Ok(Some(next)) => {
                    self.step(&part.transactional_id, next, Then::Add { request });
                    left.insert(part.transactional_id, part.at);
                }
                Err(error) => {
                    let error = of_version(error, reply.api_version);
                    set_error(&mut response, part.at, error, |_, _| true);
                }
            }
        }
        if left.is_empty() {
            return self
                .out
                .respond(reply, Response::AddPartitionsToTxn(response));
        }
        let under_way = AddUnderWay {
            reply,
            response,
            left,
        };
        self.adds.insert(request, under_way);
    }

    /// The record of one transactional id of an `AddPartitionsToTxn` is committed, or is not going to be.
    pub(super) fn added(&mut self, request: u64, id: &Str, result: Result<(), ErrorCode>) {
        let Some(under_way) = self.adds.get_mut(&request) else {
            return;
        };
        let AddUnderWay { response, left, .. } = under_way;
        if let Some(at) = left.remove(id)
            && let Err(error) = result
        {
            set_error(response, at, error, |_, _| true);
        }
        if left.is_empty()
            && let Some(AddUnderWay {
                reply, response, ..
            }) = self.adds.remove(&request)
        {
            self.out
                .respond(reply, Response::AddPartitionsToTxn(response));
        }
    }

    /// Adds the partition of `__consumer_offsets` that holds a group. The answer comes through
    /// [`super::TransactionOutput::Respond`].
    pub(crate) fn add_offsets(
        &mut self,
        now: Now,
        reply: ReplyTo,
        member: Member<'_>,
        partition: (Str, i32),
    ) {
        match self.decide_add(now, member, &[partition], 0) {
            Ok(None) => self.offsets_added(reply, Ok(())),
            Ok(Some(next)) => {
                self.step(member.transactional_id, next, Then::AddOffsets { reply });
            }
            Err(error) => self.offsets_added(reply, Err(of_version(error, reply.api_version))),
        }
    }

    pub(super) fn offsets_added(&mut self, reply: ReplyTo, result: Result<(), ErrorCode>) {
        let response = AddOffsetsToTxnResponse {
            error_code: result.err().unwrap_or(ErrorCode::NONE),
            ..Default::default()
        };
        self.out.respond(reply, Response::AddOffsetsToTxn(response));
    }

    /// Whether records may go to `partitions` as part of the transaction. A client of transaction version 2 (`add`) has the
    /// partitions added by that; ask again when they are.
    pub(crate) fn admit(
        &mut self,
        now: Now,
        member: Member<'_>,
        partitions: &[(Str, i32)],
        add: bool,
    ) -> Admission {
        if !add {
            return self.verify(member, partitions);
        }
        let client_version = super::transaction::WITH_EPOCH_BUMP;
        match self.decide_add(now, member, partitions, client_version) {
            Ok(None) => Admission::Granted,
            Ok(Some(next)) => {
                self.step(member.transactional_id, next, Then::AddImplicitly);
                Admission::Wait
            }
            Err(ErrorCode::CONCURRENT_TRANSACTIONS) => Admission::Wait,
            Err(error) => Admission::Refused(error),
        }
    }

    fn verify(&self, member: Member<'_>, partitions: &[(Str, i32)]) -> Admission {
        let present = match self.present_of(member) {
            Ok(present) => present,
            Err(ErrorCode::CONCURRENT_TRANSACTIONS) => return Admission::Wait,
            Err(error) => return Admission::Refused(error),
        };
        let missing: BTreeSet<(Str, i32)> = partitions
            .iter()
            .filter(|(topic, partition)| !present.partitions.contains(topic, *partition))
            .cloned()
            .collect();
        match missing.is_empty() {
            true => Admission::Granted,
            false => Admission::Missing(missing),
        }
    }

    /// The next step, or `None` if all partitions are in the transaction already.
    fn decide_add(
        &self,
        now: Now,
        member: Member<'_>,
        partitions: &[(Str, i32)],
        client_version: i16,
    ) -> Result<Option<Metadata>, ErrorCode> {
        let present = self.present_of(member)?;
        let all_in = partitions
            .iter()
            .all(|(topic, partition)| present.partitions.contains(topic, *partition));
        if present.state == State::Ongoing && all_in {
            return Ok(None);
        }
        let next = present.with_partitions(partitions, client_version, now.wall_ms);
        Ok(Some(next))
    }

    /// The present state, if it is the member's and nothing is under way.
    fn present_of(&self, member: Member<'_>) -> Result<&Metadata, ErrorCode> {
        if member.transactional_id.is_empty() {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        self.check_log(member.transactional_id)?;
        let transaction = self
            .transactions
            .get(member.transactional_id)
            .ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
        // First of all: with version 2 the client may have the id and epoch already that are being written.
        if transaction.is_busy() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        match &transaction.present {
            None => Err(ErrorCode::CONCURRENT_TRANSACTIONS),
            Some(present) if present.producer_id != member.producer_id => {
                Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING)
            }
            Some(present) if present.epoch != member.producer_epoch => {
                Err(ErrorCode::PRODUCER_FENCED)
            }
            Some(present) => Ok(present),
        }
    }
}

fn of_version(error: ErrorCode, version: i16) -> ErrorCode {
    match error {
        ErrorCode::PRODUCER_FENCED if version < WITH_PRODUCER_FENCED => {
            ErrorCode::INVALID_PRODUCER_EPOCH
        }
        error => error,
    }
}

/// The answer for the transactional id at `at`; versions below 4 have the only one.
pub(crate) fn results_at(
    response: &mut AddPartitionsToTxnResponse,
    at: usize,
) -> &mut Vec<AddPartitionsToTxnTopicResult> {
    let AddPartitionsToTxnResponse {
        results_by_transaction,
        results_by_topic_v3_and_below,
        ..
    } = response;
    match results_by_transaction.get_mut(at) {
        Some(result) => &mut result.topic_results,
        None => results_by_topic_v3_and_below,
    }
}

fn set_error(
    response: &mut AddPartitionsToTxnResponse,
    at: usize,
    error: ErrorCode,
    is_meant: impl Fn(&Str, i32) -> bool,
) {
    for topic in results_at(response, at) {
        for partition in &mut topic.results_by_partition {
            if is_meant(&topic.name, partition.partition_index) {
                partition.partition_error_code = error;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Coordinator, TOPIC, config};
    use super::*;
    use alloc::vec;

    #[test]
    fn a_transaction_begins_with_its_first_partition() {
        let mut c = Coordinator::new(config());
        let producer = c.init("x").unwrap();
        assert_eq!(c.state("x"), Some(State::Empty));
        assert_eq!(c.add("x", producer, &[0]), ErrorCode::NONE);
        assert_eq!(c.state("x"), Some(State::Ongoing));
        let records = c.log.len();
        assert_eq!(c.add("x", producer, &[0]), ErrorCode::NONE);
        assert_eq!(c.log.len(), records, "it is in already");
        assert_eq!(c.add("x", producer, &[1]), ErrorCode::NONE);
        c.restart();
        let partitions = c.present("x").partitions.to_list();
        assert_eq!(partitions, [(TOPIC, 0), (TOPIC, 1)]);
    }

    #[test]
    fn who_may_not() {
        let mut c = Coordinator::new(config());
        let (id, epoch) = c.init("x").unwrap();
        for (name, producer, error) in [
            ("", (id, epoch), ErrorCode::INVALID_REQUEST),
            ("y", (id, epoch), ErrorCode::INVALID_PRODUCER_ID_MAPPING),
            ("x", (id + 1, epoch), ErrorCode::INVALID_PRODUCER_ID_MAPPING),
            ("x", (id, epoch + 1), ErrorCode::PRODUCER_FENCED),
            ("x", (id, -1), ErrorCode::PRODUCER_FENCED),
        ] {
            assert_eq!(c.add(name, producer, &[0]), error);
        }
        let old = c.add_with(1, "x", (id, epoch + 1), &[0]);
        assert_eq!(old, ErrorCode::INVALID_PRODUCER_EPOCH);
        c.add("x", (id, epoch), &[0]);
        c.hold_markers = true;
        c.end("x", (id, epoch), true);
        let busy = c.add("x", (id, epoch), &[1]);
        assert_eq!(busy, ErrorCode::CONCURRENT_TRANSACTIONS);
        c.finish_markers();
        assert_eq!(c.add("x", (id, epoch), &[1]), ErrorCode::NONE);
    }

    #[test]
    fn one_step_at_a_time() {
        let mut c = Coordinator::new(config());
        let producer = c.init("x").unwrap();
        c.hold = true;
        let first = c.send_add(3, "x", producer, &[0]);
        let busy = c.add("x", producer, &[1]);
        assert_eq!(busy, ErrorCode::CONCURRENT_TRANSACTIONS);
        assert_eq!(c.added(first), None);
        c.finish_append(Err(ErrorCode::NOT_ENOUGH_REPLICAS));
        assert_eq!(c.added(first), Some(ErrorCode::COORDINATOR_NOT_AVAILABLE));
        assert_eq!(c.state("x"), Some(State::Empty));
        let again = c.send_add(3, "x", producer, &[0]);
        c.finish_append(Ok(()));
        assert_eq!(c.added(again), Some(ErrorCode::NONE));
    }

    #[test]
    fn records_are_let_in() {
        let mut c = Coordinator::new(config());
        let (id, epoch) = c.init("x").unwrap();
        let two = vec![(TOPIC, 0), (TOPIC, 1)];
        let admit = |c: &mut Coordinator, epoch, add| c.admit("x", (id, epoch), &two, add);
        let missing = Admission::Missing(two.iter().cloned().collect());
        assert_eq!(admit(&mut c, epoch, false), missing);
        c.add("x", (id, epoch), &[0]);
        let missing = Admission::Missing([(TOPIC, 1)].into());
        assert_eq!(admit(&mut c, epoch, false), missing);
        c.hold = true;
        assert_eq!(admit(&mut c, epoch, true), Admission::Wait);
        assert_eq!(admit(&mut c, epoch, true), Admission::Wait);
        assert_eq!(admit(&mut c, epoch, false), Admission::Wait);
        assert_eq!(c.appends.len(), 1);
        c.moved.clear();
        c.finish_append(Ok(()));
        assert_eq!(c.moved, ["x"]);
        assert_eq!(admit(&mut c, epoch, true), Admission::Granted);
        assert_eq!(admit(&mut c, epoch, false), Admission::Granted);
        let fenced = Admission::Refused(ErrorCode::PRODUCER_FENCED);
        assert_eq!(admit(&mut c, epoch + 1, true), fenced);
        assert_eq!(admit(&mut c, epoch + 1, false), fenced);
    }
}
