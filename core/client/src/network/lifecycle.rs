//! Connections come and go: connecting, agreeing on versions, losing and reconnecting, timeouts.

use super::connection::{Connection, InFlight, Link, Peer};
use super::coordinators::Coordinator;
use super::{Network, SPREAD, Waiting, no_broker};
use crate::error::{ErrCode, KafkaError};
use crate::metadata::{BrokerAddress, Metadata};
use crate::output::{ConnId, Output, Route};
use crate::request_form;
use alloc::format;
use alloc::vec::Vec;
use ottla_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_protocol::{ApiKey, ErrorCode, Request};
use ottla_record::Now;

/// ApiVersions in the newest version that we speak first, then, if the broker doesn't, in the one that all speak.
const API_VERSIONS: (i16, i16) = (4, 0);

impl Network {
    /// Begins to connect to a broker, unless that is under way or too early.
    pub(crate) fn reach(&mut self, now: Now, node: i32, metadata: &Metadata) {
        self.connect(now, Peer::data(node), metadata);
    }

    pub(super) fn connect(&mut self, now: Now, peer: Peer, metadata: &Metadata) {
        let known = metadata.brokers().get(&peer.node);
        let connection = match (self.connections.get_mut(&peer), known) {
            (Some(connection), _) => connection,
            (None, Some(address)) => self
                .connections
                .entry(peer)
                .or_insert_with(|| Connection::new(address.clone())),
            (None, None) => return,
        };
        if !matches!(connection.link, Link::Down { not_before } if not_before <= now.mono_us) {
            return;
        }
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        connection.link = Link::Connecting {
            conn,
            deadline: now.after_ms(self.connect_timeout_ms),
        };
        connection.counters.connects += 1;
        connection.last_used = now.mono_us;
        let BrokerAddress { host, port, .. } = connection.address.clone();
        self.outputs.push_back(Output::Connect {
            conn,
            node: peer.node,
            host,
            port,
        });
    }

    /// The driver has connected: ask what the broker speaks.
    pub(crate) fn connected(&mut self, now: Now, conn: ConnId) {
        if let Some(peer) = self.peer_of(conn) {
            self.negotiate(now, peer, conn, API_VERSIONS.0);
        }
    }

    pub(super) fn negotiate(&mut self, now: Now, peer: Peer, conn: ConnId, asked: i16) {
        let Some(connection) = self.connections.get_mut(&peer) else {
            return;
        };
        let deadline = now.after_ms(self.versions_timeout_ms);
        connection.link = Link::Negotiating {
            conn,
            deadline,
            asked,
        };
        connection.counters.tx += 1;
        let (client_software_name, client_software_version) = self.client_software.clone();
        let request = ApiVersionsRequest {
            client_software_name,
            client_software_version,
            ..Default::default()
        };
        let correlation_id = connection.next_correlation();
        let request = Request::ApiVersions(request);
        self.outputs.push_back(Output::Send {
            conn,
            correlation_id,
            api_version: asked,
            request,
        });
    }

    pub(super) fn negotiated(&mut self, now: Now, peer: Peer, response: ApiVersionsResponse) {
        let Some(connection) = self.connections.get_mut(&peer) else {
            return;
        };
        let Link::Negotiating { conn, asked, .. } = connection.link else {
            return;
        };
        if response.error_code == ErrorCode::UNSUPPORTED_VERSION && asked != API_VERSIONS.1 {
            return self.negotiate(now, peer, conn, API_VERSIONS.1);
        }
        if response.error_code != ErrorCode::NONE {
            let error = KafkaError::from(ErrCode::from(response.error_code));
            return self.disconnect(now, peer, error);
        }
        let mut versions = Vec::new();
        for range in response.api_keys {
            let Some(key) = ApiKey::from_i16(range.api_key) else {
                continue;
            };
            let ours = key.valid_versions();
            let version = request_form::newest(key).min(range.max_version);
            if version >= (*ours.start()).max(range.min_version) {
                let at = key as usize;
                if versions.len() <= at {
                    versions.resize(at + 1, -1);
                }
                versions[at] = version;
            }
        }
        connection.link = Link::Up { conn, versions };
        connection.failures = 0;
        connection.last_used = now.mono_us;
        self.all_down_told = false;
    }

