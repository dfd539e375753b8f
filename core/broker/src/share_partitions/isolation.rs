//! Tests: share groups with `share.isolation.level=read_committed` against transactions that are open, end, or never do.

use std::{string::String, vec, vec::Vec};

use ottla_protocol::{
    ErrorCode, Request, Response, Str,
    messages::{
        add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic},
        end_txn::EndTxnRequest,
        share_fetch::ShareFetchResponse,
    },
};
use ottla_record::FinishOptions;

use super::{
    config::{ShareGroupSettings, ShareOffsetReset},
    tests::{Share, runs},
};
use crate::{
    Durability,
    testing::{CONN, keyed_batch, produce_request, produced, read},
};

/// A transactional producer, of those that add their partitions themselves.
struct Producer {
    name: &'static str,
    producer: (i64, i16),
    sequence: i32,
}

impl Producer {
    fn start(s: &mut Share, name: &'static str) -> Self {
        let producer = s.h.init_transactions(name);
        Self {
            name,
            producer,
            sequence: 0,
        }
    }

    /// Produces in a transaction, which begins with it if none is open.
    fn produce(&mut self, s: &mut Share, values: &[&str]) {
        let add = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.name.into(),
            v3_and_below_producer_id: self.producer.0,
            v3_and_below_producer_epoch: self.producer.1,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: "t".into(),
                partitions: vec![0],
            }],
            ..Default::default()
        };
        let Response::AddPartitionsToTxn(answer) = s.h.ask(3, Request::AddPartitionsToTxn(add))
        else {
            panic!()
        };
        let result = &answer.results_by_topic_v3_and_below[0].results_by_partition[0];
        assert_eq!(result.partition_error_code, ErrorCode::NONE);
        let options = FinishOptions {
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            base_sequence: self.sequence,
            transactional: true,
            ..FinishOptions::default()
        };
        self.sequence += values.len() as i32;
        let records = keyed_batch(None, values, options);
        let Request::Produce(mut request) = produce_request("t", 0, -1, records) else {
            panic!()
        };
        request.transactional_id = Some(self.name.into());
        let answer = produced(s.h.ask(9, Request::Produce(request)));
        assert_eq!(answer.error_code, ErrorCode::NONE);
    }

    fn end(&self, s: &mut Share, committed: bool) {
        let request = EndTxnRequest {
            transactional_id: self.name.into(),
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            committed,
        };
        let Response::EndTxn(answer) = s.h.ask(3, Request::EndTxn(request)) else {
            panic!()
        };
        assert_eq!(answer.error_code, ErrorCode::NONE);
    }
}

/// A broker with a topic, and a member of a share group that reads what is committed, in the session epoch 1.
fn committed() -> Share {
    let mut s = Share::new(Durability::Os);
    isolate(&mut s, true);
    s.join("m");
    s.open("m");
    s
}

fn isolate(s: &mut Share, read_committed: bool) {
    let settings = ShareGroupSettings {
        auto_offset_reset: ShareOffsetReset::Earliest,
        read_committed,
        ..Default::default()
    };
    s.h.broker
        .set_share_group_settings(&Str::from("g"), Some(settings));
}

/// The values of the records that were handed out.
fn got(answer: &ShareFetchResponse) -> Vec<String> {
    let runs = runs(answer);
    let partitions = answer.responses.iter().flat_map(|t| &t.partitions);
    partitions
        .flat_map(|partition| read(&partition.records))
        .filter(|(offset, _)| runs.iter().any(|run| (run.0..=run.1).contains(offset)))
        .map(|(_, value)| String::from_utf8(value.to_vec()).unwrap())
        .collect()
}

