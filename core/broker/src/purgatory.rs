//! Requests that wait: produces for their records to be committed, fetches for records to come.
//!
//! A waiter is woken by what it waits for (`Broker::settle`) or by its deadline, never by polling.

use alloc::{collections::BTreeSet, vec::Vec};

use hashbrown::HashMap;
use ottla_protocol::{ErrorCode, messages::produce::ProduceResponse};

use crate::{
    api::fetch::FetchPlan, context::ReplyTo, partition::PartitionIndex,
    share_partitions::ShareRequestId,
};

/// Names a waiting request; never reused within one broker run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WaitId(u64);

/// One partition that a produce waits for, and where its answer lies in the response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingPartition {
    pub(crate) partition: PartitionIndex,
    pub(crate) topic_at: usize,
    pub(crate) partition_at: usize,
}

/// A produce with `acks=all` or `acks=1` whose records are not all committed.
#[derive(Debug)]
pub(crate) struct WaitingProduce {
    pub(crate) reply: ReplyTo,
    /// Filled in as if all went well.
    pub(crate) response: ProduceResponse,
    pub(crate) pending: Vec<PendingPartition>,
}

impl WaitingProduce {
    /// Takes `partition` off the list, with its error if it has one.
    fn resolve(&mut self, partition: PartitionIndex, error: ErrorCode) {
        let Self {
            response, pending, ..
        } = self;
        pending.retain(|p| {
            if p.partition != partition {
                return true;
            }
            set_error(response, p, error);
            false
        });
    }
}

fn set_error(response: &mut ProduceResponse, at: &PendingPartition, error: ErrorCode) {
    if error != ErrorCode::NONE {
        let answer = &mut response.responses[at.topic_at].partition_responses[at.partition_at];
        answer.error_code = error;
        answer.base_offset = -1;
        answer.log_append_time_ms = -1;
        answer.log_start_offset = -1;
    }
}

/// A fetch that found less than `min_bytes`.
#[derive(Debug)]
pub(crate) struct WaitingFetch {
    pub(crate) plan: FetchPlan,
    /// The existing partitions it watches.
    pub(crate) partitions: Vec<PartitionIndex>,
    /// Bytes that must still come; 0 or less wakes it.
    pub(crate) missing_bytes: i64,
}

/// A share fetch that found too little.
#[derive(Debug)]
pub(crate) struct WaitingShareFetch {
    pub(crate) request: ShareRequestId,
    pub(crate) conn: crate::ConnId,
    /// The partitions it watches.
    pub(crate) partitions: Vec<PartitionIndex>,
}

#[derive(Debug)]
enum Waiting {
    Produce(WaitingProduce),
    Fetch(WaitingFetch),
    ShareFetch(WaitingShareFetch),
}

/// A request whose deadline passed.
#[derive(Debug)]
pub(crate) enum Expired {
    Produce(WaitingProduce),
    Fetch(WaitId, WaitingFetch),
    ShareFetch(WaitId, WaitingShareFetch),
}

/// All waiting requests.
#[derive(Debug, Default)]
pub(crate) struct Purgatory {
    last_id: u64,
    waiting: HashMap<WaitId, (Option<u64>, Waiting)>,
    deadlines: BTreeSet<(u64, WaitId)>,
}

impl Purgatory {
    fn add(&mut self, deadline_us: Option<u64>, waiting: Waiting) -> WaitId {
        self.last_id += 1;
        let id = WaitId(self.last_id);
        self.waiting.insert(id, (deadline_us, waiting));
        self.deadlines.extend(deadline_us.map(|at| (at, id)));
        id
    }

    fn remove(&mut self, id: WaitId) -> Option<Waiting> {
        let (deadline_us, waiting) = self.waiting.remove(&id)?;
        if let Some(at) = deadline_us {
            self.deadlines.remove(&(at, id));
        }
        Some(waiting)
    }

    /// Without a deadline it waits until its partitions are committed, have failed or are gone.
    pub(crate) fn park_produce(
        &mut self,
        deadline_us: Option<u64>,
        produce: WaitingProduce,
    ) -> WaitId {
        self.add(deadline_us, Waiting::Produce(produce))
    }

    pub(crate) fn park_fetch(&mut self, deadline_us: u64, fetch: WaitingFetch) -> WaitId {
        self.add(Some(deadline_us), Waiting::Fetch(fetch))
    }

