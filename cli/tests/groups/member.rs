//! What members of either protocol have in common.

use crate::wire::Connection;
use ottla_protocol::{Request, Response};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// The topic that all groups read.
pub const TOPIC: &str = "t";

/// How often a member that has nothing to do says that it is there.
pub const HEARTBEAT: Duration = Duration::from_millis(500);

/// A connection that comes back after the broker does, with at most one request on its way.
#[derive(Default)]
pub struct Link {
    connection: Option<Connection>,
    /// Connections lost so far.
    pub lost: u32,
}

/// What came of looking at a link.
pub enum Heard {
    /// Nothing is on its way: it is the member's turn.
    Free,
    /// The answer is not here yet.
    Waiting,
    Answer(Response),
    /// The connection is gone, and with it the answer.
    Lost,
}

impl Link {
    pub fn hear(&mut self, address: SocketAddr) -> Heard {
        let Some(connection) = &mut self.connection else {
            match Connection::to(address) {
                Ok(connection) => self.connection = Some(connection),
                Err(_) => return Heard::Waiting,
            }
            return Heard::Free;
        };
        if connection.waiting() == 0 {
            return Heard::Free;
        }
        match connection.poll() {
            Ok(None) => Heard::Waiting,
            Ok(Some(response)) => Heard::Answer(response),
            Err(_) => {
                self.cut();
                Heard::Lost
            }
        }
    }

    pub fn send(&mut self, version: i16, request: &Request) {
        if let Some(connection) = &mut self.connection
            && connection.send(version, request).is_err()
        {
            self.cut();
        }
    }

    /// Closes it without a word.
    pub fn cut(&mut self) {
        self.connection = None;
        self.lost += 1;
    }
}

/// A consumer in a group that reads [`TOPIC`].
pub trait Member {
    /// Looks at what came, and sends what is next.
    fn turn(&mut self, address: SocketAddr, now: Instant);
    /// What it reads from, as far as it knows.
    fn owned(&self) -> &BTreeSet<i32>;
    /// Whether it has nothing to do but heartbeats: the generation or epoch in which that is so.
    fn settled(&self) -> Option<i32>;
    /// How many heartbeats were answered.
    fn beats(&self) -> u64;
    /// How often it was told that it is not, or no longer, a member.
    fn fenced(&self) -> u32;
    /// How many partitions were taken from it, one by one or all at once.
    fn taken(&self) -> usize;
    /// Its id in the group, and what it proves that with.
    fn identity(&self) -> (&str, i32);
    fn instance(&self) -> Option<&str>;
    /// Leaves for good; a static member does not say so.
    fn leave(&mut self, address: SocketAddr);
    /// Its process dies: no more is said, and no connection closed in order.
    fn die(&mut self);
}
