//! Topics: names that come again, nothing asked, partitions at their bounds, elections.

use super::*;

pub(super) fn delete_topics(s: &mut Session, v: i16) {
    use delete_topics::DeleteTopicState;
    let name = |what: &str| format!("edges-{what}-{v}");
    for what in ["a", "b", "c"] {
        make_topic(s, &name(what), 1, &[]);
        s.topic_id(&name(what));
    }
    let ask = |s: &mut Session, what: &str, topics: Vec<(Option<String>, Uuid)>| {
        let request = if v >= 6 {
            DeleteTopicsRequest {
                topics: topics
                    .into_iter()
                    .map(|(name, topic_id)| DeleteTopicState {
                        name: name.map(Str::from),
                        topic_id,
                    })
                    .collect(),
                timeout_ms: 10_000,
                ..Default::default()
            }
        } else {
            DeleteTopicsRequest {
                topic_names: topics
                    .into_iter()
                    .filter_map(|(name, _)| name.map(Str::from))
                    .collect(),
                timeout_ms: 10_000,
                ..Default::default()
            }
        };
        let answer = s.prepare(v, Request::DeleteTopics(request));
        if let Some(Response::DeleteTopics(mut answer)) = answer {
            // Kafka shuffles them.
            answer
                .responses
                .sort_by(|a, b| (&a.name, a.topic_id.0).cmp(&(&b.name, b.topic_id.0)));
            s.keep(what, &Response::DeleteTopics(answer));
        } else {
            s.note(what, "answer", "none");
        }
    };
    let named = |what: &str| (Some(name(what)), Uuid::ZERO);
    ask(s, "twice", vec![named("a"), named("b"), named("a")]);
    ask(s, "no name", vec![(Some(String::new()), Uuid::ZERO)]);
    ask(s, "bad name", vec![(Some("a b".into()), Uuid::ZERO)]);
    if v >= 6 {
        let id = s.topic_id(&name("c"));
        ask(s, "by id twice", vec![(None, id), (None, id)]);
        ask(s, "by name and by id", vec![named("c"), (None, id)]);
        ask(s, "neither", vec![(None, Uuid::ZERO)]);
        ask(s, "by id at last", vec![(None, id)]);
    }
}

pub(super) fn metadata(s: &mut Session, v: i16) {
    use metadata::MetadataRequestTopic;
    make_topic(s, "edges-metadata", 1, &[]);
    let id = s.topic_id("edges-metadata");
    let named = |name: &str| MetadataRequestTopic {
        name: Some(name.into()),
        ..Default::default()
    };
    let ask = |s: &mut Session, what: &str, topics: Vec<MetadataRequestTopic>, create: bool| {
        let request = MetadataRequest {
            topics: Some(topics),
            allow_auto_topic_creation: create,
            include_topic_authorized_operations: v >= 8,
            include_cluster_authorized_operations: (8..=10).contains(&v),
        };
        s.ask(what, v, Request::Metadata(request));
    };
    let one = named("edges-metadata");
    ask(s, "twice", vec![one.clone(), one.clone()], true);
    if v >= 4 {
        ask(s, "collides", vec![named("edges.metadata_")], false);
        ask(s, "bad name", vec![named("a/b")], true);
    }
    if v >= 12 {
        let of = |topic_id| MetadataRequestTopic {
            name: None,
            topic_id,
        };
        ask(s, "by id and by name", vec![of(id), one], true);
        ask(s, "by id twice", vec![of(id), of(id)], true);
    }
}

