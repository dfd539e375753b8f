//! Requests on their way: who is asked, until when, and what becomes of a request without an answer.

mod connection;
mod coordinators;
mod lifecycle;

use crate::config::ClientConfig;
use crate::consumer::Cluster;
use crate::error::{ErrCode, KafkaError};
use crate::metadata::{BrokerAddress, Metadata};
use crate::output::{ConnId, Output, RequestId, Route, Throttled};
use crate::random::Random;
use crate::request_form;
use crate::statistics::BrokerStatistics;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use connection::{Connection, InFlight, Link, Peer};
use coordinators::Coordinator;
use ottla_protocol::{Request, Response, Str};
use ottla_record::Now;

/// Reconnects and retries are spread by so many per cent, so that clients don't come back all at once.
const SPREAD: u32 = 20;

/// What a request was sent for: the flow that gets its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Metadata,
    FindCoordinator(Str),
    ProducerId,
    Produce(u64),
    Consumer(u64),
    Application(RequestId),
}

/// A request that waits for its broker.
struct Waiting {
    route: Route,
    request: Request,
    deadline: u64,
    not_before: u64,
    attempts: u32,
    tag: Tag,
}

/// The client's connections and the requests on their way.
pub(crate) struct Network {
    connections: BTreeMap<Peer, Connection>,
    waiting: VecDeque<Waiting>,
    coordinators: BTreeMap<Str, Coordinator>,
    outputs: VecDeque<Output>,
    failed: VecDeque<(Tag, KafkaError)>,
    errors: VecDeque<KafkaError>,
    throttled: VecDeque<Throttled>,
    /// Whether the last answer told to wait.
    was_throttled: bool,
    next_conn: u64,
    random: Random,
    client_software: (Str, Str),
    bootstrap_count: usize,
    rebootstrap: bool,
    max_in_flight: usize,
    socket_timeout_ms: i64,
    connect_timeout_ms: i64,
    versions_timeout_ms: i64,
    idle_us: u64,
    reconnect_us: (u64, u64),
    retry_us: (u64, u64),
    all_down_told: bool,
    /// The time of the last dispatch: what was possible then has been done.
    served_us: u64,
}

impl Network {
    pub(crate) fn new(config: &ClientConfig, now: Now, seed: u64) -> Self {
        let us = |ms: u32| u64::from(ms) * 1000;
        let mut network = Self {
            connections: BTreeMap::new(),
            waiting: VecDeque::new(),
            coordinators: BTreeMap::new(),
            outputs: VecDeque::new(),
            failed: VecDeque::new(),
            errors: VecDeque::new(),
            throttled: VecDeque::new(),
            was_throttled: false,
            next_conn: 1,
            random: Random::new(seed),
            client_software: (
                config.client_software_name.clone(),
                config.client_software_version.clone(),
            ),
            bootstrap_count: config.bootstrap_servers.len(),
            rebootstrap: config.metadata_recovery_rebootstrap,
            max_in_flight: config.max_in_flight as usize,
            socket_timeout_ms: config.socket_timeout_ms.into(),
            connect_timeout_ms: config.socket_connection_setup_timeout_ms.into(),
            versions_timeout_ms: config.api_version_request_timeout_ms.into(),
            idle_us: us(config.connections_max_idle_ms),
            reconnect_us: (
                us(config.reconnect_backoff_ms),
                us(config.reconnect_backoff_max_ms),
            ),
            retry_us: (us(config.retry_backoff_ms), us(config.retry_backoff_max_ms)),
            all_down_told: false,
            served_us: now.mono_us,
        };
        for (i, server) in config.bootstrap_servers.iter().enumerate() {
            let address = BrokerAddress {
                node: -1 - i as i32,
                host: server.host.clone(),
                port: server.port,
                rack: None,
            };
            let peer = Peer::data(-1 - i as i32);
            network.connections.insert(peer, Connection::new(address));
        }
        network
    }

