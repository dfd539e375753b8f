//! A share group goes on where it was.

use crate::{
    wire::{Connection, wait_until},
    world::World,
};
use ottla_protocol::{
    ErrorCode, Request, Response, Uuid,
    messages::{
        share_acknowledge::{
            AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch, ShareAcknowledgeRequest,
        },
        share_fetch::{FetchPartition, FetchTopic, ShareFetchRequest},
        share_group_heartbeat::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse},
    },
};

const TOPIC: &str = "shared";
const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;

/// A member of the share group `g`, with a session of its own.
struct Sharer {
    connection: Connection,
    id: &'static str,
    topic: Uuid,
    session_epoch: i32,
}

impl Sharer {
    fn new(world: &World, id: &'static str, topic: Uuid) -> Self {
        Self {
            connection: Connection::to(world.address()).unwrap(),
            id,
            topic,
            session_epoch: 0,
        }
    }

    fn beat(&mut self, epoch: i32) -> ShareGroupHeartbeatResponse {
        let request = ShareGroupHeartbeatRequest {
            group_id: "g".into(),
            member_id: self.id.into(),
            member_epoch: epoch,
            subscribed_topic_names: (epoch == 0).then(|| vec![TOPIC.into()]),
            ..Default::default()
        };
        let request = Request::ShareGroupHeartbeat(request);
        let Response::ShareGroupHeartbeat(answer) = self.connection.ask(1, &request).unwrap()
        else {
            panic!()
        };
        answer
    }

    /// What it gets: first and last offset, and the how-manyth delivery it is.
    fn fetch(&mut self) -> Vec<(i64, i64, i16)> {
        let request = Request::ShareFetch(ShareFetchRequest {
            group_id: Some("g".into()),
            member_id: Some(self.id.into()),
            share_session_epoch: self.session_epoch,
            max_wait_ms: 100,
            min_bytes: 1,
            max_bytes: 1 << 20,
            max_records: 500,
            batch_size: 500,
            topics: vec![FetchTopic {
                topic_id: self.topic,
                partitions: vec![FetchPartition::default()],
            }],
            ..Default::default()
        });
        self.session_epoch += 1;
        let Response::ShareFetch(answer) = self.connection.ask(1, &request).unwrap() else {
            panic!()
        };
        assert_eq!(answer.error_code, ErrorCode::NONE);
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
        partitions
            .inspect(|partition| assert_eq!(partition.error_code, ErrorCode::NONE))
            .flat_map(|partition| &partition.acquired_records)
            .map(|run| (run.first_offset, run.last_offset, run.delivery_count))
            .collect()
    }

    fn acknowledge(&mut self, batches: &[(i64, i64, i8)]) {
        let batch = |(first, last, kind): &(i64, i64, i8)| AcknowledgementBatch {
            first_offset: *first,
            last_offset: *last,
            acknowledge_types: vec![*kind],
        };
        let request = Request::ShareAcknowledge(ShareAcknowledgeRequest {
            group_id: Some("g".into()),
            member_id: Some(self.id.into()),
            share_session_epoch: self.session_epoch,
            topics: vec![AcknowledgeTopic {
                topic_id: self.topic,
                partitions: vec![AcknowledgePartition {
                    partition_index: 0,
                    acknowledgement_batches: batches.iter().map(batch).collect(),
                }],
            }],
            ..Default::default()
        });
        self.session_epoch += 1;
        let Response::ShareAcknowledge(answer) = self.connection.ask(1, &request).unwrap() else {
            panic!()
        };
        assert_eq!(answer.error_code, ErrorCode::NONE);
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.error_code, ErrorCode::NONE);
    }
}

#[test]
fn a_share_group_goes_on_where_it_was() {
    let mut world = World::new(&[]);
    let mut connection = Connection::to(world.address()).unwrap();
    let topic = connection.create(TOPIC, 1);
    let mut member = Sharer::new(&world, "one", topic);
    let joined = member.beat(0);
    assert_eq!(joined.error_code, ErrorCode::NONE);
    let mut epoch = joined.member_epoch;
    // A share group begins at the end: the first record that comes says that it is there.
    let mut first = 0;
    wait_until("the group has begun", || {
        first = connection.produce(TOPIC, 0, &[b"begins"]) + 1;
        let got = member.fetch();
        if let Some((from, to, _)) = got.first() {
            member.acknowledge(&[(*from, *to, ACCEPT)]);
        }
        !got.is_empty()
    });
    for _ in 0..10 {
        connection.produce(TOPIC, 0, &[b"x"]);
    }
    let at = |offset: i64| first + offset;
    let mut got: Vec<i64> = Vec::new();
    wait_until("ten records", || {
        got.extend(member.fetch().iter().flat_map(|run| run.0..=run.1));
        got.len() == 10
    });
    assert_eq!(got, (at(0)..at(10)).collect::<Vec<_>>());
    member.acknowledge(&[
        (at(0), at(3), ACCEPT),
        (at(4), at(5), RELEASE),
        (at(6), at(6), REJECT),
    ]);
    for round in 0..2 {
        world.kill();
        // It is a member still, in its epoch; its session was the process's.
        member = Sharer::new(&world, "one", topic);
        let beat = member.beat(epoch);
        assert_eq!(
            (beat.error_code, beat.member_epoch),
            (ErrorCode::NONE, epoch)
        );
        epoch = beat.member_epoch;
        let mut runs = Vec::new();
        wait_until("what is not done with", || {
            runs.extend(member.fetch());
            runs.iter().map(|run| run.1 - run.0 + 1).sum::<i64>() >= 5
        });
        // How often it was handed out before is known of what was released; of what was only handed out it is not, as in Kafka.
        let all: Vec<(i64, i16)> = runs
            .iter()
            .flat_map(|run| (run.0..=run.1).map(|offset| (offset, run.2)))
            .collect();
        let wanted = [(4, 2), (5, 2), (7, 1), (8, 1), (9, 1)];
        assert_eq!(
            all,
            wanted.map(|(i, count)| (at(i), count)),
            "round {round}"
        );
    }
    member.acknowledge(&[(at(4), at(5), ACCEPT), (at(7), at(9), ACCEPT)]);
    world.kill();
    member = Sharer::new(&world, "one", topic);
    assert_eq!(member.beat(epoch).error_code, ErrorCode::NONE);
    let mut connection = Connection::to(world.address()).unwrap();
    let next = connection.produce(TOPIC, 0, &[b"next"]);
    let mut runs = Vec::new();
    wait_until("the next record", || {
        runs.extend(member.fetch());
        !runs.is_empty()
    });
    assert_eq!(runs, [(next, next, 1)], "all else is done with");
}