    /// The driver lost a connection, or could not make it.
    pub(crate) fn disconnected(&mut self, now: Now, conn: ConnId, reason: KafkaError) {
        if let Some(peer) = self.peer_of(conn) {
            self.closed(now, peer, reason);
        }
    }

    pub(super) fn disconnect(&mut self, now: Now, peer: Peer, reason: KafkaError) {
        if let Some(conn) = self.connections.get(&peer).and_then(Connection::conn) {
            self.outputs.push_back(Output::Disconnect { conn });
            self.closed(now, peer, reason);
        }
    }

    /// A connection is gone: what was in flight over it is sent again or fails, and reconnecting waits.
    pub(super) fn closed(&mut self, now: Now, peer: Peer, reason: KafkaError) {
        let (first, most) = self.reconnect_us;
        let Some(connection) = self.connections.get_mut(&peer) else {
            return;
        };
        let pause = (first << connection.failures.min(16)).min(most);
        let pause = self.random.jitter(pause, SPREAD);
        connection.failures += 1;
        connection.counters.disconnects += 1;
        connection.link = Link::Down {
            not_before: now.mono_us + pause,
        };
        let in_flight = core::mem::take(&mut connection.in_flight);
        self.coordinators.retain(
            |_, c| !matches!(c, Coordinator::Known(node) if *node == peer.node && peer.coordinator),
        );
        let text = format!(
            "{}:{}: {}",
            connection.address.host, connection.address.port, reason.message
        );
        self.errors.push_back(KafkaError::new(reason.code, text));
        for lost in in_flight {
            self.lost(now, lost, &reason);
        }
        self.tell_all_down();
    }

    pub(super) fn lost(&mut self, now: Now, lost: InFlight, reason: &KafkaError) {
        let InFlight {
            deadline,
            tag,
            route,
            attempts,
            again,
            ..
        } = lost;
        let not_before = now.mono_us + self.retry_pause(attempts);
        match again.filter(request_form::may_repeat) {
            Some(request) if not_before < deadline => {
                self.waiting.push_back(Waiting {
                    route,
                    request,
                    deadline,
                    not_before,
                    attempts: attempts + 1,
                    tag,
                });
            }
            _ => self.failed.push_back((tag, reason.clone())),
        }
    }

    /// Raises `_ALL_BROKERS_DOWN` once when the last broker that was tried has failed.
    pub(super) fn tell_all_down(&mut self) {
        let down = |c: &Connection| matches!(c.link, Link::Down { .. }) && c.failures > 0;
        let tried = |c: &&Connection| c.counters.connects > 0;
        let count = self.connections.values().filter(tried).count();
        if !self.all_down_told && self.connections.values().filter(tried).all(down) {
            self.all_down_told = true;
            let text = format!("{count} of {count} brokers are down");
            self.errors
                .push_back(KafkaError::new(ErrCode::ALL_BROKERS_DOWN, text));
        }
    }

    /// The cluster changed: addresses, and brokers that are gone. A bootstrap connection to a broker that now has a node
    /// id becomes that broker's.
    pub(crate) fn metadata_changed(&mut self, now: Now, metadata: &Metadata) {
        for (&node, address) in metadata.brokers() {
            let peer = Peer::data(node);
            if self.connections.contains_key(&peer) {
                continue;
            }
            let same = |(p, c): &(&Peer, &Connection)| {
                p.node < 0
                    && c.is_up()
                    && (&c.address.host, c.address.port) == (&address.host, address.port)
            };
            let bootstrap = self.connections.iter().find(same).map(|(p, _)| *p);
            if let Some(bootstrap) = bootstrap
                && let Some(mut connection) = self.connections.remove(&bootstrap)
            {
                let again = Connection::new(connection.address.clone());
                connection.address = address.clone();
                self.connections.insert(bootstrap, again);
                self.connections.insert(peer, connection);
            }
        }
        let mut stale = Vec::new();
        for (peer, connection) in self.connections.range(Peer::data(0)..) {
            match metadata.brokers().get(&peer.node) {
                Some(address) if *address == connection.address => {}
                Some(address)
                    if (&address.host, address.port)
                        == (&connection.address.host, connection.address.port) => {}
                known => stale.push((*peer, known.cloned())),
            }
        }
        for (peer, address) in stale {
            let text = if address.is_some() {
                "the broker's address changed"
            } else {
                "the broker is gone"
            };
            self.disconnect(now, peer, KafkaError::new(ErrCode::DESTROY_BROKER, text));
            match (address, self.connections.get_mut(&peer)) {
                (Some(address), Some(connection)) => {
                    connection.address = address;
                    connection.link = Link::Down {
                        not_before: now.mono_us,
                    };
                    connection.failures = 0;
                }
                _ => {
                    self.connections.remove(&peer);
                    self.fail_waiting(&ErrCode::UNKNOWN_BROKER.into(), |route| {
                        *route == Route::Node(peer.node)
                    });
                }
            }
        }
    }