    /// Has a request sent as soon as its broker can be reached. The answer goes to `tag`, and so does the error if there
    /// is none after `timeout_ms` (0: `socket.timeout.ms`). Nothing leaves before [`Self::dispatch`].
    pub(crate) fn send(
        &mut self,
        now: Now,
        route: Route,
        request: Request,
        timeout_ms: i64,
        tag: Tag,
    ) {
        let deadline = self.deadline(now, timeout_ms);
        let not_before = now.mono_us;
        self.waiting.push_back(Waiting {
            route,
            request,
            deadline,
            not_before,
            attempts: 0,
            tag,
        });
    }

    fn deadline(&self, now: Now, timeout_ms: i64) -> u64 {
        now.after_ms(if timeout_ms > 0 {
            timeout_ms
        } else {
            self.socket_timeout_ms
        })
    }

    /// Whether a request to this broker would leave at once.
    pub(crate) fn is_ready(&self, node: i32) -> bool {
        let connection = self.connections.get(&Peer::data(node));
        connection.is_some_and(|c| c.is_up() && c.in_flight.len() < self.max_in_flight)
    }

    /// Whether nothing is in flight to this broker, so that it waits for work.
    pub(crate) fn is_idle(&self, node: i32) -> bool {
        let connection = self.connections.get(&Peer::data(node));
        connection.is_some_and(|c| c.is_up() && c.in_flight.is_empty())
    }

    /// Sends to a broker that [`Self::is_ready`]. `false`: it is not, and the request is lost. Without `answer` none is
    /// waited for.
    pub(crate) fn send_now(
        &mut self,
        now: Now,
        node: i32,
        request: Request,
        timeout_ms: i64,
        tag: Tag,
        answer: bool,
    ) -> bool {
        let deadline = self.deadline(now, timeout_ms);
        let Some(connection) = self.connections.get_mut(&Peer::data(node)) else {
            return false;
        };
        let in_flight = InFlight {
            correlation_id: 0,
            deadline,
            tag,
            route: Route::Node(node),
            attempts: 0,
            again: None,
        };
        let failed = connection.transmit(now, request, in_flight, answer, &mut self.outputs);
        self.failed.extend(failed);
        true
    }

    /// Sends what can be sent. Returns whether metadata lacks something that is needed.
    pub(crate) fn dispatch(&mut self, now: Now, metadata: &Metadata) -> bool {
        self.served_us = now.mono_us;
        let mut lacking = false;
        let mut kept = VecDeque::new();
        // A look-up of a coordinator joins the queue, and is sent in this turn.
        while let Some(waiting) = self.waiting.pop_front() {
            if waiting.deadline <= now.mono_us {
                self.failed.push_back((waiting.tag, no_broker()));
            } else if waiting.not_before > now.mono_us {
                kept.push_back(waiting);
            } else {
                lacking |= self.try_send(now, waiting, metadata, &mut kept);
            }
        }
        self.waiting = kept;
        lacking
    }

    /// The topics of requests that wait for a partition's leader.
    pub(crate) fn wanted_leaders(&self) -> BTreeSet<Str> {
        let wanted = self.waiting.iter().filter_map(|w| match &w.route {
            Route::Leader(topic, _) => Some(topic.clone()),
            _ => None,
        });
        wanted.collect()
    }

    /// Sends a waiting request, or keeps it. Returns whether metadata lacks what it needs.
    fn try_send(
        &mut self,
        now: Now,
        waiting: Waiting,
        metadata: &Metadata,
        kept: &mut VecDeque<Waiting>,
    ) -> bool {
        let (node, lacking) = match &waiting.route {
            Route::Any => (self.any_node(now, metadata), false),
            Route::Node(node) => (Some(*node), false),
            Route::Controller => {
                let known = Some(metadata.controller()).filter(|node| *node >= 0);
                (known, known.is_none())
            }
            Route::Leader(topic, partition) => {
                let known = metadata.leader(topic, *partition).map(|(node, _)| node);
                (known, known.is_none())
            }
            Route::GroupCoordinator(group) => {
                (self.coordinator(now, group, waiting.deadline), false)
            }
        };
        let Some(node) = node else {
            kept.push_back(waiting);
            return lacking;
        };
        let peer = Peer {
            node,
            coordinator: matches!(waiting.route, Route::GroupCoordinator(_)),
        };
        if !self.connections.get(&peer).is_some_and(|c| c.is_up()) {
            self.connect(now, peer, metadata);
            // A node that metadata doesn't name: it may have just joined.
            let unknown = !self.connections.contains_key(&peer);
            kept.push_back(waiting);
            return unknown;
        }
        let most = self.max_in_flight;
        match self
            .connections
            .get_mut(&peer)
            .filter(|c| c.in_flight.len() < most)
        {
            Some(connection) => {
                let Waiting {
                    route,
                    request,
                    deadline,
                    attempts,
                    tag,
                    ..
                } = waiting;
                let again = matches!(tag, Tag::Application(_)).then(|| request.clone());
                let in_flight = InFlight {
                    correlation_id: 0,
                    deadline,
                    tag,
                    route,
                    attempts,
                    again,
                };
                let failed = connection.transmit(now, request, in_flight, true, &mut self.outputs);
                self.failed.extend(failed);
            }
            None => kept.push_back(waiting),
        }
        false
    }

