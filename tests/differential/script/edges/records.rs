//! Produce and Fetch: partitions that come again, epochs, sizes.

use super::*;

pub(super) fn fetch(s: &mut Session, v: i16) {
    use fetch::{FetchPartition, FetchTopic, ForgottenTopic};
    let name = format!("edges-fetch-{v}");
    make_topic(s, &name, 2, &[]);
    let id = s.topic_id(&name);
    fill(s, &name, 0, plain(&["a"]));
    fill(s, &name, 0, plain(&["b"]));
    fill(s, &name, 1, plain(&["c"]));
    let at = |partition, fetch_offset| FetchPartition {
        partition,
        fetch_offset,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let of = |partitions: Vec<FetchPartition>| FetchRequest {
        replica_id: -1,
        max_wait_ms: 50,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: if v >= 13 {
                Str::new()
            } else {
                name.as_str().into()
            },
            topic_id: if v >= 13 { id } else { Uuid::ZERO },
            partitions,
        }],
        ..Default::default()
    };
    let ask = |s: &mut Session, what: &str, partitions, change: &dyn Fn(&mut FetchRequest)| {
        let mut request = of(partitions);
        change(&mut request);
        s.ask(what, v, Request::Fetch(request))
    };
    ask(s, "no bytes", vec![at(0, 0)], &|r| r.max_bytes = 0);
    let mut none = at(0, 0);
    none.partition_max_bytes = 0;
    ask(
        s,
        "no bytes of the partition",
        vec![none, at(1, 0)],
        &|_| {},
    );
    ask(s, "negative wait", vec![at(0, 2)], &|r| r.max_wait_ms = -5);
    ask(s, "negative least", vec![at(0, 2)], &|r| r.min_bytes = -5);
    ask(s, "nothing", vec![], &|r| r.topics.clear());
    ask(s, "a topic without partitions", vec![], &|_| {});
    ask(
        s,
        "both beyond one",
        vec![at(0, 0), at(1, 77), at(9, 0)],
        &|_| {},
    );
    if v >= 12 {
        let mut epochs = at(0, 2);
        epochs.last_fetched_epoch = 5;
        ask(s, "newer last epoch", vec![epochs.clone()], &|_| {});
        epochs.last_fetched_epoch = 0;
        epochs.current_leader_epoch = 0;
        ask(s, "known last epoch", vec![epochs], &|_| {});
    }
    for level in [2, -1] {
        let what = |what: &str| format!("isolation {level}{what}");
        ask(s, &what(""), vec![at(0, 0), at(1, 0)], &|r| {
            r.isolation_level = level
        });
        ask(s, &what(", unknown partition"), vec![at(9, 0)], &|r| {
            r.isolation_level = level
        });
        ask(s, &what(", a topic without partitions"), vec![], &|r| {
            r.isolation_level = level
        });
        ask(s, &what(", nothing"), vec![], &|r| {
            r.isolation_level = level;
            r.topics.clear();
        });
        ask(s, &what(", a replica"), vec![at(0, 0)], &|r| {
            r.isolation_level = level;
            if v >= 15 {
                r.replica_id = -1;
                r.replica_state.replica_id = 7;
            } else {
                r.replica_id = 7;
            }
        });
    }
    if v >= 7 {
        let opened = ask(s, "not kept", vec![at(0, 2), at(1, 1)], &|r| {
            r.session_id = 5
        });
        drop(opened);
        let mut request = of(vec![at(0, 2), at(1, 1)]);
        request.session_epoch = 0;
        let Some(Response::Fetch(opened)) = s.prepare(v, Request::Fetch(request)) else {
            return;
        };
        let session_id = opened.session_id;
        s.call_it(
            &format!("session_id: {session_id}"),
            "session_id: <session>",
        );
        let ask = |s: &mut Session,
                   what: &str,
                   epoch,
                   partitions: Vec<FetchPartition>,
                   forgets: &[i32]| {
            let mut request = of(partitions.clone());
            if partitions.is_empty() {
                request.topics.clear();
            }
            request.session_id = session_id;
            request.session_epoch = epoch;
            if !forgets.is_empty() {
                request.forgotten_topics_data = vec![ForgottenTopic {
                    topic: if v >= 13 {
                        Str::new()
                    } else {
                        name.as_str().into()
                    },
                    topic_id: if v >= 13 { id } else { Uuid::ZERO },
                    partitions: forgets.to_vec(),
                }];
            }
            s.ask(what, v, Request::Fetch(request));
        };
        ask(s, "goes back", 1, vec![at(0, 1)], &[]);
        ask(s, "forgets", 2, vec![], &[1, 7]);
        ask(s, "another", 3, vec![at(9, 0)], &[]);
        ask(s, "old epoch", 3, vec![], &[]);
        ask(s, "forgets all", 4, vec![], &[0, 9]);
        ask(s, "goes on with nothing", 5, vec![], &[]);
        let mut request = of(vec![at(0, 0), at(1, 0)]);
        (request.session_id, request.session_epoch) = (session_id, 6);
        request.isolation_level = 2;
        s.ask(
            "isolation 2 in a session",
            v,
            Request::Fetch(request.clone()),
        );
        (request.session_epoch, request.isolation_level) = (7, 0);
        request.topics.clear();
        s.ask("the session after that", v, Request::Fetch(request.clone()));
        (request.session_epoch, request.isolation_level) = (7, 2);
        s.ask("isolation 2, wrong epoch", v, Request::Fetch(request));
    }
}

