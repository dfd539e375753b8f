//! The clients' lives: what they are given, what they hear, what they do.

use super::*;

impl World {
    /// Gives a client an input and does what follows.
    pub(super) fn with_client(&mut self, index: usize, input: impl FnOnce(&mut Client, Now)) {
        let now = self.now();
        let Some(client) = &mut self.actors[index].client else {
            return;
        };
        input(client, now);
        self.drain_client(index);
    }

    pub(super) fn drain_client(&mut self, index: usize) {
        loop {
            while let Some(output) = self.actors[index]
                .client
                .as_mut()
                .and_then(Client::poll_output)
            {
                self.carry(index, output);
            }
            if let Some(event) = self.actors[index]
                .client
                .as_mut()
                .and_then(Client::poll_event)
            {
                self.hear(index, event);
                continue;
            }
            let now = self.now();
            let consumed = self.actors[index]
                .client
                .as_mut()
                .and_then(|client| client.poll_consumed(now));
            match consumed {
                Some(consumed) => self.consume(index, consumed),
                None => break,
            }
        }
        self.note_ownership(index);
    }

    pub(super) fn carry(&mut self, index: usize, output: Output) {
        let life = self.actors[index].life;
        match output {
            Output::Connect { conn, .. } => {
                let delay = self.delay();
                self.after(delay, What::Connect(index, life, conn));
            }
            Output::Send {
                conn,
                correlation_id,
                api_version,
                request,
            } => {
                if let Some(conn) = self.actors[index].connections.get(&conn).copied() {
                    self.send(conn, correlation_id, api_version, request);
                }
            }
            Output::Disconnect { conn } => {
                if let Some(conn) = self.actors[index].connections.remove(&conn) {
                    self.cut(conn);
                }
            }
        }
    }

    pub(super) fn hear(&mut self, index: usize, event: Event) {
        match event {
            Event::Delivery(batch) => self.delivered(index, batch),
            Event::Consumer(ConsumerEvent::Rebalance { kind, partitions }) => {
                trace!(self, "client {index}: {kind:?} {partitions:?}");
                if kind != RebalanceKind::Assign {
                    self.actors[index].last.clear();
                }
            }
            Event::Consumer(event) => trace!(self, "client {index}: {event:?}"),
            Event::Error(error) => {
                trace!(self, "client {index}: {error:?}");
                if error.fatal {
                    self.checker
                        .violation(format!("client {index}: fatal error: {error:?}"));
                }
            }
            Event::Response { .. } | Event::Throttled(_) | Event::Debug(_) => {}
        }
    }

    pub(super) fn topic_number(&self, topic: &Str) -> usize {
        self.topics
            .iter()
            .position(|(name, _)| name == topic)
            .unwrap_or(usize::MAX)
    }

    pub(super) fn delivered(&mut self, index: usize, batch: DeliveredBatch) {
        trace!(
            self,
            "client {index}: {}-{} {} records at {}: {}",
            batch.topic,
            batch.partition,
            batch.len(),
            batch.base_offset,
            batch.code().0
        );
        let place = (self.topic_number(&batch.topic), batch.partition);
        let mut deliveries = batch.deliveries();
        while let Some(delivery) = deliveries.next(&batch) {
            let id = RecordId {
                producer: index,
                number: delivery.side.opaque as u64 - 1,
            };
            let offset = batch.error.is_none().then_some(delivery.offset);
            self.checker
                .report(id, place, offset, delivery.value.unwrap_or_default());
        }
        if let Some(client) = &mut self.actors[index].client {
            client.delivery_taken(batch.len(), batch.bytes());
        }
    }

    pub(super) fn consume(&mut self, index: usize, consumed: Consumed) {
        match consumed {
            Consumed::Records(fetched) => self.read(index, fetched),
            Consumed::Eof { partition, offset } => {
                let place = (self.topic_number(&partition.0), partition.1);
                trace!(self, "client {index}: end of {place:?} at {offset}");
                self.actors[index].ends.insert(place, offset);
            }
            Consumed::Error {
                partition, error, ..
            } => trace!(self, "client {index}: {partition:?} {error:?}"),
        }
    }

