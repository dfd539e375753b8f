//! One member of a classic group.

use alloc::vec::Vec;
use bytes::Bytes;
use ottla_protocol::Str;
use ottla_record::Now;

use crate::context::ReplyTo;

/// How long a brand-new member may wait in an unfinished rebalance: it does not know its id yet and so can't heartbeat.
pub(super) const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 5 * 60 * 1000;

/// A member as its last `JoinGroup` described it, with what it waits for.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub id: Str,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    /// Name and metadata of each protocol, in the member's order of preference.
    pub protocols: Vec<(Str, Bytes)>,
    /// What the leader of the current generation gave it; empty until then.
    pub assignment: Bytes,
    /// Never yet got the answer to a `JoinGroup`.
    pub is_new: bool,
    /// When the member counts as dead unless it is heard of, in monotonic microseconds.
    pub session_ends_us: u64,
    /// Its parked `JoinGroup`.
    pub awaiting_join: Option<ReplyTo>,
    /// Its parked `SyncGroup`.
    pub awaiting_sync: Option<ReplyTo>,
    /// Rises with each member that joins the group: tells who came first.
    pub joined: u64,
}

impl Member {
    /// Starts the session anew.
    pub fn heard_of(&mut self, now: Now) {
        self.session_ends_us = now.after_ms(i64::from(self.session_timeout_ms));
    }

    /// When the member's silence ends its membership. A member that waits for an answer of ours is not silent, except
    /// for a new one in a rebalance that does not end.
    pub fn expires_us(&self) -> Option<u64> {
        let parked = self.awaiting_join.is_some() || self.awaiting_sync.is_some();
        (self.is_new || !parked).then_some(self.session_ends_us)
    }

    /// Metadata for the protocol `name`.
    pub fn metadata(&self, name: &str) -> Option<&Bytes> {
        self.protocols
            .iter()
            .find(|(n, _)| *n == *name)
            .map(|(_, metadata)| metadata)
    }
}
