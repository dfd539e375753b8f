//! Quotas through the whole broker: what is counted, what is refused, and for how long a client is told to wait.

use super::*;
use crate::{
    ConnId, Durability,
    api::alter_client_quotas::tests::set,
    output::throttle_ms,
    testing::{CONN, Harness, batch, fetch_request, produce_request},
};
use ottla_protocol::{
    Request, Response,
    messages::{
        create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic},
        create_topics::{CreatableTopic, CreateTopicsRequest},
        delete_topics::DeleteTopicsRequest,
        fetch::FetchResponse,
        metadata::{MetadataRequest, MetadataRequestTopic},
    },
};
use std::{string::String, vec};

/// The harness calls itself so.
const ME: &[(&str, Option<&str>)] = &[("client-id", Some("test"))];

fn limited(key: &str, bound: f64) -> Harness {
    let mut h = Harness::new(Durability::Os);
    h.create_topic("t", 1, &[]);
    assert_eq!(set(&mut h, ME, &[(key, Some(bound))]), ErrorCode::NONE);
    h
}

/// What a rate of `used` in an instant, measured over ten seconds, makes of `bound` a second.
fn expected_ms(used: usize, bound: f64) -> i32 {
    ((used as f64 / 10.0 - bound) / bound * 10_000.0 + 0.5) as i32
}

fn produce_size(request: &Request) -> usize {
    let Request::Produce(request) = request else {
        panic!()
    };
    body_size(request, 9)
}

fn fetch_all(h: &mut Harness) -> (FetchResponse, usize) {
    let Response::Fetch(answer) = h.ask(11, fetch_request("t", 0, 0, 0)) else {
        panic!()
    };
    let partitions = answer.responses.iter().flat_map(|t| &t.partitions);
    let bytes = partitions.map(|p| p.records.len()).sum();
    (answer, bytes)
}

#[test]
fn who_produces_too_much_is_told_to_wait() {
    let mut h = limited(PRODUCER_BYTE_RATE, 100.0);
    let value = String::from_utf8(vec![b'x'; 1500]).unwrap();
    let records = batch(&[&value]);
    let request = produce_request("t", 0, 1, records.clone());
    let bytes = produce_size(&request);
    assert!(bytes > records.len());
    let answer = h.ask(9, request);
    let expected = expected_ms(bytes, 100.0) as u32;
    assert_eq!(throttle_ms(&answer), expected);
    let measured = h.broker.metrics().quotas;
    assert_eq!(measured.len(), 1);
    assert_eq!(measured[0].of, crate::QuotaOf::Produce);
    assert_eq!(
        (
            measured[0].user.as_deref(),
            measured[0].client_id.as_deref()
        ),
        (None, Some("test"))
    );
    assert_eq!(measured[0].rate, bytes as f64 / 11.0);
    assert_eq!(measured[0].throttle_time_ms, f64::from(expected));
    // What was sent is taken all the same, and with acks=-1 it is told too.
    let answer = h.ask(9, produce_request("t", 0, -1, records.clone()));
    assert!(throttle_ms(&answer) > 2 * expected);
    assert_eq!(h.fetch("t", 0, 0).high_watermark, 2);
    h.pass_ms(11_000);
    let answer = h.ask(9, produce_request("t", 0, 1, batch(&["small"])));
    assert_eq!(throttle_ms(&answer), 0);
    // Without a quota nothing is counted.
    assert_eq!(
        set(&mut h, ME, &[(PRODUCER_BYTE_RATE, None)]),
        ErrorCode::NONE
    );
    let answer = h.ask(9, produce_request("t", 0, 1, records));
    assert_eq!(throttle_ms(&answer), 0);
}

