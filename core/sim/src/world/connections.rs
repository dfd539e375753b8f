//! Connections: messages on their way, delayed, re-encoded, cut off.

use super::{speakers::Speaker, *};

impl Connection {
    /// One that was just made.
    pub(super) fn new(actor: usize, life: u64, of_client: ConnId) -> Self {
        Self {
            actor,
            life,
            of_client,
            request_us: 0,
            answer_us: 0,
            asked: BTreeMap::new(),
        }
    }
}

impl World {
    pub(super) fn delay(&mut self) -> u64 {
        match self.random.below(20) {
            0 => self.random.below(self.slowest_us * 4),
            _ => self.random.below(self.slowest_us),
        }
    }

    pub(super) fn connect(&mut self, actor: usize, life: u64, of_client: ConnId) {
        if self.actors[actor].life != life {
            return;
        }
        let now = self.now();
        let conn = BrokerConn(self.next_connection);
        let Some(broker) = self.whole_broker() else {
            let refused = KafkaError::new(ErrCode::TRANSPORT, "connection refused");
            self.with_client(actor, |client, now| {
                client.handle_disconnected(now, of_client, refused)
            });
            return;
        };
        broker.handle_connect(now, conn, "127.0.0.1");
        self.next_connection += 1;
        trace!(self, "client {actor} connects as {}", conn.0);
        let connection = Connection::new(actor, life, of_client);
        self.connections.insert(conn, connection);
        self.actors[actor].connections.insert(of_client, conn);
        self.with_client(actor, |client, now| client.handle_connected(now, of_client));
    }

    /// Whose connection it is, if it is there and not a client's.
    fn speaker_on(&self, conn: BrokerConn) -> Option<Speaker> {
        Speaker::of_actor(self.connections.get(&conn)?.actor)
    }

    /// A connection breaks; each side learns of it in its own time, the broker after what is on its way to it.
    pub(super) fn cut(&mut self, conn: BrokerConn) {
        let Some(connection) = self.connections.remove(&conn) else {
            return;
        };
        trace!(self, "connection {} breaks", conn.0);
        let (us, actor, life) = (self.now_us, connection.actor, connection.life);
        let delay = self.delay();
        self.at(us + delay, What::Gone(actor, life, connection.of_client));
        self.at(connection.request_us.max(us) + 1, What::HungUp(conn));
    }

    pub(super) fn hang_up_on(&mut self, actor: usize, life: u64, conn: ConnId) {
        if let Some(speaker) = Speaker::of_actor(actor) {
            return self.speaker_hears_of_cut(speaker, life);
        }
        let of = &mut self.actors[actor];
        if of.life == life && of.connections.remove(&conn).is_some() {
            let gone = KafkaError::new(ErrCode::TRANSPORT, "connection lost");
            self.with_client(actor, |client, now| {
                client.handle_disconnected(now, conn, gone)
            });
        }
    }

    pub(super) fn send(
        &mut self,
        conn: BrokerConn,
        correlation_id: i32,
        api_version: i16,
        mut request: Request,
    ) {
        if self.random.chance(self.recode) {
            match network::recode_request(api_version, &request) {
                Ok(again) => request = again,
                Err(error) => self.checker.violation(format!(
                    "{:?} {api_version} can't be encoded: {error}",
                    request.api_key()
                )),
            }
        }
        if self.planted == Some(Bug::CommitsAhead)
            && let Request::OffsetCommit(commit) = &mut request
        {
            for partition in commit
                .topics
                .iter_mut()
                .flat_map(|topic| &mut topic.partitions)
            {
                partition.committed_offset += 3;
            }
        }
        if self.planted == Some(Bug::TwoOwners)
            && let Request::SyncGroup(sync) = &mut request
            && let Some(first) = sync
                .assignments
                .first()
                .map(|first| first.assignment.clone())
        {
            for assignment in &mut sync.assignments {
                assignment.assignment = first.clone();
            }
        }
        let twice = match self.planted {
            Some(Bug::AppendsTwice) => network::as_plain(&request),
            _ => None,
        };
        let delay = self.delay();
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        let mut us = self.now_us + delay;
        if self.planted != Some(Bug::RequestsReordered) {
            us = us.max(connection.request_us + 1);
        }
        connection.request_us = connection.request_us.max(us);
        connection
            .asked
            .insert(correlation_id, (request.api_key(), api_version));
        let envelope = |correlation_id, request| RequestEnvelope {
            correlation_id,
            api_version,
            client_id: Some("sim".into()),
            request,
        };
        self.at(us, What::Arrives(conn, envelope(correlation_id, request)));
        if let Some(request) = twice {
            self.at(us, What::Arrives(conn, envelope(-7, request)));
        }
    }