    pub(crate) fn park_share_fetch(
        &mut self,
        deadline_us: u64,
        fetch: WaitingShareFetch,
    ) -> WaitId {
        self.add(Some(deadline_us), Waiting::ShareFetch(fetch))
    }

    /// `partition` is committed up to where the produce `id` wrote, or failed; the produce comes back when it was the last one.
    pub(crate) fn resolve_produce(
        &mut self,
        id: WaitId,
        partition: PartitionIndex,
        error: ErrorCode,
    ) -> Option<WaitingProduce> {
        let (_, Waiting::Produce(produce)) = self.waiting.get_mut(&id)? else {
            return None;
        };
        produce.resolve(partition, error);
        if !produce.pending.is_empty() {
            return None;
        }
        match self.remove(id)? {
            Waiting::Produce(produce) => Some(produce),
            Waiting::Fetch(_) | Waiting::ShareFetch(_) => None,
        }
    }

    /// Counts bytes that became visible, to all and to `read_committed`; whether the fetch has enough now.
    pub(crate) fn feed_fetch(&mut self, id: WaitId, bytes: u64, stable_bytes: u64) -> bool {
        match self.waiting.get_mut(&id) {
            Some((_, Waiting::Fetch(fetch))) => {
                let bytes = match fetch.plan.read_committed {
                    true => stable_bytes,
                    false => bytes,
                };
                fetch.missing_bytes = fetch.missing_bytes.saturating_sub_unsigned(bytes);
                fetch.missing_bytes <= 0
            }
            Some((_, Waiting::ShareFetch(_))) => true,
            _ => false,
        }
    }

    pub(crate) fn take_fetch(&mut self, id: WaitId) -> Option<WaitingFetch> {
        match self.remove(id)? {
            Waiting::Fetch(fetch) => Some(fetch),
            Waiting::Produce(_) | Waiting::ShareFetch(_) => None,
        }
    }

    /// Whether this is a share fetch that waits.
    pub(crate) fn is_share_fetch(&self, id: WaitId) -> bool {
        matches!(self.waiting.get(&id), Some((_, Waiting::ShareFetch(_))))
    }

    pub(crate) fn take_share_fetch(&mut self, id: WaitId) -> Option<WaitingShareFetch> {
        match self.remove(id)? {
            Waiting::ShareFetch(fetch) => Some(fetch),
            Waiting::Produce(_) | Waiting::Fetch(_) => None,
        }
    }

    /// How many produces, fetches and share fetches wait.
    pub(crate) fn waiting(&self) -> (usize, usize, usize) {
        let (mut produces, mut fetches, mut share_fetches) = (0, 0, 0);
        for (_, waiting) in self.waiting.values() {
            *match waiting {
                Waiting::Produce(_) => &mut produces,
                Waiting::Fetch(_) => &mut fetches,
                Waiting::ShareFetch(_) => &mut share_fetches,
            } += 1;
        }
        (produces, fetches, share_fetches)
    }

    /// When the next deadline is.
    pub(crate) fn next_deadline_us(&self) -> Option<u64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The next request whose deadline is not after `now_us`. A produce has `REQUEST_TIMED_OUT` where it still waited.
    pub(crate) fn next_expired(&mut self, now_us: u64) -> Option<Expired> {
        let (at, id) = *self.deadlines.first()?;
        if at > now_us {
            return None;
        }
        match self.remove(id)? {
            Waiting::Produce(mut produce) => {
                for pending in core::mem::take(&mut produce.pending) {
                    set_error(
                        &mut produce.response,
                        &pending,
                        ErrorCode::REQUEST_TIMED_OUT,
                    );
                }
                Some(Expired::Produce(produce))
            }
            Waiting::Fetch(fetch) => Some(Expired::Fetch(id, fetch)),
            Waiting::ShareFetch(fetch) => Some(Expired::ShareFetch(id, fetch)),
        }
    }

    /// The fetches that wait for a connection that is gone, in a fixed order.
    pub(crate) fn fetches_of(&self, conn: crate::ConnId) -> Vec<WaitId> {
        let mut ids: Vec<WaitId> = self
            .waiting
            .iter()
            .filter(|(_, (_, waiting))| match waiting {
                Waiting::Produce(_) => false,
                Waiting::Fetch(fetch) => fetch.plan.reply.conn == conn,
                Waiting::ShareFetch(fetch) => fetch.conn == conn,
            })
            .map(|(id, _)| *id)
            .collect();
        ids.sort_unstable();
        ids
    }
}