#[test]
fn quotas_of_others_mean_nothing() {
    let mut h = Harness::new(Durability::Os);
    h.create_topic("t", 1, &[]);
    let tight = [(PRODUCER_BYTE_RATE, Some(1.0))];
    for other in ["user", "client-id"] {
        assert_eq!(set(&mut h, &[(other, Some("x"))], &tight), ErrorCode::NONE);
    }
    let request = || produce_request("t", 0, 1, batch(&["a", "b"]));
    assert_eq!(throttle_ms(&h.ask(9, request())), 0);
    // Until somebody logs in everybody is this user.
    assert_eq!(
        set(&mut h, &[("user", Some(USER))], &tight),
        ErrorCode::NONE
    );
    assert!(throttle_ms(&h.ask(9, request())) > 0);
}

#[test]
fn who_fetches_too_much_gets_nothing_for_a_while() {
    let mut h = limited(CONSUMER_BYTE_RATE, 10.0);
    let value = String::from_utf8(vec![b'x'; 60]).unwrap();
    for _ in 0..3 {
        h.produce("t", 0, batch(&[&value]));
    }
    // However small the quota, one batch is given to whoever rested; no second one that is beyond it.
    let (answer, bytes) = fetch_all(&mut h);
    assert!((100..200).contains(&bytes), "{bytes}");
    assert_eq!(answer.throttle_time_ms, 0);
    // Its size, and the four bytes that say so.
    let size = 4 + body_size(&answer, 11);
    assert!(size > 4 + bytes);
    let (answer, none) = fetch_all(&mut h);
    assert_eq!((none, answer.responses.len()), (0, 0));
    // Twice that in ten seconds; what wasn't given isn't counted.
    let expected = expected_ms(2 * size, 10.0);
    assert_eq!(answer.throttle_time_ms, expected);
    assert_eq!(fetch_all(&mut h).0.throttle_time_ms, expected);
    h.pass_ms(11_000);
    assert_eq!(fetch_all(&mut h).1, bytes);
}

#[test]
fn a_throttled_session_goes_on() {
    let mut h = limited(CONSUMER_BYTE_RATE, 10.0);
    let value = String::from_utf8(vec![b'x'; 60]).unwrap();
    h.produce("t", 0, batch(&[&value]));
    let ask = |h: &mut Harness, session_id, session_epoch| {
        let Request::Fetch(mut request) = fetch_request("t", 0, 0, 0) else {
            panic!()
        };
        request.session_id = session_id;
        request.session_epoch = session_epoch;
        match h.ask(11, Request::Fetch(request)) {
            Response::Fetch(answer) => answer,
            other => panic!("{other:?}"),
        }
    };
    let id = ask(&mut h, 0, 0).session_id;
    assert!(id > 0);
    let answer = ask(&mut h, id, 1);
    assert!(answer.throttle_time_ms > 0 && answer.responses.is_empty());
    assert_eq!(
        (answer.session_id, answer.error_code),
        (id, ErrorCode::NONE)
    );
    h.pass_ms(11_000);
    let answer = ask(&mut h, id, 2);
    assert_eq!((answer.session_id, answer.responses.len()), (id, 1));
    // One that would begin doesn't.
    assert_eq!(ask(&mut h, 0, 0).session_id, 0);
}

