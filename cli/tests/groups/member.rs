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
    }
}

/// What a member of either protocol is and has, and what was counted of it.
pub struct Standing {
    pub group: String,
    pub instance: Option<String>,
    /// Its id in the group; empty as long as it has none.
    pub id: String,
    /// The generation or epoch in which it is a member.
    pub epoch: i32,
    /// What it reads from, as far as it knows.
    pub owned: BTreeSet<i32>,
    pub link: Link,
    /// When its next heartbeat is due.
    pub beats_at: Instant,
    /// How many heartbeats were answered.
    pub beats: u64,
    /// How often it was told that it is not, or no longer, a member.
    pub fenced: u32,
    /// How many partitions were taken from it, one by one or all at once.
    pub taken: usize,
}

impl Standing {
    /// Of one that is not a member yet, and is in this epoch by what the protocol says.
    pub fn new(group: &str, instance: Option<&str>, id: &str, epoch: i32) -> Self {
        Self {
            group: group.into(),
            instance: instance.map(Into::into),
            id: id.into(),
            epoch,
            owned: BTreeSet::new(),
            link: Link::default(),
            beats_at: Instant::now(),
            beats: 0,
            fenced: 0,
            taken: 0,
        }
    }

    /// It gives up all that it has.
    pub fn give_up(&mut self) {
        self.taken += self.owned.len();
        self.owned.clear();
    }

    /// It was told that it is not a member, or not of this epoch: it has nothing any more, and begins with this epoch again.
    pub fn expelled(&mut self, epoch: i32) {
        self.fenced += 1;
        self.give_up();
        self.epoch = epoch;
    }
}

/// What a member says by its protocol, and what it makes of the answers.
pub trait Protocol {
    /// It is the member's turn, or something has come: what is next.
    fn heard(&mut self, me: &mut Standing, heard: Heard, now: Instant);
    /// Whether it has nothing to do but heartbeats.
    fn is_settled(&self, me: &Standing) -> bool;
    /// Says over a connection of its own that it leaves for good; a static member of the classic protocol does not say so.
    fn say_goodbye(&self, me: &Standing, address: SocketAddr);
}

/// A consumer in a group that reads [`TOPIC`].
pub struct Member {
    pub standing: Standing,
    protocol: Box<dyn Protocol>,
}

impl Member {
    pub fn new(standing: Standing, protocol: impl Protocol + 'static) -> Self {
        Self {
            standing,
            protocol: Box::new(protocol),
        }
    }

    /// Looks at what came, and sends what is next.
    pub fn turn(&mut self, address: SocketAddr, now: Instant) {
        match self.standing.link.hear(address) {
            Heard::Waiting => (),
            heard => self.protocol.heard(&mut self.standing, heard, now),
        }
    }

    /// The generation or epoch in which it has nothing to do but heartbeats, if that is so.
    pub fn settled(&self) -> Option<i32> {
        let is_settled = self.protocol.is_settled(&self.standing);
        is_settled.then_some(self.standing.epoch)
    }

    pub fn owned(&self) -> &BTreeSet<i32> {
        &self.standing.owned
    }

    /// Its id in the group, and what it proves that with.
    pub fn identity(&self) -> (&str, i32) {
        (&self.standing.id, self.standing.epoch)
    }

    /// Leaves for good.
    pub fn leave(&mut self, address: SocketAddr) {
        // An answer may be on its way there.
        self.standing.link.cut();
        self.protocol.say_goodbye(&self.standing, address);
        self.die();
    }

    /// Its process dies: no more is said, and no connection closed in order.
    pub fn die(&mut self) {
        self.standing.link.cut();
        self.standing.owned.clear();
    }
}