pub(super) fn list(s: &mut Session, v: i16) {
    use list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
    if v < 2 {
        return;
    }
    let name = format!("edges-list-offsets-{v}");
    make_topic(s, &name, 2, &[]);
    fill(s, &name, 0, plain(&["a"]));
    let at = |partition_index, timestamp| ListOffsetsPartition {
        partition_index,
        current_leader_epoch: -1,
        timestamp,
    };
    let of = |name: &str, partitions| ListOffsetsTopic {
        name: name.into(),
        partitions,
    };
    let latest_and_earliest = || of(&name, vec![at(0, -1), at(1, -2)]);
    for (what, replica_id, topics) in [
        ("", -1, vec![latest_and_earliest()]),
        (
            ", unknown",
            -1,
            vec![
                of("edges-none", vec![at(0, -1)]),
                of(&name, vec![at(9, -1), at(0, -9)]),
            ],
        ),
        (", twice", -1, vec![of(&name, vec![at(0, -1), at(0, -2)])]),
        (", no partitions", -1, vec![of(&name, vec![])]),
        (", nothing", -1, vec![]),
        (", a replica", 7, vec![latest_and_earliest()]),
        (", debugging", -2, vec![latest_and_earliest()]),
    ] {
        for isolation_level in [2, -1] {
            let request = ListOffsetsRequest {
                replica_id,
                isolation_level,
                topics: topics.clone(),
                ..Default::default()
            };
            s.ask(
                &format!("isolation {isolation_level}{what}"),
                v,
                Request::ListOffsets(request),
            );
        }
    }
}

pub(super) fn produce(s: &mut Session, v: i16) {
    let name = format!("edges-produce-{v}");
    make_topic(
        s,
        &name,
        2,
        &[
            ("message.timestamp.after.max.ms", "1000"),
            ("message.timestamp.before.max.ms", "1000"),
        ],
    );
    let id = s.topic_id(&name);
    s.ask(
        "too old",
        v,
        Request::Produce(produce_to(&name, id, v, 0, plain(&["a", "b"]))),
    );
    let compact = format!("edges-produce-compact-{v}");
    make_topic(
        s,
        &compact,
        1,
        &[
            ("cleanup.policy", "compact,delete"),
            ("compression.type", "gzip"),
            ("message.timestamp.type", "LogAppendTime"),
        ],
    );
    let compact_id = s.topic_id(&compact);
    let mut empty = produce_to(&compact, compact_id, v, 0, plain(&["a"]));
    empty.topic_data.clear();
    s.ask("nothing", v, Request::Produce(empty));
    let mut none = produce_to(&compact, compact_id, v, 0, plain(&["a"]));
    none.topic_data[0].partition_data.clear();
    s.ask("no partitions", v, Request::Produce(none));
    let mut timeout = produce_to(&compact, compact_id, v, 0, plain(&["c"]));
    timeout.timeout_ms = -1;
    s.ask("negative timeout", v, Request::Produce(timeout));
    let transactional = FinishOptions {
        producer_id: 5,
        producer_epoch: 0,
        base_sequence: 0,
        transactional: true,
        ..Default::default()
    };
    let request = produce_to(&compact, compact_id, v, 0, batch(&["a"], transactional));
    s.ask(
        "of a transaction without its id",
        v,
        Request::Produce(request),
    );
    let mut request = produce_to(&compact, compact_id, v, 0, plain(&["d"]));
    request.transactional_id = Some("edges-unknown".into());
    s.ask(
        "with an id, of no transaction",
        v,
        Request::Produce(request),
    );
    let mut request = produce_to(&compact, compact_id, v, 0, plain(&["e"]));
    request.transactional_id = Some(Str::new());
    s.ask("with an empty id", v, Request::Produce(request));
    if let Some(Response::Fetch(answer)) = s.prepare(11, fetch_all(&compact, 0)) {
        let stored = answer.responses.iter().flat_map(|t| &t.partitions);
        let stored: usize = stored.map(|p| p.high_watermark as usize).sum();
        s.note("stored", "records", &stored.to_string());
    }
}