    /// A broker that is up, the least busy one; else one that is being connected; else one that may be tried.
    fn any_node(&mut self, now: Now, metadata: &Metadata) -> Option<i32> {
        let data = |(peer, c): (&Peer, &Connection)| {
            (!peer.coordinator).then_some((peer.node, c.in_flight.len()))
        };
        let up = self
            .connections
            .iter()
            .filter(|(_, c)| c.is_up())
            .filter_map(data);
        if let Some((node, _)) = up.min_by_key(|(_, busy)| *busy) {
            return Some(node);
        }
        let mut under_way = self
            .connections
            .iter()
            .filter(|(_, c)| !matches!(c.link, Link::Down { .. }))
            .filter_map(data);
        if let Some((node, _)) = under_way.next() {
            return Some(node);
        }
        let bootstrap = self.rebootstrap || metadata.brokers().is_empty();
        let addresses = (1..=self.bootstrap_count as i32)
            .map(|i| -i)
            .filter(|_| bootstrap);
        let may_try = |node: &i32| {
            let connection = self.connections.get(&Peer::data(*node));
            connection.is_none_or(
                |c| matches!(c.link, Link::Down { not_before } if not_before <= now.mono_us),
            )
        };
        // Those that failed least, so that every broker has its turn before one is tried again.
        let failures = |node: i32| {
            let connection = self.connections.get(&Peer::data(node));
            connection.map_or(0, |c| c.failures)
        };
        let candidates: Vec<i32> = metadata
            .brokers()
            .keys()
            .copied()
            .chain(addresses)
            .filter(may_try)
            .collect();
        let least = candidates.iter().map(|node| failures(*node)).min()?;
        let best: Vec<i32> = candidates
            .into_iter()
            .filter(|node| failures(*node) == least)
            .collect();
        best.get(self.random.below(best.len() as u32) as usize)
            .copied()
    }

    fn peer_of(&self, conn: ConnId) -> Option<Peer> {
        self.connections
            .iter()
            .find(|(_, c)| c.conn() == Some(conn))
            .map(|(peer, _)| *peer)
    }

    /// An answer: whose it is. Answers that only concern connections are used up here.
    pub(crate) fn answered(
        &mut self,
        now: Now,
        conn: ConnId,
        correlation_id: i32,
        response: Response,
    ) -> Option<(Tag, Response)> {
        let peer = self.peer_of(conn)?;
        self.count_throttling(peer, response.throttle_time_ms());
        let connection = self.connections.get_mut(&peer)?;
        connection.counters.rx += 1;
        connection.last_used = now.mono_us;
        if let Link::Negotiating { .. } = connection.link {
            if let Response::ApiVersions(response) = response {
                self.negotiated(now, peer, response);
            }
            return None;
        }
        // Brokers answer in order; an embedded one may let a short request overtake a long one.
        let at = connection
            .in_flight
            .iter()
            .position(|f| f.correlation_id == correlation_id)?;
        let in_flight = connection.in_flight.remove(at)?;
        if matches!(in_flight.tag, Tag::Application(_))
            && request_form::was_misrouted(&in_flight.route, &response)
        {
            return self.ask_elsewhere(now, in_flight, response);
        }
        Some((in_flight.tag, response))
    }