    pub(super) fn read(&mut self, index: usize, mut fetched: Fetched) {
        let partition = fetched.partition().clone();
        let place = (self.topic_number(partition.topic()), partition.partition());
        let mut count = 0;
        while let Some(record) = fetched.next_record() {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    self.checker
                        .violation(format!("consumer {index}: {place:?}: {error:?}"));
                    continue;
                }
            };
            count += 1;
            if self.planted == Some(Bug::RecordSkipped) && self.random.chance(20) {
                continue;
            }
            let mut headers = record.headers;
            let name = headers.find(|header| header.key == compaction::ID_HEADER);
            let id = self.checker.read(
                place,
                record.offset,
                record.key,
                record.value,
                name.and_then(|header| header.value),
            );
            let actor = &mut self.actors[index];
            let last = actor
                .last
                .get(&place)
                .filter(|(of, _)| Arc::ptr_eq(of, &partition))
                .map(|(_, last)| *last);
            self.checker.follows(index, place, last, record.offset);
            actor.last.insert(place, (partition.clone(), record.offset));
            match &mut actor.program {
                Program::Member {
                    group, uncommitted, ..
                } => {
                    *uncommitted += 1;
                    self.checker.group_read(*group, place, record.offset);
                }
                Program::Reader { is_last: true, .. } => {
                    if let Some(id) = id {
                        self.checker.finally(place, record.offset, id);
                    }
                }
                _ => {}
            }
        }
        trace!(
            self,
            "client {index}: reads {count} of {place:?} up to {}",
            partition.position()
        );
        self.commit(index);
    }

    /// A member that commits itself does so now and then.
    pub(super) fn commit(&mut self, index: usize) {
        let Program::Member {
            commits: true,
            uncommitted,
            ..
        } = &mut self.actors[index].program
        else {
            return;
        };
        if *uncommitted < 5 || !self.random.chance(500) {
            return;
        }
        *uncommitted = 0;
        let now = self.now();
        if let Some(client) = &mut self.actors[index].client {
            // Between two generations there is nothing to commit to.
            let _ = client.commit(now, None, None);
        }
    }

    pub(super) fn note_ownership(&mut self, index: usize) {
        let actor = &self.actors[index];
        let (Program::Member { group, .. }, Some(client)) = (&actor.program, &actor.client) else {
            return;
        };
        let generation = client.generation();
        // A member that is still joining a generation holds what the one before gave it; and if a power cut takes the broker
        // before anybody was told the outcome, that generation's number is used again.
        if client.join_state() != "steady" || client.is_assignment_lost() {
            return;
        }
        let group = *group;
        for (topic, partition) in client.assignment() {
            let place: Place = (self.topic_number(&topic), partition);
            // Each life of a member is another member.
            let member = index * 1000 + self.actors[index].life as usize;
            self.checker.owns(group, generation, place, member);
        }
    }

    /// A client ends without a word.
    pub(super) fn halt(&mut self, index: usize) {
        let actor = &mut self.actors[index];
        actor.client = None;
        actor.life += 1;
        actor.last.clear();
        actor.ends.clear();
        let connections = std::mem::take(&mut actor.connections);
        for conn in connections.into_values() {
            self.cut(conn);
        }
    }

    pub(super) fn restart(&mut self, index: usize) {
        self.halt(index);
        trace!(self, "client {index} starts");
        let now = self.now();
        let seed = self.random.next();
        let actor = &mut self.actors[index];
        let mut client = match Client::new(actor.config.clone(), now, seed) {
            Ok(client) => client,
            Err(error) => {
                self.broken = true;
                return self
                    .checker
                    .violation(format!("a client can't be made: {error:?}"));
            }
        };
        let started = match &mut actor.program {
            Program::Producer { topics, .. } => {
                topics.clear();
                self.topics.iter().try_for_each(|(name, _)| {
                    topics.push(client.intern_topic(now, name, None, None)?);
                    Ok(())
                })
            }
            Program::Reader { topics, .. } => {
                let all: Vec<PartitionOffset> = topics
                    .iter()
                    .flat_map(|topic| {
                        let (name, count) = self.topics[*topic].clone();
                        (0..count)
                            .map(move |n| PartitionOffset::new(name.clone(), n, offset::BEGINNING))
                    })
                    .collect();
                client.assign(now, &all)
            }
            Program::Member { uncommitted, .. } => {
                *uncommitted = 0;
                let names: Vec<Str> = self.topics.iter().map(|(name, _)| name.clone()).collect();
                client.subscribe(now, &names)
            }
        };
        if let Err(error) = started {
            self.checker
                .violation(format!("client {index} can't start: {error:?}"));
        }
        actor.client = Some(client);
        self.drain_client(index);
    }

    /// A few records, and the next few later.
    pub(super) fn produce(&mut self, index: usize) {
        let now = self.now();
        let burst = self.random.between(1, 12);
        let actor = &mut self.actors[index];
        let (Program::Producer { topics, left }, Some(client)) =
            (&mut actor.program, &mut actor.client)
        else {
            return;
        };
        for _ in 0..burst.min(*left) {
            *left -= 1;
            let topic = self.random.below(topics.len() as u64) as usize;
            let partition = match self.random.chance(300) {
                true => -1,
                false => self.random.below(self.topics[topic].1 as u64) as i32,
            };
            let id = self.checker.produce(index);
            let (key, value) = (self.checker.key_of(id), self.checker.value_of(id));
            let name = value_of(id);
            let name = [Header {
                key: compaction::ID_HEADER,
                value: Some(name.as_bytes()),
            }];
            let record = ProduceRecord {
                topic: topics[topic],
                partition,
                timestamp: 0,
                key: key.as_deref().map(str::as_bytes),
                value: value.as_deref().map(str::as_bytes),
                headers: if value.is_none() { &name } else { &[] },
                side: Side {
                    opaque: id.number as usize + 1,
                    payload_addr: 0,
                },
            };
            if let Err(error) = client.produce(now, &record) {
                self.checker.refused(id);
                self.checker
                    .violation(format!("{id:?} was refused: {error:?}"));
            }
        }
        if *left > 0 {
            let pause = self.random.between(1000, 150_000);
            self.after(pause, What::Produce(index));
        }
        self.drain_client(index);
    }
}
