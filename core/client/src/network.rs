//! Connections and requests: who is asked, in which version, until when, and what happens when nobody answers.

use crate::{
    client::Output,
    config::{BootstrapServer, ClientConfig},
    consumer::Cluster,
    error::{ErrCode, KafkaError, unexpected},
    metadata::Metadata,
    random::Random,
};
use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    vec::Vec,
};
use ottla_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FindCoordinatorRequest, FindCoordinatorResponse,
};
use ottla_protocol::{ApiKey, ErrorCode, Request, Response, Str};
use ottla_record::Now;

/// A connection, numbered by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Who is to answer a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// Any broker.
    Any,
    /// The controller.
    Controller,
    /// The coordinator of a consumer group.
    GroupCoordinator(Str),
    /// The leader of a partition.
    Leader(Str, i32),
    /// This broker.
    Node(i32),
}

/// What a request was sent for: the flow that gets the answer.
#[derive(Debug)]
pub(crate) enum Tag {
    Metadata,
    FindCoordinator(Str),
    InitProducerId,
    Produce(u64),
    Consumer(u64),
    App(u64),
}

/// A request that waits for its broker.
struct Waiting {
    route: Route,
    request: Request,
    timeout_ms: i32,
    deadline: u64,
    tag: Tag,
}

/// A request that was sent.
struct InFlight {
    deadline: u64,
    tag: Tag,
    route: Route,
}

enum State {
    /// The driver was asked to connect.
    Connecting,
    /// ApiVersions was sent, in this version.
    Asking(i16),
    /// Ready for requests: the version to use for each key.
    Up(BTreeMap<i16, i16>),
}

struct Connection {
    node: i32,
    state: State,
    next_correlation: i32,
    in_flight: BTreeMap<i32, InFlight>,
}

/// How a broker was doing when it was last tried.
#[derive(Default)]
struct Reach {
    not_before: u64,
    failures: u32,
}

/// The client's connections.
pub(crate) struct Network {
    client_software: (Str, Str),
    socket_timeout_ms: u32,
    backoff_ms: (u32, u32),
    /// Bootstrap addresses, under the node ids -1, -2, …
    bootstrap: Vec<BootstrapServer>,
    connections: BTreeMap<ConnId, Connection>,
    by_node: BTreeMap<i32, ConnId>,
    reach: BTreeMap<i32, Reach>,
    next_connection: u64,
    waiting: VecDeque<Waiting>,
    coordinators: BTreeMap<Str, i32>,
    finding: Vec<Str>,
    /// Groups whose coordinator was not to be had, and when to ask again.
    held: Vec<(u64, Str)>,
    outputs: VecDeque<Output>,
    failed: VecDeque<(Tag, KafkaError)>,
    random: Random,
    /// Requests sent and answers received, for statistics.
    pub sent: u64,
    /// Answers received.
    pub received: u64,
}

/// How long a coordinator that is not available is left alone.
const COORDINATOR_BACKOFF_MS: i64 = 50;
/// ApiVersions in the newest version that we speak, and the one that every broker speaks.
const API_VERSIONS: (i16, i16) = (4, 0);

impl Network {
    pub fn new(config: &ClientConfig, seed: u64) -> Self {
        Self {
            client_software: (
                config.client_software_name.clone(),
                config.client_software_version.clone(),
            ),
            socket_timeout_ms: config.socket_timeout_ms,
            backoff_ms: (config.reconnect_backoff_ms, config.reconnect_backoff_max_ms),
            bootstrap: config.bootstrap_servers.clone(),
            connections: BTreeMap::new(),
            by_node: BTreeMap::new(),
            reach: BTreeMap::new(),
            next_connection: 1,
            waiting: VecDeque::new(),
            coordinators: BTreeMap::new(),
            finding: Vec::new(),
            held: Vec::new(),
            outputs: VecDeque::new(),
            failed: VecDeque::new(),
            random: Random::new(seed),
            sent: 0,
            received: 0,
        }
    }

