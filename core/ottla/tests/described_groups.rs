//! What `Admin::describe_groups` tells of groups of either kind.

use ottla::{Admin, Config, ErrCode, GroupType, NewTopic, Route};
use ottla_protocol::{
    Request, Response, Uuid,
    messages::{
        ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
        consumer_group_heartbeat::{RequestTopicPartitions, TopicPartitions},
    },
};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(60);

fn beat(admin: &Admin, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
    let route = Route::GroupCoordinator(request.group_id.clone());
    let request = Request::ConsumerGroupHeartbeat(request);
    match admin.handle().request(route, request, WAIT).unwrap() {
        Response::ConsumerGroupHeartbeat(response) => {
            assert_eq!(response.error_code.0, 0, "{response:?}");
            response
        }
        other => panic!("{other:?}"),
    }
}

/// A member that speaks the newer protocol (KIP-848) and has been given all of "t".
fn join(admin: &Admin, group: &str) {
    let joining = ConsumerGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: "0qm5FEk3RlySYIZi_h7F1w".into(),
        instance_id: Some("first".into()),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let joined = beat(admin, joining.clone());
    let assigned = joined.assignment.expect("all of it, to the only member");
    let of = |topic: TopicPartitions| {
        assert_ne!(topic.topic_id, Uuid::default());
        RequestTopicPartitions {
            topic_id: topic.topic_id,
            partitions: topic.partitions,
        }
    };
    beat(
        admin,
        ConsumerGroupHeartbeatRequest {
            member_epoch: joined.member_epoch,
            topic_partitions: Some(assigned.topic_partitions.into_iter().map(of).collect()),
            ..joining
        },
    );
}

#[test]
fn a_group_that_the_broker_runs_and_one_that_its_members_run() {
    let address = "memory:described-groups";
    let config = Config::new().with("bootstrap.servers", address).unwrap();
    let admin = Admin::new(config.clone()).unwrap();
    let topic = NewTopic {
        name: "t".into(),
        num_partitions: 3,
        replication_factor: -1,
        config: Vec::new(),
        replica_assignments: Vec::new(),
    };
    for created in admin.create_topics(&[topic], false, WAIT).unwrap() {
        created.unwrap();
    }
    join(&admin, "newer");
    let consumer = config
        .with("group.id", "classic")
        .unwrap()
        .with("client.id", "reader")
        .unwrap();
    let consumer = ottla::Consumer::new(consumer).unwrap();
    consumer.subscribe(&["t"]).unwrap();
    let end = std::time::Instant::now() + WAIT;
    while consumer.handle().assignment().len() < 3 {
        assert!(std::time::Instant::now() < end, "nothing was assigned");
        consumer.next_batch(Duration::from_millis(100)).unwrap();
    }

    let mut found = admin
        .describe_groups(&["newer", "classic", "nobody"], WAIT)
        .unwrap();
    let nobody = found.pop().unwrap().unwrap_err();
    assert_eq!(nobody.code, ErrCode::GROUP_ID_NOT_FOUND);
    let classic = found.pop().unwrap().unwrap();
    assert_eq!(classic.group_type, GroupType::Classic);
    assert_eq!((&*classic.state, &*classic.protocol), ("Stable", "range"));
    assert_eq!(classic.members[0].client_id, "reader");
    assert_eq!(classic.members[0].assigned_partitions().len(), 3);
    assert_eq!(classic.members[0].target_partitions(), None);
    let newer = found.pop().unwrap().unwrap();
    assert_eq!(newer.group_type, GroupType::Consumer);
    assert_eq!(&*newer.state, "Stable");
    assert_eq!(
        (&*newer.protocol_type, &*newer.protocol),
        ("consumer", "uniform")
    );
    let [member] = &newer.members[..] else {
        panic!("{newer:?}")
    };
    assert_eq!(member.member_id, "0qm5FEk3RlySYIZi_h7F1w");
    assert_eq!(member.group_instance_id.as_deref(), Some("first"));
    let numbers = |partitions: Vec<ottla::TopicPartition>| -> Vec<(String, i32)> {
        partitions
            .into_iter()
            .map(|p| (p.topic.to_string(), p.partition))
            .collect()
    };
    let all: Vec<_> = (0..3).map(|number| ("t".to_string(), number)).collect();
    assert_eq!(numbers(member.assigned_partitions()), all);
    assert_eq!(numbers(member.target_partitions().unwrap()), all);
    // Whoever has the group is a broker of the cluster.
    let brokers = admin.handle().metadata(Some(&[]), WAIT).unwrap().brokers;
    for coordinator in [newer.broker, classic.broker] {
        assert!(
            brokers.iter().any(|broker| broker.id == coordinator.id
                && broker.host == coordinator.host
                && broker.port == coordinator.port),
            "{coordinator:?} of {brokers:?}"
        );
    }
}