#[test]
fn records_of_an_open_transaction_are_not_handed_out_until_it_is_committed() {
    let mut s = committed();
    let mut producer = Producer::start(&mut s, "p");
    s.produce(&["before"]);
    producer.produce(&mut s, &["a", "b"]);
    s.produce(&["behind"]);
    assert_eq!(got(&s.fetch("m", 1, &[])), ["before"]);
    assert!(got(&s.fetch("m", 2, &[(0, 0, &[1])])).is_empty());

    // One that waits is woken by the decision, and gets what lies behind the transaction too, but not its marker.
    let mut request = s.fetch_request("m", 3, &[]);
    request.max_wait_ms = 40_000;
    let waiting = s.send_fetch(CONN, request);
    producer.produce(&mut s, &["c"]);
    assert!(s.answer(waiting).is_none(), "more of it is not committed");
    producer.end(&mut s, true);
    let answer = s.answer(waiting).expect("it is committed");
    assert_eq!(got(&answer), ["a", "b", "behind", "c"]);
    assert_eq!(runs(&answer), [(1, 4, 1)]);
    assert!(got(&s.fetch("m", 4, &[(1, 4, &[1])])).is_empty());
    s.produce(&["next"]);
    let answer = s.fetch("m", 5, &[]);
    assert_eq!(runs(&answer), [(6, 6, 1)], "the marker is at 5");
}

#[test]
fn records_of_an_aborted_transaction_are_never_handed_out() {
    let mut s = committed();
    let mut producer = Producer::start(&mut s, "p");
    producer.produce(&mut s, &["no", "no"]);
    s.produce(&["yes"]);
    assert!(got(&s.fetch("m", 1, &[])).is_empty());
    producer.end(&mut s, false);
    let answer = s.fetch("m", 2, &[]);
    assert_eq!(
        (got(&answer), runs(&answer)),
        (vec!["yes".into()], vec![(2, 2, 1)])
    );

    // Neither to a member that comes later, nor when the lock ends, nor after a crash.
    s.h.pass_ms(30_000);
    let mut s = s.restart(false);
    isolate(&mut s, true);
    s.join("n");
    assert_eq!(got(&s.fetch("n", 0, &[])), ["yes"]);
    assert!(got(&s.fetch("n", 1, &[(2, 2, &[1])])).is_empty());

    // The same producer's next transaction counts.
    let mut again = Producer::start(&mut s, "p");
    again.produce(&mut s, &["committed"]);
    again.end(&mut s, true);
    assert_eq!(got(&s.fetch("n", 2, &[])), ["committed"]);
}

#[test]
fn transactions_side_by_side() {
    let mut s = committed();
    let mut one = Producer::start(&mut s, "one");
    let mut two = Producer::start(&mut s, "two");
    one.produce(&mut s, &["one"]);
    two.produce(&mut s, &["two"]);
    one.produce(&mut s, &["one more"]);
    // The later one is decided first; it waits behind the other.
    two.end(&mut s, true);
    assert!(got(&s.fetch("m", 1, &[])).is_empty());
    one.end(&mut s, false);
    assert_eq!(got(&s.fetch("m", 2, &[])), ["two"]);
    two.produce(&mut s, &["then"]);
    one.produce(&mut s, &["and then"]);
    two.end(&mut s, false);
    one.end(&mut s, true);
    assert_eq!(got(&s.fetch("m", 3, &[(1, 1, &[1])])), ["and then"]);
}

#[test]
fn a_transaction_that_nobody_ends() {
    let mut s = committed();
    let mut producer = Producer::start(&mut s, "p");
    producer.produce(&mut s, &["lost"]);
    s.produce(&["behind"]);
    // It is still open, and still not handed out, when the broker comes back.
    let mut s = s.restart(false);
    isolate(&mut s, true);
    s.join("m");
    s.open("m");
    let mut request = s.fetch_request("m", 1, &[]);
    request.max_wait_ms = 300_000;
    let waiting = s.send_fetch(CONN, request);
    assert!(s.answer(waiting).is_none());
    for _ in 0..9 {
        s.h.pass_ms(10_000);
    }
    assert_eq!(got(&s.answer(waiting).expect("it timed out")), ["behind"]);
}

#[test]
fn without_isolation_everything_is_handed_out_at_once() {
    let mut s = committed();
    isolate(&mut s, false);
    let mut producer = Producer::start(&mut s, "p");
    producer.produce(&mut s, &["open"]);
    s.produce(&["behind"]);
    assert_eq!(got(&s.fetch("m", 1, &[])), ["open", "behind"]);
    producer.end(&mut s, false);

    // From then on the group reads what is committed: what comes now is held back.
    isolate(&mut s, true);
    producer.produce(&mut s, &["held back"]);
    assert!(got(&s.fetch("m", 2, &[(0, 1, &[1])])).is_empty());
    producer.end(&mut s, true);
    assert_eq!(got(&s.fetch("m", 3, &[])), ["held back"]);
}