    /// Sends a request as soon as its broker can be reached; the answer, or the error after `timeout_ms` (0: the socket's), goes
    /// to `tag`. Nothing goes out before [`Self::dispatch`].
    pub fn send(&mut self, now: Now, route: Route, request: Request, timeout_ms: i32, tag: Tag) {
        let timeout_ms = if timeout_ms > 0 {
            timeout_ms
        } else {
            self.socket_timeout_ms as i32
        };
        let deadline = now.after_ms(i64::from(timeout_ms));
        self.waiting.push_back(Waiting {
            route,
            request,
            timeout_ms,
            deadline,
            tag,
        });
    }

    /// Sends at once over a connection that is up; gives the request back if there is none.
    #[allow(clippy::result_large_err)] // it is the caller's own request that comes back
    pub fn send_now(
        &mut self,
        now: Now,
        node: i32,
        request: Request,
        timeout_ms: i32,
        tag: Tag,
    ) -> Result<(), (Request, Tag)> {
        let Some(&id) = self.by_node.get(&node) else {
            return Err((request, tag));
        };
        let deadline = now.after_ms(i64::from(if timeout_ms > 0 {
            timeout_ms
        } else {
            self.socket_timeout_ms as i32
        }));
        self.transmit(id, Route::Node(node), request, deadline, tag)
    }