#[test]
fn who_changes_too_much_is_refused() {
    let mut h = limited(CONTROLLER_MUTATION_RATE, 1.0);
    let create = |name: &str, num_partitions| {
        Request::CreateTopics(CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: name.into(),
                num_partitions,
                replication_factor: -1,
                ..Default::default()
            }],
            ..Default::default()
        })
    };
    let code = |answer: &Response| match answer {
        Response::CreateTopics(r) => r.topics[0].error_code,
        Response::DeleteTopics(r) => r.responses[0].error_code,
        Response::CreatePartitions(r) => r.results[0].error_code,
        other => panic!("{other:?}"),
    };
    // Eleven are there, the bucket may be overdrawn once.
    let answer = h.ask(6, create("a", 13));
    assert_eq!((code(&answer), throttle_ms(&answer)), (ErrorCode::NONE, 0));
    let delete = || {
        Request::DeleteTopics(DeleteTopicsRequest {
            topic_names: vec!["a".into()],
            ..Default::default()
        })
    };
    let grow = || {
        Request::CreatePartitions(CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: "a".into(),
                count: 14,
                assignments: None,
            }],
            ..Default::default()
        })
    };
    let refused = (ErrorCode::THROTTLING_QUOTA_EXCEEDED, 2000);
    for (version, request) in [(6, create("b", 1)), (5, delete()), (3, grow())] {
        let answer = h.ask(version, request);
        assert_eq!((code(&answer), throttle_ms(&answer)), refused);
    }
    assert!(h.broker.topics.by_name("b").is_none());
    // Who doesn't know the error is served, and told to wait.
    let answer = h.ask(2, grow());
    assert_eq!(
        (code(&answer), throttle_ms(&answer)),
        (ErrorCode::NONE, 3000)
    );
    let answer = h.ask(5, create("b", 1));
    assert_eq!(
        (code(&answer), throttle_ms(&answer)),
        (ErrorCode::NONE, 4000)
    );
    h.pass_ms(4000);
    let answer = h.ask(5, delete());
    assert_eq!((code(&answer), throttle_ms(&answer)), (ErrorCode::NONE, 0));
}

#[test]
fn what_is_only_validated_or_made_by_the_way_counts() {
    let mut h = limited(CONTROLLER_MUTATION_RATE, 1.0);
    let create = |name: &str| {
        Request::CreateTopics(CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: name.into(),
                num_partitions: 6,
                replication_factor: -1,
                ..Default::default()
            }],
            validate_only: true,
            ..Default::default()
        })
    };
    let ask_for = |h: &mut Harness, name: &str| {
        let request = Request::Metadata(MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(name.into()),
                ..Default::default()
            }]),
            allow_auto_topic_creation: true,
            ..Default::default()
        });
        match h.ask(9, request) {
            Response::Metadata(answer) => (answer.topics[0].error_code, answer.throttle_time_ms),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(throttle_ms(&h.ask(7, create("a"))), 0);
    // Eleven less six, then less six more: one too much.
    assert_eq!(throttle_ms(&h.ask(7, create("a"))), 0);
    assert_eq!(throttle_ms(&h.ask(7, create("a"))), 1000);
    // The client isn't told why, and asks again.
    let refused = (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, 0);
    assert_eq!(ask_for(&mut h, "b"), refused);
    assert_eq!(ask_for(&mut h, "t"), (ErrorCode::NONE, 0), "it is there");
    h.pass_ms(1000);
    assert_eq!(ask_for(&mut h, "b"), (ErrorCode::NONE, 0));
    // That was one more.
    assert_eq!(ask_for(&mut h, "c"), refused);
}

#[test]
fn a_producer_that_wants_no_answer_is_left_alone_for_a_while() {
    let mut h = limited(PRODUCER_BYTE_RATE, 100.0);
    let value = String::from_utf8(vec![b'x'; 1500]).unwrap();
    h.send(9, produce_request("t", 0, 0, batch(&["small"])));
    assert!(h.muted.is_empty());
    h.pass_ms(11_000);
    let request = produce_request("t", 0, 0, batch(&[&value]));
    let throttle_ms = expected_ms(produce_size(&request), 100.0) as u32;
    h.send(9, request);
    assert_eq!(h.muted, [(CONN, throttle_ms)]);
}

