//! Topics: made, described, grown, deleted, and what is refused.

use super::*;
use ApiKey::*;
use create_topics::CreatableReplicaAssignment;
use delete_topics::DeleteTopicState;
use metadata::MetadataRequestTopic;

pub const CASES: &[Row] = &[
    ("api versions", ApiVersions, api_versions),
    ("create topics", CreateTopics, create),
    ("create topics, refused", CreateTopics, create_refused),
    ("metadata", Metadata, metadata),
    ("metadata, auto-creation", Metadata, auto_creation),
    ("create partitions", CreatePartitions, grow),
    ("delete topics", DeleteTopics, delete),
    (
        "describe topic partitions",
        DescribeTopicPartitions,
        describe,
    ),
    ("describe cluster", DescribeCluster, cluster),
];

fn api_versions(s: &mut Session, v: i16) {
    for (name, software) in [("named", "test"), ("unnamed", ""), ("badly named", "-a b")] {
        let request = ApiVersionsRequest {
            client_software_name: if v >= 3 { software.into() } else { Str::new() },
            client_software_version: if v >= 3 { "1.0".into() } else { Str::new() },
        };
        if let Some(Response::ApiVersions(mut answer)) = s.prepare(v, Request::ApiVersions(request))
        {
            // Which keys there are is compared by name, not by place.
            let keys = std::mem::take(&mut answer.api_keys);
            s.note(name, "error_code", &answer.error_code.0.to_string());
            for key in keys {
                let field = format!("key {}", key.api_key);
                s.note(
                    name,
                    &field,
                    &format!("{}-{}", key.min_version, key.max_version),
                );
            }
            for feature in &answer.supported_features {
                let field = format!("supported {}", feature.name);
                s.note(
                    name,
                    &field,
                    &format!("{}-{}", feature.min_version, feature.max_version),
                );
            }
            for feature in &answer.finalized_features {
                let field = format!("finalized {}", feature.name);
                s.note(name, &field, &format!("{}", feature.max_version_level));
            }
        }
    }
}

fn topic(name: &str, num_partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions,
        replication_factor,
        ..Default::default()
    }
}

fn ask_create(s: &mut Session, v: i16, what: &str, topics: Vec<CreatableTopic>) {
    let request = CreateTopicsRequest {
        topics,
        timeout_ms: 10_000,
        ..Default::default()
    };
    if let Some(Response::CreateTopics(mut answer)) = s.prepare(v, Request::CreateTopics(request)) {
        // A topic's settings are compared by `describe configs`; here only whether they come.
        answer.topics.sort_by(|a, b| a.name.cmp(&b.name));
        for topic in &mut answer.topics {
            if !topic.topic_id.is_zero() {
                topic.topic_id = Uuid::ZERO;
            }
            let settings = topic
                .configs
                .as_ref()
                .map_or(-1, |configs| configs.len().min(1) as i64);
            s.note(
                what,
                &format!("{} has settings", topic.name),
                &settings.to_string(),
            );
            topic.configs = None;
        }
        s.keep(what, &Response::CreateTopics(answer));
    } else {
        s.note(what, "answer", "none");
    }
}

fn create(s: &mut Session, v: i16) {
    let name = format!("create-{v}");
    ask_create(s, v, "new", vec![topic(&name, 2, 1)]);
    ask_create(s, v, "again", vec![topic(&name, 2, 1)]);
    if v >= 4 {
        ask_create(
            s,
            v,
            "defaults",
            vec![topic(&format!("{name}-defaults"), -1, -1)],
        );
    }
    let mut placed = topic(&format!("{name}-placed"), -1, -1);
    placed.assignments = vec![CreatableReplicaAssignment {
        partition_index: 0,
        broker_ids: vec![1],
    }];
    ask_create(s, v, "placed", vec![placed]);
    let request = CreateTopicsRequest {
        topics: vec![topic(&format!("{name}-tried"), 1, 1)],
        timeout_ms: 10_000,
        validate_only: true,
    };
    s.prepare(v, Request::CreateTopics(request));
    ask_create(
        s,
        v,
        "after it was tried only",
        vec![topic(&format!("{name}-tried"), 1, 1)],
    );
}