    #[allow(clippy::result_large_err)] // as `send_now`
    fn transmit(
        &mut self,
        id: ConnId,
        route: Route,
        mut request: Request,
        deadline: u64,
        tag: Tag,
    ) -> Result<(), (Request, Tag)> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Err((request, tag));
        };
        let State::Up(versions) = &connection.state else {
            return Err((request, tag));
        };
        let key = request.api_key();
        let Some(&api_version) = versions.get(&(key as i16)) else {
            let message = format!("the broker does not speak {}", key.name());
            self.failed
                .push_back((tag, KafkaError::new(ErrCode::UNSUPPORTED_FEATURE, message)));
            return Ok(());
        };
        fit(&mut request, api_version);
        let correlation_id = connection.next_correlation;
        connection.next_correlation = correlation_id.wrapping_add(1) & i32::MAX;
        // A produce with acks=0 has no answer to wait for.
        if !matches!(&request, Request::Produce(produce) if produce.acks == 0) {
            connection.in_flight.insert(
                correlation_id,
                InFlight {
                    deadline,
                    tag,
                    route,
                },
            );
        }
        self.sent += 1;
        self.outputs.push_back(Output::Send {
            conn: id,
            correlation_id,
            api_version,
            request,
        });
        Ok(())
    }

    /// Sends what can be sent, and looks for what the rest needs. Returns whether metadata is missing.
    pub fn dispatch(&mut self, now: Now, metadata: &Metadata) -> bool {
        let (held, over): (Vec<_>, Vec<_>) =
            self.held.drain(..).partition(|(at, _)| *at > now.mono_us);
        self.held = held;
        self.finding
            .retain(|finding| !over.iter().any(|(_, group)| group == finding));
        let mut unknown = false;
        let mut still = VecDeque::new();
        while let Some(waiting) = self.waiting.pop_front() {
            if waiting.deadline <= now.mono_us {
                self.failed
                    .push_back((waiting.tag, timed_out(waiting.timeout_ms)));
                continue;
            }
            let node = match &waiting.route {
                Route::Any => self.any_node(now, metadata),
                Route::Node(node) => Some(*node),
                Route::Controller => match metadata.controller() {
                    node if node >= 0 => Some(node),
                    _ => {
                        unknown = true;
                        None
                    }
                },
                Route::Leader(topic, partition) => {
                    let leader = metadata.leader(topic, *partition).map(|(node, _)| node);
                    unknown |= leader.is_none();
                    leader
                }
                Route::GroupCoordinator(group) => {
                    let known = self.coordinators.get(group).copied();
                    if known.is_none() && !self.finding.contains(group) {
                        self.finding.push(group.clone());
                        self.waiting.push_back(find_coordinator(
                            group,
                            waiting.timeout_ms,
                            waiting.deadline,
                        ));
                    }
                    known
                }
            };
            let Some(node) = node else {
                still.push_back(waiting);
                continue;
            };
            match self.connect(now, node, metadata) {
                Some(id) => {
                    let Waiting {
                        route,
                        request,
                        timeout_ms,
                        deadline,
                        tag,
                    } = waiting;
                    if let Err((request, tag)) =
                        self.transmit(id, route.clone(), request, deadline, tag)
                    {
                        still.push_back(Waiting {
                            route,
                            request,
                            timeout_ms,
                            deadline,
                            tag,
                        });
                    }
                }
                None => still.push_back(waiting),
            }
        }
        self.waiting = still;
        unknown
    }

    /// A broker that is connected, or the next one to try.
    fn any_node(&mut self, now: Now, metadata: &Metadata) -> Option<i32> {
        let up = self
            .connections
            .values()
            .find(|connection| matches!(connection.state, State::Up(_)));
        if let Some(connection) = up {
            return Some(connection.node);
        }
        if let Some(connection) = self.connections.values().next() {
            return Some(connection.node);
        }
        let known: Vec<i32> = match metadata
            .brokers()
            .map(|broker| broker.node)
            .collect::<Vec<_>>()
        {
            nodes if nodes.is_empty() => (0..self.bootstrap.len()).map(|i| -1 - i as i32).collect(),
            nodes => nodes,
        };
        let able: Vec<i32> = known
            .into_iter()
            .filter(|node| {
                self.reach
                    .get(node)
                    .is_none_or(|reach| reach.not_before <= now.mono_us)
            })
            .collect();
        able.get(self.random.below(able.len() as u32) as usize)
            .copied()
    }

    /// The connection to a broker; begins one if there is none and it is time for another try.
    fn connect(&mut self, now: Now, node: i32, metadata: &Metadata) -> Option<ConnId> {
        if let Some(id) = self.by_node.get(&node) {
            return Some(*id);
        }
        if self
            .reach
            .get(&node)
            .is_some_and(|reach| reach.not_before > now.mono_us)
        {
            return None;
        }
        let (host, port) = if node < 0 {
            let server = self.bootstrap.get((-1 - node) as usize)?;
            (server.host.clone(), server.port)
        } else {
            let broker = metadata.broker(node)?;
            (broker.host.clone(), broker.port)
        };
        let id = ConnId(self.next_connection);
        self.next_connection += 1;
        let connection = Connection {
            node,
            state: State::Connecting,
            next_correlation: 1,
            in_flight: BTreeMap::new(),
        };
        self.connections.insert(id, connection);
        self.by_node.insert(node, id);
        self.outputs.push_back(Output::Connect {
            conn: id,
            node,
            host,
            port,
        });
        None
    }

    /// Whether a broker is ready for requests; if not, a connection to it is begun.
    pub fn ensure(&mut self, now: Now, node: i32, metadata: &Metadata) -> bool {
        match self.connect(now, node, metadata) {
            Some(id) => self
                .connections
                .get(&id)
                .is_some_and(|connection| matches!(connection.state, State::Up(_))),
            None => false,
        }
    }

    /// The node at the other end of a connection, or -1.
    pub fn node_of(&self, id: ConnId) -> i32 {
        self.connections
            .get(&id)
            .map_or(-1, |connection| connection.node)
    }

    /// A connection is there: ask what the broker speaks.
    pub fn connected(&mut self, id: ConnId) {
        self.ask_versions(id, API_VERSIONS.0);
    }

    fn ask_versions(&mut self, id: ConnId, api_version: i16) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.state = State::Asking(api_version);
        let (client_software_name, client_software_version) = self.client_software.clone();
        let request = ApiVersionsRequest {
            client_software_name,
            client_software_version,
            ..Default::default()
        };
        let correlation_id = connection.next_correlation;
        connection.next_correlation += 1;
        self.sent += 1;
        let request = Request::ApiVersions(request);
        self.outputs.push_back(Output::Send {
            conn: id,
            correlation_id,
            api_version,
            request,
        });
    }

    fn versions_answered(&mut self, now: Now, id: ConnId, response: ApiVersionsResponse) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let State::Asking(asked) = connection.state else {
            return;
        };
        if response.error_code == ErrorCode::UNSUPPORTED_VERSION && asked != API_VERSIONS.1 {
            return self.ask_versions(id, API_VERSIONS.1);
        }
        if response.error_code != ErrorCode::NONE {
            let error = KafkaError::from(ErrCode::from(response.error_code));
            self.outputs.push_back(Output::Disconnect { conn: id });
            return self.disconnected(now, id, &error);
        }
        let mut versions = BTreeMap::new();
        for range in response.api_keys {
            let Some(key) = ApiKey::from_i16(range.api_key) else {
                continue;
            };
            let ours = key.valid_versions();
            let version = newest(key).min(range.max_version);
            if version >= (*ours.start()).max(range.min_version) {
                versions.insert(range.api_key, version);
            }
        }
        connection.state = State::Up(versions);
        self.reach.remove(&connection.node);
    }

    /// An answer came: what it was for. Answers to ApiVersions are used up here.
    pub fn answered(
        &mut self,
        now: Now,
        id: ConnId,
        correlation_id: i32,
        response: Response,
    ) -> Option<(Tag, Response)> {
        self.received += 1;
        let connection = self.connections.get_mut(&id)?;
        if let (State::Asking(_), Response::ApiVersions(_)) = (&connection.state, &response) {
            if let Response::ApiVersions(versions) = response {
                self.versions_answered(now, id, versions);
            }
            return None;
        }
        let in_flight = connection.in_flight.remove(&correlation_id)?;
        Some((in_flight.tag, response))
    }

    /// A connection is gone, or was refused: what was in flight over it fails.
    pub fn disconnected(&mut self, now: Now, id: ConnId, reason: &KafkaError) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        self.by_node.remove(&connection.node);
        self.coordinators.retain(|_, node| *node != connection.node);
        let reach = self.reach.entry(connection.node).or_default();
        let (least, most) = (i64::from(self.backoff_ms.0), i64::from(self.backoff_ms.1));
        let backoff = (least << reach.failures.min(16)).clamp(least.min(most), most);
        // Between 80 and 120 %, so that clients don't come back all at once.
        let spread = backoff * 8 / 10 + i64::from(self.random.below((backoff * 4 / 10) as u32));
        reach.failures += 1;
        reach.not_before = now.after_ms(spread);
        for in_flight in connection.in_flight.into_values() {
            self.lost(in_flight, reason.clone());
        }
    }

    fn lost(&mut self, in_flight: InFlight, reason: KafkaError) {
        if let Route::GroupCoordinator(group) = &in_flight.route {
            self.coordinators.remove(group);
        }
        self.failed.push_back((in_flight.tag, reason));
    }

    /// Takes in an answer to FindCoordinator.
    pub fn coordinator_found(
        &mut self,
        group: &Str,
        result: Result<Response, KafkaError>,
    ) -> Result<(), KafkaError> {
        self.finding.retain(|finding| finding != group);
        let node = match result? {
            Response::FindCoordinator(response) => coordinator_of(response)?,
            other => return Err(unexpected(&other)),
        };
        self.coordinators.insert(group.clone(), node);
        Ok(())
    }

    /// Asks for the coordinator again a little later.
    pub fn hold_coordinator(&mut self, now: Now, group: &Str) {
        self.finding.push(group.clone());
        self.held
            .push((now.after_ms(COORDINATOR_BACKOFF_MS), group.clone()));
    }

    /// What waits for this coordinator fails, since there will be none.
    pub fn fail_waiting_for(&mut self, group: &Str, error: &KafkaError) {
        let waiting = core::mem::take(&mut self.waiting);
        for one in waiting {
            if one.route == Route::GroupCoordinator(group.clone()) {
                self.failed.push_back((one.tag, error.clone()));
            } else {
                self.waiting.push_back(one);
            }
        }
    }

    /// Looks the coordinator up again before the next request to it.
    pub fn forget_coordinator(&mut self, group: &Str) {
        self.coordinators.remove(group);
    }

    /// Fails what has waited or been in flight for too long. A connection that does not answer is closed.
    pub fn expire(&mut self, now: Now) {
        let waiting = core::mem::take(&mut self.waiting);
        for one in waiting {
            if one.deadline <= now.mono_us {
                self.failed.push_back((one.tag, timed_out(one.timeout_ms)));
            } else {
                self.waiting.push_back(one);
            }
        }
        let mut silent = Vec::new();
        for (id, connection) in &self.connections {
            if connection
                .in_flight
                .values()
                .any(|in_flight| in_flight.deadline <= now.mono_us)
            {
                silent.push(*id);
            }
        }
        for id in silent {
            self.outputs.push_back(Output::Disconnect { conn: id });
            let reason = KafkaError::new(
                ErrCode::TIMED_OUT,
                "the broker did not answer in time (socket.timeout.ms)",
            );
            self.disconnected(now, id, &reason);
        }
    }

    /// A tag whose request has failed.
    pub fn poll_failed(&mut self) -> Option<(Tag, KafkaError)> {
        self.failed.pop_front()
    }

    /// The next thing for the driver to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::expire`] or [`Self::dispatch`] has something to do, in monotonic microseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        let in_flight = self
            .connections
            .values()
            .flat_map(|c| c.in_flight.values().map(|f| f.deadline));
        let waiting = self.waiting.iter().map(|waiting| waiting.deadline);
        let retries = self.reach.values().map(|reach| reach.not_before);
        let retries = retries.filter(|_| !self.waiting.is_empty());
        let held = self.held.iter().map(|(at, _)| *at);
        in_flight.chain(waiting).chain(retries).chain(held).min()
    }
}

