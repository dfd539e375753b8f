//! What the machine asks of its driver, and what it tells the application.

use crate::consumer::ConsumerEvent;
use crate::debug::DebugLine;
use crate::error::KafkaError;
use crate::metadata::BrokerAddress;
use crate::producer::DeliveredBatch;
use ottla_protocol::{Request, Response, Str};

/// A connection, numbered by the client; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// A request of the application; its answer is the [`Event::Response`] with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Which broker is to answer a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// Any that can be reached.
    Any,
    /// The controller, as metadata names it.
    Controller,
    /// The coordinator of this group, looked up as needed.
    GroupCoordinator(Str),
    /// The leader of this partition.
    Leader(Str, i32),
    /// The broker with this node id.
    Node(i32),
}

/// What the driver has to do.
#[derive(Debug)]
// A request is moved once, into a connection; a box would cost more than its size does.
#[allow(clippy::large_enum_variant)]
pub enum Output {
    /// Connect, then call [`Client::handle_connected`](crate::Client::handle_connected), or `handle_disconnected` if it fails.
    Connect {
        /// The connection's number from now on.
        conn: ConnId,
        /// The broker's node id; negative for an address of `bootstrap.servers`.
        node: i32,
        /// Host name or address.
        host: Str,
        /// Port.
        port: i32,
    },
    /// Send a request. With `acks=0` a Produce has no answer.
    Send {
        /// Over this connection, behind what was sent before.
        conn: ConnId,
        /// Comes back with the answer.
        correlation_id: i32,
        /// In this version.
        api_version: i16,
        /// This.
        request: Request,
    },
    /// Close the connection. Nothing more is expected of it; it needs no `handle_disconnected`.
    Disconnect {
        /// This one.
        conn: ConnId,
    },
}

/// What a broker said about waiting, because a quota is used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttled {
    /// Which broker; its node id is -1 if it is known by an address of `bootstrap.servers` only.
    pub broker: BrokerAddress,
    /// For how many milliseconds it takes nothing more from the connection of that answer; 0: no longer.
    pub throttle_ms: u32,
}

/// What the application learns.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Event {
    /// Delivery reports of one batch.
    Delivery(DeliveredBatch),
    /// Rebalances, commits and ended operations of a consumer.
    Consumer(ConsumerEvent),
    /// The answer to [`Client::request`](crate::Client::request).
    Response {
        /// Which request.
        id: RequestId,
        /// The answer, or why there is none.
        result: Result<Response, KafkaError>,
    },
    /// Something that concerns the client as a whole: librdkafka's error callback. Not fatal unless it says so.
    Error(KafkaError),
    /// A broker told the client to wait, or, after it did, no longer: librdkafka's throttle callback. Every answer that tells to wait
    /// comes as one, and then the first that doesn't, whichever broker's it is. Waiting is the broker's affair: it leaves the connection
    /// unread for so long (KIP-219).
    Throttled(Throttled),
    /// A line that `debug` asked for.
    Debug(DebugLine),
}
