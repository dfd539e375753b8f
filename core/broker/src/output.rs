//! All that the broker asks of the world.

use alloc::string::String;
use core::fmt;

use ottla_log::SyncJob;
use ottla_protocol::{Request, Response, Str};

use crate::{
    cleaner::{CompactionId, CompactionJob},
    context::ConnId,
    removal::RemovalJob,
};

/// A request as it reaches the broker: header fields and the typed body.
#[derive(Clone, Debug)]
pub struct RequestEnvelope {
    /// Comes back with the answer.
    pub correlation_id: i32,
    /// The version the body was decoded with, or that an embedded client speaks.
    pub api_version: i16,
    /// `client.id` of the header.
    pub client_id: Option<Str>,
    /// The body.
    pub request: Request,
}

/// For how many milliseconds the client is told to wait with this answer, because it has used up a quota. It is answered at once, and a
/// driver that speaks TCP reads nothing more from its connection until then (KIP-219).
pub fn throttle_ms(response: &Response) -> u32 {
    response.throttle_time_ms()
}

/// Names a sync until [`crate::Broker::handle_synced`]; never reused within one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncId(pub u64);

/// What must happen next.
#[allow(clippy::large_enum_variant)] // moved once, from the queue to the wire
pub enum Output {
    /// Send this answer. Answers of one connection come out as they are ready, which need not be the order of their
    /// requests; a driver that speaks TCP has to hold them back to that order (an embedded client need not care).
    Respond {
        /// Where to.
        conn: ConnId,
        /// The request's.
        correlation_id: i32,
        /// The version to encode with: the request's, but 0 for an `ApiVersions` of a version that isn't served.
        api_version: i16,
        /// The answer.
        response: Response,
    },
    /// Read nothing more from this connection for so long: its client has used up a quota with a request that has no answer (a
    /// produce with `acks=0`), which else would tell it.
    Mute {
        /// Whose.
        conn: ConnId,
        /// How long, in milliseconds.
        throttle_ms: u32,
    },
    /// Make these files durable, on whatever thread, and say so with [`crate::Broker::handle_synced`]. At most one per
    /// partition is under way; what is appended meanwhile is in the next.
    Sync {
        /// For `handle_synced`.
        id: SyncId,
        /// What to sync.
        job: SyncJob,
    },
    /// Do this piece of a compaction, on whatever thread, and hand what comes of it to [`crate::Broker::handle_compacted`].
    /// At most one is under way. Dropping it is allowed: then nothing is compacted any more.
    Compact {
        /// For `handle_compacted`.
        id: CompactionId,
        /// What to do.
        job: CompactionJob,
    },
    /// Remove what deleted topics have left, on whatever thread, and hand what comes of it to [`crate::Broker::handle_removed`]. Takes
    /// long where that is much. Dropping it is allowed: then it is removed when the broker is opened again.
    Remove {
        /// What to do.
        job: RemovalJob,
    },
    /// Something that whoever is responsible for this broker should know: a line for a log.
    Warn(String),
    /// Close the connection: it sent what can't be answered. `handle_disconnect` need not be called for it.
    Disconnect(ConnId),
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Respond {
                conn,
                correlation_id,
                api_version,
                response,
            } => f
                .debug_struct("Respond")
                .field("conn", conn)
                .field("correlation_id", correlation_id)
                .field("api_version", api_version)
                .field("response", response)
                .finish(),
            Self::Mute { conn, throttle_ms } => f
                .debug_struct("Mute")
                .field("conn", conn)
                .field("throttle_ms", throttle_ms)
                .finish(),
            Self::Sync { id, .. } => f
                .debug_struct("Sync")
                .field("id", id)
                .finish_non_exhaustive(),
            Self::Compact { id, job } => f
                .debug_struct("Compact")
                .field("id", id)
                .field("job", job)
                .finish(),
            Self::Remove { job } => f.debug_struct("Remove").field("job", job).finish(),
            Self::Warn(text) => f.debug_tuple("Warn").field(text).finish(),
            Self::Disconnect(conn) => f.debug_tuple("Disconnect").field(conn).finish(),
        }
    }
}