/// The newest version that this client sends. Offsets are committed and fetched by topic name, which version 10 no longer does.
fn newest(key: ApiKey) -> i16 {
    match key {
        ApiKey::OffsetCommit | ApiKey::OffsetFetch => 9,
        _ => *key.valid_versions().end(),
    }
}

/// Moves what versions keep in different places: requests are made without knowing the version that they are sent in.
fn fit(request: &mut Request, api_version: i16) {
    match request {
        Request::FindCoordinator(find) if api_version >= 4 => find.key = Str::new(),
        Request::FindCoordinator(find) => find.coordinator_keys = Vec::new(),
        Request::OffsetFetch(fetch) if api_version >= 8 => {
            fetch.group_id = Str::new();
            fetch.topics = Some(Vec::new());
        }
        Request::OffsetFetch(fetch) => {
            fetch.groups = Vec::new();
            fetch.require_stable &= api_version >= 7;
        }
        Request::LeaveGroup(leave) if api_version >= 3 => leave.member_id = Str::new(),
        Request::LeaveGroup(leave) => leave.members = Vec::new(),
        _ => {}
    }
}

fn timed_out(timeout_ms: i32) -> KafkaError {
    KafkaError::new(
        ErrCode::TIMED_OUT,
        format!("no broker answered within {timeout_ms} ms"),
    )
}

fn find_coordinator(group: &Str, timeout_ms: i32, deadline: u64) -> Waiting {
    let request = FindCoordinatorRequest {
        key: group.clone(),
        key_type: 0,
        coordinator_keys: alloc::vec![group.clone()],
        ..Default::default()
    };
    Waiting {
        route: Route::Any,
        request: Request::FindCoordinator(request),
        timeout_ms,
        deadline,
        tag: Tag::FindCoordinator(group.clone()),
    }
}

/// The node that an answer names; from version 4 on it is in a list.
fn coordinator_of(response: FindCoordinatorResponse) -> Result<i32, KafkaError> {
    let (error, node) = match response.coordinators.first() {
        Some(coordinator) => (coordinator.error_code, coordinator.node_id),
        None => (response.error_code, response.node_id),
    };
    if error == ErrorCode::NONE {
        Ok(node)
    } else {
        Err(KafkaError::from(ErrCode::from(error)))
    }
}