    pub(super) fn arrive(&mut self, conn: BrokerConn, mut envelope: RequestEnvelope) {
        let now = self.now();
        if self.broker.is_none() {
            return;
        }
        self.transactions_arrive(self.speaker_on(conn), &envelope.request);
        let call = (conn.0, envelope.correlation_id);
        if let Some(it) = &mut self.players.membership {
            it.arrived(now.mono_us, call, &envelope.request);
        }
        if let Some(it) = &mut self.players.sharing {
            it.arrived(now.mono_us, call, &envelope.request);
        }
        self.players.plant_request(self.planted, &mut envelope);
        self.trace.line(
            self.now_us,
            format_args!(
                "{} -> {:?} {} v{}{}",
                conn.0,
                envelope.request.api_key(),
                envelope.correlation_id,
                envelope.api_version,
                Asked(&envelope.request),
            ),
        );
        self.hand_in(conn, envelope);
        self.drain_broker();
    }

    pub(super) fn answer(
        &mut self,
        conn: BrokerConn,
        correlation_id: i32,
        api_version: i16,
        mut response: Response,
    ) {
        super::players::plant_response(self.planted, &mut response);
        let call = (conn.0, correlation_id);
        if let Some(it) = &mut self.players.membership {
            it.answered(self.now_us, call, &response);
        }
        if let Some(it) = &mut self.players.sharing {
            it.answered(self.now_us, call, &response);
        }
        let scripted = self.speaker_on(conn).is_some();
        if self.random.chance(self.recode) || scripted {
            match network::recode_response(response.api_key(), api_version, &response) {
                Ok(again) => response = again,
                Err(error) => self.checker.violation(format!(
                    "answer to {:?} {api_version} can't be encoded: {error}",
                    response.api_key()
                )),
            }
        }
        let planted = match self.planted {
            Some(Bug::OffsetGap) => network::shift_offsets(&mut response, 9),
            Some(Bug::CompactsTooMuch) if self.checker.compacted => {
                network::hide_some(&mut response)
            }
            Some(Bug::ValueChanged) => network::change_value(&mut response),
            _ => false,
        };
        let delay = self.delay();
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        let Some((key, _)) = connection.asked.remove(&correlation_id) else {
            return;
        };
        let us = (self.now_us + delay).max(connection.answer_us + 1);
        connection.answer_us = us;
        let mut to = correlation_id;
        if self.planted == Some(Bug::AnswersSwapped) && key == ApiKey::Produce {
            // An answer takes the place of another one that is still to come.
            let waiting = connection
                .asked
                .iter()
                .find(|(_, (key, _))| *key == ApiKey::Produce);
            let swapped = self.swapped.take().filter(|(on, _)| *on == conn);
            match (swapped, waiting.map(|(other, _)| *other)) {
                (Some((_, other)), _) => to = other,
                (None, Some(other)) => {
                    self.swapped = Some((conn, correlation_id));
                    to = other;
                }
                (None, None) => {}
            }
        }
        trace!(
            self,
            "{} <- {key:?} {to} {}{}",
            conn.0,
            summary(&response),
            if planted { " (planted)" } else { "" }
        );
        self.at(us, What::Answered(conn, to, response));
    }
}