fn create_refused(s: &mut Session, v: i16) {
    let name = format!("refused-{v}");
    for (what, bad) in [
        ("no partitions", topic(&name, 0, 1)),
        ("minus two partitions", topic(&name, -2, 1)),
        ("no replicas", topic(&name, 1, 0)),
        ("three replicas", topic(&name, 1, 3)),
        ("no name", topic("", 1, 1)),
        ("dot", topic(".", 1, 1)),
        ("slash", topic("a/b", 1, 1)),
        ("too long", topic(&"x".repeat(250), 1, 1)),
    ] {
        ask_create(s, v, what, vec![bad]);
    }
    ask_create(s, v, "twice", vec![topic(&name, 1, 1), topic(&name, 1, 1)]);
    let with = |key: &str, value: Option<&str>| CreatableTopic {
        configs: vec![CreatableTopicConfig {
            name: key.into(),
            value: value.map(Into::into),
        }],
        ..topic(&name, 1, 1)
    };
    ask_create(
        s,
        v,
        "unknown setting",
        vec![with("no.such.thing", Some("1"))],
    );
    ask_create(s, v, "bad value", vec![with("retention.ms", Some("soon"))]);
    ask_create(s, v, "null value", vec![with("retention.ms", None)]);
    let mut placed = topic(&name, 1, 1);
    placed.assignments = vec![CreatableReplicaAssignment {
        partition_index: 0,
        broker_ids: vec![1],
    }];
    ask_create(s, v, "placed and counted", vec![placed.clone()]);
    placed.num_partitions = -1;
    placed.replication_factor = -1;
    placed.assignments[0].broker_ids = vec![9];
    ask_create(s, v, "placed nowhere", vec![placed.clone()]);
    placed.assignments[0].partition_index = 1;
    placed.assignments[0].broker_ids = vec![1];
    ask_create(s, v, "placed with a gap", vec![placed]);
}

fn named(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic {
        name: Some(name.into()),
        ..Default::default()
    }
}

fn metadata(s: &mut Session, v: i16) {
    let name = format!("metadata-{v}");
    make_topic(s, &name, 2, &[]);
    let id = s.topic_id(&name);
    let request = |topics| MetadataRequest {
        topics: Some(topics),
        allow_auto_topic_creation: v < 4,
        include_cluster_authorized_operations: (8..=10).contains(&v),
        include_topic_authorized_operations: v >= 8,
    };
    s.ask("named", v, Request::Metadata(request(vec![named(&name)])));
    if v >= 1 {
        s.ask("none", v, Request::Metadata(request(Vec::new())));
    }
    if v >= 4 {
        let topics = vec![named("metadata-none"), named("a b"), named("")];
        s.ask("missing", v, Request::Metadata(request(topics)));
    }
    if v >= 12 {
        let by_id = |topic_id| MetadataRequestTopic {
            name: None,
            topic_id,
        };
        s.ask("by id", v, Request::Metadata(request(vec![by_id(id)])));
        let unknown = by_id(Uuid::from_random(7));
        s.ask("unknown id", v, Request::Metadata(request(vec![unknown])));
    }
}

