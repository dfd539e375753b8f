//! One connection to a broker, and the requests in flight over it.

use super::Tag;
use crate::error::{ErrCode, KafkaError};
use crate::metadata::BrokerAddress;
use crate::output::{ConnId, Output, Route};
use crate::request_form;
use crate::statistics::{BrokerCounters, Window};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec::Vec;
use ottla_protocol::Request;
use ottla_record::Now;

/// A broker over one connection. Group coordination has a connection of its own, as a broker answers the requests of
/// one connection in order, and a fetch may take its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Peer {
    pub(super) node: i32,
    pub(super) coordinator: bool,
}

impl Peer {
    /// A broker's connection for everything but group coordination.
    pub(super) fn data(node: i32) -> Self {
        Self {
            node,
            coordinator: false,
        }
    }
}

/// A request that waits for its answer.
pub(super) struct InFlight {
    pub(super) correlation_id: i32,
    pub(super) deadline: u64,
    pub(super) tag: Tag,
    pub(super) route: Route,
    pub(super) attempts: u32,
    /// A copy of a request of the application, in case it has to be sent again.
    pub(super) again: Option<Request>,
}

pub(super) enum Link {
    /// Not connected, and not to be before this time.
    Down { not_before: u64 },
    /// The driver was asked.
    Connecting { conn: ConnId, deadline: u64 },
    /// ApiVersions was sent, in this version.
    Negotiating {
        conn: ConnId,
        deadline: u64,
        asked: i16,
    },
    /// Requests can be sent: the version of each API key, or -1.
    Up { conn: ConnId, versions: Vec<i16> },
}

pub(super) struct Connection {
    pub(super) address: BrokerAddress,
    pub(super) link: Link,
    pub(super) failures: u32,
    pub(super) next_correlation_id: i32,
    pub(super) in_flight: VecDeque<InFlight>,
    pub(super) last_used: u64,
    pub(super) counters: BrokerCounters,
    pub(super) throttled: Window,
}

impl Connection {
    pub(super) fn new(address: BrokerAddress) -> Self {
        Self {
            address,
            link: Link::Down { not_before: 0 },
            failures: 0,
            next_correlation_id: 1,
            in_flight: VecDeque::new(),
            last_used: 0,
            counters: BrokerCounters::default(),
            throttled: Window::default(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    pub(super) fn conn(&self) -> Option<ConnId> {
        match self.link {
            Link::Down { .. } => None,
            Link::Connecting { conn, .. }
            | Link::Negotiating { conn, .. }
            | Link::Up { conn, .. } => Some(conn),
        }
    }

    pub(super) fn next_correlation(&mut self) -> i32 {
        let id = self.next_correlation_id;
        self.next_correlation_id = if id == i32::MAX { 1 } else { id + 1 };
        id
    }

    /// When something took too long, or the connection was idle for too long.
    pub(super) fn due(&self, idle_us: u64) -> Option<u64> {
        match &self.link {
            Link::Down { .. } => None,
            Link::Connecting { deadline, .. } | Link::Negotiating { deadline, .. } => {
                Some(*deadline)
            }
            Link::Up { .. } if self.in_flight.is_empty() => {
                (idle_us > 0).then_some(self.last_used + idle_us)
            }
            Link::Up { .. } => self.in_flight.iter().map(|f| f.deadline).min(),
        }
    }

    /// Sends over a connection that is up, in the newest version that both speak. Gives the tag back with the error if
    /// there is no such version.
    pub(super) fn transmit(
        &mut self,
        now: Now,
        mut request: Request,
        mut in_flight: InFlight,
        answer: bool,
        outputs: &mut VecDeque<Output>,
    ) -> Option<(Tag, KafkaError)> {
        let Link::Up { conn, versions } = &self.link else {
            return Some((in_flight.tag, ErrCode::TRANSPORT.into()));
        };
        let conn = *conn;
        let key = request.api_key();
        let api_version = versions.get(key as usize).copied().unwrap_or(-1);
        if api_version < 0 {
            let text = format!("the broker does not speak {}", key.name());
            return Some((
                in_flight.tag,
                KafkaError::new(ErrCode::UNSUPPORTED_FEATURE, text),
            ));
        }
        request_form::suit(&mut request, api_version);
        self.last_used = now.mono_us;
        self.counters.tx += 1;
        let correlation_id = self.next_correlation();
        if answer {
            in_flight.correlation_id = correlation_id;
            self.in_flight.push_back(in_flight);
        }
        outputs.push_back(Output::Send {
            conn,
            correlation_id,
            api_version,
            request,
        });
        None
    }
}
