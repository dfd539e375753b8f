//! Clients beyond their quota.

use crate::client::{
    Client, FETCH, METADATA, PATIENCE, PRODUCE, batch, fetch, metadata, produce, serve, serve_at,
    two_loops, values_of, wait_until,
};
use ottla_driver::Place;
use ottla_protocol::{
    ApiKey, ErrorCode, Request, Response,
    messages::alter_client_quotas::{
        AlterClientQuotasRequest, OpData, RequestEntityData, RequestEntryData,
    },
};
use std::{
    io::Write,
    time::{Duration, Instant},
};

/// Sets a quota, or removes it.
fn quota(entity_type: &str, name: &str, key: &str, value: Option<f64>) -> Request {
    Request::AlterClientQuotas(AlterClientQuotasRequest {
        entries: vec![RequestEntryData {
            entity: vec![RequestEntityData {
                entity_type: entity_type.into(),
                entity_name: Some(name.into()),
            }],
            ops: vec![OpData {
                key: key.into(),
                value: value.unwrap_or_default(),
                remove: value.is_none(),
            }],
        }],
        validate_only: false,
    })
}

#[test]
fn a_client_beyond_its_quota_is_answered_at_once_and_not_read_for_a_while() {
    let set = |value| quota("client-id", "test", "producer_byte_rate", value);
    // Whatever else the machine does: once in ten times it lets the answer through before the wait is over.
    let found = (0..10).find_map(|_| {
        let server = serve(two_loops());
        let mut client = Client::to(&server);
        client.create("t");
        let Response::AlterClientQuotas(answer) = client.ask(1, &set(Some(1000.0))) else {
            panic!()
        };
        assert_eq!(answer.entries[0].error_code, ErrorCode::NONE);
        // More than ten seconds' worth: two seconds or so to wait, which no answer takes.
        let started = Instant::now();
        let records = batch(&[&[b'x'; 12_000]]);
        let Response::Produce(answer) = client.ask(PRODUCE, &produce("t", 1, records)) else {
            panic!()
        };
        let answered = started.elapsed();
        let throttle = Duration::from_millis(u64::try_from(answer.throttle_time_ms).unwrap());
        assert!(
            (1000..3000).contains(&answer.throttle_time_ms),
            "{throttle:?}"
        );
        (answered < throttle).then_some((server, client, started, throttle))
    });
    let (_server, mut client, started, throttle) = found.expect("the answer itself doesn't wait");
    client.ask(METADATA, &metadata("t"));
    assert!(started.elapsed() >= throttle, "{:?}", started.elapsed());
    // Who has no quota waits for nothing.
    client.ask(1, &set(None));
    let Response::Produce(answer) = client.ask(PRODUCE, &produce("t", 1, batch(&[b"x"]))) else {
        panic!()
    };
    assert_eq!(answer.throttle_time_ms, 0);
}

#[test]
fn a_producer_without_answers_is_not_read_for_a_while() {
    let server = serve(two_loops());
    let mut client = Client::to(&server);
    client.create("t");
    client.ask(
        1,
        &quota("client-id", "test", "producer_byte_rate", Some(1000.0)),
    );
    let started = Instant::now();
    client.send(PRODUCE, &produce("t", 0, batch(&[&[b'x'; 10_500]])));
    client.ask(METADATA, &metadata("t"));
    // Half a second or so, as with an answer that would say so.
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(400), "{waited:?}");
    assert_eq!(
        values_of(Client::to(&server).ask(FETCH, &fetch("t", 0, 0))).len(),
        1
    );
}

#[test]
fn what_a_producer_sent_before_it_left_is_done_when_its_throttle_is_over() {
    let dir = tempfile::tempdir().unwrap();
    // With syncs the end of the connection is seen before the first is answered, and the producer told to wait.
    let server = serve_at(&Place::Directory(dir.path().into()), two_loops());
    let mut other = Client::to(&server);
    other.create("t");
    other.ask(
        1,
        &quota("client-id", "test", "producer_byte_rate", Some(1000.0)),
    );
    let mut client = Client::to(&server);
    let first = produce("t", -1, batch(&[&[b'x'; 10_500]]));
    let last = produce("t", 0, batch(&[b"last"]));
    let bytes = [
        client.frame(1, PRODUCE, &first),
        client.frame(2, PRODUCE, &last),
    ];
    client.stream.write_all(&bytes.concat()).unwrap();
    drop(client);
    wait_until("both are there", || {
        values_of(other.ask(FETCH, &fetch("t", 0, 0))).len() == 2
    });
    wait_until("it is gone", || server.counters().connections_open == 1);
}

#[test]
fn a_client_whose_requests_take_too_long_is_told_to_wait() {
    let server = serve(two_loops());
    let mut client = Client::to(&server);
    client.create("t");
    // A hundredth of a percent is a millisecond in ten seconds.
    let request_percentage = |value| quota("client-id", "test", "request_percentage", value);
    client.ask(1, &request_percentage(Some(0.01)));
    let mut told = 0;
    let started = Instant::now();
    while told == 0 && started.elapsed() < PATIENCE {
        let Response::Metadata(answer) = client.ask(METADATA, &metadata("t")) else {
            panic!()
        };
        told = answer.throttle_time_ms;
    }
    assert!((1..=1000).contains(&told), "a window at most: {told}");
    let started = Instant::now();
    client.ask(1, &request_percentage(None));
    assert!(
        started.elapsed() >= Duration::from_millis(told as u64 - 1),
        "{told}"
    );
    let metadata_counters = server
        .counters()
        .apis
        .into_iter()
        .find(|api| api.key == ApiKey::Metadata);
    assert_eq!(metadata_counters.unwrap().throttle_ms, told as u64);
    let Response::Metadata(answer) = client.ask(METADATA, &metadata("t")) else {
        panic!()
    };
    assert_eq!(answer.throttle_time_ms, 0);
}

#[test]
fn who_connects_too_often_is_closed_after_a_while() {
    let rate = |value| quota("ip", "127.0.0.1", "connection_creation_rate", value);
    // Whatever else the machine does: once in ten times it lets all connect before half of the wait has passed.
    let connected = (0..10).find_map(|_| {
        let server = serve(two_loops());
        let mut client = Client::to(&server);
        client.create("t");
        client.ask(1, &rate(Some(1.0)));
        let started = Instant::now();
        // Ten in ten seconds.
        let mut others: Vec<Client> = (0..10).map(|_| Client::to(&server)).collect();
        for other in &mut others {
            other.ask(METADATA, &metadata("t"));
        }
        (started.elapsed() < Duration::from_millis(400)).then_some((server, client, others))
    });
    let (server, mut client, _others) = connected.expect("ten connections in 400 ms");
    let started = Instant::now();
    let mut too_many = Client::to(&server);
    assert!(too_many.is_closed());
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(300), "{waited:?}");
    let counters = server.counters();
    assert_eq!(
        (
            counters.connections_throttled,
            counters.connections_accepted
        ),
        (1, 11)
    );
    // Who is here is served, and who comes without the quota.
    client.ask(1, &rate(None));
    Client::to(&server).ask(METADATA, &metadata("t"));
}