#[test]
fn who_takes_too_much_time_is_told_to_wait() {
    let mut h = limited(REQUEST_PERCENTAGE, 10.0);
    assert!(h.broker.limits_request_time());
    let metadata = || Request::Metadata(MetadataRequest::default());
    assert_eq!(throttle_ms(&h.ask(9, metadata())), 0);
    // A tenth of a second in each is allowed: a second in ten.
    h.broker.handle_time_used(h.now, CONN, 1_000_000);
    assert_eq!(throttle_ms(&h.ask(9, metadata())), 0);
    // 10.5 percent.
    h.broker.handle_time_used(h.now, CONN, 50_000);
    assert_eq!(throttle_ms(&h.ask(9, metadata())), 500);
    let produced = h.ask(9, produce_request("t", 0, -1, batch(&["a"])));
    assert_eq!(throttle_ms(&produced), 500);
    let (fetched, bytes) = fetch_all(&mut h);
    assert_eq!((fetched.throttle_time_ms, bytes), (500, 0));
    // A window at most.
    h.broker.handle_time_used(h.now, CONN, 3_000_000);
    assert_eq!(throttle_ms(&h.ask(9, metadata())), 1000);
    // Nobody knows of a connection that isn't there.
    h.broker.handle_time_used(h.now, ConnId(9), 3_000_000);
    h.pass_ms(11_000);
    assert_eq!(throttle_ms(&h.ask(9, metadata())), 0);
    assert_eq!(fetch_all(&mut h).0.throttle_time_ms, 0);
    assert_eq!(
        set(&mut h, ME, &[(REQUEST_PERCENTAGE, None)]),
        ErrorCode::NONE
    );
    assert!(!h.broker.limits_request_time());
}

#[test]
fn time_of_a_request_counts_for_its_own_answer() {
    let mut h = limited(REQUEST_PERCENTAGE, 10.0);
    let envelope = crate::RequestEnvelope {
        correlation_id: 1000,
        api_version: 9,
        client_id: Some("test".into()),
        request: Request::Metadata(MetadataRequest::default()),
    };
    h.broker.handle_request(h.now, CONN, envelope);
    h.broker.handle_time_used(h.now, CONN, 1_050_000);
    let Some(crate::Output::Respond { response, .. }) = h.broker.poll_output() else {
        panic!()
    };
    assert_eq!(throttle_ms(&response), 500);
}

#[test]
fn who_connects_too_often_is_to_be_closed_later() {
    let mut h = Harness::new(Durability::Os);
    let address = |text: &str| text.parse().unwrap();
    let connect = |h: &mut Harness, text| h.broker.connection_throttle_ms(h.now, address(text));
    for _ in 0..100 {
        assert_eq!(connect(&mut h, "127.0.0.1"), None);
    }
    for (ip, rate) in [(None, 1.0), (Some("127.0.0.1"), 2.0)] {
        let rate = [(CONNECTION_CREATION_RATE, Some(rate))];
        assert_eq!(set(&mut h, &[("ip", ip)], &rate), ErrorCode::NONE);
    }
    // Two a second over ten seconds, however fast.
    for _ in 0..20 {
        assert_eq!(connect(&mut h, "127.0.0.1"), None);
    }
    // The next would be 2.1 a second. It doesn't count.
    assert_eq!(connect(&mut h, "127.0.0.1"), Some(500));
    assert_eq!(connect(&mut h, "::ffff:127.0.0.1"), Some(500));
    for _ in 0..10 {
        assert_eq!(connect(&mut h, "127.0.0.2"), None);
    }
    // A window at most.
    assert_eq!(connect(&mut h, "127.0.0.2"), Some(1000));
    assert_eq!(connect(&mut h, "127.0.0.3"), None);
    h.pass_ms(11_000);
    assert_eq!(connect(&mut h, "127.0.0.1"), None);
}

#[test]
fn meters_of_clients_that_are_gone_are_forgotten() {
    let mut quotas = Quotas::default();
    let everybody = entities::Entity {
        client_id: entities::Part::Default,
        ..Default::default()
    };
    let rate = [(PRODUCER_BYTE_RATE.into(), Some(1.0))];
    let mut stored = StoredQuotas::default();
    stored.set(&everybody, rate.into_iter());
    quotas.put_in_force(stored);
    for at in 0..10 * FIRST_SWEEP as u64 {
        let now = Now::new(at * 100_000, 0);
        quotas.produced(now, &std::format!("client-{at}"), 1);
    }
    assert!(
        quotas.meters.len() <= FIRST_SWEEP,
        "{}",
        quotas.meters.len()
    );
}