pub(super) fn topic_settings(s: &mut Session, v: i16) {
    let all = [
        ("compression.type", "foo"),
        ("compression.type", "zstd"),
        ("compression.gzip.level", "0"),
        ("compression.gzip.level", "10"),
        ("compression.zstd.level", "23"),
        ("compression.lz4.level", "18"),
        ("retention.bytes", "-1"),
        ("retention.ms", "-2"),
        ("retention.ms", ""),
        ("retention.ms", "5.0"),
        ("retention.ms", "9223372036854775808"),
        ("segment.bytes", "13"),
        ("segment.bytes", "2147483648"),
        ("segment.ms", "0"),
        ("segment.ms", "1"),
        ("segment.jitter.ms", "-1"),
        ("segment.index.bytes", "3"),
        ("segment.index.bytes", "4"),
        ("index.interval.bytes", "-1"),
        ("index.interval.bytes", "0"),
        ("max.message.bytes", "-1"),
        ("max.message.bytes", "0"),
        ("min.insync.replicas", "0"),
        ("min.insync.replicas", "2"),
        ("cleanup.policy", ""),
        ("cleanup.policy", "compact,delete"),
        ("cleanup.policy", "Compact"),
        ("cleanup.policy", "delete,foo"),
        ("min.cleanable.dirty.ratio", "1.5"),
        ("min.cleanable.dirty.ratio", "-0.1"),
        ("min.cleanable.dirty.ratio", "x"),
        ("min.compaction.lag.ms", "-1"),
        ("max.compaction.lag.ms", "0"),
        ("delete.retention.ms", "-1"),
        ("file.delete.delay.ms", "-1"),
        ("flush.messages", "0"),
        ("flush.ms", "-1"),
        ("flush.ms", "0"),
        ("preallocate", "maybe"),
        ("unclean.leader.election.enable", "1"),
        ("message.timestamp.type", "logappendtime"),
        ("message.timestamp.type", "LogAppendTime"),
        ("message.timestamp.before.max.ms", "-1"),
        ("message.timestamp.after.max.ms", "-1"),
        ("message.timestamp.difference.max.ms", "5"),
        ("message.format.version", "3.0"),
        ("message.downconversion.enable", "true"),
        ("leader.replication.throttled.replicas", "*"),
        ("leader.replication.throttled.replicas", "0:1,1:1"),
        ("leader.replication.throttled.replicas", "x"),
        ("local.retention.ms", "-3"),
        ("local.retention.ms", "5"),
        ("local.retention.bytes", "5"),
        ("local.retention.ms", "999999999999"),
        ("remote.storage.enable", "true"),
        ("remote.storage.enable", "false"),
        ("remote.log.copy.disable", "true"),
        ("remote.log.delete.on.disable", "true"),
        ("", "5"),
        ("Retention.ms", "5"),
        ("log.retention.ms", "5"),
    ];
    let validated = |configs: &[(&str, &str)]| {
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
        });
        Request::CreateTopics(CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: "edges-settings".into(),
                num_partitions: 1,
                replication_factor: 1,
                configs: configs.collect(),
                ..Default::default()
            }],
            timeout_ms: 10_000,
            validate_only: true,
        })
    };
    for (name, value) in all {
        let answer = s.prepare(v, validated(&[(name, value)]));
        let Some(Response::CreateTopics(answer)) = answer else {
            s.note(&format!("{name}={value}"), "answer", "none");
            continue;
        };
        let topic = &answer.topics[0];
        let what = format!("{name}={value}");
        s.note(&what, "error_code", &format!("{:?}", topic.error_code));
        let told = topic.configs.as_deref().unwrap_or_default();
        if let Some(told) = told.iter().find(|c| *c.name == *name) {
            let told = format!("{:?} of {}", told.value.as_deref(), told.config_source);
            s.note(&what, "told", &told);
        }
    }
    let request = validated(&[("retention.ms", "5"), ("retention.ms", "6")]);
    if let Some(Response::CreateTopics(answer)) = s.prepare(v, request) {
        let code = format!("{:?}", answer.topics[0].error_code);
        s.note("a setting twice", "error_code", &code);
    }
}

pub(super) fn partitions(s: &mut Session, v: i16) {
    use create_partitions::{CreatePartitionsAssignment, CreatePartitionsTopic};
    let name = format!("edges-partitions-{v}");
    make_topic(s, &name, 2, &[]);
    let to = |count, placed: Option<&[&[i32]]>| CreatePartitionsTopic {
        name: name.as_str().into(),
        count,
        assignments: placed.map(|placed| {
            let of = |ids: &&[i32]| CreatePartitionsAssignment {
                broker_ids: ids.to_vec(),
            };
            placed.iter().map(of).collect()
        }),
    };
    let mut ask = |what: &str, topics: Vec<CreatePartitionsTopic>| {
        let request = CreatePartitionsRequest {
            topics,
            timeout_ms: 10_000,
            validate_only: true,
        };
        s.ask(what, v, Request::CreatePartitions(request));
    };
    ask("twice", vec![to(3, None), to(4, None)]);
    ask("negative", vec![to(-1, None)]);
    ask("placed too few", vec![to(4, Some(&[&[1]]))]);
    ask("placed too many", vec![to(3, Some(&[&[1], &[1]]))]);
    ask("placed as none", vec![to(3, Some(&[]))]);
    ask("placed on nobody", vec![to(3, Some(&[&[]]))]);
    ask("placed twice", vec![to(3, Some(&[&[1, 1]]))]);
    ask("none at all", Vec::new());
}

pub(super) fn elect(s: &mut Session, v: i16) {
    use elect_leaders::TopicPartitions;
    make_topic(s, "edges-elect", 1, &[]);
    let one = || TopicPartitions {
        topic: "edges-elect".into(),
        partitions: vec![0, 0],
    };
    let mut ask = |what: &str, topic_partitions| {
        let request = ElectLeadersRequest {
            election_type: 0,
            topic_partitions,
            timeout_ms: 5000,
        };
        s.ask(what, v, Request::ElectLeaders(request));
    };
    ask("none", Some(Vec::new()));
    ask("twice", Some(vec![one()]));
    let all = ElectLeadersRequest {
        topic_partitions: None,
        timeout_ms: 5000,
        ..Default::default()
    };
    // Which topics there are depends on what ran before.
    if let Some(Response::ElectLeaders(answer)) = s.prepare(v, Request::ElectLeaders(all)) {
        let told = answer.replica_election_results;
        let elected = told.iter().any(|topic| !topic.partition_result.is_empty());
        let text = format!("topics {} elected {elected}", !told.is_empty());
        s.note("all", "results", &text);
    }
}

/// More partitions than anybody means.
pub(super) fn far_too_many(s: &mut Session, v: i16) {
    for (what, count) in [("10 million", 10_000_000), ("all there are", i32::MAX)] {
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: format!("edges-far-too-many-{v}").into(),
                num_partitions: count,
                replication_factor: 1,
                ..Default::default()
            }],
            timeout_ms: 10_000,
            ..Default::default()
        };
        s.ask(what, v, Request::CreateTopics(request));
    }
    if v != 7 {
        return;
    }
    make_topic(s, "edges-far-too-many", 1, &[]);
    let request = CreatePartitionsRequest {
        topics: vec![create_partitions::CreatePartitionsTopic {
            name: "edges-far-too-many".into(),
            count: 200_000,
            assignments: None,
        }],
        timeout_ms: 10_000,
        validate_only: true,
    };
    s.ask("of a topic", 3, Request::CreatePartitions(request));
}
