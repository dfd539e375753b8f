//! One of a handle's connections, and what waits while the broker wants nothing more from it.
//!
//! A broker on TCP leaves the connection of a client that has used up a quota unread for a while (KIP-219). Here the requests are held back
//! in its place: for the client machine they are sent, as those are that lie in a socket.

use ottla_broker::{ConnId, RequestEnvelope};
use ottla_protocol::Request;
use std::collections::VecDeque;

pub(crate) struct Connection {
    /// The broker's number for it.
    pub(crate) conn: ConnId,
    /// Until when the broker wants nothing, in monotonic microseconds; 0: it takes what comes.
    muted_until_us: u64,
    held: VecDeque<RequestEnvelope>,
}

impl Connection {
    pub(crate) fn new(conn: ConnId) -> Self {
        Self {
            conn,
            muted_until_us: 0,
            held: VecDeque::new(),
        }
    }

    /// The broker wants nothing for so long.
    pub(crate) fn mute(&mut self, now_us: u64, throttle_ms: u32) {
        let until_us = now_us + u64::from(throttle_ms) * 1000;
        self.muted_until_us = self.muted_until_us.max(until_us);
    }

    /// Gives the request back if it can be handed in now, else keeps it.
    pub(crate) fn hold(&mut self, request: RequestEnvelope) -> Option<RequestEnvelope> {
        if self.muted_until_us == 0 {
            return Some(request);
        }
        self.held.push_back(request);
        None
    }

    /// The next request that was kept, if its time has come.
    pub(crate) fn next(&mut self, now_us: u64) -> Option<RequestEnvelope> {
        if self.muted_until_us > now_us {
            return None;
        }
        let next = self.held.pop_front();
        if next.is_none() {
            self.muted_until_us = 0;
        }
        next
    }

    /// When [`Self::next`] has something to do.
    pub(crate) fn due(&self) -> Option<u64> {
        (self.muted_until_us > 0).then_some(self.muted_until_us)
    }

    /// The kept requests that nobody waits for an answer of: they count as done, and are handed in when the connection ends.
    pub(crate) fn unanswered(self) -> impl Iterator<Item = RequestEnvelope> {
        let unanswered = |envelope: &RequestEnvelope| matches!(&envelope.request, Request::Produce(p) if p.acks == 0);
        self.held.into_iter().filter(unanswered)
    }
}