    /// What a broker says about waiting. As in librdkafka every answer that tells to wait is told to the application, and the first one
    /// afterwards that doesn't. The broker itself sees to it that the client waits.
    fn count_throttling(&mut self, peer: Peer, throttle_ms: u32) {
        let Some(connection) = self.connections.get_mut(&peer) else {
            return;
        };
        if throttle_ms > 0 {
            connection.throttled.add(throttle_ms);
        }
        if throttle_ms > 0 || self.was_throttled {
            self.was_throttled = throttle_ms > 0;
            self.throttled.push_back(Throttled {
                broker: BrokerAddress {
                    node: peer.node.max(-1),
                    ..connection.address.clone()
                },
                throttle_ms,
            });
        }
    }

    /// A request of the application reached a broker that is not in charge: nothing was done, so it is sent again.
    fn ask_elsewhere(
        &mut self,
        now: Now,
        in_flight: InFlight,
        response: Response,
    ) -> Option<(Tag, Response)> {
        if let Route::GroupCoordinator(group) = &in_flight.route {
            self.coordinators.remove(group);
        }
        let InFlight {
            deadline,
            tag,
            route,
            attempts,
            again,
            ..
        } = in_flight;
        let not_before = now.mono_us + self.retry_pause(attempts);
        match again {
            Some(request) if not_before < deadline => {
                self.waiting.push_back(Waiting {
                    route,
                    request,
                    deadline,
                    not_before,
                    attempts: attempts + 1,
                    tag,
                });
                None
            }
            _ => Some((tag, response)),
        }
    }

    fn retry_pause(&mut self, attempts: u32) -> u64 {
        let (first, most) = self.retry_us;
        self.random
            .jitter((first << attempts.min(16)).min(most.max(first)), SPREAD)
    }

    /// When [`Self::expire`] or [`Self::dispatch`] has something to do, in monotonic microseconds.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        let connections = self
            .connections
            .values()
            .filter_map(|c| c.due(self.idle_us));
        let waiting = self.waiting.iter().map(|w| {
            if w.not_before > self.served_us {
                w.not_before
            } else {
                w.deadline
            }
        });
        let due = connections.chain(waiting).min();
        if self.waiting.is_empty() {
            return due;
        }
        let reconnects = self.connections.values().filter_map(|c| match c.link {
            Link::Down { not_before } if not_before > self.served_us => Some(not_before),
            _ => None,
        });
        let coordinators = self.coordinators.values().filter_map(|c| match c {
            Coordinator::Unknown { not_before } if *not_before > self.served_us => {
                Some(*not_before)
            }
            _ => None,
        });
        due.into_iter().chain(reconnects).chain(coordinators).min()
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// A request that got no answer.
    pub(crate) fn poll_failed(&mut self) -> Option<(Tag, KafkaError)> {
        self.failed.pop_front()
    }

    /// An error for the application as a whole.
    pub(crate) fn poll_error(&mut self) -> Option<KafkaError> {
        self.errors.pop_front()
    }

    /// What a broker said about waiting.
    pub(crate) fn poll_throttled(&mut self) -> Option<Throttled> {
        self.throttled.pop_front()
    }

    /// Requests sent to all brokers, and answers from them.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        let counters = self.connections.values().map(|c| c.counters);
        counters.fold((0, 0), |(tx, rx), c| (tx + c.tx, rx + c.rx))
    }

    /// What is counted by connection. The windows begin anew.
    pub(crate) fn statistics(&mut self) -> impl Iterator<Item = BrokerStatistics> {
        self.connections
            .iter_mut()
            .map(|(peer, connection)| BrokerStatistics {
                node: peer.node,
                coordinator: peer.coordinator,
                address: connection.address.clone(),
                up: connection.is_up(),
                in_flight: connection.in_flight.len(),
                counters: connection.counters,
                throttled: core::mem::take(&mut connection.throttled),
            })
    }
}

fn no_broker() -> KafkaError {
    KafkaError::new(ErrCode::TIMED_OUT, "no broker could be asked in time")
}
