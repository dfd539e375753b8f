//! What a request handler knows about its request, and what it says when it is done.

use ottla_protocol::{Response, Str};

/// A client connection, as the driver numbers them; never reused within one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Where clients reach the broker, as `Metadata`, `FindCoordinator` and `DescribeCluster` tell them: an entry of
/// `advertised.listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address.
    pub host: Str,
    /// Port.
    pub port: i32,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its address without port.
    pub(crate) host: Str,
    /// Its port, if it came over a network.
    pub(crate) port: Option<u16>,
    /// The advertised address of the listener that it came to.
    pub(crate) endpoint: Endpoint,
    /// What it called itself last, as long as somebody's time is limited.
    pub(crate) client_id: Str,
    /// Name and version of its software, if it told them and somebody is to know.
    pub(crate) software: Option<(Str, Str)>,
}

/// Where an answer goes. A handler that can't answer yet keeps this (it is `Copy`) and returns [`Handled::Deferred`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The connection the request came from.
    pub conn: ConnId,
    /// The request's correlation id.
    pub correlation_id: i32,
    /// The request's version, which is the answer's too.
    pub api_version: i16,
}

/// Who asks, and how.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// Where the answer goes.
    pub reply: ReplyTo,
    /// The request's version.
    pub api_version: i16,
    /// `client.id` of the request header.
    pub client_id: Option<Str>,
    /// The peer's address without port, as `DescribeGroups` shows it; for an embedded handle what the driver gave.
    pub client_host: Str,
    /// What the client is told when it asks where this broker is: the listener's that it came to.
    pub endpoint: Endpoint,
}

/// What a request handler returns.
#[derive(Debug)]
// A response is moved once, out of the handler; boxing it would cost more than its size does.
#[allow(clippy::large_enum_variant)]
pub enum Handled {
    /// The answer.
    Respond(Response),
    /// The answer comes later, through the [`ReplyTo`] that the handler kept.
    Deferred,
    /// There is none (`Produce` with `acks=0`).
    NoResponse,
    /// There is none, and the connection is to be closed (`Produce` with `acks=0` that failed).
    Disconnect,
}