fn auto_creation(s: &mut Session, v: i16) {
    let request = MetadataRequest {
        topics: Some(vec![named(&format!("auto-{v}"))]),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    // The first answer may come before the topic is there; in the end it has the broker's number of partitions.
    let partitions = until("a topic that is made by asking for it", || {
        match s.prepare(v, Request::Metadata(request.clone())) {
            Some(Response::Metadata(answer)) if answer.topics[0].error_code == ErrorCode::NONE => {
                Some(answer.topics[0].partitions.len())
            }
            _ => None,
        }
    });
    s.note("made", "partitions", &partitions.to_string());
}

fn grow(s: &mut Session, v: i16) {
    use create_partitions::{CreatePartitionsAssignment, CreatePartitionsTopic};
    let name = format!("grow-{v}");
    make_topic(s, &name, 2, &[]);
    let mut ask = |what: &str, name: &str, count, assignments: Option<Vec<i32>>, validate_only| {
        let topics = vec![CreatePartitionsTopic {
            name: name.into(),
            count,
            assignments: assignments
                .map(|ids| vec![CreatePartitionsAssignment { broker_ids: ids }]),
        }];
        let request = CreatePartitionsRequest {
            topics,
            timeout_ms: 10_000,
            validate_only,
        };
        s.ask(what, v, Request::CreatePartitions(request));
    };
    ask("tried", &name, 3, None, true);
    ask("more", &name, 3, None, false);
    ask("as many", &name, 3, None, false);
    ask("fewer", &name, 1, None, false);
    ask("none", &name, 0, None, false);
    ask("placed", &name, 4, Some(vec![1]), false);
    ask("placed nowhere", &name, 5, Some(vec![9]), false);
    ask("missing", "grow-none", 5, None, false);
}

fn delete(s: &mut Session, v: i16) {
    let name = format!("delete-{v}");
    make_topic(s, &name, 1, &[]);
    let id = s.topic_id(&name);
    let by_name = |names: &[&str]| {
        let names: Vec<Str> = names.iter().map(|name| (*name).into()).collect();
        Request::DeleteTopics(if v >= 6 {
            let state = |name: Str| DeleteTopicState {
                name: Some(name),
                topic_id: Uuid::ZERO,
            };
            DeleteTopicsRequest {
                topics: names.into_iter().map(state).collect(),
                timeout_ms: 10_000,
                ..Default::default()
            }
        } else {
            DeleteTopicsRequest {
                topic_names: names,
                timeout_ms: 10_000,
                ..Default::default()
            }
        })
    };
    s.ask("missing", v, by_name(&["delete-none"]));
    s.ask("nothing", v, by_name(&[]));
    s.ask("there", v, by_name(&[&name]));
    s.ask("gone", v, by_name(&[&name]));
    if v >= 6 {
        let by_id = |topic_id| {
            Request::DeleteTopics(DeleteTopicsRequest {
                topics: vec![DeleteTopicState {
                    name: None,
                    topic_id,
                }],
                timeout_ms: 10_000,
                ..Default::default()
            })
        };
        s.ask("gone, by id", v, by_id(id));
        // Or the id that is asked for next is still that of the one that is gone.
        settle(s);
        make_topic(s, &name, 1, &[]);
        let again = s.topic_id(&name);
        s.ask("by id", v, by_id(again));
        let both = DeleteTopicState {
            name: Some(name.as_str().into()),
            topic_id: again,
        };
        let request = DeleteTopicsRequest {
            topics: vec![both],
            timeout_ms: 10_000,
            ..Default::default()
        };
        s.ask("by name and id", v, Request::DeleteTopics(request));
    }
}

fn describe(s: &mut Session, v: i16) {
    use describe_topic_partitions::{RequestCursor, TopicRequest};
    for (name, partitions) in [("describe-a", 2), ("describe-b", 3)] {
        make_topic(s, name, partitions, &[]);
        s.topic_id(name);
    }
    let names = ["describe-b", "describe-a", "describe-none"];
    let request = |limit, cursor| DescribeTopicPartitionsRequest {
        topics: names
            .iter()
            .map(|n| TopicRequest { name: (*n).into() })
            .collect(),
        response_partition_limit: limit,
        cursor,
    };
    let cursor = |topic: &str, partition_index| {
        Some(RequestCursor {
            topic_name: topic.into(),
            partition_index,
        })
    };
    for (what, limit, from) in [
        ("all", 2000, None),
        ("first page", 3, None),
        ("second page", 3, cursor("describe-b", 1)),
        ("from a missing topic", 3, cursor("describe-aa", 1)),
        ("limit of none", 0, None),
        ("negative cursor", 3, cursor("describe-a", -1)),
    ] {
        s.ask(
            what,
            v,
            Request::DescribeTopicPartitions(request(limit, from)),
        );
    }
}

fn cluster(s: &mut Session, v: i16) {
    for endpoint_type in if v >= 1 { vec![1, 2, 7] } else { vec![1] } {
        let request = DescribeClusterRequest {
            endpoint_type,
            include_cluster_authorized_operations: true,
            ..Default::default()
        };
        s.ask(
            &format!("endpoints {endpoint_type}"),
            v,
            Request::DescribeCluster(request),
        );
    }
}
