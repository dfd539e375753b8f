//! Records of transactions that wait to be let in: their partition is being added to the transaction, or the transaction before
//! is not complete yet. In Kafka the producer is told to try again; here its request waits for the record it depends on.
//!
//! Requests of one transactional id are let in in the order in which they came, so that no sequence number overtakes another.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use ottla_protocol::{
    ErrorCode, Str,
    messages::{produce::ProduceRequest, txn_offset_commit::TxnOffsetCommitRequest},
};
use ottla_record::Now;

use crate::{
    Broker, api,
    context::{ConnId, Handled, RequestContext},
};

/// A request that waits.
#[derive(Debug)]
pub(crate) enum Parked {
    Produce(ProduceRequest),
    TxnOffsetCommit(TxnOffsetCommitRequest),
}

impl Parked {
    fn transactional_id(&self) -> &str {
        match self {
            Self::Produce(request) => request.transactional_id.as_deref().unwrap_or_default(),
            Self::TxnOffsetCommit(request) => &request.transactional_id,
        }
    }
}

/// What came of looking at a request.
pub(crate) enum Outcome {
    Done(Handled),
    /// It has to wait (on).
    Wait(Parked),
}

#[derive(Debug)]
struct Waiter {
    context: RequestContext,
    deadline_us: u64,
    request: Parked,
}

/// Requests that wait, by transactional id.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    queues: BTreeMap<Str, VecDeque<Waiter>>,
}

impl Waiting {
    /// When the next one has waited for long enough, in monotonic microseconds.
    pub(crate) fn next_deadline_us(&self) -> Option<u64> {
        let all = self.queues.values().flatten();
        all.map(|waiter| waiter.deadline_us).min()
    }
}

impl Broker {
    /// Looks at a request that may have to wait, behind those of its transactional id that do.
    pub(crate) fn admit_or_park(
        &mut self,
        now: Now,
        context: &RequestContext,
        transactional_id: &Str,
        timeout_ms: i32,
        request: Parked,
    ) -> Handled {
        let outcome = match self.waiting.queues.contains_key(transactional_id) {
            true => Outcome::Wait(request),
            false => self.look_at(now, context, request),
        };
        match outcome {
            Outcome::Done(handled) => handled,
            Outcome::Wait(request) => {
                let id = Str::from(transactional_id.as_str());
                let waiter = Waiter {
                    context: context.clone(),
                    deadline_us: now.after_ms(timeout_ms.max(0).into()),
                    request,
                };
                self.waiting.queues.entry(id).or_default().push_back(waiter);
                Handled::Deferred
            }
        }
    }

    fn look_at(&mut self, now: Now, context: &RequestContext, request: Parked) -> Outcome {
        // What a failed log says of a transaction may never have reached the disk: after a power cut the records would be there,
        // and nobody would know what they are part of.
        if let Err(error) = self.transactions.check_log(request.transactional_id()) {
            return Outcome::Done(refused(context, request, error));
        }
        match request {
            Parked::Produce(request) => api::produce::proceed(self, now, context, request),
            Parked::TxnOffsetCommit(request) => {
                api::txn_offset_commit::proceed(self, now, context, request)
            }
        }
    }

    /// Something that was under way for the transactional id is not any more: those that wait for it look again.
    pub(crate) fn transaction_moved(&mut self, now: Now, id: &Str) {
        while let Some(mut queue) = self.waiting.queues.remove(id) {
            let Some(waiter) = queue.pop_front() else {
                return;
            };
            let Waiter {
                context,
                deadline_us,
                request,
            } = waiter;
            let outcome = match self.closed {
                true => Outcome::Done(refused(&context, request, ErrorCode::NOT_COORDINATOR)),
                false => self.look_at(now, &context, request),
            };
            match outcome {
                Outcome::Done(handled) => {
                    if !queue.is_empty() {
                        self.waiting.queues.insert(id.clone(), queue);
                    }
                    self.finish(now, context.reply, handled);
                }
                Outcome::Wait(request) => {
                    queue.push_front(Waiter {
                        context,
                        deadline_us,
                        request,
                    });
                    self.waiting.queues.insert(id.clone(), queue);
                    return;
                }
            }
        }
    }

    /// Refuses those that have waited for too long, and with them those behind them: the order must not change.
    pub(crate) fn expire_waiting(&mut self, now: Now) {
        let late = |queue: &VecDeque<Waiter>| queue.iter().any(|w| w.deadline_us <= now.mono_us);
        self.refuse_waiting(now, late, ErrorCode::CONCURRENT_TRANSACTIONS);
    }

    /// Refuses all that wait: the broker is closed.
    pub(crate) fn refuse_all_waiting(&mut self, now: Now) {
        self.refuse_waiting(now, |_| true, ErrorCode::NOT_COORDINATOR);
    }

    /// Refuses those of a transactional id, whose log takes no records.
    pub(crate) fn refuse_waiting_of(&mut self, now: Now, id: &Str) {
        for waiter in self.waiting.queues.remove(id).unwrap_or_default() {
            let handled = refused(&waiter.context, waiter.request, ErrorCode::NOT_COORDINATOR);
            self.finish(now, waiter.context.reply, handled);
        }
    }

    fn refuse_waiting(
        &mut self,
        now: Now,
        which: impl Fn(&VecDeque<Waiter>) -> bool,
        error: ErrorCode,
    ) {
        let queues = self.waiting.queues.iter();
        let ids: Vec<Str> = queues
            .filter(|(_, queue)| which(queue))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            for waiter in self.waiting.queues.remove(&id).unwrap_or_default() {
                let handled = refused(&waiter.context, waiter.request, error);
                self.finish(now, waiter.context.reply, handled);
            }
        }
    }

    /// A connection is gone: what it sent and what still waits is dropped, as if it had come too late.
    pub(crate) fn drop_waiting_of(&mut self, conn: ConnId) {
        self.waiting.queues.retain(|_, queue| {
            queue.retain(|waiter| waiter.context.reply.conn != conn);
            !queue.is_empty()
        });
    }
}

fn refused(context: &RequestContext, request: Parked, error: ErrorCode) -> Handled {
    match request {
        Parked::Produce(request) => api::produce::refuse_all(context, request, error),
        Parked::TxnOffsetCommit(request) => {
            Handled::Respond(crate::groups::txn_commit::refused(&request, error))
        }
    }
}