    /// Gives up what took too long. A broker that leaves a request without answer is disconnected.
    pub(crate) fn expire(&mut self, now: Now) {
        if self.waiting.iter().any(|w| w.deadline <= now.mono_us) {
            for waiting in core::mem::take(&mut self.waiting) {
                if waiting.deadline <= now.mono_us {
                    self.failed.push_back((waiting.tag, no_broker()));
                } else {
                    self.waiting.push_back(waiting);
                }
            }
        }
        let mut silent = Vec::new();
        for (peer, connection) in &mut self.connections {
            match connection.due(self.idle_us) {
                Some(due) if due <= now.mono_us => {}
                _ => continue,
            }
            let late = connection
                .in_flight
                .iter()
                .filter(|f| f.deadline <= now.mono_us)
                .count() as u64;
            connection.counters.request_timeouts += late;
            let text = match connection.link {
                Link::Connecting { .. } => Some("connecting took too long"),
                Link::Negotiating { .. } => Some("the broker did not answer ApiVersions in time"),
                _ if late > 0 => Some("the broker did not answer in time"),
                _ => None,
            };
            silent.push((*peer, text));
        }
        for (peer, text) in silent {
            match text {
                Some(text) => {
                    self.expire_in_flight(now, peer);
                    self.disconnect(now, peer, KafkaError::new(ErrCode::TRANSPORT, text));
                }
                None => self.close_idle(now, peer),
            }
        }
    }

    /// The requests whose time is up fail with `_TIMED_OUT`; the connection is closed for the others.
    pub(super) fn expire_in_flight(&mut self, now: Now, peer: Peer) {
        let Some(connection) = self.connections.get_mut(&peer) else {
            return;
        };
        for in_flight in core::mem::take(&mut connection.in_flight) {
            if in_flight.deadline <= now.mono_us {
                let error =
                    KafkaError::new(ErrCode::TIMED_OUT, "the broker did not answer in time");
                self.failed.push_back((in_flight.tag, error));
            } else {
                connection.in_flight.push_back(in_flight);
            }
        }
    }

    pub(super) fn close_idle(&mut self, now: Now, peer: Peer) {
        let Some(connection) = self.connections.get_mut(&peer) else {
            return;
        };
        if let Some(conn) = connection.conn() {
            self.outputs.push_back(Output::Disconnect { conn });
            connection.counters.disconnects += 1;
            connection.link = Link::Down {
                not_before: now.mono_us,
            };
        }
    }

    /// When a broker may be connected again; `None` if it is up, under way, or may be right now.
    pub(crate) fn reconnect_at(&self, now: Now, node: i32) -> Option<u64> {
        match self.connections.get(&Peer::data(node))?.link {
            Link::Down { not_before } => Some(not_before).filter(|at| *at > now.mono_us),
            _ => None,
        }
    }

    /// Closes every connection without a word about it.
    pub(crate) fn close(&mut self) {
        for connection in self.connections.values_mut() {
            if let Some(conn) = connection.conn() {
                self.outputs.push_back(Output::Disconnect { conn });
            }
            connection.link = Link::Down {
                not_before: u64::MAX,
            };
        }
        self.waiting.clear();
    }
}