/// What matters of a request, for the trace: the batches that are produced.
struct Asked<'a>(&'a Request);

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let produce = match self.0 {
            Request::Produce(produce) => produce,
            Request::ConsumerGroupHeartbeat(it) => {
                let (id, epoch) = (&it.member_id, it.member_epoch);
                let topics = it.topic_partitions.as_ref();
                let owns = topics.map(|it| it.iter().map(|it| &it.partitions).collect::<Vec<_>>());
                return write!(f, " {id} epoch {epoch} owns {owns:?}");
            }
            Request::JoinGroup(it) => return write!(f, " {}", it.member_id),
            Request::SyncGroup(it) => return write!(f, " {} {}", it.member_id, it.generation_id),
            Request::Heartbeat(it) => return write!(f, " {} {}", it.member_id, it.generation_id),
            Request::OffsetCommit(it) => {
                let epoch = it.generation_id_or_member_epoch;
                let partitions = it.topics.iter().flat_map(|it| &it.partitions);
                let offsets = partitions.map(|it| (it.partition_index, it.committed_offset));
                let offsets: Vec<(i32, i64)> = offsets.collect();
                return write!(f, " {} epoch {epoch} {offsets:?}", it.member_id);
            }
            _ => return Ok(()),
        };
        for topic in &produce.topic_data {
            for data in &topic.partition_data {
                let raw = data.records.chunks().next().cloned().unwrap_or_default();
                let Ok(header) = BatchHeader::parse(&raw) else {
                    continue;
                };
                write!(
                    f,
                    " {}-{} {} records of {} epoch {} from {}",
                    topic.name,
                    data.index,
                    header.record_count,
                    header.producer_id,
                    header.producer_epoch,
                    header.base_sequence
                )?;
            }
        }
        Ok(())
    }
}

/// What matters of an answer, for the trace.
fn summary(response: &Response) -> String {
    match response {
        Response::Produce(produce) => {
            let parts = produce.responses.iter().flat_map(|topic| {
                topic.partition_responses.iter().map(|p| {
                    format!(
                        "{}-{}@{}:{}",
                        topic.name, p.index, p.base_offset, p.error_code.0
                    )
                })
            });
            parts.collect::<Vec<_>>().join(" ")
        }
        Response::Fetch(fetch) => {
            let parts = fetch.responses.iter().flat_map(|topic| {
                topic.partitions.iter().map(|p| {
                    format!(
                        "{} hw {} {} bytes:{}",
                        p.partition_index,
                        p.high_watermark,
                        p.records.len(),
                        p.error_code.0
                    )
                })
            });
            parts.collect::<Vec<_>>().join(" ")
        }
        Response::ConsumerGroupHeartbeat(it) => {
            let topics = it.assignment.as_ref().map(|it| it.topic_partitions.iter());
            let told = topics.map(|it| it.map(|it| &it.partitions).collect::<Vec<_>>());
            format!("epoch {} {told:?}:{}", it.member_epoch, it.error_code.0)
        }
        Response::JoinGroup(it) => {
            format!("{} {}:{}", it.member_id, it.generation_id, it.error_code.0)
        }
        Response::SyncGroup(it) => format!("{:?}:{}", it.assignment, it.error_code.0),
        Response::Heartbeat(it) => format!(":{}", it.error_code.0),
        Response::OffsetCommit(it) => {
            let partitions = it.topics.iter().flat_map(|it| &it.partitions);
            let errors = partitions.map(|it| format!("{}:{}", it.partition_index, it.error_code.0));
            errors.collect::<Vec<_>>().join(" ")
        }
        Response::ShareFetch(it) => {
            let partitions = it.responses.iter().flat_map(|it| &it.partitions);
            let runs = partitions.flat_map(|it| {
                let run = |run: &ottla_protocol::messages::share_fetch::AcquiredRecords| {
                    let (first, last) = (run.first_offset, run.last_offset);
                    format!(
                        "{}@{first}-{last}x{}",
                        it.partition_index, run.delivery_count
                    )
                };
                it.acquired_records.iter().map(run).collect::<Vec<_>>()
            });
            format!("{}:{}", runs.collect::<Vec<_>>().join(" "), it.error_code.0)
        }
        _ => String::new(),
    }
}
